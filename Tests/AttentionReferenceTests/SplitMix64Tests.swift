import AttentionReference
import Testing

@Suite struct SplitMix64Tests {
  @Test func numbersAreRepeatableAndNormal() {
    var generator = SplitMix64(seed: "a")
    let numbers = generator.normal(100_001)
    var again = SplitMix64(seed: "a")
    #expect(again.normal(100_001) == numbers)
    var other = SplitMix64(seed: "b")
    #expect(other.normal(4) != Array(numbers.prefix(4)))
    let mean = numbers.reduce(0) { $0 + Double($1) } / Double(numbers.count)
    let variance = numbers.reduce(0) { $0 + Double($1 * $1) } / Double(numbers.count)
    #expect(abs(mean) < 0.02)
    #expect(abs(variance - 1) < 0.03)
    #expect(numbers.allSatisfy { $0.isFinite })
  }

  /// The first outputs for seed 0 as the authors' C code gives them.
  @Test func firstOutputs() {
    var generator = SplitMix64(seed: 0)
    #expect(generator.next() == 0xE220_A839_7B1D_CDAF)
    #expect(generator.next() == 0x6E78_9E6A_A1B9_65F4)
  }
}
