import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttention

/// The tiles of the matrix path on the devices of tests.
@Suite struct DecodeMatrixPlanTests {
  private static let devices: [SampleDevice] = [.software, .nvidia, .amd, .intel]

  private func request(
    heads: Int, tokens: Int = 1, channels: Int, valueChannels: Int? = nil, isLatent: Bool = false,
    format: CacheFormat = .f16, type: ElementType = .f16
  ) throws -> DecodeRequest {
    func cache(_ channels: Int) throws -> CacheTensor {
      try CacheTensor(
        format, .contiguous(sequences: 2, capacity: 500), heads: 1, channels: channels)
    }
    return try DecodeRequest(
      batchSize: 2, queryTokens: tokens, queryHeads: heads, keyCache: cache(channels),
      valueCache: isLatent ? nil : cache(valueChannels ?? channels),
      valueHeadSize: isLatent ? valueChannels : nil, elementType: type)
  }

  @Test(arguments: devices, [1, 7, 8, 16, 33, 128, 300])
  func tilesAreWhatTheShaderTakes(_ sample: SampleDevice, _ rows: Int) throws {
    let device = try sample.capabilities()
    for (channels, valueChannels, isLatent) in [
      (6, 6, false), (64, 64, false), (72, 40, false), (128, 128, false), (256, 256, false),
      (192, 128, false), (72, 64, true), (576, 512, true),
    ] {
      let plan = try DecodePlan(
        request(
          heads: rows, channels: channels, valueChannels: valueChannels, isLatent: isLatent),
        device: device, path: .matrix)
      let tile = plan.tile
      func constant(_ name: String) throws -> Int { Int(try #require(tile.constants[name])) }
      let (m, n, k) = try (constant("FRAGMENT_M"), constant("FRAGMENT_N"), constant("FRAGMENT_K"))
      let keys = try constant("KEY_TILE")
      let lanes = try constant("LANES_PER_ROW")
      let size = try constant("SUBGROUP_SIZE")
      let (rowFragments, parts) = try (constant("ROW_FRAGMENTS"), constant("CHANNEL_PARTS"))
      let subgroups = tile.workgroupSize / size
      #expect(tile.rows == rowFragments * m)
      #expect(plan.rowTiles * tile.rows >= rows && (plan.rowTiles - 1) * tile.rows < rows)
      #expect(keys % n == 0 && keys % k == 0 && keys >= m && tile.keys % keys == 0)
      #expect(subgroups * size == tile.workgroupSize)
      #expect(subgroups % parts == 0)
      #expect(lanes & (lanes - 1) == 0 && lanes <= size)
      #expect(keys / lanes % 8 == 0 && keys / lanes <= 32)
      #expect(tile.sharedBytes <= device.maxSharedBytes)
    }
  }

  @Test func manyRowsAreForMatricesOnGPUs() throws {
    let device = try SampleDevice.nvidia.capabilities()
    func path(_ request: DecodeRequest) throws -> AttentionPath {
      try DecodePlan(request, device: device).path
    }
    #expect(try path(request(heads: 7, channels: 128)) == .subgroup)
    #expect(try path(request(heads: 8, channels: 128)) == .matrix)
    #expect(try path(request(heads: 4, tokens: 2, channels: 128)) == .matrix)
    #expect(
      try path(request(heads: 4, channels: 576, valueChannels: 512, isLatent: true)) == .matrix)
    #expect(try path(request(heads: 8, channels: 128, type: .f32)) == .subgroup)
    let software = try SampleDevice.software.capabilities()
    #expect(try DecodePlan(request(heads: 32, channels: 64), device: software).path != .matrix)
  }

  @Test func typesThatMatricesLackAreRefused() throws {
    let device = try SampleDevice.nvidia.capabilities()
    for (type, format) in [
      (ElementType.f32, CacheFormat.f16), (.bf16, .f16), (.f16, .f32), (.f16, .bf16),
    ] {
      #expect(throws: AttentionError.self) {
        try DecodePlan(
          request(heads: 16, channels: 64, format: format, type: type), device: device,
          path: .matrix)
      }
    }
    for format in [CacheFormat.q8, .q4WithMinimum, .e4m3, .int8(groupSize: 64, scaleType: .bf16)] {
      let plan = try DecodePlan(
        request(heads: 16, channels: 64, format: format), device: device, path: .matrix)
      #expect(plan.tile.shaderName == "decode_matrix")
    }
  }

  @Test func fragmentShapesCanBeForced() throws {
    let device = try SampleDevice.software.capabilities()
    let plan = try DecodePlan(
      request(heads: 16, channels: 64), device: device, path: .matrix,
      tile: .fragment(m: 16, n: 16, k: 16))
    #expect(plan.tile.constants["FRAGMENT_M"] == 16)
    #expect(plan.tile.shaderName == "decode_matrix_software")
  }
}
