#version 460

// Writes new keys, or values, of many sequences into their cache: rotated (rotary embedding), then stored as the
// cache's format has it.
//
//   for each token n, head g, unit u of the row's channels:
//     place = place of position[n] of sequence[n]              (none: nothing is written)
//     x     = source[n, g, channels of u], turned to the token's angle
//     cache[place, g, channels of u] = quantised(x)            (cache_store.glsl)
//
// Memory: source by strides [N, G, CHANNELS] of SOURCE_TYPE; cache [block, token, head] by strides counted in the
// format's blocks of channels, scales likewise in scales; sequences and positions int32 [N]. What is
// read from device memory is checked (cache_places.glsl). RING: a token that lies the capacity or more before
// its sequence's length is left out, where lengths are given, so that a long prompt can be appended at once.
//
// One invocation stores UNIT channels of one row, neighbours the next units, then the next head, then the next
// token: 8 channels of plain elements and of 8-bit floating point, a block of 32 of ggml's formats, a
// group of those with scales beside them. A unit that needs a statistic of its channels is read twice; no
// shared memory, no barrier. Workgroup: any size, 64 is fine. Grid: x * y * size >= N * G * units.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_16bit_storage : require

#include "../Common/element_types.glsl"
#include "cache_places.glsl"
#include "cache_store.glsl"
#include "rotary.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint CHANNELS = 128;
layout(constant_id = 2) const uint HEADS = 8;             // G
layout(constant_id = 3) const uint SOURCE_TYPE = 0;
layout(constant_id = 4) const uint FORMAT = 0;            // as cache_formats.glsl
layout(constant_id = 5) const uint SCALE_TYPE = 0;        // int8, int4
layout(constant_id = 6) const uint UNIT = 8;              // channels
layout(constant_id = 7) const uint ARRANGEMENT = 0;       // as cache_places.glsl
layout(constant_id = 8) const bool SOURCE_ALIGNED = true; // rows of whole eights of channels, 16-byte aligned
layout(constant_id = 9) const bool ROWS_ALIGNED = true;   // elements: likewise; bytes: to 4 bytes
layout(constant_id = 10) const uint ROTATED = 0;          // channels that are turned
layout(constant_id = 11) const bool INTERLEAVED = false;  // pairs 2i, 2i + 1; else i, i + ROTATED / 2

// 128 bytes.
layout(push_constant, scalar) uniform CacheAppendPush {
  uint64_t source;
  uint64_t cache;
  uint64_t scales;           // 0 where the format has none beside the numbers
  uint64_t sequences;        // int32 [N]
  uint64_t positions;        // int32 [N]
  uint64_t table;            // paged: int32 [sequences + 1]; ring: lengths, int32 [sequences], or 0
  uint64_t indices;          // paged: int32 [pageEntries]
  uint64_t frequencies;      // uint64 [ROTATED / 2], fractions of a turn
  uint64_t rotaryPositions;  // int32 [N]
  uint sourceTokenStride, sourceHeadStride;               // elements
  uint cacheBlockStride, cacheTokenStride, cacheHeadStride;  // the format's blocks of channels
  uint scaleBlockStride, scaleTokenStride, scaleHeadStride;  // scales
  uint tokens;               // N
  uint sequenceCount;
  uint blocks;               // sequences or pages of the cache
  uint blockTokens;
  uint pageEntries;
  float attentionFactor;
} p;

uint64_t sourceRow;
int angle;

vec4 loadChannels(uint channel) {
  return loadRotatedChannels4(
    SOURCE_TYPE, SOURCE_ALIGNED, sourceRow, channel, CHANNELS, ROTATED, INTERLEAVED, p.frequencies, angle,
    p.attentionFactor);
}

uvec4 magnitudes(vec4 x) { return floatBitsToUint(x) & 0x7fffffffu; }

uint largestOf(uvec4 x) { return max(max(x.x, x.y), max(x.z, x.w)); }

