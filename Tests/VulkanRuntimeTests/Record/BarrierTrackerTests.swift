import TestSupport
import Testing

@testable import VulkanRuntime

@Suite struct BarrierTrackerTests {
  private final class Block {}

  /// The tracker by reference, for the macros take no mutating calls.
  private final class Tracked {
    private var tracker = BarrierTracker()

    func needsBarrier(before accesses: [BarrierTracker.Range]) -> Bool {
      tracker.needsBarrier(before: accesses)
    }
  }

  private let first = Block()
  private let second = Block()

  private func read(_ bytes: Range<Int>, of block: Block? = nil) -> BarrierTracker.Range {
    .init(block: ObjectIdentifier(block ?? first), bytes: bytes, isWrite: false)
  }

  private func write(_ bytes: Range<Int>, of block: Block? = nil) -> BarrierTracker.Range {
    .init(block: ObjectIdentifier(block ?? first), bytes: bytes, isWrite: true)
  }

  @Test func readAfterWrite() {
    let tracker = Tracked()
    #expect(!tracker.needsBarrier(before: [write(0..<8)]))
    #expect(tracker.needsBarrier(before: [read(4..<12)]))
    // The barrier has covered it.
    #expect(!tracker.needsBarrier(before: [read(0..<8)]))
  }

  @Test func writeAfterRead() {
    let tracker = Tracked()
    #expect(!tracker.needsBarrier(before: [read(0..<8)]))
    #expect(tracker.needsBarrier(before: [write(7..<9)]))
  }

  @Test func writeAfterWrite() {
    let tracker = Tracked()
    #expect(!tracker.needsBarrier(before: [write(0..<8)]))
    #expect(tracker.needsBarrier(before: [write(0..<1)]))
  }

  @Test func readAfterReadNeedsNone() {
    let tracker = Tracked()
    #expect(!tracker.needsBarrier(before: [read(0..<8)]))
    #expect(!tracker.needsBarrier(before: [read(0..<8)]))
    // But both reads are remembered.
    #expect(tracker.needsBarrier(before: [write(0..<8)]))
  }

  @Test func disjointRangesNeedNone() {
    let tracker = Tracked()
    #expect(!tracker.needsBarrier(before: [write(0..<8)]))
    #expect(!tracker.needsBarrier(before: [write(8..<16)]))
    #expect(!tracker.needsBarrier(before: [read(16..<24)]))
  }

  @Test func equalRangesOfDifferentBlocksNeedNone() {
    let tracker = Tracked()
    #expect(!tracker.needsBarrier(before: [write(0..<8)]))
    #expect(!tracker.needsBarrier(before: [write(0..<8, of: second)]))
    #expect(tracker.needsBarrier(before: [read(0..<8, of: second)]))
  }

  @Test func emptyRangesNeedNone() {
    let tracker = Tracked()
    #expect(!tracker.needsBarrier(before: [write(0..<8)]))
    #expect(!tracker.needsBarrier(before: [write(4..<4)]))
  }

  @Test("A command's own accesses do not conflict with each other")
  func ownAccesses() {
    let tracker = Tracked()
    #expect(!tracker.needsBarrier(before: [read(0..<8), write(0..<8)]))
    #expect(tracker.needsBarrier(before: [read(0..<8), write(0..<8)]))
  }

  @Test("One barrier covers everything before it")
  func barrierCoversAll() {
    let tracker = Tracked()
    #expect(!tracker.needsBarrier(before: [write(0..<8)]))
    #expect(!tracker.needsBarrier(before: [write(8..<16)]))
    #expect(tracker.needsBarrier(before: [read(0..<8)]))
    #expect(!tracker.needsBarrier(before: [read(8..<16)]))
  }

  @Test("Random commands: every conflict has a barrier in between, no barrier is without one")
  func agreesWithAllPairs() throws {
    var random = SplitMix64(seed: 7)
    for _ in 0..<200 {
      let tracker = Tracked()
      // The commands since the last barrier.
      var unprotected: [[BarrierTracker.Range]] = []
      for _ in 0..<20 {
        let accesses = (0..<Int.random(in: 1...3, using: &random)).map { _ in
          let start = Int.random(in: 0..<20, using: &random)
          return BarrierTracker.Range(
            block: ObjectIdentifier(Bool.random(using: &random) ? first : second),
            bytes: start..<start + Int.random(in: 0...6, using: &random),
            isWrite: Bool.random(using: &random))
        }
        let conflicts = unprotected.joined().contains { earlier in
          accesses.contains { later in
            earlier.block == later.block && (earlier.isWrite || later.isWrite)
              && !Set(earlier.bytes).isDisjoint(with: later.bytes)
          }
        }
        try #require(tracker.needsBarrier(before: accesses) == conflicts)
        if conflicts { unprotected = [] }
        unprotected.append(accesses)
      }
    }
  }
}
