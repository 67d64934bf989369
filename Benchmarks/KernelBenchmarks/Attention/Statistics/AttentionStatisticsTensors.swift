import VulkanAttention

/// The tensors of statistics on a device, results poisoned and guarded.
struct AttentionStatisticsTensors {
  /// The tensors as the kernel takes them.
  let buffers: AttentionStatisticsBuffers
  private let results: [(name: Name, memory: PoisonedMemory)]

  private enum Name {
    case keySums, entropy, probabilities, topKeyIndices, topKeyProbabilities, scratch
  }

  /// - Parameters:
  ///   - attention: the tensors of the attention.
  ///   - rows: the list for probabilities.
  init(
    _ plan: AttentionStatisticsPlan, of attention: AttentionBuffers, rows: [Int32],
    on device: ComputeDevice
  ) async throws {
    var buffers = AttentionStatisticsBuffers(attention)
    var results: [(Name, PoisonedMemory)] = []
    func make(_ name: Name, _ byteCount: Int) async throws -> DeviceBuffer {
      let memory = try await PoisonedMemory(byteCount: byteCount, label: "\(name)", on: device)
      results.append((name, memory))
      return memory.buffer
    }
    for statistic in plan.request.statistics {
      let byteCount = plan.request.byteCount(of: statistic)
      switch statistic {
      case .keySums: buffers.keySums = try await make(.keySums, byteCount)
      case .entropy: buffers.entropy = try await make(.entropy, byteCount)
      case .probabilities:
        buffers.queryRows = try await device.makeBuffer(rows, label: "queryRows")
        buffers.probabilities = try await make(.probabilities, byteCount)
      case .topKeys:
        buffers.topKeyIndices = try await make(.topKeyIndices, byteCount)
        buffers.topKeyProbabilities = try await make(.topKeyProbabilities, byteCount)
      }
    }
    if plan.scratchByteCount > 0 {
      buffers.scratch = try await make(.scratch, plan.scratchByteCount)
    }
    self.buffers = buffers
    self.results = results
  }

  /// Downloads the results.
  func read() async throws -> AttentionStatisticsReadback {
    var readback = AttentionStatisticsReadback()
    for (name, memory) in results {
      let bytes = try await memory.read(problems: &readback.strayWrites)
      func floats() -> [Float] { integers(bytes).map { Float(bitPattern: UInt32(bitPattern: $0)) } }
      switch name {
      case .keySums: readback.keySums = floats()
      case .entropy: readback.entropy = floats()
      case .probabilities: readback.probabilities = floats()
      case .topKeyIndices: readback.topKeyIndices = integers(bytes)
      case .topKeyProbabilities: readback.topKeyProbabilities = floats()
      case .scratch: break
      }
    }
    return readback
  }
}

/// Statistics on the host; empty where one was not asked for.
struct AttentionStatisticsReadback: Sendable {
  var keySums: [Float] = []
  var entropy: [Float] = []
  var probabilities: [Float] = []
  var topKeyIndices: [Int32] = []
  var topKeyProbabilities: [Float] = []
  /// Writes outside of the results, in words.
  var strayWrites: [String] = []
}
