import VulkanAttention

/// How many cases a check has.
public enum CheckDepth: String, Sendable, CaseIterable {
  /// A few head sizes, the lengths where tiles begin and end.
  case quick
  /// Every group with its usual suspects.
  case standard
  /// Every pair of lengths, more head sizes, every option with four shapes.
  case full
}

/// The cases of a check.
public enum AttentionCheckGrid {
  /// Lengths of one, of a tile less one, a tile and a tile more, primes and several tiles.
  static let lengths = [1, 7, 8, 16, 17, 33, 63, 64, 65, 100, 128, 257]
  /// Query heads and key heads: multi-head, grouped and multi-query attention.
  static let heads: [(query: Int, key: Int)] = [(2, 2), (4, 2), (4, 1), (7, 1), (8, 1), (1, 1)]

  /// The cases of a depth, in the order of their groups.
  public static func cases(_ depth: CheckDepth) -> [AttentionCheckCase] {
    lengthCases(depth) + headSizeCases(depth) + headCountCases(depth) + layoutCases(depth)
      + largeScoreCases(depth) + hiddenKeyCases(depth) + noVisibleKeyCases(depth)
      + optionCases(depth) + tinyProblemCases(depth)
  }

  /// Every type, causal and not.
  private static let variants: [(type: ElementType, isCausal: Bool)] =
    ElementType.allCases.flatMap { [($0, false), ($0, true)] }

  private static func lengthCases(_ depth: CheckDepth) -> [AttentionCheckCase] {
    let pairs: [(Int, Int)] =
      switch depth {
      case .quick: [(1, 1), (7, 17), (64, 64), (65, 33), (33, 257)]
      case .standard:
        zip(lengths, lengths).map { ($0, $1) } + [
          (1, 7), (1, 257), (7, 1), (8, 9), (16, 17), (17, 16), (33, 65), (63, 128), (64, 65),
          (65, 64), (100, 33), (128, 257), (257, 63), (257, 100),
        ]
      case .full: lengths.flatMap { s in lengths.map { (s, $0) } }
      }
    return pairs.enumerated().flatMap { index, pair in
      variants.map { variant in
        // The other axes turn along, so that lengths meet every batch and head count.
        let heads = heads[index % heads.count]
        return AttentionCheckCase(
          "lengths",
          AttentionShape(
            batchSize: 1 + index % 2, queryTokens: pair.0, keyTokens: pair.1,
            queryHeads: heads.query, keyHeads: heads.key, headSize: 64),
          variant.type, isCausal: variant.isCausal)
      }
    }
  }

  private static func headSizeCases(_ depth: CheckDepth) -> [AttentionCheckCase] {
    let mixes = [(64, 128), (128, 64), (40, 72), (8, 256), (256, 8), (192, 128), (16, 24)]
    let sizes: [(Int, Int)] =
      switch depth {
      case .quick: [(8, 8), (128, 128), (40, 72)]
      case .standard, .full:
        [8, 16, 32, 80, 96, 128, 160, 200, 256, 1, 6, 59, 100].map { ($0, $0) } + mixes
      }
    // Beyond 256 a software driver compiles a pipeline for half a minute and longer.
    let large: [(Int, Int)] =
      switch depth {
      case .quick: []
      case .standard: [(320, 256), (576, 512), (512, 512)]
      case .full: [(320, 256), (576, 512), (512, 512), (576, 576), (320, 320)]
      }
    let further: [(Int, Int)] =
      depth == .full
      ? [24, 40, 48, 56, 64, 72, 88, 104, 112, 120, 136, 184, 208, 232, 3, 7, 12, 36, 111].map {
        ($0, $0)
      } + stride(from: 8, through: 248, by: 48).map { ($0, 264 - $0) } + [(100, 52), (59, 7)] : []
    func checkCase(
      _ size: (Int, Int), _ variant: (type: ElementType, isCausal: Bool), isVariation: Bool
    ) -> AttentionCheckCase {
      AttentionCheckCase(
        "head sizes",
        AttentionShape(
          queryTokens: 33, keyTokens: 65, queryHeads: 2, keyHeads: 1, headSize: size.0,
          valueHeadSize: size.1),
        variant.type, isCausal: variant.isCausal, isVariation: isVariation)
    }
    // A head size is a pipeline of its own for every variant: each type, causal by turns; of the others
    // one variant, by turns.
    return sizes.enumerated().flatMap { index, size in
      variants.enumerated().filter { number, _ in
        (number + number / 2 + index) % 2 == 0
      }.map { checkCase(size, $1, isVariation: false) }
    }
      + [large, further].flatMap { sizes in
        sizes.enumerated().map { index, size in
          checkCase(
            size, variants[(index % 3 * 2 + index / 3 % 2) % variants.count], isVariation: true)
        }
      }
  }

