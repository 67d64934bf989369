// Online softmax in base 2: what a row carries while its keys come tile by tile.
//
//   reference   log2 scale of the row's weights, 2^(score * scale - reference); -inf: no finite score yet
//   weightSum   sum of the weights so far; the row's result so far is a sum of weight * v
//
// Any reference gives the same softmax, so it need not be the largest score: it only has to keep the weights in
// range. When it moves to `moved`, all that was weighed before is multiplied by 2^(reference - moved).
// NaN: a NaN score makes its weight NaN, hence the sum, hence the row; comparisons leave the reference alone.

#ifndef ONLINE_SOFTMAX_GLSL
#define ONLINE_SOFTMAX_GLSL

#include "logistic.glsl"

#define INFINITY uintBitsToFloat(0x7f800000u)
#define QUIET_NAN uintBitsToFloat(0x7fc00000u)

const float LN_2 = 0.693147180559945309417;

/// The factor from raw scores to scores in log2. A scale of 0 would make a hidden score NaN; the substitute makes
/// every score up to 1e30 as good as 0.
float log2Scale(float scale) {
  return scale == 0.0 ? 1e-37 : scale * LOG2_E;
}

/// The raw score of a hidden key: times `scale` it is -inf.
float hiddenScore(float scale) {
  return scale > 0.0 ? -INFINITY : INFINITY;
}

/// What is added to a scaled score before exp2; finite also while the row has seen no finite score. Use one
/// fma(score, scale, offset): far from 0 the product alone would round away what tells scores apart.
float weightOffset(float reference) {
  return reference == -INFINITY ? 0.0 : -reference;
}

/// What the result is multiplied by at the end; 0 for a row that saw no key.
float normalisation(float weightSum) {
  return weightSum == 0.0 ? 0.0 : 1.0 / weightSum;
}

/// ln of the sum of e^score; -inf for a row that saw no key.
float naturalLogSum(float reference, float weightSum) {
  return weightSum == 0.0 ? -INFINITY : (reference + log2(weightSum)) * LN_2;
}

#endif
