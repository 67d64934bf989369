import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttention

/// One linear attention with its inputs on the host, contiguous; in f32, or in f16 as `rounded()` makes them.
struct LinearProblem: Sendable {
  var request: LinearAttentionRequest
  var q: [Float]
  var k: [Float]
  var v: [Float]
  var numbers: [LinearAttentionOperand: [Float]] = [:]
  var integers: [LinearAttentionOperand: [Int32]] = [:]

  /// Random inputs: unit keys, log decays from −1 to 0, strengths from 0 to 1.
  init(_ request: LinearAttentionRequest, seed: UInt64 = 1) {
    var random = SplitMix64(seed: seed)
    func uniform(_ count: Int) -> [Float] {
      (0..<count).map { _ in Float(random.next() >> 40) * 0x1p-24 }
    }
    func unit(_ values: [Float]) -> [Float] {
      FeatureMap.l2Norm(epsilon: 1e-6).mapped(
        values.map(Double.init), heads: 1, channels: request.keyHeadSize
      ).map { Float($0) }
    }
    self.request = request
    func count(_ tensor: LinearAttentionRequest.Tensor) -> Int {
      request.byteCount(of: tensor) / request.type(of: tensor).byteCount
    }
    q = random.normal(count(.query))
    k = unit(random.normal(count(.key)))
    v = random.normal(count(.value))
    for operand in LinearAttentionOperand.allCases where request.operands.contains(operand) {
      let count = request.byteCount(of: operand) / (request.type(of: operand)?.byteCount ?? 4)
      switch operand {
      case .headDecay, .decay, .keyDecay, .valueDecay, .rate:
        numbers[operand] = uniform(count).map { -$0 }
      case .beta, .eraseGates, .writeGates: numbers[operand] = uniform(count)
      case .eraseKeys, .lowRankA: numbers[operand] = unit(random.normal(count))
      case .lowRankB: numbers[operand] = (numbers[.lowRankA] ?? []).map { -0.5 * $0 }
      case .initialSum: numbers[operand] = random.normal(count).map { $0.magnitude + 1 }
      case .finalState, .finalSum, .snapshots: continue
      case .sequenceStarts, .sequenceIDs, .stateSlots, .parents: continue
      default: numbers[operand] = random.normal(count)
      }
    }
  }

  /// The same with what its types hold of q, k, v, z and the operands that are keys or gates.
  func rounded() -> LinearProblem {
    var problem = self
    func round(_ values: [Float], _ type: ElementType) -> [Float] {
      values.map { Float(type.storage.rounded(Double($0))) }
    }
    problem.q = round(q, request.elementType)
    problem.k = round(k, request.elementType)
    problem.v = round(v, request.valueType)
    problem.numbers[.outputGate] = numbers[.outputGate].map { round($0, request.valueType) }
    for operand in [LinearAttentionOperand.eraseKeys, .lowRankA, .lowRankB] {
      problem.numbers[operand] = numbers[operand].map { round($0, request.elementType) }
    }
    let gates: [LinearAttentionOperand] = [
      .decay, .keyDecay, .valueDecay, .beta, .eraseGates, .writeGates, .timeStep,
    ]
    for operand in gates {
      problem.numbers[operand] = numbers[operand].map { round($0, request.gateType) }
    }
    return problem
  }

  /// The reference's answer; time steps are not for it.
  func reference() -> LinearAttentionOutput {
    var options = LinearAttentionOptions()
    func values(_ operand: LinearAttentionOperand) -> [Double]? {
      numbers[operand]?.map(Double.init)
    }
    options.scale = Double(request.scale)
    options.headDecay = values(.headDecay)
    options.decay = values(.decay)
    options.keyDecay = values(.keyDecay)
    options.valueDecay = values(.valueDecay)
    options.erases = request.erases
    options.beta = values(.beta)
    options.eraseKeys = values(.eraseKeys)
    options.eraseGates = values(.eraseGates)
    options.writeGates = values(.writeGates)
    if let a = values(.lowRankA), let b = values(.lowRankB) { options.lowRank = .init(a: a, b: b) }
    options.readsBeforeUpdate = request.readsBeforeUpdate
    options.bonus = values(.bonus)
    options.causal = request.isCausal
    if case .sum(let epsilon) = request.normalizer {
      options.normalizer = .sum(epsilon: Double(epsilon))
    } else if request.normalizer == .retention {
      options.normalizer = .retention
    }
    options.initialState = values(.initialState)
    options.initialSum = values(.initialSum)
    options.starts = integers[.sequenceStarts]?.map { Int($0) }
    options.parents = integers[.parents]?.map { Int($0) }
    options.keepsSnapshots = request.operands.contains(.snapshots)
    options.sequenceIDs = integers[.sequenceIDs]?.map { Int($0) }
    return linearAttention(
      q: q.map(Double.init), k: k.map(Double.init), v: v.map(Double.init),
      dimensions: LinearAttentionDimensions(
        batch: request.batchSize, tokens: request.tokens, keyHeads: request.keyHeads,
        valueHeads: request.valueHeads, keyChannels: request.keyHeadSize,
        valueChannels: request.valueHeadSize, updatesPerToken: request.updatesPerToken),
      options: options)
  }

