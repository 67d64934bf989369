/// The numbers of a tile of tiled attention that can be tuned: those that the tables of the paths hold.
///
/// A plan takes them through a ``Tuning``; numbers that a path's kernel or the device does not allow are refused
/// there, and the plan keeps its own tile.
public enum AttentionTileParameters: Sendable, Hashable, Codable {
  /// Of the path `row`.
  case row(Row)
  /// Of the path `subgroup`.
  case subgroup(Subgroup)
  /// Of the path `matrix`.
  case matrix(Matrix)
  /// Of the path `matrix2`.
  case matrix2(Matrix)

  /// A tile of the path `row`.
  public struct Row: Sendable, Hashable, Codable {
    /// Keys whose scores an invocation holds at once, 1 to 16.
    public var keysPerBlock: Int
    /// Invocations of a workgroup, each with a query row: a multiple of the subgroup size.
    public var workgroupSize: Int
    /// Whether keys and values are packed into blocks of f32 first.
    public var isPacked: Bool
  }

  /// A tile of the path `subgroup`.
  public struct Subgroup: Sendable, Hashable, Codable {
    /// Query rows of a lane, 1 to 8.
    public var rowsPerLane: Int
    /// Lanes that share a row, a power of two up to the smallest subgroup.
    public var lanesPerRow: Int
    /// Keys of a tile, a multiple of `keyStep` up to 128.
    public var keyTile: Int
    /// Keys whose scores a lane holds at once, 1 to 16.
    public var keyStep: Int
    /// Whether tiles of keys and values go through shared memory.
    public var isStaged: Bool
    /// Whether 16-bit tiles are widened to f32 as they are staged.
    public var isWidened: Bool
    /// Invocations of a workgroup: a multiple of the subgroup size.
    public var workgroupSize: Int
    /// Problems, heads of batch entries, that share a workgroup, 1 to 256: several only where a share has lanes for
    /// all query tokens and tiles are not staged.
    public var problemsPerWorkgroup = 1
  }

  /// A tile of the path `matrix` or `matrix2`.
  public struct Matrix: Sendable, Hashable, Codable {
    /// Fragments of query rows of a subgroup, 1 to 4.
    public var rowFragments: Int
    /// Keys of a tile, a multiple of a fragment's up to 128.
    public var keyTile: Int
    /// Subgroups of a workgroup at most, 1 to 16.
    public var subgroups: Int
    /// Whether fragments of queries are read again for each tile instead of kept in registers.
    public var keepsQueryInShared: Bool
    /// Whether the loads of the next tile wait in registers.
    public var prefetches: Bool
  }

  /// The path that the tile is for.
  public var path: AttentionPath {
    switch self {
    case .row: .row
    case .subgroup: .subgroup
    case .matrix: .matrix
    case .matrix2: .matrix2
    }
  }

  /// Tiles that differ from this one in one number, by a step: what a search tries next. Not all of them need be
  /// allowed.
  public var neighbours: [AttentionTileParameters] {
    switch self {
    case .row(let tile):
      steps(
        tile,
        [
          { $0.keysPerBlock += 1 }, { $0.keysPerBlock -= 1 }, { $0.keysPerBlock *= 2 },
          { $0.keysPerBlock /= 2 }, { $0.isPacked.toggle() }, { $0.workgroupSize *= 2 },
          { $0.workgroupSize /= 2 },
        ]
      ).filter { (1...16).contains($0.keysPerBlock) && $0.workgroupSize > 0 }.map { .row($0) }
    case .subgroup(let tile):
      steps(
        tile,
        [
          { $0.rowsPerLane *= 2 }, { $0.rowsPerLane /= 2 }, { $0.lanesPerRow *= 2 },
          { $0.lanesPerRow /= 2 }, { $0.keyTile *= 2 }, { $0.keyTile /= 2 }, { $0.keyStep *= 2 },
          { $0.keyStep /= 2 }, { $0.isStaged.toggle() }, { $0.isWidened.toggle() },
          { $0.workgroupSize *= 2 }, { $0.workgroupSize /= 2 },
          // Problems are read from memory where they share a workgroup, and the workgroup grows with their number.
          {
            ($0.isStaged, $0.isWidened) = (false, false)
            $0.problemsPerWorkgroup *= 2
          }, { $0.problemsPerWorkgroup /= 2 },
          {
            ($0.isStaged, $0.isWidened) = (false, false)
            ($0.problemsPerWorkgroup, $0.workgroupSize) =
              ($0.problemsPerWorkgroup * 2, $0.workgroupSize * 2)
          },
        ]
      ).filter {
        $0.problemsPerWorkgroup > 0 && $0.rowsPerLane > 0 && $0.lanesPerRow > 0 && $0.keyStep > 0
          && $0.keyTile > 0
          && $0.keyTile % $0.keyStep == 0 && $0.workgroupSize > 0
      }.map { .subgroup($0) }
    case .matrix(let tile): tile.neighbours.map { .matrix($0) }
    case .matrix2(let tile): tile.neighbours.map { .matrix2($0) }
    }
  }
}

