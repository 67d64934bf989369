#version 460

// Moves the accepted nodes of trees of drafts down to where they belong (SpecInfer, arXiv:2305.09781).
//
//   for each sequence b:  for i = 0 ... pathLengths[b] - 1, in this order:
//     row of position committed[b] + i = row of position committed[b] + paths[b, i]        (all heads)
//
// Rows of bytes, whatever they hold: numbers, or the scales beside them, in a dispatch of their own. Nodes
// rise along a path, so a row moves down, to a place whose row has been moved or was not accepted; one
// invocation walks the path with its piece of the row, in order, and no other touches these bytes: no barrier.
// A node below its place or not below `nodes` and one without a place (cache_places.glsl) moves nothing.
//
// Memory: rows by byte strides [block, token, head]; committed and pathLengths int32 [sequences], paths int32
// [sequences, pathTokens]. ACCESS bytes (2, 4, 8 or 16, which divide all rows and strides) are moved at once.
// Workgroup: any size, 64 is fine. Grid: x * y * size >= sequences * heads * (ROW_BYTES / ACCESS).

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_16bit_storage : require

#include "cache_places.glsl"
#include "cache_move.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint ROW_BYTES = 256;
layout(constant_id = 2) const uint ACCESS = 16;
layout(constant_id = 7) const uint ARRANGEMENT = 0;  // as cache_places.glsl

// 104 bytes.
layout(push_constant, scalar) uniform CacheCompactPush {
  uint64_t rows;
  uint64_t committed;    // int32 [sequences]
  uint64_t paths;        // int32 [sequences, pathTokens]
  uint64_t pathLengths;  // int32 [sequences]
  uint64_t indptr;       // paged: int32 [sequences + 1]
  uint64_t indices;      // paged: int32 [pageEntries]
  uint64_t blockStride, tokenStride, headStride;  // bytes
  uint heads;
  uint sequenceCount;
  uint nodes;
  uint pathTokens;
  uint blocks;           // sequences or pages of the cache
  uint blockTokens;
  uint pageEntries;
  uint reserved;
} p;

CachePlace placeOf(uint sequence, uint position) {
  return findPlace(
    ARRANGEMENT, int(sequence), int(position), p.sequenceCount, p.blocks, p.blockTokens, p.pageEntries,
    p.indptr, p.indices);
}

uint64_t addressOf(CachePlace place, uint64_t piece) {
  return p.rows + place.block * p.blockStride + place.slot * p.tokenStride + piece;
}

void main() {
  const uint pieces = ROW_BYTES / ACCESS;
  const uint item = (gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * gl_WorkGroupSize.x
    + gl_LocalInvocationID.x;
  const uint head = item / pieces % p.heads;
  const uint sequence = item / pieces / p.heads;
  if (sequence >= p.sequenceCount) { return; }
  const uint64_t piece = head * p.headStride + item % pieces * ACCESS;
  const int committed = IntegerReference(p.committed + uint64_t(sequence) * 4).value;
  const int length = IntegerReference(p.pathLengths + uint64_t(sequence) * 4).value;
  if (committed < 0) { return; }
  const uint count = min(uint(max(length, 0)), p.pathTokens);
  for (uint i = 0; i < count; ++i) {
    const int node = IntegerReference(p.paths + (uint64_t(sequence) * p.pathTokens + i) * 4).value;
    const bool moves = node > int(i) && node < int(p.nodes);
    // Below 2^32, and above 2^31 negative again: without a place.
    const CachePlace from = placeOf(sequence, uint(committed) + (moves ? uint(node) : 0));
    const CachePlace to = placeOf(sequence, uint(committed) + i);
    if (moves && from.exists && to.exists) {
      movePiece(ACCESS, addressOf(from, piece), addressOf(to, piece));
    }
  }
}
