#version 460

// The epilogue of a linear attention: norms of groups of heads, with weights, times a gate.
//
//   for each row, group of GROUP_HEADS heads, n = GROUP_HEADS D channels:
//     x' = GATES_BEFORE ? x gate(z) : x
//     rms:    y = x' / sqrt(sum of x'^2 / n + epsilon)
//     layer:  y = (x' - m) / sqrt(sum of (x' - m)^2 / n + epsilon), m = sum of x' / n
//     y = y * weight + bias;  y = GATES_BEFORE ? y : y gate(z)          gate(z) = 1, sigmoid(z) or z sigmoid(z)
//
// SRMSNorm (TransNormer, arXiv:2307.14995) is rms without weights, RetNet's group norm (arXiv:2307.08621) layer or rms
// of single heads, Mamba-2's gated norm rms of H heads with the gate before.
//
// Memory: x, y, z by strides [B,T,H,D], channels contiguous; weight and bias [D] or [H,D]. y may be x.
// LANES invocations share a group, each with every LANES-th four of channels: reads are contiguous over them; sums go
// through shared memory. x is read twice (layer: three times), from the caches but for the first.
// Workgroup: a multiple of LANES. Grid: x * y * size >= B T H / GROUP_HEADS * LANES.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_16bit_storage : require

#include "../Common/element_types.glsl"
#include "../Common/logistic.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint CHANNELS = 64;       // D
layout(constant_id = 2) const uint HEADS = 1;           // H
layout(constant_id = 3) const uint GROUP_HEADS = 1;     // a divisor of H
layout(constant_id = 4) const uint SOURCE_TYPE = 0;
layout(constant_id = 5) const uint OUTPUT_TYPE = 0;
layout(constant_id = 6) const uint GATE_TYPE = 0;
layout(constant_id = 7) const uint WEIGHT_TYPE = 0;
layout(constant_id = 8) const bool ALIGNED = true;      // rows of x, y and z begin at 8 elements, D % 8 == 0
layout(constant_id = 9) const uint LANES = 1;
layout(constant_id = 10) const bool IS_LAYER = false;
layout(constant_id = 11) const uint GATE = 0;           // 0 none, 1 sigmoid, 2 silu
layout(constant_id = 12) const bool GATES_BEFORE = false;
layout(constant_id = 13) const uint WEIGHT_HEADS = 0;   // 0 no weights, 1 [D], H [H,D]
layout(constant_id = 14) const uint BIAS_HEADS = 0;

#include "row_lanes.glsl"

const uint QUADS = (CHANNELS + 3) / 4;
const uint GROUP_QUADS = GROUP_HEADS * QUADS;
const uint GROUP_CHANNELS = GROUP_HEADS * CHANNELS;
const bool WEIGHT_ALIGNED = CHANNELS % 8 == 0;

// 88 bytes.
layout(push_constant, scalar) uniform OutputNormPush {
  uint64_t source;
  uint64_t destination;
  uint64_t gate;    // or 0
  uint64_t weight;  // or 0
  uint64_t bias;    // or 0
  uint sourceBatchStride, sourceTokenStride, sourceHeadStride;                 // elements
  uint destinationBatchStride, destinationTokenStride, destinationHeadStride;  // elements
  uint gateBatchStride, gateTokenStride, gateHeadStride;                       // elements
  uint batches;     // B
  uint tokens;      // T
  float epsilon;
} p;

uint batch;
uint token;

/// What z multiplies by.
vec4 gate4(uint head, uint channel) {
  const uint64_t row = p.gate
    + (uint64_t(batch) * p.gateBatchStride + uint64_t(token) * p.gateTokenStride
      + uint64_t(head) * p.gateHeadStride) * elementBytes(GATE_TYPE);
  const vec4 z = loadChannels4(GATE_TYPE, ALIGNED, row, channel, CHANNELS);
  return GATE == 1 ? sigmoid(z) : silu(z);
}

