import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttention

/// Merges as they are stated and planned, without a device.
@Suite struct StateMergePlanTests {
  private func refusal(_ body: () throws -> StateMergeRequest) -> AttentionError? {
    #expect(throws: AttentionError.self) { try body() }
  }

  @Test("Numbers that no device could run are refused by their names")
  func refusedNumbers() {
    let cases: [(String, String, String, () throws -> StateMergeRequest)] = [
      (
        "rowCount", "0", "1 to 2147483647",
        {
          try StateMergeRequest(rowCount: 0, partials: .perRow(1), valueHeadSize: 8)
        }
      ),
      (
        "rowCount", "2147483648", "1 to 2147483647",
        {
          try StateMergeRequest(rowCount: 1 << 31, partials: .perRow(1), valueHeadSize: 8)
        }
      ),
      (
        "headCount", "-1", "1 to 2147483647",
        {
          try StateMergeRequest(rowCount: 1, headCount: -1, partials: .perRow(1), valueHeadSize: 8)
        }
      ),
      (
        "partials", "0", "1 to 2147483647",
        {
          try StateMergeRequest(rowCount: 1, partials: .perRow(0), valueHeadSize: 8)
        }
      ),
      (
        "partials", "-1", "0 to 2147483647",
        {
          try StateMergeRequest(rowCount: 1, partials: .total(-1), valueHeadSize: 8)
        }
      ),
      (
        "valueHeadSize", "0", "1 to 576",
        {
          try StateMergeRequest(rowCount: 1, partials: .perRow(1), valueHeadSize: 0)
        }
      ),
      (
        "valueHeadSize", "577", "1 to 576",
        {
          try StateMergeRequest(rowCount: 1, partials: .perRow(1), valueHeadSize: 577)
        }
      ),
      (
        "outputStrides.row", "-8", "0 elements or more",
        {
          try StateMergeRequest(
            rowCount: 1, partials: .perRow(1), valueHeadSize: 8,
            outputStrides: StateStrides(partial: 8, row: -8, head: 8))
        }
      ),
      (
        "logSumExpStrides.partial", "-1", "0 elements or more",
        {
          try StateMergeRequest(
            rowCount: 1, partials: .perRow(1), valueHeadSize: 8,
            logSumExpStrides: StateStrides(partial: -1, row: 1, head: 1))
        }
      ),
      (
        "outputStrides.row", "8", "0 with a total of partials, which rows find by their starts",
        {
          try StateMergeRequest(
            rowCount: 1, partials: .total(4), valueHeadSize: 8,
            outputStrides: StateStrides(partial: 8, row: 8, head: 8))
        }
      ),
    ]
    for (name, value, allowed, body) in cases {
      #expect(refusal(body) == .invalidArgument(name: name, value: value, allowed: allowed))
    }
  }

