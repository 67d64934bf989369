#version 460

// Rows of q and k of one dispatch of linear_pass.comp, which have 16 bits, as f32; for processors.
//
//   wide [N, H, 2, L, K]: q and k of a key head at the dispatch's first value head of it
//
// Every tile of columns reads these rows again, and a number of 16 bits costs it some instructions each time: converted
// once for all tiles it is an operand in memory there. Rows of a head lie one behind the other, so that the processor
// foresees them.
//
// N sequences, H heads of the dispatch, L the most tokens of it, K % 8 == 0. A lane has pairs of channels, a word of
// the tensor and 8 bytes of f32.
//
// Grid: x = tiles of TOKENS tokens, y = value head, z = sequence. Workgroup: one subgroup.
//
// T1024, H8, f16, lavapipe of Mesa 26.1.6 with 16 lanes on two cores of an EPYC 9004, by turns, without and with it:
// lightning K = V = 64 2.23 and 1.70 ms, of which this is 0.3; 128 8.5 and 5.5; a decay for each token, 128, 8.4 and
// 5.8. Not kept: the factors of key decays in f32 from here as well (GLA of f32: 1.80 and 1.93 ms, 8.4 and 8.2), for
// exponentials are no dearer where they are used.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require

#include "linear_wide.glsl"
#include "../Common/lane_loads.glsl"

layout(constant_id = 10) const uint TOKENS = 16;

const uint LANES = gl_WorkGroupSize.x;
const uint PAIRS = KEY_CHANNELS / 2;

void widen(uint64_t source, uint64_t place) {
  [[unroll]] for (uint first = 0; first < PAIRS; first += LANES) {
    const vec2 numbers = unpackElements(KEY_TYPE, loadLaneWords(source, first, PAIRS - 1));
    const uint own = first + gl_SubgroupInvocationID;
    if (first + LANES <= PAIRS || own < PAIRS) {
      LongReference(place + own * 8).value = joined(floatBitsToUint(numbers.x), floatBitsToUint(numbers.y));
    }
  }
}

void main() {
  openSequence(gl_WorkGroupID.z + p.firstSequence, gl_WorkGroupID.y + p.firstHead);
  const uint begin = tokenBegin + gl_WorkGroupID.x * TOKENS;
  const uint end = sameForAll(min(begin + TOKENS, tokenEnd));
  const Walk q = openSharedWalk(!HAS(OPTION_NO_OUTPUT), SLOT_Q, KEY_TYPE, begin, 1, keyHead);
  const Walk k = openSharedWalk(true, SLOT_K, KEY_TYPE, begin, 1, keyHead);
  uint token = begin;
  if (gl_WorkGroupID.y == wideHead() && token < end) {
    // Tested at its end: the software driver would run the body once more for nothing, at no address.
    for (;;) {
      const uint behind = sameForAll(token) - begin;
      const uint64_t place = wideRow(begin - tokenBegin + behind);
      if (!HAS(OPTION_NO_OUTPUT)) { widen(q.at + behind * q.step, place); }
      widen(k.at + behind * k.step, place + widePlane());
      token++;
      if (token >= end) { break; }
    }
  }
}
