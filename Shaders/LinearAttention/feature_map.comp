#version 460

// Feature maps of queries and keys, so that q.k resembles another kernel (feature_interface.glsl has the tensors):
//
//   identity, relu, squared relu, elu + 1, exp: channel by channel
//   softmax          exp(x_d - max) / sum over the channels of a row
//   token softmax    the same over the tokens of a sequence, from the scratch memory that feature_tokens.comp fills
//   L2               x / sqrt(sum of x^2 + epsilon)
//   Taylor           1, x, x_i x_j / sqrt 2 for all i, j (Based, arXiv:2402.18668)
//   symmetric Taylor 1, x, x_i^2 / sqrt 2 and x_i x_j for i < j, row after row of the upper triangle
//   cosFormer        relu(x) cos a, relu(x) sin a, a = pi i / 2M' at position i (arXiv:2202.08791)
//
// x is scaled first. FAVOR+ is feature_favor.comp.
//
// LANES 0: one invocation makes 4 features; neighbours the next ones, then the next head, then the next token: reads
// and writes are contiguous over a subgroup. Else LANES invocations share a row, each with every LANES-th four of
// channels; their sums go through shared memory, so that no feature of subgroups is needed. LANES 1 has no barrier:
// the software driver pays dearly for them, and gathers lane by lane whatever the order.
// Workgroup: a multiple of LANES. Grid: x * y * size >= B T H ceil(OUTPUT_CHANNELS / 4), or >= B T H LANES.
//
// A row is read three times for a softmax and twice for L2; it is in the caches then. y may be x where it has the
// same channels and places: an invocation reads what it writes, and a row is read whole before it is written.

#extension GL_GOOGLE_include_directive : require

#include "feature_interface.glsl"
#include "../Cache/rotary.glsl"

layout(constant_id = 10) const uint MAP = 0;
layout(constant_id = 11) const uint LANES = 0;
layout(constant_id = 12) const bool HAS_POSITIONS = false;

const uint MAP_IDENTITY = 0;
const uint MAP_RELU = 1;
const uint MAP_SQUARED_RELU = 2;
const uint MAP_ELU_PLUS_ONE = 3;
const uint MAP_EXPONENTIAL = 4;
const uint MAP_SOFTMAX = 5;
const uint MAP_TOKEN_SOFTMAX = 6;
const uint MAP_L2_NORM = 7;
const uint MAP_TAYLOR = 8;
const uint MAP_SYMMETRIC_TAYLOR = 9;
const uint MAP_COS_FORMER = 10;
const float SQRT_HALF = 0.70710678118654752440;

#include "row_lanes.glsl"

/// One channel of x, scaled.
float loadSource(uint64_t row, uint channel) {
  return loadElement(SOURCE_TYPE, row + min(channel, CHANNELS - 1) * elementBytes(SOURCE_TYPE)) * p.scale;
}

/// Feature f of a second-order series.
float taylorFeature(uint64_t row, uint f) {
  if (f == 0) { return 1.0; }
  if (f <= CHANNELS) { return loadSource(row, f - 1); }
  const uint g = f - 1 - CHANNELS;
  uint i = g / CHANNELS;
  uint j = g % CHANNELS;
  float factor = SQRT_HALF;
  if (MAP == MAP_SYMMETRIC_TAYLOR) {
    // Row i begins at i D - i (i - 1) / 2; the root may be off by one.
    const float side = 2.0 * float(CHANNELS) + 1.0;
    i = uint(max(0.0, (side - sqrt(max(0.0, side * side - 8.0 * float(g)))) * 0.5));
    i = min(i, CHANNELS - 1);
    if (i * CHANNELS - i * (i - 1) / 2 > g) { i -= 1; }
    if ((i + 1) * CHANNELS - (i + 1) * i / 2 <= g) { i += 1; }
    j = i + g - (i * CHANNELS - i * (i - 1) / 2);
    factor = i == j ? SQRT_HALF : 1.0;
  }
  return loadSource(row, i) * loadSource(row, j) * factor;
}

