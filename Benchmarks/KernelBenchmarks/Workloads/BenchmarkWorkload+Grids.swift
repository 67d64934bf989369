import VulkanAttention

/// The shapes that other projects publish their figures for, so that figures can be put side by side.
extension BenchmarkWorkload {
  /// FlashAttention's: 16384 tokens in batches of every length, a model width of 2048, f16, with and without a
  /// causal mask (`benchmarks/benchmark_flash_attention.py` of https://github.com/Dao-AILab/flash-attention; head
  /// size 256 as in FlashAttention-3, https://arxiv.org/abs/2407.08608).
  public static let flashAttentionGrid: [BenchmarkWorkload] = [64, 128, 256].flatMap { headSize in
    [512, 1024, 2048, 4096, 8192, 16384].flatMap { tokens in
      [false, true].map { isCausal in
        BenchmarkWorkload(
          .attention(
            AttentionWorkload(
              AttentionShape(
                batchSize: 16384 / tokens, queryTokens: tokens, queryHeads: 2048 / headSize,
                headSize: headSize), .f16, isCausal: isCausal)), name: "flash-attention")
      }
    }
  }

  /// The README of flash-linear-attention (https://github.com/fla-org/flash-linear-attention): batches of 8, 32
  /// heads of 128 channels, a retention with a decay for each head; beside it the softmax attention that the
  /// README compares it with.
  ///
  /// Up to 4096 tokens: the README goes to 16384, whose tensors and their copies for the reference would take
  /// 30 GB of the host.
  public static let linearAttentionGrid: [BenchmarkWorkload] = [
    128, 256, 512, 1024, 2048, 4096,
  ].flatMap { tokens in
    [
      BenchmarkWorkload(
        .linear(
          LinearAttentionWorkload(
            .lightning, batch: 8, tokens: tokens, heads: 32, headSize: 128, .f16)),
        name: "flash-linear-attention"),
      BenchmarkWorkload(
        .attention(
          AttentionWorkload(
            AttentionShape(batchSize: 8, queryTokens: tokens, queryHeads: 32, headSize: 128), .f16,
            isCausal: true)), name: "flash-linear-attention"),
    ]
  }

  /// Ten documents of equal length in 4096 tokens: nine tenths of the scores are hidden. By a dense mask alone, and
  /// with its block map.
  public static let documentGrid: [BenchmarkWorkload] = [ElementType.f32, .f16].flatMap { type in
    [false, true].map { hasBlockMap in
      BenchmarkWorkload(
        AttentionWorkload(
          AttentionShape(queryTokens: 4096, queryHeads: 8, headSize: 64), type,
          documents: .init(count: 10, hasBlockMap: hasBlockMap)))
    }
  }

  /// Ragged batches as servers have them, the heads of Llama 3 8B on one of eight devices (H4 G1 D128), pages of
  /// 16 keys.
  ///
  /// Lengths are made by rule and not by chance, so that they are the same everywhere.
  public static let servingMixes: [BenchmarkWorkload] = {
    func mix(_ name: String, _ lengths: [Int], queryTokens: Int = 1) -> BenchmarkWorkload {
      var workload = DecodeWorkload(
        AttentionShape(
          batchSize: lengths.count, queryTokens: queryTokens, keyTokens: lengths.max() ?? 1,
          queryHeads: 4, keyHeads: 1, headSize: 128), .f16, lengths: lengths)
      workload.pageSize = 16
      workload.mix = "-ragged"
      return BenchmarkWorkload(.decode(workload), name: "serving/\(name)")
    }
    // 7919 is a prime: its multiples fall on every residue.
    let chat = (0..<32).map { 64 + $0 * 7919 % 1984 }
    return [
      mix("chat", chat), mix("chat-drafts-of-4", chat, queryTokens: 4),
      mix("one-long", [32768] + (0..<7).map { 256 + $0 * 7919 % 768 }),
      mix("half-long", (0..<8).map { $0 % 2 == 0 ? 16384 : 512 }),
      mix("documents", (1...8).map { $0 * 2048 }),
    ]
  }()
}
