#version 460

// Packs the keys or the values of an attention for the kernel attention_row with PACKED = true.
//
//   for each batch b, key head g, block n of C = KEYS_PER_BLOCK tokens, octet x of channels:
//     packed[b][g][n][x][c][0...7] = f32(source[b, n*C + c, g, 8*x ... 8*x + 7]), 0 past the last token or channel
//
// Why: attention_row reads keys and values once per few query rows. A [B,T,G,D] tensor puts the tokens of
// one head G*D elements apart, often a power of two, and then a few cache sets must hold all of them;
// and 16-bit elements would be converted once per reading. Packed, a block of keys is one sequential
// piece of f32 in the order in which it is read.
//
// Memory: packed f32 [B][G][blocks][ceil(CHANNELS / 8)][C][8], 16-byte aligned; source strides in elements,
// channels contiguous. One invocation packs 8 channels of one token; neighbours take the next octet, then
// the next head, then the next token, so that a [B,T,G,D] source is read front to back.
//
// Packed sequences (PACKED_SEQUENCES): z counts sequences, T is the most tokens of one. Sequence s begins at block
// starts[s] / C + s, which leaves each its own blocks: the last one of a sequence may be half empty.
// Key sources (KEY_SOURCES): each head has an address of its own instead of source + head * headStride.
// Grid: x = ceil(ceil(T / C) * C * G * octets / workgroup size), in as many dispatches (firstGroup)
// as the device's grid limit asks for; z = batch. Workgroup: any size, 64 is fine.
//
// Measured (AMD EPYC Zen 5, 2 cores, lavapipe of Mesa 26.1.6, one thread, K and V of T=1024 G=8 D=64 f32):
// head as the grid's y, 4-byte accesses 3.2 ms inside an attention of 26 ms (0.96 ms when all is in cache);
// token-major order 2.3 ms; with 8-byte accesses (the driver gathers and scatters lane by lane, so wider
// is cheaper) 1.3 ms; one subgroup-uniform copy per row 2.5 ms in cache (a uniform store is a scatter too).

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require

#include "../Common/element_types.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint CHANNELS = 64;
layout(constant_id = 3) const uint ELEMENT_TYPE = 0;    // of the source
layout(constant_id = 5) const uint KEYS_PER_BLOCK = 8;  // C, as in attention_row
layout(constant_id = 6) const bool ALIGNED = true;      // rows at multiples of 16 bytes, of 8 channels
layout(constant_id = 7) const bool PACKED_SEQUENCES = false;
layout(constant_id = 8) const bool KEY_SOURCES = false;

// 64 bytes.
layout(push_constant, scalar) uniform AttentionPackPush {
  uint64_t source;       // device address of element [0,0,0,0]; or of the first head's address, 16 bytes apart
  uint64_t destination;  // device address, 16-byte aligned
  uint64_t starts;       // int32 [sequences + 1], or 0
  uint batchStride, tokenStride, headStride;  // of the source, in elements
  uint tokens;           // T
  uint totalTokens;      // of all packed sequences
  uint heads;            // G
  uint blocks;           // of one head in the destination
  uint firstGroup;       // added to gl_WorkGroupID.x
  uint firstBatch;       // added to gl_WorkGroupID.z
  uint reserved;
} p;


void main() {
  const uint octets = (CHANNELS + 7) / 8;
  // Only numbers that all invocations share are divided by the heads: the software driver divides lane by lane.
  const uint firstItem = (gl_WorkGroupID.x + p.firstGroup) * gl_WorkGroupSize.x;
  const uint firstRow = firstItem / octets;
  const uint item = firstItem % octets + gl_LocalInvocationID.x;
  const uint octet = item % octets;
  const uint row = firstRow % p.heads + item / octets;
  // Exact: fewer than the heads and a workgroup's rows, and half of one away from every whole number.
  const uint tokensOn = uint((float(row) + 0.5) / float(p.heads));
  const uint head = row - tokensOn * p.heads;
  const uint token = firstRow / p.heads + tokensOn;
  const uint batch = gl_WorkGroupID.z + p.firstBatch;

  uint tokens = p.tokens;
  uint firstToken = 0;
  uint firstBlock = 0;
  if (PACKED_SEQUENCES) {
    const int start = clamp(IntegerReference(p.starts + batch * 4).value, 0, int(p.totalTokens));
    const int end = clamp(IntegerReference(p.starts + batch * 4 + 4).value, start, int(p.totalTokens));
    tokens = min(uint(end - start), p.tokens);
    firstToken = uint(start);
    firstBlock = uint(start) / KEYS_PER_BLOCK + batch;
  }
  if (token >= (tokens + KEYS_PER_BLOCK - 1) / KEYS_PER_BLOCK * KEYS_PER_BLOCK) {
    return;
  }

  uint64_t base = p.source + uint64_t(head) * p.headStride * elementBytes(ELEMENT_TYPE);
  if (KEY_SOURCES) { base = LongReference(p.source + head * 16).value; }
  const uint64_t source = base
    + (uint64_t(batch) * p.batchStride + uint64_t(firstToken + token) * p.tokenStride)
    * elementBytes(ELEMENT_TYPE);
  const uint batchOfBlock = PACKED_SEQUENCES ? 0 : batch;
  const uint64_t block =
    (uint64_t(batchOfBlock) * p.heads + head) * p.blocks + firstBlock + token / KEYS_PER_BLOCK;
  const uint64_t destination = p.destination
    + ((block * octets + octet) * KEYS_PER_BLOCK + token % KEYS_PER_BLOCK) * 32;
  const bool padding = token >= tokens;

  if (ELEMENT_TYPE == ELEMENT_F32 && ALIGNED) {
    // Copied as they are, and not through packUint2x32: with 512-bit vectors that overruns an array in
    // the software driver of Mesa 26.1.6.
    [[unroll]] for (uint i = 0; i < 4; i++) {
      uint64_t pair = 0ul;
      if (!padding) { pair = LongReference(source + octet * 32 + i * 8).value; }
      LongReference(destination + i * 8).value = pair;
    }
  } else {
    vec4 low = vec4(0);
    vec4 high = vec4(0);
    if (!padding) {
      if (ALIGNED) {
        loadElements8(ELEMENT_TYPE, source + octet * 8 * elementBytes(ELEMENT_TYPE), low, high);
      } else {
        low = loadChannels4(ELEMENT_TYPE, false, source, octet * 8, CHANNELS);
        high = loadChannels4(ELEMENT_TYPE, false, source, octet * 8 + 4, CHANNELS);
      }
    }
    FloatQuadReference(destination).value = low;
    FloatQuadReference(destination + 16ul).value = high;
  }
}
