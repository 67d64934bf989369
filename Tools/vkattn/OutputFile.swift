import KernelBenchmarks

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// A file that a command writes.
struct OutputFile {
  let path: String

  init(_ path: String) {
    self.path = path
  }

  /// Fails now rather than after minutes of measuring; leaves no file that was not there.
  func checkWritable() throws(CommandFailure) {
    let existed = access(path, F_OK) == 0
    guard let file = fopen(path, "a") else { throw failure() }
    fclose(file)
    if !existed { unlink(path) }
  }

  func write(_ text: String) throws(CommandFailure) {
    guard let file = fopen(path, "w") else { throw failure() }
    let isWritten = fputs(text, file) >= 0
    guard fclose(file) == 0, isWritten else { throw failure() }
  }

  private func failure() -> CommandFailure {
    let reason = strerror(errno).map { String(cString: $0) } ?? "error \(errno)"
    return CommandFailure(.wrongInput, "\(path) cannot be written: \(reason)")
  }
}

/// The bytes of a file that a command reads.
func inputFile(_ path: String, bytesAtMost limit: Int = 64 << 20) throws(CommandFailure) -> [UInt8]
{
  func failure(_ reason: String) -> CommandFailure {
    CommandFailure(.wrongInput, "\(path) cannot be read: \(reason)")
  }
  guard let file = fopen(path, "r") else {
    throw failure(strerror(errno).map { String(cString: $0) } ?? "error \(errno)")
  }
  defer { fclose(file) }
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 1 << 16)
  while case let count = fread(&buffer, 1, buffer.count, file), count > 0 {
    bytes += buffer[..<count]
    if bytes.count > limit { throw failure("it is larger than \(Numbers.bytes(limit))") }
  }
  if ferror(file) != 0 { throw failure("it is no file of text") }
  return bytes
}

extension ResultFile {
  /// Reads the JSON of an earlier run.
  init(path: String) throws(CommandFailure) {
    let bytes = try inputFile(path)
    do {
      self = try ResultFile(bytes, name: path)
    } catch {
      throw CommandFailure(.wrongInput, "\(error)")
    }
  }
}

/// The time of day.
enum Clock {
  /// UTC, as 2026-11-21T18:00:00Z.
  static var now: String {
    var seconds = time(nil)
    var parts = tm()
    guard gmtime_r(&seconds, &parts) != nil else { return "" }
    func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
    return "\(1900 + Int(parts.tm_year))-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T"
      + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))Z"
  }
}
