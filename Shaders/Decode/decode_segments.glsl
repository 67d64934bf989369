// The segments of a workgroup, one after the other. Included behind a path's runSegment().

#ifndef DECODE_SEGMENTS_GLSL
#define DECODE_SEGMENTS_GLSL

#include "decode_interface.glsl"

void runSegments() {
  const uint group = groupNumber();
  if (group < DECODE_BLOCK.groupCount) {
    uint segment = WordReference(DECODE_BLOCK.groupStarts + group * 4ul).value;
    const uint end = WordReference(DECODE_BLOCK.groupStarts + (group + 1) * 4ul).value;
    // Tests at its end, as in attention_row.comp.
    if (segment < end) {
      for (;;) {
        runSegment(SegmentReference(DECODE_BLOCK.segments + segment * 16ul).value);
        segment++;
        if (segment >= end) { break; }
      }
    }
  }
}

#endif
