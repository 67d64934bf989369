import ArgumentParser
import KernelBenchmarks
import VulkanAttention

/// `vkattn plan`.
struct PlanCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "Shows how a kernel would run on a device, and why.",
    discussion: """
      Plans are made from the device's capabilities; nothing runs on it.

        vkattn plan attention --shape S1024,H8,D64 --type f16 --causal
        vkattn plan attention --shape S1,T4096,H32,G8,D128 --path subgroup
        vkattn plan decode --shape S1,H32,G8,D128 --type f16 --lengths 65536,1024,3000 --explain
        vkattn plan linear --model gla --shape S4096,H8,D128 --type f16

      For decode, B and T are those of the lengths where these are given. --explain shows how well the \
      schedule fills the device by a model that knows no bandwidth, beside the ways in which other \
      libraries cut such a batch.
      """)

  @Argument(help: "The kernel family.")
  var family: KernelFamily = .attention

  @Option(help: AttentionShape.help, transform: AttentionShape.parsed)
  var shape: AttentionShape

  @Option(help: "The type of the tensors.")
  var type: ElementType = .f32

  @Flag(help: "Hides the keys after a query's own position.")
  var causal = false

  @Option(
    help: """
      Forces a path: auto, row, subgroup, matrix, matrix2, matrix:MxNxK and matrix2:MxNxK for fragments of a shape of \
      your own, or subgroup:N with N heads of batch entries in each workgroup.
      """)
  var path: AttentionPathChoice = .automatic

  @Option(help: "Linear attention: the recurrence (lightning by default).")
  var model: LinearAttentionModel?

  @Option(
    help: ArgumentHelp(
      "Decode: the keys of each sequence, separated by commas.", valueName: "n,n,…"),
    transform: { text throws in
      try text.split(separator: ",", omittingEmptySubsequences: false).map {
        guard let length = Int($0), length >= 0 else {
          throw ValidationError("--lengths: \"\($0)\" is no whole number from 0")
        }
        return length
      }
    })
  var lengths: [Int] = []

  @Option(
    help: ArgumentHelp(
      "Decode: cuts every sequence at multiples of so many keys, alike in every batch.",
      valueName: "keys"))
  var fixedSplit: Int?

  @Flag(help: "Decode: compares the schedule with the cuts of other libraries.")
  var explain = false

  @Flag(help: "Prints a JSON object.")
  var json = false

  @OptionGroup var tuning: TuningOptions
  @OptionGroup var device: DeviceOptions

  func validate() throws {
    if family != .decode, !lengths.isEmpty || fixedSplit != nil || explain {
      throw ValidationError("--lengths, --fixed-split and --explain belong to decode")
    }
    if family != .attention, causal { throw ValidationError("--causal belongs to attention") }
    if family != .linear, model != nil { throw ValidationError("--model belongs to linear") }
    if family == .linear, path.tile != .tuned {
      throw ValidationError("--path \(path): linear attention takes the path alone")
    }
  }

  func run() async throws {
    let console = Console.current
    func show(_ json: JSONText, _ lines: [String]) {
      if self.json {
        console.print(json.text)
      } else {
        for line in lines { console.print(line) }
      }
    }
    if family == .decode {
      let capabilities = try device.capabilities()
      let plan = try DecodePlanReport(
        shape, type, lengths: lengths, path: path, fixedSplit: fixedSplit,
        explains: explain, device: capabilities, tuning: tuning.tuning(for: capabilities))
      return show(plan.json, plan.lines)
    }
    if family == .linear {
      let workload = LinearAttentionWorkload(model ?? .lightning, shape, type)
      let request = try workload.request()
      let capabilities = try device.capabilities()
      let plan = try LinearAttentionPlan(
        request, device: capabilities, path: path.path, tuning: tuning.tuning(for: capabilities))
      return show(plan.json(workload, capabilities), plan.lines(workload, capabilities))
    }
    let workload = AttentionWorkload(shape, type, isCausal: causal)
    // The problem first: it is wrong or right on every device.
    let request = try workload.request()
    let capabilities = try device.capabilities()
    let plan = try path.plan(
      request, device: capabilities, tuning: tuning.tuning(for: capabilities))
    show(plan.json(workload, capabilities), plan.lines(workload, capabilities))
  }
}

