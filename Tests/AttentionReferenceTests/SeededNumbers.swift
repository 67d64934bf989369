/// Normal-ish random numbers that are the same in every run: SplitMix64, sums of uniforms.
struct SeededNumbers {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func bits() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }

  mutating func uniform() -> Double { Double(bits() >> 11) / 0x1p53 }

  mutating func normal(_ count: Int) -> [Double] {
    (0..<count).map { _ in (0..<12).reduce(-6.0) { sum, _ in sum + uniform() } }
  }

  mutating func pick<Value>(_ values: [Value]) -> Value {
    values[Int(bits() % UInt64(values.count))]
  }
}
