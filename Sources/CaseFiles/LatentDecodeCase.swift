/// A checked case of op `mla_decode`: latent attention in its absorbed form.
///
/// Letters: B batch, S query tokens, T key tokens, H heads, R channels of the latent, P channels of the
/// rotary key. All heads read the same keys; the latent is key and value at once.
public struct LatentDecodeCase: Sendable {
  /// The file as it was named by the caller.
  public let file: String
  /// Where the case comes from, in free text.
  public let source: String?
  /// B.
  public let batch: Int
  /// S.
  public let queryTokens: Int
  /// T, which may be 0.
  public let keyTokens: Int
  /// H.
  public let heads: Int
  /// R.
  public let latentChannels: Int
  /// P.
  public let rotaryChannels: Int
  /// `scale`: factor of the product; nil for 1/√(R + P).
  public let scale: Double?
  /// `causal`: whether keys after the query's own position are hidden, aligned bottom-right.
  public let causal: Bool

  /// `[B, S, H, R]`; F32, F16 or BF16.
  public let qLatent: CaseTensor
  /// `[B, S, H, P]`; F32, F16 or BF16.
  public let qRotary: CaseTensor
  /// `[B, T, R]`; F32, F16 or BF16.
  public let latent: CaseTensor
  /// `[B, T, P]`; F32, F16 or BF16.
  public let rotaryKeys: CaseTensor
  /// `[B]` I32, each in `0...T`.
  public let kvLengths: CaseTensor?

  /// Expected o, `[B, S, H, R]`; this or ``expectedLSE`` is there.
  public let expectedO: CaseTensor?
  /// Expected lse, `[B, S, H]`.
  public let expectedLSE: CaseTensor?
  /// What RMS(error)/RMS(expected) of o may be: the file's, else by the queries' type.
  public let oTolerance: Double
  /// What the largest absolute error of lse may be: the file's, else 1e-3.
  public let lseTolerance: Double

  /// The operation's name in the file.
  public var operation: String { "mla_decode" }
}

extension LatentDecodeCase {
  private static let inputs = ["q_nope", "q_rope", "latent", "k_rope", "kv_lengths"]

  /// Checks that `file` is a sound case of op `mla_decode`.
  init(_ file: SafetensorsFile, _ description: CaseDescription) throws(CaseFileError) {
    let tensors = try TensorTable(file, allowed: Self.inputs + ["expected.o", "expected.lse"])
    var scale: Double?
    var causal = false
    for member in description.parameters {
      let reader = ParameterReader(
        file: file.name, field: "vkattn.params.\(member.key)", value: member.value)
      switch member.key {
      case "scale": scale = try reader.number()
      case "causal": causal = try reader.bool()
      default: throw reader.error(.unknown(allowed: ["scale", "causal"]))
      }
    }

    let floats: [ElementType] = [.f32, .f16, .bf16]
    qLatent = try tensors.required("q_nope", floats)
    guard qLatent.shape.count == 4, qLatent.shape.allSatisfy({ $0 > 0 }) else {
      throw tensors.shapeError(qLatent, "[B, S, H, R] with sizes of at least 1")
    }
    let (b, s, h, r) = (qLatent.shape[0], qLatent.shape[1], qLatent.shape[2], qLatent.shape[3])
    qRotary = try tensors.required("q_rope", floats)
    guard qRotary.shape.count == 4, Array(qRotary.shape[..<3]) == [b, s, h], qRotary.shape[3] > 0
    else {
      throw tensors.shapeError(qRotary, "[\(b), \(s), \(h), P]")
    }
    let p = qRotary.shape[3]
    latent = try tensors.required("latent", floats)
    guard latent.shape.count == 3, latent.shape[0] == b, latent.shape[2] == r else {
      throw tensors.shapeError(latent, "[\(b), T, \(r)]")
    }
    let t = latent.shape[1]
    rotaryKeys = try tensors.required("k_rope", floats)
    if rotaryKeys.shape != [b, t, p] { throw tensors.shapeError(rotaryKeys, "[\(b), \(t), \(p)]") }
    kvLengths = try tensors.optional("kv_lengths", [.i32], shape: [b])
    for length in kvLengths?.integers() ?? [] where !(0...t).contains(length) {
      throw tensors.error("kv_lengths", .invalid("\(length) is not within 0...\(t)"))
    }

    expectedO = try tensors.optional("expected.o", floats, shape: [b, s, h, r])
    expectedLSE = try tensors.optional("expected.lse", floats, shape: [b, s, h])
    if expectedO == nil && expectedLSE == nil {
      throw tensors.error("expected.o or expected.lse", .missing)
    }
    let tolerances = try AttentionCase.readTolerances(description, file: file.name)
    oTolerance = tolerances["o"] ?? AttentionCase.defaultTolerance(qLatent.element)
    lseTolerance = tolerances["lse"] ?? 1e-3

    self.file = file.name
    source = description.source
    (batch, queryTokens, keyTokens, heads) = (b, s, t, h)
    (latentChannels, rotaryChannels) = (r, p)
    self.scale = scale
    self.causal = causal
  }
}
