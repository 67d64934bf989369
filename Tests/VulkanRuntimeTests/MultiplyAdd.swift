import ShaderLibrary
import Synchronization
import VulkanRuntime

/// A shader of the tests' own, so that the library ships none for them:
///
///     #version 460
///     #extension GL_EXT_buffer_reference : require
///     #extension GL_EXT_scalar_block_layout : require
///     #extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
///     layout(local_size_x_id = 0) in;
///     layout(constant_id = 1) const uint FACTOR = 3;
///     layout(buffer_reference, scalar) buffer Words { uint word[]; };
///     layout(push_constant, scalar) uniform Push {
///       uint64_t source, destination;
///       uint count, rounds;
///     } p;
///     void main() {
///       uint i = gl_GlobalInvocationID.x;
///       if (i >= p.count) return;
///       uint x = Words(p.source).word[i];
///       for (uint r = 0; r < p.rounds; r++) x = x * FACTOR + r;
///       Words(p.destination).word[i] = x;
///     }
///
/// Compiled by `glslc --target-env=vulkan1.2 -O`, then `spirv-opt --strip-debug -O`.
enum MultiplyAdd {
  struct PushConstants: BitwiseCopyable {
    var source: UInt64
    var destination: UInt64
    var count: UInt32
    var rounds: UInt32 = 1

    init(from source: DeviceBuffer, to destination: DeviceBuffer, rounds: UInt32 = 1) {
      self.source = source.address
      self.destination = destination.address
      count = UInt32(destination.byteCount / 4)
      self.rounds = rounds
    }
  }

  static let workgroupSize = 16

  static let shader = makeShader()

  /// The shader, or one that lies about itself.
  static func makeShader(
    content: ShaderBinary.Content = .compiled(base64: spirv), pushConstantByteCount: Int = 24
  ) -> ShaderBinary {
    ShaderBinary(
      name: "multiply_add", path: "multiply_add.comp", content: content, contentHash: 1,
      pushConstantByteCount: pushConstantByteCount,
      specializationConstants: [
        .init(id: 0, name: "local_size_x", type: "uint", defaultBits: 1),
        .init(id: 1, name: "FACTOR", type: "uint", defaultBits: 3),
      ],
      localSize: [.specialized(id: 0), .fixed(1), .fixed(1)], capabilities: ["Shader"])
  }

  static func description(factor: UInt32? = nil) -> PipelineDescription {
    var constants = ["local_size_x": UInt32(workgroupSize)]
    constants["FACTOR"] = factor
    return PipelineDescription(shader: shader, constants: constants)
  }

  /// Appends `destination[i] = source[i] * factor` (for one round).
  static func record(
    from source: DeviceBuffer, to destination: DeviceBuffer, rounds: UInt32 = 1,
    factor: UInt32? = nil, on device: ComputeDevice, into recorder: Recorder
  ) throws {
    let count = destination.byteCount / 4
    try recorder.dispatch(
      device.pipeline(description(factor: factor)),
      pushConstants: PushConstants(from: source, to: destination, rounds: rounds),
      groups: WorkgroupCount(x: (count + workgroupSize - 1) / workgroupSize),
      accesses: [.read(source), .write(destination)])
  }

  /// Submits work that takes `share` of half a second or so.
  static func submitSlow(
    to destination: DeviceBuffer, share: Double = 1, on device: ComputeDevice
  ) throws -> Submission {
    let rounds = try UInt32(min(roundsPerSecond(device) * share / 2, 4e9))
    return try submit(rounds: rounds, to: destination, on: device)
  }

  private static func submit(
    rounds: UInt32, to destination: DeviceBuffer, on device: ComputeDevice
  ) throws -> Submission {
    let recorder = try device.makeRecorder()
    try recorder.fill(destination, with: 1)
    try record(from: destination, to: destination, rounds: rounds, on: device, into: recorder)
    return try device.submit(recorder)
  }

  private static let measured = Mutex<[String: Double]>([:])

  /// Drivers differ by a factor of a hundred in how they compile one dependent loop.
  private static func roundsPerSecond(_ device: ComputeDevice) throws -> Double {
    let key = device.capabilities.deviceUUID + device.capabilities.driverUUID
    if let known = measured.withLock({ $0[key] }) { return known }
    let buffer = try device.makeBuffer(byteCount: 64)
    try submit(rounds: 1, to: buffer, on: device).wait()
    var rounds: UInt32 = 1 << 16
    while true {
      let start = ContinuousClock.now
      try submit(rounds: rounds, to: buffer, on: device).wait()
      let seconds = (ContinuousClock.now - start) / .seconds(1)
      if seconds > 0.03 || rounds >= 1 << 30 {
        let rate = Double(rounds) / seconds
        measured.withLock { $0[key] = rate }
        return rate
      }
      rounds *= 4
    }
  }

