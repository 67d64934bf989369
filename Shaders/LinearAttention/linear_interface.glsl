// What the kernels of the family LinearAttention share: options, the block of tensors, push constants, addresses.
//
// One token changes the state S [K,V] of its head, f32, then reads it:
//
//   S <- Diag(d_k) S Diag(d_v)
//   x = beta * (w . v) - S^T e            e = beta * (g . p) with the delta rule, p = k by default; else 0
//   S <- S + k x^T (+ b (a^T S'))         S' the state before the decay
//   o = scale * S^T q                     or before all that: scale * (S' + Diag(u) k x^T)^T q
//
// B batches, T tokens with U updates each, G heads of q and k, H heads of v, of the gates and of the states;
// head h of the values goes with head h / (H / G). Decays are natural logarithms; what is above 0 counts as 0.

#ifndef LINEAR_INTERFACE_GLSL
#define LINEAR_INTERFACE_GLSL

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_scalar_block_layout : require
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_arithmetic : require

#include "../Common/element_types.glsl"
#include "../Common/logistic.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint KEY_CHANNELS = 64;    // K
layout(constant_id = 2) const uint VALUE_CHANNELS = 64;  // V
layout(constant_id = 3) const uint KEY_TYPE = 0;         // of q, k, p, a, b
layout(constant_id = 4) const uint VALUE_TYPE = 0;       // of v and z
layout(constant_id = 5) const uint OUTPUT_TYPE = 0;
layout(constant_id = 6) const uint GATE_TYPE = 0;        // of decays, beta, gates and time steps
layout(constant_id = 7) const uint OPTIONS = 0;          // a sum of OPTION_*
layout(constant_id = 8) const bool ALIGNED = true;       // rows of key channels begin at 16 bytes, K % 8 == 0
layout(constant_id = 9) const uint UPDATES = 1;          // U
// From 10 on they belong to each kernel.

// The bits of OPTIONS, as in LinearAttentionOptionBits.swift.
const uint OPTION_HEAD_DECAY = 1u << 0;
const uint OPTION_DECAY = 1u << 1;
const uint OPTION_KEY_DECAY = 1u << 2;
const uint OPTION_VALUE_DECAY = 1u << 3;
const uint OPTION_BETA = 1u << 4;
const uint OPTION_DELTA = 1u << 5;
const uint OPTION_ERASE_KEYS = 1u << 6;
const uint OPTION_ERASE_GATES = 1u << 7;
const uint OPTION_WRITE_GATES = 1u << 8;
const uint OPTION_LOW_RANK = 1u << 9;
const uint OPTION_BEFORE = 1u << 10;
const uint OPTION_BONUS = 1u << 11;
const uint OPTION_STARTS = 1u << 12;         // packed sequences
const uint OPTION_SEQUENCE_IDS = 1u << 13;
const uint OPTION_STATE_SLOTS = 1u << 14;
const uint OPTION_TIME_STEP = 1u << 15;      // decay dt * rate, and dt in the place of beta
const uint OPTION_SOFTPLUS = 1u << 16;       // dt is the softplus of what is given
const uint OPTION_TIME_STEP_BIAS = 1u << 17;
const uint OPTION_SKIP = 1u << 18;           // o += skip * v
const uint OPTION_OUTPUT_GATE = 1u << 19;    // o *= SiLU(z)
const uint OPTION_ONES = 1u << 20;           // every v is 1: the denominators
const uint OPTION_DIVIDE = 1u << 21;         // o is divided by denominator + epsilon
const uint OPTION_RETENTION = 1u << 22;      // and then by max(|denominator|, 1)
const uint OPTION_NO_OUTPUT = 1u << 23;      // the state alone
const uint OPTION_NO_UPDATE = 1u << 24;      // the state stays
const uint OPTION_SNAPSHOTS = 1u << 25;      // the state after every token is kept
const uint OPTION_PARENTS = 1u << 26;        // a token comes after any earlier one of its sequence

#define HAS(option) ((OPTIONS & (option)) != 0u)

