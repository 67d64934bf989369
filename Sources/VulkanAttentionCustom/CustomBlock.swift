/// What modifications read, byte for byte as `CustomBlock` in `Shaders/Attention/attention_custom.glsl`.
enum CustomBlock {
  /// Bytes of the block: buffers of 16, scalars of 4.
  static let byteCount =
    CustomParameters.bufferLimit * 16 + CustomParameters.scalarLimit * 4

  /// - Throws: `invalidInputs` where something is missing, has another type or belongs to no modification.
  static func inputs(
    _ parameters: CustomParameters, buffers: [String: DeviceBuffer],
    scalars: [String: CustomScalar.Value]
  ) throws(CustomAttentionError) -> CustomInputs {
    var words: [UInt32] = []
    var bound: [(name: String, buffer: DeviceBuffer, alignment: Int)] = []
    for parameter in parameters.buffers {
      guard let buffer = buffers[parameter.name] else {
        throw .invalidInputs(
          reason: "a modification reads the buffer \(parameter.name), and none was given")
      }
      let count = buffer.byteCount / parameter.element.byteCount
      guard count > 0 else {
        throw .invalidInputs(
          reason:
            "the buffer \(parameter.name) has \(buffer.byteCount) bytes; allowed: at least one "
            + "element, \(parameter.element.byteCount)")
      }
      let address = buffer.address
      words += [
        UInt32(truncatingIfNeeded: address), UInt32(truncatingIfNeeded: address >> 32),
        UInt32(clamping: count), 0,
      ]
      bound.append((parameter.name, buffer, parameter.element.byteCount))
    }
    words += Array(repeating: 0, count: CustomParameters.bufferLimit * 4 - words.count)
    for parameter in parameters.scalars {
      guard let value = scalars[parameter.name], value.kind == parameter.kind else {
        throw .invalidInputs(
          reason: "a modification reads the scalar \(parameter.name) of type "
            + "\(parameter.kind.rawValue), and none was given")
      }
      words.append(value.bits)
    }
    words += Array(repeating: 0, count: byteCount / 4 - words.count)
    let known = Set(parameters.buffers.map(\.name) + parameters.scalars.map(\.name))
    for name in (Array(buffers.keys) + Array(scalars.keys)).sorted() where !known.contains(name) {
      throw .invalidInputs(reason: "no modification reads \(name); give only what one names")
    }
    return .init(
      block: words.flatMap { word in withUnsafeBytes(of: word.littleEndian) { Array($0) } },
      buffers: bound)
  }
}
