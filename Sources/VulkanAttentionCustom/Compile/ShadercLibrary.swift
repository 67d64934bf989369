#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// The GLSL compiler's C interface (shaderc.h), opened at run time: a program that compiles no modifications
/// needs no such library.
///
/// Immutable after `init`: function pointers of a library that is never closed. Every compilation has a compiler
/// and options of its own, so any thread may compile.
struct ShadercLibrary: @unchecked Sendable {
  #if canImport(Darwin)
    static let defaultLibraries = ["libshaderc_shared.1.dylib", "libshaderc_shared.dylib"]
    static let package = "shaderc (Homebrew)"
  #else
    static let defaultLibraries = [
      "libshaderc.so.1", "libshaderc_shared.so.1", "libshaderc_shared.so",
    ]
    static let package = "libshaderc1 (Debian, Ubuntu), libshaderc (Fedora) or shaderc (Arch)"
  #endif

  /// What a compilation ended with.
  enum Outcome: Sendable {
    case compiled([UInt32])
    case failed(log: String)
  }

  private typealias Create = @convention(c) () -> OpaquePointer?
  private typealias Release = @convention(c) (OpaquePointer?) -> Void
  private typealias SetTarget = @convention(c) (OpaquePointer?, CInt, UInt32) -> Void
  private typealias SetLevel = @convention(c) (OpaquePointer?, CInt) -> Void
  private typealias Compile =
    @convention(c) (
      OpaquePointer?, UnsafePointer<CChar>?, Int, CInt, UnsafePointer<CChar>?,
      UnsafePointer<CChar>?,
      OpaquePointer?
    ) -> OpaquePointer?
  private typealias Status = @convention(c) (OpaquePointer?) -> CInt
  private typealias Length = @convention(c) (OpaquePointer?) -> Int
  private typealias Text = @convention(c) (OpaquePointer?) -> UnsafePointer<CChar>?
  private typealias Version =
    @convention(c) (
      UnsafeMutablePointer<CUnsignedInt>?, UnsafeMutablePointer<CUnsignedInt>?
    ) -> Void

  private typealias FindAddress =
    @convention(c) (
      UnsafeMutableRawPointer?, UnsafeMutablePointer<UnsafePointer<CChar>?>?
    ) -> CInt

  // The values of shaderc.h and env.h.
  private static let computeShader: CInt = 2
  private static let vulkan: CInt = 0
  private static let vulkan12: UInt32 = 1 << 22 | 2 << 12
  private static let vulkan13: UInt32 = 1 << 22 | 3 << 12
  private static let levelZero: CInt = 0
  private static let levelPerformance: CInt = 2
  private static let success: CInt = 0

  private let makeCompiler: Create
  private let releaseCompiler: Release
  private let makeOptions: Create
  private let releaseOptions: Release
  private let setTarget: SetTarget
  private let setLevel: SetLevel
  private let compileSource: Compile
  private let releaseResult: Release
  private let status: Status
  private let length: Length
  private let bytes: Text
  private let message: Text

  /// The file that was loaded.
  let path: String
  /// What tells two compilers apart: the file, its size and date, and the version of SPIR-V it makes. The interface
  /// tells no version of its own.
  let identity: String

