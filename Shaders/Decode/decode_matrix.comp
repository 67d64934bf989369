#version 460

// Lean decode, path `matrix`: the rows of a problem fill the fragments of VK_KHR_cooperative_matrix.
//
// @spirv-opt off
// @variant decode_matrix
// @variant decode_matrix_software SOFTWARE
//
//   for each segment of the workgroup (decode_interface.glsl), for the ROWS rows of its tile:
//     Q fragments -> registers;  result fragments = 0;  reference = -inf;  weightSum = 0
//     for each tile of KEY_TILE keys that some row sees:
//       K tile -> shared, as f16, dequantised and rotated                                     workgroup barrier
//       scores = Q K^T: a subgroup takes some of the keys, or some of their channels -> shared
//       V tile -> shared (its loads flew during the above)                                    workgroup barrier
//       lanes: scale, map, mask; row maxima; where a weight would pass 2^15: move the row's reference
//       weights = 2^(score - reference) as f16 -> shared, f32 sums                            workgroup barrier
//       result = result * factors + weights V: a subgroup takes some of the channels
//     o_r = result / weightSum and lse_r, or (reference, weightSum, result) into the segment's slot
//
// Every number of the cache is read and converted once for all rows of a tile, by the whole workgroup. No two
// subgroups add to the same number but through planes of scores that are summed up in their order: deterministic.
// Nothing is left to merge at a segment's end, and a subgroup's registers hold its share of the result alone, which
// is what lets latent attention (E = 512) run. Where values are keys, the K tile is the V tile.
//
// f16 inside: queries, keys, values and weights, with sums and statistics in f32. A key's number beyond 65504 makes
// its score inf or NaN.
//
// Masked and missing data. A hidden score is replaced before the maximum, so hidden keys never count. A hidden value
// meets a weight of 0, but 0 * NaN is NaN and a product has no select: so inf and NaN are taken out of every V tile
// as it is staged, and a tile that had any gets them added by ordinary lanes, to the rows that see them. Where
// values are keys, a row that sees a key with inf or NaN becomes NaN as a whole.
//
// Workgroup: SUBGROUPS * SUBGROUP_SIZE invocations (id 0), full subgroups of exactly SUBGROUP_SIZE. Grid: x (and y)
// = groups of the schedule, whose tiles of keys are multiples of KEY_TILE.
//
// Specialization constants (others: attention_interface.glsl, decode_interface.glsl)
//   5           ROW_FRAGMENTS         fragments of M rows of a tile: ROWS = ROW_FRAGMENTS * M
//   22          SUBGROUP_SIZE
//   23, 24, 25  FRAGMENT_M, _N, _K    a shape of the device, f16 x f16 -> f32, subgroup scope; multiples of 8
//   26          KEY_TILE              keys of a tile: a multiple of N and of K, at least M
//   27          CHANNEL_PARTS         a divisor of SUBGROUPS: into how many parts subgroups cut the channels of q.k;
//                                     the others cut the keys. Q fragments in registers are as many times fewer,
//                                     planes of scores as many times more
//   28          LANES_PER_ROW         softmax lanes per row: a power of two, at most SUBGROUP_SIZE, and
//                                     KEY_TILE / LANES_PER_ROW a multiple of 8, at most 32
//   29          PREFETCH              the loads of the next K tile wait in registers during softmax and P V
//
// Shared memory, bytes, with D' and E' = D and E rounded up to K and N:
//   16 * ( KEY_TILE * (D'/8 + 1)                                              K tile, and before it Q
//        + (VALUE_IS_KEY ? 0 : KEY_TILE * (E'/8 + 1))                         V tile
//        + max(CHANNEL_PARTS * ROWS * (KEY_TILE/4 + 1), SUBGROUPS * M * N/4)  scores f32, or scratch
//        + ROWS * (KEY_TILE/8 + 1) )                                          weights f16
//   + 4 * ROWS + (VALUE_IS_KEY ? 4 : 4 * ROWS * LANES_PER_ROW)                factors, seen keys
//   + 8 * ceil(KEY_TILE / 32) + 12 + 20                                       flags, hull
// Registers per lane, 32 bit, beside addresses and row state:
//   ROWS * (E' / SUBGROUPS + D' / CHANNEL_PARTS / 2) / SUBGROUP_SIZE + 4 * (fetches of K and V)
//
// Ladder: not yet measured on a GPU.
#extension GL_GOOGLE_include_directive : require

