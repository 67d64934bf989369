#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// A page of current figures, made from a folder of result files.
public struct ResultHistory: Sendable {
  /// One file of results.
  public struct File: Sendable {
    /// The name of the file, which begins with a date.
    public let name: String
    /// What was measured.
    public let contents: ResultFile

    /// When: that of the contents, else what the name begins with.
    var date: String {
      let date = name.prefix { $0.isNumber || $0 == "-" }.prefix(10)
      return contents.time.map { String($0.prefix(10)) } ?? String(date)
    }
  }

  /// A row of a table that the first results beside PyTorch are in.
  private struct ComparedRow: Decodable {
    let id: String
    let path: String
    let ours: String
    let theirs: String
    let gflopsOurs: Double
    let gflopsTheirs: Double
    let ratio: Double

    var peer: ResultFile.Peer {
      ResultFile.Peer(
        id: id, path: path, peer: "PyTorch", gflopsOurs: gflopsOurs, gflopsTheirs: gflopsTheirs,
        ratio: ratio, theirs: theirs)
    }
  }

  /// The files, the oldest first.
  public let files: [File]

  /// Reads files by their names and bytes: of `vkattn bench --json`, and the tables of the first results.
  ///
  /// - Throws: ``ResultFileError`` for one that is neither.
  public init(_ files: [(name: String, bytes: [UInt8])]) throws(ResultFileError) {
    var read: [File] = []
    for (name, bytes) in files.sorted(by: { $0.name < $1.name }) {
      let decoder = JSONDecoder()
      decoder.keyDecodingStrategy = .convertFromSnakeCase
      if let rows = try? decoder.decode([ComparedRow].self, from: Data(bytes)), !rows.isEmpty {
        read.append(File(name: name, contents: ResultFile(rows.map(\.peer), on: rows[0].ours)))
      } else {
        read.append(File(name: name, contents: try ResultFile(bytes, name: name)))
      }
    }
    self.files = read
  }

