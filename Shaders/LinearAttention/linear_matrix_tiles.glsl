// The tiles of linear_matrix.comp, which documents the specialization constants: derived sizes, the layout of shared
// memory, the decays of a chunk, the loads of its q, k and v.

#ifndef LINEAR_MATRIX_TILES_GLSL
#define LINEAR_MATRIX_TILES_GLSL

#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require

#include "linear_interface.glsl"
#include "../Common/fragment_loops.glsl"
#include "../Common/half_units.glsl"

layout(constant_id = 10) const uint FRAGMENT_M = 16;
layout(constant_id = 11) const uint FRAGMENT_N = 16;
layout(constant_id = 12) const uint FRAGMENT_K = 16;
layout(constant_id = 13) const uint SUBGROUP_SIZE = 32;
layout(constant_id = 14) const uint COLUMNS = 64;
layout(constant_id = 15) const uint LANES_PER_ROW = 2;

// --- Derived sizes ---------------------------------------------------------------------------------------

const uint SUBGROUPS = gl_WorkGroupSize.x / SUBGROUP_SIZE;
const uint CHUNK = SUBGROUPS * FRAGMENT_M;  // C

const uint CHANNEL_STEP = FRAGMENT_M > FRAGMENT_K ? FRAGMENT_M : FRAGMENT_K;
const uint K_PADDED = (KEY_CHANNELS + CHANNEL_STEP - 1) / CHANNEL_STEP * CHANNEL_STEP;
const uint D_STEPS = K_PADDED / FRAGMENT_K;
const uint E_FRAGMENTS = COLUMNS / FRAGMENT_N;
const uint KEY_FRAGMENTS = CHUNK / FRAGMENT_N;  // of a row of scores
const uint KEY_STEPS = CHUNK / FRAGMENT_K;      // of A V and of K^T V

// The state's rows of fragments go round the subgroups, so that CHUNK channels are published at a time.
const uint STATE_FRAGMENTS = K_PADDED / FRAGMENT_M;
const uint ROUNDS = (STATE_FRAGMENTS + SUBGROUPS - 1) / SUBGROUPS;
const uint STEPS_PER_ROUND = CHUNK / FRAGMENT_K;
const bool ALL_HAVE_STATE = STATE_FRAGMENTS % SUBGROUPS == 0;

// The arena is addressed in units of 16 bytes: 8 f16 or 4 f32. One unit of padding per row spreads the rows of a
// fragment over all shared memory banks.
const uint KEY_UNITS = K_PADDED / 8;
const uint VALUE_UNITS = COLUMNS / 8;
const uint KEY_PITCH = KEY_UNITS + 1;
const uint VALUE_PITCH = VALUE_UNITS + 1;
const uint WORK_PITCH = CHUNK / 4 + 1;  // CHUNK f32; COLUMNS is at most CHUNK
const uint VALUE_BASE = CHUNK * KEY_PITCH;
const uint WORK_BASE = VALUE_BASE + CHUNK * VALUE_PITCH;
const uint ARENA_UNITS = WORK_BASE + CHUNK * WORK_PITCH;

// Scores: a row belongs to LANES_PER_ROW neighbouring lanes, each with SPAN consecutive keys.
const uint ROWS_AT_ONCE = SUBGROUP_SIZE / LANES_PER_ROW;
const uint ROWS_PER_LANE = FRAGMENT_M / ROWS_AT_ONCE;
const uint SPAN = CHUNK / LANES_PER_ROW;

const bool TOKEN_DECAYS = HAS(OPTION_DECAY | OPTION_TIME_STEP | OPTION_SEQUENCE_IDS);
const bool STRENGTHS = HAS(OPTION_TIME_STEP | OPTION_BETA);
// Whether updates weigh differently, so that v is multiplied on its way into the state.
const uint OPTIONS_WEIGHTED =
  OPTION_DECAY | OPTION_TIME_STEP | OPTION_SEQUENCE_IDS | OPTION_BETA | OPTION_HEAD_DECAY;
