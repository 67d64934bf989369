import AttentionReference
import VulkanAttention

/// A tensor [batch, token, head, channel] as it lies in memory: where each element is, and what fills
/// the bytes that belong to none.
///
/// Everything around and between the rows is filled with a NaN of a bit pattern of its own. A kernel
/// that reads there and uses what it reads gives NaN; one that writes there is found out.
struct TensorMemory {
  let batch: Int
  let tokens: Int
  let heads: Int
  let channels: Int
  let strides: TensorStrides
  let elementType: ElementType
  /// Bytes up to the end of the last row.
  let byteCount: Int

  /// Bytes of poison behind every tensor.
  static let guardByteCount = 512

  init(_ request: AttentionRequest, _ tensor: AttentionRequest.Tensor) {
    let isQuery = tensor == .query || tensor == .output
    let packed = request.packedSequences
    batch = packed == nil ? request.batchSize : 1
    tokens =
      isQuery
      ? packed?.queryTokens ?? request.queryTokens : packed?.keyTokens ?? request.keyTokens
    heads = isQuery ? request.queryHeads : request.hasKeySources ? 1 : request.keyHeads
    channels = tensor == .query || tensor == .key ? request.headSize : request.valueHeadSize
    strides =
      switch tensor {
      case .query: request.queryStrides
      case .key: request.keyStrides
      case .value: request.valueStrides
      case .output: request.outputStrides
      }
    elementType = request.type(of: tensor)
    byteCount = request.byteCount(of: tensor)
  }

  /// A tensor by its parts.
  init(
    batch: Int, tokens: Int, heads: Int, channels: Int, strides: TensorStrides,
    elementType: ElementType, byteCount: Int
  ) {
    self.batch = batch
    self.tokens = tokens
    self.heads = heads
    self.channels = channels
    self.strides = strides
    self.elementType = elementType
    self.byteCount = byteCount
  }

  /// Elements of the tensor, wherever they lie.
  var elementCount: Int { batch * tokens * heads * channels }

  /// Nothing but poison, the guard included.
  func poison() -> [UInt8] {
    let pattern = Self.poison(elementType)
    return (0..<byteCount + Self.guardByteCount).map { pattern[$0 % pattern.count] }
  }

  /// The memory with contiguous `values` [batch, token, head, channel] in their places.
  func encode(_ values: [Float]) -> [UInt8] {
    var bytes = poison()
    bytes.withUnsafeMutableBytes { bytes in
      values.withUnsafeBufferPointer { values in
        forEachRow { row, start in
          for channel in 0..<channels {
            let value = values[row * channels + channel]
            let offset = (start + channel) * elementType.byteCount
            switch elementType {
            case .f32: bytes.storeBytes(of: value.bitPattern, toByteOffset: offset, as: UInt32.self)
            case .f16:
              bytes.storeBytes(
                of: Float16(value).bitPattern, toByteOffset: offset, as: UInt16.self)
            case .bf16:
              bytes.storeBytes(
                of: BFloat16(value).bitPattern, toByteOffset: offset, as: UInt16.self)
            }
          }
        }
      }
    }
    return bytes
  }

  /// The values of memory that a kernel wrote, and the first byte outside of the rows that is not
  /// poison any more.
  func decode(_ bytes: [UInt8]) -> (values: [Float], strayByte: Int?) {
    var isRow = [Bool](repeating: false, count: bytes.count)
    let values = [Float](unsafeUninitializedCapacity: elementCount) { values, initializedCount in
      bytes.withUnsafeBytes { bytes in
        forEachRow { row, start in
          let first = start * elementType.byteCount
          for byte in first..<first + channels * elementType.byteCount { isRow[byte] = true }
          for channel in 0..<channels {
            let offset = (start + channel) * elementType.byteCount
            values[row * channels + channel] =
              switch elementType {
              case .f32: Float(bitPattern: bytes.load(fromByteOffset: offset, as: UInt32.self))
              case .f16:
                Float(Float16(bitPattern: bytes.load(fromByteOffset: offset, as: UInt16.self)))
              case .bf16:
                Float(BFloat16(bitPattern: bytes.load(fromByteOffset: offset, as: UInt16.self)))
              }
          }
        }
      }
      initializedCount = elementCount
    }
    let pattern = Self.poison(elementType)
    let stray = bytes.indices.first { !isRow[$0] && bytes[$0] != pattern[$0 % pattern.count] }
    return (values, stray)
  }

  /// Calls `body` with the number of each row [batch, token, head] and its first element in memory.
  private func forEachRow(_ body: (_ row: Int, _ start: Int) -> Void) {
    var row = 0
    for b in 0..<batch {
      for t in 0..<tokens {
        for h in 0..<heads {
          body(row, b * strides.batch + t * strides.token + h * strides.head)
          row += 1
        }
      }
    }
  }

  /// A quiet NaN that no arithmetic makes, little-endian.
  static func poison(_ type: ElementType) -> [UInt8] {
    switch type {
    case .f32: [0xED, 0xFE, 0xDA, 0x7F]
    case .f16, .bf16: [0xDA, 0x7F]
    }
  }
}