  /// The page, in Markdown: for each device what the newest file of each workload says, and where from.
  public var page: String {
    var lines = [
      "# Results", "",
      "Made by `vkattn history` from the files in [results](results); edit those, not this page. Medians; each "
        + "workload's newest figure, of one day the least, with the date of its file. What the columns mean: "
        + "[results/FORMAT.md](results/FORMAT.md). Figures of different dates and devices are not to be compared.",
    ]
    for (device, own) in byDevice {
      lines += ["", "## \(device)"] + Self.results(own) + Self.peers(own)
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// The ratios to peers in short, in Markdown: a table for each device, a row for each kind of workload.
  public var summary: String {
    byDevice.flatMap { Self.summary($0.device, $0.files) }.joined(separator: "\n") + "\n"
  }

  /// The files of each device and driver, in the order of their first files.
  private var byDevice: [(device: String, files: [File])] {
    var devices: [(device: String, files: [File])] = []
    for file in files {
      let platform = file.contents.platform
      if let index = devices.firstIndex(where: { $0.device == platform }) {
        devices[index].files.append(file)
      } else {
        devices.append((platform, [file]))
      }
    }
    return devices
  }

  private static func summary(_ device: String, _ files: [File]) -> [String] {
    var order: [[String]] = []
    var kinds: [[String]: [PeerComparison]] = [:]
    var platforms: [String] = []
    let newest = newestPeers(files)
    // Of each kind beside each peer the paths of the newest day: plans take no others any more.
    var paths: [[String]: (date: String, paths: Set<String>)] = [:]
    for (row, file) in newest {
      let key = [kind(of: row.id), name(row)]
      let last = paths[key]
      if let last, last.date > file.date { continue }
      paths[key] = (file.date, (last?.date == file.date ? last?.paths ?? [] : []).union([row.path]))
    }
    for (row, file) in newest
    where paths[[kind(of: row.id), name(row)]]?.paths.contains(row.path) == true {
      let key = [kind(of: row.id), row.path, name(row)]
      if kinds[key] == nil { order.append(key) }
      kinds[key, default: []].append(PeerComparison(row, peer: name(row)))
      if row.theirs != file.contents.device, !platforms.contains(row.theirs) {
        platforms.append(row.theirs)
      }
    }
    guard !order.isEmpty else { return [] }
    let dates = Set(files.map(\.date)).sorted()
    var lines = [
      "",
      "**\(device)**, \(dates.joined(separator: ", ")); peers: \(platforms.joined(separator: "; ")).",
      "", "| | path | beside | shapes | ratio | least | most |", "|---|---|---|--:|--:|--:|--:|",
    ]
    for key in order.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
      guard let rows = kinds[key] else { continue }
      let ratios = rows.map(\.ratio)
      func text(_ value: Double?) -> String { "\(Numbers.fixed(value ?? .nan, decimals: 2))×" }
      lines.append(
        "| \(key.joined(separator: " | ")) | \(rows.count) | \(text(rows.geometricMean)) | "
          + "\(text(ratios.min())) | \(text(ratios.max())) |")
    }
    if let host = files.compactMap(\.contents.decodeHost).last {
      lines += [
        "",
        "The host makes the schedule of \(host.sequences) ragged sequences in "
          + "\(Numbers.seconds(host.scheduleSeconds)), and records a layer in "
          + "\(Numbers.seconds(host.recordSeconds)).",
      ]
    }
    return lines
  }

  /// What a workload is without its sizes: `attention f32 causal`, `decode f16 int8`; a modification without its
  /// type too, which its ratio depends on little.
  private static func kind(of id: String) -> String {
    var parts = id.split(separator: "/")
    if parts.first == "custom", parts.count == 4 { parts.remove(at: 2) }
    let options = (parts.last ?? "").split(separator: "-").filter { part in
      !(part.first?.isUppercase == true && part.dropFirst().allSatisfy(\.isNumber))
    }
    return (parts.dropLast() + options).joined(separator: " ")
  }

  private static func results(_ files: [File]) -> [String] {
    var order: [String] = []
    var newest: [String: (ResultFile.Result, File)] = [:]
    // What a plan took before the newest day is no figure any more.
    var newestDates: [String: String] = [:]
    for file in files {
      for result in file.contents.results { newestDates[result.id] = file.date }
    }
    for file in files {
      for result in file.contents.results where newestDates[result.id] == file.date {
        let key = "\(result.id) \(result.path) \(result.mode ?? "warm")"
        let last = newest[key]
        if last == nil { order.append(key) }
        // Of one day, the run that other work on the machine held up least.
        if let last, last.1.date == file.date, last.0.secondsMedian <= result.secondsMedian {
          continue
        }
        newest[key] = (result, file)
      }
    }
    guard !order.isEmpty else { return [] }
    return [
      "", "| workload | path | median | p10 to p90 | GFLOP/s | GB/s | file |",
      "|---|---|--:|--:|--:|--:|---|",
    ]
      + order.compactMap { newest[$0] }.map { result, file in
        let path = result.path + (result.mode == "cold" ? ", cold" : "")
        let spread =
          "\(Numbers.seconds(result.secondsP10)) to \(Numbers.seconds(result.secondsP90))"
        return "| \(result.id) | \(path) | \(Numbers.seconds(result.secondsMedian)) | \(spread) | "
          + "\(result.gflops.map(Numbers.significant) ?? "") | "
          + "\(result.gbps.map(Numbers.significant) ?? "") | \(link(file)) |"
      }
  }

  private static func peers(_ files: [File]) -> [String] {
    let newest = newestPeers(files)
    guard !newest.isEmpty else { return [] }
    return [
      "", "By turns with a peer in one run; above 1, ours is faster.", "",
      "| workload | path | peer | ours, GFLOP/s | theirs | ratio | file |",
      "|---|---|---|--:|--:|--:|---|",
    ]
      + newest.map { row, file in
        "| \(row.id) | \(row.path) | \(name(row)) | \(Numbers.significant(row.gflopsOurs)) | "
          + "\(Numbers.significant(row.gflopsTheirs)) | "
          + "\(Numbers.fixed(row.ratio, decimals: 2)) | \(link(file)) |"
      }
  }

  /// Each workload beside each peer on the paths that the newest file has it on, in the order in which they first
  /// came: what a plan takes no more is no figure any more.
  private static func newestPeers(_ files: [File]) -> [(ResultFile.Peer, File)] {
    var order: [[String]] = []
    var newest: [[String]: [(ResultFile.Peer, File)]] = [:]
    for file in files {
      for (key, rows) in Dictionary(grouping: file.contents.peers ?? [], by: { [$0.id, name($0)] })
      {
        newest[key] = rows.map { ($0, file) }
      }
      for row in file.contents.peers ?? [] where !order.contains([row.id, name(row)]) {
        order.append([row.id, name(row)])
      }
    }
    return order.flatMap { newest[$0] ?? [] }
  }

  private static func name(_ row: ResultFile.Peer) -> String { row.peer ?? "PyTorch" }

  private static func link(_ file: File) -> String { "[\(file.date)](results/\(file.name))" }
}

extension PeerComparison {
  fileprivate init(_ row: ResultFile.Peer, peer: String) {
    self.init(
      id: row.id, path: row.path, peer: peer, platform: row.theirs, ours: row.gflopsOurs,
      theirs: row.gflopsTheirs)
  }
}

extension ResultFile {
  /// Device and driver as the head of a table has them.
  var platform: String { driver.isEmpty ? device : "\(device), \(driver)" }

  /// Comparisons with a peer alone.
  fileprivate init(_ peers: [Peer], on platform: String) {
    version = nil
    device = platform
    driver = ""
    commit = "unknown"
    time = nil
    results = []
    self.peers = peers
  }
}
