import CaseFiles
import Testing

@Suite struct DecodeCaseTests {
  /// Two sequences of 3 and 0 keys in pages of 2, H = 2, G = 1, D = 2, E = 1.
  private static var paged: SmallCase {
    var small = SmallCase()
    small.tensors = [:]
    small.set("q", .f32, [2, 1, 2, 2])
    small.set("k_pages", .f32, [3, 2, 1, 2])
    small.set("v_pages", .f32, [3, 2, 1, 1])
    small.set("page_indptr", .i32, [3], [0, 2, 2])
    small.set("page_indices", .i32, [2], [2, 0])
    small.set("last_page_len", .i32, [2], [1, 0])
    small.set("expected.o", .f32, [2, 1, 2, 1])
    small.set("expected.lse", .f32, [2, 1, 2])
    small.description = #"{"version": 1, "op": "paged_decode", "params": {}}"#
    return small
  }

  /// B = 1, S = 1, H = 2, T = 3, R = 2, P = 1.
  private static var latent: SmallCase {
    var small = SmallCase()
    small.tensors = [:]
    small.set("q_nope", .f16, [1, 1, 2, 2])
    small.set("q_rope", .f16, [1, 1, 2, 1])
    small.set("latent", .f16, [1, 3, 2])
    small.set("k_rope", .f16, [1, 3, 1])
    small.set("expected.o", .f32, [1, 1, 2, 2])
    small.description = #"{"version": 1, "op": "mla_decode", "params": {}}"#
    return small
  }

  private func decode(_ small: SmallCase) throws -> DecodeCase {
    guard case .decode(let problem) = try CaseFile(bytes: small.bytes, name: "small") else {
      throw WrongOperation()
    }
    return problem
  }

  // MARK: decode

