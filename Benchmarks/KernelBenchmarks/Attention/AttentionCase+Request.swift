import AttentionReference
import CaseFiles
import VulkanAttention

extension AttentionCase {
  /// The case as a problem for the kernels, with what lies in its operands' memory.
  func problem() throws(AttentionError) -> (request: AttentionRequest, inputs: AttentionInputs) {
    var operands: [AttentionOperand] = []
    var bytes: [AttentionOperand.Kind: [UInt8]] = [:]
    /// - Parameter axes: the axes of the shape that may have extent 1, in its order.
    func add(
      _ kind: AttentionOperand.Kind, _ tensor: CaseTensor?, axes: [AttentionOperand.Axes?] = []
    ) {
      guard let tensor else { return }
      var shared: AttentionOperand.Axes = []
      for (axis, extent) in zip(axes, tensor.shape) where extent == 1 {
        if let axis { shared.insert(axis) }
      }
      operands.append(AttentionOperand(kind, tensor.element == .f16 ? .f16 : .f32, shared: shared))
      bytes[kind] = Array(tensor.bytes)
    }
    add(.bias, bias, axes: [.batch, .heads, .queries])
    add(.mask, mask, axes: [.batch, .heads, .queries])
    add(.maskBits, maskBits, axes: [.batch, .heads, .queries])
    add(.treeBits, treeBits, axes: [.batch])
    add(.querySegments, querySegments, axes: [.batch])
    add(.keySegments, keySegments, axes: [.batch])
    add(.keyLengths, kvLengths)
    add(.leftPadding, leftPadding)
    add(.prefixLengths, prefixLengths)
    add(.headWindows, headWindows)
    add(.sinks, sinks)
    if let alibiSlopes {
      operands.append(AttentionOperand(.alibiSlopes, shared: .batch))
      bytes[.alibiSlopes] = Array(alibiSlopes.bytes)
    }
    add(.relativeBias, relativeBias, axes: [.heads])
    add(.gridBias, gridBias)
    add(.keyBias, keyBias, axes: [.batch, .heads])
    add(.queryScales, queryScales, axes: [.batch, .queries, .heads])
    add(.gates, gates, axes: [.batch, .queries, .heads])
    add(.queryBias, queryBias)
    add(.relativeQueryBias, relativeQueryBias)
    add(.relativeKeys, relativeKeys)
    bytes[.queryStarts] = cuSeqlensQ.map { Array($0.bytes) }
    bytes[.keyStarts] = cuSeqlensK.map { Array($0.bytes) }
    bytes[.initialMax] = initialMax.map { Array($0.bytes) }
    bytes[.initialSum] = initialSum.map { Array($0.bytes) }
    bytes[.initialOutput] = initialOutput.map { Array($0.bytes) }

    var scores = kernelScores
    if let t5Bias {
      // From the largest distance on all share a bucket.
      scores.relativeLeft = parameters.t5MaxDistance
      scores.relativeRight = parameters.t5MaxDistance
      let table = t5RelativeBias(
        t5Bias.doubles(), buckets: t5Bias.shape[0], heads: queryHeads,
        maxDistance: parameters.t5MaxDistance, bidirectional: parameters.t5Bidirectional,
        left: scores.relativeLeft, right: scores.relativeRight)
      operands.append(AttentionOperand(.relativeBias))
      bytes[.relativeBias] = memory(table.map { Float($0) })
    }
    let request = try AttentionRequest(
      batchSize: batch, queryTokens: longest(cuSeqlensQ) ?? queryTokens,
      keyTokens: longest(cuSeqlensK) ?? keyTokens, queryHeads: queryHeads, keyHeads: keyHeads,
      headSize: keyChannels, valueHeadSize: valueChannels, elementType: q.kernelType,
      keyType: k.kernelType, valueType: v.kernelType, scale: parameters.scale.map { Float($0) },
      mask: kernelMask, scores: scores, operands: operands,
      packedSequences: isPacked
        ? PackedSequences(queryTokens: queryTokens, keyTokens: keyTokens) : nil,
      returnsLogSumExp: expectedLSE != nil, resumes: initialMax != nil)
    return (
      request,
      AttentionInputs(query: q.floats(), key: k.floats(), value: v.floats(), operands: bytes)
    )
  }

  /// The most tokens of a sequence, by its starts; 1 at least, for a request has no empty axis of queries.
  private func longest(_ starts: CaseTensor?) -> Int? {
    guard let starts = starts?.integers() else { return nil }
    return zip(starts, starts.dropFirst()).map { $1 - $0 }.max().map { max(1, $0) }
  }

  private var kernelMask: AttentionMask {
    var mask = AttentionMask()
    mask.isCausal = parameters.causal
    mask.alignment = parameters.causalAlignment == .topLeft ? .topLeft : .bottomRight
    // Without a causal mask neither has a meaning.
    mask.causalBlock = parameters.causal ? parameters.causalBlock : 1
    mask.prefixTokens = parameters.causal ? parameters.prefixTokens : 0
    mask.windowLeft = parameters.windowLeft
    mask.windowRight = parameters.windowRight
    mask.chunkSize = parameters.chunk > 0 ? parameters.chunk : nil
    mask.sinkTokens = parameters.sinkTokens
    if headWindows != nil {
      mask.windowLeft = nil
      mask.windowRight = nil
    }
    if prefixLengths != nil { mask.prefixTokens = 0 }
    return mask
  }

  private var kernelScores: AttentionScores {
    var scores = AttentionScores()
    scores.softcap = Float(parameters.softcap)
    scores.relativeLeft = parameters.relativeLeft
    scores.relativeRight = parameters.relativeRight
    scores.gridHeight = parameters.gridHeight
    scores.gridWidth = parameters.gridWidth
    scores.treeTokens = parameters.treeTokens
    scores.seesOtherSegments = parameters.segmentRule == .different
    scores.normalizer =
      switch parameters.normalizer {
      case .softmax: .softmax
      case .softmaxOffByOne: .softmaxOffByOne
      case .reluMean: .reluMean
      case .reluSum: .reluSum
      case .sigmoid: .sigmoid(bias: Float(parameters.sigmoidBias))
      }
    return scores
  }
}

extension CaseTensor {
  /// The type as the kernels know it; f32 for integers, which no case has as q, k or v.
  var kernelType: VulkanAttention.ElementType {
    switch element {
    case .f32, .i32, .u8: .f32
    case .f16: .f16
    case .bf16: .bf16
    }
  }
}
