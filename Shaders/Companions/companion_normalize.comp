#version 460

// Layer normalisation (arXiv:1607.06450) and root-mean-square normalisation (arXiv:1910.07467) of rows, with the
// addition of a residual before it.
//
//   for each row r:
//     s = x[r] + residual[r]                       (HAS_RESIDUAL; sum[r] = s where its address is not 0)
//     CENTERED:  m = mean(s),  v = mean((s - m)^2)  (in two passes: no difference of large squares)
//     else:      m = 0,        v = mean(s^2)
//     y[r] = (s - m) / sqrt(v + epsilon) * weight + bias
//
// Memory: x and y by row strides of INPUT_TYPE and OUTPUT_TYPE, residual and sum of RESIDUAL_TYPE at x's stride,
// weight and bias [channels] of WEIGHT_TYPE. sum may be x or residual, and y may be x: what is written is written in
// the last pass, by the invocation that has read it. The sum is rounded to its type, the statistics are not made of
// rounded numbers.
//
// A workgroup takes a row, its invocations fours of channels. Grid: x * y >= rows.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_16bit_storage : require

#include "../Common/element_types.glsl"
#include "companion_reduce.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint INPUT_TYPE = 0;
layout(constant_id = 2) const uint RESIDUAL_TYPE = 0;
layout(constant_id = 3) const uint WEIGHT_TYPE = 0;
layout(constant_id = 4) const uint OUTPUT_TYPE = 0;
layout(constant_id = 5) const bool ALIGNED = true;
layout(constant_id = 6) const bool CENTERED = false;
layout(constant_id = 7) const bool HAS_RESIDUAL = false;

// 72 bytes.
layout(push_constant, scalar) uniform NormalizePush {
  uint64_t source;    // x
  uint64_t residual;  // or 0
  uint64_t sum;       // or 0
  uint64_t weight;    // or 0: ones
  uint64_t bias;      // or 0: zeros
  uint64_t destination;  // y
  uint rows, channels;
  uint sourceStride, destinationStride;  // of rows, in elements
  float epsilon;
  uint reserved;
} p;

vec4 loadSum(uint64_t row, uint channel) {
  vec4 s = loadChannels4(INPUT_TYPE, ALIGNED, p.source + row * p.sourceStride * elementBytes(INPUT_TYPE), channel,
    p.channels);
  if (HAS_RESIDUAL) {
    s += loadChannels4(RESIDUAL_TYPE, ALIGNED,
      p.residual + row * p.sourceStride * elementBytes(RESIDUAL_TYPE), channel, p.channels);
  }
  return s;
}

void main() {
  const uint64_t row = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
  if (row >= p.rows) { return; }
  const uint first = gl_LocalInvocationID.x * 4;
  const uint stride = gl_WorkGroupSize.x * 4;

  float mean = 0;
  if (CENTERED) {
    float sum = 0;
    for (uint c = first; c < p.channels; c += stride) {
      const vec4 s = loadSum(row, c);
      sum += s.x + s.y + s.z + s.w;
    }
    mean = workgroupSum(sum) / float(p.channels);
  }
  float squares = 0;
  for (uint c = first; c < p.channels; c += stride) {
    vec4 s = loadSum(row, c);
    [[unroll]] for (uint i = 0; i < 4; ++i) {
      s[i] = c + i < p.channels ? s[i] - mean : 0.0;
      squares = fma(s[i], s[i], squares);
    }
  }
  const float factor = inversesqrt(workgroupSum(squares) / float(p.channels) + p.epsilon);
  for (uint c = first; c < p.channels; c += stride) {
    const vec4 s = loadSum(row, c);
    vec4 y = (s - mean) * factor;
    if (p.weight != 0ul) { y *= loadChannels4(WEIGHT_TYPE, ALIGNED, p.weight, c, p.channels); }
    if (p.bias != 0ul) { y += loadChannels4(WEIGHT_TYPE, ALIGNED, p.bias, c, p.channels); }
    if (p.sum != 0ul) {
      storeChannels4(
        RESIDUAL_TYPE, ALIGNED, p.sum + row * p.sourceStride * elementBytes(RESIDUAL_TYPE), c, p.channels, s);
    }
    storeChannels4(
      OUTPUT_TYPE, ALIGNED, p.destination + row * p.destinationStride * elementBytes(OUTPUT_TYPE), c, p.channels, y);
  }
}
