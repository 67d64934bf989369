/// One compute shader of the library: its SPIR-V, and the interface that the build read from it.
///
/// The build makes one value per shader variant, `ShaderBinary.attentionRow` for the variant
/// `attention_row`, and the table ``all``.
public struct ShaderBinary: Sendable {
  /// What the build made of the shader.
  public enum Content: Sendable {
    /// The SPIR-V, little-endian, as base64 text; ``ShaderBinary/words()`` decodes it.
    case compiled(base64: StaticString)
    /// The shader was left out: the GLSL compiler of the build lacks the GLSL extensions named.
    case missing(extensions: [String], compiler: String)
    /// The SPIR-V itself, of a shader that was compiled at run time.
    case loaded(words: [UInt32])
  }

  /// One member of the push constant block.
  public struct PushConstantMember: Sendable, Hashable {
    /// The member's name in the shader.
    public let name: String
    /// Its type as GLSL spells it: `uint64_t`, `float`, `uvec2`, `uint[3]`.
    public let type: String
    /// Where the member begins in the block.
    public let byteOffset: Int
    /// How many bytes the member takes.
    public let byteCount: Int

    /// Describes one member.
    public init(name: String, type: String, byteOffset: Int, byteCount: Int) {
      self.name = name
      self.type = type
      self.byteOffset = byteOffset
      self.byteCount = byteCount
    }
  }

  /// One constant whose value is given when the pipeline is made.
  public struct SpecializationConstant: Sendable, Hashable {
    /// The constant's id.
    public let id: UInt32
    /// Its name in the shader; `local_size_x` for the workgroup size, which has none there.
    public let name: String
    /// Its type as GLSL spells it: `uint`, `bool`, `float`.
    public let type: String
    /// The bits of the value that holds where none is given; a `bool` is 0 or 1.
    public let defaultBits: UInt64

    /// Describes one constant.
    public init(id: UInt32, name: String, type: String, defaultBits: UInt64) {
      self.id = id
      self.name = name
      self.type = type
      self.defaultBits = defaultBits
    }
  }

  /// The workgroup's size along one axis.
  public enum LocalSize: Sendable, Hashable {
    /// Written in the shader.
    case fixed(UInt32)
    /// The value of a specialization constant.
    case specialized(id: UInt32)
  }

  /// The variant's name; no other shader of the library has it.
  public let name: String
  /// The source file inside the folder `Shaders`.
  public let path: String
  /// The SPIR-V, or why there is none.
  public let content: Content
  /// The 64-bit FNV-1a hash of the base64 text, or of the bytes of a shader that was compiled at run
  /// time; 0 for a shader that was left out. It tells builds
  /// of a shader apart and is no protection against anyone.
  public let contentHash: UInt64
  /// The members of the push constant block, in the order of the shader.
  public let pushConstants: [PushConstantMember]
  /// The size of the push constant block, a multiple of four; 0 where there is none.
  public let pushConstantByteCount: Int
  /// The specialization constants by id.
  public let specializationConstants: [SpecializationConstant]
  /// The workgroup's size in x, y and z; empty for a shader that was left out.
  public let localSize: [LocalSize]
  /// The SPIR-V capabilities the device must have, by their names in the specification.
  public let capabilities: [String]
  /// The SPIR-V extensions the device must know.
  public let extensions: [String]

  /// The build makes shaders; tests make some of their own.
  package init(
    name: String, path: String, content: Content, contentHash: UInt64 = 0,
    pushConstants: [PushConstantMember] = [], pushConstantByteCount: Int = 0,
    specializationConstants: [SpecializationConstant] = [], localSize: [LocalSize] = [],
    capabilities: [String] = [], extensions: [String] = []
  ) {
    self.name = name
    self.path = path
    self.content = content
    self.contentHash = contentHash
    self.pushConstants = pushConstants
    self.pushConstantByteCount = pushConstantByteCount
    self.specializationConstants = specializationConstants
    self.localSize = localSize
    self.capabilities = capabilities
    self.extensions = extensions
  }

  /// Whether the shader is in this build.
  public var isCompiled: Bool {
    if case .missing = content { false } else { true }
  }

