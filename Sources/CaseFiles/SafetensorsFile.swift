/// The tensors and the metadata of a safetensors file.
///
/// The format: an 8-byte little-endian length N, N bytes of JSON that name every tensor's type,
/// shape and place, then the tensors' bytes without holes
/// (https://github.com/huggingface/safetensors#format).
///
/// The reader trusts nothing. Every length, offset and shape is checked before it is used, and
/// whatever is wrong is a ``CaseFileError``.
public struct SafetensorsFile: Sendable {
  /// The file as it was named by the caller, for messages.
  public let name: String
  /// The tensors in the order of the header; names are unique.
  public let tensors: [CaseTensor]
  /// The strings under `__metadata__`; empty when there is none.
  public let metadata: [String: String]

  /// The longest header that is read: the format's own limit.
  public static let headerByteLimit = 100_000_000
  /// The largest file that is read, since a file is held in memory whole.
  public static let fileByteLimit = 1 << 32

  /// A file to be written.
  ///
  /// - Precondition: the tensors' names are unique.
  public init(name: String, tensors: [CaseTensor], metadata: [String: String]) {
    precondition(Set(tensors.map(\.name)).count == tensors.count, "tensor names must be unique")
    self.name = name
    self.tensors = tensors
    self.metadata = metadata
  }

  /// Reads the file at `path`.
  ///
  /// - Throws: ``CaseFileError`` for a file that cannot be read or is malformed.
  public init(path: String) throws(CaseFileError) {
    try self.init(bytes: try readWholeFile(path, byteLimit: Self.fileByteLimit), name: path)
  }

  /// Reads a file that is already in memory.
  ///
  /// - Throws: ``CaseFileError`` for malformed bytes.
  public init(bytes: [UInt8], name: String) throws(CaseFileError) {
    let headerLength = try Self.headerLength(bytes, file: name)
    let dataStart = 8 + headerLength
    let header: JSONValue
    do {
      header = try JSONParser.parse(bytes[8..<dataStart])
    } catch {
      throw CaseFileError(name, "header", .malformedJSON(byte: error.byte, error.reason))
    }
    guard bytes[8] == UInt8(ascii: "{"), case .object(let members) = header else {
      throw CaseFileError(name, "header", .expected("a JSON object that starts with '{'"))
    }

    var metadata: [String: String] = [:]
    var places: [TensorPlace] = []
    for member in members {
      if member.key == "__metadata__" {
        metadata = try Self.readMetadata(member.value, file: name)
      } else {
        places.append(try TensorPlace(name: member.key, member.value, file: name))
      }
    }
    try Self.checkCoverage(places, byteCount: bytes.count - dataStart, file: name)
    self.name = name
    self.metadata = metadata
    self.tensors = places.map { place in
      CaseTensor(
        name: place.name, element: place.element, shape: place.shape,
        checkedBytes: bytes[dataStart + place.start..<dataStart + place.end])
    }
  }

  private static func headerLength(_ bytes: [UInt8], file: String) throws(CaseFileError) -> Int {
    let field = "header length"
    guard bytes.count >= 8 else {
      throw CaseFileError(file, field, .truncated(needed: 8, available: UInt64(bytes.count)))
    }
    let length = bytes[..<8].reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
    // The limit first: it keeps the sums below far from overflow.
    if length > UInt64(headerByteLimit) {
      throw CaseFileError(file, field, .tooLarge(length, limit: UInt64(headerByteLimit)))
    }
    if length > UInt64(bytes.count - 8) {
      throw CaseFileError(
        file, field, .truncated(needed: length + 8, available: UInt64(bytes.count)))
    }
    if length == 0 { throw CaseFileError(file, field, .invalid("the header is empty")) }
    return Int(length)
  }

  private static func readMetadata(
    _ value: JSONValue, file: String
  ) throws(CaseFileError) -> [String: String] {
    guard case .object(let members) = value else {
      throw CaseFileError(file, "__metadata__", .expected("an object"))
    }
    var metadata: [String: String] = [:]
    for member in members {
      guard case .string(let text) = member.value else {
        throw CaseFileError(file, "__metadata__.\(member.key)", .expected("a string"))
      }
      metadata[member.key] = text
    }
    return metadata
  }

