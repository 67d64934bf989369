import Foundation

/// BERT's uncased tokenizer: clean, lower-case, split, then WordPiece, the longest known piece first
/// (https://arxiv.org/abs/1810.04805, https://arxiv.org/abs/1609.08144).
///
/// Special tokens that are spelt out in a text are text.
struct WordPieceTokenizer {
  private let vocabulary: [String: Int32]
  private let classToken: Int32
  private let separatorToken: Int32
  private let unknownToken: Int32
  /// Longer words are unknown as a whole.
  private let wordLimit = 100

  /// A tokenizer of a vocabulary, one piece a line.
  init(path: String) throws {
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
      throw ExampleError("\(path) cannot be read as UTF-8 text")
    }
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    if lines.last?.isEmpty == true { lines.removeLast() }
    try self.init(pieces: lines.map { String($0.hasSuffix("\r") ? $0.dropLast() : $0) })
  }

  /// A tokenizer of pieces, numbered from 0.
  init(pieces: [String]) throws {
    let numbers = Dictionary(
      pieces.enumerated().map { ($1, Int32($0)) }, uniquingKeysWith: { first, _ in first })
    func special(_ piece: String) throws -> Int32 {
      guard let number = numbers[piece] else {
        throw ExampleError("the vocabulary has no \(piece)")
      }
      return number
    }
    vocabulary = numbers
    classToken = try special("[CLS]")
    separatorToken = try special("[SEP]")
    unknownToken = try special("[UNK]")
  }

  /// The numbers of a text's pieces between [CLS] and [SEP], cut to `limit` in all.
  func tokens(of text: String, limit: Int) -> [Int32] {
    let pieces = words(of: text).flatMap(self.pieces)
    return [classToken] + pieces.prefix(limit - 2) + [separatorToken]
  }

  /// The words of a text: cleaned, without accents, in lower case, punctuation and CJK characters each for itself.
  func words(of text: String) -> [String] {
    var clean = ""
    for scalar in text.unicodeScalars {
      if Self.isSpace(scalar) {
        clean.unicodeScalars.append(" ")
      } else if Self.isIdeograph(scalar) {
        clean += " \(scalar) "
      } else if !Self.isControl(scalar) {
        clean.unicodeScalars.append(scalar)
      }
    }
    var words: [String] = []
    var word = ""
    func endWord() {
      if !word.isEmpty { words.append(word) }
      word = ""
    }
    for accented in clean.decomposedStringWithCanonicalMapping.unicodeScalars
    where accented.properties.generalCategory != .nonspacingMark {
      for scalar in accented.properties.lowercaseMapping.unicodeScalars {
        if scalar == " " {
          endWord()
        } else if Self.isPunctuation(scalar) {
          endWord()
          words.append(String(scalar))
        } else {
          word.unicodeScalars.append(scalar)
        }
      }
    }
    endWord()
    return words
  }

  private func pieces(of word: String) -> [Int32] {
    let scalars = Array(word.unicodeScalars)
    guard scalars.count <= wordLimit else { return [unknownToken] }
    var numbers: [Int32] = []
    var start = 0
    while start < scalars.count {
      var end = scalars.count
      var found: Int32?
      while end > start {
        var piece = String.UnicodeScalarView()
        piece.append(contentsOf: scalars[start..<end])
        found = vocabulary[(start > 0 ? "##" : "") + String(piece)]
        if found != nil { break }
        end -= 1
      }
      guard let found else { return [unknownToken] }
      numbers.append(found)
      start = end
    }
    return numbers
  }

  private static func isSpace(_ scalar: Unicode.Scalar) -> Bool { scalar.properties.isWhitespace }

  private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .format, .unassigned, .privateUse: true
    default: scalar.value == 0xFFFD
    }
  }

  private static func isPunctuation(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    // All of ASCII that is no letter, digit or space; some of it are symbols to Unicode.
    case 33...47, 58...64, 91...96, 123...126: return true
    default: break
    }
    switch scalar.properties.generalCategory {
    case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation,
      .initialPunctuation, .finalPunctuation, .otherPunctuation:
      return true
    default: return false
    }
  }

  private static func isIdeograph(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x4E00...0x9FFF, 0x3400...0x4DBF, 0x20000...0x2A6DF, 0x2A700...0x2B73F, 0x2B740...0x2B81F,
      0x2B820...0x2CEAF, 0xF900...0xFAFF, 0x2F800...0x2FA1F:
      true
    default: false
    }
  }
}
