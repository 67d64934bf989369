#version 460

// Lean decode, path `subgroup`, for software drivers: a subgroup is a vector of the processor, lanes are channels.
//
// @variant decode_subgroup_software
// @variant decode_subgroup_differences HAS_DIFFERENCES
//
//   for each segment of the workgroup (decode_interface.glsl), for the R rows of its tile:
//     m_r = -inf;  l_r = 0;  o_r = 0 (of each lane: the lane's channels)
//     for each KEYS keys c of the segment:
//       s_rc = sum over lanes q_r k_c                    lanes are channels of q and k, then the row and key r, c
//       where s_rc > m_r + SLACK of any:  m' = max(m_r, max over c s_rc);  l_r, o_r *= 2^(m_r - m');  m_r = m'
//       p_rc = 2^(mapScore(s_rc) - m_r);  l_r += p_rc
//       o_r += sum over c p_rc v_c                       lanes are channels of v and o, p_rc comes from its lane
//     o_r = o_r / l_r and lse_r, or (m, l, o) into the segment's slot
//
// Keys and values are loaded as vectors (decode_lane_channels.glsl), each number once for all R rows: of keys a block
// of four lanes has one, whose product with a row is then the sum of four lanes; of a value all lanes have channels.
// Scores have a row of four and a key in each lane. The reference m_r need not be the largest score
// (online_softmax.glsl): it moves when a weight would be above 2^SLACK, which is seldom after the first keys.
//
// Workgroup: one subgroup. Grid: x (and y) = groups of the schedule. No shared memory, no barrier.
//
// Specialization constants (others: attention_interface.glsl, decode_interface.glsl)
//   5   ROWS           R, rows of a tile, at most LANES
//   22  LANES          of a subgroup: 4, 8 or 16
//   23  WHOLE_STEPS    the keys of a step lie one behind the other: in a contiguous cache, in pages of whole steps
//   24  UNITS          keys at once of each block of four lanes
//
// Ladder (lavapipe of Mesa 26.1.6, 16 lanes, both cores of an EPYC 9004, H32 G8 T4096 D=64 in [B,T,G,C], one token; the
// least p10 of several runs in ms, beside other load):
//                                                                                       f16   int8   q8_0   q4_0
//   a key in each lane, words put together from loads of single lanes, the reference the
//     largest score: 3700 instructions for 16 keys, of them a quarter on the stack,
//     3600 cycles, for reductions over lanes wait for one lane after the other           0.91   0.66   0.85   0.79
//   lanes are channels of all; sums of 16 products of 16 lanes by shuffles, which this
//     driver makes loops over the lanes of: not kept                                     6.1    6.0    6.3    5.6
//   the same by choices between numbers of single lanes: not kept                        0.90   0.99   0.93   0.96
//   blocks of four lanes, sums of four by clustered additions: not kept                  0.81   0.79   0.82   0.81
//   sums by numbers of single lanes; no branch, vote or reduction in the loop            0.67   0.63
//   memory touched one step ahead and not two                                            0.59   0.61   0.64   0.67
// Later, by turns:                                                                        0.63   0.67   0.71   0.75
//   HAS_DIFFERENCES: sums of four by differences between lanes (lane_differences.glsl)    0.60   0.63   0.66   0.68
//   lines touched one by one amid the multiplications: not kept, D=128 T16384 5.6 to 6.9  0.58
// One key at once of a block instead of two: 0.72, 0.71, 0.74, 0.75; but D=128, T16384, int8 3.7 instead of 4.6.
// Before that f16 D=128 T16384 took 10.2, int8 5.9; now 5.8 and 3.7. f32 on decode_row.comp 2.4 (D=64) and 5.7
// (D=128), here 1.5 and 3.8, by turns. Half of the time is spent on memory: the rows of a head lie a kilobyte apart.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_ballot : require

#include "decode_interface.glsl"
#ifdef HAS_DIFFERENCES
#include "../Common/lane_differences.glsl"
#endif

layout(constant_id = 5) const uint ROWS = 4;
layout(constant_id = 22) const uint LANES = 8;
layout(constant_id = 23) const bool WHOLE_STEPS = true;
layout(constant_id = 24) const uint UNITS = 2;