void storeBlock(uint64_t address, uint first) {
  uint largest = 0;
  float farthest = 0.0;
  float minimum = uintBitsToFloat(INFINITY_BITS);
  float maximum = -minimum;
  for (uint c = 0; c < 32; c += 4) {
    const vec4 x = loadChannels(first + c);
    largest = max(largest, largestOf(magnitudes(x)));
    if (FORMAT != CACHE_Q8) {
      // The first of equals, which differ in their signs.
      [[unroll]] for (uint i = 0; i < 4; ++i) {
        farthest = abs(x[i]) > abs(farthest) ? x[i] : farthest;
        minimum = x[i] < minimum ? x[i] : minimum;
        maximum = max(maximum, x[i]);
      }
    }
  }
  bool broken = largest >= INFINITY_BITS;
  float scale = 0.0;
  if (FORMAT == CACHE_Q4_MINIMUM) {
    const float range = maximum - minimum;
    broken = broken || magnitudeBits(range) >= INFINITY_BITS;
    if (!broken && magnitudeBits(range) >= SMALLEST_MAGNITUDE_BITS) { scale = dividedExactly(range, 15, false); }
  } else if (!broken && largest >= SMALLEST_MAGNITUDE_BITS) {
    scale = FORMAT == CACHE_Q8 ? dividedExactly(uintBitsToFloat(largest), 127, false) : farthest * -0.125;
  } else if (FORMAT == CACHE_Q4) {
    scale = -0.0;  // 0 / -8
  }
  float inverse = 0.0;
  if (scale != 0.0) { inverse = reciprocalExactly(scale); }
  HalfWordReference(address).value = uint16_t(broken ? HALF_NAN : halfBits(scale));
  if (FORMAT == CACHE_Q4_MINIMUM) { HalfWordReference(address + 2ul).value = uint16_t(broken ? 0u : halfBits(minimum)); }

  const uint64_t codes = address + (FORMAT == CACHE_Q4_MINIMUM ? 4 : 2);
  if (FORMAT == CACHE_Q8) {
    for (uint c = 0; c < 32; c += 4) {
      const vec4 x = loadChannels(first + c);
      uvec4 code = uvec4(0);
      if (!broken) {
        [[unroll]] for (uint i = 0; i < 4; ++i) { code[i] = codeOfQ8(x[i], inverse); }
      }
      storeBytes4(false, codes, c, 32, code);
    }
  } else {
    // Channel i in the low half of byte i, channel i + 16 in its high half.
    const float shift = FORMAT == CACHE_Q4 ? 8.5 : 0.5;
    for (uint c = 0; c < 16; c += 4) {
      const float origin = FORMAT == CACHE_Q4_MINIMUM ? minimum : 0.0;
      const vec4 low = loadChannels(first + c) - origin;
      const vec4 high = loadChannels(first + c + 16) - origin;
      uvec4 code = uvec4(0);
      if (!broken) {
        [[unroll]] for (uint i = 0; i < 4; ++i) {
          code[i] = codeOfQ4(low[i], inverse, shift) | (codeOfQ4(high[i], inverse, shift) << 4);
        }
      }
      storeBytes4(false, codes, c, 16, code);
    }
  }
}

void storeGroup(uint64_t row, uint64_t scaleAddress, uint first) {
  const uint end = min(first + UNIT, CHANNELS);
  uint largest = 0;
  for (uint c = first; c < end; c += 4) {
    largest = max(largest, largestOf(magnitudes(loadChannels(c))));
  }
  const int greatest = FORMAT == CACHE_INT8 ? 127 : 7;
  uint bits = 0;
  const bool broken = largest >= INFINITY_BITS;
  if (broken) {
    bits = SCALE_TYPE == ELEMENT_F32 ? 0x7fc00000u : SCALE_TYPE == ELEMENT_F16 ? HALF_NAN : 0x7fc0u;
  } else if (largest >= SMALLEST_MAGNITUDE_BITS) {
    // To odd, where it is rounded again.
    bits = elementBits(
      SCALE_TYPE, dividedExactly(uintBitsToFloat(largest), uint(greatest), SCALE_TYPE != ELEMENT_F32));
  }
  storeElementBits(SCALE_TYPE, scaleAddress, bits);
  const float scale = elementOf(SCALE_TYPE, bits);
  // A scale that has become 0 or an infinity leaves nothing.
  const bool counts = !broken && scale > 0.0 && floatBitsToUint(scale) < INFINITY_BITS;
  const float inverse = counts ? 1.0 / scale : 0.0;
  for (uint c = first; c < end; c += 4) {
    const vec4 x = loadChannels(c);
    ivec4 code = ivec4(0);
    if (counts) {
      [[unroll]] for (uint i = 0; i < 4; ++i) { code[i] = codeOfScaled(x[i], scale, inverse, greatest); }
    }
    if (FORMAT == CACHE_INT8) {
      storeBytes4(ROWS_ALIGNED, row, c, CHANNELS, uvec4(code) & 0xffu);
    } else {
      const uvec4 nibbles = uvec4(code) & 15u;
      HalfWordReference(row + c / 2).value =
        uint16_t(nibbles.x | (nibbles.y << 4) | (nibbles.z << 8) | (nibbles.w << 12));
    }
  }
}

