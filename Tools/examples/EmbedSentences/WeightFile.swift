import Foundation

/// What is wrong with the files or the input of the example.
struct ExampleError: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) {
    self.description = description
  }
}

/// The f32 tensors of a safetensors file, read as they are asked for
/// (https://github.com/huggingface/safetensors#format).
///
/// The case files' reader refuses 64-bit integers, of which public models have tensors that nobody reads.
struct WeightFile {
  private struct Entry: Decodable {
    let dtype: String
    let shape: [Int]
    let dataOffsets: [Int]

    enum CodingKeys: String, CodingKey {
      case dtype, shape
      case dataOffsets = "data_offsets"
    }
  }

  /// A value of the header: a tensor, or the strings of `__metadata__`.
  private enum Member: Decodable {
    case tensor(Entry)
    case metadata

    init(from decoder: any Decoder) throws {
      if let entry = try? Entry(from: decoder) {
        self = .tensor(entry)
      } else {
        _ = try [String: String](from: decoder)
        self = .metadata
      }
    }
  }

  private let path: String
  private let data: Data
  private let start: Int
  private let members: [String: Member]

  /// Reads the header.
  init(path: String) throws {
    self.path = path
    guard let data = FileManager.default.contents(atPath: path) else {
      throw ExampleError("\(path) cannot be read")
    }
    let length = data.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    guard data.count >= 8, length <= UInt64(data.count - 8) else {
      throw ExampleError("\(path) is no safetensors file: its header is longer than the file")
    }
    self.data = data
    start = 8 + Int(length)
    do {
      members = try JSONDecoder().decode([String: Member].self, from: data[8..<start])
    } catch {
      throw ExampleError("\(path) is no safetensors file: \(error)")
    }
  }

  /// A tensor of f32.
  ///
  /// - Throws: `ExampleError` where there is none of this name, type and shape.
  func tensor(_ name: String, shape: [Int]) throws -> [Float] {
    guard case .tensor(let entry)? = members[name] else {
      throw ExampleError("\(path) has no tensor \(name)")
    }
    let count = shape.reduce(1, *)
    guard entry.dtype == "F32", entry.shape == shape, entry.dataOffsets.count == 2 else {
      throw ExampleError(
        "\(name) of \(path) is \(entry.dtype) \(entry.shape); expected F32 \(shape)")
    }
    let (first, end) = (entry.dataOffsets[0], entry.dataOffsets[1])
    guard first >= 0, end >= first, end <= data.count - start, end - first == count * 4 else {
      throw ExampleError("\(name) of \(path) does not lie inside of the file")
    }
    return data[start + first..<start + end].withUnsafeBytes { bytes in
      (0..<count).map {
        Float(
          bitPattern: UInt32(
            littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 4, as: UInt32.self)))
      }
    }
  }
}
