import AttentionReference
import VulkanAttention

/// The elements of an operand's memory as numbers.
func numbers(_ bytes: [UInt8], _ type: VulkanAttention.ElementType = .f32) -> [Double] {
  bytes.withUnsafeBytes { bytes in
    switch type {
    case .f32: bytes.bindMemory(to: Float.self).map(Double.init)
    case .f16: bytes.bindMemory(to: Float16.self).map(Double.init)
    case .bf16: bytes.bindMemory(to: UInt16.self).map { Double(Float(BFloat16(bitPattern: $0))) }
    }
  }
}

/// The elements of an operand's memory as integers.
func integers(_ bytes: [UInt8]) -> [Int32] {
  bytes.withUnsafeBytes { Array($0.bindMemory(to: Int32.self)) }
}

/// Numbers as an operand's memory.
func memory(_ values: [Float], _ type: VulkanAttention.ElementType = .f32) -> [UInt8] {
  switch type {
  case .f32: values.withUnsafeBytes { Array($0) }
  case .f16: values.map { Float16($0) }.withUnsafeBytes { Array($0) }
  case .bf16: values.map { BFloat16($0).bitPattern }.withUnsafeBytes { Array($0) }
  }
}

/// Integers as an operand's memory.
func memory(_ values: [Int32]) -> [UInt8] {
  values.withUnsafeBytes { Array($0) }
}

extension AttentionRequest {
  /// The sizes of packed sequences as the reference takes them; nil where none are packed.
  func packedDimensions(
    _ operands: [AttentionOperand.Kind: [UInt8]]
  ) -> PackedDimensions? {
    packedSequences.map { packed in
      PackedDimensions(
        queryTokens: packed.queryTokens, keyTokens: packed.keyTokens,
        queryStarts: integers(operands[.queryStarts] ?? []).map(Int.init),
        keyStarts: integers(operands[.keyStarts] ?? []).map(Int.init), queryHeads: queryHeads,
        keyHeads: keyHeads, keyChannels: headSize, valueChannels: valueHeadSize)
    }
  }

  /// The options as the reference takes them; the scale is the kernel's, rounded to f32.
  ///
  /// - Parameter operands: what lies in the memory of the request's operands.
  func referenceOptions(
    _ operands: [AttentionOperand.Kind: [UInt8]] = [:]
  ) -> AttentionOptions {
    var options = AttentionOptions(scale: Double(scale), causal: mask.isCausal)
    options.alignment = mask.alignment == .topLeft ? .topLeft : .bottomRight
    options.causalBlock = mask.causalBlock
    options.prefixTokens = mask.prefixTokens
    options.windowLeft = mask.windowLeft
    options.windowRight = mask.windowRight
    options.chunk = mask.chunkSize ?? 0
    options.sinkTokens = mask.sinkTokens
    options.softcap = Double(scores.softcap)
    options.relativeLeft = scores.relativeLeft
    options.relativeRight = scores.relativeRight
    options.gridHeight = scores.gridHeight
    options.gridWidth = scores.gridWidth
    options.treeTokens = scores.treeTokens
    options.segmentRule = scores.seesOtherSegments ? .different : .same
    options.normalizer =
      switch scores.normalizer {
      case .softmax: .softmax
      case .softmaxOffByOne: .softmaxOffByOne
      case .reluMean: .reluMean
      case .reluSum: .reluSum
      case .sigmoid(let bias): .sigmoid(bias: Double(bias))
      }
    for operand in self.operands {
      set(operand, operands[operand.kind] ?? [], in: &options)
    }
    if resumes {
      options.initialState = AttentionReference.AttentionState(
        max: numbers(operands[.initialMax] ?? []), sum: numbers(operands[.initialSum] ?? []),
        output: numbers(operands[.initialOutput] ?? []))
    }
    return options
  }

  private func set(
    _ operand: AttentionOperand, _ bytes: [UInt8], in options: inout AttentionOptions
  ) {
    let isPacked = packedSequences != nil
    let batches = operand.shared.contains(.batch) || isPacked ? 1 : batchSize
    let heads = operand.shared.contains(.heads) ? 1 : queryHeads
    let tokens = packedSequences?.queryTokens ?? queryTokens
    let queries = operand.shared.contains(.queries) ? 1 : tokens
    switch operand.kind {
    case .bias:
      options.bias = PerScore(
        numbers(bytes, operand.elementType), batch: batches, heads: heads, queries: queries)
    case .mask: options.mask = PerScore(bytes, batch: batches, heads: heads, queries: queries)
    case .maskBits:
      options.mask = PerScore(
        maskBits: bytes, keyTokens: keyTokens, batch: batches, heads: heads, queries: queries)
    case .blockMap:
      options.blockMap = BlockMap(
        integers(bytes), batch: batches, heads: heads, rows: mask.blockMapRows,
        keys: mask.blockMapKeys)
    case .treeBits:
      options.treeBits = PerToken(bytes, batch: batches, width: (scores.treeTokens + 7) / 8)
    case .querySegments: options.querySegments = PerToken(integers(bytes), batch: batches)
    case .keySegments: options.keySegments = PerToken(integers(bytes), batch: batches)
    case .keyLengths: options.kvLengths = integers(bytes).map(Int.init)
    case .leftPadding: options.leftPadding = integers(bytes).map(Int.init)
    case .prefixLengths: options.prefixLengths = integers(bytes).map(Int.init)
    case .headWindows:
      let sides = integers(bytes).map { $0 < 0 ? nil : Int($0) }
      options.headWindows = (0..<queryHeads).map {
        HeadWindow(left: sides[2 * $0], right: sides[2 * $0 + 1])
      }
    case .sinks: options.sinks = numbers(bytes)
    case .alibiSlopes: options.alibiSlopes = numbers(bytes)
    case .relativeBias: options.relativeBias = numbers(bytes)
    case .gridBias: options.gridBias = numbers(bytes)
    case .keyBias: options.keyBias = PerKey(numbers(bytes), batch: batches, heads: heads)
    case .queryScales:
      options.queryScales = PerRow(numbers(bytes), batch: batches, queries: queries, heads: heads)
    case .gates:
      options.gates = PerRow(numbers(bytes), batch: batches, queries: queries, heads: heads)
    case .queryBias: options.queryBias = numbers(bytes)
    case .relativeQueryBias: options.relativeQueryBias = numbers(bytes)
    case .relativeKeys: options.relativeKeys = numbers(bytes)
    case .queryStarts, .keyStarts, .initialMax, .initialSum, .initialOutput, .finalMax, .finalSum,
      .finalOutput:
      break
    }
  }
}
