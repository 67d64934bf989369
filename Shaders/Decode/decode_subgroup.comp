#version 460

// Lean decode, path `subgroup`: a subgroup takes as many keys at a time as it has lanes.
//
//   for each segment of the workgroup (decode_interface.glsl), for the R rows of its tile, in each subgroup:
//     m_r = -inf;  l_r = 0 (of each lane);  o_r = 0 (the lane's channels)
//     for each SUBGROUP_SIZE keys of the subgroup's share, one for each lane:
//       s_r = mapScore(q_r . k)                          a whole dot product in a lane: no reduction
//       m'  = max(m_r, max over lanes s_r);  p_r = 2^(s_r - m');  l_r = l_r 2^(m_r - m') + p_r
//       o_r = o_r 2^(m_r - m') + sum over keys p_r v     lanes are channels now; p_r comes from the key's lane
//     subgroups of the workgroup are added in their order, through shared memory
//     o_r = o_r / l_r and lse_r, or (m, l, o) into the segment's slot
//
// Every number of K and V is loaded and converted once for all R rows. Workgroup: SUBGROUPS full subgroups; the
// subgroups take turns of keys. Grid: x (and y) = groups of the schedule.
//
// Specialization constants (others: attention_interface.glsl, decode_interface.glsl)
//   5   ROWS           R, rows of a tile
//   22  SUBGROUP_SIZE
//   23  UNIFORM_LOADS  what lanes load from addresses of their own is put together from loads at addresses that are
//                      the same for all lanes, and a choice for each lane: a software driver makes a broadcast
//                      and a blend of these, and of a gather a test, a branch and an insertion for each lane
//   24  ROWS_AGREE     a key that is hidden from one row is hidden from all
//   25  QUERY_IN_SHARED  the queries' place: shared memory, read by all lanes at one address, or registers, for
//                      software drivers, whose registers hold one number for all lanes
//
// Shared memory, bytes: QUERY_IN_SHARED ? 4 R D : 16, and SUBGROUPS > 1 ? 4 SUBGROUPS R (E + 2) : 16
//
// Ladder (lavapipe of Mesa 26.1.6, 8 lanes, both cores of an EPYC 7003 (Zen 3), H32 G8 T4096 in [B,T,G,C], one
// token; medians of 25 in ms on a machine with other load, good to 20 %; no GPU yet):
//                                                                     f16 D=64  int8 D=64  f16 D=128  int8 D=128
//   decode_row.comp: each number converted by itself, 6 instructions         3.8        4.3        7.5         7.0
//   keys in lanes, loads of 8 bytes at each lane's address (gathers)         6.0        3.7       11.1         7.7
//   UNIFORM_LOADS                                                            5.2        2.0        7.7         6.3
//   and touch(): the next keys' lines are read all at once                   2.9        2.2        5.6         5.0
//   decode_row.comp with touch()                                             3.5        3.8        8.5         8.0
// Another day, by turns (medians of three runs):
//   the same as "and touch()"                                                3.0        2.3        5.8         4.5
//   WORDS_IN_LINE, and no masking of addresses that are aligned in touch()   2.5        2.0        4.8         3.2
// 16 lanes (512 bits), both cores of an EPYC 9005, by turns (medians of three runs):
//   WORDS_IN_LINE, octets: at D=64 two keys at a time, and shuffles         1.97       1.50       1.65        1.13
//   HALF_OCTETS_V                                                           0.83       0.59
//   keys loaded a line at a time, the squares of words turned over by
//     shuffles of halves, quarters, … of the lanes: not kept                1.6-2.6    1.0-1.6    4.5
// Blocks of ggml, 16 lanes, both cores of an EPYC 9004 with other load, H32 G8 T4096, ms:
//                                                                     q8_0 D=64  q4_0 D=64  q8_0 D=128  q4_0 D=128
//   decode_row.comp                                                        2.4        2.3        4.2         4.7
//   words put together from half words at addresses of all lanes           1.0        0.85       2.2         1.5
// The 3700 instructions for 8 keys of f16 D=64 were, before that: 1070 that multiply and add, 630 moves to and from the
// stack, 600 that put words of lanes together (half of them are gone), 550 that make f32 of f16. A quarter of the time
// is waiting for the lines that touch() reads.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_vote : require
#extension GL_KHR_shader_subgroup_ballot : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_KHR_shader_subgroup_arithmetic : require

