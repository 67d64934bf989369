// The end of a row and what goes in and out beside it: the last factor with sinks and gates, running states, and what
// pieces of one attention carry to each other. Included by attention_options.glsl.

#ifndef ATTENTION_STATES_GLSL
#define ATTENTION_STATES_GLSL

#include "attention_masks.glsl"

/// Four channels of a row of o, from the numbers that the attention gives: a user's modification of them.
#ifdef CUSTOM_OUTPUT
#define MODIFIED_OUTPUT(token, channel, values) customOutput4(token, channel, values)
#else
#define MODIFIED_OUTPUT(token, channel, values) (values)
#endif

// --- The end of a row ------------------------------------------------------------------------------------

/// What a row's result is multiplied by, and its log-sum-exp.
void finishRow(uint token, float reference, float weightSum, out float factor, out float lse) {
  const float gate = gateOf(token);
  if (HAS(OPTION_SINKS)) {
    // Without a tensor the logit is 0: softmax "off by one".
    const float sink = loadOptionalFloat(TENSOR_SINKS, tensorIndex(TENSOR_SINKS, 0), 0.0) * LOG2_E;
    const float largest = max(reference, sink);
    const float origin = largest == -INFINITY ? 0.0 : largest;
    const float moved = exp2(reference - origin);
    const float sum = fma(weightSum, moved, exp2(sink - origin));
    factor = sum == 0.0 ? 0.0 : moved / sum;
    lse = naturalLogSum(origin, sum);
  } else {
    factor = normalisation(weightSum);
    lse = naturalLogSum(reference, weightSum);
  }
  if (HAS(OPTION_MEAN | OPTION_SIGMOID)) {
    factor = weightSum == 0.0 ? 0.0 : exp2(reference);
    // Of no keys 0 and not 0 / 0.
    if (HAS(OPTION_MEAN)) { factor /= float(max(keyTokens, 1)); }
    if (isnan(weightSum)) { factor = weightSum; }
  }
  if (HAS(OPTION_GATES)) {
    factor = gate == 0.0 ? 0.0 : factor * gate;
    lse = gate == 0.0 ? -INFINITY : lse;
  }
}

/// The place of a row in a state of its own: by the tensor's strides.
uint64_t stateIndex(const uint tensor, uint token) {
  return tensorIndex(tensor, firstQuery + token);
}

/// Whether this piece goes on where an earlier piece of the same attention stopped.
bool continues() {
#ifdef LEAN_DECODE
  return false;
#else
  return HAS(OPTION_KEY_RANGE) && OPTION_BLOCK.continues != 0;
#endif
}

/// Whether this piece leaves something for the next.
bool carries() {
#ifdef LEAN_DECODE
  return false;
#else
  return HAS(OPTION_KEY_RANGE) && OPTION_BLOCK.carry != 0ul;
#endif
}

// What pieces of one attention leave for the next, for the rows of one tile, f32: maxima [rows], results [rows, E],
// sums [rows, lanes that share a row]. Maxima stay exponents of 2 and sums stay apart, so that a cut changes no bit.

uint64_t carriedMaximum(uint token) {
  return OPTION_BLOCK.carry + (token - uint(OPTION_BLOCK.carryFirstRow)) * 4;
}

uint64_t carriedResult(uint token) {
  const uint row = token - uint(OPTION_BLOCK.carryFirstRow);
  return OPTION_BLOCK.carry + (uint64_t(OPTION_BLOCK.carryRows) + uint64_t(row) * HEAD_SIZE_V) * 4ul;
}

uint64_t carriedSum(uint token, const uint lanes, uint lane) {
  const uint row = token - uint(OPTION_BLOCK.carryFirstRow);
  return OPTION_BLOCK.carry
    + (uint64_t(OPTION_BLOCK.carryRows) * (1 + HEAD_SIZE_V) + uint64_t(row) * lanes + lane) * 4ul;
}

/// The running state of a row before its first key, the sum that of one of the `lanes` that share the row.
void loadState(uint token, const uint lanes, uint lane, out float reference, out float weightSum) {
  reference = -INFINITY;
  weightSum = 0.0;
  if (HAS(OPTION_RESUME)) {
    reference = loadFloat(TENSOR_INITIAL_MAX, stateIndex(TENSOR_INITIAL_MAX, token)) * LOG2_E;
    if (lane == 0) { weightSum = loadFloat(TENSOR_INITIAL_SUM, stateIndex(TENSOR_INITIAL_SUM, token)); }
    // The weights of other normalisers are relative to nothing.
    if (HAS(OPTION_RELU | OPTION_SIGMOID)) { reference = 0.0; }
  }
  if (HAS(OPTION_KEY_RANGE)) {
    if (continues()) {
      reference = FloatReference(carriedMaximum(token)).value;
      weightSum = FloatReference(carriedSum(token, lanes, lane)).value;
    }
  }
  if (reference == -INFINITY) { weightSum = 0.0; }
}

/// Four channels of a row's result before its first key.
vec4 loadStateChannels4(uint token, uint channel, float reference) {
  vec4 values = vec4(0.0);
  if (HAS(OPTION_RESUME | OPTION_KEY_RANGE)) {
    uint64_t address = 0ul;
    if (HAS(OPTION_RESUME)) {
      address = tensorAddress(TENSOR_INITIAL_OUTPUT)
        + stateIndex(TENSOR_INITIAL_OUTPUT, token) * 4ul;
    }
    if (continues()) { address = carriedResult(token); }
    if (address != 0ul) {
      values = loadChannels4(ELEMENT_F32, false, address, channel, HEAD_SIZE_V);
    }
    if (reference == -INFINITY) { values = vec4(0.0); }
  }
  return values;
}

/// What a returned sum and result are multiplied by: the weights of other normalisers are relative to nothing.
float stateScale(float reference) {
  return HAS(OPTION_RELU | OPTION_SIGMOID) && reference != -INFINITY ? exp2(reference) : 1.0;
}

/// Keeps the state of a row; called by its first lane.
void storeState(uint token, float reference, float weightSum) {
  if (HAS(OPTION_RETURN_STATE)) {
    FloatReference(tensorAddress(TENSOR_FINAL_MAX) + stateIndex(TENSOR_FINAL_MAX, token) * 4ul).value =
      HAS(OPTION_RELU | OPTION_SIGMOID) ? 0.0 : reference * LN_2;
    FloatReference(tensorAddress(TENSOR_FINAL_SUM) + stateIndex(TENSOR_FINAL_SUM, token) * 4ul).value =
      weightSum * stateScale(reference);
  }
  if (carries()) { FloatReference(carriedMaximum(token)).value = reference; }
}

/// Keeps the sum of one of the `lanes` that share a row.
void storeLaneSum(uint token, const uint lanes, uint lane, float weightSum) {
  if (carries()) { FloatReference(carriedSum(token, lanes, lane)).value = weightSum; }
}

void storeStateChannels4(uint token, uint channel, float reference, vec4 values) {
  if (HAS(OPTION_RETURN_STATE)) {
    storeChannels4(
      ELEMENT_F32, false,
      tensorAddress(TENSOR_FINAL_OUTPUT) + stateIndex(TENSOR_FINAL_OUTPUT, token) * 4ul, channel,
      HEAD_SIZE_V, values * stateScale(reference));
  }
  if (carries()) {
    storeChannels4(ELEMENT_F32, false, carriedResult(token), channel, HEAD_SIZE_V, values);
  }
}

#endif
