public import ShaderLibrary

/// A compute pipeline to be made: a shader and the values of its specialization constants.
public struct PipelineDescription: Sendable {
  /// The shader.
  public let shader: ShaderBinary
  /// The bits of each specialization constant by its name in the shader; a `bool` is 0 or 1. Constants
  /// that are not named keep the shader's default.
  public let constants: [String: UInt32]
  /// The subgroup size to ask for; nil leaves it to the driver.
  public let subgroupSize: Int?
  /// Whether every subgroup must be full, which kernels that share work across a subgroup rely on.
  public let requiresFullSubgroups: Bool

  /// Describes a pipeline.
  public init(
    shader: ShaderBinary, constants: [String: UInt32] = [:], subgroupSize: Int? = nil,
    requiresFullSubgroups: Bool = false
  ) {
    self.shader = shader
    self.constants = constants
    self.subgroupSize = subgroupSize
    self.requiresFullSubgroups = requiresFullSubgroups
  }

  /// What tells two pipelines apart.
  struct Key: Hashable {
    let name: String
    let contentHash: UInt64
    let constants: [String: UInt32]
    let subgroupSize: Int?
    let requiresFullSubgroups: Bool
  }

  var key: Key {
    Key(
      name: shader.name, contentHash: shader.contentHash, constants: constants,
      subgroupSize: subgroupSize, requiresFullSubgroups: requiresFullSubgroups)
  }

  /// The constants by their number, in the order of the numbers.
  ///
  /// - Throws: `shaderMismatch` for a name that the shader does not have.
  func numberedConstants() throws(VulkanError) -> [(id: UInt32, bits: UInt32)] {
    var numbered: [(id: UInt32, bits: UInt32)] = []
    for (name, bits) in constants {
      guard let constant = shader.specializationConstants.first(where: { $0.name == name }) else {
        throw .shaderMismatch(
          name: shader.name, reason: "it has no specialization constant \(name)")
      }
      numbered.append((constant.id, bits))
    }
    return numbered.sorted { $0.id < $1.id }
  }
}
