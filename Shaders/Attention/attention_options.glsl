// Masks, changes of the scores, packed sequences, states: everything that makes one attention differ from
// another. OPTIONS says which of them a pipeline has; what it lacks costs nothing.
//
// Order: scale q.k (+ the relative term) -> soft cap -> biases -> normaliser -> masks -> online softmax.
// Scores here are exponents of 2: natural scores times log2(e).
//
//   attention_option_block.glsl   the bits of OPTIONS, the block of options, its tensors
//   attention_masks.glsl          sequences, intervals, masks: which keys a row sees
//   attention_scores.glsl         from scale q.k to a score
//   attention_custom.glsl         a user's modifications of scores and masks, where a pipeline has any
//   attention_walk.glsl           the keys that a tile walks
//   attention_states.glsl         the end of a row; states and carries

#ifndef ATTENTION_OPTIONS_GLSL
#define ATTENTION_OPTIONS_GLSL

#include "attention_option_block.glsl"
#include "attention_masks.glsl"
#include "attention_scores.glsl"
#include "attention_walk.glsl"
#include "attention_states.glsl"

/// Four channels of q + query_bias, not scaled.
vec4 loadQueryChannels4(uint64_t row, uint channel) {
  vec4 q = loadChannels4(QUERY_TYPE, ALIGNED, row, channel, HEAD_SIZE_QK);
  if (HAS(OPTION_QUERY_BIAS)) {
    q += loadChannels4(
      ELEMENT_F32, false, tensorAddress(TENSOR_QUERY_BIAS) + uint64_t(head) * (HEAD_SIZE_QK * 4), channel,
      HEAD_SIZE_QK);
  }
  return q;
}

/// One channel of q + query_bias, not scaled.
float loadQueryChannel(uint64_t row, uint channel) {
  float q = loadElement(QUERY_TYPE, row + channel * elementBytes(QUERY_TYPE));
  if (HAS(OPTION_QUERY_BIAS)) {
    q += FloatReference(
      tensorAddress(TENSOR_QUERY_BIAS) + (uint64_t(head) * HEAD_SIZE_QK + channel) * 4ul).value;
  }
  return q;
}

#endif
