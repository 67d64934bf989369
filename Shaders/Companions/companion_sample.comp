#version 460

// The next token of each row of logits: the largest, or one drawn from softmax(x / T) cut to its K most probable
// tokens (top-k) and then to the fewest of the most probable whose mass is at least P (top-p, arXiv:1904.09751).
//
//   order tokens by logit, larger first, then by number, smaller first;  w_i = e^((x_i - max x) / T)
//   top-k: keep the first K;  top-p: keep the shortest beginning of those with  sum w >= P * (sum w of those)
//   draw:  the first kept i, by number, with  sum of kept w up to i  >  u * (sum of kept w)
//
// Without a sort: logits are mapped to integers of the same order, and the bits of the last kept logit are found one
// by one, from how much is above a candidate: 32 passes over the row for each cut. Of tokens with the very logit of
// the last kept one the first ones by number are kept. NaN and -inf are never drawn; a row of nothing else
// gives -1. Deterministic: all sums have a fixed order.
//
// Memory: logits by a row stride of INPUT_TYPE, uniform f32 [rows] in [0, 1), token int32 [rows].
// A workgroup takes a row, each invocation consecutive tokens of it. Grid: x * y >= rows.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_16bit_storage : require

#include "../Common/element_types.glsl"
#include "../Common/online_softmax.glsl"
#include "companion_reduce.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint INPUT_TYPE = 0;
layout(constant_id = 2) const bool DRAWS = false;   // false: the largest logit
layout(constant_id = 3) const bool CUTS_COUNT = false;
layout(constant_id = 4) const bool CUTS_MASS = false;


// 48 bytes.
layout(push_constant, scalar) uniform SamplePush {
  uint64_t logits;
  uint64_t uniforms;  // or 0
  uint64_t tokens;
  uint rows, vocabulary;
  uint stride;      // of rows of logits, in elements
  uint topTokens;   // K
  float topMass;    // P
  float exponent;   // log2(e) / T
} p;

shared float laneParts[256];

uint64_t ownLogits;

float logit(uint token) {
  const float x = loadElement(INPUT_TYPE, ownLogits + uint64_t(token) * elementBytes(INPUT_TYPE));
  return isnan(x) ? -INFINITY : x;
}

