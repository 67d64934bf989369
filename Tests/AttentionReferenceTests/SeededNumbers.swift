import AttentionReference

/// Normal-ish random numbers that are the same in every run: sums of uniforms.
struct SeededNumbers {
  private var random: SplitMix64

  init(seed: UInt64) { random = SplitMix64(seed: seed) }

  mutating func bits() -> UInt64 { random.next() }

  mutating func uniform() -> Double { Double(bits() >> 11) / 0x1p53 }

  mutating func normal(_ count: Int) -> [Double] {
    (0..<count).map { _ in (0..<12).reduce(-6.0) { sum, _ in sum + uniform() } }
  }

  mutating func pick<Value>(_ values: [Value]) -> Value {
    values[Int(bits() % UInt64(values.count))]
  }
}