#include "decode_matrix_tiles.glsl"

// A row's weights are 2^(score - reference), with a reference that moves seldom, as in attention_matrix_tiles.glsl.
const float WEIGHT_START = 8.0;
const float WEIGHT_LIMIT = 15.0;

// Begin and end of what some row sees, the end of its sinks, begin and end of what every row sees.
shared int hull[5];

Accumulator result[ROW_FRAGMENTS * OWN_E];
Row rows[ROWS_PER_LANE];
uint rowHeads[ROWS_PER_LANE];
float reference[ROWS_PER_LANE];
float weightSum[ROWS_PER_LANE];  // over this lane's keys alone, until the end
uint part;                       // which SPAN of the keys this lane has

/// The row of the tile that is this lane's i-th; may be behind the last.
uint laneRow(uint i) {
  return (subgroup * SUBGROUP_SIZE + lane) / LANES_PER_ROW + i * ROWS_AT_ONCE;
}

/// Sets what mapScore() finds of a row outside of its struct.
void selectRow(uint i) {
  head = rowHeads[i];
  if (HAS(OPTION_ALIBI)) {
    slope = loadFloat(TENSOR_ALIBI_SLOPES, tensorIndex(TENSOR_ALIBI_SLOPES, 0)) * LOG2_E;
  }
}

/// Opens the rows and finds their hull; hull[] has been set by one lane before a barrier, and is whole after the next.
void openRows() {
  int begin = 0x7fffffff;
  int end = 0;
  int sinks = 0;
  int coreBegin = 0;
  int coreEnd = 0x7fffffff;
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    // Rows past the end repeat the last one and are not stored.
    rows[i] = openRow(openDecodeRow(rowTile * ROWS + min(laneRow(i), ROWS - 1)));
    rowHeads[i] = head;
    reference[i] = -INFINITY;
    weightSum[i] = 0.0;
    begin = min(begin, rows[i].begin);
    end = max(end, rows[i].end);
    sinks = max(sinks, rows[i].sinkEnd);
    coreBegin = max(coreBegin, rows[i].begin);
    coreEnd = min(coreEnd, rows[i].end);
  }
  begin = subgroupMin(begin);
  end = subgroupMax(end);
  sinks = subgroupMax(sinks);
  coreBegin = subgroupMax(coreBegin);
  coreEnd = subgroupMin(coreEnd);
  if (lane == 0) {
    atomicMin(hull[0], begin);
    atomicMax(hull[1], end);
    atomicMax(hull[2], sinks);
    atomicMax(hull[3], coreBegin);
    atomicMin(hull[4], coreEnd);
  }
}

// --- One key tile ----------------------------------------------------------------------------------------

/// Raw scores q.k of this subgroup's keys and channels, into its plane.
void computeScores() {
  const uint channelPart = subgroup % CHANNEL_PARTS;
  UNROLL for (uint j = 0; j < OWN_KEYS; ++j) {
    const uint n = subgroup / CHANNEL_PARTS + j * KEY_PARTS;
    if (n < KEY_FRAGMENTS) {
      Accumulator products[ROW_FRAGMENTS];
      UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) { products[r] = Accumulator(0.0); }
      UNROLL for (uint s = 0; s < OWN_STEPS; ++s) {
        const uint step = channelPart + s * CHANNEL_PARTS;
        if (step < D_STEPS) {
          MatrixB keys;
          coopMatLoad(
            keys, arena, n * FRAGMENT_N * KEY_PITCH + step * (FRAGMENT_K / 8), KEY_PITCH, COLUMN_MAJOR);
          UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
            products[r] = coopMatMulAdd(query[r * OWN_STEPS + s], keys, products[r]);
          }
        }
      }
      UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
        const uint element = SCORE_BASE + channelPart * SCORE_PLANE + r * FRAGMENT_M * SCORE_PITCH
          + n * (FRAGMENT_N / 4);
        coopMatStore(products[r], arena, element, SCORE_PITCH, ROW_MAJOR);
      }
    }
  }
}