#include "decode_lane_channels.glsl"

// Keys that are folded at once: UNITS for each block.
const uint KEYS = BLOCKS * UNITS;
// Rows in fours.
const uint QUARTETS = (ROWS + 3) / 4;
// Vectors of scores.
const uint SCORES = UNITS * QUARTETS;
// How far ahead of its use memory is touched, in keys.
const uint TOUCH_AHEAD = KEYS;
// Weights are at most 2^SLACK.
const float SLACK = 8;

const uint NUMBERS_K = WORD_NUMBERS(KEY_TYPE);
const uint LOADS_K = KEY_LOADS(KEY_TYPE, HEAD_SIZE_QK);
const uint VECTORS_K = LOADS_K * NUMBERS_K;
const uint VECTORS_V = LANE_VECTORS(VALUE_TYPE, HEAD_SIZE_V);

// One scale serves all channels: it belongs to the key's score, or to its weight.
const bool SCORE_HAS_SCALE = KEY_TYPE >= CACHE_INT8 && KEY_SCALES_APART && KEY_GROUP >= HEAD_SIZE_QK;
const bool WEIGHT_HAS_SCALE = VALUE_TYPE >= CACHE_INT8 && VALUE_SCALES_APART && VALUE_GROUP >= HEAD_SIZE_V;

float q[ROWS * VECTORS_K];  // times scale * log2(e), so that scores are exponents of 2
float o[ROWS * VECTORS_V];  // not normalised

// The keys that some row sees, and those that all rows see.
int hullBegin, hullEnd, sinkHull;
int coreBegin, coreEnd;

// Of row l % 4 of each four.
Row rows[QUARTETS];
uint rowHeads[QUARTETS];
float reference[QUARTETS];
float laneSum[QUARTETS];

/// Sets what mapScore() finds of a row outside of its struct.
void selectRows(const uint quartet) {
  head = rowHeads[quartet];
  if (HAS(OPTION_ALIBI)) {
    slope = loadFloat(TENSOR_ALIBI_SLOPES, tensorIndex(TENSOR_ALIBI_SLOPES, 0)) * LOG2_E;
  }
}

// Shuffles, votes and reductions of a software driver are loops or branches for each lane, numbers of single lanes are
// moves.

#ifdef HAS_DIFFERENCES
// Signs of the lanes' products make sums of differences: x0, -x1, -x2, x3 become -(x0 + x1) and x2 + x3, and those
// x0 + x1 + x2 + x3.

/// What the queries of a lane are multiplied by for foldFours().
float foldSign() {
  const uint lane = gl_SubgroupInvocationID % 4;
  return lane == 1 || lane == 2 ? -1.0 : 1.0;
}

/// The sums over four lanes of four numbers, that of number i in lane i.
float foldFours(float items[4]) {
  const bool isOdd = (gl_SubgroupInvocationID & 1u) != 0;
  const bool isLater = (gl_SubgroupInvocationID & 2u) != 0;
  float pairs[4];
  [[unroll]] for (uint i = 0; i < 4; i++) { pairs[i] = pairDifference(items[i]); }
  const float first = crossDifference(isOdd ? pairs[1] : pairs[0]);
  const float second = crossDifference(isOdd ? pairs[3] : pairs[2]);
  return isLater ? second : first;
}
#else
float foldSign() { return 1; }

/// The sums over four lanes of four numbers, that of number i in lane i.
float foldFours(float items[4]) {
  float result = 0;
  [[unroll]] for (uint lane = 0; lane < LANES; lane++) {
    const uint first = lane / 4 * 4;
    const float sum = (subgroupBroadcast(items[lane % 4], first) + subgroupBroadcast(items[lane % 4], first + 1))
      + (subgroupBroadcast(items[lane % 4], first + 2) + subgroupBroadcast(items[lane % 4], first + 3));
    result = gl_SubgroupInvocationID == lane ? sum : result;
  }
  return result;
}
#endif

/// Whether any lane says so.
bool isAny(bool own) {
  const uint bits = own ? 1u : 0u;
  uint all = 0;
  [[unroll]] for (uint lane = 0; lane < LANES; lane++) { all |= subgroupBroadcast(bits, lane); }
  return all != 0;
}

