#version 460
// The chunked form of linear attention on the matrix units (VK_KHR_cooperative_matrix), for states that decay as a
// whole: not at all, by a constant of the head (RetNet, Lightning Attention), or by a number of each token (simple
// GLA, Mamba-2). q, k, v in f16 or bf16, o in any type, f32 inside.
//
// @spirv-opt off
// @variant linear_matrix
// @variant linear_matrix_software SOFTWARE
//
//   each workgroup: one sequence and head, COLUMNS columns of the state; S -> fragments, f32, in registers
//     for each chunk of C tokens, G_i the sum of its log2 decays through token i, b_i the strength of an update:
//       K, V, Q, decays -> shared; Q -> fragments;                                            workgroup barrier
//       for C channels of S at a time:
//         S 2^s -> f16 in shared;                                                             workgroup barrier
//         result += Q S;                                                                      workgroup barrier
//       scores = Q K^T (fragments, f32) -> this subgroup's M rows in shared
//       lanes: weights_ij = scale scores_ij b_j 2^(G_i - G_j) for j <= i, else 0;  r_i a power of two, so that the
//              greatest of a row is about 2^14;  r_i weights_ij -> f16, in the place of the scores
//       result = r_i scale 2^(G_i - s) result + weights V (fragments);  result / r_i -> o
//                                                                                             workgroup barrier
//       V <- b_j 2^(G_C - G_j) V 2^v as two f16, high and low (where weights are not 1);      workgroup barrier
//       S = (2^(G_C + v) S + K^T V) 2^-v (fragments);                                         workgroup barrier
//
// (Yang et al. 2023, arXiv:2312.06635, section 4; Qin et al. 2024, arXiv:2401.04658; Dao and Gu 2024,
// arXiv:2405.21060, section 6.)
//
// What is rounded. q, k and v are exact, products are summed in f32, and the state stays in f32 from the first chunk to
// the last. v's weights are f32 numbers, so weighted v goes as a sum of two f16, 22 bits together: the state's error is
// that of f32. The weights of a chunk and the copy of S that Q multiplies are rounded to f16 once each, after a power
// of two has brought them to the top of f16's range, which costs about as much as rounding o to f16 does. Where o is
// f32 both go as two f16 as well (a third more products). Errors against Double, RMS(error) / RMS(reference), K = 24,
// V = 40, T = 1 to 300, eight models, 8x8x8 and 16x16x16: o in f16 2.6e-4 to 3.4e-4 (rounding the exact o alone gives
// 2.1e-4), o in f32 at most 1.7e-7, the final state at most 1.9e-7; K = 32, V = 24, T = 75, o in bf16 1.7e-3.
//
// What is bf16 becomes f16 times a power of two of the chunk, found before it is staged: exact where a number is more
// than 2^-31 of the chunk's greatest one and that is from 2^-34 to 2^50.
//
// Decays. Exponents are differences G_i - G_j with j <= i, never more than 0, and taken after the mask. Sums have two
// parts, so that a difference is as exact as what it differs by, however long the sum. A decay below 2^-126, -inf, or
// a new document is no summand but counts as a clearing: pairs with one between them weigh 0, exactly. Constant decays
// are multiplied by the distance instead.
//
// Missing and spoilt data. Tokens past a sequence's end and channels past K or V are staged as zeros. inf and NaN in q
// or k spoil scores of their own row, or of later ones: what is masked is replaced, not multiplied. In v they would
// meet weights of 0, and 0 * NaN is NaN: so they are taken out of V as it is staged, and where a chunk had any, lanes
// add them to the rows that see them, with f32 weights, as they store o. The state takes V as it is. An infinity in
// the state may become NaN where it is read again; that was to be seen either way.
//
// Workgroup: SUBGROUPS * SUBGROUP_SIZE invocations (id 0), full subgroups of exactly SUBGROUP_SIZE; C = SUBGROUPS * M.
// Grid: x = tiles of COLUMNS columns, y = value head, z = sequence * parts + part. A part is blocksPerPart chunks:
// where sequences and heads are few, a first dispatch without output leaves what each part adds and the product of its
// decays, linear_matrix_scan.comp makes the states at their starts, and the second dispatch begins there.
//
// Specialization constants (ids 0...9: linear_interface.glsl)
//   10, 11, 12  FRAGMENT_M, _N, _K   a shape of the device, f16 x f16 -> f32, subgroup scope; powers of two from 8
//   13          SUBGROUP_SIZE        required of the pipeline
//   14          COLUMNS              a multiple of N and 8, at most C
//   15          LANES_PER_ROW        lanes per row of scores: max(1, SUBGROUP_SIZE / M); C / LANES_PER_ROW is a
//                                    multiple of K
//   Seen with 8x8x8 and 16x16x16, subgroups of 8 lanes.
//
// Shared memory, bytes, with K' = K rounded up to fragments and E = COLUMNS:
//   16 C ((K'/8 + 1) + (E/8 + 1) + (C/4 + 1)) + 40 C + 56       C = 64: K = 128, E = 64 46,648; K = 64, E = 64 38,456
//                                                               C = 32: K = 128, E = 32 17,208
// Registers per lane, 32 bit, beside about 50 of addresses and weights, R = ceil(K' / C):
//   M E (R + 1) / SUBGROUP_SIZE  state and result  + M K' / 2 / SUBGROUP_SIZE  Q  + M N / SUBGROUP_SIZE  scores
//   K = 128, E = 64, 32 lanes: 64 + 32 + 32 + 8 = 136; K = 256, E = 32: 64 + 16 + 64 + 8 = 152
//
// Counts for one chunk and tile, C = 64, K = 128, E = 64, 16x16x16, thousands of multiply-adds: scores 328 and
// weights V 164 (what is above the diagonal is left out by fragments), Q S 524, K^T V 1049 in two parts: 2065. V = 128
// is two tiles: 65 thousand multiply-adds for a token and head, where the recurrence itself has 41.
// Bytes of shared memory, thousands: fragments 213 (scores 41, Q S 66, weights V 25, K^T V 82), staging 220 (K and V
// 24, Q 32, S 80, scores and weights 28, V again 24, o 32).
// Floor on a device of 132 multiprocessors at 1.755 GHz, each 2048 multiply-adds (f16, dense) and 128 bytes of shared
// memory a clock, and 3.35 TB/s, counted and NOT MEASURED, for a token and head of K = V = 128 in 16 bits:
//   matrix units  2 * 2065e3 / 64 / 2048 clocks / 132 = 0.14 ns
//   shared memory 2 * 433e3 / 64 / 128 clocks / 132   = 0.46 ns    what binds
//   memory        1024 bytes                          = 0.31 ns
// B1 T8192 H96: 0.36 ms by shared memory. What would lower it: two fragments of rows for each subgroup, so that a read
// of S and of V serves twice as many; the f32 state through f16 accumulators instead of lanes, where listed.
//
// No speed was measured on a GPU. Not taken: weights and S as two f16 for 16-bit o too, a third more products for an
// error that could not fall below the 2.1e-4 of o's own rounding.
#extension GL_GOOGLE_include_directive : require