const bool WEIGHTED = HAS(OPTIONS_WEIGHTED);
const bool READS = !HAS(OPTION_NO_OUTPUT);
const bool UPDATES_STATE = !HAS(OPTION_NO_UPDATE);
// Weights and the state are rounded to f16 as the output is; where it is f32, a second product has the rest.
const bool IS_SPLIT = OUTPUT_TYPE == ELEMENT_F32;
const uint SHARES = IS_SPLIT ? 2 : 1;

#define MatrixA coopmat<float16_t, gl_ScopeSubgroup, FRAGMENT_M, FRAGMENT_K, gl_MatrixUseA>
#define MatrixB coopmat<float16_t, gl_ScopeSubgroup, FRAGMENT_K, FRAGMENT_N, gl_MatrixUseB>
#define Accumulator coopmat<float, gl_ScopeSubgroup, FRAGMENT_M, FRAGMENT_N, gl_MatrixUseAccumulator>

const int ROW_MAJOR = gl_CooperativeMatrixLayoutRowMajor;
const int COLUMN_MAJOR = gl_CooperativeMatrixLayoutColumnMajor;
#define INFINITY uintBitsToFloat(0x7f800000u)

shared uvec4 arena[ARENA_UNITS];
shared vec4 rowFactors[CHUNK / 4];  // vectors: a fragment is loaded from 16-byte aligned places
shared float rowScales[CHUNK];
// Of each token: the sum of the log2 decays from the chunk's start through it, in two parts; how often the state was
// cleared; the strength of its update.
shared vec4 gates[CHUNK];
shared vec4 partials[CHUNK];
// Of the chunk with this parity: whether v has inf or NaN, its greatest finite f16 and the greatest strength, as bits.
shared uint nonFinite[2];
shared uint valueMaximum[2];
shared uint strengthMaximum[2];
shared uint stateMaximum[2];
shared uint tensorMaxima[6];  // of q, k and v, as bits; where they are bf16

// --- Problem and position --------------------------------------------------------------------------------

uint lane, subgroup;
uint workBase;      // of this subgroup's rows in the arena
uint rowInGroup;    // of this lane's first row, from the subgroup's first
uint part;          // which SPAN of the keys this lane has
uint firstColumn;   // E
uint chunkStart;    // tokens of this dispatch before the chunk
uint chunkTokens;   // tokens of the chunk
float headDecay;    // log2
bool clearsAlways;  // the head's decay leaves nothing
Walk queries, keys, values, outputs, decays, timeSteps, strengths, ids, outputGates, denominators;
bool valuesAligned, outputsAligned, outputGatesAligned;

// --- Decays ----------------------------------------------------------------------------------------------

/// At most 0; NaN stays.
float capped(float logarithm) {
  return logarithm > 0.0 ? 0.0 : logarithm;
}

/// Below that a factor is taken for 0: f32 has no smaller normal number.
const float LEAST_LOGARITHM = -126.0;

/// The gates of token t of the chunk; behind the last one nothing decays.
void stageGate(uint t, uint parity) {
  float logarithm = 0;
  float cleared = 0;
  float strength = 0;
  if (t < chunkTokens) {
    const uint token = chunkStart + t;
    strength = 1;
    if (HAS(OPTION_TIME_STEP)) {
      strength = timeStep(loadElement(GATE_TYPE, timeSteps.at + token * timeSteps.step));
      logarithm += capped(strength * headValue(SLOT_RATE));
    }
    if (HAS(OPTION_DECAY)) {
      logarithm += capped(loadElement(GATE_TYPE, decays.at + token * decays.step));
    }
    logarithm *= LOG2_E;
    if (logarithm < LEAST_LOGARITHM) {
      logarithm = 0;
      cleared = 1;
    }
    if (HAS(OPTION_SEQUENCE_IDS) && tokenBegin + token > 0) {
      const uint64_t at = ids.at + token * ids.step;
      if (WordReference(at).value != WordReference(at - ids.step).value) { cleared = 1; }
    }
    if (HAS(OPTION_BETA)) { strength = loadElement(GATE_TYPE, strengths.at + token * strengths.step); }
    const float magnitude = abs(strength);
    if (STRENGTHS && magnitude < INFINITY) { atomicMax(strengthMaximum[parity], floatBitsToUint(magnitude)); }
  }
  gates[t] = vec4(logarithm, 0.0, cleared, strength);
}

