import AttentionReference
import VulkanAttention

/// Holds the kernels around an attention against the reference in Double.
public enum CompanionCheck {
  /// The cases of a depth.
  public static func runs(_ depth: CheckDepth) -> [CheckRun] {
    products(depth) + normalizations(depth) + elementwise(depth) + softmaxes(depth)
      + embeddings(depth) + samplings(depth)
  }

  /// What a case finds: the errors of its results, and what else is wrong.
  struct Finding {
    var errors: [CheckError] = []
    var problems: [String] = []

    /// Compares a result in the gate of its type.
    mutating func compare(
      _ name: String, _ actual: [Float], _ expected: [Double],
      _ type: VulkanAttention.ElementType
    ) {
      errors.append(
        CheckError(
          name, .relativeRMS(actual: actual, expected: expected),
          gate: AttentionGates.output(type), problems: &problems))
    }
  }

  static func checkRun(
    _ id: String, group: String, type: VulkanAttention.ElementType, path: String,
    _ body:
      @escaping @Sendable (ComputeDevice, inout SplitMix64, inout Finding) async throws ->
      Void
  ) -> CheckRun {
    let id = "companions/\(id)"
    return CheckRun(id: id, pipelines: id) { device in
      var random = SplitMix64(seed: id)
      var finding = Finding()
      do {
        try await body(device, &random, &finding)
      } catch {
        finding.problems.append("\(error)")
      }
      return CheckOutcome(
        id: id, group: group, elementType: type, path: path,
        verdict: finding.problems.isEmpty ? .passed : .failed(finding.problems),
        errors: finding.errors)
    }
  }

  static func run(
    on device: ComputeDevice, _ record: (Recorder) throws -> Void
  ) async throws {
    let recorder = try device.makeRecorder()
    try record(recorder)
    try await device.submit(recorder).completed()
  }

  // MARK: - Matrix products

  private static func products(_ depth: CheckDepth) -> [CheckRun] {
    let shapes: [(rows: Int, columns: Int, channels: Int)] =
      switch depth {
      case .quick: [(3, 70, 96)]
      case .standard: [(1, 5, 32), (3, 70, 96), (67, 129, 160), (9, 11, 7), (70, 6, 100)]
      case .full:
        [1, 2, 7, 8, 9, 64, 65, 130].flatMap { rows in
          [(rows, 5, 32), (rows, 64, 64), (rows, 129, 224), (rows, 33, 20), (rows, 65, 101)]
        }
      }
    var runs: [CheckRun] = []
    for path in MatrixProductPath.allCases {
      for (number, shape) in shapes.enumerated() {
        for (index, format) in WeightFormat.allCases.enumerated()
        where shape.channels % format.blockSize == 0 {
          // Types, bias, activation and residual by turns.
          let turn = number + index
          let types = VulkanAttention.ElementType.allCases
          let inputType = depth == .quick ? types[index % 3] : types[turn % 3]
          let outputType = types[(turn + index / 2) % 3]
          let activation = Activation.allCases[turn % 5]
          let bias = turn % 2 == 0 ? types[turn / 2 % 3] : nil
          let hasResidual = turn % 3 != 0
          let padding = turn % 4 == 1 ? 8 : turn % 4 == 3 ? 3 : 0
          let id =
            "product/\(format.name)/M\(shape.rows)-N\(shape.columns)-K\(shape.channels)-"
            + "\(inputType)-\(outputType)-\(activation)-\(path)"
          runs.append(
            checkRun(id, group: "product, \(format.name)", type: outputType, path: path.rawValue) {
              device, random, finding in
              let request = try MatrixProductRequest(
                rows: shape.rows, outputChannels: shape.columns, inputChannels: shape.channels,
                weightFormat: format, inputType: inputType, outputType: outputType,
                biasType: bias, activation: activation, hasResidual: hasResidual,
                inputStride: shape.channels + padding, outputStride: shape.columns + padding)
              try await product(request, path, device, &random, &finding)
            })
        }
      }
    }
    return runs
  }

