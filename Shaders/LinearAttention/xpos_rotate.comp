#version 460

// xPos: rotary embedding whose pairs also grow or shrink with the position (arXiv:2212.10554; ../Cache/rotary.glsl).
//
//   pair i of x[n,h], position t:  (x cos - y sin, x sin + y cos) * 2^(t rate_i)       angle = t * frequency_i
//
// with rate_i = log2(zeta_i) / scale base of queries and its negative of keys. Channels behind the pairs stay.
//
// Memory: x, y by strides [N,H,D]; positions int32 [N]; frequencies uint64 [pairs], fractions of a turn; rates f32
// [pairs]. y may be x: an invocation reads and writes both channels of a pair.
// One invocation turns a pair, or copies two channels behind; neighbours take the next ones, then the next head, then
// the next token. Grid: x * y * size >= N H ceil(D / 2), with D less 2 pairs rounded up.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_16bit_storage : require

#include "../Common/element_types.glsl"
#include "../Cache/rotary.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint CHANNELS = 128;
layout(constant_id = 2) const uint HEADS = 8;
layout(constant_id = 3) const uint SOURCE_TYPE = 0;
layout(constant_id = 4) const uint OUTPUT_TYPE = 0;
layout(constant_id = 5) const uint PAIRS = 64;
layout(constant_id = 6) const bool INTERLEAVED = true;

// 64 bytes.
layout(push_constant, scalar) uniform XPosPush {
  uint64_t source;
  uint64_t destination;
  uint64_t positions;
  uint64_t frequencies;
  uint64_t rates;
  uint sourceTokenStride, sourceHeadStride;            // elements
  uint destinationTokenStride, destinationHeadStride;  // elements
  uint tokens;  // N
  int origin;   // where nothing grows
} p;


void main() {
  const uint rest = CHANNELS - 2 * PAIRS;
  const uint units = PAIRS + (rest + 1) / 2;
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
  const uint pair = min(unit, PAIRS - 1);
  const bool turns = unit < PAIRS;
  const uint behind = 2 * PAIRS + (unit - pair - 1) * 2;
  const uint low = turns ? INTERLEAVED ? 2 * pair : pair : behind;
  const uint high = turns ? INTERLEAVED ? 2 * pair + 1 : pair + PAIRS : min(behind + 1, CHANNELS - 1);
  const float x = loadElement(SOURCE_TYPE, source + low * elementBytes(SOURCE_TYPE));
  const float y = loadElement(SOURCE_TYPE, source + high * elementBytes(SOURCE_TYPE));
  const int position = IntegerReference(p.positions + uint64_t(token) * 4).value;
  const float rate = FloatReference(p.rates + uint64_t(pair) * 4).value;
  const vec2 turn = turnedPair(p.frequencies, pair, position) * exp2(float(position - p.origin) * rate);
  const float turnedX = turns ? x * turn.x - y * turn.y : x;
  const float turnedY = turns ? x * turn.y + y * turn.x : y;
  storeElement(OUTPUT_TYPE, destination + low * elementBytes(OUTPUT_TYPE), turnedX);
  storeElement(OUTPUT_TYPE, destination + high * elementBytes(OUTPUT_TYPE), turns || high > low ? turnedY : x);
}