/// Turns the scores of one of this lane's rows into weights.
void weighRow(const uint i, uint firstKey, bool hasHidden, uint parity, float scale) {
  const uint row = min(laneRow(i), ROWS - 1);
  const bool isOwn = laneRow(i) < ROWS;
  const uint begin = part * SPAN;
  const uint base = SCORE_BASE + row * SCORE_PITCH + begin / 4;
  vec4 scores[SPAN / 4];
  [[unroll]] for (uint c = 0; c < SPAN / 4; ++c) {
    scores[c] = uintBitsToFloat(arena[base + c]);
    [[unroll]] for (uint plane = 1; plane < CHANNEL_PARTS; ++plane) {
      scores[c] += uintBitsToFloat(arena[base + plane * SCORE_PLANE + c]);
    }
  }
  selectRow(i);
  if (VALUE_IS_KEY && nonFinite[parity] != 0) {
    UNROLL for (uint c = 0; c < SPAN; ++c) {
      const uint key = begin + c;
      if ((spoiledKeys[parity][key / 32] >> key % 32 & 1u) != 0) { scores[c / 4][c % 4] = QUIET_NAN; }
    }
  }
  if (MAPS_SCORES) {
    UNROLL for (uint c = 0; c < SPAN; ++c) {
      scores[c / 4][c % 4] =
        mapScore(rows[i], scores[c / 4][c % 4] * rows[i].scale, int(firstKey + begin + c));
    }
  }
  uint hidden = 0;
  if (hasHidden) {
    UNROLL for (uint c = 0; c < SPAN; ++c) {
      if (!seesKey(rows[i], int(firstKey + begin + c))) { hidden |= 1u << c; }
    }
    const float hiddenValue = hiddenScore(scale);
    [[unroll]] for (uint c = 0; c < SPAN / 4; ++c) {
      const bvec4 isHidden =
        notEqual(uvec4(hidden) >> (uvec4(c * 4) + uvec4(0, 1, 2, 3)) & 1u, uvec4(0));
      scores[c] = mix(scores[c], vec4(hiddenValue), isHidden);
    }
  }
  if (MAPS_TO_HIDDEN) {
    UNROLL for (uint c = 0; c < SPAN; ++c) {
      if (scores[c / 4][c % 4] == -INFINITY) { hidden |= 1u << c; }
    }
  }

  vec4 maxima = scores[0] * scale;
  [[unroll]] for (uint c = 1; c < SPAN / 4; ++c) { maxima = max(maxima, scores[c] * scale); }
  float maximum = max(max(maxima.x, maxima.y), max(maxima.z, maxima.w));
  [[unroll]] for (uint distance = 1; distance < LANES_PER_ROW; distance *= 2) {
    maximum = max(maximum, subgroupShuffleXor(maximum, distance));
  }
  // Each row decides for itself, so its bits do not depend on its neighbours.
  float factor = 1.0;
  if (maximum > reference[i] + WEIGHT_LIMIT) {
    const float moved = maximum - WEIGHT_START;
    factor = exp2(reference[i] - moved);
    reference[i] = moved;
    weightSum[i] *= factor;
    if (isOwn) { hasGrown = 1; }
  }
  if (isOwn && part == 0) { rowFactors[row / 4][row % 4] = factor; }

  const float offset = weightOffset(reference[i]);
  [[unroll]] for (uint c = 0; c < SPAN / 8; ++c) {
    const vec4 low = exp2(fma(scores[2 * c], vec4(scale), vec4(offset)));
    const vec4 high = exp2(fma(scores[2 * c + 1], vec4(scale), vec4(offset)));
    const vec4 sums = low + high;
    weightSum[i] += (sums.x + sums.y) + (sums.z + sums.w);
    if (isOwn) { arena[WEIGHT_BASE + row * WEIGHT_PITCH + begin / 8 + c] = packHalves(low, high); }
  }
  if (!VALUE_IS_KEY && nonFinite[parity] != 0 && isOwn) {
    seenBits[row * LANES_PER_ROW + part] = ~hidden;
  }
}

