#version 460
// Tiled attention on the matrix units (VK_KHR_cooperative_matrix): f16 in and out, f32 inside.
//
// @spirv-opt off
// @variant attention_matrix
// @variant attention_matrix_software SOFTWARE
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_vote : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require

#include "attention_interface.glsl"

layout(constant_id = 5) const uint FRAGMENT_M = 16;
layout(constant_id = 6) const uint FRAGMENT_N = 16;
layout(constant_id = 7) const uint FRAGMENT_K = 16;
layout(constant_id = 8) const uint ROW_FRAGMENTS = 1;
layout(constant_id = 9) const uint KEY_TILE = 32;
layout(constant_id = 10) const uint SUBGROUP_SIZE = 32;
layout(constant_id = 11) const bool QUERY_IN_SHARED = false;
layout(constant_id = 12) const bool PREFETCH = true;

// Fragments must be in registers, so on a GPU every loop over them is unrolled. A software driver keeps them in
// memory anyway and would only compile for longer. It also runs a subgroup as one thread of vector code, in
// order, and mistakes a subgroup barrier for a workgroup barrier (lavapipe, Mesa 26): there, none is used.
#ifdef SOFTWARE
#define UNROLL [[dont_unroll]]
#define SUBGROUP_SYNC subgroupMemoryBarrierShared
#else
#define UNROLL [[unroll]]
#define SUBGROUP_SYNC subgroupBarrier
#endif

// --- Derived sizes ---------------------------------------------------------------------------------------

const uint SUBGROUPS = gl_WorkGroupSize.x / SUBGROUP_SIZE;
const uint ROWS = ROW_FRAGMENTS * FRAGMENT_M;  // of one subgroup
const uint TILE_ROWS = SUBGROUPS * ROWS;       // of one workgroup

const uint D_STEPS = (HEAD_SIZE_QK + FRAGMENT_K - 1) / FRAGMENT_K;
const uint D_PADDED = D_STEPS * FRAGMENT_K;
const uint E_FRAGMENTS = (HEAD_SIZE_V + FRAGMENT_N - 1) / FRAGMENT_N;
const uint E_PADDED = E_FRAGMENTS * FRAGMENT_N;
const uint KEY_FRAGMENTS = KEY_TILE / FRAGMENT_N;  // of the scores
const uint KEY_STEPS = KEY_TILE / FRAGMENT_K;      // of P V

// The arena is addressed in units of 16 bytes: 8 f16 or 4 f32. One unit of padding per row spreads the rows
// of a fragment over all shared memory banks.
const uint KEY_UNITS = D_PADDED / 8;
const uint VALUE_UNITS = E_PADDED / 8;
const uint KEY_PITCH = KEY_UNITS + 1;
const uint VALUE_PITCH = VALUE_UNITS + 1;
const uint SCORE_PITCH = KEY_TILE / 4 + 1;

const uint VALUE_BASE = KEY_TILE * KEY_PITCH;
const uint SCORE_BASE = VALUE_BASE + KEY_TILE * VALUE_PITCH;
const uint QUERY_BASE = SCORE_BASE + TILE_ROWS * SCORE_PITCH;
const uint ARENA_UNITS = QUERY_BASE + (QUERY_IN_SHARED ? TILE_ROWS * KEY_PITCH : 0);

// Softmax: a row of scores belongs to LANES_PER_ROW neighbouring lanes, each with SPAN consecutive keys; if
// there are more rows than lanes, a lane has ROWS_PER_LANE of them.
const uint LANES_PER_ROW = SUBGROUP_SIZE > ROWS ? SUBGROUP_SIZE / ROWS : 1;
const uint ROWS_AT_ONCE = SUBGROUP_SIZE / LANES_PER_ROW;
const uint ROWS_PER_LANE = ROWS / ROWS_AT_ONCE;
const uint SPAN = KEY_TILE / LANES_PER_ROW;

