/// The blocks of 32 numbers of ggml's quantised tensors, byte for byte as GGUF files and llama.cpp's caches
/// hold them (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
public enum QuantizedBlock: String, Sendable, Hashable, CaseIterable {
  /// A binary16 scale d, then 32 signed bytes: x = d · c. 34 bytes.
  case q8 = "q8_0"
  /// A binary16 scale d, then 16 bytes: number i in the low half of byte i, number i + 16 in its high half:
  /// x = d · (c − 8). 18 bytes.
  case q4 = "q4_0"
  /// Two binary16, scale d and minimum m, then 16 bytes as in ``q4``: x = d · c + m. 20 bytes.
  case q4WithMinimum = "q4_1"

  /// Numbers of a block.
  public static let count = 32

  /// Bytes of a block.
  public var byteCount: Int {
    switch self {
    case .q8: 34
    case .q4: 18
    case .q4WithMinimum: 20
    }
  }

  /// The bytes of numbers, a multiple of 32.
  ///
  /// d is max |x| / 127 in `q8_0`; the number that is farthest from 0, over −8, in `q4_0`; (max − min) / 15
  /// in `q4_1`. Codes are the nearest with the scale in binary32, before it is rounded to binary16.
  public func encode(_ x: [Float]) -> [UInt8] {
    precondition(x.count % Self.count == 0, "blocks of 32 numbers")
    var bytes: [UInt8] = []
    bytes.reserveCapacity(x.count / Self.count * byteCount)
    func append(_ number: Float) {
      let bits = Float16(number).bitPattern
      bytes += [UInt8(bits & 0xFF), UInt8(bits >> 8)]
    }
    func appendNibbles(_ codes: [UInt8]) {
      for i in 0..<16 { bytes.append(codes[i] | codes[i + 16] << 4) }
    }
    for start in stride(from: 0, to: x.count, by: Self.count) {
      let block = x[start..<start + Self.count]
      switch self {
      case .q8:
        let d = block.reduce(0) { max($0, abs($1)) } / 127
        let inverse = d == 0 ? 0 : 1 / d
        append(d)
        for number in block {
          let code = (number * inverse).rounded(.toNearestOrAwayFromZero)
          bytes.append(UInt8(bitPattern: Int8(min(max(code, -128), 127))))
        }
      case .q4:
        var farthest: Float = 0
        for number in block where abs(number) > abs(farthest) { farthest = number }
        let d = farthest / -8
        let inverse = d == 0 ? 0 : 1 / d
        append(d)
        appendNibbles(block.map { UInt8(min(15, max(0, $0 * inverse + 8.5))) })
      case .q4WithMinimum:
        let least = block.min() ?? 0
        let d = ((block.max() ?? 0) - least) / 15
        let inverse = d == 0 ? 0 : 1 / d
        append(d)
        append(least)
        appendNibbles(block.map { UInt8(min(15, max(0, ($0 - least) * inverse + 0.5))) })
      }
    }
    return bytes
  }

  /// The numbers of whole blocks, exactly.
  public func decode(_ bytes: [UInt8]) -> [Double] {
    precondition(bytes.count % byteCount == 0, "blocks of \(byteCount) bytes")
    var x: [Double] = []
    x.reserveCapacity(bytes.count / byteCount * Self.count)
    func number(_ place: Int) -> Double {
      Double(Float16(bitPattern: UInt16(bytes[place]) | UInt16(bytes[place + 1]) << 8))
    }
    for start in stride(from: 0, to: bytes.count, by: byteCount) {
      let d = number(start)
      switch self {
      case .q8:
        for i in 0..<32 { x.append(d * Double(Int8(bitPattern: bytes[start + 2 + i]))) }
      case .q4:
        for i in 0..<16 { x.append(d * (Double(bytes[start + 2 + i] & 15) - 8)) }
        for i in 0..<16 { x.append(d * (Double(bytes[start + 2 + i] >> 4) - 8)) }
      case .q4WithMinimum:
        let m = number(start + 2)
        for i in 0..<16 { x.append(d * Double(bytes[start + 4 + i] & 15) + m) }
        for i in 0..<16 { x.append(d * Double(bytes[start + 4 + i] >> 4) + m) }
      }
    }
    return x
  }
}

