// What the kernels of the family Decode share: the block of a step in memory, the work list, where keys and values lie
// in the cache, the rows of a problem.
//
// A problem is a key head g of a sequence b, or where its rows are many a tile of them: all query heads that share
// its keys, for all query tokens, are rows of one tile, so that a key is read once for all:
//
//   row r:   token i = r / headsPerGroup,   head h = g * headsPerGroup + r % headsPerGroup
//
// The work list (LeanSchedule.swift) gives each workgroup segments, runs of key tiles of problems. A problem in one
// segment is written by it. One in several leaves a partial result of each, which decode_merge.comp merges in order:
// per slot, f32, maxima [tileRows] (exponents of 2), sums [tileRows], results [tileRows, E], not normalised.
//
// Masks, scores and the last factor of a row are those of attention_options.glsl; the keys of the segment are its
// range of keys.

#ifndef DECODE_INTERFACE_GLSL
#define DECODE_INTERFACE_GLSL

#extension GL_GOOGLE_include_directive : require

#define LEAN_DECODE
#include "../Attention/attention_options.glsl"
#include "../Common/cache_formats.glsl"
#include "../Cache/cache_places.glsl"

// 5 belongs to each kernel. KEY_TYPE and VALUE_TYPE (16, 17) are formats of caches here.
layout(constant_id = 6) const uint KEY_GROUP = 32;        // channels that share a scale
layout(constant_id = 7) const uint VALUE_GROUP = 32;
layout(constant_id = 8) const uint KEY_SCALE_TYPE = 0;    // of scales beside the numbers
layout(constant_id = 9) const uint VALUE_SCALE_TYPE = 0;
layout(constant_id = 10) const uint ARRANGEMENT = 0;      // CACHE_CONTIGUOUS, _RING, _PAGED
layout(constant_id = 11) const uint PAGE_SIZE = 16;
layout(constant_id = 12) const bool KEYS_ALIGNED = true;  // cache rows at multiples of 16 bytes
layout(constant_id = 13) const bool VALUES_ALIGNED = true;
layout(constant_id = 14) const uint ROTATION = 0;         // of keys as they are loaded: ROTATION_*
layout(constant_id = 15) const uint ROTARY_SIZE = 64;     // channels that are rotated, from channel 0 on

const uint ROTATION_NONE = 0;
const uint ROTATION_HALVES = 1;   // channels c and c + ROTARY_SIZE / 2 are a pair
const uint ROTATION_PAIRS = 2;    // channels 2c and 2c + 1

/// Behind the OptionBlock, byte for byte as DecodeBlock.swift writes it.
layout(buffer_reference, scalar, buffer_reference_align = 8) readonly buffer DecodeBlock {
  OptionTensor optionTensors[TENSOR_COUNT];
  uint optionScalars[OPTION_SCALARS];
  uint64_t segments;     // uvec4 [segments]
  uint64_t groupStarts;  // uint [groups + 1]
  uint64_t merges;       // uvec4 [merges]
  uint64_t partials;
  uint64_t pageStarts;   // int [B + 1]
  uint64_t pageIndices;  // int [pageIndexCount]
  uint64_t rotations;    // f32 [keyTokens, ROTARY_SIZE / 2, 2]: cosine and sine
  uint64_t kBlockStride, kTokenStride, kHeadStride;  // in bytes; a block is a sequence or a page
  uint64_t vBlockStride, vTokenStride, vHeadStride;
  uint64_t kScaleBlockStride, kScaleTokenStride, kScaleHeadStride;  // in bytes
  uint64_t vScaleBlockStride, vScaleTokenStride, vScaleHeadStride;
  uint keyHeads;         // G
  uint rowTiles;         // tiles of rows of a problem
  uint tileRows;         // rows of a tile
  uint tileLength;       // keys of a tile
  uint groupCount;
  uint mergeCount;
  uint capacity;         // places of a sequence
  uint pageCount;
  uint pageIndexCount;
  uint zero;             // 0, which no compiler knows
};

#define DECODE_BLOCK DecodeBlock(p.options)

