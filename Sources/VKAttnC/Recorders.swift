public import CVKAttn
internal import Synchronization
internal import VulkanAttention

/// What a recorder's handle stands for.
final class RecorderObject: @unchecked Sendable {
  // Unchecked: the recorder is one thread's while the flag is set.
  let device: ComputeDevice
  private let recorder: Recorder
  private let isInUse = Atomic<Bool>(false)

  init(_ recorder: Recorder, _ device: ComputeDevice) {
    self.recorder = recorder
    self.device = device
  }

  /// Gives the recorder to one thread; another one is turned away.
  func use<Result>(_ body: (Recorder) throws(Failure) -> Result) throws(Failure) -> Result {
    guard !isInUse.exchange(true, ordering: .acquiring) else {
      throw Failure(.busy, "another thread is using the recorder; each thread needs its own")
    }
    defer { isInUse.store(false, ordering: .releasing) }
    return try body(recorder)
  }
}

/// What a command list's handle stands for.
final class CommandListObject: Sendable {
  let list: CommandList
  let device: ComputeDevice

  init(_ list: CommandList, _ device: ComputeDevice) {
    self.list = list
    self.device = device
  }
}

private func recorderObject(_ handle: OpaquePointer?) throws(Failure) -> RecorderObject {
  try HandleTable.shared.object(handle, .recorder)
}

/// `vkattn_recorder_create` of vkattn.h.
@_cdecl("vkattn_recorder_create")
public func recorderCreate(
  _ handle: OpaquePointer?, _ recorder: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createRecorder(handle, recorder, forReplay: false)
}

/// `vkattn_recorder_create_for_replay` of vkattn.h.
@_cdecl("vkattn_recorder_create_for_replay")
public func recorderCreateForReplay(
  _ handle: OpaquePointer?, _ recorder: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createRecorder(handle, recorder, forReplay: true)
}

private func createRecorder(
  _ handle: OpaquePointer?, _ recorder: UnsafeMutablePointer<OpaquePointer?>?,
  forReplay isReplayable: Bool
) -> vkattn_status {
  call { () throws(Failure) in
    let device = try device(handle)
    let recorder = try required(recorder, "recorder")
    let made = try onDevice { () throws(VulkanError) in
      try device.makeRecorder(forReplay: isReplayable)
    }
    recorder.pointee = try HandleTable.shared.insert(RecorderObject(made, device), .recorder)
  }
}

/// `vkattn_recorder_record` of vkattn.h.
@_cdecl("vkattn_recorder_record")
public func recorderRecord(
  _ recorder: OpaquePointer?, _ kernel: OpaquePointer?, _ bindings: UnsafePointer<vkattn_binding>?,
  _ bindingCount: Int
) -> vkattn_status {
  call { () throws(Failure) in
    let recorder = try recorderObject(recorder)
    let (kernel, _) = try kernelObject(kernel).whole()
    let bindings = try Bindings(bindings, bindingCount)
    try recorder.use { (recorder) throws(Failure) in try kernel.record(bindings, into: recorder) }
  }
}

/// `vkattn_recorder_prepare_step` of vkattn.h.
@_cdecl("vkattn_recorder_prepare_step")
public func recorderPrepareStep(
  _ recorder: OpaquePointer?, _ kernel: OpaquePointer?, _ info: UnsafePointer<vkattn_step_info>?,
  _ step: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  prepareStep(recorder, kernel, info, step, forReplay: false)
}

/// `vkattn_recorder_prepare_replay_step` of vkattn.h.
@_cdecl("vkattn_recorder_prepare_replay_step")
public func recorderPrepareReplayStep(
  _ recorder: OpaquePointer?, _ kernel: OpaquePointer?, _ info: UnsafePointer<vkattn_step_info>?,
  _ step: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  prepareStep(recorder, kernel, info, step, forReplay: true)
}

private func prepareStep(
  _ recorder: OpaquePointer?, _ kernel: OpaquePointer?, _ info: UnsafePointer<vkattn_step_info>?,
  _ step: UnsafeMutablePointer<OpaquePointer?>?, forReplay isForReplay: Bool
) -> vkattn_status {
  call { () throws(Failure) in
    let recorder = try recorderObject(recorder)
    let kernel = try kernelObject(kernel).decode()
    let step = try required(step, "step")
    let information = try StepInformation(info, kernel.plan)
    var prepared = try recorder.use { (recorder) throws(Failure) in
      try information.prepare(kernel, into: recorder)
    }
    if isForReplay { prepared = try kernel.stepForReplay(prepared) }
    step.pointee = try HandleTable.shared.insert(StepObject(prepared), .step)
  }
}

/// `vkattn_recorder_update_step` of vkattn.h.
@_cdecl("vkattn_recorder_update_step")
public func recorderUpdateStep(
  _ recorder: OpaquePointer?, _ kernel: OpaquePointer?, _ step: OpaquePointer?,
  _ info: UnsafePointer<vkattn_step_info>?
) -> vkattn_status {
  call { () throws(Failure) in
    let recorder = try recorderObject(recorder)
    let kernel = try kernelObject(kernel).decode()
    let step = try HandleTable.shared.object(step, .step, as: StepObject.self).step
    let information = try StepInformation(info, kernel.plan)
    try recorder.use { (recorder) throws(Failure) in
      try information.update(step, kernel, into: recorder)
    }
  }
}