  private static func headCountCases(_ depth: CheckDepth) -> [AttentionCheckCase] {
    guard depth != .quick else { return [] }
    return [(1, 1), (4, 4), (8, 4), (8, 2), (7, 1), (14, 2), (8, 1), (16, 2)].flatMap { heads in
      variants.map { variant in
        AttentionCheckCase(
          "grouped heads",
          AttentionShape(
            batchSize: 3, queryTokens: 17, keyTokens: 33, queryHeads: heads.0,
            keyHeads: heads.1, headSize: 64),
          variant.type, isCausal: variant.isCausal)
      }
    }
  }

  /// Every option; each is a pipeline of its own for every type and head size.
  private static func optionCases(_ depth: CheckDepth) -> [AttentionCheckCase] {
    let shape = AttentionShape(
      batchSize: 3, queryTokens: 33, keyTokens: 65, queryHeads: 4, keyHeads: 2, headSize: 64)
    let options: [AttentionCheckOption] =
      depth == .quick
      ? [.window, .bias, .keyLengths, .packedSequences] : AttentionCheckOption.allCases
    let shapes =
      depth == .full
      ? [
        AttentionShape(
          batchSize: 3, queryTokens: 1, keyTokens: 129, queryHeads: 4, keyHeads: 1, headSize: 40,
          valueHeadSize: 40),
        // So many rows that keys and values are packed first.
        AttentionShape(
          batchSize: 3, queryTokens: 141, keyTokens: 97, queryHeads: 4, keyHeads: 2, headSize: 64),
        AttentionShape(
          batchSize: 3, queryTokens: 20, keyTokens: 37, queryHeads: 2, keyHeads: 2, headSize: 59,
          valueHeadSize: 59),
      ] : []
    let types = ElementType.allCases
    return options.enumerated().flatMap { number, option in
      let group = "option \(option.rawValue)"
      // The three further shapes have a type each, another one for the next option.
      return [ElementType.f32, .f16].map {
        AttentionCheckCase(group, shape, $0, option: option)
      }
        + shapes.enumerated().map { index, shape in
          AttentionCheckCase(
            group, shape, types[(number + index) % types.count], option: option, isVariation: true)
        }
    }
  }

