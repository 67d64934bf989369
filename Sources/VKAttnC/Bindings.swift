internal import CVKAttn
internal import VulkanAttention

/// A caller's buffers by tensor, from which a kernel takes what it has; what is left over is refused.
struct Bindings {
  private struct Place: Hashable {
    let tensor: TensorName
    let index: Int
  }

  private var buffers: [Place: DeviceBuffer] = [:]

  /// More than any kernel takes: key sources have two tensors for each key head.
  private static let most = 1 << 16

  init(_ pointer: UnsafePointer<vkattn_binding>?, _ count: Int) throws(Failure) {
    let given = try elements(pointer, count, "bindings", atMost: Self.most)
    for (number, binding) in given.enumerated() {
      let name = "bindings[\(number)]"
      let tensor = try TensorName(number: binding.tensor, name)
      guard binding.index >= 0 else {
        throw Failure("\(name).index", binding.index, allowed: "0 or more")
      }
      let buffer = try HandleTable.shared.object(binding.buffer, .buffer, as: BufferObject.self)
        .buffer
      let byteCount =
        binding.byte_count == 0
        ? max(0, buffer.byteCount.subtractingReportingOverflow(binding.offset).partialValue)
        : binding.byte_count
      let range = try range(
        binding.offset, byteCount, of: buffer.byteCount, "\(name) of \(tensor)")
      let place = Place(tensor: tensor, index: Int(binding.index))
      guard buffers[place] == nil else {
        throw Failure(name, "\(tensor) once more", allowed: "each tensor and index once")
      }
      buffers[place] = try onDevice { () throws(VulkanError) in try buffer.slice(range) }
    }
  }

  /// Whether a tensor is bound.
  func has(_ tensor: TensorName) -> Bool { buffers[Place(tensor: tensor, index: 0)] != nil }

  /// Binds a tensor that the caller has left out.
  mutating func add(_ tensor: TensorName, _ buffer: DeviceBuffer) {
    buffers[Place(tensor: tensor, index: 0)] = buffer
  }

  /// The buffer of a tensor that may be left out.
  mutating func take(_ tensor: TensorName, index: Int = 0) -> DeviceBuffer? {
    buffers.removeValue(forKey: Place(tensor: tensor, index: index))
  }

  /// The buffer of a tensor that the kernel cannot do without.
  mutating func need(_ tensor: TensorName, index: Int = 0) throws(Failure) -> DeviceBuffer {
    guard let buffer = take(tensor, index: index) else {
      throw Failure(
        .missingBuffer, "no buffer is bound for \(tensor)\(index == 0 ? "" : "[\(index)]")")
    }
    return buffer
  }

  /// The operands of an attention, whichever are bound.
  mutating func takeAttentionOperands() -> [AttentionOperand.Kind: DeviceBuffer] {
    takeAll(\.attentionOperand)
  }

  /// The operands of a linear attention, whichever are bound.
  mutating func takeLinearOperands() -> [LinearAttentionOperand: DeviceBuffer] {
    takeAll(\.linearOperand)
  }

  private mutating func takeAll<Operand: Hashable>(
    _ operand: (TensorName) -> Operand?
  ) -> [Operand: DeviceBuffer] {
    var taken: [Operand: DeviceBuffer] = [:]
    for (place, buffer) in buffers where place.index == 0 {
      if let operand = operand(place.tensor) {
        taken[operand] = buffer
        buffers[place] = nil
      }
    }
    return taken
  }

  /// The buffers of a cache.
  mutating func takeCache() throws(Failure) -> CacheBuffers {
    let key = CacheTensorBuffers(try need(.keyCache), scales: take(.keyScales))
    let value = take(.valueCache)
    let valueScales = take(.valueScales)
    if value == nil, valueScales != nil {
      throw Failure(.missingBuffer, "valueScales is bound, and no buffer for valueCache")
    }
    let indptr = take(.pageIndptr)
    let indices = take(.pageIndices)
    var table: CachePageTableBuffers?
    switch (indptr, indices) {
    case (let indptr?, let indices?):
      table = CachePageTableBuffers(indptr: indptr, indices: indices)
    case (nil, nil): break
    default: throw Failure(.missingBuffer, "of pageIndptr and pageIndices only one is bound")
    }
    return CacheBuffers(
      key: key, value: value.map { CacheTensorBuffers($0, scales: valueScales) }, pageTable: table)
  }

  /// Refuses buffers for tensors that the kernel has not.
  func checkAllTaken() throws(Failure) {
    let names = buffers.keys.map { $0.index == 0 ? "\($0.tensor)" : "\($0.tensor)[\($0.index)]" }
    guard names.isEmpty else {
      throw Failure(
        "bindings", names.sorted().joined(separator: ", "),
        allowed: "only tensors that the kernel has")
    }
  }
}
