public import CVKAttn

/// A text that lives as long as the process.
private func constant(_ text: StaticString) -> UnsafePointer<CChar>? {
  UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}

/// `vkattn_abi_version` of vkattn.h.
@_cdecl("vkattn_abi_version")
public func abiVersion() -> UInt32 { UInt32(VKATTN_ABI_VERSION) }

/// `vkattn_version` of vkattn.h.
@_cdecl("vkattn_version")
public func version() -> UnsafePointer<CChar>? { constant("0.1.0") }

/// `vkattn_status_name` of vkattn.h.
@_cdecl("vkattn_status_name")
public func statusName(_ status: vkattn_status) -> UnsafePointer<CChar>? {
  constant(Status(rawValue: status)?.name ?? "VKATTN_UNKNOWN")
}

/// `vkattn_last_error` of vkattn.h.
@_cdecl("vkattn_last_error")
public func lastError() -> UnsafePointer<CChar>? {
  ThreadState.current?.message.map { UnsafePointer($0) } ?? constant("")
}
