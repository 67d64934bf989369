import Foundation
import PackagePlugin

/// Plans the shader build of a target: one command per `.comp` file, which makes one Swift file
/// with all of the shader's variants, and one command for the table that lists them.
///
/// SwiftPM keeps the planned commands until a file is added or removed, `Package.swift` changes or
/// the environment changes, so nothing in here may depend on what a source file says: the tool
/// reads the sources, and finds the compiler, each time it runs.
@main
struct CompileShaders: BuildToolPlugin {
  func createBuildCommands(context: PluginContext, target: Target) throws -> [Command] {
    guard let module = target.sourceModule else { return [] }
    let tool = try context.tool(named: "ShaderCompiler")
    let root = module.directoryURL
    let files = module.sourceFiles.map(\.url).sorted { $0.path < $1.path }
    let shaders = files.filter { $0.pathExtension == "comp" }
    // Every include is an input of every shader: build commands have no dependency files, and an
    // include that is not declared would leave old SPIR-V behind without a word.
    let includes = files.filter { $0.pathExtension == "glsl" }
    let compiler = compilerArguments(environment: ProcessInfo.processInfo.environment)

    var commands = shaders.map { shader in
      let path = relativePath(of: shader, in: root)
      let output = context.pluginWorkDirectoryURL.appending(
        path: path.replacing("/", with: "_").replacing(".comp", with: ".swift"))
      return Command.buildCommand(
        displayName: "Compiling shader \(path)", executable: tool.url,
        arguments: ["compile", root.path, shader.path, output.path] + compiler,
        inputFiles: [shader] + includes, outputFiles: [output])
    }
    let table = context.pluginWorkDirectoryURL.appending(path: "ShaderTable.swift")
    commands.append(
      .buildCommand(
        displayName: "Writing the shader table", executable: tool.url,
        arguments: ["table", root.path, table.path] + shaders.map(\.path),
        inputFiles: shaders, outputFiles: [table]))
    return commands
  }

  private func relativePath(of file: URL, in root: URL) -> String {
    let prefix = root.path.hasSuffix("/") ? root.path : root.path + "/"
    return file.path.hasPrefix(prefix) ? String(file.path.dropFirst(prefix.count)) : file.path
  }

  /// What the tool needs to find the compiler. It decides, each time it runs; but it is told the
  /// environment rather than reading it, since not every build system hands its own down.
  ///
  /// The compiler is no input of the commands: SwiftPM refuses to build, until the next plan, where
  /// an input has gone since the last one, and a cache folder may go at any time. What that leaves:
  /// a compiler that comes, or is replaced in its place, is noticed at the next plan only. Setting
  /// up a toolchain therefore touches `Package.swift`, and the date of the toolchain's stamp is an
  /// argument, so that a new plan with a new toolchain has new commands.
  private func compilerArguments(environment: [String: String]) -> [String] {
    func value(_ name: String) -> String? {
      environment[name].flatMap { $0.isEmpty ? nil : $0 }
    }
    let cache = value("XDG_CACHE_HOME") ?? value("HOME").map { $0 + "/.cache" }
    let toolchain = value("VKATTN_TOOLCHAIN") ?? cache.map { $0 + "/vulkan-attention/toolchain" }
    let stamp = toolchain.flatMap {
      try? FileManager.default.attributesOfItem(atPath: $0 + "/complete")
    }
    let date = stamp?[.modificationDate] as? Date
    return [
      value("GLSLC") ?? "", toolchain ?? "", value("PATH") ?? "",
      date.map { "\($0.timeIntervalSince1970)" } ?? "no toolchain",
    ]
  }
}