  /// Runs a plan with poison around every tensor and in every output.
  func run(
    _ plan: LinearAttentionPlan, on device: ComputeDevice, inPlace: Bool = false,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> LinearResult {
    var guarded: [GuardedBuffer] = []
    func input<Element: BitwiseCopyable & Sendable>(
      _ values: [Element], _ label: String
    ) async throws -> DeviceBuffer {
      let buffer = try await GuardedBuffer(values, label: label, on: device)
      guarded.append(buffer)
      return buffer.buffer
    }
    func input(
      _ values: [Float], _ label: String, _ type: ElementType
    ) async throws -> DeviceBuffer {
      switch type {
      case .f32: return try await input(values, label)
      case .f16: return try await input(values.map { Float16($0) }, label)
      case .bf16: return try await input(values.map { BFloat16($0) }, label)
      }
    }
    func output(_ byteCount: Int, _ label: String) async throws -> DeviceBuffer {
      let buffer = try await GuardedBuffer(byteCount: byteCount, label: label, on: device)
      guarded.append(buffer)
      return buffer.buffer
    }
    var operands: [LinearAttentionOperand: DeviceBuffer] = [:]
    for operand in request.operands where !operand.isWritten {
      if let values = integers[operand] {
        operands[operand] = try await input(values, operand.rawValue)
      } else {
        operands[operand] = try await input(
          numbers[operand] ?? [], operand.rawValue, request.type(of: operand) ?? .f32)
      }
    }
    for operand in request.operands where operand.isWritten {
      if inPlace, let partner = operand.partner, let buffer = operands[partner] {
        operands[operand] = buffer
      } else {
        operands[operand] = try await output(request.byteCount(of: operand), operand.rawValue)
      }
    }
    let buffers = LinearAttentionBuffers(
      query: try await input(q, "query", request.elementType),
      key: try await input(k, "key", request.elementType),
      value: try await input(v, "value", request.valueType),
      output: try await output(request.byteCount(of: .output), "output"), operands: operands,
      scratch: try await output(plan.scratchByteCount, "scratch"))
    try await LinearAttentionKernel(plan, on: device).run(buffers)
    for buffer in guarded { try await buffer.expectGuardsIntact(sourceLocation: sourceLocation) }
    func download(_ operand: LinearAttentionOperand) async throws -> [Float] {
      guard let buffer = operands[operand] else { return [] }
      return try await device.download(Float.self, from: buffer)
    }
    let o: [Float]
    switch request.outputType {
    case .f32: o = try await device.download(Float.self, from: buffers.output)
    case .f16: o = try await device.download(Float16.self, from: buffers.output).map { Float($0) }
    case .bf16: o = try await device.download(BFloat16.self, from: buffers.output).map { Float($0) }
    }
    return LinearResult(
      o: o,
      state: try await download(.finalState), sum: try await download(.finalSum),
      snapshots: try await download(.snapshots))
  }
}

/// What a kernel left.
struct LinearResult: Sendable {
  let o: [Float]
  let state: [Float]
  let sum: [Float]
  let snapshots: [Float]
}

/// A form on a path.
enum LinearWay: String, Sendable, CaseIterable {
  case recurrentRow, recurrentSubgroup, chunkRow, chunkSubgroup

  static let chunks = [chunkRow, chunkSubgroup]

  var form: LinearAttentionForm { Self.chunks.contains(self) ? .chunk : .recurrent }
  var path: AttentionPath { self == .recurrentRow || self == .chunkRow ? .row : .subgroup }

  func plan(
    _ request: LinearAttentionRequest, on device: DeviceCapabilities,
    bounds: ((inout LinearAttentionPlan.Bounds) -> Void)? = nil
  ) throws -> LinearAttentionPlan {
    var own = LinearAttentionPlan.Bounds(device)
    bounds?(&own)
    return try LinearAttentionPlan(
      request, device: device, form: form, path: path, bounds: own)
  }
}
