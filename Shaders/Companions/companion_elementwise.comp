#version 460

// Activations of rows, alone, as gates or with a residual.
//
//   y = act(a)          COMBINATION 0
//   y = act(a) * b      COMBINATION 1      (SwiGLU, GeGLU: arXiv:2002.05202)
//   y = act(a) + b      COMBINATION 2      (a residual, without activation)
//
// Memory: a and b by row strides of INPUT_TYPE, y of OUTPUT_TYPE; y may be a or b. Gates and values can be the two
// halves of a tensor's rows. One invocation takes 4 channels, neighbours the next ones, then the next row.
// Workgroup: any size, 64 is fine. Grid: x * y * size >= rows * ceil(channels / 4).

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_16bit_storage : require

#include "../Common/element_types.glsl"
#include "companion_activations.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint INPUT_TYPE = 0;
layout(constant_id = 2) const uint OUTPUT_TYPE = 0;
layout(constant_id = 3) const bool ALIGNED = true;
layout(constant_id = 4) const uint ACTIVATION = 0;
layout(constant_id = 5) const uint COMBINATION = 0;

// 48 bytes.
layout(push_constant, scalar) uniform ElementwisePush {
  uint64_t first;   // a
  uint64_t second;  // b, or 0
  uint64_t destination;
  uint rows, channels;
  uint firstStride, secondStride, destinationStride;  // of rows, in elements
  uint reserved;
} p;

void main() {
  const uint quads = (p.channels + 3) / 4;
  const uint item =
    (gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
  const uint64_t row = item / quads;
  const uint channel = item % quads * 4;
  if (row >= p.rows) { return; }
  const uint bytes = elementBytes(INPUT_TYPE);
  vec4 y = activated4(
    ACTIVATION, loadChannels4(INPUT_TYPE, ALIGNED, p.first + row * p.firstStride * bytes, channel, p.channels));
  if (COMBINATION != 0) {
    const vec4 b = loadChannels4(INPUT_TYPE, ALIGNED, p.second + row * p.secondStride * bytes, channel, p.channels);
    y = COMBINATION == 1 ? y * b : y + b;
  }
  storeChannels4(
    OUTPUT_TYPE, ALIGNED, p.destination + row * p.destinationStride * elementBytes(OUTPUT_TYPE), channel, p.channels,
    y);
}
