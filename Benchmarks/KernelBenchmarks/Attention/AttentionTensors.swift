import AttentionReference
import VulkanAttention

/// The inputs of an attention on the host, contiguous, exactly as the element type holds them.
public struct AttentionInputs: Sendable {
  /// [B, S, H, D].
  public var query: [Float]
  /// [B, T, G, D].
  public var key: [Float]
  /// [B, T, G, E].
  public var value: [Float]

  /// Inputs by their values.
  public init(query: [Float], key: [Float], value: [Float]) {
    self.query = query
    self.key = key
    self.value = value
  }

  /// Normally distributed inputs that belong to a name.
  ///
  /// - Parameters:
  ///   - request: the sizes and the element type.
  ///   - name: the seed.
  ///   - queryDeviation: the standard deviation of the queries, and so of the scores.
  public static func random(
    for request: AttentionRequest, seed name: String, queryDeviation: Float = 1
  ) -> AttentionInputs {
    var generator = SeededGenerator(seed: name)
    func tensor(_ tensor: AttentionRequest.Tensor, deviation: Float = 1) -> [Float] {
      let values = generator.normal(
        TensorMemory(request, tensor).elementCount, deviation: deviation)
      return values.map { Float(request.elementType.storage.rounded(Double($0))) }
    }
    return AttentionInputs(
      query: tensor(.query, deviation: queryDeviation), key: tensor(.key), value: tensor(.value))
  }
}

/// What an attention left in memory.
public struct AttentionReadback: Sendable {
  /// o [B, S, H, E], contiguous.
  public let output: [Float]
  /// lse [B, S, H], where it was asked for.
  public let logSumExp: [Float]?
  /// Writes outside of the outputs, in words; empty for a sound kernel.
  public let strayWrites: [String]
}

/// The tensors of an attention on a device, each with poison around and between its rows.
public struct AttentionTensors: Sendable {
  /// The tensors as a kernel takes them.
  public let buffers: AttentionBuffers
  private let request: AttentionRequest
  private let device: ComputeDevice
  private let wholeOutput: DeviceBuffer
  private let wholeLogSumExp: DeviceBuffer?
  private let wholeScratch: DeviceBuffer?

  /// Every bit set is a NaN of every type.
  private static let scratchPoison: UInt8 = 0xFF

  /// Uploads the inputs, and fills outputs and scratch memory with NaN.
  ///
  /// - Throws: `VulkanError`.
  public init(
    _ inputs: AttentionInputs, for plan: AttentionPlan, on device: ComputeDevice
  ) async throws {
    let request = plan.request
    self.request = request
    self.device = device
    func upload(
      _ bytes: [UInt8], _ byteCount: Int, _ label: String
    ) async throws -> (tensor: DeviceBuffer, whole: DeviceBuffer) {
      let whole = try await device.makeBuffer(bytes, label: label)
      return (try whole.slice(0..<byteCount), whole)
    }
    func input(
      _ tensor: AttentionRequest.Tensor, _ values: [Float]
    ) async throws -> DeviceBuffer {
      let memory = TensorMemory(request, tensor)
      return try await upload(memory.encode(values), memory.byteCount, tensor.rawValue).tensor
    }
    let memory = TensorMemory(request, .output)
    let output = try await upload(memory.poison(), memory.byteCount, "output")
    wholeOutput = output.whole
    var logSumExp: DeviceBuffer?
    var whole: DeviceBuffer?
    if request.returnsLogSumExp {
      let poison = TensorMemory.poison(.f32)
      let byteCount = request.logSumExpByteCount
      let bytes = (0..<byteCount + TensorMemory.guardByteCount).map { poison[$0 % poison.count] }
      (logSumExp, whole) = try await upload(bytes, byteCount, "logSumExp")
    }
    wholeLogSumExp = whole
    var scratch: (tensor: DeviceBuffer, whole: DeviceBuffer)?
    if plan.scratchByteCount > 0 {
      let byteCount = plan.scratchByteCount + TensorMemory.guardByteCount
      scratch = try await upload(
        [UInt8](repeating: Self.scratchPoison, count: byteCount), plan.scratchByteCount, "scratch")
    }
    wholeScratch = scratch?.whole
    buffers = AttentionBuffers(
      query: try await input(.query, inputs.query), key: try await input(.key, inputs.key),
      value: try await input(.value, inputs.value), output: output.tensor, logSumExp: logSumExp,
      scratch: scratch?.tensor)
  }

  /// Downloads the outputs and looks at what surrounds them.
  ///
  /// - Throws: `VulkanError`.
  public func read() async throws -> AttentionReadback {
    var strayWrites: [String] = []
    let memory = TensorMemory(request, .output)
    let (output, strayByte) = memory.decode(
      try await device.download(UInt8.self, from: wholeOutput))
    if let strayByte {
      strayWrites.append(
        "output: byte \(strayByte) was written, which belongs to no row (\(memory.byteCount) bytes)"
      )
    }
    if let wholeScratch {
      let size = wholeScratch.byteCount - TensorMemory.guardByteCount
      let tail = try await device.download(
        UInt8.self, from: try wholeScratch.slice(size..<wholeScratch.byteCount))
      if let stray = tail.firstIndex(where: { $0 != Self.scratchPoison }) {
        strayWrites.append("scratch: byte \(size + stray) was written, there are \(size)")
      }
    }
    guard let wholeLogSumExp else {
      return AttentionReadback(output: output, logSumExp: nil, strayWrites: strayWrites)
    }
    let words = try await device.download(UInt32.self, from: wholeLogSumExp)
    let count = request.logSumExpByteCount / 4
    let poison = TensorMemory.poison(.f32).reversed().reduce(0) { $0 << 8 | UInt32($1) }
    if let stray = words.indices.dropFirst(count).first(where: { words[$0] != poison }) {
      strayWrites.append("logSumExp: value \(stray) was written, there are \(count)")
    }
    return AttentionReadback(
      output: output, logSumExp: words.prefix(count).map(Float.init(bitPattern:)),
      strayWrites: strayWrites)
  }
}

extension AttentionPlan {
  /// The bytes of all tensors together, with what the kernel needs besides.
  private var memoryByteCount: Int {
    AttentionRequest.Tensor.allCases.reduce(request.logSumExpByteCount + scratchByteCount) {
      $0 + request.byteCount(of: $1)
    }
  }

  /// Refuses a problem whose tensors leave no room on the device: beyond half of its memory.
  ///
  /// - Throws: `AttentionError.device(.limitExceeded)`.
  func checkMemory(of device: DeviceCapabilities) throws(AttentionError) {
    let allowed = device.deviceLocalBytes / 2
    guard memoryByteCount <= allowed else {
      throw .device(
        .limitExceeded(
          what: "memory for the tensors in bytes", requested: memoryByteCount, allowed: allowed))
    }
  }
}
