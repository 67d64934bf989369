import Testing
import VulkanAttention

@testable import KernelBenchmarks

@Suite struct TensorMemoryTests {
  @Test(arguments: AttentionCheckCase.Layout.allCases, ElementType.allCases)
  func readsBackWhatItWrote(_ layout: AttentionCheckCase.Layout, _ type: ElementType) throws {
    let checkCase = AttentionCheckCase(
      "test",
      AttentionShape(
        batchSize: 2, queryTokens: 3, keyTokens: 5, queryHeads: 4, keyHeads: 2, headSize: 8,
        valueHeadSize: 16),
      type, layout: layout)
    let request = try checkCase.request()
    for tensor in AttentionRequest.Tensor.allCases {
      let memory = TensorMemory(request, tensor)
      // Whole numbers up to 256 are exact in every type.
      let values = (0..<memory.elementCount).map { Float($0 % 257) }
      var bytes = memory.encode(values)
      #expect(bytes.count == memory.byteCount + TensorMemory.guardByteCount)
      let decoded = memory.decode(bytes)
      #expect(decoded.values == values)
      #expect(decoded.strayByte == nil)
      bytes[memory.byteCount] ^= 1
      #expect(memory.decode(bytes).strayByte == memory.byteCount)
    }
  }

  @Test func gapsBetweenRowsAreGuarded() throws {
    let checkCase = AttentionCheckCase(
      "test", AttentionShape(queryTokens: 3, queryHeads: 1, headSize: 8), .f32, layout: .padded)
    let memory = TensorMemory(try checkCase.request(), .output)
    var bytes = memory.encode([Float](repeating: 1, count: memory.elementCount))
    // The first gap begins behind the first row's 8 channels.
    bytes[8 * 4] = 0
    #expect(memory.decode(bytes).strayByte == 8 * 4)
  }

  @Test(arguments: ElementType.allCases)
  func poisonIsNaN(_ type: ElementType) throws {
    let request = try AttentionRequest(
      queryTokens: 2, queryHeads: 1, headSize: 8, elementType: type)
    let memory = TensorMemory(request, .output)
    #expect(memory.decode(memory.poison()).values.allSatisfy { $0.isNaN })
  }
}
