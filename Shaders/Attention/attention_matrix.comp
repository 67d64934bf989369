#version 460
// Tiled attention on the matrix units: q, k and v in f16 or bf16, o in any type, f32 inside. Two paths of one kernel:
// `matrix` with VK_KHR_cooperative_matrix, described here, and `matrix2`, whose scores stay in registers
// (VK_NV_cooperative_matrix2), in attention_matrix2_scores.glsl where it differs.
//
// @spirv-opt off
// @variant attention_matrix
// @variant attention_matrix_software SOFTWARE
// @variant attention_matrix2 vulkan1.3 MATRIX2
// @variant attention_matrix2_software vulkan1.3 MATRIX2 SOFTWARE
//
//   each workgroup: TILE_ROWS query rows of one head; each subgroup: ROWS of them, alone
//     Q fragments -> registers; result fragments = 0; reference = -inf; weightSum = 0
//     for each tile of KEY_TILE keys that some row of the workgroup sees:
//       K tile -> shared;                                                                    workgroup barrier
//       scores = Q K^T (fragments, f32) -> this subgroup's score rows in shared
//       lanes: take scores, mask, row maxima; where a weight would pass 2^15: move the row's reference,
//              result fragments *= factors (loaded with stride 0, so constant along a row)
//       lanes: weights = 2^(score * scale * log2 e - reference), f32 sums, f16 -> the score rows
//       V tile -> shared (its loads flew during the above);                                  workgroup barrier
//       result += weights V (fragments);  the next K tile's loads fly meanwhile
//     output = result / weightSum, through the score rows; lse = (reference + log2 weightSum) ln 2
//
// What is never done: no f16 accumulation, no finite stand-in for -inf, no rescale of tiles whose maxima do not
// grow past the head room, no workgroup barrier but the two around the tile loads.
//
// Masked and missing data. Keys past T and channels past D or E are staged as zeros. A hidden score is replaced
// before the maximum, so data in hidden K never counts. A hidden V row meets a weight of 0, but 0 * NaN is NaN
// and a product has no select: so inf and NaN are taken out of every V tile as it is staged (four integer
// operations per word), and a tile that had any gets them added back by ordinary lanes, only to the rows that
// see them and with the exact weight. While V is finite no one takes that detour.
//
// bf16. The matrices are f16, so what is bf16 becomes f16 times a power of two, by its greatest finite number: of a
// subgroup's rows of q, of each tile of k and of v, found before the tile is staged, with one more workgroup barrier.
// It is exact where a number is more than 2^-31 of that greatest one and more than 2^-117, so that results keep their
// bits whatever the exponents are; what is smaller loses digits. Keys that intervals hide from all rows of the
// workgroup set no exponent, keys that only masks that are data hide do. Products are brought back before they are
// scores, and weights V, in sums of the tile's own, before they are added to the result, which is then as with f16.
// Weights are rounded to f16 as ever. A result is a sum of weights up to 2^15, so |v| must stay below 2^112 / T. Each
// of q, k and v has a type of its own, and with f16 alone nothing of this is in the pipeline. (glslc has no
// GL_EXT_bfloat16 before shaderc 2026, and lavapipe lists no bf16 products.)
//
// Workgroup: SUBGROUPS * SUBGROUP_SIZE invocations (id 0), full subgroups of exactly SUBGROUP_SIZE.
// Grid x: ceil(S / TILE_ROWS) tiles of TILE_ROWS = SUBGROUPS * ROW_FRAGMENTS * FRAGMENT_M rows. With CAUSAL, tile
// t holds the t-th LAST group of rows: a cut by firstTile gets its long tiles first.
//
// Specialization constants (ids 0...4, 16...: attention_interface.glsl; QUERY_TYPE, KEY_TYPE, VALUE_TYPE not f32)
//   5, 6, 7  FRAGMENT_M, _N, _K   a shape of the device, f16 x f16 -> f32, subgroup scope; multiples of 8
//   8        ROW_FRAGMENTS        fragments of M rows per subgroup; each K or V fragment read serves them all
//   9        KEY_TILE             keys per tile; a multiple of N and of K
//   10       SUBGROUP_SIZE        required of the pipeline
//   11       QUERY_IN_SHARED      Q fragments are read again for each tile instead of kept in registers
//   12       PREFETCH             the loads of the next tile wait in registers while this one is computed on; not with
//                                 k or v in bf16
//   13       LANES_PER_ROW        softmax lanes per row: a power of two, at least SUBGROUP_SIZE / (RF * M), and
//                                 KEY_TILE / LANES_PER_ROW a multiple of K
//   and (RF * M * LANES_PER_ROW) % SUBGROUP_SIZE == 0. Seen with 8x8x8, 16x16x16, 8x16x16 and 16x8x16.
//
// Shared memory, bytes, with D' and E' = D and E rounded up to K and N, R = TILE_ROWS:
//   16 * ( KEY_TILE * (D'/8 + 1)                                        K tile
//        + max(KEY_TILE * (E'/8 + 1), SUBGROUPS * M * N / 4)            V tile, or scratch
//        + R * (KEY_TILE/4 + 1)                                         scores f32, then weights f16
//        + (QUERY_IN_SHARED ? R * (D'/8 + 1) : 0) )                     Q
//   + 4 * R + 24                                                        factors of rows, flags, maxima of bf16 tiles
// Registers per lane, 32 bit, beside about 30 of addresses and row state, SG = SUBGROUP_SIZE:
//   RF * M * (E' + KEY_TILE + (QUERY_IN_SHARED ? 0 : D'/2)) / SG  + (PREFETCH ? about 4 fetches of 16 bytes : 0)
//   + (v in bf16 ? RF * M * (N + KEY_TILE / 2) / SG : 0)                  sums and weights of the tile
//
// Device: VK_KHR_cooperative_matrix (cooperativeMatrix), vulkanMemoryModel, shaderFloat16, shaderInt64,
// bufferDeviceAddress, scalarBlockLayout; subgroup basic, vote, shuffle in compute; subgroupSizeControl and
// computeFullSubgroups. Shapes that the device does not list (16x16x16 on lavapipe) need VK_NV_cooperative_matrix2
// with cooperativeMatrixFlexibleDimensions. The software variant is for devices of type CPU.
//
// Traffic per score and the choice of ROW_FRAGMENTS, 16x16x16: K and V fragments cost (D + E) * 2 / (RF * 16)
// bytes of shared memory, scores and weights 12 (write 4, read 4, write 2, read 2). D = E = 128: 32 + 12 at
// RF = 1, 16 + 12 at RF = 2. A multiprocessor that does 1024 multiply-adds and 128 shared bytes a clock needs
// 0.25 clocks for the products, 0.34 or 0.22 for the bytes: RF = 2 where the registers allow it. Global
// traffic per tile is (D + E) * 2 bytes per key for TILE_ROWS rows: 128 rows make 128 multiply-adds per byte.
//
// Ladder (software variant on lavapipe, GFLOP/s; not yet measured on a GPU). One thread, B1 H4 S=T=512:
//   8x8x8,    D=E=64:  1 fragment, 32 keys  5.2    2 fragments  5.8    4 fragments  5.6   2 fragments, 64 keys  5.5
//   16x16x16, D=E=64:  1 fragment, 32 keys  6.6    2 fragments  6.4    64 keys  6.0       1 subgroup  5.6
//   D=E=128:  8x8x8, 2 fragments, 32 keys  5.5     16x16x16, 1 fragment, 32 keys  6.4     16 keys, 4 subgroups  7.0
// Two threads, B1 H8 S=T=1024 D=E=64, score rows still read twice: 8x8x8 10.9, 16x16x16 12.6, one subgroup 10.1;
// one subgroup with every loop unrolled 9.0, and 10 s to compile instead of 2.
//
//   attention_matrix_tiles.glsl     sizes, the layout of shared memory, loads of tiles and queries
//   attention_matrix_scores.glsl    path matrix: from raw scores to weights, by ordinary lanes
//   attention_matrix2_scores.glsl   path matrix2: the same in matrices
//   attention_matrix_results.glsl   inf and NaN of V, results out of memory and into it
#extension GL_GOOGLE_include_directive : require

