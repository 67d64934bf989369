import Foundation
import TestSupport
import Testing
import VulkanAttention

@testable import KernelBenchmarks
@testable import vkattn

/// Programs in the place of Python: with and without CUDA and libraries, refusing, failing, hanging.
@Suite(.timeLimit(.minutes(10))) struct PythonPeerTests {
  private let folder: TemporaryFolder
  private let attention = PeerProblem.attention(
    AttentionWorkload(
      AttentionShape(queryTokens: 512, queryHeads: 8, headSize: 64), .f16, isCausal: true))
  private let linear = PeerProblem.linear(
    LinearAttentionWorkload(.kda, batch: 2, tokens: 256, heads: 4, headSize: 64, .bf16))

  init() throws {
    folder = try TemporaryFolder()
  }

  /// A shell script that is called as Python is.
  private func interpreter(_ body: String, seconds: Int = 30) throws -> PythonInterpreter {
    let path = "\(folder.path)/python"
    try Data("#!/bin/sh\n\(body)\n".utf8).write(to: URL(filePath: path))
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
    return PythonInterpreter(program: path, secondsAtMost: seconds)
  }

  /// A Python that can import some modules, and whose torch may see CUDA.
  private func interpreter(modules: [String], seesCUDA: Bool) throws -> PythonInterpreter {
    let imports = modules.map { "'import \($0)') exit 0 ;;" }.joined(separator: "\n")
    return try interpreter(
      "case \"$2\" in\n*cuda.is_available*) exit \(seesCUDA ? 0 : 1) ;;\n\(imports)\n*) exit 1 ;;\nesac"
    )
  }

  private func peer(
    _ body: String, _ library: PythonLibrary = .pyTorch, _ device: PythonPeer.Device = .cuda,
    seconds: Int = 30
  ) throws -> PythonPeer {
    PythonPeer(
      library: library, interpreter: try interpreter(body, seconds: seconds), device: device)
  }

  /// A body that writes a report of one result to the file that the last argument names.
  private func reporting(_ id: String) -> String {
    """
    echo "$*" >\(folder.path)/arguments
    for file; do :; done
    echo '{"device": "a card", "driver": "a library 1.0", "commit": "abc",
      "results": [{"id": "\(id)", "gflops": 125.5}]}' >"$file"
    """
  }

  private func error(
    _ body: String, of problem: PeerProblem? = nil, seconds: Int = 30
  ) throws -> PythonPeerError? {
    let peer = try peer(body, seconds: seconds)
    do {
      _ = try peer.time(problem ?? attention)
      return nil
    } catch let error as PythonPeerError {
      return error
    }
  }

  @Test func besideACPUOnlyPyTorchRuns() throws {
    let python = try interpreter(modules: ["fla", "flashinfer"], seesCUDA: true)
    let device = try SampleDevice.software.capabilities()
    let found = python.peers(for: device, problems: [attention, linear])
    #expect(found.peers.map(\.name) == ["PyTorch"])
    #expect(found.peers.map(\.device) == [.cpu])
    #expect(
      found.skips == [
        "flash-linear-attention: it needs CUDA, and Sample software is a CPU",
        "FlashInfer: it needs CUDA, and Sample software is a CPU",
      ])
  }

  @Test func withoutCUDAPyTorchRunsOnTheCPU() throws {
    let python = try interpreter(modules: ["fla", "flashinfer"], seesCUDA: false)
    let device = try SampleDevice.nvidia.capabilities()
    // What has no kernels for the problems is not missed.
    let found = python.peers(for: device, problems: [linear])
    #expect(found.peers.map(\.name) == ["PyTorch"])
    #expect(found.peers.map(\.device) == [.cpu])
    #expect(
      found.skips == [
        "flash-linear-attention: it needs CUDA, which torch of \(python.program) does not see"
      ])
  }

  @Test func withCUDAWhatIsInstalledRuns() throws {
    let device = try SampleDevice.nvidia.capabilities()
    let all = try interpreter(modules: ["fla", "flashinfer"], seesCUDA: true)
      .peers(for: device, problems: [attention, linear])
    #expect(all.peers.map(\.name) == ["PyTorch CUDA", "flash-linear-attention", "FlashInfer"])
    #expect(all.peers.map(\.device) == [.cuda, .cuda, .cuda])
    #expect(all.skips.isEmpty)

    let python = try interpreter(modules: ["fla"], seesCUDA: true)
    let some = python.peers(for: device, problems: [attention, linear])
    #expect(some.peers.map(\.name) == ["PyTorch CUDA", "flash-linear-attention"])
    #expect(
      some.skips == [
        "FlashInfer: \(python.program) cannot import flashinfer; install flashinfer-python to "
          + "compare with it"
      ])
  }

  @Test func eachLibraryRunsItsScript() throws {
    let cases: [(PythonLibrary, PeerProblem, PythonPeer.Device, String)] = [
      (
        .pyTorch, attention, .cpu,
        "pytorch_sdpa.py --shape B1,S512,T512,H8,G8,D64,E64 --type f16 --causal --device cpu --json"
      ),
      (
        .flashInfer, attention, .cuda,
        "flashinfer_attention.py --shape B1,S512,T512,H8,G8,D64,E64 --type f16 --causal --device cuda"
      ),
      (.pyTorch, linear, .cuda, "pytorch_linear.py --model kda --shape B2,T256,H4,D64 --type bf16"),
      (
        .flashLinearAttention, linear, .cuda,
        "fla_linear.py --model kda --shape B2,T256,H4,D64 --type bf16"
      ),
    ]
    for (library, problem, device, arguments) in cases {
      let run = try peer(reporting(problem.id), library, device).time(problem)
      #expect(run.gigaflops == 125.5)
      #expect(run.platform == "a card, a library 1.0")
      let written = try String(contentsOfFile: "\(folder.path)/arguments", encoding: .utf8)
      #expect(written.hasPrefix("Benchmarks/peers/" + arguments))
      let script = try #require(library.script(for: problem))
      #expect(FileManager.default.fileExists(atPath: "Benchmarks/peers/\(script)"))
    }
  }

  @Test func whatALibraryHasNotIsSkipped() throws {
    let refused = try error("echo 'warning' >&2; echo 'it has no attention in f32' >&2; exit 3")
    #expect(refused == .notSupported(reason: "it has no attention in f32"))
    #expect(refused?.consequence == .skip)
    #expect(try peer("exit 1", .flashInfer).covers(linear) == false)
    #expect(try peer("exit 1", .flashLinearAttention).covers(attention) == false)
    #expect(try peer("exit 1").covers(attention))
  }

  @Test func aFailureIsTold() throws {
    #expect(
      try error("echo 'out of memory' >&2; exit 1")
        == .failed(status: 1, output: "out of memory\n"))
    #expect(try error("kill -9 $$") == .failed(status: 9, output: ""))
    #expect(try error("exec sleep 50", seconds: 1) == .timedOut(seconds: 1))
    for body in [reporting("attention/f16/another"), "exit 0", "for file; do :; done; echo >$file"]
    {
      let failure = try error(body)
      #expect(failure == .wrongReport(wanted: attention.id))
      #expect(failure?.consequence == .fail)
    }
  }

  @Test func aPeerOfAnotherFamilyIsNotAsked() async throws {
    let timing = try #require(Timing(gpu: [0.01, 0.02, 0.03], wall: [0.011, 0.021, 0.031]))
    let ours = BenchmarkResult(
      id: attention.id, family: "attention", shape: "", type: "f16", isCausal: true, path: "row",
      tile: "", timing: timing, operations: 2.51e9, bytes: 1, maxError: 0, relativeError: 0,
      verifiedRows: 1)
    var report = BenchmarkReport(device: "a device", driver: "a driver 1.0", commit: "abc")
    var group = PeerGroup([
      try peer(reporting(attention.id), .flashInfer), try peer("exit 1", .flashLinearAttention),
    ])
    // Both are one program, which fails; only the library of the family is asked.
    try await group.compare(ours, of: attention, in: &report) { ours }
    #expect(report.failures.count == 1)
    #expect(report.failures.first?.contains("FlashInfer: it ended with status 1") == true)
    #expect(report.peers.isEmpty)

    group = PeerGroup([try peer(reporting(attention.id), .flashInfer)])
    try await group.compare(ours, of: attention, in: &report) { ours }
    #expect(report.peers.map(\.peer) == ["FlashInfer"])
    #expect(report.peers.first?.theirs == 125.5)
  }
}