#include "linear_matrix_tiles.glsl"

// --- The state -------------------------------------------------------------------------------------------

#include "linear_matrix_state_fragments.glsl"

/// The power of two by which the state is multiplied before it is rounded to f16.
int stateExponent(uint parity) {
  return clamp(14 - exponentOf(uintBitsToFloat(stateMaximum[parity])), -100, 100);
}

const uint PAIRS = (FRAGMENT_M * VALUE_UNITS + SUBGROUP_SIZE - 1) / SUBGROUP_SIZE;  // of 4 numbers, in a round

/// The fragments of a round into this subgroup's work rows as f16, and behind them what that lacks.
void publishState(uint round, float scale) {
  if (!hasStateRow(round)) { return; }
  exposeState(round);
  vec4 low[PAIRS];
  vec4 high[PAIRS];
  UNROLL for (uint p = 0; p < PAIRS; ++p) {
    const uint i = min(p * SUBGROUP_SIZE + lane, FRAGMENT_M * VALUE_UNITS - 1);
    const uint place = workBase + i / VALUE_UNITS * WORK_PITCH + i % VALUE_UNITS * 2;
    low[p] = uintBitsToFloat(arena[place]) * scale;
    high[p] = uintBitsToFloat(arena[place + 1]) * scale;
  }
  SUBGROUP_SYNC();
  UNROLL for (uint p = 0; p < PAIRS; ++p) {
    const uint i = min(p * SUBGROUP_SIZE + lane, FRAGMENT_M * VALUE_UNITS - 1);
    const uint place = workBase + i / VALUE_UNITS * WORK_PITCH + i % VALUE_UNITS;
    const uvec4 words = uvec4(
      packHalf2x16(low[p].xy), packHalf2x16(low[p].zw), packHalf2x16(high[p].xy), packHalf2x16(high[p].zw));
    arena[place] = words;
    if (IS_SPLIT) {
      const vec4 lowRest = low[p] - vec4(unpackHalf2x16(words.x), unpackHalf2x16(words.y));
      const vec4 highRest = high[p] - vec4(unpackHalf2x16(words.z), unpackHalf2x16(words.w));
      // inf - inf is NaN, which would pass for inf's own.
      const vec4 lowFinite = mix(vec4(0.0), lowRest, lessThan(abs(lowRest), vec4(INFINITY)));
      const vec4 highFinite = mix(vec4(0.0), highRest, lessThan(abs(highRest), vec4(INFINITY)));
      arena[place + VALUE_UNITS] = uvec4(
        packHalf2x16(lowFinite.xy), packHalf2x16(lowFinite.zw), packHalf2x16(highFinite.xy),
        packHalf2x16(highFinite.zw));
    }
  }
}