/// How many rows behind the first key of a step a key lies, where steps are whole. Past the last key there may be
/// anything, which is not used; past the last place the last row again.
uint64_t rowsBehind(uint firstKey, const uint c) {
  return ARRANGEMENT == CACHE_PAGED ? c : min(c, DECODE_BLOCK.capacity - 1 - firstKey);
}

/// The rows of keys firstKey ..< firstKey + KEYS, the first of which the sequence has.
void openKeys(uint firstKey, out uint64_t kRows[KEYS], out uint64_t vRows[KEYS]) {
  KeyPlace place = placeOf(firstKey);
  const uint64_t k = keyRow(place);
  const uint64_t v = VALUE_IS_KEY ? k : valueRow(place);
  [[unroll]] for (uint c = 0; c < KEYS; c++) {
    if (WHOLE_STEPS) {
      kRows[c] = k + rowsBehind(firstKey, c) * DECODE_BLOCK.kTokenStride;
      vRows[c] = VALUE_IS_KEY ? kRows[c] : v + rowsBehind(firstKey, c) * DECODE_BLOCK.vTokenStride;
    } else {
      place = placeOf(min(firstKey + c, keyTokens - 1));
      kRows[c] = keyRow(place);
      vRows[c] = VALUE_IS_KEY ? kRows[c] : valueRow(place);
    }
  }
}

/// The rows of their scales.
void openScales(const bool ofValues, uint firstKey, out uint64_t scaleRows[KEYS]) {
  const bool areValues = ofValues && !VALUE_IS_KEY;
  KeyPlace place = placeOf(firstKey);
  const uint64_t first = areValues ? valueScaleRow(place) : keyScaleRow(place);
  const uint64_t stride = areValues ? DECODE_BLOCK.vScaleTokenStride : DECODE_BLOCK.kScaleTokenStride;
  [[unroll]] for (uint c = 0; c < KEYS; c++) {
    if (WHOLE_STEPS) {
      scaleRows[c] = first + rowsBehind(firstKey, c) * stride;
    } else {
      place = placeOf(min(firstKey + c, keyTokens - 1));
      scaleRows[c] = areValues ? valueScaleRow(place) : keyScaleRow(place);
    }
  }
}

/// The scale of each lane's key, of formats with one for all channels.
float ownScale(const uint format, const uint scaleType, uint64_t scaleRows[KEYS], const uint unit) {
  float scale = 0;
  [[unroll]] for (uint block = 0; block < BLOCKS; block++) {
    const float other = loadLaneScale(format, scaleType, 0ul, scaleRows[unit * BLOCKS + block], 0, false);
    scale = gl_SubgroupInvocationID / 4 == block ? other : scale;
  }
  return scale;
}

/// Reads a word of each line of 64 bytes of rows, so that they are in the cache when they are wanted: touch() of
/// decode_interface.glsl for a few keys at a time.
uint touchKeys(uint firstKey) {
  uint64_t kRows[KEYS];
  uint64_t vRows[KEYS];
  openKeys(min(firstKey, (keyTokens - 1) / KEYS * KEYS), kRows, vRows);
  const uint kBytes = HEAD_SIZE_QK * formatBits(KEY_TYPE) / 8;
  const uint vBytes = VALUE_IS_KEY ? 0 : HEAD_SIZE_V * formatBits(VALUE_TYPE) / 8;
  uint touchedWords = 0;
  [[unroll]] for (uint c = 0; c < KEYS; c++) {
    [[unroll]] for (uint line = 0; line < kBytes; line += 64) {
      touchedWords |= KEYS_ALIGNED ? WordReference(kRows[c] + line).value : loadHalfWord(kRows[c] + line);
    }
    [[unroll]] for (uint line = 0; line < vBytes; line += 64) {
      touchedWords |= VALUES_ALIGNED ? WordReference(vRows[c] + line).value : loadHalfWord(vRows[c] + line);
    }
  }
  return touchedWords;
}