#include "attention_matrix_tiles.glsl"

// --- One key tile ----------------------------------------------------------------------------------------

Accumulator result[ROW_FRAGMENTS * E_FRAGMENTS];
Accumulator products[ROW_FRAGMENTS * KEY_FRAGMENTS];

/// products = the raw scores q.k of all rows and the tile's keys.
void computeProducts() {
  UNROLL for (uint i = 0; i < ROW_FRAGMENTS * KEY_FRAGMENTS; ++i) {
    products[i] = Accumulator(0.0);
  }
  UNROLL for (uint step = 0; step < D_STEPS; ++step) {
    if (QUERY_IN_SHARED) {
      UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
        const uint row = subgroup * ROWS + r * FRAGMENT_M;
        coopMatLoad(
          query[r], arena, QUERY_BASE + row * KEY_PITCH + step * (FRAGMENT_K / 8), KEY_PITCH, ROW_MAJOR);
      }
    }
    UNROLL for (uint n = 0; n < KEY_FRAGMENTS; ++n) {
      MatrixB keys;
      coopMatLoad(
        keys, arena, n * FRAGMENT_N * KEY_PITCH + step * (FRAGMENT_K / 8), KEY_PITCH, COLUMN_MAJOR);
      UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
        const uint fragment = QUERY_IN_SHARED ? r : r * D_STEPS + step;
        products[r * KEY_FRAGMENTS + n] =
          coopMatMulAdd(query[fragment], keys, products[r * KEY_FRAGMENTS + n]);
      }
    }
  }
}