  /// - Throws: `compilerMissing`.
  init(libraries: [String] = defaultLibraries) throws(CustomAttentionError) {
    // Of every one: a library that is there and broken matters more than the names behind it.
    var reasons: [String] = []
    for library in libraries {
      // Never closed: function pointers stay.
      guard let handle = dlopen(library, RTLD_NOW | RTLD_LOCAL) else {
        reasons.append(dlerror().map { String(cString: $0) } ?? "\(library): unknown reason")
        continue
      }
      var missing: String?
      func function<Function>(_ name: String, as type: Function.Type) -> Function? {
        guard let symbol = dlsym(handle, name) else {
          missing = missing ?? name
          return nil
        }
        return unsafeBitCast(symbol, to: type)
      }
      guard let makeCompiler = function("shaderc_compiler_initialize", as: Create.self),
        let releaseCompiler = function("shaderc_compiler_release", as: Release.self),
        let makeOptions = function("shaderc_compile_options_initialize", as: Create.self),
        let releaseOptions = function("shaderc_compile_options_release", as: Release.self),
        let setTarget = function("shaderc_compile_options_set_target_env", as: SetTarget.self),
        let setLevel = function(
          "shaderc_compile_options_set_optimization_level", as: SetLevel.self),
        let compileSource = function("shaderc_compile_into_spv", as: Compile.self),
        let releaseResult = function("shaderc_result_release", as: Release.self),
        let status = function("shaderc_result_get_compilation_status", as: Status.self),
        let length = function("shaderc_result_get_length", as: Length.self),
        let bytes = function("shaderc_result_get_bytes", as: Text.self),
        let message = function("shaderc_result_get_error_message", as: Text.self),
        let version = function("shaderc_get_spv_version", as: Version.self)
      else {
        reasons.append("\(library) has no \(missing ?? "function")")
        continue
      }
      self.makeCompiler = makeCompiler
      self.releaseCompiler = releaseCompiler
      self.makeOptions = makeOptions
      self.releaseOptions = releaseOptions
      self.setTarget = setTarget
      self.setLevel = setLevel
      self.compileSource = compileSource
      self.releaseResult = releaseResult
      self.status = status
      self.length = length
      self.bytes = bytes
      self.message = message

      var number: CUnsignedInt = 0
      var revision: CUnsignedInt = 0
      version(&number, &revision)
      var file = library
      // Looked up: the system's headers hide dladdr(). Its structure is four pointers, the file's name first.
      var info = [UnsafePointer<CChar>?](repeating: nil, count: 4)
      if let symbol = dlsym(handle, "shaderc_compile_into_spv"),
        let find = function("dladdr", as: FindAddress.self), find(symbol, &info) != 0,
        let name = info[0]
      {
        file = String(cString: name)
      }
      if let resolved = realpath(file, nil) {
        file = String(cString: resolved)
        free(resolved)
      }
      var attributes = stat()
      let isKnown = stat(file, &attributes) == 0
      #if canImport(Darwin)
        let date = attributes.st_mtimespec
      #else
        let date = attributes.st_mtim
      #endif
      path = file
      identity =
        "\(file) \(isKnown ? attributes.st_size : 0) \(date.tv_sec).\(date.tv_nsec) \(number).\(revision)"
      return
    }
    throw .compilerMissing(
      tried: libraries,
      reason: reasons.isEmpty ? "no library named" : reasons.joined(separator: "; "),
      package: Self.package)
  }

  /// Compiles a compute shader. Blocks.
  ///
  /// - Parameter isNewer: for Vulkan 1.3 and not for 1.2, the floor of the library.
  func compile(_ source: String, isOptimized: Bool, isNewer: Bool = false) -> Outcome {
    guard let compiler = makeCompiler() else { return .failed(log: "it cannot be started") }
    defer { releaseCompiler(compiler) }
    guard let options = makeOptions() else { return .failed(log: "it gives no options") }
    defer { releaseOptions(options) }
    setTarget(options, Self.vulkan, isNewer ? Self.vulkan13 : Self.vulkan12)
    setLevel(options, isOptimized ? Self.levelPerformance : Self.levelZero)
    let result = source.withCString { text in
      compileSource(
        compiler, text, source.utf8.count, Self.computeShader, "kernel", "main", options)
    }
    guard let result else { return .failed(log: "it gives no result") }
    defer { releaseResult(result) }
    guard status(result) == Self.success else {
      return .failed(log: message(result).map { String(cString: $0) } ?? "without a message")
    }
    let byteCount = length(result)
    guard let bytes = bytes(result), byteCount > 0, byteCount % 4 == 0 else {
      return .failed(log: "its result is no SPIR-V")
    }
    var words = [UInt32](repeating: 0, count: byteCount / 4)
    words.withUnsafeMutableBytes {
      $0.copyMemory(from: UnsafeRawBufferPointer(start: bytes, count: byteCount))
    }
    return .compiled(words)
  }
}
