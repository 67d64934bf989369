#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The memory of this process.
public enum HostMemory {
  /// Has all threads allocate from one arena, where the C library is glibc.
  ///
  /// It gives the threads of each new device arenas of their own, up to eight for each processor, and keeps
  /// them: memory would grow for many devices and then no more, and nothing would be told from that.
  public static func shareArena() {
    #if os(Linux)
      // Of malloc.h, which Swift's module of the C library lacks.
      let arenaMaximum: Int32 = -8
      guard let symbol = dlsym(nil, "mallopt") else { return }
      _ = unsafeBitCast(symbol, to: (@convention(c) (Int32, Int32) -> Int32).self)(arenaMaximum, 1)
    #endif
  }

  /// Gives what is free back to the system, where the C library is glibc.
  public static func trim() {
    #if os(Linux)
      guard let symbol = dlsym(nil, "malloc_trim") else { return }
      _ = unsafeBitCast(symbol, to: (@convention(c) (Int) -> Int32).self)(0)
    #endif
  }

  /// The bytes that are resident now, as Linux tells in `/proc/self/statm`; nil elsewhere.
  public static var residentByteCount: Int? {
    guard let file = fopen("/proc/self/statm", "r") else { return nil }
    defer { fclose(file) }
    var text = [CChar](repeating: 0, count: 256)
    guard fgets(&text, Int32(text.count), file) != nil else { return nil }
    let fields = String(
      decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self
    )
    .split(separator: " ")
    guard fields.count > 1, let pages = Int(fields[1]) else { return nil }
    return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
  }
}
