#version 460
// Tiled attention on the matrix units (VK_KHR_cooperative_matrix): f16 in and out, f32 inside.
//
// @spirv-opt off
// @variant attention_matrix
// @variant attention_matrix_software SOFTWARE
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
// Workgroup: SUBGROUPS * SUBGROUP_SIZE invocations (id 0), full subgroups of exactly SUBGROUP_SIZE.
// Grid x: ceil(S / TILE_ROWS) tiles of TILE_ROWS = SUBGROUPS * ROW_FRAGMENTS * FRAGMENT_M rows. With CAUSAL, tile
// t holds the t-th LAST group of rows: a cut by firstTile gets its long tiles first.
//
// Specialization constants (ids 0...4: attention_interface.glsl; ELEMENT_TYPE must be f16)
//   5, 6, 7  FRAGMENT_M, _N, _K   a shape of the device, f16 x f16 -> f32, subgroup scope; multiples of 8
//   8        ROW_FRAGMENTS        fragments of M rows per subgroup; each K or V fragment read serves them all
//   9        KEY_TILE             keys per tile; a multiple of N and of K
//   10       SUBGROUP_SIZE        required of the pipeline
//   11       QUERY_IN_SHARED      Q fragments are read again for each tile instead of kept in registers
//   12       PREFETCH             the loads of the next tile wait in registers while this one is computed on
//   13       LANES_PER_ROW        softmax lanes per row: a power of two, at least SUBGROUP_SIZE / (RF * M), and
//                                 KEY_TILE / LANES_PER_ROW a multiple of K
//   and (RF * M * LANES_PER_ROW) % SUBGROUP_SIZE == 0. Seen with 8x8x8, 16x16x16, 8x16x16 and 16x8x16.
//
// Shared memory, bytes, with D' and E' = D and E rounded up to K and N, R = TILE_ROWS:
//   16 * ( KEY_TILE * (D'/8 + 1)                                        K tile
//        + max(KEY_TILE * (E'/8 + 1), SUBGROUPS * M * N / 4)            V tile, or scratch
//        + R * (KEY_TILE/4 + 1)                                         scores f32, then weights f16
//        + (QUERY_IN_SHARED ? R * (D'/8 + 1) : 0) )                     Q
//   + 4 * R + 8                                                         factors of rows, flags
// Registers per lane, 32 bit, beside about 30 of addresses and row state, SG = SUBGROUP_SIZE:
//   RF * M * (E' + KEY_TILE + (QUERY_IN_SHARED ? 0 : D'/2)) / SG  + (PREFETCH ? about 4 fetches of 16 bytes : 0)
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
#extension GL_GOOGLE_include_directive : require

#include "attention_matrix_tiles.glsl"

// --- One key tile ----------------------------------------------------------------------------------------

Accumulator result[ROW_FRAGMENTS * E_FRAGMENTS];
float reference[ROWS_PER_LANE];
float weightSum[ROWS_PER_LANE];  // over this lane's keys alone, until the end
vec4 scores[ROWS_PER_LANE * SPAN / 4];

/// Raw scores q.k of all rows and the tile's keys, into the score rows.
void computeScores() {
  Accumulator products[ROW_FRAGMENTS * KEY_FRAGMENTS];
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
  UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
    UNROLL for (uint n = 0; n < KEY_FRAGMENTS; ++n) {
      const uint element = scoreBase + r * FRAGMENT_M * SCORE_PITCH + n * (FRAGMENT_N / 4);
      coopMatStore(products[r * KEY_FRAGMENTS + n], arena, element, SCORE_PITCH, ROW_MAJOR);
    }
  }
  SUBGROUP_SYNC();
}

void setRowFactor(uint rowInSubgroup, float factor) {
  const uint row = subgroup * ROWS + rowInSubgroup;
  rowFactors[row / 4][row % 4] = factor;
}

float rowFactor(uint rowInSubgroup) {
  const uint row = subgroup * ROWS + rowInSubgroup;
  return rowFactors[row / 4][row % 4];
}

/// The part of score row `i` of this lane in the arena.
uint spanBase(uint i) {
  return scoreBase + (rowInGroup + i * ROWS_AT_ONCE) * SCORE_PITCH + part * (SPAN / 4);
}

