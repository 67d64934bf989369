import Foundation
import TestSupport
import Testing
import VulkanAttention

@testable import KernelBenchmarks
@testable import vkattn

/// Programs in the place of ggml's: absent, wrong, crashing, hanging.
@Suite(.timeLimit(.minutes(10))) struct GGMLPeerTests {
  private let folder: TemporaryFolder
  private let device: DeviceCapabilities
  private let wanted = GGMLCase(
    AttentionShape(queryTokens: 512, queryHeads: 8, headSize: 64), .f16)
  private static let result = """
    echo 'Testing 1 devices'
    echo 'Backend 1/1: Vulkan0'
    echo '  Device description: discrete (256 bits)'
    echo "  FLASH_ATTN_EXT(hsk=64,hsv=64,nh=8,nr23=[1,1],kv=512,nb=512,mask=0,sinks=0,\\
    max_bias=0.000000,logit_softcap=0.000000,prec=f32,type_K=f16,type_V=f16,kv_view=1): \\
    187 runs - 2000.00 us/run - 536.87 MFLOP/run - 268 GFLOPS"
    """

  init() throws {
    folder = try TemporaryFolder()
    var device = try SampleDevice.nvidia.capabilities(index: 3)
    device.name = "discrete (512 bits)"
    self.device = device
  }

  private func peer(_ path: String, seconds: Int = 30) -> GGMLPeer {
    GGMLPeer(path: path, device: device, secondsAtMost: seconds, launcher: nil)
  }

  private func script(_ body: String) throws -> String {
    let path = "\(folder.path)/program"
    try Data("#!/bin/sh\n\(body)\n".utf8).write(to: URL(filePath: path))
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
    return path
  }

  private func error(of body: String, seconds: Int = 30) throws -> GGMLError? {
    let peer = peer(try script(body), seconds: seconds)
    do throws(GGMLError) {
      _ = try peer.time(wanted)
      return nil
    } catch {
      #expect(!"\(error)".isEmpty)
      return error
    }
  }

  @Test func aGoodProgramIsTimed() throws {
    let path = try script(
      "echo \"$GGML_VK_VISIBLE_DEVICES $*\" >\(folder.path)/arguments\n\(Self.result)")
    let run = try peer(path).time(wanted)
    #expect(abs(run.seconds - 0.002) < 1e-12)
    #expect(run.platform.hasPrefix("discrete (256 bits)"))
    let arguments = try String(contentsOfFile: "\(folder.path)/arguments", encoding: .utf8)
    #expect(arguments.hasPrefix("3 perf -o FLASH_ATTN_EXT -b Vulkan0 -p ^hsk=64,"))
    let workload = AttentionWorkload(wanted.shape, .f16)
    // 4·8·512·512·64 operations in 2 ms.
    #expect(abs(try peer(path).time(.attention(workload)).gigaflops - 268.435) < 0.001)
  }

  @Test func aProgramThatIsNotThereIsTold() throws {
    for path in ["/no/such/program", try script("exit 0") + ".txt", folder.path + "/plain"] {
      if path.hasSuffix("plain") { try Data("x".utf8).write(to: URL(filePath: path)) }
      do throws(GGMLError) {
        _ = try peer(path).time(wanted)
        Issue.record("\(path) was run")
      } catch {
        guard case .programMissing(path, _) = error, error.consequence == .giveUp else {
          Issue.record("\(error)")
          continue
        }
      }
    }
  }

  @Test func anotherProgramIsTold() throws {
    for body in ["echo hello", "exit 3", "echo 'Usage: program [mode]'; exit 1"] {
      guard case .wrongProgram = try error(of: body) else {
        Issue.record("\(body)")
        continue
      }
    }
  }

  @Test func aCrashIsTold() throws {
    #expect(
      try error(of: "echo 'Testing 1 devices'; kill -9 $$")
        == .crashed(status: 9, output: "Testing 1 devices\n"))
    #expect(
      try error(of: "echo 'Testing 1 devices'; echo 'device lost' >&2; exit 1")
        == .crashed(status: 1, output: "device lost\n"))
  }

  @Test func aHangIsEnded() throws {
    let clock = ContinuousClock()
    let start = clock.now
    #expect(try error(of: "exec sleep 50", seconds: 1) == .timedOut(seconds: 1))
    // Not even a program that ignores the signal keeps us.
    #expect(
      try error(of: "trap '' TERM; while :; do sleep 0.1; done", seconds: 1)
        == .timedOut(seconds: 1))
    #expect(clock.now - start < .seconds(20))
  }

  @Test func anotherDeviceIsTold() throws {
    let other = Self.result.replacing("discrete", with: "integrated")
    #expect(
      try error(of: other)
        == .otherDevice(theirs: "integrated (256 bits)", ours: "discrete (512 bits)"))
  }
}
