// What the kernels of feature maps share: sizes, push constants, and to which sequence a token belongs.
//
// Letters: B batches, T tokens, H heads, D channels of x, M features, N sequences: B, or the packed ones.
// x [B,T,H,D] and y [B,T,H,M] by strides. Tokens outside of every packed sequence are not written.
//
// Scratch memory holds pairs of f32: [N,H,W] what is known of a whole sequence, then [N,H,parts,W] what is known of
// each part of one; with a single part the two are the same place. Softmax over tokens: W = D, the largest x and
// the sum of exp(x - largest). FAVOR+: W = 1, the largest exponent and nothing.

#ifndef FEATURE_INTERFACE_GLSL
#define FEATURE_INTERFACE_GLSL

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_scalar_block_layout : require
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_control_flow_attributes : require

#include "../Common/element_types.glsl"
#include "../Common/online_softmax.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint CHANNELS = 64;           // D
layout(constant_id = 2) const uint HEADS = 1;               // H
layout(constant_id = 3) const uint SOURCE_TYPE = 0;
layout(constant_id = 4) const uint OUTPUT_TYPE = 0;
layout(constant_id = 5) const uint FEATURES = 64;           // M
layout(constant_id = 6) const uint OUTPUT_CHANNELS = 64;    // M and the zeros behind
layout(constant_id = 7) const bool SOURCE_ALIGNED = true;   // rows of x begin at 8 elements, D % 8 == 0
layout(constant_id = 8) const bool OUTPUT_ALIGNED = true;   // likewise of y
layout(constant_id = 9) const bool PACKED = false;
// 10 ... belong to each kernel.

// 112 bytes.
layout(push_constant, scalar) uniform FeatureMapPush {
  uint64_t source;
  uint64_t destination;
  uint64_t starts;      // int32 [N+1], with PACKED
  uint64_t positions;   // int32 [B,T], or 0
  uint64_t projection;  // f32 [M,D] of FAVOR+
  uint64_t scratch;
  uint64_t frequency;   // cosFormer: 2^64 / 4M', as a fraction of a turn
  uint sourceBatchStride, sourceTokenStride, sourceHeadStride;                 // elements
  uint destinationBatchStride, destinationTokenStride, destinationHeadStride;  // elements
  uint batches;        // B
  uint tokens;         // T
  uint sequences;      // N
  uint parts;          // of each sequence
  uint tokensPerPart;
  float scale;         // of x
  float epsilon;
  uint reserved;
} p;

layout(buffer_reference, scalar, buffer_reference_align = 8) buffer PairReference { vec2 value; };

/// Where a packed sequence begins, within the tensors whatever the memory says.
uint sequenceStart(uint index) {
  return uint(clamp(IntegerReference(p.starts + uint64_t(index) * 4).value, 0, int(p.tokens)));
}

struct TokenPlace {
  uint sequence;  // 0 where there is none
  uint position;  // in the sequence
  bool exists;
};

/// The sequence of a token of a batch entry.
TokenPlace placeOf(uint batch, uint token) {
  if (!PACKED) { return TokenPlace(batch, token, true); }
  // The last sequence that does not begin behind the token; empty ones before it begin there too.
  uint low = 0;
  uint high = p.sequences;
  while (high - low > 1) {
    const uint middle = (low + high) / 2;
    if (sequenceStart(middle) <= token) { low = middle; } else { high = middle; }
  }
  const uint first = sequenceStart(low);
  const bool exists = first <= token && token < sequenceStart(low + 1);
  return TokenPlace(low, exists ? token - first : 0, exists);
}

/// The tokens first ..< end of a sequence; of packed ones among all tokens.
uvec2 tokensOf(uint sequence) {
  if (!PACKED) { return uvec2(0, p.tokens); }
  const uint first = sequenceStart(sequence);
  return uvec2(first, max(first, sequenceStart(sequence + 1)));
}

uint64_t sourceRow(uint batch, uint token, uint head) {
  return p.source
    + (uint64_t(batch) * p.sourceBatchStride + uint64_t(token) * p.sourceTokenStride
      + uint64_t(head) * p.sourceHeadStride) * elementBytes(SOURCE_TYPE);
}

uint64_t destinationRow(uint batch, uint token, uint head) {
  return p.destination
    + (uint64_t(batch) * p.destinationBatchStride + uint64_t(token) * p.destinationTokenStride
      + uint64_t(head) * p.destinationHeadStride) * elementBytes(OUTPUT_TYPE);
}

/// Four channels of x, scaled.
vec4 loadSource4(uint64_t row, uint channel) {
  return loadChannels4(SOURCE_TYPE, SOURCE_ALIGNED, row, channel, CHANNELS) * p.scale;
}

/// e^x, within 4e-6 of itself for |x| < 88: the change of base rounds.
float exponential(float x) {
  return exp2(x * LOG2_E);
}

/// The pair of a whole sequence.
uint64_t wholePair(uint sequence, uint head, uint index, const uint width) {
  return p.scratch + ((uint64_t(sequence) * HEADS + head) * width + index) * 8;
}

/// The pair of a part.
uint64_t partPair(uint sequence, uint head, uint part, uint index, const uint width) {
  const uint64_t wholes = p.parts == 1 ? 0 : uint64_t(p.sequences) * HEADS * width;
  return p.scratch
    + (wholes + ((uint64_t(sequence) * HEADS + head) * p.parts + part) * width + index) * 8;
}

#endif
