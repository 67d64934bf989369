#version 460

// Packs the keys or the values of an attention for the kernel attention_row with PACKED = true.
//
//   for each batch b, key head g, block n of C = KEYS_PER_BLOCK tokens, octet x of channels:
//     packed[b][g][n][x][c][0...7] = f32(source[b, n*C + c, g, 8*x ... 8*x + 7]), 0 past the last token
//
// Why: attention_row reads keys and values once per few query rows. A [B,T,G,D] tensor puts the tokens of
// one head G*D elements apart, often a power of two, and then a few cache sets must hold all of them;
// and 16-bit elements would be converted once per reading. Packed, a block of keys is one sequential
// piece of f32 in the order in which it is read.
//
// Memory: packed f32 [B][G][ceil(T / C)][CHANNELS / 8][C][8], 16-byte aligned; source strides in elements,
// channels contiguous. One invocation packs 8 channels of one token; neighbours take the next octet, then
// the next head, then the next token, so that a [B,T,G,D] source is read front to back.
// Grid: x = ceil(ceil(T / C) * C * G * (CHANNELS / 8) / workgroup size), in as many dispatches (firstGroup)
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
layout(constant_id = 1) const uint CHANNELS = 64;       // a multiple of 8
layout(constant_id = 3) const uint ELEMENT_TYPE = 0;    // of the source
layout(constant_id = 6) const uint KEYS_PER_BLOCK = 8;  // C, as in attention_row

// 40 bytes.
layout(push_constant, scalar) uniform AttentionPackPush {
  uint64_t source;       // device address of element [0,0,0,0], 16-byte aligned
  uint64_t destination;  // device address, 16-byte aligned
  uint batchStride, tokenStride, headStride;  // of the source, in elements, multiples of 8
  uint tokens;           // T
  uint heads;            // G
  uint firstGroup;       // added to gl_WorkGroupID.x
} p;

void main() {
  const uint octets = CHANNELS / 8;
  const uint blocks = (p.tokens + KEYS_PER_BLOCK - 1) / KEYS_PER_BLOCK;
  const uint item =
    (gl_WorkGroupID.x + p.firstGroup) * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
  const uint octet = item % octets;
  const uint head = item / octets % p.heads;
  const uint token = item / octets / p.heads;
  const uint batch = gl_WorkGroupID.z;
  if (token >= blocks * KEYS_PER_BLOCK) {
    return;
  }

  const uint64_t source = p.source
    + (uint64_t(batch) * p.batchStride + uint64_t(token) * p.tokenStride
      + uint64_t(head) * p.headStride + octet * 8) * elementBytes(ELEMENT_TYPE);
  const uint64_t block = (uint64_t(batch) * p.heads + head) * blocks + token / KEYS_PER_BLOCK;
  const uint64_t destination = p.destination
    + ((block * octets + octet) * KEYS_PER_BLOCK + token % KEYS_PER_BLOCK) * 32;
  const bool padding = token >= p.tokens;

  if (ELEMENT_TYPE == ELEMENT_F32) {
    // Copied as they are, and not through packUint2x32: with 512-bit vectors that overruns an array in
    // the software driver of Mesa 26.1.6.
    [[unroll]] for (uint i = 0; i < 4; i++) {
      uint64_t pair = 0ul;
      if (!padding) { pair = LongReference(source + i * 8).value; }
      LongReference(destination + i * 8).value = pair;
    }
  } else {
    vec4 low = vec4(0);
    vec4 high = vec4(0);
    if (!padding) { loadElements8(ELEMENT_TYPE, source, low, high); }
    FloatQuadReference(destination).value = low;
    FloatQuadReference(destination + 16ul).value = high;
  }
}
