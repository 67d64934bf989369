internal import CVKAttn
internal import VulkanAttention

// The shape of a family whose kernel takes all of its tensors at once and is one submission. Such a family is the
// reading of its C request, a table of its tensors' sizes and the places of their buffers; the rest is here.

/// A kernel that is made of a plan and appended with its buffers.
protocol RecordedKernel: Sendable {
  /// How it runs.
  associatedtype Plan: Sendable
  /// Its tensors.
  associatedtype Buffers: Sendable
  /// Compiles a plan.
  init(_ plan: Plan, on device: ComputeDevice) throws(AttentionError)
  /// Appends the kernel.
  func record(_ buffers: Buffers, into recorder: Recorder) throws(AttentionError)
}

/// The plan of a family of such kernels.
struct Family<Kernel: RecordedKernel>: FamilyPlan {
  /// Gives the bindings their places: `need` for tensors that every plan has, `take` for the others.
  typealias Place = @Sendable (inout Bindings) throws(Failure) -> Kernel.Buffers

  let plan: Kernel.Plan
  let lines: [String]
  let scratchByteCount: Int
  private let byteCounts: [TensorName: Int]
  private let optional: Set<TensorName>
  private let place: Place

  /// States a family.
  ///
  /// - Parameters:
  ///   - kernel: its kernel.
  ///   - name: as descriptions have it.
  ///   - plan: the plan.
  ///   - byteCounts: the bytes of each tensor's buffer; 0 of those that this plan has not.
  ///   - optional: those that may be left out all the same.
  ///   - cache: the cache that the kernel writes to.
  ///   - scratchByteCount: the bytes of working memory.
  ///   - details: further lines of descriptions.
  ///   - place: gives the bindings their places.
  init(
    _ kernel: Kernel.Type, _ name: String, _ plan: Kernel.Plan,
    _ byteCounts: KeyValuePairs<TensorName, Int>, optional: Set<TensorName> = [],
    cache: CacheStorage? = nil, scratchByteCount: Int = 0, details: [String] = [],
    place: @escaping Place
  ) {
    self.plan = plan
    self.lines = ["family: \(name)"] + details
    self.scratchByteCount = scratchByteCount
    let all =
      byteCounts.map { ($0.key, $0.value) } + (cache?.byteCounts ?? [:]).map { ($0.key, $0.value) }
    self.byteCounts = Dictionary(all.filter { $0.1 > 0 }, uniquingKeysWith: max)
    self.optional = optional
    self.place = place
  }

  func byteCount(of tensor: TensorName) -> Int? {
    tensor == .scratch ? scratchByteCount : byteCounts[tensor]
  }

  func makeKernel(on device: ComputeDevice) throws(AttentionError) -> any FamilyKernel {
    RecordedFamilyKernel(
      kernel: try Kernel(plan, on: device), tensors: Set(byteCounts.keys).subtracting(optional),
      place: place)
  }
}

/// The kernel of such a family with the places of its tensors.
private struct RecordedFamilyKernel<Kernel: RecordedKernel>: FamilyKernel {
  let kernel: Kernel
  let tensors: Set<TensorName>
  let place: Family<Kernel>.Place

  func buffers(_ bindings: inout Bindings) throws(Failure) -> Kernel.Buffers {
    let missing = tensors.filter { !bindings.has($0) }.map { "\($0)" }.sorted()
    guard missing.isEmpty else {
      throw Failure(.missingBuffer, "no buffer is bound for \(missing.joined(separator: ", "))")
    }
    return try place(&bindings)
  }

  func record(_ buffers: Kernel.Buffers, into recorder: Recorder) throws(AttentionError) {
    try kernel.record(buffers, into: recorder)
  }
}

// MARK: - Reading requests

/// What one of C's numbers stands for.
///
/// - Parameters:
///   - number: the number.
///   - name: the field's.
///   - prefix: what the constants' names begin with.
///   - cases: the constants and what they stand for.
func choice<Case>(
  _ number: Int32, _ name: String, _ prefix: String, _ cases: KeyValuePairs<Int, Case>
) throws(Failure) -> Case {
  guard let found = cases.first(where: { $0.key == Int(number) }) else {
    throw Failure(name, number, allowed: "one of \(prefix)…")
  }
  return found.value
}

/// Refuses a field that is set where it means nothing.
func checkUnused(
  _ name: String, _ value: some Numeric, unless isUsed: Bool, _ condition: String
) throws(Failure) {
  guard isUsed || value == 0 else { throw Failure(name, value, allowed: "0 \(condition)") }
}
