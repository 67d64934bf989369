import Foundation

/// A SPIR-V binary that is not what it should be.
struct SPIRVError: Error, Equatable {
  let message: String
}

/// A SPIR-V module as a list of instructions; nothing is interpreted here.
struct SPIRVModule {
  static let magic: UInt32 = 0x0723_0203

  struct Instruction: Equatable {
    let opcode: UInt16
    let operands: [UInt32]

    /// The string that begins at an operand, and ends with a zero byte.
    func string(at index: Int) -> String {
      var bytes: [UInt8] = []
      for word in operands.dropFirst(index) {
        for shift in stride(from: UInt32(0), to: 32, by: 8) {
          let byte = UInt8(truncatingIfNeeded: word >> shift)
          if byte == 0 { return String(decoding: bytes, as: UTF8.self) }
          bytes.append(byte)
        }
      }
      return String(decoding: bytes, as: UTF8.self)
    }
  }

  let instructions: [Instruction]

  /// Reads a little-endian binary.
  init(bytes: Data) throws(SPIRVError) {
    guard bytes.count % 4 == 0 else {
      throw SPIRVError(message: "\(bytes.count) bytes are no whole number of words")
    }
    var words: [UInt32] = []
    words.reserveCapacity(bytes.count / 4)
    var word: UInt32 = 0
    for (index, byte) in bytes.enumerated() {
      word |= UInt32(byte) << (8 * UInt32(index % 4))
      if index % 4 == 3 {
        words.append(word)
        word = 0
      }
    }
    try self.init(words: words)
  }

  init(words: [UInt32]) throws(SPIRVError) {
    guard words.count >= 5, words[0] == Self.magic else {
      throw SPIRVError(message: "no SPIR-V header")
    }
    var instructions: [Instruction] = []
    var position = 5
    while position < words.count {
      let wordCount = Int(words[position] >> 16)
      let opcode = UInt16(truncatingIfNeeded: words[position])
      guard wordCount > 0, position + wordCount <= words.count else {
        throw SPIRVError(
          message: "instruction \(opcode) at word \(position) claims \(wordCount) words")
      }
      guard wordCount - 1 >= Self.minimumOperandCount(opcode) else {
        throw SPIRVError(message: "instruction \(opcode) at word \(position) is cut short")
      }
      instructions.append(
        Instruction(
          opcode: opcode, operands: Array(words[(position + 1)..<(position + wordCount)])))
      position += wordCount
    }
    self.instructions = instructions
  }

  /// How many operands the reflection reads without looking, per instruction.
  private static func minimumOperandCount(_ opcode: UInt16) -> Int {
    switch opcode {
    case Opcode.memberName, Opcode.typeVector, Opcode.typeMatrix, Opcode.typeArray,
      Opcode.typePointer, Opcode.constant, Opcode.specConstant, Opcode.variable,
      Opcode.memberDecorate:
      3
    case Opcode.name, Opcode.executionMode, Opcode.executionModeID, Opcode.typeFloat,
      Opcode.specConstantTrue, Opcode.specConstantFalse, Opcode.specConstantComposite,
      Opcode.constantComposite, Opcode.decorate, Opcode.typeRuntimeArray:
      2
    case Opcode.typeInt: 3
    case Opcode.capability, Opcode.extension, Opcode.typeBool, Opcode.typeStruct: 1
    default: 0
    }
  }
}

/// The instruction numbers the reflection knows.
enum Opcode {
  static let name: UInt16 = 5
  static let memberName: UInt16 = 6
  static let `extension`: UInt16 = 10
  static let executionMode: UInt16 = 16
  static let capability: UInt16 = 17
  static let typeBool: UInt16 = 20
  static let typeInt: UInt16 = 21
  static let typeFloat: UInt16 = 22
  static let typeVector: UInt16 = 23
  static let typeMatrix: UInt16 = 24
  static let typeArray: UInt16 = 28
  static let typeRuntimeArray: UInt16 = 29
  static let typeStruct: UInt16 = 30
  static let typePointer: UInt16 = 32
  static let constant: UInt16 = 43
  static let constantComposite: UInt16 = 44
  static let specConstantTrue: UInt16 = 48
  static let specConstantFalse: UInt16 = 49
  static let specConstant: UInt16 = 50
  static let specConstantComposite: UInt16 = 51
  static let variable: UInt16 = 59
  static let decorate: UInt16 = 71
  static let memberDecorate: UInt16 = 72
  static let executionModeID: UInt16 = 331
}

/// The decoration numbers the reflection knows.
enum Decoration {
  static let specID: UInt32 = 1
  static let rowMajor: UInt32 = 4
  static let arrayStride: UInt32 = 6
  static let matrixStride: UInt32 = 7
  static let builtIn: UInt32 = 11
  static let offset: UInt32 = 35
}