// Whether the products of k and v are those of the tensors times a power of two.
const bool PRODUCTS_SCALED = ((OPTIONS & OPTIONS_WEIGHTED) | ((KEY_TYPE | VALUE_TYPE) & ELEMENT_BF16)) != 0u;

/// state <- factor * state + K^T V for the weighted v that is staged, and `exponent` of their products.
void updateState(float factor, int exponent) {
  const float before = factor * powerOfTwo(exponent);
  if (PRODUCTS_SCALED) {
    UNROLL for (uint f = 0; f < ROUNDS * E_FRAGMENTS; ++f) {
      // 0 * infinity is NaN: a factor of 0 clears.
      if (factor == 0.0) { state[f] = Accumulator(0.0); } else { state[f] = state[f] * before; }
    }
  }
  UNROLL for (uint step = 0; step < KEY_STEPS; ++step) {
    const uint token = step * FRAGMENT_K;
    MatrixA channels[ROUNDS];
    UNROLL for (uint round = 0; round < ROUNDS; ++round) {
      const uint fragment = hasStateRow(round) ? round * SUBGROUPS + subgroup : 0;
      coopMatLoad(
        channels[round], arena, token * KEY_PITCH + fragment * (FRAGMENT_M / 8), KEY_PITCH, COLUMN_MAJOR);
    }
    UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
      UNROLL for (uint share = 0; share < (WEIGHTED ? 2 : 1); ++share) {
        const uint pitch = share == 0 ? VALUE_PITCH : WORK_PITCH;
        const uint base = share == 0 ? VALUE_BASE : WORK_BASE;
        MatrixB columns;
        coopMatLoad(columns, arena, base + token * pitch + n * (FRAGMENT_N / 8), pitch, ROW_MAJOR);
        UNROLL for (uint round = 0; round < ROUNDS; ++round) {
          state[round * E_FRAGMENTS + n] = coopMatMulAdd(channels[round], columns, state[round * E_FRAGMENTS + n]);
        }
      }
    }
  }
  if (PRODUCTS_SCALED) {
    UNROLL for (uint f = 0; f < ROUNDS * E_FRAGMENTS; ++f) { state[f] = state[f] * powerOfTwo(-exponent); }
  }
}

