/// The numbers of a decode tile that can be tuned.
///
/// A plan takes them through a ``Tuning``; numbers that a path's kernel or the device does not allow are refused
/// there, and the plan keeps its own tile. The keys of a lean tile are not among them: they decide at which keys
/// fixed splits are cut, which callers rely on.
public struct DecodeTileParameters: Sendable, Hashable, Codable {
  /// The numbers that belong to a path.
  public enum Shape: Sendable, Hashable, Codable {
    /// Path `row`: keys whose scores an invocation holds at once, 1 to 16.
    case row(keysPerBlock: Int)
    /// Path `subgroup`: rows of a workgroup at most, 1 to 8, and its subgroups, 1, 2, 4 or 8.
    case subgroup(rows: Int, subgroups: Int)
    /// Path `matrix`: fragments of rows at most, 1 to 8; keys of a tile in shared memory, a power of two up to
    /// 128; subgroups, 1 to 16; parts of the channels of q·k, a power of two; whether the next tile is fetched
    /// ahead.
    case matrix(
      rowFragments: Int, keyTile: Int, subgroups: Int, channelParts: Int, prefetches: Bool)
  }

  /// The numbers that belong to a path.
  public var shape: Shape
  /// Groups into which lean schedules cut the work, 1 to 4096.
  public var groups: Int

  /// The path that the tile is for.
  public var path: AttentionPath {
    switch shape {
    case .row: .row
    case .subgroup: .subgroup
    case .matrix: .matrix
    }
  }

  /// Tiles that differ from this one in one number, by a step: what a search tries next. Not all of them need be
  /// allowed.
  public var neighbours: [DecodeTileParameters] {
    let shapes: [Shape] =
      switch shape {
      case .row(let keys): [.row(keysPerBlock: keys * 2), .row(keysPerBlock: keys / 2)]
      case .subgroup(let rows, let subgroups):
        [
          (rows * 2, subgroups), (rows / 2, subgroups), (rows, subgroups * 2),
          (rows, subgroups / 2),
        ]
        .map { .subgroup(rows: $0.0, subgroups: $0.1) }
      case .matrix(let rows, let keys, let subgroups, let parts, let prefetches):
        [
          (rows * 2, keys, subgroups, parts, prefetches),
          (rows / 2, keys, subgroups, parts, prefetches),
          (rows, keys * 2, subgroups, parts, prefetches),
          (rows, keys / 2, subgroups, parts, prefetches),
          (rows, keys, subgroups * 2, parts, prefetches),
          (rows, keys, subgroups / 2, parts, prefetches),
          (rows, keys, subgroups, parts * 2, prefetches),
          (rows, keys, subgroups, parts / 2, prefetches),
          (rows, keys, subgroups, parts, !prefetches),
        ].map {
          .matrix(
            rowFragments: $0.0, keyTile: $0.1, subgroups: $0.2, channelParts: $0.3,
            prefetches: $0.4)
        }
      }
    let resized = shapes.map { DecodeTileParameters(shape: $0, groups: groups) }
    let regrouped = [groups * 2, groups / 2].map { DecodeTileParameters(shape: shape, groups: $0) }
    return (resized + regrouped).filter { $0 != self && $0.refusal == nil }
  }

  /// What no kernel allows, if anything.
  var refusal: PathRefusal? {
    func isPower(_ number: Int) -> Bool { number > 0 && number & (number - 1) == 0 }
    if !(1...4096).contains(groups) { return .tuned("groups", groups, "1 to 4096") }
    switch shape {
    case .row(let keys):
      guard isPower(keys), keys <= 16 else {
        return .tuned("keysPerBlock", keys, "1, 2, 4, 8 or 16")
      }
    case .subgroup(let rows, let subgroups):
      if !(1...8).contains(rows) { return .tuned("rows", rows, "1 to 8") }
      guard isPower(subgroups), subgroups <= 8 else {
        return .tuned("subgroups", subgroups, "1, 2, 4 or 8")
      }
    case .matrix(let rows, let keys, let subgroups, let parts, _):
      if !(1...8).contains(rows) { return .tuned("rowFragments", rows, "1 to 8") }
      guard isPower(keys), keys <= 128 else {
        return .tuned("keyTile", keys, "powers of two up to 128")
      }
      guard isPower(subgroups), subgroups <= 16 else {
        return .tuned("subgroups", subgroups, "powers of two up to 16")
      }
      guard isPower(parts), parts <= subgroups else {
        return .tuned("channelParts", parts, "powers of two up to the \(subgroups) subgroups")
      }
    }
    return nil
  }
}
