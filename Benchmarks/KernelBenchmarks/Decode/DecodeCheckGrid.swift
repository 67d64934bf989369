import VulkanAttention

/// The decode steps that are checked.
enum DecodeCheckGrid {
  private typealias Case = DecodeCheckCase

  /// The cases of a depth. The matrix path takes f16 alone: what other paths are given in f32 for its
  /// smaller gates, it is given in f16, and refuses the shapes in other types.
  static func cases(_ depth: CheckDepth, _ path: AttentionPath?) -> [DecodeCheckCase] {
    var cases = caches(depth) + formats(depth) + options(depth) + schedules(depth)
    cases += rotations(depth)
    if path == .matrix { cases = cases.map(halved) }
    cases = shapes(depth) + cases
    // Groups may name the same case twice.
    var seen: Set<String> = []
    cases.removeAll { !seen.insert($0.id).inserted }
    return cases
  }

  private static func halved(_ checkCase: DecodeCheckCase) -> DecodeCheckCase {
    var own = checkCase
    own.elementType = .f16
    if own.keyFormat.elementType != nil { own.keyFormat = .f16 }
    if own.valueFormat?.elementType != nil { own.valueFormat = .f16 }
    return own
  }

  /// Group ratios, query tokens, head sizes, lengths.
  private static func shapes(_ depth: CheckDepth) -> [DecodeCheckCase] {
    var cases: [DecodeCheckCase] = []
    for (type, format) in [
      (VulkanAttention.ElementType.f32, CacheFormat.f32), (.f16, .f16), (.bf16, .bf16),
    ] {
      func add(_ change: (inout DecodeCheckCase) -> Void) {
        var own = Case(group: "shapes", lengths: [300, 1, 129])
        own.elementType = type
        own.keyFormat = format
        own.valueFormat = format
        change(&own)
        cases.append(own)
      }
      add { _ in }
      add { $0.lengths = [0, 40, 0] }
      add { $0.lengths = [1] }
      if depth == .quick { continue }
      for ratio in [1, 5, 7, 16, 32, 128] {
        add {
          $0.lengths = [200]
          $0.keyHeads = ratio == 128 ? 1 : 2
          $0.queryHeads = ratio * $0.keyHeads
          ($0.headSize, $0.valueHeadSize) = (32, 32)
        }
      }
      for tokens in [2, 3, 8, 32] {
        add {
          $0.queryTokens = tokens
          $0.lengths = [150, 31, 0]
        }
        add {
          $0.queryTokens = tokens
          $0.lengths = [150]
          $0.queryHeads = 3
          $0.keyHeads = 1
          $0.isCausal = false
        }
      }
      let sizes =
        depth == .full
        ? [
          (8, 8), (6, 6), (40, 24), (72, 72), (80, 80), (96, 96), (100, 100), (128, 128),
          (192, 128), (256, 256), (320, 256), (64, 128), (576, 512),
        ]
        : [(6, 6), (40, 24), (100, 100), (128, 128), (192, 128), (256, 256)]
      for (d, e) in sizes {
        add {
          $0.lengths = [67]
          ($0.headSize, $0.valueHeadSize) = (d, e)
        }
      }
      if depth == .full {
        for length in [15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 257, 1000, 4096] {
          add { $0.lengths = [length] }
        }
      }
    }
    return cases
  }

  /// Arrangements, orders, strides.
  private static func caches(_ depth: CheckDepth) -> [DecodeCheckCase] {
    var cases: [DecodeCheckCase] = []
    func add(_ change: (inout DecodeCheckCase) -> Void) {
      var own = Case(group: "caches", lengths: [300, 0, 129, 16])
      change(&own)
      cases.append(own)
    }
    let pageSizes = depth == .quick ? [16] : [1, 5, 16, 64, 512]
    for order in CacheArrangement.Order.allCases {
      for size in pageSizes {
        add {
          $0.kind = .paged
          $0.blockTokens = size
          $0.order = order
        }
      }
      for capacity in depth == .quick ? [100] : [1, 7, 100, 128, 400] {
        add {
          $0.kind = .ring
          $0.blockTokens = capacity
          $0.order = order
        }
      }
      add { $0.order = order }
      add {
        $0.order = order
        $0.padding = 8
      }
    }
    add { $0.padding = 3 }
    add {
      $0.kind = .ring
      $0.blockTokens = 64
      $0.option = .window
      $0.queryTokens = 3
    }
    add {
      $0.kind = .paged
      $0.blockTokens = 16
      $0.queryTokens = 4
      $0.option = .tree
      $0.lengths = [70, 40]
    }
    // Latent attention: values are the first channels of keys.
    for kind in [CacheArrangement.Kind.contiguous, .paged] {
      add {
        $0.kind = kind
        $0.blockTokens = kind == .paged ? 64 : 0
        $0.valueFormat = nil
        $0.keyHeads = 1
        $0.queryHeads = 16
        ($0.headSize, $0.valueHeadSize) = depth == .quick ? (72, 64) : (576, 512)
        $0.lengths = [140, 33]
      }
    }
    return cases
  }

