// Rows of a cache by lanes: which channels of a row each lane has, its loads, its numbers as f32.
//
// For software drivers, whose subgroup is a vector of the processor. Lane l of a vector takes half word (of f32 a word)
// l of each LANES of a row's numbers, so that the loads of all lanes are one load of a vector: they are written as
// loads at addresses that are the same for all lanes and a choice for each lane, of which such a driver's compiler
// makes it. A half word has 1, 2 or 4 numbers, which become as many vectors of f32: neighbouring lanes then have
// channels that are as many apart, for the queries and the results as well (laneChannel()).
//
// Included behind decode_interface.glsl and a constant LANES.

#ifndef DECODE_LANE_CHANNELS_GLSL
#define DECODE_LANE_CHANNELS_GLSL

#extension GL_EXT_shader_explicit_arithmetic_types_int16 : require

#include "decode_interface.glsl"

// Numbers of a lane in what it loads at once. Macros and no functions: sizes of arrays come from them.
#define LANE_NUMBERS(format) \
  ((format) <= ELEMENT_BF16 ? 1u : (NIBBLE_FORMATS >> (format) & 1u) != 0u ? 4u : 2u)

/// Vectors of f32 that a row of `size` channels becomes.
#define LANE_VECTORS(format, size) \
  (((size) + LANES * LANE_NUMBERS(format) - 1) / (LANES * LANE_NUMBERS(format)) * LANE_NUMBERS(format))

// Bit f: format f has four bits for a number.
const uint NIBBLE_FORMATS = 1u << CACHE_Q4 | 1u << CACHE_Q4_MINIMUM | 1u << CACHE_INT4;

/// The channel of number `number` of (half) word `word` of a row.
uint wordChannel(const uint format, const uint word, const uint number) {
  if (format == CACHE_Q4 || format == CACHE_Q4_MINIMUM) {
    // A byte of a block has a number of its first 16 channels and one of its last.
    return word / 8 * 32 + word % 8 * 2 + number % 2 + number / 2 * 16;
  }
  return word * LANE_NUMBERS(format) + number;
}

/// The channel of a lane in a vector; that of a lane behind the last channel is not below the row's size.
uint laneChannel(const uint format, const uint vector, const uint lane) {
  const uint numbers = LANE_NUMBERS(format);
  return wordChannel(format, vector / numbers * LANES + lane, vector % numbers);
}

/// Bytes from the start of a row to a (half) word.
uint wordPlace(const uint format, const uint word) {
  if (format == ELEMENT_F32) { return word * 4; }
  if (format == CACHE_Q8) { return word / 16 * blockBytes(format) + 2 + word % 16 * 2; }
  if (format == CACHE_Q4) { return word / 8 * blockBytes(format) + 2 + word % 8 * 2; }
  if (format == CACHE_Q4_MINIMUM) { return word / 8 * blockBytes(format) + 4 + word % 8 * 2; }
  return word * 2;
}

/// The (half) word of each lane of load `load`, of a row at an address that is the same for all lanes. Lanes behind the
/// last channel have the last one again.
uint loadLaneWords(const uint format, const uint size, uint64_t row, const uint load) {
  const uint last = (size + LANE_NUMBERS(format) - 1) / LANE_NUMBERS(format) - 1;
  if (format == ELEMENT_F32) {
    uint words = 0;
    [[unroll]] for (uint lane = 0; lane < LANES; lane++) {
      const uint word = WordReference(row + wordPlace(format, min(load * LANES + lane, last))).value;
      words = gl_SubgroupInvocationID == lane ? word : words;
    }
    return words;
  }
  // Of 16 bits until all of them are there, or the loads stay apart.
  uint16_t words = uint16_t(0);
  [[unroll]] for (uint lane = 0; lane < LANES; lane++) {
    const uint16_t word = HalfWordReference(row + wordPlace(format, min(load * LANES + lane, last))).value;
    words = gl_SubgroupInvocationID == lane ? word : words;
  }
  return uint(words);
}

/// Number `number` of each lane's (half) word, without the scale of its group.
float laneNumber(const uint format, uint words, const uint number) {
  if (format == ELEMENT_F32) { return uintBitsToFloat(words); }
  if (format <= ELEMENT_BF16) { return unpackElements(format, words).x; }
  if (format == CACHE_INT8 || format == CACHE_Q8) { return float(int(words << 24 - number * 8) >> 24); }
  if (format == CACHE_INT4) { return float(int(words << 28 - number * 4) >> 28); }
  if (format == CACHE_Q4 || format == CACHE_Q4_MINIMUM) {
    const uint code = words >> number % 2 * 8 + number / 2 * 4 & 15u;
    return format == CACHE_Q4 ? float(int(code) - 8) : float(code);
  }
  return smallFloats(format, words >> number * 8)[0];
}

