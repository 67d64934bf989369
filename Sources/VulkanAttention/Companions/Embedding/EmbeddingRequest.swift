/// Rows of tables, gathered by number and summed: token embeddings, with those of positions and of token types.
///
///     y[n] = scale · Σ_t table_t[number_t[n]]        for n = 0 ..< N
///
/// Letters: N rows, D channels. Numbers are Int32 in device memory. What they are cannot be checked when the work is
/// recorded: a row with a number outside of its table becomes NaN. Arithmetic is f32.
public struct EmbeddingRequest: Sendable, Hashable {
  /// N.
  public let rows: Int
  /// D.
  public let channels: Int
  /// How many entries each table has, of 1 to 3 tables.
  public let entries: [Int]
  /// How all tables lie in memory.
  public let format: WeightFormat
  /// The type of y.
  public let outputType: ElementType
  /// What the sum is multiplied by.
  public let scale: Float
  let destination: CompanionRows

  /// States a gathering; what no device could run is refused here.
  ///
  /// - Parameters:
  ///   - rows: N, from 1 to 2^24.
  ///   - channels: D, from 1 to 2^24; whole blocks of the format.
  ///   - entries: how many entries each of 1 to 3 tables has, from 1 to 2^24.
  ///   - format: how all tables lie in memory.
  ///   - outputType: the type of y.
  ///   - scale: a finite number; 1 by default (Gemma: √D).
  ///   - outputStride: elements from one row of y to the next; D by default.
  /// - Throws: `AttentionError.invalidArgument`.
  public init(
    rows: Int, channels: Int, entries: [Int], format: WeightFormat = .f32,
    outputType: ElementType = .f32, scale: Float = 1, outputStride: Int? = nil
  ) throws(AttentionError) {
    try checkRange("rows", rows, 1...CompanionRows.largestExtent)
    try checkRange("channels", channels, 1...CompanionRows.largestExtent)
    try checkRange("entries.count", entries.count, 1...3)
    for (index, count) in entries.enumerated() {
      try checkRange("entries[\(index)]", count, 1...CompanionRows.largestExtent)
    }
    try format.check("channels", channels: channels)
    guard scale.isFinite else {
      throw .invalidArgument(name: "scale", value: "\(scale)", allowed: "a finite number")
    }
    self.rows = rows
    self.channels = channels
    self.entries = entries
    self.format = format
    self.outputType = outputType
    self.scale = scale
    destination = try CompanionRows(
      "y", rows: rows, channels: channels, stride: outputStride, type: outputType)
  }

  /// Elements from one row of y to the next.
  public var outputStride: Int { destination.stride }
  /// Bytes of a table.
  public func tableByteCount(_ table: Int) -> Int {
    entries[table] * format.byteCount(channels: channels)
  }
  /// Bytes up to the end of y's last row.
  public var outputByteCount: Int { destination.byteCount }
}
