import ArgumentParser
import Foundation
import KernelBenchmarks
import VulkanAttention
import VulkanAttentionCustom

/// `vkattn mask`.
struct MaskCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "mask",
    abstract: "Shows which blocks of queries and keys a mask in GLSL hides.",
    discussion: """
      The map that CustomBlockMap computes: a kernel skips empty blocks, does not ask the mask in full ones \
      (█), and asks it for each pair of partial ones (▒). The mask is an expression or statements that \
      return a bool, and may read batch, head, queryIndex, keyIndex, positionOffset and scalars.

        vkattn mask 'keyIndex <= queryIndex'
        vkattn mask 'queryIndex / n == keyIndex / n' --scalar n=200 --tokens 2048 --block 128
        vkattn mask 'abs(queryIndex - keyIndex) <= 300' --tokens 4096 --plot pictures
      """)

  @Argument(help: ArgumentHelp("The mask.", valueName: "glsl"))
  var mask: String

  @Option(help: "Functions and constants before it.")
  var declarations = ""

  @Option(
    help: ArgumentHelp(
      "A number that the mask reads: an int, or a float where it has a point. May be repeated.",
      valueName: "name=value"))
  var scalar: [String] = []

  @Option(help: "Query tokens.")
  var tokens = 1024

  @Option(help: "Key tokens; as many as query tokens by default.")
  var keyTokens: Int?

  @Option(help: "Query tokens and keys of a block, a power of two from 64 to 4096.")
  var block = 64

  @Flag(help: "Prints a JSON object.")
  var json = false

  @Option(
    help: ArgumentHelp(
      "Draws the map into this folder, as vkattn plot does with what --json prints.",
      valueName: "folder"))
  var plot: String?

  @OptionGroup var device: DeviceOptions

  func validate() throws { _ = try scalars() }

  func run() async throws {
    let console = Console.current
    let opened = try device.open()
    let map = try await MaskMap.compute(
      mask, declarations: declarations, scalars: scalars(), queryTokens: tokens,
      keyTokens: keyTokens ?? tokens, blockRows: block, blockKeys: block, on: opened)
    if json {
      console.print(map.json.text)
    } else {
      for line in map.picture() ?? [] { console.print(line) }
      console.print(
        "\(map.blocks.count) × \(map.blocks.first?.count ?? 0) blocks of \(block) × \(block): "
          + "\(map.count(.full)) full, \(map.count(.partial)) partial, \(map.count(.empty)) empty; "
          + "\(Numbers.significant(100 * map.sparsity)) % are skipped")
    }
    guard let plot else { return }
    let file = FileManager.default.temporaryDirectory.appending(
      path: "vkattn-mask-\(UUID().uuidString).json")
    try Data(map.json.text.utf8).write(to: file)
    defer { try? FileManager.default.removeItem(at: file) }
    try Plotter.draw([file.path], into: plot)
  }

  /// The scalars of the command line.
  private func scalars() throws -> [String: CustomScalar.Value] {
    var scalars: [String: CustomScalar.Value] = [:]
    for text in scalar {
      let parts = text.split(separator: "=", omittingEmptySubsequences: false).map(String.init)
      guard parts.count == 2, !parts[0].isEmpty else {
        throw ValidationError("--scalar \(text) is not NAME=VALUE")
      }
      let value: CustomScalar.Value
      if let integer = Int32(parts[1]) {
        value = .int(integer)
      } else if let number = Float(parts[1]) {
        value = .float(number)
      } else {
        throw ValidationError("--scalar \(text) has no number of 32 bits behind =")
      }
      guard scalars.updateValue(value, forKey: parts[0]) == nil else {
        throw ValidationError("--scalar \(parts[0]) is given twice")
      }
    }
    return scalars
  }
}

extension MaskCommand: KernelCommand {
  var includesMatrixPath: Bool { false }
}
