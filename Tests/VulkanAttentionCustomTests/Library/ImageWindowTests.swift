import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttentionCustom

/// Windows on a grid, against the papers' rules in the reference.
@Suite(.serialized, .timeLimit(.minutes(15)), .needsDevice, .needsShaderc)
struct ImageWindowTests {
  /// Holds a mask against a rule of the coordinates of query and key; nothing else is visible.
  private func expect(
    _ mask: MaskModification, _ grid: GridSize, _ path: AttentionPath, _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ isVisible: @escaping @Sendable (_ query: (y: Int, x: Int), _ key: (y: Int, x: Int)) -> Bool
  ) async throws {
    let (height, width) = (grid.height, grid.width)
    // Queries that are the last tokens of the grid; queries before the grid; 3 tokens behind the grid, as queries
    // and as keys.
    for (queries, keys, empty) in [
      (height * width - 4, height * width, 0), (height * width + 5, height * width, 5),
      (height * width, height * width + 3, 3),
    ] {
      let problem = try LibraryProblem(queries: queries, keys: keys)
      let offset = problem.positionOffset
      let expected = problem.reference {
        $0.maskModification = { _, _, i, j in
          let p = i + offset
          guard p >= 0, p < height * width, j < height * width else { return false }
          return isVisible((p / width, p % width), (j / width, j % width))
        }
      }
      try problem.expectEqual(
        await problem.run(path, mask: mask), expected, emptyTokens: empty,
        "\(path), \(queries) × \(keys), \(what)", sourceLocation: sourceLocation)
    }
  }

  @Test("A neighbourhood is shifted inside at borders", arguments: LibraryProblem.paths)
  func neighborhood(path: AttentionPath) async throws {
    let grid = GridSize(height: 7, width: 9)
    for (kernel, dilation) in [
      (GridSize(side: 3), GridSize(side: 1)), (GridSize(height: 5, width: 3), GridSize(side: 1)),
      (GridSize(side: 3), GridSize(height: 2, width: 3)),
    ] {
      let counts = kernel.height * kernel.width
      let rows = NeighborhoodLine(extent: 7, kernel: kernel.height, dilation: dilation.height)
      let columns = NeighborhoodLine(extent: 9, kernel: kernel.width, dilation: dilation.width)
      for y in 0..<7 {
        for x in 0..<9 {
          #expect(rows.neighbors(of: y).count * columns.neighbors(of: x).count == counts)
        }
      }
      try await expect(
        .neighborhood(grid: grid, kernel: kernel, dilation: dilation), grid, path,
        "\(kernel), \(dilation)"
      ) { query, key in
        rows.neighbors(of: query.y).contains(key.y)
          && columns.neighbors(of: query.x).contains(key.x)
      }
    }
  }

  @Test("A sequence is a grid of one row", arguments: LibraryProblem.paths)
  func neighborhoodOfSequence(path: AttentionPath) async throws {
    let grid = GridSize(height: 1, width: 41)
    let line = NeighborhoodLine(extent: 41, kernel: 7, dilation: 5)
    try await expect(
      .neighborhood(
        grid: grid, kernel: GridSize(height: 1, width: 7),
        dilation: GridSize(height: 1, width: 5)), grid, path, "7, dilation 5"
    ) { line.neighbors(of: $0.x).contains($1.x) }
  }

  @Test("HaloNet's blocks see their halo", arguments: LibraryProblem.paths)
  func haloBlocks(path: AttentionPath) async throws {
    let grid = GridSize(height: 8, width: 7)
    for halo in [0, 2] {
      try await expect(
        .haloBlocks(grid: grid, block: GridSize(height: 4, width: 3), halo: halo), grid, path,
        "halo \(halo)"
      ) { query, key in
        // Near enough to some coordinate of the query's block.
        let isNear = { (query: Int, key: Int, block: Int) in
          (0..<99).contains { $0 / block == query / block && abs($0 - key) <= halo }
        }
        return isNear(query.y, key.y, 4) && isNear(query.x, key.x, 3)
      }
    }
  }

  @Test("Swin's shifted windows of a whole image", arguments: LibraryProblem.paths)
  func shiftedWindows(path: AttentionPath) async throws {
    let grid = GridSize(height: 8, width: 12)
    for shift in [0, 2] {
      let mask = try MaskModification.shiftedWindows(
        grid: grid, window: GridSize(side: 4), shift: shift)
      try await expect(mask, grid, path, "shift \(shift)") { query, key in
        let (query, key) = (
          SwinPlace(query, grid, window: 4, shift: shift),
          SwinPlace(key, grid, window: 4, shift: shift)
        )
        return query.window == key.window && query.region == key.region
      }
    }
  }

