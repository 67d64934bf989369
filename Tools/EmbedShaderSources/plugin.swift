import Foundation
import PackagePlugin

/// Plans the embedding of the shaders' GLSL, for a target that compiles them at run time: one command, which
/// makes one Swift file with the texts of the attention families of the target `ShaderLibrary`.
@main
struct EmbedShaderSources: BuildToolPlugin {
  /// The folders whose kernels take a user's code, and what they include.
  private static let folders: Set<String> = ["Attention", "Decode", "Cache", "Common"]

  func createBuildCommands(context: PluginContext, target: Target) throws -> [Command] {
    guard
      let shaders = target.recursiveTargetDependencies.first(where: { $0.name == "ShaderLibrary" }),
      let module = shaders.sourceModule
    else { return [] }
    let root = module.directoryURL
    let files = module.sourceFiles.map(\.url).filter {
      ["comp", "glsl"].contains($0.pathExtension)
        && Self.folders.contains($0.deletingLastPathComponent().lastPathComponent)
    }.sorted { $0.path < $1.path }
    let output = context.pluginWorkDirectoryURL.appending(path: "EmbeddedSources.swift")
    return [
      .buildCommand(
        displayName: "Embedding the shaders' GLSL",
        executable: try context.tool(named: "ShaderCompiler").url,
        arguments: ["sources", root.path, output.path] + files.map(\.path),
        inputFiles: files, outputFiles: [output])
    ]
  }
}