#include "decode_interface.glsl"

layout(constant_id = 5) const uint ROWS = 4;
layout(constant_id = 22) const uint SUBGROUP_SIZE = 32;
layout(constant_id = 23) const bool UNIFORM_LOADS = false;
layout(constant_id = 24) const bool ROWS_AGREE = true;
layout(constant_id = 25) const bool QUERY_IN_SHARED = true;

const uint SUBGROUPS = gl_WorkGroupSize.x / SUBGROUP_SIZE;
const uint QUADS_QK = (HEAD_SIZE_QK + 3) / 4;
const uint QUADS_V = (HEAD_SIZE_V + 3) / 4;

// Formats of 8 bits and less, of which 8 bytes and less are 8 channels.
const uint SMALL_FORMATS =
  1u << CACHE_INT8 | 1u << CACHE_INT4 | 1u << CACHE_E4M3 | 1u << CACHE_E5M2 | 1u << CACHE_Q8 | 1u << CACHE_Q4;
// Those of rows that begin at multiples of 16 bytes.
const uint ALIGNED_FORMATS =
  SMALL_FORMATS & ~(1u << CACHE_Q8 | 1u << CACHE_Q4) | 1u << ELEMENT_F16 | 1u << ELEMENT_BF16;
// Blocks have their words at multiples of two bytes, put together from half words where all lanes share an address.
const uint BLOCK_FORMATS = UNIFORM_LOADS ? 1u << CACHE_Q8 | 1u << CACHE_Q4 : 0;
const uint OCTETS_V = ALIGNED_FORMATS >> VALUE_TYPE & uint(VALUES_ALIGNED) | BLOCK_FORMATS >> VALUE_TYPE & 1u;
// Lanes that would be left over by octets take quads, where these are whole words.
const uint HALF_OCTETS_V =
  OCTETS_V & uint(UNIFORM_LOADS) & uint(QUADS_V <= SUBGROUP_SIZE) & uint(VALUE_TYPE != CACHE_INT4);
// Quads of channels of a value that a lane loads at once: 8 channels of formats that have them in 16 bytes and less.
const uint UNIT_V = 1 + (OCTETS_V & 1 - HALF_OCTETS_V);
const uint UNITS_V = (QUADS_V + UNIT_V - 1) / UNIT_V;

const uint OCTETS_K = (ALIGNED_FORMATS >> KEY_TYPE & uint(KEYS_ALIGNED) | BLOCK_FORMATS >> KEY_TYPE & 1u)
  & uint(ROTATION == ROTATION_NONE);

// Lanes that share the channels of a value, a power of two; the others take other keys at the same time.
const uint LANES_V = UNITS_V >= SUBGROUP_SIZE ? SUBGROUP_SIZE
  : UNITS_V > 32 ? 64 : UNITS_V > 16 ? 32 : UNITS_V > 8 ? 16 : UNITS_V > 4 ? 8 : UNITS_V > 2 ? 4 : UNITS_V;
const uint KEYS_AT_ONCE = SUBGROUP_SIZE / LANES_V;
const uint CHUNKS_V = (UNITS_V + LANES_V - 1) / LANES_V;  // units of a lane
const uint OWN_V = CHUNKS_V * UNIT_V;                     // quads of a lane

// Lanes take neighbouring words of a value instead of octets of channels: software drivers then load the words of all
// lanes at once. Of formats of 16 bits a word is half a quad, and neighbouring lanes exchange halves at the end.
const uint WORDS_IN_LINE = uint(UNIFORM_LOADS) & OCTETS_V & uint(UNITS_V % LANES_V == 0) & uint(LANES_V > 1);
const uint HALVES_IN_LINE = WORDS_IN_LINE & (1u << ELEMENT_F16 | 1u << ELEMENT_BF16) >> VALUE_TYPE;

// One scale serves all channels of a value: it belongs to the key's weight.
const uint WEIGHT_HAS_SCALE = GROUP_SCALED_FORMATS >> VALUE_TYPE & uint(VALUE_GROUP >= HEAD_SIZE_V);

