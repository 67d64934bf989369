internal import CVKAttn
internal import VulkanAttention

// C's numbers in the Swift module's terms. What has no meaning is refused here; what is out of range is
// left to the requests, which say what is allowed.

/// An element type; nil for the default.
func elementType(_ number: Int32, _ name: String) throws(Failure) -> ElementType? {
  switch number {
  case 0: nil
  case 1: .f32
  case 2: .f16
  case 3: .bf16
  default: throw Failure(name, number, allowed: "one of VKATTN_F32, VKATTN_F16, VKATTN_BF16")
  }
}

/// A path; nil for the best.
func path(_ number: Int32, _ name: String) throws(Failure) -> AttentionPath? {
  switch number {
  case 0: nil
  case 1: .row
  case 2: .subgroup
  case 3: .matrix
  case 4: .matrix2
  default: throw Failure(name, number, allowed: "one of VKATTN_PATH_…")
  }
}

extension AttentionPath {
  /// The number in C.
  var number: Int32 {
    switch self {
    case .row: 1
    case .subgroup: 2
    case .matrix: 3
    case .matrix2: 4
    }
  }
}

/// Strides; nil for NULL.
func strides(_ pointer: UnsafePointer<vkattn_strides>?) -> TensorStrides? {
  pointer.map {
    let strides = UnsafeRawPointer($0).loadUnaligned(as: vkattn_strides.self)
    return TensorStrides(
      batch: Int(strides.batch), token: Int(strides.token), head: Int(strides.head))
  }
}

/// Strides of partial results; nil for NULL.
func stateStrides(_ pointer: UnsafePointer<vkattn_state_strides>?) -> StateStrides? {
  pointer.map {
    let strides = UnsafeRawPointer($0).loadUnaligned(as: vkattn_state_strides.self)
    return StateStrides(
      partial: Int(strides.partial), row: Int(strides.row), head: Int(strides.head))
  }
}

/// Whether a flag is set.
func has(_ flags: UInt32, _ flag: Int) -> Bool { flags & UInt32(flag) != 0 }

/// 0 as nil: a default that has no meaning of its own.
func nilIfZero(_ number: Int64) -> Int? { number == 0 ? nil : Int(number) }

/// A mask; nil for NULL.
func mask(_ pointer: UnsafePointer<vkattn_mask>?) throws(Failure) -> AttentionMask? {
  guard let given = try readIfGiven(pointer, "mask") else { return nil }
  try checkFlags(given.flags, "mask", known: 15)
  try checkReserved(given.reserved, "mask")
  let flags = given.flags
  for (name, flag, value) in [
    ("window_left", VKATTN_MASK_WINDOW_LEFT, given.window_left),
    ("window_right", VKATTN_MASK_WINDOW_RIGHT, given.window_right),
  ] where value != 0 && !has(flags, flag) {
    throw Failure("mask.\(name)", value, allowed: "0 without its flag")
  }
  var mask = AttentionMask()
  mask.isCausal = has(flags, VKATTN_MASK_CAUSAL)
  mask.alignment = has(flags, VKATTN_MASK_TOP_LEFT) ? .topLeft : .bottomRight
  mask.causalBlock = nilIfZero(given.causal_block) ?? 1
  mask.prefixTokens = Int(given.prefix_tokens)
  mask.windowLeft = has(flags, VKATTN_MASK_WINDOW_LEFT) ? Int(given.window_left) : nil
  mask.windowRight = has(flags, VKATTN_MASK_WINDOW_RIGHT) ? Int(given.window_right) : nil
  mask.chunkSize = nilIfZero(given.chunk_size)
  mask.sinkTokens = Int(given.sink_tokens)
  if let rows = nilIfZero(given.block_map_rows) { mask.blockMapRows = rows }
  if let keys = nilIfZero(given.block_map_keys) { mask.blockMapKeys = keys }
  return mask
}
