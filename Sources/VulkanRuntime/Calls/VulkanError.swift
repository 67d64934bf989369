/// What can go wrong between this library and a Vulkan device.
///
/// Every case carries what was asked and, where there is a limit, what is allowed.
public enum VulkanError: Error, Hashable, Sendable {
  /// No Vulkan loader could be opened.
  case loaderMissing(tried: [String], reason: String)
  /// The loader lacks a function of Vulkan 1.2.
  case functionMissing(name: String)
  /// The loader found no Vulkan driver.
  case noDriver
  /// The validation layer was asked for and is not installed.
  case validationLayerMissing
  /// No device matches the selection.
  case noDevice(requested: String, available: [String])
  /// The device lacks features that the library cannot do without.
  case missingFeatures(device: String, features: [String])
  /// A Vulkan call failed with a result that has no case of its own.
  case callFailed(function: String, result: VulkanResult)
  /// The device was lost; its context refuses all further work.
  case deviceLost(device: String, during: String)
  /// An allocation failed.
  case outOfMemory(requestedBytes: Int, purpose: String, result: VulkanResult)
  /// A number lies beyond what the device allows.
  case limitExceeded(what: String, requested: Int, allowed: Int)
  /// A range does not lie inside its buffer.
  case outOfBounds(what: String, requestedBytes: Int, availableBytes: Int)
  /// The source and the destination of a copy share memory.
  case overlappingCopy(source: String, destination: String)
  /// A buffer or pipeline of one device was used with another.
  case wrongDevice(what: String, expected: String, actual: String)
  /// An object of the app's own cannot be used as it was described, and why.
  case notAdoptable(what: String, reason: String)
  /// A number is no multiple of what the device asks for.
  case misaligned(what: String, value: UInt64, alignment: Int)
  /// A buffer of the app's own was made without a usage that is needed now.
  case missingUsage(buffer: String, usage: String)
  /// A shader is not in this build, and why.
  case shaderUnavailable(name: String, reason: String)
  /// A shader and its caller disagree: on the push constants or specialization constants.
  case shaderMismatch(name: String, reason: String)
  /// An environment variable has a value that means nothing.
  case invalidVariable(name: String, value: String, allowed: [String])
  /// The folder for compiled pipelines cannot be written; nothing else is affected.
  case cacheNotWritable(path: String, reason: String)
  /// The recorder was already submitted.
  case alreadySubmitted
  /// The recorder was not opened for replay.
  case notReplayable
  /// The waiting task was cancelled; the work on the device goes on to its end.
  case cancelled
  /// The wait ended before the work did; the work goes on.
  case timedOut(seconds: Double)
}

extension VulkanError: CustomStringConvertible {
  /// What happened and what to do.
  public var description: String {
    switch self {
    case .loaderMissing(let tried, let reason):
      "no Vulkan loader: tried \(tried.joined(separator: ", ")) (\(reason)); "
        + "install libvulkan1, or run Tools/setup"
    case .functionMissing(let name):
      "the Vulkan loader has no \(name): Vulkan 1.2 is needed"
    case .noDriver:
      "no Vulkan driver is installed, or the variables VK_DRIVER_FILES and VK_ICD_FILENAMES name none "
        + "that loads; install one (mesa-vulkan-drivers brings a software driver), or run Tools/setup"
    case .validationLayerMissing:
      "VK_LAYER_KHRONOS_validation was asked for and is not installed; "
        + "install vulkan-validationlayers, or run Tools/setup"
    case .noDevice(let requested, let available):
      "no Vulkan device matches \(requested); available: "
        + (available.isEmpty ? "none" : available.joined(separator: ", "))
    case .missingFeatures(let device, let features):
      "\(device) lacks what this library needs: \(features.joined(separator: ", "))"
    case .callFailed(let function, let result):
      "\(function) failed: \(result)"
    case .deviceLost(let device, let during):
      "\(device) was lost during \(during); open the device again"
    case .outOfMemory(let bytes, let purpose, let result):
      "out of memory: \(bytes) bytes for \(purpose) (\(result))"
    case .limitExceeded(let what, let requested, let allowed):
      "\(what): requested \(requested), the device allows \(allowed)"
    case .outOfBounds(let what, let requested, let available):
      "\(what) needs \(requested) bytes, there are \(available)"
    case .overlappingCopy(let source, let destination):
      "a copy from \(source) to \(destination) would overlap itself; copy by way of another buffer"
    case .wrongDevice(let what, let expected, let actual):
      "\(what) belongs to \(actual), not to \(expected)"
    case .notAdoptable(let what, let reason):
      "\(what) cannot be adopted: \(reason)"
    case .misaligned(let what, let value, let alignment):
      "\(what) is \(value), which is no multiple of \(alignment)"
    case .missingUsage(let buffer, let usage):
      "\(buffer) was made without \(usage), which this needs"
    case .shaderUnavailable(let name, let reason):
      "shader \(name) is not in this build: \(reason)"
    case .shaderMismatch(let name, let reason):
      "shader \(name) and its caller disagree: \(reason)"
    case .invalidVariable(let name, let value, let allowed):
      "\(name) has \"\(value)\"; allowed: \(allowed.joined(separator: ", "))"
    case .cacheNotWritable(let path, let reason):
      "cannot keep compiled pipelines in \(path): \(reason); set VKATTN_CACHE to another folder"
    case .alreadySubmitted:
      "the recorder was already submitted; make a new one"
    case .notReplayable:
      "the recorder's commands can be submitted once only; open it with makeRecorder(forReplay: true)"
    case .cancelled:
      "the wait was cancelled; the submitted work runs to its end"
    case .timedOut(let seconds):
      "not done after \(seconds) s; the submitted work is still running"
    }
  }
}
