/// Why an attention cannot be planned or recorded.
public enum AttentionError: Error, Hashable, Sendable {
  /// A number of the request is not allowed.
  case invalidArgument(name: String, value: String, allowed: String)
  /// The sizes of the request do not fit into the machine's integers.
  case tooLarge(tensor: String)
  /// A path that was asked for cannot run this request on this device.
  case pathUnavailable(path: AttentionPath, reason: String)
  /// No path can run this request on this device.
  case noPath(reasons: [String])
  /// A buffer is smaller than its tensor.
  case bufferTooSmall(tensor: String, requiredBytes: Int, availableBytes: Int)
  /// A buffer does not begin at a multiple of 16 bytes.
  case misaligned(tensor: String, address: UInt64, requiredAlignment: Int)
  /// An output shares memory with another tensor.
  case overlappingOutput(output: String, with: String)
  /// The log-sum-exp was asked for without a buffer.
  case missingLogSumExpBuffer
  /// The request names an operand, and no buffer was given for it.
  case missingOperandBuffer(operand: AttentionOperand.Kind)
  /// The plan needs working memory and no buffer was given for it.
  case missingScratchBuffer(requiredBytes: Int)
  /// The device or its runtime failed.
  case device(VulkanError)
}

extension AttentionError: CustomStringConvertible {
  /// What was asked, what is allowed and what to do.
  public var description: String {
    switch self {
    case .invalidArgument(let name, let value, let allowed):
      "\(name) is \(value); allowed: \(allowed)"
    case .tooLarge(let tensor):
      "\(tensor) is larger than can be addressed; split the batch"
    case .pathUnavailable(let path, let reason):
      "path \(path.rawValue) cannot run this: \(reason)"
    case .noPath(let reasons):
      "no path can run this: \(reasons.joined(separator: "; "))"
    case .bufferTooSmall(let tensor, let required, let available):
      "the buffer of \(tensor) has \(available) bytes, the request needs \(required)"
    case .misaligned(let tensor, let address, let alignment):
      "\(tensor) begins at address \(address), which is not a multiple of \(alignment) bytes"
    case .overlappingOutput(let output, let other):
      "\(output) shares memory with \(other); outputs need memory of their own"
    case .missingLogSumExpBuffer:
      "the request returns the log-sum-exp, and no buffer was given for it"
    case .missingOperandBuffer(let operand):
      "the request has the operand \(operand.rawValue), and no buffer was given for it"
    case .missingScratchBuffer(let requiredBytes):
      "the plan needs \(requiredBytes) bytes of scratch memory, and no buffer was given for it"
    case .device(let error):
      "\(error)"
    }
  }
}

/// Refuses a number outside of a range.
///
/// - Throws: `AttentionError.invalidArgument`.
func checkRange(
  _ name: String, _ value: Int, _ allowed: ClosedRange<Int>
) throws(AttentionError) {
  guard allowed.contains(value) else {
    throw .invalidArgument(
      name: name, value: "\(value)",
      allowed: allowed.count == 1
        ? "\(allowed.lowerBound)" : "\(allowed.lowerBound) to \(allowed.upperBound)")
  }
}

/// Runs `body`, and passes on a failure of the runtime as an attention error.
func wrappingDeviceErrors<Result>(
  _ body: () throws(VulkanError) -> Result
) throws(AttentionError) -> Result {
  do {
    return try body()
  } catch {
    throw .device(error)
  }
}
