import CaseFiles
import Testing

/// A small sound case that tests change one thing of.
struct SmallCase {
  /// B = 1, S = 2, T = 3, H = 2, G = 1, D = 2, E = 1.
  var tensors: [String: CaseTensor] = [:]
  /// The JSON text under `__metadata__.vkattn`; nil for none.
  var description: String? = #"{"version": 1, "op": "attention", "params": {}}"#

  init(_ element: ElementType = .f32) {
    set("q", element, [1, 2, 2, 2])
    set("k", element, [1, 3, 1, 2])
    set("v", element, [1, 3, 1, 1])
    set("expected.o", .f32, [1, 2, 2, 1])
    set("expected.lse", .f32, [1, 2, 2])
  }

  /// Adds or replaces a tensor, filled with 0, 1, 2, …
  mutating func set(_ name: String, _ element: ElementType, _ shape: [Int]) {
    set(name, element, shape, (0..<shape.reduce(1, *)).map { Double($0) })
  }

  mutating func set(_ name: String, _ element: ElementType, _ shape: [Int], _ values: [Double]) {
    tensors[name] = CaseTensor(name: name, element: element, shape: shape, values: values)
  }

  /// Puts `params` into an otherwise plain description.
  mutating func setParameters(_ params: String) {
    description = #"{"version": 1, "op": "attention", "params": {\#(params)}}"#
  }

  /// A sound case of `attention_varlen`: query tokens 2 and 1, key tokens 1 and 2.
  static var packed: SmallCase {
    var small = SmallCase()
    small.tensors = [:]
    small.set("q", .f32, [3, 2, 2])
    small.set("k", .f32, [3, 1, 2])
    small.set("v", .f32, [3, 1, 1])
    small.set("cu_seqlens_q", .i32, [3], [0, 2, 3])
    small.set("cu_seqlens_k", .i32, [3], [0, 1, 3])
    small.set("expected.o", .f32, [3, 2, 1])
    small.set("expected.lse", .f32, [3, 2])
    small.description = #"{"version": 1, "op": "attention_varlen"}"#
    return small
  }

  var bytes: [UInt8] {
    SafetensorsFile(
      name: "small", tensors: tensors.values.sorted { $0.name < $1.name },
      metadata: description.map { ["vkattn": $0, "format": "pt"] } ?? [:]
    ).serialized()
  }

  func load() throws -> AttentionCase {
    switch try CaseFile(bytes: bytes, name: "small") {
    case .attention(let problem): return problem
    case .decode, .latentDecode, .linearAttention: throw WrongOperation()
    }
  }
}

/// A case of another operation than a test is about.
struct WrongOperation: Error {}

/// Something that must be refused, and how: which field the error names and what it says.
struct Refusal<Input: Sendable>: Sendable {
  let input: Input
  let field: String
  let problem: CaseFileError.Problem

  init(_ input: Input, _ field: String, _ problem: CaseFileError.Problem) {
    self.input = input
    self.field = field
    self.problem = problem
  }
}

/// The error of reading `bytes` as a case, nil when there is none.
func caseError(_ bytes: [UInt8]) -> CaseFileError? {
  do {
    _ = try CaseFile(bytes: bytes, name: "small")
    return nil
  } catch {
    return error
  }
}

/// Expects that a case is refused, naming the field and the problem.
func expectError(
  _ small: SmallCase, _ field: String, _ problem: CaseFileError.Problem,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  let error = caseError(small.bytes)
  #expect(error?.file == "small", sourceLocation: sourceLocation)
  #expect(error?.field == field, sourceLocation: sourceLocation)
  #expect(error?.problem == problem, sourceLocation: sourceLocation)
}

/// A file with any header text and data, its header length true unless given.
func rawFile(_ header: String, data: Int = 0, headerLength: UInt64? = nil) -> [UInt8] {
  let text = Array(header.utf8)
  var bytes = withUnsafeBytes(of: (headerLength ?? UInt64(text.count)).littleEndian, Array.init)
  bytes += text
  bytes += [UInt8](repeating: 0, count: data)
  return bytes
}
