import Foundation
import TestSupport
import Testing

@testable import KernelBenchmarks
@testable import VulkanAttention

/// Numbers of bf16 that f16 does not hold, on the paths whose matrices are f16.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct WideRangeTests {
  let device: ComputeDevice
  private static let (queries, keys, channels) = (19, 150, 16)
  /// What o may be off by: rounding the exact o to bf16 gives 1.7e-3.
  private static let gate = 2e-3

  init() throws {
    device = try TestDevice.shared()
  }

  private func problem(
    mask: AttentionMask = .none, operands: [AttentionOperand] = [],
    valuesAreKeys: Bool = false, resumes: Bool = false
  ) throws -> OptionProblem {
    OptionProblem(
      try AttentionRequest(
        batchSize: 2, queryTokens: Self.queries, keyTokens: Self.keys, queryHeads: 2, keyHeads: 1,
        headSize: Self.channels, valueHeadSize: Self.channels, elementType: .bf16, mask: mask,
        operands: operands, returnsLogSumExp: true, resumes: resumes, returnsState: resumes,
        valuesAreKeys: valuesAreKeys))
  }

  private func expectExact(
    _ problem: OptionProblem, _ variant: PathVariant, _ what: String
  ) async throws {
    let result = try await problem.expectExact(variant, on: device, what)
    expectClose(result.output, to: problem.reference().o, within: Self.gate, "o, \(what)")
  }

  private static let paths: [PathVariant] = [.matrix, .matrix2]

  @Test("q and k far from 1, whose products are not", arguments: paths, [-100, -60, 60, 100])
  func scores(variant: PathVariant, exponent: Int) async throws {
    var problem = try problem()
    let factor = Float(sign: .plus, exponent: exponent, significand: 1)
    problem.inputs.query = problem.inputs.query.map { $0 * factor }
    problem.inputs.key = problem.inputs.key.map { $0 / factor }
    try await expectExact(problem, variant, "q 2^\(exponent)")
  }

  @Test("v of another size in every tile", arguments: paths)
  func values(variant: PathVariant) async throws {
    // The larger the values the smaller the weights, so that each tile has its part in o.
    for sign in [1, -1] {
      var problem = try problem(operands: [AttentionOperand(.keyBias, shared: .heads)])
      let exponents = (0..<Self.keys).map { sign * ($0 / 16 * 2 - 9) + 60 }
      problem.set(.keyBias, (exponents + exponents).map { -0.6931472 * Float($0) })
      for b in 0..<2 {
        for key in 0..<Self.keys {
          let factor = Float(sign: .plus, exponent: exponents[key], significand: 1)
          for c in 0..<Self.channels {
            problem.inputs.value[(b * Self.keys + key) * Self.channels + c] *= factor
          }
        }
      }
      try await expectExact(problem, variant, "sign \(sign)")
    }
  }

  @Test("Values near the ends of the range", arguments: paths, [-110, 95])
  func largest(variant: PathVariant, exponent: Int) async throws {
    var problem = try problem(mask: .causal)
    let factor = Float(sign: .plus, exponent: exponent, significand: 1)
    problem.inputs.value = problem.inputs.value.map { $0 * factor }
    try await expectExact(problem, variant, "v 2^\(exponent)")
  }

  @Test("Keys that intervals hide from all rows cost the others no digits", arguments: paths)
  func hidden(variant: PathVariant) async throws {
    var huge = try problem(mask: .causal, operands: [AttentionOperand(.leftPadding)])
    huge.set(.leftPadding, [37, 70] as [Int32])
    let clean = try await huge.expectExact(variant, on: device, "clean")
    for (b, padding) in [37, 70].enumerated() {
      for key in 0..<padding {
        for c in 0..<Self.channels {
          let place = (b * Self.keys + key) * Self.channels + c
          huge.inputs.key[place] = 0x1p+127
          huge.inputs.value[place] = -0x1p+127
        }
      }
    }
    expectSameBits(try await huge.run(variant, on: device), clean, "huge padding")
  }

  @Test("Keys that are values, and states that go on", arguments: paths)
  func sharedAndResumed(variant: PathVariant) async throws {
    var shared = try problem(valuesAreKeys: true)
    shared.inputs.key = shared.inputs.key.map { $0 * 0x1p+40 }
    shared.inputs.query = shared.inputs.query.map { $0 * 0x1p-40 }
    shared.inputs.value = shared.inputs.key
    try await expectExact(shared, variant, "values are keys")
    var resumed = try problem(resumes: true)
    resumed.inputs.value = resumed.inputs.value.map { $0 * 0x1p+20 }
    let initial = numbers(resumed.inputs.operands[.initialOutput] ?? [])
    #expect(!initial.isEmpty)
    resumed.set(.initialOutput, initial.map { Float($0) * 0x1p+20 })
    let result = try await resumed.expectExact(variant, on: device, "resumed")
    let state = try #require(result.state)
    // What it holds, brought to an end.
    let results = state.output.indices.map { state.output[$0] / state.sum[$0 / Self.channels] }
    let expected = resumed.reference()
    expectClose(results, to: expected.o, within: Self.gate, "state, resumed")
    expectEach(
      zip(state.max, state.sum).map { $0 + log($1) }, within: 1e-3, of: expected.lse, "its lse")
  }
}
