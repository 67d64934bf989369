// Sums and maxima over a row that LANES invocations of a workgroup share. The including file declares LANES (a
// divisor of the workgroup's size; 0 and 1 for rows of a single invocation) first.
//
// Through shared memory: no feature of subgroups is needed, and every invocation of a row gets the same bits.
// Nobody may have left before.

#ifndef ROW_LANES_GLSL
#define ROW_LANES_GLSL

shared float rowLanes[LANES > 1 ? gl_WorkGroupSize.x : 1];

float rowReduced(float value, const bool isSum) {
  if (LANES <= 1) { return value; }
  const uint own = gl_LocalInvocationID.x;
  barrier();
  rowLanes[own] = value;
  barrier();
  const uint first = own / max(LANES, 1) * LANES;
  float result = rowLanes[first];
  for (uint i = 1; i < LANES; i++) {
    result = isSum ? result + rowLanes[first + i] : max(result, rowLanes[first + i]);
  }
  return result;
}

float rowSum(float value) { return rowReduced(value, true); }
float rowMax(float value) { return rowReduced(value, false); }

#endif