const uint FETCHES_K = (KEY_TILE * KEY_UNITS + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;
const uint FETCHES_V = (KEY_TILE * VALUE_UNITS + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;
const uint QUERY_FRAGMENTS = ROW_FRAGMENTS * (QUERY_IN_SHARED ? 1 : D_STEPS);

// A row's weights are 2^(score - reference). When the reference is set, the largest weight becomes
// 2^WEIGHT_START; the reference moves again only when a weight would pass 2^WEIGHT_LIMIT, the largest power
// of two that f16 holds. So rescales are rare, and small weights keep 8 more bits above f16's underflow.
const float WEIGHT_START = 8.0;
const float WEIGHT_LIMIT = 15.0;

#define INFINITY uintBitsToFloat(0x7f800000u)
const float LOG2_E = 1.44269504088896340736;
const float LN_2 = 0.69314718055994530942;

#define MatrixA coopmat<float16_t, gl_ScopeSubgroup, FRAGMENT_M, FRAGMENT_K, gl_MatrixUseA>
#define MatrixB coopmat<float16_t, gl_ScopeSubgroup, FRAGMENT_K, FRAGMENT_N, gl_MatrixUseB>
#define Accumulator coopmat<float, gl_ScopeSubgroup, FRAGMENT_M, FRAGMENT_N, gl_MatrixUseAccumulator>

const int ROW_MAJOR = gl_CooperativeMatrixLayoutRowMajor;
const int COLUMN_MAJOR = gl_CooperativeMatrixLayoutColumnMajor;

shared uvec4 arena[ARENA_UNITS];
shared float rowFactor[TILE_ROWS];
shared uint nonFinite[2];  // of the V tile with this parity

// --- Problem and position --------------------------------------------------------------------------------

uint batch, head, keyHead;
uint lane, subgroup;
uint firstRow;     // of this subgroup
uint scoreBase;    // of this subgroup's rows in the arena
uint rowInGroup;   // of this lane's first row, from firstRow
uint part;         // which SPAN of the keys this lane has

/// How many keys, from key 0 on, are visible to a query row.
uint visibleKeys(uint row) {
  return CAUSAL ? uint(clamp(int(row) + p.causalOffset + 1, 0, int(p.keyTokens))) : p.keyTokens;
}

// --- Staging ---------------------------------------------------------------------------------------------

uvec4 fetchedK[FETCHES_K];
uvec4 fetchedV[FETCHES_V];

/// 8 f16 of `token`, zero outside of the T tokens and of the `size` channels. What is read is always inside.
uvec4 loadUnit(uint64_t base, uint tokenStride, uint token, uint unit, uint size) {
  const uint64_t offset = uint64_t(min(token, p.keyTokens - 1)) * tokenStride + min(unit * 8, size - 8);
  const uvec4 words = WordQuadReference(base + offset * 2ul).value;
  return token < p.keyTokens && unit * 8 < size ? words : uvec4(0);
}

void fetchKeys(uint firstKey) {
  const uint64_t base = keyAddress(batch, 0, keyHead);
  UNROLL for (uint i = 0; i < FETCHES_K; ++i) {
    const uint unit = i * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
    fetchedK[i] =
      loadUnit(base, p.kTokenStride, firstKey + unit / KEY_UNITS, unit % KEY_UNITS, HEAD_SIZE_QK);
  }
}

void fetchValues(uint firstKey) {
  const uint64_t base = valueAddress(batch, 0, keyHead);
  UNROLL for (uint i = 0; i < FETCHES_V; ++i) {
    const uint unit = i * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
    fetchedV[i] =
      loadUnit(base, p.vTokenStride, firstKey + unit / VALUE_UNITS, unit % VALUE_UNITS, HEAD_SIZE_V);
  }
}

void stageKeys() {
  UNROLL for (uint i = 0; i < FETCHES_K; ++i) {
    const uint unit = i * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
    if (unit < KEY_TILE * KEY_UNITS) {
      arena[unit / KEY_UNITS * KEY_PITCH + unit % KEY_UNITS] = fetchedK[i];
    }
  }
}

/// The sign bit of each half of each word is set where that f16 is inf or NaN.
uvec4 nonFiniteHalves(uvec4 words) {
  return ((words & 0x7c007c00u) + 0x04000400u) & 0x80008000u;
}

void stageValues(uint parity) {
  UNROLL for (uint i = 0; i < FETCHES_V; ++i) {
    const uint unit = i * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
    if (unit < KEY_TILE * VALUE_UNITS) {
      uvec4 words = fetchedV[i];
      const uvec4 bad = nonFiniteHalves(words);
      if (bad != uvec4(0)) {
        words &= ~((bad >> 15) * 0xffffu);
        nonFinite[parity] = 1;
      }
      arena[VALUE_BASE + unit / VALUE_UNITS * VALUE_PITCH + unit % VALUE_UNITS] = words;
    }
  }
}

// --- Query -----------------------------------------------------------------------------------------------

MatrixA query[QUERY_FRAGMENTS];

/// Copies `units` units of this subgroup's query rows, from unit `firstUnit` of each on, into the arena.
void stageQueries(uint base, uint pitch, uint firstUnit, uint units) {
  for (uint i = lane; i < ROWS * units; i += SUBGROUP_SIZE) {
    const uint row = firstRow + i / units;
    const uint unit = firstUnit + i % units;
    const uint64_t address = queryAddress(batch, min(row, p.queryTokens - 1), head);
    const uvec4 words = WordQuadReference(address + min(unit * 8, HEAD_SIZE_QK - 8) * 2).value;
    arena[base + i / units * pitch + i % units] =
      row < p.queryTokens && unit * 8 < HEAD_SIZE_QK ? words : uvec4(0);
  }
}

void loadQueries() {
  if (QUERY_IN_SHARED) {
    stageQueries(QUERY_BASE + subgroup * ROWS * KEY_PITCH, KEY_PITCH, 0, KEY_UNITS);
    SUBGROUP_SYNC();
    return;
  }
  // Into registers through the rows that later hold the scores: each takes 2 * KEY_TILE channels at a time.
  const uint stepsAtOnce = 2 * KEY_TILE / FRAGMENT_K;
  UNROLL for (uint first = 0; first < D_STEPS; first += stepsAtOnce) {
    stageQueries(scoreBase, SCORE_PITCH, first * FRAGMENT_K / 8, KEY_TILE / 4);
    SUBGROUP_SYNC();
    UNROLL for (uint step = first; step < min(D_STEPS, first + stepsAtOnce); ++step) {
      UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
        const uint element =
          scoreBase + r * FRAGMENT_M * SCORE_PITCH + (step - first) * (FRAGMENT_K / 8);
        coopMatLoad(query[r * D_STEPS + step], arena, element, SCORE_PITCH, ROW_MAJOR);
      }
    }
    SUBGROUP_SYNC();
  }
}

// --- One key tile ----------------------------------------------------------------------------------------

Accumulator result[ROW_FRAGMENTS * E_FRAGMENTS];
float reference[ROWS_PER_LANE];  // of a row's weights, log2; -inf: no finite score yet
float weightSum[ROWS_PER_LANE];  // over this lane's keys alone, until the end

/// Raw scores q.k of all rows and the tile's keys, into the score rows.
void computeScores() {
  Accumulator scores[ROW_FRAGMENTS * KEY_FRAGMENTS];
  UNROLL for (uint i = 0; i < ROW_FRAGMENTS * KEY_FRAGMENTS; ++i) {
    scores[i] = Accumulator(0.0);
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
        scores[r * KEY_FRAGMENTS + n] =
          coopMatMulAdd(query[fragment], keys, scores[r * KEY_FRAGMENTS + n]);
      }
    }
  }
  UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
    UNROLL for (uint n = 0; n < KEY_FRAGMENTS; ++n) {
      const uint element = scoreBase + r * FRAGMENT_M * SCORE_PITCH + n * (FRAGMENT_N / 4);
      coopMatStore(scores[r * KEY_FRAGMENTS + n], arena, element, SCORE_PITCH, ROW_MAJOR);
    }
  }
  SUBGROUP_SYNC();
}

