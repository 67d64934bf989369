import Testing
import VulkanAttention

@testable import KernelBenchmarks

@Suite struct AttentionShapeTests {
  @Test func readsEverySize() throws {
    let shape = try AttentionShape("B2,S1024,T77,H8,G4,D64,E128")
    #expect(
      shape
        == AttentionShape(
          batchSize: 2, queryTokens: 1024, keyTokens: 77, queryHeads: 8, keyHeads: 4, headSize: 64,
          valueHeadSize: 128))
    #expect(shape.description == "B2-S1024-T77-H8-G4-D64-E128")
  }

  @Test func fillsInWhatIsLeftOut() throws {
    #expect(try AttentionShape("s5,h3,d16").description == "B1-S5-T5-H3-G3-D16-E16")
    // No keys is a problem of its own, not a missing size.
    #expect(try AttentionShape("S5,T0,H3,D16").keyTokens == 0)
  }

  @Test func readsItsOwnDescription() throws {
    for workload in AttentionWorkload.standard {
      #expect(try AttentionShape(workload.shape.description) == workload.shape)
    }
  }

  @Test(arguments: [
    ("", "does not begin"), ("S1,,H1,D8", "does not begin"), ("X1,S1,H1,D8", "does not begin"),
    ("S,H1,D8", "no whole number"), ("S1.5,H1,D8", "no whole number"),
    ("S+1,H1,D8", "no whole number"), ("S99999999999999999999,H1,D8", "no whole number"),
    ("B1048577,S1,H1,D8", "allowed: at most 1048576"),
    ("S1073741824,H1,D8", "allowed: at most 1073741823"), ("S1,S2,H1,D8", "given twice"),
    ("B1,T5", "S, H, D is missing"), ("S1,H1", "D is missing"),
  ])
  func refuses(_ text: String, _ reason: String) {
    let error = #expect(throws: ShapeError.self) { try AttentionShape(text) }
    #expect(error?.description.contains(reason) == true, "\(text): \(error?.description ?? "")")
  }
}

@Suite struct AttentionWorkloadTests {
  @Test func idsReadBack() throws {
    let workloads = AttentionWorkload.standard + AttentionWorkload.quick
    for workload in workloads {
      #expect(try AttentionWorkload(id: workload.id) == workload)
    }
    let causal = AttentionWorkload(
      AttentionShape(queryTokens: 1024, queryHeads: 8, headSize: 64), .f16, isCausal: true)
    #expect(causal.id == "attention/f16/B1-S1024-T1024-H8-G8-D64-E64-causal")
  }

  @Test(arguments: [
    "attention", "decode/f32/S1-H1-D8", "attention/f64/S1-H1-D8", "attention/f32/S1",
  ])
  func refusesOtherIds(_ id: String) {
    #expect(throws: ShapeError.self) { try AttentionWorkload(id: id) }
  }

  @Test func standardWorkloadsAreWhatWasPromised() throws {
    #expect(AttentionWorkload.standard.count == 3 * 2 * 2 * 3)
    #expect(Set(AttentionWorkload.standard.map(\.id)).count == AttentionWorkload.standard.count)
    #expect(Set(AttentionWorkload.quick).isSubset(of: AttentionWorkload.standard))
    for workload in AttentionWorkload.standard { _ = try workload.request() }
  }

  @Test(arguments: [
    ("auto", "auto"), ("row", "row"), ("matrix", "matrix"), ("matrix:16x16x16", "matrix:16x16x16"),
    ("matrix2", "matrix2"), ("matrix2:16x32x16", "matrix2:16x32x16"),
  ])
  func pathsReadBack(_ text: String, _ name: String) {
    #expect(AttentionPathChoice(text)?.description == name)
  }

  @Test(arguments: [
    "", "rows", "row:8x8x8", "matrix:", "matrix:16x16", "matrix:0x1x1", "matrix:axbxc",
    "matrix2:16x16", "matrix3:8x8x8",
  ])
  func otherPathsAreRefused(_ text: String) {
    #expect(AttentionPathChoice(text) == nil)
  }
}
