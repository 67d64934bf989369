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
//   23  LONG_LOADS     8 bytes are loaded as one 64-bit integer: a software driver gathers lane by lane, and one
//                      wide load costs it as much as one narrow load
//   24  ROWS_AGREE     a key that is hidden from one row is hidden from all
//   25  QUERY_IN_SHARED  the queries' place: shared memory, read by all lanes at one address, or registers, for
//                      software drivers, whose registers hold one number for all lanes
//
// Shared memory, bytes: QUERY_IN_SHARED ? 4 R D : 16, and SUBGROUPS > 1 ? 4 SUBGROUPS R (E + 2) : 16
//
// Ladder (lavapipe of Mesa 26.1.6, both cores of an EPYC Zen 3, H32 G8 T4096, one token, D=64 f16): see
// decode_row.comp for what it replaces there.

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
layout(constant_id = 23) const bool LONG_LOADS = false;
layout(constant_id = 24) const bool ROWS_AGREE = true;
layout(constant_id = 25) const bool QUERY_IN_SHARED = true;

const uint SUBGROUPS = gl_WorkGroupSize.x / SUBGROUP_SIZE;
const uint QUADS_QK = (HEAD_SIZE_QK + 3) / 4;
const uint QUADS_V = (HEAD_SIZE_V + 3) / 4;

// Lanes that share the channels of a value, a power of two; the others take other keys at the same time.
const uint LANES_V = QUADS_V >= SUBGROUP_SIZE ? SUBGROUP_SIZE
  : QUADS_V > 32 ? 64 : QUADS_V > 16 ? 32 : QUADS_V > 8 ? 16 : QUADS_V > 4 ? 8 : QUADS_V > 2 ? 4 : QUADS_V;
const uint KEYS_AT_ONCE = SUBGROUP_SIZE / LANES_V;
const uint CHUNKS_V = (QUADS_V + LANES_V - 1) / LANES_V;  // quads of a lane

shared vec4 sharedQuery[QUERY_IN_SHARED ? ROWS * QUADS_QK : 1];
shared vec4 sharedResult[SUBGROUPS > 1 ? SUBGROUPS * ROWS * QUADS_V : 1];
shared vec2 sharedStatistics[SUBGROUPS > 1 ? SUBGROUPS * ROWS : 1];

vec4 privateQuery[ROWS * QUADS_QK];
vec4 o[ROWS * CHUNKS_V];
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

vec4 queryQuad(const uint r, const uint d) {
  if (QUERY_IN_SHARED) { return sharedQuery[r * QUADS_QK + d]; }
  return privateQuery[r * QUADS_QK + d];
}

/// Two words of memory at a multiple of 8 bytes.
uvec2 loadWordPair(uint64_t address) {
  if (LONG_LOADS) {
    const uint64_t both = LongReference(address).value;
    return uvec2(uint(both), uint(both >> 32));
  }
  return WordPairReference(address).value;
}

/// As loadCacheChannels4(), four or eight channels at once where the format allows it.
const uint CHANNELS_PER_LOAD_K = KEY_TYPE == CACHE_INT8 || KEY_TYPE >= CACHE_E4M3 ? 8 : 4;
const uint CHANNELS_PER_LOAD_V = 4;

vec4 loadNumbers4(const uint format, const bool aligned, uint64_t row, uint channel, const uint size) {
  if (aligned && (format == ELEMENT_F16 || format == ELEMENT_BF16)) {
    const uvec2 words = loadWordPair(row + channel * 2);
    return vec4(unpackElements(format, words.x), unpackElements(format, words.y));
  }
  return loadCacheChannels4(format, aligned, row, channel, size);
}

