public import CVKAttn
internal import VulkanAttention

/// A tensor of a cache.
func cacheTensor(
  _ pointer: UnsafePointer<vkattn_cache_tensor>?, _ name: String
) throws(Failure) -> CacheTensor {
  let given = try read(pointer, name)
  let scaleType = try elementType(given.scale_type, "\(name).scale_type")
  let format: CacheFormat
  switch Int(given.format) {
  case VKATTN_CACHE_F32: format = .f32
  case VKATTN_CACHE_F16: format = .f16
  case VKATTN_CACHE_BF16: format = .bf16
  case VKATTN_CACHE_Q8_0: format = .q8
  case VKATTN_CACHE_Q4_0: format = .q4
  case VKATTN_CACHE_Q4_1: format = .q4WithMinimum
  case VKATTN_CACHE_INT8:
    format = .int8(groupSize: Int(given.scale_group), scaleType: scaleType ?? .f32)
  case VKATTN_CACHE_INT4:
    format = .int4(groupSize: Int(given.scale_group), scaleType: scaleType ?? .f32)
  case VKATTN_CACHE_E4M3: format = .e4m3
  case VKATTN_CACHE_E5M2: format = .e5m2
  default:
    throw Failure("\(name).format", given.format, allowed: "VKATTN_CACHE_F32 to VKATTN_CACHE_E5M2")
  }
  guard format.scaleType != nil || given.scale_group == 0 && scaleType == nil else {
    throw Failure(
      "\(name).scale_group, scale_type", "\(given.scale_group), \(given.scale_type)",
      allowed: "0 for a format without scales beside it")
  }
  let order: CacheArrangement.Order
  switch Int(given.order) {
  case VKATTN_CACHE_NHD: order = .nhd
  case VKATTN_CACHE_HND: order = .hnd
  default:
    throw Failure("\(name).order", given.order, allowed: "VKATTN_CACHE_NHD, VKATTN_CACHE_HND")
  }
  let (count, tokens) = (Int(given.block_count), Int(given.block_tokens))
  let arrangement: CacheArrangement
  switch Int(given.arrangement) {
  case VKATTN_CACHE_CONTIGUOUS:
    arrangement = .contiguous(sequences: count, capacity: tokens, order: order)
  case VKATTN_CACHE_RING: arrangement = .ring(sequences: count, capacity: tokens, order: order)
  case VKATTN_CACHE_PAGED: arrangement = .paged(pages: count, pageSize: tokens, order: order)
  default:
    throw Failure(
      "\(name).arrangement", given.arrangement,
      allowed: "VKATTN_CACHE_CONTIGUOUS, VKATTN_CACHE_RING, VKATTN_CACHE_PAGED")
  }
  return try inAttention { () throws(AttentionError) in
    try CacheTensor(
      format, arrangement, heads: Int(given.heads), channels: Int(given.channels),
      strides: strides(given.strides), scaleStrides: strides(given.scale_strides))
  }
}

/// A cache that kernels write to.
private func cache(_ pointer: UnsafePointer<vkattn_cache>?) throws(Failure) -> CacheStorage {
  let given = try read(pointer, "cache")
  let key = try cacheTensor(given.key, "cache.key")
  let value = given.value == nil ? nil : try cacheTensor(given.value, "cache.value")
  let hasTable = given.page_table_sequences != 0 || given.page_table_entries != 0
  return try inAttention { () throws(AttentionError) in
    try CacheStorage(
      key: key, value: value,
      pageTable: hasTable
        ? CachePageTableShape(
          sequences: Int(given.page_table_sequences), entries: Int(given.page_table_entries)) : nil)
  }
}

extension CacheTensor {
  /// The bytes of its scales; nil without.
  var scaleByteCountIfAny: Int? { scaleByteCount == 0 ? nil : scaleByteCount }
}

extension CacheStorage {
  /// The bytes of its tensors; 0 of those that it has not.
  var byteCounts: KeyValuePairs<TensorName, Int> {
    [
      .keyCache: key.byteCount, .keyScales: key.scaleByteCount,
      .valueCache: value?.byteCount ?? 0, .valueScales: value?.scaleByteCount ?? 0,
      // `init` has checked that these are at most 2^30.
      .pageIndptr: pageTable.map { ($0.sequences + 1) * 4 } ?? 0,
      .pageIndices: pageTable.map { $0.entries * 4 } ?? 0,
    ]
  }
}