/// The scales (or minima) of the lanes' keys for number `number` of load `load`.
float keyScales(
  uint64_t kRows[BLOCKS], uint64_t scaleRows[BLOCKS], const uint load, const uint number, const bool isMinimum
) {
  float scales = 0;
  [[unroll]] for (uint lane = 0; lane < LANES; lane++) {
    const uint channel = min(keyChannel(KEY_TYPE, load * 4 + lane % 4, number), HEAD_SIZE_QK - 1);
    const float scale = loadLaneScale(
      KEY_TYPE, KEY_SCALE_TYPE, kRows[lane / 4], scaleRows[lane / 4], channel / KEY_GROUP, isMinimum);
    scales = gl_SubgroupInvocationID == lane ? scale : scales;
  }
  return scales;
}

/// The products of a unit's keys with all rows.
void multiplyKeys(
  uint64_t allRows[KEYS], uint64_t allScales[KEYS], const uint unit, out float scores[QUARTETS]
) {
  uint64_t kRows[BLOCKS];
  uint64_t scaleRows[BLOCKS];
  [[unroll]] for (uint block = 0; block < BLOCKS; block++) {
    kRows[block] = allRows[unit * BLOCKS + block];
    scaleRows[block] = allScales[unit * BLOCKS + block];
  }
  float items[QUARTETS * 4];
  [[unroll]] for (uint r = 0; r < QUARTETS * 4; r++) { items[r] = 0; }
  [[unroll]] for (uint load = 0; load < LOADS_K; load++) {
    const uint words = loadKeyWords(KEY_TYPE, HEAD_SIZE_QK, kRows, load);
    [[unroll]] for (uint number = 0; number < NUMBERS_K; number++) {
      float k = keyNumber(KEY_TYPE, words, number);
      if (hasLaneScales(KEY_TYPE) && !SCORE_HAS_SCALE) { k *= keyScales(kRows, scaleRows, load, number, false); }
      if (KEY_TYPE == CACHE_Q4_MINIMUM) { k += keyScales(kRows, scaleRows, load, number, true); }
      [[unroll]] for (uint r = 0; r < ROWS; r++) {
        items[r] = fma(q[r * VECTORS_K + load * NUMBERS_K + number], k, items[r]);
      }
    }
  }
  [[unroll]] for (uint i = 0; i < QUARTETS; i++) {
    const float four[4] = { items[i * 4], items[i * 4 + 1], items[i * 4 + 2], items[i * 4 + 3] };
    scores[i] = foldFours(four);
  }
}

/// The lane of a row and a key of a unit.
uint laneOf(const uint row, const uint key) {
  return key % BLOCKS * 4 + row % 4;
}

/// Adds weighted values to the results. Where `masked`, some key is hidden from some row: 0 * NaN is NaN, so its value
/// must not even be multiplied.
void addValues(
  const bool masked, float weights[SCORES], float seen[SCORES], uint64_t vRows[KEYS],
  uint64_t scaleRows[KEYS]
) {
  const uint numbers = LANE_NUMBERS(VALUE_TYPE);
  [[unroll]] for (uint c = 0; c < KEYS; c++) {
    float p[ROWS];
    bool sees[ROWS];
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
      const uint own = c / BLOCKS * QUARTETS + r / 4;
      p[r] = subgroupBroadcast(weights[own], laneOf(r, c));
      sees[r] = !masked || subgroupBroadcast(seen[own], laneOf(r, c)) != -INFINITY;
    }
    [[unroll]] for (uint load = 0; load < VECTORS_V / numbers; load++) {
      const uint words = loadLaneWords(VALUE_TYPE, HEAD_SIZE_V, vRows[c], load);
      [[unroll]] for (uint number = 0; number < numbers; number++) {
        const uint vector = load * numbers + number;
        float v = laneNumber(VALUE_TYPE, words, number);
        if (hasLaneScales(VALUE_TYPE) && !WEIGHT_HAS_SCALE) {
          v *= laneScales(
            VALUE_TYPE, VALUE_SCALE_TYPE, HEAD_SIZE_V, vRows[c], scaleRows[c], vector, VALUE_GROUP, false);
        }
        if (VALUE_TYPE == CACHE_Q4_MINIMUM) {
          v += laneScales(
            VALUE_TYPE, VALUE_SCALE_TYPE, HEAD_SIZE_V, vRows[c], scaleRows[c], vector, VALUE_GROUP, true);
        }
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
          const float own = masked && !sees[r] ? 0.0 : v;
          o[r * VECTORS_V + vector] = fma(p[r], own, o[r * VECTORS_V + vector]);
        }
      }
    }
  }
}