/// Integers in the order of the numbers; -0 and 0 are the same.
uint orderOf(float x) {
  const uint bits = x == 0.0 ? 0u : floatBitsToUint(x);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

float numberOf(uint order) {
  return uintBitsToFloat((order & 0x80000000u) != 0 ? order & 0x7fffffffu : ~order);
}

float largest;

/// e^((x - max x) / T); 1 of the largest, also of +inf.
float weightOf(float x) {
  return x == largest ? 1.0 : exp2((x - largest) * p.exponent);
}

/// The sums of all invocations before this one.
float sumBefore(float value) {
  barrier();
  laneParts[gl_LocalInvocationID.x] = value;
  barrier();
  float sum = 0;
  for (uint i = 0; i < gl_LocalInvocationID.x; ++i) { sum += laneParts[i]; }
  return sum;
}

void main() {
  const uint row = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
  if (row >= p.rows) { return; }
  ownLogits = p.logits + uint64_t(row) * p.stride * elementBytes(INPUT_TYPE);
  const uint share = (p.vocabulary + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;
  const uint first = min(gl_LocalInvocationID.x * share, p.vocabulary);
  const uint end = min(first + share, p.vocabulary);

  largest = -INFINITY;
  for (uint i = first; i < end; ++i) { largest = max(largest, logit(i)); }
  largest = workgroupMax(largest);

  // The kept beginning of the order: all above `last`, and of those equal to it the first `ties` by number.
  uint last = orderOf(largest);
  float ties = 1;
  const uint least = orderOf(-INFINITY);
  if (DRAWS) {
    last = least + 1;
    ties = float(p.vocabulary);
    if (CUTS_COUNT) {
      // The largest bound with at least K tokens from it on.
      uint bound = 0;
      for (uint bit = 0x80000000u; bit != 0; bit >>= 1) {
        float count = 0;
        for (uint i = first; i < end; ++i) { count += orderOf(logit(i)) >= (bound | bit) ? 1.0 : 0.0; }
        if (workgroupSum(count) >= float(p.topTokens)) { bound |= bit; }
      }
      if (bound > least) {
        float above = 0;
        for (uint i = first; i < end; ++i) { above += orderOf(logit(i)) > bound ? 1.0 : 0.0; }
        last = bound;
        ties = float(p.topTokens) - workgroupSum(above);
      }
    }
    if (CUTS_MASS) {
      // What is above the last one in full; of those equal to it `ties`.
      const uint countBound = last;
      float above = 0;
      float equals = 0;
      for (uint i = first; i < end; ++i) {
        const float x = logit(i);
        const uint order = orderOf(x);
        above += order > countBound ? weightOf(x) : 0.0;
        equals += order == countBound ? 1.0 : 0.0;
      }
      above = workgroupSum(above);
      ties = min(workgroupSum(equals), ties);
      const float lastWeight = weightOf(numberOf(countBound));
      const float wanted = p.topMass * (above + ties * lastWeight);
      if (above < wanted) {
        ties = lastWeight > 0.0 ? clamp(ceil((wanted - above) / lastWeight), 1.0, ties) : ties;
      } else {
        // The largest bound whose tokens from it on have the mass.
        uint bound = 0;
        for (uint bit = 0x80000000u; bit != 0; bit >>= 1) {
          const uint candidate = bound | bit;
          if (candidate > countBound) {
            float mass = 0;
            for (uint i = first; i < end; ++i) {
              const float x = logit(i);
              mass += orderOf(x) >= candidate ? weightOf(x) : 0.0;
            }
            if (workgroupSum(mass) >= wanted) { bound = candidate; }
          } else {
            bound = candidate;
          }
        }
        float beyond = 0;
        for (uint i = first; i < end; ++i) {
          const float x = logit(i);
          beyond += orderOf(x) > bound ? weightOf(x) : 0.0;
        }
        ties = max(1.0, ceil((wanted - workgroupSum(beyond)) / weightOf(numberOf(bound))));
        last = bound;
      }
    }
  }

  // The equal ones before this invocation's share.
  float equals = 0;
  for (uint i = first; i < end; ++i) { equals += orderOf(logit(i)) == last ? 1.0 : 0.0; }
  float rank = sumBefore(equals);
  float own = 0;
  float counted = rank;
  for (uint i = first; i < end; ++i) {
    const float x = logit(i);
    const uint order = orderOf(x);
    const bool isKept = order > last || order == last && counted < ties;
    counted += order == last ? 1.0 : 0.0;
    own += isKept ? weightOf(x) : 0.0;
  }
  const float before = sumBefore(own);
  const float total = workgroupSum(own);
  const float wanted = DRAWS ? FloatReference(p.uniforms + uint64_t(row) * 4).value * total : 0.0;

  // The first kept token whose running sum is above what is wanted. Rounding may leave none: then it is the last
  // kept one.
  float sum = before;
  int found = 0x7fffffff;
  int lastKept = -1;
  for (uint i = first; i < end; ++i) {
    const float x = logit(i);
    const uint order = orderOf(x);
    const bool isKept = order > least && (order > last || order == last && rank < ties);
    rank += order == last ? 1.0 : 0.0;
    const float weight = isKept ? weightOf(x) : 0.0;
    sum += weight;
    if (weight > 0.0) {
      lastKept = int(i);
      if (sum > wanted && found == 0x7fffffff) { found = int(i); }
    }
  }
  // Token numbers are exact in f32 up to 2^24.
  const float winner = -workgroupMax(found == 0x7fffffff ? -INFINITY : -float(found));
  const float fallback = workgroupMax(float(lastKept));
  if (gl_LocalInvocationID.x == 0) {
    IntegerReference(p.tokens + uint64_t(row) * 4).value = int(winner < INFINITY ? winner : fallback);
  }
}