shared vec4 sharedQuery[QUERY_IN_SHARED ? ROWS * QUADS_QK : 1];
shared vec4 sharedResult[SUBGROUPS > 1 ? SUBGROUPS * ROWS * QUADS_V : 1];
shared vec2 sharedStatistics[SUBGROUPS > 1 ? SUBGROUPS * ROWS : 1];

vec4 privateQuery[ROWS * QUADS_QK];
vec4 o[ROWS * OWN_V];
float rowMax[ROWS];
float laneSum[ROWS];
Row rows[ROWS];
uint rowHeads[ROWS];

/// Sets what mapScore() finds of a row outside of its struct.
void selectRow(const uint r) {
  head = rowHeads[r];
  if (HAS(OPTION_ALIBI)) {
    slope = loadFloat(TENSOR_ALIBI_SLOPES, tensorIndex(TENSOR_ALIBI_SLOPES, 0)) * LOG2_E;
  }
}

vec4 queryQuad(const uint r, const uint d) {
  if (QUERY_IN_SHARED) { return sharedQuery[r * QUADS_QK + d]; }
  return privateQuery[r * QUADS_QK + d];
}

/// Words of eight channels; of blocks four codes of four bits are a word as well (codeWord()).
uint octetWords(const uint format) {
  return format == CACHE_INT4 ? 1 : (SMALL_FORMATS >> format & 1u) != 0 ? 2 : 4;
}

/// Eight channels as they lie in memory, at a multiple of their size.
uvec4 loadOctetWords(const uint format, uint64_t address) {
  const uint count = octetWords(format);
  if (count == 4) { return WordQuadReference(address).value; }
  if (count == 2) { return uvec4(WordPairReference(address).value, 0, 0); }
  return uvec4(WordReference(address).value, 0, 0, 0);
}

void unpackOctet(const uint format, uvec4 words, out vec4 low, out vec4 high) {
  if (format == CACHE_INT4) {
    low = vec4(ivec4(words.x << 28, words.x << 24, words.x << 20, words.x << 16) >> 28);
    high = vec4(ivec4(words.x << 12, words.x << 8, words.x << 4, words.x) >> 28);
  } else if (format == CACHE_INT8 || format == CACHE_Q8) {
    low = signedBytes(words.x);
    high = signedBytes(words.y);
  } else if (format == CACHE_Q4) {
    const uvec4 codes = uvec4(words.x, words.x >> 8, words.x >> 16, words.x >> 24) & 15u;
    const uvec4 moreCodes = uvec4(words.y, words.y >> 8, words.y >> 16, words.y >> 24) & 15u;
    low = vec4(ivec4(codes) - 8);
    high = vec4(ivec4(moreCodes) - 8);
  } else if (octetWords(format) == 2) {
    low = smallFloats(format, words.x);
    high = smallFloats(format, words.y);
  } else {
    low = vec4(unpackElements(format, words.x), unpackElements(format, words.y));
    high = vec4(unpackElements(format, words.z), unpackElements(format, words.w));
  }
}

/// A word of a row at an address that is the same for all lanes: four bytes from byte `place` on of the numbers as
/// they would lie without the scales between them, a byte a number (or two bytes).
uint codeWord(const uint format, uint64_t row, const uint place) {
  if (!isBlockFormat(format)) { return WordReference(row + place).value; }
  const uint inBlock = format == CACHE_Q8 ? place % 32 : place % 16;
  const uint64_t codes = row + (place / 32 * blockBytes(format) + 2 + inBlock);
  const uint word = loadHalfWord(codes) | loadHalfWord(codes + 2ul) << 16;
  return format == CACHE_Q4 && place % 32 >= 16 ? word >> 4 : word;
}

/// For each lane c, `count` words of the row rows[c], from place places[c] on and `stride` bytes apart; rows
/// and places are the same for all lanes.
uvec4 chooseWords(
  const uint format, const uint count, uint64_t rows[SUBGROUP_SIZE], const uint places[SUBGROUP_SIZE],
  const uint stride
) {
  uvec4 words = uvec4(0);
  [[unroll]] for (uint w = 0; w < count; w++) {
    [[unroll]] for (uint c = 0; c < SUBGROUP_SIZE; c++) {
      const uint word = codeWord(format, rows[c], places[c] + w * stride);
      words[w] = gl_SubgroupInvocationID == c ? word : words[w];
    }
  }
  return words;
}