  private static func product(
    _ request: MatrixProductRequest, _ path: MatrixProductPath, _ device: ComputeDevice,
    _ random: inout SplitMix64, _ finding: inout Finding
  ) async throws {
    let (m, n, k) = (request.rows, request.outputChannels, request.inputChannels)
    let kernel = try MatrixProductKernel(
      MatrixProductPlan(request, device: device.capabilities, path: path), on: device)
    let input = CompanionTensor(
      rows: m, channels: k, stride: m == 1 ? nil : request.inputStride, type: request.inputType)
    let output = CompanionTensor(
      rows: m, channels: n, stride: m == 1 ? nil : request.outputStride, type: request.outputType)
    let x = input.numbers(&random)
    let weight = request.weightFormat.stored(
      random.normal(n * k, deviation: 1 / Float(k).squareRoot()))
    let residual = request.hasResidual ? output.numbers(&random) : nil
    let bias = request.biasType.map { type in
      CompanionTensor(rows: 1, channels: n, type: type).numbers(&random)
    }
    var buffers = MatrixProductBuffers(
      input: try await input.upload(x, "x", on: device),
      weight: try await device.makeBuffer(
        weight.bytes + [UInt8](repeating: 0xFF, count: 64), label: "weight"
      ).slice(0..<weight.bytes.count),
      output: try await output.poisoned("y", on: device).buffer)
    let result = try await output.poisoned("y", on: device)
    buffers.output = result.buffer
    if let residual {
      buffers.residual = try await output.upload(residual, "residual", on: device)
    }
    if let bias, let type = request.biasType {
      buffers.bias = try await CompanionTensor(rows: 1, channels: n, type: type).upload(
        bias, "bias", on: device)
    }
    let bound = buffers
    try await run(on: device) { try kernel.record(bound, into: $0) }
    let y = try await result.read(on: device, problems: &finding.problems)
    finding.compare(
      "y", y,
      CompanionReference.matrixProduct(
        x.map(Double.init), weight: weight.numbers, inputChannels: k,
        bias: bias?.map(Double.init), activation: request.activation.reference,
        residual: residual?.map(Double.init)), request.outputType)
  }

  // MARK: - Rows

  private static func shapes(_ depth: CheckDepth) -> [(rows: Int, channels: Int, padding: Int)] {
    switch depth {
    case .quick: [(3, 96, 0), (2, 59, 3)]
    case .standard: [(1, 1, 0), (3, 96, 8), (2, 59, 3), (5, 1000, 0), (70, 384, 0)]
    case .full:
      [1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 64, 100, 255, 256, 257, 1024, 4096, 5003].flatMap {
        [(1, $0, 0), (5, $0, 8), (9, $0, 1)]
      }
    }
  }

  private static func normalizations(_ depth: CheckDepth) -> [CheckRun] {
    let types = VulkanAttention.ElementType.allCases
    var runs: [CheckRun] = []
    for (number, shape) in shapes(depth).enumerated() {
      for kind in NormalizationRequest.Kind.allCases {
        for (index, type) in types.enumerated() {
          let turn = number + index
          let residualType = turn % 3 == 2 ? nil : types[turn % 3]
          let outputType = types[(turn + number) % 3]
          let id =
            "\(kind.rawValue)/\(type)/N\(shape.rows)-D\(shape.channels)-\(outputType)"
            + (residualType.map { "-residual-\($0)" } ?? "")
          runs.append(
            checkRun(id, group: "\(kind.rawValue) norm", type: outputType, path: "norm") {
              device, random, finding in
              let request = try NormalizationRequest(
                rows: shape.rows, channels: shape.channels, kind: kind, epsilon: 1e-5,
                inputType: type, outputType: outputType, weightType: types[(turn + 1) % 3],
                residualType: residualType, hasWeight: turn % 4 != 3,
                hasBias: turn % 2 == 0, returnsSum: residualType != nil && number % 2 == 0,
                inputStride: shape.channels + shape.padding)
              try await normalization(request, device, &random, &finding)
            })
        }
      }
    }
    return runs
  }

  private static func normalization(
    _ request: NormalizationRequest, _ device: ComputeDevice, _ random: inout SplitMix64,
    _ finding: inout Finding
  ) async throws {
    let (rows, channels) = (request.rows, request.channels)
    let kernel = try NormalizationKernel(request, on: device)
    func tensor(_ type: VulkanAttention.ElementType) -> CompanionTensor {
      CompanionTensor(
        rows: rows, channels: channels, stride: rows == 1 ? nil : request.inputStride, type: type)
    }
    // Far from 0, where a variance as a difference of squares is lost.
    let input = tensor(request.inputType)
    let x = input.numbers(&random).map {
      Float(request.inputType.storage.rounded(Double($0) + 30))
    }
    let residual = request.residualType.map { tensor($0).numbers(&random) }
    let vector = CompanionTensor(rows: 1, channels: channels, type: request.weightType)
    let weight = request.hasWeight ? vector.numbers(&random) : nil
    let bias = request.hasBias ? vector.numbers(&random) : nil
    let output = try await CompanionTensor(
      rows: rows, channels: channels, type: request.outputType
    ).poisoned("y", on: device)
    var buffers = NormalizationBuffers(
      input: try await input.upload(x, "x", on: device), output: output.buffer)
    if let weight { buffers.weight = try await vector.upload(weight, "weight", on: device) }
    if let bias { buffers.bias = try await vector.upload(bias, "bias", on: device) }
    var sum: CompanionTensor.Output?
    if let residual, let type = request.residualType {
      buffers.residual = try await tensor(type).upload(residual, "residual", on: device)
      if request.returnsSum {
        sum = try await tensor(type).poisoned("sum", on: device)
        buffers.sum = sum?.buffer
      }
    }
    let bound = buffers
    try await run(on: device) { try kernel.record(bound, into: $0) }
    let y = try await output.read(on: device, problems: &finding.problems)
    let s = x.indices.map { Double(x[$0]) + Double(residual?[$0] ?? 0) }
    finding.compare(
      "y", y,
      CompanionReference.normalized(
        s, channels: channels, isCentered: request.kind == .layer,
        epsilon: Double(request.epsilon), weight: weight?.map(Double.init),
        bias: bias?.map(Double.init)), request.outputType)
    if let sum, let type = request.residualType {
      finding.compare("sum", try await sum.read(on: device, problems: &finding.problems), s, type)
    }
  }

