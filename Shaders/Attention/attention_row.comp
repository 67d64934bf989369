#version 460

// Tiled attention, path `row`: each invocation owns R query rows; for CPU-like devices.
//
//   for each row i:                                      (lanes of a subgroup: neighbouring rows)
//     q_i *= scale * log2(e);  m = -inf;  l = 0;  o = 0
//     for each block of C keys that some row of the subgroup sees:
//       s_c = q_i . k_c                                  (-inf if key c is hidden from row i)
//       m'  = max(m, s);  p_c = 2^(s_c - m')             (0 if hidden, whatever k_c and v_c hold)
//       l   = l * 2^(m - m') + sum p_c
//       o   = o * 2^(m - m') + sum p_c * v_c             (o of a channel: one load and store per block)
//       m   = m'
//     o_i = o / l;  lse_i = (m + log2(l)) * ln(2)        (0 and -inf if no key is visible)
//
// Memory: q [B,S,H,D], k [B,T,G,D], v [B,T,G,E], o [B,S,H,E] by strides, of ELEMENT_TYPE; lse f32 [B,S,H].
// With PACKED, k and v are f32 in the blocks of attention_pack.comp, made with the same KEYS_PER_BLOCK:
// kHeadStride = ceil(T/C)*C*D, kBatchStride = G * kHeadStride in f32 elements, kTokenStride is not used;
// v alike with E. No shared memory, no barrier; f32 arithmetic throughout.
//
// Workgroup: size a multiple of the subgroup size (32 is fine); query tile = size * R rows.
// Grid: x = ceil(S / tile) from firstTile on, y = H, z = B.
// Row arrays are unrolled into SSA values, which the software driver's compiler keeps in registers or on
// its stack; k and v are read at subgroup-uniform addresses, so a load is a scalar operand, broadcast inside
// the multiplication. The unrolled block is R * C * (D + E) multiply-adds at 2 instructions each (Mesa
// 26.1.6 splits fma() into multiply and add) and must fit the CPU's cache of decoded instructions:
// about 5000 on Zen 5. C * (D + E) <= 1600 keeps clear of that and of compile times over 1 s.
//
// Ladder, GFLOP/s of one thread (of two, double it), B1 H8 S=T=1024 f32 [B,S,H,D], AMD EPYC Zen 5 4.2 GHz,
// lavapipe of Mesa 26.1.6 (LLVM 19), 8 lanes; peak 137 by multiply + add. Best of some dozen runs on a
// machine with other load: neighbouring rows are good to 5 %, far ones to 15 %.
//                                                                                       D=64     D=128
//   R1 C8, o rescaled per block, loop tested at its start                                56-58    60-64
//   R2 C4 / R2 C8                                                                        53 / 55  50 / 32
//   R3 C4 / R4 C2 / R8 C1 (D=128: R3 C3 / R4 C4)                                 60 / 55 / 37  47 / 45
//   loop tested at its end (else one more trip with all lanes off)                       61       62
//   R1 C16 (D=128: C12)                                                                  65       54
//   what holds it back: the same on [B,H,S,D] (tokens next to each other)                91       82
//     and with one key row read over and over                                            108      103
//   + barrier every 256 keys, workgroup of 64..128 (values live in a coroutine's frame)  72       -
//   + prefetching loads one block ahead (more cache lines fight for the same sets)       51       54
//   + 16 channels per key in sequence (chains of adds; compiler hoists and spills)       54-61    58
//   + tiles of k and v in shared memory (an index check and a clamp per load)            22-31    -
//   + array indexed in a rolled loop (per-lane gather for each access)                   10       -
//   PACKED, C*(D+E) = 1024 / 1536 / 2048; copying not counted               93 / 94 / 100   76 / 90 / 69
//   PACKED, the copy counted (attention_pack.comp), machine busier: C16 / C6             81-82    73-76
//   PACKED R2 (5 instructions per 2 multiply-adds): C4 / C6 / C8            86 / 48 / 47       52 / - / -
//   row-major packing [T][D] instead of blocks                                           99       69-75
//   8-byte loads and stores for q and o                                                  no gain
//   PACKED with LP_NATIVE_VECTOR_WIDTH=512 (16 lanes), C12 / C6, copying not counted     165      154
//   the same, the copy counted, machine busier                                           136      115
// f16, the copy counted: packed 61-85 / 73, 512-bit 138 / 126; not packed (C8, every use of an element
// converts it) 27 / 25, R2 C4 34 / 34. PyTorch 2.15 CPU attention, one thread, in the minutes of the rows
// "machine busier": f32 94 / 100, f16 60 / 72.
// Packing pays from about 256 query rows per key head on (f32; S * H / G), 128 (f16); below, read in place.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_arithmetic : require

#include "attention_interface.glsl"

