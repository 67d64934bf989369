import Dispatch

/// Fills `width` values of `rows` and one value of `perRow` for every row, on all cores.
///
/// - Parameters:
///   - rows: `[perRow.count, width]`, row-major.
///   - width: values in a row.
///   - perRow: one value for each row.
///   - body: fills the row whose number it is given; called once for each, in any order.
func fillConcurrently(
  _ rows: inout [Double], width: Int, _ perRow: inout [Double],
  body: @Sendable (Int, UnsafeMutableBufferPointer<Double>, inout Double) -> Void
) {
  let count = perRow.count
  precondition(rows.count == count * width)
  // Enough pieces to even out rows of unequal length (causal), few enough to cost nothing.
  let rowsPerPiece = max(1, count / 256)
  let pieces = (count + rowsPerPiece - 1) / rowsPerPiece
  rows.withUnsafeMutableBufferPointer { rows in
    perRow.withUnsafeMutableBufferPointer { perRow in
      // Every row is written by one piece only, so the pieces may share the memory.
      nonisolated(unsafe) let rows = rows
      nonisolated(unsafe) let perRow = perRow
      DispatchQueue.concurrentPerform(iterations: pieces) { piece in
        for row in piece * rowsPerPiece..<min(count, (piece + 1) * rowsPerPiece) {
          let own = UnsafeMutableBufferPointer(rebasing: rows[row * width..<(row + 1) * width])
          body(row, own, &perRow[row])
        }
      }
    }
  }
}

/// Values for the numbers from 0 on, made on all cores.
func mapConcurrently<Value: Sendable>(
  _ count: Int, body: @Sendable (Int) -> Value
) -> [Value] {
  [Value](unsafeUninitializedCapacity: count) { values, initializedCount in
    // Every value is written once.
    nonisolated(unsafe) let values = values
    DispatchQueue.concurrentPerform(iterations: count) { index in
      values.initializeElement(at: index, to: body(index))
    }
    initializedCount = count
  }
}
