import CaseFiles
import VulkanAttention
import VulkanAttentionCustom

extension AttentionParameters {
  /// The modifications that a case asks for; nil where it asks for none.
  ///
  /// - Throws: `CustomAttentionError` for GLSL that no modification may have.
  func modifications() throws(CustomAttentionError) -> (
    score: ScoreModification?, mask: MaskModification?
  )? {
    guard scoreGLSL != nil || maskGLSL != nil else { return nil }
    return (
      score: try scoreGLSL.map { (text) throws(CustomAttentionError) in
        try ScoreModification(text)
      },
      mask: try maskGLSL.map { (text) throws(CustomAttentionError) in try MaskModification(text) }
    )
  }
}

extension ReplayOutcome.Verdict {
  /// What an error of a kernel means: what this machine cannot run is skipped.
  static func ofError(_ error: any Error) -> Self {
    switch error {
    case AttentionError.pathUnavailable(_, let reason): .skipped(reason)
    case CustomAttentionError.attention(.pathUnavailable(_, let reason)): .skipped(reason)
    case CustomAttentionError.compilerMissing, CustomAttentionError.compilerTooOld:
      .skipped("\(error)")
    default: .failed("\(error)")
    }
  }
}