layout(buffer_reference, scalar, buffer_reference_align = 16) readonly buffer SegmentReference { uvec4 value; };
layout(buffer_reference, scalar, buffer_reference_align = 8) readonly buffer RotationReference { vec4 value; };

const uint NO_SLOT = 0xffffffffu;

// --- The cache -------------------------------------------------------------------------------------------

/// The first page of the sequence in the list of pages.
int firstPage() {
  return clamp(
    IntegerReference(DECODE_BLOCK.pageStarts + batch * 4ul).value, 0, int(DECODE_BLOCK.pageIndexCount));
}

/// The keys that the sequence can have by its places in the cache.
uint heldKeys() {
  if (ARRANGEMENT == CACHE_CONTIGUOUS) { return DECODE_BLOCK.capacity; }
  if (ARRANGEMENT == CACHE_RING) { return 0x3fffffffu; }
  const int first = firstPage();
  const int end = clamp(
    IntegerReference(DECODE_BLOCK.pageStarts + (batch + 1) * 4ul).value, first,
    int(DECODE_BLOCK.pageIndexCount));
  // Pages that a device list names may be any number; the product must not wrap.
  return min(uint(end - first), 0x3fffffffu / PAGE_SIZE) * PAGE_SIZE;
}

/// The first key that is still there.
int firstHeldKey(uint length) {
  return ARRANGEMENT == CACHE_RING ? max(0, int(length) - int(DECODE_BLOCK.capacity)) : 0;
}

/// Where a key lies: block and token.
struct KeyPlace {
  uint block, token;
};

/// The place of a key of the sequence, which has it. What device memory says of pages must not lead outside of the
/// pool, so page numbers are bounded.
KeyPlace placeOf(uint key) {
  KeyPlace place;
  place.block = batch;
  place.token = key;
  if (ARRANGEMENT == CACHE_RING) { place.token = key % DECODE_BLOCK.capacity; }
  if (ARRANGEMENT == CACHE_PAGED) {
    const uint entry = min(uint(firstPage()) + key / PAGE_SIZE, DECODE_BLOCK.pageIndexCount - 1);
    place.block = min(
      WordReference(DECODE_BLOCK.pageIndices + entry * 4ul).value, DECODE_BLOCK.pageCount - 1);
    place.token = key % PAGE_SIZE;
  }
  return place;
}

uint64_t keyRow(KeyPlace place) {
  return p.k + place.block * DECODE_BLOCK.kBlockStride + place.token * DECODE_BLOCK.kTokenStride
    + keyHead * DECODE_BLOCK.kHeadStride;
}

uint64_t valueRow(KeyPlace place) {
  return p.v + place.block * DECODE_BLOCK.vBlockStride + place.token * DECODE_BLOCK.vTokenStride
    + keyHead * DECODE_BLOCK.vHeadStride;
}

uint64_t keyScaleRow(KeyPlace place) {
  return p.keyScales + place.block * DECODE_BLOCK.kScaleBlockStride
    + place.token * DECODE_BLOCK.kScaleTokenStride + keyHead * DECODE_BLOCK.kScaleHeadStride;
}

uint64_t valueScaleRow(KeyPlace place) {
  return p.valueScales + place.block * DECODE_BLOCK.vScaleBlockStride
    + place.token * DECODE_BLOCK.vScaleTokenStride + keyHead * DECODE_BLOCK.vScaleHeadStride;
}

/// Whether loads of keys leave the scales of groups to the kernel. Rotation mixes groups and needs them before.
const bool KEY_SCALES_APART = (GROUP_SCALED_FORMATS >> KEY_TYPE & uint(ROTATION == ROTATION_NONE)) != 0;
const bool VALUE_SCALES_APART = (GROUP_SCALED_FORMATS >> VALUE_TYPE & 1u) != 0;

float keyScale(uint64_t row, uint64_t scaleRow, uint channel) {
  return loadGroupScale(KEY_TYPE, KEY_SCALE_TYPE, row, scaleRow, channel, KEY_GROUP);
}

