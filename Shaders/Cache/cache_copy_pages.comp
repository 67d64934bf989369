#version 460

// Copies pages of a cache: what a sequence does before it writes into a page that others share.
//
//   for each i = 0 ... N - 1:  page copies[i, 1] = page copies[i, 0]        (all tokens, all heads)
//
// Rows of bytes, whatever they hold, as in cache_compact.comp; copies int32 [N, 2]. A pair with a page that the
// cache does not have, or with twice the same, copies nothing. Pairs run at the same time: the page that one writes
// is in no other pair.
//
// One invocation copies ACCESS bytes. Workgroup: any size, 64 is fine. Grid: x * y * size >= N * tokens * heads *
// (ROW_BYTES / ACCESS).

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_16bit_storage : require

#include "cache_places.glsl"
#include "cache_move.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint ROW_BYTES = 256;
layout(constant_id = 2) const uint ACCESS = 16;

// 64 bytes.
layout(push_constant, scalar) uniform CacheCopyPagesPush {
  uint64_t rows;
  uint64_t copies;  // int32 [copyCount, 2]
  uint64_t blockStride, tokenStride, headStride;  // bytes
  uint heads;
  uint blocks;
  uint blockTokens;
  uint copyCount;
  uint hasHeadsOutside;  // in memory: heads before tokens
  uint reserved;
} p;

void main() {
  const uint pieces = ROW_BYTES / ACCESS;
  const uint item = (gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * gl_WorkGroupSize.x
    + gl_LocalInvocationID.x;
  const uint row = item / pieces;
  const uint rows = p.heads * p.blockTokens;
  const uint copy = row / rows;
  if (copy >= p.copyCount) { return; }
  // Front to back.
  const uint inside = row % rows;
  const uint head = p.hasHeadsOutside != 0 ? inside / p.blockTokens : inside % p.heads;
  const uint token = p.hasHeadsOutside != 0 ? inside % p.blockTokens : inside / p.heads;
  const int from = IntegerReference(p.copies + uint64_t(copy) * 8).value;
  const int to = IntegerReference(p.copies + uint64_t(copy) * 8 + 4).value;
  const bool exists =
    from >= 0 && uint(from) < p.blocks && to >= 0 && uint(to) < p.blocks && from != to;
  if (!exists) { return; }
  const uint64_t place = p.rows + token * p.tokenStride + head * p.headStride + item % pieces * ACCESS;
  movePiece(ACCESS, place + uint(from) * p.blockStride, place + uint(to) * p.blockStride);
}
