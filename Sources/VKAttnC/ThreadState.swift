#if canImport(Darwin)
  internal import Darwin
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Glibc
#endif

/// What the interface keeps for each thread: the last failure's message, and whether a callback runs.
final class ThreadState {
  /// The message, ended by a 0; nil before the first failure.
  private(set) var message: UnsafeMutablePointer<CChar>?
  private var callbackDepth = 0

  /// Whether a callback of the library runs on this thread.
  var isInCallback: Bool { callbackDepth > 0 }

  deinit {
    message?.deallocate()
  }

  /// The key under which the threads keep theirs; nil where the process has none left.
  private static let key: pthread_key_t? = {
    var key = pthread_key_t()
    let result = pthread_key_create(&key) { state in
      #if canImport(Darwin)
        Unmanaged<ThreadState>.fromOpaque(state).release()
      #else
        if let state { Unmanaged<ThreadState>.fromOpaque(state).release() }
      #endif
    }
    return result == 0 ? key : nil
  }()

  /// That of the calling thread; nil where it has none yet.
  static var current: ThreadState? {
    guard let key, let state = pthread_getspecific(key) else { return nil }
    return Unmanaged<ThreadState>.fromOpaque(state).takeUnretainedValue()
  }

  private static func make() -> ThreadState? {
    if let current { return current }
    guard let key else { return nil }
    let state = Unmanaged.passRetained(ThreadState())
    guard pthread_setspecific(key, state.toOpaque()) == 0 else {
      state.release()
      return nil
    }
    return state.takeUnretainedValue()
  }

  /// Keeps a failure's message for this thread.
  static func keep(_ text: String) {
    guard let state = make() else { return }
    state.message?.deallocate()
    let bytes = text.utf8CString
    let message = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
    for (index, byte) in bytes.enumerated() { message[index] = byte }
    state.message = message
  }

  /// Runs a function of the caller, from which nothing here may be called.
  static func callingBack<Result>(_ body: () -> Result) -> Result {
    guard let state = make() else { return body() }
    state.callbackDepth += 1
    defer { state.callbackDepth -= 1 }
    return body()
  }
}