/// Moves the references of all rows up to the largest of the scores.
void moveReferences(float seen[SCORES]) {
  [[unroll]] for (uint i = 0; i < QUARTETS; i++) {
    float own = reference[i];
    [[unroll]] for (uint unit = 0; unit < UNITS; unit++) { own = max(own, seen[unit * QUARTETS + i]); }
    float largest = own;
    [[unroll]] for (uint r = 0; r < 4; r++) {
      float ofRow = subgroupBroadcast(own, r);
      [[unroll]] for (uint block = 1; block < BLOCKS; block++) {
        ofRow = max(ofRow, subgroupBroadcast(own, block * 4 + r));
      }
      largest = gl_SubgroupInvocationID % 4 == r ? ofRow : largest;
    }
    const float rescale = exp2(reference[i] - (largest == -INFINITY ? 0 : largest));
    reference[i] = largest;
    laneSum[i] *= rescale;
    [[unroll]] for (uint r = i * 4; r < min(i * 4 + 4, ROWS); r++) {
      const float factor = subgroupBroadcast(rescale, r % 4);
      [[unroll]] for (uint j = 0; j < VECTORS_V; j++) { o[r * VECTORS_V + j] *= factor; }
    }
  }
}

/// Folds the keys firstKey ..< firstKey + KEYS into the rows.
void foldKeys(uint firstKey) {
  const uint touchedWords = touchKeys(firstKey + TOUCH_AHEAD);
  uint64_t kRows[KEYS];
  uint64_t vRows[KEYS];
  openKeys(firstKey, kRows, vRows);
  uint64_t scaleRows[KEYS];
  openScales(false, firstKey, scaleRows);
  // Of steps within the core every row sees every key.
  const bool isCore = !HAS_DATA_MASKS && int(firstKey) >= coreBegin && int(firstKey + KEYS) <= coreEnd;

  float seen[SCORES];
  bool isHidden = false;
  bool isAbove = false;
  [[unroll]] for (uint unit = 0; unit < UNITS; unit++) {
    float own[QUARTETS];
    multiplyKeys(kRows, scaleRows, unit, own);
    const int key = int(firstKey + unit * BLOCKS + gl_SubgroupInvocationID / 4);
    float scale = 1;
    if (SCORE_HAS_SCALE) { scale = ownScale(KEY_TYPE, KEY_SCALE_TYPE, scaleRows, unit); }
    [[unroll]] for (uint i = 0; i < QUARTETS; i++) {
      float score = SCORE_HAS_SCALE ? own[i] * scale : own[i];
      selectRows(i);
      if (MAPS_SCORES) { score = mapScore(rows[i], score, key); }
      bool sees = seesKey(rows[i], key);
      sees = sees || isCore;
      if (MAPS_TO_HIDDEN) { sees = sees && score != -INFINITY; }
      seen[unit * QUARTETS + i] = sees ? score : -INFINITY;
      isHidden = isHidden || !sees && i * 4 + gl_SubgroupInvocationID % 4 < ROWS;
      isAbove = isAbove || seen[unit * QUARTETS + i] > reference[i] + SLACK;
    }
  }
  if (isAny(isAbove)) { moveReferences(seen); }

  openScales(true, firstKey, scaleRows);
  float weights[SCORES];
  [[unroll]] for (uint unit = 0; unit < UNITS; unit++) {
    float scale = 1;
    if (WEIGHT_HAS_SCALE) { scale = ownScale(VALUE_TYPE, VALUE_SCALE_TYPE, scaleRows, unit); }
    [[unroll]] for (uint i = 0; i < QUARTETS; i++) {
      const uint own = unit * QUARTETS + i;
      // That of -inf is 0. No choice may have more than names behind it, or it becomes a branch.
      const float power = exp2(seen[own] - (reference[i] == -INFINITY ? 0 : reference[i]));
      // exp2 may lose a NaN.
      const float weight = isnan(seen[own]) ? QUIET_NAN : power;
      laneSum[i] += weight;
      weights[own] = weight;
      if (WEIGHT_HAS_SCALE) {
        // The scale of a hidden value may be anything.
        const float scaled = weight * scale;
        weights[own] = seen[own] == -INFINITY ? 0 : scaled;
      }
    }
  }
  laneSum[0] += float(touchedWords & DECODE_BLOCK.zero);
  if (HAS_DATA_MASKS || MAPS_TO_HIDDEN ? !isAny(isHidden) : isCore) {
    addValues(false, weights, seen, vRows, scaleRows);
  } else {
    addValues(true, weights, seen, vRows, scaleRows);
  }
}