  private static let spirv: StaticString = """
    AwIjBwAFAQALAA0AUAAAAAAAAAARAAIAAQAAABEAAgALAAAAEQACAOMUAAALAAYAAQAAAEdMU0wuc3RkLjQ1MAAAAAAO\
    AAMA5BQAAAEAAAAPAAcABQAAAAQAAABtYWluAAAAAAsAAAAUAAAAEAAGAAQAAAARAAAAAQAAAAEAAAABAAAARwAEAAsA\
    AAALAAAAHAAAAEcAAwASAAAAAgAAAEgABQASAAAAAAAAACMAAAAAAAAASAAFABIAAAABAAAAIwAAAAgAAABIAAUAEgAA\
    AAIAAAAjAAAAEAAAAEgABQASAAAAAwAAACMAAAAUAAAARwAEACUAAAAGAAAABAAAAEcAAwAmAAAAAgAAAEgABQAmAAAA\
    AAAAACMAAAAAAAAARwAEADgAAAABAAAAAQAAAEcABABFAAAAAQAAAAAAAABHAAQARwAAAAsAAAAZAAAAEwACAAIAAAAh\
    AAMAAwAAAAIAAAAVAAQABgAAACAAAAAAAAAAFwAEAAkAAAAGAAAAAwAAACAABAAKAAAAAQAAAAkAAAA7AAQACgAAAAsA\
    AAABAAAAKwAEAAYAAAAMAAAAAAAAACAABAANAAAAAQAAAAYAAAAVAAQAEQAAAEAAAAAAAAAAHgAGABIAAAARAAAAEQAA\
    AAYAAAAGAAAAIAAEABMAAAAJAAAAEgAAADsABAATAAAAFAAAAAkAAAAVAAQAFQAAACAAAAABAAAAKwAEABUAAAAWAAAA\
    AgAAACAABAAXAAAACQAAAAYAAAAUAAIAGgAAACsABAAVAAAAIAAAAAAAAAAgAAQAIQAAAAkAAAARAAAAJwADACQAAADl\
    FAAAHQADACUAAAAGAAAAHgADACYAAAAlAAAAIAAEACQAAADlFAAAJgAAACAABAApAAAA5RQAAAYAAAArAAQAFQAAADMA\
    AAADAAAAMgAEAAYAAAA4AAAAAwAAACsABAAVAAAAPQAAAAEAAAAyAAQABgAAAEUAAAABAAAAKwAEAAYAAABGAAAAAQAA\
    ADMABgAJAAAARwAAAEUAAABGAAAARgAAADYABQACAAAABAAAAAAAAAADAAAA+AACAAUAAAD3AAMASAAAAAAAAAD7AAMA\
    DAAAAEkAAAD4AAIASQAAAEEABQANAAAADgAAAAsAAAAMAAAAPQAEAAYAAAAPAAAADgAAAEEABQAXAAAAGAAAABQAAAAW\
    AAAAPQAEAAYAAAAZAAAAGAAAAK4ABQAaAAAAGwAAAA8AAAAZAAAA9wADAB0AAAAAAAAA+gAEABsAAAAcAAAAHQAAAPgA\
    AgAcAAAA+QACAEgAAAD4AAIAHQAAAEEABQAhAAAAIgAAABQAAAAgAAAAPQAEABEAAAAjAAAAIgAAAHgABAAkAAAAJwAA\
    ACMAAABBAAYAKQAAACoAAAAnAAAAIAAAAA8AAAA9AAYABgAAACsAAAAqAAAAAgAAAAQAAAD5AAIALQAAAPgAAgAtAAAA\
    9QAHAAYAAABPAAAAKwAAAB0AAAA7AAAALgAAAPUABwAGAAAATgAAAAwAAAAdAAAAPgAAAC4AAABBAAUAFwAAADQAAAAU\
    AAAAMwAAAD0ABAAGAAAANQAAADQAAACwAAUAGgAAADYAAABOAAAANQAAAPYABAAvAAAALgAAAAAAAAD6AAQANgAAAC4A\
    AAAvAAAA+AACAC4AAACEAAUABgAAADkAAABPAAAAOAAAAIAABQAGAAAAOwAAADkAAABOAAAAgAAFAAYAAAA+AAAATgAA\
    AD0AAAD5AAIALQAAAPgAAgAvAAAAQQAFACEAAAA/AAAAFAAAAD0AAAA9AAQAEQAAAEAAAAA/AAAAeAAEACQAAABBAAAA\
    QAAAAEEABgApAAAARAAAAEEAAAAgAAAADwAAAD4ABQBEAAAATwAAAAIAAAAEAAAA+QACAEgAAAD4AAIASAAAAP0AAQA4\
    AAEA
    """
}