#ifdef MATRIX2
#include "attention_matrix2_scores.glsl"
#else
#include "attention_matrix_scores.glsl"
#endif

/// result += weights * V tile * 2^-valueExponent: in sums of the tile's own, for the next one has another exponent.
void accumulateScaledValues() {
  const float factor = powerOfTwo(-valueExponent);
  MatrixP weights[ROW_FRAGMENTS * KEY_STEPS];
  UNROLL for (uint i = 0; i < ROW_FRAGMENTS * KEY_STEPS; ++i) {
    takeWeights(i / KEY_STEPS, i % KEY_STEPS, weights[i]);
  }
  UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
    Accumulator sums[ROW_FRAGMENTS];
    UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) { sums[r] = Accumulator(0.0); }
    UNROLL for (uint step = 0; step < KEY_STEPS; ++step) {
      MatrixV values;
      coopMatLoad(
        values, arena, VALUE_BASE + step * VALUE_STEP * VALUE_PITCH + n * (FRAGMENT_N / 8), VALUE_PITCH, ROW_MAJOR);
      UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
        sums[r] = coopMatMulAdd(weights[r * KEY_STEPS + step], values, sums[r]);
      }
    }
    UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
      result[r * E_FRAGMENTS + n] = result[r * E_FRAGMENTS + n] + sums[r] * factor;
    }
  }
}

/// result += weights * V tile
void accumulatePlainValues() {
  UNROLL for (uint step = 0; step < KEY_STEPS; ++step) {
    MatrixP weights[ROW_FRAGMENTS];
    UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) { takeWeights(r, step, weights[r]); }
    UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
      MatrixV values;
      coopMatLoad(
        values, arena, VALUE_BASE + step * VALUE_STEP * VALUE_PITCH + n * (FRAGMENT_N / 8), VALUE_PITCH, ROW_MAJOR);
      UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
        result[r * E_FRAGMENTS + n] = coopMatMulAdd(weights[r], values, result[r * E_FRAGMENTS + n]);
      }
    }
  }
}

void accumulateValues() {
  if (VALUES_SCALED) {
    accumulateScaledValues();
  } else {
    accumulatePlainValues();
  }
#ifndef MATRIX2
  // The next scores take the place of these weights.
  SUBGROUP_SYNC();
#endif
}

#include "attention_matrix_results.glsl"

