import Foundation
import Synchronization
import TestSupport
import Testing
import VulkanAttention

@testable import KernelBenchmarks

/// How the cases of a check are divided, run and summed up.
@Suite struct CheckRunnerTests {
  private func outcome(
    _ id: String, path: String = "row", _ verdict: CheckOutcome.Verdict = .passed
  ) -> CheckOutcome {
    CheckOutcome(
      id: id, group: "group", elementType: .f32, path: path, verdict: verdict,
      errors: [CheckError("o", 3e-7, gate: 1e-5)])
  }

  private func result(_ run: Int, _ place: Int, _ outcome: CheckOutcome) -> CheckRunner.Result {
    CheckRunner.Result(outcome: outcome, run: run, place: place, seconds: 0.25)
  }

  @Test("Runs that share pipelines go to one device, in their order")
  func batches() {
    let runs = ["a", "b", "a", "c", "b", "a"].map { pipelines in
      CheckRun(id: "run", pipelines: pipelines) { _ in outcome("run") }
    }
    #expect(CheckRunner.batches(runs) == [[0, 2, 5], [1, 4], [3]])
    #expect(CheckRunner.batchCount(runs) == 3)
    #expect(CheckRunner.batches([]).isEmpty)
  }

  @Test("The report has path after path, and each case's line its number")
  func results() {
    let runs = ["first", "second"].map { id in
      CheckRun(id: id, pipelines: id, outcomeCount: 2) { _, _ in }
    }
    let skip = outcome("first", path: "matrix", .skipped("it is f32"))
    var results = CheckResults(runs, skipped: [skip])
    #expect(results.total == 4 && results.done == 0)
    let arrivals = [
      result(1, 0, outcome("second")), result(0, 1, outcome("first", path: "subgroup")),
      result(1, 1, outcome("second", path: "subgroup", .failed(["o is wrong"]))),
    ]
    var lines: [[String]] = []
    for arrival in arrivals {
      results.add(arrival)
      lines.append(results.lines(of: arrival))
    }
    #expect(lines[0] == ["[1/4]  row  second  o 3.0e-07  ok  250 ms"])
    #expect(
      lines[2] == ["[3/4]  subgroup  second  o 3.0e-07  FAILED  250 ms", "  o is wrong"])
    #expect(results.done == 3)
    let report = results.report
    #expect(report.rows.map(\.path) == ["row", "subgroup"])
    #expect(report.rows.map(\.caseCount) == [1, 2])
    #expect(report.failures.map(\.id) == ["second"] && report.skips.map(\.caseCount) == [1])
  }

  @Test("A device for each processor where the processors do the work")
  func deviceCount() throws {
    let software = try SampleDevice.software.capabilities()
    #expect(
      [0, 1, 2, 64].map { CheckRunner.deviceCount(software, processors: $0) } == [1, 1, 2, 8])
    let nvidia = try SampleDevice.nvidia.capabilities()
    #expect(CheckRunner.deviceCount(nvidia, processors: 64) == 2)
  }

  @Test(
    "Two devices run every case once", .needsDevice)
  func everyCaseOnce() async throws {
    let devices = [try TestDevice.shared(), try TestDevice.shared()]
    let seen = Mutex<[String: Int]>([:])
    let runs = (0..<20).map { index in
      CheckRun(id: "\(index)", pipelines: "\(index % 7)") { _ in outcome("\(index)") }
    }
    await CheckRunner.run(runs, on: devices) { result in
      seen.withLock { $0[result.outcome.id, default: 0] += 1 }
    }
    #expect(seen.withLock { $0 } == [String: Int](uniqueKeysWithValues: runs.map { ($0.id, 1) }))
  }
}

/// What the grid of attentions has on each path.
@Suite struct AttentionCheckRunsTests {
  private let device: DeviceCapabilities
  private let choices: [AttentionPathChoice]

  init() throws {
    device = try SampleDevice.software.capabilities()
    choices = AttentionPathChoice.all(on: device)
  }

  @Test("Every option is on every path, in full also with other shapes", arguments: [false, true])
  func options(isFull: Bool) throws {
    #expect(choices.count == 6)
    let cases = AttentionCheckGrid.cases(isFull ? .full : .standard)
    for option in AttentionCheckOption.allCases {
      let own = cases.filter { $0.option == option }
      #expect(Set(own.map(\.elementType)) == (isFull ? Set(ElementType.allCases) : [.f32, .f16]))
      let (runs, _) = AttentionCheck.runs(own, choices, on: device)
      let counts = choices.indices.map { place in
        own.count { checkCase in
          let (runs, _) = AttentionCheck.runs([checkCase], [choices[place]], on: device)
          return !runs.isEmpty
        }
      }
      #expect(counts.prefix(2).allSatisfy { $0 >= (isFull ? 5 : 2) }, "\(option)")
      #expect(counts.suffix(4).allSatisfy { $0 >= 1 }, "\(option)")
      #expect(runs.count == own.count, "\(option)")
    }
  }

  @Test("A further tile of a path leaves variations out; alone it runs them")
  func furtherTiles() {
    let shape = AttentionShape(queryTokens: 16, keyTokens: 16, queryHeads: 1, headSize: 64)
    let cases = [false, true].map {
      AttentionCheckCase("test", shape, .f16, isVariation: $0)
    }
    func counts(_ choices: [AttentionPathChoice]) -> [Int] {
      AttentionCheck.runs(cases, choices, on: device).runs.map(\.outcomeCount)
    }
    let (matrix, fragments) = (
      AttentionPathChoice(.matrix), AttentionPathChoice(fragmentM: 16, n: 16, k: 16)
    )
    #expect(counts([matrix, fragments]) == [2, 1])
    #expect(counts([fragments]) == [1, 1])
  }

  @Test("Tiny problems share workgroups on the path subgroup, unless another tile is forced")
  func tinyProblems() throws {
    let cases = AttentionCheckGrid.cases(.standard).filter { $0.problemsPerWorkgroup != nil }
    #expect(cases.count == 20 && Set(cases.map(\.elementType)) == Set(ElementType.allCases))
    for checkCase in cases {
      #expect(checkCase.choice(AttentionPathChoice(.row)) == AttentionPathChoice(.row))
      let single = AttentionPathChoice(problemsPerWorkgroup: 1)
      #expect(checkCase.choice(single) == single)
      let plan = try checkCase.choice(AttentionPathChoice(.subgroup)).plan(
        checkCase.request(), device: device)
      #expect(plan.tile.problemsPerWorkgroup == checkCase.problemsPerWorkgroup)
      #expect(plan.tileCount == 1, "\(checkCase.id)")
    }
    #expect(AttentionPathChoice("subgroup:5")?.description == "subgroup:5")
    for text in ["subgroup:0", "subgroup:257", "subgroup:", "subgroup:2x2", "row:2"] {
      #expect(AttentionPathChoice(text) == nil, "\(text)")
    }
  }

  @Test("What a path cannot run is told and not run")
  func skips() {
    let shape = AttentionShape(queryTokens: 16, keyTokens: 16, queryHeads: 1, headSize: 64)
    let (runs, skipped) = AttentionCheck.runs(
      [AttentionCheckCase("test", shape, .f32)], choices, on: device)
    #expect(runs.map(\.outcomeCount) == [2])
    #expect(
      skipped.map(\.path) == ["matrix", "matrix2", "matrix:16x16x16", "matrix2:16x8x16"])
  }
}
