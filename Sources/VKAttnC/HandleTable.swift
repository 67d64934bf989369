internal import Synchronization

/// What a handle stands for; the number is part of the handle.
enum HandleKind: UInt64, Sendable {
  case device = 1
  case buffer
  case plan
  case kernel
  case recorder
  case submission
  case step
  case commandList
  case stream

  /// As in messages.
  var name: String {
    switch self {
    case .device: "device"
    case .buffer: "buffer"
    case .plan: "plan"
    case .kernel: "kernel"
    case .recorder: "recorder"
    case .submission: "submission"
    case .step: "step"
    case .commandList: "command list"
    case .stream: "stream"
    }
  }
}

/// The objects that callers in C hold, by numbers that are never followed as pointers.
///
/// A handle is 0xA in the top 4 bits, a generation (32), a place (24) and a kind (4). A place that is
/// given back gets the next generation, so that a freed handle is known as one without touching memory;
/// the top bits make it no address of any process.
final class HandleTable: Sendable {
  private struct Place {
    var generation: UInt32 = 1
    var kind = HandleKind.device
    var object: (any AnyObject & Sendable)?
  }

  private struct State {
    var places: [Place] = []
    var free: [Int] = []
  }

  /// The table of the process.
  static let shared = HandleTable()

  private static let mostPlaces = 1 << 24
  private static let mark: UInt64 = 0xA
  private let state = Mutex(State())

  /// Keeps an object and makes its handle.
  func insert(
    _ object: any AnyObject & Sendable, _ kind: HandleKind
  ) throws(Failure) -> OpaquePointer {
    let bits = try state.withLock { (state) throws(Failure) -> UInt64 in
      let index: Int
      if let free = state.free.popLast() {
        index = free
      } else {
        guard state.places.count < Self.mostPlaces else {
          throw Failure(.outOfMemory, "\(Self.mostPlaces) handles are in use; free some")
        }
        index = state.places.count
        state.places.append(Place())
      }
      state.places[index].kind = kind
      state.places[index].object = object
      return Self.mark << 60 | UInt64(state.places[index].generation) << 28
        | UInt64(index) << 4 | kind.rawValue
    }
    guard let handle = OpaquePointer(bitPattern: UInt(bits)) else {
      throw Failure(.outOfMemory, "a handle does not fit a pointer on this machine")
    }
    return handle
  }

  /// The object of a handle.
  func object<Object: AnyObject>(
    _ handle: OpaquePointer?, _ kind: HandleKind, as type: Object.Type = Object.self
  ) throws(Failure) -> Object {
    guard let handle else {
      throw Failure(.nullPointer, "the handle of a \(kind.name) is NULL")
    }
    let object = try state.withLock { (state) throws(Failure) in
      state.places[try Self.place(of: handle, kind, in: state)].object
    }
    guard let object = object as? Object else { throw Self.unknown(kind) }
    return object
  }

  /// Forgets a handle; NULL is none.
  func remove(_ handle: OpaquePointer?, _ kind: HandleKind) throws(Failure) {
    guard let handle else { return }
    // The object goes outside of the lock: its end may take long.
    let object = try state.withLock { (state) throws(Failure) in
      let index = try Self.place(of: handle, kind, in: state)
      let object = state.places[index].object
      state.places[index].object = nil
      state.places[index].generation &+= 1
      // A generation that comes round again would revive old handles: the place is not used again.
      if state.places[index].generation != 0 { state.free.append(index) }
      return object
    }
    withExtendedLifetime(object) {}
  }

  private static func place(
    of handle: OpaquePointer, _ kind: HandleKind, in state: State
  ) throws(Failure) -> Int {
    let bits = UInt64(UInt(bitPattern: handle))
    let index = Int(bits >> 4 & 0xFF_FFFF)
    guard bits >> 60 == mark, let actual = HandleKind(rawValue: bits & 0xF),
      state.places.indices.contains(index)
    else { throw unknown(kind) }
    guard actual == kind else {
      throw Failure(
        .invalidHandle, "the handle is of a \(actual.name), where that of a \(kind.name) is needed")
    }
    let place = state.places[index]
    guard place.object != nil, place.kind == kind,
      place.generation == UInt32(truncatingIfNeeded: bits >> 28)
    else { throw unknown(kind) }
    return index
  }

  private static func unknown(_ kind: HandleKind) -> Failure {
    Failure(.invalidHandle, "no \(kind.name) has this handle: it was freed, or never was one")
  }
}
