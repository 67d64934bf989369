#version 460

// Lean decode: merges the partial results of problems that several workgroups share, in the order of their keys.
//
//   M = max_s m_s;  l = sum_s l_s 2^(m_s - M);  o = sum_s o_s 2^(m_s - M);  the end of the row as in any kernel
//
// One workgroup for each row of each merged problem: x (and y) = merges * tileRows. Its invocations share the
// channels. Memory: decode_interface.glsl.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require

#include "decode_interface.glsl"

void main() {
  const uint item = groupNumber();
  const uint tileRow = item % DECODE_BLOCK.tileRows;
  const uint merge = item / DECODE_BLOCK.tileRows;
  if (merge >= DECODE_BLOCK.mergeCount) { return; }
  const uvec4 words = SegmentReference(DECODE_BLOCK.merges + merge * 16ul).value;
  openDecodeProblem(words.x);
  const uint ownRow = rowTile * DECODE_BLOCK.tileRows + tileRow;
  if (ownRow >= problemRows()) { return; }
  segmentBegin = 0;
  segmentEnd = 0x3fffffff;
  const uint token = openDecodeRow(ownRow);

  float largest = -INFINITY;
  float poison = 0;
  for (uint s = 0; s < words.z; s++) {
    const float m = FloatReference(partialMaximum(partialSlot(words.y + s), tileRow)).value;
    largest = max(largest, m);
    poison += m;
  }
  const float origin = largest == -INFINITY ? 0 : largest;
  float weightSum = 0;
  for (uint s = 0; s < words.z; s++) {
    const uint64_t slot = partialSlot(words.y + s);
    weightSum = fma(
      FloatReference(partialSum(slot, tileRow)).value,
      exp2(FloatReference(partialMaximum(slot, tileRow)).value - origin), weightSum);
  }
  // max() may lose a NaN; sums do not.
  if (isnan(poison)) { weightSum = QUIET_NAN; }

  float factor;
  float lse;
  finishRow(token, largest, weightSum, factor, lse);
  if (p.lse != 0ul && gl_LocalInvocationID.x == 0) {
    FloatReference(p.lse + rowIndex(false, token) * 4ul).value = lse;
  }
  for (uint channel = gl_LocalInvocationID.x * 4; channel < HEAD_SIZE_V; channel += gl_WorkGroupSize.x * 4) {
    vec4 sum = vec4(0);
    for (uint s = 0; s < words.z; s++) {
      const uint64_t slot = partialSlot(words.y + s);
      const float weight = exp2(FloatReference(partialMaximum(slot, tileRow)).value - origin);
      const vec4 part =
        loadChannels4(ELEMENT_F32, false, partialResult(slot, tileRow), channel, HEAD_SIZE_V);
      sum = fma(part, vec4(weight), sum);
    }
    storeChannels4(OUTPUT_TYPE, ALIGNED, outputAddress(token), channel, HEAD_SIZE_V, sum * factor);
  }
}
