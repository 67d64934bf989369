// What the recurrent kernels do for software drivers only.
//
// What is the same for all lanes such a driver computes in all of them, the exponentials of key decays too: here each
// lane takes its own share of them, and a broadcast is an instruction or two. And rows of one head lie far apart in
// [B, T, H, K], one or two lines of each in a page, which processors do not foresee: words of the lines of a later
// token are read ahead. Where LOADS_HALF_WORDS is defined the shader has integers of 16 bits.

#ifndef LINEAR_PROCESSOR_GLSL
#define LINEAR_PROCESSOR_GLSL

#extension GL_KHR_shader_subgroup_ballot : require

#include "linear_interface.glsl"
#include "../Common/lane_loads.glsl"

layout(constant_id = 12) const uint SHARING_LANES = 1;  // lanes that share the exponentials of key decays, or 1
layout(constant_id = 13) const uint TOKENS_AHEAD = 0;   // how far ahead rows are touched, or 0

/// Of every SHARING_LANES-th key channel, one for each lane.
const uint SHARED_FACTORS = (KEY_CHANNELS + SHARING_LANES - 1) / SHARING_LANES;

/// What the key decays of a token multiply the state's rows by, a lane's share of them, for keyFactors().
void shareKeyFactors(uint64_t row, out float factors[SHARED_FACTORS]) {
#ifdef LOADS_HALF_WORDS
  if (GATE_TYPE != ELEMENT_F32 && SHARING_LANES > 1) {
    [[unroll]] for (uint i = 0; i < SHARED_FACTORS; i++) {
      factors[i] = decayFactor(loadLaneElements(GATE_TYPE, row, i * SHARING_LANES, KEY_CHANNELS - 1));
    }
    return;
  }
#endif
  [[unroll]] for (uint quad = 0; quad < (KEY_CHANNELS + 3) / 4; quad++) {
    const vec4 logarithms = loadChannels4(GATE_TYPE, ALIGNED, row, quad * 4, KEY_CHANNELS);
    [[unroll]] for (uint x = 0; x < 4; x++) {
      const uint channel = quad * 4 + x;
      if (channel < KEY_CHANNELS) {
        const uint place = channel / SHARING_LANES;
        const bool isOwn = gl_SubgroupInvocationID == channel % SHARING_LANES;
        factors[place] = isOwn || channel % SHARING_LANES == 0 ? logarithms[x] : factors[place];
      }
    }
  }
  [[unroll]] for (uint i = 0; i < SHARED_FACTORS; i++) { factors[i] = decayFactor(factors[i]); }
}

/// Those of four key channels.
vec4 keyFactors(const float factors[SHARED_FACTORS], const uint quad) {
  vec4 values;
  [[unroll]] for (uint x = 0; x < 4; x++) {
    const uint channel = min(quad * 4 + x, KEY_CHANNELS - 1);
    values[x] = subgroupBroadcast(factors[channel / SHARING_LANES], channel % SHARING_LANES);
  }
  return values;
}

/// `value`, to be had once `sum` is there: bits of it that no compiler knows to be none go in. Else the driver's
/// compiler leaves all additions to a sum for the end of the block: it puts the products on the stack, where they fill
/// the processor's first cache, and adds them up one after the other.
float after(float value, float sum) {
  return uintBitsToFloat(floatBitsToUint(value) | (floatBitsToUint(sum) & p.flags >> 31));
}

uint touched = 0;  // what touchRow() has read: something depends on it, or a compiler leaves the loads out

/// Reads a word of each line of a row some tokens ahead.
void touchRow(const bool isThere, const uint type, Walk walk, uint ahead, const uint channels) {
  if (!isThere) { return; }
  const uint64_t row = roundedDown(walk.at + ahead * walk.step, 4);
  [[unroll]] for (uint line = 0; line < channels * elementBytes(type); line += 64) {
    touched |= WordReference(row + line).value;
  }
}

#endif
