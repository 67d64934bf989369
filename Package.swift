// swift-tools-version: 6.2
import PackageDescription

let argumentParser = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let realModule = Target.Dependency.product(name: "RealModule", package: "swift-numerics")

let package = Package(
  name: "VulkanAttention",
  products: [
    .library(name: "VulkanAttention", targets: ["VulkanAttention"]),
    // Modifications of scores and masks, compiled at run time; needs libshaderc where it runs.
    .library(name: "VulkanAttentionCustom", targets: ["VulkanAttentionCustom"]),
    .library(name: "AttentionReference", targets: ["AttentionReference"]),
    .executable(name: "vkattn", targets: ["vkattn"]),
    // The C interface; Tools/install makes libvkattn of it.
    .library(name: "VKAttn", type: .dynamic, targets: ["VKAttnC"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-numerics", from: "1.1.1"),
  ],
  targets: [
    // Shaders: GLSL compiled to SPIR-V at build time, embedded as base64.
    .target(name: "ShaderLibrary", path: "Shaders", plugins: ["CompileShaders"]),
    .plugin(
      name: "CompileShaders", capability: .buildTool(), dependencies: ["ShaderCompiler"],
      path: "Tools/CompileShaders"),
    .executableTarget(name: "ShaderCompiler", path: "Tools/ShaderCompiler"),

    // Libraries.
    .systemLibrary(name: "CVulkan", pkgConfig: "vulkan", providers: [.apt(["libvulkan-dev"])]),
    .target(name: "VulkanRuntime", dependencies: ["CVulkan", "ShaderLibrary", logging]),
    .target(name: "VulkanAttention", dependencies: ["VulkanRuntime", "ShaderLibrary"]),
    .target(
      name: "VulkanAttentionCustom",
      dependencies: ["VulkanAttention", "VulkanRuntime", "ShaderLibrary"],
      plugins: ["EmbedShaderSources"]),
    .plugin(
      name: "EmbedShaderSources", capability: .buildTool(), dependencies: ["ShaderCompiler"],
      path: "Tools/EmbedShaderSources"),
    .systemLibrary(name: "CVKAttn"),
    .target(
      name: "VKAttnC",
      dependencies: ["CVKAttn", "VulkanAttention", "VulkanAttentionCustom", logging]),
    .target(name: "AttentionReference", dependencies: [realModule]),
    .target(name: "CaseFiles"),

    // The command and what it measures.
    .target(
      name: "KernelBenchmarks",
      dependencies: [
        "VulkanAttention", "VulkanAttentionCustom", "AttentionReference", "CaseFiles", realModule,
      ],
      path: "Benchmarks/KernelBenchmarks"),
    .executableTarget(
      name: "vkattn", dependencies: ["KernelBenchmarks", argumentParser, logging],
      path: "Tools/vkattn"),

    // Examples.
    .executableTarget(
      name: "embed-sentences", dependencies: ["VulkanAttention", argumentParser],
      path: "Tools/examples/EmbedSentences"),
    .executableTarget(
      name: "generate-text", dependencies: ["VulkanAttention", "CaseFiles", argumentParser],
      path: "Tools/examples/GenerateText"),

    // Tests mirror Sources.
    .target(
      name: "TestSupport", dependencies: ["VulkanAttention", "AttentionReference"],
      path: "Tests/TestSupport"),
    .testTarget(
      name: "ShaderLibraryTests", dependencies: ["ShaderLibrary", "ShaderCompiler", "TestSupport"]),
    .testTarget(name: "VulkanRuntimeTests", dependencies: ["TestSupport", "VulkanRuntime"]),
    .testTarget(
      name: "AttentionReferenceTests", dependencies: ["AttentionReference", "CaseFiles"]),
    .testTarget(name: "CaseFilesTests", dependencies: ["CaseFiles"]),
    .testTarget(
      name: "VulkanAttentionTests",
      dependencies: ["TestSupport", "VulkanAttention", "KernelBenchmarks", "CaseFiles"]),
    .testTarget(
      name: "VulkanAttentionCustomTests",
      dependencies: ["TestSupport", "VulkanAttentionCustom", "KernelBenchmarks"]),
    .testTarget(name: "CommandTests", dependencies: ["TestSupport", "KernelBenchmarks", "vkattn"]),
    .testTarget(
      name: "ExampleTests",
      dependencies: ["TestSupport", "CaseFiles", "embed-sentences", "generate-text"]),
  ],
  swiftLanguageModes: [.v6]
)
