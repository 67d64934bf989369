#version 460

// (header follows with the ladder)

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_arithmetic : require

#include "attention_interface.glsl"

layout(constant_id = 5) const uint ROWS_PER_INVOCATION = 1;
layout(constant_id = 6) const uint KEYS_PER_BLOCK = 16;

const uint QUADS_QK = HEAD_SIZE_QK / 4;
const uint QUADS_V = HEAD_SIZE_V / 4;
const float LOG2_E = 1.44269504088896340736;
const float LN_2 = 0.693147180559945309417;

#define NEGATIVE_INFINITY uintBitsToFloat(0xff800000u)
#define QUIET_NAN uintBitsToFloat(0x7fc00000u)

// Everything a row carries over the key loop: in registers, or on the driver's stack.
vec4 q[ROWS_PER_INVOCATION][QUADS_QK];  // scaled by scale * log2(e)
vec4 o[ROWS_PER_INVOCATION][QUADS_V];   // not normalised
float rowMax[ROWS_PER_INVOCATION];      // in units of log2
float rowSum[ROWS_PER_INVOCATION];

/// Folds keys firstKey ..< firstKey + KEYS_PER_BLOCK into the rows. `masked` (a literal) adds what
/// only the last blocks of a tile need: keys from visibleKeys[r] on are hidden from row r.
#define FOLD_BLOCK(masked)                                                                             \
  {                                                                                                    \
    float s[ROWS_PER_INVOCATION][KEYS_PER_BLOCK];                                                      \
    uint64_t kRow[KEYS_PER_BLOCK];                                                                     \
    uint64_t vRow[KEYS_PER_BLOCK];                                                                     \
    [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {                                             \
      uint key = masked ? min(firstKey + c, lastKey) - firstKey : c;                                   \
      kRow[c] = kBlock + key * kStep;                                                                  \
      vRow[c] = vBlock + key * vStep;                                                                  \
      [[unroll]] for (uint r = 0; r < ROWS_PER_INVOCATION; r++) { s[r][c] = 0; }                       \
    }                                                                                                  \
    [[unroll]] for (uint d = 0; d < QUADS_QK; d++) {                                                   \
      [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {                                           \
        vec4 k = loadElements4(ELEMENT_TYPE, kRow[c] + d * quadBytes);                                 \
        [[unroll]] for (uint r = 0; r < ROWS_PER_INVOCATION; r++) {                                    \
          [[unroll]] for (uint x = 0; x < 4; x++) { s[r][c] = fma(q[r][d][x], k[x], s[r][c]); }        \
        }                                                                                              \
      }                                                                                                \
    }                                                                                                  \
    float rescale[ROWS_PER_INVOCATION];                                                                \
    [[unroll]] for (uint r = 0; r < ROWS_PER_INVOCATION; r++) {                                        \
      float newMax = rowMax[r];                                                                        \
      float poison = 0;                                                                                \
      [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {                                           \
        if (masked && firstKey + c >= visibleKeys[r]) { s[r][c] = NEGATIVE_INFINITY; }                 \
        newMax = max(newMax, s[r][c]);                                                                 \
        poison += s[r][c];                                                                             \
      }                                                                                                \
      float origin = newMax == NEGATIVE_INFINITY ? 0 : newMax;                                         \
      rescale[r] = exp2(rowMax[r] - origin);                                                           \
      float blockSum = isnan(poison) ? QUIET_NAN : 0;                                                  \
      [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {                                           \
        s[r][c] = exp2(s[r][c] - origin);                                                              \
        if (masked && firstKey + c >= visibleKeys[r]) { s[r][c] = 0; }                                 \
        blockSum += s[r][c];                                                                           \
      }                                                                                                \
      rowMax[r] = newMax;                                                                              \
      rowSum[r] = fma(rowSum[r], rescale[r], blockSum);                                                \
    }                                                                                                  \
    [[unroll]] for (uint e = 0; e < QUADS_V; e++) {                                                    \
      vec4 sum[ROWS_PER_INVOCATION];                                                                   \
      [[unroll]] for (uint r = 0; r < ROWS_PER_INVOCATION; r++) { sum[r] = o[r][e] * rescale[r]; }     \
      [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {                                           \
        vec4 v = loadElements4(ELEMENT_TYPE, vRow[c] + e * quadBytes);                                 \
        [[unroll]] for (uint r = 0; r < ROWS_PER_INVOCATION; r++) {                                    \
          /* 0 * NaN is NaN: a hidden value row must not even be multiplied. */                        \
          vec4 seen = masked && firstKey + c >= visibleKeys[r] ? vec4(0) : v;                          \
          sum[r] = fma(vec4(s[r][c]), seen, sum[r]);                                                   \
        }                                                                                              \
      }                                                                                                \
      [[unroll]] for (uint r = 0; r < ROWS_PER_INVOCATION; r++) { o[r][e] = sum[r]; }                  \
    }                                                                                                  \
  }

void main() {
  const uint head = gl_WorkGroupID.y;
  const uint batch = gl_WorkGroupID.z;
  const uint keyHead = head / p.headsPerGroup;
  const uint elementSize = elementBytes(ELEMENT_TYPE);
  const uint quadBytes = 4 * elementSize;
  const uint firstRow =
    ((gl_WorkGroupID.x + p.firstTile) * gl_WorkGroupSize.x + gl_LocalInvocationID.x)
    * ROWS_PER_INVOCATION;

  uint visibleKeys[ROWS_PER_INVOCATION];
  [[unroll]] for (uint r = 0; r < ROWS_PER_INVOCATION; r++) {
    // Rows past the end repeat the last one and are not stored.
    uint row = min(firstRow + r, p.queryTokens - 1);
    visibleKeys[r] = CAUSAL
      ? uint(clamp(int(row) + p.causalOffset + 1, 0, int(p.keyTokens))) : p.keyTokens;
    uint64_t address = queryAddress(batch, row, head);
    [[unroll]] for (uint d = 0; d < QUADS_QK; d++) {
      q[r][d] = loadElements4(ELEMENT_TYPE, address + d * quadBytes) * (p.scale * LOG2_E);
    }
    [[unroll]] for (uint e = 0; e < QUADS_V; e++) { o[r][e] = vec4(0); }
    rowMax[r] = NEGATIVE_INFINITY;
    rowSum[r] = 0;
  }

  // Loop bounds are made uniform over the subgroup, so that key and value addresses are too.
  const uint commonKeys = CAUSAL ? subgroupMin(visibleKeys[0]) : p.keyTokens;
  const uint lastKeys = CAUSAL ? subgroupMax(visibleKeys[ROWS_PER_INVOCATION - 1]) : p.keyTokens;
  const uint fullKeys = commonKeys / KEYS_PER_BLOCK * KEYS_PER_BLOCK;
  const uint lastKey = lastKeys - 1;

  const uint64_t kStep = uint64_t(p.kTokenStride) * elementSize;
  const uint64_t vStep = uint64_t(p.vTokenStride) * elementSize;
  uint64_t kBlock = keyAddress(batch, 0, keyHead);
  uint64_t vBlock = valueAddress(batch, 0, keyHead);
  uint firstKey = 0;

  // The loops test at their end: the software driver runs a loop that tests at its start once more,
  // with all lanes masked off.
  if (fullKeys > 0) {
    for (;;) {
      FOLD_BLOCK(false)
      firstKey += KEYS_PER_BLOCK;
      if (firstKey >= fullKeys) { break; }
      kBlock += KEYS_PER_BLOCK * kStep;
      vBlock += KEYS_PER_BLOCK * vStep;
    }
  }
  kBlock = keyAddress(batch, fullKeys, keyHead);
  vBlock = valueAddress(batch, fullKeys, keyHead);
  if (firstKey < lastKeys) {
    for (;;) {
      FOLD_BLOCK(true)
      firstKey += KEYS_PER_BLOCK;
      if (firstKey >= lastKeys) { break; }
      kBlock += KEYS_PER_BLOCK * kStep;
      vBlock += KEYS_PER_BLOCK * vStep;
    }
  }

  [[unroll]] for (uint r = 0; r < ROWS_PER_INVOCATION; r++) {
    uint row = firstRow + r;
    if (row < p.queryTokens) {
      bool empty = rowMax[r] == NEGATIVE_INFINITY && !isnan(rowSum[r]);
      float normaliser = empty ? 0 : 1 / rowSum[r];
      uint64_t address = outputAddress(batch, row, head);
      [[unroll]] for (uint e = 0; e < QUADS_V; e++) {
        storeElements4(ELEMENT_TYPE, address + e * quadBytes, o[r][e] * normaliser);
      }
      if (p.lse != 0) {
        FloatReference(lseAddress(batch, row, head)).value =
          empty ? NEGATIVE_INFINITY : (rowMax[r] + log2(rowSum[r])) * LN_2;
      }
    }
  }
}