/// The part of score row `i` of this lane in the arena.
uint spanBase(uint i) {
  return scoreBase + (rowInGroup + i * ROWS_AT_ONCE) * SCORE_PITCH + part * (SPAN / 4);
}

/// The largest scaled score of each row; hidden scores are overwritten so that they weigh nothing.
void findRowMaxima(uint firstKey, bool hasHidden, float scale, out float rowMaximum[ROWS_PER_LANE]) {
  const float hidden = scale > 0.0 ? -INFINITY : INFINITY;  // times scale: -inf
  UNROLL for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    const uint base = spanBase(i);
    float maximum = -INFINITY;
    if (hasHidden) {
      const int visible = int(visibleKeys(firstRow + rowInGroup + i * ROWS_AT_ONCE))
        - int(firstKey + part * SPAN);
      UNROLL for (uint c = 0; c < SPAN / 4; ++c) {
        vec4 s = uintBitsToFloat(arena[base + c]);
        s = mix(vec4(hidden), s, lessThan(ivec4(c * 4) + ivec4(0, 1, 2, 3), ivec4(visible)));
        arena[base + c] = floatBitsToUint(s);
        s *= scale;
        maximum = max(maximum, max(max(s.x, s.y), max(s.z, s.w)));
      }
    } else {
      UNROLL for (uint c = 0; c < SPAN / 4; ++c) {
        const vec4 s = uintBitsToFloat(arena[base + c]) * scale;
        maximum = max(maximum, max(max(s.x, s.y), max(s.z, s.w)));
      }
    }
    UNROLL for (uint distance = 1; distance < LANES_PER_ROW; distance *= 2) {
      maximum = max(maximum, subgroupShuffleXor(maximum, distance));
    }
    rowMaximum[i] = maximum;
  }
}

