#version 460

// Positive random features (FAVOR+, arXiv:2009.14794; feature_interface.glsl has the tensors):
//
//   e_m = w_m . x - |x|^2 / 2        y_m = (exp(e_m - c) + epsilon) / sqrt(M)        m = 0 ... M - 1
//
// with c = 0 (STABILIZER 0), the largest e of the row (1: queries), or the largest of all rows of the sequence and
// head (2: keys), which a dispatch with MEASURES finds first. Any c cancels in a normalised attention as long as it
// is the same for all keys, but for epsilon.
//
// A workgroup has ROWS tokens of one head: an invocation every size-th feature of them, PER_INVOCATION in all, in
// registers. w is read once for all rows, x at addresses that are the same for all invocations; writes are
// contiguous over a subgroup. With MEASURES it walks all tokens of a part, and writes one pair.
// Workgroup: a power of two. Grid: x * y >= tiles of the longest sequence (or parts) * H * N.

#extension GL_GOOGLE_include_directive : require

#include "feature_interface.glsl"

layout(constant_id = 10) const uint PER_INVOCATION = 1;  // ceil(OUTPUT_CHANNELS / workgroup)
layout(constant_id = 11) const uint STABILIZER = 0;
layout(constant_id = 12) const bool MEASURES = false;
layout(constant_id = 13) const bool PROJECTION_ALIGNED = true;  // D % 8 == 0

const uint ROWS = 4;
const uint STABILIZER_TOKEN = 1;
const uint STABILIZER_SEQUENCE = 2;

shared vec4 largestOfLanes[STABILIZER > 0 ? gl_WorkGroupSize.x : 1];

// Exponents of each feature for the four rows.
vec4 exponents[PER_INVOCATION];

/// Reads rows token ... token + 3, those behind `end` once more the last one.
void makeExponents(uint batch, uint head, uint token, uint end) {
  [[unroll]] for (uint i = 0; i < PER_INVOCATION; i++) { exponents[i] = vec4(0.0); }
  uint64_t rows[ROWS];
  [[unroll]] for (uint r = 0; r < ROWS; r++) {
    rows[r] = sourceRow(batch, min(token + r, end), head);
  }
  vec4 halves = vec4(0.0);
  for (uint c = 0; c < CHANNELS; c += 4) {
    vec4 x[ROWS];
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
      x[r] = loadSource4(rows[r], c);
      halves[r] = fma(x[r].x, x[r].x, fma(x[r].y, x[r].y, fma(x[r].z, x[r].z, fma(x[r].w, x[r].w, halves[r]))));
    }
    [[unroll]] for (uint i = 0; i < PER_INVOCATION; i++) {
      const uint m = min(gl_LocalInvocationID.x + i * gl_WorkGroupSize.x, FEATURES - 1);
      const vec4 w = loadChannels4(
        ELEMENT_F32, PROJECTION_ALIGNED, p.projection + uint64_t(m) * (CHANNELS * 4), c, CHANNELS);
      [[unroll]] for (uint r = 0; r < ROWS; r++) {
        exponents[i][r] =
          fma(w.x, x[r].x, fma(w.y, x[r].y, fma(w.z, x[r].z, fma(w.w, x[r].w, exponents[i][r]))));
      }
    }
  }
  [[unroll]] for (uint i = 0; i < PER_INVOCATION; i++) { exponents[i] -= halves * 0.5; }
}

/// The largest exponents of the rows among this invocation's features; those behind the last are the last again.
vec4 ownLargest() {
  vec4 largest = exponents[0];
  [[unroll]] for (uint i = 1; i < PER_INVOCATION; i++) { largest = max(largest, exponents[i]); }
  return largest;
}

/// The largest over the workgroup, the same for all.
vec4 groupLargest(vec4 value) {
  const uint own = gl_LocalInvocationID.x;
  barrier();
  largestOfLanes[own] = value;
  for (uint step = gl_WorkGroupSize.x / 2; step > 0; step /= 2) {
    barrier();
    if (own < step) { largestOfLanes[own] = max(largestOfLanes[own], largestOfLanes[own + step]); }
  }
  barrier();
  return largestOfLanes[0];
}

void main() {
  const uint group = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
  // The grid may be larger than what there is. Nobody leaves: addresses are of something that can be read.
  const uint tile = group % p.parts;
  const uint head = group / p.parts % HEADS;
  const uint given = group / p.parts / HEADS;
  const uint sequence = min(given, p.sequences - 1);
  const uvec2 range = tokensOf(sequence);
  const uint batch = PACKED ? 0 : sequence;
  const uint first = range.x + tile * p.tokensPerPart;
  const bool isThere = given < p.sequences && first < range.y;
  const uint last = p.tokens - 1;

  if (MEASURES) {
    vec4 largest = vec4(-INFINITY);
    const uint end = tile + 1 == p.parts ? range.y : min(first + p.tokensPerPart, range.y);
    for (uint token = first; token < end; token += ROWS) {
      makeExponents(batch, head, min(token, last), min(end - 1, last));
      largest = max(largest, ownLargest());
    }
    const vec4 all = groupLargest(largest);
    if (given < p.sequences && gl_LocalInvocationID.x == 0) {
      PairReference(partPair(sequence, head, tile, 0, 1)).value =
        vec2(max(max(all.x, all.y), max(all.z, all.w)), 0.0);
    }
    return;
  }
  makeExponents(batch, head, min(first, last), min(max(range.y, 1) - 1, last));
  vec4 largest = vec4(0.0);
  if (STABILIZER == STABILIZER_TOKEN) {
    largest = groupLargest(ownLargest());
  } else if (STABILIZER == STABILIZER_SEQUENCE) {
    largest = vec4(PairReference(wholePair(sequence, head, 0, 1)).value.x);
  }
  if (!isThere) { return; }
  const float factor = 1.0 / sqrt(float(FEATURES));
  [[unroll]] for (uint i = 0; i < PER_INVOCATION; i++) {
    const uint m = gl_LocalInvocationID.x + i * gl_WorkGroupSize.x;
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
      if (m < OUTPUT_CHANNELS && first + r < range.y) {
        const float y = (exponential(exponents[i][r] - largest[r]) + p.epsilon) * factor;
        storeElement(
          OUTPUT_TYPE, destinationRow(batch, first + r, head) + m * elementBytes(OUTPUT_TYPE),
          m < FEATURES ? y : 0.0);
      }
    }
  }
}
