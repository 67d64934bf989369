// The tiles of decode_matrix.comp, which documents the specialization constants: derived sizes, the layout of shared
// memory, the way of cache rows of any format into it, the query fragments.

#ifndef DECODE_MATRIX_TILES_GLSL
#define DECODE_MATRIX_TILES_GLSL

#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_control_flow_attributes : require

#include "decode_interface.glsl"
#include "../Common/fragment_loops.glsl"
#include "../Common/half_units.glsl"

layout(constant_id = 5) const uint ROW_FRAGMENTS = 1;
layout(constant_id = 22) const uint SUBGROUP_SIZE = 32;
layout(constant_id = 23) const uint FRAGMENT_M = 16;
layout(constant_id = 24) const uint FRAGMENT_N = 16;
layout(constant_id = 25) const uint FRAGMENT_K = 16;
layout(constant_id = 26) const uint KEY_TILE = 64;
layout(constant_id = 27) const uint CHANNEL_PARTS = 1;
layout(constant_id = 28) const uint LANES_PER_ROW = 8;
layout(constant_id = 29) const bool PREFETCH = true;

// --- Derived sizes ---------------------------------------------------------------------------------------

const uint SUBGROUPS = gl_WorkGroupSize.x / SUBGROUP_SIZE;
const uint KEY_PARTS = SUBGROUPS / CHANNEL_PARTS;
const uint ROWS = ROW_FRAGMENTS * FRAGMENT_M;

const uint D_STEPS = (HEAD_SIZE_QK + FRAGMENT_K - 1) / FRAGMENT_K;
const uint E_FRAGMENTS = (HEAD_SIZE_V + FRAGMENT_N - 1) / FRAGMENT_N;
const uint KEY_FRAGMENTS = KEY_TILE / FRAGMENT_N;  // of the scores
const uint KEY_STEPS = KEY_TILE / FRAGMENT_K;      // of P V

// What a subgroup has: fragments of keys, steps of their channels, fragments of channels of the result.
const uint OWN_KEYS = (KEY_FRAGMENTS + KEY_PARTS - 1) / KEY_PARTS;
const uint OWN_STEPS = (D_STEPS + CHANNEL_PARTS - 1) / CHANNEL_PARTS;
const uint OWN_E = (E_FRAGMENTS + SUBGROUPS - 1) / SUBGROUPS;

// The arena is addressed in units of 16 bytes: 8 f16 or 4 f32. One unit of padding per row spreads the rows of a
// fragment over all shared memory banks.
const uint KEY_UNITS = D_STEPS * FRAGMENT_K / 8;
const uint VALUE_UNITS = E_FRAGMENTS * FRAGMENT_N / 8;
const uint KEY_PITCH = KEY_UNITS + 1;
const uint VALUE_PITCH = VALUE_IS_KEY ? KEY_PITCH : VALUE_UNITS + 1;
const uint SCORE_PITCH = KEY_TILE / 4 + 1;
const uint WEIGHT_PITCH = KEY_TILE / 8 + 1;

const uint FRAGMENT_UNITS = FRAGMENT_M * FRAGMENT_N / 4;  // of an f32 fragment
const uint SCRATCH_UNITS = SUBGROUPS * FRAGMENT_UNITS;    // shares the place of the scores
const uint SCORE_PLANE = ROWS * SCORE_PITCH;
const uint SCORE_UNITS = CHANNEL_PARTS * SCORE_PLANE;

const uint VALUE_BASE = VALUE_IS_KEY ? 0 : KEY_TILE * KEY_PITCH;
const uint SCORE_BASE = VALUE_BASE + KEY_TILE * VALUE_PITCH;
const uint WEIGHT_BASE = SCORE_BASE + (SCORE_UNITS > SCRATCH_UNITS ? SCORE_UNITS : SCRATCH_UNITS);
const uint ARENA_UNITS = WEIGHT_BASE + ROWS * WEIGHT_PITCH;