float valueScale(uint64_t row, uint64_t scaleRow, uint channel) {
  return loadGroupScale(VALUE_TYPE, VALUE_SCALE_TYPE, row, scaleRow, channel, VALUE_GROUP);
}

/// Four channels of a key as they are stored, with their scale.
vec4 loadWholeKeyChannels4(uint64_t row, uint64_t scaleRow, uint channel) {
  vec4 numbers = loadCacheChannels4(KEY_TYPE, KEYS_ALIGNED, row, channel, HEAD_SIZE_QK);
  if (hasGroupScales(KEY_TYPE)) { numbers *= keyScale(row, scaleRow, channel); }
  return numbers;
}

/// Four channels of a key, rotated to its position where ROTATION says so; without the scale of their group where
/// KEY_SCALES_APART says so.
vec4 loadKeyChannels4(uint key, uint64_t row, uint64_t scaleRow, uint channel) {
  if (ROTATION == ROTATION_NONE || channel >= ROTARY_SIZE) {
    return ROTATION == ROTATION_NONE && KEY_SCALES_APART
      ? loadCacheChannels4(KEY_TYPE, KEYS_ALIGNED, row, channel, HEAD_SIZE_QK)
      : loadWholeKeyChannels4(row, scaleRow, channel);
  }
  const vec4 own = loadWholeKeyChannels4(row, scaleRow, channel);
  const uint half_size = ROTARY_SIZE / 2;
  const uint64_t rotations = DECODE_BLOCK.rotations + uint64_t(key) * (ROTARY_SIZE * 4);
  if (ROTATION == ROTATION_PAIRS) {
    const vec4 angles = RotationReference(rotations + channel * 4).value;  // cos, sin of two pairs
    return vec4(
      own.x * angles.x - own.y * angles.y, own.y * angles.x + own.x * angles.y,
      own.z * angles.z - own.w * angles.w, own.w * angles.z + own.z * angles.w);
  }
  const bool isSecond = channel >= half_size;
  const uint pair = isSecond ? channel - half_size : channel;
  const vec4 other = loadWholeKeyChannels4(row, scaleRow, isSecond ? pair : channel + half_size);
  const vec4 first = RotationReference(rotations + pair * 8).value;
  const vec4 second = RotationReference(rotations + pair * 8 + 16).value;
  const vec4 cosines = vec4(first.xz, second.xz);
  const vec4 sines = vec4(first.yw, second.yw);
  return isSecond ? own * cosines + other * sines : own * cosines - other * sines;
}

/// Four channels of a value, without the scale of their group where VALUE_SCALES_APART says so.
vec4 loadValueChannels4(uint64_t row, uint channel) {
  return loadCacheChannels4(VALUE_TYPE, VALUES_ALIGNED, row, channel, HEAD_SIZE_V);
}

// --- Touching --------------------------------------------------------------------------------------------

// What touch() has read: kept until something depends on it, or a compiler leaves the loads out.
uint touched = 0;

/// Reads a word of each line of 64 bytes of the keys and values firstKey ..< firstKey + count, so that they are in
/// the cache when they are wanted. Rows of a cache lie kilobytes apart (the other heads' are between them), and no
/// processor foresees the next one: its loads then wait for memory one after the other, these all at once.
void touch(uint firstKey, const uint count) {
  const uint kBytes = HEAD_SIZE_QK * formatBits(KEY_TYPE) / 8;
  const uint vBytes = VALUE_IS_KEY ? 0 : HEAD_SIZE_V * formatBits(VALUE_TYPE) / 8;
  [[unroll]] for (uint c = 0; c < count; c++) {
    const KeyPlace place = placeOf(min(firstKey + c, keyTokens - 1));
    const uint64_t kWords = KEYS_ALIGNED ? keyRow(place) : roundedDown(keyRow(place), 4);
    [[unroll]] for (uint line = 0; line < kBytes; line += 64) { touched |= WordReference(kWords + line).value; }
    if (vBytes > 0) {
      const uint64_t vWords = VALUES_ALIGNED ? valueRow(place) : roundedDown(valueRow(place), 4);
      [[unroll]] for (uint line = 0; line < vBytes; line += 64) { touched |= WordReference(vWords + line).value; }
    }
  }
}