/// Signed integers with a tensor of scales beside them, one for each group of consecutive channels.
///
///     scale = max |x| / largest, rounded to its type        code = x / scale, rounded to even
///     x     ≈ scale · code
///
/// A group of all channels of a head gives a scale per token and head.
public struct ScaledIntegers: Sendable, Hashable {
  /// The bits of a code.
  public enum Width: Sendable, Hashable, CaseIterable {
    /// −127 to 127, one byte each.
    case int8
    /// −7 to 7, two in a byte: channel 2i in the low half, 2i + 1 in the high half, two's complement.
    case int4

    /// The largest code.
    public var largest: Int { self == .int8 ? 127 : 7 }
  }

  /// The bits of a code.
  public let width: Width
  /// Channels that share a scale.
  public let groupSize: Int
  /// The codes, `[rows, C]` as `width` packs them.
  public let codes: [UInt8]
  /// `[rows, C / groupSize]`: numbers that the scales' type holds exactly.
  public let scales: [Float]

  /// Codes and scales from elsewhere.
  public init(width: Width, groupSize: Int, codes: [UInt8], scales: [Float]) {
    self.width = width
    self.groupSize = groupSize
    self.codes = codes
    self.scales = scales
    precondition(
      codes.count == scales.count * groupSize / (width == .int8 ? 1 : 2), "codes for each scale")
  }

  /// Quantises numbers.
  ///
  /// - Parameters:
  ///   - x: numbers, whole groups of them.
  ///   - width: the bits of a code; `int4` takes groups of even size.
  ///   - groupSize: channels that share a scale.
  ///   - halfScales: whether scales are binary16 instead of binary32.
  public init(_ x: [Double], width: Width, groupSize: Int, halfScales: Bool = false) {
    precondition(groupSize > 0 && x.count % groupSize == 0, "whole groups")
    precondition(width == .int8 || groupSize % 2 == 0, "int4 takes groups of even size")
    var codes: [Int] = []
    var scales: [Float] = []
    for start in stride(from: 0, to: x.count, by: groupSize) {
      let group = x[start..<start + groupSize]
      let exact = group.reduce(0) { max($0, abs($1)) } / Double(width.largest)
      let scale = halfScales ? Float(Float16(exact)) : Float(exact)
      scales.append(scale)
      for number in group {
        // A scale that has become 0 leaves nothing.
        let code = scale == 0 ? 0 : (number / Double(scale)).rounded(.toNearestOrEven)
        codes.append(Int(min(max(code, -Double(width.largest)), Double(width.largest))))
      }
    }
    let bytes: [UInt8]
    switch width {
    case .int8: bytes = codes.map { UInt8(bitPattern: Int8($0)) }
    case .int4:
      bytes = stride(from: 0, to: codes.count, by: 2).map {
        UInt8(codes[$0] & 15) | UInt8(codes[$0 + 1] & 15) << 4
      }
    }
    self.init(width: width, groupSize: groupSize, codes: bytes, scales: scales)
  }

  /// The numbers, exactly.
  public func decoded() -> [Double] {
    var x: [Double] = []
    x.reserveCapacity(scales.count * groupSize)
    for index in 0..<scales.count * groupSize {
      let code: Int
      switch width {
      case .int8: code = Int(Int8(bitPattern: codes[index]))
      case .int4:
        let half = Int(codes[index / 2] >> (index % 2 == 0 ? 0 : 4) & 15)
        code = half < 8 ? half : half - 16
      }
      x.append(Double(scales[index / groupSize]) * Double(code))
    }
    return x
  }
}
