internal import VulkanRuntime

/// The SPIR-V of one shader on disk.
struct ShaderCacheFile: Sendable {
  private static let spirvMagic: UInt32 = 0x0723_0203

  private let file: IdentifiedFile

  var path: String { file.path }

  /// - Parameters:
  ///   - directory: where files are; made when the first is written.
  ///   - identity: the compiler, its options and the text.
  init(directory: String, identity: String) {
    let bytes = Array(identity.utf8)
    file = IdentifiedFile(
      directory: directory,
      name: "custom-\(String(IdentifiedFile.hash(bytes), radix: 16)).spv", magic: "VKATSPRV",
      version: 1, identity: bytes, identityParts: "compiler, text or version",
      largestByteCount: 1 << 26)
  }

  /// The words; nil where there is no file or none that can be used.
  func read() -> [UInt32]? {
    guard case .valid(let payload) = file.read(), payload.count % 4 == 0 else { return nil }
    var words = [UInt32](repeating: 0, count: payload.count / 4)
    words.withUnsafeMutableBytes { $0.copyBytes(from: payload) }
    return words.first == Self.spirvMagic ? words : nil
  }

  /// Writes the words, if that can be done: a cache that cannot be written costs time and nothing else.
  func write(_ words: [UInt32]) {
    try? file.write(words.withUnsafeBytes { Array($0) })
  }
}
