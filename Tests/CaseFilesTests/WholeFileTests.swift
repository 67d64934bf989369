import CaseFiles
import Foundation
import Testing

@Suite struct WholeFileTests {
  /// Runs `body` with a fresh folder, which is removed afterwards.
  private func withFolder(_ body: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory
      .appending(path: "case-files-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try body(folder.path)
  }

  private func readFailure(_ path: String) -> CaseFileError? {
    do {
      _ = try CaseFile(path: path)
      return nil
    } catch {
      return error
    }
  }

  @Test func writtenAndReadBack() throws {
    try withFolder { folder in
      let path = "\(folder)/small.safetensors"
      let file = try SafetensorsFile(bytes: SmallCase().bytes, name: "small")
      // Twice: the second replaces the first, a longer file included.
      try Data(count: 100_000).write(to: URL(filePath: path))
      try file.write(path: path)
      guard case .attention(let problem) = try CaseFile(path: path) else {
        Issue.record("no attention case")
        return
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["small.safetensors"])
      #expect(problem.file == path && problem.q.doubles() == [0, 1, 2, 3, 4, 5, 6, 7])
    }
  }

  @Test func whatCannotBeWrittenLeavesTheFile() throws {
    try withFolder { folder in
      let path = "\(folder)/case"
      let file = try SafetensorsFile(bytes: SmallCase().bytes, name: "small")
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
      #expect(throws: CaseFileError.self) { try file.write(path: path) }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["case"])
      let failure = #expect(throws: CaseFileError.self) {
        try file.write(path: "\(folder)/none/case")
      }
      #expect(failure?.problem == .unwritable("open: No such file or directory"))
    }
  }

  @Test func unreadableFiles() throws {
    try withFolder { folder in
      let missing = readFailure("\(folder)/none")
      #expect(missing?.problem == .unreadable("open: No such file or directory"))
      #expect(missing?.file == "\(folder)/none")
      #expect(readFailure(folder)?.problem == .unreadable("not a regular file"))
      #expect(readFailure("/dev/zero")?.problem == .unreadable("not a regular file"))
      // Opening a FIFO that nobody writes to must not wait.
      #expect(mkfifo("\(folder)/fifo", 0o600) == 0)
      #expect(readFailure("\(folder)/fifo")?.problem == .unreadable("not a regular file"))
      try Data().write(to: URL(filePath: "\(folder)/empty"))
      #expect(
        readFailure("\(folder)/empty")?.problem == .truncated(needed: 8, available: 0))
    }
  }

  @Test func hugeFilesAreRefusedUnread() throws {
    try withFolder { folder in
      // 1 TiB on paper, nothing on the disk.
      let path = "\(folder)/huge"
      #expect(FileManager.default.createFile(atPath: path, contents: nil))
      #expect(truncate(path, 1 << 40) == 0)
      #expect(readFailure(path)?.problem == .tooLarge(1 << 40, limit: 1 << 32))
    }
  }

  @Test func unwritableFiles() throws {
    let file = try SafetensorsFile(bytes: SmallCase().bytes, name: "small")
    #expect(throws: CaseFileError.self) { try file.write(path: "/nowhere/at/all") }
    #if os(Linux)
      let failure = #expect(throws: CaseFileError.self) { try file.write(path: "/dev/full") }
      #expect(failure?.problem == .unwritable("write: No space left on device"))
    #endif
  }
}