  @Test("Sizes that cannot be addressed are refused")
  func tooLarge() {
    let most = Int(Int32.max)
    #expect(
      refusal {
        try StateMergeRequest(
          rowCount: most, headCount: most, partials: .perRow(1), valueHeadSize: 576)
      } == .tooLarge(tensor: "output"))
    #expect(
      refusal {
        try StateMergeRequest(rowCount: most, partials: .perRow(1), valueHeadSize: 9)
      } == .tooLarge(tensor: "output"))
    #expect(
      refusal {
        try StateMergeRequest(rowCount: most, partials: .perRow(most), valueHeadSize: 8)
      } == .tooLarge(tensor: "partialOutputs"))
    // 2^51 elements, more than any address space holds.
    #expect(
      refusal {
        try StateMergeRequest(rowCount: 1 << 28, partials: .perRow(1 << 20), valueHeadSize: 8)
      } == .tooLarge(tensor: "partialOutputs"))
    #expect(
      refusal {
        try StateMergeRequest(
          rowCount: 2, partials: .perRow(2), valueHeadSize: 8,
          logSumExpStrides: StateStrides(partial: .max, row: .max, head: 1))
      } == .tooLarge(tensor: "partialLogSumExps"))
  }

  @Test func defaultsAndSizes() throws {
    let request = try StateMergeRequest(
      rowCount: 6, headCount: 4, partials: .perRow(3), valueHeadSize: 40, elementType: .f16,
      mergedElementType: .f32)
    #expect(request.outputStrides == StateStrides(partial: 960, row: 160, head: 40))
    #expect(request.logSumExpStrides == StateStrides(partial: 24, row: 4, head: 1))
    #expect(request.partialOutputByteCount == 3 * 960 * 2)
    #expect(request.partialLogSumExpByteCount == 3 * 24 * 4)
    #expect(request.outputByteCount == 960 * 4 && request.logSumExpByteCount == 96)
    #expect(request.partialStartByteCount == 0)
    // Three partials of 1920 bytes in f16 and 96 of log-sum-exps, 3840 bytes in f32 and 96.
    #expect(request.compulsoryBytes == 9984)

    let listed = try StateMergeRequest(
      rowCount: 6, headCount: 4, partials: .total(11), valueHeadSize: 40)
    #expect(listed.outputStrides == StateStrides(partial: 160, row: 0, head: 40))
    #expect(listed.partialOutputByteCount == 11 * 160 * 4)
    #expect(listed.partialStartByteCount == 28)
    #expect(listed.mergedElementType == .f32)
    #expect(
      StateStrides.rowMajor(partials: 3, heads: 4, channels: 40)
        == StateStrides(partial: 160, row: 480, head: 40))
  }

  @Test("Rows are moved in the widest pieces that all of them are multiples of")
  func accesses() throws {
    func width(_ channels: Int, _ strides: StateStrides? = nil, rows: Int = 2) throws -> Int {
      try StateMergeRequest(
        rowCount: rows, headCount: 2, partials: .perRow(2), valueHeadSize: channels,
        elementType: .f16, outputStrides: strides
      ).channelsPerAccess
    }
    #expect(try [576, 100, 59, 1].map { try width($0) } == [8, 4, 1, 1])
    #expect(try width(64, StateStrides(partial: 512, row: 132, head: 64)) == 4)
    #expect(try width(64, StateStrides(partial: 513, row: 128, head: 64)) == 1)
    // The stride of an axis of one is not used.
    #expect(try width(64, StateStrides(partial: 512, row: 3, head: 64), rows: 1) == 8)
    let request = try StateMergeRequest(
      rowCount: 1, partials: .perRow(2), valueHeadSize: 59, elementType: .bf16)
    #expect(request.alignment(of: .bf16) == 2 && request.alignment(of: .f32) == 4)
  }

  @Test("A plan's grid covers every channel, on every device", arguments: SampleDevice.allCases)
  func grids(sample: SampleDevice) throws {
    let device = try sample.capabilities()
    let shader = try #require(ShaderBinary.named(StateMergePlan.shaderName))
    for (rows, heads, channels) in [(1, 1, 1), (7, 3, 59), (100_000, 32, 128), (1 << 26, 1, 128)] {
      for partials in [StateMergeRequest.Partials.perRow(2), .perRow(9), .total(5)] {
        let request = try StateMergeRequest(
          rowCount: rows, headCount: heads, partials: partials, valueHeadSize: channels)
        let plan = try StateMergePlan(request, device: device)
        let spans = (channels + plan.channelsPerInvocation - 1) / plan.channelsPerInvocation
        let invocations = rows * heads * spans
        let (x, y) = (plan.groups.x, plan.groups.y)
        #expect(x <= device.maxWorkgroupCount[0] && y <= device.maxWorkgroupCount[1])
        #expect(x * y * StateMergePlan.workgroupSize >= invocations)
        // Less than a row of workgroups is idle, and no invocation's number overflows.
        #expect((x * y - x) * StateMergePlan.workgroupSize < invocations)
        #expect(x * y * StateMergePlan.workgroupSize <= Int(UInt32.max))
        let names = Set(shader.specializationConstants.map(\.name))
        #expect(try names.isSuperset(of: plan.pipelineDescription().constants.keys))
      }
    }
  }

  @Test func gridLimit() throws {
    var device = try SampleDevice.nvidia.capabilities()
    device.maxWorkgroupCount = [4, 2, 1]
    let request = try StateMergeRequest(
      rowCount: 1000, partials: .perRow(2), valueHeadSize: 8)
    #expect(
      throws: AttentionError.device(
        .limitExceeded(what: "workgroups of attention_merge", requested: 16, allowed: 8))
    ) { try StateMergePlan(request, device: device) }
  }

  @Test("The struct of push constants is the shader's block, field for field")
  func pushConstants() throws {
    let shader = try #require(ShaderBinary.named(StateMergePlan.shaderName))
    typealias Constants = StateMergePushConstants
    let addresses: [(String, Int?)] = [
      ("outputs", MemoryLayout<Constants>.offset(of: \.outputs)),
      ("logSumExps", MemoryLayout<Constants>.offset(of: \.logSumExps)),
      ("starts", MemoryLayout<Constants>.offset(of: \.starts)),
      ("merged", MemoryLayout<Constants>.offset(of: \.merged)),
      ("mergedLogSumExp", MemoryLayout<Constants>.offset(of: \.mergedLogSumExp)),
      ("outputPartialStride", MemoryLayout<Constants>.offset(of: \.outputPartialStride)),
      ("outputRowStride", MemoryLayout<Constants>.offset(of: \.outputRowStride)),
      ("outputHeadStride", MemoryLayout<Constants>.offset(of: \.outputHeadStride)),
      ("logSumExpPartialStride", MemoryLayout<Constants>.offset(of: \.logSumExpPartialStride)),
      ("logSumExpRowStride", MemoryLayout<Constants>.offset(of: \.logSumExpRowStride)),
      ("logSumExpHeadStride", MemoryLayout<Constants>.offset(of: \.logSumExpHeadStride)),
    ]
    let counts: [(String, Int?)] = [
      ("rows", MemoryLayout<Constants>.offset(of: \.rows)),
      ("partials", MemoryLayout<Constants>.offset(of: \.partials)),
    ]
    let fields = addresses + counts
    #expect(shader.pushConstants.map(\.name) == fields.map { $0.0 })
    for (index, (member, field)) in zip(shader.pushConstants, fields).enumerated() {
      #expect(member.byteOffset == field.1, "\(member.name)")
      let type = index < addresses.count ? "uint64_t" : "uint"
      #expect(member.type == type, "\(member.name)")
    }
    #expect(shader.pushConstantByteCount == MemoryLayout<Constants>.size)
    #expect(shader.localSize == [.specialized(id: 0), .fixed(1), .fixed(1)])
  }
}
