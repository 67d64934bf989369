/// A file's tensors by name, with the checks that every operation needs.
struct TensorTable {
  /// What one size of a shape may be.
  enum Extent {
    /// This size.
    case exactly(Int)
    /// This size, or 1 where all share the values.
    case oneOr(Int)

    func allows(_ size: Int) -> Bool {
      switch self {
      case .exactly(let needed): size == needed
      case .oneOr(let needed): size == needed || size == 1
      }
    }

    var text: String {
      switch self {
      case .exactly(let size): "\(size)"
      case .oneOr(let size): "1 or \(size)"
      }
    }
  }

  private let file: String
  private var tensors: [String: CaseTensor] = [:]

  init(_ file: SafetensorsFile, allowed: [String]) throws(CaseFileError) {
    self.file = file.name
    for tensor in file.tensors {
      guard allowed.contains(tensor.name) else {
        throw CaseFileError(file.name, "tensor \(tensor.name)", .unknown(allowed: allowed))
      }
      tensors[tensor.name] = tensor
    }
  }

  func has(_ name: String) -> Bool { tensors[name] != nil }

  func required(_ name: String, _ elements: [ElementType]) throws(CaseFileError) -> CaseTensor {
    guard let tensor = try optional(name, elements) else { throw error(name, .missing) }
    return tensor
  }

  func optional(
    _ name: String, _ elements: [ElementType], shape: [Int]? = nil
  ) throws(CaseFileError) -> CaseTensor? {
    guard let tensor = tensors[name] else { return nil }
    guard elements.contains(tensor.element) else {
      let names = elements.map(\.rawValue).joined(separator: " or ")
      throw CaseFileError(
        file, "tensor \(name): dtype", .expected("\(names), found \(tensor.element.rawValue)"))
    }
    if let shape, tensor.shape != shape { throw shapeError(tensor, "\(shape)") }
    return tensor
  }

  /// An optional tensor some of whose sizes may be 1.
  func optional(
    _ name: String, _ elements: [ElementType], _ extents: Extent...
  ) throws(CaseFileError) -> CaseTensor? {
    guard let tensor = try optional(name, elements) else { return nil }
    guard tensor.shape.count == extents.count,
      zip(extents, tensor.shape).allSatisfy({ $0.allows($1) })
    else {
      throw shapeError(tensor, "[\(extents.map(\.text).joined(separator: ", "))]")
    }
    return tensor
  }

  /// Optional F32 tensors of which a case has all or none.
  func allOrNone(
    _ tensorsAndShapes: [(name: String, shape: [Int])]
  ) throws(CaseFileError) -> [CaseTensor?] {
    let isPresent = tensorsAndShapes.contains { has($0.name) }
    var found: [CaseTensor?] = []
    for (name, shape) in tensorsAndShapes {
      if isPresent && !has(name) { throw error(name, .missing) }
      found.append(try optional(name, [.f32], shape: shape))
    }
    return found
  }

  /// An error about a tensor as a whole.
  func error(_ name: String, _ problem: CaseFileError.Problem) -> CaseFileError {
    CaseFileError(file, "tensor \(name)", problem)
  }

  func shapeError(_ tensor: CaseTensor, _ expected: String) -> CaseFileError {
    CaseFileError(
      file, "tensor \(tensor.name): shape", .shape(found: tensor.shape, expected: expected))
  }
}
