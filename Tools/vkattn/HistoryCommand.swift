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

        vkattn history                 # Benchmarks/results/*.json to Benchmarks/RESULTS.md
        vkattn history --check         # exit status 1 where the page is not what the files say
      """)

  @Option(help: ArgumentHelp("Where the result files are.", valueName: "folder"))
  var results = "Benchmarks/results"

  @Option(help: ArgumentHelp("The page; its links lead to results beside it.", valueName: "file"))
  var out = "Benchmarks/RESULTS.md"

  @Flag(help: "Writes nothing; the exit status is 1 where the page is another one.")
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
    let page = history.page
    if check {
      guard try inputFile(out) == Array(page.utf8) else {
        throw CommandFailure(.failed, "\(out) is not what the files say; run vkattn history")
      }
      Console.current.print("\(out) is what \(json.count) files say")
      return
    }
    try OutputFile(out).write(page)
    Console.current.print("\(json.count) files to \(out)")
  }
}
