// The tiles of attention_matrix.comp, which documents the specialization constants: derived sizes, the layout of
// shared memory, the loads of K and V tiles and of the query fragments.

#ifndef ATTENTION_MATRIX_TILES_GLSL
#define ATTENTION_MATRIX_TILES_GLSL

#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_vote : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#ifdef MATRIX2
#extension GL_NV_cooperative_matrix2 : require
#endif
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require

#include "attention_options.glsl"
#include "../Common/fragment_loops.glsl"
#include "../Common/half_units.glsl"

layout(constant_id = 5) const uint FRAGMENT_M = 16;
layout(constant_id = 6) const uint FRAGMENT_N = 16;
layout(constant_id = 7) const uint FRAGMENT_K = 16;
layout(constant_id = 8) const uint ROW_FRAGMENTS = 1;
layout(constant_id = 9) const uint KEY_TILE = 32;
layout(constant_id = 10) const uint SUBGROUP_SIZE = 32;
layout(constant_id = 11) const bool QUERY_IN_SHARED = false;
layout(constant_id = 12) const bool PREFETCH = true;
layout(constant_id = 13) const uint LANES_PER_ROW = 2;

// --- Derived sizes ---------------------------------------------------------------------------------------

const uint SUBGROUPS = gl_WorkGroupSize.x / SUBGROUP_SIZE;
const uint ROWS = ROW_FRAGMENTS * FRAGMENT_M;  // of one subgroup
const uint TILE_ROWS = SUBGROUPS * ROWS;       // of one workgroup

const uint D_STEPS = (HEAD_SIZE_QK + FRAGMENT_K - 1) / FRAGMENT_K;
const uint D_PADDED = D_STEPS * FRAGMENT_K;
const uint E_FRAGMENTS = (HEAD_SIZE_V + FRAGMENT_N - 1) / FRAGMENT_N;
const uint E_PADDED = E_FRAGMENTS * FRAGMENT_N;
const uint KEY_FRAGMENTS = KEY_TILE / FRAGMENT_N;  // of the scores
#ifdef MATRIX2
// A fragment of scores becomes one of weights, so a step of P V is as wide. Macros: a conversion is between matrices
// whose sizes are the same constants to the compiler.
#define VALUE_STEP FRAGMENT_N
#else
#define VALUE_STEP FRAGMENT_K
#endif
const uint KEY_STEPS = KEY_TILE / VALUE_STEP;      // of P V

// The arena is addressed in units of 16 bytes: 8 f16 or 4 f32. One unit of padding per row spreads the rows
// of a fragment over all shared memory banks.
const uint KEY_UNITS = D_PADDED / 8;
const uint VALUE_UNITS = E_PADDED / 8;
const uint KEY_PITCH = KEY_UNITS + 1;
const uint VALUE_PITCH = VALUE_UNITS + 1;

// The rows of a subgroup in the arena, f32: its scores, and q, o and states on their way.
#ifdef MATRIX2
#define ROW_NUMBERS FRAGMENT_N
#else
#define ROW_NUMBERS KEY_TILE
#endif
const uint ROW_PARTS = ROW_NUMBERS / FRAGMENT_N;  // fragments that such rows hold
const uint SCORE_PITCH = ROW_NUMBERS / 4 + 1;

const uint FRAGMENT_UNITS = FRAGMENT_M * FRAGMENT_N / 4;  // of an f32 fragment
const uint SCRATCH_UNITS = SUBGROUPS * FRAGMENT_UNITS;    // shares the place of the V tile
const uint VALUE_TILE_UNITS = KEY_TILE * VALUE_PITCH;

const uint VALUE_BASE = KEY_TILE * KEY_PITCH;
const uint VALUE_END =
  VALUE_BASE + (VALUE_TILE_UNITS > SCRATCH_UNITS ? VALUE_TILE_UNITS : SCRATCH_UNITS);
#ifdef MATRIX2
// The rows are used while there is no tile, and have its place.
const uint SCORE_BASE = 0;
const uint SCORE_UNITS = TILE_ROWS * SCORE_PITCH;
const uint QUERY_BASE = VALUE_END > SCORE_UNITS ? VALUE_END : SCORE_UNITS;
#else
const uint SCORE_BASE = VALUE_END;
const uint QUERY_BASE = SCORE_BASE + TILE_ROWS * SCORE_PITCH;
#endif
const uint ARENA_UNITS = QUERY_BASE + (QUERY_IN_SHARED ? TILE_ROWS * KEY_PITCH : 0);

// Softmax: a row of scores belongs to LANES_PER_ROW neighbouring lanes, each with SPAN consecutive keys; a
// lane has ROWS_PER_LANE rows.
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

