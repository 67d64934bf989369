import AttentionReference
import CaseFiles
import Testing

/// The references of decode steps against the numbers of PyTorch, see Tools/cases/decode.py.
@Suite struct ShippedDecodeCaseTests {
  @Test func casesAreThere() {
    #expect(ShippedCases.decode.count >= 36)
    #expect(ShippedCases.latentDecode.count >= 12)
  }

  @Test(arguments: ShippedCases.decode)
  func referenceAgrees(_ name: String) throws {
    guard case .decode(let decode) = try CaseFile(path: path(name)) else {
      Issue.record("\(name) is a case of another op")
      return
    }
    let problem = decode.attention
    var options = AttentionOptions(problem)
    let result: AttentionOutput
    if let pages = decode.pages {
      // The pages as they are in the file, not as the reader put them in order.
      let table = PageTable(
        pageSize: pages.pageSize, indptr: pages.indptr, indices: pages.indices,
        lastPageLengths: pages.lastPageLengths)
      #expect(options.kvLengths == table.lengths)
      options.kvLengths = nil
      result = decodeAttention(
        q: problem.q.doubles(), keyCache: pages.keys.doubles(),
        valueCache: pages.values.doubles(), layout: .paged(table), lengths: table.lengths,
        queryTokens: problem.queryTokens, queryHeads: problem.queryHeads,
        keyHeads: problem.keyHeads, keyChannels: problem.keyChannels,
        valueChannels: problem.valueChannels, options: options)
    } else {
      let lengths =
        options.kvLengths ?? Array(repeating: problem.keyTokens, count: problem.batch)
      options.kvLengths = nil
      // Options for each key go by T, not by the longest sequence.
      guard lengths.max() == problem.keyTokens else {
        Issue.record("\(name): no sequence is as long as the cache")
        return
      }
      result = decodeAttention(
        q: problem.q.doubles(), keyCache: problem.k.doubles(), valueCache: problem.v.doubles(),
        layout: .contiguous(capacity: problem.keyTokens), lengths: lengths,
        queryTokens: problem.queryTokens, queryHeads: problem.queryHeads,
        keyHeads: problem.keyHeads, keyChannels: problem.keyChannels,
        valueChannels: problem.valueChannels, options: options)
    }
    try compare(result, problem.expectedO, problem.expectedLSE)

    // The reader's order of the pages is the same problem.
    let contiguous = attention(
      q: problem.q.doubles(), k: problem.k.doubles(), v: problem.v.doubles(),
      dimensions: AttentionDimensions(problem), options: AttentionOptions(problem))
    #expect(contiguous.o == result.o && contiguous.lse == result.lse)
  }

  @Test(arguments: ShippedCases.latentDecode)
  func latentReferenceAgrees(_ name: String) throws {
    guard case .latentDecode(let problem) = try CaseFile(path: path(name)) else {
      Issue.record("\(name) is a case of another op")
      return
    }
    var options = AttentionOptions(scale: problem.scale, causal: problem.causal)
    options.kvLengths = problem.kvLengths?.integers()
    let result = latentAttention(
      qLatent: problem.qLatent.doubles(), qRotary: problem.qRotary.doubles(),
      latent: problem.latent.doubles(), rotaryKeys: problem.rotaryKeys.doubles(),
      batch: problem.batch, queryTokens: problem.queryTokens, keyTokens: problem.keyTokens,
      heads: problem.heads, latentChannels: problem.latentChannels,
      rotaryChannels: problem.rotaryChannels, options: options)
    try compare(result, problem.expectedO, problem.expectedLSE)
  }

  private func path(_ name: String) -> String { ShippedCases.folder.appending(path: name).path }

  private func compare(
    _ result: AttentionOutput, _ expectedO: CaseTensor?, _ expectedLSE: CaseTensor?
  ) throws {
    let o = ErrorMeasure.relativeRMS(
      actual: result.o, expected: try #require(expectedO).doubles())
    let lse = ErrorMeasure.worstAbsolute(
      actual: result.lse, expected: try #require(expectedLSE).doubles())
    // What is expected is stored as F32.
    #expect(o.isWithin(1e-7), "o: \(o)")
    #expect(lse.isWithin(3e-6), "lse: \(lse)")
  }
}