  /// The size of the SPIR-V, 0 for a shader that was left out.
  public var byteCount: Int {
    switch content {
    case .missing: 0
    case .loaded(let words): words.count * 4
    case .compiled(let base64):
      base64.withUTF8Buffer { text in
        text.count / 4 * 3 - text.suffix(2).count { $0 == UInt8(ascii: "=") }
      }
    }
  }

  /// The SPIR-V as Vulkan takes it.
  ///
  /// Every call decodes it anew, about 2 µs per kilobyte: call it once per pipeline.
  ///
  /// - Throws: ``ShaderBinaryError/leftOut(shader:extensions:compiler:)`` for a shader that the
  ///   build left out, ``ShaderBinaryError/corrupt(shader:)`` for text that is no SPIR-V.
  public func words() throws(ShaderBinaryError) -> [UInt32] {
    switch content {
    case .missing(let extensions, let compiler):
      throw .leftOut(shader: name, extensions: extensions, compiler: compiler)
    case .loaded(let words):
      guard words.first == Self.magic else { throw .corrupt(shader: name) }
      return words
    case .compiled(let base64):
      guard let words = base64.withUTF8Buffer({ decodeBase64Words($0) }),
        words.first == Self.magic
      else { throw .corrupt(shader: name) }
      return words
    }
  }

  /// The shader of a name, among those of ``all``.
  public static func named(_ name: String) -> ShaderBinary? {
    all.first { $0.name == name }
  }

  /// The first word of every SPIR-V module.
  static let magic: UInt32 = 0x0723_0203
}

extension ShaderBinary: CustomStringConvertible {
  /// The variant's name, instead of pages of base64.
  public var description: String { name }
}

/// Why a shader has no SPIR-V.
public enum ShaderBinaryError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The build left the shader out, for its GLSL compiler lacks the extensions.
  case leftOut(shader: String, extensions: [String], compiler: String)
  /// The embedded text is no SPIR-V. This is a fault of the build.
  case corrupt(shader: String)

  /// What happened and what to do about it.
  public var description: String {
    switch self {
    case .leftOut(let shader, let extensions, let compiler):
      """
      shader '\(shader)' is not in this build: the GLSL compiler '\(compiler)' lacks \
      \(extensions.joined(separator: ", ")); run Tools/setup, which installs a newer one, and \
      build again
      """
    case .corrupt(let shader):
      "shader '\(shader)' is damaged: its text is no SPIR-V; build again from a clean folder"
    }
  }
}

/// Decodes base64 text into little-endian words, or nothing where the text is not that of a whole
/// number of words in the canonical form.
func decodeBase64Words(_ text: UnsafeBufferPointer<UInt8>) -> [UInt32]? {
  let padding = text.suffix(2).count { $0 == UInt8(ascii: "=") }
  let byteCount = text.count / 4 * 3 - padding
  guard text.count % 4 == 0, byteCount >= 0, byteCount % 4 == 0 else { return nil }

  var words: [UInt32] = []
  words.reserveCapacity(byteCount / 4)
  // Up to 24 bits of the word being put together, and the 6 bits of each character in turn.
  var word: UInt32 = 0
  var wordBytes: UInt32 = 0
  var bits: UInt32 = 0
  var bitCount: UInt32 = 0
  for character in text.dropLast(padding) {
    guard let value = base64Value(character) else { return nil }
    bits = bits << 6 | value
    bitCount += 6
    guard bitCount >= 8 else { continue }
    bitCount -= 8
    word |= (bits >> bitCount) << (8 * wordBytes)
    bits &= (1 << bitCount) - 1
    wordBytes += 1
    if wordBytes == 4 {
      words.append(word)
      word = 0
      wordBytes = 0
    }
  }
  // What is left over are the padding's bits, which are zero in the canonical form.
  return bits == 0 && wordBytes == 0 ? words : nil
}

private func base64Value(_ character: UInt8) -> UInt32? {
  switch character {
  case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(character - UInt8(ascii: "A"))
  case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(character - UInt8(ascii: "a")) + 26
  case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(character - UInt8(ascii: "0")) + 52
  case UInt8(ascii: "+"): 62
  case UInt8(ascii: "/"): 63
  default: nil
  }
}
