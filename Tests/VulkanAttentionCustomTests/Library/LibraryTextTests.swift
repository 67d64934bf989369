import Testing

@testable import VulkanAttentionCustom

/// The library's texts are made without the scanner of users' texts; what is in them must pass it all the same.
@Suite struct LibraryTextTests {
  @Test func scannerRefusesNothing() throws {
    let grid = GridSize(height: 8, width: 6)
    let window = GridSize(side: 2)
    let scores: [ScoreModification] = [
      .alibi, try .softcap(1e-7), try .t5RelativeBias(heads: 3, isBidirectional: true),
      try .t5RelativeBias(heads: 3, buckets: 256, maxDistance: 1 << 24, isBidirectional: false),
      try .decay(heads: 3), try .gridPositions(gridWidth: 5),
      try .gaussianKeys(deviation: 2, keyHeads: 1),
      try .gaussianMixtureKeys(components: 2, queryHeads: 3, keyHeads: 1),
      try .polar(channels: 4, queryHeads: 3, keyHeads: 1, scale: -1e-9),
    ]
    for score in scores {
      let scanned = try ScoreModification(
        score.body, declarations: score.declarations, buffers: score.buffers,
        scalars: score.scalars)
      #expect(scanned == score)
    }
    let masks: [MaskModification] = [
      .causal, .prefixCausal, .documents, .treeParents, .treeAncestors,
      try .slidingWindow(left: nil, right: nil), try .dilatedWindow(left: 2, dilation: 3),
      try .skipCausal(blockTokens: 2, cleanTokens: 4), try .repeatedTokens(copies: 2),
      try .temporalLatent(stride: 2), try .neighborhood(grid: grid, kernel: GridSize(side: 3)),
      try .haloBlocks(grid: grid, block: window, halo: 1),
      try .shiftedWindows(grid: grid, window: window, shift: 1),
      try .partitionedShiftedWindows(grid: grid, window: window, shift: 1),
    ]
    for mask in masks {
      let scanned = try MaskModification(
        mask.body, declarations: mask.declarations, buffers: mask.buffers, scalars: mask.scalars)
      #expect(scanned == mask)
    }
  }
}