// --- One chunk -------------------------------------------------------------------------------------------

Accumulator result[E_FRAGMENTS];

/// result += q times the channels of the state that are published.
void readState(uint round) {
  UNROLL for (uint step = 0; step < STEPS_PER_ROUND; ++step) {
    const uint own = round * STEPS_PER_ROUND + step;
    if (own < D_STEPS) {
      const uint place = WORK_BASE + step * FRAGMENT_K * WORK_PITCH;
      UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
        UNROLL for (uint share = 0; share < SHARES; ++share) {
          MatrixB columns;
          coopMatLoad(columns, arena, place + share * VALUE_UNITS + n * (FRAGMENT_N / 8), WORK_PITCH, ROW_MAJOR);
          result[n] = coopMatMulAdd(query[own], columns, result[n]);
        }
      }
    }
  }
}

/// Raw scores q.k of this subgroup's rows into its work rows; none of keys behind them all.
void computeScores() {
  UNROLL for (uint n = 0; n < KEY_FRAGMENTS; ++n) {
    if (n * FRAGMENT_N < (subgroup + 1) * FRAGMENT_M) {
      Accumulator products = Accumulator(0.0);
      UNROLL for (uint step = 0; step < D_STEPS; ++step) {
        MatrixB channels;
        coopMatLoad(
          channels, arena, n * FRAGMENT_N * KEY_PITCH + step * (FRAGMENT_K / 8), KEY_PITCH, COLUMN_MAJOR);
        products = coopMatMulAdd(query[step], channels, products);
      }
      coopMatStore(products, arena, workBase + n * (FRAGMENT_N / 4), WORK_PITCH, ROW_MAJOR);
    }
  }
  SUBGROUP_SYNC();
}

