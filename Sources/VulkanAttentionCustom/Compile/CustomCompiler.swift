internal import Dispatch
internal import VulkanRuntime

/// Compiles modifications at run time, each once: results are kept in memory and on disk by the hash of the text
/// and the compiler.
///
/// Compilations run on threads of their own and block no task; two tasks that ask for the same shader share one.
/// Safe to share; ``shared`` is enough for most programs.
public actor CustomCompiler {
  /// Where a shader came from.
  enum Origin: Sendable, Equatable {
    case memory
    case disk
    case compiler
  }

  /// Over the default folder of compiled pipelines, `VKATTN_CACHE`.
  public static let shared = CustomCompiler()

  private typealias Result = Swift.Result<[UInt32], CustomAttentionError>

  private static let queue = DispatchQueue(
    label: "vulkan-attention.custom-compiler", qos: .utility, attributes: .concurrent)

  private let directory: String?
  private let libraries: [String]
  /// Extensions that are taken for unknown to the compiler, for tests.
  private let lacking: [String]
  private var library: ShadercLibrary?
  private var words: [String: [UInt32]] = [:]
  private var running: [String: Task<Result, Never>] = [:]
  /// How many shaders came from where.
  private(set) var counts: [Origin: Int] = [:]

  /// Compiles into a folder.
  ///
  /// - Parameters:
  ///   - directory: where compiled shaders are kept; nil for in memory only.
  ///   - libraries: names or paths of the compiler's library to try, in this order.
  public init(
    directory: String? = CustomCompiler.defaultDirectory,
    libraries: [String] = CustomCompiler.defaultLibraries
  ) {
    self.init(directory: directory, libraries: libraries, lacking: [])
  }

  init(directory: String?, libraries: [String], lacking: [String]) {
    self.directory = directory
    self.libraries = libraries
    self.lacking = lacking
  }

  /// `$VKATTN_CACHE`, else `vulkan-attention` in `$XDG_CACHE_HOME` or in `~/.cache`.
  public static var defaultDirectory: String? { PipelineCacheFile.defaultDirectory }

  /// The names of libshaderc on this system.
  public static var defaultLibraries: [String] { ShadercLibrary.defaultLibraries }

  /// The SPIR-V of a compute shader.
  func compile(
    _ source: CustomShaderSource
  ) async throws(CustomAttentionError) -> [UInt32] {
    let library = try openLibrary()
    let missing = lacking.filter { source.text.contains("#extension \($0) : require") }
    guard missing.isEmpty else {
      throw .compilerTooOld(extensions: missing, library: library.path)
    }
    let identity = try identity(of: source)
    if let known = words[identity] {
      counts[.memory, default: 0] += 1
      return known
    }
    let task: Task<Result, Never>
    if let other = running[identity] {
      counts[.memory, default: 0] += 1
      task = other
    } else {
      let file = directory.map { ShaderCacheFile(directory: $0, identity: identity) }
      task = Task {
        let (result, origin) = await Self.onOwnThread { () -> (Result, Origin) in
          if let words = file?.read() { return (.success(words), .disk) }
          switch library.compile(
            source.text, isOptimized: source.isOptimized, isNewer: source.isNewer)
          {
          case .compiled(let words):
            file?.write(words)
            return (.success(words), .compiler)
          case .failed(let log):
            let error = source.error(log: log, library: library.path) { text in
              guard
                case .failed(let log) = library.compile(
                  text, isOptimized: false, isNewer: source.isNewer)
              else { return nil }
              return log
            }
            return (.failure(error), .compiler)
          }
        }
        counts[origin, default: 0] += 1
        // A failure is not kept: what failed may be the machine.
        if case .success(let compiled) = result { words[identity] = compiled }
        running[identity] = nil
        return result
      }
      running[identity] = task
    }
    return try await task.value.get()
  }

  /// What a compiled shader is known by: the compiler, its options and the text.
  func identity(of source: CustomShaderSource) throws(CustomAttentionError) -> String {
    let library = try openLibrary()
    return "\(library.identity)\n\(source.isOptimized ? "optimized" : "plain")\n\(source.text)"
  }

  private func openLibrary() throws(CustomAttentionError) -> ShadercLibrary {
    if let library { return library }
    let opened = try ShadercLibrary(libraries: libraries)
    library = opened
    return opened
  }

  private static func onOwnThread<Value: Sendable>(
    _ body: @escaping @Sendable () -> Value
  ) async -> Value {
    await withCheckedContinuation { continuation in
      queue.async { continuation.resume(returning: body()) }
    }
  }
}
