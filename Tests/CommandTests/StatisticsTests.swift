import Testing

@testable import KernelBenchmarks

@Suite struct StatisticsTests {
  @Test func percentilesByHand() throws {
    // Ranks of eleven samples are whole: p10 is the second smallest, p90 the second largest.
    let eleven = try #require(SampleStatistics([10, 0, 9, 1, 8, 2, 7, 3, 6, 4, 5]))
    #expect(eleven.median == 5 && eleven.p10 == 1 && eleven.p90 == 9 && eleven.count == 11)
    // Of four samples: ranks 0.3, 1.5 and 2.7.
    let four = try #require(SampleStatistics([4, 1, 3, 2]))
    #expect(four.median == 2.5)
    #expect(abs(four.p10 - 1.3) < 1e-12 && abs(four.p90 - 3.7) < 1e-12)
    let one = try #require(SampleStatistics([7]))
    #expect(one.median == 7 && one.p10 == 7 && one.p90 == 7)
  }

  @Test func nothingHasNoStatistics() {
    #expect(SampleStatistics([]) == nil)
    #expect(SampleStatistics([1, .nan]) == nil)
  }

  @Test func timestampsAreUsedWhereTheyMakeSense() throws {
    #expect(try #require(Timing(gpu: [0.9, 0.9], wall: [1, 1])).clock == .gpu)
    // A small kernel: submitting takes most of the time.
    #expect(try #require(Timing(gpu: [1e-5], wall: [1e-3])).clock == .gpu)
    #expect(try #require(Timing(gpu: [0, 0], wall: [1, 1])).clock == .wall)
    #expect(try #require(Timing(gpu: [2, 2], wall: [1, 1])).clock == .wall)
    #expect(try #require(Timing(gpu: [0.1, 0.1], wall: [1, 1])).clock == .wall)
    #expect(try #require(Timing(gpu: [-1, -1], wall: [1, 1])).clock == .wall)
    #expect(try #require(Timing(gpu: [], wall: [1, 1])).clock == .wall)
    // Some samples without timestamps: the two medians would not be of the same runs.
    #expect(try #require(Timing(gpu: [0.9], wall: [1, 1])).clock == .wall)
    #expect(Timing(gpu: [], wall: []) == nil)
  }

  @Test func numbersAreWrittenShort() {
    #expect(Numbers.fixed(3.14159, decimals: 3) == "3.142")
    #expect(Numbers.fixed(-0.004) == "0.00")
    #expect(Numbers.fixed(-1.5, decimals: 1) == "-1.5")
    #expect(Numbers.fixed(1.05, decimals: 0) == "1")
    #expect(Numbers.fixed(.nan) == "NaN")
    #expect(Numbers.plain(-Float(nan: 1, signaling: false)) == "NaN")
    #expect(Numbers.scientific(3.14159e-7) == "3.1e-07")
    #expect(Numbers.scientific(9.96e-8) == "1.0e-07")
    #expect(Numbers.scientific(12345) == "1.2e+04")
    #expect(Numbers.scientific(-2e-3) == "-2.0e-03")
    #expect(Numbers.scientific(0) == "0")
    #expect(Numbers.scientific(.nan) == "NaN")
    #expect(Numbers.scientific(.infinity) == "inf")
    #expect(Numbers.seconds(12.34e-6) == "12.3 µs")
    #expect(Numbers.seconds(0.9999e-3) == "1.00 ms")
    #expect(Numbers.seconds(2) == "2.00 s")
    #expect(Numbers.bytes(48 << 10) == "48 KiB")
    #expect(Numbers.bytes(3 << 29) == "1.50 GiB")
    #expect(Numbers.percent(0.474) == "47 %")
  }

  @Test func tablesAlign() {
    var table = TextTable([("name", .left), ("count", .right)])
    table.add(["a", "1"])
    table.add(["longer", "123456"])
    #expect(
      table.lines == [
        "name     count", "──────  ──────", "a            1", "longer  123456",
      ])
  }

  @Test func jsonIsEscapedAndOrdered() {
    let value: JSONText = [
      "b": .string("a\"\\\n\u{1}é"), "a": .array([1, .number(.nan), .number(0.5), true]),
      "empty": [], "none": .null,
    ]
    #expect(
      value.text == """
        {
          "b": "a\\"\\\\\\n\\u0001é",
          "a": [
            1,
            null,
            0.5,
            true
          ],
          "empty": [],
          "none": null
        }
        """)
  }
}