/// Puts this lane's weights of each row, as f16, in the first half of the place that its f32 scores had, and what that
/// lacks in the second. A row is multiplied by a power of two of its own, so that f16 holds its weights.
void computeWeights(float stateScale) {
  UNROLL for (uint r = 0; r < ROWS_PER_LANE; ++r) {
    const uint rowInSubgroup = rowInGroup + r * ROWS_AT_ONCE;
    const uint row = subgroup * FRAGMENT_M + rowInSubgroup;
    const vec4 own = gates[row];
    const uint base = workBase + rowInSubgroup * WORK_PITCH + part * (SPAN / 4);
    vec4 weights[SPAN / 4];
    float greatest = 0;
    if (UPDATES_STATE) {
      UNROLL for (uint c = 0; c < SPAN / 4; ++c) {
        const vec4 scores = uintBitsToFloat(arena[base + c]);
        UNROLL for (uint x = 0; x < 4; ++x) {
          const uint key = part * SPAN + c * 4 + x;
          float weight = 0;
          if (key <= row) {
            weight = scores[x] * BLOCK.scale;
            if (KEYS_SCALED) { weight *= powerOfTwo(-queryExponent) * powerOfTwo(-keyExponent); }
            if (WEIGHTED) {
              const vec4 other = gates[key];
              weight *= decayBetween(own, other, row - key);
              if (STRENGTHS) { weight *= other.w; }
            }
          }
          weights[c][x] = weight;
          const float magnitude = abs(weight);
          greatest = magnitude < INFINITY ? max(greatest, magnitude) : greatest;
        }
      }
    }
    [[unroll]] for (uint distance = 1; distance < LANES_PER_ROW; distance *= 2) {
      greatest = max(greatest, subgroupShuffleXor(greatest, distance));
    }
    const int exponent = UPDATES_STATE ? clamp(14 - exponentOf(greatest), -100, 24) : 0;
    const float scale = powerOfTwo(exponent);
    if (part == 0) {
      const float decay = WEIGHTED ? decayFromStart(row) : 1.0;
      float factor = (BLOCK.scale * decay) * (scale * stateScale);
      float after = powerOfTwo(-exponent);
      if (KEYS_SCALED) { factor *= powerOfTwo(-queryExponent); }
      if (VALUES_SCALED) {
        factor *= powerOfTwo(valueExponent);
        after *= powerOfTwo(-valueExponent);
      }
      rowFactors[row / 4][row % 4] = factor;
      rowScales[row] = after;
    }
    if (UPDATES_STATE) {
      UNROLL for (uint c = 0; c < SPAN / 8; ++c) {
        const vec4 low = weights[2 * c] * scale;
        const vec4 high = weights[2 * c + 1] * scale;
        const uvec4 words = uvec4(
          packHalf2x16(low.xy), packHalf2x16(low.zw), packHalf2x16(high.xy), packHalf2x16(high.zw));
        arena[base + c] = words;
        if (IS_SPLIT) {
          weights[2 * c] = low - vec4(unpackHalf2x16(words.x), unpackHalf2x16(words.y));
          weights[2 * c + 1] = high - vec4(unpackHalf2x16(words.z), unpackHalf2x16(words.w));
        }
      }
      if (IS_SPLIT) {
        UNROLL for (uint c = 0; c < SPAN / 8; ++c) {
          const vec4 low = weights[2 * c];
          const vec4 high = weights[2 * c + 1];
          arena[base + SPAN / 8 + c] = uvec4(
            packHalf2x16(low.xy), packHalf2x16(low.zw), packHalf2x16(high.xy), packHalf2x16(high.zw));
        }
      }
    }
  }
  SUBGROUP_SYNC();
}

/// result <- row factors * result, which was q S, and + weights V.
void accumulateValues() {
  Accumulator factors;
  // Stride 0: every column is the same column of factors.
  coopMatLoad(factors, rowFactors, subgroup * FRAGMENT_M / 4, 0, COLUMN_MAJOR);
  UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) { result[n] = result[n] * factors; }
  if (UPDATES_STATE) {
    UNROLL for (uint step = 0; step < KEY_STEPS; ++step) {
      const uint key = step * FRAGMENT_K;
      if (key < (subgroup + 1) * FRAGMENT_M) {
        const uint place = workBase + key / SPAN * (SPAN / 4) + key % SPAN / 8;
        UNROLL for (uint share = 0; share < SHARES; ++share) {
          MatrixA weights;
          coopMatLoad(weights, arena, place + share * (SPAN / 8), WORK_PITCH, ROW_MAJOR);
          UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
            MatrixB columns;
            coopMatLoad(
              columns, arena, VALUE_BASE + key * VALUE_PITCH + n * (FRAGMENT_N / 8), VALUE_PITCH, ROW_MAJOR);
            result[n] = coopMatMulAdd(weights, columns, result[n]);
          }
        }
      }
    }
  }
  SUBGROUP_SYNC();
}