  @Test func decodeIsAttentionWithHints() throws {
    var small = SmallCase()
    small.description = #"""
      {"version": 1, "op": "decode", "params": {"splits": 3, "mode": "fixed", "causal": true}}
      """#
    let problem = try decode(small)
    #expect(problem.splits == 3 && problem.mode == .fixed && problem.pages == nil)
    #expect(problem.operation == "decode" && problem.file == "small")
    #expect(problem.attention.parameters.causal && problem.attention.keyTokens == 3)
    small.description = #"{"version": 1, "op": "decode"}"#
    #expect(try decode(small).splits == 0 && decode(small).mode == .lean)
  }

  @Test(arguments: [
    Refusal(#""splits": -1"#, "vkattn.params.splits", .invalid("must not be negative")),
    Refusal(#""splits": 1.5"#, "vkattn.params.splits", .expected("an integer")),
    Refusal(#""mode": "eager""#, "vkattn.params.mode", .unknown(allowed: ["lean", "fixed"])),
    Refusal(#""softcap": -1"#, "vkattn.params.softcap", .invalid("must not be negative")),
  ])
  func badParameters(_ refusal: Refusal<String>) {
    for op in ["decode", "paged_decode"] {
      var small = op == "decode" ? SmallCase() : Self.paged
      small.description = #"{"version": 1, "op": "\#(op)", "params": {\#(refusal.input)}}"#
      expectError(small, refusal.field, refusal.problem)
    }
  }

  @Test func unknownParameter() {
    var small = SmallCase()
    small.description = #"{"version": 1, "op": "decode", "params": {"split": 2}}"#
    let error = caseError(small.bytes)
    #expect(error?.field == "vkattn.params.split")
    guard case .unknown(let allowed)? = error?.problem else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(allowed.contains("splits") && allowed.contains("mode") && allowed.contains("scale"))
    // Hints are of decode steps alone.
    small.setParameters(#""splits": 2"#)
    #expect(caseError(small.bytes)?.field == "vkattn.params.splits")
  }

  // MARK: paged_decode

  @Test func pagesAreReadInTheirOrder() throws {
    let problem = try decode(Self.paged)
    let pages = try #require(problem.pages)
    #expect(problem.operation == "paged_decode" && pages.pageSize == 2)
    #expect(pages.lengths == [3, 0] && pages.indices == [2, 0])
    let attention = problem.attention
    #expect(attention.keyTokens == 3 && attention.batch == 2 && attention.keyHeads == 1)
    #expect(attention.kvLengths?.integers() == [3, 0])
    // Slots 4 and 5 of page 2, then slot 0 of page 0.
    let k = attention.k.doubles()
    #expect(Array(k[..<6]) == [8, 9, 10, 11, 0, 1] && k[6...].allSatisfy(\.isNaN))
    #expect(Array(attention.v.doubles()[..<3]) == [4, 5, 0])
  }

  @Test func pagesMayBeSharedAndIndicesLeftOver() throws {
    var small = Self.paged
    small.set("page_indptr", .i32, [3], [0, 2, 3])
    small.set("page_indices", .i32, [5], [2, 0, 2, 77, -1])
    small.set("last_page_len", .i32, [2], [1, 2])
    let problem = try decode(small)
    #expect(problem.pages?.lengths == [3, 2] && problem.pages?.indices == [2, 0, 2])
    #expect(Array(problem.attention.k.doubles()[6..<10]) == [8, 9, 10, 11])
  }

  @Test func nothingInAnyPage() throws {
    var small = Self.paged
    small.set("k_pages", .f32, [0, 2, 1, 2])
    small.set("v_pages", .f32, [0, 2, 1, 1])
    small.set("page_indptr", .i32, [3], [0, 0, 0])
    small.set("page_indices", .i32, [0])
    small.set("last_page_len", .i32, [2], [0, 0])
    #expect(try decode(small).attention.keyTokens == 0)
  }

  private struct Change: Sendable {
    let name: String
    let shape: [Int]
    let values: [Double]?
    init(_ name: String, _ shape: [Int], _ values: [Double]? = nil) {
      (self.name, self.shape, self.values) = (name, shape, values)
    }
  }

  private static let badPages: [Refusal<Change>] = [
    Refusal(
      Change("page_indptr", [3], [0, 2, 1]), "tensor page_indptr", .invalid("falls from 2 to 1")),
    Refusal(
      Change("page_indptr", [3], [1, 2, 2]), "tensor page_indptr",
      .invalid("begins at 1, not at 0")),
    Refusal(
      Change("page_indptr", [3], [0, 2, 3]), "tensor page_indptr",
      .invalid("ends at 3, and page_indices has 2")),
    Refusal(
      Change("page_indptr", [2], [0, 2]), "tensor page_indptr: shape",
      .shape(found: [2], expected: "[3]")),
    Refusal(
      Change("page_indices", [2], [2, 3]), "tensor page_indices",
      .invalid("3 is not one of 3 pages")),
    Refusal(
      Change("page_indices", [2], [-1, 0]), "tensor page_indices",
      .invalid("-1 is not one of 3 pages")),
    Refusal(
      Change("page_indices", [1, 2], [0, 1]), "tensor page_indices: shape",
      .shape(found: [1, 2], expected: "one axis")),
    Refusal(
      Change("last_page_len", [2], [0, 0]), "tensor last_page_len",
      .invalid("0 of sequence 0 is not within 1...2")),
    Refusal(
      Change("last_page_len", [2], [3, 0]), "tensor last_page_len",
      .invalid("3 of sequence 0 is not within 1...2")),
    Refusal(
      Change("last_page_len", [2], [1, 1]), "tensor last_page_len",
      .invalid("1 of sequence 1 is not within 0...0")),
    Refusal(
      Change("k_pages", [3, 2, 1, 3]), "tensor k_pages: shape",
      .shape(found: [3, 2, 1, 3], expected: "[P, page, G, 2]")),
    Refusal(
      Change("k_pages", [3, 0, 1, 2]), "tensor k_pages: shape",
      .shape(found: [3, 0, 1, 2], expected: "[P, page, G, 2]")),
    Refusal(
      Change("v_pages", [3, 1, 1, 1]), "tensor v_pages: shape",
      .shape(found: [3, 1, 1, 1], expected: "[3, 2, 1, E]")),
    Refusal(
      Change("q", [2, 2, 2]), "tensor q: shape",
      .shape(found: [2, 2, 2], expected: "[B, S, H, D] with sizes of at least 1")),
  ]

  @Test func badPageTables() {
    for refusal in Self.badPages {
      var small = Self.paged
      let change = refusal.input
      let element: ElementType =
        change.name.hasPrefix("page") || change.name.hasPrefix("last") ? .i32 : .f32
      small.set(
        change.name, element, change.shape,
        change.values ?? (0..<change.shape.reduce(1, *)).map { Double($0) })
      expectError(small, refusal.field, refusal.problem)
    }
  }

  @Test func otherMistakesInPages() {
    for name in ["q", "k_pages", "v_pages", "page_indptr", "page_indices", "last_page_len"] {
      var small = Self.paged
      small.tensors[name] = nil
      expectError(small, "tensor \(name)", .missing)
    }
    var small = Self.paged
    small.set("page_indices", .f32, [2])
    expectError(small, "tensor page_indices: dtype", .expected("I32, found F32"))
    small = Self.paged
    small.set("kv_lengths", .i32, [2])
    expectError(small, "tensor kv_lengths", .invalid("op paged_decode does not take it"))
    small = Self.paged
    small.set("k_pages", .f32, [3, 2, 3, 2])
    small.set("v_pages", .f32, [3, 2, 3, 1])
    expectError(
      small, "tensor k_pages: shape", .invalid("2 query heads are no multiple of 3 heads"))
    small = Self.paged
    small.set("pages", .f32, [1])
    #expect(caseError(small.bytes)?.field == "tensor pages")
  }

  /// A small file that names one page very often.
  @Test func pagesNamedTooOften() {
    var small = Self.paged
    let count = 1 << 14
    small.set("k_pages", .f32, [1, 1 << 14, 1, 2])
    small.set("v_pages", .f32, [1, 1 << 14, 1, 1])
    small.set("page_indptr", .i32, [3], [0, 16384, 16384])
    small.set("page_indices", .i32, [count], Array(repeating: 0, count: count))
    expectError(
      small, "tensor page_indptr", .invalid("names pages for more than 1073741824 bytes of k"))
  }

  /// Sizes of pages that no data vouch for.
  @Test(arguments: [
    ([0, 16, 1, 2], [0, 16, 1, 1 << 62], "v"), ([0, 1 << 29, 1, 2], [0, 1 << 29, 1, 2], "k"),
    ([0, 1 << 62, 1, 2], [0, 1 << 62, 1, 2], "k"),
  ])
  func pagesThatAreNotThere(_ keys: [Int], _ values: [Int], _ name: String) {
    var small = Self.paged
    small.set("k_pages", .f32, keys)
    small.set("v_pages", .f32, values)
    small.set("page_indptr", .i32, [3], [0, 0, 0])
    small.set("page_indices", .i32, [0])
    small.set("last_page_len", .i32, [2], [0, 0])
    expectError(
      small, "tensor page_indptr",
      .invalid("names pages for more than 1073741824 bytes of \(name)"))
  }

  // MARK: mla_decode

  @Test func latentCase() throws {
    var small = Self.latent
    small.set("kv_lengths", .i32, [1], [2])
    small.description = #"""
      {"version": 1, "op": "mla_decode", "params": {"scale": 0.5, "causal": true}, "source": "x"}
      """#
    guard case .latentDecode(let problem) = try CaseFile(bytes: small.bytes, name: "small") else {
      throw WrongOperation()
    }
    #expect(problem.batch == 1 && problem.queryTokens == 1 && problem.keyTokens == 3)
    #expect(problem.heads == 2 && problem.latentChannels == 2 && problem.rotaryChannels == 1)
    #expect(problem.scale == 0.5 && problem.causal && problem.kvLengths?.integers() == [2])
    #expect(problem.oTolerance == 2e-3 && problem.source == "x" && problem.expectedLSE == nil)
    #expect(problem.operation == "mla_decode")
  }

  @Test func badLatentCases() {
    func expect(
      _ name: String, _ element: ElementType, _ shape: [Int], _ field: String,
      _ problem: CaseFileError.Problem
    ) {
      var small = Self.latent
      small.set(name, element, shape)
      expectError(small, field, problem)
    }
    expect(
      "q_rope", .f16, [1, 1, 1, 1], "tensor q_rope: shape",
      .shape(found: [1, 1, 1, 1], expected: "[1, 1, 2, P]"))
    expect(
      "latent", .f16, [1, 3, 3], "tensor latent: shape",
      .shape(found: [1, 3, 3], expected: "[1, T, 2]"))
    expect(
      "k_rope", .f16, [1, 2, 1], "tensor k_rope: shape",
      .shape(found: [1, 2, 1], expected: "[1, 3, 1]"))
    expect(
      "expected.o", .f32, [1, 1, 2, 1], "tensor expected.o: shape",
      .shape(found: [1, 1, 2, 1], expected: "[1, 1, 2, 2]"))
    expect(
      "q", .f16, [1], "tensor q",
      .unknown(allowed: [
        "q_nope", "q_rope", "latent", "k_rope", "kv_lengths", "expected.o", "expected.lse",
      ]))
    var small = Self.latent
    small.set("kv_lengths", .i32, [1], [4])
    expectError(small, "tensor kv_lengths", .invalid("4 is not within 0...3"))
    small = Self.latent
    small.tensors["expected.o"] = nil
    expectError(small, "tensor expected.o or expected.lse", .missing)
    small = Self.latent
    small.description = #"{"version": 1, "op": "mla_decode", "params": {"splits": 1}}"#
    expectError(small, "vkattn.params.splits", .unknown(allowed: ["scale", "causal"]))
  }

  // MARK: Damage

  @Test func damagedFiles() {
    for small in [Self.paged, Self.latent] {
      let sound = small.bytes
      #expect(caseError(sound) == nil)
      for count in 0..<sound.count where caseError(Array(sound[..<count])) == nil {
        Issue.record("cut to \(count) bytes")
      }
      var bytes = sound
      for index in 8..<sound.count {
        for value in [0, 0x20, 0x30, 0x39, 0x5B, 0x7F, 0xFF] {
          bytes[index] = UInt8(value)
          _ = caseError(bytes)
        }
        bytes[index] = sound[index]
      }
    }
  }
}