/// The scale of the group of a channel of the lane's key.
float ownKeyScale(uint64_t uniformRows[SUBGROUP_SIZE], uint64_t kRow, uint64_t scaleRow, const uint channel) {
  if ((BLOCK_FORMATS >> KEY_TYPE & 1u) == 0) { return keyScale(kRow, scaleRow, channel); }
  uint scale = 0;
  [[unroll]] for (uint c = 0; c < SUBGROUP_SIZE; c++) {
    const uint own = loadHalfWord(uniformRows[c] + channel / 32 * blockBytes(KEY_TYPE));
    scale = gl_SubgroupInvocationID == c ? own : scale;
  }
  return unpackHalf2x16(scale).x;
}

/// The scale of the group of a lane's quad of channels of its value.
float ownValueScale(uint64_t uniformRows[KEYS_AT_ONCE], uint64_t vRow, uint64_t scaleRow, uint quad) {
  if ((BLOCK_FORMATS >> VALUE_TYPE & 1u) == 0) { return valueScale(vRow, scaleRow, quad * 4); }
  uint scale = 0;
  [[unroll]] for (uint i = 0; i < KEYS_AT_ONCE; i++) {
    [[unroll]] for (uint block = 0; block < (HEAD_SIZE_V + 31) / 32; block++) {
      const uint own = loadHalfWord(uniformRows[i] + block * blockBytes(VALUE_TYPE));
      scale = gl_SubgroupInvocationID / LANES_V == i && quad / 8 == block ? own : scale;
    }
  }
  return unpackHalf2x16(scale).x;
}

/// The dot products of the lane's key with all rows.
void multiplyKey(uint firstKey, uint key, uint64_t kRow, uint64_t scaleRow, out float s[ROWS]) {
  float part[ROWS];
  [[unroll]] for (uint r = 0; r < ROWS; r++) {
    s[r] = 0;
    part[r] = 0;
  }
  uint64_t uniformRows[SUBGROUP_SIZE];
  if (UNIFORM_LOADS) {
    [[unroll]] for (uint c = 0; c < SUBGROUP_SIZE; c++) {
      uniformRows[c] = keyRow(placeOf(min(firstKey + c, keyTokens - 1)));
    }
  }
  [[unroll]] for (uint octet = 0; octet < (QUADS_QK + 1) / 2; octet++) {
    vec4 k[2];
    if (OCTETS_K != 0) {
      uvec4 words;
      const uint place = octet * octetWords(KEY_TYPE) * 4;
      if (UNIFORM_LOADS) {
        uint places[SUBGROUP_SIZE];
        [[unroll]] for (uint c = 0; c < SUBGROUP_SIZE; c++) { places[c] = place; }
        words = chooseWords(KEY_TYPE, octetWords(KEY_TYPE), uniformRows, places, 4);
      } else {
        words = loadOctetWords(KEY_TYPE, kRow + place);
      }
      unpackOctet(KEY_TYPE, words, k[0], k[1]);
    } else {
      k[0] = loadKeyChannels4(key, kRow, scaleRow, octet * 8);
      k[1] = octet * 2 + 1 < QUADS_QK ? loadKeyChannels4(key, kRow, scaleRow, octet * 8 + 4) : vec4(0);
    }
    [[unroll]] for (uint i = 0; i < 2; i++) {
      const uint d = octet * 2 + i;
      if (d < QUADS_QK) {
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
          const vec4 q = queryQuad(r, d);
          [[unroll]] for (uint x = 0; x < 4; x++) {
            if (KEY_SCALES_APART) {
              part[r] = fma(q[x], k[i][x], part[r]);
            } else {
              s[r] = fma(q[x], k[i][x], s[r]);
            }
          }
        }
        if (KEY_SCALES_APART && ((d * 4 + 4) % KEY_GROUP == 0 || d == QUADS_QK - 1)) {
          const float scale = ownKeyScale(uniformRows, kRow, scaleRow, d * 4);
          [[unroll]] for (uint r = 0; r < ROWS; r++) {
            s[r] = fma(part[r], scale, s[r]);
            part[r] = 0;
          }
        }
      }
    }
  }
}

