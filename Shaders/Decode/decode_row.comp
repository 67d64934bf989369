#version 460

// Lean decode, path `row`: each invocation owns a row of the problem; for CPU-like devices.
//
//   for each segment of the workgroup (decode_interface.glsl), for each row r of its tile of rows:
//     q_r *= scale * log2(e);  m = -inf;  l = 0;  o = 0
//     for each block of C keys of the segment that some row of the subgroup sees:
//       s_c = mapScore(q_r . k_c);  m' = max(m, s);  p_c = 2^(s_c - m')
//       l = l * 2^(m - m') + sum p_c;  o = o * 2^(m - m') + sum p_c * v_c;  m = m'
//     o_r = o / l and lse_r, or (m, l, o) into the segment's slot
//
// Keys and values are read at subgroup-uniform addresses, each number once for all rows of a subgroup, converted in
// registers. No shared memory, no barrier; f32 arithmetic throughout.
//
// Workgroup: size = tileRows, a multiple of the subgroup size. Grid: x (and y) = groups of the schedule.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_vote : require
#extension GL_KHR_shader_subgroup_arithmetic : require

#include "decode_interface.glsl"

layout(constant_id = 5) const uint KEYS_PER_BLOCK = 4;  // C

const uint QUADS_QK = (HEAD_SIZE_QK + 3) / 4;
const uint QUADS_V = (HEAD_SIZE_V + 3) / 4;

// What a row carries over the keys of a segment; every index is a constant after unrolling.
vec4 q[QUADS_QK];  // times scale * log2(e), so that scores are exponents of 2
vec4 o[QUADS_V];   // not normalised

#include "../Attention/attention_row_weights.glsl"

