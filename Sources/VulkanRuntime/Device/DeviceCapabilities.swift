/// What a device is and what it can do: a plain value, so that plans are made and tested without one.
public struct DeviceCapabilities: Sendable, Hashable, Codable {
  /// The kind of device, in the order in which devices are preferred.
  public enum Kind: String, Sendable, Hashable, Codable, CaseIterable {
    /// A card with its own memory.
    case discrete
    /// A GPU that shares the processor's memory.
    case integrated
    /// A GPU of a virtual machine.
    case virtual
    /// A driver that runs shaders on the processor.
    case cpu
    /// None of these.
    case other
  }

  /// A feature that some devices have; its raw value is the name for `VKATTN_DISABLE`.
  public enum Feature: String, Sendable, Hashable, Codable, CaseIterable {
    /// 16-bit floating-point arithmetic in shaders.
    case float16
    /// 16-bit integers in shaders.
    case int16
    /// 64-bit integers in shaders, needed to address buffers.
    case int64
    /// 16-bit types in storage buffers.
    case storage16
    /// Buffers by device address.
    case bufferDeviceAddress
    /// Timeline semaphores.
    case timelineSemaphore
    /// Scalar block layout.
    case scalarBlockLayout
    /// Vulkan's memory model, in which cooperative matrices are defined.
    case memoryModel
    /// A pipeline can choose its subgroup size, and ask for full subgroups.
    case subgroupSizeControl
    /// `VK_KHR_cooperative_matrix`.
    case coopmat
    /// `VK_NV_cooperative_matrix2`: matrices of any multiple of the listed dimensions.
    case coopmat2
    /// Of the same extension: sums and maxima of a matrix's rows and columns. Like the two below it needs Vulkan 1.3.
    case coopmat2Reductions
    /// Of the same extension: an accumulator becomes an operand of the next product.
    case coopmat2Conversions
    /// Of the same extension: functions of each element and its place.
    case coopmat2PerElement
    /// `VK_EXT_external_memory_host`: buffers over memory of the app's own.
    case externalMemoryHost
    /// `VK_KHR_compute_shader_derivatives`: differences between four neighbouring lanes.
    case computeDerivatives
    /// Votes of a subgroup in compute shaders.
    case subgroupVote
    /// Sums, minima and maxima over a subgroup in compute shaders.
    case subgroupArithmetic
    /// Shuffles within a subgroup in compute shaders.
    case subgroupShuffle
    /// `VK_KHR_pipeline_executable_properties`: what the driver's compiler says of a pipeline.
    case pipelineStatistics
  }

  /// One shape of a cooperative matrix product C (M×N) += A (M×K) · B (K×N) at subgroup scope.
  public struct MatrixShape: Sendable, Hashable, Codable {
    /// The element type of a matrix operand.
    public enum Element: String, Sendable, Hashable, Codable {
      /// 16-bit floating point.
      case f16
      /// 32-bit floating point.
      case f32
      /// Any other type, which no kernel here uses.
      case other
    }
    /// Rows of A and C.
    public var m: Int
    /// Columns of B and C.
    public var n: Int
    /// Columns of A and rows of B.
    public var k: Int
    /// The element type of A and B.
    public var input: Element
    /// The element type of C and of the result.
    public var accumulator: Element

    /// A shape by its parts.
    public init(m: Int, n: Int, k: Int, input: Element, accumulator: Element) {
      self.m = m
      self.n = n
      self.k = k
      self.input = input
      self.accumulator = accumulator
    }
  }

  /// The place in the loader's list.
  public var index: Int
  /// The device's name as the driver gives it.
  public var name: String
  /// The kind of device.
  public var kind: Kind
  /// The PCI vendor number.
  public var vendorID: UInt32
  /// The PCI device number.
  public var deviceID: UInt32
  /// The device's UUID as hexadecimal digits.
  public var deviceUUID: String
  /// The driver's UUID as hexadecimal digits.
  public var driverUUID: String
  /// The pipeline cache's UUID as hexadecimal digits.
  public var pipelineCacheUUID: String
  /// The driver's name.
  public var driverName: String
  /// The driver's own version text.
  public var driverInfo: String
  /// The Vulkan version, such as `1.4.318`.
  public var apiVersion: String
  /// What the device can do, less what `VKATTN_DISABLE` vetoes.
  public var features: Set<Feature>
  /// The subgroup size that pipelines get by default.
  public var subgroupSize: Int
  /// The smallest subgroup size a pipeline can ask for.
  public var minSubgroupSize: Int
  /// The largest subgroup size a pipeline can ask for.
  public var maxSubgroupSize: Int
  /// The most invocations of one workgroup.
  public var maxWorkgroupInvocations: Int
  /// The most invocations of one workgroup along x.
  public var maxWorkgroupSizeX: Int
  /// The most workgroups of one dispatch along x, y and z.
  public var maxWorkgroupCount: [Int]
  /// The most bytes of shared memory of one workgroup.
  public var maxSharedBytes: Int
  /// The most bytes of push constants.
  public var maxPushConstantBytes: Int
  /// The largest single allocation in bytes.
  public var maxAllocationBytes: Int
  /// The sum of the device-local heaps in bytes.
  public var deviceLocalBytes: Int
  /// Whether the host can map device-local memory of any size.
  public var hasUnifiedMemory: Bool
  /// Nanoseconds of one timestamp tick; 0 where the queue has no timestamps.
  public var timestampPeriod: Double
  /// Cores, multiprocessors or compute units, where the driver tells; for a CPU its threads.
  public var computeUnits: Int?
  /// The cooperative matrix products that the device lists.
  public var matrixShapes: [MatrixShape]
  /// What M, N and K are multiples of where products have other sizes than those listed; nil of a device without
  /// `coopmat2`, or one that does not tell.
  public var flexibleMatrixShapes: [MatrixShape]?
  /// What the address and the size of imported host memory are multiples of, in bytes; nil where the device
  /// imports none.
  public var hostPointerAlignment: Int?

  /// Whether the device has the feature, and no veto hides it.
  public func has(_ feature: Feature) -> Bool { features.contains(feature) }

  /// Those of ``requiredFeatures`` that the device lacks.
  public var missingRequiredFeatures: [Feature] { Self.requiredFeatures.filter { !has($0) } }

  /// What every kernel of this library needs.
  public static let requiredFeatures: [Feature] = [
    .bufferDeviceAddress, .timelineSemaphore, .storage16, .scalarBlockLayout, .int64,
  ]
}
