#version 460

// Linear attention and its gated kin where nothing is erased, some tokens at a time; for processors. The family's step
// is in linear_interface.glsl.
//
//   for every TOKENS tokens: for every row i of the state: for each of the tokens t:
//     S_i <- decay_t,i S_i + k_t,i (beta w v)_t;  o_t += q_t,i S_i
//
// The arithmetic of linear_recurrent.comp, its loops the other way round: no row of the state meets another, so that
// one row takes some tokens while it is in a register. A state of 64 rows and more does not fit a processor's 32
// registers: token by token it is loaded and stored for every token, here for every TOKENS of them. Outputs and values
// of the tokens are what registers hold instead: TOKENS * COLUMNS * 2, and COLUMNS for the row.
//
// A token that clears the state (a decay of 0, another sequence) begins a pass: before it passes take fewer tokens, and
// those that are not there repeat the first one with value 0 and decay 1.
//
// Grid: x = tiles of workgroup * COLUMNS columns, y = value head, z = sequence.
//
// Ladder, f32 B1 T4096 H8, lavapipe of Mesa 26.1.6 on two cores of an EPYC 9004, at real-time priority, ms. A row of a
// token's tile is 3 multiplications and 2 additions (that driver has no fused ones); the multiplications alone would
// take 4 ms at 64 x 64 and 16 ms at 128 x 128.
//                                                          GLA       lightning     SSD
//   K = V =                                              64   128     64   128     128
//   16 lanes: linear_recurrent.comp                     14.7   44    10.8   39      38
//     TOKENS = 4, one sum a token                       13.4   54    10.5   39      41
//     four sums a token                                 12.9   48    10.3   36      37
//     one sum, state after it: see after()              10.5   36     8.3   27      28
//     addresses from the number of the token             9.8   35     7.8   27
//     COLUMNS = 2, TOKENS = 2                            7.9   34    10     54      32
//     COLUMNS = 2, TOKENS = 4                           18     63     8.7   26      27
//     TOKENS = 8                                        11     37     8.7   29      28
//   8 lanes: linear_recurrent.comp                      14.4   65    11.4   44      44
//     TOKENS = 2 / 4                                12.2 / 15.9  61 / 66  9.7 / 12.5  39 / 44  40 / 43
//     COLUMNS = 2, TOKENS = 2                           13.6   58    10.5   48      49
// Values loaded as vectors and not gathered (T1024, H8, K = V = 64): GLA 1.75 to 1.70 ms, in f16 2.56 to 2.40;
// lightning 1.64 to 1.53, in f16 2.39 to 2.21. COLUMNS = 4: 2.9 ms, for 40 KB of code are more than the first cache.
// GLA of K = V = 128, two columns and one, of two tokens: f32 7.5 and 8.6 ms, f16 15.7 and 9.9 (T1024).
// Decays of one number deferred: 9 multiplications for a row and four tokens instead of 12. T1024, K = V = 64 and 128:
// lightning 1.41 to 1.31 and 6.05 to 5.41 ms, a decay for each token 1.48 to 1.33 and 5.93 to 5.17.
// q and k of 16 bits made f32 beforehand (linear_widen.comp), sums before the first store of 16 bits, key decays of 16
// bits loaded as vectors; T1024 f16, K = V = 64 and 128: lightning 2.22 to 1.68 and 8.2 to 5.3 ms, GLA 2.40 to 2.12 and
// 10.2 to 7.5 (without the sums before the stores 2.73 and 16).
// Not kept: key decays of four tokens folded into their q and k beforehand, what these tokens read of each other apart,
// so that a row takes 9 multiplications for four tokens and not 12, and no exponentials. f32, T1024 and T4096:
// K = V = 64 1.58 to 1.80 for 1.72 ms and 8.3 to 8.7 for 7.0, 128 6.2 for 7.7 and 27 for 32; f16, T1024, 2.5 for 2.1
// and 13 for 7.3. The passes alone take 1.1 ms (f32, 64), but what is folded must be written and read again.
// No faster: the exponentials of the next pass amid this one, after() for fewer of the sums (within 2 %), tensors that
// do not begin at the same place of a page, fewer tokens in a dispatch, large pages (3 %).

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : require

