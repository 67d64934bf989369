internal import CVulkan
internal import Logging
internal import Synchronization

/// The pipelines of a device: compiled once, shared by all tasks, kept on disk between runs.
final class PipelineStore: @unchecked Sendable {
  // Unchecked: the cache handle is set once in `init` and synchronised by Vulkan itself.

  /// One pipeline's place. Its own lock lets two tasks compile different pipelines at the same time,
  /// and makes the second task that wants the same one wait for the first.
  private final class Entry: Sendable {
    let pipeline = Mutex<ComputePipeline?>(nil)
  }

  private let logical: LogicalDevice
  private let logger: Logger
  private let file: PipelineCacheFile?
  private let cache: VkPipelineCache?
  private let entries = Mutex<[PipelineDescription.Key: Entry]>([:])
  /// What the file holds, as far as this process knows.
  private let stored: Mutex<[UInt8]>
  /// Whether pipelines were made since the last save.
  private let isDirty: Atomic<Bool>

  init(_ logical: LogicalDevice, directory: String?, logger: Logger) throws(VulkanError) {
    let file = directory.map {
      PipelineCacheFile(directory: $0, capabilities: logical.capabilities)
    }
    var stored: [UInt8] = []
    switch file?.read() {
    case .valid(let data): stored = data
    case .invalid(let reason):
      logger.warning("ignoring compiled pipelines in \(file?.path ?? ""): \(reason)")
    case .absent, nil: break
    }
    var created: VkPipelineCache?
    let result = stored.withUnsafeBytes { data in
      var info = VkPipelineCacheCreateInfo()
      info.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO
      info.initialDataSize = data.count
      info.pInitialData = data.baseAddress
      return logical.calls.vkCreatePipelineCache(logical.handle, &info, nil, &created)
    }
    try logical.check(result, "vkCreatePipelineCache")
    self.logical = logical
    self.logger = logger
    self.file = file
    cache = created
    self.stored = Mutex(stored)
    isDirty = Atomic(false)
  }

  deinit {
    if let cache { logical.calls.vkDestroyPipelineCache(logical.handle, cache, nil) }
  }

  func pipeline(_ description: PipelineDescription) throws(VulkanError) -> ComputePipeline {
    try logical.checkAlive("pipeline creation")
    let entry = entries.withLock { entries in
      if let entry = entries[description.key] { return entry }
      let entry = Entry()
      entries[description.key] = entry
      return entry
    }
    return try entry.pipeline.withLock { (stored) throws(VulkanError) -> ComputePipeline in
      if let stored { return stored }
      let pipeline = try ComputePipeline(logical, description: description, cache: cache)
      stored = pipeline
      isDirty.store(true, ordering: .relaxed)
      logger.debug("compiled pipeline", metadata: ["shader": "\(description.shader.name)"])
      return pipeline
    }
  }

  /// The pipelines that are there, by name.
  var all: [ComputePipeline] {
    entries.withLock { Array($0.values) }
      .compactMap { entry in entry.pipeline.withLock { $0 } }
      .sorted { $0.name < $1.name }
  }

  /// Writes the cache to its file where there is something new.
  func save() throws(VulkanError) {
    guard let file, let cache, !logical.isLost else { return }
    // One at a time, or what was read earlier could replace what was read later.
    try stored.withLock { (stored) throws(VulkanError) in
      guard isDirty.exchange(false, ordering: .relaxed) else { return }
      do throws(VulkanError) {
        // A driver with a cache of its own may have nothing new to keep.
        let data = try cacheData(cache)
        if stored == data { return }
        try file.write(data)
        stored = data
      } catch {
        // Still to be written, at the next call or when the device is closed.
        isDirty.store(true, ordering: .relaxed)
        throw error
      }
    }
  }

  private func cacheData(_ cache: VkPipelineCache) throws(VulkanError) -> [UInt8] {
    while true {
      var byteCount = 0
      try logical.check(
        logical.calls.vkGetPipelineCacheData(logical.handle, cache, &byteCount, nil),
        "vkGetPipelineCacheData")
      var data = [UInt8](repeating: 0, count: byteCount)
      let result = logical.calls.vkGetPipelineCacheData(logical.handle, cache, &byteCount, &data)
      // A pipeline that another thread made in between made the cache larger.
      if result == VK_INCOMPLETE { continue }
      try logical.check(result, "vkGetPipelineCacheData")
      return Array(data.prefix(byteCount))
    }
  }
}
