#version 460
// @variant linear_recurrent_row
// @variant linear_recurrent_subgroup SUBGROUPS

// Linear attention and its gated kin, token by token; the family's step is in linear_interface.glsl.
//
//   for every token: S <- decay S; held = S^T e; S <- S + k (beta w v - held)^T; o = scale S^T q
//
// An invocation keeps COLUMNS columns of the state in registers over all tokens: all K rows of them (variant
// row), or every LANES-th group of 4 rows (variant subgroup), where LANES invocations share a column and add
// up their sums by shuffles. q, k and the gates of key channels are read at addresses that are the same for
// all invocations (row) or for all of one lane (subgroup); v and o one element per column.
//
// Grid: x = tiles of (workgroup / LANES * COLUMNS) columns, y = value head, z = sequence.
// The state is read once and written once: for a single token the kernel is bound by that, 8 K V bytes.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#ifdef SUBGROUPS
#extension GL_KHR_shader_subgroup_shuffle : require
#include "linear_interface.glsl"
#else
#include "linear_processor.glsl"
#endif

layout(constant_id = 10) const uint COLUMNS = 1;
#ifdef SUBGROUPS
layout(constant_id = 11) const uint LANES = 8;  // a power of two, at most the subgroup's size
#else
const uint LANES = 1;
#endif

// Groups of four rows that an invocation holds.
const uint QUADS = (KEY_CHANNELS + 4 * LANES - 1) / (4 * LANES);
const bool IS_PADDED = QUADS * LANES * 4 > (KEY_CHANNELS + 3) / 4 * 4;
const bool DECAYS = HAS(OPTION_HEAD_DECAY | OPTION_DECAY | OPTION_KEY_DECAY | OPTION_VALUE_DECAY | OPTION_TIME_STEP);
const bool HAS_HELD = HAS(OPTION_DELTA | OPTION_LOW_RANK);

// Every index is a constant after unrolling, so that these are registers.
vec4 s[QUADS][COLUMNS];
uint lane;                // 0 ..< LANES: which rows are this invocation's
uint column[COLUMNS];     // clamped to the last
bool isStored[COLUMNS];

/// Four key channels of a row: those of this invocation's i-th group.
vec4 loadRow(const uint type, uint64_t row, const uint i) {
  const uint channel = (i * LANES + lane) * 4;
  if (IS_PADDED) {
    const vec4 values = loadChannels4(type, ALIGNED, row, min(channel, (KEY_CHANNELS - 1) / 4 * 4), KEY_CHANNELS);
    return channel < KEY_CHANNELS ? values : vec4(0.0);
  }
  return loadChannels4(type, ALIGNED, row, channel, KEY_CHANNELS);
}

// --- Software drivers ------------------------------------------------------------------------------------
//
// There, what erases nothing is linear_pass.comp's.
//
// Ladder, f32 B1 T4096 H8, lavapipe of Mesa 26.1.6 on two cores of an EPYC 9004 with other load, ms:
//
//                                                    GLA         KDA      lightning  gated delta     SSD
//   K = V =                                       64   128     64  128     64  128     64  128      128
//   16 lanes: as each lane computes them all      25    91     31  116     12   38     21   56
//     SHARING_LANES                               16    61     21   68     12   38     21   60
//     and 2 TOKENS_AHEAD                          14    43          65     10   38     17   56       50
//     and 3 or 4                                  16    46          61     11   39     20   62       53
//     COLUMNS = 2, 2 ahead                        14    43                 13   42     16   89
//     COLUMNS = 4, 4 ahead                        12    61                 12   58     18   99
//   linear_chunk.comp                             32    62-67   43  85-93  19   41     34   72       75
//   8 lanes: SHARING_LANES                              66          85          46                   63
//     and 2 TOKENS_AHEAD                                66          87          50                   68
//     and COLUMNS = 2                                   57          84          48                   67
//   linear_chunk.comp                                   61          95          49                   69

// Not kept: addresses from the number of the token, and after() behind the sums: KDA 61 to 60, delta 48 to 56 to 70.

#ifndef SUBGROUPS
float shares[SHARED_FACTORS];
#endif

