import AttentionReference
import VulkanAttention

/// Rows of a companion kernel in device memory: NaN between the rows and behind the last one.
struct CompanionTensor {
  private let memory: TensorMemory

  init(rows: Int, channels: Int, stride: Int? = nil, type: ElementType = .f32) {
    let stride = stride ?? channels
    memory = TensorMemory(
      batch: 1, tokens: rows, heads: 1, channels: channels,
      strides: TensorStrides(batch: 0, token: stride, head: channels), elementType: type,
      byteCount: ((rows - 1) * stride + channels) * type.byteCount)
  }

  /// Random numbers of the type.
  func numbers(_ random: inout SplitMix64) -> [Float] {
    random.normal(memory.elementCount).map {
      Float(memory.elementType.storage.rounded(Double($0)))
    }
  }

  /// A buffer with the numbers; what the kernel gets ends with the last row.
  func upload(
    _ values: [Float], _ label: String, on device: ComputeDevice
  ) async throws -> DeviceBuffer {
    try await guarded(memory.encode(values), label, on: device)
  }

  /// A buffer without a number.
  func poisoned(_ label: String, on device: ComputeDevice) async throws -> Output {
    let whole = try await device.makeBuffer(memory.poison(), label: label)
    return Output(tensor: self, whole: whole, buffer: try whole.slice(0..<memory.byteCount))
  }

  private func guarded(
    _ bytes: [UInt8], _ label: String, on device: ComputeDevice
  ) async throws -> DeviceBuffer {
    try await device.makeBuffer(bytes, label: label).slice(0..<memory.byteCount)
  }

  /// A tensor that a kernel writes.
  struct Output {
    let tensor: CompanionTensor
    let whole: DeviceBuffer
    /// What the kernel gets.
    let buffer: DeviceBuffer

    /// The numbers; a write outside of the rows is said among the problems.
    func read(on device: ComputeDevice, problems: inout [String]) async throws -> [Float] {
      let (values, stray) = tensor.memory.decode(
        try await device.download(UInt8.self, from: whole))
      if let stray { problems.append("\(buffer.label): byte \(stray) was written, it is no row's") }
      return values
    }
  }
}

extension WeightFormat {
  /// The bytes of numbers, and the numbers that these bytes say.
  func stored(_ values: [Float]) -> (bytes: [UInt8], numbers: [Double]) {
    switch self {
    case .element(let type):
      (memory(values, type), values.map { type.storage.rounded(Double($0)) })
    case .q8: Self.blocks(.q8, values)
    case .q4: Self.blocks(.q4, values)
    }
  }

  private static func blocks(
    _ block: QuantizedBlock, _ values: [Float]
  ) -> (bytes: [UInt8], numbers: [Double]) {
    let bytes = block.encode(values)
    return (bytes, block.decode(bytes))
  }
}

extension Activation {
  /// The function as the reference takes it.
  var reference: ActivationFunction {
    switch self {
    case .none: .none
    case .relu: .relu
    case .silu: .silu
    case .geluTanh: .geluTanh
    case .geluErf: .geluErf
    }
  }
}
