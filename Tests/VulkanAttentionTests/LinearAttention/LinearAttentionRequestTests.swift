import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttention

/// What requests refuse, and how plans cut; without a device.
@Suite struct LinearAttentionRequestTests {
  private struct Refusal: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let make: @Sendable () throws -> LinearAttentionRequest

    init(_ name: String, _ make: @escaping @Sendable () throws -> LinearAttentionRequest) {
      testDescription = name
      self.make = make
    }
  }

  private static func request(
    tokens: Int = 8, keyHeads: Int? = nil, keyHeadSize: Int = 16, updates: Int = 1,
    scale: Float? = nil, erases: Bool = false, before: Bool = false, isCausal: Bool = true,
    softplus: Bool = false, normalizer: LinearAttentionNormalizer = .none, packed: Int? = nil,
    longest: Int? = nil, states: Int? = nil, operands: Set<LinearAttentionOperand> = [],
    output: TensorStrides? = nil, strides: [LinearAttentionOperand: TensorStrides] = [:]
  ) throws(AttentionError) -> LinearAttentionRequest {
    try LinearAttentionRequest(
      tokens: tokens, keyHeads: keyHeads, valueHeads: 4, keyHeadSize: keyHeadSize,
      updatesPerToken: updates, scale: scale, erases: erases, readsBeforeUpdate: before,
      isCausal: isCausal, appliesSoftplus: softplus, normalizer: normalizer,
      packedSequences: packed, longestSequence: longest, stateCount: states, operands: operands,
      outputStrides: output, operandStrides: strides)
  }

  private static let refusals: [Refusal] = [
    Refusal("tokens") { try request(tokens: 0) },
    Refusal("keyHeads") { try request(keyHeads: 3) },
    Refusal("keyHeadSize") { try request(keyHeadSize: 513) },
    Refusal("updatesPerToken") { try request(updates: 9) },
    Refusal("scale") { try request(scale: .infinity) },
    Refusal("packedSequences") { try request(packed: 0) },
    Refusal("longestSequence") { try request(packed: 2, longest: 9) },
    Refusal("longestSequence") { try request(longest: 3) },
    Refusal("stateCount") { try request(states: 3) },
    Refusal("normalizer") { try request(normalizer: .sum(epsilon: .nan)) },
    Refusal("normalizer") { try request(erases: true, normalizer: .retention) },
    Refusal("operands.beta") { try request(normalizer: .retention, operands: [.beta]) },
    Refusal("operands.initialState") {
      try request(normalizer: .retention, operands: [.initialState])
    },
    Refusal("operands.finalSum") { try request(operands: [.finalSum]) },
    Refusal("operands.sequenceStarts") { try request(operands: [.sequenceStarts]) },
    Refusal("operands.eraseKeys") { try request(operands: [.eraseKeys]) },
    Refusal("operands.snapshots") {
      try request(isCausal: false, operands: [.snapshots])
    },
    Refusal("operands.parents") { try request(operands: [.parents]) },
    Refusal("operands.parents") {
      try request(operands: [.parents, .snapshots, .sequenceIDs])
    },
    Refusal("operands.lowRankA") { try request(operands: [.lowRankA]) },
    Refusal("operands.lowRankB") { try request(operands: [.lowRankB]) },
    Refusal("operands.lowRankA") {
      try request(erases: true, operands: [.lowRankA, .lowRankB])
    },
    Refusal("operands.timeStep") { try request(operands: [.timeStep]) },
    Refusal("operands.beta") { try request(operands: [.timeStep, .rate, .beta]) },
    Refusal("appliesSoftplus") { try request(softplus: true) },
    Refusal("operands.bonus") { try request(operands: [.bonus]) },
    Refusal("readsBeforeUpdate") { try request(erases: true, before: true) },
    Refusal("operands.stateSlots") { try request(operands: [.stateSlots]) },
    Refusal("isCausal") { try request(isCausal: false, operands: [.skip]) },
    Refusal("operandStrides.decay") {
      try request(strides: [.decay: TensorStrides(batch: 0, token: 4, head: 1)])
    },
    Refusal("outputStrides.token") {
      try request(output: TensorStrides(batch: 0, token: 8, head: 16))
    },
  ]

  @Test(arguments: refusals)
  private func refuses(_ refusal: Refusal) {
    let error = #expect(throws: AttentionError.self) { try refusal.make() }
    guard case .invalidArgument(let name, _, _)? = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
    #expect(name == refusal.testDescription)
  }

  /// Every token of every head of every sequence in one dispatch of the kernel that reads the state.
  @Test(arguments: [SampleDevice.software, .nvidia, .mobile, .smallest], [1, 7, 8, 9, 100, 5000])
  func everyTokenOnce(_ sample: SampleDevice, _ tokens: Int) throws {
    let device = try sample.capabilities()
    for form in LinearAttentionForm.allCases {
      for updates in [1, 3] {
        let request = try LinearAttentionRequest(
          batchSize: 3, tokens: tokens, valueHeads: 5, keyHeadSize: 64, updatesPerToken: updates,
          operands: [.decay, .initialState, .finalState])
        for operations in [1e6, 1e8, 2e10] {
          var bounds = LinearAttentionPlan.Bounds(device)
          bounds.operations = operations
          let plan = try LinearAttentionPlan(
            request, device: device, form: form, path: .row, bounds: bounds)
          expectEveryTokenOnce(plan)
        }
      }
    }
  }

  /// The state is streamed for one token, and held for more of them or of updates, or where V is not in fours.
  @Test(
    arguments: [SampleDevice.software, .nvidia, .smallest],
    [
      (tokens: 1, updates: 1, width: 64, streams: true), (1, 1, 12, true), (2, 1, 64, false),
      (1, 2, 64, false), (1, 1, 30, false),
    ])
  func oneTokenIsStreamed(
    _ sample: SampleDevice, _ shape: (tokens: Int, updates: Int, width: Int, streams: Bool)
  ) throws {
    let device = try sample.capabilities()
    let request = try LinearAttentionRequest(
      batchSize: 2, tokens: shape.tokens, valueHeads: 3, keyHeadSize: 64,
      valueHeadSize: shape.width, updatesPerToken: shape.updates,
      operands: [.decay, .initialState, .finalState])
    for path in [AttentionPath.row, .subgroup] {
      guard
        let plan = try? LinearAttentionPlan(
          request, device: device, form: .recurrent, path: path)
      else {
        #expect(path == .subgroup)
        continue
      }
      let names = Set(plan.stages.map(\.shaderName))
      #expect(names.contains("linear_step") == shape.streams, "\(sample) \(path) \(shape)")
      guard let step = plan.tile.step else { continue }
      #expect(shape.streams && step.workgroupSize % step.lanes == 0)
      #expect(step.workgroupSize <= device.maxWorkgroupInvocations)
      // Vectors of pairs: whole ones, of a processor, whose invocations share nothing.
      let isWhole = shape.width % step.columnsPerWorkgroup == 0
      #expect(step.isPaired == (sample == .software && step.lanes == 1 && isWhole))
      if sample == .software, path == .row { #expect(step.isPaired == (shape.width == 64)) }
    }
  }

  private func expectEveryTokenOnce(_ plan: LinearAttentionPlan) {
    let request = plan.request
    var next: [Int: Int] = [:]
    for dispatch in plan.pieces.joined()
    where dispatch.stage.shaderName != "linear_prepare"
      && dispatch.stage.shaderName != "linear_scan"
      && !dispatch.stage.options.contains(.noOutput)
    {
      let streams = dispatch.stage.shaderName == "linear_step"
      let columns =
        streams ? plan.tile.step?.columnsPerWorkgroup ?? 0 : plan.tile.columnsPerWorkgroup
      #expect(
        dispatch.groups.x * columns >= request.valueHeadSize
          && (dispatch.groups.x - 1) * columns < request.valueHeadSize
          && dispatch.groups.y == dispatch.heads.count
          && dispatch.groups.z == dispatch.sequences.count * dispatch.parts)
      // Blocks of one dispatch end with it, or with the sequence.
      #expect(
        plan.form == .recurrent || dispatch.tokens.upperBound == request.tokens
          || dispatch.tokens.count * request.updatesPerToken % plan.tile.blockRows == 0)
      #expect(
        plan.form == .recurrent
          || dispatch.parts * dispatch.blocksPerPart * plan.tile.blockRows
            >= dispatch.tokens.count * request.updatesPerToken
      )
      let isFirst = dispatch.tokens.lowerBound == 0
      let isLast = dispatch.tokens.upperBound == request.tokens
      #expect(dispatch.flags.contains(.loads) == isFirst)
      #expect(dispatch.flags.contains(.fromCarry) == !isFirst)
      #expect(dispatch.flags.contains(.stores) == isLast)
      #expect(dispatch.flags.contains(.toCarry) == !isLast)
      #expect(isLast && isFirst || plan.scratch.carry != nil)
      for sequence in dispatch.sequences {
        for head in dispatch.heads {
          let key = sequence * request.valueHeads + head
          #expect(next[key, default: 0] == dispatch.tokens.lowerBound)
          next[key] = dispatch.tokens.upperBound
        }
      }
    }
    #expect(next.count == 15 && next.values.allSatisfy { $0 == request.tokens })
  }

  @Test func lanesOfAProcessorShareWork() throws {
    func tile(
      _ size: Int, _ operands: Set<LinearAttentionOperand>, tokens: Int = 1000,
      type: ElementType = .f32, erases: Bool = false, on device: DeviceCapabilities
    ) throws -> LinearAttentionTile {
      try LinearAttentionPlan(
        LinearAttentionRequest(
          tokens: tokens, valueHeads: 2, keyHeadSize: size, elementType: type, erases: erases,
          operands: operands),
        device: device, form: .recurrent, path: .row
      ).tile
    }
    var software = try SampleDevice.software.capabilities()
    let few = try tile(64, [.keyDecay], on: software)
    #expect(few.sharingLanes == 8 && few.columns == 1)
    #expect(few.tokensPerPass == 2 && few.tokensAhead == 4)
    let fewErased = try tile(64, [.keyDecay], erases: true, on: software)
    #expect(fewErased.sharingLanes == 8 && fewErased.columns == 2)
    #expect(fewErased.tokensPerPass == 1 && fewErased.tokensAhead == 0)
    #expect(try tile(8, [.keyDecay], erases: true, on: software).columns == 1)
    (software.subgroupSize, software.minSubgroupSize, software.maxSubgroupSize) = (16, 16, 16)
    let many = try tile(64, [.keyDecay], on: software)
    #expect(many.sharingLanes == 16 && many.columns == 2)
    #expect(many.tokensPerPass == 2 && many.tokensAhead == 4)
    #expect(try tile(128, [.keyDecay], on: software).columns == 2)
    #expect(!many.widensKeys)
    let manyHalves = try tile(128, [.keyDecay], type: .f16, on: software)
    #expect(manyHalves.columns == 2 && manyHalves.tokensPerPass == 2 && manyHalves.widensKeys)
    // Converted where it is used, that is more code than a processor's cache of instructions would hold.
    let oddHalves = try tile(132, [.keyDecay], type: .f16, on: software)
    #expect(oddHalves.columns == 1 && oddHalves.tokensPerPass == 2 && !oddHalves.widensKeys)
    #expect(try tile(60, [.keyDecay], type: .f16, on: software).columns == 2)
    var plain = software
    plain.features.remove(.int16)
    let words = try tile(64, [.keyDecay], type: .f16, on: plain)
    #expect(words.tokensPerPass == 1 && !words.widensKeys)
    let manyErased = try tile(64, [.keyDecay], erases: true, on: software)
    #expect(manyErased.sharingLanes == 16 && manyErased.columns == 1)
    #expect(manyErased.tokensPerPass == 1 && manyErased.tokensAhead == 2)
    let scalars = try tile(128, [.headDecay, .decay], on: software)
    #expect(scalars.columns == 1 && scalars.tokensPerPass == 4 && scalars.tokensAhead == 6)
    #expect(try tile(256, [.headDecay], on: software).tokensPerPass == 2)
    #expect(try tile(64, [], tokens: 3, on: software).tokensPerPass == 3)
    // What goes on from another token, or leaves its state, takes tokens one by one.
    #expect(try tile(64, [.snapshots], on: software).tokensPerPass == 1)
    // A GPU's workgroup is more than one subgroup, and its registers hold the state.
    let gpu = try tile(64, [.keyDecay], on: SampleDevice.nvidia.capabilities())
    #expect(gpu.sharingLanes == 1 && gpu.columns == 1 && gpu.tokensAhead == 0)
    #expect(gpu.tokensPerPass == 1)
  }

  @Test func choosesByLength() throws {
    let software = try SampleDevice.software.capabilities()
    let gpu = try SampleDevice.nvidia.capabilities()
    func form(
      _ tokens: Int, _ size: Int, _ operands: Set<LinearAttentionOperand> = [],
      on device: DeviceCapabilities
    ) throws -> LinearAttentionForm {
      try LinearAttentionPlan(
        LinearAttentionRequest(
          tokens: tokens, valueHeads: 2, keyHeadSize: size, operands: operands), device: device
      ).form
    }
    #expect(try form(1, 64, on: gpu) == .recurrent && form(1000, 64, on: gpu) == .chunk)
    // A processor walks tokens, whatever their gates are.
    #expect(try form(1000, 128, on: software) == .recurrent)
    #expect(try form(1000, 128, [.keyDecay], on: software) == .recurrent)
    #expect(try form(1, 128, [.keyDecay], on: software) == .recurrent)
    let request = try LinearAttentionRequest(tokens: 1, valueHeads: 2, keyHeadSize: 64)
    #expect(try LinearAttentionPlan(request, device: gpu).path == .subgroup)
    #expect(throws: AttentionError.self) {
      try LinearAttentionPlan(request, device: gpu, path: .matrix)
    }
    #expect(throws: AttentionError.self) {
      try LinearAttentionPlan(
        LinearAttentionRequest(
          tokens: 9, valueHeads: 1, keyHeadSize: 8, readsBeforeUpdate: true,
          operands: [.lowRankA, .lowRankB]),
        device: gpu, form: .chunk)
    }
  }

  @Test("The struct is the shaders' block of push constants, field for field")
  func pushConstants() throws {
    typealias Constants = LinearAttentionPushConstants
    let fields: [(name: String, offset: Int?, type: String)] = [
      ("block", MemoryLayout<Constants>.offset(of: \.block), "uint64_t"),
      ("firstTile", MemoryLayout<Constants>.offset(of: \.firstTile), "uint"),
      ("firstHead", MemoryLayout<Constants>.offset(of: \.firstHead), "uint"),
      ("firstSequence", MemoryLayout<Constants>.offset(of: \.firstSequence), "uint"),
      ("firstToken", MemoryLayout<Constants>.offset(of: \.firstToken), "uint"),
      ("tokenCount", MemoryLayout<Constants>.offset(of: \.tokenCount), "uint"),
      ("flags", MemoryLayout<Constants>.offset(of: \.flags), "uint"),
      ("parts", MemoryLayout<Constants>.offset(of: \.parts), "uint"),
      ("blocksPerPart", MemoryLayout<Constants>.offset(of: \.blocksPerPart), "uint"),
    ]
    let shaders = ShaderBinary.all.filter { $0.name.hasPrefix("linear_") && $0.isCompiled }
    #expect(shaders.count == 18)
    for shader in shaders {
      #expect(shader.pushConstants.map(\.name) == fields.map(\.name))
      for (member, field) in zip(shader.pushConstants, fields) {
        #expect(member.byteOffset == field.offset && member.type == field.type)
      }
      #expect(shader.pushConstantByteCount == MemoryLayout<Constants>.size)
    }
  }

  @Test func blockOfTensors() throws {
    let request = try LinearAttentionRequest(tokens: 8, valueHeads: 2, keyHeadSize: 16)
    #expect(LinearAttentionBlock(request).bytes.count == LinearAttentionBlock.byteCount)
    #expect(LinearAttentionBlock.Slot.allCases.count == 31)
  }
}