#define LOADS_HALF_WORDS
#include "linear_processor.glsl"
#include "linear_wide.glsl"

layout(constant_id = 10) const uint COLUMNS = 1;
layout(constant_id = 11) const uint TOKENS = 4;
layout(constant_id = 14) const bool WIDE_KEYS = false;  // q and k are f32 in scratch memory (linear_widen.comp)

const uint QUADS = (KEY_CHANNELS + 3) / 4;
const bool SCALAR_DECAYS = HAS(OPTION_HEAD_DECAY | OPTION_DECAY | OPTION_TIME_STEP);
const bool DECAYS = SCALAR_DECAYS || HAS(OPTION_KEY_DECAY | OPTION_VALUE_DECAY);
// Where a token's decay is one number (or none), the decays of a pass's tokens but the first are deferred: the state
// is S over the product of them, values are divided by it, outputs multiplied.
const uint DECAYS_AT_ONCE = OPTION_KEY_DECAY | OPTION_VALUE_DECAY | OPTION_BEFORE | OPTION_BONUS;
const bool DEFERS = (OPTIONS & DECAYS_AT_ONCE) == 0u;
const bool DECAYS_COLUMNS = SCALAR_DECAYS || HAS(OPTION_VALUE_DECAY);
// Decays below it are not deferred together: values are divided by them.
const float LEAST_DEFERRED = 9.094947e-13;  // 2^-40

// Every index is a constant after unrolling: registers, or the stack of one lane.
vec4 s[QUADS][COLUMNS];
uint column[COLUMNS];  // clamped to the last
bool isStored[COLUMNS];

void loadState(uint64_t address, bool isThere) {
  [[unroll]] for (uint i = 0; i < QUADS; i++) {
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) { s[i][c] = vec4(0.0); }
  }
  // A load at an address that all invocations share is executed by the software driver even where none of them is
  // there to load, so that it must be one that can be read.
  const uint64_t base = isThere ? address : p.block;
  const uint rowBytes = isThere ? VALUE_CHANNELS * 4 : 0;
  if (isThere) {
    [[unroll]] for (uint channel = 0; channel < KEY_CHANNELS; channel++) {
      [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
        s[channel / 4][c][channel % 4] = FloatReference(base + channel * rowBytes + column[c] * 4).value;
      }
    }
  }
}

void storeState(uint64_t address) {
  [[unroll]] for (uint channel = 0; channel < KEY_CHANNELS; channel++) {
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
      if (isStored[c]) {
        FloatReference(address + (channel * VALUE_CHANNELS + column[c]) * 4).value = s[channel / 4][c][channel % 4];
      }
    }
  }
}

const uint ROW_TYPE = WIDE_KEYS ? ELEMENT_F32 : KEY_TYPE;  // of q and k as they are read

vec4 loadKeys(const uint type, uint64_t row, const uint quad) {
  return loadChannels4(type, ALIGNED, row, quad * 4, KEY_CHANNELS);
}

const uint TILE_COLUMNS = gl_WorkGroupSize.x * COLUMNS;

/// A column of each lane.
float loadColumn(const uint type, uint64_t row, const uint c) {
  if (VALUE_CHANNELS % TILE_COLUMNS != 0) { return loadElement(type, row + column[c] * elementBytes(type)); }
  const uint first = (gl_WorkGroupID.x + p.firstTile) * TILE_COLUMNS + c * gl_WorkGroupSize.x;
  return loadLaneElements(type, row + first * elementBytes(type), 0, gl_WorkGroupSize.x - 1);
}

/// Rows of q or k of this workgroup's head.
Walk openKeys(const bool isThere, const uint slot) {
  if (!WIDE_KEYS) { return openSharedWalk(isThere, slot, KEY_TYPE, tokenBegin, 1, keyHead); }
  return Walk(sameForAll(wideRow(0) + (slot == SLOT_K ? widePlane() : 0ul)), WIDE_ROW_BYTES);
}

