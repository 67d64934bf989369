#version 460

// Lean decode, path `subgroup`: a subgroup takes as many keys at a time as it has lanes.
//
//   for each segment of the workgroup (decode_interface.glsl), for the R rows of its tile, in each subgroup:
//     m_r = -inf;  l_r = 0 (of each lane);  o_r = 0 (the lane's channels)
//     for each SUBGROUP_SIZE keys of the subgroup's share, one for each lane:
//       s_r = mapScore(q_r . k)                          a whole dot product in a lane: no reduction
//       m'  = max(m_r, max over lanes s_r);  p_r = 2^(s_r - m');  l_r = l_r 2^(m_r - m') + p_r
//       o_r = o_r 2^(m_r - m') + sum over keys p_r v     lanes are channels now; p_r comes from the key's lane
//     subgroups of the workgroup are added in their order, through shared memory
//     o_r = o_r / l_r and lse_r, or (m, l, o) into the segment's slot
//
// Every number of K and V is loaded and converted once for all R rows. Workgroup: SUBGROUPS full subgroups; the
// subgroups take turns of keys. Grid: x (and y) = groups of the schedule.
//
// Specialization constants (others: attention_interface.glsl, decode_interface.glsl)
//   5   ROWS           R, rows of a tile
//   22  SUBGROUP_SIZE
//   24  ROWS_AGREE     a key that is hidden from one row is hidden from all
//
// Shared memory, bytes: 4 R D, and SUBGROUPS > 1 ? 4 SUBGROUPS R (E + 2) : 16
//
// No ladder yet: no GPU has run it. A software driver has decode_subgroup_software.comp, and comes here for what that
// one leaves out: keys that are rotated as they are loaded, rows of odd bytes.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_vote : require
#extension GL_KHR_shader_subgroup_ballot : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_KHR_shader_subgroup_arithmetic : require

#include "decode_interface.glsl"

layout(constant_id = 5) const uint ROWS = 4;
layout(constant_id = 22) const uint SUBGROUP_SIZE = 32;
layout(constant_id = 24) const bool ROWS_AGREE = true;

const uint SUBGROUPS = gl_WorkGroupSize.x / SUBGROUP_SIZE;
const uint QUADS_QK = (HEAD_SIZE_QK + 3) / 4;
const uint QUADS_V = (HEAD_SIZE_V + 3) / 4;

// Formats of 8 bits and less, of which 8 bytes and less are 8 channels.
const uint SMALL_FORMATS = 1u << CACHE_INT8 | 1u << CACHE_INT4 | 1u << CACHE_E4M3 | 1u << CACHE_E5M2;
// Those of rows that may begin at multiples of 16 bytes.
const uint ALIGNED_FORMATS = SMALL_FORMATS | 1u << ELEMENT_F16 | 1u << ELEMENT_BF16;
const uint OCTETS_V = ALIGNED_FORMATS >> VALUE_TYPE & uint(VALUES_ALIGNED);
// Quads of channels of a value that a lane loads at once: 8 channels of formats that have them in 16 bytes and less.
const uint UNIT_V = 1 + OCTETS_V;
const uint UNITS_V = (QUADS_V + UNIT_V - 1) / UNIT_V;

const uint OCTETS_K = ALIGNED_FORMATS >> KEY_TYPE & uint(KEYS_ALIGNED) & uint(ROTATION == ROTATION_NONE);

// Lanes that share the channels of a value, a power of two; the others take other keys at the same time.
const uint LANES_V = UNITS_V >= SUBGROUP_SIZE ? SUBGROUP_SIZE
  : UNITS_V > 32 ? 64 : UNITS_V > 16 ? 32 : UNITS_V > 8 ? 16 : UNITS_V > 4 ? 8 : UNITS_V > 2 ? 4 : UNITS_V;
const uint KEYS_AT_ONCE = SUBGROUP_SIZE / LANES_V;
const uint CHUNKS_V = (UNITS_V + LANES_V - 1) / LANES_V;  // units of a lane
const uint OWN_V = CHUNKS_V * UNIT_V;                     // quads of a lane

// One scale serves all channels of a value: it belongs to the key's weight.
const uint WEIGHT_HAS_SCALE = GROUP_SCALED_FORMATS >> VALUE_TYPE & uint(VALUE_GROUP >= HEAD_SIZE_V);

shared vec4 sharedQuery[ROWS * QUADS_QK];
shared vec4 sharedResult[SUBGROUPS > 1 ? SUBGROUPS * ROWS * QUADS_V : 1];
shared vec2 sharedStatistics[SUBGROUPS > 1 ? SUBGROUPS * ROWS : 1];

