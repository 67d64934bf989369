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
    #expect(packing.key.strides == TensorStrides(batch: 4800, token: 0, head: 1600))
    #expect(packing.value?.strides == TensorStrides(batch: 8640, token: 0, head: 2880))
  }

  @Test("Channels are padded to whole octets, packed sequences have blocks of their own")
  func paddingAndSequences() throws {
    let odd = try AttentionRequest(
      queryTokens: 70, keyTokens: 33, queryHeads: 1, headSize: 59, valueHeadSize: 6)
    let padded = try #require(AttentionPacking(odd, keysPerBlock: 8))
    #expect(padded.keyByteCount == 40 * 64 * 4 && padded.valueByteCount == 40 * 8 * 4)
    // Four sequences, 50 tokens in all: at most 6 whole blocks and one more for each.
    let packed = try AttentionRequest(
      batchSize: 4, queryTokens: 30, keyTokens: 30, queryHeads: 2, headSize: 16,
      packedSequences: PackedSequences(queryTokens: 50, keyTokens: 50))
    let sequences = try #require(AttentionPacking(packed, keysPerBlock: 8))
    #expect(sequences.keyByteCount == 2 * (6 + 4) * 8 * 16 * 4)
    #expect(sequences.key.strides.batch == 0)
  }

  @Test("Values that are keys are packed once")
  func valuesAreKeys() throws {
    let request = try AttentionRequest(
      queryTokens: 256, keyTokens: 33, queryHeads: 1, headSize: 576, valueHeadSize: 512,
      valuesAreKeys: true)
    let packing = try #require(AttentionPacking(request, keysPerBlock: 2))
    #expect(packing.value == nil && packing.byteCount == 34 * 576 * 4)
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
    #expect(plan.packing == nil)
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
    let packed = try AttentionPlan(request, device: device, path: .row)
    // The last block of each head is padded.
    let block = try #require(packed.tile.packedKeysPerBlock)
    let tokens = (65_536 + block - 1) / block * block
    #expect(packed.scratchByteCount == 2 * 8 * 16 * tokens * 64 * 4)
  }

  @Test("Keys that all batch entries share are packed once")
  func sharedKeys() throws {
    let strides = TensorStrides(batch: 0, token: 64, head: 64)
    let request = try AttentionRequest(
      batchSize: 3, queryTokens: 256, keyTokens: 16, queryHeads: 2, keyHeads: 1, headSize: 64,
      keyStrides: strides)
    let packing = try #require(AttentionPacking(request, keysPerBlock: 8))
    #expect(packing.key.batches == 1 && packing.value?.batches == 3)
    #expect(packing.keyByteCount == 16 * 64 * 4 && packing.valueByteCount == 3 * 16 * 64 * 4)
    #expect(packing.key.strides.batch == 0)
  }

  @Test("The grids cover every group once", arguments: [1, 3, 7, 65_535])
  func grids(groupLimit: Int) throws {
    let request = try AttentionRequest(
      queryTokens: 70, keyTokens: 33, queryHeads: 6, keyHeads: 3, headSize: 40,
      valueHeadSize: 72)
    let packing = try #require(AttentionPacking(request, keysPerBlock: 8))
    for tensor in [packing.key, try #require(packing.value)] {
      let dispatches = packing.dispatches(
        tensor, request, groupLimits: [groupLimit, 65_535, 65_535])
      var next = 0
      for dispatch in dispatches {
        #expect(dispatch.groups.lowerBound == next && dispatch.batches == 0..<1)
        #expect((1...groupLimit).contains(dispatch.groups.count))
        next += dispatch.groups.count
      }
      let items = 40 * 3 * tensor.channels / 8
      #expect(next * AttentionPacking.workgroupSize >= items)
      #expect((next - 1) * AttentionPacking.workgroupSize < items)
    }
  }

  @Test("A bound of the lengths above all keys together makes no larger grids")
  func boundsOfPackedLengths() throws {
    func groups(_ keyTokens: Int) throws -> [Range<Int>] {
      let request = try AttentionRequest(
        queryTokens: 256, keyTokens: keyTokens, queryHeads: 512, headSize: 8,
        packedSequences: PackedSequences(queryTokens: 256, keyTokens: 1000))
      let packing = try #require(AttentionPacking(request, keysPerBlock: 8))
      return packing.dispatches(packing.key, request, groupLimits: [65_535, 1, 1]).map(\.groups)
    }
    #expect(try groups((1 << 30) - 1) == groups(1000))
  }

  @Test("The grids cover every batch entry once")
  func batchGrids() throws {
    let request = try AttentionRequest(
      batchSize: 7, queryTokens: 70, keyTokens: 33, queryHeads: 1, headSize: 8)
    let packing = try #require(AttentionPacking(request, keysPerBlock: 8))
    let dispatches = packing.dispatches(packing.key, request, groupLimits: [100, 1, 3])
    #expect(dispatches.map(\.batches.lowerBound) == [0, 3, 6])
    #expect(dispatches.map(\.batches.count) == [3, 3, 1])
  }
}
