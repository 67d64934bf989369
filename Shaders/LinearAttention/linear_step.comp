#version 460

// Linear attention and its gated kin for a single token of each sequence, a decode step; the family's step is in
// linear_interface.glsl.
//
//   held = S^T e                                       (only with the delta rule or a low-rank change)
//   for every row r: S_r <- decay_r S_r + k_r x (+ b_r held); o += q_r S_r
//
// The state is streamed: 8 K V bytes of a head are read and written, and nothing of it is kept. An invocation owns
// COLUMN_QUADS times four columns and every LANES-th group of 4 rows; neighbours own neighbouring columns, so that a
// row is read in one piece. The four are neighbours, 16 bytes; where PAIRED they are two pairs, the first ones of all
// lanes one behind the other. With the delta rule rows are read twice, the second time out of a cache: 4 K bytes for
// each column of a workgroup. In memory the initial and the final state may be the same.
//
// Grid: x = tiles of (workgroup / LANES * 4 COLUMN_QUADS) columns, y = value head, z = sequence. V in fours.
// Shared memory: 16 bytes for each invocation where LANES > 1.
//
// Why not linear_recurrent.comp, which keeps the state in registers: for one token that is a load and a store of every
// row without a loop, some 70 KB of code on the software driver. That driver tests, branches and inserts lane by lane,
// whatever a lane's width is: 16 bytes a lane, as two numbers of 64 bits.
//
// Ladder (f32 states, best tenth of the samples, 2 cores of an EPYC 7003 with other load; copy 21-25 GB/s):
//                                              lightning B4 H8 D128   MiniMax-01 B16 H64 D128   Mamba-2 B16 H80 128x64
//   linear_recurrent.comp                              1.28 ms                 36 ms                    27 ms
//   the same, 4 neighbouring columns at once           1.69                    47
//   in a loop, vec4 a lane                             0.71                    26                       11
//   in a loop, u64vec2 a lane                          0.53                    22                       12
// On both cores of an EPYC 9005 (copy 32-42 GB/s), medians by turns:    MiniMax-01   Mamba-2   Qwen3-Next B16 H32 D128
//   the same, 8 lanes: a row of 128 columns in 4 pieces                    24.4 ms      14.0 ms      14.3 ms
//   COLUMN_QUADS = 4: it is read at once, and so ahead                     10.8          7.5          7.6
//   the same as before, 16 lanes: in 2 pieces                              26.8          9.4         15.3
//   COLUMN_QUADS = 2                                                       14.9          9.0          9.6
// On both cores of an EPYC 9004 (16 lanes), keys at addresses that all lanes share, instead of gathered: lightning B4
// H8 D128 429 to 357 us, KDA 655 to 509; MiniMax-01 as before, 13 ms (copy 28 GB/s). A scatter of 64 bytes takes 11
// cycles there and a gather 10, a row of 16 columns 67 of both: not kept were stores of single lanes at addresses that
// all share, which are scatters of one lane each (three times the time).
// There, least p10 of several runs (copy 27 GB/s): MiniMax-01  Mamba-2  Qwen3-Next  lightning, gated delta, KDA B4 H8
//   gathers: microcode, which fills the processor's
//     window with half a row                          12.3 ms     7.4 ms    7.3 ms     245, 307, 316 us
//   PAIRED: loads of vectors                           6.6        4.3       7.8        169, 447, 455
//   what is held and what changes in one loop          7.0        4.2       4.5        169, 234, 239
//   the same, 8 lanes                                  7.1        4.4       4.4        208, 268, 287
//   gathers, 8 lanes                                  11.2        8.4       8.2        273, 367, 370
// Of two loops the second one reads its lane's number out of the first: no constant any more, and the loads fall apart.
// Not kept, on an EPYC 9005 (16 lanes, gathers, medians by turns):
//   the lines of the next 4, 8 or 16 rows touched beforehand: MiniMax-01 26 to 31 ms instead of 26; with those of the
//   final state 37 to 51

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require

#include "linear_interface.glsl"

