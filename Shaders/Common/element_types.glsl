// Element types of tensors in memory, and loads and stores of them by device address.
//
// An element type is a number (a specialization constant of the kernel), so every `type ==` test below
// is folded by the driver and one SPIR-V module serves all types. Addresses are in bytes; an access of
// N elements must be aligned to N * elementBytes(type). Arithmetic is always done in f32.

#ifndef ELEMENT_TYPES_GLSL
#define ELEMENT_TYPES_GLSL

#extension GL_EXT_buffer_reference : require
#extension GL_EXT_scalar_block_layout : require
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_control_flow_attributes : require

#include "word_pairs.glsl"

const uint ELEMENT_F32 = 0;
const uint ELEMENT_F16 = 1;
const uint ELEMENT_BF16 = 2;

layout(buffer_reference, scalar, buffer_reference_align = 8) buffer WordPairReference { uvec2 value; };
layout(buffer_reference, scalar, buffer_reference_align = 8) buffer LongReference { uint64_t value; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer WordReference { uint value; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer IntegerReference { int value; };
layout(buffer_reference, scalar, buffer_reference_align = 2) buffer HalfWordReference { uint16_t value; };
layout(buffer_reference, scalar, buffer_reference_align = 16) buffer WordQuadReference { uvec4 value; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer FloatReference { float value; };
layout(buffer_reference, scalar, buffer_reference_align = 16) buffer FloatQuadReference { vec4 value; };

/// The size of one element in bytes.
uint elementBytes(const uint type) {
  return type == ELEMENT_F32 ? 4u : 2u;
}

/// The low and the high 16-bit element of a word as f32.
vec2 unpackElements(const uint type, uint word) {
  if (type == ELEMENT_BF16) {
    return vec2(uintBitsToFloat(word << 16), uintBitsToFloat(word & 0xffff0000u));
  }
  return unpackHalf2x16(word);
}

/// Two f32 values rounded to nearest even as 16-bit elements, `values.x` in the low half.
uint packElements(const uint type, vec2 values) {
  if (type == ELEMENT_BF16) {
    uvec2 bits = floatBitsToUint(values);
    uvec2 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    // Rounding must not carry a NaN's payload into an infinity.
    rounded = mix(rounded, (bits >> 16) | 0x40u, isnan(values));
    return rounded.x | (rounded.y << 16);
  }
  return packHalf2x16(values);
}

/// Four consecutive elements as f32.
vec4 loadElements4(const uint type, uint64_t address) {
  if (type == ELEMENT_F32) {
    return FloatQuadReference(address).value;
  }
  uvec2 words = WordPairReference(address).value;
  return vec4(unpackElements(type, words.x), unpackElements(type, words.y));
}

/// Eight consecutive elements as f32; one 16-byte load for 16-bit types.
void loadElements8(const uint type, uint64_t address, out vec4 low, out vec4 high) {
  if (type == ELEMENT_F32) {
    low = FloatQuadReference(address).value;
    high = FloatQuadReference(address + 16ul).value;
  } else {
    uvec4 words = WordQuadReference(address).value;
    low = vec4(unpackElements(type, words.x), unpackElements(type, words.y));
    high = vec4(unpackElements(type, words.z), unpackElements(type, words.w));
  }
}

/// One element as f32.
float loadElement(const uint type, uint64_t address) {
  if (type == ELEMENT_F32) {
    return FloatReference(address).value;
  }
  return unpackElements(type, uint(HalfWordReference(address).value)).x;
}

/// Channels channel ... channel + 3 of a row of `size` channels as f32, those past its end 0. Where rows are not
/// `aligned` (to 16 bytes, with a size that is a multiple of 8), elements are loaded one by one.
vec4 loadChannels4(const uint type, const bool aligned, uint64_t row, uint channel, const uint size) {
  if (aligned) {
    return loadElements4(type, row + channel * elementBytes(type));
  }
  vec4 values;
  [[unroll]] for (uint i = 0; i < 4; ++i) {
    const float value = loadElement(type, row + min(channel + i, size - 1) * elementBytes(type));
    values[i] = channel + i < size ? value : 0.0;
  }
  return values;
}

/// Stores four f32 values as consecutive elements.
void storeElements4(const uint type, uint64_t address, vec4 values) {
  if (type == ELEMENT_F32) {
    FloatQuadReference(address).value = values;
  } else {
    WordPairReference(address).value =
      uvec2(packElements(type, values.xy), packElements(type, values.zw));
  }
}

/// One f32 value as an element.
void storeElement(const uint type, uint64_t address, float value) {
  if (type == ELEMENT_F32) {
    FloatReference(address).value = value;
  } else {
    HalfWordReference(address).value = uint16_t(packElements(type, vec2(value, 0.0)));
  }
}

/// Stores channels channel ... channel + 3 of a row of `size` channels; those past its end are left out.
void storeChannels4(
  const uint type, const bool aligned, uint64_t row, uint channel, const uint size, vec4 values
) {
  const uint64_t address = row + channel * elementBytes(type);
  if (aligned) {
    storeElements4(type, address, values);
    return;
  }
  [[unroll]] for (uint i = 0; i < 4; ++i) {
    if (channel + i < size) { storeElement(type, address + i * elementBytes(type), values[i]); }
  }
}

#endif
