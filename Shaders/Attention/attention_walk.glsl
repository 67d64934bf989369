// The steps of keys that a tile of rows walks: those of its hull, without the blocks that the block map hides from all
// of the rows (attention_masks.glsl). Included by attention_options.glsl.

#ifndef ATTENTION_WALK_GLSL
#define ATTENTION_WALK_GLSL

#include "attention_masks.glsl"

/// The steps of keys, aligned to their size, in which some row of a tile sees a key.
struct KeyWalk {
  uint first;   // the first step
  uint window;  // the first step of the intervals
  uint sinks;   // the key behind the last sink token
  uint end;     // the key behind the last one
  uint64_t blockMap;   // the entries of the first row of blocks
  uint blockRows;      // the rows of blocks that the tile's rows are in
};

/// From the hull of the rows' intervals and sinks.
KeyWalk openWalk(int begin, int end, int sinks, const uint step) {
  KeyWalk walk;
  end = max(end, 0);
  walk.window = HAS(OPTION_LEFT_EDGE) ? uint(min(begin, end)) / step * step : 0;
  walk.first = walk.window;
  walk.sinks = 0;
  walk.end = uint(end);
  if (HAS(OPTION_SINK_TOKENS)) {
    walk.sinks = uint(max(sinks, 0));
    walk.end = max(walk.end, walk.sinks);
    if (lowestKey < sinks) { walk.first = min(walk.first, uint(lowestKey) / step * step); }
  }
  return walk;
}

/// What the block map says of a step for all rows of the walk: BLOCK_HIDDEN or BLOCK_FULL where all agree.
uint stepState(KeyWalk walk, uint key, const uint step) {
  // A software driver loads also where a condition says no: never behind the last key.
  const uint lastKey = max(walk.end, 1) - 1;
  const uint shift = OPTION_BLOCK.blockMapKeyShift;
  const uint firstBlock = min(key, lastKey) >> shift;
  const uint lastBlock = min(key + step - 1, lastKey) >> shift;
#ifdef SMALL_STEPS
  // Two loads and no loop, which takes as long as the multiplications of a step on a software driver.
  const uint first = WordReference(walk.blockMap + uint64_t(firstBlock) * 4ul).value;
  const uint last = WordReference(walk.blockMap + uint64_t(lastBlock) * 4ul).value;
  return first == last ? first : BLOCK_PARTIAL;
#else
  bool someSeen = false;
  bool allFull = true;
  for (uint row = 0; row < walk.blockRows; ++row) {
    const uint64_t entries =
      walk.blockMap + uint64_t(row) * OPTION_BLOCK.tensors[TENSOR_BLOCK_MAP].tokenStride * 4ul;
    for (uint block = firstBlock; block <= lastBlock; ++block) {
      const uint state = WordReference(entries + uint64_t(block) * 4ul).value;
      someSeen = someSeen || state != BLOCK_HIDDEN;
      allFull = allFull && state == BLOCK_FULL;
    }
  }
  return !someSeen ? BLOCK_HIDDEN : allFull ? BLOCK_FULL : BLOCK_PARTIAL;
#endif
}

/// From the sink tokens over what lies between to the intervals.
uint skipGap(KeyWalk walk, uint key) {
  return HAS(OPTION_SINK_TOKENS) && key >= walk.sinks && key < walk.window ? walk.window : key;
}

/// The first step from `key` on that the block map does not hide from all rows; walk.end or more where none is left.
uint visibleStep(KeyWalk walk, uint key, const uint step) {
  const uint shift = OPTION_BLOCK.blockMapKeyShift;
#ifdef SMALL_STEPS
  // A window has most blocks before and behind it: hidden ones are passed several at a time.
  const uint blocksAtOnce = 8;
  const uint lastBlock = max(walk.end, 1) - 1 >> shift;
  for (;;) {
    const uint first = key >> shift;
    uint states = BLOCK_HIDDEN;
    [[unroll]] for (uint i = 0; i < blocksAtOnce; ++i) {
      states |= WordReference(walk.blockMap + uint64_t(min(first + i, lastBlock)) * 4ul).value;
    }
    if (key >= walk.end || states != BLOCK_HIDDEN) { break; }
    key = skipGap(walk, (first + blocksAtOnce << shift) / step * step);
  }
#endif
  for (;;) {
    if (key >= walk.end || stepState(walk, key, step) != BLOCK_HIDDEN) { break; }
    const uint blockEnd = (key >> shift) + 1 << shift;
    key = skipGap(walk, max(key + step, blockEnd / step * step));
  }
  return key;
}

/// Leaves out of a walk what the block map hides from all of the rows firstRow ... lastRow.
void followBlockMap(inout KeyWalk walk, uint firstRow, uint lastRow, const uint step) {
  if (HAS_MORE(MORE_OPTION_BLOCK_MAP)) {
    const uint shift = OPTION_BLOCK.blockMapRowShift;
    walk.blockMap = blockMapRow(firstRow);
    walk.blockRows = (lastRow >> shift) - (firstRow >> shift) + 1;
    walk.first = visibleStep(walk, walk.first, step);
  }
}

/// For the rows firstRow ... lastRow.
KeyWalk openTileWalk(int firstRow, int lastRow, const uint step) {
  int end = endKey(lastRow);
  int sinks = sinkEnd(lastRow);
  if (HAS(OPTION_GATES)) {
    // A head that is gated off for all tokens is not computed.
    if (OPTION_BLOCK.tensors[TENSOR_GATES].tokenStride == 0 && gateOf(0) == 0.0) {
      end = 0;
      sinks = 0;
    }
  }
  KeyWalk walk = openWalk(beginKey(firstRow), end, sinks, step);
  followBlockMap(walk, uint(firstRow), uint(lastRow), step);
  return walk;
}

/// Whether some row of the walk may find a key of the step hidden by a mask that is data.
bool stepHasDataMasks(KeyWalk walk, uint key, const uint step) {
  if (HAS_MORE(MORE_OPTION_BLOCK_MAP)) { return stepState(walk, key, step) != BLOCK_FULL; }
  return HAS_DATA_MASKS;
}

uint nextStep(KeyWalk walk, uint key, const uint step) {
  key = skipGap(walk, key + step);
  return HAS_MORE(MORE_OPTION_BLOCK_MAP) ? visibleStep(walk, key, step) : key;
}

#endif