/// The sum of two numbers, each in two parts: differences of sums are as exact as the numbers that differ.
vec2 addParts(vec2 a, vec2 b) {
  precise const float sum = a.x + b.x;
  precise const float shown = sum - a.x;
  precise const float lost = (a.x - (sum - shown)) + (b.x - shown);
  return vec2(sum, (a.y + b.y) + lost);
}

const uint GATE_GROUP = 8;

/// Sums within groups of tokens. A workgroup barrier must follow, then sumGates() and another.
void sumGateGroups() {
  for (uint t = gl_LocalInvocationIndex; t < CHUNK; t += gl_WorkGroupSize.x) {
    vec2 sum = vec2(0.0);
    float cleared = 0;
    for (uint other = t / GATE_GROUP * GATE_GROUP; other <= t; ++other) {
      sum = addParts(sum, gates[other].xy);
      cleared += gates[other].z;
    }
    partials[t] = vec4(sum, cleared, 0.0);
  }
}

void sumGates() {
  for (uint t = gl_LocalInvocationIndex; t < CHUNK; t += gl_WorkGroupSize.x) {
    vec2 sum = partials[t].xy;
    float cleared = partials[t].z;
    for (uint group = 0; group < t / GATE_GROUP; ++group) {
      const vec4 other = partials[group * GATE_GROUP + GATE_GROUP - 1];
      sum = addParts(sum, other.xy);
      cleared += other.z;
    }
    gates[t] = vec4(sum, cleared, gates[t].w);
  }
}

/// The factor that `distance` decays make, up to those of `later` and without those of `earlier`. No exponent is
/// more than 0.
float decayBetween(vec4 later, vec4 earlier, uint distance) {
  float exponent = 0;
  bool isCleared = false;
  if (HAS(OPTION_HEAD_DECAY)) {
    exponent = float(distance) * headDecay;
    isCleared = clearsAlways && distance > 0;
  }
  if (TOKEN_DECAYS) {
    exponent += (later.x - earlier.x) + (later.y - earlier.y);
    isCleared = isCleared || later.z != earlier.z;
  }
  return isCleared ? 0.0 : exp2(capped(exponent));
}

/// The decays from the chunk's start through token t.
float decayFromStart(uint t) {
  return decayBetween(gates[t], vec4(0.0), t + 1);
}

/// The decays after token t through the chunk's last one.
float decayToEnd(uint t) {
  const uint last = chunkTokens - 1;
  return t < chunkTokens ? decayBetween(gates[last], gates[t], last - t) : 0.0;
}

// --- Staging ---------------------------------------------------------------------------------------------

// The matrices are f16. What is bf16 becomes f16 times a power of two of the chunk, by its greatest finite number, so
// that nothing passes f16's range and no digit is lost above 2^-31 of that number.
const bool KEYS_SCALED = KEY_TYPE == ELEMENT_BF16;
const bool VALUES_SCALED = ((OPTIONS & OPTION_ONES) | (VALUE_TYPE ^ ELEMENT_BF16)) == 0u;
// Of q, k and v of this chunk; 0 where they are f16.
int queryExponent, keyExponent, valueExponent;

/// 8 numbers of 16 bits of a row from a channel on; those past the row's end are 0. What is read is always inside of
/// the row.
uvec4 loadHalves(uint64_t row, uint channel, const uint size, bool isAligned) {
  if (isAligned) {
    const uvec4 words = WordQuadReference(row + min(channel, size - 8) * 2).value;
    return channel < size ? words : uvec4(0);
  }
  uvec4 words = uvec4(0);
  UNROLL for (uint i = 0; i < 8; ++i) {
    const uint number = uint(HalfWordReference(row + min(channel + i, size - 1) * 2).value);
    words[i / 2] |= channel + i < size ? number << (i % 2 * 16) : 0;
  }
  return words;
}