/// The quad of channels of one of the lane's results, its halves exchanged.
uint quadOf(const uint place) {
  const uint own = gl_SubgroupInvocationID % LANES_V;
  // Words 2 place and 2 place + 1 of the lane: the even lane of a pair has the first ones, the odd one the others.
  if (HALVES_IN_LINE != 0) { return (place * 2 + own % 2) * (LANES_V / 2) + own / 2; }
  if (octetWords(VALUE_TYPE) == 2 && WORDS_IN_LINE != 0) { return place * LANES_V + own; }
  return (place / UNIT_V * LANES_V + own) * UNIT_V + place % UNIT_V;
}

/// Gives the lane whole quads for its halves of two.
void exchangeHalves() {
  const bool isOdd = gl_SubgroupInvocationID % 2 != 0;
  [[unroll]] for (uint i = 0; i < ROWS * OWN_V; i++) {
    const vec2 given = isOdd ? o[i].xy : o[i].zw;
    const vec2 taken = subgroupShuffleXor(given, 1);
    o[i] = isOdd ? vec4(taken, o[i].zw) : vec4(o[i].xy, taken);
  }
}

/// Folds the keys firstKey ..< firstKey + SUBGROUP_SIZE, one of each lane, into the rows.
void foldKeys(uint firstKey) {
  const uint lane = gl_SubgroupInvocationID;
  if (UNIFORM_LOADS) { touch(firstKey + SUBGROUP_SIZE, SUBGROUP_SIZE); }
  // Past the last key its row is read again.
  const uint key = min(firstKey + lane, keyTokens - 1);
  const KeyPlace place = placeOf(key);
  float s[ROWS];
  multiplyKey(firstKey, key, keyRow(place), keyScaleRow(place), s);

  float weight[ROWS];
  bool isSeen = false;
  [[unroll]] for (uint r = 0; r < ROWS; r++) {
    selectRow(r);
    const float score = MAPS_SCORES ? mapScore(rows[r], s[r], int(key)) : s[r];
    const bool sees = seesKey(rows[r], int(firstKey + lane)) && !(MAPS_TO_HIDDEN && score == -INFINITY);
    const float seen = sees ? score : -INFINITY;
    const float newMax = max(rowMax[r], subgroupMax(seen));
    const float origin = newMax == -INFINITY ? 0 : newMax;
    const float rescale = exp2(rowMax[r] - origin);
    weight[r] = sees ? exp2(score - origin) : 0;
    // max and exp2 may lose a NaN; a sum does not.
    if (sees && isnan(score)) { weight[r] = QUIET_NAN; }
    laneSum[r] = fma(laneSum[r], rescale, weight[r]);
    rowMax[r] = newMax;
    isSeen = isSeen || sees;
    [[unroll]] for (uint j = 0; j < OWN_V; j++) { o[r * OWN_V + j] *= rescale; }
  }
  if (WEIGHT_HAS_SCALE != 0) {
    // The scale of a hidden value may be anything.
    const float scale = isSeen
      ? valueScale(VALUE_IS_KEY ? keyRow(place) : valueRow(place),
          VALUE_IS_KEY ? keyScaleRow(place) : valueScaleRow(place), 0) : 0.0;
    [[unroll]] for (uint r = 0; r < ROWS; r++) { weight[r] *= scale; }
  }

  // o += p v: lanes are channels, of KEYS_AT_ONCE keys.
  const uint own = lane % LANES_V;
  [[unroll]] for (uint c = 0; c < LANES_V; c++) {
    const uint from = c * KEYS_AT_ONCE + lane / LANES_V;
    const uint valueKey = min(firstKey + from, keyTokens - 1);
    const KeyPlace valuePlace = placeOf(valueKey);
    const uint64_t vRow = VALUE_IS_KEY ? keyRow(valuePlace) : valueRow(valuePlace);
    const uint64_t scaleRow = VALUE_IS_KEY ? keyScaleRow(valuePlace) : valueScaleRow(valuePlace);
    uint64_t uniformRows[KEYS_AT_ONCE];
    if (UNIFORM_LOADS) {
      [[unroll]] for (uint i = 0; i < KEYS_AT_ONCE; i++) {
        const KeyPlace other = placeOf(min(firstKey + c * KEYS_AT_ONCE + i, keyTokens - 1));
        uniformRows[i] = VALUE_IS_KEY ? keyRow(other) : valueRow(other);
      }
    }
    float p[ROWS];
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
      p[r] = KEYS_AT_ONCE == 1 ? subgroupBroadcast(weight[r], c) : subgroupShuffle(weight[r], from);
    }
    const bool isUsed =
      KEYS_AT_ONCE == 1 ? subgroupBroadcast(isSeen, c) : subgroupShuffle(isSeen ? 1u : 0u, from) != 0;
    [[unroll]] for (uint j = 0; j < CHUNKS_V; j++) {
      // The lanes behind the last channel load the last ones again.
      const uint channel = min(j * LANES_V + own, UNITS_V - 1) * (UNIT_V * 4);
      vec4 v[2];
      if (OCTETS_V != 0) {
        uvec4 words;
        const uint unitWords = octetWords(VALUE_TYPE) * UNIT_V / 2;
        const uint size = unitWords * 4;
        if (UNIFORM_LOADS) {
          uint64_t laneRows[SUBGROUP_SIZE];
          uint places[SUBGROUP_SIZE];
          [[unroll]] for (uint i = 0; i < SUBGROUP_SIZE; i++) {
            const uint unit = min(j * LANES_V + i % LANES_V, UNITS_V - 1);
            places[i] = WORDS_IN_LINE != 0 ? j * LANES_V * size + i % LANES_V * 4 : unit * size;
            laneRows[i] = uniformRows[i / LANES_V];
          }
          words = chooseWords(VALUE_TYPE, unitWords, laneRows, places, WORDS_IN_LINE != 0 ? LANES_V * 4 : 4);
        } else {
          words = loadOctetWords(VALUE_TYPE, vRow + channel / 8 * size);
        }
        unpackOctet(VALUE_TYPE, words, v[0], v[1]);
      } else {
        v[0] = loadValueChannels4(vRow, channel);
      }
      [[unroll]] for (uint i = 0; i < UNIT_V; i++) {
        const uint place = j * UNIT_V + i;
        if (VALUE_SCALES_APART && WEIGHT_HAS_SCALE == 0) {
          v[i] *= ownValueScale(uniformRows, vRow, scaleRow, min(quadOf(place), QUADS_V - 1));
        }
        // 0 * NaN is NaN: a hidden value must not even be multiplied.
        v[i] = isUsed ? v[i] : vec4(0);
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
          const vec4 seen = ROWS_AGREE || p[r] != 0.0 ? v[i] : vec4(0);
          o[r * OWN_V + place] = fma(vec4(p[r]), seen, o[r * OWN_V + place]);
        }
      }
    }
  }
}