vec4 o[ROWS * OWN_V];
float rowMax[ROWS];
float laneSum[ROWS];
Row rows[ROWS];
uint rowHeads[ROWS];

/// Sets what mapScore() finds of a row outside of its struct.
void selectRow(const uint r) {
  head = rowHeads[r];
  if (HAS(OPTION_ALIBI)) {
    slope = loadFloat(TENSOR_ALIBI_SLOPES, tensorIndex(TENSOR_ALIBI_SLOPES, 0)) * LOG2_E;
  }
}

/// Words of eight channels.
uint octetWords(const uint format) {
  return format == CACHE_INT4 ? 1 : (SMALL_FORMATS >> format & 1u) != 0 ? 2 : 4;
}

/// Eight channels as they lie in memory, at a multiple of their size.
uvec4 loadOctetWords(const uint format, uint64_t address) {
  const uint count = octetWords(format);
  if (count == 4) { return WordQuadReference(address).value; }
  if (count == 2) { return uvec4(WordPairReference(address).value, 0, 0); }
  return uvec4(WordReference(address).value, 0, 0, 0);
}

void unpackOctet(const uint format, uvec4 words, out vec4 low, out vec4 high) {
  if (format == CACHE_INT4) {
    low = vec4(ivec4(words.x << 28, words.x << 24, words.x << 20, words.x << 16) >> 28);
    high = vec4(ivec4(words.x << 12, words.x << 8, words.x << 4, words.x) >> 28);
  } else if (format == CACHE_INT8) {
    low = signedBytes(words.x);
    high = signedBytes(words.y);
  } else if (octetWords(format) == 2) {
    low = smallFloats(format, words.x);
    high = smallFloats(format, words.y);
  } else {
    low = vec4(unpackElements(format, words.x), unpackElements(format, words.y));
    high = vec4(unpackElements(format, words.z), unpackElements(format, words.w));
  }
}

/// The dot products of the lane's key with all rows.
void multiplyKey(uint key, uint64_t kRow, uint64_t scaleRow, out float s[ROWS]) {
  float part[ROWS];
  [[unroll]] for (uint r = 0; r < ROWS; r++) {
    s[r] = 0;
    part[r] = 0;
  }
  [[unroll]] for (uint octet = 0; octet < (QUADS_QK + 1) / 2; octet++) {
    vec4 k[2];
    if (OCTETS_K != 0) {
      const uvec4 words = loadOctetWords(KEY_TYPE, kRow + octet * octetWords(KEY_TYPE) * 4);
      unpackOctet(KEY_TYPE, words, k[0], k[1]);
    } else {
      k[0] = loadKeyChannels4(key, kRow, scaleRow, octet * 8);
      k[1] = octet * 2 + 1 < QUADS_QK ? loadKeyChannels4(key, kRow, scaleRow, octet * 8 + 4) : vec4(0);
    }
    [[unroll]] for (uint i = 0; i < 2; i++) {
      const uint d = octet * 2 + i;
      if (d < QUADS_QK) {
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
          const vec4 q = sharedQuery[r * QUADS_QK + d];
          [[unroll]] for (uint x = 0; x < 4; x++) {
            if (KEY_SCALES_APART) {
              part[r] = fma(q[x], k[i][x], part[r]);
            } else {
              s[r] = fma(q[x], k[i][x], s[r]);
            }
          }
        }
        if (KEY_SCALES_APART && ((d * 4 + 4) % KEY_GROUP == 0 || d == QUADS_QK - 1)) {
          const float scale = keyScale(kRow, scaleRow, d * 4);
          [[unroll]] for (uint r = 0; r < ROWS; r++) {
            s[r] = fma(part[r], scale, s[r]);
            part[r] = 0;
          }
        }
      }
    }
  }
}

/// The quad of channels of one of the lane's results.
uint quadOf(const uint place) {
  const uint own = gl_SubgroupInvocationID % LANES_V;
  return (place / UNIT_V * LANES_V + own) * UNIT_V + place % UNIT_V;
}

