import CaseFiles
import Foundation
import Testing

@Suite struct SafetensorsTests {
  @Test func readsBytesWrittenByHand() throws {
    // Two tensors and padding, as another writer would put them.
    let header =
      #"{"b":{"dtype":"I32","shape":[2],"data_offsets":[4,12]},"#
      + #""__metadata__":{"a\u00e9\n\ud83d\ude00":"\\\/\"x"},"#
      + #""a":{"data_offsets":[0,4],"dtype":"F16","shape":[1,2]}}   "#
    var bytes = rawFile(header)
    bytes += [0x00, 0x3C, 0x00, 0xC0]  // 1, −2
    bytes += [0xFE, 0xFF, 0xFF, 0xFF, 0x00, 0x01, 0x00, 0x00]  // −2, 256
    let file = try SafetensorsFile(bytes: bytes, name: "hand")
    #expect(file.tensors.map(\.name) == ["b", "a"])
    #expect(file.tensors[0].integers() == [-2, 256] && file.tensors[0].shape == [2])
    #expect(file.tensors[1].floats() == [1, -2] && file.tensors[1].shape == [1, 2])
    #expect(file.metadata == ["aé\n😀": #"\/"x"#])
  }

  @Test(arguments: ElementType.allCases) func writesWhatItReads(_ element: ElementType) throws {
    let values: [Double] = element == .u8 ? [0, 1, 255] : [-3, 0, 64]
    let tensors = [
      CaseTensor(name: "x", element: element, shape: [3, 1], values: values),
      CaseTensor(name: "none", element: element, shape: [2, 0], values: []),
      CaseTensor(name: "scalar", element: .u8, shape: [], values: [7]),
    ]
    let metadata = ["key": "a \"quoted\" \\ line\n\u{1}end é", "": ""]
    let bytes = SafetensorsFile(name: "out", tensors: tensors, metadata: metadata).serialized()
    let file = try SafetensorsFile(bytes: bytes, name: "in")
    #expect(file.metadata == metadata)
    let byName = Dictionary(uniqueKeysWithValues: file.tensors.map { ($0.name, $0) })
    #expect(byName["x"]?.doubles() == values && byName["x"]?.element == element)
    #expect(byName["x"]?.shape == [3, 1] && byName["x"]?.count == 3)
    #expect(byName["x"]?.floats() == values.map { Float($0) })
    #expect(byName["x"]?.integers() == (element.isFloatingPoint ? nil : values.map { Int($0) }))
    #expect(byName["none"]?.count == 0 && byName["none"]?.shape == [2, 0])
    #expect(byName["scalar"]?.integers() == [7] && byName["scalar"]?.shape.count == 0)
  }

  @Test func numbersAreRoundedToTheirType() {
    func stored(_ element: ElementType, _ value: Double) -> Double {
      CaseTensor(name: "x", element: element, shape: [], values: [value]).doubles()[0]
    }
    // Ties to even: 2049 and 2051 in f16 (steps of 2), 257 and 259 in bf16.
    #expect(stored(.f16, 2049) == 2048 && stored(.f16, 2051) == 2052)
    #expect(stored(.bf16, 257) == 256 && stored(.bf16, 259) == 260)
    #expect(stored(.f16, 1e6) == .infinity && stored(.bf16, -.infinity) == -.infinity)
    #expect(stored(.f16, 0x1p-24) == 0x1p-24)
    #expect(stored(.f16, .nan).isNaN && stored(.bf16, .nan).isNaN && stored(.f32, .nan).isNaN)
  }

  @Test func wideElementsComeFirst() throws {
    let tensors = [
      CaseTensor(name: "a", element: .u8, shape: [1], values: [1]),
      CaseTensor(name: "b", element: .f32, shape: [1], values: [1]),
      CaseTensor(name: "c", element: .f16, shape: [1], values: [1]),
    ]
    let bytes = SafetensorsFile(name: "", tensors: tensors, metadata: [:]).serialized()
    #expect(bytes.count % 8 == 7)
    #expect(Array(bytes.suffix(7)) == [0, 0, 0x80, 0x3F, 0, 0x3C, 1])
  }