/// `vkattn_recorder_record_layer` of vkattn.h.
@_cdecl("vkattn_recorder_record_layer")
public func recorderRecordLayer(
  _ recorder: OpaquePointer?, _ kernel: OpaquePointer?, _ step: OpaquePointer?,
  _ bindings: UnsafePointer<vkattn_binding>?, _ bindingCount: Int
) -> vkattn_status {
  call { () throws(Failure) in
    let recorder = try recorderObject(recorder)
    let kernel = try kernelObject(kernel).decode()
    let step = try HandleTable.shared.object(step, .step, as: StepObject.self).step
    let bindings = try Bindings(bindings, bindingCount)
    try recorder.use { (recorder) throws(Failure) in
      try recordLayer(bindings, kernel, step, into: recorder)
    }
  }
}

/// `vkattn_recorder_copy` of vkattn.h.
@_cdecl("vkattn_recorder_copy")
public func recorderCopy(
  _ recorder: OpaquePointer?, _ source: OpaquePointer?, _ sourceOffset: Int,
  _ destination: OpaquePointer?, _ destinationOffset: Int, _ byteCount: Int
) -> vkattn_status {
  call { () throws(Failure) in
    let recorder = try recorderObject(recorder)
    let source = try bufferObject(source).part(sourceOffset, byteCount)
    let destination = try bufferObject(destination).part(destinationOffset, byteCount)
    try recorder.use { (recorder) throws(Failure) in
      try onDevice { () throws(VulkanError) in try recorder.copy(from: source, to: destination) }
    }
  }
}

/// `vkattn_recorder_fill` of vkattn.h.
@_cdecl("vkattn_recorder_fill")
public func recorderFill(
  _ recorder: OpaquePointer?, _ buffer: OpaquePointer?, _ offset: Int, _ byteCount: Int,
  _ word: UInt32
) -> vkattn_status {
  call { () throws(Failure) in
    let recorder = try recorderObject(recorder)
    let part = try bufferObject(buffer).part(offset, byteCount)
    try recorder.use { (recorder) throws(Failure) in
      try onDevice { () throws(VulkanError) in try recorder.fill(part, with: word) }
    }
  }
}

/// `vkattn_recorder_timestamp` of vkattn.h.
@_cdecl("vkattn_recorder_timestamp")
public func recorderTimestamp(_ recorder: OpaquePointer?) -> vkattn_status {
  call { () throws(Failure) in
    try recorderObject(recorder).use { (recorder) throws(Failure) in
      try onDevice(recorder.timestamp)
    }
  }
}

/// `vkattn_recorder_submit` of vkattn.h.
@_cdecl("vkattn_recorder_submit")
public func recorderSubmit(
  _ recorder: OpaquePointer?, _ submission: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  recorderSubmitTo(recorder, nil, submission)
}

/// `vkattn_recorder_submit_to` of vkattn.h.
@_cdecl("vkattn_recorder_submit_to")
public func recorderSubmitTo(
  _ recorder: OpaquePointer?, _ info: UnsafePointer<vkattn_submit_info>?,
  _ submission: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  call { () throws(Failure) in
    let object = try recorderObject(recorder)
    let target = try SubmitTarget(info)
    let submitted = try object.use { (recorder) throws(Failure) in
      try onDevice { () throws(VulkanError) in
        try target.stream(of: object.device).submit(
          recorder, after: target.submissions, reaching: target.points)
      }
    }
    try giveOut(submitted, submission)
  }
}

/// `vkattn_recorder_free` of vkattn.h.
@_cdecl("vkattn_recorder_free")
public func recorderFree(_ recorder: OpaquePointer?) -> vkattn_status {
  call { () throws(Failure) in try HandleTable.shared.remove(recorder, .recorder) }
}

/// `vkattn_command_list_create` of vkattn.h.
@_cdecl("vkattn_command_list_create")
public func commandListCreate(
  _ recorder: OpaquePointer?, _ list: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  call { () throws(Failure) in
    let object = try recorderObject(recorder)
    let list = try required(list, "list")
    let made = try object.use { (recorder) throws(Failure) in
      try onDevice { () throws(VulkanError) in try object.device.makeCommandList(recorder) }
    }
    list.pointee = try HandleTable.shared.insert(
      CommandListObject(made, object.device), .commandList)
  }
}

/// `vkattn_command_list_submit` of vkattn.h.
@_cdecl("vkattn_command_list_submit")
public func commandListSubmit(
  _ list: OpaquePointer?, _ submission: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  commandListSubmitTo(list, nil, submission)
}

/// `vkattn_command_list_submit_to` of vkattn.h.
@_cdecl("vkattn_command_list_submit_to")
public func commandListSubmitTo(
  _ list: OpaquePointer?, _ info: UnsafePointer<vkattn_submit_info>?,
  _ submission: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  call { () throws(Failure) in
    let object = try HandleTable.shared.object(list, .commandList, as: CommandListObject.self)
    let target = try SubmitTarget(info)
    let submitted = try onDevice { () throws(VulkanError) in
      try target.stream(of: object.device).submit(
        object.list, after: target.submissions, reaching: target.points)
    }
    try giveOut(submitted, submission)
  }
}

/// `vkattn_command_list_free` of vkattn.h.
@_cdecl("vkattn_command_list_free")
public func commandListFree(_ list: OpaquePointer?) -> vkattn_status {
  call { () throws(Failure) in try HandleTable.shared.remove(list, .commandList) }
}
