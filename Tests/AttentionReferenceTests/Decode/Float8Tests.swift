import AttentionReference
import Testing

@Suite struct Float8Tests {
  /// A code's number by another rule: the bits moved into a binary16, whose exponent has bias 15.
  private func byHalf(_ format: Float8Format, _ code: UInt8) -> Double {
    switch format {
    case .e5m2: return Double(Float16(bitPattern: UInt16(code) << 8))
    case .e4m3:
      if code & 0x7F == 0x7F { return .nan }
      let bits = UInt16(code & 0x80) << 8 | UInt16(code & 0x7F) << 7
      return Double(Float16(bitPattern: bits)) * 256
    }
  }

  @Test(arguments: Float8Format.allCases) func allCodes(_ format: Float8Format) {
    var nans = 0
    for code in UInt8.min...UInt8.max {
      let (value, expected) = (format.decode(code), byHalf(format, code))
      #expect(value == expected || value.isNaN && expected.isNaN, "\(code)")
      #expect(value.isNaN || value.sign == expected.sign, "\(code)")
      nans += value.isNaN ? 1 : 0
      if value.isNaN {
        #expect(format.encode(code < 0x80 ? .nan : -.nan) == code | 0x7F)
      } else {
        #expect(format.encode(value, saturates: false) == code)
      }
    }
    #expect(nans == (format == .e4m3 ? 2 : 6))
    #expect((UInt8.min..<0x7F).map(format.decode).filter(\.isFinite).max() == format.greatest)
  }

  @Test func knownNumbers() {
    #expect(Float8Format.e4m3.decode(0x7E) == 448 && Float8Format.e4m3.decode(0x01) == 0x1p-9)
    #expect(Float8Format.e4m3.decode(0x38) == 1 && Float8Format.e5m2.decode(0x3C) == 1)
    #expect(Float8Format.e5m2.decode(0x7B) == 57_344 && Float8Format.e5m2.decode(0x01) == 0x1p-16)
    #expect(Float8Format.e5m2.decode(0xFC) == -.infinity)
  }

  /// The nearest number of the table, the even code of two that are equally near.
  @Test(arguments: Float8Format.allCases) func nearestEven(_ format: Float8Format) {
    let largest: UInt8 = format == .e4m3 ? 0x7E : 0x7B
    let table = (0...largest).map { byHalf(format, $0) }
    func nearest(_ value: Double) -> UInt8 {
      var best: UInt8 = 0
      for code in 0...largest {
        let (distance, least) = (abs(value - table[Int(code)]), abs(value - table[Int(best)]))
        if distance < least || distance == least && code % 2 == 0 { best = code }
      }
      return best
    }
    var values: [Double] = []
    for (low, high) in zip(table, table.dropFirst()) {
      let middle = (low + high) / 2
      values += [middle, middle.nextUp, middle.nextDown, low.nextUp, high.nextDown]
    }
    var random = SeededNumbers(seed: 41)
    for _ in 0..<5000 { values.append(format.greatest * random.uniform() * random.uniform()) }
    for _ in 0..<2000 { values.append(0x1p-12 * random.uniform()) }
    values += [.leastNonzeroMagnitude, 0x1p-1022]
    for value in values {
      let code = nearest(value)
      #expect(format.encode(value) == code, "\(value)")
      #expect(format.encode(-value) == code | 0x80, "\(value)")
    }
  }

  @Test func tooLarge() {
    // The middle between 448 and the number that 0x7F would be goes down, to the even code.
    let e4m3 = Float8Format.e4m3
    #expect(e4m3.encode(464, saturates: false) == 0x7E)
    #expect(e4m3.encode(464.0.nextUp, saturates: false) == 0x7F)
    #expect(e4m3.encode(1e30) == 0x7E && e4m3.encode(-.infinity) == 0xFE)
    #expect(e4m3.encode(-.infinity, saturates: false) == 0xFF)
    // The middle between 57344 and 65536 goes up.
    let e5m2 = Float8Format.e5m2
    #expect(e5m2.encode(61_440.0.nextDown, saturates: false) == 0x7B)
    #expect(e5m2.encode(61_440, saturates: false) == 0x7C)
    #expect(e5m2.encode(61_440) == 0x7B && e5m2.encode(-.infinity) == 0xFB)
    #expect(e5m2.encode(-.infinity, saturates: false) == 0xFC)
    #expect(e5m2.encode(.greatestFiniteMagnitude, saturates: false) == 0x7C)
    #expect(e4m3.encode(-0.0) == 0x80 && e5m2.encode(0) == 0)
  }
}
