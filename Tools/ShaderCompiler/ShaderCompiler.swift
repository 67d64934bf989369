import Foundation

/// The build's shader compiler: GLSL in, Swift source with embedded SPIR-V out.
///
///     ShaderCompiler compile ROOT SHADER.comp OUTPUT.swift GLSLC TOOLCHAIN PATH DATE
///     ShaderCompiler table ROOT OUTPUT.swift SHADER.comp…
///     ShaderCompiler sources ROOT OUTPUT.swift FILE…
///
/// `ROOT` is the folder that include paths and reported paths are relative to. `GLSLC` (may be
/// empty), the folder `TOOLCHAIN` (may be missing) and the search path `PATH` say where a GLSL
/// compiler may be. `DATE` is not read: it makes the command another one for another toolchain.
@main
enum ShaderCompiler {
  static func main() {
    do {
      try run(Array(CommandLine.arguments.dropFirst()))
    } catch {
      report("\(error)")
      exit(1)
    }
  }

  static func run(_ arguments: [String]) throws {
    switch arguments.first {
    case "compile" where arguments.count == 8:
      let toolchain = try ShaderToolchain.find(
        chosen: arguments[4], folder: arguments[5], searchPath: arguments[6])
      try compile(
        root: arguments[1], shader: arguments[2], output: arguments[3], with: toolchain)
    case "table" where arguments.count >= 3:
      let sources = try arguments[3...].map { try ShaderSource(path: $0, root: arguments[1]) }
      try write(SwiftWriter.table(of: sources), to: arguments[2])
    case "sources" where arguments.count >= 3:
      try write(
        SwiftWriter.sources(root: arguments[1], paths: Array(arguments[3...])), to: arguments[2])
    default:
      throw BuildFailure(
        """
        usage: ShaderCompiler compile ROOT SHADER.comp OUTPUT.swift GLSLC TOOLCHAIN PATH DATE
               ShaderCompiler table ROOT OUTPUT.swift SHADER.comp…
               ShaderCompiler sources ROOT OUTPUT.swift FILE…
        """)
    }
  }

  private static func compile(
    root: String, shader: String, output: String, with toolchain: ShaderToolchain
  ) throws {
    let source = try ShaderSource(path: shader, root: root)
    let shaders = try source.variants.map { variant in
      let result = try toolchain.compile(variant, of: source, root: root, scratch: output)
      if case .missing(let extensions, let compiler) = result {
        report(
          """
          \(source.path):\(variant.line): warning: shader variant \(variant.name) left out: \
          compiler \(compiler) lacks \(extensions.joined(separator: ", "))
          """)
      }
      return SwiftWriter.declaration(of: variant, of: source, result: result)
    }
    try write(SwiftWriter.file(for: source, declarations: shaders), to: output)
  }

  /// Writes a file only where its text is new, so that an unchanged shader compiles no Swift.
  private static func write(_ text: String, to path: String) throws {
    if let old = try? String(contentsOfFile: path, encoding: .utf8), old == text { return }
    try text.write(toFile: path, atomically: true, encoding: .utf8)
  }

  static func report(_ message: String) {
    FileHandle.standardError.write(Data((message + "\n").utf8))
  }
}

/// A reason to stop the build, in the words the user reads.
struct BuildFailure: Error, CustomStringConvertible, Equatable {
  let description: String

  init(_ description: String) {
    self.description = description
  }
}
