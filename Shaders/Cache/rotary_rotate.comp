#version 460

// Turns queries, or keys, to their positions (rotary embedding, rotary.glsl).
//
//   for each token n, head h:  y[n, h, :] = (x[n, h, :], its first ROTATED channels turned by position[n])
//
// Memory: x and y by strides [N, H, CHANNELS] of SOURCE_TYPE and OUTPUT_TYPE, positions int32 [N], frequencies
// uint64 [ROTATED / 2]. y may be x: an invocation reads and writes both channels of a pair.
//
// One invocation turns 4 pairs, or copies 8 channels behind those that are turned; neighbours take the next ones,
// then the next head, then the next token. Workgroup: any size, 64 is fine. Grid: x * y * size >= N * H *
// (ceil(ROTATED / 8) + ceil((CHANNELS - ROTATED) / 8)).

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_16bit_storage : require

#include "../Common/element_types.glsl"
#include "cache_places.glsl"
#include "rotary.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint CHANNELS = 128;
layout(constant_id = 2) const uint HEADS = 8;             // H
layout(constant_id = 3) const uint SOURCE_TYPE = 0;
layout(constant_id = 4) const uint OUTPUT_TYPE = 0;
layout(constant_id = 8) const bool ALIGNED = true;        // fours of channels of both at 4 elements
layout(constant_id = 10) const uint ROTATED = 128;
layout(constant_id = 11) const bool INTERLEAVED = false;

// 64 bytes.
layout(push_constant, scalar) uniform RotaryPush {
  uint64_t source;
  uint64_t destination;
  uint64_t positions;
  uint64_t frequencies;
  uint sourceTokenStride, sourceHeadStride;            // elements
  uint destinationTokenStride, destinationHeadStride;  // elements
  uint tokens;  // N
  float attentionFactor;
  uint reserved0, reserved1;
} p;

void main() {
  const uint pairs = ROTATED / 2;
  const uint turning = (pairs + 3) / 4;
  const uint units = turning + (CHANNELS - ROTATED + 7) / 8;
  const uint item = (gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * gl_WorkGroupSize.x
    + gl_LocalInvocationID.x;
  const uint unit = item % units;
  const uint head = item / units % HEADS;
  const uint token = item / units / HEADS;
  if (token >= p.tokens) { return; }

  const uint64_t source = p.source
    + (uint64_t(token) * p.sourceTokenStride + uint64_t(head) * p.sourceHeadStride) * elementBytes(SOURCE_TYPE);
  const uint64_t destination = p.destination
    + (uint64_t(token) * p.destinationTokenStride + uint64_t(head) * p.destinationHeadStride)
    * elementBytes(OUTPUT_TYPE);

  if (unit >= turning) {
    const uint first = ROTATED + (unit - turning) * 8;
    const bool aligned = ALIGNED && ROTATED % 4 == 0;
    for (uint c = first; c < min(first + 8, CHANNELS); c += 4) {
      storeChannels4(
        OUTPUT_TYPE, aligned, destination, c, CHANNELS, loadChannels4(SOURCE_TYPE, aligned, source, c, CHANNELS));
    }
    return;
  }
  const int position = IntegerReference(p.positions + uint64_t(token) * 4).value;
  const uint first = unit * 4;
  vec4 cosine;
  vec4 sine;
  [[unroll]] for (uint i = 0; i < 4; ++i) {
    const vec2 turn = turnedPair(p.frequencies, min(first + i, pairs - 1), position) * p.attentionFactor;
    cosine[i] = turn.x;
    sine[i] = turn.y;
  }
  if (INTERLEAVED) {
    const bool aligned = ALIGNED && ROTATED % 8 == 0;
    const vec4 low = loadChannels4(SOURCE_TYPE, aligned, source, 2 * first, ROTATED);
    const vec4 high = loadChannels4(SOURCE_TYPE, aligned, source, 2 * first + 4, ROTATED);
    const vec4 x = vec4(low.xz, high.xz);
    const vec4 y = vec4(low.yw, high.yw);
    const vec4 turnedX = x * cosine - y * sine;
    const vec4 turnedY = x * sine + y * cosine;
    storeChannels4(
      OUTPUT_TYPE, aligned, destination, 2 * first, ROTATED,
      vec4(turnedX.x, turnedY.x, turnedX.y, turnedY.y));
    storeChannels4(
      OUTPUT_TYPE, aligned, destination, 2 * first + 4, ROTATED,
      vec4(turnedX.z, turnedY.z, turnedX.w, turnedY.w));
  } else {
    const bool aligned = ALIGNED && pairs % 4 == 0;
    const uint64_t secondSource = source + pairs * elementBytes(SOURCE_TYPE);
    const uint64_t secondDestination = destination + pairs * elementBytes(OUTPUT_TYPE);
    const vec4 x = loadChannels4(SOURCE_TYPE, aligned, source, first, pairs);
    const vec4 y = loadChannels4(SOURCE_TYPE, aligned, secondSource, first, pairs);
    storeChannels4(OUTPUT_TYPE, aligned, destination, first, pairs, x * cosine - y * sine);
    storeChannels4(OUTPUT_TYPE, aligned, secondDestination, first, pairs, x * sine + y * cosine);
  }
}
