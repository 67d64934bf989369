import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttentionCustom

/// Masks of draft trees against the built-in bits of a tree.
@Suite(.serialized, .timeLimit(.minutes(15)), .needsDevice, .needsShaderc)
struct DraftTreeMaskTests {
  /// Two trees of eleven nodes, one of them with three roots.
  private static let parents: [[Int32]] = [
    [-1, 0, 0, 1, 1, 2, 3, 3, 6, 5, 9], [-1, -1, 0, 2, 3, 1, -1, 6, 5, 8, 4],
  ]
  private static let nodes = 11

  /// [B, S, 2]: the bits of a query's ancestors and itself; queries before the tree see none of it.
  private static func bits(queries: Int) -> [UInt8] {
    parents.flatMap { parents in
      (0..<queries).flatMap { i in
        var row: [UInt8] = [0, 0]
        var node = i - (queries - nodes)
        while node >= 0 {
          row[node / 8] |= 1 << (node % 8)
          node = Int(parents[node])
        }
        return row
      }
    }
  }

  @Test("Parents and bits of a tree are the built-in one", arguments: LibraryProblem.paths)
  func trees(path: AttentionPath) async throws {
    // All queries are nodes; the first four come before the tree, which is causal there; there are keys of the tree
    // alone.
    for (queries, keys) in [(11, 47), (15, 43), (11, 11)] {
      var scores = AttentionScores()
      scores.treeTokens = Self.nodes
      let plain = try LibraryProblem(queries: queries, keys: keys)
      var tree = try LibraryProblem(
        queries: queries, keys: keys, mask: .causal, scores: scores,
        operands: [AttentionOperand(.treeBits)])
      tree.inputs = plain.inputs
      let bits = Self.bits(queries: queries)
      tree.inputs.operands[.treeBits] = bits
      let expected = try await tree.runBuiltIn(path)
      let scalars = ["treeTokens": CustomScalar.Value.int(Int32(Self.nodes))]
      try plain.expectEqual(
        await plain.run(
          path, mask: .treeParents,
          buffers: ["parents": .integers(Self.parents.flatMap { $0 })], scalars: scalars),
        expected, emptyTokens: 0, "parents, \(path), \(queries) × \(keys)")
      // The bits say nothing of the keys before the tree: the request's causal mask does.
      let causal = try LibraryProblem(queries: queries, keys: keys, mask: .causal)
      try plain.expectEqual(
        await causal.run(
          path, mask: .treeAncestors, buffers: ["ancestors": .bytes(bits)], scalars: scalars),
        expected, emptyTokens: 0, "ancestors, \(path), \(queries) × \(keys)")
    }
  }

  @Test("Queries before all keys see none; a tree without a node is causal")
  func emptyRows() async throws {
    for path in LibraryProblem.paths {
      let plain = try LibraryProblem(queries: 23, keys: 17)
      let causal = try LibraryProblem(queries: 23, keys: 17, mask: .causal)
      try plain.expectEqual(
        await plain.run(
          path, mask: .treeParents, buffers: ["parents": .integers([-1])],
          scalars: ["treeTokens": .int(0)]),
        await causal.runBuiltIn(path), emptyTokens: 6, "\(path)")
    }
  }

  @Test("A parent that does not come before its child counts as the node before it")
  func wrongParents() async throws {
    for path in LibraryProblem.paths {
      let problem = try LibraryProblem(queries: 11, keys: 20)
      let wrong = (0..<22).map { node -> Int32 in
        [1_000_000, -1_000_000, Int32(node % 11)][node % 3]
      }
      let expected = problem.reference {
        $0.maskModification = { b, _, i, j in
          var node = i
          while node > j - 9 && node >= 0 { node = min(Int(wrong[b * 11 + node]), node - 1) }
          return j < 9 || node == j - 9
        }
      }
      try problem.expectEqual(
        await problem.run(
          path, mask: .treeParents, buffers: ["parents": .integers(wrong)],
          scalars: ["treeTokens": .int(11)]),
        expected, emptyTokens: 0, "\(path)")
    }
  }
}
