extension MaskModification {
  /// Neighbourhood attention on a grid: each query sees the kernel of keys around it, and at borders the kernel is
  /// shifted inside, so that every query sees as many.
  ///
  /// Tokens follow one another row by row. Along each axis of length L with kernel size K and dilation δ, the
  /// coordinates that are equal modulo δ are a line of their own of n places; a query at place u of it sees places
  ///
  ///     a ..< a + K of the same line,   a = clamp(u − ⌊K/2⌋, 0, n − K)
  ///
  /// and a key is seen where both axes see it. A sequence is a grid of height 1 with a kernel of height 1.
  ///
  /// Papers: Hassani et al. 2022, "Neighborhood Attention Transformer", https://arxiv.org/abs/2204.07143; with
  /// dilation Hassani and Shi 2022, "Dilated Neighborhood Attention Transformer", https://arxiv.org/abs/2209.15001.
  /// Reads no buffer and no scalar. Queries that stand at no token of the grid see nothing, keys behind it are hidden.
  ///
  /// - Parameters:
  ///   - grid: the image in tokens.
  ///   - kernel: the neighbourhood in tokens, odd.
  ///   - dilation: the distance of neighbours in it; kernel · dilation is at most the grid.
  /// - Throws: `CustomAttentionError.attention(.invalidArgument)`.
  public static func neighborhood(
    grid: GridSize, kernel: GridSize, dilation: GridSize = GridSize(side: 1)
  ) throws(CustomAttentionError) -> MaskModification {
    try grid.check("grid")
    try dilation.check("dilation")
    try kernel.check(
      "kernel", toHeight: grid.height / dilation.height, width: grid.width / dilation.width)
    for (name, side) in [("kernel.height", kernel.height), ("kernel.width", kernel.width)]
    where side % 2 == 0 {
      throw LibraryArgument.invalid(name, "\(side)", "an odd number")
    }
    func axis(_ coordinate: String, _ length: Int, _ kernel: Int, _ dilation: Int) -> String {
      "isNeighbor(\(coordinate), \(length), \(kernel), \(dilation))"
    }
    return MaskModification(
      library: grid.visible(
        where: axis("queryY, keyY", grid.height, kernel.height, dilation.height) + " && "
          + axis("queryX, keyX", grid.width, kernel.width, dilation.width)),
      declarations: """
        bool isNeighbor(int query, int key, int extent, int kernel, int dilation) {
          int phase = query % dilation;
          int places = (extent - phase + dilation - 1) / dilation;
          int first = clamp(query / dilation - kernel / 2, 0, places - kernel);
          int place = key / dilation - first;
          return key % dilation == phase && place >= 0 && place < kernel;
        }
        """)
  }

  /// Blocks of queries with a halo of keys around them: along each axis, the query's block of b coordinates sees its
  /// own and `halo` more on either side.
  ///
  ///     ⌊q / b⌋ · b − halo ≤ k < (⌊q / b⌋ + 1) · b + halo
  ///
  /// Paper: Vaswani et al. 2021, "Scaling Local Self-Attention for Parameter Efficient Visual Backbones" (HaloNet),
  /// https://arxiv.org/abs/2103.12731. Where the halo leaves the image there are no keys; an implementation that pads
  /// keys with zeros gives those a share of the softmax, and differs there. Its relative logits q · r are no part of
  /// this mask. Reads no buffer and no scalar. Queries that stand at no token of the grid see nothing, keys behind it
  /// are hidden.
  ///
  /// - Parameters:
  ///   - grid: the image in tokens; its last blocks may be smaller.
  ///   - block: b, the tokens of a block.
  ///   - halo: tokens on each side, 0 or more.
  /// - Throws: `CustomAttentionError.attention(.invalidArgument)`.
  public static func haloBlocks(
    grid: GridSize, block: GridSize, halo: Int
  ) throws(CustomAttentionError) -> MaskModification {
    try grid.check("grid")
    try block.check("block")
    try LibraryArgument.check("halo", halo, from: 0, to: LibraryArgument.largestSide)
    return MaskModification(
      library: grid.visible(
        where: "isInHalo(queryY, keyY, \(block.height)) && isInHalo(queryX, keyX, \(block.width))"),
      declarations: """
        bool isInHalo(int query, int key, int block) {
          int first = query / block * block;
          return key >= first - \(halo) && key < first + block + \(halo);
        }
        """)
  }

