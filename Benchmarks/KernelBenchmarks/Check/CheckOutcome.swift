import AttentionReference
import VulkanAttention

/// How far one result of a case is from the reference.
public struct CheckError: Sendable, Hashable {
  /// The result's name.
  public let name: String
  /// RMS(error)/RMS(reference), or the largest absolute error, as the result's gate is.
  public let value: Double
  /// What ``value`` was held against.
  public let gate: Double

  /// An error by its parts.
  public init(_ name: String, _ value: Double, gate: Double) {
    self.name = name
    self.value = value
    self.gate = gate
  }

  /// A measured error, said among the problems where it is above the gate or NaN.
  init(_ name: String, _ measure: ErrorMeasure, gate: Double, problems: inout [String]) {
    self.init(name, measure.error, gate: gate)
    guard !measure.isWithin(gate) else { return }
    var problem =
      "\(name): error \(Numbers.scientific(measure.error)) above \(Numbers.scientific(gate))"
    if let index = measure.worstIndex, let actual = measure.worstActual,
      let expected = measure.worstExpected
    {
      problem +=
        "; worst at element \(index): \(Numbers.plain(Float(actual))), "
        + "expected \(Numbers.plain(Float(expected)))"
    }
    problems.append(problem)
  }
}

/// What became of one case on one path.
public struct CheckOutcome: Sendable {
  /// How it ended.
  public enum Verdict: Sendable, Hashable {
    /// Every gate was kept.
    case passed
    /// What was wrong, one line each.
    case failed([String])
    /// The path cannot run the case here, and why.
    case skipped(String)
  }

  /// The case's name.
  public let id: String
  /// The row of the report that the case belongs to.
  public let group: String
  /// The type of the tensors.
  public let elementType: VulkanAttention.ElementType
  /// The path that ran, or that was asked for where none did.
  public let path: String
  /// How it ended.
  public let verdict: Verdict
  /// The errors of the results, in the same order for all cases of a check.
  public let errors: [CheckError]

  /// An outcome by its parts.
  public init(
    id: String, group: String, elementType: VulkanAttention.ElementType, path: String,
    verdict: Verdict, errors: [CheckError] = []
  ) {
    self.id = id
    self.group = group
    self.elementType = elementType
    self.path = path
    self.verdict = verdict
    self.errors = errors
  }
}