layout(constant_id = 10) const uint LANES = 1;         // invocations that share columns
layout(constant_id = 11) const uint COLUMN_QUADS = 1;  // of an invocation, workgroup / LANES * 4 columns apart
layout(constant_id = 12) const bool PAIRED = false;    // for a processor: a workgroup of one subgroup, whole tiles

const bool DECAYS = HAS(OPTION_HEAD_DECAY | OPTION_DECAY | OPTION_KEY_DECAY | OPTION_VALUE_DECAY | OPTION_TIME_STEP);
const bool HAS_HELD = HAS(OPTION_DELTA | OPTION_LOW_RANK);
// What a state holds that decays by one number is what it held before, times the number.
const bool ONE_DECAY = !HAS(OPTION_KEY_DECAY | OPTION_VALUE_DECAY | OPTION_LOW_RANK);
const uint QUADS = (KEY_CHANNELS + 3) / 4;

layout(buffer_reference, scalar, buffer_reference_align = 4) buffer StateReference { u64vec2 value; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer StatePairReference { uint64_t value; };

shared vec4 laneSums[LANES > 1 ? gl_WorkGroupSize.x : 1];

uint lane;    // of those that share columns
uint columns[COLUMN_QUADS];  // the first of each four, clamped to the last ones
uint64_t stateRows;  // of the state before the token; anything readable where there is none
uint rowBytes;       // 0 where there is no state
uint quadBytes;      // from one quad of a lane to the next where PAIRED; 0 where there is no state
bool hasState;

/// The sum over the invocations that share columns.
vec4 laneSum(vec4 partial) {
  if (LANES <= 1) { return partial; }
  const uint own = gl_LocalInvocationID.x;
  const uint columnLanes = gl_WorkGroupSize.x / LANES;
  barrier();
  laneSums[own] = partial;
  barrier();
  vec4 sum = laneSums[own % columnLanes];
  for (uint i = 1; i < LANES; i++) { sum += laneSums[i * columnLanes + own % columnLanes]; }
  return sum;
}

/// In a loop the software driver takes no number for the same in all lanes.
uint sharedQuad(uint i) {
  return LANES > 1 ? i : sameForAll(i);
}

/// Four key channels of a row of a tensor; 0 past the last.
vec4 loadKeys(const uint type, uint64_t row, uint quad) {
  return loadChannels4(type, ALIGNED, row, quad * 4, KEY_CHANNELS);
}

/// The pair of numbers of each lane, one lane behind the other, as in lane_loads.glsl.
uint64_t loadPairs(uint64_t place) {
  uint64_t pairs = 0ul;
  [[unroll]] for (uint i = 0; i < gl_WorkGroupSize.x; i++) {
    const uint64_t pair = StatePairReference(place + i * 8ul).value;
    pairs = gl_SubgroupInvocationID == i ? pair : pairs;
  }
  return pairs;
}

const uint PAIR_BYTES = gl_WorkGroupSize.x * 8;

/// Four columns of a row of the state before the token.
vec4 stateRow(uint row, const uint g) {
  const bool isRow = KEY_CHANNELS % 4 == 0 || row < KEY_CHANNELS;
  const uint64_t place = stateRows + uint64_t(isRow ? row : 0) * rowBytes;
  u64vec2 pairs;
  if (PAIRED) {
    const uint64_t quad = place + g * quadBytes;
    pairs = u64vec2(loadPairs(quad), loadPairs(quad + PAIR_BYTES));
  } else {
    pairs = StateReference(place + min(columns[g] * 4, rowBytes)).value;
  }
  const vec4 values = uintBitsToFloat(uvec4(unpackUint2x32(pairs.x), unpackUint2x32(pairs.y)));
  return hasState && isRow ? values : vec4(0.0);
}

/// The column of number c of a lane's quad g.
uint columnOf(const uint g, const uint c) {
  if (!PAIRED) { return columns[g] + c; }
  const uint tile = (gl_WorkGroupID.x + p.firstTile) * COLUMN_QUADS + g;
  return (tile * 2 + c / 2) * 2 * gl_WorkGroupSize.x + gl_LocalInvocationID.x * 2 + c % 2;
}

vec4 loadColumns(const uint type, uint64_t row, const uint g) {
  vec4 values;
  [[unroll]] for (uint c = 0; c < 4; c++) {
    values[c] = loadElement(type, row + columnOf(g, c) * elementBytes(type));
  }
  return values;
}

void storeRow(uint64_t rows, uint row, const uint g, vec4 values) {
  const uvec4 words = floatBitsToUint(values);
  if (PAIRED) {
    const uint64_t place = rows + uint64_t(row) * (VALUE_CHANNELS * 4) + columnOf(g, 0) * 4;
    StatePairReference(place).value = joined(words.x, words.y);
    StatePairReference(place + PAIR_BYTES).value = joined(words.z, words.w);
    return;
  }
  StateReference(rows + uint64_t(row) * (VALUE_CHANNELS * 4) + columns[g] * 4).value =
    u64vec2(joined(words.x, words.y), joined(words.z, words.w));
}

void main() {
  const uint columnLanes = gl_WorkGroupSize.x / LANES;
  lane = LANES > 1 ? gl_LocalInvocationID.x / columnLanes : 0;
  bool isStored[COLUMN_QUADS];
  [[unroll]] for (uint g = 0; g < COLUMN_QUADS; g++) {
    const uint quad = ((gl_WorkGroupID.x + p.firstTile) * COLUMN_QUADS + g) * columnLanes;
    const uint ownColumn = (quad + gl_LocalInvocationID.x % columnLanes) * 4;
    columns[g] = min(ownColumn, VALUE_CHANNELS - 4);
    isStored[g] = ownColumn < VALUE_CHANNELS;
  }
  openSequence(gl_WorkGroupID.z + p.firstSequence, gl_WorkGroupID.y + p.firstHead);
  const bool hasToken = tokenBegin < tokenEnd;

  const uint64_t initial = stateAddress(SLOT_INITIAL_STATE);
  hasState = (p.flags & FLAG_LOADS) != 0 && initial != 0;
  // What is not there is looked for in the block: the software driver loads whatever a condition says.
  stateRows = hasState ? initial : p.block;
  if (PAIRED && hasState) {
    stateRows += (gl_WorkGroupID.x + p.firstTile) * (gl_WorkGroupSize.x * COLUMN_QUADS * 16);
  }
  stateRows = sameForAll(stateRows);
  rowBytes = sameForAll(hasState ? VALUE_CHANNELS * 4 : 0);
  quadBytes = sameForAll(hasState ? PAIR_BYTES * 2 : 0);

  const uint t = tokenBegin;
  const uint64_t q = openSharedWalk(true, SLOT_Q, KEY_TYPE, t, 1, keyHead).at;
  const uint64_t k = openSharedWalk(true, SLOT_K, KEY_TYPE, t, 1, keyHead).at;
  const uint64_t v = openSharedWalk(true, SLOT_V, VALUE_TYPE, t, 1, head).at;
  const uint64_t o = openSharedWalk(true, SLOT_O, OUTPUT_TYPE, t, 1, head).at;
  const uint64_t decay = openSharedWalk(HAS(OPTION_DECAY), SLOT_DECAY, GATE_TYPE, t, 1, head).at;
  const uint64_t keyDecay = openSharedWalk(HAS(OPTION_KEY_DECAY), SLOT_KEY_DECAY, GATE_TYPE, t, 1, head).at;
  const uint64_t valueDecay = openSharedWalk(HAS(OPTION_VALUE_DECAY), SLOT_VALUE_DECAY, GATE_TYPE, t, 1, head).at;
  const uint64_t dt = openSharedWalk(HAS(OPTION_TIME_STEP), SLOT_TIME_STEP, GATE_TYPE, t, 1, head).at;
  const uint64_t beta = openSharedWalk(HAS(OPTION_BETA), SLOT_BETA, GATE_TYPE, t, 1, head).at;
  const uint64_t eraseKeys = openSharedWalk(HAS(OPTION_ERASE_KEYS), SLOT_ERASE_KEYS, KEY_TYPE, t, 1, keyHead).at;
  const uint64_t eraseGates = openSharedWalk(HAS(OPTION_ERASE_GATES), SLOT_ERASE_GATES, GATE_TYPE, t, 1, head).at;
  const uint64_t writeGates = openSharedWalk(HAS(OPTION_WRITE_GATES), SLOT_WRITE_GATES, GATE_TYPE, t, 1, head).at;
  const uint64_t lowRankA = openSharedWalk(HAS(OPTION_LOW_RANK), SLOT_LOW_RANK_A, KEY_TYPE, t, 1, head).at;
  const uint64_t lowRankB = openSharedWalk(HAS(OPTION_LOW_RANK), SLOT_LOW_RANK_B, KEY_TYPE, t, 1, head).at;
  const uint64_t gate = openSharedWalk(HAS(OPTION_OUTPUT_GATE), SLOT_OUTPUT_GATE, VALUE_TYPE, t, 1, head).at;
  const uint64_t denominators = openSharedWalk(HAS(OPTION_DIVIDE), SLOT_DENOMINATORS, ELEMENT_F32, t, 1, head).at;
  const uint64_t bonus = HAS(OPTION_BONUS)
    ? sameForAll(BLOCK.tensors[SLOT_BONUS].address + uint64_t(head) * KEY_CHANNELS * 4) : 0ul;

  // A sequence without a token keeps its state.
  const float headFactor = HAS(OPTION_HEAD_DECAY) ? decayFactor(headValue(SLOT_HEAD_DECAY)) : 1.0;
  const float rate = HAS(OPTION_TIME_STEP) ? headValue(SLOT_RATE) : 0.0;
  float step;
  const float factor = tokenFactor(headFactor, rate, dt, decay, step);
  // 0 * NaN is NaN: what came before must be gone.
  if (DECAYS && factor == 0 && hasToken) { hasState = false; }
  const float strength = HAS(OPTION_BETA) ? loadElement(GATE_TYPE, beta) : step;
  vec4 columnFactor[COLUMN_QUADS];
  vec4 own[COLUMN_QUADS];
  vec4 x[COLUMN_QUADS];
  vec4 held[COLUMN_QUADS];
  vec4 sums[COLUMN_QUADS];
  [[unroll]] for (uint g = 0; g < COLUMN_QUADS; g++) {
    columnFactor[g] = HAS(OPTION_VALUE_DECAY) ? decayFactor(loadColumns(GATE_TYPE, valueDecay, g)) : vec4(1.0);
    own[g] = loadColumns(VALUE_TYPE, v, g);
    x[g] = own[g] * strength;
    if (HAS(OPTION_WRITE_GATES)) { x[g] *= loadColumns(GATE_TYPE, writeGates, g); }
    held[g] = vec4(0.0);
    sums[g] = vec4(0.0);
  }
  if (HAS(OPTION_BONUS)) {
    vec4 weights = vec4(0.0);
    for (uint i = lane; i < QUADS; i += LANES) {
      const uint quad = sharedQuad(i);
      const vec4 weight = loadKeys(KEY_TYPE, q, quad) * loadKeys(ELEMENT_F32, bonus, quad);
      weights = fma(weight, loadKeys(KEY_TYPE, k, quad), weights);
    }
    [[unroll]] for (uint g = 0; g < COLUMN_QUADS; g++) {
      sums[g] = vec4((weights.x + weights.y) + (weights.z + weights.w)) * x[g];
    }
  }

  const uint64_t final = (p.flags & FLAG_STORES) != 0 ? stateAddress(SLOT_FINAL_STATE) : 0ul;
  uint64_t snapshot = 0ul;
  if (HAS(OPTION_SNAPSHOTS)) {
    const LinearTensor tensor = BLOCK.tensors[SLOT_SNAPSHOTS];
    snapshot = tensor.address
      + (uint64_t(sequence) * BLOCK.longestSequence * tensor.batchStride + uint64_t(head) * tensor.headStride) * 4ul;
  }
  // What the state holds is found first, and changed then. One loop for both: loads in two loops are no vectors (see
  // loadPairs()).
  for (uint pass = HAS_HELD ? 0 : 1; pass < 2; pass++) {
    const bool changes = pass == 1;
    if (HAS_HELD && changes) {
      [[unroll]] for (uint g = 0; g < COLUMN_QUADS; g++) {
        held[g] = laneSum(held[g]);
        if (ONE_DECAY) { held[g] *= factor; }
        if (HAS(OPTION_DELTA)) { x[g] = fma(vec4(-strength), held[g], x[g]); }
      }
    }
    for (uint i = lane; i < QUADS; i += LANES) {
      const uint quad = sharedQuad(i);
      vec4 rows = vec4(factor);
      if (HAS(OPTION_KEY_DECAY)) { rows *= decayFactor(loadKeys(GATE_TYPE, keyDecay, quad)); }
      vec4 erased = vec4(0.0);
      vec4 key = vec4(0.0);
      vec4 query = vec4(0.0);
      vec4 low = vec4(0.0);
      if (changes) {
        key = loadKeys(KEY_TYPE, k, quad);
        query = loadKeys(KEY_TYPE, q, quad);
        if (HAS(OPTION_LOW_RANK)) { low = loadKeys(KEY_TYPE, lowRankB, quad); }
      } else if (HAS(OPTION_LOW_RANK)) {
        erased = loadKeys(KEY_TYPE, lowRankA, quad);
      } else {
        erased = loadKeys(KEY_TYPE, HAS(OPTION_ERASE_KEYS) ? eraseKeys : k, quad);
        if (HAS(OPTION_ERASE_GATES)) { erased *= loadKeys(GATE_TYPE, eraseGates, quad); }
      }
      [[unroll]] for (uint r = 0; r < 4; r++) {
        const uint row = quad * 4 + r;
        [[unroll]] for (uint g = 0; g < COLUMN_QUADS; g++) {
          const vec4 before = stateRow(row, g);
          vec4 state = before;
          if (DECAYS) { state *= rows[r] * columnFactor[g]; }
          if (changes) {
            if (HAS(OPTION_BEFORE)) { sums[g] = fma(vec4(query[r]), before, sums[g]); }
            state = fma(vec4(key[r]), x[g], state);
            if (HAS(OPTION_LOW_RANK)) { state = fma(vec4(low[r]), held[g], state); }
            if (!HAS(OPTION_BEFORE)) { sums[g] = fma(vec4(query[r]), state, sums[g]); }
            state = hasToken ? state : before;
            if ((PAIRED || isStored[g]) && (KEY_CHANNELS % 4 == 0 || row < KEY_CHANNELS)) {
              if (final != 0ul) { storeRow(final, row, g, state); }
              if (HAS(OPTION_SNAPSHOTS) && hasToken) { storeRow(snapshot, row, g, state); }
            }
          } else {
            held[g] = fma(vec4(erased[r]), HAS(OPTION_LOW_RANK) || ONE_DECAY ? before : state, held[g]);
          }
        }
      }
    }
  }

  const float denominator = HAS(OPTION_DIVIDE) ? FloatReference(denominators).value : 1.0;
  [[unroll]] for (uint g = 0; g < COLUMN_QUADS; g++) {
    const vec4 sum = laneSum(sums[g]);
    const vec4 z = HAS(OPTION_OUTPUT_GATE) ? loadColumns(VALUE_TYPE, gate, g) : vec4(0.0);
    if (isStored[g] && hasToken && lane == 0) {
      [[unroll]] for (uint c = 0; c < 4; c++) {
        storeElement(
          OUTPUT_TYPE, o + columnOf(g, c) * elementBytes(OUTPUT_TYPE),
          finishOutput(BLOCK.scale * sum[c], own[g][c], z[c], denominator));
      }
    }
  }
}
