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
  /// The operands that are read, as they lie in memory.
  public var operands: [AttentionOperand.Kind: [UInt8]]

  /// Inputs by their values.
  public init(
    query: [Float], key: [Float], value: [Float],
    operands: [AttentionOperand.Kind: [UInt8]] = [:]
  ) {
    self.query = query
    self.key = key
    self.value = value
    self.operands = operands
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
    var generator = SplitMix64(seed: name)
    func tensor(
      _ tensor: AttentionRequest.Tensor, copies: Int = 1, deviation: Float = 1
    ) -> [Float] {
      let values = generator.normal(
        TensorMemory(request, tensor).elementCount * copies, deviation: deviation)
      let storage = request.type(of: tensor).storage
      return values.map { Float(storage.rounded(Double($0))) }
    }
    let copies = request.hasKeySources ? request.keyHeads : 1
    let query = tensor(.query, deviation: queryDeviation)
    let key = tensor(.key, copies: copies)
    let value =
      request.valuesAreKeys
      ? stride(from: 0, to: key.count, by: request.headSize).flatMap {
        key[$0..<$0 + request.valueHeadSize]
      } : tensor(.value, copies: copies)
    return AttentionInputs(
      query: query, key: key, value: value, operands: request.operandData(&generator))
  }
}

/// What an attention left in memory.
public struct AttentionReadback: Sendable {
  /// o [B, S, H, E], contiguous.
  public let output: [Float]
  /// lse [B, S, H], where it was asked for.
  public let logSumExp: [Float]?
  /// The state that was returned, where it was asked for: maxima, sums and results.
  public let state: (max: [Float], sum: [Float], output: [Float])?
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
  private let wholeStates: [AttentionOperand.Kind: DeviceBuffer]

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
    var operands: [AttentionOperand.Kind: DeviceBuffer] = [:]
    var states: [AttentionOperand.Kind: DeviceBuffer] = [:]
    let pattern = TensorMemory.poison(.f32)
    for operand in request.operands {
      let byteCount = request.byteCount(of: operand.kind)
      let contents = inputs.operands[operand.kind] ?? []
      let bytes =
        contents
        + (contents.count..<byteCount + TensorMemory.guardByteCount).map {
          pattern[$0 % pattern.count]
        }
      let (tensor, whole) = try await upload(bytes, byteCount, operand.kind.rawValue)
      operands[operand.kind] = tensor
      if operand.kind.isWritten { states[operand.kind] = whole }
    }
    wholeStates = states

    let query = try await input(.query, inputs.query)
    var sources: [AttentionKeySource] = []
    var key = query
    var value = query
    if request.hasKeySources {
      for g in 0..<request.keyHeads {
        func head(_ values: [Float], _ channels: Int) -> [Float] {
          stride(from: g * channels, to: values.count, by: request.keyHeads * channels).flatMap {
            values[$0..<$0 + channels]
          }
        }
        let key = try await input(.key, head(inputs.key, request.headSize))
        let value =
          request.valuesAreKeys
          ? key : try await input(.value, head(inputs.value, request.valueHeadSize))
        sources.append(AttentionKeySource(key: key, value: value))
      }
    } else {
      key = try await input(.key, inputs.key)
      value = request.valuesAreKeys ? key : try await input(.value, inputs.value)
    }
    buffers = AttentionBuffers(
      query: query, key: key, value: value, output: output.tensor, logSumExp: logSumExp,
      operands: operands, keySources: sources, scratch: scratch?.tensor)
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
    let pattern = TensorMemory.poison(.f32).reversed().reduce(0) { $0 << 8 | UInt32($1) }
    var states: [AttentionOperand.Kind: [Float]] = [:]
    for (kind, whole) in wholeStates.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
      let words = try await device.download(UInt32.self, from: whole)
      let count = request.byteCount(of: kind) / 4
      if let stray = words.indices.dropFirst(count).first(where: { words[$0] != pattern }) {
        strayWrites.append("\(kind.rawValue): value \(stray) was written, there are \(count)")
      }
      states[kind] = words.prefix(count).map(Float.init(bitPattern:))
    }
    var state: (max: [Float], sum: [Float], output: [Float])?
    if let max = states[.finalMax], let sum = states[.finalSum], let output = states[.finalOutput] {
      state = (max, sum, output)
    }
    guard let wholeLogSumExp else {
      return AttentionReadback(
        output: output, logSumExp: nil, state: state, strayWrites: strayWrites)
    }
    let words = try await device.download(UInt32.self, from: wholeLogSumExp)
    let count = request.logSumExpByteCount / 4
    if let stray = words.indices.dropFirst(count).first(where: { words[$0] != pattern }) {
      strayWrites.append("logSumExp: value \(stray) was written, there are \(count)")
    }
    return AttentionReadback(
      output: output, logSumExp: words.prefix(count).map(Float.init(bitPattern:)), state: state,
      strayWrites: strayWrites)
  }
}

extension AttentionPlan {
  /// The bytes of all tensors together, with what the kernel needs besides.
  private var memoryByteCount: Int {
    AttentionRequest.Tensor.allCases.reduce(request.logSumExpByteCount + scratchByteCount) {
      $0 + request.byteCount(of: $1)
    } + request.operands.reduce(0) { $0 + request.byteCount(of: $1.kind) }
  }

  /// Refuses a problem whose tensors leave no room on the device: beyond half of its memory.
  ///
  /// - Throws: `AttentionError.device(.limitExceeded)`.
  func checkMemory(of device: DeviceCapabilities) throws(AttentionError) {
    try device.checkMemory(Double(memoryByteCount))
  }
}

extension DeviceCapabilities {
  /// Refuses tensors that leave no room on the device: beyond half of its memory.
  ///
  /// - Throws: `AttentionError.device(.limitExceeded)`.
  func checkMemory(_ byteCount: Double) throws(AttentionError) {
    let allowed = deviceLocalBytes / 2
    guard byteCount <= Double(allowed) else {
      throw .device(
        .limitExceeded(
          what: "memory for the tensors in bytes",
          requested: Int(exactly: byteCount.rounded()) ?? .max,
          allowed: allowed))
    }
  }
}