/// Takes this lane's scores out of the arena, hides what the mask hides and finds each row's largest scaled
/// score.
void takeScores(uint firstKey, bool hasHidden, float scale, out float rowMaximum[ROWS_PER_LANE]) {
  const float hidden = hiddenScore(scale);
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    const uint base = spanBase(i);
    [[unroll]] for (uint c = 0; c < SPAN / 4; ++c) {
      scores[i * (SPAN / 4) + c] = uintBitsToFloat(arena[base + c]);
    }
    if (hasHidden) {
      const int visible = int(visibleKeyCount(firstRow + rowInGroup + i * ROWS_AT_ONCE))
        - int(firstKey + part * SPAN);
      [[unroll]] for (uint c = 0; c < SPAN / 4; ++c) {
        const bvec4 seen = lessThan(ivec4(c * 4) + ivec4(0, 1, 2, 3), ivec4(visible));
        scores[i * (SPAN / 4) + c] = mix(vec4(hidden), scores[i * (SPAN / 4) + c], seen);
      }
    }
    vec4 maxima = scores[i * (SPAN / 4)] * scale;
    [[unroll]] for (uint c = 1; c < SPAN / 4; ++c) {
      maxima = max(maxima, scores[i * (SPAN / 4) + c] * scale);
    }
    float maximum = max(max(maxima.x, maxima.y), max(maxima.z, maxima.w));
    [[unroll]] for (uint distance = 1; distance < LANES_PER_ROW; distance *= 2) {
      maximum = max(maximum, subgroupShuffleXor(maximum, distance));
    }
    rowMaximum[i] = maximum;
  }
}

/// Moves the references of the rows whose weights would pass f16's range, and rescales what they weighed.
void moveReferences(float rowMaximum[ROWS_PER_LANE]) {
  bool grows = false;
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    grows = grows || rowMaximum[i] > reference[i] + WEIGHT_LIMIT;
  }
  if (!subgroupAny(grows)) {
    return;
  }
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    // Each row decides for itself, so its bits do not depend on its neighbours.
    float factor = 1.0;
    if (rowMaximum[i] > reference[i] + WEIGHT_LIMIT) {
      const float moved = rowMaximum[i] - WEIGHT_START;
      factor = exp2(reference[i] - moved);
      reference[i] = moved;
      weightSum[i] *= factor;
    }
    if (part == 0) {
      setRowFactor(rowInGroup + i * ROWS_AT_ONCE, factor);
    }
  }
  SUBGROUP_SYNC();
  UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
    // Stride 0: every column is the same column of factors.
    Accumulator factors;
    coopMatLoad(factors, rowFactors, (subgroup * ROWS + r * FRAGMENT_M) / 4, 0, COLUMN_MAJOR);
    UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
      result[r * E_FRAGMENTS + n] = result[r * E_FRAGMENTS + n] * factors;
    }
  }
}

/// Puts this lane's f16 weights of each row in the first half of the place that its f32 scores had.
void computeWeights(float scale) {
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    const uint base = spanBase(i);
    const float offset = weightOffset(reference[i]);
    [[unroll]] for (uint c = 0; c < SPAN / 8; ++c) {
      const vec4 low = scores[i * (SPAN / 4) + 2 * c];
      const vec4 high = scores[i * (SPAN / 4) + 2 * c + 1];
      const vec4 lowWeights = exp2(fma(low, vec4(scale), vec4(offset)));
      const vec4 highWeights = exp2(fma(high, vec4(scale), vec4(offset)));
      const vec4 sums = lowWeights + highWeights;
      weightSum[i] += (sums.x + sums.y) + (sums.z + sums.w);
      arena[base + c] = uvec4(
        packHalf2x16(lowWeights.xy), packHalf2x16(lowWeights.zw),
        packHalf2x16(highWeights.xy), packHalf2x16(highWeights.zw));
    }
  }
}

/// result += weights * V tile
void accumulateValues() {
  UNROLL for (uint step = 0; step < KEY_STEPS; ++step) {
    const uint key = step * FRAGMENT_K;
    const uint unit = key / SPAN * (SPAN / 4) + key % SPAN / 8;
    MatrixA weights[ROW_FRAGMENTS];
    UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
      coopMatLoad(
        weights[r], arena, scoreBase + r * FRAGMENT_M * SCORE_PITCH + unit, SCORE_PITCH, ROW_MAJOR);
    }
    UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
      MatrixB values;
      coopMatLoad(
        values, arena, VALUE_BASE + key * VALUE_PITCH + n * (FRAGMENT_N / 8), VALUE_PITCH, ROW_MAJOR);
      UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
        result[r * E_FRAGMENTS + n] = coopMatMulAdd(weights[r], values, result[r * E_FRAGMENTS + n]);
      }
    }
  }
  SUBGROUP_SYNC();
}

