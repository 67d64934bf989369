#version 460

// Softmax over rows.
//
//   for each row r:  s = scale * x[r];  m = max s;  y[r] = e^(s - m) / sum e^(s - m)      (0 where all s are -inf)
//
// Memory: x and y by row strides of INPUT_TYPE and OUTPUT_TYPE; y may be x. NaN in a row makes all of it NaN.
// A workgroup takes a row, its invocations fours of channels. Grid: x * y >= rows.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_16bit_storage : require

#include "../Common/element_types.glsl"
#include "../Common/online_softmax.glsl"
#include "companion_reduce.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint INPUT_TYPE = 0;
layout(constant_id = 2) const uint OUTPUT_TYPE = 0;
layout(constant_id = 3) const bool ALIGNED = true;

// 40 bytes.
layout(push_constant, scalar) uniform SoftmaxPush {
  uint64_t source;
  uint64_t destination;
  uint rows, channels;
  uint sourceStride, destinationStride;  // of rows, in elements
  float scale;
  uint reserved;
} p;

void main() {
  const uint64_t row = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
  if (row >= p.rows) { return; }
  const uint first = gl_LocalInvocationID.x * 4;
  const uint stride = gl_WorkGroupSize.x * 4;
  const uint64_t source = p.source + row * p.sourceStride * elementBytes(INPUT_TYPE);
  const uint64_t destination = p.destination + row * p.destinationStride * elementBytes(OUTPUT_TYPE);

  float largest = -INFINITY;
  for (uint c = first; c < p.channels; c += stride) {
    const vec4 x = loadChannels4(INPUT_TYPE, ALIGNED, source, c, p.channels) * p.scale;
    [[unroll]] for (uint i = 0; i < 4; ++i) {
      if (c + i < p.channels) { largest = max(largest, x[i]); }
    }
  }
  largest = workgroupMax(largest);
  const float origin = largest == -INFINITY ? 0.0 : largest;
  float sum = 0;
  for (uint c = first; c < p.channels; c += stride) {
    const vec4 x = loadChannels4(INPUT_TYPE, ALIGNED, source, c, p.channels) * p.scale;
    [[unroll]] for (uint i = 0; i < 4; ++i) {
      // exp2 may lose a NaN; a difference does not.
      const float difference = x[i] - origin;
      if (c + i < p.channels) { sum += isnan(difference) ? QUIET_NAN : exp2(difference * LOG2_E); }
    }
  }
  sum = workgroupSum(sum);
  const float factor = isnan(sum) ? QUIET_NAN : normalisation(sum);
  for (uint c = first; c < p.channels; c += stride) {
    const vec4 x = loadChannels4(INPUT_TYPE, ALIGNED, source, c, p.channels) * p.scale;
    storeChannels4(
      OUTPUT_TYPE, ALIGNED, destination, c, p.channels, exp2((x - origin) * LOG2_E) * factor);
  }
}