void main() {
  openProblem();
  lane = gl_SubgroupInvocationID;
  subgroup = gl_SubgroupID;

  uint tile = p.firstTile + gl_WorkGroupID.x;
  if (HAS(OPTION_PACKED_SEQUENCES) && tile * TILE_ROWS >= queryTokens) {
    return;
  }
  if (HAS(OPTION_CAUSAL)) {
    // Later rows see more keys: begin with the long tiles, so that the short ones fill the end.
    tile = (queryTokens + TILE_ROWS - 1) / TILE_ROWS - 1 - tile;
  }
  firstRow = tile * TILE_ROWS + subgroup * ROWS;
  scoreBase = SCORE_BASE + subgroup * ROWS * SCORE_PITCH;

  const uint lastRow = queryTokens - 1;
  const int lastTileRow = int(min(tile * TILE_ROWS + TILE_ROWS - 1, lastRow));
  const KeyWalk walk = openTileWalk(int(tile * TILE_ROWS), lastTileRow, KEY_TILE);
  // What this subgroup's rows see in any case, and at most.
  const int lastOwnRow = int(min(firstRow + ROWS - 1, lastRow));
  const int hullBegin = beginKey(int(firstRow));
  const int hullEnd = firstRow > lastRow ? 0 : endKey(lastOwnRow);
  const int sinkHull = firstRow > lastRow ? 0 : sinkEnd(lastOwnRow);
  const int coreBegin = beginKey(lastOwnRow);
  const int coreEnd = HAS(OPTION_GATES) ? 0 : endKey(int(firstRow));
  // Where scores are mapped they are exponents of 2 already.
  const float scale = MAPS_SCORES ? 1.0 : log2Scale(p.scale);

  if (TILES_SCALED) {
    seenBegin = beginKey(int(tile * TILE_ROWS));
    seenEnd = endKey(lastTileRow);
    seenSinks = sinkEnd(lastTileRow);
  }
  keyExponent = 0;
  valueExponent = 0;
  loadQueries();
  openRows();
  if (HAS(OPTION_RESUME | OPTION_KEY_RANGE)) {
    loadResults();
  } else {
    UNROLL for (uint i = 0; i < ROW_FRAGMENTS * E_FRAGMENTS; ++i) {
      result[i] = Accumulator(0.0);
    }
  }
  if (gl_LocalInvocationIndex < 2) {
    nonFinite[gl_LocalInvocationIndex] = 0;
  }
  if (TILES_SCALED && gl_LocalInvocationIndex < 4) { tileMaxima[gl_LocalInvocationIndex] = 0; }
  uint firstKey = walk.first;
  if (PREFETCH && firstKey < walk.end) {
    fetchKeys(firstKey);
  }
  barrier();

  for (uint t = 0; firstKey < walk.end; ++t) {
    const uint nextKey = nextStep(walk, firstKey, KEY_TILE);
    bool seesTile = int(firstKey) < hullEnd && int(firstKey + KEY_TILE) > hullBegin;
    if (HAS(OPTION_SINK_TOKENS)) { seesTile = seesTile || int(firstKey) < sinkHull; }
    if (PREFETCH) {
      stageKeys(t & 1);
      fetchValues(firstKey);
    } else {
      fetchKeys(firstKey);
      fetchValues(firstKey);
      if (TILES_SCALED) { findTileExponents(firstKey, t & 1); }
      stageKeys(t & 1);
      stageValues(t & 1);
    }
    barrier();
    if (gl_LocalInvocationIndex == 0) {
      nonFinite[(t + 1) & 1] = 0;
      if (TILES_SCALED) {
        tileMaxima[(t + 1 & 1) * 2] = 0;
        tileMaxima[(t + 1 & 1) * 2 + 1] = 0;
      }
    }
    if (seesTile) {
      const bool hasHidden = int(firstKey) < coreBegin || int(firstKey + KEY_TILE) > coreEnd
        || stepHasDataMasks(walk, firstKey, KEY_TILE);
      if (hasHidden) { seesTile = lookUpTile(firstKey); }
      if (seesTile) {
        computeProducts();
        weighProducts(firstKey, hasHidden, scale);
      }
    }
    if (PREFETCH) {
      stageValues(t & 1);
      if (nextKey < walk.end) {
        fetchKeys(nextKey);
      }
      barrier();
    }
    if (seesTile) {
      accumulateValues();
    }
    if (nonFinite[t & 1] != 0) {
      barrier();
      if (seesTile) {
        accumulateNonFiniteValues(firstKey);
      }
      barrier();
    }
    if (!PREFETCH) {
      barrier();
    }
    firstKey = nextKey;
  }
#ifdef MATRIX2
  // What the rows go through on their way out is the place of the tiles.
  if (PREFETCH) { barrier(); }
#endif
  storeResults();
}
