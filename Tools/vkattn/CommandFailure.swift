import VulkanAttention
import VulkanAttentionCustom

/// What the exit status tells; `vkattn --help` documents it.
enum ExitStatus: Int32, Sendable {
  /// Something was checked and is wrong, or nothing could be checked.
  case failed = 1
  /// The command line or an input file is wrong.
  case wrongInput = 2
  /// There is no Vulkan loader, or no device that can be used.
  case noDevice = 3
  /// Ctrl-C, as shells have it.
  case interrupted = 130

  init(_ error: VulkanError) {
    switch error {
    case .invalidVariable: self = .wrongInput
    case .loaderMissing, .noDriver, .functionMissing, .validationLayerMissing, .noDevice,
      .missingFeatures:
      self = .noDevice
    default:
      self = .failed
    }
  }

  init(_ error: AttentionError) {
    switch error {
    case .invalidArgument, .tooLarge, .device(.limitExceeded): self = .wrongInput
    case .device(let error): self = ExitStatus(error)
    default: self = .failed
    }
  }

  init(_ error: CustomAttentionError) {
    switch error {
    case .compilerMissing, .compilerTooOld, .compilerFailed: self = .failed
    case .attention(let error): self = ExitStatus(error)
    default: self = .wrongInput
    }
  }
}

/// An end of the command that is not a success.
struct CommandFailure: Error {
  /// The exit status.
  let status: ExitStatus
  /// One line for stderr; empty where all has been said.
  let message: String

  init(_ status: ExitStatus, _ message: String = "") {
    self.status = status
    self.message = message
  }
}
