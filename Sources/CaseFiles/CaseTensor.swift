/// A named tensor of a case file: row-major, little-endian.
public struct CaseTensor: Sendable {
  /// The tensor's name in the file.
  public let name: String
  /// The type of its elements.
  public let element: ElementType
  /// Sizes, the slowest dimension first; empty for a scalar.
  public let shape: [Int]
  /// The elements as they are in the file. Tensors of one file share its memory.
  public let bytes: ArraySlice<UInt8>

  /// Number of elements.
  public var count: Int { bytes.count / element.byteCount }

  /// Wraps bytes that have been checked against the shape.
  init(name: String, element: ElementType, shape: [Int], checkedBytes: ArraySlice<UInt8>) {
    self.name = name
    self.element = element
    self.shape = shape
    self.bytes = checkedBytes
  }

  /// Makes a tensor out of numbers, rounded to `element`; integer types take whole numbers.
  ///
  /// - Precondition: `values` has as many numbers as the shape, each within the element's range.
  public init(name: String, element: ElementType, shape: [Int], values: [Double]) {
    precondition(shape.allSatisfy { $0 >= 0 } && shape.reduce(1, *) == values.count)
    var bytes: [UInt8] = []
    bytes.reserveCapacity(values.count * element.byteCount)
    func append(_ bits: some FixedWidthInteger) {
      withUnsafeBytes(of: bits.littleEndian) { bytes.append(contentsOf: $0) }
    }
    for value in values {
      switch element {
      case .f32: append(Float(value).bitPattern)
      case .f16: append(Float16(value).bitPattern)
      case .bf16: append(Self.bfloat16Bits(value))
      case .i32: append(Int32(value))
      case .u8: append(UInt8(value))
      }
    }
    self.init(name: name, element: element, shape: shape, checkedBytes: bytes[...])
  }

  /// The elements as Double: exact for every element type.
  public func doubles() -> [Double] {
    switch element {
    case .f32: map { (bits: UInt32) in Double(Float(bitPattern: bits)) }
    case .f16: map { (bits: UInt16) in Double(Float16(bitPattern: bits)) }
    case .bf16: map { (bits: UInt16) in Double(Float(bitPattern: UInt32(bits) << 16)) }
    case .i32: map { (bits: UInt32) in Double(Int32(bitPattern: bits)) }
    case .u8: map { (bits: UInt8) in Double(bits) }
    }
  }

  /// The elements as Float: exact for the floating-point types.
  public func floats() -> [Float] {
    switch element {
    case .f32: map { (bits: UInt32) in Float(bitPattern: bits) }
    case .f16: map { (bits: UInt16) in Float(Float16(bitPattern: bits)) }
    case .bf16: map { (bits: UInt16) in Float(bitPattern: UInt32(bits) << 16) }
    case .i32: map { (bits: UInt32) in Float(Int32(bitPattern: bits)) }
    case .u8: map { (bits: UInt8) in Float(bits) }
    }
  }

  /// The elements of an I32 or U8 tensor; nil for floating-point types.
  public func integers() -> [Int]? {
    switch element {
    case .i32: map { (bits: UInt32) in Int(Int32(bitPattern: bits)) }
    case .u8: map { (bits: UInt8) in Int(bits) }
    case .f32, .f16, .bf16: nil
    }
  }

  private func map<Bits: FixedWidthInteger, Value>(_ transform: (Bits) -> Value) -> [Value] {
    bytes.withUnsafeBytes { bytes in
      (0..<count).map { index in
        // Unaligned: the data start wherever the header ends.
        let bits = bytes.loadUnaligned(fromByteOffset: index * element.byteCount, as: Bits.self)
        return transform(Bits(littleEndian: bits))
      }
    }
  }

  private static func bfloat16Bits(_ value: Double) -> UInt16 {
    let narrow = Float(value)
    // The quiet bit is kept, so that NaN does not become an infinity.
    if narrow.isNaN { return UInt16(truncatingIfNeeded: narrow.bitPattern >> 16) | 0x40 }
    let bits = narrow.bitPattern
    return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ ((bits >> 16) & 1)) >> 16)
  }
}