/// Whether numbers are multiplied by a scale and perhaps moved by a minimum, both of their group.
bool hasLaneScales(const uint format) {
  return hasGroupScales(format) || format == CACHE_Q4_MINIMUM;
}

/// The scale of a group, or its minimum; row and scaleRow are the same for all lanes.
float loadLaneScale(
  const uint format, const uint scaleType, uint64_t row, uint64_t scaleRow, const uint group, const bool isMinimum
) {
  if (isBlockFormat(format)) {
    return unpackHalf2x16(loadHalfWord(row + group * blockBytes(format) + (isMinimum ? 2 : 0))).x;
  }
  return loadElement(scaleType, scaleRow + group * elementBytes(scaleType));
}

/// The scales (or minima) of the lanes' groups in a vector.
float laneScales(
  const uint format, const uint scaleType, const uint size, uint64_t row, uint64_t scaleRow, const uint vector,
  const uint groupSize, const bool isMinimum
) {
  const uint lastGroup = (size - 1) / groupSize;
  const uint first = min(laneChannel(format, vector, 0) / groupSize, lastGroup);
  const uint last = min(laneChannel(format, vector, LANES - 1) / groupSize, lastGroup);
  float scales = loadLaneScale(format, scaleType, row, scaleRow, first, isMinimum);
  const uint own = laneChannel(format, vector, gl_SubgroupInvocationID) / groupSize;
  [[unroll]] for (uint group = first + 1; group <= last; group++) {
    const float scale = loadLaneScale(format, scaleType, row, scaleRow, group, isMinimum);
    scales = own >= group ? scale : scales;
  }
  return scales;
}

// --- Keys: blocks of four lanes have a key each -----------------------------------------------------------

// Lanes of a block of four have a key, or each of them one of four rows with that key.
const uint BLOCKS = LANES / 4;

// Numbers of a lane in a word.
#define WORD_NUMBERS(format) ((format) == ELEMENT_F32 ? 1u : LANE_NUMBERS(format) * 2u)
/// Loads of a lane for a row of `size` channels, of which four lanes share a key.
#define KEY_LOADS(format, size) (((size) + 4 * WORD_NUMBERS(format) - 1) / (4 * WORD_NUMBERS(format)))

/// The channel of number `number` of word `word` of a row.
uint keyChannel(const uint format, const uint word, const uint number) {
  if (format == CACHE_Q4 || format == CACHE_Q4_MINIMUM) {
    return word / 4 * 32 + word % 4 * 4 + number % 4 + number / 4 * 16;
  }
  return word * WORD_NUMBERS(format) + number;
}

/// A word of a row; of blocks and of rows that are not aligned it lies at a multiple of two bytes.
uint loadKeyWord(const uint format, const uint size, uint64_t row, const uint word) {
  if (format == ELEMENT_F32 || KEYS_ALIGNED && !isBlockFormat(format)) { return WordReference(row + word * 4).value; }
  if (!isBlockFormat(format)) {
    return loadHalfWord(row + word * 4) | loadHalfWord(row + min(word * 2 + 1, size - 1) * 2) << 16;
  }
  const uint blockWords = format == CACHE_Q8 ? 8 : 4;
  const uint64_t place =
    row + (word / blockWords * blockBytes(format) + (format == CACHE_Q4_MINIMUM ? 4 : 2) + word % blockWords * 4);
  return loadHalfWord(place) | loadHalfWord(place + 2ul) << 16;
}

/// The words of load `load`: lane l has word l % 4 of row l / 4.
uint loadKeyWords(const uint format, const uint size, uint64_t rows[BLOCKS], const uint load) {
  const uint last = (size + WORD_NUMBERS(format) - 1) / WORD_NUMBERS(format) - 1;
  uint words = 0;
  [[unroll]] for (uint lane = 0; lane < LANES; lane++) {
    const uint word = loadKeyWord(format, size, rows[lane / 4], min(load * 4 + lane % 4, last));
    words = gl_SubgroupInvocationID == lane ? word : words;
  }
  return words;
}

/// Number `number` of each lane's word, without the scale of its group.
float keyNumber(const uint format, uint word, const uint number) {
  if (format == ELEMENT_F32) { return uintBitsToFloat(word); }
  if (format <= ELEMENT_BF16) { return unpackElements(format, word)[number]; }
  if (format == CACHE_INT8 || format == CACHE_Q8) { return float(int(word << 24 - number * 8) >> 24); }
  if (format == CACHE_INT4) { return float(int(word << 28 - number * 4) >> 28); }
  if (format == CACHE_Q4 || format == CACHE_Q4_MINIMUM) {
    const uint code = word >> number % 4 * 8 + number / 4 * 4 & 15u;
    return format == CACHE_Q4 ? float(int(code) - 8) : float(code);
  }
  return smallFloats(format, word)[number];
}

#endif