/// What the inf and NaN that were left out of v add to eight channels of a row that sees them, with f32 weights from
/// the tensors themselves: in a product they would spoil rows before them as well, since 0 * NaN is NaN.
void addNonFinite(uint row, uint unit, inout vec4 low, inout vec4 high) {
  for (uint t = 0; t <= row; ++t) {
    const uvec4 words = loadValueUnit(t, unit);
    const uvec4 bad = nonFiniteHalves(words);
    if (bad == uvec4(0)) { continue; }
    const float decay = decayBetween(gates[row], gates[t], row - t);
    // What was cleared in between is not seen.
    if (decay == 0.0) { continue; }
    float score = 0;
    for (uint d = 0; d < KEY_CHANNELS; d += 4) {
      const vec4 product =
        loadChannels4(KEY_TYPE, ALIGNED, queries.at + uint64_t(chunkStart + row) * queries.step, d, KEY_CHANNELS)
        * loadChannels4(KEY_TYPE, ALIGNED, keys.at + uint64_t(chunkStart + t) * keys.step, d, KEY_CHANNELS);
      score += (product.x + product.y) + (product.z + product.w);
    }
    const float weight = score * BLOCK.scale * decay * (STRENGTHS ? gates[t].w : 1.0);
    const vec4 lowValues = vec4(unpackHalf2x16(words.x), unpackHalf2x16(words.y));
    const vec4 highValues = vec4(unpackHalf2x16(words.z), unpackHalf2x16(words.w));
    // The finite neighbours have been added already.
    low += mix(weight * lowValues, vec4(0.0), lessThan(abs(lowValues), vec4(INFINITY)));
    high += mix(weight * highValues, vec4(0.0), lessThan(abs(highValues), vec4(INFINITY)));
  }
}

vec4 finishOutputs(vec4 numbers, uint token, uint channel, float denominator) {
  vec4 own = vec4(0.0);
  vec4 gate = vec4(0.0);
  if (HAS(OPTION_SKIP)) {
    own = loadChannels4(
      VALUE_TYPE, valuesAligned, values.at + token * values.step, min(channel, VALUE_CHANNELS), VALUE_CHANNELS);
  }
  if (HAS(OPTION_OUTPUT_GATE)) {
    gate = loadChannels4(
      VALUE_TYPE, outputGatesAligned, outputGates.at + token * outputGates.step, channel, VALUE_CHANNELS);
  }
  [[unroll]] for (uint x = 0; x < 4; ++x) {
    numbers[x] = finishOutput(numbers[x], own[x], gate[x], denominator);
  }
  return numbers;
}

void storeResults(uint parity) {
  UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
    coopMatStore(result[n], arena, workBase + n * (FRAGMENT_N / 4), WORK_PITCH, ROW_MAJOR);
  }
  SUBGROUP_SYNC();
  const bool hasNonFinite = UPDATES_STATE && nonFinite[parity] != 0;
  for (uint i = lane; i < FRAGMENT_M * VALUE_UNITS; i += SUBGROUP_SIZE) {
    const uint row = subgroup * FRAGMENT_M + i / VALUE_UNITS;
    const uint unit = i % VALUE_UNITS;
    const uint channel = firstColumn + unit * 8;
    if (row < chunkTokens && channel < VALUE_CHANNELS) {
      const uint place = workBase + i / VALUE_UNITS * WORK_PITCH + unit * 2;
      const float scale = rowScales[row];
      vec4 low = uintBitsToFloat(arena[place]) * scale;
      vec4 high = uintBitsToFloat(arena[place + 1]) * scale;
      if (hasNonFinite) { addNonFinite(row, unit, low, high); }
      const uint token = chunkStart + row;
      const float denominator =
        HAS(OPTION_DIVIDE) ? FloatReference(denominators.at + token * denominators.step).value : 1.0;
      low = finishOutputs(low, token, channel, denominator);
      const uint64_t address = outputs.at + token * outputs.step;
      high = finishOutputs(high, token, channel + 4, denominator);
      if (outputsAligned && OUTPUT_TYPE != ELEMENT_F32) {
        WordQuadReference(address + channel * 2).value = uvec4(
          packElements(OUTPUT_TYPE, low.xy), packElements(OUTPUT_TYPE, low.zw),
          packElements(OUTPUT_TYPE, high.xy), packElements(OUTPUT_TYPE, high.zw));
      } else {
        storeChannels4(OUTPUT_TYPE, outputsAligned, address, channel, VALUE_CHANNELS, low);
        storeChannels4(OUTPUT_TYPE, outputsAligned, address, channel + 4, VALUE_CHANNELS, high);
      }
    }
  }
  SUBGROUP_SYNC();
}