/// Folds the keys firstKey ..< firstKey + SUBGROUP_SIZE, one of each lane, into the rows.
void foldKeys(uint firstKey) {
  const uint lane = gl_SubgroupInvocationID;
  // Past the last key its row is read again.
  const uint key = min(firstKey + lane, keyTokens - 1);
  const KeyPlace place = placeOf(key);
  float s[ROWS];
  multiplyKey(key, keyRow(place), keyScaleRow(place), s);

  float weight[ROWS];
  bool isSeen = false;
  [[unroll]] for (uint r = 0; r < ROWS; r++) {
    selectRow(r);
    const float score = MAPS_SCORES ? mapScore(rows[r], s[r], int(key)) : s[r];
    const bool sees = seesKey(rows[r], int(firstKey + lane)) && !(MAPS_TO_HIDDEN && score == -INFINITY);
    const float seen = sees ? score : -INFINITY;
    const float newMax = max(rowMax[r], subgroupMax(seen));
    const float origin = newMax == -INFINITY ? 0 : newMax;
    const float rescale = exp2(rowMax[r] - origin);
    weight[r] = sees ? exp2(score - origin) : 0;
    // max and exp2 may lose a NaN; a sum does not.
    if (sees && isnan(score)) { weight[r] = QUIET_NAN; }
    laneSum[r] = fma(laneSum[r], rescale, weight[r]);
    rowMax[r] = newMax;
    isSeen = isSeen || sees;
    [[unroll]] for (uint j = 0; j < OWN_V; j++) { o[r * OWN_V + j] *= rescale; }
  }
  if (WEIGHT_HAS_SCALE != 0) {
    // The scale of a hidden value may be anything.
    const float scale = isSeen
      ? valueScale(VALUE_IS_KEY ? keyRow(place) : valueRow(place),
          VALUE_IS_KEY ? keyScaleRow(place) : valueScaleRow(place), 0) : 0.0;
    [[unroll]] for (uint r = 0; r < ROWS; r++) { weight[r] *= scale; }
  }

  // o += p v: lanes are channels, of KEYS_AT_ONCE keys.
  const uint own = lane % LANES_V;
  [[unroll]] for (uint c = 0; c < LANES_V; c++) {
    const uint from = c * KEYS_AT_ONCE + lane / LANES_V;
    const uint valueKey = min(firstKey + from, keyTokens - 1);
    const KeyPlace valuePlace = placeOf(valueKey);
    const uint64_t vRow = VALUE_IS_KEY ? keyRow(valuePlace) : valueRow(valuePlace);
    const uint64_t scaleRow = VALUE_IS_KEY ? keyScaleRow(valuePlace) : valueScaleRow(valuePlace);
    float p[ROWS];
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
      p[r] = KEYS_AT_ONCE == 1 ? subgroupBroadcast(weight[r], c) : subgroupShuffle(weight[r], from);
    }
    const bool isUsed =
      KEYS_AT_ONCE == 1 ? subgroupBroadcast(isSeen, c) : subgroupShuffle(isSeen ? 1u : 0u, from) != 0;
    [[unroll]] for (uint j = 0; j < CHUNKS_V; j++) {
      // The lanes behind the last channel load the last ones again.
      const uint channel = min(j * LANES_V + own, UNITS_V - 1) * (UNIT_V * 4);
      vec4 v[2];
      if (OCTETS_V != 0) {
        const uvec4 words =
          loadOctetWords(VALUE_TYPE, vRow + channel / 8 * (octetWords(VALUE_TYPE) * 4));
        unpackOctet(VALUE_TYPE, words, v[0], v[1]);
      } else {
        v[0] = loadValueChannels4(vRow, channel);
      }
      [[unroll]] for (uint i = 0; i < UNIT_V; i++) {
        const uint place = j * UNIT_V + i;
        if (VALUE_SCALES_APART && WEIGHT_HAS_SCALE == 0) {
          v[i] *= valueScale(vRow, scaleRow, min(quadOf(place), QUADS_V - 1) * 4);
        }
        // 0 * NaN is NaN: a hidden value must not even be multiplied.
        v[i] = isUsed ? v[i] : vec4(0);
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
          const vec4 seen = ROWS_AGREE || p[r] != 0.0 ? v[i] : vec4(0);
          o[r * OWN_V + place] = fma(vec4(p[r]), seen, o[r * OWN_V + place]);
        }
      }
    }
  }
}

/// Loads the rows of the tile.
///
/// The inner loop's trips are a constant: a loop around one that cannot be unrolled is not unrolled by Mesa
/// either, and an index that is not a constant anywhere puts the whole array into memory (RADV, 4 rows of the
/// options: 320 bytes of scratch for each lane, read in the loop over the keys).
void openRows() {
  [[unroll]] for (uint r = 0; r < ROWS; r++) {
    const uint token = openDecodeRow(rowTile * ROWS + r);
    rowHeads[r] = head;
    rows[r] = openRow(token);
    const uint64_t address = queryAddress(token);
    [[unroll]] for (uint first = 0; first < QUADS_QK; first += gl_WorkGroupSize.x) {
      const uint d = first + gl_LocalInvocationID.x;
      if (d < QUADS_QK) {
        sharedQuery[r * QUADS_QK + d] = loadQueryChannels4(address, d * 4) * rows[r].scale;
      }
    }
    rowMax[r] = -INFINITY;
    laneSum[r] = 0;
    [[unroll]] for (uint j = 0; j < OWN_V; j++) { o[r * OWN_V + j] = vec4(0); }
  }
}

