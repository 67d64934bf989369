internal import ShaderLibrary

/// The ways in which a device can run a matrix product.
public enum MatrixProductPath: String, Sendable, Hashable, Codable, CaseIterable {
  /// A column and some rows in the registers of each invocation; no shared memory, no barrier. The best on CPU-like
  /// devices.
  case row
  /// Invocations share a column's sum: few rows, on a GPU.
  case vector
  /// Tiles of 64 x 64 in shared memory: many rows, on a GPU.
  case tile
}

/// How a matrix product runs on a device.
public struct MatrixProductPlan: Sendable, Hashable {
  /// The product.
  public let request: MatrixProductRequest
  /// The path that runs.
  public let path: MatrixProductPath
  /// Whether x and W are read by vectors.
  let isAligned: Bool
  let workgroupSize: Int
  /// Rows that an invocation sums, on the paths `row` and `vector`.
  let rowsPerTile: Int
  let groups: WorkgroupCount

  /// Up to so many rows a GPU shares the sum of a column: a tile of 64 rows would be mostly empty. Counted, not
  /// measured.
  static let vectorRows = 8
  static let tile = 64
  /// Channels of a step of the path `row`.
  static let unrolled = 16

  /// Plans a product for a device.
  ///
  /// - Parameters:
  ///   - request: the product.
  ///   - device: what the device can do.
  ///   - path: the path to run; what suits the device by default. Every device can run every path.
  /// - Throws: `AttentionError.device(.limitExceeded)` where the grid is too large.
  public init(
    _ request: MatrixProductRequest, device: DeviceCapabilities, path: MatrixProductPath? = nil
  ) throws(AttentionError) {
    let path =
      path ?? (device.kind == .cpu ? .row : request.rows <= Self.vectorRows ? .vector : .tile)
    self.request = request
    self.path = path
    isAligned =
      request.source.isAligned
      && (request.weightFormat.blockSize > 1
        || request.inputChannels % AttentionRequest.elementGranularity == 0)
    switch path {
    case .row:
      workgroupSize = device.kind == .cpu ? Self.rowWorkgroup(device) : 64
      rowsPerTile = min(request.rows, Self.rowTile(device))
      groups = WorkgroupCount(
        x: ceilingDivide(request.rows, rowsPerTile),
        y: ceilingDivide(request.outputChannels, workgroupSize))
    case .vector:
      workgroupSize = 64
      rowsPerTile = min(request.rows, Self.vectorRows)
      let count = ceilingDivide(request.outputChannels, workgroupSize / 16)
      let x = min(count, device.maxWorkgroupCount[0])
      groups = WorkgroupCount(
        x: x, y: ceilingDivide(count, x), z: ceilingDivide(request.rows, rowsPerTile))
    case .tile:
      workgroupSize = 128
      rowsPerTile = Self.tile
      groups = WorkgroupCount(
        x: ceilingDivide(request.outputChannels, Self.tile),
        y: ceilingDivide(request.rows, Self.tile))
    }
    for (axis, count) in [groups.x, groups.y, groups.z].enumerated() {
      guard count <= device.maxWorkgroupCount[axis] else {
        throw .device(
          .limitExceeded(
            what: "workgroups of \(shaderName) along axis \(axis)", requested: count,
            allowed: device.maxWorkgroupCount[axis]))
      }
    }
  }

  private static func rowWorkgroup(_ device: DeviceCapabilities) -> Int { device.subgroupSize }

  private static func rowTile(_ device: DeviceCapabilities) -> Int { 8 }

  var shaderName: String { "companion_product_\(path.rawValue)" }

  /// What W must be aligned to.
  var weightAlignment: Int {
    isAligned && request.weightFormat.blockSize == 1
      ? BoundBuffers.vectorAlignment : request.weightFormat.alignment
  }

  func pipelineDescription() throws(AttentionError) -> PipelineDescription {
    var constants: [String: UInt32] = [
      "local_size_x": UInt32(workgroupSize),
      "INPUT_TYPE": request.inputType.shaderConstant,
      "WEIGHT_FORMAT": request.weightFormat.shaderConstant,
      "BIAS_TYPE": (request.biasType ?? .f32).shaderConstant,
      "OUTPUT_TYPE": request.outputType.shaderConstant,
      "ALIGNED": isAligned ? 1 : 0,
      "ACTIVATION": request.activation.shaderConstant,
    ]
    if path != .tile { constants["ROWS_PER_TILE"] = UInt32(rowsPerTile) }
    if path == .row { constants["UNROLLED"] = UInt32(Self.unrolled) }
    return PipelineDescription(shader: try .required(shaderName), constants: constants)
  }
}
