import VulkanAttention

/// The attention layers of models, by the sizes of their published configurations.
extension BenchmarkWorkload {
  /// Every model's workloads.
  public static let models: [BenchmarkWorkload] =
    languageModel("llama-3-8b", heads: 32, keyHeads: 8, headSize: 128)
    + languageModel("llama-3-70b", heads: 64, keyHeads: 8, headSize: 128)
    + languageModel("qwen3-0.6b", heads: 16, keyHeads: 8, headSize: 128)
    + languageModel("qwen3-30b-a3b", heads: 32, keyHeads: 4, headSize: 128)
    + languageModel("gemma-3-12b/global", heads: 16, keyHeads: 8, headSize: 256)
    + languageModel("gemma-3-12b/local", heads: 16, keyHeads: 8, headSize: 256, window: 1024)
    + deepSeek + whisper + vision + miniMax + mamba + qwen3Next

  /// A prefill and decode steps, alone and in a batch.
  ///
  /// - Parameter window: the keys that a token sees, its own included; nil for all.
  private static func languageModel(
    _ name: String, heads: Int, keyHeads: Int, headSize: Int, window: Int? = nil
  ) -> [BenchmarkWorkload] {
    func decode(_ batch: Int, _ tokens: Int) -> BenchmarkWorkload {
      var workload = DecodeWorkload(
        AttentionShape(
          batchSize: batch, queryTokens: 1, keyTokens: tokens, queryHeads: heads,
          keyHeads: keyHeads, headSize: headSize), .f16)
      workload.window = window
      return BenchmarkWorkload(.decode(workload), name: name)
    }
    return [
      BenchmarkWorkload(
        .attention(
          AttentionWorkload(
            AttentionShape(
              queryTokens: 4096, queryHeads: heads, keyHeads: keyHeads, headSize: headSize), .f16,
            isCausal: true, window: window)), name: name),
      decode(1, 8192), decode(8, 4096),
    ]
  }

  /// Latent attention (https://arxiv.org/abs/2412.19437): 128 heads; a prefill with keys of 192 channels and
  /// values of 128, a decode step over latents of 512 channels and 64 rotated ones that all heads share.
  private static let deepSeek: [BenchmarkWorkload] = {
    func decode(_ batch: Int, _ tokens: Int) -> BenchmarkWorkload {
      var workload = DecodeWorkload(
        AttentionShape(
          batchSize: batch, queryTokens: 1, keyTokens: tokens, queryHeads: 128, keyHeads: 1,
          headSize: 576, valueHeadSize: 512), .f16)
      workload.valuesAreKeys = true
      return BenchmarkWorkload(.decode(workload), name: "deepseek-v3")
    }
    return [
      BenchmarkWorkload(
        .attention(
          AttentionWorkload(
            AttentionShape(
              queryTokens: 2048, queryHeads: 128, headSize: 192, valueHeadSize: 128), .f16,
            isCausal: true)), name: "deepseek-v3"),
      decode(1, 4096), decode(8, 4096),
    ]
  }()

  /// 30 s of sound are 1500 frames (https://arxiv.org/abs/2212.04356, large-v3: 20 heads of 64).
  private static let whisper: [BenchmarkWorkload] = {
    func attention(_ name: String, queries: Int) -> BenchmarkWorkload {
      BenchmarkWorkload(
        .attention(
          AttentionWorkload(
            AttentionShape(queryTokens: queries, keyTokens: 1500, queryHeads: 20, headSize: 64),
            .f16)), name: "whisper-large-v3/\(name)")
    }
    return [
      attention("encoder", queries: 1500), attention("cross-prompt", queries: 224),
      attention("cross-token", queries: 1),
    ]
  }()

  /// Images of 224 × 224 pixels: ViT-L/16 (https://arxiv.org/abs/2010.11929), 196 patches and a class token; the
  /// first and third stage of Swin-T (https://arxiv.org/abs/2103.14030), windows of 7 × 7 patches with biases.
  private static let vision: [BenchmarkWorkload] = {
    func swin(_ stage: Int, windows: Int, heads: Int) -> BenchmarkWorkload {
      BenchmarkWorkload(
        .attention(
          AttentionWorkload(
            AttentionShape(
              batchSize: windows, queryTokens: 49, queryHeads: heads, headSize: 32), .f16,
            gridSide: 7)), name: "swin-t/stage-\(stage)")
    }
    return [
      BenchmarkWorkload(
        .attention(
          AttentionWorkload(
            AttentionShape(batchSize: 8, queryTokens: 197, queryHeads: 16, headSize: 64), .f16)),
        name: "vit-l-16/encoder"),
      swin(1, windows: 64, heads: 3), swin(3, windows: 4, heads: 12),
    ]
  }()

  private static func linear(
    _ name: String, _ model: LinearAttentionModel, keyHeads: Int, valueHeads: Int,
    keyChannels: Int, valueChannels: Int
  ) -> [BenchmarkWorkload] {
    [(1, 4096), (16, 1)].map { batch, tokens in
      BenchmarkWorkload(
        .linear(
          LinearAttentionWorkload(
            model, batch: batch, tokens: tokens, keyHeads: keyHeads, valueHeads: valueHeads,
            keyChannels: keyChannels, valueChannels: valueChannels, .f16)),
        name: name)
    }
  }

  /// Seven lightning layers, then one of softmax (https://arxiv.org/abs/2501.08313): 64 heads of 128.
  private static let miniMax =
    linear(
      "minimax-01/lightning", .lightning, keyHeads: 64, valueHeads: 64, keyChannels: 128,
      valueChannels: 128)
    + languageModel("minimax-01/softmax", heads: 64, keyHeads: 8, headSize: 128)

  /// Mamba-2 of 2.7B parameters (https://arxiv.org/abs/2405.21060): 80 heads of 64 channels, one group of states
  /// of 128 rows.
  private static let mamba = linear(
    "mamba-2-2.7b", .ssd, keyHeads: 1, valueHeads: 80, keyChannels: 128, valueChannels: 64)

  /// Three gated delta layers (16 heads of keys, 32 of values, 128 channels), then one of softmax, by the published
  /// configuration of Qwen3-Next-80B-A3B; gated delta rule: https://arxiv.org/abs/2412.06464.
  private static let qwen3Next =
    linear(
      "qwen3-next-80b/gated-delta", .gatedDelta, keyHeads: 16, valueHeads: 32, keyChannels: 128,
      valueChannels: 128)
    + languageModel("qwen3-next-80b/softmax", heads: 16, keyHeads: 2, headSize: 256)
}
