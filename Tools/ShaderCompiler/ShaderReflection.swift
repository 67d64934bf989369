/// What the host must know of a compute shader, read from its SPIR-V.
struct ShaderReflection: Equatable {
  struct Member: Equatable {
    let name: String
    let type: String
    let byteOffset: Int
    let byteCount: Int
  }

  struct Constant: Equatable {
    let id: UInt32
    let name: String
    let type: String
    let defaultBits: UInt64
  }

  enum Size: Equatable {
    case fixed(UInt32)
    case specialized(id: UInt32)
  }

  var pushConstants: [Member] = []
  var pushConstantByteCount = 0
  var specializationConstants: [Constant] = []
  var localSize: [Size] = []
  var capabilities: [String] = []
  var extensions: [String] = []

  /// - Parameters:
  ///   - interface: a module that still has its names; the interface is read from it.
  ///   - requirements: the module that will run; capabilities and extensions are read from it.
  init(interface: SPIRVModule, requirements: SPIRVModule) throws(SPIRVError) {
    let reader = InterfaceReader(interface)
    (pushConstants, pushConstantByteCount) = try reader.pushConstants()
    localSize = try reader.localSize()
    specializationConstants = try reader.specializationConstants(localSize: localSize)
    for instruction in requirements.instructions {
      switch instruction.opcode {
      case Opcode.capability: capabilities.append(capabilityName(instruction.operands[0]))
      case Opcode.extension: extensions.append(instruction.string(at: 0))
      default: break
      }
    }
  }
}

/// Follows the ids of one module.
private struct InterfaceReader {
  private typealias Instruction = SPIRVModule.Instruction

  private struct MemberKey: Hashable {
    let type: UInt32
    let member: UInt32
  }

  private static let pushConstantStorage: UInt32 = 9
  private static let workgroupSizeBuiltIn: UInt32 = 25
  private static let localSizeMode: UInt32 = 17
  private static let localSizeIDMode: UInt32 = 38

  private var definitions: [UInt32: Instruction] = [:]
  private var names: [UInt32: String] = [:]
  private var memberNames: [MemberKey: String] = [:]
  private var decorations: [UInt32: [UInt32: UInt32]] = [:]
  private var memberDecorations: [MemberKey: [UInt32: UInt32]] = [:]
  private var constantIDs: [UInt32] = []
  private var variables: [Instruction] = []
  private var modes: [Instruction] = []

  init(_ module: SPIRVModule) {
    for instruction in module.instructions {
      let operands = instruction.operands
      switch instruction.opcode {
      case Opcode.name:
        names[operands[0]] = instruction.string(at: 1)
      case Opcode.memberName:
        memberNames[MemberKey(type: operands[0], member: operands[1])] = instruction.string(at: 2)
      case Opcode.decorate:
        decorations[operands[0], default: [:]][operands[1]] = operands.count > 2 ? operands[2] : 0
      case Opcode.memberDecorate:
        let key = MemberKey(type: operands[0], member: operands[1])
        memberDecorations[key, default: [:]][operands[2]] = operands.count > 3 ? operands[3] : 0
      case Opcode.typeBool, Opcode.typeInt, Opcode.typeFloat, Opcode.typeVector,
        Opcode.typeMatrix, Opcode.typeArray, Opcode.typeRuntimeArray, Opcode.typeStruct,
        Opcode.typePointer:
        definitions[operands[0]] = instruction
      case Opcode.constant, Opcode.constantComposite, Opcode.specConstantTrue,
        Opcode.specConstantFalse, Opcode.specConstant, Opcode.specConstantComposite:
        definitions[operands[1]] = instruction
        constantIDs.append(operands[1])
      case Opcode.variable:
        variables.append(instruction)
      case Opcode.executionMode, Opcode.executionModeID:
        modes.append(instruction)
      default: break
      }
    }
  }

  private func definition(_ id: UInt32) throws(SPIRVError) -> Instruction {
    guard let instruction = definitions[id] else {
      throw SPIRVError(message: "id %\(id) is used as a type or constant and is none that is known")
    }
    return instruction
  }

  // MARK: Push constants

