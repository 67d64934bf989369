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

Row rows[ROWS_PER_LANE];
uint hidden[ROWS_PER_LANE];  // bit c: key c of this lane's span gives the row nothing

/// hidden = what the masks hide of the tile; false where that is all of it, for every row of the subgroup.
bool lookUpTile(uint firstKey) {
  bool seesSome = false;
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    hidden[i] = 0;
    for (uint c = 0; c < SPAN; ++c) {
      if (!seesKey(rows[i], int(firstKey + part * SPAN + c))) { hidden[i] |= 1u << c; }
    }
    seesSome = seesSome || hidden[i] != 0xffffffffu >> (32 - SPAN);
  }
  return subgroupAny(seesSome);
}

/// Takes this lane's scores out of the arena, maps them, hides what the masks hide and finds each row's largest
/// scaled score.
void takeScores(uint firstKey, bool hasHidden, float scale, out float rowMaximum[ROWS_PER_LANE]) {
  const float hiddenValue = hiddenScore(scale);
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    const uint base = spanBase(i);
    [[unroll]] for (uint c = 0; c < SPAN / 4; ++c) {
      scores[i * (SPAN / 4) + c] = uintBitsToFloat(arena[base + c]);
    }
    if (MAPS_SCORES) {
      UNROLL for (uint c = 0; c < SPAN; ++c) {
        scores[i * (SPAN / 4) + c / 4][c % 4] = mapScore(
          rows[i], scores[i * (SPAN / 4) + c / 4][c % 4] * rows[i].scale, int(firstKey + part * SPAN + c));
      }
    }
    if (hasHidden) {
      [[unroll]] for (uint c = 0; c < SPAN / 4; ++c) {
        const bvec4 isHidden =
          notEqual(uvec4(hidden[i]) >> (uvec4(c * 4) + uvec4(0, 1, 2, 3)) & 1u, uvec4(0));
        scores[i * (SPAN / 4) + c] = mix(scores[i * (SPAN / 4) + c], vec4(hiddenValue), isHidden);
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

/// The f32 weight of a key, from the tensors themselves; -1 where the row's score is -inf.
float exactWeight(Row row, uint key, float rowReference) {
  const uint64_t q = queryAddress(uint(row.token));
  const uint64_t k = keyBaseAddress() + uint64_t(key) * p.kTokenStride * 2ul;
  float score = 0.0;
  for (uint d = 0; d < HEAD_SIZE_QK; d += 4) {
    const vec4 product =
      loadQueryChannels4(q, d) * loadChannels4(ELEMENT_F16, ALIGNED, k, d, HEAD_SIZE_QK);
    score += (product.x + product.y) + (product.z + product.w);
  }
  const float offset = weightOffset(rowReference);
  if (MAPS_SCORES) {
    score = mapScore(row, score * row.scale, int(key));
    return MAPS_TO_HIDDEN && score == -INFINITY ? -1.0 : exp2(score + offset);
  }
  return exp2(fma(score, row.scale, offset));
}

/// Adds the inf and NaN that were left out of the V tile to the rows that see them, and to no other: in a
/// matrix product they would spoil the rows that they are hidden from as well, since 0 * NaN is NaN.
/// The place of the V tile is free: the whole workgroup has done with it.
void accumulateNonFiniteValues(uint firstKey) {
  const uint scratch = VALUE_BASE + subgroup * FRAGMENT_UNITS;
  const uint64_t base = valueBaseAddress();
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
        const Row asked = openRow(min(firstRow + row, queryTokens - 1));
        const uint end = min(keyTokens, firstKey + KEY_TILE);
        vec4 sum = vec4(0.0);
        for (uint key = firstKey; key < end && channel < HEAD_SIZE_V; ++key) {
          if (!seesKey(asked, int(key))) { continue; }
          const uint64_t value = base + uint64_t(key) * p.vTokenStride * 2ul;
          vec4 numbers = loadChannels4(ELEMENT_F16, ALIGNED, value, channel, HEAD_SIZE_V);
          const bvec4 isFinite = lessThan(abs(numbers), vec4(INFINITY));
          // The finite neighbours have been added already.
          numbers = mix(numbers, vec4(0.0), isFinite);
          if (!all(isFinite)) {
            const uint column = key - firstKey;
            const uint unit = column / SPAN * (SPAN / 4) + column % SPAN / 8;
            const vec2 pair = unpackHalf2x16(arena[scoreBase + row * SCORE_PITCH + unit][column % 8 / 2]);
            float weight = column % 2 == 0 ? pair.x : pair.y;
            if (weight == 0.0) {
              // 0 * inf is NaN, but only if f32 has no smaller weight either.
              weight = exactWeight(asked, key, rowFactor(row));
            }
            if (weight >= 0.0 || isnan(weight)) { sum += weight * numbers; }
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

// PARTS_OF_FRAGMENTS. Fragments go to memory and back through the score rows, some at a time, in a rolled loop that
// asks every fragment whether it is one of them. A loop around one with an unknown number of trips is not unrolled by
// Mesa whatever it is told, and fragments indexed by what is not a constant lie in memory for the whole kernel: RADV
// for NAVI31 then kept Q and O of D = E = 256 in 1536 bytes of scratch for each lane, and reached 16 fragments of
// D = E = 128 by comparisons (119 branches).

/// Between the result fragments and memory, through the score rows: rows of E_PADDED channels, some at a time.
void loadResults() {
  [[dont_unroll]] for (uint first = 0; first < E_FRAGMENTS; first += KEY_FRAGMENTS) {
    const uint fragments = min(KEY_FRAGMENTS, E_FRAGMENTS - first);
    SUBGROUP_SYNC();
    const uint units = fragments * FRAGMENT_N / 4;
    for (uint i = lane; i < ROWS * units; i += SUBGROUP_SIZE) {
      const uint token = min(firstRow + i / units, queryTokens - 1);
      const uint channel = first * FRAGMENT_N + i % units * 4;
      vec4 values = loadStateChannels4(token, channel, rowFactor(i / units));
      arena[scoreBase + i / units * SCORE_PITCH + i % units] = floatBitsToUint(values);
    }
    SUBGROUP_SYNC();
    UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
      if (n >= first && n < first + fragments) {
        UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
          const uint element =
            scoreBase + r * FRAGMENT_M * SCORE_PITCH + (n - first) * (FRAGMENT_N / 4);
          coopMatLoad(result[r * E_FRAGMENTS + n], arena, element, SCORE_PITCH, ROW_MAJOR);
        }
      }
    }
  }
  SUBGROUP_SYNC();
}

void storeResults() {
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    const uint rowInSubgroup = rowInGroup + i * ROWS_AT_ONCE;
    const uint row = firstRow + rowInSubgroup;
    float sum = weightSum[i];
    [[unroll]] for (uint distance = 1; distance < LANES_PER_ROW; distance *= 2) {
      sum += subgroupShuffleXor(sum, distance);
    }
    if (row < queryTokens) { storeLaneSum(row, LANES_PER_ROW, part, weightSum[i]); }
    if (part == 0) {
      float factor;
      float lse;
      finishRow(min(row, queryTokens - 1), reference[i], sum, factor, lse);
      setRowFactor(rowInSubgroup, factor);
      // The unit of padding behind a row of scores is free.
      arena[scoreBase + rowInSubgroup * SCORE_PITCH + KEY_TILE / 4] = floatBitsToUint(vec4(reference[i]));
      if (row < queryTokens) {
        storeState(row, reference[i], sum);
        if (p.lse != 0ul) {
          FloatReference(p.lse + rowIndex(HAS(OPTION_PACKED_SEQUENCES), row) * 4ul).value = lse;
        }
      }
    }
  }
  [[dont_unroll]] for (uint first = 0; first < E_FRAGMENTS; first += KEY_FRAGMENTS) {
    const uint fragments = min(KEY_FRAGMENTS, E_FRAGMENTS - first);
    SUBGROUP_SYNC();
    UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
      if (n >= first && n < first + fragments) {
        UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
          const uint element =
            scoreBase + r * FRAGMENT_M * SCORE_PITCH + (n - first) * (FRAGMENT_N / 4);
          coopMatStore(result[r * E_FRAGMENTS + n], arena, element, SCORE_PITCH, ROW_MAJOR);
        }
      }
    }
    SUBGROUP_SYNC();
    const uint units = fragments * FRAGMENT_N / 8;
    for (uint i = lane; i < ROWS * units; i += SUBGROUP_SIZE) {
      const uint row = firstRow + i / units;
      const uint channel = first * FRAGMENT_N + i % units * 8;
      if (row < queryTokens && channel < HEAD_SIZE_V) {
        const uint element = scoreBase + i / units * SCORE_PITCH + i % units * 2;
        const float factor = rowFactor(i / units);
        const vec4 low = uintBitsToFloat(arena[element]);
        const vec4 high = uintBitsToFloat(arena[element + 1]);
        const uint64_t address = outputAddress(row);
        if (ALIGNED && OUTPUT_TYPE == ELEMENT_F16) {
          const vec4 a = MODIFIED_OUTPUT(row, channel, low * factor);
          const vec4 b = MODIFIED_OUTPUT(row, channel + 4, high * factor);
          WordQuadReference(address + channel * 2).value =
            uvec4(packHalf2x16(a.xy), packHalf2x16(a.zw), packHalf2x16(b.xy), packHalf2x16(b.zw));
        } else {
          storeChannels4(
            OUTPUT_TYPE, ALIGNED, address, channel, HEAD_SIZE_V, MODIFIED_OUTPUT(row, channel, low * factor));
          storeChannels4(
            OUTPUT_TYPE, ALIGNED, address, channel + 4, HEAD_SIZE_V,
            MODIFIED_OUTPUT(row, channel + 4, high * factor));
        }
        if (HAS(OPTION_RETURN_STATE | OPTION_KEY_RANGE)) {
          const float rowReference = uintBitsToFloat(arena[scoreBase + i / units * SCORE_PITCH + KEY_TILE / 4].x);
          storeStateChannels4(row, channel, rowReference, low);
          storeStateChannels4(row, channel + 4, rowReference, high);
        }
      }
    }
  }
}

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
  rowInGroup = lane / LANES_PER_ROW;
  part = lane % LANES_PER_ROW;

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

  loadQueries();
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    const uint rowInSubgroup = rowInGroup + i * ROWS_AT_ONCE;
    const uint token = min(firstRow + rowInSubgroup, lastRow);
    rows[i] = openRow(token);
    loadState(token, LANES_PER_ROW, part, reference[i], weightSum[i]);
    if (part == 0) { setRowFactor(rowInSubgroup, reference[i]); }
  }
  if (HAS(OPTION_RESUME | OPTION_KEY_RANGE)) {
    SUBGROUP_SYNC();
    loadResults();
  } else {
    UNROLL for (uint i = 0; i < ROW_FRAGMENTS * E_FRAGMENTS; ++i) {
      result[i] = Accumulator(0.0);
    }
  }
  if (gl_LocalInvocationIndex < 2) {
    nonFinite[gl_LocalInvocationIndex] = 0;
  }
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
      stageKeys(t & 1);
      stageValues(t & 1);
    }
    barrier();
    if (gl_LocalInvocationIndex == 0) {
      nonFinite[(t + 1) & 1] = 0;
    }
    if (seesTile) {
      const bool hasHidden = int(firstKey) < coreBegin || int(firstKey + KEY_TILE) > coreEnd
        || stepHasDataMasks(walk, firstKey, KEY_TILE);
      if (hasHidden) { seesTile = lookUpTile(firstKey); }
      if (seesTile) {
        computeScores();
        float rowMaximum[ROWS_PER_LANE];
        takeScores(firstKey, hasHidden, scale, rowMaximum);
        moveReferences(rowMaximum);
        computeWeights(scale);
        SUBGROUP_SYNC();
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
  storeResults();
}
