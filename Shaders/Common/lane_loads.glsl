// Consecutive numbers in memory, one for each lane of a workgroup that is one subgroup.
//
// For software drivers, whose subgroup is a vector of the processor: loads at addresses that all lanes share and a
// choice for each lane are one load of a vector for their compiler, where a load of each lane is a gather. Numbers of
// 16 bits stay so until all of them are there, or the loads stay apart.
//
// Lane l gets number min(first + l, last) behind `row`, which is the same for all lanes. Where LOADS_HALF_WORDS is
// defined the shader has integers of 16 bits.

#ifndef LANE_LOADS_GLSL
#define LANE_LOADS_GLSL

#include "element_types.glsl"

uint loadLaneWords(uint64_t row, const uint first, const uint last) {
  uint words = 0;
  [[unroll]] for (uint lane = 0; lane < gl_WorkGroupSize.x; lane++) {
    const uint word = WordReference(row + min(first + lane, last) * 4).value;
    words = gl_SubgroupInvocationID == lane ? word : words;
  }
  return words;
}

#ifdef LOADS_HALF_WORDS
/// Elements as f32.
float loadLaneElements(const uint type, uint64_t row, const uint first, const uint last) {
  if (type == ELEMENT_F32) { return uintBitsToFloat(loadLaneWords(row, first, last)); }
  uint16_t words = uint16_t(0);
  [[unroll]] for (uint lane = 0; lane < gl_WorkGroupSize.x; lane++) {
    const uint16_t word = HalfWordReference(row + min(first + lane, last) * 2).value;
    words = gl_SubgroupInvocationID == lane ? word : words;
  }
  return unpackElements(type, uint(words)).x;
}
#endif

#endif
