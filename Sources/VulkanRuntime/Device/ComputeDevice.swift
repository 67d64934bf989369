internal import CVulkan
public import Logging

/// An open device: the way to buffers, pipelines, recorders and submissions.
///
/// Safe to share between tasks. What was made with one device does not work with another.
public final class ComputeDevice: Sendable {
  /// How a device is opened.
  public struct Options: Sendable {
    /// Turns the validation layers on and receives what they say.
    public var validationLog: ValidationLog?
    /// Where pipelines are kept between runs; nil keeps them in memory only.
    public var pipelineCacheDirectory: String? = PipelineCacheFile.defaultDirectory
    /// Receives what the runtime has to tell; silent by default.
    public var logger = Logger(label: "VulkanAttention") { _ in SwiftLogNoOpLogHandler() }
    /// The most bytes of device memory that the device takes for buffers of its own, staging included; nil for what
    /// the driver gives. Beyond it, a buffer is refused with `limitExceeded`.
    public var memoryLimit: Int?
    /// The most queues to ask of the driver, 1 or more: as many streams can run beside each other where the hardware
    /// can. Streams beyond the queues that there are share them; see ``ComputeStream``.
    public var queueLimit = 4
    /// Copies through staging buffers even where the host reaches device memory.
    public var forcesStaging = false
    /// Keeps what the driver's compiler says of each pipeline, where the device has the feature
    /// `pipelineStatistics`; see ``ComputePipeline/statistics()``. Off by default: a driver may compile anew what
    /// its cache has, and keep more in memory.
    public var keepsPipelineStatistics = false

    /// Makes pipelines and runs nothing: for a driver that compiles for hardware which is not there, and so has no
    /// queue that works.
    public var compilesOnly = false

    /// Options with their defaults.
    public init() {}
  }

  let logical: LogicalDevice
  let pool: MemoryPool
  /// Nil of a device that only compiles.
  let queue: SubmissionQueue?
  let pipelines: PipelineStore
  let foreignMemory = ForeignMemory()
  let logger: Logger

  /// What the device is and can do.
  public var capabilities: DeviceCapabilities { logical.capabilities }

  /// Whether the device was lost; a lost device refuses all work.
  public var isLost: Bool { logical.isLost }

  /// Bytes of device memory that this device holds in its pools; at most a spare block of 64 MiB for each
  /// ``MemoryPurpose`` is kept beyond the blocks that buffers are in.
  public var reservedByteCount: Int { pool.reservedByteCount }

  /// Bytes of that memory that buffers hold, and submitted work for them; each rounded up to 256.
  public var allocatedByteCount: Int { pool.allocatedByteCount }

  /// Opens a device.
  ///
  /// - Parameters:
  ///   - selection: which one; the best by default.
  ///   - options: validation, logging and where pipelines are kept.
  /// - Throws: `loaderMissing`, `noDevice`, `missingFeatures`, `validationLayerMissing`.
  public static func open(
    _ selection: DeviceSelection = .best, options: Options = Options()
  ) throws(VulkanError) -> ComputeDevice {
    try open(selection, options: options) { _ in }
  }

  /// As `open`, on an instance that is there already.
  public convenience init(
    instance: VulkanInstance, selection: DeviceSelection = .best, options: Options = Options()
  ) throws(VulkanError) {
    try self.init(instance: instance, selection: selection, options: options) { _ in }
  }

  static func open(
    _ selection: DeviceSelection, options: Options, adjustCalls: (inout DeviceCalls) -> Void
  ) throws(VulkanError) -> ComputeDevice {
    try ComputeDevice(
      instance: VulkanInstance(validationLog: options.validationLog), selection: selection,
      options: options, adjustCalls: adjustCalls)
  }

  convenience init(
    instance: VulkanInstance, selection: DeviceSelection, options: Options,
    adjustCalls: (inout DeviceCalls) -> Void
  ) throws(VulkanError) {
    var capabilities = try selection.choose(from: instance.devices())
    if options.forcesStaging { capabilities.hasUnifiedMemory = false }
    if !options.keepsPipelineStatistics { capabilities.features.remove(.pipelineStatistics) }
    let physicals = try instance.physicalDevices()
    guard physicals.indices.contains(capabilities.index) else {
      throw .noDevice(requested: capabilities.name, available: [])
    }
    let physical = physicals[capabilities.index]
    try self.init(
      LogicalDevice(
        instance: instance, physical: physical, capabilities: capabilities,
        queueLimit: options.compilesOnly ? 1 : options.queueLimit, adjustCalls: adjustCalls),
      options: options)
  }