/// The f32 weight of a key, from the tensors themselves.
float exactWeight(uint row, uint key, float scale, float rowReference) {
  const uint64_t q = queryAddress(batch, min(row, p.queryTokens - 1), head);
  const uint64_t k = keyAddress(batch, key, keyHead);
  float score = 0.0;
  for (uint d = 0; d < HEAD_SIZE_QK; d += 4) {
    const vec4 product = loadElements4(ELEMENT_F16, q + d * 2) * loadElements4(ELEMENT_F16, k + d * 2);
    score += (product.x + product.y) + (product.z + product.w);
  }
  return exp2(fma(score, scale, weightOffset(rowReference)));
}

/// Adds the inf and NaN that were left out of the V tile to the rows that see them, and to no other: in a
/// matrix product they would spoil the rows that they are hidden from as well, since 0 * NaN is NaN.
/// The place of the V tile is free: the whole workgroup has done with it.
void accumulateNonFiniteValues(uint firstKey, float scale) {
  const uint scratch = VALUE_BASE + subgroup * FRAGMENT_UNITS;
  const uint64_t base = valueAddress(batch, 0, keyHead);
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    if (part == 0) {
      setRowFactor(rowInGroup + i * ROWS_AT_ONCE, reference[i]);
    }
  }
  SUBGROUP_SYNC();
  for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
    for (uint n = 0; n < E_FRAGMENTS; ++n) {
      for (uint i = lane; i < FRAGMENT_UNITS; i += SUBGROUP_SIZE) {
        const uint row = r * FRAGMENT_M + i / (FRAGMENT_N / 4);
        const uint channel = n * FRAGMENT_N + i % (FRAGMENT_N / 4) * 4;
        const uint end = min(visibleKeyCount(firstRow + row), firstKey + KEY_TILE);
        vec4 sum = vec4(0.0);
        for (uint key = firstKey; key < end && channel < HEAD_SIZE_V; ++key) {
          const uint64_t offset = uint64_t(key) * p.vTokenStride + channel;
          uvec2 words = WordPairReference(base + offset * 2ul).value;
          words &= (nonFiniteHalves(words.xyxy).xy >> 15) * 0xffffu;
          if (words != uvec2(0)) {
            const uint column = key - firstKey;
            const uint unit = column / SPAN * (SPAN / 4) + column % SPAN / 8;
            const vec2 pair = unpackHalf2x16(arena[scoreBase + row * SCORE_PITCH + unit][column % 8 / 2]);
            float weight = column % 2 == 0 ? pair.x : pair.y;
            if (weight == 0.0) {
              // 0 * inf is NaN, but only if f32 has no smaller weight either.
              weight = exactWeight(firstRow + row, key, scale, rowFactor(row));
            }
            // The finite neighbours, 0 here, have been added already.
            sum += weight * vec4(unpackHalf2x16(words.x), unpackHalf2x16(words.y));
          }
        }
        arena[scratch + i] = floatBitsToUint(sum);
      }
      SUBGROUP_SYNC();
      Accumulator addend;
      coopMatLoad(addend, arena, scratch, FRAGMENT_N / 4, ROW_MAJOR);
      UNROLL for (uint f = 0; f < ROW_FRAGMENTS * E_FRAGMENTS; ++f) {
        if (f == r * E_FRAGMENTS + n) {
          result[f] = result[f] + addend;
        }
      }
      SUBGROUP_SYNC();
    }
  }
}

// --- Output ----------------------------------------------------------------------------------------------