#define MatrixA coopmat<float16_t, gl_ScopeSubgroup, FRAGMENT_M, FRAGMENT_K, gl_MatrixUseA>
#define MatrixB coopmat<float16_t, gl_ScopeSubgroup, FRAGMENT_K, FRAGMENT_N, gl_MatrixUseB>
#define MatrixP coopmat<float16_t, gl_ScopeSubgroup, FRAGMENT_M, VALUE_STEP, gl_MatrixUseA>
#define MatrixV coopmat<float16_t, gl_ScopeSubgroup, VALUE_STEP, FRAGMENT_N, gl_MatrixUseB>
#define Accumulator coopmat<float, gl_ScopeSubgroup, FRAGMENT_M, FRAGMENT_N, gl_MatrixUseAccumulator>

const int ROW_MAJOR = gl_CooperativeMatrixLayoutRowMajor;
const int COLUMN_MAJOR = gl_CooperativeMatrixLayoutColumnMajor;

shared uvec4 arena[ARENA_UNITS];
shared vec4 rowFactors[TILE_ROWS / 4];  // vectors: a fragment is loaded from 16-byte aligned places
shared uint nonFinite[2];  // of the V tile with this parity
shared uint tileMaxima[4];  // of the K and V tiles with parity 0, then 1; where they are bf16

// --- Problem and position --------------------------------------------------------------------------------

uint lane, subgroup;
uint firstRow;     // of this subgroup
uint scoreBase;    // of this subgroup's rows in the arena

void setRowFactor(uint rowInSubgroup, float factor) {
  const uint row = subgroup * ROWS + rowInSubgroup;
  rowFactors[row / 4][row % 4] = factor;
}

float rowFactor(uint rowInSubgroup) {
  const uint row = subgroup * ROWS + rowInSubgroup;
  return rowFactors[row / 4][row % 4];
}

/// The end of a row: what its result is multiplied by as its factor, its reference into the padding of its row.
void closeRow(uint rowInSubgroup, float reference, float sum) {
  const uint row = firstRow + rowInSubgroup;
  float factor;
  float lse;
  finishRow(min(row, queryTokens - 1), reference, sum, factor, lse);
  setRowFactor(rowInSubgroup, factor);
  arena[scoreBase + rowInSubgroup * SCORE_PITCH + ROW_NUMBERS / 4] = floatBitsToUint(vec4(reference));
  if (row < queryTokens) {
    storeState(row, reference, sum);
    if (p.lse != 0ul) {
      FloatReference(p.lse + rowIndex(HAS(OPTION_PACKED_SEQUENCES), row) * 4ul).value = lse;
    }
  }
}

// --- bf16 --------------------------------------------------------------------------------------------------

// The matrices are f16. What is bf16 becomes f16 times a power of two, by its greatest finite number: of a subgroup's
// rows of q, of a tile of k or v.
const bool QUERY_SCALED = QUERY_TYPE == ELEMENT_BF16;
const bool KEYS_SCALED = KEY_TYPE == ELEMENT_BF16;
const bool VALUES_SCALED = VALUE_TYPE == ELEMENT_BF16;
const uint TYPES_16 = (QUERY_TYPE ^ ELEMENT_F16) | (KEY_TYPE ^ ELEMENT_F16);
const bool PRODUCTS_SCALED = TYPES_16 != 0;
const bool TILES_SCALED = ((KEY_TYPE ^ ELEMENT_F16) | (VALUE_TYPE ^ ELEMENT_F16)) != 0;
// Of this subgroup's q, of the tiles of k and v; 0 where they are f16.
int queryExponent, keyExponent, valueExponent;

/// The power of two that brings numbers up to one, given as bits, to the top of f16's range.
int scaleExponent(uint greatest) {
  return min(14 - exponentOf(uintBitsToFloat(greatest)), 100);
}

/// The greatest number of the subgroup, as bits of what is not negative.
uint greatestOfSubgroup(uint greatest) {
  [[unroll]] for (uint distance = 1; distance < SUBGROUP_SIZE; distance *= 2) {
    greatest = max(greatest, subgroupShuffleXor(greatest, distance));
  }
  return greatest;
}

/// What brings raw products back. What it does not reach is no score, or an infinite one.
float productFactor() {
  return powerOfTwo(clamp(-(queryExponent + keyExponent), -126, 127));
}

// --- Staging ---------------------------------------------------------------------------------------------

uvec4 fetchedK[FETCHES_K];
uvec4 fetchedV[FETCHES_V];

/// 8 numbers of 16 bits of a row from a channel on; those past the row's end are 0. What is read is always inside of
/// the row.
uvec4 loadHalves(uint64_t row, uint channel, const uint size) {
  if (ALIGNED) {
    const uvec4 words = WordQuadReference(row + min(channel, size - 8) * 2).value;
    return channel < size ? words : uvec4(0);
  }
  uvec4 words = uvec4(0);
  [[unroll]] for (uint i = 0; i < 8; ++i) {
    const uint number = uint(HalfWordReference(row + min(channel + i, size - 1) * 2).value);
    words[i / 2] |= channel + i < size ? number << (i % 2 * 16) : 0;
  }
  return words;
}