/// Rotary embedding.
func rotary(_ pointer: UnsafePointer<vkattn_rotary>?) throws(Failure) -> RotaryEncoding {
  let given = try read(pointer, "rotary")
  try checkFlags(given.flags, "rotary", known: 1)
  let hasFactor = has(given.flags, VKATTN_ROTARY_ATTENTION_FACTOR)
  let pairing: RotaryEncoding.Pairing
  switch Int(given.pairing) {
  case VKATTN_ROTARY_HALVES: pairing = .halves
  case VKATTN_ROTARY_INTERLEAVED: pairing = .interleaved
  default:
    throw Failure(
      "rotary.pairing", given.pairing, allowed: "VKATTN_ROTARY_HALVES, VKATTN_ROTARY_INTERLEAVED")
  }
  let most = Int64(AttentionRequest.headSizes.upperBound)
  guard (2...most).contains(given.channels), given.channels % 2 == 0 else {
    throw Failure("rotary.channels", given.channels, allowed: "even numbers from 2 to \(most)")
  }
  if let frequencies = given.frequencies {
    let numbers = Array(UnsafeBufferPointer(start: frequencies, count: Int(given.channels) / 2))
    guard given.theta == 0, Int(given.scaling) == VKATTN_ROTARY_PLAIN else {
      throw Failure(
        "rotary.theta, scaling", "\(given.theta), \(given.scaling)", allowed: "0 with frequencies")
    }
    return try inAttention { () throws(AttentionError) in
      try RotaryEncoding(
        frequencies: numbers, pairing: pairing,
        attentionFactor: hasFactor ? given.attention_factor : 1)
    }
  }
  let scaling: RotaryEncoding.Scaling
  switch Int(given.scaling) {
  case VKATTN_ROTARY_PLAIN: scaling = .none
  case VKATTN_ROTARY_LINEAR: scaling = .linear(factor: given.factor)
  case VKATTN_ROTARY_YARN:
    var yarn = RotaryEncoding.Yarn(
      factor: given.factor, originalContext: Int(given.original_context))
    if given.fast_rotations != 0 { yarn.fastRotations = given.fast_rotations }
    if given.slow_rotations != 0 { yarn.slowRotations = given.slow_rotations }
    switch Int(given.ramp) {
    case VKATTN_YARN_PAIRS: yarn.ramp = .pairs
    case VKATTN_YARN_ROTATIONS: yarn.ramp = .rotations
    default:
      throw Failure("rotary.ramp", given.ramp, allowed: "VKATTN_YARN_PAIRS, VKATTN_YARN_ROTATIONS")
    }
    if hasFactor { yarn.ownAttentionFactor = given.attention_factor }
    scaling = .yarn(yarn)
  default:
    throw Failure(
      "rotary.scaling", given.scaling, allowed: "VKATTN_ROTARY_PLAIN to VKATTN_ROTARY_YARN")
  }
  guard !hasFactor || Int(given.scaling) == VKATTN_ROTARY_YARN else {
    throw Failure(
      "rotary.flags", given.flags,
      allowed: "VKATTN_ROTARY_ATTENTION_FACTOR only with YaRN or frequencies of one's own")
  }
  return try inAttention { () throws(AttentionError) in
    try RotaryEncoding(
      rotaryChannels: Int(given.channels), pairing: pairing,
      theta: given.theta == 0 ? 10_000 : given.theta, scaling: scaling)
  }
}

// MARK: - Families

extension RotaryKernel: RecordedKernel {
  typealias Plan = RotaryPlan
}
extension CacheAppendKernel: RecordedKernel {
  typealias Plan = CacheAppendPlan
}
extension CacheCompactKernel: RecordedKernel {
  typealias Plan = CacheCompactPlan
}

/// The kernel that copies pages, its tensors in one.
private struct CopyPagesKernel: RecordedKernel {
  typealias Plan = CacheCopyPagesPlan

  struct Buffers: Sendable {
    let copies: DeviceBuffer
    let cache: CacheBuffers
  }

  private let kernel: CacheCopyPagesKernel

  init(_ plan: CacheCopyPagesPlan, on device: ComputeDevice) throws(AttentionError) {
    kernel = try CacheCopyPagesKernel(plan, on: device)
  }

  func record(_ buffers: Buffers, into recorder: Recorder) throws(AttentionError) {
    try kernel.record(copies: buffers.copies, cache: buffers.cache, into: recorder)
  }
}

// MARK: - Functions

/// `vkattn_rotary_frequency_table` of vkattn.h.
@_cdecl("vkattn_rotary_frequency_table")
public func rotaryFrequencyTable(
  _ encoding: UnsafePointer<vkattn_rotary>?, _ table: UnsafeMutablePointer<UInt64>?,
  _ tableCount: Int
) -> vkattn_status {
  call { () throws(Failure) in
    let numbers = try rotary(encoding).frequencyTable
    guard tableCount == numbers.count else {
      throw Failure("table_count", UInt(bitPattern: tableCount), allowed: "\(numbers.count)")
    }
    try required(table, "table").update(from: numbers, count: numbers.count)
  }
}

