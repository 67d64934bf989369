import Foundation
import Testing

@testable import VulkanAttention

/// The blocks in scratch memory have the sizes that the shaders' declarations have.
struct BlockLayoutTests {
  @Test func sizes() throws {
    let option = try Declarations(["Attention/attention_option_block.glsl"])
    let decode = try Declarations([
      "Attention/attention_option_block.glsl", "Decode/decode_interface.glsl",
    ])
    let linear = try Declarations(["LinearAttention/linear_interface.glsl"])
    #expect(try option.byteCount(of: "OptionBlock") == AttentionOptionBlock.byteCount)
    #expect(try decode.byteCount(of: "DecodeBlock") == DecodeBlock.byteCount)
    #expect(try linear.byteCount(of: "LinearBlock") == LinearAttentionBlock.byteCount)
  }
}

/// Structures, buffers of scalar layout and constants that GLSL declares.
private struct Declarations {
  private let text: String

  init(_ paths: [String]) throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    text = try paths.map { path in
      try String(contentsOf: root.appending(path: "Shaders/\(path)"), encoding: .utf8)
        .replacing(/\/\/.*/, with: "")
    }.joined(separator: "\n")
  }

  /// The bytes of a structure or buffer: its members one behind the other.
  func byteCount(of name: String) throws -> Int {
    let pattern = try Regex<(Substring, Substring)>("(?:struct|buffer) \(name) \\{([^}]*)\\};")
    let body = try #require(text.firstMatch(of: pattern), "no declaration of \(name)").output.1
    var byteCount = 0
    for member in body.split(separator: ";") {
      let words = member.split(maxSplits: 1, whereSeparator: \.isWhitespace)
      guard words.count == 2 else { continue }
      let size = try memberByteCount(String(words[0]))
      for variable in words[1].split(separator: ",") {
        byteCount += size * (try elementCount(String(variable)))
      }
    }
    return byteCount
  }

  private func memberByteCount(_ type: String) throws -> Int {
    switch type {
    case "int", "uint", "float": 4
    case "uint64_t": 8
    default: try byteCount(of: type)
    }
  }

  /// Of `name` 1, of `name[n]` n.
  private func elementCount(_ variable: String) throws -> Int {
    guard let extent = variable.firstMatch(of: /\[(\w+)\]/)?.output.1 else { return 1 }
    if let count = Int(extent) { return count }
    let pattern = try Regex<(Substring, Substring)>("const uint \(extent) = (\\d+);")
    let value = try #require(text.firstMatch(of: pattern), "no constant \(extent)").output.1
    return try #require(Int(value))
  }
}
