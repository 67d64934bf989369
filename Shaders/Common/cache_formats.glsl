// The formats of caches (CacheFormat.swift): plain elements, ggml's blocks of 32, scaled integers, 8-bit floats.
//
// A format is a number (a specialization constant of the kernel), as an element type is, and the first three are the
// element types. Numbers are loaded in fours of channels. Formats with a scale for each group of channels give the
// codes, and the kernel multiplies what it makes of a group by the group's scale: once for a group's part of q.k,
// and a row's weight once before a group's values. q4_1 has a minimum as well and gives finished numbers.

#ifndef CACHE_FORMATS_GLSL
#define CACHE_FORMATS_GLSL

#include "element_types.glsl"

const uint CACHE_Q8 = 3;
const uint CACHE_Q4 = 4;
const uint CACHE_Q4_MINIMUM = 5;
const uint CACHE_INT8 = 6;
const uint CACHE_INT4 = 7;
const uint CACHE_E4M3 = 8;
const uint CACHE_E5M2 = 9;

// Bit f: groups of channels of format f have a scale that the loads leave out.
const uint GROUP_SCALED_FORMATS = 1u << CACHE_Q8 | 1u << CACHE_Q4 | 1u << CACHE_INT8 | 1u << CACHE_INT4;

bool hasGroupScales(const uint format) {
  return (GROUP_SCALED_FORMATS >> format & 1u) != 0;
}

/// Whether numbers lie in blocks of 32 channels with their scale.
bool isBlockFormat(const uint format) {
  return format == CACHE_Q8 || format == CACHE_Q4 || format == CACHE_Q4_MINIMUM;
}

uint blockBytes(const uint format) {
  return format == CACHE_Q8 ? 34u : format == CACHE_Q4 ? 18u : 20u;
}

/// Bits of a number, without scales that lie elsewhere, rounded down.
uint formatBits(const uint format) {
  return format == ELEMENT_F32 ? 32u : format <= ELEMENT_BF16 ? 16u
    : format == CACHE_Q4 || format == CACHE_Q4_MINIMUM || format == CACHE_INT4 ? 4u : 8u;
}

/// Two bytes of memory at an even address.
uint loadHalfWord(uint64_t address) {
  return uint(HalfWordReference(address).value);
}

/// A byte of memory, at any address; the half word around it lies in the same allocation.
uint loadSingleByte(uint64_t address) {
  return loadHalfWord(roundedDown(address, 2)) >> (uint(address) & 1u) * 8 & 0xffu;
}

/// Four bytes as signed numbers.
vec4 signedBytes(uint word) {
  const ivec4 shifted = ivec4(word << 24, word << 16, word << 8, word);
  return vec4(shifted >> 24);
}

/// Four 8-bit floating-point numbers.
vec4 smallFloats(const uint format, uint word) {
  const uvec4 codes = uvec4(word, word >> 8, word >> 16, word >> 24) & 0xffu;
  if (format == CACHE_E5M2) {
    // The upper byte of binary16.
    return vec4(unpackHalf2x16(codes.x << 8 | codes.y << 24), unpackHalf2x16(codes.z << 8 | codes.w << 24));
  }
  // The same digits as binary16 are 2^8 times smaller, subnormal ones too.
  const uvec4 halves = (codes & 0x80u) << 8 | (codes & 0x7fu) << 7;
  const vec4 numbers =
    vec4(unpackHalf2x16(halves.x | halves.y << 16), unpackHalf2x16(halves.z | halves.w << 16)) * 256.0;
  const vec4 nan = vec4(uintBitsToFloat(0x7fc00000u));
  return mix(numbers, nan, equal(codes & 0x7fu, uvec4(0x7fu)));
}

/// Four bytes of a row from byte `place` on, those of channels past the row's end anything.
uint loadRowBytes(const bool aligned, uint64_t row, uint place, uint end) {
  if (aligned) { return WordReference(row + place).value; }
  uint word = 0;
  [[unroll]] for (uint i = 0; i < 4; i++) {
    word |= loadSingleByte(row + min(place + i, end - 1)) << 8 * i;
  }
  return word;
}

/// Channels channel ... channel + 3 of a row, a multiple of 4, as f32 without the scale of their group; those past
/// the row's end are 0. Rows that are `aligned` begin at multiples of 16 bytes and have whole sixteens of bytes.
vec4 loadCacheChannels4(const uint format, const bool aligned, uint64_t row, uint channel, const uint size) {
  if (format <= ELEMENT_BF16) {
    return loadChannels4(format, aligned, row, channel, size);
  }
  if (isBlockFormat(format)) {
    const uint64_t block = row + channel / 32 * blockBytes(format);
    const uint place = channel % 32;
    if (format == CACHE_Q8) {
      return signedBytes(
        loadHalfWord(block + (2 + place)) | loadHalfWord(block + (4 + place)) << 16);
    }
    const uint first = format == CACHE_Q4 ? 2 : 4;
    const uint word = loadHalfWord(block + (first + place % 16))
      | loadHalfWord(block + (first + 2 + place % 16)) << 16;
    const uvec4 codes = uvec4(word, word >> 8, word >> 16, word >> 24) >> (place < 16 ? 0u : 4u) & 15u;
    if (format == CACHE_Q4) { return vec4(ivec4(codes) - 8); }
    const vec2 numbers = unpackHalf2x16(loadHalfWord(block) | loadHalfWord(block + 2ul) << 16);
    return vec4(codes) * numbers.x + numbers.y;
  }
  vec4 numbers;
  if (format == CACHE_INT4) {
    // Two channels in a byte: four in a half word.
    uint half_word;
    if (aligned) {
      half_word = loadHalfWord(row + channel / 2);
    } else {
      const uint last = (size - 1) / 2;
      half_word = loadSingleByte(row + min(channel / 2, last))
        | loadSingleByte(row + min(channel / 2 + 1, last)) << 8;
    }
    numbers = vec4(
      ivec4(half_word << 28, half_word << 24, half_word << 20, half_word << 16) >> 28);
  } else {
    const uint word = loadRowBytes(aligned, row, channel, size);
    numbers = format == CACHE_INT8 ? signedBytes(word) : smallFloats(format, word);
  }
  if (size % 4 != 0) {
    numbers = mix(vec4(0), numbers, lessThan(uvec4(channel) + uvec4(0, 1, 2, 3), uvec4(size)));
  }
  return numbers;
}

/// The scale of a group of `groupSize` channels: of the block in the row, or of the row of scales beside it.
float loadGroupScale(
  const uint format, const uint scaleType, uint64_t row, uint64_t scaleRow, uint channel, const uint groupSize
) {
  if (format == CACHE_Q8 || format == CACHE_Q4) {
    return unpackHalf2x16(loadHalfWord(row + channel / 32 * blockBytes(format))).x;
  }
  return loadElement(scaleType, scaleRow + channel / groupSize * elementBytes(scaleType));
}

#endif