/// result = result * factors + weights * V tile, for this subgroup's channels.
void accumulateValues() {
  if (hasGrown != 0) {
    UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
      // Stride 0: every column is the same column of factors.
      Accumulator factors;
      coopMatLoad(factors, rowFactors, r * FRAGMENT_M / 4, 0, COLUMN_MAJOR);
      UNROLL for (uint j = 0; j < OWN_E; ++j) {
        result[r * OWN_E + j] = result[r * OWN_E + j] * factors;
      }
    }
  }
  UNROLL for (uint step = 0; step < KEY_STEPS; ++step) {
    const uint key = step * FRAGMENT_K;
    MatrixA weights[ROW_FRAGMENTS];
    UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
      coopMatLoad(
        weights[r], arena, WEIGHT_BASE + r * FRAGMENT_M * WEIGHT_PITCH + key / 8, WEIGHT_PITCH, ROW_MAJOR);
    }
    UNROLL for (uint j = 0; j < OWN_E; ++j) {
      const uint n = subgroup + j * SUBGROUPS;
      if (n < E_FRAGMENTS) {
        MatrixB values;
        coopMatLoad(
          values, arena, VALUE_BASE + key * VALUE_PITCH + n * (FRAGMENT_N / 8), VALUE_PITCH, ROW_MAJOR);
        UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
          result[r * OWN_E + j] = coopMatMulAdd(weights[r], values, result[r * OWN_E + j]);
        }
      }
    }
  }
}

/// Adds the inf and NaN that were left out of the V tile to the rows that see them, and to no other: in a matrix
/// product they would spoil the rows that they are hidden from as well, since 0 * NaN is NaN. Numbers that are only
/// too large for f16 are added as they are.
void accumulateNonFiniteValues(uint firstKey) {
  const uint scratch = SCORE_BASE + subgroup * FRAGMENT_UNITS;
  for (uint f = 0; f < ROW_FRAGMENTS * OWN_E; ++f) {
    const uint n = subgroup + f % OWN_E * SUBGROUPS;
    if (n >= E_FRAGMENTS) { continue; }
    for (uint i = lane; i < FRAGMENT_UNITS; i += SUBGROUP_SIZE) {
      const uint row = f / OWN_E * FRAGMENT_M + i / (FRAGMENT_N / 4);
      const uint channel = n * FRAGMENT_N + i % (FRAGMENT_N / 4) * 4;
      vec4 sum = vec4(0.0);
      for (uint c = 0; c < KEY_TILE && firstKey + c < keyTokens; ++c) {
        if ((seenBits[row * LANES_PER_ROW + c / SPAN] >> c % SPAN & 1u) == 0) { continue; }
        const KeyPlace place = placeOf(loadableKey(firstKey + c));
        const vec4 numbers = loadValueQuad(valueRow(place), valueScaleRow(place), channel);
        const bvec4 isFinite = lessThanEqual(abs(numbers), vec4(65504.0));
        if (!all(isFinite)) {
          const vec2 pair =
            unpackHalf2x16(arena[WEIGHT_BASE + row * WEIGHT_PITCH + c / 8][c % 8 / 2]);
          float weight = c % 2 == 0 ? pair.x : pair.y;
          // Not 0 but too small for f16: 0 * inf is NaN.
          if (weight == 0.0) { weight = 1e-12; }
          // The finite neighbours have been added already.
          sum += mix(numbers * weight, vec4(0.0), isFinite);
        }
      }
      arena[scratch + i] = floatBitsToUint(sum);
    }
    SUBGROUP_SYNC();
    Accumulator addend;
    coopMatLoad(addend, arena, scratch, FRAGMENT_N / 4, ROW_MAJOR);
    UNROLL for (uint g = 0; g < ROW_FRAGMENTS * OWN_E; ++g) {
      if (g == f) { result[g] = result[g] + addend; }
    }
    SUBGROUP_SYNC();
  }
}

// --- Output ----------------------------------------------------------------------------------------------