layout(constant_id = 5) const uint ROWS_PER_INVOCATION = 1;  // R
layout(constant_id = 6) const uint KEYS_PER_BLOCK = 8;       // C
layout(constant_id = 7) const bool PACKED = false;           // k and v as attention_pack.comp writes them

const uint QUADS_QK = HEAD_SIZE_QK / 4;
const uint QUADS_V = HEAD_SIZE_V / 4;
const uint QUAD_BYTES = ELEMENT_TYPE == ELEMENT_F32 ? 16 : 8;
const float LOG2_E = 1.44269504088896340736;
const float LN_2 = 0.693147180559945309417;

#define NEGATIVE_INFINITY uintBitsToFloat(0xff800000u)
#define QUIET_NAN uintBitsToFloat(0x7fc00000u)

// What a row carries over the key loop. Every index is a constant after unrolling: an index that is not
// would turn these into memory with one gather per access.
vec4 q[ROWS_PER_INVOCATION][QUADS_QK];  // times scale * log2(e), so that scores are exponents of 2
vec4 o[ROWS_PER_INVOCATION][QUADS_V];   // not normalised
float rowMax[ROWS_PER_INVOCATION];      // of the scores so far
float rowSum[ROWS_PER_INVOCATION];      // of 2^(score - rowMax)
uint visibleKeys[ROWS_PER_INVOCATION];  // keys from here on are hidden from the row

/// Channels 4 * quad ... 4 * quad + 3 of a key or value row of the block, at subgroup-uniform addresses.
vec4 loadQuad(uint64_t block, uint64_t rowOffset, const uint key, const uint quad) {
  if (PACKED) {
    return FloatQuadReference(
      block + ((quad / 2 * KEYS_PER_BLOCK + key) * 8 + quad % 2 * 4) * 4).value;
  }
  return loadElements4(ELEMENT_TYPE, block + rowOffset + quad * QUAD_BYTES);
}

