import AttentionReference
import Testing

@Suite struct QuantizedCacheTests {
  private let steps = (0..<32).map { Float($0 % 16) }

  @Test func q8ByHand() {
    // The largest is 127: scale 1, 0x3C00 in binary16. Halves go away from zero.
    var x = [Float](repeating: 0, count: 32)
    x[0] = 127
    x[1] = -2.5
    x[2] = 0.5
    x[31] = -127
    let bytes = QuantizedBlock.q8.encode(x)
    #expect(bytes.count == 34 && Array(bytes[..<6]) == [0x00, 0x3C, 127, 0xFD, 1, 0])
    #expect(bytes[33] == 0x81)
    let decoded = QuantizedBlock.q8.decode(bytes)
    #expect(Array(decoded[..<4]) == [127, -3, 1, 0] && decoded[31] == -127)
  }

  @Test func q4ByHand() {
    // −8 ... 7 twice: the farthest from 0 is −8, scale 1, codes 0 ... 15.
    let x = steps.map { $0 - 8 }
    let bytes = QuantizedBlock.q4.encode(x)
    #expect(bytes == [0x00, 0x3C] + (0..<16).map { UInt8($0 | $0 << 4) })
    #expect(QuantizedBlock.q4.decode(bytes) == x.map { Double($0) })
    // With the largest positive the scale is negative, and −max is out of reach: code 15 at most.
    var y = [Float](repeating: 0, count: 32)
    y[0] = 8
    y[16] = -8
    y[17] = 3
    let other = QuantizedBlock.q4.encode(y)
    #expect(Array(other[..<4]) == [0x00, 0xBC, 0xF0, 0x58])
    let decoded = QuantizedBlock.q4.decode(other)
    #expect(decoded[0] == 8 && decoded[16] == -7 && decoded[17] == 3 && decoded[1] == 0)
  }

  @Test func q4WithMinimumByHand() {
    // 2, 2.5, ... 9.5 twice: scale 0.5, minimum 2.
    let x = steps.map { 2 + $0 / 2 }
    let bytes = QuantizedBlock.q4WithMinimum.encode(x)
    #expect(bytes == [0x00, 0x38, 0x00, 0x40] + (0..<16).map { UInt8($0 | $0 << 4) })
    #expect(QuantizedBlock.q4WithMinimum.decode(bytes) == x.map { Double($0) })
  }

  @Test(arguments: QuantizedBlock.allCases) func blocksStayNear(_ block: QuantizedBlock) {
    var random = SeededNumbers(seed: 51)
    let x = random.normal(32 * 40).map { Float($0) }
    let bytes = block.encode(x)
    #expect(bytes.count == 40 * block.byteCount)
    let decoded = block.decode(bytes)
    for start in stride(from: 0, to: x.count, by: 32) {
      let own = x[start..<start + 32].map { Double($0) }
      let extent =
        block == .q4WithMinimum
        ? (own.max() ?? 0) - (own.min() ?? 0) : own.map(abs).max() ?? 0
      let step = extent / [.q8: 127, .q4: 8, .q4WithMinimum: 15][block, default: 1]
      // Half a step; of q4_0 a whole one at the far end, whose code does not exist; binary16 scales.
      let tolerance = step * (block == .q4 ? 1 : 0.5) + extent * 0x1p-10
      for (number, copy) in zip(own, decoded[start..<start + 32]) {
        #expect(abs(number - copy) <= tolerance)
      }
    }
    #expect(
      block.decode(block.encode(Array(repeating: 0, count: 32))) == Array(repeating: 0, count: 32))
  }

  @Test func scaledIntegersByHand() {
    // Largest 3.5: scale 0.5; 0.75 is one and a half steps, to the even 2.
    let four = ScaledIntegers([1, -3.5, 0.75, 3.5], width: .int4, groupSize: 4)
    #expect(four.scales == [0.5] && four.codes == [0x92, 0x72])
    #expect(four.decoded() == [1, -3.5, 1, 3.5])
    let eight = ScaledIntegers([127, -3, 0, 0, 254, 1], width: .int8, groupSize: 2)
    #expect(eight.scales == [1, 0, 2] && eight.codes == [127, 0xFD, 0, 0, 127, 0])
    #expect(eight.decoded() == [127, -3, 0, 0, 254, 0])
  }

  @Test(arguments: ScaledIntegers.Width.allCases, [false, true])
  func scaledIntegersStayNear(_ width: ScaledIntegers.Width, _ halfScales: Bool) {
    var random = SeededNumbers(seed: 52)
    let x = random.normal(64 * 6)
    for groupSize in [2, 16, 64] {
      let quantized = ScaledIntegers(
        x, width: width, groupSize: groupSize, halfScales: halfScales)
      #expect(quantized.scales.count == x.count / groupSize)
      #expect(!halfScales || quantized.scales.allSatisfy { Float(Float16($0)) == $0 })
      for (index, copy) in quantized.decoded().enumerated() {
        let scale = Double(quantized.scales[index / groupSize])
        // The largest may be cut off by what its scale was rounded down.
        let tolerance =
          scale * (0.5 + Double(width.largest) * (halfScales ? 0x1p-11 : 0x1p-24)) * (1 + 1e-9)
        #expect(abs(x[index] - copy) <= tolerance)
      }
    }
    // So small that a binary16 scale is 0.
    let tiny = ScaledIntegers([1e-9, -1e-9], width: width, groupSize: 2, halfScales: true)
    #expect(tiny.decoded() == [0, 0])
  }
}