  func pushConstants() throws(SPIRVError) -> ([ShaderReflection.Member], Int) {
    let blocks = variables.filter { $0.operands[2] == Self.pushConstantStorage }
    guard let block = blocks.first else { return ([], 0) }
    guard blocks.count == 1 else {
      throw SPIRVError(message: "there are \(blocks.count) push constant blocks")
    }
    let pointer = try definition(block.operands[0])
    guard pointer.opcode == Opcode.typePointer else {
      throw SPIRVError(message: "the push constant block is no pointer")
    }
    let structure = try definition(pointer.operands[2])
    guard structure.opcode == Opcode.typeStruct else {
      throw SPIRVError(message: "the push constant block is no structure")
    }
    let members = try self.members(of: structure)
    let byteCount = members.map { $0.byteOffset + $0.byteCount }.max() ?? 0
    // Vulkan takes push constant ranges in units of four bytes.
    return (members, (byteCount + 3) / 4 * 4)
  }

  private func members(
    of structure: Instruction
  ) throws(SPIRVError) -> [ShaderReflection.Member] {
    var members: [ShaderReflection.Member] = []
    for (index, type) in structure.operands.dropFirst().enumerated() {
      let key = MemberKey(type: structure.operands[0], member: UInt32(index))
      guard let offset = memberDecorations[key]?[Decoration.offset] else {
        throw SPIRVError(message: "member \(index) of %\(structure.operands[0]) has no offset")
      }
      members.append(
        ShaderReflection.Member(
          name: memberNames[key] ?? "", type: try typeName(type), byteOffset: Int(offset),
          byteCount: try byteCount(of: type, member: key)))
    }
    return members
  }

  private func byteCount(of type: UInt32, member: MemberKey?) throws(SPIRVError) -> Int {
    let instruction = try definition(type)
    let operands = instruction.operands
    switch instruction.opcode {
    case Opcode.typeInt, Opcode.typeFloat:
      return Int(operands[1]) / 8
    case Opcode.typeVector:
      return try byteCount(of: operands[1], member: nil) * Int(operands[2])
    case Opcode.typeMatrix:
      let column = try definition(operands[1])
      let decorations = member.flatMap { memberDecorations[$0] } ?? [:]
      guard let stride = decorations[Decoration.matrixStride],
        column.opcode == Opcode.typeVector
      else { throw SPIRVError(message: "matrix %\(type) has no stride") }
      let isRowMajor = decorations[Decoration.rowMajor] != nil
      return Int(stride) * Int(isRowMajor ? column.operands[2] : operands[2])
    case Opcode.typeArray:
      guard let stride = decorations[type]?[Decoration.arrayStride] else {
        throw SPIRVError(message: "array %\(type) has no stride")
      }
      return Int(stride) * (try scalar(operands[2]))
    case Opcode.typeStruct:
      return try members(of: instruction).map { $0.byteOffset + $0.byteCount }.max() ?? 0
    case Opcode.typePointer:
      // The only pointers a block can hold are physical addresses.
      return 8
    default:
      throw SPIRVError(message: "type %\(type) has no size in a push constant block")
    }
  }

  // MARK: Constants

  private func scalar(_ id: UInt32) throws(SPIRVError) -> Int {
    let constant = try definition(id)
    guard constant.opcode == Opcode.constant || constant.opcode == Opcode.specConstant else {
      throw SPIRVError(message: "%\(id) is no scalar constant")
    }
    return Int(constant.operands[2])
  }