void storeRows(uint slot) {
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    float sum = weightSum[i];
    [[unroll]] for (uint distance = 1; distance < LANES_PER_ROW; distance *= 2) {
      sum += subgroupShuffleXor(sum, distance);
    }
    const uint row = laneRow(i);
    if (part == 0 && row < ROWS && rowTile * ROWS + row < problemRows()) {
      const uint token = openDecodeRow(rowTile * ROWS + row);
      float factor;
      storeDecodeStatistics(slot, row, token, reference[i], sum, factor);
      rowFactors[row / 4][row % 4] = factor;
    }
  }
  barrier();
  const uint scratch = SCORE_BASE + subgroup * FRAGMENT_UNITS;
  UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
    UNROLL for (uint j = 0; j < OWN_E; ++j) {
      const uint n = subgroup + j * SUBGROUPS;
      if (n < E_FRAGMENTS) {
        coopMatStore(result[r * OWN_E + j], arena, scratch, FRAGMENT_N / 4, ROW_MAJOR);
        SUBGROUP_SYNC();
        for (uint i = lane; i < FRAGMENT_UNITS; i += SUBGROUP_SIZE) {
          const uint row = r * FRAGMENT_M + i / (FRAGMENT_N / 4);
          const uint channel = n * FRAGMENT_N + i % (FRAGMENT_N / 4) * 4;
          if (rowTile * ROWS + row < problemRows()) {
            const uint token = openAddress(row);
            storeDecodeChannels4(
              slot, row, token, channel, rowFactors[row / 4][row % 4],
              uintBitsToFloat(arena[scratch + i]));
          }
        }
        SUBGROUP_SYNC();
      }
    }
  }
}

void runSegment(uvec4 segment) {
  openSegment(segment);
  if (gl_LocalInvocationIndex == 0) {
    hull[0] = 0x7fffffff;
    hull[1] = 0;
    hull[2] = 0;
    hull[3] = 0;
    hull[4] = 0x7fffffff;
    hasGrown = 0;
    [[unroll]] for (uint parity = 0; parity < 2; ++parity) {
      nonFinite[parity] = 0;
      [[unroll]] for (uint i = 0; i < (KEY_TILE + 31) / 32; ++i) { spoiledKeys[parity][i] = 0; }
    }
  }
  barrier();
  openRows();
  loadQueries();  // with barriers
  UNROLL for (uint i = 0; i < ROW_FRAGMENTS * OWN_E; ++i) { result[i] = Accumulator(0.0); }

  const KeyWalk walk = openWalk(hull[0], hull[1], hull[2], KEY_TILE);
  const int coreBegin = hull[3];
  const int coreEnd = hull[4];
  // Where scores are mapped they are exponents of 2 already.
  const float scale = MAPS_SCORES ? 1.0 : log2Scale(p.scale);
  uint firstKey = walk.first;
  if (firstKey < walk.end) {
    if (PREFETCH) { fetchKeys(firstKey); }
    for (uint parity = 0;; parity ^= 1) {
      const uint nextKey = nextStep(walk, firstKey, KEY_TILE);
      if (!PREFETCH) { fetchKeys(firstKey); }
      fetchValues(firstKey);
      stageKeys(parity);
      barrier();
      // Of the tile before; the last one to read it has passed the barrier.
      if (gl_LocalInvocationIndex == 0) {
        hasGrown = 0;
        nonFinite[parity ^ 1] = 0;
        [[unroll]] for (uint i = 0; i < (KEY_TILE + 31) / 32; ++i) { spoiledKeys[parity ^ 1][i] = 0; }
      }
      computeScores();
      stageValues(parity);
      barrier();
      if (PREFETCH && nextKey < walk.end) { fetchKeys(nextKey); }
      const bool hasHidden = int(firstKey) < coreBegin || int(firstKey + KEY_TILE) > coreEnd
        || HAS_DATA_MASKS;
      [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) { weighRow(i, firstKey, hasHidden, parity, scale); }
      barrier();
      accumulateValues();
      if (!VALUE_IS_KEY && nonFinite[parity] != 0) { accumulateNonFiniteValues(firstKey); }
      firstKey = nextKey;
      if (firstKey >= walk.end) { break; }
      // The next keys come where these values are.
      if (VALUE_IS_KEY) { barrier(); }
    }
  }
  // Factors are read until here.
  barrier();
  storeRows(segment.w);
  // The next segment writes all shared memory anew.
  barrier();
}

#include "decode_segments.glsl"

void main() {
  lane = gl_SubgroupInvocationID;
  subgroup = gl_SubgroupID;
  part = lane % LANES_PER_ROW;
  runSegments();
}
