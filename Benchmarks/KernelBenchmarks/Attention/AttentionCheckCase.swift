import AttentionReference
import VulkanAttention

/// One problem of the check: what is computed, where it lies in memory, and what data it gets.
public struct AttentionCheckCase: Sendable, Hashable {
  /// Where the rows of the tensors lie.
  public enum Layout: String, Sendable, Hashable, CaseIterable {
    /// [B, S, H, D], contiguous.
    case tokenMajor = ""
    /// [B, H, S, D], contiguous.
    case headMajor = "head-major"
    /// [B, S, H, D] with a gap behind every token, another one for every tensor.
    case padded = "padded"
  }

  /// What the tensors hold.
  public enum Data: Sendable, Hashable {
    /// Standard normal numbers.
    case normal
    /// Queries 32 times as large: scores beyond ±100, whose exponentials leave the range of f32
    /// unless the largest is subtracted.
    case largeScores
    /// The last keys and values are NaN; causal rows that do not see them must not notice.
    case nanInLastKeys(Int)
    /// As with NaN, with infinities of both signs.
    case infinityInLastKeys(Int)
  }

  /// The sizes.
  public let shape: AttentionShape
  /// The type of all tensors.
  public let elementType: ElementType
  /// Whether the mask is causal.
  public let isCausal: Bool
  /// Where the rows lie.
  public let layout: Layout
  /// What the tensors hold.
  public let data: Data
  /// The option that the case has beside its sizes.
  public let option: AttentionCheckOption?
  /// The row of the report that the case belongs to.
  public let group: String
  /// Whether the case repeats another one with other sizes.
  public let isVariation: Bool
  /// Problems that share a workgroup of the subgroup path, where no other tile is forced; nil leaves it to the plan.
  public let problemsPerWorkgroup: Int?

  init(
    _ group: String, _ shape: AttentionShape, _ elementType: ElementType, isCausal: Bool = false,
    layout: Layout = .tokenMajor, data: Data = .normal, option: AttentionCheckOption? = nil,
    isVariation: Bool = false, problemsPerWorkgroup: Int? = nil
  ) {
    self.group = group
    self.shape = shape
    self.elementType = elementType
    self.isCausal = isCausal
    self.layout = layout
    self.data = data
    self.option = option
    self.isVariation = isVariation
    self.problemsPerWorkgroup = problemsPerWorkgroup
  }

  /// How a path runs the case.
  func choice(_ choice: AttentionPathChoice) -> AttentionPathChoice {
    guard let problemsPerWorkgroup, choice == AttentionPathChoice(.subgroup) else { return choice }
    return AttentionPathChoice(problemsPerWorkgroup: problemsPerWorkgroup)
  }

  /// The same for cases that share most of their pipelines; where rows lie is no part of one.
  var pipelines: String {
    "D\(shape.headSize)-E\(shape.valueHeadSize)-\(elementType)-\(isCausal)"
      + (option.map { "-\($0)" } ?? "")
  }

  /// The case's name, by which it is reported and can be run alone.
  public var id: String {
    var id = AttentionWorkload(shape, elementType, isCausal: isCausal).id
    if let option { id += "-\(option.rawValue)" }
    if layout != .tokenMajor { id += "-\(layout.rawValue)" }
    switch data {
    case .normal: break
    case .largeScores: id += "-large-scores"
    case .nanInLastKeys(let count): id += "-nan\(count)"
    case .infinityInLastKeys(let count): id += "-inf\(count)"
    }
    return id
  }

  /// The problem, with its log-sum-exp.
  public func request() throws(AttentionError) -> AttentionRequest {
    func strides(tokens: Int, heads: Int, channels: Int, gap: Int) -> TensorStrides {
      switch layout {
      case .tokenMajor: .tokenMajor(tokens: tokens, heads: heads, channels: channels)
      case .headMajor: .headMajor(tokens: tokens, heads: heads, channels: channels)
      case .padded:
        TensorStrides(
          batch: tokens * (heads * channels + gap) + gap, token: heads * channels + gap,
          head: channels)
      }
    }
    if let option {
      let parts = option.parts(shape)
      return try AttentionRequest(
        batchSize: shape.batchSize, queryTokens: shape.queryTokens, keyTokens: shape.keyTokens,
        queryHeads: shape.queryHeads, keyHeads: shape.keyHeads, headSize: shape.headSize,
        valueHeadSize: shape.valueHeadSize, elementType: elementType, keyType: parts.keyType,
        valueType: parts.valueType, mask: parts.mask, scores: parts.scores,
        operands: parts.operands, packedSequences: parts.packedSequences, returnsLogSumExp: true,
        resumes: parts.resumes, valuesAreKeys: parts.valuesAreKeys,
        hasKeySources: parts.hasKeySources)
    }
    let (s, t, h, g) = (shape.queryTokens, shape.keyTokens, shape.queryHeads, shape.keyHeads)
    return try AttentionRequest(
      batchSize: shape.batchSize, queryTokens: s, keyTokens: t, queryHeads: h, keyHeads: g,
      headSize: shape.headSize, valueHeadSize: shape.valueHeadSize, elementType: elementType,
      mask: isCausal ? .causal : .none, returnsLogSumExp: true,
      queryStrides: strides(tokens: s, heads: h, channels: shape.headSize, gap: 8),
      keyStrides: strides(tokens: t, heads: g, channels: shape.headSize, gap: 16),
      valueStrides: strides(tokens: t, heads: g, channels: shape.valueHeadSize, gap: 24),
      outputStrides: strides(tokens: s, heads: h, channels: shape.valueHeadSize, gap: 40))
  }

  /// Keys at the end that hold NaN or infinities.
  var poisonedKeys: Int {
    switch data {
    case .normal, .largeScores: 0
    case .nanInLastKeys(let count), .infinityInLastKeys(let count): count
    }
  }

  /// The inputs.
  func inputs(for request: AttentionRequest) -> AttentionInputs {
    var inputs = AttentionInputs.random(
      for: request, seed: id, queryDeviation: data == .largeScores ? 32 : 1)
    var generator = SplitMix64(seed: "\(id) operands")
    inputs.operands = request.operandData(&generator)
    if option?.poisonsUnusedKeys == true, let lengths = inputs.operands[.keyLengths] {
      for (b, length) in integers(lengths).enumerated() {
        poison(&inputs, batch: b, keys: Int(length)..<shape.keyTokens) { _ in .nan }
      }
    }
    let values: (Int) -> Float
    switch data {
    case .normal, .largeScores: return inputs
    case .nanInLastKeys: values = { _ in .nan }
    case .infinityInLastKeys: values = { $0 % 2 == 0 ? .infinity : -.infinity }
    }
    for b in 0..<shape.batchSize {
      poison(
        &inputs, batch: b, keys: shape.keyTokens - poisonedKeys..<shape.keyTokens, with: values)
    }
    return inputs
  }

  /// Overwrites keys and values of a batch entry.
  private func poison(
    _ inputs: inout AttentionInputs, batch b: Int, keys: Range<Int>, with values: (Int) -> Float
  ) {
    for t in keys {
      let row = (b * shape.keyTokens + t) * shape.keyHeads
      let keys = row * shape.headSize..<(row + shape.keyHeads) * shape.headSize
      let vectors = row * shape.valueHeadSize..<(row + shape.keyHeads) * shape.valueHeadSize
      for index in keys { inputs.key[index] = values(index) }
      for index in vectors { inputs.value[index] = values(index) }
    }
  }
}