  /// Heads of 6 and 8 channels and a few tokens, several of them in a workgroup of the subgroup path: shares that are
  /// whole subgroups and parts of them, and a last workgroup that is not full.
  private static func tinyProblemCases(_ depth: CheckDepth) -> [AttentionCheckCase] {
    let group = "tiny problems"
    let shapes: [(shape: AttentionShape, problems: Int)] = [
      (AttentionShape(batchSize: 5, queryTokens: 8, queryHeads: 4, headSize: 8), 4),
      (
        AttentionShape(
          batchSize: 3, queryTokens: 7, keyTokens: 11, queryHeads: 4, keyHeads: 2, headSize: 6), 5
      ),
      (AttentionShape(batchSize: 3, queryTokens: 49, queryHeads: 3, headSize: 12), 2),
      (
        AttentionShape(
          batchSize: 9, queryTokens: 1, keyTokens: 17, queryHeads: 2, keyHeads: 1, headSize: 4), 8
      ),
      (AttentionShape(batchSize: 2, queryTokens: 16, queryHeads: 5, headSize: 8), 3),
    ]
    let options: [AttentionCheckOption] =
      switch depth {
      case .quick: []
      case .standard:
        [
          .headWindows, .sinkTokens, .keyLengths, .bias, .alibi, .gates, .resume, .packedSequences,
          .everyMask, .everyScore,
        ]
      // Problems of one workgroup have no block map.
      case .full: AttentionCheckOption.allCases.filter { $0 != .blockMap }
      }
    let types = ElementType.allCases
    return (depth == .quick ? Array(shapes.prefix(2)) : shapes).enumerated().flatMap {
      index, tiny in
      [false, true].map {
        AttentionCheckCase(
          group, tiny.shape, types[(index + ($0 ? 1 : 0)) % types.count], isCausal: $0,
          isVariation: true, problemsPerWorkgroup: tiny.problems)
      }
    }
      + options.enumerated().map { index, option in
        AttentionCheckCase(
          group,
          AttentionShape(
            batchSize: 3, queryTokens: 7, keyTokens: 19, queryHeads: 4, keyHeads: 2, headSize: 8),
          index % 2 == 0 ? .f32 : .f16, option: option, isVariation: true,
          problemsPerWorkgroup: 5)
      }
  }

  private static func layoutCases(_ depth: CheckDepth) -> [AttentionCheckCase] {
    let lengths = depth == .full ? [(1, 1), (16, 16), (33, 65), (65, 17)] : [(33, 65)]
    return lengths.flatMap { lengths in
      [AttentionCheckCase.Layout.headMajor, .padded].flatMap { layout in
        variants.map { variant in
          AttentionCheckCase(
            "layouts",
            AttentionShape(
              batchSize: 2, queryTokens: lengths.0, keyTokens: lengths.1, queryHeads: 4,
              keyHeads: 2, headSize: 64),
            variant.type, isCausal: variant.isCausal, layout: layout)
        }
      }
    }
  }

  private static func largeScoreCases(_ depth: CheckDepth) -> [AttentionCheckCase] {
    let lengths = depth == .quick ? [(33, 65)] : [(33, 65), (64, 257), (1, 128)]
    return lengths.flatMap { lengths in
      variants.map { variant in
        AttentionCheckCase(
          "large scores",
          AttentionShape(
            queryTokens: lengths.0, keyTokens: lengths.1, queryHeads: 2, headSize: 64),
          variant.type, isCausal: variant.isCausal, data: .largeScores)
      }
    }
  }

  private static func hiddenKeyCases(_ depth: CheckDepth) -> [AttentionCheckCase] {
    let problems: [(s: Int, t: Int, hidden: Int)] =
      depth == .quick
      ? [(33, 65, 1), (64, 64, 7)]
      : [(33, 65, 1), (64, 64, 7), (17, 17, 16), (65, 33, 9), (128, 257, 40), (8, 8, 1)]
    return problems.flatMap { problem in
      ElementType.allCases.flatMap { type in
        [
          AttentionCheckCase.Data.nanInLastKeys(problem.hidden),
          .infinityInLastKeys(problem.hidden),
        ].map { data in
          AttentionCheckCase(
            "NaN in hidden keys",
            AttentionShape(
              queryTokens: problem.s, keyTokens: problem.t, queryHeads: 4, keyHeads: 2,
              headSize: 64),
            type, isCausal: true, data: data)
        }
      }
    }
  }

  private static func noVisibleKeyCases(_ depth: CheckDepth) -> [AttentionCheckCase] {
    let lengths =
      depth == .quick ? [(9, 0), (33, 8)] : [(1, 0), (9, 0), (33, 8), (257, 1), (65, 64)]
    return lengths.flatMap { lengths in
      variants.filter { lengths.1 == 0 || $0.isCausal }.map { variant in
        AttentionCheckCase(
          "no visible key",
          AttentionShape(
            batchSize: 2, queryTokens: lengths.0, keyTokens: lengths.1, queryHeads: 4,
            keyHeads: 2, headSize: 64),
          variant.type, isCausal: variant.isCausal)
      }
    }
  }
}