/// Four channels of x, gated where the gate is before the norm; 0 behind the last.
vec4 source4(uint head, uint channel) {
  const uint64_t row = p.source
    + (uint64_t(batch) * p.sourceBatchStride + uint64_t(token) * p.sourceTokenStride
      + uint64_t(head) * p.sourceHeadStride) * elementBytes(SOURCE_TYPE);
  const vec4 x = loadChannels4(SOURCE_TYPE, ALIGNED, row, channel, CHANNELS);
  return GATE != 0 && GATES_BEFORE ? x * gate4(head, channel) : x;
}

/// 1 for each of the four channels from this one on that the head has, else 0.
vec4 channelMask(uint channel) {
  return vec4(lessThan(uvec4(channel) + uvec4(0, 1, 2, 3), uvec4(CHANNELS)));
}

void main() {
  const uint share = max(LANES, 1);
  const uint workgroup = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
  const uint index = workgroup * (gl_WorkGroupSize.x / share) + gl_LocalInvocationID.x / share;
  const uint lane = gl_LocalInvocationID.x % share;
  const uint groups = HEADS / GROUP_HEADS;
  const uint firstHead = index % groups * GROUP_HEADS;
  // Nobody leaves before the barriers.
  const bool isWritten = index / groups < p.batches * p.tokens;
  const uint row = min(index / groups, p.batches * p.tokens - 1);
  batch = row / p.tokens;
  token = row % p.tokens;

  float mean = 0.0;
  if (IS_LAYER) {
    float sum = 0.0;
    for (uint quad = lane; quad < GROUP_QUADS; quad += share) {
      const vec4 x = source4(firstHead + quad / QUADS, quad % QUADS * 4);
      sum += (x.x + x.y) + (x.z + x.w);
    }
    mean = rowSum(sum) / float(GROUP_CHANNELS);
  }
  float squares = 0.0;
  for (uint quad = lane; quad < GROUP_QUADS; quad += share) {
    const uint channel = quad % QUADS * 4;
    vec4 x = source4(firstHead + quad / QUADS, channel);
    if (IS_LAYER) { x = (x - mean) * channelMask(channel); }
    squares += dot(x, x);
  }
  const float variance = rowSum(squares) / float(GROUP_CHANNELS) + p.epsilon;
  // A row of zeros with epsilon 0 stays one.
  const float factor = variance == 0.0 ? 0.0 : 1.0 / sqrt(variance);
  if (!isWritten) { return; }
  for (uint quad = lane; quad < GROUP_QUADS; quad += share) {
    const uint head = firstHead + quad / QUADS;
    const uint channel = quad % QUADS * 4;
    vec4 y = (source4(head, channel) - mean) * factor;
    if (WEIGHT_HEADS > 0) {
      const uint64_t weights = p.weight + uint64_t(head % max(WEIGHT_HEADS, 1)) * CHANNELS * elementBytes(WEIGHT_TYPE);
      y *= loadChannels4(WEIGHT_TYPE, WEIGHT_ALIGNED, weights, channel, CHANNELS);
    }
    if (BIAS_HEADS > 0) {
      const uint64_t biases = p.bias + uint64_t(head % max(BIAS_HEADS, 1)) * CHANNELS * elementBytes(WEIGHT_TYPE);
      y += loadChannels4(WEIGHT_TYPE, WEIGHT_ALIGNED, biases, channel, CHANNELS);
    }
    if (GATE != 0 && !GATES_BEFORE) { y *= gate4(head, channel); }
    const uint64_t destination = p.destination
      + (uint64_t(batch) * p.destinationBatchStride + uint64_t(token) * p.destinationTokenStride
        + uint64_t(head) * p.destinationHeadStride) * elementBytes(OUTPUT_TYPE);
    storeChannels4(OUTPUT_TYPE, ALIGNED, destination, channel, CHANNELS, y);
  }
}
