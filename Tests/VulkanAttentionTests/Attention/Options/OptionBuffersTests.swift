import TestSupport
import Testing

@testable import VulkanAttention
@testable import VulkanRuntime

/// Buffers of options that do not fit are refused before anything is recorded.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct OptionBuffersTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  private static func request(
    _ operands: [AttentionOperand.Kind] = [], resumes: Bool = false, returnsState: Bool = false,
    valuesAreKeys: Bool = false, hasKeySources: Bool = false
  ) throws -> AttentionRequest {
    try AttentionRequest(
      batchSize: 2, queryTokens: 4, keyTokens: 6, queryHeads: 2, headSize: 8,
      operands: operands.map { AttentionOperand($0) }, resumes: resumes,
      returnsState: returnsState, valuesAreKeys: valuesAreKeys, hasKeySources: hasKeySources)
  }

  private func buffers(_ kernel: AttentionKernel) throws -> AttentionBuffers {
    let request = kernel.request
    let key = try device.makeBuffer(byteCount: request.byteCount(of: .key))
    let value =
      request.valuesAreKeys ? key : try device.makeBuffer(byteCount: request.byteCount(of: .value))
    var operands: [AttentionOperand.Kind: DeviceBuffer] = [:]
    for operand in request.operands {
      operands[operand.kind] = try device.makeBuffer(
        byteCount: request.byteCount(of: operand.kind))
    }
    return AttentionBuffers(
      query: try device.makeBuffer(byteCount: request.byteCount(of: .query)), key: key,
      value: value, output: try device.makeBuffer(byteCount: request.byteCount(of: .output)),
      operands: operands,
      keySources: (0..<(request.hasKeySources ? request.keyHeads : 0)).map { _ in
        AttentionKeySource(key: key, value: value)
      }, scratch: try device.makeBuffer(byteCount: max(16, kernel.plan.scratchByteCount)))
  }

  private func expectRefused(
    _ kernel: AttentionKernel, _ good: AttentionBuffers, _ expected: AttentionError,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ change: (inout AttentionBuffers) throws -> Void
  ) throws {
    var buffers = good
    try change(&buffers)
    let recorder = try device.makeRecorder()
    #expect(throws: expected, sourceLocation: sourceLocation) {
      try kernel.record(buffers, into: recorder)
    }
    #expect(recorder.retained.isEmpty, sourceLocation: sourceLocation)
  }

  @Test("An operand that is missing, too small or misaligned, and one that no one asked for")
  func operands() throws {
    let kernel = try AttentionKernel(Self.request([.bias, .mask, .keyLengths]), on: device)
    let good = try buffers(kernel)
    for kind in [AttentionOperand.Kind.bias, .mask, .keyLengths] {
      try expectRefused(kernel, good, .missingOperandBuffer(operand: kind)) {
        $0.operands[kind] = nil
      }
      let bytes = kernel.request.byteCount(of: kind)
      let small = try device.makeBuffer(byteCount: bytes - 1)
      try expectRefused(
        kernel, good,
        .bufferTooSmall(tensor: kind.rawValue, requiredBytes: bytes, availableBytes: bytes - 1)
      ) { $0.operands[kind] = small }
      let odd = try device.makeBuffer(byteCount: bytes + 16).slice(2..<bytes + 2)
      if kind == .mask {
        // Bytes lie anywhere.
        var buffers = good
        buffers.operands[kind] = odd
        let recorder = try device.makeRecorder()
        try kernel.record(buffers, into: recorder)
        try device.submit(recorder).wait()
      } else {
        try expectRefused(
          kernel, good,
          .misaligned(tensor: kind.rawValue, address: odd.address, requiredAlignment: 4)
        ) { $0.operands[kind] = odd }
      }
      try expectRefused(
        kernel, good, .overlappingOutput(output: "output", with: kind.rawValue)
      ) {
        $0.operands[kind] = try device.makeBuffer(byteCount: 4096)
        $0.output = $0.operands[kind] ?? $0.output
      }
    }
    try expectRefused(
      kernel, good,
      .invalidArgument(
        name: "operands.sinks", value: "a buffer",
        allowed: "only what the attention names among its operands")
    ) { $0.operands[.sinks] = good.query }
  }

  @Test("A state is updated in place by its exact partner alone")
  func stateInPlace() throws {
    let kernel = try AttentionKernel(
      Self.request(resumes: true, returnsState: true), on: device)
    let good = try buffers(kernel)
    let pairs: [(AttentionOperand.Kind, AttentionOperand.Kind)] = [
      (.finalMax, .initialMax), (.finalSum, .initialSum), (.finalOutput, .initialOutput),
    ]
    var inPlace = good
    for (written, read) in pairs { inPlace.operands[written] = good.operands[read] }
    let recorder = try device.makeRecorder()
    try kernel.record(inPlace, into: recorder)
    try device.submit(recorder).wait()

    // Of the same size, but another's.
    try expectRefused(
      kernel, good, .overlappingOutput(output: "final_max", with: "initial_sum")
    ) { $0.operands[.finalMax] = good.operands[.initialSum] }
    try expectRefused(
      kernel, good, .overlappingOutput(output: "final_max", with: "final_sum")
    ) { $0.operands[.finalMax] = good.operands[.finalSum] }
    // The partner, but not from its beginning.
    let bytes = kernel.request.byteCount(of: .initialMax)
    let whole = try device.makeBuffer(byteCount: bytes + 16)
    try expectRefused(
      kernel, good, .overlappingOutput(output: "final_max", with: "initial_max")
    ) {
      $0.operands[.initialMax] = try whole.slice(0..<bytes)
      $0.operands[.finalMax] = try whole.slice(4..<4 + bytes)
    }
  }

  @Test("As many key sources as key heads, each large enough")
  func keySources() throws {
    let kernel = try AttentionKernel(Self.request(hasKeySources: true), on: device)
    let good = try buffers(kernel)
    let source = try #require(good.keySources.first)
    for count in [0, 1, 3] {
      try expectRefused(
        kernel, good,
        .invalidArgument(
          name: "keySources", value: "\(count) sources", allowed: "one for each of 2 key heads")
      ) { $0.keySources = (0..<count).map { _ in source } }
    }
    let bytes = kernel.request.byteCount(of: .value)
    // Of one head: half of what k would be with two.
    #expect(bytes == 2 * 6 * 8 * 4)
    try expectRefused(
      kernel, good,
      .bufferTooSmall(
        tensor: "keySources[1].value", requiredBytes: bytes, availableBytes: bytes - 16)
    ) { $0.keySources[1].value = try source.value.slice(0..<bytes - 16) }
    try expectRefused(
      kernel, good, .overlappingOutput(output: "output", with: "keySources[0].key")
    ) {
      $0.output = try device.makeBuffer(byteCount: 1024)
      $0.keySources[0].key = $0.output
    }
  }

  @Test("Values that are keys are in the keys' buffer")
  func valuesAreKeys() throws {
    let kernel = try AttentionKernel(Self.request(valuesAreKeys: true), on: device)
    let good = try buffers(kernel)
    let recorder = try device.makeRecorder()
    try kernel.record(good, into: recorder)
    try device.submit(recorder).wait()
    let other = try device.makeBuffer(byteCount: 4096)
    try expectRefused(
      kernel, good,
      .invalidArgument(
        name: "value", value: "another buffer than key",
        allowed: "the buffer of the keys, of which the request says that they are the values")
    ) { $0.value = other }
  }

  @Test("Rows that are not aligned need no more than their element's alignment")
  func elementAlignment() throws {
    let request = try AttentionRequest(
      queryTokens: 4, queryHeads: 2, headSize: 6, elementType: .f16)
    let kernel = try AttentionKernel(request, on: device, path: .row)
    let whole = try device.makeBuffer(byteCount: 1024)
    let good = try buffers(kernel)
    var buffers = good
    buffers.key = try whole.slice(2..<1024)
    let recorder = try device.makeRecorder()
    try kernel.record(buffers, into: recorder)
    try device.submit(recorder).wait()
    let odd = try whole.slice(1..<1024)
    try expectRefused(
      kernel, good, .misaligned(tensor: "key", address: odd.address, requiredAlignment: 2)
    ) { $0.key = odd }
  }
}