/// `vkattn_rotate_plan_create` of vkattn.h.
@_cdecl("vkattn_rotate_plan_create")
public func rotatePlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_rotate_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let given = try read(request, "request")
    let rotary = try rotary(given.rotary)
    let elementType = try elementType(given.element_type, "request.element_type") ?? .f32
    let outputType = try VKAttnC.elementType(given.output_type, "request.output_type")
    let plan = try inAttention { () throws(AttentionError) in
      try RotaryPlan(
        RotaryRequest(
          tokens: Int(given.tokens), heads: Int(given.heads), channels: Int(given.channels),
          rotary: rotary, elementType: elementType, outputType: outputType,
          strides: strides(given.strides), outputStrides: strides(given.output_strides)),
        device: capabilities)
    }
    let request = plan.request
    return Family(
      RotaryKernel.self, "rotate", plan,
      [
        .input: request.inputByteCount, .output: request.outputByteCount,
        .positions: request.tokens * 4, .frequencies: request.rotary.tableByteCount,
      ]
    ) { (tensors) throws(Failure) in
      RotaryBuffers(
        input: try tensors.need(.input), output: try tensors.need(.output),
        positions: try tensors.need(.positions), frequencies: try tensors.need(.frequencies))
    }
  }
}

/// `vkattn_append_plan_create` of vkattn.h.
@_cdecl("vkattn_append_plan_create")
public func appendPlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_append_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let given = try read(request, "request")
    let storage = try cache(given.cache)
    let rotary = given.rotary == nil ? nil : try rotary(given.rotary)
    let keyType = try elementType(given.key_type, "request.key_type") ?? .f32
    let valueType = try elementType(given.value_type, "request.value_type")
    let plan = try inAttention { () throws(AttentionError) in
      try CacheAppendPlan(
        CacheAppendRequest(
          tokens: Int(given.tokens), storage: storage, keyType: keyType, valueType: valueType,
          keyStrides: strides(given.key_strides), valueStrides: strides(given.value_strides),
          rotary: rotary), device: capabilities)
    }
    let request = plan.request
    let numbers = request.tokens * 4
    return Family(
      CacheAppendKernel.self, "append", plan,
      [
        .key: request.keyByteCount, .value: storage.value == nil ? 0 : request.valueByteCount,
        .sequences: numbers, .positions: numbers,
        .frequencies: request.rotary?.tableByteCount ?? 0,
        .rotaryPositions: request.rotary == nil ? 0 : numbers,
        .lengths: storage.key.arrangement.kind == .ring ? storage.sequences * 4 : 0,
      ], optional: [.rotaryPositions], cache: storage
    ) { (tensors) throws(Failure) in
      CacheAppendBuffers(
        key: try tensors.need(.key), value: tensors.take(.value),
        sequences: try tensors.need(.sequences), positions: try tensors.need(.positions),
        frequencies: tensors.take(.frequencies), rotaryPositions: tensors.take(.rotaryPositions),
        lengths: tensors.take(.lengths), cache: try tensors.takeCache())
    }
  }
}

/// `vkattn_compact_plan_create` of vkattn.h.
@_cdecl("vkattn_compact_plan_create")
public func compactPlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_compact_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let given = try read(request, "request")
    let storage = try cache(given.cache)
    let plan = try inAttention { () throws(AttentionError) in
      try CacheCompactPlan(
        CacheCompactRequest(
          storage: storage, nodes: Int(given.nodes), pathTokens: nilIfZero(given.path_tokens)),
        device: capabilities)
    }
    let request = plan.request
    return Family(
      CacheCompactKernel.self, "compact", plan,
      [
        .committed: request.sequences * 4, .pathLengths: request.sequences * 4,
        // Both are at most 2^30.
        .paths: request.sequences * request.pathTokens * 4,
      ], cache: storage
    ) { (tensors) throws(Failure) in
      CacheCompactBuffers(
        committed: try tensors.need(.committed), paths: try tensors.need(.paths),
        pathLengths: try tensors.need(.pathLengths), cache: try tensors.takeCache())
    }
  }
}

/// `vkattn_copy_pages_plan_create` of vkattn.h.
@_cdecl("vkattn_copy_pages_plan_create")
public func copyPagesPlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_copy_pages_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let given = try read(request, "request")
    let storage = try cache(given.cache)
    let plan = try inAttention { () throws(AttentionError) in
      try CacheCopyPagesPlan(
        CacheCopyPagesRequest(storage: storage, copies: Int(given.copies)), device: capabilities)
    }
    return Family(
      CopyPagesKernel.self, "copy pages", plan, [.copies: plan.request.copies * 8], cache: storage
    ) { (tensors) throws(Failure) in
      CopyPagesKernel.Buffers(
        copies: try tensors.need(.copies), cache: try tensors.takeCache())
    }
  }
}
