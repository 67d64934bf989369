import ArgumentParser
import KernelBenchmarks
import VulkanAttention

/// `vkattn devices`.
struct DevicesCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "devices",
    abstract: "Lists the Vulkan devices and what they can do.",
    discussion: """
      The number before a name, a part of the name, or the UUID is what --device takes.

      VKATTN_DISABLE=coopmat,coopmat2,… hides features from every command, to see what happens \
      without them.
      """)

  @Flag(help: "Prints a JSON array of devices.")
  var json = false

  func run() async throws {
    let console = Console.current
    let devices = try VulkanInstance().devices()
    if json {
      console.print(JSONText.array(devices.map(\.json)).text)
    } else {
      for (index, device) in devices.enumerated() {
        if index > 0 { console.print() }
        for line in device.lines { console.print(line) }
      }
    }
    guard !devices.isEmpty else {
      throw CommandFailure(
        .noDevice, "the Vulkan loader lists no device; install a driver, or run Tools/setup")
    }
  }
}

extension DeviceCapabilities {
  private var sortedFeatures: [Feature] { Feature.allCases.filter(has) }

  /// The device in some lines for people.
  fileprivate var lines: [String] {
    let shapes = matrixShapes.filter { $0.input != .other }.map(\.summary)
    let rows: [(String, String)] = [
      ("kind", computeUnits.map { "\(kind.rawValue), \($0) compute units" } ?? kind.rawValue),
      ("driver", driverInfo.hasPrefix(driverName) ? driverInfo : "\(driverName) \(driverInfo)"),
      ("Vulkan", apiVersion),
      ("UUID", deviceUUID),
      (
        "memory",
        "\(Numbers.bytes(deviceLocalBytes))\(hasUnifiedMemory ? ", shared with the host" : ""), "
          + "single allocation up to \(Numbers.bytes(maxAllocationBytes))"
      ),
      (
        "subgroups",
        minSubgroupSize == maxSubgroupSize
          ? "\(subgroupSize)" : "\(subgroupSize) (\(minSubgroupSize) to \(maxSubgroupSize))"
      ),
      (
        "workgroups",
        "up to \(maxWorkgroupInvocations) invocations, \(Numbers.bytes(maxSharedBytes)) shared, "
          + "\(maxPushConstantBytes) B push constants"
      ),
      (
        "timestamps",
        timestampPeriod > 0 ? "every \(Numbers.significant(timestampPeriod)) ns" : "none"
      ),
      ("features", sortedFeatures.map(\.rawValue).joined(separator: " ")),
      ("matrices", shapes.isEmpty ? "none" : shapes.joined(separator: ", ")),
      (
        "usable",
        missingRequiredFeatures.isEmpty
          ? "yes" : "no: lacks \(missingRequiredFeatures.map(\.rawValue).joined(separator: ", "))"
      ),
    ]
    return ["\(index)  \(name)"]
      + rows.map { name, value in
        "   \(name)\(String(repeating: " ", count: 12 - name.count))\(value)"
      }
  }

  /// Everything that is known of the device.
  fileprivate var json: JSONText {
    [
      "index": .integer(index), "name": .string(name), "kind": .string(kind.rawValue),
      "usable": .bool(missingRequiredFeatures.isEmpty),
      "missing_features": .array(missingRequiredFeatures.map { .string($0.rawValue) }),
      "vendor_id": .integer(Int(vendorID)), "device_id": .integer(Int(deviceID)),
      "device_uuid": .string(deviceUUID), "driver_uuid": .string(driverUUID),
      "driver_name": .string(driverName), "driver_info": .string(driverInfo),
      "api_version": .string(apiVersion),
      "features": .array(sortedFeatures.map { .string($0.rawValue) }),
      "subgroup_size": .integer(subgroupSize), "min_subgroup_size": .integer(minSubgroupSize),
      "max_subgroup_size": .integer(maxSubgroupSize),
      "max_workgroup_invocations": .integer(maxWorkgroupInvocations),
      "max_workgroup_size_x": .integer(maxWorkgroupSizeX),
      "max_workgroup_count": .array(maxWorkgroupCount.map(JSONText.integer)),
      "max_shared_bytes": .integer(maxSharedBytes),
      "max_push_constant_bytes": .integer(maxPushConstantBytes),
      "max_allocation_bytes": .integer(maxAllocationBytes),
      "device_local_bytes": .integer(deviceLocalBytes),
      "unified_memory": .bool(hasUnifiedMemory),
      "timestamp_period_ns": .number(timestampPeriod),
      "compute_units": JSONText(computeUnits),
      "matrix_shapes": .array(
        matrixShapes.map { shape in
          [
            "m": .integer(shape.m), "n": .integer(shape.n), "k": .integer(shape.k),
            "input": .string(shape.input.rawValue),
            "accumulator": .string(shape.accumulator.rawValue),
          ]
        }),
    ]
  }
}

extension DeviceCapabilities.MatrixShape {
  /// The shape as `16x16x16 f16→f32`.
  fileprivate var summary: String { "\(m)x\(n)x\(k) \(input.rawValue)→\(accumulator.rawValue)" }
}

extension DevicesCommand: KernelCommand {
  // Shows what the other commands use unless they run the matrix path.
  var includesMatrixPath: Bool { false }
}