/// 8 numbers of 16 bits of token t of the chunk, 0 behind its last one.
uvec4 loadUnit(Walk walk, uint t, uint channel, const uint size, bool isAligned) {
  const uint64_t row = walk.at + uint64_t(chunkStart + min(t, max(chunkTokens, 1) - 1)) * walk.step;
  const uvec4 words = loadHalves(row, channel, size, isAligned);
  return t < chunkTokens ? words : uvec4(0);
}

uvec4 loadKeyUnit(Walk walk, uint t, uint unit, int exponent) {
  const uvec4 words = loadUnit(walk, t, unit * 8, KEY_CHANNELS, ALIGNED);
  return KEYS_SCALED ? scaledHalves(words, exponent) : words;
}

uvec4 loadValueUnit(uint t, uint unit) {
  if (HAS(OPTION_ONES)) {
    // One column of ones.
    return uvec4(t < chunkTokens && firstColumn + unit == 0 ? 0x3c00u : 0u, 0, 0, 0);
  }
  const uvec4 words = loadUnit(values, t, firstColumn + unit * 8, VALUE_CHANNELS, valuesAligned);
  return VALUES_SCALED ? scaledHalves(words, valueExponent) : words;
}

/// The power of two for numbers up to one, given as bits. Not so great that a state of other chunks could pass f32's
/// range when it is multiplied like their products, nor so small that powers of two could.
int tensorExponent(uint greatest) {
  return clamp(14 - exponentOf(uintBitsToFloat(greatest)), -35, 24);
}

/// Finds the exponents of the chunk's q, k and v. Loads them for it, and again when they are staged: then they are
/// near.
void findExponents(uint parity) {
  uint greatestQuery = 0;
  uint greatestKey = 0;
  uint greatestValue = 0;
  for (uint i = gl_LocalInvocationIndex; i < (KEYS_SCALED ? CHUNK * KEY_UNITS : 0); i += gl_WorkGroupSize.x) {
    const uint channel = i % KEY_UNITS * 8;
    greatestKey = max(greatestKey, greatestOf(loadUnit(keys, i / KEY_UNITS, channel, KEY_CHANNELS, ALIGNED)));
    if (READS) {
      greatestQuery =
        max(greatestQuery, greatestOf(loadUnit(queries, i / KEY_UNITS, channel, KEY_CHANNELS, ALIGNED)));
    }
  }
  if (VALUES_SCALED) {
    for (uint i = gl_LocalInvocationIndex; i < CHUNK * VALUE_UNITS; i += gl_WorkGroupSize.x) {
      greatestValue = max(greatestValue, greatestOf(loadUnit(
        values, i / VALUE_UNITS, firstColumn + i % VALUE_UNITS * 8, VALUE_CHANNELS, valuesAligned)));
    }
  }
  if (KEYS_SCALED) {
    atomicMax(tensorMaxima[parity * 3], greatestQuery);
    atomicMax(tensorMaxima[parity * 3 + 1], greatestKey);
  }
  if (VALUES_SCALED) { atomicMax(tensorMaxima[parity * 3 + 2], greatestValue); }
  barrier();
  if (KEYS_SCALED) {
    queryExponent = tensorExponent(tensorMaxima[parity * 3]);
    keyExponent = tensorExponent(tensorMaxima[parity * 3 + 1]);
  }
  if (VALUES_SCALED) { valueExponent = tensorExponent(tensorMaxima[parity * 3 + 2]); }
}

void stageKeys() {
  for (uint i = gl_LocalInvocationIndex; i < CHUNK * KEY_UNITS; i += gl_WorkGroupSize.x) {
    arena[i / KEY_UNITS * KEY_PITCH + i % KEY_UNITS] =
      loadKeyUnit(keys, i / KEY_UNITS, i % KEY_UNITS, keyExponent);
  }
}

