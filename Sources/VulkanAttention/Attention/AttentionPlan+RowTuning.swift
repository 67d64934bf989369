internal import ShaderLibrary

/// The tiles of the row path.
///
/// All figures: AMD EPYC 9005 (Zen 5), lavapipe of Mesa 26.1.6, B1 H8 S=T=1024, [B,S,H,D]. The ladder is
/// in the header of `attention_row.comp`.
extension AttentionPlan {
  /// Query rows of one workgroup. Invocations share nothing, so the number only trades the cost of
  /// starting a workgroup (8 rows: 5 % slower) against balance over the cores.
  private static let rowWorkgroupSize = 32

  /// Packing reads and writes every key and value once, which many query rows must pay for: below
  /// this many rows for each key head it costs more than it brings.
  private static func fewestRowsToPack(_ type: ElementType) -> Int {
    switch type {
    case .f32: 256
    // Unpacked, elements are converted again for every row: f16 34 GFLOP/s, packed 61 to 78. bf16 on
    // two threads with 512-bit vectors, 127 rows unpacked and 128 packed: D = 64 151 to 166 and 177,
    // D = 128 131 and 170.
    case .f16, .bf16: 128
    }
  }

  /// Keys whose scores an invocation holds at once.
  ///
  /// The loop over a block is unrolled into C · (D + E) multiply-adds. As many as possible spread the
  /// cost of rescaling, until they no longer fit the processor's cache of decoded instructions: at
  /// D = 128 packed 7 keys reach 90 GFLOP/s on one thread and 8 reach 69.
  private static func keysPerBlock(
    _ request: AttentionRequest, _ device: DeviceCapabilities, packs: Bool
  ) -> Int {
    let most = mostKeysPerBlock(request, device, packs: packs)
    // Keys behind the last one are computed, too: fewer than a block has are a block of their own size. B4096 H4 D8
    // S = T f32, blocks of 16 and of as many as there are keys, ms by turns: 4 keys 8.6 and 4.5, 8 9.4 and 5.9, 12 10.5
    // and 7.6. More keys dealt evenly to blocks would round otherwise than the same sequence among longer ones.
    guard !packs, request.keyTokens > 0 else { return most }
    return min(request.keyTokens, most)
  }

  private static func mostKeysPerBlock(
    _ request: AttentionRequest, _ device: DeviceCapabilities, packs: Bool
  ) -> Int {
    let channels = request.headSize + request.valueHeadSize
    if !packs, request.keyType != .f32 || request.valueType != .f32 || !request.isAligned {
      // Conversions take instructions as well, and time to compile: D = 256 with 3 keys 2.7 s.
      return channels > 384 ? 2 : 4
    }
    if device.subgroupSize <= 8 {
      // 8 lanes: a processor without AVX-512, three instructions for each multiply-add. EPYC 7003 (Zen 3),
      // both cores, f32: D = 64 4, 5, 6, 7 and 16 keys 82, 92, 72, 76 and 65 GFLOP/s (6 keys 95 with a
      // slightly different kernel: the compiler is at an edge there); D = 96 4 and 6 keys 82 and 69;
      // D = 128 never fits, 3, 5 and 8 keys 58, 65 and 67.
      return channels <= 200 ? max(4, min(12, 640 / channels)) : max(2, 2048 / channels)
    }
    return max(2, min(16, 1600 / channels))
  }

  static func rowTile(
    _ request: AttentionRequest, _ device: DeviceCapabilities,
    _ own: AttentionTileParameters.Row? = nil
  ) -> Result<AttentionTile, PathRefusal> {
    if let refusal = own?.refusal(on: device) { return .failure(refusal) }
    // A subgroup asks for one row of blocks (attention_row.comp).
    guard request.operand(.blockMap) == nil || request.mask.blockMapRows >= device.maxSubgroupSize
    else {
      return .failure(
        PathRefusal(
          reason:
            "blocks of a block map have \(request.mask.blockMapRows) query tokens, subgroups up to "
            + "\(device.maxSubgroupSize) rows"))
    }
    let packing =
      if let own {
        own.isPacked ? packing(request, device, keysPerBlock: own.keysPerBlock) : nil
      } else {
        rowsSuffice(request)
          ? packing(request, device, keysPerBlock: keysPerBlock(request, device, packs: true)) : nil
      }
    if own?.isPacked == true, packing == nil {
      return .failure(PathRefusal(reason: "keys and values cannot be packed here"))
    }
    let keysPerBlock =
      own?.keysPerBlock ?? packing?.keysPerBlock ?? keysPerBlock(request, device, packs: false)
    let workgroupSize =
      own?.workgroupSize
      ?? (request.queryTokens < rowWorkgroupSize ? device.subgroupSize : rowWorkgroupSize)
    return .success(
      AttentionTile(
        workgroupSize: max(workgroupSize, device.subgroupSize),
        queryRows: max(workgroupSize, device.subgroupSize), takesLongTilesFirst: false,
        sharedBytes: 0, subgroupSize: nil, shaderName: "attention_row",
        constants: ["KEYS_PER_BLOCK": UInt32(keysPerBlock)], keysPerStep: keysPerBlock,
        sumsPerRow: 1, packing: packing,
        parameters: .row(
          .init(
            keysPerBlock: keysPerBlock, workgroupSize: max(workgroupSize, device.subgroupSize),
            isPacked: packing != nil)),
        provenance: device.kind == .cpu
          ? "the largest block of keys that the processor's decoded-instruction cache holds, "
            + "measured on lavapipe of Mesa 26.1.6, 2 cores of an EPYC 9005"
          : "the tile for CPUs; not measured on a GPU"))
  }

  /// Whether there are rows enough to pay for packing. Where sequences are packed or keys have sources of their own,
  /// each is as in any other attention.
  private static func rowsSuffice(_ request: AttentionRequest) -> Bool {
    request.queryTokens * request.headsPerGroup >= fewestRowsToPack(request.keyType)
  }

  /// Packing, where there is memory for the copy.
  private static func packing(
    _ request: AttentionRequest, _ device: DeviceCapabilities, keysPerBlock: Int
  ) -> AttentionPacking? {
    guard ShaderBinary.named(AttentionPacking.shaderName)?.isCompiled == true,
      let packing = AttentionPacking(request, keysPerBlock: keysPerBlock),
      // Half of the largest allocation: the tensors need memory as well.
      packing.byteCount <= device.maxAllocationBytes / 2
    else { return nil }
    return packing
  }
}
