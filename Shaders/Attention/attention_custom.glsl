// A user's modifications of scores, masks and outputs: what their code finds, and the code itself. Included by
// attention_scores.glsl in shaders that are compiled at run time (Sources/VulkanAttentionCustom).
//
//   CUSTOM_SCORE     there is customScore(score, batch, head, queryIndex, keyIndex), natural scores in and out
//   CUSTOM_MASK      there is customMask(batch, head, queryIndex, keyIndex), whether the row sees the key
//   CUSTOM_OUTPUT    there is customOutput(value, batch, head, queryIndex, channel), numbers of o in and out
//   CUSTOM_CHECKED   elements outside of a buffer are not read; f32, f16 and bf16 are NaN there, integers 0
//
// attention_modifications.glsl is no file: it is written for each set of modifications.

#ifndef ATTENTION_CUSTOM_GLSL
#define ATTENTION_CUSTOM_GLSL

#include "attention_masks.glsl"

struct CustomBuffer {
  uint64_t address;
  uint elementCount;  // 2^32 - 1 where there are more
  uint reserved;
};

// As in CustomBlock.swift.
layout(buffer_reference, scalar, buffer_reference_align = 8) readonly buffer CustomBlock {
  CustomBuffer buffers[8];
  uint scalars[16];  // the bits of f32 or of int
};

#define CUSTOM_BLOCK CustomBlock(p.options + uint64_t(OPTION_BLOCK.customOffset))

// What the modifications read, where loops over keys find it; openCustom() loads it with the sequence, as far as it
// is used.
uint64_t customAddresses[8];
uint customCounts[8];
uint customScalars[16];

/// The address of an element. A software driver loads from uniform addresses also where a condition says no, so an
/// element that is not there is looked for in the first one's place.
uint64_t customAddress(const uint place, int index, const uint bytes) {
#ifdef CUSTOM_CHECKED
  const uint inside = uint(index) < customCounts[place] ? uint(index) : 0u;
  return customAddresses[place] + uint64_t(inside) * bytes;
#else
  return customAddresses[place] + uint64_t(int64_t(index) * int64_t(bytes));
#endif
}

bool customIsInside(const uint place, int index) {
#ifdef CUSTOM_CHECKED
  return uint(index) < customCounts[place];
#else
  return true;
#endif
}

float customFloat(const uint type, const uint place, int index) {
  const float value = loadElement(type, customAddress(place, index, elementBytes(type)));
  return customIsInside(place, index) ? value : QUIET_NAN;
}

int customInteger(const uint place, int index) {
  const int value = IntegerReference(customAddress(place, index, 4)).value;
  return customIsInside(place, index) ? value : 0;
}

/// A byte as 0 ... 255.
int customByte(const uint place, int index) {
  const int value = int(loadByte(customAddress(place, index, 1)));
  return customIsInside(place, index) ? value : 0;
}

#include "attention_modifications.glsl"

#ifdef CUSTOM_OUTPUT
/// Four channels of a row of o as they are stored; what lies behind the last channel is not.
vec4 customOutput4(uint token, uint channel, vec4 values) {
  [[unroll]] for (uint c = 0; c < 4; c++) {
    values[c] = customOutput(
      values[c], int(batch), int(head), int(token), int(min(channel + c, HEAD_SIZE_V - 1)));
  }
  return values;
}
#endif

#endif
