// Numbers to the formats of a cache, by integer arithmetic where a float operation of Vulkan may be inexact
// (division 2.5 ULP, conversions in either direction): every device stores the same bytes.
//
// Multiplication, addition, floor and comparison are exact or correctly rounded everywhere, if they are not
// contracted: `precise`. Numbers below 2^-90 are below every rule here, since devices may flush the
// products with them.

#ifndef CACHE_STORE_GLSL
#define CACHE_STORE_GLSL

#include "../Common/cache_formats.glsl"

/// Below this a group of numbers is stored as zeros: 2^-90.
const uint SMALLEST_MAGNITUDE_BITS = 37u << 23;
const uint INFINITY_BITS = 0x7f800000u;
const uint HALF_NAN = 0x7e00u;

/// |x| as bits, which are in the order of the magnitudes, infinities and NaN behind all others.
uint magnitudeBits(float x) { return floatBitsToUint(x) & 0x7fffffffu; }

/// significand * 2^exponent as f32, to nearest even or, for a second rounding, to odd. The significand has 24
/// bits or more, the exponent stays in the normal range.
float composed(uint significand, int exponent, const bool odd) {
  const int shift = findMSB(significand) - 23;
  uint rounded = significand >> shift;
  const uint rest = significand - (rounded << shift);
  if (odd) {
    rounded |= rest != 0 ? 1u : 0u;
  } else if (shift > 0) {
    const uint tie = 1u << (shift - 1);
    rounded += rest > tie || (rest == tie && (rounded & 1u) != 0) ? 1u : 0u;
  }
  // The hidden bit, and a carry out of the significand, count the exponent up.
  return uintBitsToFloat((uint(exponent + shift + 149) << 23) + rounded);
}

/// x / divisor for a normal x > 0 and a divisor from 2 to 127.
float dividedExactly(float x, const uint divisor, const bool odd) {
  const uint bits = floatBitsToUint(x);
  const uint dividend = ((bits & 0x7fffffu) | 0x800000u) << 8;
  const uint quotient = dividend / divisor;
  const uint sticky = quotient * divisor != dividend ? 1u : 0u;
  return composed((quotient << 1) | sticky, int(bits >> 23) - 150 - 9, odd);
}

/// 1 / x for a normal x, |x| below 2^125.
float reciprocalExactly(float x) {
  const uint bits = floatBitsToUint(x);
  const uint64_t significand = uint64_t((bits & 0x7fffffu) | 0x800000u);
  const uint64_t quotient = (1ul << 48) / significand;
  const uint sticky = quotient * significand != (1ul << 48) ? 1u : 0u;
  const float magnitude =
    composed((uint(quotient) << 1) | sticky, 101 - int((bits >> 23) & 0xffu), false);
  return x < 0 ? -magnitude : magnitude;
}

/// The binary16 nearest to x, ties to even.
uint halfBits(float x) {
  const uint magnitude = magnitudeBits(x);
  const uint sign = (floatBitsToUint(x) >> 16) & 0x8000u;
  if (magnitude > INFINITY_BITS) { return HALF_NAN; }
  if (magnitude >= 0x47800000u) { return sign | 0x7c00u; }
  if (magnitude < 0x38800000u) { return sign | uint(roundEven(abs(x) * 16777216.0)); }
  const uint based = magnitude - (112u << 23);
  return sign | ((based + 0xfffu + ((based >> 13) & 1u)) >> 13);
}

/// x as an element, ties to even, and the number that it then is.
uint elementBits(const uint type, float x) {
  if (type == ELEMENT_F32) { return floatBitsToUint(x); }
  if (type == ELEMENT_F16) { return halfBits(x); }
  return packElements(ELEMENT_BF16, vec2(x, 0)) & 0xffffu;
}

float elementOf(const uint type, uint bits) {
  return type == ELEMENT_F32 ? uintBitsToFloat(bits) : unpackElements(type, bits).x;
}

void storeElementBits(const uint type, uint64_t address, uint bits) {
  if (type == ELEMENT_F32) {
    WordReference(address).value = bits;
  } else {
    HalfWordReference(address).value = uint16_t(bits);
  }
}

/// The 8-bit floating-point number nearest to x, ties to even; too large ones become the largest, NaN stays.
uint float8Bits(const uint format, float x) {
  const uint magnitude = magnitudeBits(x);
  const uint sign = (floatBitsToUint(x) >> 24) & 0x80u;
  const uint bits = format == CACHE_E4M3 ? 3 : 2;
  const uint bias = format == CACHE_E4M3 ? 7 : 15;
  const uint largest = format == CACHE_E4M3 ? 0x7eu : 0x7bu;
  if (magnitude > INFINITY_BITS) { return sign | 0x7fu; }
  if (magnitude < (128u - bias) << 23) {
    // Multiples of 2^(1 - bias - bits).
    return sign | uint(roundEven(abs(x) * float(1u << (bias + bits - 1))));
  }
  const uint based = magnitude - ((127u - bias) << 23);
  const uint shift = 23 - bits;
  const uint rounded = (based + (1u << (shift - 1)) - 1u + ((based >> shift) & 1u)) >> shift;
  return sign | min(rounded, largest);
}

/// round(x * inverse), ties away from 0, as `q8_0` has it.
uint codeOfQ8(float x, float inverse) {
  precise const float quotient = x * inverse;
  const float below = floor(abs(quotient));
  const float code = below + (abs(quotient) - below >= 0.5 ? 1.0 : 0.0);
  return uint(clamp(int(quotient < 0 ? -code : code), -128, 127)) & 0xffu;
}

/// floor(x * inverse + shift) from 0 to 15, as `q4_0` and `q4_1` have it.
uint codeOfQ4(float x, float inverse, const float shift) {
  precise const float product = x * inverse;
  precise const float sum = product + shift;
  return uint(clamp(sum, 0.0, 15.0));
}

/// x / scale to the nearest integer, ties to even, at most `largest` from 0. `inverse` is 1 / scale within a few
/// units of its last place.
int codeOfScaled(float x, float scale, float inverse, const int largest) {
  const float magnitude = abs(x);
  const float code = min(floor(magnitude * inverse), float(largest));
  // Above the middle between code and its successor? A product of the scale in two halves of 12 bits with
  // the middle's 8 bits is exact, and so is a difference of numbers that lie close together.
  const float middle = code + 0.5;
  const float high = uintBitsToFloat(floatBitsToUint(scale) & 0xfffff000u);
  precise const float low = scale - high;
  precise const float rest = magnitude - middle * high;
  precise const float step = middle * low;
  const bool up = rest > step || (rest == step && (int(code) & 1) != 0);
  const int rounded = min(int(code) + (up ? 1 : 0), largest);
  return x < 0 ? -rounded : rounded;
}

/// Stores bytes channel ... channel + 3 (a multiple of 4) of a row of `size` bytes, an even number.
void storeBytes4(const bool words, uint64_t row, uint channel, const uint size, uvec4 bytes) {
  const uint low = bytes.x | (bytes.y << 8);
  const uint high = bytes.z | (bytes.w << 8);
  if (words) {
    WordReference(row + channel).value = low | (high << 16);
  } else {
    HalfWordReference(row + channel).value = uint16_t(low);
    if (channel + 2 < size) { HalfWordReference(row + channel + 2).value = uint16_t(high); }
  }
}

#endif