/// Loads the rows of the tile.
///
/// The inner loop's trips are a constant: a loop around one that cannot be unrolled is not unrolled by Mesa
/// either, and an index that is not a constant anywhere puts the whole array into memory (RADV, 4 rows of the
/// options: 320 bytes of scratch for each lane, read in the loop over the keys).
void openRows() {
  [[unroll]] for (uint r = 0; r < ROWS; r++) {
    const uint token = openDecodeRow(rowTile * ROWS + r);
    rowHeads[r] = head;
    rows[r] = openRow(token);
    const uint64_t address = queryAddress(token);
    if (QUERY_IN_SHARED) {
      [[unroll]] for (uint first = 0; first < QUADS_QK; first += gl_WorkGroupSize.x) {
        const uint d = first + gl_LocalInvocationID.x;
        if (d < QUADS_QK) {
          sharedQuery[r * QUADS_QK + d] = loadQueryChannels4(address, d * 4) * rows[r].scale;
        }
      }
    } else {
      [[unroll]] for (uint d = 0; d < QUADS_QK; d++) {
        privateQuery[r * QUADS_QK + d] = loadQueryChannels4(address, d * 4) * rows[r].scale;
      }
    }
    rowMax[r] = -INFINITY;
    laneSum[r] = 0;
    [[unroll]] for (uint j = 0; j < OWN_V; j++) { o[r * OWN_V + j] = vec4(0); }
  }
}

