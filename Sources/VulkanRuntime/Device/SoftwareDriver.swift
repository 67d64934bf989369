/// Advice for lavapipe, Mesa's driver that runs shaders on the processor.
public enum SoftwareDriver {
  /// Asks lavapipe for vectors of 512 bits, where the processor has AVX-512.
  ///
  /// Its default is 256 bits on every processor. On one thread of an EPYC 9005 with Mesa 26.1.6 the row
  /// path of attention (B1 H8 S=T=1024) gains a factor of 1.7 in f32 (86 to 144 GFLOP/s at D = 64, 76 to
  /// 130 at D = 128) and 1.8 to 2.4 in f16. Subgroups are then 16 wide, and lavapipe crashes on
  /// cooperative matrices, so plans refuse the matrix path.
  ///
  /// The driver reads its environment once, so this has an effect only before the process's first
  /// Vulkan instance. A width that the user has set stays as it is. It changes the environment of the
  /// process: call it at the start, before other threads read theirs.
  ///
  /// - Returns: Whether lavapipe will use 512 bits.
  @discardableResult
  public static func preferWideVectors() -> Bool {
    let name = "LP_NATIVE_VECTOR_WIDTH"
    if let set = HostEnvironment.variable(name) { return set == "512" }
    return hasAVX512 && HostEnvironment.setVariable(name, to: "512")
  }

  /// Whether the processor lists AVX-512, as Linux tells; elsewhere there is no lavapipe to advise.
  private static var hasAVX512: Bool {
    HostEnvironment.line(of: "/proc/cpuinfo", beginningWith: "flags")?.contains(" avx512f")
      ?? false
  }
}
