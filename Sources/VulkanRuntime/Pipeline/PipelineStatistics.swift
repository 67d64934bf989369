internal import CVulkan

/// What the driver's compiler says of a pipeline: registers, spills, occupancy, …
public struct PipelineStatistics: Sendable, Hashable {
  /// One figure; what it means is the driver's affair.
  public struct Figure: Sendable, Hashable {
    /// The driver's name for it, for example "VGPRs" or "Register Count".
    public let name: String
    /// The driver's explanation.
    public let explanation: String
    /// The figure as the driver has it.
    public let value: Value
  }

  /// A figure's value.
  public enum Value: Sendable, Hashable, CustomStringConvertible {
    /// A yes or no.
    case flag(Bool)
    /// A signed number.
    case signed(Int64)
    /// An unsigned number.
    case unsigned(UInt64)
    /// Any other number.
    case real(Double)

    /// The value in decimals, or yes or no.
    public var description: String {
      switch self {
      case .flag(let value): value ? "yes" : "no"
      case .signed(let value): "\(value)"
      case .unsigned(let value): "\(value)"
      case .real(let value): "\(value)"
      }
    }

    fileprivate init?(_ figure: VkPipelineExecutableStatisticKHR) {
      switch figure.format {
      case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_BOOL32_KHR:
        self = .flag(figure.value.b32 != 0)
      case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR: self = .signed(figure.value.i64)
      case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_UINT64_KHR: self = .unsigned(figure.value.u64)
      case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_FLOAT64_KHR: self = .real(figure.value.f64)
      default: return nil
      }
    }
  }

  /// The driver's name of the program that it made; a pipeline may become several.
  public let executable: String
  /// The subgroup size it was compiled for; 0 where that is not fixed.
  public let subgroupSize: Int
  /// The figures, in the driver's order.
  public let figures: [Figure]
}

extension ComputePipeline {
  /// What the driver's compiler says of the programs it made of this pipeline.
  ///
  /// - Returns: an entry for each program; empty where the device was opened without
  ///   `keepsPipelineStatistics`, or lacks the feature `pipelineStatistics`.
  /// - Throws: `callFailed`.
  public func statistics() throws(VulkanError) -> [PipelineStatistics] {
    guard let properties = logical.calls.vkGetPipelineExecutablePropertiesKHR,
      let figures = logical.calls.vkGetPipelineExecutableStatisticsKHR
    else { return [] }
    var pipeline = VkPipelineInfoKHR()
    pipeline.sType = VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR
    pipeline.pipeline = handle
    var empty = VkPipelineExecutablePropertiesKHR()
    empty.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR
    let executables = try vulkanArray(
      of: "vkGetPipelineExecutablePropertiesKHR", filledWith: empty
    ) { properties(logical.handle, &pipeline, $0, $1) }
    return try executables.enumerated().map { index, executable throws(VulkanError) in
      var info = VkPipelineExecutableInfoKHR()
      info.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR
      info.pipeline = handle
      info.executableIndex = UInt32(index)
      var empty = VkPipelineExecutableStatisticKHR()
      empty.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR
      let found = try vulkanArray(
        of: "vkGetPipelineExecutableStatisticsKHR", filledWith: empty
      ) { figures(logical.handle, &info, $0, $1) }
      return PipelineStatistics(
        executable: text(executable.name), subgroupSize: Int(executable.subgroupSize),
        figures: found.compactMap { figure in
          PipelineStatistics.Value(figure).map {
            PipelineStatistics.Figure(
              name: text(figure.name), explanation: text(figure.description), value: $0)
          }
        })
    }
  }
}
