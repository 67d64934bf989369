// Activation functions of neural networks (Activation.swift), in f32.

#ifndef COMPANION_ACTIVATIONS_GLSL
#define COMPANION_ACTIVATIONS_GLSL

#include "../Common/logistic.glsl"

const uint ACTIVATION_NONE = 0;
const uint ACTIVATION_RELU = 1;
const uint ACTIVATION_SILU = 2;
const uint ACTIVATION_GELU_TANH = 3;
const uint ACTIVATION_GELU_ERF = 4;

/// The normal distribution's cumulative function, to 8e-8: the rational form 7.1.26 of Abramowitz and Stegun for
/// erfc, so that small values on the left are not the difference of two numbers near 1.
float normalCumulative(float x) {
  const float z = abs(x) * 0.707106781186547524;
  const float t = 1.0 / fma(0.3275911, z, 1.0);
  const float polynomial =
    t * fma(t, fma(t, fma(t, fma(t, 1.061405429, -1.453152027), 1.421413741), -0.284496736), 0.254829592);
  const float tail = 0.5 * polynomial * exp2(-z * z * LOG2_E);
  return x < 0.0 ? tail : 1.0 - tail;
}

float activated(const uint activation, float x) {
  if (activation == ACTIVATION_RELU) {
    // max() may lose a NaN.
    return x < 0.0 ? 0.0 : x;
  }
  if (activation == ACTIVATION_SILU) { return x * sigmoid(x); }
  if (activation == ACTIVATION_GELU_TANH) {
    // (1 + tanh u) / 2 is the logistic function of 2u.
    return x * sigmoid(1.595769121605730712 * fma(0.044715 * x * x, x, x));
  }
  if (activation == ACTIVATION_GELU_ERF) { return x * normalCumulative(x); }
  return x;
}

vec4 activated4(const uint activation, vec4 x) {
  [[unroll]] for (uint i = 0; i < 4; ++i) { x[i] = activated(activation, x[i]); }
  return x;
}

#endif
