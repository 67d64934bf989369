import AttentionReference
import Testing

@Suite struct LowPrecisionTests {
  @Test(arguments: [
    // One third needs rounding everywhere; 2049 and 257 are ties between two neighbours.
    (StorageType.f32, 1.0 / 3, 0x1.555556p-2), (.f16, 1.0 / 3, 0x1.554p-2),
    (.bf16, 1.0 / 3, 0x1.56p-2), (.f16, 2049, 2048), (.f16, 2051, 2052), (.f16, 65536, .infinity),
    (.bf16, 257, 256), (.bf16, 259, 260), (.bf16, -257, -256), (.bf16, .infinity, .infinity),
    (.bf16, 0x1.ffp127, .infinity), (.f32, 1e39, .infinity),
  ])
  func rounds(_ type: StorageType, _ value: Double, _ stored: Double) {
    #expect(type.rounded(value) == stored)
  }

  @Test(arguments: StorageType.allCases) func keepsNaN(_ type: StorageType) {
    #expect(type.rounded(.nan).isNaN)
  }

  @Test(arguments: [0x7F80_0001, 0x7FFF_FFFF, 0xFF80_0001, 0xFFFF_FFFF] as [UInt32])
  func anyNaNIsNaNInBFloat16(_ bits: UInt32) {
    // Cut off, the first has the bits of an infinity; rounded up, the second those of −0.
    #expect(Float(BFloat16(Float(bitPattern: bits))).isNaN)
  }

  /// The error is that of the type: above a tenth of its precision and below it.
  @Test(arguments: [(StorageType.f32, 0x1p-23), (.f16, 0x1p-10), (.bf16, 0x1p-7)])
  func errorIsThatOfTheType(_ type: StorageType, precision: Double) {
    let dimensions = AttentionDimensions(
      batch: 1, queryTokens: 20, keyTokens: 50, queryHeads: 2, keyHeads: 1, keyChannels: 32,
      valueChannels: 32)
    var numbers = SeededNumbers(seed: 5)
    // Inputs that the type holds, so that probabilities and outputs are what is rounded.
    let q = numbers.normal(dimensions.qCount).map(type.rounded)
    let k = numbers.normal(dimensions.kCount).map(type.rounded)
    let v = numbers.normal(dimensions.vCount).map(type.rounded)
    let exact = attention(q: q, k: k, v: v, dimensions: dimensions)
    let low = lowPrecisionAttention(q: q, k: k, v: v, dimensions: dimensions, storage: type)
    let measure = ErrorMeasure.relativeRMS(actual: low.o, expected: exact.o)
    #expect(measure.isWithin(precision) && measure.error > precision / 10, "\(measure)")
    #expect(low.o.allSatisfy { type.rounded($0) == $0 })
    #expect(low.lse == exact.lse)
  }

  @Test func inputsAreRounded() {
    let dimensions = AttentionDimensions(
      batch: 1, queryTokens: 1, keyTokens: 1, queryHeads: 1, keyHeads: 1, keyChannels: 1,
      valueChannels: 1)
    let low = lowPrecisionAttention(
      q: [2049], k: [1], v: [1], dimensions: dimensions, storage: .f16)
    #expect(low.lse == [2048])
  }
}
