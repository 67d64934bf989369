import ArgumentParser
import KernelBenchmarks
import VulkanAttention
import VulkanAttentionCustom

/// The command `vkattn`.
@main
struct VKAttn: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vkattn",
    abstract: "Attention kernels on any Vulkan device: checked, measured, explained.",
    discussion: """
      Start with what is there, then see that it computes the right thing, then how fast:

        vkattn devices
        vkattn check --quick
        vkattn bench --quick

      Every command runs on the best device (a discrete GPU first, a software driver last) unless \
      --device names another.

      A software driver on a processor with AVX-512 is asked for 512-bit vectors \
      (LP_NATIVE_VECTOR_WIDTH, if it is not set), unless the matrix path is to run: Mesa's driver \
      cannot do both.

      Exit status: 0 all is well; 1 a check, a case or a benchmark failed, or none could run; 2 the \
      command line or an input file is wrong; 3 there is no Vulkan loader or no usable device; 130 \
      Ctrl-C during a check.
      """,
    version: "0.1.0",
    subcommands: [
      DevicesCommand.self, PlanCommand.self, CheckCommand.self, ReplayCommand.self,
      BenchCommand.self, CompareCommand.self, CeilingsCommand.self,
      TuneCommand.self, ProfileCommand.self, PipelinesCommand.self, SoakCommand.self,
      MaskCommand.self, PlotCommand.self, HistoryCommand.self,
    ])

  static func main() async {
    // A reader that has gone (`| head`) must not end a run whose results also go to a file.
    ignoreClosedPipes()
    let status = await run(Array(CommandLine.arguments.dropFirst())) { command in
      (command as? any KernelCommand)?.chooseVectorWidth()
    }
    endProcess(status)
  }

  /// Runs a command line to its end.
  ///
  /// - Parameter prepare: called with the command before it runs.
  /// - Returns: the exit status.
  static func run(
    _ arguments: [String], prepare: @Sendable (any ParsableCommand) -> Void = { _ in }
  ) async -> Int32 {
    do {
      var command = try parseAsRoot(arguments)
      prepare(command)
      if var command = command as? any AsyncParsableCommand {
        try await command.run()
      } else {
        try command.run()
      }
      return 0
    } catch {
      return report(error)
    }
  }

  /// Says what went wrong in one line and chooses the exit status. Help and versions come this way
  /// too.
  private static func report(_ error: any Error) -> Int32 {
    let console = Console.current
    switch error {
    case let failure as CommandFailure:
      if !failure.message.isEmpty { console.error("vkattn: \(failure.message)") }
      return failure.status.rawValue
    case let error as VulkanError:
      console.error("vkattn: \(error)")
      return ExitStatus(error).rawValue
    case let error as AttentionError:
      console.error("vkattn: \(error)")
      return ExitStatus(error).rawValue
    case let error as CustomAttentionError:
      console.error("vkattn: \(error)")
      return ExitStatus(error).rawValue
    default:
      guard exitCode(for: error) != .success else {
        console.print(fullMessage(for: error))
        return 0
      }
      let message = message(for: error).split(separator: "\n").joined(separator: " ")
      console.error("vkattn: \(message)")
      return ExitStatus.wrongInput.rawValue
    }
  }
}