/// Computes what the key decays of a token multiply the state's rows by, for rowFactors() to give out.
void openRowFactors(uint64_t row) {
#ifndef SUBGROUPS
  if (SHARING_LANES > 1) { shareKeyFactors(row, shares); }
#endif
}

/// What the key decays of a token multiply the rows of this invocation's i-th group of channels by.
vec4 rowFactors(uint64_t row, const uint i) {
#ifndef SUBGROUPS
  if (SHARING_LANES > 1) { return keyFactors(shares, i); }
#endif
  return decayFactor(loadRow(GATE_TYPE, row, i));
}

// --- Tokens ----------------------------------------------------------------------------------------------

/// The sum over the invocations that share a column.
float columnSum(vec4 partial) {
  float sum = (partial.x + partial.y) + (partial.z + partial.w);
#ifdef SUBGROUPS
  [[unroll]] for (uint step = 1; step < LANES; step *= 2) {
    sum += subgroupShuffleXor(sum, step * (gl_SubgroupSize / LANES));
  }
#endif
  return sum;
}

void loadState(uint64_t address, bool isThere) {
  [[unroll]] for (uint i = 0; i < QUADS; i++) {
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) { s[i][c] = vec4(0.0); }
  }
  // A load at an address that all invocations share is executed by the software driver even where none of them is
  // there to load, so that it must be one that can be read.
  const uint64_t base = isThere ? address : p.block;
  const uint rowBytes = isThere ? VALUE_CHANNELS * 4 : 0;
  if (isThere) {
    [[unroll]] for (uint i = 0; i < QUADS; i++) {
      [[unroll]] for (uint x = 0; x < 4; x++) {
        const uint channel = (i * LANES + lane) * 4 + x;
        const uint64_t row = base + uint64_t(min(channel, KEY_CHANNELS - 1) * rowBytes);
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
          const float value = FloatReference(row + column[c] * 4).value;
          s[i][c][x] = channel < KEY_CHANNELS ? value : 0.0;
        }
      }
    }
  }
}

void storeState(uint64_t address) {
  [[unroll]] for (uint i = 0; i < QUADS; i++) {
    [[unroll]] for (uint x = 0; x < 4; x++) {
      const uint channel = (i * LANES + lane) * 4 + x;
      [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
        if (isStored[c] && channel < KEY_CHANNELS) {
          FloatReference(address + uint64_t(channel * VALUE_CHANNELS + column[c]) * 4).value = s[i][c][x];
        }
      }
    }
  }
}

/// Where the state after a token is kept.
uint64_t snapshotAddress(uint token) {
  const LinearTensor tensor = BLOCK.tensors[SLOT_SNAPSHOTS];
  const uint64_t place = uint64_t(sequence) * BLOCK.longestSequence + token;
  return tensor.address + (place * tensor.batchStride + uint64_t(head) * tensor.headStride) * 4ul;
}

