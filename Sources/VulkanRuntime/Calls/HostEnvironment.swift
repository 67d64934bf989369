#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// What the process and the machine tell: the calls of the C library that are not about files.
enum HostEnvironment {
  /// An environment variable; nil where it is not set.
  static func variable(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }
  }

  /// Sets an environment variable and says whether that worked.
  static func setVariable(_ name: String, to value: String) -> Bool {
    setenv(name, value, 1) == 0
  }

  /// The processors that are switched on.
  static var processorCount: Int { sysconf(Int32(_SC_NPROCESSORS_ONLN)) }

  /// The first line of a text file that begins with a prefix.
  static func line(of path: String, beginningWith prefix: String) -> String? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var line: UnsafeMutablePointer<CChar>?
    var capacity = 0
    defer { free(line) }
    while getline(&line, &capacity, file) > 0 {
      if let text = line.map({ String(cString: $0) }), text.hasPrefix(prefix) { return text }
    }
    return nil
  }
}
