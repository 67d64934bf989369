#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// The commit that a report belongs to.
public enum Commit {
  /// `VKATTN_COMMIT` where it is set; else the commit of the checkout of this package that the
  /// command was started in; else `unknown`. Changes that are not committed are not noticed.
  public static func current() -> String {
    if let named = getenv("VKATTN_COMMIT").map({ String(cString: $0) }), !named.isEmpty {
      return named
    }
    guard let root = checkout() else { return "unknown" }
    return head(of: root).map { String($0.prefix(12)) } ?? "unknown"
  }

  /// The nearest folder upwards that is a checkout of this package.
  private static func checkout() -> String? {
    guard let resolved = realpath(".", nil) else { return nil }
    defer { free(resolved) }
    var folder = String(cString: resolved)
    while true {
      if access("\(folder)/.git", F_OK) == 0 {
        return access("\(folder)/Tools/vkattn", F_OK) == 0 ? folder : nil
      }
      guard let slash = folder.lastIndex(of: "/"), slash != folder.startIndex else { return nil }
      folder = String(folder[..<slash])
    }
  }

  /// What HEAD points to, followed by hand: a process would cost more than all else here.
  private static func head(of root: String) -> String? {
    var git = "\(root)/.git"
    // A worktree has a file that names its folder.
    if let pointer = firstLine(git), pointer.hasPrefix("gitdir: ") {
      let path = String(pointer.dropFirst("gitdir: ".count))
      git = path.hasPrefix("/") ? path : "\(root)/\(path)"
    }
    guard let head = firstLine("\(git)/HEAD") else { return nil }
    guard head.hasPrefix("ref: ") else { return head }
    let reference = String(head.dropFirst("ref: ".count))
    let common =
      firstLine("\(git)/commondir").map { $0.hasPrefix("/") ? $0 : "\(git)/\($0)" } ?? git
    if let hash = firstLine("\(git)/\(reference)") ?? firstLine("\(common)/\(reference)") {
      return hash
    }
    return lines("\(common)/packed-refs").first { $0.hasSuffix(" \(reference)") }
      .flatMap { $0.split(separator: " ").first.map(String.init) }
  }

  private static func firstLine(_ path: String) -> String? { lines(path).first }

  private static func lines(_ path: String) -> [String] {
    var status = stat()
    guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG,
      let file = fopen(path, "r")
    else { return [] }
    defer { fclose(file) }
    var text: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while case let count = fread(&buffer, 1, buffer.count, file), count > 0 {
      text += buffer[..<count]
    }
    return String(decoding: text, as: UTF8.self).split(separator: "\n").map(String.init)
  }
}
