import VulkanAttention

/// Continues texts with a language model on a device, in several ways that give the same tokens.
///
/// It belongs to one task. Passes are planned when they are first needed and kept.
final class TextGenerator {
  /// How the tokens behind the first one are made.
  enum Strategy: Hashable {
    /// By running the whole text again for each token, without a cache.
    case recomputed
    /// Token by token from what the layers keep, with some tokens recorded one behind the other into each
    /// submission: the device hands each token to the next step itself.
    case cached(tokensPerSubmission: Int)
    /// Likewise, but a step is recorded once for the whole text and run again for each token; the host waits for some
    /// tokens at a time.
    case replayed(tokensPerWait: Int)
    /// Some drafted tokens are verified by one pass (speculative decoding, https://arxiv.org/abs/2211.17192); greedy
    /// choice makes the result that of the model alone.
    case speculative(draftTokens: Int)
  }

  /// What came behind a prompt.
  struct Continuation {
    var tokens: [Int32] = []
    /// The logits that the last token was chosen from.
    var logits: [Float] = []
    /// From the prompt's upload to the first token, in seconds.
    var prefillSeconds = 0.0
    /// From the first token to the last, in seconds.
    var decodeSeconds = 0.0
    /// Runs of the model behind the first token.
    var passes = 0

    /// Tokens behind the first one in each second.
    var tokensPerSecond: Double {
      tokens.count > 1 ? Double(tokens.count - 1) / decodeSeconds : 0
    }
  }

  private struct PassKey: Hashable {
    let kind: ModelPass.Kind
    let rows: Int
    let stateSlots: Int
  }

  private let model: LanguageModel
  private let method: SamplingRequest.Method
  private let uniforms: [Float]
  private var passes: [PassKey: ModelPass] = [:]

  /// A generator.
  ///
  /// - Parameters:
  ///   - method: how tokens are chosen.
  ///   - uniforms: for each place of a token, and one more, the number by which it is drawn; empty for greedy choice.
  init(_ model: LanguageModel, method: SamplingRequest.Method = .greedy, uniforms: [Float] = [])
    throws
  {
    guard uniforms.isEmpty || uniforms.count == model.configuration.positions + 1 else {
      throw ExampleError(
        "there are \(uniforms.count) uniform numbers; expected \(model.configuration.positions + 1)"
      )
    }
    guard method == .greedy || !uniforms.isEmpty else {
      throw ExampleError("to draw tokens, uniform numbers are needed")
    }
    self.model = model
    self.method = method
    self.uniforms = uniforms
  }

  /// Continues a prompt.
  ///
  /// - Parameters:
  ///   - prompt: 1 token or more, each in the vocabulary.
  ///   - count: how many tokens are made, 1 or more; with the prompt at most the model's positions.
  ///   - strategy: how they are made.
  func continuation(
    of prompt: [Int32], count: Int, strategy: Strategy
  ) async throws -> Continuation {
    let configuration = model.configuration
    guard !prompt.isEmpty, count > 0, prompt.count <= configuration.positions - count else {
      throw ExampleError(
        "a prompt of \(prompt.count) tokens and \(count) more; the model takes 1 and 1 or more, "
          + "\(configuration.positions) in all")
    }
    for token in prompt where !(0..<configuration.vocabulary).contains(Int(token)) {
      throw ExampleError("there is no token \(token) among \(configuration.vocabulary)")
    }
    var stateSlots = 1
    switch strategy {
    case .recomputed: break
    case .cached(let tokens), .replayed(let tokens):
      guard tokens > 0 else { throw ExampleError("a submission has 1 token or more") }
    case .speculative(let tokens):
      guard tokens > 0, tokens < configuration.positions else {
        throw ExampleError("1 token or more is drafted, and less than the model's positions")
      }
      guard method == .greedy else { throw ExampleError("drafts are verified by greedy choice") }
      stateSlots = tokens + 1
    }
    var text = try await TextMemory(for: model, stateSlots: stateSlots, uniforms: uniforms)
    try await model.device.upload(prompt, to: text.tokens)
    var result = Continuation()
    var start = ContinuousClock.now
    result.tokens = [try await prefill(text, rows: prompt.count)]
    result.prefillSeconds = Self.seconds(since: start)
    var history = prompt + result.tokens
    var last = try pass(.prefill, rows: prompt.count, text)
    var lastRow = 0
    start = .now
    var replayed: ReplayedPass?
    if case .replayed = strategy {
      replayed = try pass(.step, rows: 1, text)
        .replayed(text.makeInputs(on: model.device), model: model, text: text)
    }
    while result.tokens.count < count {
      let missing = count - result.tokens.count
      let new: [Int32]
      switch strategy {
      case .recomputed:
        new = [try await prefill(text, rows: history.count)]
        last = try pass(.prefill, rows: history.count, text)
        result.passes += 1
      case .cached(let tokens):
        let steps = min(tokens, missing)
        new = try await decode(text, from: history.count - 1, steps: steps)
        last = try pass(.step, rows: 1, text)
        result.passes += steps
      case .replayed(let tokens):
        guard let replayed else { throw ExampleError("the step is not recorded") }
        let steps = min(tokens, missing)
        new = try await replay(replayed, text, from: history.count - 1, steps: steps)
        last = try pass(.step, rows: 1, text)
        result.passes += steps
      case .speculative(let tokens):
        var draft: [Int32] = []
        if history.count + tokens <= configuration.positions {
          draft = NGramDraft.draft(after: history, count: tokens) ?? []
        }
        let verified = try await verify(&text, history: history, draft: draft)
        new = Array(verified.prefix(missing))
        last = try pass(.step, rows: 1 + draft.count, text)
        lastRow = new.count - 1
        result.passes += 1
      }
      result.tokens += new
      history += new
    }
    result.decodeSeconds = Self.seconds(since: start)
    let row = lastRow * configuration.vocabulary
    result.logits = try await model.device.download(
      Float.self, from: last.logits.numbers(row..<row + configuration.vocabulary))
    return result
  }

