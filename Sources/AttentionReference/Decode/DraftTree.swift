/// A tree of draft tokens that are verified in one step.
///
/// Node w is query w, and key n − W + w of its sequence, W being the number of nodes. It sees the committed
/// tokens, its ancestors and itself. (SpecInfer, arXiv:2305.09781; Medusa, arXiv:2401.10774.) A chain is
/// the tree in which each node's parent is the node before it, and its bits are the causal mask.
public struct DraftTree: Sendable, Hashable {
  /// `[W]`: the parent of each node, an earlier one, or nil for a child of the last committed token.
  public let parents: [Int?]

  /// A tree of one's own.
  ///
  /// - Precondition: parents come before their children.
  public init(parents: [Int?]) {
    for (node, parent) in parents.enumerated() {
      if let parent { precondition((0..<node).contains(parent), "parents come first") }
    }
    self.parents = parents
  }

  /// W.
  public var count: Int { parents.count }

  /// `[W, ⌈W/8⌉]`: bit `w % 8`, the lowest first, of byte `w / 8` of row i is 1 where w is i or one of its
  /// ancestors. What ``AttentionOptions/treeBits`` takes, with ``AttentionOptions/treeTokens`` W.
  public var ancestorBits: [UInt8] {
    let width = (count + 7) / 8
    var bits = [UInt8](repeating: 0, count: count * width)
    for node in parents.indices {
      var ancestor: Int? = node
      while let w = ancestor {
        bits[node * width + w / 8] |= 1 << (w % 8)
        ancestor = parents[w]
      }
    }
    return bits
  }

  /// The position of each node behind the last committed token: 0 for its children.
  public var depths: [Int] {
    var depths: [Int] = []
    for parent in parents { depths.append(parent.map { depths[$0] + 1 } ?? 0) }
    return depths
  }

  /// The nodes that greedy verification accepts, from the top: the child that drafts the token the model
  /// predicts after the last accepted one, as long as there is such a child.
  ///
  /// - Parameters:
  ///   - tokens: `[W]`: the drafted tokens.
  ///   - predictions: `[W]`: what the model predicts after each node.
  ///   - first: what it predicts after the last committed token.
  public func acceptedPath(tokens: [Int], predictions: [Int], first: Int) -> [Int] {
    precondition(tokens.count == count && predictions.count == count, "tokens must be [W]")
    var path: [Int] = []
    var wanted = first
    while let node = parents.indices.first(where: {
      parents[$0] == path.last && tokens[$0] == wanted
    }) {
      path.append(node)
      wanted = predictions[node]
    }
    return path
  }
}

/// Moves the keys, or values, of an accepted path to where they belong: node `path[i]`, at position
/// `committed + path[i]`, to position `committed + i`. The sequence then has `committed + path.count`.
///
/// - Parameters:
///   - cache: the cache's elements.
///   - layout: where they lie.
///   - sequence: b.
///   - committed: the keys before the drafts.
///   - path: accepted nodes, rising.
///   - heads: G.
///   - channels: C.
public func compactCache<Element>(
  _ cache: inout [Element], layout: CacheLayout, sequence: Int, committed: Int, path: [Int],
  heads: Int, channels: Int
) {
  precondition(zip(path, path.dropFirst()).allSatisfy { $0 < $1 }, "a path rises")
  precondition(path.allSatisfy { $0 >= 0 }, "no such node")
  // node ≥ place: what is overwritten has been moved or is not accepted.
  for (place, node) in path.enumerated() where node != place {
    for head in 0..<heads {
      let from = layout.start(
        sequence: sequence, position: committed + node, head: head, heads: heads,
        channels: channels)
      let to = layout.start(
        sequence: sequence, position: committed + place, head: head, heads: heads,
        channels: channels)
      for c in 0..<channels { cache[to + c] = cache[from + c] }
    }
  }
}