/// Moves the references of the rows whose weights would pass f16's range, and rescales what they weighed.
void moveReferences(float rowMaximum[ROWS_PER_LANE]) {
  bool grows = false;
  UNROLL for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    grows = grows || rowMaximum[i] > reference[i] + WEIGHT_LIMIT;
  }
  if (!subgroupAny(grows)) {
    return;
  }
  UNROLL for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    // Each row decides for itself, so its bits do not depend on its neighbours.
    float factor = 1.0;
    if (rowMaximum[i] > reference[i] + WEIGHT_LIMIT) {
      const float moved = rowMaximum[i] - WEIGHT_START;
      factor = exp2(reference[i] - moved);
      reference[i] = moved;
      weightSum[i] *= factor;
    }
    if (part == 0) {
      rowFactor[subgroup * ROWS + rowInGroup + i * ROWS_AT_ONCE] = factor;
    }
  }
  SUBGROUP_SYNC();
  UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
    // Stride 0: every column is the same column of factors.
    Accumulator factors;
    coopMatLoad(factors, rowFactor, subgroup * ROWS + r * FRAGMENT_M, 0, COLUMN_MAJOR);
    UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
      result[r * E_FRAGMENTS + n] = result[r * E_FRAGMENTS + n] * factors;
    }
  }
}