/// The columns of this workgroup.
Walk tileOf(Walk walk, const uint type) {
  const uint tile = min((gl_WorkGroupID.x + p.firstTile) * TILE_COLUMNS, VALUE_CHANNELS - 1);
  return Walk(walk.at + tile * elementBytes(type), walk.step);
}

void main() {
  [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
    const uint own = ((gl_WorkGroupID.x + p.firstTile) * COLUMNS + c) * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
    column[c] = min(own, VALUE_CHANNELS - 1);
    isStored[c] = own < VALUE_CHANNELS;
  }
  openSequence(gl_WorkGroupID.z + p.firstSequence, gl_WorkGroupID.y + p.firstHead);

  const uint64_t carry = stateAddress(SLOT_CARRY);
  const uint64_t initial = stateAddress(SLOT_INITIAL_STATE);
  bool isThere;
  const uint64_t before = stateBefore(carry, initial, isThere);
  loadState(before, isThere);

  const uint t0 = tokenBegin;
  const Walk q = openKeys(!HAS(OPTION_NO_OUTPUT), SLOT_Q);
  const Walk k = openKeys(true, SLOT_K);
  const Walk v = openSharedWalk(!HAS(OPTION_ONES), SLOT_V, VALUE_TYPE, t0, 1, head);
  const Walk o = openSharedWalk(!HAS(OPTION_NO_OUTPUT), SLOT_O, OUTPUT_TYPE, t0, 1, head);
  const Walk decay = openSharedWalk(HAS(OPTION_DECAY), SLOT_DECAY, GATE_TYPE, t0, 1, head);
  const Walk keyDecay = openSharedWalk(HAS(OPTION_KEY_DECAY), SLOT_KEY_DECAY, GATE_TYPE, t0, 1, head);
  const Walk valueDecay = openSharedWalk(HAS(OPTION_VALUE_DECAY), SLOT_VALUE_DECAY, GATE_TYPE, t0, 1, head);
  const Walk dt = openSharedWalk(HAS(OPTION_TIME_STEP), SLOT_TIME_STEP, GATE_TYPE, t0, 1, head);
  const Walk beta = openSharedWalk(HAS(OPTION_BETA), SLOT_BETA, GATE_TYPE, t0, 1, head);
  const Walk writeGates = openSharedWalk(HAS(OPTION_WRITE_GATES), SLOT_WRITE_GATES, GATE_TYPE, t0, 1, head);
  const Walk gate = openSharedWalk(HAS(OPTION_OUTPUT_GATE), SLOT_OUTPUT_GATE, VALUE_TYPE, t0, 1, head);
  const Walk ids = openSharedWalk(HAS(OPTION_SEQUENCE_IDS), SLOT_SEQUENCE_IDS, ELEMENT_F32, t0, 1, 0);
  const Walk denominators = openSharedWalk(HAS(OPTION_DIVIDE), SLOT_DENOMINATORS, ELEMENT_F32, t0, 1, head);
  const float headFactor = HAS(OPTION_HEAD_DECAY) ? decayFactor(headValue(SLOT_HEAD_DECAY)) : 1.0;
  const float rate = HAS(OPTION_TIME_STEP) ? headValue(SLOT_RATE) : 0.0;
  const uint64_t bonus = HAS(OPTION_BONUS)
    ? sameForAll(BLOCK.tensors[SLOT_BONUS].address + uint64_t(head) * KEY_CHANNELS * 4) : 0ul;

  float pending = 1;  // what the state is still to be multiplied by where decays are deferred
  uint token = tokenBegin;
  if (token < tokenEnd) {
    // Tested at its end: the software driver would run the body once more for nothing.
    for (;;) {
      // --- What each token is ---
      // Addresses come from the one number that goes round the loop: each of these is a vector there, and one lane of
      // it is read back from the stack.
      const uint first = sameForAll(token);
      const uint begun = first - tokenBegin;
      uint count = min(TOKENS, tokenEnd - first);  // tokens of this pass
      float factor[TOKENS];
      float deferred[TOKENS];  // the product of factors behind the first
      float step[TOKENS];
      float product = 1;
      [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        const uint place = begun + min(t, tokenEnd - 1 - first);
        factor[t] =
          tokenFactor(headFactor, rate, dt.at + place * dt.step, decay.at + place * decay.step, step[t]);
        if (t > 0) { product *= factor[t]; }
        deferred[t] = product;
        bool clears = DECAYS && factor[t] == 0;
        if (DEFERS) {
          if (product < LEAST_DEFERRED) { clears = true; }
        }
        if (HAS(OPTION_SEQUENCE_IDS) && tokenBegin + place > 0) {
          const uint64_t at = ids.at + place * ids.step;
          const uint64_t earlier = at - (tokenBegin + place > 0 ? ids.step : 0ul);
          clears = clears || WordReference(at).value != WordReference(earlier).value;
        }
        if (SCALAR_DECAYS || HAS(OPTION_SEQUENCE_IDS)) {
          if (t > 0) {
            count = clears ? min(count, t) : count;
          } else if (clears) {
            // 0 * NaN is NaN: what came before must be gone.
            [[unroll]] for (uint i = 0; i < QUADS; i++) {
              [[unroll]] for (uint c = 0; c < COLUMNS; c++) { s[i][c] = vec4(0.0); }
            }
          }
        }
      }
      count = sameForAll(count);

      uint64_t qRow[TOKENS];
      uint64_t kRow[TOKENS];
      float keyShares[TOKENS][SHARED_FACTORS];
      float columnFactor[TOKENS][COLUMNS];
      float own[TOKENS][COLUMNS];
      float x[TOKENS][COLUMNS];
      float sums[TOKENS][COLUMNS];
      float weights[TOKENS];  // of a token's own update where it reads before that
      [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        const bool isThere = t < count;
        const uint place = begun + (isThere ? t : 0);
        qRow[t] = q.at + place * q.step;
        kRow[t] = k.at + place * k.step;
        const float strength =
          HAS(OPTION_BETA) ? loadElement(GATE_TYPE, beta.at + place * beta.step) : step[t];
        weights[t] = 0;
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
          sums[t][c] = 0;
          own[t][c] = HAS(OPTION_ONES) ? 1.0 : loadColumn(VALUE_TYPE, v.at + place * v.step, c);
          x[t][c] = own[t][c] * strength;
          if (HAS(OPTION_WRITE_GATES)) { x[t][c] *= loadColumn(GATE_TYPE, writeGates.at + place * writeGates.step, c); }
          columnFactor[t][c] = factor[t];
          if (DEFERS) { columnFactor[t][c] = pending * factor[0]; }
          if (HAS(OPTION_VALUE_DECAY)) {
            columnFactor[t][c] *= decayFactor(loadColumn(GATE_TYPE, valueDecay.at + place * valueDecay.step, c));
          }
          if (DEFERS) { x[t][c] /= deferred[t]; }
          if (!isThere) {
            x[t][c] = 0;
            columnFactor[t][c] = 1;
          }
        }
        if (HAS(OPTION_KEY_DECAY)) {
          float shares[SHARED_FACTORS];
          shareKeyFactors(keyDecay.at + place * keyDecay.step, shares);
          [[unroll]] for (uint i = 0; i < SHARED_FACTORS; i++) { keyShares[t][i] = isThere ? shares[i] : 1.0; }
        }
      }
      if (TOKENS_AHEAD > 0) {
        [[unroll]] for (uint t = 0; t < TOKENS; t++) {
          const uint ahead = begun + min(TOKENS_AHEAD + t, tokenEnd - 1 - first);
          touchRow(!WIDE_KEYS && !HAS(OPTION_NO_OUTPUT), KEY_TYPE, q, ahead, KEY_CHANNELS);
          touchRow(!WIDE_KEYS, KEY_TYPE, k, ahead, KEY_CHANNELS);
          touchRow(!HAS(OPTION_ONES), VALUE_TYPE, tileOf(v, VALUE_TYPE), ahead, TILE_COLUMNS);
          touchRow(HAS(OPTION_KEY_DECAY), GATE_TYPE, keyDecay, ahead, KEY_CHANNELS);
          touchRow(!HAS(OPTION_NO_OUTPUT), OUTPUT_TYPE, tileOf(o, OUTPUT_TYPE), ahead, TILE_COLUMNS);
        }
      }

      // --- One pass over the state ---
      [[unroll]] for (uint i = 0; i < QUADS; i++) {
        [[unroll]] for (uint t = 0; t < TOKENS; t++) {
          const vec4 key = loadKeys(ROW_TYPE, kRow[t], i);
          vec4 query = vec4(0.0);
          if (!HAS(OPTION_NO_OUTPUT)) { query = loadKeys(ROW_TYPE, qRow[t], i); }
          vec4 rows = vec4(1.0);
          if (HAS(OPTION_KEY_DECAY)) { rows = keyFactors(keyShares[t], i); }
          if (HAS(OPTION_BONUS) && !HAS(OPTION_NO_OUTPUT)) {
            const vec4 products = query * loadKeys(ELEMENT_F32, bonus, i) * key;
            weights[t] += (products.x + products.y) + (products.z + products.w);
          }
          [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
            vec4 state = s[i][c];
            vec4 read = query * state;
            if (DECAYS_COLUMNS) {
              if (t == 0 || HAS(DECAYS_AT_ONCE)) { state *= columnFactor[t][c]; }
            }
            if (HAS(OPTION_KEY_DECAY)) { state *= rows; }
            state = fma(key, vec4(x[t][c]), state);
            if (!HAS(OPTION_BEFORE)) { read = query * state; }
            s[i][c] = state;
            if (i + 2 < QUADS) { s[i + 2][c][t % 4] = after(s[i + 2][c][t % 4], sums[t][c]); }
            sums[t][c] += (read.x + read.y) + (read.z + read.w);
          }
        }
      }

      if (!HAS(OPTION_NO_OUTPUT)) {
        // Stores of 16 bits are branches: all sums before the first of them, or the driver's compiler leaves some sums
        // for behind it, with all that goes into them on the stack.
        float last = 0;
        if (elementBytes(OUTPUT_TYPE) == 2) {
          [[unroll]] for (uint i = 0; i < TOKENS * COLUMNS; i++) { last = after(last, sums[i / COLUMNS][i % COLUMNS]); }
        }
        [[unroll]] for (uint t = 0; t < TOKENS; t++) {
          const bool isThere = t < count;
          const uint place = begun + (isThere ? t : 0);
          const float denominator =
            HAS(OPTION_DIVIDE) ? FloatReference(denominators.at + place * denominators.step).value : 1.0;
          [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
            const float z =
              HAS(OPTION_OUTPUT_GATE) ? loadColumn(VALUE_TYPE, gate.at + place * gate.step, c) : 0.0;
            float sum = after(sums[t][c], last);
            if (DEFERS) { sum *= deferred[t]; }
            if (HAS(OPTION_BONUS)) { sum = fma(weights[t], x[t][c], sum); }
            const float result = finishOutput(BLOCK.scale * sum, own[t][c], z, denominator);
            if (isStored[c] && isThere) {
              storeElement(OUTPUT_TYPE, o.at + place * o.step + column[c] * elementBytes(OUTPUT_TYPE), result);
            }
          }
        }
      }
      if (DEFERS) {
        [[unroll]] for (uint t = 0; t < TOKENS; t++) { pending = t < count ? deferred[t] : pending; }
      }
      token += count;
      if (token >= tokenEnd) { break; }
    }
  }

  if (DEFERS) {
    [[unroll]] for (uint i = 0; i < QUADS; i++) {
      [[unroll]] for (uint c = 0; c < COLUMNS; c++) { s[i][c] *= pending; }
    }
  }
  // Never: no sequence is that long.
  if (TOKENS_AHEAD > 0 && (touched & BLOCK.longestSequence >> 31) != 0) { FloatReference(carry).value = 0; }
  if ((p.flags & FLAG_TO_CARRY) != 0) { storeState(carry); }
  if ((p.flags & FLAG_STORES) != 0) {
    const uint64_t final = stateAddress(SLOT_FINAL_STATE);
    if (final != 0) { storeState(final); }
  }
}