/// A value after each of some changes, without those that change nothing.
func steps<Value: Hashable>(_ value: Value, _ changes: [(inout Value) -> Void]) -> [Value] {
  changes.map { change in
    var changed = value
    change(&changed)
    return changed
  }.filter { $0 != value }
}

extension PathRefusal {
  /// The refusal of numbers of a tuned tile.
  static func tuned(_ what: String, _ value: Int, _ allowed: String) -> PathRefusal {
    PathRefusal(reason: "the tuned \(what) is \(value); allowed: \(allowed)")
  }
}

extension AttentionTileParameters.Row {
  /// What the kernel does not allow, if anything.
  func refusal(on device: DeviceCapabilities) -> PathRefusal? {
    if !(1...16).contains(keysPerBlock) { return .tuned("keysPerBlock", keysPerBlock, "1 to 16") }
    return tunedWorkgroupRefusal(workgroupSize, device)
  }
}

/// What a device does not allow of a tuned workgroup, if anything.
func tunedWorkgroupRefusal(_ size: Int, _ device: DeviceCapabilities) -> PathRefusal? {
  let subgroup = max(1, device.subgroupSize)
  guard size > 0, size % subgroup == 0, size <= device.maxWorkgroupInvocations else {
    return .tuned(
      "workgroupSize", size,
      "multiples of \(subgroup) up to \(device.maxWorkgroupInvocations)")
  }
  return nil
}

extension AttentionTileParameters.Subgroup {
  /// The most problems, heads of batch entries, that can share a workgroup.
  public static let mostProblems = 256

  /// Reads a tile; one that was written before problems could share a workgroup has one.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      rowsPerLane: try container.decode(Int.self, forKey: .rowsPerLane),
      lanesPerRow: try container.decode(Int.self, forKey: .lanesPerRow),
      keyTile: try container.decode(Int.self, forKey: .keyTile),
      keyStep: try container.decode(Int.self, forKey: .keyStep),
      isStaged: try container.decode(Bool.self, forKey: .isStaged),
      isWidened: try container.decode(Bool.self, forKey: .isWidened),
      workgroupSize: try container.decode(Int.self, forKey: .workgroupSize),
      problemsPerWorkgroup:
        try container.decodeIfPresent(Int.self, forKey: .problemsPerWorkgroup) ?? 1)
  }

  /// Query rows of one problem in a workgroup of so many invocations, as the shader counts them.
  func problemRows(_ workgroupSize: Int) -> Int {
    workgroupSize / problemsPerWorkgroup / lanesPerRow * rowsPerLane
  }

  /// What the kernel does not allow, if anything.
  func refusal(on device: DeviceCapabilities) -> PathRefusal? {
    if !(1...8).contains(rowsPerLane) { return .tuned("rowsPerLane", rowsPerLane, "1 to 8") }
    guard lanesPerRow > 0, lanesPerRow & (lanesPerRow - 1) == 0,
      lanesPerRow <= device.minSubgroupSize
    else {
      return .tuned("lanesPerRow", lanesPerRow, "powers of two up to \(device.minSubgroupSize)")
    }
    if !(1...16).contains(keyStep) { return .tuned("keyStep", keyStep, "1 to 16") }
    guard (1...128).contains(keyTile), keyTile % keyStep == 0 else {
      return .tuned("keyTile", keyTile, "multiples of \(keyStep) up to 128")
    }
    if !(1...Self.mostProblems).contains(problemsPerWorkgroup) {
      return .tuned("problemsPerWorkgroup", problemsPerWorkgroup, "1 to \(Self.mostProblems)")
    }
    if isStaged, problemsPerWorkgroup > 1 {
      return .tuned("problemsPerWorkgroup", problemsPerWorkgroup, "1 where tiles are staged")
    }
    return tunedWorkgroupRefusal(workgroupSize, device)
  }
}

extension AttentionTileParameters.Matrix {
  /// Tiles that differ in one number.
  fileprivate var neighbours: [Self] {
    steps(
      self,
      [
        { $0.rowFragments *= 2 }, { $0.rowFragments /= 2 }, { $0.keyTile *= 2 },
        { $0.keyTile /= 2 }, { $0.subgroups *= 2 }, { $0.subgroups /= 2 },
        { $0.keepsQueryInShared.toggle() }, { $0.prefetches.toggle() },
      ]
    ).filter { $0.rowFragments > 0 && $0.keyTile > 0 && $0.subgroups > 0 }
  }

  /// What the kernel does not allow, if anything; the rest follows from fragment and subgroup.
  var refusal: PathRefusal? {
    if !(1...4).contains(rowFragments) { return .tuned("rowFragments", rowFragments, "1 to 4") }
    if !(1...128).contains(keyTile) { return .tuned("keyTile", keyTile, "1 to 128") }
    if !(1...16).contains(subgroups) { return .tuned("subgroups", subgroups, "1 to 16") }
    return nil
  }
}