void main() {
#ifdef SUBGROUPS
  const uint columnsPerSubgroup = gl_SubgroupSize / LANES;
  lane = gl_SubgroupInvocationID / columnsPerSubgroup;
  const uint firstColumn = gl_SubgroupID * columnsPerSubgroup + gl_SubgroupInvocationID % columnsPerSubgroup;
#else
  lane = 0;
  const uint firstColumn = gl_LocalInvocationID.x;
#endif
  const uint columnStep = gl_WorkGroupSize.x / LANES;
  [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
    const uint own = ((gl_WorkGroupID.x + p.firstTile) * COLUMNS + c) * columnStep + firstColumn;
    column[c] = min(own, VALUE_CHANNELS - 1);
    isStored[c] = own < VALUE_CHANNELS;
  }
  openSequence(gl_WorkGroupID.z + p.firstSequence, gl_WorkGroupID.y + p.firstHead);

  const uint64_t carry = stateAddress(SLOT_CARRY);
  const uint64_t initial = stateAddress(SLOT_INITIAL_STATE);
  bool isThere;
  const uint64_t before = stateBefore(carry, initial, isThere);
  loadState(before, isThere);

  const uint t = tokenBegin;
  Walk q = openSharedWalk(!HAS(OPTION_NO_OUTPUT), SLOT_Q, KEY_TYPE, t, 1, keyHead);
  Walk k = openSharedWalk(!HAS(OPTION_NO_UPDATE), SLOT_K, KEY_TYPE, t * UPDATES, UPDATES, keyHead);
  Walk v = openSharedWalk(!HAS(OPTION_NO_UPDATE) && !HAS(OPTION_ONES), SLOT_V, VALUE_TYPE, t * UPDATES, UPDATES, head);
  Walk o = openSharedWalk(!HAS(OPTION_NO_OUTPUT), SLOT_O, OUTPUT_TYPE, t, 1, head);
  Walk decay = openSharedWalk(HAS(OPTION_DECAY), SLOT_DECAY, GATE_TYPE, t, 1, head);
  Walk keyDecay = openSharedWalk(HAS(OPTION_KEY_DECAY), SLOT_KEY_DECAY, GATE_TYPE, t, 1, head);
  Walk valueDecay = openSharedWalk(HAS(OPTION_VALUE_DECAY), SLOT_VALUE_DECAY, GATE_TYPE, t, 1, head);
  Walk dt = openSharedWalk(HAS(OPTION_TIME_STEP), SLOT_TIME_STEP, GATE_TYPE, t, 1, head);
  Walk beta = openSharedWalk(HAS(OPTION_BETA), SLOT_BETA, GATE_TYPE, t * UPDATES, UPDATES, head);
  Walk eraseKeys = openSharedWalk(HAS(OPTION_ERASE_KEYS), SLOT_ERASE_KEYS, KEY_TYPE, t * UPDATES, UPDATES, keyHead);
  Walk eraseGates = openSharedWalk(HAS(OPTION_ERASE_GATES), SLOT_ERASE_GATES, GATE_TYPE, t * UPDATES, UPDATES, head);
  Walk writeGates = openSharedWalk(HAS(OPTION_WRITE_GATES), SLOT_WRITE_GATES, GATE_TYPE, t * UPDATES, UPDATES, head);
  Walk lowRankA = openSharedWalk(HAS(OPTION_LOW_RANK), SLOT_LOW_RANK_A, KEY_TYPE, t, 1, head);
  Walk lowRankB = openSharedWalk(HAS(OPTION_LOW_RANK), SLOT_LOW_RANK_B, KEY_TYPE, t, 1, head);
  Walk gate = openSharedWalk(HAS(OPTION_OUTPUT_GATE), SLOT_OUTPUT_GATE, VALUE_TYPE, t, 1, head);
  Walk ids = openSharedWalk(HAS(OPTION_SEQUENCE_IDS), SLOT_SEQUENCE_IDS, ELEMENT_F32, t, 1, 0);
  Walk parents = openSharedWalk(HAS(OPTION_PARENTS), SLOT_PARENTS, ELEMENT_F32, t, 1, 0);
  Walk denominators = openSharedWalk(HAS(OPTION_DIVIDE), SLOT_DENOMINATORS, ELEMENT_F32, t, 1, head);
  const float headFactor = HAS(OPTION_HEAD_DECAY) ? decayFactor(headValue(SLOT_HEAD_DECAY)) : 1.0;
  const float rate = HAS(OPTION_TIME_STEP) ? headValue(SLOT_RATE) : 0.0;
  const uint64_t bonus = HAS(OPTION_BONUS)
    ? sameForAll(BLOCK.tensors[SLOT_BONUS].address + uint64_t(head) * KEY_CHANNELS * 4) : 0ul;

  uint token = tokenBegin;
  if (token < tokenEnd) {
    // Tested at its end: the software driver would run the body once more for nothing.
    for (;;) {
      if (HAS(OPTION_PARENTS)) {
        const int given = int(sameForAll(WordReference(parents.at).value));
        const bool hasParent = given >= 0 && given < int(token);
        if ((hasParent ? given : -1) + 1 != int(token)) {
          loadState(hasParent ? snapshotAddress(uint(given)) : initial, hasParent || initial != 0);
        }
        parents.at += parents.step;
      }
#ifndef SUBGROUPS
      if (TOKENS_AHEAD > 0) {
        const uint ahead = min(TOKENS_AHEAD, tokenEnd - 1 - token);
        touchRow(!HAS(OPTION_NO_OUTPUT), KEY_TYPE, q, ahead, KEY_CHANNELS);
        touchRow(!HAS(OPTION_NO_UPDATE), KEY_TYPE, k, ahead, KEY_CHANNELS);
        touchRow(!HAS(OPTION_NO_UPDATE) && !HAS(OPTION_ONES), VALUE_TYPE, v, ahead, VALUE_CHANNELS);
        touchRow(HAS(OPTION_KEY_DECAY), GATE_TYPE, keyDecay, ahead, KEY_CHANNELS);
      }
#endif
      float step;
      const float factor = tokenFactor(headFactor, rate, dt.at, decay.at, step);
      bool clears = DECAYS && factor == 0;
      if (HAS(OPTION_SEQUENCE_IDS) && token > 0) {
        const uint64_t before = ids.at - (token > 0 ? ids.step : 0ul);
        clears = clears || WordReference(ids.at).value != WordReference(before).value;
      }
      if ((DECAYS || HAS(OPTION_SEQUENCE_IDS)) && clears) {
        // 0 * NaN is NaN: what came before must be gone.
        [[unroll]] for (uint i = 0; i < QUADS; i++) {
          [[unroll]] for (uint c = 0; c < COLUMNS; c++) { s[i][c] = vec4(0.0); }
        }
      }
      float columnFactor[COLUMNS];
      float own[COLUMNS];  // the last update's value
      [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
        columnFactor[c] = HAS(OPTION_VALUE_DECAY)
          ? decayFactor(loadElement(GATE_TYPE, valueDecay.at + column[c] * elementBytes(GATE_TYPE))) : 1.0;
        own[c] = 0;
      }
      vec4 sums[COLUMNS];
      [[unroll]] for (uint c = 0; c < COLUMNS; c++) { sums[c] = vec4(0.0); }

      if (HAS(OPTION_KEY_DECAY)) { openRowFactors(keyDecay.at); }
      [[unroll]] for (uint u = 0; u < (HAS(OPTION_NO_UPDATE) ? 0 : UPDATES); u++) {
        const float strength = HAS(OPTION_BETA) ? loadElement(GATE_TYPE, beta.at) : step;
        float x[COLUMNS];
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
          own[c] = HAS(OPTION_ONES) ? 1.0 : loadElement(VALUE_TYPE, v.at + column[c] * elementBytes(VALUE_TYPE));
          x[c] = own[c] * strength;
          if (HAS(OPTION_WRITE_GATES)) {
            x[c] *= loadElement(GATE_TYPE, writeGates.at + column[c] * elementBytes(GATE_TYPE));
          }
        }
        if (HAS(OPTION_BEFORE) && !HAS(OPTION_NO_OUTPUT)) {
          vec4 weights = vec4(0.0);
          [[unroll]] for (uint i = 0; i < QUADS; i++) {
            const vec4 query = loadRow(KEY_TYPE, q.at, i);
            if (u == 0) {
              [[unroll]] for (uint c = 0; c < COLUMNS; c++) { sums[c] = fma(query, s[i][c], sums[c]); }
            }
            if (HAS(OPTION_BONUS)) {
              weights = fma(query * loadRow(ELEMENT_F32, bonus, i), loadRow(KEY_TYPE, k.at, i), weights);
            }
          }
          if (HAS(OPTION_BONUS)) {
            [[unroll]] for (uint c = 0; c < COLUMNS; c++) { sums[c] = fma(weights, vec4(x[c]), sums[c]); }
          }
        }

        vec4 held[COLUMNS];
        float low[COLUMNS];
        if (HAS_HELD) {
          [[unroll]] for (uint c = 0; c < COLUMNS; c++) { held[c] = vec4(0.0); }
          [[unroll]] for (uint i = 0; i < QUADS; i++) {
            vec4 rows = vec4(factor);
            if (HAS(OPTION_KEY_DECAY) && u == 0) { rows *= rowFactors(keyDecay.at, i); }
            vec4 erased = vec4(0.0);
            if (HAS(OPTION_LOW_RANK)) { erased = loadRow(KEY_TYPE, lowRankA.at, i); }
            if (HAS(OPTION_DELTA)) {
              erased = loadRow(KEY_TYPE, HAS(OPTION_ERASE_KEYS) ? eraseKeys.at : k.at, i);
              if (HAS(OPTION_ERASE_GATES)) { erased *= loadRow(GATE_TYPE, eraseGates.at, i); }
            }
            [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
              if (HAS(OPTION_LOW_RANK)) { held[c] = fma(erased, s[i][c], held[c]); }
              if (DECAYS && u == 0) { s[i][c] *= rows * columnFactor[c]; }
              if (HAS(OPTION_DELTA)) { held[c] = fma(erased, s[i][c], held[c]); }
            }
          }
          [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
            low[c] = columnSum(held[c]);
            if (HAS(OPTION_DELTA)) { x[c] = fma(-strength, low[c], x[c]); }
          }
        }
        [[unroll]] for (uint i = 0; i < QUADS; i++) {
          const vec4 key = loadRow(KEY_TYPE, k.at, i);
          vec4 rows = vec4(factor);
          if (HAS(OPTION_KEY_DECAY) && u == 0 && !HAS_HELD) {
            rows *= rowFactors(keyDecay.at, i);
          }
          [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
            if (DECAYS && u == 0 && !HAS_HELD) { s[i][c] *= rows * columnFactor[c]; }
            s[i][c] = fma(key, vec4(x[c]), s[i][c]);
            if (HAS(OPTION_LOW_RANK)) {
              s[i][c] = fma(loadRow(KEY_TYPE, lowRankB.at, i), vec4(low[c]), s[i][c]);
            }
          }
          if (u == UPDATES - 1 && !HAS(OPTION_BEFORE) && !HAS(OPTION_NO_OUTPUT)) {
            const vec4 query = loadRow(KEY_TYPE, q.at, i);
            [[unroll]] for (uint c = 0; c < COLUMNS; c++) { sums[c] = fma(query, s[i][c], sums[c]); }
          }
        }
        k.at += k.step;
        v.at += v.step;
        beta.at += beta.step;
        eraseKeys.at += eraseKeys.step;
        eraseGates.at += eraseGates.step;
        writeGates.at += writeGates.step;
      }
      if (HAS(OPTION_NO_UPDATE)) {
        [[unroll]] for (uint i = 0; i < QUADS; i++) {
          const vec4 query = loadRow(KEY_TYPE, q.at, i);
          [[unroll]] for (uint c = 0; c < COLUMNS; c++) { sums[c] = fma(query, s[i][c], sums[c]); }
        }
      }

      if (!HAS(OPTION_NO_OUTPUT)) {
        const float denominator = HAS(OPTION_DIVIDE) ? FloatReference(denominators.at).value : 1.0;
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
          const float z = HAS(OPTION_OUTPUT_GATE)
            ? loadElement(VALUE_TYPE, gate.at + column[c] * elementBytes(VALUE_TYPE)) : 0.0;
          const float result = finishOutput(BLOCK.scale * columnSum(sums[c]), own[c], z, denominator);
          if (isStored[c] && lane == 0) {
            storeElement(OUTPUT_TYPE, o.at + column[c] * elementBytes(OUTPUT_TYPE), result);
          }
        }
      }
      if (HAS(OPTION_SNAPSHOTS)) { storeState(snapshotAddress(token)); }
      token++;
      if (token >= tokenEnd) { break; }
      q.at += q.step;
      o.at += o.step;
      decay.at += decay.step;
      keyDecay.at += keyDecay.step;
      valueDecay.at += valueDecay.step;
      dt.at += dt.step;
      lowRankA.at += lowRankA.step;
      lowRankB.at += lowRankB.step;
      gate.at += gate.step;
      ids.at += ids.step;
      denominators.at += denominators.step;
    }
  }

#ifndef SUBGROUPS
  // Never: no sequence is that long.
  if (TOKENS_AHEAD > 0 && (touched & BLOCK.longestSequence >> 31) != 0) { FloatReference(carry).value = 0; }
#endif
  if ((p.flags & FLAG_TO_CARRY) != 0) { storeState(carry); }
  if ((p.flags & FLAG_STORES) != 0) {
    const uint64_t final = stateAddress(SLOT_FINAL_STATE);
    if (final != 0) { storeState(final); }
  }
}