  init(_ logical: LogicalDevice, options: Options) throws(VulkanError) {
    self.logical = logical
    logger = options.logger
    pool = MemoryPool(logical, limit: options.memoryLimit)
    queue =
      options.compilesOnly
      ? nil : try SubmissionQueue(logical, on: logical.queues[0], slots: CommandSlots())
    pipelines = try PipelineStore(
      logical, directory: options.pipelineCacheDirectory, logger: options.logger)
    logical.isOpen.store(true, ordering: .relaxed)
    logger.info(
      "opened device",
      metadata: [
        "device": "\(capabilities.name)", "driver": "\(capabilities.driverInfo)",
      ])
  }

  deinit {
    do throws(VulkanError) {
      try pipelines.save()
    } catch {
      logger.warning("\(error)")
    }
  }

  /// Makes a buffer; its contents are undefined.
  ///
  /// - Parameters:
  ///   - byteCount: the size, 0 or more.
  ///   - purpose: who touches it.
  ///   - label: what it is for, named in errors.
  /// - Throws: `outOfMemory`, `limitExceeded` (of an allocation, or ``Options/memoryLimit``), `deviceLost`.
  public func makeBuffer(
    byteCount: Int, purpose: MemoryPurpose = .device, label: String = "buffer"
  ) throws(VulkanError) -> DeviceBuffer {
    try logical.checkAlive("allocation")
    guard byteCount >= 0 else {
      throw .outOfBounds(what: label, requestedBytes: byteCount, availableBytes: 0)
    }
    return DeviceBuffer(
      allocation: try pool.allocate(byteCount, purpose: purpose, label: label),
      byteCount: byteCount)
  }

  func usableQueue() throws(VulkanError) -> SubmissionQueue {
    guard let queue else {
      throw .missingFeatures(
        device: capabilities.name, features: ["a queue, since it was opened to compile only"])
    }
    return queue
  }

  /// Starts a list of commands.
  ///
  /// - Throws: `missingFeatures` for a device that only compiles, `deviceLost`, or the failed call.
  public func makeRecorder() throws(VulkanError) -> Recorder {
    try makeRecorder(forReplay: false)
  }

  /// Starts a list of commands.
  ///
  /// - Parameter isReplayable: whether the commands may be submitted more than once, as a ``CommandList``.
  /// - Throws: `missingFeatures` for a device that only compiles, `deviceLost`, or the failed call.
  public func makeRecorder(forReplay isReplayable: Bool) throws(VulkanError) -> Recorder {
    try usableQueue().makeRecorder(isReplayable: isReplayable)
  }

  /// Closes a recorder that was opened for replay; it is used up.
  ///
  /// - Throws: `notReplayable`, `alreadySubmitted`, `wrongDevice`, or the failed call.
  public func makeCommandList(_ recorder: Recorder) throws(VulkanError) -> CommandList {
    try logical.checkOwn("recorder", recorder.logical)
    guard recorder.isReplayable else { throw .notReplayable }
    let (slot, retained) = try recorder.finish()
    return CommandList(logical, slot: slot, retained: retained)
  }

  /// The pipeline of a description, compiled on first use and shared from then on.
  ///
  /// - Throws: `shaderUnavailable`, `shaderMismatch`, `limitExceeded`, or the failed call.
  public func pipeline(_ description: PipelineDescription) throws(VulkanError) -> ComputePipeline {
    try pipelines.pipeline(description)
  }

  /// Every pipeline that was made, in the order of their names.
  public var compiledPipelines: [ComputePipeline] { pipelines.all }

  /// Writes the compiled pipelines to the cache folder now instead of when the device is closed.
  ///
  /// - Throws: `cacheNotWritable`, or the failed call.
  public func savePipelines() throws(VulkanError) {
    try pipelines.save()
  }
}
