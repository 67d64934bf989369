#version 460

// Tiled attention, path `row`: each invocation owns a query row; for CPU-like devices.
//
//   for each row i:                                      (lanes of a subgroup: neighbouring rows)
//     q_i *= scale * log2(e);  m = -inf;  l = 0;  o = 0
//     for each block of C keys that some row of the subgroup sees:
//       s_c = mapScore(q_i . k_c)                        (-inf if key c is hidden from row i)
//       m'  = max(m, s);  p_c = 2^(s_c - m')             (0 if hidden, whatever k_c and v_c hold)
//       l   = l * 2^(m - m') + sum p_c
//       o   = o * 2^(m - m') + sum p_c * v_c             (o of a channel: one load and store per block)
//       m   = m'
//     o_i = o / l;  lse_i = (m + log2(l)) * ln(2)        (0 and -inf if no key is visible)
//
// Memory: q [B,S,H,D], k [B,T,G,D], v [B,T,G,E], o [B,S,H,E] by strides, of QUERY_TYPE, KEY_TYPE, VALUE_TYPE,
// OUTPUT_TYPE; lse f32 [B,S,H]. With PACKED, k and v are f32 in the blocks of attention_pack.comp, made with the
// same KEYS_PER_BLOCK: kHeadStride is the elements of one head's blocks, kTokenStride is not used; v alike.
// With VALUE_IS_KEY, v is the first E channels of k and lies in the same blocks.
// No shared memory, no barrier; f32 arithmetic throughout.
//
// The block loop has two bodies, one for blocks in which every row of the subgroup sees every key. They are
// loops of their own: the software driver runs both sides of an if. For the same reason blocks that a data mask
// hides from the whole subgroup are passed over by a loop that looks for the next block. With a block map both loops
// lie in a third: an iteration of it is a run of steps of one kind.
//
// Workgroup: size a multiple of the subgroup size (32 is fine); query tile = size rows.
// Grid: x = ceil(S / tile) from firstTile on, y = H, z = B.
// Row arrays are unrolled into SSA values, which the software driver's compiler keeps in registers or on
// its stack; k and v are read at subgroup-uniform addresses, so a load is a scalar operand, broadcast inside
// the multiplication. The unrolled block is C * (D + E) multiply-adds at 2 instructions each (Mesa
// 26.1.6 splits fma() into multiply and add) and must fit the CPU's cache of decoded instructions:
// about 5000 on Zen 5. C * (D + E) <= 1600 keeps clear of that and of compile times over 1 s.
//
// Ladder (R: query rows per invocation, given up for 1), GFLOP/s of one thread (of two, double it), B1 H8 S=T=1024
// f32 [B,S,H,D], AMD EPYC Zen 5 4.2 GHz,
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
//   8-byte loads and stores for q and o (below; a gain with 16 lanes)                    no gain
//   PACKED with LP_NATIVE_VECTOR_WIDTH=512 (16 lanes), C12 / C6, copying not counted     165      154
//   the same, the copy counted, machine busier                                           136      115
// Without AVX-512 (EPYC 7003, Zen 3, both cores, f32, C5, share of the multiply-add ceiling of the same minute,
// medians of three runs; that processor's own ceiling for code of this shape, in assembly, is 54 GFLOP/s a core
// of 103, because of the blends that keep lanes that left the loop and of exp2):
//   o * rescale first, then the keys (relative RMS error 6.8e-7)                           58 %   45 %
//   the keys' sum first, then o (4.6e-7)                                                   57 %   53 %
//   chunks: scores of 8 to 16 blocks in an array, then their values; each loop fits the    35-49 % 34-43 %
//   decoded-instruction cache, but the array is scattered lane by lane, and the compiler
//   moves each key's products behind the scatter before it and spills the loads
// f16, the copy counted: packed 61-85 / 73, 512-bit 138 / 126; not packed (C8, every use of an element
// converts it) 27 / 25, R2 C4 34 / 34. PyTorch 2.15 CPU attention, one thread, in the minutes of the rows
// "machine busier": f32 94 / 100, f16 60 / 72.
// Packing pays from about 256 query rows per key head on (f32; S * H / G), 128 (f16); below, read in place.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_vote : require
#extension GL_KHR_shader_subgroup_arithmetic : require

// Its rows are in one row of blocks of a block map, and its steps in two blocks at most (attention_walk.glsl).
#define SMALL_STEPS
#include "attention_options.glsl"

