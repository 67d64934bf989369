import Testing

@testable import VulkanAttention

/// One request with one thing wrong.
struct BadRequest: Sendable, CustomTestStringConvertible {
  let testDescription: String
  /// The argument that the error names, and a part of what it says of it.
  private let name: String
  private let says: String
  private let make: @Sendable () throws -> AttentionRequest

  init(
    _ testDescription: String, _ name: String, says: String,
    _ make: @escaping @Sendable () throws -> AttentionRequest
  ) {
    self.testDescription = testDescription
    self.name = name
    self.says = says
    self.make = make
  }

  func expectRefused(sourceLocation: SourceLocation = #_sourceLocation) {
    let error = #expect(throws: AttentionError.self, sourceLocation: sourceLocation) { try make() }
    guard let error, case .invalidArgument(let found, _, _) = error else {
      Issue.record(
        "another error: \(String(describing: error))", sourceLocation: sourceLocation)
      return
    }
    #expect(found == name, sourceLocation: sourceLocation)
    #expect("\(error)".contains(says), sourceLocation: sourceLocation)
  }
}
