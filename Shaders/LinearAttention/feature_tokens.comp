#version 460

// What a feature map has to know of a whole sequence before it maps its tokens (feature_interface.glsl):
//
//   STAGE 0, for every part and channel:  m = max of x, l = sum of exp(x - m) over the part's tokens
//   STAGE 1, for every channel:           m = max of the parts' m, l = sum of l_part exp(m_part - m)
//
// with channels that hold -inf alone at (-inf, 0): no difference of infinities is ever taken. Stage 1 is also what
// joins the largest exponents of FAVOR+, with WIDTH 1 and nothing to sum.
//
// Stage 0: one invocation has 4 channels of a part; neighbours the next ones, then the next head, then the next
// part: at every token a subgroup reads what is contiguous. Stage 1: one invocation per pair.
// Grid: x * y * size >= N parts H ceil(D / 4), or >= N H WIDTH.

#extension GL_GOOGLE_include_directive : require

#include "feature_interface.glsl"

layout(constant_id = 10) const uint STAGE = 0;
layout(constant_id = 11) const uint WIDTH = 64;  // of the pairs: D, or 1

void measurePart(uint item) {
  const uint units = (CHANNELS + 3) / 4;
  const uint channel = item % units * 4;
  const uint head = item / units % HEADS;
  const uint part = item / units / HEADS % p.parts;
  const uint sequence = item / units / HEADS / p.parts;
  if (sequence >= p.sequences) { return; }
  const uvec2 range = tokensOf(sequence);
  const uint first = min(range.x + part * p.tokensPerPart, range.y);
  // The last part takes what is left, should a sequence be longer than was said.
  const uint end = part + 1 == p.parts ? range.y : min(first + p.tokensPerPart, range.y);
  vec4 largest = vec4(-INFINITY);
  vec4 sum = vec4(0.0);
  for (uint token = first; token < end; token++) {
    const vec4 x = loadSource4(sourceRow(PACKED ? 0 : sequence, token, head), channel);
    [[unroll]] for (uint i = 0; i < 4; i++) {
      // NaN goes into the sum: no comparison with it is true.
      const float e = x[i] == largest[i] ? 1.0 : exponential(-abs(x[i] - largest[i]));
      const bool rises = x[i] > largest[i];
      const float risen = sum[i] * (rises ? e : 1.0) + (rises ? 1.0 : e);
      sum[i] = x[i] == -INFINITY ? sum[i] : risen;
      largest[i] = rises ? x[i] : largest[i];
    }
  }
  [[unroll]] for (uint i = 0; i < 4; i++) {
    if (channel + i < CHANNELS) {
      PairReference(partPair(sequence, head, part, channel + i, CHANNELS)).value = vec2(largest[i], sum[i]);
    }
  }
}

void joinParts(uint item) {
  const uint index = item % WIDTH;
  const uint head = item / WIDTH % HEADS;
  const uint sequence = item / WIDTH / HEADS;
  if (sequence >= p.sequences) { return; }
  float largest = -INFINITY;
  for (uint part = 0; part < p.parts; part++) {
    largest = max(largest, PairReference(partPair(sequence, head, part, index, WIDTH)).value.x);
  }
  float sum = 0.0;
  for (uint part = 0; part < p.parts; part++) {
    const vec2 pair = PairReference(partPair(sequence, head, part, index, WIDTH)).value;
    const float weight = pair.x == largest ? 1.0 : exponential(pair.x + weightOffset(largest));
    sum += pair.y * weight;
  }
  PairReference(wholePair(sequence, head, index, WIDTH)).value = vec2(largest, sum);
}

void main() {
  const uint item = (gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * gl_WorkGroupSize.x
    + gl_LocalInvocationID.x;
  if (STAGE == 0) {
    measurePart(item);
  } else {
    joinParts(item);
  }
}