void main() {
  const uint units = (CHANNELS + UNIT - 1) / UNIT;
  const uint item = (gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * gl_WorkGroupSize.x
    + gl_LocalInvocationID.x;
  const uint unit = item % units;
  const uint head = item / units % HEADS;
  const bool isToken = item / units / HEADS < p.tokens;
  const uint token = isToken ? item / units / HEADS : 0;

  const int sequence = IntegerReference(p.sequences + uint64_t(token) * 4).value;
  const int position = IntegerReference(p.positions + uint64_t(token) * 4).value;
  const CachePlace place = findPlace(
    ARRANGEMENT, sequence, position, p.sequenceCount, p.blocks, p.blockTokens, p.pageEntries, p.table,
    p.indices);
  bool isKept = isToken && place.exists;
  if (ARRANGEMENT == CACHE_RING && p.table != 0ul) {
    const int length = IntegerReference(p.table + uint64_t(place.block) * 4).value;
    isKept = isKept && (length < int(p.blockTokens) || position >= length - int(p.blockTokens));
  }
  if (!isKept) { return; }

  angle = position;
  if (ROTATED > 0) { angle = IntegerReference(p.rotaryPositions + uint64_t(token) * 4).value; }
  sourceRow = p.source
    + (uint64_t(token) * p.sourceTokenStride + uint64_t(head) * p.sourceHeadStride) * elementBytes(SOURCE_TYPE);
  const uint first = unit * UNIT;
  const uint64_t rowBlock = uint64_t(place.block) * p.cacheBlockStride
    + uint64_t(place.slot) * p.cacheTokenStride + uint64_t(head) * p.cacheHeadStride;
  const uint64_t scaleRow = uint64_t(place.block) * p.scaleBlockStride
    + uint64_t(place.slot) * p.scaleTokenStride + uint64_t(head) * p.scaleHeadStride;

  if (FORMAT <= ELEMENT_BF16) {
    const uint64_t row = p.cache + rowBlock * elementBytes(FORMAT);
    for (uint c = first; c < min(first + UNIT, CHANNELS); c += 4) {
      storeChannels4(FORMAT, ROWS_ALIGNED, row, c, CHANNELS, loadChannels(c));
    }
  } else if (FORMAT <= CACHE_Q4_MINIMUM) {
    const uint bytes = blockBytes(FORMAT);
    storeBlock(p.cache + (rowBlock + unit) * bytes, first);
  } else if (FORMAT <= CACHE_INT4) {
    const uint64_t scale = p.scales + (scaleRow + unit) * elementBytes(SCALE_TYPE);
    storeGroup(p.cache + rowBlock, scale, first);
  } else {
    for (uint c = first; c < min(first + UNIT, CHANNELS); c += 4) {
      const vec4 x = loadChannels(c);
      uvec4 code;
      [[unroll]] for (uint i = 0; i < 4; ++i) { code[i] = float8Bits(FORMAT, x[i]); }
      storeBytes4(ROWS_ALIGNED, p.cache + rowBlock, c, CHANNELS, code);
    }
  }
}
