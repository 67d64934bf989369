import TestSupport
import Testing

@testable import VulkanAttention

/// Keys and values packed into blocks: sizes and grids, without a device.
@Suite struct AttentionPackingTests {
  @Test("Sizes hold every token, the last block padded")
  func sizes() throws {
    let request = try AttentionRequest(
      batchSize: 2, queryTokens: 70, keyTokens: 33, queryHeads: 6, keyHeads: 3, headSize: 40,
      valueHeadSize: 72, elementType: .f16)
    let packing = try #require(AttentionPacking(request, keysPerBlock: 8))
    // 33 tokens take 5 blocks of 8; f32, whatever the tensors are.
    #expect(packing.keyByteCount == 2 * 3 * 40 * 40 * 4)
    #expect(packing.valueByteCount == 2 * 3 * 40 * 72 * 4)
    #expect(packing.byteCount == packing.keyByteCount + packing.valueByteCount)
    #expect(packing.keyStrides(request) == TensorStrides(batch: 4800, token: 40, head: 1600))
    #expect(packing.valueStrides(request) == TensorStrides(batch: 8640, token: 72, head: 2880))
  }

  @Test("Without keys there is nothing to pack")
  func noKeys() throws {
    let request = try AttentionRequest(
      queryTokens: 512, keyTokens: 0, queryHeads: 2, headSize: 64)
    #expect(AttentionPacking(request, keysPerBlock: 8) == nil)
    let plan = try AttentionPlan(
      request, device: SampleDevice.software.capabilities(), path: .row)
    #expect(plan.packing == nil && plan.scratchByteCount == 0)
  }

  @Test("What the shaders cannot count is not packed")
  func tooLarge() throws {
    let request = try AttentionRequest(
      queryTokens: 512, keyTokens: 1 << 24, queryHeads: 16, headSize: 128)
    #expect(AttentionPacking(request, keysPerBlock: 8) == nil)
    // The kernel then reads the tensors as they lie.
    let plan = try AttentionPlan(
      request, device: SampleDevice.software.capabilities(), path: .row)
    #expect(plan.scratchByteCount == 0)
    #expect(try plan.pipelineDescription().constants["PACKED"] ?? 0 == 0)
  }

  @Test("A copy that no allocation holds is not made, and the tile is the one for unpacked keys")
  func beyondTheDevice() throws {
    // 1 GiB of keys and of values, of which f32 copies would take 2 GiB each.
    let request = try AttentionRequest(
      batchSize: 8, queryTokens: 128, keyTokens: 65_536, queryHeads: 16, headSize: 64,
      elementType: .f16)
    var device = try SampleDevice.software.capabilities()
    device.maxAllocationBytes = 2 << 30
    let plan = try AttentionPlan(request, device: device, path: .row)
    #expect(plan.scratchByteCount == 0 && plan.tile.packedKeysPerBlock == nil)
    #expect(plan.tile.constants["KEYS_PER_BLOCK"] == 4)
    device.maxAllocationBytes = 16 << 30
    #expect(try AttentionPlan(request, device: device, path: .row).scratchByteCount == 4 << 30)
  }

  @Test("Keys that all batch entries share are packed once")
  func sharedKeys() throws {
    let strides = TensorStrides(batch: 0, token: 64, head: 64)
    let request = try AttentionRequest(
      batchSize: 3, queryTokens: 256, keyTokens: 16, queryHeads: 2, keyHeads: 1, headSize: 64,
      keyStrides: strides)
    let packing = try #require(AttentionPacking(request, keysPerBlock: 8))
    #expect(packing.keyBatches == 1 && packing.valueBatches == 3)
    #expect(packing.keyByteCount == 16 * 64 * 4 && packing.valueByteCount == 3 * 16 * 64 * 4)
    #expect(packing.keyStrides(request).batch == 0)
  }

  @Test("The grids cover every group once", arguments: [1, 3, 7, 65_535])
  func grids(groupLimit: Int) throws {
    let request = try AttentionRequest(
      queryTokens: 70, keyTokens: 33, queryHeads: 6, keyHeads: 3, headSize: 40,
      valueHeadSize: 72)
    let packing = try #require(AttentionPacking(request, keysPerBlock: 8))
    for channels in [40, 72] {
      let dispatches = packing.dispatches(channels: channels, request, groupLimit: groupLimit)
      var next = 0
      for (firstGroup, groupCount) in dispatches {
        #expect(firstGroup == next)
        #expect((1...groupLimit).contains(groupCount))
        next += groupCount
      }
      let items = 40 * 3 * channels / 8
      #expect(next * AttentionPacking.workgroupSize >= items)
      #expect((next - 1) * AttentionPacking.workgroupSize < items)
    }
  }
}
