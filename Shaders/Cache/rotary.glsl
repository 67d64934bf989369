// Rotary position embedding (RoFormer, arXiv:2104.09864).
//
//   (x, y) -> (x * cos - y * sin, x * sin + y * cos) * factor        angle = position * frequency
//
// Frequencies are fractions of a turn in 64 bits, so that the product with a position in integers is the
// angle without its whole turns: exact for every position, where f32 would have lost all of it at 16M. What is
// left is at most an eighth of a turn away from a quarter, and the polynomials are good there to 2e-9;
// Vulkan asks of its own sin and cos no more than 5e-4. Worst error of cos and sin against Double, measured at 500
// positions below 2^20 for 64 frequencies: 1.3e-7 (lavapipe of Mesa 26.1.6).

#ifndef ROTARY_GLSL
#define ROTARY_GLSL

#include "../Common/element_types.glsl"

/// The cosine and the sine of position * frequency.
vec2 turned(uint64_t frequency, int position) {
  // The upper half of the product of 64 bits, in words: GPUs have no other, and see word_pairs.glsl.
  const uvec2 words = unpackUint2x32(frequency);
  uint low;
  uint high;
  umulExtended(words.x, uint(position), high, low);
  const uint turns = words.y * uint(position) + high - (position < 0 ? words.x : 0u);
  const uint quarter = turns + (1u << 29) >> 30;
  const int rest = int(turns - (quarter << 30));
  const float angle = float(rest) * 1.4629180792671596e-9;  // 2 pi / 2^32
  const float z = angle * angle;
  // Fitted to sin and cos on +-pi/4: 1.8e-9 and 1.0e-10 at most.
  const float sine = fma(
    angle * z, fma(fma(-1.9495592e-4, z, 8.3319787e-3), z, -1.6666651e-1), angle);
  const float cosine = fma(
    z * z, fma(fma(2.4438406e-5, z, -1.3887368e-3), z, 4.1666646e-2), fma(z, -0.5, 1.0));
  const vec2 pair = (quarter & 1) == 0 ? vec2(cosine, sine) : vec2(-sine, cosine);
  return (quarter & 2) == 0 ? pair : -pair;
}

/// The cosine and the sine for pair `pair` of the table of frequencies.
vec2 turnedPair(uint64_t frequencies, uint pair, int position) {
  return turned(LongReference(frequencies + uint64_t(pair) * 8).value, position);
}

/// Channels channel ... channel + 3 (a multiple of 4) of a row of `size` channels, of which the first `rotated` are
/// turned; `rotated` 0 for none.
vec4 loadRotatedChannels4(
  const uint type, const bool aligned, uint64_t row, uint channel, const uint size, const uint rotated,
  const bool interleaved, uint64_t frequencies, int position, float factor
) {
  const vec4 x = loadChannels4(type, aligned, row, channel, size);
  if (channel >= rotated) { return x; }
  const uint pairs = rotated / 2;
  vec4 partner;
  vec4 cosine;
  vec4 sine;
  if (interleaved) {
    partner = x.yxwz;
    const vec2 low = turnedPair(frequencies, channel / 2, position);
    const vec2 high = turnedPair(frequencies, min(channel / 2 + 1, pairs - 1), position);
    cosine = vec4(low.xx, high.xx);
    sine = vec4(-low.y, low.y, -high.y, high.y);
  } else {
    const bool wide = aligned && pairs % 4 == 0;
    if (wide) {
      partner = loadElements4(
        type, row + (channel < pairs ? channel + pairs : channel - pairs) * elementBytes(type));
    }
    [[unroll]] for (uint i = 0; i < 4; ++i) {
      const uint c = min(channel + i, rotated - 1);
      const bool first = c < pairs;
      const vec2 turn = turnedPair(frequencies, first ? c : c - pairs, position);
      if (!wide) {
        partner[i] = loadElement(type, row + (first ? c + pairs : c - pairs) * elementBytes(type));
      }
      cosine[i] = turn.x;
      sine[i] = first ? -turn.y : turn.y;
    }
  }
  // The same bits whatever they are stored as.
  precise const vec4 product = x * cosine;
  precise const vec4 sum = product + partner * sine;
  precise const vec4 y = sum * factor;
  vec4 result;
  [[unroll]] for (uint i = 0; i < 4; ++i) { result[i] = channel + i < rotated ? y[i] : x[i]; }
  return result;
}

#endif