/// Adds up what lanes and subgroups have of the rows; afterwards the first subgroup has it.
void addUp() {
  if (HALVES_IN_LINE != 0) { exchangeHalves(); }
  [[unroll]] for (uint r = 0; r < ROWS; r++) {
    laneSum[r] = subgroupAdd(laneSum[r]);
    if (UNIFORM_LOADS) { laneSum[r] += touchedZero(); }
    [[unroll]] for (uint j = 0; j < OWN_V; j++) {
      [[unroll]] for (uint step = LANES_V; step < SUBGROUP_SIZE; step *= 2) {
        const vec4 mine = o[r * OWN_V + j];
        o[r * OWN_V + j] = mine + subgroupShuffleXor(mine, step);
      }
    }
  }
  if (SUBGROUPS > 1) {
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
      if (gl_SubgroupInvocationID == 0) {
        sharedStatistics[gl_SubgroupID * ROWS + r] = vec2(rowMax[r], laneSum[r]);
      }
      [[unroll]] for (uint j = 0; j < OWN_V; j++) {
        const uint e = quadOf(j);
        if (e < QUADS_V) {
          sharedResult[(gl_SubgroupID * ROWS + r) * QUADS_V + e] = o[r * OWN_V + j];
        }
      }
    }
    barrier();
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
      float largest = -INFINITY;
      for (uint g = 0; g < SUBGROUPS; g++) { largest = max(largest, sharedStatistics[g * ROWS + r].x); }
      const float origin = largest == -INFINITY ? 0 : largest;
      rowMax[r] = largest;
      laneSum[r] = 0;
      [[unroll]] for (uint j = 0; j < OWN_V; j++) { o[r * OWN_V + j] = vec4(0); }
      for (uint g = 0; g < SUBGROUPS; g++) {
        const vec2 statistics = sharedStatistics[g * ROWS + r];
        const float factor = exp2(statistics.x - origin);
        laneSum[r] = fma(statistics.y, factor, laneSum[r]);
        [[unroll]] for (uint j = 0; j < OWN_V; j++) {
          const uint e = min(quadOf(j), QUADS_V - 1);
          o[r * OWN_V + j] =
            fma(sharedResult[(g * ROWS + r) * QUADS_V + e], vec4(factor), o[r * OWN_V + j]);
        }
      }
    }
  }
}

void runSegment(uvec4 segment) {
  openSegment(segment);
  openRows();
  if (QUERY_IN_SHARED) { barrier(); }

  int hullBegin = 0x7fffffff;
  int hullEnd = 0;
  int sinkHull = 0;
  [[unroll]] for (uint r = 0; r < ROWS; r++) {
    hullBegin = min(hullBegin, rows[r].begin);
    hullEnd = max(hullEnd, rows[r].end);
    if (HAS(OPTION_SINK_TOKENS)) { sinkHull = max(sinkHull, rows[r].sinkEnd); }
  }
  // The subgroups take turns.
  const uint step = SUBGROUPS * SUBGROUP_SIZE;
  const KeyWalk walk = openWalk(hullBegin, hullEnd, sinkHull, step);
  const uint share = SUBGROUPS > 1 ? gl_SubgroupID * SUBGROUP_SIZE : 0;
  uint key = walk.first;
  // Tests at its end, as in attention_row.comp.
  if (key < walk.end) {
    for (;;) {
      foldKeys(key + share);
      key = nextStep(walk, key, step);
      if (key >= walk.end) { break; }
    }
  }
  addUp();

  if (SUBGROUPS == 1 || gl_SubgroupID == 0) {
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
      const uint token = openDecodeRow(rowTile * ROWS + r);
      if (rowTile * ROWS + r < problemRows()) {
        float factor;
        storeDecodeStatistics(segment.w, r, token, rowMax[r], laneSum[r], factor);
        if (gl_SubgroupInvocationID < LANES_V) {
          [[unroll]] for (uint j = 0; j < OWN_V; j++) {
            storeDecodeChannels4(
              segment.w, r, token, quadOf(j) * 4, factor, o[r * OWN_V + j]);
          }
        }
      }
    }
  }
  // The next segment writes the queries and the results anew.
  if (SUBGROUPS > 1) { barrier(); }
}

#include "decode_segments.glsl"

void main() {
  runSegments();
}
