#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// The bytes of the regular file at `path`.
func readWholeFile(_ path: String, byteLimit: Int) throws(CaseFileError) -> [UInt8] {
  // Non-blocking, so that opening a FIFO returns and can be refused below.
  let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
  guard descriptor >= 0 else { throw systemError(path, "open") }
  defer { close(descriptor) }
  var status = stat()
  guard fstat(descriptor, &status) == 0 else { throw systemError(path, "stat") }
  guard status.st_mode & S_IFMT == S_IFREG else {
    throw CaseFileError(path, "file", .unreadable("not a regular file"))
  }
  let size = Int(status.st_size)
  if size > byteLimit {
    throw CaseFileError(path, "size", .tooLarge(UInt64(size), limit: UInt64(byteLimit)))
  }

  var failure: CaseFileError?
  let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
    while count < size {
      let got = read(descriptor, buffer.baseAddress.map { $0 + count }, size - count)
      if got < 0 && errno == EINTR { continue }
      if got < 0 { failure = systemError(path, "read") }
      // 0: the file has become shorter; what follows finds it truncated.
      if got <= 0 { break }
      count += got
    }
  }
  if let failure { throw failure }
  return bytes
}

/// Replaces the file at `path` by `bytes`.
func writeWholeFile(_ path: String, _ bytes: [UInt8]) throws(CaseFileError) {
  let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
  guard descriptor >= 0 else { throw systemError(path, "open") }
  var written = 0
  while written < bytes.count {
    let put = bytes.withUnsafeBytes { buffer in
      write(descriptor, buffer.baseAddress.map { $0 + written }, bytes.count - written)
    }
    if put < 0 && errno == EINTR { continue }
    if put < 0 {
      let failure = systemError(path, "write")
      close(descriptor)
      throw failure
    }
    written += put
  }
  // A full disk may be reported here only.
  if close(descriptor) != 0 { throw systemError(path, "close") }
}

private func systemError(_ path: String, _ call: String) -> CaseFileError {
  let reason = strerror(errno).map { String(cString: $0) } ?? "error \(errno)"
  return CaseFileError(path, "file", .unreadable("\(call): \(reason)"))
}
