/// Drafts from the text itself: what followed the last time that its last tokens were there
/// (https://arxiv.org/abs/2304.04487).
enum NGramDraft {
  /// The tokens that may come next.
  ///
  /// - Parameters:
  ///   - history: the text so far.
  ///   - count: how many tokens are drafted.
  ///   - lengths: how many of the last tokens are looked for; more of them before fewer.
  /// - Returns: `count` tokens; nil where the last tokens are there for the first time.
  static func draft(
    after history: [Int32], count: Int, lengths: ClosedRange<Int> = 3...8
  ) -> [Int32]? {
    for length in lengths.reversed() where history.count > length {
      let ending = history.suffix(length)
      let starts = 0..<history.count - length
      guard
        let start = starts.last(where: { history[$0..<$0 + length].elementsEqual(ending) })
      else { continue }
      // A repetition that reaches the end goes on with what it drafts.
      var text = history
      for place in start + length..<start + length + count { text.append(text[place]) }
      return Array(text.suffix(count))
    }
    return nil
  }
}