// Slots of the block, as in LinearAttentionBlock.swift.
const uint SLOT_Q = 0, SLOT_K = 1, SLOT_V = 2, SLOT_O = 3, SLOT_HEAD_DECAY = 4, SLOT_DECAY = 5;
const uint SLOT_KEY_DECAY = 6, SLOT_VALUE_DECAY = 7, SLOT_BETA = 8, SLOT_ERASE_KEYS = 9, SLOT_ERASE_GATES = 10;
const uint SLOT_WRITE_GATES = 11, SLOT_LOW_RANK_A = 12, SLOT_LOW_RANK_B = 13, SLOT_BONUS = 14;
const uint SLOT_INITIAL_STATE = 15, SLOT_FINAL_STATE = 16, SLOT_STARTS = 17, SLOT_SEQUENCE_IDS = 18;
const uint SLOT_STATE_SLOTS = 19, SLOT_TIME_STEP = 20, SLOT_RATE = 21, SLOT_SKIP = 22, SLOT_OUTPUT_GATE = 23;
const uint SLOT_TIME_STEP_BIAS = 24, SLOT_DENOMINATORS = 25, SLOT_CARRY = 26, SLOT_RECORDS = 27, SLOT_PARTS = 28;
const uint SLOT_SNAPSHOTS = 29, SLOT_PARENTS = 30;
const uint SLOT_COUNT = 31;

struct LinearTensor {
  uint64_t address;                           // 0: not there
  uint batchStride, tokenStride, headStride;  // in elements; channels are contiguous
  uint reserved;
};

layout(buffer_reference, scalar, buffer_reference_align = 8) readonly buffer LinearBlock {
  LinearTensor tensors[SLOT_COUNT];
  uint tokens;         // T of a batch entry; of packed sequences all of them
  uint headsPerGroup;  // H / G
  float scale;
  float epsilon;
  uint longestSequence;  // L
};

layout(push_constant, scalar) uniform LinearPush {
  uint64_t block;
  uint firstTile, firstHead, firstSequence;  // added to gl_WorkGroupID
  uint firstToken;                           // of each sequence: where this dispatch begins
  uint tokenCount;                           // the most tokens that it takes
  uint flags;                                // FLAG_*
  uint parts;                                // parts of a sequence that are walked side by side
  uint blocksPerPart;
} p;

const uint FLAG_FROM_CARRY = 1;  // the state comes from where the dispatch before left it
const uint FLAG_TO_CARRY = 2;    // it goes there
const uint FLAG_STORES = 4;      // it goes to the final state
const uint FLAG_LOADS = 8;       // it comes from the initial state

#define BLOCK LinearBlock(p.block)

// The sequence of this workgroup, set by openSequence().
uint batch;          // 0 where sequences are packed
uint sequence;
uint head;
uint keyHead;
uint sequenceStart;  // its first token in the tensors
uint tokenBegin;     // tokens of this dispatch, counted in the sequence
uint tokenEnd;

/// A number that is the same in all invocations, said so that the compiler knows it: what comes out of memory may
/// differ between them as far as it can see, and the software driver would load lane by lane from there on. Not
/// where invocations may have left: without any it is the largest number.
uint sameForAll(uint value) {
  return subgroupMin(value);
}

uint64_t sameForAll(uint64_t value) {
  const uvec2 halves = unpackUint2x32(value);
  return joined(subgroupMin(halves.x), subgroupMin(halves.y));
}

void openSequence(uint index, uint ownHead) {
  sequence = index;
  head = ownHead;
  keyHead = sameForAll(head / BLOCK.headsPerGroup);
  batch = HAS(OPTION_STARTS) ? 0 : sequence;
  uint length = BLOCK.tokens;
  sequenceStart = 0;
  if (HAS(OPTION_STARTS)) {
    const uint64_t starts = BLOCK.tensors[SLOT_STARTS].address + sequence * 4ul;
    sequenceStart = min(WordReference(starts).value, BLOCK.tokens);
    const uint end = min(WordReference(starts + 4ul).value, BLOCK.tokens);
    length = max(end, sequenceStart) - sequenceStart;
  }
  sequenceStart = sameForAll(sequenceStart);
  length = sameForAll(length);
  tokenBegin = min(p.firstToken, length);
  tokenEnd = min(p.firstToken + p.tokenCount, length);
}

/// The rows of a tensor [B,T,H,channels] for one head, token after token.
struct Walk {
  uint64_t at;
  uint64_t step;
};