  func specializationConstants(
    localSize: [ShaderReflection.Size]
  ) throws(SPIRVError) -> [ShaderReflection.Constant] {
    var constants: [ShaderReflection.Constant] = []
    for resultID in constantIDs {
      guard let id = decorations[resultID]?[Decoration.specID] else { continue }
      let constant = try definition(resultID)
      let bits: UInt64
      switch constant.opcode {
      case Opcode.specConstantTrue: bits = 1
      case Opcode.specConstantFalse: bits = 0
      case Opcode.specConstant:
        let high = constant.operands.count > 3 ? constant.operands[3] : 0
        bits = UInt64(high) << 32 | UInt64(constant.operands[2])
      default: throw SPIRVError(message: "specialization constant \(id) is no scalar")
      }
      var name = names[resultID] ?? ""
      if name.isEmpty, let axis = localSize.firstIndex(of: .specialized(id: id)) {
        // `local_size_x_id` makes a constant that has no name of its own.
        name = "local_size_" + ["x", "y", "z"][axis]
      }
      // From SPIR-V 1.6 on a workgroup's size has one constant for itself and one for those who ask for it.
      if constants.contains(where: { $0.id == id && $0.name == name }) { continue }
      constants.append(
        ShaderReflection.Constant(
          id: id, name: name, type: try typeName(constant.operands[0]), defaultBits: bits))
    }
    return constants.sorted { $0.id < $1.id }
  }

  /// The workgroup's size in x, y and z. The built-in constant, where there is one, wins over the
  /// execution mode, as the SPIR-V specification says.
  func localSize() throws(SPIRVError) -> [ShaderReflection.Size] {
    func size(_ id: UInt32) throws(SPIRVError) -> ShaderReflection.Size {
      if let specID = decorations[id]?[Decoration.specID] { return .specialized(id: specID) }
      return .fixed(UInt32(truncatingIfNeeded: try scalar(id)))
    }
    for id in constantIDs
    where decorations[id]?[Decoration.builtIn] == Self.workgroupSizeBuiltIn {
      var sizes: [ShaderReflection.Size] = []
      for component in try definition(id).operands.dropFirst(2) {
        sizes.append(try size(component))
      }
      return try three(sizes)
    }
    for mode in modes {
      if mode.operands[1] == Self.localSizeIDMode {
        var sizes: [ShaderReflection.Size] = []
        for component in mode.operands.dropFirst(2) { sizes.append(try size(component)) }
        return try three(sizes)
      }
      if mode.operands[1] == Self.localSizeMode {
        return try three(mode.operands.dropFirst(2).map { .fixed($0) })
      }
    }
    throw SPIRVError(message: "the workgroup's size is not given: is this a compute shader?")
  }

  private func three(
    _ sizes: [ShaderReflection.Size]
  ) throws(SPIRVError) -> [ShaderReflection.Size] {
    guard sizes.count == 3 else {
      throw SPIRVError(message: "the workgroup's size has \(sizes.count) components")
    }
    return sizes
  }

  // MARK: Names of types

  private func typeName(_ id: UInt32) throws(SPIRVError) -> String {
    let instruction = try definition(id)
    let operands = instruction.operands
    switch instruction.opcode {
    case Opcode.typeBool: return "bool"
    case Opcode.typeInt:
      let base = operands[2] == 0 ? "uint" : "int"
      return operands[1] == 32 ? base : "\(base)\(operands[1])_t"
    case Opcode.typeFloat:
      // A third operand is the encoding: bfloat16 is the one of 16 bits.
      if operands.count > 2 { return operands[1] == 16 ? "bfloat16_t" : "float\(operands[1])_t" }
      return ["16": "float16_t", "32": "float", "64": "double"]["\(operands[1])"] ?? "float?"
    case Opcode.typeVector:
      let scalar = try typeName(operands[1])
      let prefixes = [
        "float": "vec", "double": "dvec", "float16_t": "f16vec", "bool": "bvec", "uint": "uvec",
        "int": "ivec", "uint64_t": "u64vec", "int64_t": "i64vec", "uint16_t": "u16vec",
        "int16_t": "i16vec", "uint8_t": "u8vec", "int8_t": "i8vec",
      ]
      return prefixes[scalar].map { "\($0)\(operands[2])" } ?? "\(scalar)x\(operands[2])"
    case Opcode.typeMatrix: return "\(try typeName(operands[1]))x\(operands[2])"
    case Opcode.typeArray: return "\(try typeName(operands[1]))[\(try scalar(operands[2]))]"
    case Opcode.typeRuntimeArray: return "\(try typeName(operands[1]))[]"
    case Opcode.typeStruct: return names[id] ?? "struct"
    case Opcode.typePointer: return "buffer_reference"
    default: throw SPIRVError(message: "type %\(id) is none that is known")
    }
  }
}