/// Adds up what lanes and subgroups have of the rows; afterwards the first subgroup has it.
void addUp() {
  [[unroll]] for (uint r = 0; r < ROWS; r++) {
    laneSum[r] = subgroupAdd(laneSum[r]);
    [[unroll]] for (uint j = 0; j < OWN_V; j++) {
      [[unroll]] for (uint step = LANES_V; step < SUBGROUP_SIZE; step *= 2) {
        const vec4 mine = o[r * OWN_V + j];
        o[r * OWN_V + j] = mine + subgroupShuffleXor(mine, step);
      }
    }
  }
  if (SUBGROUPS > 1) {
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
      if (gl_SubgroupInvocationID == 0) {
        sharedStatistics[gl_SubgroupID * ROWS + r] = vec2(rowMax[r], laneSum[r]);
      }
      [[unroll]] for (uint j = 0; j < OWN_V; j++) {
        const uint e = quadOf(j);
        if (e < QUADS_V) {
          sharedResult[(gl_SubgroupID * ROWS + r) * QUADS_V + e] = o[r * OWN_V + j];
        }
      }
    }
    barrier();
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
      float largest = -INFINITY;
      for (uint g = 0; g < SUBGROUPS; g++) { largest = max(largest, sharedStatistics[g * ROWS + r].x); }
      const float origin = largest == -INFINITY ? 0 : largest;
      rowMax[r] = largest;
      laneSum[r] = 0;
      [[unroll]] for (uint j = 0; j < OWN_V; j++) { o[r * OWN_V + j] = vec4(0); }
      for (uint g = 0; g < SUBGROUPS; g++) {
        const vec2 statistics = sharedStatistics[g * ROWS + r];
        const float factor = exp2(statistics.x - origin);
        laneSum[r] = fma(statistics.y, factor, laneSum[r]);
        [[unroll]] for (uint j = 0; j < OWN_V; j++) {
          const uint e = min(quadOf(j), QUADS_V - 1);
          o[r * OWN_V + j] =
            fma(sharedResult[(g * ROWS + r) * QUADS_V + e], vec4(factor), o[r * OWN_V + j]);
        }
      }
    }
  }
}

void runSegment(uvec4 segment) {
  openSegment(segment);
  openRows();
  barrier();

  int hullBegin = 0x7fffffff;
  int hullEnd = 0;
  int sinkHull = 0;
  [[unroll]] for (uint r = 0; r < ROWS; r++) {
    hullBegin = min(hullBegin, rows[r].begin);
    hullEnd = max(hullEnd, rows[r].end);
    if (HAS(OPTION_SINK_TOKENS)) { sinkHull = max(sinkHull, rows[r].sinkEnd); }
  }
  // The subgroups take turns.
  const uint step = SUBGROUPS * SUBGROUP_SIZE;
  const KeyWalk walk = openWalk(hullBegin, hullEnd, sinkHull, step);
  const uint share = SUBGROUPS > 1 ? gl_SubgroupID * SUBGROUP_SIZE : 0;
  uint key = walk.first;
  // Tests at its end, as in attention_row.comp.
  if (key < walk.end) {
    for (;;) {
      foldKeys(key + share);
      key = nextStep(walk, key, step);
      if (key >= walk.end) { break; }
    }
  }
  addUp();

  if (SUBGROUPS == 1 || gl_SubgroupID == 0) {
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
      const uint token = openDecodeRow(rowTile * ROWS + r);
      if (rowTile * ROWS + r < problemRows()) {
        float factor;
        storeDecodeStatistics(segment.w, r, token, rowMax[r], laneSum[r], factor);
        if (gl_SubgroupInvocationID < LANES_V) {
          [[unroll]] for (uint j = 0; j < OWN_V; j++) {
            storeDecodeChannels4(
              segment.w, r, token, quadOf(j) * 4, factor, o[r * OWN_V + j]);
          }
        }
      }
    }
  }
  // The next segment writes the queries and the results anew.
  if (SUBGROUPS > 1) { barrier(); }
}

#include "decode_segments.glsl"

void main() {
  runSegments();
}