/// Loads the rows of the tile, and opens the lane's own.
void openRows() {
  hullBegin = 0x7fffffff;
  hullEnd = 0;
  sinkHull = 0;
  coreBegin = 0;
  coreEnd = 0x7fffffff;
  [[unroll]] for (uint r = 0; r < ROWS; r++) {
    const uint token = openDecodeRow(rowTile * ROWS + r);
    const Row own = openRow(token);
    hullBegin = min(hullBegin, own.begin);
    hullEnd = max(hullEnd, own.end);
    coreBegin = max(coreBegin, own.begin);
    coreEnd = min(coreEnd, own.end);
    if (HAS(OPTION_SINK_TOKENS)) { sinkHull = max(sinkHull, own.sinkEnd); }
    const uint64_t address = queryAddress(token);
    [[unroll]] for (uint j = 0; j < VECTORS_K; j++) {
      float numbers = 0;
      [[unroll]] for (uint lane = 0; lane < 4; lane++) {
        const uint channel = keyChannel(KEY_TYPE, j / NUMBERS_K * 4 + lane, j % NUMBERS_K);
        const float number = loadQueryChannel(address, min(channel, HEAD_SIZE_QK - 1));
        if (channel < HEAD_SIZE_QK) { numbers = gl_SubgroupInvocationID % 4 == lane ? number : numbers; }
      }
      q[r * VECTORS_K + j] = numbers * own.scale * foldSign();
    }
    [[unroll]] for (uint j = 0; j < VECTORS_V; j++) { o[r * VECTORS_V + j] = 0; }
  }
  [[unroll]] for (uint i = 0; i < QUARTETS; i++) {
    const uint ownRow = i * 4 + gl_SubgroupInvocationID % 4;
    rows[i] = openRow(openDecodeRow(rowTile * ROWS + min(ownRow, ROWS - 1)));
    rowHeads[i] = head;
    if (ownRow >= ROWS) {
      // Sees nothing.
      rows[i].begin = 0x7fffffff;
      rows[i].end = 0;
      rows[i].sinkEnd = 0;
    }
    reference[i] = -INFINITY;
    laneSum[i] = 0;
  }
}

void runSegment(uvec4 segment) {
  openSegment(segment);
  openRows();
  const KeyWalk walk = openWalk(hullBegin, hullEnd, sinkHull, KEYS);
  uint key = walk.first;
  // Tests at its end, as in attention_row.comp.
  if (key < walk.end) {
    for (;;) {
      foldKeys(key);
      key = nextStep(walk, key, KEYS);
      if (key >= walk.end) { break; }
    }
  }

  [[unroll]] for (uint r = 0; r < ROWS; r++) {
    const uint token = openDecodeRow(rowTile * ROWS + r);
    const float rowReference = subgroupBroadcast(reference[r / 4], r % 4);
    float rowSum = 0;
    [[unroll]] for (uint block = 0; block < BLOCKS; block++) {
      rowSum += subgroupBroadcast(laneSum[r / 4], block * 4 + r % 4);
    }
    if (rowTile * ROWS + r < problemRows()) {
      float factor;
      storeDecodeStatistics(segment.w, r, token, rowReference, rowSum, factor);
      [[unroll]] for (uint j = 0; j < VECTORS_V; j++) {
        storeDecodeChannel(
          segment.w, r, token, laneChannel(VALUE_TYPE, j, gl_SubgroupInvocationID), factor, o[r * VECTORS_V + j]);
      }
    }
  }
}

#include "decode_segments.glsl"

void main() {
  runSegments();
}