extension AttentionPlan {
  /// Workgroups along x (all pieces together), y and z.
  private var grid: [Int] {
    let problems = request.queryHeads * request.batchSize
    let shared = tile.problemsPerWorkgroup
    return shared > 1
      ? [(problems + shared - 1) / shared, 1, 1]
      : [tileCount, request.queryHeads, request.batchSize]
  }

  private var gridText: String {
    tile.problemsPerWorkgroup > 1
      ? "\(grid[0]) workgroups of \(tile.problemsPerWorkgroup) problems, heads of batch entries"
      : "\(grid[0]) tiles × \(grid[1]) heads × \(grid[2]) batch entries"
  }

  private var sortedConstants: [(key: String, value: UInt32)] {
    tile.constants.sorted { $0.key < $1.key }
  }

  fileprivate func lines(
    _ workload: AttentionWorkload, _ device: DeviceCapabilities
  ) -> [String] {
    let constants = sortedConstants.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
    let rows: [(String, String)] = [
      ("workload", workload.id),
      ("device", device.name),
      ("path", path.rawValue),
      ("shader", tile.shaderName),
      (
        "tile",
        "\(tile.queryRows) query rows, \(tile.workgroupSize) invocations, "
          + "\(Numbers.bytes(tile.sharedBytes)) shared"
          + (tile.subgroupSize.map { ", subgroups of \($0)" } ?? "")
          + (tile.packedKeysPerBlock.map { ", keys and values packed by \($0)" } ?? "")
      ),
      ("constants", constants.isEmpty ? "none of its own" : constants),
      ("grid", gridText),
      ("pieces", pieces.count == 1 ? "1 submission" : "\(pieces.count) submissions"),
      ("scratch", Numbers.bytes(scratchByteCount)),
      (
        "work",
        "\(Numbers.significant(request.floatingPointOperations * 1e-9)) GFLOP, at least "
          + Numbers.bytes(Int(request.compulsoryBytes))
      ),
    ]
    return planLines(rows, why: explanation)
  }

  private func range(_ range: Range<Int>) -> JSONText {
    .array([.integer(range.lowerBound), .integer(range.upperBound)])
  }

  fileprivate func json(
    _ workload: AttentionWorkload, _ device: DeviceCapabilities
  ) -> JSONText {
    [
      "id": .string(workload.id), "device": .string(device.name),
      "path": .string(path.rawValue), "shader": .string(tile.shaderName),
      "tile": [
        "query_rows": .integer(tile.queryRows), "workgroup_size": .integer(tile.workgroupSize),
        "shared_bytes": .integer(tile.sharedBytes), "subgroup_size": JSONText(tile.subgroupSize),
        "packed_keys_per_block": JSONText(tile.packedKeysPerBlock),
        "problems_per_workgroup": .integer(tile.problemsPerWorkgroup),
        "constants": .object(sortedConstants.map { .init($0.key, .integer(Int($0.value))) }),
        "provenance": .string(tile.provenance),
      ],
      "grid": .array(grid.map(JSONText.integer)),
      "pieces": .array(
        pieces.map { piece in
          [
            "tiles": range(piece.tiles), "heads": range(piece.heads),
            "batches": range(piece.batches), "keys": piece.keys.map(range) ?? .null,
          ]
        }),
      "scratch_bytes": .integer(scratchByteCount),
      "operations": .number(request.floatingPointOperations),
      "compulsory_bytes": .number(request.compulsoryBytes),
      "why": .array(explanation.map(JSONText.string)),
    ]
  }
}

/// Names with their values, and the reasons below.
func planLines(_ rows: [(String, String)], why: [String]) -> [String] {
  func row(_ name: String, _ value: String) -> String {
    name + String(repeating: " ", count: 11 - name.count) + value
  }
  return rows.map(row) + why.enumerated().map { row($0.offset == 0 ? "why" : "", $0.element) }
}

extension PlanCommand: KernelCommand {
  var includesMatrixPath: Bool { path.usesMatrices }
}
