// What must hold between the parts of a request.
extension AttentionRequest {
  private func refuse(
    _ name: String, _ value: String, allowed: String
  ) -> AttentionError {
    .invalidArgument(name: name, value: value, allowed: allowed)
  }

  func checkScores() throws(AttentionError) {
    // Near the largest f32 the cap times log2(e) is infinite, and scores over it are too small to be told apart.
    guard (0...1e30).contains(scores.softcap) else {
      throw refuse("scores.softcap", "\(scores.softcap)", allowed: "0, for none, to 1e30")
    }
    if case .sigmoid(let bias) = scores.normalizer, !bias.isFinite {
      throw refuse("scores.normalizer", "sigmoid(\(bias))", allowed: "a finite bias")
    }
    for (name, value) in [
      ("relativeLeft", scores.relativeLeft), ("relativeRight", scores.relativeRight),
      ("treeTokens", scores.treeTokens),
    ] {
      guard (0...(1 << 24)).contains(value) else {
        throw refuse("scores.\(name)", "\(value)", allowed: "0 to \(1 << 24)")
      }
    }
    for (name, value) in [
      ("gridHeight", scores.gridHeight), ("gridWidth", scores.gridWidth),
    ] {
      guard (0...4096).contains(value) else {
        throw refuse("scores.\(name)", "\(value)", allowed: "0 to 4096")
      }
    }
  }

  func checkOperands(given: [AttentionOperand]) throws(AttentionError) {
    let implied: Set<AttentionOperand.Kind> = [
      .queryStarts, .keyStarts, .initialMax, .initialSum, .initialOutput, .finalMax, .finalSum,
      .finalOutput,
    ]
    for operand in given where implied.contains(operand.kind) {
      throw refuse(
        "operands", operand.kind.rawValue,
        allowed: "no more than packedSequences, resumes and returnsState bring along")
    }
    var seen: Set<AttentionOperand.Kind> = []
    for operand in operands {
      let name = "operands.\(operand.kind.rawValue)"
      guard seen.insert(operand.kind).inserted else {
        throw refuse(name, "given twice", allowed: "once")
      }
      guard operand.kind.sharableAxes.isSuperset(of: operand.shared) else {
        throw refuse(name, "shared along an axis that it has not", allowed: "its own axes")
      }
      guard operand.kind == .bias || operand.elementType == .f32 else {
        throw refuse(name, operand.elementType.rawValue, allowed: "f32")
      }
      guard layout(of: operand) != nil else { throw .tooLarge(tensor: operand.kind.rawValue) }
      if let reason = conflict(of: operand.kind, with: seen) {
        throw refuse(name, "given", allowed: reason)
      }
    }
    for (kind, needed) in [
      (AttentionOperand.Kind.querySegments, AttentionOperand.Kind.keySegments),
      (.keySegments, .querySegments), (.relativeQueryBias, .relativeKeys),
    ] where seen.contains(kind) && !seen.contains(needed) {
      throw refuse(
        "operands.\(kind.rawValue)", "given", allowed: "only together with \(needed.rawValue)")
    }
  }

  /// What speaks against an operand beside the rest of the request.
  private func conflict(
    of kind: AttentionOperand.Kind, with others: Set<AttentionOperand.Kind>
  ) -> String? {
    if packedSequences != nil, [.bias, .mask, .maskBits, .gridBias, .blockMap].contains(kind) {
      return "only without packed sequences, whose rows have no common key axis"
    }
    switch kind {
    case .prefixLengths where !mask.isCausal: return "only where the mask is causal"
    case .prefixLengths where mask.prefixTokens > 0: return "only without mask.prefixTokens"
    case .headWindows where mask.windowLeft != nil || mask.windowRight != nil:
      return "only without mask.windowLeft and mask.windowRight"
    case .sinks:
      return scores.normalizer == .softmax ? nil : "only with softmax"
    case .blockMap where keyTokens == 0: return "only where there are keys"
    case .treeBits where scores.treeTokens < 1: return "only with scores.treeTokens of 1 or more"
    case .gridBias:
      let tokens = scores.gridHeight * scores.gridWidth
      return tokens >= max(queryTokens, keyTokens) && tokens > 0
        ? nil : "only with a grid of as many tokens as there are"
    default: return nil
    }
  }

  func checkAliases() throws(AttentionError) {
    if valuesAreKeys {
      guard valueHeadSize <= headSize else {
        throw refuse("valueHeadSize", "\(valueHeadSize)", allowed: "at most headSize, \(headSize)")
      }
      guard valueType == keyType, valueStrides == keyStrides else {
        throw refuse(
          "valuesAreKeys", "true", allowed: "only where values have the keys' type and strides")
      }
    }
    if resumes || returnsState, scores.normalizer == .reluMean {
      throw refuse(
        "scores.normalizer", "reluMean",
        allowed: "a normaliser that does not count keys, where a state goes in or out")
    }
    if hasKeySources, keyHeads > Self.mostKeySources {
      throw refuse("keyHeads", "\(keyHeads)", allowed: "at most \(Self.mostKeySources) key sources")
    }
  }

  /// The addresses of the sources must fit into one update of the block of options.
  static let mostKeySources = 2048
}
