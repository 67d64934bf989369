import Foundation

/// What became of one shader variant.
enum CompiledVariant {
  case compiled(spirv: Data, reflection: ShaderReflection)
  case missing(extensions: [String], compiler: String)
}

/// The GLSL compiler at hand, and the validator that belongs to it.
struct ShaderToolchain: Equatable {
  /// Vulkan 1.2 is the floor of the library; what a kernel needs beyond it are extensions, some of which need 1.3.
  static let targetEnvironment = "vulkan1.2"

  let compiler: String
  let validator: String?
  /// Whether the validator lies beside the compiler and so knows what the compiler makes.
  let validatorIsOfCompiler: Bool

  /// Finds the compiler: the one chosen, else the finished toolchain folder's, else the search
  /// path's.
  ///
  /// - Parameters:
  ///   - chosen: a path, a name on the search path, or empty for no choice.
  ///   - folder: the toolchain folder, which need not be there; or empty.
  ///   - searchPath: folders with colons between.
  static func find(
    chosen: String, folder: String, searchPath: String,
    isExecutable: (String) -> Bool = { FileManager.default.isExecutableFile(atPath: $0) },
    exists: (String) -> Bool = { FileManager.default.fileExists(atPath: $0) }
  ) throws(BuildFailure) -> ShaderToolchain {
    func onPath(_ tool: String) -> String? {
      searchPath.split(separator: ":").lazy.map { "\($0)/\(tool)" }.first(where: isExecutable)
    }
    func toolchain(_ compiler: String) -> ShaderToolchain {
      let beside = URL(filePath: compiler).deletingLastPathComponent().path + "/spirv-val"
      let isBeside = isExecutable(beside)
      return ShaderToolchain(
        compiler: compiler, validator: isBeside ? beside : onPath("spirv-val"),
        validatorIsOfCompiler: isBeside)
    }

    if !chosen.isEmpty {
      let path = chosen.contains("/") ? chosen : onPath(chosen)
      guard let path, isExecutable(path) else {
        throw BuildFailure(
          "error: GLSLC is '\(chosen)', which is no program that can be run; "
            + "unset it or correct it")
      }
      return toolchain(path)
    }
    // The stamp is written last: without it the folder is half made.
    if !folder.isEmpty, exists(folder + "/complete"), isExecutable(folder + "/bin/glslc") {
      return toolchain(folder + "/bin/glslc")
    }
    if let path = onPath("glslc") { return toolchain(path) }
    throw BuildFailure(
      """
      error: no GLSL compiler found: GLSLC is not set, there is no finished toolchain in \
      '\(folder)' and no glslc on PATH; run Tools/setup, which installs one, and build again
      """)
  }

  /// Compiles, validates and reflects one variant.
  ///
  /// - Parameter scratch: a path whose name, with something appended, is free for temporary files.
  func compile(
    _ variant: ShaderSource.Variant, of source: ShaderSource, root: String, scratch: String
  ) throws -> CompiledVariant {
    let binary = "\(scratch).\(variant.name).spv"
    let plain = "\(scratch).\(variant.name).O0.spv"
    defer {
      try? FileManager.default.removeItem(atPath: binary)
      try? FileManager.default.removeItem(atPath: plain)
    }
    func build(_ level: String, to output: String) throws -> ToolResult {
      try runTool(
        compiler,
        ["--target-env=\(variant.target)", level, "-I", root]
          + variant.defines.map { "-D\($0)" } + [source.path, "-o", output])
    }

    let result = try build(source.isOptimized ? "-O" : "-O0", to: binary)
    guard result.succeeded else {
      let missing = CompilerMessages.unsupportedExtensions(in: result.output)
      if !missing.isEmpty { return .missing(extensions: missing, compiler: compiler) }
      throw BuildFailure(
        """
        \(result.output.isEmpty ? "\(source.path):\(variant.line): error: \(compiler) failed" : result.output)
        \(source.path):\(variant.line): note: while compiling shader variant \(variant.name)
        """)
    }
    if !result.output.isEmpty { ShaderCompiler.report(result.output) }
    try validate(binary, variant, of: source)

    // The optimizer strips the names, so the interface is read from a plain compile.
    if source.isOptimized { _ = try build("-O0", to: plain) }
    let spirv = try Data(contentsOf: URL(filePath: binary))
    let named = try Data(contentsOf: URL(filePath: source.isOptimized ? plain : binary))
    do throws(SPIRVError) {
      let reflection = try ShaderReflection(
        interface: SPIRVModule(bytes: named), requirements: SPIRVModule(bytes: spirv))
      return .compiled(spirv: spirv, reflection: reflection)
    } catch {
      throw BuildFailure(
        """
        \(source.path):\(variant.line): error: the SPIR-V of shader variant \(variant.name) \
        cannot be read: \(error.message)
        """)
    }
  }

  private func validate(
    _ binary: String, _ variant: ShaderSource.Variant, of source: ShaderSource
  ) throws {
    guard let validator else { return }
    let result = try runTool(
      validator,
      ["--target-env", variant.target, "--scalar-block-layout", binary])
    if result.succeeded { return }
    // A validator from elsewhere may be older than the compiler and refuse what it does not know.
    let kind = validatorIsOfCompiler ? "error" : "warning"
    let message = """
      \(source.path):\(variant.line): \(kind): shader variant \(variant.name) is refused by \
      \(validator): \(result.output)
      """
    guard validatorIsOfCompiler else { return ShaderCompiler.report(message) }
    throw BuildFailure(message)
  }
}

/// How a tool ended, and what it said on both of its outputs.
struct ToolResult {
  let succeeded: Bool
  let output: String
}

private func runTool(_ path: String, _ arguments: [String]) throws -> ToolResult {
  let process = Process()
  let pipe = Pipe()
  process.executableURL = URL(filePath: path)
  process.arguments = arguments
  process.standardInput = FileHandle.nullDevice
  process.standardOutput = pipe
  process.standardError = pipe
  do {
    try process.run()
  } catch {
    throw BuildFailure("error: cannot run \(path): \(error)")
  }
  let output = pipe.fileHandleForReading.readDataToEndOfFile()
  process.waitUntilExit()
  return ToolResult(
    succeeded: process.terminationReason == .exit && process.terminationStatus == 0,
    output: String(decoding: output, as: UTF8.self).trimmingCharacters(in: .newlines))
}
