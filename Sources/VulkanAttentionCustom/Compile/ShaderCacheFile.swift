internal import Synchronization

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// The SPIR-V of one shader on disk.
///
/// A header with the whole of what was compiled stands before the words and is compared, so the hash in the file's
/// name may collide; a checksum finds damage. The file is replaced in one step by renaming.
struct ShaderCacheFile: Sendable {
  private static let magic = Array("VKATSPRV".utf8)
  private static let version: UInt32 = 1
  private static let spirvMagic: UInt32 = 0x0723_0203
  private static let largestByteCount = 1 << 26
  private static let writeCount = Atomic(0)

  private let directory: String
  private let identity: [UInt8]
  let path: String

  /// - Parameters:
  ///   - directory: where files are; made when the first is written.
  ///   - identity: the compiler, its options and the text.
  init(directory: String, identity: String) {
    self.directory = directory
    self.identity = Array(identity.utf8)
    path = directory + "/custom-\(String(Self.hash(self.identity), radix: 16)).spv"
  }

  /// The words; nil where there is no file or none that can be used.
  func read() -> [UInt32]? {
    guard let file = fopen(path, "rb") else { return nil }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 1 << 16)
    while bytes.count < Self.largestByteCount {
      let count = fread(&piece, 1, piece.count, file)
      if count == 0 { break }
      bytes.append(contentsOf: piece[..<count])
    }
    let header = header()
    guard bytes.count > header.count + 8, bytes.starts(with: header) else { return nil }
    let payload = bytes[(header.count + 8)...]
    guard payload.count % 4 == 0,
      Array(bytes[header.count..<header.count + 8]) == Self.bytes(of: Self.hash(payload))
    else { return nil }
    var words = [UInt32](repeating: 0, count: payload.count / 4)
    words.withUnsafeMutableBytes { $0.copyBytes(from: payload) }
    return words.first == Self.spirvMagic ? words : nil
  }

  /// Writes the words and says whether that worked: a cache that cannot be written costs time and nothing else.
  @discardableResult
  func write(_ words: [UInt32]) -> Bool {
    var partial = directory.hasPrefix("/") ? "" : "."
    for component in directory.split(separator: "/") {
      partial += "/" + component
      if mkdir(partial, 0o700) != 0, errno != EEXIST { return false }
    }
    let payload = words.withUnsafeBytes { Array($0) }
    // Numbers keep two writers apart; the last rename wins, and both files are whole.
    let number = Self.writeCount.wrappingAdd(1, ordering: .relaxed).newValue
    let temporary = "\(path).\(getpid()).\(number)"
    guard let file = fopen(temporary, "wb") else { return false }
    let bytes = header() + Self.bytes(of: Self.hash(payload)) + payload
    let written = fwrite(bytes, 1, bytes.count, file)
    let isClosed = fclose(file) == 0
    guard written == bytes.count, isClosed, rename(temporary, path) == 0 else {
      unlink(temporary)
      return false
    }
    return true
  }

  private func header() -> [UInt8] {
    Self.magic + Self.bytes(of: Self.version) + Self.bytes(of: UInt32(clamping: identity.count))
      + identity
  }

  private static func bytes<Number: FixedWidthInteger>(of number: Number) -> [UInt8] {
    withUnsafeBytes(of: number.littleEndian) { Array($0) }
  }

  /// FNV-1a, which finds damage; nothing here defends against an attacker with write access.
  static func hash(_ bytes: some Sequence<UInt8>) -> UInt64 {
    bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
  }
}