/// The dot products of the lane's key with all rows.
void multiplyKey(uint key, uint64_t kRow, uint64_t scaleRow, out float s[ROWS]) {
  float part[ROWS];
  [[unroll]] for (uint r = 0; r < ROWS; r++) {
    s[r] = 0;
    part[r] = 0;
  }
  [[unroll]] for (uint d = 0; d < QUADS_QK; d++) {
    vec4 k;
    if (ROTATION == ROTATION_NONE && KEYS_ALIGNED && KEY_TYPE == CACHE_INT8) {
      // Both halves of a pair of words are used, one after the other: the second load is the first again.
      const uvec2 words = loadWordPair(kRow + d / 2 * 8);
      k = signedBytes(d % 2 == 0 ? words.x : words.y);
    } else if (ROTATION == ROTATION_NONE && KEY_TYPE <= ELEMENT_BF16) {
      k = loadNumbers4(KEY_TYPE, KEYS_ALIGNED, kRow, d * 4, HEAD_SIZE_QK);
    } else {
      k = loadKeyChannels4(key, kRow, scaleRow, d * 4);
    }
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
      const vec4 q = queryQuad(r, d);
      [[unroll]] for (uint x = 0; x < 4; x++) {
        if (KEY_SCALES_APART) {
          part[r] = fma(q[x], k[x], part[r]);
        } else {
          s[r] = fma(q[x], k[x], s[r]);
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
    [[unroll]] for (uint j = 0; j < CHUNKS_V; j++) { o[r * CHUNKS_V + j] *= rescale; }
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
      const uint quad = j * LANES_V + own;
      // The lanes behind the last channel load the last ones again.
      const uint channel = min(quad, QUADS_V - 1) * 4;
      vec4 v;
      if (VALUE_TYPE <= ELEMENT_BF16) {
        v = loadNumbers4(VALUE_TYPE, VALUES_ALIGNED, vRow, channel, HEAD_SIZE_V);
      } else {
        v = loadValueChannels4(vRow, channel);
        if (VALUE_SCALES_APART) { v *= valueScale(vRow, scaleRow, channel); }
      }
      // 0 * NaN is NaN: a hidden value must not even be multiplied.
      v = isUsed ? v : vec4(0);
      [[unroll]] for (uint r = 0; r < ROWS; r++) {
        const vec4 seen = ROWS_AGREE || p[r] != 0.0 ? v : vec4(0);
        o[r * CHUNKS_V + j] = fma(vec4(p[r]), seen, o[r * CHUNKS_V + j]);
      }
    }
  }
}

/// Loads the rows of the tile.
void openRows() {
  [[unroll]] for (uint r = 0; r < ROWS; r++) {
    const uint token = openDecodeRow(rowTile * ROWS + r);
    rowHeads[r] = head;
    rows[r] = openRow(token);
    const uint64_t address = queryAddress(token);
    if (QUERY_IN_SHARED) {
      for (uint d = gl_LocalInvocationID.x; d < QUADS_QK; d += gl_WorkGroupSize.x) {
        sharedQuery[r * QUADS_QK + d] = loadQueryChannels4(address, d * 4) * rows[r].scale;
      }
    } else {
      [[unroll]] for (uint d = 0; d < QUADS_QK; d++) {
        privateQuery[r * QUADS_QK + d] = loadQueryChannels4(address, d * 4) * rows[r].scale;
      }
    }
    rowMax[r] = -INFINITY;
    laneSum[r] = 0;
    [[unroll]] for (uint j = 0; j < CHUNKS_V; j++) { o[r * CHUNKS_V + j] = vec4(0); }
  }
}

/// Adds up what lanes and subgroups have of the rows; afterwards the first subgroup has it.
void addUp() {
  [[unroll]] for (uint r = 0; r < ROWS; r++) {
    laneSum[r] = subgroupAdd(laneSum[r]);
    [[unroll]] for (uint j = 0; j < CHUNKS_V; j++) {
      [[unroll]] for (uint step = LANES_V; step < SUBGROUP_SIZE; step *= 2) {
        const vec4 mine = o[r * CHUNKS_V + j];
        o[r * CHUNKS_V + j] = mine + subgroupShuffleXor(mine, step);
      }
    }
  }
  if (SUBGROUPS > 1) {
    const uint quad = gl_SubgroupInvocationID % LANES_V;
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
      if (gl_SubgroupInvocationID == 0) {
        sharedStatistics[gl_SubgroupID * ROWS + r] = vec2(rowMax[r], laneSum[r]);
      }
      [[unroll]] for (uint j = 0; j < CHUNKS_V; j++) {
        const uint e = j * LANES_V + quad;
        if (e < QUADS_V) {
          sharedResult[(gl_SubgroupID * ROWS + r) * QUADS_V + e] = o[r * CHUNKS_V + j];
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
      [[unroll]] for (uint j = 0; j < CHUNKS_V; j++) { o[r * CHUNKS_V + j] = vec4(0); }
      for (uint g = 0; g < SUBGROUPS; g++) {
        const vec2 statistics = sharedStatistics[g * ROWS + r];
        const float factor = exp2(statistics.x - origin);
        laneSum[r] = fma(statistics.y, factor, laneSum[r]);
        [[unroll]] for (uint j = 0; j < CHUNKS_V; j++) {
          const uint e = min(j * LANES_V + quad, QUADS_V - 1);
          o[r * CHUNKS_V + j] =
            fma(sharedResult[(g * ROWS + r) * QUADS_V + e], vec4(factor), o[r * CHUNKS_V + j]);
        }
      }
    }
  }
}

void runSegment(uvec4 segment) {
  openDecodeProblem(segment.x);
  segmentBegin = int(segment.y * DECODE_BLOCK.tileLength);
  segmentEnd = segmentBegin + int((segment.z & 0x3fffffffu) * DECODE_BLOCK.tileLength);
  openRows();
  if (QUERY_IN_SHARED) { barrier(); }

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
    const uint quad = gl_SubgroupInvocationID % LANES_V;
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
      const uint token = openDecodeRow(rowTile * ROWS + r);
      if (rowTile * ROWS + r < problemRows()) {
        float factor;
        storeDecodeStatistics(segment.w, r, token, rowMax[r], laneSum[r], factor);
        if (gl_SubgroupInvocationID < LANES_V) {
          [[unroll]] for (uint j = 0; j < CHUNKS_V; j++) {
            storeDecodeChannels4(
              segment.w, r, token, (j * LANES_V + quad) * 4, factor, o[r * CHUNKS_V + j]);
          }
        }
      }
    }
  }
  // The next segment writes the queries and the results anew.
  if (SUBGROUPS > 1) { barrier(); }
}

void main() {
  const uint group = groupNumber();
  if (group < DECODE_BLOCK.groupCount) {
    uint segment = WordReference(DECODE_BLOCK.groupStarts + group * 4ul).value;
    const uint end = WordReference(DECODE_BLOCK.groupStarts + (group + 1) * 4ul).value;
    if (segment < end) {
      for (;;) {
        runSegment(SegmentReference(DECODE_BLOCK.segments + segment * 16ul).value);
        segment++;
        if (segment >= end) { break; }
      }
    }
  }
}
