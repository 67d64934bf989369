import CaseFiles
import Foundation
import TestSupport
import Testing
import VulkanAttention

@testable import vkattn

/// Command lines run in this process: their exit status and what they say.
@Suite(.serialized, .timeLimit(.minutes(10))) struct CommandLineTests {
  private struct Outcome {
    let status: Int32
    let output: String
    let errors: String
  }

  private func run(_ arguments: String...) async -> Outcome {
    let console = Console(isRecording: true)
    let status = await Console.$current.withValue(console) { await VKAttn.run(arguments) }
    return Outcome(status: status, output: console.output, errors: console.errors)
  }

  private static let hasDevice = (try? VulkanInstance().devices().isEmpty == false) ?? false

  // MARK: Help and usage

  @Test func helpTeaches() async {
    let help = await run("--help")
    #expect(help.status == 0 && help.output.contains("vkattn check --quick"))
    #expect(help.output.contains("Exit status"))
    for command in [
      "devices", "plan", "check", "replay", "bench", "compare", "ceilings", "tune", "plot",
      "history", "profile", "pipelines", "soak",
    ] {
      let help = await run(command, "--help")
      #expect(help.status == 0 && help.output.contains("USAGE: vkattn \(command)"), "\(command)")
    }
    let version = await run("--version")
    #expect(version.status == 0 && version.output.first?.isNumber == true)
  }

  @Test("A profile has the phases, the dispatches and their pipelines", .enabled(if: hasDevice))
  func profile() async throws {
    let id = "linear/lightning/f32/B4-T1-H8-D128"
    let profile = await run("profile", "--filter", id, "--samples", "2", "--json")
    #expect(profile.status == 0, "\(profile.errors)")
    let all = try JSONSerialization.jsonObject(with: Data(profile.output.utf8))
    let first = try #require((all as? [[String: Any]])?.first)
    #expect(first["id"] as? String == id)
    func names(_ member: String) -> [String] {
      (first[member] as? [[String: Any]] ?? []).compactMap { $0["name"] as? String }
    }
    #expect(
      names("host") == [
        "plan", "pipelines, once", "first run, once", "record", "submit", "wait",
      ])
    #expect(names("dispatches") == names("pipelines") && !names("pipelines").isEmpty)
    #expect(names("pipelines").allSatisfy { $0.hasPrefix("linear_") })
  }

  @Test("History replaces what stands between its lines, and tells a page that is another one")
  func history() async throws {
    let folder = FileManager.default.temporaryDirectory.appending(
      path: "history-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    func path(_ name: String) -> String { folder.appending(path: name).path }
    try Data(
      #"""
      {"device": "d", "driver": "e", "commit": "c", "results": [], "peers": [{"id": "attention/f32/B1-S8",
       "path": "row", "gflops_ours": 3, "gflops_theirs": 2, "ratio": 1.5, "theirs": "p"}]}
      """#.utf8
    ).write(to: folder.appending(path: "2026-11-22-a.json"))
    let text = "# Title\n<!-- figures -->\nold\n<!-- end of figures -->\nThe end.\n"
    try Data(text.utf8).write(to: folder.appending(path: "text.md"))
    let arguments = [
      "history", "--results", folder.path, "--out", path("page.md"), "--summary", path("text.md"),
    ]
    func run(_ more: String...) async -> Outcome {
      let console = Console(isRecording: true)
      let status = await Console.$current.withValue(console) { await VKAttn.run(arguments + more) }
      return Outcome(status: status, output: console.output, errors: console.errors)
    }
    #expect(await run("--check").status != 0)
    #expect(await run().status == 0)
    let written = try String(contentsOf: folder.appending(path: "text.md"), encoding: .utf8)
    #expect(written.hasPrefix("# Title\n<!-- figures -->\n\n**d, e**, 2026-11-22"))
    #expect(written.contains("| attention f32 | row | PyTorch | 1 | 1.50× | 1.50× | 1.50× |"))
    #expect(
      written.hasSuffix("\n\n<!-- end of figures -->\nThe end.\n") && !written.contains("old"))
    #expect(await run("--check").status == 0)
    try Data("no lines".utf8).write(to: folder.appending(path: "text.md"))
    let refused = await run()
    #expect(refused.status == 2 && refused.errors.contains("<!-- figures -->"))
  }

  @Test("A driver that tells nothing of its pipelines is no device for that")
  func pipelinesWithoutStatistics() async throws {
    let device = try #require(try? DeviceSelection("best").choose(from: VulkanInstance().devices()))
    let pipelines = await run("pipelines", "--filter", "linear/lightning/f32/B4-T1-H8-D128")
    if device.has(.pipelineStatistics) {
      #expect(pipelines.status == 0 && pipelines.output.contains("pipeline: linear_"))
    } else {
      #expect(pipelines.status == 3)
      #expect(pipelines.errors.contains("VK_KHR_pipeline_executable_properties"))
    }
  }

  @Test(arguments: [
    ["nonsense"], ["profile", "--samples", "0"], ["pipelines", "--filter", "no workload has this"],
    ["check", "--nonsense"], ["check", "--quick", "--full"], ["check", "nothing"],
    ["check", "merge", "--path", "row"], ["check", "statistics", "--all-paths"],
    ["check", "companions", "--path", "row"],
    ["check", "--path", "rows"], ["check", "--path", "row", "--all-paths"], ["replay", "/"],
    ["bench", "--samples", "0"], ["plan", "--shape", "S1,H1,D8", "--explain"],
    ["bench", "--peer-timeout", "0"], ["bench", "--shape", "S1"],
    ["bench", "--type", "f64"],
    ["bench", "--quick", "--shape", "S1,H1,D8"], ["bench", "--shape", "S1,H3,G2,D8"],
    ["bench", "--shape", "S0,H1,D8"], ["bench", "--shape", "S1,H1,D0"],
    ["bench", "--shape", "B99999999,S99999999,H99999999,D256"],
    ["bench", "--shape", "S1,H1,D8", "--json", "/no/such/folder/file.json"],
    ["bench", "decode", "--shape", "B1000000000000,S1,H8,D64"],
    ["plan", "--shape", "S1073741823,H8,D64"],
    ["plan"], ["plan", "--shape", "S1,H1,D577"], ["check", "--only", "no case has this"],
    ["devices", "--log-level", "loud"], ["bench", "--filter", "no workload has this"],
    ["bench", "--filter", "a[b"], ["bench", "--quick", "--full"], ["bench", "--fail-if-slower"],
    ["bench", "--shape", "S1,H1,D8", "--filter", "*"], ["bench", "host", "--list"],
    ["bench", "custom", "--peers"], ["bench", "custom", "--filter", "no workload has this"],
    ["bench", "all", "--shape", "S1,H1,D8"], ["bench", "--compare", "/no/such/file.json"],
    ["bench", "--shape", "S1,H1,D8", "--csv", "/no/such/folder/file.csv"],
    ["compare", "/no/such/a.json", "/no/such/b.json"], ["compare", "/no/such/a.json"],
    ["tune", "--budget", "0"], ["tune", "--list", "--reset"], ["tune", "linear", "--list"],
    ["tune", "--shape", "S1,H1,D8"], ["tune", "--import", "/no/such/file.json"],
    ["soak", "--steps", "0"], ["soak", "--devices", "-1"],
    ["profile", "--samples", "0"], ["profile", "--filter", "no workload has this"],
    ["plot", "--out", "/tmp/x"], ["plot", "a.json"], ["history", "--results", "/no/such/folder"],
  ])
  func wrongCommandLines(_ arguments: [String]) async {
    let console = Console(isRecording: true)
    let status = await Console.$current.withValue(console) { await VKAttn.run(arguments) }
    #expect(status == 2, "\(arguments)")
    #expect(console.errors.hasPrefix("vkattn: "), "\(arguments)")
    #expect(console.errors.split(separator: "\n").count == 1, "\(console.errors)")
  }

  // MARK: Case files

  private func temporaryFile(_ name: String, _ bytes: [UInt8]) throws -> String {
    let folder = FileManager.default.temporaryDirectory.appending(
      path: "vkattn-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let file = folder.appending(path: name)
    try Data(bytes).write(to: file)
    return file.path
  }

  /// Two queries over one key: o is the value, whatever the score.
  private func oneKeyCase(o: Double, element: CaseFiles.ElementType = .f32) throws -> [UInt8] {
    func tensor(_ name: String, _ tokens: Int, _ value: Double) -> CaseTensor {
      CaseTensor(
        name: name, element: element, shape: [1, tokens, 1, 8],
        values: Array(repeating: value, count: tokens * 8))
    }
    return SafetensorsFile(
      name: "case",
      tensors: [
        tensor("q", 2, 0.5), tensor("k", 1, 0.25), tensor("v", 1, 3), tensor("expected.o", 2, o),
      ],
      metadata: ["vkattn": #"{"version": 1, "op": "attention", "params": {}}"#]
    ).serialized()
  }

  @Test func malformedFilesAreNamed() async throws {
    let file = try temporaryFile("broken.safetensors", [1, 2, 3])
    let outcome = await run("replay", file)
    #expect(outcome.status == 2)
    #expect(outcome.errors.contains("broken.safetensors") && outcome.errors.contains("header"))
    let missing = await run("replay", "/no/such/file.safetensors")
    #expect(missing.status == 2 && missing.errors.contains("/no/such/file.safetensors"))
  }

  @Test func otherOperationsAreUnsupported() async throws {
    let bytes = SafetensorsFile(
      name: "case",
      tensors: [CaseTensor(name: "x", element: .f32, shape: [1], values: [0])],
      metadata: ["vkattn": #"{"version": 1, "op": "selective_scan"}"#]
    ).serialized()
    let outcome = await run("replay", try temporaryFile("ssd.safetensors", bytes))
    #expect(outcome.status == 1)
    #expect(outcome.output.contains("unsupported") && outcome.output.contains("selective_scan"))
  }

  @Test(.enabled(if: hasDevice, "there is no Vulkan device"))
  func replayTellsRightFromWrong() async throws {
    let right = try temporaryFile("right.safetensors", oneKeyCase(o: 3))
    let wrong = try temporaryFile("wrong.safetensors", oneKeyCase(o: 3.1))
    let passed = await run("replay", right)
    #expect(passed.status == 0 && passed.output.contains("1 passed, 0 failed"))
    let failed = await run("replay", right, wrong)
    #expect(failed.status == 1 && failed.output.contains("1 passed, 1 failed"))
    #expect(failed.output.contains("FAILED: wrong on "))
    let both = await run("replay", wrong, try temporaryFile("broken.safetensors", []))
    #expect(both.status == 2 && both.output.contains("1 malformed"))
    let json = await run("replay", "--json", right)
    let parsed = try JSONSerialization.jsonObject(with: Data(json.output.utf8))
    #expect((parsed as? [String: Any])?["results"] is [Any])
  }

  @Test(.enabled(if: hasDevice, "there is no Vulkan device"))
  func sixteenBitCasesAreReplayed() async throws {
    for type in [CaseFiles.ElementType.f16, .bf16] {
      let file = try temporaryFile("\(type).safetensors", oneKeyCase(o: 3, element: type))
      let outcome = await run("replay", file)
      #expect(outcome.status == 0 && outcome.output.contains("1 passed"), "\(outcome.output)")
    }
  }

  // MARK: Devices

  @Test(.enabled(if: hasDevice, "there is no Vulkan device"))
  func anUnknownDeviceIsNamed() async {
    let outcome = await run("check", "--quick", "--device", "no such device")
    #expect(outcome.status == 3 && outcome.errors.contains("no such device"))
  }

  @Test(.enabled(if: hasDevice, "there is no Vulkan device"))
  func devicesAndPlansAreJSON() async throws {
    for arguments in [["devices", "--json"], ["plan", "--shape", "S64,H2,D64", "--json"]] {
      let console = Console(isRecording: true)
      let status = await Console.$current.withValue(console) { await VKAttn.run(arguments) }
      #expect(status == 0)
      #expect(throws: Never.self) {
        try JSONSerialization.jsonObject(with: Data(console.output.utf8))
      }
    }
  }

  @Test(.enabled(if: hasDevice, "there is no Vulkan device"))
  func checkAndBenchRun() async throws {
    let check = await run("check", "--quick", "--only", "f32/B1-S1-T1-H2-G2-D64-E64")
    #expect(check.status == 0 && check.output.contains("2 of 2 cases passed"), "\(check.output)")
    let statistics = await run(
      "check", "statistics", "--quick", "--only", "f32/B1-S1-T1-H2-G2-D64-E64")
    #expect(
      statistics.status == 0 && statistics.output.contains("2 of 2 cases passed"),
      "\(statistics.output)")
    let merge = await run("check", "merge", "--quick", "--only", "f32/N5-R7-H2-E59-neutral")
    #expect(
      merge.status == 0 && merge.output.contains("1 of 1 cases passed"), "\(merge.output)")
    let companions = await run("check", "companions", "--quick", "--only", "rms/f32/N3-D96")
    #expect(
      companions.status == 0 && companions.output.contains("1 of 1 cases passed"),
      "\(companions.output)")
    let file = try temporaryFile("bench.json", [])
    let bench = await run(
      "bench", "--shape", "S16,H2,D64", "--samples", "2", "--json", file)
    #expect(bench.status == 0, "\(bench.output)\(bench.errors)")
    let json = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(filePath: file)))
    let results = (json as? [String: Any])?["results"] as? [[String: Any]]
    #expect(results?.first?["id"] as? String == "attention/f32/B1-S16-T16-H2-G2-D64-E64")
    #expect(results?.first?["samples"] as? Int == 2)
  }

  @Test(.needsDevice)
  func profilesNameEveryDispatch() async throws {
    let profile = await run(
      "profile", "--filter", "whisper-large-v3/cross-token/*", "--samples", "3", "--json",
      "--no-tuning")
    #expect(profile.status == 0, "\(profile.errors)")
    let json = try JSONSerialization.jsonObject(with: Data(profile.output.utf8))
    let first = try #require((json as? [[String: Any]])?.first)
    let host = try #require(first["host"] as? [[String: Any]]).compactMap { $0["name"] as? String }
    #expect(
      host == ["plan", "pipelines, once", "first run, once", "record", "submit", "wait"])
    let dispatches = try #require(first["dispatches"] as? [[String: Any]])
    // One query token: nothing is packed, so that the attention is the only dispatch.
    let path = try #require(first["path"] as? String)
    #expect(dispatches.compactMap { $0["name"] as? String } == ["attention_\(path)"])
    #expect(dispatches.allSatisfy { ($0["seconds_median"] as? Double ?? -1) > 0 })
  }

  @Test(.needsDevice)
  func theRestRunsWithoutAPeer() async throws {
    let bench = await run(
      "bench", "--shape", "S16,H2,D64", "--shape", "S8,H2,D64", "--samples", "2", "--ggml",
      "/no/such/program")
    #expect(bench.status == 1)
    #expect(bench.output.contains("B1-S16-T16") && bench.output.contains("B1-S8-T8"))
    #expect(bench.output.split(separator: "\n").filter { $0.hasPrefix("FAILED: ") }.count == 1)
    #expect(bench.output.contains("/no/such/program cannot be run: there is no such file"))
  }

  @Test("Ctrl-C ends a check with the summary of what is done", .needsDevice)
  func interruptedCheck() async throws {
    let (check, output) = commandProcess(["check", "--full", "--path", "row", "--only", "/f32/"])
    try check.run()
    var text = ""
    var isInterrupted = false
    while let bytes = try output.fileHandleForReading.read(upToCount: 4096), !bytes.isEmpty {
      text += String(decoding: bytes, as: UTF8.self)
      if !isInterrupted, text.contains("\n[") {
        check.interrupt()
        isInterrupted = true
      }
    }
    check.waitUntilExit()
    #expect(check.terminationReason == .exit && check.terminationStatus == 130)
    let lines = text.split(separator: "\n")
    #expect(lines.first?.hasPrefix("attention on ") == true, "\(text)")
    let summary = try #require(lines.last)
    #expect(summary.contains("cases passed") && summary.contains(" not run, "), "\(summary)")
    #expect(lines.contains { $0.hasPrefix("row   f32   lengths") }, "\(text)")
  }
}
