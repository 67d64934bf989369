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

/// Replaces the file at `path` by `bytes`, in one step: where that fails, what was there stays. What is no regular file,
/// such as `/dev/stdout`, is written to.
func writeWholeFile(_ path: String, _ bytes: [UInt8]) throws(CaseFileError) {
  var status = stat()
  let isReplaced = stat(path, &status) != 0 || status.st_mode & S_IFMT == S_IFREG
  let written = isReplaced ? "\(path).\(getpid()).\(UInt64.random(in: 0 ... .max))" : path
  let flags = isReplaced ? O_CREAT | O_EXCL : 0
  let descriptor = open(written, O_WRONLY | O_CLOEXEC | flags, 0o644)
  guard descriptor >= 0 else { throw systemError(path, "open", CaseFileError.Problem.unwritable) }
  var failedCall: String?
  var count = 0
  while failedCall == nil, count < bytes.count {
    let put = bytes.withUnsafeBytes { buffer in
      write(descriptor, buffer.baseAddress.map { $0 + count }, bytes.count - count)
    }
    if put < 0 && errno == EINTR { continue }
    if put < 0 { failedCall = "write" } else { count += put }
  }
  // Its contents before its name, or a crash could leave an empty file. A full disk may be reported only when it is
  // closed.
  if failedCall == nil, isReplaced, fsync(descriptor) != 0 { failedCall = "fsync" }
  var reason = errno
  if close(descriptor) != 0, failedCall == nil { (failedCall, reason) = ("close", errno) }
  if failedCall == nil, isReplaced, rename(written, path) != 0 {
    (failedCall, reason) = ("rename", errno)
  }
  guard let failedCall else { return }
  if isReplaced { unlink(written) }
  errno = reason
  throw systemError(path, failedCall, CaseFileError.Problem.unwritable)
}

private func systemError(
  _ path: String, _ call: String,
  _ problem: (String) -> CaseFileError.Problem = CaseFileError.Problem.unreadable
) -> CaseFileError {
  let reason = strerror(errno).map { String(cString: $0) } ?? "error \(errno)"
  return CaseFileError(path, "file", problem("\(call): \(reason)"))
}