/// 0, which depends on all that was touched.
float touchedZero() {
  return float(touched & DECODE_BLOCK.zero);
}

// --- Problems and segments -------------------------------------------------------------------------------

uint rowTile;  // of the problem

/// Rows of a problem: S * H / G.
uint problemRows() {
  return p.queryTokens * p.headsPerGroup;
}

/// The workgroup's number.
uint groupNumber() {
  return p.firstGroup + gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
}

/// Sets sequence and key head of a problem.
void openDecodeProblem(uint problem) {
  const uint tile = problem % (DECODE_BLOCK.keyHeads * DECODE_BLOCK.rowTiles);
  batch = problem / (DECODE_BLOCK.keyHeads * DECODE_BLOCK.rowTiles);
  keyHead = tile / DECODE_BLOCK.rowTiles;
  rowTile = tile % DECODE_BLOCK.rowTiles;
}

/// Sets the problem of a segment and the keys that are its own.
void openSegment(uvec4 segment) {
  openDecodeProblem(segment.x);
  segmentBegin = int(segment.y * DECODE_BLOCK.tileLength);
  segmentEnd = segmentBegin + int((segment.z & 0x3fffffffu) * DECODE_BLOCK.tileLength);
}

/// Sets the head of a row and all that belongs to it, and gives its token.
uint openDecodeRow(uint ownRow) {
  const uint clamped = min(ownRow, problemRows() - 1);
  head = keyHead * p.headsPerGroup + clamped % p.headsPerGroup;
  openSequence();
  return clamped / p.headsPerGroup;
}

// The parts of a partial result.

uint64_t partialSlot(uint slot) {
  return DECODE_BLOCK.partials + uint64_t(slot) * (DECODE_BLOCK.tileRows * (2 + HEAD_SIZE_V) * 4ul);
}

uint64_t partialMaximum(uint64_t slot, uint row) {
  return slot + row * 4;
}

uint64_t partialSum(uint64_t slot, uint row) {
  return slot + (DECODE_BLOCK.tileRows + row) * 4;
}

uint64_t partialResult(uint64_t slot, uint row) {
  return slot + (DECODE_BLOCK.tileRows * 2 + row * HEAD_SIZE_V) * 4;
}

/// Writes the output of a row, or its part of a slot. Called by each lane that has the row's channels.
void storeDecodeStatistics(uint slot, uint row, uint token, float rowMax, float rowSum, out float factor) {
  float lse;
  finishRow(token, rowMax, rowSum, factor, lse);
  if (slot != NO_SLOT) {
    const uint64_t place = partialSlot(slot);
    FloatReference(partialMaximum(place, row)).value = rowMax;
    FloatReference(partialSum(place, row)).value = rowSum;
  } else if (p.lse != 0ul) {
    FloatReference(p.lse + rowIndex(false, token) * 4ul).value = lse;
  }
}

void storeDecodeChannels4(uint slot, uint row, uint token, uint channel, float factor, vec4 values) {
  if (channel < HEAD_SIZE_V) {
    if (slot != NO_SLOT) {
      storeChannels4(
        ELEMENT_F32, false, partialResult(partialSlot(slot), row), channel, HEAD_SIZE_V, values);
    } else {
      storeChannels4(OUTPUT_TYPE, ALIGNED, outputAddress(token), channel, HEAD_SIZE_V, values * factor);
    }
  }
}

/// One channel of a row, as storeDecodeChannels4() does four.
void storeDecodeChannel(uint slot, uint row, uint token, uint channel, float factor, float value) {
  if (channel < HEAD_SIZE_V) {
    if (slot != NO_SLOT) {
      FloatReference(partialResult(partialSlot(slot), row) + channel * 4).value = value;
    } else {
      storeElement(OUTPUT_TYPE, outputAddress(token) + channel * elementBytes(OUTPUT_TYPE), value * factor);
    }
  }
}

#endif
