internal import Synchronization

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// Bytes on disk that belong to one identity: what made them.
///
/// A header with the whole identity stands before the bytes and is compared, so the hash in a file's name may
/// collide; a checksum finds damage. The file is replaced in one step by renaming.
package struct IdentifiedFile: Sendable {
  /// What was found on disk.
  package enum Contents: Equatable {
    /// There is no file.
    case absent
    /// The file cannot be used, and why; the next write replaces it.
    case invalid(reason: String)
    /// The bytes.
    case valid([UInt8])
  }

  private static let writeCount = Atomic(0)

  private let directory: String
  private let header: [UInt8]
  private let identityParts: String
  private let largestByteCount: Int
  package let path: String

  /// - Parameters:
  ///   - directory: where the file is; made when it is first written.
  ///   - name: the file's name.
  ///   - magic: eight letters that say what kind of file it is.
  ///   - version: of the format.
  ///   - identity: what the bytes belong to.
  ///   - identityParts: what the identity consists of, in words, for ``Contents/invalid(reason:)``.
  ///   - largestByteCount: a longer file is not read to its end.
  package init(
    directory: String, name: String, magic: String, version: UInt32, identity: [UInt8],
    identityParts: String, largestByteCount: Int = .max
  ) {
    self.directory = directory
    self.identityParts = identityParts
    self.largestByteCount = largestByteCount
    path = directory + "/" + name
    header =
      Array(magic.utf8) + Self.bytes(of: version) + Self.bytes(of: UInt32(clamping: identity.count))
      + identity
  }

  package func read() -> Contents {
    guard let file = fopen(path, "rb") else { return .absent }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 1 << 16)
    while bytes.count < largestByteCount {
      let count = fread(&piece, 1, piece.count, file)
      if count == 0 { break }
      bytes.append(contentsOf: piece[..<count])
    }
    let hashCount = 8
    guard bytes.count >= header.count + hashCount else {
      return .invalid(reason: "it is truncated")
    }
    guard bytes.starts(with: header) else {
      return .invalid(reason: "it is of another \(identityParts)")
    }
    let payload = Array(bytes[(header.count + hashCount)...])
    guard bytes[header.count...].starts(with: Self.bytes(of: Self.hash(payload))) else {
      return .invalid(reason: "its checksum is wrong")
    }
    return .valid(payload)
  }

  package func write(_ payload: [UInt8]) throws(VulkanError) {
    try makeDirectory()
    // Numbers keep two writers apart, of two processes and of two in one; the last rename wins, and both files are
    // whole.
    let number = Self.writeCount.wrappingAdd(1, ordering: .relaxed).newValue
    let temporary = "\(path).\(getpid()).\(number)"
    guard let file = fopen(temporary, "wb") else { throw notWritable() }
    let bytes = header + Self.bytes(of: Self.hash(payload)) + payload
    let written = fwrite(bytes, 1, bytes.count, file)
    let isClosed = fclose(file) == 0
    guard written == bytes.count, isClosed, rename(temporary, path) == 0 else {
      let error = notWritable()
      unlink(temporary)
      throw error
    }
  }

  /// Makes the folder and those above it.
  private func makeDirectory() throws(VulkanError) {
    var partial = directory.hasPrefix("/") ? "" : "."
    for component in directory.split(separator: "/") {
      partial += "/" + component
      if mkdir(partial, 0o700) != 0, errno != EEXIST { throw notWritable() }
    }
  }

  private func notWritable() -> VulkanError {
    .cacheNotWritable(path: directory, reason: String(cString: strerror(errno)))
  }

  private static func bytes<Number: FixedWidthInteger>(of number: Number) -> [UInt8] {
    withUnsafeBytes(of: number.littleEndian) { Array($0) }
  }

  /// FNV-1a, which finds damage; nothing here defends against an attacker with write access.
  package static func hash(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
  }

  package static func hash(_ bytes: [UInt8]) -> UInt64 {
    bytes.withUnsafeBytes { hash($0) }
  }
}
