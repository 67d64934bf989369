import VulkanAttention

/// One problem of a check with all that it is run on, ready for a device.
public struct CheckRun: Sendable {
  /// Takes an outcome, with its place among the outcomes of the run.
  public typealias Report = @Sendable (_ place: Int, _ outcome: CheckOutcome) -> Void

  /// The problem's name.
  public let id: String
  /// Runs with the same text share pipelines, and go to one device one after the other.
  public let pipelines: String
  /// How many outcomes the run has.
  public let outcomeCount: Int
  private let body: @Sendable (ComputeDevice, Report) async -> Void

  /// A problem with what runs it, and reports each outcome as soon as it is known.
  public init(
    id: String, pipelines: String, outcomeCount: Int,
    body: @escaping @Sendable (ComputeDevice, Report) async -> Void
  ) {
    self.id = id
    self.pipelines = pipelines
    self.outcomeCount = outcomeCount
    self.body = body
  }

  /// A problem with a single outcome.
  public init(
    id: String, pipelines: String,
    body: @escaping @Sendable (ComputeDevice) async -> CheckOutcome
  ) {
    self.init(id: id, pipelines: pipelines, outcomeCount: 1) { device, report in
      report(0, await body(device))
    }
  }

  /// Runs the problem and compares.
  func run(on device: ComputeDevice, report: Report) async { await body(device, report) }
}