void storeResults() {
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    const uint rowInSubgroup = rowInGroup + i * ROWS_AT_ONCE;
    const uint row = firstRow + rowInSubgroup;
    float sum = weightSum[i];
    [[unroll]] for (uint distance = 1; distance < LANES_PER_ROW; distance *= 2) {
      sum += subgroupShuffleXor(sum, distance);
    }
    if (part == 0) {
      setRowFactor(rowInSubgroup, normalisation(sum));
      if (p.lse != 0ul && row < p.queryTokens) {
        FloatReference(lseAddress(batch, row, head)).value =
          naturalLogSum(reference[i], sum);
      }
    }
  }
  UNROLL for (uint first = 0; first < E_FRAGMENTS; first += KEY_FRAGMENTS) {
    const uint fragments = min(KEY_FRAGMENTS, E_FRAGMENTS - first);
    SUBGROUP_SYNC();
    UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
      UNROLL for (uint n = 0; n < fragments; ++n) {
        const uint element = scoreBase + r * FRAGMENT_M * SCORE_PITCH + n * (FRAGMENT_N / 4);
        coopMatStore(result[r * E_FRAGMENTS + first + n], arena, element, SCORE_PITCH, ROW_MAJOR);
      }
    }
    SUBGROUP_SYNC();
    const uint units = fragments * FRAGMENT_N / 8;
    for (uint i = lane; i < ROWS * units; i += SUBGROUP_SIZE) {
      const uint row = firstRow + i / units;
      const uint channel = first * FRAGMENT_N + i % units * 8;
      if (row < p.queryTokens && channel < HEAD_SIZE_V) {
        const uint element = scoreBase + i / units * SCORE_PITCH + i % units * 2;
        const float factor = rowFactor(i / units);
        const vec4 low = uintBitsToFloat(arena[element]) * factor;
        const vec4 high = uintBitsToFloat(arena[element + 1]) * factor;
        WordQuadReference(outputAddress(batch, row, head) + channel * 2).value = uvec4(
          packHalf2x16(low.xy), packHalf2x16(low.zw), packHalf2x16(high.xy), packHalf2x16(high.zw));
      }
    }
  }
}

void main() {
  batch = gl_WorkGroupID.z;
  head = gl_WorkGroupID.y;
  keyHead = head / p.headsPerGroup;
  lane = gl_SubgroupInvocationID;
  subgroup = gl_SubgroupID;

  uint tile = p.firstTile + gl_WorkGroupID.x;
  if (CAUSAL) {
    // Later rows see more keys: begin with the long tiles, so that the short ones fill the end.
    tile = (p.queryTokens + TILE_ROWS - 1) / TILE_ROWS - 1 - tile;
  }
  firstRow = tile * TILE_ROWS + subgroup * ROWS;
  scoreBase = SCORE_BASE + subgroup * ROWS * SCORE_PITCH;
  rowInGroup = lane / LANES_PER_ROW;
  part = lane % LANES_PER_ROW;

  const uint lastRow = p.queryTokens - 1;
  const uint endKey = visibleKeyCount(min(tile * TILE_ROWS + TILE_ROWS - 1, lastRow));
  const uint keyTiles = (endKey + KEY_TILE - 1) / KEY_TILE;
  // What this subgroup's rows see in any case, and at most.
  const uint allSee = visibleKeyCount(firstRow);
  const uint someSee = firstRow > lastRow ? 0 : visibleKeyCount(min(firstRow + ROWS - 1, lastRow));
  const float scale = log2Scale(p.scale);

  loadQueries();
  UNROLL for (uint i = 0; i < ROW_FRAGMENTS * E_FRAGMENTS; ++i) {
    result[i] = Accumulator(0.0);
  }
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    reference[i] = -INFINITY;
    weightSum[i] = 0.0;
  }
  if (gl_LocalInvocationIndex < 2) {
    nonFinite[gl_LocalInvocationIndex] = 0;
  }
  if (PREFETCH && keyTiles > 0) {
    fetchKeys(0);
  }
  barrier();

  for (uint t = 0; t < keyTiles; ++t) {
    const uint firstKey = t * KEY_TILE;
    const bool seesTile = firstKey < someSee;
    if (PREFETCH) {
      stageKeys();
      fetchValues(firstKey);
    } else {
      fetchKeys(firstKey);
      fetchValues(firstKey);
      stageKeys();
      stageValues(t & 1);
    }
    barrier();
    if (gl_LocalInvocationIndex == 0) {
      nonFinite[(t + 1) & 1] = 0;
    }
    if (seesTile) {
      computeScores();
      float rowMaximum[ROWS_PER_LANE];
      takeScores(firstKey, firstKey + KEY_TILE > allSee, scale, rowMaximum);
      moveReferences(rowMaximum);
      computeWeights(scale);
      SUBGROUP_SYNC();
    }
    if (PREFETCH) {
      stageValues(t & 1);
      if (t + 1 < keyTiles) {
        fetchKeys(firstKey + KEY_TILE);
      }
      barrier();
    }
    if (seesTile) {
      accumulateValues();
    }
    if (nonFinite[t & 1] != 0) {
      barrier();
      if (seesTile) {
        accumulateNonFiniteValues(firstKey, scale);
      }
      barrier();
    }
    if (!PREFETCH) {
      barrier();
    }
  }
  storeResults();
}