layout(constant_id = 5) const uint KEYS_PER_BLOCK = 8;  // C
layout(constant_id = 6) const bool PACKED = false;      // k and v as attention_pack.comp writes them

// Rows of 4 channels, and of 8 where keys and values are packed that way; missing channels are 0.
const uint QUADS_QK = PACKED ? (HEAD_SIZE_QK + 7) / 8 * 2 : (HEAD_SIZE_QK + 3) / 4;
const uint QUADS_V = PACKED ? (HEAD_SIZE_V + 7) / 8 * 2 : (HEAD_SIZE_V + 3) / 4;

// What a row carries over the key loop. Every index is a constant after unrolling: an index that is not
// would turn these into memory with one gather per access.
vec4 q[QUADS_QK];  // times scale * log2(e), so that scores are exponents of 2
vec4 o[QUADS_V];   // not normalised

#include "attention_row_weights.glsl"

// Rows of f32 are loaded and stored by numbers of 64 bits: rows of a head are a multiple of 4 KiB apart in [B,S,H,128],
// where lanes share a place of the cache, and every access is to all of them. S=T=512 D=128: 8.5 to 7.9 ms.

vec4 loadQueryQuad(uint64_t address, const uint quad) {
  if (QUERY_TYPE != ELEMENT_F32 || !ALIGNED || HAS(OPTION_QUERY_BIAS)) { return loadQueryChannels4(address, quad * 4); }
  const uvec2 low = unpackUint2x32(LongReference(address + quad * 16).value);
  const uvec2 high = unpackUint2x32(LongReference(address + quad * 16 + 8).value);
  return uintBitsToFloat(uvec4(low, high));
}

void storeOutputQuad(uint64_t address, const uint quad, vec4 values) {
  if (OUTPUT_TYPE == ELEMENT_F32 && ALIGNED) {
    const uvec4 words = floatBitsToUint(values);
    LongReference(address + quad * 16).value = joined(words.x, words.y);
    LongReference(address + quad * 16 + 8).value = joined(words.z, words.w);
  } else {
    storeChannels4(OUTPUT_TYPE, ALIGNED, address, quad * 4, HEAD_SIZE_V, values);
  }
}

/// Channels 4 * quad ... 4 * quad + 3 of a key row of the block, at subgroup-uniform addresses.
vec4 loadKeyQuad(uint64_t block, uint64_t rowOffset, const uint key, const uint quad) {
  if (PACKED) {
    return FloatQuadReference(
      block + ((quad / 2 * KEYS_PER_BLOCK + key) * 8 + quad % 2 * 4) * 4).value;
  }
  return loadChannels4(KEY_TYPE, ALIGNED, block + rowOffset, quad * 4, HEAD_SIZE_QK);
}

vec4 loadValueQuad(uint64_t block, uint64_t rowOffset, const uint key, const uint quad) {
  if (PACKED) {
    return FloatQuadReference(
      block + ((quad / 2 * KEYS_PER_BLOCK + key) * 8 + quad % 2 * 4) * 4).value;
  }
  return loadChannels4(VALUE_TYPE, ALIGNED, block + rowOffset, quad * 4, HEAD_SIZE_V);
}

