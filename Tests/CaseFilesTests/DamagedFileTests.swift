import CaseFiles
import Testing

/// Sound files damaged in thousands of seeded ways: each must be read or refused, never crash.
@Suite struct DamagedFileTests {
  private static let sound: [UInt8] = {
    var small = SmallCase()
    small.set("bias", .f32, [1, 2, 2, 3])
    small.set("mask", .u8, [1, 1, 2, 3])
    small.set("kv_lengths", .i32, [1])
    small.set("head_windows", .i32, [2, 2])
    small.set("tree_bits", .u8, [1, 2, 2])
    small.set("t5_bias", .f32, [4, 2])
    small.set("grid_bias", .f32, [9, 2])
    small.setParameters(
      #"""
      "window_left": 5, "scale": 0.5, "causal_align": "top_left", "tree_tokens": 9,
      "t5_max_distance": 3, "grid_height": 2, "grid_width": 2
      """#)
    return small.bytes
  }()

  /// Reads the file, and everything in it if it is accepted.
  private func read(_ bytes: [UInt8]) -> Bool {
    guard case .attention(let problem)? = try? CaseFile(bytes: bytes, name: "damaged") else {
      return false
    }
    let tensors = [
      problem.q, problem.k, problem.v, problem.bias, problem.mask, problem.kvLengths,
      problem.headWindows, problem.treeBits, problem.t5Bias, problem.gridBias, problem.expectedO,
      problem.expectedLSE,
    ]
    for tensor in tensors.compactMap({ $0 }) {
      #expect(tensor.doubles().count == tensor.shape.reduce(1, *))
      #expect(tensor.floats().count == tensor.count)
    }
    #expect(problem.optionsInUse.count <= AttentionCase.Option.allCases.count)
    return true
  }

  @Test func soundFileIsRead() {
    #expect(read(Self.sound))
  }

  @Test func everyTruncationIsRefused() {
    for count in 0..<Self.sound.count {
      #expect(!read(Array(Self.sound[..<count])), "cut to \(count) bytes")
    }
  }

  @Test func everyByteChanged() {
    // Every byte of the length and the header, to values that mean something there.
    let headerEnd = 8 + Int(Self.sound[0]) + Int(Self.sound[1]) << 8
    var bytes = Self.sound
    for index in 0..<headerEnd {
      for value in [0, 0x20, 0x22, 0x2C, 0x2D, 0x30, 0x39, 0x5B, 0x5C, 0x7B, 0x7D, 0x80, 0xFF] {
        bytes[index] = UInt8(value)
        _ = read(bytes)
      }
      bytes[index] = Self.sound[index]
    }
  }

  @Test func randomDamage() {
    var state: UInt64 = 42
    func random(_ bound: Int) -> Int {
      // SplitMix64.
      state &+= 0x9E37_79B9_7F4A_7C15
      var mixed = state
      mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
      mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
      return Int((mixed ^ (mixed >> 31)) % UInt64(bound))
    }
    let snippets = [
      "9223372036854775807", "-9223372036854775808", "18446744073709551616", "1e308", "[[[[",
      "{\"\":{}}", "\\ud800", "null", "\"\"", ",", "0", "99999999", "\u{0}", "é", "]", "}",
    ].map { Array($0.utf8) }
    var refused = 0
    let rounds = 8000
    for _ in 0..<rounds {
      var bytes = Self.sound
      for _ in 0...random(4) {
        let at = random(bytes.count)
        switch random(6) {
        case 0: bytes[at] ^= 1 << random(8)
        case 1: bytes[at] = UInt8(random(256))
        case 2: bytes.removeSubrange(at..<min(bytes.count, at + 1 + random(16)))
        case 3: bytes.insert(contentsOf: snippets[random(snippets.count)], at: at)
        case 4:
          let from = random(bytes.count)
          bytes.insert(contentsOf: bytes[from..<min(bytes.count, from + random(40))], at: at)
        default: bytes[random(8)] = UInt8(random(256))
        }
        if bytes.count < 9 { break }
      }
      // A changed header length would otherwise hide all other damage.
      if random(2) == 0, bytes.count > 8 {
        let length = min(bytes.count - 8, Int(Self.sound[0]) + Int(Self.sound[1]) << 8)
        for index in 0..<8 { bytes[index] = UInt8(truncatingIfNeeded: length >> (8 * index)) }
      }
      if !read(bytes) { refused += 1 }
    }
    // Both must happen, or the damage is too strong or too weak to test anything.
    #expect(refused > rounds / 2 && refused < rounds, "\(refused) of \(rounds) refused")
  }

  /// Numbers of the header replaced by hostile ones, everything else left sound.
  @Test func hostileNumbers() {
    let headerEnd = Int(Self.sound[0]) + Int(Self.sound[1]) << 8
    let header = Array(Self.sound[8..<8 + headerEnd])
    let data = Array(Self.sound[(8 + headerEnd)...])
    let isDigit = { (byte: UInt8) in byte >= 0x30 && byte <= 0x39 }
    var start = 0
    while start < header.count {
      guard isDigit(header[start]) else {
        start += 1
        continue
      }
      var end = start
      while end < header.count, isDigit(header[end]) { end += 1 }
      for number in [
        "-1", "0", "1", "4294967296", "2305843009213693952", "4611686018427387904",
        "9223372036854775807", "-9223372036854775808", "99999999999999999999", "1e18", "0.5",
      ] {
        let changed = header[..<start] + Array(number.utf8) + header[end...]
        var bytes = withUnsafeBytes(of: UInt64(changed.count).littleEndian, Array.init)
        bytes += changed
        bytes += data
        _ = read(bytes)
      }
      start = end
    }
  }
}
