// Where the rows lie that linear_widen.comp makes for one dispatch of linear_pass.comp.

#ifndef LINEAR_WIDE_GLSL
#define LINEAR_WIDE_GLSL

#include "linear_interface.glsl"

const uint WIDE_ROW_BYTES = KEY_CHANNELS * 4;

/// Bytes of all rows of q, or of k, of a head.
uint64_t widePlane() {
  return uint64_t(p.tokenCount) * WIDE_ROW_BYTES;
}

/// The head of the dispatch that has q and k of this one.
uint wideHead() {
  return sameForAll(max(keyHead * BLOCK.headsPerGroup, p.firstHead) - p.firstHead);
}

/// The row of q of a token of the dispatch.
uint64_t wideRow(uint token) {
  const uint place = gl_WorkGroupID.z * gl_NumWorkGroups.y + wideHead();
  return sameForAll(BLOCK.tensors[SLOT_RECORDS].address) + place * 2 * widePlane() + token * WIDE_ROW_BYTES;
}

#endif