#ifdef CUSTOM_ATTENTION
/// foldBlock() where nothing turned out to be hidden, from its values on.
void foldSeenValues(float s[KEYS_PER_BLOCK], float rescale, uint64_t vBlock, uint64_t vOffset[KEYS_PER_BLOCK]) {
  [[unroll]] for (uint e = 0; e < QUADS_V; e++) {
    vec4 sum = vec4(0);
    [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {
      const vec4 v = loadValueQuad(vBlock, vOffset[c], c, e);
      sum = c == 0 ? vec4(s[c]) * v : fma(vec4(s[c]), v, sum);
    }
    o[e] = fma(o[e], vec4(rescale), sum);
  }
}
#endif

/// Folds keys firstKey ..< firstKey + KEYS_PER_BLOCK into the row. `masked` is for the blocks in which
/// some key is hidden from some row; what is read is never behind `lastKey`.
void foldBlock(
  const bool masked, uint hidden, uint firstKey, uint lastKey, uint64_t kBlock, uint64_t vBlock,
  uint64_t kStep, uint64_t vStep
) {
  uint64_t kOffset[KEYS_PER_BLOCK];
  uint64_t vOffset[KEYS_PER_BLOCK];
  float s[KEYS_PER_BLOCK];
  [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {
    // Past the last key its row is read again; a packed block is padded and needs no clamp.
    uint key = masked ? min(firstKey + c, lastKey) - firstKey : c;
    kOffset[c] = key * kStep;
    vOffset[c] = key * vStep;
    s[c] = 0;
  }

  // s = q k^T
  [[unroll]] for (uint d = 0; d < QUADS_QK; d++) {
    [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {
      vec4 k = loadKeyQuad(kBlock, kOffset[c], c, d);
      [[unroll]] for (uint x = 0; x < 4; x++) { s[c] = fma(q[d][x], k[x], s[c]); }
    }
  }

  const float rescale = weighBlock(masked, hidden, firstKey, s);
#ifdef CUSTOM_ATTENTION
  // A user's code may hide any key and seldom does: where it does not, no value needs a guard.
  const bool isGuarded = subgroupAny(hidden != 0);
  if (!isGuarded) { foldSeenValues(s, rescale, vBlock, vOffset); }
  if (isGuarded)
#endif

  // o = o 2^(m - m') + p v, the block's own sum first: o is loaded from the stack, and a chain that begins
  // with it waits (see the ladder); it also rounds o once per block instead of once per key.
  [[unroll]] for (uint e = 0; e < QUADS_V; e++) {
    vec4 sum = vec4(0);
    [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {
      vec4 v = loadValueQuad(vBlock, vOffset[c], c, e);
      // 0 * NaN is NaN: a hidden value must not even be multiplied.
      vec4 seen = (masked || MAPS_TO_HIDDEN) && (hidden >> c & 1u) != 0 ? vec4(0) : v;
      sum = c == 0 ? vec4(s[c]) * seen : fma(vec4(s[c]), seen, sum);
    }
    sum = fma(o[e], vec4(rescale), sum);
    o[e] = sum;
  }
}

/// The key behind the run of steps of one kind that begins at `key`, and whether every row of the subgroup sees every
/// key of them. fullBegin and fullEnd bound the steps of which the intervals say so.
uint openRun(KeyWalk walk, uint key, uint fullBegin, uint fullEnd, out bool isFull) {
  const uint shift = OPTION_BLOCK.blockMapKeyShift;
  isFull = key >= fullBegin && key < fullEnd && stepState(walk, key, KEYS_PER_BLOCK) == BLOCK_FULL;
  const uint limit = min(isFull ? fullEnd : key < fullBegin ? fullBegin : walk.end, walk.end);
  uint runEnd = key;
  for (;;) {
    // A step that lies in two blocks counts as a block.
    const uint blockEnd = ((runEnd >> shift) + 1 << shift) / KEYS_PER_BLOCK * KEYS_PER_BLOCK;
    runEnd = max(blockEnd, runEnd + KEYS_PER_BLOCK);
    // Behind sink tokens there may be a gap.
    if (runEnd >= limit || HAS(OPTION_SINK_TOKENS)) { break; }
    const uint state = stepState(walk, runEnd, KEYS_PER_BLOCK);
    const bool isNextFull = runEnd >= fullBegin && runEnd < fullEnd && state == BLOCK_FULL;
    if (state == BLOCK_HIDDEN || isNextFull != isFull) { break; }
  }
  return min(runEnd, limit);
}

void main() {
  openProblem();
  const uint tileRow = (gl_WorkGroupID.x + p.firstTile) * gl_WorkGroupSize.x;
  if (HAS(OPTION_PACKED_SEQUENCES) && tileRow >= queryTokens) {
    return;
  }
  const uint ownRow = tileRow + gl_LocalInvocationID.x;
  // Rows past the end repeat the last one and are not stored.
  const uint token = min(ownRow, queryTokens - 1);
  row = openRow(token);
  const uint firstToken = subgroupMin(token);
  const uint lastToken = subgroupMax(token);
  // Blocks are no smaller than a subgroup and begin at its multiples: one row of them, at a uniform address.
  if (HAS_MORE(MORE_OPTION_BLOCK_MAP)) { row.blockMap = blockMapRow(firstToken); }
  const uint64_t address = queryAddress(token);
  [[unroll]] for (uint d = 0; d < QUADS_QK; d++) {
    q[d] = loadQueryQuad(address, d) * row.scale;
  }
  loadState(token, 1, 0, rowMax, rowSum);
  [[unroll]] for (uint e = 0; e < QUADS_V; e++) { o[e] = loadStateChannels4(token, e * 4, rowMax); }

  // Uniform over the subgroup, so that the addresses of keys and values are, too.
  int hullBegin = 0;
  int hullEnd = int(keyTokens);
  int coreBegin = 0;
  int coreEnd = int(keyTokens);
  int sinkHull = 0;
  if (HAS(OPTION_INTERVALS)) {
    hullEnd = max(subgroupMax(row.end), 0);
    coreEnd = subgroupMin(row.end);
    if (HAS(OPTION_LEFT_EDGE)) {
      hullBegin = subgroupMin(row.begin);
      coreBegin = subgroupMax(row.begin);
    }
    if (HAS(OPTION_SINK_TOKENS)) { sinkHull = subgroupMax(row.sinkEnd); }
  }
  // By blocks: all rows see all of fullBegin ..< fullEnd.
  KeyWalk walk = openWalk(hullBegin, hullEnd, sinkHull, KEYS_PER_BLOCK);
  followBlockMap(walk, firstToken, lastToken, KEYS_PER_BLOCK);
  uint key = walk.first;
  const uint fullBegin =
    HAS(OPTION_LEFT_EDGE) ? (uint(coreBegin) + KEYS_PER_BLOCK - 1) / KEYS_PER_BLOCK * KEYS_PER_BLOCK : 0;
  const uint fullEnd =
    HAS_DATA_MASKS && !HAS_MORE(MORE_OPTION_BLOCK_MAP) || coreEnd <= 0
    ? 0 : uint(coreEnd) / KEYS_PER_BLOCK * KEYS_PER_BLOCK;

  const uint keyOctets = QUADS_QK / 2;
  const uint valueOctets = VALUE_IS_KEY ? keyOctets : QUADS_V / 2;
  const uint64_t kStep =
    PACKED ? uint64_t(keyOctets * 32) : uint64_t(p.kTokenStride) * elementBytes(KEY_TYPE);
  const uint64_t vStep =
    PACKED ? uint64_t(valueOctets * 32) : uint64_t(p.vTokenStride) * elementBytes(VALUE_TYPE);
  uint64_t kBase;
  uint64_t vBase;
  if (PACKED) {
    // Each packed sequence begins at a block of its own (attention_pack.comp).
    const uint64_t start = HAS(OPTION_PACKED_SEQUENCES)
      ? uint64_t(firstKeyToken / KEYS_PER_BLOCK + batch) * KEYS_PER_BLOCK : 0ul;
    kBase = p.k + (uint64_t(batch) * p.kBatchStride + uint64_t(keyHead) * p.kHeadStride) * 4 + start * kStep;
    vBase = p.v + (uint64_t(batch) * p.vBatchStride + uint64_t(keyHead) * p.vHeadStride) * 4 + start * vStep;
  } else {
    kBase = keyBaseAddress();
    vBase = valueBaseAddress();
  }

  // All loops test at their end: the software driver finds out that every lane has left only there,
  // so a loop that tests at its start runs its body once more for nothing.
  if (HAS_MORE(MORE_OPTION_BLOCK_MAP)) {
    if (key < walk.end) {
      for (;;) {
        // A loop without a step runs once for nothing: so a run takes in all blocks of its kind, and one that needs no
        // mask comes first, as causal masks have it. Times of a user's mask with its map over the built-in's, lavapipe
        // on 2 cores of an EPYC 7003, S = T = 2048, D = 64, f32 and f16, blocks of 64:
        //
        //                                                                  causal       window 256    16 documents
        //   a run for each block                                           1.34 1.24    1.20 1.32
        //   runs of all blocks of a kind                                   1.19 1.16    1.33 1.37     0.64 0.62
        //   and full steps of partial blocks in full runs                  1.41 1.45    2.33 2.15     0.64 0.64
        //     the masks of steps are asked for twice
        //   runs of blocks, two loads and no loop in stepState()           1.07 1.11    1.26 1.19     0.47 0.51
        //   and full runs first                                            1.12 1.07    1.21 1.22     0.45 0.52
        //     without the copy of the values' loop for steps in which nothing is hidden; that copy makes a mask
        //     without a map 1.2 times as fast, and is kept
        //
        // On two cores of an EPYC 9005 at 512 bits, by turns, medians of three runs:
        //   as above                                                       1.08 1.05    1.16 1.26
        //   hidden blocks passed eight at a time (visibleStep())           1.04 1.08    1.13 1.15
        bool isFull;
        uint runEnd = openRun(walk, key, fullBegin, fullEnd, isFull);
        if (isFull) {
          for (;;) {
            foldBlock(false, 0, key, 0, kBase + key * kStep, vBase + key * vStep, kStep, vStep);
            key += KEYS_PER_BLOCK;
            if (key >= runEnd) { break; }
          }
          key = visibleStep(walk, skipGap(walk, key), KEYS_PER_BLOCK);
          runEnd = openRun(walk, key, fullBegin, fullEnd, isFull);
        }
        if (!isFull && key < runEnd) {
          for (;;) {
            // What follows the break runs once more when all lanes have left.
            uint hidden;
            for (;;) {
              hidden = hiddenKeys(key);
              if (!subgroupAll(hidden == (1u << KEYS_PER_BLOCK) - 1) || key + KEYS_PER_BLOCK >= runEnd) { break; }
              key += KEYS_PER_BLOCK;
            }
            foldBlock(true, hidden, key, keyTokens - 1, kBase + key * kStep, vBase + key * vStep, kStep, vStep);
            key += KEYS_PER_BLOCK;
            if (key >= runEnd) { break; }
          }
          key = visibleStep(walk, skipGap(walk, key), KEYS_PER_BLOCK);
        }
        if (key >= walk.end) { break; }
      }
    }
  } else if (HAS_DATA_MASKS_OR(OPTION_LEFT_EDGE)) {
    if (key < walk.end) {
      for (;;) {
        uint hidden;
        if (HAS_DATA_MASKS_OR(OPTION_SINK_TOKENS)) {
          // The next block in which some row of the subgroup sees a key.
          for (;;) {
            hidden = hiddenKeys(key);
            const uint next = nextStep(walk, key, KEYS_PER_BLOCK);
            if (!subgroupAll(hidden == (1u << KEYS_PER_BLOCK) - 1) || next >= walk.end) { break; }
            key = next;
          }
        } else {
          hidden = hiddenKeys(key);
        }
        foldBlock(true, hidden, key, keyTokens - 1, kBase + key * kStep, vBase + key * vStep, kStep, vStep);
        key = nextStep(walk, key, KEYS_PER_BLOCK);
        if (!HAS_DATA_MASKS && key >= fullBegin && key < fullEnd) {
          for (;;) {
            foldBlock(false, 0, key, 0, kBase + key * kStep, vBase + key * vStep, kStep, vStep);
            key += KEYS_PER_BLOCK;
            if (key >= fullEnd) { break; }
          }
        }
        if (key >= walk.end) { break; }
      }
    }
  } else {
    uint64_t kBlock = kBase;
    uint64_t vBlock = vBase;
    if (fullEnd > 0) {
      for (;;) {
        foldBlock(false, 0, key, 0, kBlock, vBlock, kStep, vStep);
        key += KEYS_PER_BLOCK;
        kBlock += KEYS_PER_BLOCK * kStep;
        vBlock += KEYS_PER_BLOCK * vStep;
        if (key >= fullEnd) { break; }
      }
    }
    if (key < walk.end) {
      for (;;) {
        foldBlock(true, hiddenKeys(key), key, keyTokens - 1, kBlock, vBlock, kStep, vStep);
        key += KEYS_PER_BLOCK;
        kBlock += KEYS_PER_BLOCK * kStep;
        vBlock += KEYS_PER_BLOCK * vStep;
        if (key >= walk.end) { break; }
      }
    }
  }

  if (ownRow < queryTokens) {
    float factor;
    float lse;
    finishRow(token, rowMax, rowSum, factor, lse);
    const uint64_t result = outputAddress(token);
    [[unroll]] for (uint e = 0; e < QUADS_V; e++) {
      if (e * 4 < HEAD_SIZE_V) {
        storeOutputQuad(result, e, MODIFIED_OUTPUT(token, e * 4, o[e] * factor));
        storeStateChannels4(token, e * 4, rowMax, o[e]);
      }
    }
    storeState(token, rowMax, rowSum);
    storeLaneSum(token, 1, 0, rowSum);
    if (p.lse != 0) {
      FloatReference(p.lse + rowIndex(HAS(OPTION_PACKED_SEQUENCES), token) * 4ul).value = lse;
    }
  }
}
