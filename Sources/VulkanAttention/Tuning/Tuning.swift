/// Tiles that were found by measuring on a device, for classes of shapes; plans take them in place of the built-in
/// tables.
///
/// A value without hidden state: a plan is a pure function of request, device and tuning. Nothing is loaded behind
/// an application's back:
///
///     let tuning = try TuningStore.user().tuning(for: device.capabilities)
///     let attention = try AttentionKernel(request, on: device, tuning: tuning)
///
/// An entry counts for requests of its class only: the same element types, head sizes and options, which make a
/// pipeline, and sizes within the same bounds (``AttentionRequest/tuningKey`` and its kin). Where its tile cannot
/// run, the plan keeps its own and says why in its explanation. Another tile adds up in another order: results agree
/// with those of the built-in tile up to rounding, not to the last bit.
public struct Tuning: Sendable, Hashable, Codable {
  /// A tile of one of the families.
  public enum Tile: Sendable, Hashable, Codable {
    /// Tiled attention.
    case attention(AttentionTileParameters)
    /// A decode step.
    case decode(DecodeTileParameters)
    /// Linear attention.
    case linear(LinearAttentionTileParameters)
  }

  /// A tile, and where it comes from.
  public struct Entry: Sendable, Hashable, Codable {
    /// The tile.
    public var tile: Tile
    /// The time of the built-in tile over that of this one, the median of interleaved runs.
    public var speedup: Double
    /// The id of the workload that was measured.
    public var workload: String
    /// When, UTC.
    public var time: String

    /// An entry by its parts.
    public init(_ tile: Tile, speedup: Double, workload: String, time: String) {
      self.tile = tile
      self.speedup = speedup
      self.workload = workload
      self.time = time
    }

    var provenance: String {
      "tuned on this device with \(workload), \(time)"
    }
  }

  /// No tuned tiles: every plan takes its own.
  public static let none = Tuning()

  /// The entries by their classes of shapes.
  public var entries: [String: Entry]

  /// A tuning with entries.
  public init(_ entries: [String: Entry] = [:]) {
    self.entries = entries
  }

  /// Adds another tuning's entries; where both have one, the other's counts.
  public mutating func merge(_ other: Tuning) {
    entries.merge(other.entries) { $1 }
  }

  func attention(_ request: AttentionRequest) -> (AttentionTileParameters, Entry)? {
    guard !entries.isEmpty, let entry = entries[request.tuningKey],
      case .attention(let tile) = entry.tile
    else { return nil }
    return (tile, entry)
  }

  func decode(_ request: DecodeRequest) -> (DecodeTileParameters, Entry)? {
    guard !entries.isEmpty, let entry = entries[request.tuningKey],
      case .decode(let tile) = entry.tile
    else { return nil }
    return (tile, entry)
  }

  func linear(_ request: LinearAttentionRequest) -> (LinearAttentionTileParameters, Entry)? {
    guard !entries.isEmpty, let entry = entries[request.tuningKey],
      case .linear(let tile) = entry.tile
    else { return nil }
    return (tile, entry)
  }
}

/// Sizes between two bounds, which share a tile.
private func sizeClass(_ size: Int, _ bounds: [Int]) -> String {
  var lower = 0
  for bound in bounds {
    if size <= bound { return lower + 1 == bound ? "\(bound)" : "\(lower + 1)...\(bound)" }
    lower = bound
  }
  return "\(lower + 1)..."
}

private let tokenBounds = [1, 16, 64, 256, 1024, 4096, 16384, 65536]
private let copyBounds = [1, 8, 32, 128, 512]

extension AttentionRequest {
  /// The class of shapes whose requests share a tuned tile: types, head sizes, options, and the bounds between which
  /// S, T and B · H lie, such as `attention/q-f16/k-f16/v-f16/o-f16/D64/E64/S257...1024/T257...1024/N2...8/options-1`.
  public var tuningKey: String {
    let types =
      "q-\(elementType.rawValue)/k-\(keyType.rawValue)/v-\(valueType.rawValue)"
      + "/o-\(outputType.rawValue)"
    let sizes =
      "D\(headSize)/E\(valueHeadSize)/S\(sizeClass(queryTokens, tokenBounds))"
      + "/T\(sizeClass(keyTokens, tokenBounds))/N\(sizeClass(batchSize * queryHeads, copyBounds))"
    return "attention/\(types)/\(sizes)/options-\(AttentionOptionBits(self).rawValue)"
      + (isAligned ? "" : "/unaligned") + (valuesAreKeys ? "/latent" : "")
  }
}

extension DecodeRequest {
  /// The class of shapes whose requests share a tuned tile: types, formats, head sizes, rows of a problem, options,
  /// and the bounds between which T and B · G lie.
  public var tuningKey: String {
    let copies = attention.batchSize * keyCache.heads
    let types =
      "q-\(attention.elementType.rawValue)/k-\(keyCache.format)/v-\(valueCache.format)"
      + "/o-\(attention.outputType.rawValue)"
    let sizes =
      "D\(attention.headSize)/E\(attention.valueHeadSize)/R\(problemRows)"
      + "/T\(sizeClass(attention.keyTokens, tokenBounds))/N\(sizeClass(copies, copyBounds))"
    return "decode/\(types)/\(sizes)/\(keyCache.arrangement.kind)"
      + "/options-\(AttentionOptionBits(attention).rawValue)"
      + (attention.valuesAreKeys ? "/latent" : "") + (keyRotation == nil ? "" : "/rotated")
  }
}

extension LinearAttentionRequest {
  /// The class of shapes whose requests share a tuned tile: types, head sizes, operands, and the bounds between which
  /// the longest sequence and sequences · H lie.
  public var tuningKey: String {
    let types = "k-\(elementType.rawValue)/v-\(valueType.rawValue)/o-\(outputType.rawValue)"
    let sizes =
      "K\(keyHeadSize)/V\(valueHeadSize)/T\(sizeClass(longestSequence, tokenBounds))"
      + "/N\(sizeClass(sequenceCount * valueHeads, copyBounds))"
    return "linear/\(types)/\(sizes)/updates-\(updatesPerToken)"
      + "/options-\(LinearAttentionOptionBits(self).rawValue)" + (isAligned ? "" : "/unaligned")
  }
}
