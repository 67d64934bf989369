/// The block of tensors in scratch memory, byte for byte as `LinearBlock` in `linear_interface.glsl`.
struct LinearAttentionBlock {
  /// Places of the block.
  enum Slot: Int, CaseIterable {
    case query, key, value, output, headDecay, decay, keyDecay, valueDecay, beta, eraseKeys
    case eraseGates, writeGates, lowRankA, lowRankB, bonus, initialState, finalState, starts
    case sequenceIDs, stateSlots, timeStep, rate, skip, outputGate, timeStepBias, denominators
    case carry, records, parts, snapshots, parents
  }

  private struct Entry {
    var address: UInt64 = 0
    var strides = TensorStrides(batch: 0, token: 0, head: 0)
  }

  /// Bytes of one tensor's entry.
  private static let tensorByteCount = 24
  /// Bytes of the scalars behind the tensors.
  private static let scalarByteCount = 20
  /// Bytes of the block.
  static let byteCount = Slot.allCases.count * tensorByteCount + scalarByteCount

  private var entries = [Entry](repeating: Entry(), count: Slot.allCases.count)
  private let request: LinearAttentionRequest

  init(_ request: LinearAttentionRequest) {
    self.request = request
  }

  mutating func set(_ slot: Slot, _ address: UInt64, _ strides: TensorStrides? = nil) {
    entries[slot.rawValue] = Entry(
      address: address, strides: strides ?? TensorStrides(batch: 0, token: 0, head: 0))
  }

  /// States [_, H, K, columns].
  mutating func setState(_ slot: Slot, _ address: UInt64, columns: Int) {
    let state = request.keyHeadSize * columns
    set(
      slot, address,
      TensorStrides(batch: request.valueHeads * state, token: 0, head: state))
  }

  /// The block's contents.
  var bytes: [UInt8] {
    var bytes: [UInt8] = []
    func append<Value: FixedWidthInteger>(_ value: Value) {
      withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }
    for entry in entries {
      append(entry.address)
      // Strides along an axis of extent 1 are not checked and not used.
      for stride in [entry.strides.batch, entry.strides.token, entry.strides.head, 0] {
        append(UInt32(clamping: stride))
      }
    }
    append(UInt32(request.tokens))
    append(UInt32(request.valueHeads / request.keyHeads))
    append(request.scale.bitPattern)
    if case .sum(let epsilon) = request.normalizer {
      append(epsilon.bitPattern)
    } else {
      append(UInt32(0))
    }
    append(UInt32(request.longestSequence))
    return bytes
  }
}

/// The push constants of every kernel of the family, field for field as in `linear_interface.glsl`; a test
/// compares the two.
struct LinearAttentionPushConstants: BitwiseCopyable {
  var block: UInt64
  var firstTile: UInt32
  var firstHead: UInt32
  var firstSequence: UInt32
  var firstToken: UInt32
  var tokenCount: UInt32
  var flags: UInt32
  var parts: UInt32
  var blocksPerPart: UInt32

  init(_ dispatch: LinearAttentionPlan.Dispatch, block: UInt64) {
    self.block = block
    firstTile = UInt32(dispatch.firstTile)
    firstHead = UInt32(dispatch.heads.lowerBound)
    firstSequence = UInt32(dispatch.sequences.lowerBound)
    firstToken = UInt32(dispatch.tokens.lowerBound)
    tokenCount = UInt32(dispatch.tokens.count)
    flags = dispatch.flags.rawValue
    parts = UInt32(dispatch.parts)
    blocksPerPart = UInt32(dispatch.blocksPerPart)
  }
}
