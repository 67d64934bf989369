import ArgumentParser
import KernelBenchmarks

/// `vkattn history`.
struct HistoryCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "history",
    abstract: "Writes the page of current figures from the dated result files.",
    discussion: """
      Of each device, driver, workload and path the newest file's figures, beside the peers. A file's date is \
      the one its name begins with. Nothing runs on a device.

        vkattn history                 # Benchmarks/results/*.json to Benchmarks/RESULTS.md and README.md
        vkattn history --check         # exit status 1 where a page is not what the files say

      In the summary's file, what stands between the lines \(Self.marks.begin) and \(Self.marks.end) is replaced: \
      for each device a table of the ratios to peers.
      """)

  private static let marks = (begin: "<!-- figures -->", end: "<!-- end of figures -->")

  @Option(help: ArgumentHelp("Where the result files are.", valueName: "folder"))
  var results = "Benchmarks/results"

  @Option(help: ArgumentHelp("The page; its links lead to results beside it.", valueName: "file"))
  var out = "Benchmarks/RESULTS.md"

  @Option(
    help: ArgumentHelp("The text with the summary between its two lines.", valueName: "file"))
  var summary = "README.md"

  @Flag(help: "Writes nothing; the exit status is 1 where a page is another one.")
  var check = false

  func run() async throws {
    guard let names = folderContents(results) else {
      throw CommandFailure(.wrongInput, "\(results) is no folder; call it in a checkout")
    }
    let json = names.filter { $0.hasSuffix(".json") }.sorted()
    guard !json.isEmpty else { throw CommandFailure(.wrongInput, "\(results) has no .json file") }
    var files: [(name: String, bytes: [UInt8])] = []
    for name in json { files.append((name, try inputFile("\(results)/\(name)"))) }
    let history: ResultHistory
    do throws(ResultFileError) {
      history = try ResultHistory(files)
    } catch {
      throw CommandFailure(.wrongInput, "\(error)")
    }
    let pages = [
      (file: out, text: history.page), (file: summary, text: try summarised(history.summary)),
    ]
    for page in pages where check {
      guard try inputFile(page.file) == Array(page.text.utf8) else {
        throw CommandFailure(
          .failed, "\(page.file) is not what the files say; run vkattn history")
      }
    }
    for page in pages where !check { try OutputFile(page.file).write(page.text) }
    Console.current.print(
      check
        ? "\(out) and \(summary) are what \(json.count) files say"
        : "\(json.count) files to \(out), \(summary)")
  }

  /// The file of the summary with a new one between its lines.
  private func summarised(_ text: String) throws -> String {
    let old = String(decoding: try inputFile(summary), as: UTF8.self)
    let lines = old.split(separator: "\n", omittingEmptySubsequences: false)
    guard let begin = lines.firstIndex(where: { $0 == Self.marks.begin }),
      let end = lines[begin...].firstIndex(where: { $0 == Self.marks.end })
    else {
      throw CommandFailure(
        .wrongInput, "\(summary) has no lines \(Self.marks.begin) and \(Self.marks.end)")
    }
    return lines[...begin].joined(separator: "\n") + "\n" + text + "\n"
      + lines[end...].joined(separator: "\n")
  }
}
