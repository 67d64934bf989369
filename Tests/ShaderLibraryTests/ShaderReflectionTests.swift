import Testing

@testable import ShaderCompiler

/// A SPIR-V module written by hand, instruction by instruction.
struct ModuleBuilder {
  var words: [UInt32] = [SPIRVModule.magic, 0x0001_0500, 0, 100, 0]

  mutating func add(_ opcode: UInt16, _ operands: UInt32..., text: String? = nil) {
    let all = operands + (text.map(Self.words(of:)) ?? [])
    words.append(UInt32(all.count + 1) << 16 | UInt32(opcode))
    words += all
  }

  private static func words(of text: String) -> [UInt32] {
    let bytes = Array(text.utf8) + Array(repeating: 0, count: 4 - text.utf8.count % 4)
    return stride(from: 0, to: bytes.count, by: 4).map { start in
      (0..<4).reduce(0) { $0 | UInt32(bytes[start + $1]) << (8 * UInt32($1)) }
    }
  }

  /// A push constant block, two specialization constants and a workgroup size of (id 0, 2, 1).
  static func example() -> ModuleBuilder {
    var module = ModuleBuilder()
    module.add(Opcode.capability, 1)
    module.add(Opcode.capability, 5347)
    module.add(Opcode.capability, 65000)
    module.add(Opcode.extension, text: "SPV_KHR_cooperative_matrix")
    module.add(Opcode.executionMode, 1, 17, 1, 1, 1)
    module.add(Opcode.memberName, 10, 0, text: "query")
    module.add(Opcode.memberName, 10, 1, text: "strides")
    module.add(Opcode.memberName, 10, 2, text: "direction")
    module.add(Opcode.memberName, 10, 3, text: "half")
    module.add(Opcode.name, 20, text: "IS_CAUSAL")
    module.add(Opcode.memberDecorate, 10, 0, Decoration.offset, 0)
    module.add(Opcode.memberDecorate, 10, 1, Decoration.offset, 8)
    module.add(Opcode.memberDecorate, 10, 2, Decoration.offset, 20)
    module.add(Opcode.memberDecorate, 10, 3, Decoration.offset, 32)
    module.add(Opcode.decorate, 7, Decoration.arrayStride, 4)
    module.add(Opcode.decorate, 20, Decoration.specID, 4)
    module.add(Opcode.decorate, 21, Decoration.specID, 0)
    module.add(Opcode.decorate, 22, Decoration.builtIn, 25)
    module.add(Opcode.typeInt, 2, 64, 0)
    module.add(Opcode.typeInt, 3, 32, 0)
    module.add(Opcode.constant, 3, 4, 3)
    module.add(Opcode.typeFloat, 5, 32)
    module.add(Opcode.typeFloat, 6, 16)
    module.add(Opcode.typeArray, 7, 3, 4)
    module.add(Opcode.typeVector, 8, 5, 3)
    module.add(Opcode.typeStruct, 10, 2, 7, 8, 6)
    module.add(Opcode.typePointer, 11, 9, 10)
    module.add(Opcode.variable, 11, 12, 9)
    module.add(Opcode.typeBool, 13)
    module.add(Opcode.specConstantTrue, 13, 20)
    module.add(Opcode.specConstant, 3, 21, 64)
    module.add(Opcode.constant, 3, 23, 2)
    module.add(Opcode.constant, 3, 24, 1)
    module.add(Opcode.typeVector, 25, 3, 3)
    module.add(Opcode.specConstantComposite, 25, 22, 21, 23, 24)
    return module
  }
}

@Suite struct ShaderReflectionTests {
  private func reflect(_ builder: ModuleBuilder) throws(SPIRVError) -> ShaderReflection {
    let module = try SPIRVModule(words: builder.words)
    return try ShaderReflection(interface: module, requirements: module)
  }

