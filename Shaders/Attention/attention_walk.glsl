// The steps of keys that a tile of rows walks: those of its hull (attention_masks.glsl). Included by
// attention_options.glsl.

#ifndef ATTENTION_WALK_GLSL
#define ATTENTION_WALK_GLSL

#include "attention_masks.glsl"

/// The steps of keys, aligned to their size, in which some row of a tile sees a key.
struct KeyWalk {
  uint first;   // the first step
  uint window;  // the first step of the intervals
  uint sinks;   // the key behind the last sink token
  uint end;     // the key behind the last one
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
  return openWalk(beginKey(firstRow), end, sinks, step);
}

uint nextStep(KeyWalk walk, uint key, const uint step) {
  key += step;
  // From the sink tokens over what lies between to the intervals.
  if (HAS(OPTION_SINK_TOKENS) && key >= walk.sinks && key < walk.window) { key = walk.window; }
  return key;
}

#endif