/// Unit `unit` of a token of k or v, zero past the last token.
uvec4 loadUnit(uint64_t base, uint tokenStride, uint token, uint unit, const uint size) {
  const uint64_t row = base + uint64_t(min(token, keyTokens - 1)) * tokenStride * 2ul;
  const uvec4 words = loadHalves(row, unit * 8, size);
  return token < keyTokens ? words : uvec4(0);
}

void fetchKeys(uint firstKey) {
  const uint64_t base = keyBaseAddress();
  [[unroll]] for (uint i = 0; i < FETCHES_K; ++i) {
    const uint unit = i * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
    fetchedK[i] =
      loadUnit(base, p.kTokenStride, firstKey + unit / KEY_UNITS, unit % KEY_UNITS, HEAD_SIZE_QK);
  }
}

void fetchValues(uint firstKey) {
  if (VALUE_IS_KEY) { return; }
  const uint64_t base = valueBaseAddress();
  [[unroll]] for (uint i = 0; i < FETCHES_V; ++i) {
    const uint unit = i * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
    fetchedV[i] =
      loadUnit(base, p.vTokenStride, firstKey + unit / VALUE_UNITS, unit % VALUE_UNITS, HEAD_SIZE_V);
  }
}

// The keys that the intervals leave to some row of the workgroup.
int seenBegin, seenEnd, seenSinks;

/// Whether a key may set the exponent of its tile: what no row sees must not cost the others their digits.
bool setsExponent(uint key) {
  return int(key) >= seenBegin && int(key) < seenEnd || HAS(OPTION_SINK_TOKENS) && int(key) < seenSinks;
}

/// Finds the exponents of the fetched tiles. All of the workgroup must call it.
void findTileExponents(uint firstKey, uint parity) {
  uint greatestKey = 0;
  uint greatestValue = 0;
  if (KEYS_SCALED) {
    [[unroll]] for (uint i = 0; i < FETCHES_K; ++i) {
      const uint key = (i * gl_WorkGroupSize.x + gl_LocalInvocationIndex) / KEY_UNITS;
      if (setsExponent(firstKey + key)) { greatestKey = max(greatestKey, greatestOf(fetchedK[i])); }
    }
    greatestKey = greatestOfSubgroup(greatestKey);
    if (lane == 0) { atomicMax(tileMaxima[parity * 2], greatestKey); }
  }
  if (VALUES_SCALED && !VALUE_IS_KEY) {
    [[unroll]] for (uint i = 0; i < FETCHES_V; ++i) {
      const uint key = (i * gl_WorkGroupSize.x + gl_LocalInvocationIndex) / VALUE_UNITS;
      if (setsExponent(firstKey + key)) { greatestValue = max(greatestValue, greatestOf(fetchedV[i])); }
    }
    greatestValue = greatestOfSubgroup(greatestValue);
    if (lane == 0) { atomicMax(tileMaxima[parity * 2 + 1], greatestValue); }
  }
  barrier();
  if (KEYS_SCALED) { keyExponent = scaleExponent(tileMaxima[parity * 2]); }
  if (VALUES_SCALED) { valueExponent = VALUE_IS_KEY ? keyExponent : scaleExponent(tileMaxima[parity * 2 + 1]); }
}

/// Puts a unit of v into its tile, without what is not finite; that is noted.
void stageValueUnit(uint key, uint unit, uvec4 words, uint parity) {
  const uvec4 bad = nonFiniteHalves(words);
  if (bad != uvec4(0)) {
    words &= ~((bad >> 15) * 0xffffu);
    atomicOr(nonFinite[parity], 1u);
  }
  arena[VALUE_BASE + key * VALUE_PITCH + unit] = words;
}

void stageKeys(uint parity) {
  [[unroll]] for (uint i = 0; i < FETCHES_K; ++i) {
    const uint unit = i * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
    if (unit < KEY_TILE * KEY_UNITS) {
      const uvec4 words = KEYS_SCALED ? scaledHalves(fetchedK[i], keyExponent) : fetchedK[i];
      arena[unit / KEY_UNITS * KEY_PITCH + unit % KEY_UNITS] = words;
      // Read once, kept twice: what is not finite belongs into the scores, but not into a product with weights.
      if (VALUE_IS_KEY && unit % KEY_UNITS < VALUE_UNITS) {
        stageValueUnit(unit / KEY_UNITS, unit % KEY_UNITS, words, parity);
      }
    }
  }
}

