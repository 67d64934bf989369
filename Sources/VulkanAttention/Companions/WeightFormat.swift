/// How a matrix of weights, or a table of embeddings, lies in memory; rows are contiguous.
public enum WeightFormat: Sendable, Hashable, CaseIterable {
  /// Plain elements.
  case element(ElementType)
  /// ggml's `q8_0`: blocks of 32 numbers, a binary16 scale and 32 signed bytes, 34 bytes; x = d · c.
  case q8
  /// ggml's `q4_0`: blocks of 32 numbers, a binary16 scale and 16 bytes of two codes each, number i in the low half of
  /// byte i and number i + 16 in its high half, 18 bytes; x = d · (c − 8).
  case q4

  /// Plain elements of 32 bits.
  public static let f32 = WeightFormat.element(.f32)
  /// Plain elements of 16 bits.
  public static let f16 = WeightFormat.element(.f16)
  /// bfloat16.
  public static let bf16 = WeightFormat.element(.bf16)

  /// All formats.
  public static let allCases: [WeightFormat] = [.f32, .f16, .bf16, .q8, .q4]

  /// The format's name, as in case files and ggml.
  public var name: String {
    switch self {
    case .element(let type): type.rawValue
    case .q8: "q8_0"
    case .q4: "q4_0"
    }
  }

  /// Numbers that share a block; 1 of plain elements. A row has whole blocks.
  public var blockSize: Int {
    switch self {
    case .element: 1
    case .q8, .q4: 32
    }
  }

  /// Bytes of a row, or of any whole number of blocks.
  public func byteCount(channels: Int) -> Int {
    switch self {
    case .element(let type): channels * type.byteCount
    case .q8: channels / 32 * 34
    case .q4: channels / 32 * 18
    }
  }

  /// What an address must be a multiple of for loads of single numbers.
  var alignment: Int {
    switch self {
    case .element(let type): type.byteCount
    case .q8, .q4: 2
    }
  }

  /// The number by which the shaders know the format (`Common/cache_formats.glsl`).
  var shaderConstant: UInt32 {
    switch self {
    case .element(let type): type.shaderConstant
    case .q8: 3
    case .q4: 4
    }
  }

  /// Refuses rows that are not whole blocks.
  func check(_ name: String, channels: Int) throws(AttentionError) {
    guard channels % blockSize == 0 else {
      throw .invalidArgument(
        name: name, value: "\(channels)", allowed: "a multiple of \(blockSize), in \(self.name)")
    }
  }
}
