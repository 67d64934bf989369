// Units of 16 bytes, eight numbers of 16 bits, for products of f16: bf16 as f16 by powers of two, and what is not
// finite.

#ifndef HALF_UNITS_GLSL
#define HALF_UNITS_GLSL

#extension GL_EXT_control_flow_attributes : require

/// The greatest power of two that is at most x, x finite and more than 0, as an exponent; -127 for 0.
int exponentOf(float x) {
  return int(floatBitsToUint(x) >> 23) - 127;
}

/// 2^e for -126 <= e <= 127.
float powerOfTwo(int exponent) {
  return uintBitsToFloat(uint(exponent + 127) << 23);
}

/// The bits of the greatest finite number of 8 bf16, as f32.
uint greatestOf(uvec4 words) {
  uint greatest = 0;
  [[unroll]] for (uint w = 0; w < 4; ++w) {
    const uint low = words[w] << 16 & 0x7fffffffu;
    const uint high = words[w] & 0x7fff0000u;
    if (low < 0x7f800000u) { greatest = max(greatest, low); }
    if (high < 0x7f800000u) { greatest = max(greatest, high); }
  }
  return greatest;
}

/// bf16 times a power of two as f16.
uvec4 scaledHalves(uvec4 words, int exponent) {
  const float scale = powerOfTwo(exponent);
  [[unroll]] for (uint w = 0; w < 4; ++w) {
    const vec2 pair = vec2(uintBitsToFloat(words[w] << 16), uintBitsToFloat(words[w] & 0xffff0000u));
    words[w] = packHalf2x16(pair * scale);
  }
  return words;
}

/// The sign bit of each half of each word is set where that f16 is inf or NaN.
uvec4 nonFiniteHalves(uvec4 words) {
  return ((words & 0x7c007c00u) + 0x04000400u) & 0x80008000u;
}

#endif