// Softmax: a row of scores belongs to LANES_PER_ROW neighbouring lanes, each with SPAN consecutive keys.
const uint ROWS_AT_ONCE = gl_WorkGroupSize.x / LANES_PER_ROW;
const uint ROWS_PER_LANE = (ROWS + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
const uint SPAN = KEY_TILE / LANES_PER_ROW;

const uint FETCHES_K = (KEY_TILE * KEY_UNITS + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;
const uint FETCHES_V = VALUE_IS_KEY ? 1 : (KEY_TILE * VALUE_UNITS + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;

// Rows of 16-bit floats at multiples of 16 bytes go into the tile as they are.
const uint KEY_HALVES =
  uint(KEY_TYPE == ELEMENT_F16) & uint(KEYS_ALIGNED) & uint(ROTATION == ROTATION_NONE);
const uint VALUE_HALVES = uint(VALUE_TYPE == ELEMENT_F16) & uint(VALUES_ALIGNED);

#define MatrixA coopmat<float16_t, gl_ScopeSubgroup, FRAGMENT_M, FRAGMENT_K, gl_MatrixUseA>
#define MatrixB coopmat<float16_t, gl_ScopeSubgroup, FRAGMENT_K, FRAGMENT_N, gl_MatrixUseB>
#define Accumulator coopmat<float, gl_ScopeSubgroup, FRAGMENT_M, FRAGMENT_N, gl_MatrixUseAccumulator>

const int ROW_MAJOR = gl_CooperativeMatrixLayoutRowMajor;
const int COLUMN_MAJOR = gl_CooperativeMatrixLayoutColumnMajor;

shared uvec4 arena[ARENA_UNITS];
shared vec4 rowFactors[ROWS / 4];  // vectors: a fragment is loaded from 16-byte aligned places
shared uint seenBits[VALUE_IS_KEY ? 1 : ROWS * LANES_PER_ROW];  // of a row's spans, where V is not finite
shared uint spoiledKeys[2][(KEY_TILE + 31) / 32];  // latent keys with inf or NaN, of the tile with this parity
shared uint nonFinite[2];  // the tile with this parity had inf or NaN among its values
shared uint hasGrown;      // a reference of the tile has moved

uint lane, subgroup;

// --- Cache -----------------------------------------------------------------------------------------------

uvec4 packHalves(vec4 low, vec4 high) {
  return uvec4(
    packHalf2x16(low.xy), packHalf2x16(low.zw), packHalf2x16(high.xy), packHalf2x16(high.zw));
}

/// A key of the sequence whose row may be loaded, whatever key is asked for.
uint loadableKey(uint key) {
  return min(key, max(keyTokens, 1) - 1);
}

/// Four finished channels of a key, 0 past its last one. What is read is always inside of the row.
vec4 loadKeyQuad(uint key, uint64_t row, uint64_t scaleRow, uint channel) {
  const uint inside = min(channel, (HEAD_SIZE_QK - 1) / 4 * 4);
  const vec4 numbers = KEY_SCALES_APART
    ? loadWholeKeyChannels4(row, scaleRow, inside) : loadKeyChannels4(key, row, scaleRow, inside);
  return channel < HEAD_SIZE_QK ? numbers : vec4(0);
}

/// Four finished channels of a value, 0 past its last one.
vec4 loadValueQuad(uint64_t row, uint64_t scaleRow, uint channel) {
  const uint inside = min(channel, (HEAD_SIZE_V - 1) / 4 * 4);
  vec4 numbers = loadValueChannels4(row, inside);
  if (VALUE_SCALES_APART) { numbers *= valueScale(row, scaleRow, inside); }
  return channel < HEAD_SIZE_V ? numbers : vec4(0);
}

/// Unit `unit` of a key as f16, zero past the last key.
uvec4 loadKeyUnit(uint asked, uint unit) {
  const uint key = loadableKey(asked);
  const KeyPlace place = placeOf(key);
  const uint64_t row = keyRow(place);
  uvec4 words;
  if (KEY_HALVES != 0) {
    words = WordQuadReference(row + min(unit * 8, HEAD_SIZE_QK - 8) * 2).value;
    words = unit * 8 < HEAD_SIZE_QK ? words : uvec4(0);
  } else {
    const uint64_t scaleRow = keyScaleRow(place);
    words = packHalves(
      loadKeyQuad(key, row, scaleRow, unit * 8), loadKeyQuad(key, row, scaleRow, unit * 8 + 4));
  }
  return asked < keyTokens ? words : uvec4(0);
}

/// Unit `unit` of a value as f16, zero past the last key.
uvec4 loadValueUnit(uint asked, uint unit) {
  const KeyPlace place = placeOf(loadableKey(asked));
  const uint64_t row = valueRow(place);
  uvec4 words;
  if (VALUE_HALVES != 0) {
    words = WordQuadReference(row + min(unit * 8, HEAD_SIZE_V - 8) * 2).value;
    words = unit * 8 < HEAD_SIZE_V ? words : uvec4(0);
  } else {
    const uint64_t scaleRow = valueScaleRow(place);
    words = packHalves(
      loadValueQuad(row, scaleRow, unit * 8), loadValueQuad(row, scaleRow, unit * 8 + 4));
  }
  return asked < keyTokens ? words : uvec4(0);
}

// --- Staging ---------------------------------------------------------------------------------------------

uvec4 fetchedK[FETCHES_K];
uvec4 fetchedV[FETCHES_V];

void fetchKeys(uint firstKey) {
  UNROLL for (uint i = 0; i < FETCHES_K; ++i) {
    const uint unit = i * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
    fetchedK[i] = loadKeyUnit(firstKey + unit / KEY_UNITS, unit % KEY_UNITS);
  }
}

void fetchValues(uint firstKey) {
  if (VALUE_IS_KEY) { return; }
  UNROLL for (uint i = 0; i < FETCHES_V; ++i) {
    const uint unit = i * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
    fetchedV[i] = loadValueUnit(firstKey + unit / VALUE_UNITS, unit % VALUE_UNITS);
  }
}

/// A unit of values without what is not finite; that is noted.
uvec4 finiteHalves(uvec4 words, uint parity) {
  const uvec4 bad = nonFiniteHalves(words);
  if (bad != uvec4(0)) {
    words &= ~((bad >> 15) * 0xffffu);
    atomicOr(nonFinite[parity], 1u);
  }
  return words;
}

void stageKeys(uint parity) {
  UNROLL for (uint i = 0; i < FETCHES_K; ++i) {
    const uint unit = i * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
    const uint key = unit / KEY_UNITS;
    if (key < KEY_TILE) {
      uvec4 words = fetchedK[i];
      if (VALUE_IS_KEY) {
        // One tile for scores and values: what is not finite spoils the key's scores instead.
        words = finiteHalves(words, parity);
        if (words != fetchedK[i]) { atomicOr(spoiledKeys[parity][key / 32], 1u << key % 32); }
      }
      arena[key * KEY_PITCH + unit % KEY_UNITS] = words;
    }
  }
}

void stageValues(uint parity) {
  if (VALUE_IS_KEY) { return; }
  UNROLL for (uint i = 0; i < FETCHES_V; ++i) {
    const uint unit = i * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
    const uint key = unit / VALUE_UNITS;
    if (key < KEY_TILE) {
      arena[VALUE_BASE + key * VALUE_PITCH + unit % VALUE_UNITS] = finiteHalves(fetchedV[i], parity);
    }
  }
}

// --- Query -----------------------------------------------------------------------------------------------

MatrixA query[ROW_FRAGMENTS * OWN_STEPS];  // of this subgroup's steps of channels

/// Sets the head of a row of the tile, and gives its token; no more than addresses need.
uint openAddress(uint tileRow) {
  const uint row = min(rowTile * ROWS + tileRow, problemRows() - 1);
  head = keyHead * p.headsPerGroup + row % p.headsPerGroup;
  return row / p.headsPerGroup;
}

/// Through the place of the keys, a fragment of rows at a time. Other rows than the problem's are 0.
void loadQueries() {
  UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
    for (uint i = gl_LocalInvocationIndex; i < FRAGMENT_M * KEY_UNITS; i += gl_WorkGroupSize.x) {
      const uint tileRow = r * FRAGMENT_M + i / KEY_UNITS;
      const uint channel = i % KEY_UNITS * 8;
      const uint64_t address = queryAddress(openAddress(tileRow));
      const uint last = (HEAD_SIZE_QK - 1) / 4 * 4;
      const vec4 low = loadQueryChannels4(address, min(channel, last));
      const vec4 high = loadQueryChannels4(address, min(channel + 4, last));
      uvec4 words = packHalves(
        channel < HEAD_SIZE_QK ? low : vec4(0), channel + 4 < HEAD_SIZE_QK ? high : vec4(0));
      if (rowTile * ROWS + tileRow >= problemRows()) { words = uvec4(0); }
      arena[i / KEY_UNITS * KEY_PITCH + i % KEY_UNITS] = words;
    }
    barrier();
    UNROLL for (uint s = 0; s < OWN_STEPS; ++s) {
      const uint step = subgroup % CHANNEL_PARTS + s * CHANNEL_PARTS;
      if (step < D_STEPS) {
        coopMatLoad(query[r * OWN_STEPS + s], arena, step * (FRAGMENT_K / 8), KEY_PITCH, ROW_MAJOR);
      }
    }
    barrier();
  }
}

#endif