  @Test func readsTheInterface() throws {
    let reflection = try reflect(.example())
    #expect(
      reflection.pushConstants == [
        .init(name: "query", type: "uint64_t", byteOffset: 0, byteCount: 8),
        .init(name: "strides", type: "uint[3]", byteOffset: 8, byteCount: 12),
        .init(name: "direction", type: "vec3", byteOffset: 20, byteCount: 12),
        .init(name: "half", type: "float16_t", byteOffset: 32, byteCount: 2),
      ])
    // 34 bytes, and Vulkan takes ranges in fours.
    #expect(reflection.pushConstantByteCount == 36)
    #expect(
      reflection.specializationConstants == [
        .init(id: 0, name: "local_size_x", type: "uint", defaultBits: 64),
        .init(id: 4, name: "IS_CAUSAL", type: "bool", defaultBits: 1),
      ])
    #expect(reflection.localSize == [.specialized(id: 0), .fixed(2), .fixed(1)])
    #expect(
      reflection.capabilities == ["Shader", "PhysicalStorageBufferAddresses", "Capability65000"])
    #expect(reflection.extensions == ["SPV_KHR_cooperative_matrix"])
  }

  @Test("Without push constants and with a fixed size there is nothing else to give")
  func readsASmallModule() throws {
    var builder = ModuleBuilder()
    builder.add(Opcode.executionMode, 1, 17, 32, 4, 1)
    let reflection = try reflect(builder)
    #expect(reflection.pushConstants.isEmpty)
    #expect(reflection.pushConstantByteCount == 0)
    #expect(reflection.localSize == [.fixed(32), .fixed(4), .fixed(1)])
  }

  @Test("A size by LocalSizeId is followed to its constants")
  func readsLocalSizeID() throws {
    var builder = ModuleBuilder()
    builder.add(Opcode.executionModeID, 1, 38, 21, 23, 23)
    builder.add(Opcode.decorate, 21, Decoration.specID, 7)
    builder.add(Opcode.typeInt, 3, 32, 0)
    builder.add(Opcode.specConstant, 3, 21, 64)
    builder.add(Opcode.constant, 3, 23, 1)
    let reflection = try reflect(builder)
    #expect(reflection.localSize == [.specialized(id: 7), .fixed(1), .fixed(1)])
    #expect(reflection.specializationConstants.map(\.name) == ["local_size_x"])
  }

  @Test("A cut or lying module is an error, wherever it is cut")
  func refusesCutModules() throws {
    let whole = ModuleBuilder.example().words
    for count in 0..<whole.count {
      var builder = ModuleBuilder()
      builder.words = Array(whole.prefix(count))
      // A cut between two instructions may leave a readable module; it must not trap.
      if let reflection = try? reflect(builder) { #expect(count > 5, "\(reflection)") }
    }
    for index in 5..<whole.count {
      var builder = ModuleBuilder()
      builder.words = whole
      builder.words[index] = 0xffff_ffff
      _ = try? reflect(builder)
      builder.words[index] = 0
      _ = try? reflect(builder)
    }
    #expect(throws: SPIRVError.self) { try SPIRVModule(words: []) }
    #expect(throws: SPIRVError.self) { try SPIRVModule(words: [0x0302_2307, 0, 0, 0, 0]) }
    #expect(throws: SPIRVError.self) { try SPIRVModule(words: Array(whole.dropLast())) }
  }

  @Test("An instruction with too few operands is an error or is not read, and never a crash")
  func refusesShortInstructions() throws {
    let whole = ModuleBuilder.example().words
    var position = 5
    var refused = 0
    while position < whole.count {
      let wordCount = Int(whole[position] >> 16)
      for kept in 1..<wordCount {
        var builder = ModuleBuilder()
        builder.words = whole
        builder.words[position] = UInt32(kept) << 16 | whole[position] & 0xffff
        builder.words.removeSubrange((position + kept)..<(position + wordCount))
        if (try? reflect(builder)) == nil { refused += 1 }
      }
      position += wordCount
    }
    #expect(refused > 40)
  }

  @Test func refusesASecondBlockAndAMissingOffset() throws {
    var second = ModuleBuilder.example()
    second.add(Opcode.variable, 11, 90, 9)
    #expect(throws: SPIRVError.self) { try reflect(second) }

    var nameless = ModuleBuilder()
    nameless.add(Opcode.executionMode, 1, 17, 1, 1, 1)
    nameless.add(Opcode.typeFloat, 5, 32)
    nameless.add(Opcode.typeStruct, 10, 5)
    nameless.add(Opcode.typePointer, 11, 9, 10)
    nameless.add(Opcode.variable, 11, 12, 9)
    #expect(throws: SPIRVError.self) { try reflect(nameless) }
  }
}
