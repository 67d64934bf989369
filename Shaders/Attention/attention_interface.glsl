// What the kernels of the family Attention share: specialization constants, push constants, addresses.
//
//   o[b,i,h,:] = sum_j softmax_j(scale * q[b,i,h,:] . k[b,j,g,:]) v[b,j,g,:]      g = h / headsPerGroup
//   lse[b,i,h] = ln sum_j exp(scale * q[b,i,h,:] . k[b,j,g,:])
//
// B batches, S query tokens i, T key tokens j, H query heads h, G key heads g, D = HEAD_SIZE_QK channels of
// q and k, E = HEAD_SIZE_V channels of v and o. Masks, changes of the scores and packed sequences:
// attention_options.glsl.
// Grid: x = query tiles (from firstTile on), y = query head (from firstHead on), z = batch (from firstBatch on);
// another one where several problems share a workgroup (attention_subgroup.comp).

#ifndef ATTENTION_INTERFACE_GLSL
#define ATTENTION_INTERFACE_GLSL

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_scalar_block_layout : require
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require

#include "../Common/element_types.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint HEAD_SIZE_QK = 64;  // D: 1...576
layout(constant_id = 2) const uint HEAD_SIZE_V = 64;   // E: 1...576
layout(constant_id = 3) const uint QUERY_TYPE = 0;     // ELEMENT_F32, _F16, _BF16
layout(constant_id = 4) const uint OPTIONS = 0;        // a sum of OPTION_*
// 5...15 belong to each kernel and are documented in its header.
layout(constant_id = 16) const uint KEY_TYPE = 0;
layout(constant_id = 17) const uint VALUE_TYPE = 0;
layout(constant_id = 18) const uint OUTPUT_TYPE = 0;
layout(constant_id = 19) const uint BIAS_TYPE = 0;
layout(constant_id = 20) const bool ALIGNED = true;        // rows at multiples of 16 bytes, D and E of 8 channels
layout(constant_id = 21) const bool VALUE_IS_KEY = false;  // v is the first E channels of k
// 22...29 belong to the kernels of decode.
layout(constant_id = 30) const uint MORE_OPTIONS = 0;      // a sum of MORE_OPTION_*, for which OPTIONS has no room

#ifdef LEAN_DECODE
// 128 bytes. The cache's own strides lie in the block of Shaders/Decode/decode_interface.glsl.
layout(push_constant, scalar) uniform DecodePush {
  uint64_t q, k, v, o;                           // device addresses, in bytes; k and v those of the caches
  uint64_t lse;                                  // f32 [B,S,H] contiguous; 0 = not wanted
  uint64_t options;                              // an OptionBlock with a DecodeBlock behind it
  uint64_t keyScales, valueScales;               // of formats that have them beside the numbers
  uint qBatchStride, qTokenStride, qHeadStride;  // strides in elements; channels are contiguous
  uint oBatchStride, oTokenStride, oHeadStride;
  uint queryTokens;                              // S
  uint keyTokens;                                // the most keys that a sequence may have
  uint queryHeads;                               // H
  uint headsPerGroup;                            // H / G
  float scale;
  uint firstGroup;                               // added to the number of the workgroup
} p;
#else
// 128 bytes, the same in every kernel of the family: all that Vulkan promises.
layout(push_constant, scalar) uniform AttentionPush {
  uint64_t q, k, v, o;                           // device addresses of element [0,0,0,0], in bytes
  uint64_t lse;                                  // f32 [B,S,H] contiguous; 0 = not wanted
  uint64_t options;                              // an OptionBlock; 0 where OPTIONS asks for nothing of it
  uint qBatchStride, qTokenStride, qHeadStride;  // strides in elements; channels are contiguous
  uint kBatchStride, kTokenStride, kHeadStride;
  uint vBatchStride, vTokenStride, vHeadStride;
  uint oBatchStride, oTokenStride, oHeadStride;
  uint queryTokens;                              // S; of packed sequences the most that one may have
  uint keyTokens;                                // T, may be 0; of packed sequences likewise
  uint queryHeads;                               // H
  uint headsPerGroup;                            // H / G
  float scale;
  uint firstTile, firstHead, firstBatch;         // added to gl_WorkGroupID
} p;
#endif

// The problem of this workgroup, set by openProblem().
uint batch, head, keyHead;
uint queryTokens;  // S of this sequence
uint keyTokens;    // n: the keys that it has
uint firstQuery;   // token 0 of this sequence in q, o and lse; 0 unless sequences are packed
uint firstKeyToken;  // token 0 of this sequence in k and v

/// The byte address of channel 0 of a row, with the products in 64 bits.
uint64_t rowAddress(
  const uint type, uint64_t base, uint batchStride, uint token, uint tokenStride, uint head, uint headStride
) {
  return base
    + (uint64_t(batch) * batchStride + uint64_t(token) * tokenStride + uint64_t(head) * headStride)
    * elementBytes(type);
}

uint64_t queryAddress(uint token) {
  return rowAddress(QUERY_TYPE, p.q, p.qBatchStride, firstQuery + token, p.qTokenStride, head, p.qHeadStride);
}

uint64_t outputAddress(uint token) {
  return rowAddress(OUTPUT_TYPE, p.o, p.oBatchStride, firstQuery + token, p.oTokenStride, head, p.oHeadStride);
}

/// The place of a row in contiguous [B,S,H], or in [tokens,H] where sequences are packed.
uint64_t rowIndex(const bool isPacked, uint token) {
  const uint64_t batchStart = isPacked ? 0ul : uint64_t(batch) * p.queryTokens;
  return (batchStart + firstQuery + token) * p.queryHeads + head;
}

#endif