void mapFeatures() {
  const uint units = (OUTPUT_CHANNELS + 3) / 4;
  const uint item = (gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * gl_WorkGroupSize.x
    + gl_LocalInvocationID.x;
  const uint feature = item % units * 4;
  const uint head = item / units % HEADS;
  const uint row = item / units / HEADS;
  if (row >= p.batches * p.tokens) { return; }
  const uint batch = row / p.tokens;
  const uint token = row % p.tokens;
  const TokenPlace place = placeOf(batch, token);
  if (!place.exists) { return; }
  const uint64_t source = sourceRow(batch, token, head);

  vec4 y = vec4(0.0);
  if (MAP == MAP_TAYLOR || MAP == MAP_SYMMETRIC_TAYLOR) {
    [[unroll]] for (uint i = 0; i < 4; i++) { y[i] = taylorFeature(source, min(feature + i, FEATURES - 1)); }
  } else if (MAP == MAP_COS_FORMER) {
    const int position = HAS_POSITIONS
      ? IntegerReference(p.positions + uint64_t(row) * 4).value : int(place.position);
    const vec2 turn = turned(p.frequency, position);
    [[unroll]] for (uint i = 0; i < 4; i++) {
      const uint f = min(feature + i, FEATURES - 1);
      const bool isSine = f >= CHANNELS;
      const float x = loadSource(source, isSine ? f - CHANNELS : f);
      // A comparison, not max(): NaN stays.
      y[i] = (x <= 0.0 ? 0.0 : x) * (isSine ? turn.y : turn.x);
    }
  } else {
    const uint channel = min(feature, (CHANNELS - 1) / 4 * 4);
    const vec4 x = loadSource4(source, channel);
    [[unroll]] for (uint i = 0; i < 4; i++) {
      const float positive = x[i] <= 0.0 ? 0.0 : x[i];
      if (MAP == MAP_IDENTITY) { y[i] = x[i]; }
      if (MAP == MAP_RELU) { y[i] = positive; }
      if (MAP == MAP_SQUARED_RELU) { y[i] = positive * positive; }
      if (MAP == MAP_ELU_PLUS_ONE) { y[i] = x[i] > 0.0 ? x[i] + 1.0 : exponential(x[i]); }
      if (MAP == MAP_EXPONENTIAL) { y[i] = exponential(x[i]); }
      if (MAP == MAP_TOKEN_SOFTMAX) {
        const vec2 whole =
          PairReference(wholePair(place.sequence, head, min(channel + i, CHANNELS - 1), CHANNELS)).value;
        y[i] = exponential(x[i] + weightOffset(whole.x)) * normalisation(whole.y);
      }
    }
  }
  [[unroll]] for (uint i = 0; i < 4; i++) { y[i] = feature + i < FEATURES ? y[i] : 0.0; }
  storeChannels4(
    OUTPUT_TYPE, OUTPUT_ALIGNED, destinationRow(batch, token, head), feature, OUTPUT_CHANNELS, y);
}

void mapRow() {
  const uint share = max(LANES, 1);
  const uint group = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
  const uint index = group * (gl_WorkGroupSize.x / share) + gl_LocalInvocationID.x / share;
  const uint first = gl_LocalInvocationID.x % share * 4;
  // Nobody leaves before the barriers.
  const uint head = index % HEADS;
  const uint row = min(index / HEADS, p.batches * p.tokens - 1);
  const uint batch = row / p.tokens;
  const uint token = row % p.tokens;
  const bool isWritten = index / HEADS < p.batches * p.tokens && placeOf(batch, token).exists;
  const uint64_t source = sourceRow(batch, token, head);

  float offset = 0.0;
  float factor;
  if (MAP == MAP_SOFTMAX) {
    float largest = -INFINITY;
    for (uint c = first; c < CHANNELS; c += share * 4) {
      const vec4 x = loadSource4(source, c);
      [[unroll]] for (uint i = 0; i < 4; i++) {
        largest = c + i < CHANNELS ? max(largest, x[i]) : largest;
      }
    }
    offset = weightOffset(rowMax(largest));
  }
  float sum = 0.0;
  for (uint c = first; c < CHANNELS; c += share * 4) {
    const vec4 x = loadSource4(source, c);
    [[unroll]] for (uint i = 0; i < 4; i++) {
      const float term = MAP == MAP_SOFTMAX ? exponential(x[i] + offset) : x[i] * x[i];
      sum += c + i < CHANNELS ? term : 0.0;
    }
  }
  sum = rowSum(sum);
  // A row of zeros with epsilon 0 stays one.
  factor = MAP == MAP_SOFTMAX || sum + p.epsilon == 0.0 ? normalisation(sum) : inversesqrt(sum + p.epsilon);
  if (!isWritten) { return; }
  const uint64_t destination = destinationRow(batch, token, head);
  for (uint c = first; c < OUTPUT_CHANNELS; c += share * 4) {
    const vec4 x = loadSource4(source, min(c, (CHANNELS - 1) / 4 * 4));
    vec4 y;
    [[unroll]] for (uint i = 0; i < 4; i++) {
      y[i] = (MAP == MAP_SOFTMAX ? exponential(x[i] + offset) : x[i]) * factor;
      y[i] = c + i < FEATURES ? y[i] : 0.0;
    }
    storeChannels4(OUTPUT_TYPE, OUTPUT_ALIGNED, destination, c, OUTPUT_CHANNELS, y);
  }
}

void main() {
  if (LANES == 0) {
    mapFeatures();
  } else {
    mapRow();
  }
}