  private static func elementwise(_ depth: CheckDepth) -> [CheckRun] {
    let types = VulkanAttention.ElementType.allCases
    var runs: [CheckRun] = []
    for (number, shape) in shapes(depth).enumerated() {
      for (index, activation) in Activation.allCases.enumerated() {
        for combination in ElementwiseRequest.Combination.allCases {
          let inputType = types[(number + index) % 3]
          let outputType = types[(number + index / 2) % 3]
          let id =
            "elementwise/\(inputType)/N\(shape.rows)-C\(shape.channels)-\(activation)-"
            + "\(combination)-\(outputType)"
          runs.append(
            checkRun(id, group: "elementwise", type: outputType, path: "elementwise") {
              device, random, finding in
              // a and b are the halves of one tensor's rows.
              let hasSecond = combination != .none
              let width = shape.channels * 2 + shape.padding
              let request = try ElementwiseRequest(
                rows: shape.rows, channels: shape.channels, activation: activation,
                combination: combination, inputType: inputType, outputType: outputType,
                firstStride: width, secondStride: hasSecond ? width : nil)
              let kernel = try ElementwiseKernel(request, on: device)
              let whole = CompanionTensor(rows: shape.rows, channels: width, type: inputType)
              let x = whole.numbers(&random).map { $0 * 2 }
              let both = try await whole.upload(x, "a and b", on: device)
              let output = try await CompanionTensor(
                rows: shape.rows, channels: shape.channels, type: outputType
              ).poisoned("y", on: device)
              let bytes = inputType.byteCount
              let buffers = ElementwiseBuffers(
                first: both,
                second: hasSecond
                  ? try both.slice(shape.channels * bytes..<both.byteCount) : nil,
                output: output.buffer)
              try await run(on: device) { try kernel.record(buffers, into: $0) }
              let expected = (0..<shape.rows).flatMap { row in
                (0..<shape.channels).map { channel in
                  let a = activation.reference(Double(x[row * width + channel]))
                  let b = Double(x[row * width + shape.channels + channel])
                  return combination == .multiply ? a * b : combination == .add ? a + b : a
                }
              }
              finding.compare(
                "y", try await output.read(on: device, problems: &finding.problems), expected,
                outputType)
            })
        }
      }
    }
    return runs
  }

  private static func softmaxes(_ depth: CheckDepth) -> [CheckRun] {
    let types = VulkanAttention.ElementType.allCases
    return shapes(depth).enumerated().flatMap { number, shape in
      types.enumerated().map { index, inputType in
        let outputType = types[(number + index) % 3]
        let id = "softmax/\(inputType)/N\(shape.rows)-C\(shape.channels)-\(outputType)"
        return checkRun(id, group: "softmax", type: outputType, path: "softmax") {
          device, random, finding in
          let request = try SoftmaxRequest(
            rows: shape.rows, channels: shape.channels, scale: 2, inputType: inputType,
            outputType: outputType, inputStride: shape.channels + shape.padding)
          let kernel = try SoftmaxKernel(request, on: device)
          let input = CompanionTensor(
            rows: shape.rows, channels: shape.channels,
            stride: shape.rows == 1 ? nil : shape.channels + shape.padding, type: inputType)
          var x = input.numbers(&random)
          // Hidden entries, and a row of nothing else.
          for place in x.indices where place % 7 == 3 { x[place] = -.infinity }
          if shape.rows > 2 {
            for place in shape.channels..<2 * shape.channels { x[place] = -.infinity }
          }
          let output = try await CompanionTensor(
            rows: shape.rows, channels: shape.channels, type: outputType
          ).poisoned("y", on: device)
          let buffers = SoftmaxBuffers(
            input: try await input.upload(x, "x", on: device), output: output.buffer)
          try await run(on: device) { try kernel.record(buffers, into: $0) }
          finding.compare(
            "y", try await output.read(on: device, problems: &finding.problems),
            CompanionReference.softmax(x.map(Double.init), channels: shape.channels, scale: 2),
            outputType)
        }
      }
    }
  }
}
