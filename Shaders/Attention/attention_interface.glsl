// What the kernels of the family Attention share: specialization constants, push constants, addresses.
//
//   o[b,i,h,:] = sum_j softmax_j(scale * q[b,i,h,:] . k[b,j,g,:]) v[b,j,g,:]      g = h / headsPerGroup
//   lse[b,i,h] = ln sum_j exp(scale * q[b,i,h,:] . k[b,j,g,:])
//
// B batches, S query tokens i, T key tokens j, H query heads h, G key heads g, D = HEAD_SIZE_QK channels of
// q and k, E = HEAD_SIZE_V channels of v and o. Causal: j is visible to i iff j <= i + causalOffset.
// Grid: x = query tiles (from firstTile on), y = query head, z = batch.

#ifndef ATTENTION_INTERFACE_GLSL
#define ATTENTION_INTERFACE_GLSL

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_scalar_block_layout : require
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require

#include "../Common/element_types.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint HEAD_SIZE_QK = 64;  // D: a multiple of 8, 8...256
layout(constant_id = 2) const uint HEAD_SIZE_V = 64;   // E: a multiple of 8, 8...256
layout(constant_id = 3) const uint ELEMENT_TYPE = 0;   // of q, k, v and o: ELEMENT_F32, _F16, _BF16
layout(constant_id = 4) const bool CAUSAL = false;
// 5...15 belong to each kernel and are documented in its header.

// 116 bytes, the same in every kernel of the family.
layout(push_constant, scalar) uniform AttentionPush {
  uint64_t q, k, v, o;                           // device addresses of element [0,0,0,0], in bytes
  uint64_t lse;                                  // f32 [B,S,H] contiguous; 0 = not wanted
  uint qBatchStride, qTokenStride, qHeadStride;  // strides in elements; channels are contiguous
  uint kBatchStride, kTokenStride, kHeadStride;
  uint vBatchStride, vTokenStride, vHeadStride;
  uint oBatchStride, oTokenStride, oHeadStride;
  uint queryTokens;                              // S
  uint keyTokens;                                // T, may be 0
  uint queryHeads;                               // H
  uint headsPerGroup;                            // H / G
  int causalOffset;                              // T - S: the last query row sees the last key
  float scale;
  uint firstTile;                                // added to gl_WorkGroupID.x
} p;

/// How many keys, from key 0 on, are visible to a query row.
uint visibleKeyCount(uint row) {
  return CAUSAL ? uint(clamp(int(row) + p.causalOffset + 1, 0, int(p.keyTokens))) : p.keyTokens;
}

/// The byte address of channel 0 of a row, with the products in 64 bits.
uint64_t rowAddress(
  uint64_t base, uint batch, uint batchStride, uint token, uint tokenStride, uint head, uint headStride
) {
  return base
    + (uint64_t(batch) * batchStride + uint64_t(token) * tokenStride + uint64_t(head) * headStride)
    * elementBytes(ELEMENT_TYPE);
}

uint64_t queryAddress(uint batch, uint token, uint head) {
  return rowAddress(p.q, batch, p.qBatchStride, token, p.qTokenStride, head, p.qHeadStride);
}

uint64_t keyAddress(uint batch, uint token, uint keyHead) {
  return rowAddress(p.k, batch, p.kBatchStride, token, p.kTokenStride, keyHead, p.kHeadStride);
}

uint64_t valueAddress(uint batch, uint token, uint keyHead) {
  return rowAddress(p.v, batch, p.vBatchStride, token, p.vTokenStride, keyHead, p.vHeadStride);
}

uint64_t outputAddress(uint batch, uint token, uint head) {
  return rowAddress(p.o, batch, p.oBatchStride, token, p.oTokenStride, head, p.oHeadStride);
}

/// The byte address of lse[batch, token, head]; meaningless when `p.lse` is 0.
uint64_t lseAddress(uint batch, uint token, uint head) {
  return p.lse + ((uint64_t(batch) * p.queryTokens + token) * p.queryHeads + head) * 4ul;
}

#endif