  @Test("Swin's shifted windows as batch entries", arguments: LibraryProblem.paths)
  func partitionedShiftedWindows(path: AttentionPath) async throws {
    let grid = GridSize(height: 8, width: 12)
    let mask = try MaskModification.partitionedShiftedWindows(
      grid: grid, window: GridSize(side: 4), shift: 2)
    // Two images of six windows.
    let problem = try LibraryProblem(queries: 16, keys: 16, batchSize: 12)
    let expected = problem.reference {
      $0.maskModification = { b, _, i, j in
        let (top, left) = (b % 6 / 3 * 4, b % 3 * 4)
        // Rolled back to where the tokens came from.
        let region = { (token: Int) in
          SwinPlace(
            ((top + token / 4 + 2) % 8, (left + token % 4 + 2) % 12), grid, window: 4, shift: 2
          ).region
        }
        return region(i) == region(j)
      }
    }
    try problem.expectEqual(
      await problem.run(path, mask: mask), expected, emptyTokens: 0, "\(path)")
  }

  @Test("Grids that do not fit are refused")
  func arguments() {
    let grid = GridSize(height: 6, width: 8)
    expectRefused("kernel.width") {
      try MaskModification.neighborhood(grid: grid, kernel: GridSize(height: 3, width: 9))
    }
    expectRefused("kernel.height") {
      try MaskModification.neighborhood(
        grid: grid, kernel: GridSize(side: 3), dilation: GridSize(height: 3, width: 1))
    }
    expectRefused("kernel.height") {
      try MaskModification.neighborhood(grid: grid, kernel: GridSize(side: 2))
    }
    expectRefused("dilation.width") {
      try MaskModification.neighborhood(
        grid: grid, kernel: GridSize(side: 1), dilation: GridSize(height: 1, width: 0))
    }
    expectRefused("grid.height") {
      try MaskModification.neighborhood(
        grid: GridSize(height: 0, width: 8), kernel: GridSize(side: 1))
    }
    expectRefused("grid.width") {
      try MaskModification.haloBlocks(
        grid: GridSize(height: 1, width: 1 << 20), block: GridSize(side: 1), halo: 0)
    }
    expectRefused("block.height") {
      try MaskModification.haloBlocks(grid: grid, block: GridSize(height: 0, width: 1), halo: 0)
    }
    expectRefused("halo") {
      try MaskModification.haloBlocks(grid: grid, block: GridSize(side: 2), halo: -1)
    }
    expectRefused("grid.width") {
      try MaskModification.shiftedWindows(grid: grid, window: GridSize(side: 3), shift: 1)
    }
    expectRefused("shift") {
      try MaskModification.shiftedWindows(grid: grid, window: GridSize(side: 2), shift: 2)
    }
    expectRefused("shift") {
      try MaskModification.partitionedShiftedWindows(
        grid: grid, window: GridSize(side: 2), shift: -1)
    }
  }
}

/// Neighbourhoods along one axis, by search: of all runs of kernel-many coordinates of the query's own phase, the one
/// whose centre is nearest to it.
private struct NeighborhoodLine: Sendable {
  let extent: Int
  let kernel: Int
  let dilation: Int

  func neighbors(of query: Int) -> [Int] {
    let line = Array(stride(from: query % dilation, to: extent, by: dilation))
    let runs = (0...line.count - kernel).map { Array(line[$0..<$0 + kernel]) }
    return runs.min { abs($0[kernel / 2] - query) < abs($1[kernel / 2] - query) } ?? []
  }
}

/// Where a token is after Swin's cyclic shift: its window, and its region by the paper's slices of the rolled image.
private struct SwinPlace {
  let window: [Int]
  let region: [Int]

  init(_ place: (y: Int, x: Int), _ grid: GridSize, window: Int, shift: Int) {
    let rolled = [
      (place.y - shift + grid.height) % grid.height, (place.x - shift + grid.width) % grid.width,
    ]
    self.window = rolled.map { $0 / window }
    region = zip(rolled, [grid.height, grid.width]).map { coordinate, extent in
      coordinate < extent - window ? 0 : coordinate < extent - shift ? 1 : 2
    }
  }
}
