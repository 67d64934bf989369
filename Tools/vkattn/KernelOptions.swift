import ArgumentParser
import KernelBenchmarks
import VulkanAttention

/// The kernel families that commands take by name.
enum KernelFamily: String, ExpressibleByArgument, CaseIterable {
  /// Tiled exact attention.
  case attention
  /// Decode steps over caches.
  case decode
  /// Linear attention and its gated kin.
  case linear
}

/// What `vkattn check` checks.
enum CheckSubject: String, ExpressibleByArgument, CaseIterable {
  /// Tiled exact attention.
  case attention
  /// Statistics of an attention.
  case statistics
  /// The merge of partial attentions.
  case merge
  /// Decode steps over caches.
  case decode
  /// Linear attention and its gated kin.
  case linear
  /// The kernels around an attention: norms, matrix products, activations, sampling.
  case companions
  /// Modifications of scores, masks and outputs in GLSL, compiled at run time.
  case custom
}

/// Which ways of a kernel a command runs.
struct PathOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      Forces a path: auto (what the plan chooses), row, subgroup, matrix, matrix2 (of tiled attention \
      alone), matrix:MxNxK and matrix2:MxNxK for fragments of a shape of your own, or subgroup:N for N heads of \
      batch entries in each workgroup (tiled attention). May be repeated.
      """,
      valueName: "path"))
  var path: [AttentionPathChoice] = []

  @Flag(help: "Runs every path; one that cannot run here is skipped, and the reason told.")
  var allPaths = false

  func validate() throws {
    if allPaths, !path.isEmpty {
      throw ValidationError("--all-paths and --path exclude each other")
    }
  }

  /// Whether a matrix path may run.
  var includesMatrixPath: Bool { allPaths || path.contains(where: \.usesMatrices) }

  /// The paths to run, each once.
  func choices(on device: DeviceCapabilities) -> [AttentionPathChoice] {
    if allPaths { return AttentionPathChoice.all(on: device) }
    var choices: [AttentionPathChoice] = []
    for choice in path where !choices.contains(choice) { choices.append(choice) }
    return choices.isEmpty ? [.automatic] : choices
  }

  /// The ways of linear attention to run, each once: all of its forms on the paths asked for.
  var linearChoices: [LinearAttentionChoice] {
    if allPaths { return LinearAttentionChoice.all }
    guard !path.isEmpty else { return [LinearAttentionChoice()] }
    let paths = Set(path.map(\.path))
    if paths.contains(nil) { return [LinearAttentionChoice()] }
    let choices = LinearAttentionChoice.all.filter { paths.contains($0.path) }
    // A path that no form has is refused by the plan, with the reason.
    return choices.isEmpty ? paths.map { LinearAttentionChoice(path: $0) } : choices
  }
}

extension PathOptions {
  /// One way to run a workload; the half that is of another family is not looked at.
  struct Way {
    /// Of an attention or a decode step.
    let attention: AttentionPathChoice
    /// Of a linear attention.
    let linear: LinearAttentionChoice
    /// What people call it.
    let name: String
  }

  /// The ways to run a workload.
  func ways(of workload: BenchmarkWorkload, on device: DeviceCapabilities) -> [Way] {
    workload.problem.family == LinearAttentionWorkload.family
      ? linearChoices.map { Way(attention: .automatic, linear: $0, name: "\($0)") }
      : choices(on: device).map {
        Way(attention: $0, linear: LinearAttentionChoice(), name: "\($0)")
      }
  }
}

/// Which of the workloads that have names a command takes.
struct FilterOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      Only workloads whose ids match: * is any text, ? any character, [a-c] one of a set. May be \
      repeated; each selects.
      """,
      valueName: "pattern"),
    transform: { text in
      guard let glob = Glob(text) else {
        throw ValidationError("\"\(text)\" has a set that does not end, or is empty")
      }
      return glob
    })
  var filter: [Glob] = []

  /// Whether an id is selected; every one without a pattern.
  func selects(_ id: String) -> Bool { filter.isEmpty || filter.contains { $0.matches(id) } }

  /// The workloads that match out of all there are; a few without a pattern.
  func workloads() throws(CommandFailure) -> [BenchmarkWorkload] {
    let selected =
      filter.isEmpty ? BenchmarkWorkload.quick : BenchmarkWorkload.full.filter { selects($0.id) }
    guard !selected.isEmpty else {
      throw CommandFailure(
        .wrongInput, "no workload is selected; vkattn bench --list prints the ids")
    }
    return selected
  }
}

/// A command that runs or plans kernels.
protocol KernelCommand {
  /// Whether a matrix path may run.
  var includesMatrixPath: Bool { get }
}

extension KernelCommand {
  /// Lets a software driver use the processor's widest vectors, with which it cannot run the matrix
  /// path. Only for a process that has not opened a Vulkan instance yet.
  func chooseVectorWidth() {
    if !includesMatrixPath { SoftwareDriver.preferWideVectors() }
  }
}

extension AttentionPathChoice: ExpressibleByArgument {
  /// Reads a path's name.
  public init?(argument: String) {
    self.init(argument)
  }

  /// The names that help texts show.
  public static var allValueStrings: [String] { allowedNames }
}

extension ElementType: ExpressibleByArgument {}

extension LinearAttentionModel: ExpressibleByArgument {}

extension AttentionShape {
  /// The help of every option that takes a shape.
  static let help = ArgumentHelp(
    """
    The sizes, such as B1,S1024,T1024,H8,G8,D64,E64: batch, query tokens, key tokens, query heads, \
    key heads, channels of a query, channels of a value. S, H and D are needed; B is 1, T is S, G is \
    H and E is D where they are left out.
    """,
    valueName: "shape")

  /// Reads a shape for the command line, where the thrown text becomes the message.
  static func parsed(_ text: String) throws -> AttentionShape {
    do throws(ShapeError) {
      return try AttentionShape(text)
    } catch {
      throw ValidationError("shape \"\(text)\": \(error)")
    }
  }
}
