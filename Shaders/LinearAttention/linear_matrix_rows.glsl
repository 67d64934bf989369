// The rows of a block that linear_matrix_prepare.comp prepares: where they lie, what they decay by, erase and write.

#ifndef LINEAR_MATRIX_ROWS_GLSL
#define LINEAR_MATRIX_ROWS_GLSL

#extension GL_GOOGLE_include_directive : require

#include "linear_matrix_records.glsl"

Walk queries, keys, values, lowKeys, eraseRows, eraseGates, writeGates, keyDecays;
Walk decays, timeSteps, strengths, ids;
uint firstRow;  // of this dispatch
uint rows;      // of the block that are there
bool valuesAligned, writeGatesAligned;

/// Whether rows of value channels can be loaded 16 bytes at a time.
bool isAligned(Walk walk) {
  return VALUE_CHANNELS % 8 == 0 && ((uint(walk.at) | uint(walk.step)) & 15u) == 0;
}

void openWalks() {
  queries = openSharedWalk(READS, SLOT_Q, KEY_TYPE, tokenBegin, 1, keyHead);
  const uint update = tokenBegin * UPDATES;
  keys = openSharedWalk(UPDATES_STATE, SLOT_K, KEY_TYPE, update, UPDATES, keyHead);
  values = openSharedWalk(IS_DELTA, SLOT_V, VALUE_TYPE, update, UPDATES, head);
  lowKeys = openSharedWalk(HAS(OPTION_LOW_RANK), SLOT_LOW_RANK_B, KEY_TYPE, tokenBegin, 1, head);
  eraseRows = openSharedWalk(HAS(OPTION_LOW_RANK), SLOT_LOW_RANK_A, KEY_TYPE, tokenBegin, 1, head);
  if (HAS(OPTION_ERASE_KEYS)) {
    eraseRows = openSharedWalk(true, SLOT_ERASE_KEYS, KEY_TYPE, update, UPDATES, keyHead);
  } else if (HAS(OPTION_DELTA)) {
    eraseRows = keys;
  }
  eraseGates = openSharedWalk(HAS(OPTION_ERASE_GATES), SLOT_ERASE_GATES, GATE_TYPE, update, UPDATES, head);
  writeGates = openSharedWalk(HAS(OPTION_WRITE_GATES), SLOT_WRITE_GATES, GATE_TYPE, update, UPDATES, head);
  keyDecays = openSharedWalk(HAS(OPTION_KEY_DECAY), SLOT_KEY_DECAY, GATE_TYPE, tokenBegin, 1, head);
  decays = openSharedWalk(HAS(OPTION_DECAY), SLOT_DECAY, GATE_TYPE, tokenBegin, 1, head);
  timeSteps = openSharedWalk(HAS(OPTION_TIME_STEP), SLOT_TIME_STEP, GATE_TYPE, tokenBegin, 1, head);
  strengths = openSharedWalk(HAS(OPTION_BETA), SLOT_BETA, GATE_TYPE, update, UPDATES, head);
  ids = openSharedWalk(HAS(OPTION_SEQUENCE_IDS), SLOT_SEQUENCE_IDS, ELEMENT_F32, tokenBegin, 1, 0);
  valuesAligned = isAligned(values);
  writeGatesAligned = isAligned(writeGates);
}

/// Row r of the block, one that is there.
uint sourceOf(uint r) { return firstRow + min(r, max(rows, 1) - 1); }
uint tokenOf(uint r) { return sourceOf(r) / ROWS_PER_TOKEN; }
uint64_t rowOf(Walk walk, uint index) { return walk.at + index * walk.step; }

bool isLowRankRow(uint r) { return HAS(OPTION_LOW_RANK) && sourceOf(r) % ROWS_PER_TOKEN == 0; }
bool isTokenStart(uint r) { return sourceOf(r) % ROWS_PER_TOKEN == 0; }
bool isTokenEnd(uint r) { return sourceOf(r) % ROWS_PER_TOKEN == ROWS_PER_TOKEN - 1; }

