import Testing

@testable import VulkanAttention

@Suite struct TensorStridesTests {
  @Test func namedLayouts() {
    let tokenMajor = TensorStrides.tokenMajor(tokens: 5, heads: 3, channels: 8)
    #expect(tokenMajor == TensorStrides(batch: 120, token: 24, head: 8))
    let headMajor = TensorStrides.headMajor(tokens: 5, heads: 3, channels: 8)
    #expect(headMajor == TensorStrides(batch: 120, token: 8, head: 40))
  }

  @Test func elementTypes() {
    #expect(ElementType.allCases.map(\.byteCount) == [4, 2, 2])
    #expect(ElementType.allCases.map(\.shaderConstant) == [0, 1, 2])
  }
}