/// Folds keys firstKey ..< firstKey + KEYS_PER_BLOCK into the row. `masked` is for the blocks in which some key is
/// hidden from some row; what is read is never behind the last key.
void foldBlock(const bool masked, uint hidden, uint firstKey) {
  uint64_t kRow[KEYS_PER_BLOCK], vRow[KEYS_PER_BLOCK], kScales[KEYS_PER_BLOCK], vScales[KEYS_PER_BLOCK];
  uint key[KEYS_PER_BLOCK];
  touch(firstKey + KEYS_PER_BLOCK, KEYS_PER_BLOCK);
  float s[KEYS_PER_BLOCK];
  [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {
    key[c] = masked ? min(firstKey + c, keyTokens - 1) : firstKey + c;
    const KeyPlace place = placeOf(key[c]);
    kRow[c] = keyRow(place);
    vRow[c] = VALUE_IS_KEY ? kRow[c] : valueRow(place);
    kScales[c] = keyScaleRow(place);
    vScales[c] = VALUE_IS_KEY ? kScales[c] : valueScaleRow(place);
    s[c] = 0;
  }

  // s = q k^T
  float part[KEYS_PER_BLOCK];
  [[unroll]] for (uint d = 0; d < QUADS_QK; d++) {
    [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {
      const vec4 k = loadKeyChannels4(key[c], kRow[c], kScales[c], d * 4);
      if (KEY_SCALES_APART) {
        if (d * 4 % KEY_GROUP == 0) { part[c] = 0; }
        [[unroll]] for (uint x = 0; x < 4; x++) { part[c] = fma(q[d][x], k[x], part[c]); }
        if ((d * 4 + 4) % KEY_GROUP == 0 || d == QUADS_QK - 1) {
          s[c] = fma(part[c], keyScale(kRow[c], kScales[c], d * 4), s[c]);
        }
      } else {
        [[unroll]] for (uint x = 0; x < 4; x++) { s[c] = fma(q[d][x], k[x], s[c]); }
      }
    }
  }

  const float rescale = weighBlock(masked, hidden, firstKey, s);

  // o = o 2^(m - m') + p v, the block's own sum first (attention_row.comp)
  float weight[KEYS_PER_BLOCK];
  [[unroll]] for (uint e = 0; e < QUADS_V; e++) {
    vec4 sum = vec4(0);
    [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {
      if (VALUE_SCALES_APART) {
        if (e * 4 % VALUE_GROUP == 0) { weight[c] = s[c] * valueScale(vRow[c], vScales[c], e * 4); }
      } else {
        weight[c] = s[c];
      }
      const vec4 v = loadValueChannels4(vRow[c], e * 4);
      // 0 * NaN is NaN: a hidden value must not even be multiplied, nor its scale.
      const bool isHidden = (masked || MAPS_TO_HIDDEN) && (hidden >> c & 1u) != 0;
      const vec4 product = vec4(weight[c]) * v;
      sum += isHidden ? vec4(0) : product;
    }
    o[e] = fma(o[e], vec4(rescale), sum);
  }
}

void runSegment(uvec4 segment) {
  openSegment(segment);
  const uint ownRow = rowTile * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
  // Rows past the end repeat the last one and are not stored.
  const uint token = openDecodeRow(ownRow);
  row = openRow(token);
  const uint64_t address = queryAddress(token);
  [[unroll]] for (uint d = 0; d < QUADS_QK; d++) {
    q[d] = loadQueryChannels4(address, d * 4) * row.scale;
  }
  rowMax = -INFINITY;
  rowSum = 0;
  [[unroll]] for (uint e = 0; e < QUADS_V; e++) { o[e] = vec4(0); }

  // Uniform over the subgroup, so that the addresses of keys and values are, too.
  const int hullBegin = subgroupMin(row.begin);
  const int hullEnd = max(subgroupMax(row.end), 0);
  const int coreBegin = subgroupMax(row.begin);
  const int coreEnd = subgroupMin(row.end);
  const int sinkHull = HAS(OPTION_SINK_TOKENS) ? subgroupMax(row.sinkEnd) : 0;
  const KeyWalk walk = openWalk(hullBegin, hullEnd, sinkHull, KEYS_PER_BLOCK);
  const uint fullBegin = (uint(coreBegin) + KEYS_PER_BLOCK - 1) / KEYS_PER_BLOCK * KEYS_PER_BLOCK;
  const uint fullEnd =
    HAS_DATA_MASKS || coreEnd <= 0 ? 0 : uint(coreEnd) / KEYS_PER_BLOCK * KEYS_PER_BLOCK;
  uint key = walk.first;
  // All loops test at their end (attention_row.comp).
  if (key < walk.end) {
    for (;;) {
      uint hidden = hiddenKeys(key);
      if (HAS_DATA_MASKS_OR(OPTION_SINK_TOKENS)) {
        // The next block in which some row of the subgroup sees a key.
        for (;;) {
          if (!subgroupAll(hidden == (1u << KEYS_PER_BLOCK) - 1)
            || nextStep(walk, key, KEYS_PER_BLOCK) >= walk.end) { break; }
          key = nextStep(walk, key, KEYS_PER_BLOCK);
          hidden = hiddenKeys(key);
        }
      }
      foldBlock(true, hidden, key);
      key = nextStep(walk, key, KEYS_PER_BLOCK);
      if (!HAS_DATA_MASKS && key >= fullBegin && key < fullEnd) {
        for (;;) {
          foldBlock(false, 0, key);
          key += KEYS_PER_BLOCK;
          if (key >= fullEnd) { break; }
        }
      }
      if (key >= walk.end) { break; }
    }
  }

  rowSum += touchedZero();
  if (ownRow < problemRows()) {
    float factor;
    storeDecodeStatistics(segment.w, gl_LocalInvocationID.x, token, rowMax, rowSum, factor);
    [[unroll]] for (uint e = 0; e < QUADS_V; e++) {
      storeDecodeChannels4(segment.w, gl_LocalInvocationID.x, token, e * 4, factor, o[e]);
    }
  }
}

#include "decode_segments.glsl"

void main() {
  runSegments();
}
