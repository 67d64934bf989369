import Foundation
import TestSupport
import Testing

@testable import embed_sentences

/// What the example reads: texts and weights.
@Suite struct EmbedSentencesTests {
  private static let pieces = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "cafe", "un", "##aff", "##able", "runn", "##ing", "!", "東",
    "京", "$", "12", ".", "##5", "a",
  ]

  @Test(
    "Pieces of words, longest first; accents, case, punctuation and ideographs",
    arguments: [
      ("Café!", [4, 10]), ("unaffable", [5, 6, 7]), ("running  \t RUNNING", [8, 9, 8, 9]),
      ("東京", [11, 12]), ("$12.5", [13, 14, 15, 1]), ("$12.12", [13, 14, 15, 14]), ("", []),
      ("unaffabl", [1]), ("a\u{200B}a\u{0}", [1]), ("a\u{00A0}a", [17, 17]), ("xa", [1]),
      ("125", [14, 16]),
    ])
  func tokens(text: String, expected: [Int32]) throws {
    let tokenizer = try WordPieceTokenizer(pieces: Self.pieces)
    #expect(tokenizer.tokens(of: text, limit: 100) == [2] + expected + [3])
  }

  @Test func limits() throws {
    let tokenizer = try WordPieceTokenizer(pieces: Self.pieces)
    #expect(tokenizer.tokens(of: "a a a a", limit: 4) == [2, 17, 17, 3])
    #expect(tokenizer.tokens(of: "a", limit: 2) == [2, 3])
    // Words beyond 100 characters are unknown, up to there they are cut into pieces.
    let word = "12" + String(repeating: "5", count: 98)
    #expect(tokenizer.tokens(of: word, limit: 200).count == 2 + 99)
    #expect(tokenizer.tokens(of: word + "5", limit: 200) == [2, 1, 3])
  }

  @Test func vocabulariesWithoutSpecialPieces() {
    for piece in ["[UNK]", "[CLS]", "[SEP]"] {
      let error = #expect(throws: ExampleError.self) {
        _ = try WordPieceTokenizer(pieces: Self.pieces.filter { $0 != piece })
      }
      #expect(error?.description.contains(piece) == true)
    }
  }

  private func file(_ header: String, _ values: [Float], length: UInt64? = nil) throws -> (
    folder: TemporaryFolder, path: String
  ) {
    let folder = try TemporaryFolder()
    let path = folder.path + "/weights.safetensors"
    var data = withUnsafeBytes(of: (length ?? UInt64(header.utf8.count)).littleEndian) { Data($0) }
    data += Data(header.utf8)
    data += values.withUnsafeBytes { Data($0) }
    try data.write(to: URL(filePath: path))
    return (folder, path)
  }

  @Test("Tensors are read beside those of other types and the metadata")
  func weights() throws {
    let header = """
      {"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},\
      "ids":{"dtype":"I64","shape":[1],"data_offsets":[8,16]},\
      "b":{"dtype":"F32","shape":[1,1],"data_offsets":[16,20]}}
      """
    let (folder, path) = try file(header, [1, -2, 0, 0, 3])
    defer { withExtendedLifetime(folder) {} }
    let weights = try WeightFile(path: path)
    #expect(try weights.tensor("a", shape: [2]) == [1, -2])
    #expect(try weights.tensor("b", shape: [1, 1]) == [3])
    for (name, shape) in [
      ("a", [1]), ("a", [1, 2]), ("ids", [1]), ("c", [1]), ("__metadata__", []),
    ] {
      #expect(throws: ExampleError.self) { try weights.tensor(name, shape: shape) }
    }
  }

  @Test(
    "Damaged files are refused",
    arguments: [
      #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,12]}}"#,
      #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#,
      #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[-4,4]}}"#,
      #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
      #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}}"#,
      #"{"a":{"dtype":"F32","shape":[2]}}"#, #"["a"]"#, "{",
    ])
  func damage(header: String) throws {
    let (folder, path) = try file(header, [1, 2])
    defer { withExtendedLifetime(folder) {} }
    #expect(throws: ExampleError.self) { try WeightFile(path: path).tensor("a", shape: [2]) }
  }

  @Test func lengthsOfHeaders() throws {
    for length in [100, UInt64.max, 1 << 63] as [UInt64] {
      let (folder, path) = try file("{}", [], length: length)
      defer { withExtendedLifetime(folder) {} }
      #expect(throws: ExampleError.self) { try WeightFile(path: path) }
    }
    #expect(throws: ExampleError.self) { try WeightFile(path: "/no/such/file") }
  }

  @Test func configurations() throws {
    let folder = try TemporaryFolder()
    let path = folder.path + "/config.json"
    func configuration(_ changes: [String: Any]) throws -> EncoderConfiguration {
      let plain: [String: Any] = [
        "vocab_size": 10, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 16, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12, "hidden_act": "gelu",
      ]
      let object = plain.merging(changes) { $1 }
      try JSONSerialization.data(withJSONObject: object).write(to: URL(filePath: path))
      return try EncoderConfiguration(path: path)
    }
    #expect(try configuration([:]).innerChannels == 64)
    for changes: [String: Any] in [
      ["hidden_act": "relu"], ["num_attention_heads": 5], ["num_attention_heads": 0],
      ["max_position_embeddings": 1], ["num_hidden_layers": -1],
    ] {
      #expect(throws: ExampleError.self, "\(changes)") { try configuration(changes) }
    }
  }
}
