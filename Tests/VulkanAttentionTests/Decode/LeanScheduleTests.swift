import TestSupport
import Testing

@testable import VulkanAttention

/// Schedules of decode steps, made without a device.
@Suite struct LeanScheduleTests {
  // MARK: Worked by hand

  @Test("Two sequences over three groups, as drawn by hand")
  func handWorked() throws {
    // Tiles of 4 keys: 3 of sequence 0, 2 of sequence 1, for one head: 5 tiles as 2 + 2 + 1.
    let schedule = try LeanSchedule(
      sequences: [LeanSequence(endKey: 9), LeanSequence(endKey: 8)], keyHeads: 1, tileLength: 4,
      mode: .lean(groups: 3))
    #expect(schedule.groupStarts == [0, 1, 3, 4])
    let (first, last) = (LeanSchedule.firstBit, LeanSchedule.lastBit)
    #expect(
      schedule.segmentWords == [
        SIMD4(0, 0, 2 | first, 0), SIMD4(0, 2, 1 | last, 1), SIMD4(1, 0, 1 | first, 2),
        SIMD4(1, 1, 1 | last, 3),
      ])
    #expect(schedule.mergeWords == [SIMD4(0, 0, 2, 0), SIMD4(1, 2, 2, 0)])
    #expect(schedule.partialCount == 4 && schedule.tileCount == 5 && schedule.totalCost == 5)
    #expect(
      schedule.segment(1)
        == LeanSegment(problem: 0, tiles: 2..<3, isFirst: false, isLast: true, slot: 1))
    #expect(schedule.merge(1) == LeanMerge(problem: 1, slots: 2..<4))
  }

  @Test("Problems that fit into groups leave no partial result")
  func noSplit() throws {
    let schedule = try LeanSchedule(
      sequences: Array(repeating: LeanSequence(endKey: 32), count: 2), keyHeads: 3, tileLength: 16,
      mode: .lean(groups: 3))
    #expect(schedule.partialCount == 0 && schedule.mergeCount == 0)
    #expect((0..<3).map { schedule.segments(ofGroup: $0).count } == [2, 2, 2])
    #expect(schedule.segment(3).slot == nil && schedule.segment(3).problem == 3)
  }

  @Test("A window's tiles begin at multiples of the tile length")
  func window() throws {
    let schedule = try LeanSchedule(
      sequences: [LeanSequence(firstKey: 7, endKey: 17)], keyHeads: 1, tileLength: 4,
      mode: .lean(groups: 1))
    #expect(schedule.segment(0).tiles == 1..<5)
  }

  @Test("Problems without keys are segments without tiles, spread over the groups")
  func emptySequences() throws {
    let sequences = [0, 8, 0, 0, 8].map { LeanSequence(endKey: $0) }
    let schedule = try LeanSchedule(
      sequences: sequences, keyHeads: 2, tileLength: 4, mode: .lean(groups: 4))
    for group in 0..<4 {
      let segments = schedule.segments(ofGroup: group).map(schedule.segment)
      #expect(segments.map(\.tiles.count) == [2] + Array(repeating: 0, count: 1 + group % 2))
    }
    let nothing = try LeanSchedule(
      sequences: [LeanSequence(endKey: 0)], keyHeads: 2, tileLength: 4, mode: .lean(groups: 9))
    #expect(nothing.groupCount == 2 && nothing.segmentCount == 2 && nothing.tileCount == 0)
    let fixed = try LeanSchedule(
      sequences: sequences, keyHeads: 2, tileLength: 4, mode: .fixed(tokensPerSplit: 4))
    #expect(fixed.groupCount == 14 && fixed.segment(0).tiles.isEmpty && fixed.mergeCount == 4)
    let none = try LeanSchedule(sequences: [], keyHeads: 2, tileLength: 4, mode: .lean(groups: 9))
    #expect(none.groupCount == 0 && none.segmentCount == 0)
  }

  @Test("Shares are equal in cost where tiles cost differently")
  func costs() throws {
    // 4 tiles of cost 3 and 12 of cost 1: 24 in three groups of 8.
    let schedule = try LeanSchedule(
      sequences: [LeanSequence(endKey: 4, tileCost: 3), LeanSequence(endKey: 12)], keyHeads: 1,
      tileLength: 1, mode: .lean(groups: 3))
    #expect(schedule.groupCosts() == [9, 7, 8])
    #expect(schedule.segment(0).tiles == 0..<3 && schedule.segment(1).tiles == 3..<4)
  }

  // MARK: Random schedules

  /// A random batch, with a liking for edges.
  private struct Batch {
    var sequences: [LeanSequence]
    var heads: Int
    var tileLength: Int
    var groups: Int
    let hasEqualCosts: Bool

    init(_ random: inout SplitMix64) {
      func below(_ limit: Int) -> Int { Int(random.next() % UInt64(limit)) }
      tileLength = [1, 2, 3, 16, 64, 128][below(6)]
      heads = 1 + below(9)
      let longest = tileLength * (1 + below(40))
      let hasWindows = below(3) == 0
      let isEqual = below(4) != 0
      hasEqualCosts = isEqual
      let tileLength = tileLength
      sequences = (0..<below(12)).map { _ in
        var end = below(longest + 1)
        switch below(5) {
        case 0: end = 0
        case 1: end = end / tileLength * tileLength
        default: break
        }
        return LeanSequence(
          firstKey: Int32(hasWindows ? below(end + 1) : 0), endKey: Int32(end),
          tileCost: isEqual ? 7 : UInt32(1 + below(20)))
      }
      let tiles = heads * sequences.reduce(0) { $0 + $1.tiles(length: Int32(tileLength)).count }
      // Fewer tiles than groups, as many, one more, and anything.
      groups = max(1, [tiles + 1 + below(9), tiles, tiles - 1, 1 + below(300), 1][below(5)])
    }

    func schedule(_ mode: LeanSchedule.Mode? = nil) throws -> LeanSchedule {
      try LeanSchedule(
        sequences: sequences, keyHeads: heads, tileLength: tileLength,
        mode: mode ?? .lean(groups: groups))
    }
  }

  /// What is true of every schedule: each tile once and in order, contributors one after the other, slots
  /// and merges that belong together, every problem written by somebody. Nil, or what is wrong.
  private func flaw(_ schedule: LeanSchedule) -> String? {
    let length = Int32(schedule.tileLength)
    var nextTile: [Int?] = Array(repeating: nil, count: schedule.problemCount)
    var lastGroup: [Int?] = Array(repeating: nil, count: schedule.problemCount)
    var isWritten = Array(repeating: false, count: schedule.problemCount)
    var slots: [[Int]] = Array(repeating: [], count: schedule.problemCount)
    var previous = -1
    guard schedule.groupStarts.first == 0,
      Int(schedule.groupStarts.last ?? 1) == schedule.segmentCount,
      zip(schedule.groupStarts, schedule.groupStarts.dropFirst()).allSatisfy({ $0 <= $1 })
    else { return "group starts \(schedule.groupStarts)" }
    // Groups without tiles, as costs that differ leave them, count for nothing.
    var group = 0
    for segments in (0..<schedule.groupCount).map(schedule.segments) {
      if segments.contains(where: { !schedule.segment($0).tiles.isEmpty }) { group += 1 }
      for index in segments {
        let segment = schedule.segment(index)
        let problem = segment.problem
        guard problem < schedule.problemCount else { return "problem \(problem)" }
        let tiles = schedule.sequences[problem / schedule.keyHeads].tiles(length: length)
        if isWritten[problem] { return "problem \(problem) goes on after its last segment" }
        if segment.tiles.isEmpty {
          guard tiles.isEmpty, segment.isFirst, segment.isLast, segment.slot == nil else {
            return "segment \(index) has no tiles"
          }
          isWritten[problem] = true
          continue
        }
        guard problem >= previous else { return "problem \(problem) after \(previous)" }
        previous = problem
        let expected = nextTile[problem] ?? Int(tiles.lowerBound)
        guard segment.tiles.lowerBound == expected, segment.tiles.upperBound <= tiles.upperBound
        else { return "segment \(index) has tiles \(segment.tiles) where \(expected) comes" }
        guard segment.isFirst == (nextTile[problem] == nil),
          segment.isLast == (segment.tiles.upperBound == Int(tiles.upperBound))
        else { return "segment \(index): first \(segment.isFirst), last \(segment.isLast)" }
        if let last = lastGroup[problem], group != last + 1 {
          return "problem \(problem) in groups \(last) and \(group)"
        }
        guard (segment.slot == nil) == (segment.isFirst && segment.isLast) else {
          return "segment \(index) has slot \(segment.slot ?? -1)"
        }
        if let slot = segment.slot { slots[problem].append(slot) }
        lastGroup[problem] = group
        nextTile[problem] = segment.tiles.upperBound
        isWritten[problem] = segment.isLast
      }
    }
    guard isWritten.allSatisfy({ $0 }) else { return "a problem is not written" }
    guard slots.flatMap({ $0 }) == Array(0..<schedule.partialCount) else { return "slots \(slots)" }
    let merges = (0..<schedule.mergeCount).map(schedule.merge)
    let expected = slots.enumerated().filter { !$0.element.isEmpty }
    guard merges.map(\.problem) == expected.map(\.offset),
      merges.map({ Array($0.slots) }) == expected.map(\.element)
    else { return "merges \(merges)" }
    return nil
  }

  @Test("20 000 random schedules: every tile once, equal shares, no more partials than boundaries")
  func randomSchedules() throws {
    var random = SplitMix64(seed: 1)
    for number in 0..<20_000 {
      let batch = Batch(&random)
      let schedule = try batch.schedule()
      if let flaw = flaw(schedule) {
        Issue.record("batch \(number): \(flaw) in \(batch)")
        return
      }
      let groups = schedule.groupCount
      let costs = schedule.groupCosts()
      let dearest = UInt64(batch.sequences.map(\.tileCost).max() ?? 0)
      let nonempty = Set((0..<schedule.segmentCount).map { schedule.segment($0).problem }).count
      var isSound = costs.reduce(0, +) == schedule.totalCost && nonempty == schedule.problemCount
      isSound = isSound && groups <= batch.groups
      isSound =
        isSound && schedule.segmentCount <= schedule.problemCount + max(groups - 1, 0)
        && schedule.partialCount <= schedule.mergeCount + max(groups - 1, 0)
      if batch.hasEqualCosts, schedule.tileCount > 0 {
        let (least, most) = (costs.min() ?? 0, costs.max() ?? 0)
        isSound = isSound && most - least <= dearest
      }
      for cost in costs {
        // Within one tile of the exact share, without a division.
        let (own, whole) = (cost * UInt64(groups), schedule.totalCost)
        let tolerance = dearest * UInt64(groups)
        isSound = isSound && own < whole + tolerance + 1 && whole < own + tolerance + 1
      }
      let empty = (0..<groups).map { group in
        schedule.segments(ofGroup: group).filter { schedule.segment($0).tiles.isEmpty }.count
      }
      isSound = isSound && (empty.max() ?? 0) - (empty.min() ?? 0) <= 1
      if !isSound {
        Issue.record("batch \(number): \(groups) groups of costs \(costs) for \(batch)")
        return
      }
    }
  }

  @Test("10 000 fixed schedules: sound, and a sequence is cut alike in every batch")
  func randomFixedSchedules() throws {
    var random = SplitMix64(seed: 2)
    for number in 0..<10_000 {
      var batch = Batch(&random)
      let mode = LeanSchedule.Mode.fixed(
        tokensPerSplit: batch.tileLength * Int(1 + random.next() % 6))
      let schedule = try batch.schedule(mode)
      if let flaw = flaw(schedule) {
        Issue.record("batch \(number): \(flaw) in \(batch)")
        return
      }
      #expect(schedule.groupStarts.elementsEqual(0...UInt32(schedule.segmentCount)))
      guard !batch.sequences.isEmpty else { continue }
      // Another sequence in front, and one sequence alone.
      let place = Int(random.next() % UInt64(batch.sequences.count))
      let alone = batch.sequences[place]
      batch.sequences.insert(LeanSequence(endKey: 1000), at: 0)
      let larger = try batch.schedule(mode)
      batch.sequences = [alone]
      let single = try batch.schedule(mode)
      let cuts = cuts(ofSequence: 0, in: single)
      if self.cuts(ofSequence: place, in: schedule) != cuts
        || self.cuts(ofSequence: place + 1, in: larger) != cuts
      {
        Issue.record("batch \(number): sequence \(place) is cut differently alone: \(batch)")
        return
      }
    }
  }

  /// Head, first tile, tiles with the flags, and whether there is a slot.
  private func cuts(ofSequence b: Int, in schedule: LeanSchedule) -> [SIMD4<UInt32>] {
    let heads = UInt32(schedule.keyHeads)
    let problems = UInt32(b) * heads..<UInt32(b + 1) * heads
    return schedule.segmentWords.filter { problems.contains($0.x) }.map {
      SIMD4($0.x - problems.lowerBound, $0.y, $0.z, $0.w == LeanSchedule.noSlot ? 0 : 1)
    }
  }

  @Test("Advancing gives the schedule that would be made anew, and says whether buffers changed")
  func advanceIsRebuilding() throws {
    var random = SplitMix64(seed: 3)
    for number in 0..<500 {
      let batch = Batch(&random)
      let mode: LeanSchedule.Mode? =
        number % 3 == 0 ? .fixed(tokensPerSplit: 2 * batch.tileLength) : nil
      let window: Int? = number % 2 == 0 ? 1 + Int(random.next() % 50) : nil
      let growsEmpty = number % 5 == 0
      var schedule = try batch.schedule(mode)
      for step in 0..<40 {
        let before = schedule
        let isChanged = try schedule.advance(window: window, growsEmpty: growsEmpty)
        let fresh = try LeanSchedule(
          sequences: schedule.sequences, keyHeads: batch.heads, tileLength: batch.tileLength,
          mode: schedule.mode)
        let isSame =
          before.segmentWords == schedule.segmentWords
          && before.groupStarts == schedule.groupStarts && before.mergeWords == schedule.mergeWords
        if schedule != fresh || isSame != !isChanged {
          Issue.record("batch \(number), step \(step), changed \(isChanged): \(batch)")
          return
        }
        for (old, new) in zip(before.sequences, schedule.sequences) {
          let end = old.endKey + (old.isEmpty && !growsEmpty ? 0 : 1)
          #expect(new.endKey == end)
          if let window, end != old.endKey {
            #expect(new.firstKey == max(old.firstKey, end - Int32(window)))
          }
        }
      }
    }
  }

  @Test("A step within the tiles reuses the buffers, one that needs a tile rebuilds them in place")
  func advanceKeepsTheMemory() throws {
    let lengths = [5, 70, 33, 64]
    var schedule = try LeanSchedule(
      sequences: lengths.map { LeanSequence(endKey: Int32($0)) }, keyHeads: 4, tileLength: 16,
      mode: .lean(groups: 12))
    func addresses() -> [UnsafeRawPointer?] {
      [
        schedule.segmentWords.withUnsafeBytes { $0.baseAddress },
        schedule.mergeWords.withUnsafeBytes { $0.baseAddress },
        schedule.groupStarts.withUnsafeBytes { $0.baseAddress },
        schedule.sequences.withUnsafeBytes { $0.baseAddress },
      ]
    }
    let before = addresses()
    var changes = 0
    for step in 0..<500 {
      let isChanged = try schedule.advance()
      #expect(isChanged == lengths.contains { ($0 + step) % 16 == 0 })
      changes += isChanged ? 1 : 0
    }
    #expect(changes == 125)
    #expect(addresses() == before)
  }

  @Test("Other lengths of as many sequences: roll-backs and exchanged sequences")
  func update() throws {
    var schedule = try LeanSchedule(
      sequences: [LeanSequence(endKey: 9), LeanSequence(endKey: 8)], keyHeads: 1, tileLength: 4,
      mode: .lean(groups: 3))
    let before = schedule
    #expect(try !schedule.update([LeanSequence(endKey: 10), LeanSequence(endKey: 7)]))
    #expect(schedule.segmentWords == before.segmentWords && schedule != before)
    #expect(try schedule.update([LeanSequence(endKey: 8), LeanSequence(endKey: 8)]))
    #expect(schedule.tileCount == 4)
    #expect(try schedule.update([LeanSequence(endKey: 8), LeanSequence(endKey: 8, tileCost: 2)]))
    #expect(schedule.totalCost == 6)
    let good = schedule
    #expect(throws: AttentionError.self) { try schedule.update([LeanSequence(endKey: 8)]) }
    #expect(throws: AttentionError.self) {
      try schedule.update([LeanSequence(endKey: 8), LeanSequence(firstKey: 9, endKey: 8)])
    }
    #expect(schedule == good)
  }

  // MARK: Limits

  @Test("Numbers that no schedule takes are refused by name")
  func refusals() {
    func error(
      _ sequences: [LeanSequence] = [LeanSequence(endKey: 8)], heads: Int = 1, tile: Int = 4,
      mode: LeanSchedule.Mode = .lean(groups: 1)
    ) -> String {
      do throws(AttentionError) {
        _ = try LeanSchedule(sequences: sequences, keyHeads: heads, tileLength: tile, mode: mode)
        return "none"
      } catch {
        switch error {
        case .invalidArgument(let name, _, _): return name
        default: return "\(error)"
        }
      }
    }
    #expect(error() == "none")
    #expect(error(heads: 0) == "keyHeads")
    #expect(error(tile: 0) == "tileLength")
    #expect(error(mode: .lean(groups: 0)) == "groups")
    #expect(error(mode: .fixed(tokensPerSplit: 0)) == "tokensPerSplit")
    #expect(error(mode: .fixed(tokensPerSplit: 6)) == "tokensPerSplit")
    #expect(error([LeanSequence(endKey: -1)]) == "sequences[0]")
    #expect(error([LeanSequence(firstKey: 9, endKey: 8)]) == "sequences[0]")
    #expect(error([LeanSequence(endKey: 1 << 30)]) == "sequences[0]")
    #expect(
      error([LeanSequence(endKey: 8), LeanSequence(endKey: 8, tileCost: 0)])
        == "sequences[1].tileCost")
    let long = LeanSequence(endKey: (1 << 30) - 1)
    let tooLarge = "the schedule is larger than can be addressed; split the batch"
    #expect(error([long], tile: 1, mode: .fixed(tokensPerSplit: 1)) == tooLarge)
    #expect(error([long, long], heads: 1 << 26) == tooLarge)
    let dear = LeanSequence(endKey: (1 << 30) - 1, tileCost: .max)
    #expect(error([dear, dear], tile: 1) == tooLarge)
    #expect(error([dear], heads: 1 << 20, tile: 1) == tooLarge)
  }

  @Test("Lengths near the limit")
  func hugeLengths() throws {
    let long = LeanSequence(endKey: (1 << 30) - 1)
    var schedule = try LeanSchedule(
      sequences: Array(repeating: long, count: 64), keyHeads: 64, tileLength: 1,
      mode: .lean(groups: 1000))
    #expect(flaw(schedule) == nil)
    #expect(schedule.tileCount == 64 * 64 * ((1 << 30) - 1))
    let before = schedule
    #expect(throws: AttentionError.self) { try schedule.advance() }
    #expect(schedule == before)
  }

  // MARK: Efficiency

  @Test("Eight ragged sequences: the equal shares and the heuristics of others")
  func raggedEfficiency() throws {
    let schedule = try LeanSchedule(
      sequences: [1000, 1000, 2000, 2000, 4000, 4000, 32_000, 64_000].map {
        LeanSequence(endKey: $0)
      }, keyHeads: 8, tileLength: 128, mode: .lean(groups: 216))
    let figures = schedule.efficiencies()
    #expect(figures.map(\.strategy) == ScheduleEfficiency.Strategy.allCases)
    #expect(figures.map(\.ideal) == Array(repeating: 32, count: 5))
    // Tiles: 8 + 8 + 16 + 16 + 32 + 32 + 250 + 500 for each head, 6896 in all.
    #expect(figures.map(\.makespan) == [32, 500, 167, 36, 167])
    #expect(figures.map(\.items) == [216, 64, 192, 216, 88])
    #expect(figures[0].efficiency == 1)
    #expect(figures[0].partials == schedule.partialCount)
  }

  @Test("The rules of other libraries, worked by hand")
  func peerRules() {
    // FlashAttention: no split at 80 % of the workers.
    #expect(LeanSchedule.commonSplits(problems: 80, workers: 100, tiles: 50) == 1)
    // 33 of 100: one wave is 0.33, 3 splits 0.99.
    #expect(LeanSchedule.commonSplits(problems: 33, workers: 100, tiles: 50) == 3)
    // 10 of 100: 9 splits 0.9 are within 85 % of 10 splits with 1.0. With 50 tiles 9 splits have 6 tiles
    // as 10 have 5; both are candidates.
    #expect(LeanSchedule.commonSplits(problems: 10, workers: 100, tiles: 50) == 9)
    // 4 tiles: 1, 2 and 4 splits; 4 are best.
    #expect(LeanSchedule.commonSplits(problems: 10, workers: 100, tiles: 4) == 4)
    // Of 5 tiles, 4 splits are as long as 3 and no candidate: 5 are 0.5, 3 are 0.3.
    #expect(LeanSchedule.commonSplits(problems: 10, workers: 100, tiles: 5) == 5)
    #expect(LeanSchedule.commonSplits(problems: 1, workers: 100, tiles: 0) == 1)

    // FlashInfer: 10 tiles and 5 tiles for 2 heads on 10 workers: chunks of 3 are (4 + 2) · 2 = 12 items,
    // of 4 (3 + 2) · 2 = 10.
    #expect(LeanSchedule.commonChunk([10, 5], heads: 2, workers: 10, least: 1) == 4)
    #expect(LeanSchedule.commonChunk([10, 5], heads: 2, workers: 10, least: 6) == 6)
    #expect(LeanSchedule.commonChunk([10, 5], heads: 2, workers: 4, least: 1) == 10)
    #expect(LeanSchedule.commonChunk([], heads: 2, workers: 4, least: 1) == 1)
  }

  @Test("Workers take items in order, each when it is free")
  func handedOut() throws {
    // Items of 4, 1, 1, 4 tiles over two workers: 4 | 1 + 1 + 4.
    let schedule = try LeanSchedule(
      sequences: [4, 1, 1, 4].map { LeanSequence(endKey: $0) }, keyHeads: 1, tileLength: 1,
      mode: .lean(groups: 2))
    let whole = schedule.efficiencies().first { $0.strategy == .oneSplit }
    #expect(whole?.makespan == 6 && whole?.ideal == 5)
    // 80 % of the workers have problems.
    #expect(schedule.efficiencies()[2].splits == 1)
    let nothing = try LeanSchedule(
      sequences: [], keyHeads: 1, tileLength: 1, mode: .lean(groups: 2))
    #expect(nothing.efficiencies().allSatisfy { $0.efficiency == 1 && $0.items == 0 })
    #expect(schedule.efficiencies(workers: .max) == schedule.efficiencies(workers: 1 << 16))
  }
}
