import Testing
import VulkanAttention

@testable import KernelBenchmarks

@Suite struct PairedComparisonTests {
  @Test func aTileIsKeptOnlyBeyondTheNoise() throws {
    func compare(_ ratios: [Double]) throws -> PairedComparison {
      try #require(
        PairedComparison(builtIn: ratios, candidate: Array(repeating: 1, count: ratios.count)))
    }
    #expect(try compare(Array(repeating: 1.1, count: 15)).isFaster)
    // The median is better, but in a fifth of the pairs it is slower.
    #expect(try !compare([0.9, 0.9, 0.9] + Array(repeating: 1.3, count: 12)).isFaster)
    // Always better, but by 2 %.
    #expect(try !compare(Array(repeating: 1.02, count: 15)).isFaster)
    #expect(try !compare(Array(repeating: 0.8, count: 15)).isFaster)
    #expect(PairedComparison(builtIn: [], candidate: []) == nil)
    #expect(PairedComparison(builtIn: [1], candidate: [.nan]) == nil)
    #expect(PairedComparison(builtIn: [1, 2], candidate: [1]) == nil)
  }

  @Test func targetsAreOfDifferentClasses() throws {
    var seen: Set<String> = []
    for workload in BenchmarkWorkload.tuningTargets {
      #expect(try seen.insert(workload.tuningKey()).inserted, "\(workload.id)")
    }
  }
}
