#version 460

// A causal depth-wise convolution over the tokens of each sequence, with a state between calls.
//
//   y[t,c] = activation(sum over w of weight[c,w] x[t - W + 1 + w, c] + bias[c])     activation: none or SiLU
//
// Tokens before a sequence's first come from its state [C,W-1], the oldest first, or are 0; afterwards the state holds
// the last W - 1 tokens. Tokens outside of every packed sequence are not written.
//
// Memory: x, y by strides [B,T,C]; weight [C,W], bias [C]; states f32 [slots,C,W-1]; starts int32 [N+1], slots int32
// [N], negative for no state. The final states may be the initial ones.
//
// One invocation has 4 channels of TOKENS tokens, whose inputs it holds in registers: W - 1 + TOKENS reads. Neighbours
// take the next channels, then the next tokens. STAGE 0 convolves, STAGE 1 makes the states, 2 does both: where one
// invocation has all tokens of a sequence. It is otherwise a dispatch of its own, as states may replace each other.
// Grid: x * y * size >= N tiles ceil(C / 4).

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_16bit_storage : require

#include "../Common/element_types.glsl"
#include "../Common/logistic.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint CHANNELS = 64;       // C
layout(constant_id = 2) const uint WIDTH = 4;           // W, 2 ... 8
layout(constant_id = 3) const uint SOURCE_TYPE = 0;
layout(constant_id = 4) const uint OUTPUT_TYPE = 0;
layout(constant_id = 5) const uint WEIGHT_TYPE = 0;     // of the bias too
layout(constant_id = 6) const bool ALIGNED = true;      // rows of x and y begin at 8 elements, C % 8 == 0
layout(constant_id = 7) const bool PACKED = false;
layout(constant_id = 8) const bool HAS_BIAS = false;
layout(constant_id = 9) const bool SILU = false;
layout(constant_id = 10) const uint TOKENS = 8;
layout(constant_id = 11) const uint STAGE = 0;

const uint QUADS = (CHANNELS + 3) / 4;
const uint HISTORY = WIDTH - 1;

// 96 bytes.
layout(push_constant, scalar) uniform ShortConvolutionPush {
  uint64_t source;
  uint64_t destination;
  uint64_t weight;
  uint64_t bias;     // or 0
  uint64_t starts;   // or 0
  uint64_t slots;    // or 0
  uint64_t initial;  // or 0
  uint64_t final;    // or 0
  uint sourceBatchStride, sourceTokenStride;            // elements
  uint destinationBatchStride, destinationTokenStride;  // elements
  uint tokens;       // T
  uint sequences;    // N
  uint tiles;        // of TOKENS tokens, of the longest sequence
  uint stateCount;
} p;


uint channel;   // the first of four
uint first;     // of the sequence's tokens
uint count;     // of the sequence's tokens
uint batch;
uint64_t initialState;  // of this sequence, or 0

uint sequenceStart(uint index) {
  return uint(clamp(IntegerReference(p.starts + uint64_t(index) * 4).value, 0, int(p.tokens)));
}

/// Four channels of a token of the sequence.
vec4 sourceValue(uint t) {
  const uint token = min(first + t, p.tokens - 1);
  const uint64_t row = p.source
    + (uint64_t(batch) * p.sourceBatchStride + uint64_t(token) * p.sourceTokenStride) * elementBytes(SOURCE_TYPE);
  return loadChannels4(SOURCE_TYPE, ALIGNED, row, channel, CHANNELS);
}

/// The same; negative tokens are of the state.
vec4 tokenValue(int t) {
  if (t >= 0) { return sourceValue(uint(t)); }
  vec4 values = vec4(0.0);
  if (initialState != 0) {
    [[unroll]] for (uint i = 0; i < 4; i++) {
      const uint row = min(channel + i, CHANNELS - 1);
      values[i] = FloatReference(initialState + uint64_t(row * HISTORY + uint(int(HISTORY) + t)) * 4).value;
    }
  }
  return values;
}

void convolve(uint tile) {
  const int start = int(tile * TOKENS);
  if (uint(start) >= count) { return; }
  vec4 window[HISTORY + TOKENS];
  [[unroll]] for (uint i = 0; i < HISTORY; i++) { window[i] = tokenValue(start - int(HISTORY) + int(i)); }
  [[unroll]] for (uint i = 0; i < TOKENS; i++) {
    window[HISTORY + i] = sourceValue(min(uint(start) + i, count - 1));
  }
  // weights[w] are those of the four channels.
  vec4 weights[WIDTH];
  vec4 bias = vec4(0.0);
  [[unroll]] for (uint i = 0; i < 4; i++) {
    const uint own = min(channel + i, CHANNELS - 1);
    const uint64_t row = p.weight + uint64_t(own) * WIDTH * elementBytes(WEIGHT_TYPE);
    [[unroll]] for (uint w = 0; w < WIDTH; w += 4) {
      const vec4 four = loadChannels4(WEIGHT_TYPE, WIDTH % 4 == 0, row, w, WIDTH);
      [[unroll]] for (uint j = 0; j < 4; j++) {
        if (w + j < WIDTH) { weights[w + j][i] = four[j]; }
      }
    }
    if (HAS_BIAS) { bias[i] = loadElement(WEIGHT_TYPE, p.bias + uint64_t(own) * elementBytes(WEIGHT_TYPE)); }
  }
  [[unroll]] for (uint i = 0; i < TOKENS; i++) {
    vec4 y = bias;
    [[unroll]] for (uint w = 0; w < WIDTH; w++) { y = fma(weights[w], window[i + w], y); }
    if (SILU) { y = silu(y); }
    if (uint(start) + i < count) {
      const uint64_t row = p.destination
        + (uint64_t(batch) * p.destinationBatchStride
          + uint64_t(first + uint(start) + i) * p.destinationTokenStride) * elementBytes(OUTPUT_TYPE);
      storeChannels4(OUTPUT_TYPE, ALIGNED, row, channel, CHANNELS, y);
    }
  }
}

void makeState(uint64_t finalState) {
  vec4 last[HISTORY];
  // All are read before any is written: the states may be the same.
  [[unroll]] for (uint i = 0; i < HISTORY; i++) {
    last[i] = tokenValue(int(count) - int(HISTORY) + int(i));
  }
  [[unroll]] for (uint i = 0; i < 4; i++) {
    [[unroll]] for (uint j = 0; j < HISTORY; j++) {
      if (channel + i < CHANNELS) {
        FloatReference(finalState + uint64_t((channel + i) * HISTORY + j) * 4).value = last[j][i];
      }
    }
  }
}

void main() {
  const uint item = (gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * gl_WorkGroupSize.x
    + gl_LocalInvocationID.x;
  channel = item % QUADS * 4;
  const uint tile = item / QUADS % p.tiles;
  const uint sequence = item / QUADS / p.tiles;
  if (sequence >= p.sequences) { return; }
  first = PACKED ? sequenceStart(sequence) : 0;
  count = PACKED ? max(first, sequenceStart(sequence + 1)) - first : p.tokens;
  batch = PACKED ? 0 : sequence;
  int slot = p.slots == 0 ? int(sequence) : IntegerReference(p.slots + uint64_t(sequence) * 4).value;
  const bool hasSlot = slot >= 0 && uint(slot) < p.stateCount;
  slot = hasSlot ? slot : 0;
  const uint64_t place = uint64_t(slot) * (CHANNELS * HISTORY * 4);
  initialState = hasSlot && p.initial != 0 ? p.initial + place : 0;
  if (STAGE != 1) { convolve(tile); }
  if (STAGE != 0 && hasSlot) { makeState(p.final + place); }
}