/// Replaces each lane's SPAN f32 scores of a row by as many f16 weights, in the first half of their place.
void computeWeights(float scale) {
  UNROLL for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    const uint base = spanBase(i);
    const float offset = reference[i] == -INFINITY ? 0.0 : -reference[i];
    UNROLL for (uint c = 0; c < SPAN / 8; ++c) {
      const vec4 low = uintBitsToFloat(arena[base + 2 * c]);
      const vec4 high = uintBitsToFloat(arena[base + 2 * c + 1]);
      // One rounding: far from 0 the product alone would lose what tells the scores apart.
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

/// Adds the inf and NaN that were left out of the V tile to the rows that see them, and to no other: in a
/// matrix product they would spoil the rows that they are hidden from as well, since 0 * NaN is NaN.
void accumulateNonFiniteValues(uint firstKey) {
  const uint64_t base = valueAddress(batch, 0, keyHead);
  for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
    for (uint n = 0; n < E_FRAGMENTS; ++n) {
      for (uint i = lane; i < FRAGMENT_M * (FRAGMENT_N / 4); i += SUBGROUP_SIZE) {
        const uint row = i / (FRAGMENT_N / 4);
        const uint channel = n * FRAGMENT_N + i % (FRAGMENT_N / 4) * 4;
        const uint end = min(visibleKeys(firstRow + r * FRAGMENT_M + row), firstKey + KEY_TILE);
        vec4 sum = vec4(0.0);
        for (uint key = firstKey; key < end && channel < HEAD_SIZE_V; ++key) {
          const uint64_t offset = uint64_t(key) * p.vTokenStride + channel;
          uvec2 words = WordPairReference(base + offset * 2ul).value;
          words &= (nonFiniteHalves(words.xyxy).xy >> 15) * 0xffffu;
          sum += vec4(unpackHalf2x16(words.x), unpackHalf2x16(words.y));
        }
        arena[scoreBase + row * SCORE_PITCH + i % (FRAGMENT_N / 4)] = floatBitsToUint(sum);
      }
      SUBGROUP_SYNC();
      Accumulator addend;
      coopMatLoad(addend, arena, scoreBase, SCORE_PITCH, ROW_MAJOR);
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
  UNROLL for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    const uint rowInSubgroup = rowInGroup + i * ROWS_AT_ONCE;
    const uint row = firstRow + rowInSubgroup;
    float sum = weightSum[i];
    UNROLL for (uint distance = 1; distance < LANES_PER_ROW; distance *= 2) {
      sum += subgroupShuffleXor(sum, distance);
    }
    if (part == 0) {
      rowFactor[subgroup * ROWS + rowInSubgroup] = sum == 0.0 ? 0.0 : 1.0 / sum;
      if (p.lse != 0ul && row < p.queryTokens) {
        FloatReference(lseAddress(batch, row, head)).value =
          sum == 0.0 ? -INFINITY : (reference[i] + log2(sum)) * LN_2;
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
        const float factor = rowFactor[subgroup * ROWS + i / units];
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
  const uint endKey = visibleKeys(min(tile * TILE_ROWS + TILE_ROWS - 1, lastRow));
  const uint keyTiles = (endKey + KEY_TILE - 1) / KEY_TILE;
  // What this subgroup's rows see in any case, and at most.
  const uint allSee = visibleKeys(firstRow);
  const uint someSee = firstRow > lastRow ? 0 : visibleKeys(min(firstRow + ROWS - 1, lastRow));
  // A scale of 0 would make the mask's -inf a NaN; this one makes every score 0 as well.
  const float scale = p.scale == 0.0 ? 1e-37 : p.scale * LOG2_E;

  loadQueries();
  UNROLL for (uint i = 0; i < ROW_FRAGMENTS * E_FRAGMENTS; ++i) {
    result[i] = Accumulator(0.0);
  }
  UNROLL for (uint i = 0; i < ROWS_PER_LANE; ++i) {
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
      findRowMaxima(firstKey, firstKey + KEY_TILE > allSee, scale, rowMaximum);
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
      if (nonFinite[t & 1] != 0) {
        accumulateNonFiniteValues(firstKey);
      }
    }
    if (!PREFETCH) {
      barrier();
    }
  }
  storeResults();
}
