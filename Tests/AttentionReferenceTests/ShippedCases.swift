import AttentionReference
import CaseFiles
import Foundation

/// The case files under Tests/Cases.
enum ShippedCases {
  static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "Cases")

  /// The paths of all cases of softmax attention, in the order of their names.
  static let attention = ["attention", "attention-options"].flatMap { name -> [String] in
    let path = folder.appending(path: name).path
    let files = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    return files.filter { $0.hasSuffix(".safetensors") }.sorted().map { "\(name)/\($0)" }
  }
}

extension AttentionDimensions {
  init(_ problem: AttentionCase) {
    self.init(
      batch: problem.batch, queryTokens: problem.queryTokens, keyTokens: problem.keyTokens,
      queryHeads: problem.queryHeads, keyHeads: problem.keyHeads,
      keyChannels: problem.keyChannels, valueChannels: problem.valueChannels)
  }
}

extension AttentionOptions {
  init(_ problem: AttentionCase) {
    let parameters = problem.parameters
    self.init(scale: parameters.scale, causal: parameters.causal)
    alignment = parameters.causalAlignment == .topLeft ? .topLeft : .bottomRight
    windowLeft = parameters.windowLeft
    windowRight = parameters.windowRight
    sinkTokens = parameters.sinkTokens
    softcap = parameters.softcap
    bias = problem.bias.map {
      PerScore($0.doubles(), batch: $0.shape[0], heads: $0.shape[1])
    }
    mask = problem.mask.map {
      PerScore(Array($0.bytes), batch: $0.shape[0], heads: $0.shape[1])
    }
    sinks = problem.sinks?.doubles()
    alibiSlopes = problem.alibiSlopes?.doubles()
    kvLengths = problem.kvLengths?.integers()
  }
}