  private func pass(_ kind: ModelPass.Kind, rows: Int, _ text: TextMemory) throws -> ModelPass {
    let key = PassKey(kind: kind, rows: rows, stateSlots: text.stateSlots)
    if let known = passes[key] { return known }
    let new = try ModelPass(kind, rows: rows, of: model, text: text, method: method)
    passes[key] = new
    return new
  }

  /// Runs the first tokens of a text and writes the next one behind them.
  private func prefill(_ text: TextMemory, rows: Int) async throws -> Int32 {
    let recorder = try model.device.makeRecorder()
    let next = try text.tokens.numbers(rows..<rows + 1)
    try pass(.prefill, rows: rows, text)
      .record(at: 0, model: model, text: text, next: next, into: recorder)
    try await model.device.submit(recorder).completed()
    return try await chosen(next)[0]
  }

  /// Steps in one submission, from the place of the last token on: each reads the token that the one before chose.
  private func decode(_ text: TextMemory, from position: Int, steps: Int) async throws -> [Int32] {
    let recorder = try model.device.makeRecorder()
    let pass = try pass(.step, rows: 1, text)
    for place in position..<position + steps {
      try pass.record(
        at: place, model: model, text: text, next: text.tokens.numbers(place + 1..<place + 2),
        into: recorder)
    }
    try await model.device.submit(recorder).completed()
    return try await chosen(text.tokens.numbers(position + 1..<position + 1 + steps))
  }

  /// As `decode`, with a step that is recorded already: between two runs the device gets the next place and length.
  private func replay(
    _ replayed: ReplayedPass, _ text: TextMemory, from position: Int, steps: Int
  ) async throws -> [Int32] {
    let device = model.device
    let pass = try pass(.step, rows: 1, text)
    let inputs = replayed.inputs
    for place in position..<position + steps {
      let recorder = try device.makeRecorder()
      let token = try text.tokens.numbers(place..<place + 1)
      if place == position {
        try recorder.copy(from: token, to: inputs.tokens)
      } else {
        try recorder.copy(from: inputs.next, to: token)
      }
      try recorder.update(inputs.positions, with: Self.bytes([Int32(place)]))
      try recorder.copy(from: text.uniforms.numbers(place + 1..<place + 2), to: inputs.uniforms)
      try pass.update(replayed, keys: place + 1, into: recorder)
      try device.submit(recorder)
      try device.submit(replayed.commands)
    }
    let end = position + steps
    let recorder = try device.makeRecorder()
    try recorder.copy(from: inputs.next, to: text.tokens.numbers(end..<end + 1))
    try await device.submit(recorder).completed()
    return try await chosen(text.tokens.numbers(position + 1..<end + 1))
  }

  /// Runs the last token of a text and a draft behind it.
  ///
  /// Rejected drafts are rolled back without a copy: their keys and values lie behind the text's end and are
  /// overwritten, and the next run begins with the state after the last token that was right.
  ///
  /// - Returns: the tokens of the draft that the model would have chosen, and the one that it chooses behind them.
  private func verify(
    _ text: inout TextMemory, history: [Int32], draft: [Int32]
  ) async throws -> [Int32] {
    let rows = 1 + draft.count
    let position = history.count - 1
    let recorder = try model.device.makeRecorder()
    let tokens = try text.tokens.numbers(position..<position + rows)
    try recorder.update(tokens, with: Self.bytes(history.suffix(1) + draft))
    // Row n of these is the model's choice behind token n.
    let choices = try model.device.makeBuffer(byteCount: rows * 4, label: "choices")
    try pass(.step, rows: rows, text)
      .record(at: position, model: model, text: text, next: choices, into: recorder)
    try await model.device.submit(recorder).completed()
    let chosen = try await self.chosen(choices)
    let right = zip(draft, chosen).prefix { $0 == $1 }.count
    if rows > 1 {
      text.pool = 1 - text.pool
      try await model.device.upload([Int32(right)], to: text.slot)
    }
    return Array(chosen.prefix(right + 1))
  }

  private func chosen(_ buffer: DeviceBuffer) async throws -> [Int32] {
    let tokens = try await model.device.download(Int32.self, from: buffer)
    guard tokens.allSatisfy({ $0 >= 0 }) else {
      throw ExampleError("the model's logits are no numbers: no token can be chosen")
    }
    return tokens
  }

  private static func seconds(since start: ContinuousClock.Instant) -> Double {
    let (whole, rest) = (ContinuousClock.now - start).components
    return Double(whole) + Double(rest) * 1e-18
  }

  private static func bytes(_ tokens: some Sequence<Int32>) -> [UInt8] {
    tokens.flatMap { withUnsafeBytes(of: $0) { Array($0) } }
  }
}