/// Opens at a row of a sequence; an empty one is opened inside of the tensor, and its rows are not used.
Walk openWalk(const bool isThere, const uint slot, const uint type, uint row, uint rowsPerToken, uint ownHead) {
  Walk walk = Walk(0ul, 0ul);
  if (isThere) {
    const LinearTensor tensor = BLOCK.tensors[slot];
    const uint rows = BLOCK.tokens * rowsPerToken;
    const uint place = min(sequenceStart * rowsPerToken + row, rows - 1);
    walk.step = uint64_t(tensor.tokenStride) * elementBytes(type);
    walk.at = tensor.address + place * walk.step
      + (uint64_t(batch) * tensor.batchStride + uint64_t(ownHead) * tensor.headStride) * elementBytes(type);
  }
  return walk;
}

/// The same for a row that all invocations share.
Walk openSharedWalk(const bool isThere, const uint slot, const uint type, uint row, uint rowsPerToken, uint ownHead) {
  const Walk walk = openWalk(isThere, slot, type, row, rowsPerToken, ownHead);
  return isThere ? Walk(sameForAll(walk.at), sameForAll(walk.step)) : walk;
}

/// A number for each head, f32.
float headValue(const uint slot) {
  return FloatReference(BLOCK.tensors[slot].address + head * 4ul).value;
}

/// e^min(x, 0); NaN stays.
float decayFactor(float logarithm) {
  return exp2((logarithm > 0.0 ? 0.0 : logarithm) * LOG2_E);
}

vec4 decayFactor(vec4 logarithm) {
  return exp2(mix(logarithm, vec4(0.0), greaterThan(logarithm, vec4(0.0))) * LOG2_E);
}

/// dt of what is given for it.
float timeStep(float given) {
  float value = given;
  if (HAS(OPTION_TIME_STEP_BIAS)) { value += headValue(SLOT_TIME_STEP_BIAS); }
  if (HAS(OPTION_SOFTPLUS)) { value = max(value, 0.0) + log(1.0 + exp(-abs(value))); }
  return value;
}

/// What a token multiplies all of the state by, beside the decays of channels. `step` becomes its dt, 1 where it has
/// none; dt and decay are read at the addresses of the token's.
float tokenFactor(float headFactor, float rate, uint64_t dt, uint64_t decay, out float step) {
  float factor = headFactor;
  step = 1;
  if (HAS(OPTION_TIME_STEP)) {
    step = timeStep(loadElement(GATE_TYPE, dt));
    factor *= decayFactor(step * rate);
  }
  if (HAS(OPTION_DECAY)) { factor *= decayFactor(loadElement(GATE_TYPE, decay)); }
  return factor;
}

/// The address of element [0,0] of a state; 0 where the sequence has none.
uint64_t stateAddress(const uint slot) {
  const LinearTensor tensor = BLOCK.tensors[slot];
  uint place = sequence;
  if (HAS(OPTION_STATE_SLOTS) && slot != SLOT_CARRY) {
    const int own = int(WordReference(BLOCK.tensors[SLOT_STATE_SLOTS].address + sequence * 4ul).value);
    if (own < 0 || tensor.address == 0) { return 0ul; }
    place = uint(own);
  }
  return tensor.address + (uint64_t(place) * tensor.batchStride + uint64_t(head) * tensor.headStride) * 4ul;
}

/// Where the state is that a dispatch begins with, of its parallel parts apart: what the dispatch before left, or the
/// initial state. `isThere` is false where it begins with 0.
uint64_t stateBefore(uint64_t carry, uint64_t initial, out bool isThere) {
  const bool fromCarry = (p.flags & FLAG_FROM_CARRY) != 0;
  isThere = fromCarry || ((p.flags & FLAG_LOADS) != 0 && initial != 0);
  return fromCarry ? carry : initial;
}

/// What an output becomes after the state was read.
float finishOutput(float value, float own, float gate, float denominator) {
  float result = value;
  if (HAS(OPTION_DIVIDE)) {
    result /= HAS(OPTION_RETENTION) ? max(abs(denominator), 1.0) : denominator + BLOCK.epsilon;
  }
  if (HAS(OPTION_SKIP)) { result = fma(headValue(SLOT_SKIP), own, result); }
  if (HAS(OPTION_OUTPUT_GATE)) { result *= gate / (1.0 + exp(-gate)); }
  return result;
}

#endif
