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
// Memory: packed f32 [B][G][ceil(T / C)][CHANNELS / 8][C][8]; source strides in elements, channels
// contiguous. One invocation packs 8 channels of one token.
// Grid: x = ceil(ceil(T / C) * C * (CHANNELS / 8) / workgroup size), y = key head, z = batch.

#extension GL_GOOGLE_include_directive : require

#include "../Common/element_types.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint CHANNELS = 64;       // a multiple of 8
layout(constant_id = 3) const uint ELEMENT_TYPE = 0;    // of the source
layout(constant_id = 6) const uint KEYS_PER_BLOCK = 8;  // as in attention_row

// 40 bytes.
layout(push_constant, scalar) uniform AttentionPackPush {
  uint64_t source;       // device address of element [0,0,0,0]
  uint64_t destination;  // device address, 16-byte aligned
  uint batchStride, tokenStride, headStride;
  uint tokens;           // T
  uint heads;            // G
  uint firstGroup;       // added to gl_WorkGroupID.x
} p;

void main() {
  const uint octets = CHANNELS / 8;
  const uint blocks = (p.tokens + KEYS_PER_BLOCK - 1) / KEYS_PER_BLOCK;
  const uint item =
    (gl_WorkGroupID.x + p.firstGroup) * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
  const uint token = item / octets;
  const uint octet = item % octets;
  if (token >= blocks * KEYS_PER_BLOCK) {
    return;
  }

  vec4 low = vec4(0);
  vec4 high = vec4(0);
  if (token < p.tokens) {
    uint64_t element = uint64_t(gl_WorkGroupID.z) * p.batchStride
      + uint64_t(token) * p.tokenStride + uint64_t(gl_WorkGroupID.y) * p.headStride + octet * 8;
    loadElements8(ELEMENT_TYPE, p.source + element * elementBytes(ELEMENT_TYPE), low, high);
  }

  const uint64_t head = uint64_t(gl_WorkGroupID.z) * p.heads + gl_WorkGroupID.y;
  const uint64_t block = head * blocks + token / KEYS_PER_BLOCK;
  const uint64_t element =
    ((block * octets + octet) * KEYS_PER_BLOCK + token % KEYS_PER_BLOCK) * 8;
  const uint64_t address = p.destination + element * 4;
  FloatQuadReference(address).value = low;
  FloatQuadReference(address + 16ul).value = high;
}