/// v without what is not finite; that is noted.
void stageValues(uint parity) {
  uint greatest = 0;
  bool hasBad = false;
  for (uint i = gl_LocalInvocationIndex; i < CHUNK * VALUE_UNITS; i += gl_WorkGroupSize.x) {
    uvec4 words = loadValueUnit(i / VALUE_UNITS, i % VALUE_UNITS);
    const uvec4 bad = nonFiniteHalves(words);
    words &= ~((bad >> 15) * 0xffffu);
    hasBad = hasBad || bad != uvec4(0);
    const uvec4 halves = max(words & 0x7fffu, words >> 16 & 0x7fffu);
    greatest = max(greatest, max(max(halves.x, halves.y), max(halves.z, halves.w)));
    arena[VALUE_BASE + i / VALUE_UNITS * VALUE_PITCH + i % VALUE_UNITS] = words;
  }
  if (hasBad) { atomicOr(nonFinite[parity], 1u); }
  if (WEIGHTED) {
    greatest = subgroupMax(greatest);
    if (lane == 0) { atomicMax(valueMaximum[parity], greatest); }
  }
}

/// The power of two by which weighted values are multiplied, so that none passes f16's range and little falls below
/// it: weights are at most the greatest strength.
int weightExponent(uint parity) {
  const float strongest = STRENGTHS ? uintBitsToFloat(strengthMaximum[parity]) : 1.0;
  // No f16 but 0 is less than 2^-24.
  const int greatest = max(exponentOf(unpackHalf2x16(valueMaximum[parity]).x), -24);
  return clamp(13 - exponentOf(strongest) - greatest, -50, 50);
}

/// v times the weights of its tokens in the state, rounded to f16, in its place, and the rest of it in the work rows;
/// with inf and NaN, which belong into the state. Where weights are 1, v itself.
void weighValues(uint parity) {
  const bool hasBad = nonFinite[parity] != 0;
  const float scale = WEIGHTED ? powerOfTwo(weightExponent(parity)) : 1.0;
  for (uint i = gl_LocalInvocationIndex; i < CHUNK * VALUE_UNITS; i += gl_WorkGroupSize.x) {
    const uint t = i / VALUE_UNITS;
    const uint place = VALUE_BASE + t * VALUE_PITCH + i % VALUE_UNITS;
    uvec4 words = arena[place];
    if (hasBad) { words = loadValueUnit(t, i % VALUE_UNITS); }
    if (WEIGHTED) {
      // Behind the last token 0 must not meet a strength.
      const float weight = t < chunkTokens ? decayToEnd(t) * gates[t].w * scale : 0.0;
      uvec4 rest;
      UNROLL for (uint w = 0; w < 4; ++w) {
        const vec2 exact = unpackHalf2x16(words[w]) * weight;
        words[w] = packHalf2x16(exact);
        const vec2 difference = exact - unpackHalf2x16(words[w]);
        rest[w] = packHalf2x16(mix(vec2(0.0), difference, lessThan(abs(difference), vec2(INFINITY))));
      }
      arena[WORK_BASE + t * WORK_PITCH + i % VALUE_UNITS] = rest;
    }
    arena[place] = words;
  }
}

// --- Query -----------------------------------------------------------------------------------------------

MatrixA query[D_STEPS];

/// This subgroup's rows of q into registers, through its work rows: each takes 2 * CHUNK channels at a time.
void loadQueries() {
  const uint stepsAtOnce = 2 * CHUNK / FRAGMENT_K;
  UNROLL for (uint first = 0; first < D_STEPS; first += stepsAtOnce) {
    const uint units = min(CHUNK / 4, KEY_UNITS - first * FRAGMENT_K / 8);
    for (uint i = lane; i < FRAGMENT_M * units; i += SUBGROUP_SIZE) {
      arena[workBase + i / units * WORK_PITCH + i % units] = loadKeyUnit(
        queries, subgroup * FRAGMENT_M + i / units, first * FRAGMENT_K / 8 + i % units, queryExponent);
    }
    SUBGROUP_SYNC();
    UNROLL for (uint step = first; step < min(D_STEPS, first + stepsAtOnce); ++step) {
      coopMatLoad(query[step], arena, workBase + (step - first) * (FRAGMENT_K / 8), WORK_PITCH, ROW_MAJOR);
    }
    SUBGROUP_SYNC();
  }
}

#endif
