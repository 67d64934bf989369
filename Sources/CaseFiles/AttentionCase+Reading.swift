extension AttentionCase {
  private static let inputNames = [
    "q", "k", "v", "bias", "mask", "sinks", "alibi_slopes", "kv_lengths",
  ]
  private static let outputNames = ["o", "lse"]

  /// Checks that `file` is a sound case of op `attention`.
  init(_ file: SafetensorsFile, _ description: CaseDescription) throws(CaseFileError) {
    let tensors = try TensorTable(
      file, allowed: Self.inputNames + Self.outputNames.map { "expected.\($0)" })
    let parameters = try AttentionParameters(description.parameters, file: file.name)

    let q = try tensors.required("q", [.f32, .f16, .bf16])
    let k = try tensors.required("k", [q.element])
    let v = try tensors.required("v", [q.element])
    guard q.shape.count == 4, q.shape.allSatisfy({ $0 > 0 }) else {
      throw tensors.shapeError(q, "[B, S, H, D] with sizes of at least 1")
    }
    let (b, s, h, d) = (q.shape[0], q.shape[1], q.shape[2], q.shape[3])
    guard k.shape.count == 4, k.shape[0] == b, k.shape[2] > 0, k.shape[3] == d else {
      throw tensors.shapeError(k, "[\(b), T, G, \(d)]")
    }
    let (t, g) = (k.shape[1], k.shape[2])
    guard v.shape.count == 4, Array(v.shape[..<3]) == [b, t, g], v.shape[3] > 0 else {
      throw tensors.shapeError(v, "[\(b), \(t), \(g), E]")
    }
    guard h % g == 0 else {
      throw CaseFileError(
        file.name, "tensor k: shape", .invalid("\(h) query heads are no multiple of \(g) heads"))
    }
    let e = v.shape[3]
    // With T = 0 the values have no bytes, and E is the one size that no data vouch for.
    let (oCount, overflow) = (b * s * h).multipliedReportingOverflow(by: e)
    if overflow || oCount > SafetensorsFile.fileByteLimit / 4 {
      throw CaseFileError(
        file.name, "tensor v: shape", .invalid("\(e) value channels are too many"))
    }

    let kvLengths = try tensors.optional("kv_lengths", [.i32], shape: [b])
    for length in kvLengths?.integers() ?? [] where !(0...t).contains(length) {
      throw CaseFileError(
        file.name, "tensor kv_lengths", .invalid("\(length) is not within 0...\(t)"))
    }
    let expectedO = try tensors.optional(
      "expected.o", [.f32, .f16, .bf16], shape: [b, s, h, e])
    let expectedLSE = try tensors.optional(
      "expected.lse", [.f32, .f16, .bf16], shape: [b, s, h])
    if expectedO == nil && expectedLSE == nil {
      throw CaseFileError(file.name, "tensor expected.o or expected.lse", .missing)
    }
    let tolerances = try Self.readTolerances(description, file: file.name)

    self.file = file.name
    self.source = description.source
    (self.batch, self.queryTokens, self.keyTokens) = (b, s, t)
    (self.queryHeads, self.keyHeads) = (h, g)
    (self.keyChannels, self.valueChannels) = (d, e)
    self.parameters = parameters
    (self.q, self.k, self.v) = (q, k, v)
    self.bias = try tensors.perScore("bias", .f32, batch: b, heads: h, s, t)
    self.mask = try tensors.perScore("mask", .u8, batch: b, heads: h, s, t)
    self.sinks = try tensors.optional("sinks", [.f32], shape: [h])
    self.alibiSlopes = try tensors.optional("alibi_slopes", [.f32], shape: [h])
    self.kvLengths = kvLengths
    self.expectedO = expectedO
    self.expectedLSE = expectedLSE
    self.oTolerance = tolerances["o"] ?? Self.defaultTolerance(q.element)
    self.lseTolerance = tolerances["lse"] ?? 1e-3
  }

  private static func defaultTolerance(_ element: ElementType) -> Double {
    switch element {
    case .f16: 2e-3
    case .bf16: 8e-3
    case .f32, .i32, .u8: 1e-5
    }
  }

  private static func readTolerances(
    _ description: CaseDescription, file: String
  ) throws(CaseFileError) -> [String: Double] {
    var tolerances: [String: Double] = [:]
    for member in description.tolerances {
      let reader = ParameterReader(
        file: file, field: "vkattn.tolerance.\(member.key)", value: member.value)
      guard outputNames.contains(member.key) else {
        throw reader.error(.unknown(allowed: outputNames))
      }
      let tolerance = try reader.number()
      if tolerance < 0 { throw reader.error(.invalid("must not be negative")) }
      tolerances[member.key] = tolerance
    }
    return tolerances
  }
}

/// A file's tensors by name, with the checks that every operation needs.
struct TensorTable {
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

  func required(_ name: String, _ elements: [ElementType]) throws(CaseFileError) -> CaseTensor {
    guard let tensor = try optional(name, elements) else {
      throw CaseFileError(file, "tensor \(name)", .missing)
    }
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

  /// An optional tensor of `[batch or 1, heads or 1, queryTokens, keyTokens]`.
  func perScore(
    _ name: String, _ element: ElementType, batch: Int, heads: Int, _ queryTokens: Int,
    _ keyTokens: Int
  ) throws(CaseFileError) -> CaseTensor? {
    guard let tensor = try optional(name, [element]) else { return nil }
    guard tensor.shape.count == 4, [1, batch].contains(tensor.shape[0]),
      [1, heads].contains(tensor.shape[1]),
      Array(tensor.shape[2...]) == [queryTokens, keyTokens]
    else {
      throw shapeError(
        tensor, "[1 or \(batch), 1 or \(heads), \(queryTokens), \(keyTokens)]")
    }
    return tensor
  }

  func shapeError(_ tensor: CaseTensor, _ expected: String) -> CaseFileError {
    CaseFileError(
      file, "tensor \(tensor.name): shape", .shape(found: tensor.shape, expected: expected))
  }
}
