/// Numbers as the reports print them, without the locale and without Foundation.
public enum Numbers {
  /// `value` with all its digits; a NaN without its sign and payload.
  public static func plain<Value: BinaryFloatingPoint>(_ value: Value) -> String {
    value.isNaN ? "NaN" : "\(value)"
  }

  /// `value` with a fixed number of decimals.
  public static func fixed(_ value: Double, decimals: Int = 2) -> String {
    guard value.isFinite, value.magnitude < 1e15 else { return plain(value) }
    var power = 1
    for _ in 0..<decimals { power *= 10 }
    let scaled = (value.magnitude * Double(power)).rounded()
    guard scaled < 9e18 else { return plain(value) }
    let (whole, part) = Int(scaled).quotientAndRemainder(dividingBy: power)
    let sign = value < 0 && scaled > 0 ? "-" : ""
    guard decimals > 0 else { return "\(sign)\(whole)" }
    let digits = String(part)
    return "\(sign)\(whole).\(String(repeating: "0", count: decimals - digits.count))\(digits)"
  }

  /// `value` with three significant digits: `0.00`, `1.23`, `12.3`, `123`, `12346`.
  public static func significant(_ value: Double) -> String {
    switch value.magnitude {
    case ..<9.995: fixed(value, decimals: 2)
    case ..<99.95: fixed(value, decimals: 1)
    default: fixed(value, decimals: 0)
    }
  }

  /// `value` with a power of ten: `3.1e-07`; a zero is `0`.
  public static func scientific(_ value: Double) -> String {
    guard value.isFinite, value != 0 else { return value == 0 ? "0" : plain(value) }
    var exponent = 0
    var mantissa = value.magnitude
    while mantissa >= 9.95 {
      mantissa /= 10
      exponent += 1
    }
    // A rounded 9.95 would print as 10.0.
    while mantissa < 0.995 {
      mantissa *= 10
      exponent -= 1
    }
    let digits = String(exponent.magnitude)
    let padded = digits.count < 2 ? "0\(digits)" : digits
    let signs = (value: value < 0 ? "-" : "", exponent: exponent < 0 ? "-" : "+")
    return "\(signs.value)\(fixed(mantissa, decimals: 1))e\(signs.exponent)\(padded)"
  }

  /// A time in the unit that suits it: `12.3 µs`, `4.56 ms`, `7.89 s`.
  public static func seconds(_ value: Double) -> String {
    switch value.magnitude {
    case ..<0.9995e-3: "\(significant(value * 1e6)) µs"
    case ..<0.9995: "\(significant(value * 1e3)) ms"
    default: "\(significant(value)) s"
    }
  }

  /// A size in the unit that suits it: `512 B`, `48 KiB`, `1.50 GiB`.
  public static func bytes(_ count: Int) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"]
    var value = Double(count)
    var unit = 0
    while value >= 1024, unit + 1 < units.count {
      value /= 1024
      unit += 1
    }
    let isWhole = value == value.rounded()
    return "\(isWhole ? fixed(value, decimals: 0) : significant(value)) \(units[unit])"
  }

  /// A share as a percentage: `47 %`.
  public static func percent(_ share: Double) -> String { "\(fixed(share * 100, decimals: 0)) %" }
}