/// Folds keys firstKey ..< firstKey + KEYS_PER_BLOCK into the rows. `masked` is for the blocks in which
/// some key is hidden from some row; keys past `lastKey` are then hidden from all.
void foldBlock(
  const bool masked, uint firstKey, uint lastKey, uint64_t kBlock, uint64_t vBlock, uint64_t kStep,
  uint64_t vStep
) {
  uint64_t kOffset[KEYS_PER_BLOCK];
  uint64_t vOffset[KEYS_PER_BLOCK];
  float s[ROWS_PER_INVOCATION][KEYS_PER_BLOCK];
  [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {
    // Past the last key its row is read again; a packed block is padded and needs no clamp.
    uint key = masked ? min(firstKey + c, lastKey) - firstKey : c;
    kOffset[c] = key * kStep;
    vOffset[c] = key * vStep;
    [[unroll]] for (uint r = 0; r < ROWS_PER_INVOCATION; r++) { s[r][c] = 0; }
  }

  // s = q k^T
  [[unroll]] for (uint d = 0; d < QUADS_QK; d++) {
    [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {
      vec4 k = loadQuad(kBlock, kOffset[c], c, d);
      [[unroll]] for (uint r = 0; r < ROWS_PER_INVOCATION; r++) {
        [[unroll]] for (uint x = 0; x < 4; x++) { s[r][c] = fma(q[r][d][x], k[x], s[r][c]); }
      }
    }
  }

  // m' = max(m, s); p = 2^(s - m'); l = l 2^(m - m') + sum p
  float rescale[ROWS_PER_INVOCATION];
  [[unroll]] for (uint r = 0; r < ROWS_PER_INVOCATION; r++) {
    float newMax = rowMax[r];
    float poison = 0;
    [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {
      if (masked && firstKey + c >= visibleKeys[r]) { s[r][c] = NEGATIVE_INFINITY; }
      newMax = max(newMax, s[r][c]);
      poison += s[r][c];
    }
    // max and exp2 may lose a NaN; a sum does not.
    float blockSum = isnan(poison) ? QUIET_NAN : 0;
    float origin = newMax == NEGATIVE_INFINITY ? 0 : newMax;
    rescale[r] = exp2(rowMax[r] - origin);
    [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {
      s[r][c] = exp2(s[r][c] - origin);
      if (masked && firstKey + c >= visibleKeys[r]) { s[r][c] = 0; }
      blockSum += s[r][c];
    }
    rowMax[r] = newMax;
    rowSum[r] = fma(rowSum[r], rescale[r], blockSum);
  }

  // o = o 2^(m - m') + p v
  [[unroll]] for (uint e = 0; e < QUADS_V; e++) {
    vec4 sum[ROWS_PER_INVOCATION];
    [[unroll]] for (uint r = 0; r < ROWS_PER_INVOCATION; r++) { sum[r] = o[r][e] * rescale[r]; }
    [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {
      vec4 v = loadQuad(vBlock, vOffset[c], c, e);
      [[unroll]] for (uint r = 0; r < ROWS_PER_INVOCATION; r++) {
        // 0 * NaN is NaN: a hidden value must not even be multiplied.
        vec4 seen = masked && firstKey + c >= visibleKeys[r] ? vec4(0) : v;
        sum[r] = fma(vec4(s[r][c]), seen, sum[r]);
      }
    }
    [[unroll]] for (uint r = 0; r < ROWS_PER_INVOCATION; r++) { o[r][e] = sum[r]; }
  }
}

void main() {
  const uint head = gl_WorkGroupID.y;
  const uint batch = gl_WorkGroupID.z;
  const uint keyHead = head / p.headsPerGroup;
  const uint firstRow =
    ((gl_WorkGroupID.x + p.firstTile) * gl_WorkGroupSize.x + gl_LocalInvocationID.x)
    * ROWS_PER_INVOCATION;

  [[unroll]] for (uint r = 0; r < ROWS_PER_INVOCATION; r++) {
    // Rows past the end repeat the last one and are not stored.
    uint row = min(firstRow + r, p.queryTokens - 1);
    visibleKeys[r] = visibleKeyCount(row);
    uint64_t address = queryAddress(batch, row, head);
    [[unroll]] for (uint d = 0; d < QUADS_QK; d++) {
      q[r][d] = loadElements4(ELEMENT_TYPE, address + d * QUAD_BYTES) * (p.scale * LOG2_E);
    }
    [[unroll]] for (uint e = 0; e < QUADS_V; e++) { o[r][e] = vec4(0); }
    rowMax[r] = NEGATIVE_INFINITY;
    rowSum[r] = 0;
  }

  // Uniform over the subgroup, so that the addresses of keys and values are, too.
  const uint commonKeys = CAUSAL ? subgroupMin(visibleKeys[0]) : p.keyTokens;
  const uint lastKeys = CAUSAL ? subgroupMax(visibleKeys[ROWS_PER_INVOCATION - 1]) : p.keyTokens;
  const uint fullKeys = commonKeys / KEYS_PER_BLOCK * KEYS_PER_BLOCK;

  const uint64_t kStep =
    PACKED ? HEAD_SIZE_QK * 4 : uint64_t(p.kTokenStride) * elementBytes(ELEMENT_TYPE);
  const uint64_t vStep =
    PACKED ? HEAD_SIZE_V * 4 : uint64_t(p.vTokenStride) * elementBytes(ELEMENT_TYPE);
  uint64_t kBlock = PACKED
    ? p.k + (uint64_t(batch) * p.kBatchStride + uint64_t(keyHead) * p.kHeadStride) * 4
    : keyAddress(batch, 0, keyHead);
  uint64_t vBlock = PACKED
    ? p.v + (uint64_t(batch) * p.vBatchStride + uint64_t(keyHead) * p.vHeadStride) * 4
    : valueAddress(batch, 0, keyHead);

  // Both loops test at their end: the software driver finds out that every lane has left only there,
  // so a loop that tests at its start runs its body once more for nothing.
  uint key = 0;
  if (fullKeys > 0) {
    for (;;) {
      foldBlock(false, key, 0, kBlock, vBlock, kStep, vStep);
      key += KEYS_PER_BLOCK;
      kBlock += KEYS_PER_BLOCK * kStep;
      vBlock += KEYS_PER_BLOCK * vStep;
      if (key >= fullKeys) { break; }
    }
  }
  if (key < lastKeys) {
    for (;;) {
      foldBlock(true, key, lastKeys - 1, kBlock, vBlock, kStep, vStep);
      key += KEYS_PER_BLOCK;
      kBlock += KEYS_PER_BLOCK * kStep;
      vBlock += KEYS_PER_BLOCK * vStep;
      if (key >= lastKeys) { break; }
    }
  }

  [[unroll]] for (uint r = 0; r < ROWS_PER_INVOCATION; r++) {
    uint row = firstRow + r;
    if (row < p.queryTokens) {
      bool empty = rowMax[r] == NEGATIVE_INFINITY && !isnan(rowSum[r]);
      float normaliser = empty ? 0 : 1 / rowSum[r];
      uint64_t address = outputAddress(batch, row, head);
      [[unroll]] for (uint e = 0; e < QUADS_V; e++) {
        storeElements4(ELEMENT_TYPE, address + e * QUAD_BYTES, o[r][e] * normaliser);
      }
      if (p.lse != 0) {
        FloatReference(lseAddress(batch, row, head)).value =
          empty ? NEGATIVE_INFINITY : (rowMax[r] + log2(rowSum[r])) * LN_2;
      }
    }
  }
}
