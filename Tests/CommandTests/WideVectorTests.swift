import Foundation
import TestSupport
import Testing

/// Kernels at 512 bits, which `SoftwareDriver.preferWideVectors()` asks lavapipe for on processors that have them: the
/// driver's compiler ends the process over some numbers of 64 bits (Shaders/Common/word_pairs.glsl). It compiles for
/// that width on every processor. Other drivers take no notice.
@Suite(.serialized, .timeLimit(.minutes(10))) struct WideVectorTests {
  @Test(
    "Masks of bits, angles, steps of one token and values in quads are compiled and right",
    .needsDevice,
    arguments: [
      ["attention", "--path", "row", "--only", "tree"],
      ["attention", "--path", "subgroup", "--only", "attention/f16/B3-S33-T65-H4-G2-D64-E64-tree"],
      ["linear", "--path", "row", "--only", "features/cosformer/f32"],
      ["linear", "--path", "row", "--only", "lightning/f32/B1-T1-"],
      ["decode", "--path", "subgroup", "--only", "D64-E64"],
    ])
  func passes(check: [String]) throws {
    let (process, output) = commandProcess(["check"] + check)
    process.environment = ProcessInfo.processInfo.environment.merging(
      ["LP_NATIVE_VECTOR_WIDTH": "512"]) { $1 }
    try process.run()
    let data = try output.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    let text = String(decoding: data, as: UTF8.self)
    #expect(process.terminationReason == .exit && process.terminationStatus == 0, "\(text)")
    #expect(text.contains("cases passed"), "\(text)")
  }
}