  /// Swin Transformer's shifted windows over a whole image, its tokens row by row and not rolled.
  ///
  /// The image is cut into windows after a cyclic shift by −`shift` along both axes. A key is seen where it is in the
  /// query's window and, along each axis, both or neither came from beyond the border:
  ///
  ///     ⌊roll(q) / M⌋ = ⌊roll(k) / M⌋ and (q < shift) = (k < shift),   roll(c) = (c − shift) mod L
  ///
  /// With a shift of 0 these are Swin's plain windows. All of the image is one sequence here, and every pair of tokens
  /// is asked for: ``partitionedShiftedWindows(grid:window:shift:)`` is the mask of windows that are batch entries,
  /// far less work. The relative position bias is the operand `gridBias` there.
  ///
  /// Paper: Liu et al. 2021, "Swin Transformer", https://arxiv.org/abs/2103.14030, section 3.2. Reads no buffer and no
  /// scalar. Queries that stand at no token of the grid see nothing, keys behind it are hidden.
  ///
  /// - Parameters:
  ///   - grid: the image in tokens, a multiple of the window.
  ///   - window: M, the tokens of a window.
  ///   - shift: 0 or more and less than the window along both axes; ⌊M / 2⌋ in Swin.
  /// - Throws: `CustomAttentionError.attention(.invalidArgument)`.
  public static func shiftedWindows(
    grid: GridSize, window: GridSize, shift: Int
  ) throws(CustomAttentionError) -> MaskModification {
    try checkShiftedWindows(grid, window, shift)
    return MaskModification(
      library: grid.visible(
        where: "sharesWindow(queryY, keyY, \(grid.height), \(window.height)) && "
          + "sharesWindow(queryX, keyX, \(grid.width), \(window.width))"),
      declarations: """
        bool sharesWindow(int query, int key, int extent, int window) {
          bool queryIsWrapped = query < \(shift);
          bool keyIsWrapped = key < \(shift);
          int queryPlace = query - \(shift) + (queryIsWrapped ? extent : 0);
          int keyPlace = key - \(shift) + (keyIsWrapped ? extent : 0);
          return queryIsWrapped == keyIsWrapped && queryPlace / window == keyPlace / window;
        }
        """)
  }

  /// Swin Transformer's mask of shifted windows that are batch entries.
  ///
  /// The image was rolled by −`shift` along both axes and cut into its windows, row by row; batch entry b is window
  /// b mod (windows of an image), and its tokens, row by row, are queries and keys (S = T = M²). A key is seen where,
  /// along each axis, it and the query both or neither came from beyond the border: in the last windows, the last
  /// `shift` coordinates did.
  ///
  /// Paper: Liu et al. 2021, "Swin Transformer", https://arxiv.org/abs/2103.14030, section 3.2. Reads no buffer and no
  /// scalar.
  ///
  /// - Parameters:
  ///   - grid: the image in tokens, a multiple of the window.
  ///   - window: M, the tokens of a window.
  ///   - shift: 0 or more and less than the window along both axes; ⌊M / 2⌋ in Swin.
  /// - Throws: `CustomAttentionError.attention(.invalidArgument)`.
  public static func partitionedShiftedWindows(
    grid: GridSize, window: GridSize, shift: Int
  ) throws(CustomAttentionError) -> MaskModification {
    try checkShiftedWindows(grid, window, shift)
    let columns = grid.width / window.width
    return MaskModification(
      library: """
        int place = batch % \(grid.height / window.height * columns);
        int y = place / \(columns) * \(window.height);
        int x = place % \(columns) * \(window.width);
        bool isQueryBelow = y + queryIndex / \(window.width) >= \(grid.height - shift);
        bool isKeyBelow = y + keyIndex / \(window.width) >= \(grid.height - shift);
        bool isQueryRight = x + queryIndex % \(window.width) >= \(grid.width - shift);
        bool isKeyRight = x + keyIndex % \(window.width) >= \(grid.width - shift);
        return isQueryBelow == isKeyBelow && isQueryRight == isKeyRight;
        """)
  }

  private static func checkShiftedWindows(
    _ grid: GridSize, _ window: GridSize, _ shift: Int
  ) throws(CustomAttentionError) {
    try grid.check("grid")
    try window.check("window", toHeight: grid.height, width: grid.width)
    for (name, side, window) in [
      ("grid.height", grid.height, window.height), ("grid.width", grid.width, window.width),
    ] where side % window != 0 {
      throw LibraryArgument.invalid(name, "\(side)", "a multiple of the window's, \(window)")
    }
    try LibraryArgument.check(
      "shift", shift, from: 0, to: min(window.height, window.width) - 1)
  }
}

extension GridSize {
  /// The body of a mask by the coordinates queryY, queryX, keyY and keyX of tokens of this grid.
  fileprivate func visible(where condition: String) -> String {
    """
    int position = queryIndex + positionOffset;
    // A query at no token gets the coordinates of one, and sees nothing.
    int place = clamp(position, 0, \(height * width - 1));
    int queryY = place / \(width);
    int queryX = place % \(width);
    int keyY = keyIndex / \(width);
    int keyX = keyIndex % \(width);
    return place == position && keyY < \(height) && \(condition);
    """
  }
}
