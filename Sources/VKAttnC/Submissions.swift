public import CVKAttn
internal import VulkanAttention

extension vkattn_submit_info: SizedStructure {}

/// What a submission's handle stands for.
final class SubmissionObject: Sendable {
  let submission: Submission

  init(_ submission: Submission) {
    self.submission = submission
  }
}

/// What a stream's handle stands for.
final class StreamObject: Sendable {
  let stream: ComputeStream

  init(_ stream: ComputeStream) {
    self.stream = stream
  }
}

private func submission(_ handle: OpaquePointer?) throws(Failure) -> Submission {
  try HandleTable.shared.object(handle, .submission, as: SubmissionObject.self).submission
}

/// No one waits for more than this at once.
private let mostDependencies = 4096

/// Where commands go, and behind what.
struct SubmitTarget {
  private var stream: ComputeStream?
  private(set) var submissions: [Submission] = []
  private(set) var points: [TimelinePoint] = []

  init(_ info: UnsafePointer<vkattn_submit_info>?) throws(Failure) {
    guard let given = try readIfGiven(info, "info") else { return }
    if let handle = given.stream {
      stream = try HandleTable.shared.object(handle, .stream, as: StreamObject.self).stream
    }
    for handle in try elements(
      given.after, given.after_count, "info.after", atMost: mostDependencies)
    {
      submissions.append(try submission(handle))
    }
    let points = try elements(
      given.points, given.point_count, "info.points", atMost: mostDependencies)
    for (index, point) in points.enumerated() {
      let semaphore = try required(point.semaphore, "info.points[\(index)].semaphore")
      self.points.append(TimelinePoint(semaphore: OpaquePointer(semaphore), value: point.value))
    }
  }

  /// The stream, else the device's own order.
  func stream(of device: ComputeDevice) throws(VulkanError) -> ComputeStream {
    if let stream { stream } else { try device.ownStream() }
  }
}

/// `vkattn_stream_create` of vkattn.h.
@_cdecl("vkattn_stream_create")
public func streamCreate(
  _ handle: OpaquePointer?, _ stream: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  call { () throws(Failure) in
    let device = try device(handle)
    let stream = try required(stream, "stream")
    let made = try onDevice(device.makeStream)
    stream.pointee = try HandleTable.shared.insert(StreamObject(made), .stream)
  }
}

/// `vkattn_stream_free` of vkattn.h.
@_cdecl("vkattn_stream_free")
public func streamFree(_ stream: OpaquePointer?) -> vkattn_status {
  call { () throws(Failure) in try HandleTable.shared.remove(stream, .stream) }
}

/// A handle of a submission, where one is asked for.
func giveOut(
  _ submitted: Submission, _ submission: UnsafeMutablePointer<OpaquePointer?>?
) throws(Failure) {
  guard let submission else { return }
  submission.pointee = try HandleTable.shared.insert(SubmissionObject(submitted), .submission)
}

/// `vkattn_submission_wait` of vkattn.h.
@_cdecl("vkattn_submission_wait")
public func submissionWait(_ handle: OpaquePointer?, _ seconds: Double) -> vkattn_status {
  call { () throws(Failure) in
    let submission = try submission(handle)
    guard !seconds.isNaN else {
      throw Failure("seconds", seconds, allowed: "a number, negative for ever")
    }
    try onDevice { () throws(VulkanError) in
      try submission.wait(timeout: seconds < 0 ? nil : seconds)
    }
  }
}

/// `vkattn_submission_is_complete` of vkattn.h.
@_cdecl("vkattn_submission_is_complete")
public func submissionIsComplete(
  _ handle: OpaquePointer?, _ isComplete: UnsafeMutablePointer<Int32>?
) -> vkattn_status {
  call { () throws(Failure) in
    let submission = try submission(handle)
    let isComplete = try required(isComplete, "is_complete")
    isComplete.pointee =
      try onDevice { () throws(VulkanError) in try submission.isComplete } ? 1 : 0
  }
}

/// `vkattn_submission_timestamps` of vkattn.h.
@_cdecl("vkattn_submission_timestamps")
public func submissionTimestamps(
  _ handle: OpaquePointer?, _ nanoseconds: UnsafeMutablePointer<Double>?, _ capacity: Int,
  _ count: UnsafeMutablePointer<Int>?
) -> vkattn_status {
  call { () throws(Failure) in
    let submission = try submission(handle)
    let target = capacity == 0 ? nil : try required(nanoseconds, "nanoseconds")
    let timestamps = try onDevice(submission.timestamps)
    // A capacity beyond the integers holds all.
    let room = capacity < 0 ? Int.max : capacity
    target?.update(from: timestamps, count: min(room, timestamps.count))
    count?.pointee = timestamps.count
  }
}

/// `vkattn_submission_free` of vkattn.h.
@_cdecl("vkattn_submission_free")
public func submissionFree(_ handle: OpaquePointer?) -> vkattn_status {
  call { () throws(Failure) in try HandleTable.shared.remove(handle, .submission) }
}

/// `vkattn_submission_point` of vkattn.h.
@_cdecl("vkattn_submission_point")
public func submissionPoint(
  _ handle: OpaquePointer?, _ point: UnsafeMutablePointer<vkattn_timeline_point>?
) -> vkattn_status {
  call { () throws(Failure) in
    let end = try submission(handle).timelinePoint
    let point = try required(point, "point")
    point.pointee = vkattn_timeline_point(
      semaphore: UnsafeMutableRawPointer(end.semaphore), value: end.value)
  }
}
