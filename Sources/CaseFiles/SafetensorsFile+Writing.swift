extension SafetensorsFile {
  /// The file's bytes: wide elements first, so that each tensor is aligned to its element.
  public func serialized() -> [UInt8] {
    let ordered = tensors.sorted {
      ($1.element.byteCount, $0.name) < ($0.element.byteCount, $1.name)
    }
    var members: [String] = []
    if !metadata.isEmpty {
      let pairs = metadata.sorted { $0.key < $1.key }
        .map { "\(quotedJSON($0.key)):\(quotedJSON($0.value))" }
      members.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
    }
    var offset = 0
    for tensor in ordered {
      let end = offset + tensor.bytes.count
      let shape = tensor.shape.map(String.init).joined(separator: ",")
      members.append(
        "\(quotedJSON(tensor.name)):{\"dtype\":\"\(tensor.element.rawValue)\","
          + "\"shape\":[\(shape)],\"data_offsets\":[\(offset),\(end)]}")
      offset = end
    }
    var header = Array("{\(members.joined(separator: ","))}".utf8)
    // Spaces up to a multiple of 8 align the data.
    while header.count % 8 != 0 { header.append(0x20) }

    var bytes: [UInt8] = []
    bytes.reserveCapacity(8 + header.count + offset)
    withUnsafeBytes(of: UInt64(header.count).littleEndian) { bytes.append(contentsOf: $0) }
    bytes += header
    for tensor in ordered { bytes += tensor.bytes }
    return bytes
  }

  /// Writes the file to `path`, replacing what is there.
  ///
  /// - Throws: ``CaseFileError`` with the system's reason.
  public func write(path: String) throws(CaseFileError) {
    try writeWholeFile(path, serialized())
  }
}
