// The logistic function, by exponentials in base 2.

#ifndef LOGISTIC_GLSL
#define LOGISTIC_GLSL

const float LOG2_E = 1.44269504088896340736;

float sigmoid(float x) {
  return 1.0 / (1.0 + exp2(-x * LOG2_E));
}

vec4 sigmoid(vec4 x) {
  return 1.0 / (1.0 + exp2(-x * LOG2_E));
}

/// x sigmoid(x); 0 for -inf, whose product would be NaN.
vec4 silu(vec4 x) {
  const vec4 gate = sigmoid(x);
  return mix(x * gate, vec4(0.0), equal(gate, vec4(0.0)));
}

#endif