  /// Formats of keys and values.
  private static func formats(_ depth: CheckDepth) -> [DecodeCheckCase] {
    var cases: [DecodeCheckCase] = []
    let all: [CacheFormat] = [
      .q8, .q4, .q4WithMinimum, .int8(groupSize: 64, scaleType: .f32),
      .int8(groupSize: 16, scaleType: .f16), .int4(groupSize: 32, scaleType: .f16),
      .int4(groupSize: 64, scaleType: .bf16), .e4m3, .e5m2,
    ]
    func add(_ change: (inout DecodeCheckCase) -> Void) {
      var own = Case(group: "formats", lengths: [200, 33])
      own.elementType = .f32
      change(&own)
      cases.append(own)
    }
    for format in all {
      add {
        $0.keyFormat = format
        $0.valueFormat = format
      }
      if depth == .quick { continue }
      add {
        $0.keyFormat = format
        $0.valueFormat = .bf16
        $0.kind = .paged
        $0.blockTokens = 16
      }
      add {
        $0.keyFormat = .f32
        $0.valueFormat = format
        $0.order = .hnd
        $0.elementType = .f16
      }
      add {
        $0.keyFormat = format
        $0.valueFormat = nil
        $0.valueHeadSize = 32
      }
    }
    if depth != .quick {
      // Each a way of lanes to share a value: groups of one block, of one and a half, more lanes than quads, fewer.
      for (keys, values) in [(32, 32), (64, 96), (160, 64), (128, 256)] {
        for format in [CacheFormat.q8, .q4] {
          add {
            $0.keyFormat = format
            $0.valueFormat = format
            ($0.headSize, $0.valueHeadSize) = (keys, values)
          }
        }
      }
      for format in [
        CacheFormat.int8(groupSize: 20, scaleType: .f32), .e4m3, .e5m2,
        .int4(groupSize: 20, scaleType: .f32), .int8(groupSize: 8, scaleType: .f32),
      ] {
        // Rows that are no multiples of 16 bytes.
        add {
          ($0.headSize, $0.valueHeadSize) =
            format == .int8(groupSize: 8, scaleType: .f32) ? (24, 24) : (20, 20)
          $0.keyFormat = format
          $0.valueFormat = format
        }
      }
    }
    return cases
  }

  /// The options of attention.
  private static func options(_ depth: CheckDepth) -> [DecodeCheckCase] {
    let quick: [AttentionCheckOption] = [.window, .softcap, .sinks, .tree]
    let all: [AttentionCheckOption] = [
      .topLeft, .causalBlock, .prefix, .prefixLengths, .window, .twoSidedWindow, .headWindows,
      .chunk, .sinkTokens, .leftPadding, .segments, .otherSegments, .mask, .maskBits, .tree,
      .queryScales, .queryBias, .softcap, .bias, .keyBias, .relativeBias, .alibi, .sinks,
      .softmaxOffByOne, .reluMean, .reluSum, .sigmoid, .gates, .headGates,
    ]
    return (depth == .quick ? quick : all).flatMap { option in
      var own = Case(group: "options", lengths: [150, 61])
      own.option = option
      own.queryTokens = 3
      own.queryHeads = 6
      own.elementType = .f32
      own.keyFormat = .f32
      own.valueFormat = .f32
      ((own.headSize), (own.valueHeadSize)) = (16, 16)
      if depth == .quick { return [own] }
      var paged = own
      paged.kind = .paged
      paged.blockTokens = 16
      var single = own
      single.queryTokens = 1
      var cut = own
      cut.groups = 7
      return [own, paged, single, cut]
    }
  }

  /// Ways to cut the work.
  private static func schedules(_ depth: CheckDepth) -> [DecodeCheckCase] {
    let groups = depth == .quick ? [1, 5] : [1, 2, 3, 5, 17, 64, 1000]
    let fixed = depth == .quick ? [1] : [1, 2, 8]
    return groups.map { groups in
      var own = Case(group: "schedules", lengths: [700, 0, 129, 2000])
      own.groups = groups
      return own
    }
      + fixed.map { tiles in
        var own = Case(group: "schedules", lengths: [700, 0, 129, 2000])
        own.fixedTiles = tiles
        return own
      }
  }

  /// Keys that are rotated as they are read.
  private static func rotations(_ depth: CheckDepth) -> [DecodeCheckCase] {
    DecodeRequest.KeyRotation.Pairing.allCases.flatMap { pairing in
      (depth == .quick ? [64] : [64, 32, 8]).flatMap { channels in
        (depth == .quick ? [CacheFormat.f16] : [.f16, .q8, .int8(groupSize: 16, scaleType: .f32)])
          .map {
            var own = Case(group: "rotations", lengths: [200, 33])
            own.elementType = .f32
            own.keyFormat = $0
            own.rotation = DecodeRequest.KeyRotation(pairing: pairing, channels: channels)
            return own
          }
      }
    }
  }
}
