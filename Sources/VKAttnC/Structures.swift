internal import CVKAttn

/// A structure that begins with its own size, as the caller's version of the header has it.
///
/// All have 0 for every field's default, so that the fields that a caller does not know are 0.
protocol SizedStructure {
  init()
}

extension vkattn_device_options: SizedStructure {}
extension vkattn_device_info: SizedStructure {}
extension vkattn_buffer_info: SizedStructure {}
extension vkattn_mask: SizedStructure {}
extension vkattn_scores: SizedStructure {}
extension vkattn_attention_request: SizedStructure {}
extension vkattn_statistics_request: SizedStructure {}
extension vkattn_merge_request: SizedStructure {}
extension vkattn_cache_tensor: SizedStructure {}
extension vkattn_cache: SizedStructure {}
extension vkattn_rotary: SizedStructure {}
extension vkattn_rotate_request: SizedStructure {}
extension vkattn_append_request: SizedStructure {}
extension vkattn_compact_request: SizedStructure {}
extension vkattn_copy_pages_request: SizedStructure {}
extension vkattn_decode_request: SizedStructure {}
extension vkattn_step_info: SizedStructure {}
extension vkattn_linear_request: SizedStructure {}
extension vkattn_plan_info: SizedStructure {}

/// No structure of any version has more bytes: what claims to is no structure.
private let mostStructureBytes = 4096

/// The size that a caller's structure says it has.
private func size(
  of pointer: UnsafeRawPointer, _ name: String, known: Int
) throws(Failure) -> Int {
  let size = pointer.loadUnaligned(as: Int.self)
  guard (MemoryLayout<Int>.size...mostStructureBytes).contains(size) else {
    throw Failure(
      .badStructure,
      "\(name).struct_size is \(UInt(bitPattern: size)); set it to sizeof, here \(known), as VKATTN_INIT "
        + "does")
  }
  return size
}

/// A caller's structure in this version's form.
func read<Structure: SizedStructure>(
  _ pointer: UnsafePointer<Structure>?, _ name: String
) throws(Failure) -> Structure {
  let source = UnsafeRawPointer(try required(pointer, name))
  let known = MemoryLayout<Structure>.size
  let size = try size(of: source, name, known: known)
  for index in min(known, size)..<size where source.load(fromByteOffset: index, as: UInt8.self) != 0
  {
    throw Failure(
      .badStructure,
      "\(name) has \(size) bytes and sets byte \(index); this version knows \(known) of them")
  }
  var structure = Structure()
  withUnsafeMutableBytes(of: &structure) { bytes in
    bytes.copyMemory(from: UnsafeRawBufferPointer(start: source, count: min(known, size)))
  }
  return structure
}

/// As `read`, nil for NULL.
func readIfGiven<Structure: SizedStructure>(
  _ pointer: UnsafePointer<Structure>?, _ name: String
) throws(Failure) -> Structure? {
  pointer == nil ? nil : try read(pointer, name)
}

/// Fills a caller's structure with as many of the fields as it has; its size stays.
func write<Structure: SizedStructure>(
  _ structure: Structure, to pointer: UnsafeMutablePointer<Structure>?, _ name: String
) throws(Failure) {
  let target = UnsafeMutableRawPointer(try required(pointer, name))
  let size = try size(of: target, name, known: MemoryLayout<Structure>.size)
  let header = MemoryLayout<Int>.size
  withUnsafeBytes(of: structure) { bytes in
    let known = UnsafeRawBufferPointer(rebasing: bytes[header..<min(bytes.count, size)])
    UnsafeMutableRawBufferPointer(start: target + header, count: known.count).copyMemory(
      from: known)
  }
}

/// Copies a text to an array of a structure, cut to its length, with a 0 at the end.
func copy<Characters>(_ text: String, to characters: inout Characters) {
  withUnsafeMutableBytes(of: &characters) { bytes in
    var text = Substring(text)
    // Whole characters: half of one would be no text.
    while text.utf8.count >= bytes.count { text.removeLast() }
    bytes.copyBytes(from: text.utf8)
    bytes[text.utf8.count] = 0
  }
}

/// Refuses reserved fields that are set.
func checkReserved(_ value: UInt32, _ name: String) throws(Failure) {
  guard value == 0 else { throw Failure("\(name).reserved", value, allowed: "0") }
}

/// Refuses bits that mean nothing.
func checkFlags(_ flags: UInt32, _ name: String, known: Int) throws(Failure) {
  guard flags & ~UInt32(known) == 0 else {
    throw Failure("\(name).flags", flags, allowed: "combinations of \(known)")
  }
}