/// The number that a row's decays make but for those of key channels, and the strength of its update.
vec2 scalarsOf(uint r) {
  const uint token = tokenOf(r);
  const float headFactor = HAS(OPTION_HEAD_DECAY) ? decayFactor(headValue(SLOT_HEAD_DECAY)) : 1.0;
  float strength;
  float factor = tokenFactor(
    headFactor, HAS(OPTION_TIME_STEP) ? headValue(SLOT_RATE) : 0.0, rowOf(timeSteps, token),
    rowOf(decays, token), strength);
  if (HAS(OPTION_SEQUENCE_IDS) && tokenBegin + token > 0) {
    const uint64_t at = rowOf(ids, token);
    if (WordReference(at).value != WordReference(at - ids.step).value) { factor = 0; }
  }
  if (HAS(OPTION_BETA)) { strength = loadElement(GATE_TYPE, rowOf(strengths, updateOf(sourceOf(r)))); }
  if (isLowRankRow(r)) { strength = 1; }
  if (r >= rows) { return vec2(1.0, 0.0); }
  return vec2(isTokenStart(r) ? factor : 1.0, strength);
}

/// Four channels of a row; those past its end are 0. What is read is always inside of the row.
vec4 loadKeys4(const uint type, uint64_t row, uint channel) {
  const vec4 numbers = loadChannels4(type, ALIGNED, row, min(channel, (KEY_CHANNELS - 1) / 4 * 4), KEY_CHANNELS);
  return channel < KEY_CHANNELS ? numbers : vec4(0.0);
}

// Four channels of a row; 0 where the row is not there, whatever lies there.

vec4 queryQuad(uint r, uint channel) {
  const vec4 q = loadKeys4(KEY_TYPE, rowOf(queries, tokenOf(r)), channel) * BLOCK.scale;
  return r < rows && isTokenEnd(r) ? q : vec4(0.0);
}

/// k of an update, before its strength.
vec4 keyQuad(uint r, uint channel) {
  vec4 k = loadKeys4(KEY_TYPE, rowOf(keys, updateOf(sourceOf(r))), channel);
  if (HAS(OPTION_LOW_RANK)) {
    const vec4 b = loadKeys4(KEY_TYPE, rowOf(lowKeys, tokenOf(r)), channel);
    if (isLowRankRow(r)) { k = b; }
  }
  return r < rows ? k : vec4(0.0);
}

vec4 eraseQuad(uint r, uint channel) {
  const uint index = HAS(OPTION_LOW_RANK) ? tokenOf(r) : sourceOf(r);
  vec4 e = loadKeys4(KEY_TYPE, rowOf(eraseRows, index), channel);
  if (HAS(OPTION_ERASE_GATES)) {
    e *= loadKeys4(GATE_TYPE, rowOf(eraseGates, sourceOf(r)), channel);
  }
  if (HAS(OPTION_LOW_RANK)) { e = isLowRankRow(r) ? -e : vec4(0.0); }
  return r < rows ? e : vec4(0.0);
}

/// The decays of a row.
vec4 factorQuad(uint r, uint channel, float scalar) {
  vec4 factor = vec4(scalar);
  if (HAS(OPTION_KEY_DECAY)) {
    const vec4 own =
      decayFactor(loadKeys4(GATE_TYPE, rowOf(keyDecays, tokenOf(r)), channel));
    if (r < rows && isTokenStart(r)) { factor *= own; }
  }
  return factor;
}

/// Eight columns of what a row writes.
void loadWritten(uint r, uint channel, out vec4 low, out vec4 high) {
  const uint index = updateOf(sourceOf(r));
  low = high = vec4(0.0);
  if (r >= rows || channel >= VALUE_CHANNELS || isLowRankRow(r)) { return; }
  low = loadChannels4(VALUE_TYPE, valuesAligned, rowOf(values, index), channel, VALUE_CHANNELS);
  high = channel + 4 < VALUE_CHANNELS
    ? loadChannels4(VALUE_TYPE, valuesAligned, rowOf(values, index), channel + 4, VALUE_CHANNELS) : vec4(0.0);
  if (HAS(OPTION_WRITE_GATES)) {
    const uint64_t gates = rowOf(writeGates, index);
    low *= loadChannels4(GATE_TYPE, writeGatesAligned, gates, channel, VALUE_CHANNELS);
    if (channel + 4 < VALUE_CHANNELS) {
      high *= loadChannels4(GATE_TYPE, writeGatesAligned, gates, channel + 4, VALUE_CHANNELS);
    }
  }
}

#endif
