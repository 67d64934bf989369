/// How the numbers of a cache are stored.
///
/// Rows of C channels each; whatever a row is stored as, kernels compute with it in f32.
public enum CacheFormat: Sendable, Hashable {
  /// Plain elements.
  case element(ElementType)
  /// ggml's `q8_0`: blocks of 32 channels in 34 bytes, a binary16 scale d and 32 signed bytes c: x = d · c
  /// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
  case q8
  /// ggml's `q4_0`: 18 bytes, d and 16 bytes, channel i of the block in the low half of byte i, channel
  /// i + 16 in its high half: x = d · (c − 8).
  case q4
  /// ggml's `q4_1`: 20 bytes, scale d and minimum m, then 16 bytes as in ``q4``: x = d · c + m.
  case q4WithMinimum
  /// Signed bytes c from −127 to 127 with a tensor of scales beside them, one for each group of
  /// `groupSize` consecutive channels: x = scale · c. A group of all channels of a head is a scale for each
  /// token and head.
  case int8(groupSize: Int, scaleType: ElementType)
  /// Signed numbers c from −7 to 7, two in a byte, channel 2i in the low half, with scales as `int8`.
  case int4(groupSize: Int, scaleType: ElementType)
  /// 8-bit floating point with 4 bits of exponent; no infinity, 448 at most
  /// (https://arxiv.org/abs/2209.05433). A scale of the whole tensor belongs into the attention's scale,
  /// for values into what comes behind the output.
  case e4m3
  /// 8-bit floating point with 5 bits of exponent, 57344 at most.
  case e5m2

  /// f32.
  public static let f32 = CacheFormat.element(.f32)
  /// f16.
  public static let f16 = CacheFormat.element(.f16)
  /// bf16.
  public static let bf16 = CacheFormat.element(.bf16)

  /// Channels that must be stored together: a row and its place in memory are multiples of them.
  public var blockChannels: Int {
    switch self {
    case .element, .int8, .e4m3, .e5m2: 1
    case .q8, .q4, .q4WithMinimum: 32
    case .int4: 2
    }
  }

  /// The bytes of ``blockChannels`` channels, without scales that lie beside them.
  public var blockByteCount: Int {
    switch self {
    case .element(let type): type.byteCount
    case .int8, .int4, .e4m3, .e5m2: 1
    case .q8: 34
    case .q4: 18
    case .q4WithMinimum: 20
    }
  }

  /// The bytes of whole blocks of channels.
  public func byteCount(channels: Int) -> Int { channels / blockChannels * blockByteCount }

  /// The channels that share a scale of the tensor beside; nil for a format without one.
  public var scaleGroup: Int? {
    switch self {
    case .int8(let groupSize, _), .int4(let groupSize, _): groupSize
    default: nil
    }
  }

  /// The type of the scales that lie beside the numbers; nil for a format without them.
  public var scaleType: ElementType? {
    switch self {
    case .int8(_, let type), .int4(_, let type): type
    default: nil
    }
  }

  /// Whether numbers are stored as they are, in one of the element types.
  public var elementType: ElementType? {
    if case .element(let type) = self { return type }
    return nil
  }

  /// The number by which the shaders know the format (`Common/cache_formats.glsl`).
  var shaderConstant: UInt32 {
    switch self {
    case .element(let type): type.shaderConstant
    case .q8: 3
    case .q4: 4
    case .q4WithMinimum: 5
    case .int8: 6
    case .int4: 7
    case .e4m3: 8
    case .e5m2: 9
    }
  }
}

extension CacheFormat: CustomStringConvertible {
  /// As in `--key-format`: `f16`, `q8_0`, `int8:128`, `int4:32`, `e4m3`, ….
  public var description: String {
    switch self {
    case .element(let type): type.rawValue
    case .q8: "q8_0"
    case .q4: "q4_0"
    case .q4WithMinimum: "q4_1"
    case .int8(let groupSize, _): "int8:\(groupSize)"
    case .int4(let groupSize, _): "int4:\(groupSize)"
    case .e4m3: "e4m3"
    case .e5m2: "e5m2"
    }
  }
}
