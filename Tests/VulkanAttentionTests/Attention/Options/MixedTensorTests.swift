import KernelBenchmarks
import TestSupport
import Testing

@testable import VulkanAttention

/// Tensors of different types, of any head size, at any element, shared or apart.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct MixedTensorTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  @Test(
    "Every mix of types, into outputs of a type of their own", arguments: ElementType.allCases,
    [PathVariant.row, .subgroup])
  func types(query: ElementType, variant: PathVariant) async throws {
    let types = ElementType.allCases
    for (k, key) in types.enumerated() {
      for (v, value) in types.enumerated() {
        let request = try AttentionRequest(
          queryTokens: 5, keyTokens: 37, queryHeads: 2, keyHeads: 1, headSize: 8,
          elementType: query, keyType: key, valueType: value, outputType: types[(k + v) % 3],
          mask: .causal, returnsLogSumExp: true)
        try await OptionProblem(request).expectExact(
          variant, on: device, "q \(query), k \(key), v \(value)")
      }
    }
  }

  @Test(
    "Every mix of f16 and bf16 on matrix units", arguments: [ElementType.f16, .bf16],
    [PathVariant.matrix, .matrix2])
  func halfTypes(query: ElementType, variant: PathVariant) async throws {
    for (key, value, output) in [
      (ElementType.f16, ElementType.bf16, ElementType.f32), (.bf16, .f16, .bf16),
      (.bf16, .bf16, .f16),
    ] {
      let request = try AttentionRequest(
        queryTokens: 5, keyTokens: 37, queryHeads: 2, keyHeads: 1, headSize: 8,
        elementType: query, keyType: key, valueType: value, outputType: output, mask: .causal,
        returnsLogSumExp: true)
      try await OptionProblem(request).expectExact(
        variant, on: device, "q \(query), k \(key), v \(value)")
    }
  }

  @Test("Packed keys of mixed types")
  func packedTypes() async throws {
    for (key, value) in [(ElementType.f16, ElementType.bf16), (.bf16, .f32)] {
      let request = try AttentionRequest(
        queryTokens: 256, keyTokens: 37, queryHeads: 2, keyHeads: 1, headSize: 6, elementType: .f32,
        keyType: key, valueType: value, returnsLogSumExp: true)
      let problem = OptionProblem(request)
      #expect(try problem.kernel(.row, on: device).plan.packing != nil)
      try await problem.expectExact(.row, on: device, "k \(key), v \(value)")
    }
  }

  @Test(
    "Any head size", arguments: [PathVariant.row, .subgroup, .matrix, .matrix2],
    [(1, 1), (3, 3), (6, 6), (59, 59), (100, 100), (192, 128), (320, 256), (576, 512)])
  func headSizes(variant: PathVariant, size: (Int, Int)) async throws {
    // Large heads take the software driver up to a minute to compile.
    guard size.0 <= 100 || size.0 == 192 && variant == .row || runsFullTests else {
      try Test.cancel("heads of \(size) on \(variant) take VKATTN_FULL_TESTS=1")
    }
    let request = try AttentionRequest(
      batchSize: 2, queryTokens: 5, keyTokens: 37, queryHeads: 2, keyHeads: 1, headSize: size.0,
      valueHeadSize: size.1, elementType: .f16, mask: .causal, returnsLogSumExp: true)
    try await OptionProblem(request).expectExact(variant, on: device, "\(size)")
  }

  @Test("Tensors begin at any element where rows are not aligned", arguments: TypedPath.optionPaths)
  func oddElements(path: TypedPath) async throws {
    let request = try AttentionRequest(
      batchSize: 2, queryTokens: 5, keyTokens: 37, queryHeads: 2, keyHeads: 1, headSize: 6,
      valueHeadSize: 3, elementType: path.type, returnsLogSumExp: true)
    let problem = OptionProblem(request)
    let expected = try await problem.run(path.variant, on: device)
    let kernel = try problem.kernel(path.variant, on: device)
    let tensors = try await KernelBenchmarks.AttentionTensors(
      problem.inputs, for: kernel.plan, on: device)
    // The same bytes, one element further on.
    let element = path.type.byteCount
    func moved(_ buffer: DeviceBuffer) async throws -> DeviceBuffer {
      let bytes = try await device.download(UInt8.self, from: buffer)
      let poison = [UInt8](repeating: 0xFF, count: element)
      let whole = try await device.makeBuffer(poison + bytes + poison + poison)
      return try whole.slice(element..<element + bytes.count)
    }
    var buffers = tensors.buffers
    buffers.query = try await moved(buffers.query)
    buffers.key = try await moved(buffers.key)
    buffers.value = try await moved(buffers.value)
    let whole = try await device.makeBuffer(
      [UInt8](repeating: 0xFF, count: request.byteCount(of: .output) + 2 * element + 4))
    let written = element..<element + request.byteCount(of: .output)
    buffers.output = try whole.slice(written)
    try await kernel.run(buffers)
    let bytes = try await device.download(UInt8.self, from: whole)
    let theirs = try await device.download(UInt8.self, from: tensors.buffers.output)
    #expect(!theirs.isEmpty)
    #expect(bytes.indices.allSatisfy { written.contains($0) || bytes[$0] == 0xFF })
    let values: [Float] = bytes[written].withUnsafeBytes { bytes in
      path.type == .f32
        ? (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
        : (0..<bytes.count / 2).map {
          Float(bytes.loadUnaligned(fromByteOffset: $0 * 2, as: Float16.self))
        }
    }
    expectSameBits(values, expected.output, "o")
  }

  @Test(
    "Values that are keys, and sources of their own, change no bit",
    arguments: TypedPath.optionPaths)
  func aliases(path: TypedPath) async throws {
    // From 256 rows on the row path packs keys.
    for queries in path.variant == .row ? [9, 256] : [9] {
      func request(valuesAreKeys: Bool, hasKeySources: Bool) throws -> AttentionRequest {
        try AttentionRequest(
          batchSize: 2, queryTokens: queries, keyTokens: 37, queryHeads: 4, keyHeads: 2,
          headSize: 24, valueHeadSize: 16, elementType: path.type, mask: .causal,
          returnsLogSumExp: true, valuesAreKeys: valuesAreKeys, hasKeySources: hasKeySources)
      }
      let shared = OptionProblem(try request(valuesAreKeys: true, hasKeySources: false))
      let apart = OptionProblem(
        try request(valuesAreKeys: false, hasKeySources: false), inputs: shared.inputs)
      let expected = try await apart.expectExact(path.variant, on: device, "copies")
      for (valuesAreKeys, hasKeySources) in [(true, false), (false, true), (true, true)] {
        let problem = OptionProblem(
          try request(valuesAreKeys: valuesAreKeys, hasKeySources: hasKeySources),
          inputs: shared.inputs)
        let result = try await problem.run(path.variant, on: device)
        expectSameBits(
          result, expected,
          "\(queries) queries, values are keys: \(valuesAreKeys), sources: \(hasKeySources)")
      }
    }
  }
}
