/// One problem and its expected answer, read from a safetensors file.
///
/// The tensors are the inputs and, named `expected.<output>`, the outputs. `__metadata__.vkattn`
/// holds a JSON text: `{"version": 1, "op": …, "params": {…}, "tolerance": {…}, "source": …}`.
public enum CaseFile: Sendable {
  /// op `attention`, or op `attention_varlen`, whose sequences are packed.
  case attention(AttentionCase)
  /// op `decode`, or op `paged_decode`, whose keys and values lie in pages.
  case decode(DecodeCase)
  /// op `mla_decode`.
  case latentDecode(LatentDecodeCase)
  /// op `linear_attention` or `ssd`.
  case linearAttention(LinearAttentionCase)

  /// The operations that the format knows, whether or not this build can run them.
  public static let operations = [
    "attention", "attention_varlen", "decode", "paged_decode", "mla_decode", "linear_attention",
    "ssd", "selective_scan",
  ]

  /// Reads and checks the case at `path`.
  ///
  /// - Throws: ``CaseFileError`` naming the file and the field. An operation that is known but
  ///   not supported here is told apart by ``CaseFileError/isUnsupportedOperation``.
  public init(path: String) throws(CaseFileError) {
    try self.init(try SafetensorsFile(path: path))
  }

  /// Reads and checks a case that is already in memory.
  ///
  /// - Throws: as ``init(path:)``.
  public init(bytes: [UInt8], name: String) throws(CaseFileError) {
    try self.init(try SafetensorsFile(bytes: bytes, name: name))
  }

  /// Reads the case in a safetensors file.
  ///
  /// - Throws: as ``init(path:)``.
  public init(_ file: SafetensorsFile) throws(CaseFileError) {
    let description = try CaseDescription(file)
    switch description.operation {
    case "attention":
      self = .attention(try AttentionCase(file, description, isPacked: false))
    case "attention_varlen":
      self = .attention(try AttentionCase(file, description, isPacked: true))
    case "decode":
      self = .decode(try DecodeCase(file, description, isPaged: false))
    case "paged_decode":
      self = .decode(try DecodeCase(file, description, isPaged: true))
    case "mla_decode":
      self = .latentDecode(try LatentDecodeCase(file, description))
    case "linear_attention", "ssd":
      self = .linearAttention(try LinearAttentionCase(file, description))
    case let name where Self.operations.contains(name):
      throw CaseFileError(file.name, "vkattn.op", .unsupportedOperation(name))
    default:
      throw CaseFileError(file.name, "vkattn.op", .unknown(allowed: Self.operations))
    }
  }
}

/// The JSON text under `__metadata__.vkattn`, checked as far as all operations have in common.
struct CaseDescription {
  let operation: String
  var parameters: [JSONMember]
  let tolerances: [JSONMember]
  let source: String?

  init(_ file: SafetensorsFile) throws(CaseFileError) {
    guard let text = file.metadata["vkattn"] else {
      throw CaseFileError(file.name, "__metadata__.vkattn", .missing)
    }
    let json: JSONValue
    do {
      json = try JSONParser.parse(Array(text.utf8)[...])
    } catch {
      throw CaseFileError(
        file.name, "__metadata__.vkattn", .malformedJSON(byte: error.byte, error.reason))
    }
    guard case .object(let members) = json else {
      throw CaseFileError(file.name, "vkattn", .expected("an object"))
    }
    let allowed = ["version", "op", "params", "tolerance", "source"]
    var fields: [String: JSONValue] = [:]
    for member in members { fields[member.key] = member.value }

    // The version first: another version may well have other fields.
    guard let version = fields["version"] else {
      throw CaseFileError(file.name, "vkattn.version", .missing)
    }
    guard case .integer(let number) = version else {
      throw CaseFileError(file.name, "vkattn.version", .expected("the integer 1"))
    }
    if number != 1 {
      throw CaseFileError(file.name, "vkattn.version", .unsupportedVersion(number))
    }
    for member in members where !allowed.contains(member.key) {
      throw CaseFileError(file.name, "vkattn.\(member.key)", .unknown(allowed: allowed))
    }
    guard let operation = fields["op"] else {
      throw CaseFileError(file.name, "vkattn.op", .missing)
    }
    guard case .string(let name) = operation else {
      throw CaseFileError(file.name, "vkattn.op", .expected("a string"))
    }
    self.operation = name
    switch fields["source"] {
    case nil: self.source = nil
    case .string(let text): self.source = text
    default: throw CaseFileError(file.name, "vkattn.source", .expected("a string"))
    }
    self.parameters = try Self.members(fields["params"], "vkattn.params", file)
    self.tolerances = try Self.members(fields["tolerance"], "vkattn.tolerance", file)
  }

  private static func members(
    _ value: JSONValue?, _ field: String, _ file: SafetensorsFile
  ) throws(CaseFileError) -> [JSONMember] {
    switch value {
    case nil: return []
    case .object(let members): return members
    default: throw CaseFileError(file.name, field, .expected("an object"))
    }
  }
}