void stageValues(uint parity) {
  if (VALUE_IS_KEY) { return; }
  [[unroll]] for (uint i = 0; i < FETCHES_V; ++i) {
    const uint unit = i * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
    if (unit < KEY_TILE * VALUE_UNITS) {
      const uvec4 words = VALUES_SCALED ? scaledHalves(fetchedV[i], valueExponent) : fetchedV[i];
      stageValueUnit(unit / VALUE_UNITS, unit % VALUE_UNITS, words, parity);
    }
  }
}

// --- Query -----------------------------------------------------------------------------------------------

MatrixA query[QUERY_FRAGMENTS];

/// Unit `unit` of a query row, f16 times 2^queryExponent; 0 past the last row.
uvec4 loadQueryUnit(uint row, uint unit) {
  const uint64_t address = queryAddress(min(row, queryTokens - 1));
  uvec4 words = loadHalves(address, unit * 8, HEAD_SIZE_QK);
  if (HAS(OPTION_QUERY_BIAS)) {
    const float scale = powerOfTwo(queryExponent);
    const vec4 low = loadQueryChannels4(address, min(unit * 8, HEAD_SIZE_QK - 1) / 8 * 8) * scale;
    const vec4 high = loadQueryChannels4(address, min(unit * 8, HEAD_SIZE_QK - 1) / 8 * 8 + 4) * scale;
    words = unit * 8 >= HEAD_SIZE_QK ? uvec4(0) : uvec4(
      packHalf2x16(low.xy), packHalf2x16(low.zw), packHalf2x16(high.xy), packHalf2x16(high.zw));
  } else if (QUERY_SCALED) {
    words = scaledHalves(words, queryExponent);
  }
  return row < queryTokens ? words : uvec4(0);
}

/// Copies `units` units of this subgroup's query rows, from unit `firstUnit` of each on, into the arena.
void stageQueries(uint base, uint pitch, uint firstUnit, uint units) {
  for (uint i = lane; i < ROWS * units; i += SUBGROUP_SIZE) {
    arena[base + i / units * pitch + i % units] = loadQueryUnit(firstRow + i / units, firstUnit + i % units);
  }
}

/// Finds the exponent of this subgroup's rows of q. Loads them for it, and again when they are staged: then they are
/// near.
void findQueryExponent() {
  uint greatest = 0;
  for (uint i = lane; i < ROWS * KEY_UNITS; i += SUBGROUP_SIZE) {
    const uint64_t address = queryAddress(min(firstRow + i / KEY_UNITS, queryTokens - 1));
    const uint channel = i % KEY_UNITS * 8;
    if (HAS(OPTION_QUERY_BIAS)) {
      // With the bias a number is bf16 no more, nor need it be for this.
      const vec4 low = abs(loadQueryChannels4(address, min(channel, HEAD_SIZE_QK - 1) / 8 * 8));
      const vec4 high = abs(loadQueryChannels4(address, min(channel, HEAD_SIZE_QK - 1) / 8 * 8 + 4));
      [[unroll]] for (uint c = 0; c < 4; ++c) {
        if (low[c] < INFINITY) { greatest = max(greatest, floatBitsToUint(low[c])); }
        if (high[c] < INFINITY) { greatest = max(greatest, floatBitsToUint(high[c])); }
      }
    } else {
      greatest = max(greatest, greatestOf(loadHalves(address, channel, HEAD_SIZE_QK)));
    }
  }
  queryExponent = scaleExponent(greatestOfSubgroup(greatest));
}

void loadQueries() {
  queryExponent = 0;
  if (QUERY_SCALED) { findQueryExponent(); }
  if (QUERY_IN_SHARED) {
    stageQueries(QUERY_BASE + subgroup * ROWS * KEY_PITCH, KEY_PITCH, 0, KEY_UNITS);
    SUBGROUP_SYNC();
    return;
  }
  // Into registers through the subgroup's rows: each takes 2 * ROW_NUMBERS channels at a time.
  const uint stepsAtOnce = 2 * ROW_NUMBERS / FRAGMENT_K;
  [[dont_unroll]] for (uint first = 0; first < D_STEPS; first += stepsAtOnce) {
    stageQueries(scoreBase, SCORE_PITCH, first * FRAGMENT_K / 8, ROW_NUMBERS / 4);
    SUBGROUP_SYNC();
    // Every fragment is asked whether it is one of these: see PARTS_OF_FRAGMENTS.
    UNROLL for (uint step = 0; step < D_STEPS; ++step) {
      if (step >= first && step < first + stepsAtOnce) {
        UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
          const uint element =
            scoreBase + r * FRAGMENT_M * SCORE_PITCH + (step - first) * (FRAGMENT_K / 8);
          coopMatLoad(query[r * D_STEPS + step], arena, element, SCORE_PITCH, ROW_MAJOR);
        }
      }
    }
    SUBGROUP_SYNC();
  }
}

#endif
