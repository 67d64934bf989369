internal import VulkanAttention

/// A tensor of any kernel, by the C interface's number.
enum TensorName: Int32, CaseIterable, Sendable {
  case query = 1
  case key
  case value
  case output
  case logSumExp
  case scratch

  case bias = 32
  case mask
  case maskBits
  case treeBits
  case querySegments
  case keySegments
  case keyLengths
  case leftPadding
  case prefixLengths
  case headWindows
  case sinks
  case alibiSlopes
  case relativeBias
  case gridBias
  case keyBias
  case queryScales
  case gates
  case queryBias
  case relativeQueryBias
  case relativeKeys
  case queryStarts
  case keyStarts
  case initialMax
  case initialSum
  case initialOutput
  case finalMax
  case finalSum
  case finalOutput
  case blockMap

  case keySums = 96
  case entropy
  case queryRows
  case probabilities
  case topKeyIndices
  case topKeyProbabilities

  case partialOutputs = 112
  case partialLogSumExps
  case partialStarts

  case keyCache = 128
  case keyScales
  case valueCache
  case valueScales
  case pageIndptr
  case pageIndices
  case rotations
  case workspace

  case sequences = 160
  case positions
  case frequencies
  case rotaryPositions
  case lengths
  case committed
  case paths
  case pathLengths
  case copies
  case input

  case headDecay = 192
  case decay
  case keyDecay
  case valueDecay
  case beta
  case eraseKeys
  case eraseGates
  case writeGates
  case lowRankA
  case lowRankB
  case bonus
  case initialState
  case finalState
  case sequenceStarts
  case sequenceIDs
  case stateSlots
  case timeStep
  case rate
  case timeStepBias
  case skip
  case outputGate
  case snapshots
  case parents

  case projection = 224
  case xposRates
  case weight
  case residual
  case residualSum
  case secondInput
  case table
  case tokens
  case uniforms

  case customBuffer = 256

  /// The operand of an attention that the tensor is; nil for others.
  var attentionOperand: AttentionOperand.Kind? {
    switch self {
    case .bias: .bias
    case .mask: .mask
    case .maskBits: .maskBits
    case .treeBits: .treeBits
    case .querySegments: .querySegments
    case .keySegments: .keySegments
    case .keyLengths: .keyLengths
    case .leftPadding: .leftPadding
    case .prefixLengths: .prefixLengths
    case .headWindows: .headWindows
    case .sinks: .sinks
    case .alibiSlopes: .alibiSlopes
    case .relativeBias: .relativeBias
    case .gridBias: .gridBias
    case .blockMap: .blockMap
    case .keyBias: .keyBias
    case .queryScales: .queryScales
    case .gates: .gates
    case .queryBias: .queryBias
    case .relativeQueryBias: .relativeQueryBias
    case .relativeKeys: .relativeKeys
    case .queryStarts: .queryStarts
    case .keyStarts: .keyStarts
    case .initialMax: .initialMax
    case .initialSum: .initialSum
    case .initialOutput: .initialOutput
    case .finalMax: .finalMax
    case .finalSum: .finalSum
    case .finalOutput: .finalOutput
    default: nil
    }
  }

  /// The operand of a linear attention that the tensor is; nil for others.
  var linearOperand: LinearAttentionOperand? {
    switch self {
    case .headDecay: .headDecay
    case .decay: .decay
    case .keyDecay: .keyDecay
    case .valueDecay: .valueDecay
    case .beta: .beta
    case .eraseKeys: .eraseKeys
    case .eraseGates: .eraseGates
    case .writeGates: .writeGates
    case .lowRankA: .lowRankA
    case .lowRankB: .lowRankB
    case .bonus: .bonus
    case .initialState: .initialState
    case .finalState: .finalState
    case .initialSum: .initialSum
    case .finalSum: .finalSum
    case .sequenceStarts: .sequenceStarts
    case .sequenceIDs: .sequenceIDs
    case .stateSlots: .stateSlots
    case .timeStep: .timeStep
    case .rate: .rate
    case .timeStepBias: .timeStepBias
    case .skip: .skip
    case .outputGate: .outputGate
    case .snapshots: .snapshots
    case .parents: .parents
    default: nil
    }
  }

  /// The tensor of a number.
  init(number: Int32, _ name: String) throws(Failure) {
    guard let tensor = TensorName(rawValue: number) else {
      throw Failure("\(name).tensor", number, allowed: "one of VKATTN_TENSOR_…")
    }
    self = tensor
  }
}
