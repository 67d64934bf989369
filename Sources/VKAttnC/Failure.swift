internal import CVKAttn
internal import VulkanAttention

/// A status of the C interface with its name.
enum Status: Int32, CaseIterable {
  case ok = 0
  case invalidArgument
  case invalidHandle
  case nullPointer
  case badStructure
  case tooLarge
  case noPath
  case bufferTooSmall
  case misaligned
  case overlap
  case missingBuffer
  case noDriver
  case noDevice
  case missingFeatures
  case deviceLost
  case outOfMemory
  case limitExceeded
  case outOfBounds
  case wrongDevice
  case shader
  case alreadySubmitted
  case cancelled
  case timedOut
  case busy
  case notHostVisible
  case inCallback
  case vulkan
  case cacheNotWritable
  case noCompiler = 32
  case notCompiled

  /// The C constant's name.
  var name: StaticString {
    switch self {
    case .ok: "VKATTN_OK"
    case .invalidArgument: "VKATTN_INVALID_ARGUMENT"
    case .invalidHandle: "VKATTN_INVALID_HANDLE"
    case .nullPointer: "VKATTN_NULL_POINTER"
    case .badStructure: "VKATTN_BAD_STRUCTURE"
    case .tooLarge: "VKATTN_TOO_LARGE"
    case .noPath: "VKATTN_NO_PATH"
    case .bufferTooSmall: "VKATTN_BUFFER_TOO_SMALL"
    case .misaligned: "VKATTN_MISALIGNED"
    case .overlap: "VKATTN_OVERLAP"
    case .missingBuffer: "VKATTN_MISSING_BUFFER"
    case .noDriver: "VKATTN_NO_DRIVER"
    case .noDevice: "VKATTN_NO_DEVICE"
    case .missingFeatures: "VKATTN_MISSING_FEATURES"
    case .deviceLost: "VKATTN_DEVICE_LOST"
    case .outOfMemory: "VKATTN_OUT_OF_MEMORY"
    case .limitExceeded: "VKATTN_LIMIT_EXCEEDED"
    case .outOfBounds: "VKATTN_OUT_OF_BOUNDS"
    case .wrongDevice: "VKATTN_WRONG_DEVICE"
    case .shader: "VKATTN_SHADER"
    case .alreadySubmitted: "VKATTN_ALREADY_SUBMITTED"
    case .cancelled: "VKATTN_CANCELLED"
    case .timedOut: "VKATTN_TIMED_OUT"
    case .busy: "VKATTN_BUSY"
    case .notHostVisible: "VKATTN_NOT_HOST_VISIBLE"
    case .inCallback: "VKATTN_IN_CALLBACK"
    case .vulkan: "VKATTN_VULKAN"
    case .cacheNotWritable: "VKATTN_CACHE_NOT_WRITABLE"
    case .noCompiler: "VKATTN_NO_COMPILER"
    case .notCompiled: "VKATTN_NOT_COMPILED"
    }
  }
}

/// Why a call from C failed.
struct Failure: Error {
  let status: Status
  let message: String

  init(_ status: Status, _ message: String) {
    self.status = status
    self.message = message
  }

  /// A number that is not allowed.
  init(_ name: String, _ value: some Any, allowed: String) {
    self.init(.invalidArgument, "\(name) is \(value); allowed: \(allowed)")
  }

  init(_ error: VulkanError) {
    let status: Status =
      switch error {
      case .loaderMissing, .functionMissing, .noDriver, .validationLayerMissing: .noDriver
      case .noDevice: .noDevice
      case .missingFeatures: .missingFeatures
      case .callFailed: .vulkan
      case .deviceLost: .deviceLost
      case .outOfMemory: .outOfMemory
      case .limitExceeded: .limitExceeded
      case .outOfBounds: .outOfBounds
      case .overlappingCopy: .overlap
      case .wrongDevice: .wrongDevice
      case .notAdoptable, .missingUsage, .notReplayable: .invalidArgument
      case .misaligned: .misaligned
      case .shaderUnavailable, .shaderMismatch: .shader
      case .invalidVariable: .invalidArgument
      case .cacheNotWritable: .cacheNotWritable
      case .alreadySubmitted: .alreadySubmitted
      case .cancelled: .cancelled
      case .timedOut: .timedOut
      }
    self.init(status, "\(error)")
  }

  init(_ error: AttentionError) {
    let status: Status
    switch error {
    case .invalidArgument: status = .invalidArgument
    case .tooLarge: status = .tooLarge
    case .pathUnavailable, .noPath: status = .noPath
    case .bufferTooSmall: status = .bufferTooSmall
    case .misaligned: status = .misaligned
    case .overlappingOutput: status = .overlap
    case .missingLogSumExpBuffer, .missingOperandBuffer, .missingScratchBuffer:
      status = .missingBuffer
    case .device(let error):
      self.init(error)
      return
    }
    self.init(status, "\(error)")
  }
}

/// Runs `body`, and passes on a failure of the runtime.
func onDevice<Result>(_ body: () throws(VulkanError) -> Result) throws(Failure) -> Result {
  do { return try body() } catch { throw Failure(error) }
}

/// Runs `body`, and passes on a failure of a request, a plan or a kernel.
func inAttention<Result>(
  _ body: () throws(AttentionError) -> Result
) throws(Failure) -> Result {
  do { return try body() } catch { throw Failure(error) }
}

/// The body of every function that returns a status: keeps the message of a failure.
func call(_ body: () throws(Failure) -> Void) -> vkattn_status {
  do throws(Failure) {
    guard ThreadState.current?.isInCallback != true else {
      throw Failure(
        .inCallback,
        "a callback called the library; let it take note and call after it has returned")
    }
    try body()
    return Status.ok.rawValue
  } catch {
    ThreadState.keep(error.message)
    return error.status.rawValue
  }
}

/// A pointer that a call cannot do without.
func required<Pointer>(_ pointer: Pointer?, _ name: String) throws(Failure) -> Pointer {
  guard let pointer else { throw Failure(.nullPointer, "\(name) is NULL") }
  return pointer
}

/// So many elements behind a pointer that may be NULL where there are none.
func elements<Element>(
  _ pointer: UnsafePointer<Element>?, _ count: Int, _ name: String, atMost most: Int
) throws(Failure) -> UnsafeBufferPointer<Element> {
  // A count that has its top bit set came in as a negative number.
  guard (0...most).contains(count) else {
    throw Failure("the number of \(name)", UInt(bitPattern: count), allowed: "0 to \(most)")
  }
  if count == 0 { return UnsafeBufferPointer(start: nil, count: 0) }
  return UnsafeBufferPointer(start: try required(pointer, name), count: count)
}

/// The bytes from an offset on, checked against what there is.
func range(
  _ offset: Int, _ byteCount: Int, of available: Int, _ name: String
) throws(Failure) -> Range<Int> {
  let (end, overflows) = offset.addingReportingOverflow(byteCount)
  guard offset >= 0, byteCount >= 0, !overflows, end <= available else {
    throw Failure(
      .outOfBounds,
      "\(name): \(UInt(bitPattern: byteCount)) bytes from byte \(UInt(bitPattern: offset)) on; there are "
        + "\(available)")
  }
  return offset..<end
}