  /// Checks that the tensors cover the data exactly: no overlap, no hole, nothing left.
  private static func checkCoverage(
    _ places: [TensorPlace], byteCount: Int, file: String
  ) throws(CaseFileError) {
    var covered = 0
    for place in places.sorted(by: { ($0.start, $0.end) < ($1.start, $1.end) }) {
      let field = "tensor \(place.name): data_offsets"
      if place.start < covered {
        throw CaseFileError(file, field, .invalid("overlaps the tensor before it"))
      }
      if place.end > byteCount {
        throw CaseFileError(
          file, field, .truncated(needed: UInt64(place.end), available: UInt64(byteCount)))
      }
      if place.start > covered {
        throw CaseFileError(
          file, field, .invalid("bytes \(covered)..<\(place.start) belong to no tensor"))
      }
      covered = place.end
    }
    if covered != byteCount {
      throw CaseFileError(
        file, "data", .invalid("the tensors end at byte \(covered), the file at \(byteCount)"))
    }
  }
}

/// One tensor's entry in the header: consistent in itself, not yet checked against the data.
private struct TensorPlace {
  let name: String
  let element: ElementType
  let shape: [Int]
  let start: Int
  let end: Int

  init(name: String, _ value: JSONValue, file: String) throws(CaseFileError) {
    let field = "tensor \(name)"
    guard case .object(let members) = value else {
      throw CaseFileError(file, field, .expected("an object"))
    }
    var fields: [String: JSONValue] = [:]
    for member in members {
      guard ["dtype", "shape", "data_offsets"].contains(member.key) else {
        throw CaseFileError(
          file, "\(field): \(member.key)", .unknown(allowed: ["dtype", "shape", "data_offsets"]))
      }
      fields[member.key] = member.value
    }
    guard case .string(let type)? = fields["dtype"] else {
      throw CaseFileError(
        file, "\(field): dtype", fields["dtype"] == nil ? .missing : .expected("a string"))
    }
    guard let element = ElementType(rawValue: type) else {
      throw CaseFileError(file, "\(field): dtype", .unsupportedElementType(type))
    }
    let shape = try Self.sizes(fields["shape"], field: "\(field): shape", file: file)
    let offsets = try Self.sizes(
      fields["data_offsets"], field: "\(field): data_offsets", file: file)
    guard offsets.count == 2, offsets[0] <= offsets[1] else {
      throw CaseFileError(
        file, "\(field): data_offsets", .expected("two offsets, the first not above the second"))
    }

    var byteCount = element.byteCount
    for size in shape {
      let (product, overflow) = byteCount.multipliedReportingOverflow(by: size)
      if overflow {
        throw CaseFileError(
          file, "\(field): shape", .invalid("\(shape) has more elements than can be counted"))
      }
      byteCount = product
    }
    guard byteCount == offsets[1] - offsets[0] else {
      throw CaseFileError(
        file, "\(field): data_offsets",
        .invalid(
          "\(offsets[1] - offsets[0]) bytes where \(type) \(shape) takes \(byteCount)"))
    }
    self.name = name
    self.element = element
    self.shape = shape
    self.start = offsets[0]
    self.end = offsets[1]
  }

  /// An array of integers that are not negative.
  private static func sizes(
    _ value: JSONValue?, field: String, file: String
  ) throws(CaseFileError) -> [Int] {
    guard let value else { throw CaseFileError(file, field, .missing) }
    guard case .array(let values) = value, values.count <= 8 else {
      throw CaseFileError(file, field, .expected("an array of at most 8 integers"))
    }
    var sizes: [Int] = []
    for value in values {
      guard case .integer(let size) = value, size >= 0 else {
        throw CaseFileError(file, field, .expected("integers that are 0 or more"))
      }
      sizes.append(size)
    }
    return sizes
  }
}
