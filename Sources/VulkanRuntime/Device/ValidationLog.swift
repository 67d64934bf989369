internal import CVulkan
internal import Synchronization

/// What the validation layers said, kept until it is asked for.
public final class ValidationLog: Sendable {
  /// One message of the validation layers.
  public struct Message: Sendable, Hashable {
    /// Whether the layers call it an error; else it is a warning.
    public let isError: Bool
    /// The rule's identifier, such as `VUID-vkCmdDispatch-None-08606`.
    public let identifier: String
    /// The layers' own text.
    public let text: String
  }

  private let storage = Mutex<[Message]>([])

  /// Makes an empty log.
  public init() {}

  /// All messages so far, oldest first.
  public var messages: [Message] { storage.withLock { $0 } }

  /// Forgets all messages and returns them.
  public func drain() -> [Message] {
    storage.withLock { messages in
      let drained = messages
      messages = []
      return drained
    }
  }

  func append(_ message: Message) {
    storage.withLock { $0.append(message) }
  }

  /// How a messenger reports to this log, which must outlive the messenger.
  func messengerInfo() -> VkDebugUtilsMessengerCreateInfoEXT {
    var info = VkDebugUtilsMessengerCreateInfoEXT()
    info.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT
    info.messageSeverity =
      VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT.rawValue
      | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT.rawValue
    info.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT.rawValue
    info.pfnUserCallback = { severity, _, data, log in
      guard let log, let message = data?.pointee else { return VkBool32(VK_FALSE) }
      Unmanaged<ValidationLog>.fromOpaque(log).takeUnretainedValue().append(
        Message(
          isError: severity.rawValue >= VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT.rawValue,
          identifier: message.pMessageIdName.map { String(cString: $0) } ?? "",
          text: message.pMessage.map { String(cString: $0) } ?? ""))
      return VkBool32(VK_FALSE)
    }
    info.pUserData = Unmanaged.passUnretained(self).toOpaque()
    return info
  }
}
