/// A pattern for ids, as shells have them for file names; `/` is a character like any other.
///
/// `*` stands for any text, `?` for any one character, `[abc]`, `[a-c]` and `[!abc]` for one of a set or
/// outside of it. A pattern has to match the whole text.
public struct Glob: Sendable, Hashable {
  private enum Part: Sendable, Hashable {
    case text(Character)
    case one
    case any
    case set([ClosedRange<Character>], isNegated: Bool)
  }

  /// The pattern as it was written.
  public let pattern: String
  private let parts: [Part]

  /// Reads a pattern; nil for one with a set that does not end, or is empty, or goes backwards.
  public init?(_ pattern: String) {
    self.pattern = pattern
    var parts: [Part] = []
    var rest = pattern[...]
    while let character = rest.popFirst() {
      switch character {
      case "*": if parts.last != .any { parts.append(.any) }
      case "?": parts.append(.one)
      case "[":
        guard let set = Self.set(&rest) else { return nil }
        parts.append(set)
      default: parts.append(.text(character))
      }
    }
    self.parts = parts
  }

  private static func set(_ rest: inout Substring) -> Part? {
    let isNegated = rest.first == "!"
    if isNegated { rest.removeFirst() }
    var ranges: [ClosedRange<Character>] = []
    while let first = rest.popFirst() {
      if first == "]", !ranges.isEmpty { return .set(ranges, isNegated: isNegated) }
      guard rest.first == "-", rest.dropFirst().first.map({ $0 != "]" }) == true else {
        ranges.append(first...first)
        continue
      }
      rest.removeFirst()
      guard let last = rest.popFirst(), first <= last else { return nil }
      ranges.append(first...last)
    }
    return nil
  }

  /// Whether the pattern matches the whole of a text.
  public func matches(_ text: String) -> Bool {
    let text = Array(text)
    // Where to go on after a mismatch: behind the last `*`, which then takes one character more.
    var retry: (part: Int, character: Int)?
    var part = 0
    var character = 0
    while character < text.count {
      if part < parts.count, parts[part] == .any {
        retry = (part + 1, character)
        part += 1
      } else if part < parts.count, Self.matches(parts[part], text[character]) {
        part += 1
        character += 1
      } else if let last = retry {
        retry = (last.part, last.character + 1)
        part = last.part
        character = last.character + 1
      } else {
        return false
      }
    }
    return parts[part...].allSatisfy { $0 == .any }
  }

  private static func matches(_ part: Part, _ character: Character) -> Bool {
    switch part {
    case .text(let expected): character == expected
    case .one, .any: true
    case .set(let ranges, let isNegated):
      ranges.contains { $0.contains(character) } != isNegated
    }
  }
}