/// Whether rows of value channels can be loaded 16 bytes at a time.
bool isAligned(Walk walk) {
  return VALUE_CHANNELS % 8 == 0 && ((uint(walk.at) | uint(walk.step)) & 15u) == 0;
}

void openWalks() {
  queries = openSharedWalk(READS, SLOT_Q, KEY_TYPE, tokenBegin, 1, keyHead);
  keys = openSharedWalk(true, SLOT_K, KEY_TYPE, tokenBegin, 1, keyHead);
  values = openSharedWalk(!HAS(OPTION_ONES), SLOT_V, VALUE_TYPE, tokenBegin, 1, head);
  outputs = openSharedWalk(READS, SLOT_O, OUTPUT_TYPE, tokenBegin, 1, head);
  decays = openSharedWalk(HAS(OPTION_DECAY), SLOT_DECAY, GATE_TYPE, tokenBegin, 1, head);
  timeSteps = openSharedWalk(HAS(OPTION_TIME_STEP), SLOT_TIME_STEP, GATE_TYPE, tokenBegin, 1, head);
  strengths = openSharedWalk(HAS(OPTION_BETA), SLOT_BETA, GATE_TYPE, tokenBegin, 1, head);
  ids = openSharedWalk(HAS(OPTION_SEQUENCE_IDS), SLOT_SEQUENCE_IDS, ELEMENT_F32, tokenBegin, 1, 0);
  outputGates = openSharedWalk(HAS(OPTION_OUTPUT_GATE), SLOT_OUTPUT_GATE, VALUE_TYPE, tokenBegin, 1, head);
  denominators = openSharedWalk(HAS(OPTION_DIVIDE), SLOT_DENOMINATORS, ELEMENT_F32, tokenBegin, 1, head);
  valuesAligned = isAligned(values);
  outputsAligned = isAligned(outputs);
  outputGatesAligned = isAligned(outputGates);
  queryExponent = keyExponent = valueExponent = 0;
  headDecay = 0;
  clearsAlways = false;
  if (HAS(OPTION_HEAD_DECAY)) {
    headDecay = capped(headValue(SLOT_HEAD_DECAY)) * LOG2_E;
    clearsAlways = headDecay < LEAST_LOGARITHM;
    if (clearsAlways) { headDecay = 0; }
  }
}

void resetNotes(uint parity) {
  nonFinite[parity] = 0;
  valueMaximum[parity] = 0;
  strengthMaximum[parity] = 0;
  UNROLL for (uint i = 0; i < 3; ++i) { tensorMaxima[parity * 3 + i] = 0; }
}

