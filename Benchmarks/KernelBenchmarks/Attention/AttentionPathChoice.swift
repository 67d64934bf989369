import VulkanAttention

/// Which way a kernel is made to run: `auto`, a path by its name, a matrix path with a fragment shape of
/// its own as `matrix:16x16x16` or `matrix2:16x16x16`, or the subgroup path with some problems in each
/// workgroup as `subgroup:4`.
public struct AttentionPathChoice: Sendable, Hashable {
  /// The path; nil leaves it to the plan.
  public let path: AttentionPath?
  /// The path's tile.
  public let tile: AttentionTileChoice

  /// The plan chooses.
  public static let automatic = AttentionPathChoice(nil)

  /// A path with its tuned tile, or nil for the plan's choice.
  public init(_ path: AttentionPath?) {
    self.path = path
    tile = .tuned
  }

  /// The paths that take fragments.
  private static let fragmentPaths: [AttentionPath] = [.matrix, .matrix2]

  /// A matrix path with fragments of m query rows, n keys and k channels.
  public init(_ path: AttentionPath = .matrix, fragmentM m: Int, n: Int, k: Int) {
    self.path = path
    tile = .fragment(m: m, n: n, k: k)
  }

  /// The subgroup path with so many problems, heads of batch entries, in a workgroup.
  public init(problemsPerWorkgroup count: Int) {
    path = .subgroup
    tile = .problems(perWorkgroup: count)
  }

  /// Reads a choice by its name; nil for a text that is none.
  public init?(_ text: String) {
    if text == "auto" {
      self = .automatic
    } else if let path = AttentionPath(rawValue: text) {
      self.init(path)
    } else {
      let parts = text.split(separator: ":", omittingEmptySubsequences: false)
      if parts.count == 2, parts[0] == AttentionPath.subgroup.rawValue {
        let counts = 1...AttentionTileParameters.Subgroup.mostProblems
        guard let count = Int(parts[1]), counts.contains(count) else { return nil }
        self.init(problemsPerWorkgroup: count)
        return
      }
      let sizes =
        parts.last?.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
        ?? []
      guard parts.count == 2, sizes.count == 3, sizes.allSatisfy({ (1...256).contains($0) }),
        let path = Self.fragmentPaths.first(where: { $0.rawValue == parts[0] })
      else { return nil }
      self.init(path, fragmentM: sizes[0], n: sizes[1], k: sizes[2])
    }
  }

  /// Whether it is a path of cooperative matrices.
  public var usesMatrices: Bool { path.map(Self.fragmentPaths.contains) ?? false }

  /// The choices as they are named to people.
  public static let allowedNames =
    ["auto"] + AttentionPath.allCases.map(\.rawValue) + fragmentPaths.map { "\($0.rawValue):MxNxK" }
    + ["subgroup:N"]

  /// Every path, and on a device with flexible matrix sizes the fragment shape of most GPUs as well:
  /// a software driver lists other shapes, and would leave that one untried. Of matrix2 it takes no 16x16x16.
  public static func all(on device: DeviceCapabilities) -> [AttentionPathChoice] {
    AttentionPath.allCases.map { AttentionPathChoice($0) }
      + (device.has(.coopmat2)
        ? [
          AttentionPathChoice(fragmentM: 16, n: 16, k: 16),
          AttentionPathChoice(.matrix2, fragmentM: 16, n: device.kind == .cpu ? 8 : 16, k: 16),
        ] : [])
  }

  /// Plans a request this way, with a user's tuned tiles where they fit it.
  public func plan(
    _ request: AttentionRequest, device: DeviceCapabilities, tuning: Tuning = .none
  ) throws(AttentionError) -> AttentionPlan {
    try AttentionPlan(request, device: device, path: path, tile: tile, tuning: tuning)
  }

  /// The name of what ran, for a plan that was made this way.
  public func name(of plan: AttentionPlan) -> String {
    tile == .tuned ? plan.path.rawValue : description
  }
}

extension AttentionPathChoice: CustomStringConvertible {
  /// The choice's name.
  public var description: String {
    switch tile {
    case .tuned: path?.rawValue ?? "auto"
    case .fragment(let m, let n, let k): "\(path?.rawValue ?? "auto"):\(m)x\(n)x\(k)"
    case .problems(let count): "\(path?.rawValue ?? "auto"):\(count)"
    }
  }
}