  @Test(arguments: [
    // The length of the header.
    Refusal([], "header length", .truncated(needed: 8, available: 0)),
    Refusal([1, 2, 3], "header length", .truncated(needed: 8, available: 3)),
    Refusal(rawFile(""), "header length", .invalid("the header is empty")),
    Refusal(rawFile("{}", headerLength: 3), "header length", .truncated(needed: 11, available: 10)),
    Refusal(
      rawFile("{}", headerLength: 100_000_001), "header length",
      .tooLarge(100_000_001, limit: 100_000_000)),
    Refusal(
      rawFile("{}", headerLength: .max), "header length", .tooLarge(.max, limit: 100_000_000)),
    Refusal(
      rawFile("{}", headerLength: 1 << 63), "header length",
      .tooLarge(1 << 63, limit: 100_000_000)),
    // Not an object.
    Refusal(rawFile("[]"), "header", .expected("a JSON object that starts with '{'")),
    Refusal(rawFile(" {}"), "header", .expected("a JSON object that starts with '{'")),
    Refusal(rawFile(#"{"a":1}"#), "tensor a", .expected("an object")),
    // Metadata.
    Refusal(rawFile(#"{"__metadata__":[]}"#), "__metadata__", .expected("an object")),
    Refusal(rawFile(#"{"__metadata__":{"a":1}}"#), "__metadata__.a", .expected("a string")),
    // Data that belong to nothing.
    Refusal(rawFile("{}", data: 1), "data", .invalid("the tensors end at byte 0, the file at 1")),
  ])
  func malformedFile(_ refusal: Refusal<[UInt8]>) {
    expectError(refusal.input, refusal.field, refusal.problem)
  }

  @Test(arguments: [
    "", " ", "{", "}", #"{"a"}"#, #"{"a":}"#, #"{"a":1,}"#, #"{"a":1 "b":2}"#, "{'a':1}", "{a:1}",
    #"{"a":1}}"#, #"{"a":1} x"#, #"{"a":01}"#, #"{"a":-}"#, #"{"a":1.}"#, #"{"a":.5}"#,
    #"{"a":1e}"#, #"{"a":+1}"#, #"{"a":NaN}"#, #"{"a":Infinity}"#, #"{"a":1e999}"#,
    #"{"a":tru}"#, #"{"a":"b}"#, #"{"a":"\x"}"#, #"{"a":"\u12"}"#, #"{"a":"\ud800"}"#,
    #"{"a":"\udc00\ud800"}"#, #"{"a":"\ud800\u0041"}"#, "{\"a\":\"\n\"}", "{\"a\":\"\0\"}",
    #"{"a":1,"a":1}"#, #"{"a":1,"\u0061":1}"#, #"{"é":1,"e\u0301":1}"#, "\u{FEFF}{}",
    "{\"a\":" + String(repeating: "[", count: 100_000),
    String(repeating: #"{"a":"#, count: 100_000),
  ])
  func malformedJSON(_ text: String) {
    // Spaces keep the empty texts from being an empty header.
    let error = readError(rawFile(" " + text))
    guard case .malformedJSON = error?.problem else {
      Issue.record("\(text.prefix(40)): \(String(describing: error))")
      return
    }
    #expect(error?.field == "header")
  }

  @Test(arguments: [[0xC3], [0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80]])
  func malformedUTF8(_ text: [UInt8]) {
    let header = Array(#"{""#.utf8) + text + Array(#"":1}"#.utf8)
    var bytes = rawFile(String(repeating: " ", count: header.count))
    bytes.replaceSubrange(8..., with: header)
    #expect(
      readError(bytes)?.problem == .malformedJSON(byte: 3 + text.count, "text that is not UTF-8"))
  }

  @Test(arguments: [
    Refusal(#""shape":[1],"data_offsets":[0,4]"#, "dtype", .missing),
    Refusal(#""dtype":1,"shape":[1],"data_offsets":[0,4]"#, "dtype", .expected("a string")),
    Refusal(
      #""dtype":"I64","shape":[1],"data_offsets":[0,8]"#, "dtype", .unsupportedElementType("I64")),
    Refusal(
      #""dtype":"f32","shape":[1],"data_offsets":[0,4]"#, "dtype", .unsupportedElementType("f32")),
    Refusal(#""dtype":"F32","data_offsets":[0,4]"#, "shape", .missing),
    Refusal(
      #""dtype":"F32","shape":1,"data_offsets":[0,4]"#, "shape",
      .expected("an array of at most 8 integers")),
    Refusal(
      #""dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]"#, "shape",
      .expected("an array of at most 8 integers")),
    Refusal(
      #""dtype":"F32","shape":[-1],"data_offsets":[0,4]"#, "shape",
      .expected("integers that are 0 or more")),
    Refusal(
      #""dtype":"F32","shape":[1.0],"data_offsets":[0,4]"#, "shape",
      .expected("integers that are 0 or more")),
    Refusal(
      #""dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]"#, "shape",
      .expected("integers that are 0 or more")),
    Refusal(
      #""dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]"#, "shape",
      .invalid("[4611686018427387904, 4] has more elements than can be counted")),
    Refusal(#""dtype":"F32","shape":[1]"#, "data_offsets", .missing),
    Refusal(
      #""dtype":"F32","shape":[1],"data_offsets":[0]"#, "data_offsets",
      .expected("two offsets, the first not above the second")),
    Refusal(
      #""dtype":"F32","shape":[1],"data_offsets":[4,0]"#, "data_offsets",
      .expected("two offsets, the first not above the second")),
    Refusal(
      #""dtype":"F32","shape":[1],"data_offsets":[-4,0]"#, "data_offsets",
      .expected("integers that are 0 or more")),
    Refusal(
      #""dtype":"F32","shape":[2],"data_offsets":[0,4]"#, "data_offsets",
      .invalid("4 bytes where F32 [2] takes 8")),
    Refusal(
      #""dtype":"F32","shape":[2],"data_offsets":[0,8]"#, "data_offsets",
      .truncated(needed: 8, available: 4)),
    Refusal(
      #""dtype":"F32","shape":[1],"data_offsets":[9223372036854775800,9223372036854775804]"#,
      "data_offsets", .truncated(needed: 9_223_372_036_854_775_804, available: 4)),
    Refusal(
      #""dtype":"F32","shape":[0],"data_offsets":[2,2]"#, "data_offsets",
      .invalid("bytes 0..<2 belong to no tensor")),
    Refusal(
      #""dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1"#, "x",
      .unknown(allowed: ["dtype", "shape", "data_offsets"])),
  ])
  func malformedTensor(_ refusal: Refusal<String>) {
    expectError(
      rawFile(#"{"t":{\#(refusal.input)}}"#, data: 4), "tensor t: \(refusal.field)",
      refusal.problem)
  }

  @Test func overlapsAndHoles() {
    func file(_ a: String, _ b: String, data: Int) -> [UInt8] {
      rawFile(
        #"{"a":{"dtype":"U8","shape":[4],"data_offsets":\#(a)},"#
          + #""b":{"dtype":"U8","shape":[4],"data_offsets":\#(b)}}"#, data: data)
    }
    expectError(
      file("[0,4]", "[3,7]", data: 7), "tensor b: data_offsets",
      .invalid("overlaps the tensor before it"))
    expectError(
      file("[4,8]", "[3,7]", data: 8), "tensor b: data_offsets",
      .invalid("bytes 0..<3 belong to no tensor"))
    expectError(
      file("[0,4]", "[0,4]", data: 4), "tensor b: data_offsets",
      .invalid("overlaps the tensor before it"))
    expectError(
      file("[0,4]", "[5,9]", data: 9), "tensor b: data_offsets",
      .invalid("bytes 4..<5 belong to no tensor"))
    #expect(readError(file("[4,8]", "[0,4]", data: 8)) == nil)
  }

  private func readError(_ bytes: [UInt8]) -> CaseFileError? {
    do {
      _ = try SafetensorsFile(bytes: bytes, name: "bad")
      return nil
    } catch {
      return error
    }
  }

  private func expectError(
    _ bytes: [UInt8], _ field: String, _ problem: CaseFileError.Problem,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let error = readError(bytes)
    #expect(error?.file == "bad", sourceLocation: sourceLocation)
    #expect(error?.field == field, sourceLocation: sourceLocation)
    #expect(error?.problem == problem, sourceLocation: sourceLocation)
  }
}