void main() {
  lane = gl_SubgroupInvocationID;
  subgroup = gl_SubgroupID;
  workBase = WORK_BASE + subgroup * FRAGMENT_M * WORK_PITCH;
  rowInGroup = lane / LANES_PER_ROW;
  part = lane % LANES_PER_ROW;
  firstColumn = (gl_WorkGroupID.x + p.firstTile) * COLUMNS;
  const uint sequencePart = gl_WorkGroupID.z % p.parts;
  const uint sequenceOfDispatch = gl_WorkGroupID.z / p.parts;
  openSequence(sequenceOfDispatch + p.firstSequence, gl_WorkGroupID.y + p.firstHead);
  const bool isAlone = p.parts == 1;
  const uint partIndex =
    (sequenceOfDispatch * gl_NumWorkGroups.y + gl_WorkGroupID.y) * p.parts + sequencePart;
  const uint64_t partState = BLOCK.tensors[SLOT_PARTS].address
    + uint64_t(partIndex) * (KEY_CHANNELS * VALUE_CHANNELS * 4);
  if (!isAlone) {
    const uint partTokens = p.blocksPerPart * CHUNK;
    tokenBegin = min(tokenBegin + sequencePart * partTokens, tokenEnd);
    tokenEnd = min(tokenBegin + partTokens, tokenEnd);
  }
  openWalks();

  const uint64_t carry = stateAddress(SLOT_CARRY);
  bool isThere = READS;
  const uint64_t before =
    isAlone ? stateBefore(carry, stateAddress(SLOT_INITIAL_STATE), isThere) : partState;
  loadState(before, isThere);
  if (gl_LocalInvocationIndex == 0) {
    resetNotes(0);
    stateMaximum[0] = 0;
    stateMaximum[1] = 0;
  }
  barrier();
  if (READS) { findStateMaximum(0); }

  const uint count = tokenEnd - tokenBegin;
  uint parity = 0;
  float partFactor = 1;  // what the decays of the part make
  chunkStart = 0;
  // Where there is no token there is one chunk all the same, of none: lavapipe (Mesa 26.1.6) crashes on a loop with
  // barriers that no lane enters.
  for (;;) {
    chunkTokens = min(CHUNK, count - chunkStart);
    if (KEYS_SCALED || VALUES_SCALED) { findExponents(parity); }
    stageKeys();
    if (UPDATES_STATE) {
      stageValues(parity);
      for (uint t = gl_LocalInvocationIndex; WEIGHTED && t < CHUNK; t += gl_WorkGroupSize.x) { stageGate(t, parity); }
    }
    if (READS) { loadQueries(); }
    barrier();
    if (gl_LocalInvocationIndex == 0) { resetNotes(parity ^ 1); }
    if (TOKEN_DECAYS) { sumGateGroups(); }
    if (READS) {
      const int exponent = stateExponent(parity);
      UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) { result[n] = Accumulator(0.0); }
      UNROLL for (uint round = 0; round < ROUNDS; ++round) {
        publishState(round, powerOfTwo(exponent));
        barrier();
        if (TOKEN_DECAYS && round == 0) { sumGates(); }
        readState(round);
        barrier();
      }
      if (UPDATES_STATE) { computeScores(); }
      computeWeights(powerOfTwo(-exponent));
      accumulateValues();
      storeResults(parity);
    } else if (TOKEN_DECAYS) {
      barrier();
      sumGates();
      barrier();
    }
    if (UPDATES_STATE) {
      // The weighted v takes the place of v and of the work rows.
      if (READS) { barrier(); }
      if (WEIGHTED || nonFinite[parity] != 0) {
        weighValues(parity);
        barrier();
      }
      const bool isEmpty = chunkTokens == 0;
      const float factor = WEIGHTED && !isEmpty ? decayFromStart(chunkTokens - 1) : 1.0;
      const int exponent = keyExponent + valueExponent + (WEIGHTED ? weightExponent(parity) : 0);
      updateState(factor, isEmpty ? 0 : exponent);
      partFactor *= factor;
      if (READS) {
        if (gl_LocalInvocationIndex == 0) { stateMaximum[parity] = 0; }
        findStateMaximum(parity ^ 1);
      }
    }
    barrier();
    if (UPDATES_STATE) { parity ^= 1; }
    chunkStart += CHUNK;
    if (chunkStart >= count) { break; }
  }

  uint64_t first = 0ul;
  uint64_t second = 0ul;
  if (isAlone) {
    if ((p.flags & FLAG_TO_CARRY) != 0) { first = carry; }
    if ((p.flags & FLAG_STORES) != 0) { second = stateAddress(SLOT_FINAL_STATE); }
  } else if (!READS) {
    first = partState;
    if (gl_WorkGroupID.x == 0 && gl_LocalInvocationIndex == 0) {
      FloatReference(BLOCK.tensors[SLOT_RECORDS].address + partIndex * 4ul).value = partFactor;
    }
  }
  storeStates(first, second);
}
