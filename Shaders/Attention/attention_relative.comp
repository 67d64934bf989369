#version 460

// The relative term of Transformer-XL (Dai et al. 2019, https://arxiv.org/abs/1901.02860), before an attention:
//
//   term[b,i,h,e] = (q[b,i,h,:] + v[h,:]) . r[e,h,:]       for each of R distances e
//
// The attention adds scale * term at the distance of each key ("relative shift" is that look-up).
//
// Memory: q [B,S,H,D] by strides, of QUERY_TYPE; v f32 [H,D] (HAS_QUERY_BIAS); r f32 [R,H,D]; term f32 [B,S,H,R], contiguous.
// Each invocation owns a query row, as in attention_row.comp: r is read at subgroup-uniform addresses.
// Grid: x = row tiles * ceil(R / DISTANCES_PER_GROUP) from firstGroup on, distances first; y = head from
// firstHead on; z = batch from firstBatch on. Workgroup: any size.
//
// B * S * H * R * (D multiply-adds and 4 bytes): where R is about 2 T this costs what Q K^T costs, and the term
// takes as much memory as the scores would. Bounded distances (R much below T) make it small.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require

#include "../Common/element_types.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint HEAD_SIZE = 64;
layout(constant_id = 3) const uint QUERY_TYPE = 0;
layout(constant_id = 4) const bool ALIGNED = true;
layout(constant_id = 6) const bool HAS_QUERY_BIAS = true;
layout(constant_id = 5) const uint DISTANCES_PER_GROUP = 64;

// 72 bytes.
layout(push_constant, scalar) uniform AttentionRelativePush {
  uint64_t q, queryBias, relativeKeys, term;  // device addresses
  uint qBatchStride, qTokenStride, qHeadStride;  // in elements
  uint tokens;      // S
  uint heads;       // H
  uint extent;      // R
  uint firstGroup, firstHead, firstBatch;  // added to gl_WorkGroupID
  uint reserved;
} p;

const uint QUADS = (HEAD_SIZE + 3) / 4;

void main() {
  const uint chunks = (p.extent + DISTANCES_PER_GROUP - 1) / DISTANCES_PER_GROUP;
  const uint group = gl_WorkGroupID.x + p.firstGroup;
  const uint row = group / chunks * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
  const uint head = gl_WorkGroupID.y + p.firstHead;
  const uint batch = gl_WorkGroupID.z + p.firstBatch;
  const uint token = min(row, p.tokens - 1);

  const uint64_t address = p.q + (uint64_t(batch) * p.qBatchStride + uint64_t(token) * p.qTokenStride
    + uint64_t(head) * p.qHeadStride) * elementBytes(QUERY_TYPE);
  const uint64_t bias = p.queryBias + uint64_t(head) * (HEAD_SIZE * 4);
  vec4 query[QUADS];
  [[unroll]] for (uint d = 0; d < QUADS; ++d) {
    query[d] = loadChannels4(QUERY_TYPE, ALIGNED, address, d * 4, HEAD_SIZE);
    if (HAS_QUERY_BIAS) { query[d] += loadChannels4(ELEMENT_F32, false, bias, d * 4, HEAD_SIZE); }
  }
  const uint64_t result =
    p.term + ((uint64_t(batch) * p.tokens + token) * p.heads + head) * p.extent * 4ul;
  const uint first = group % chunks * DISTANCES_PER_GROUP;
  const uint end = min(first + DISTANCES_PER_GROUP, p.extent);
  uint distance = first;
  for (;;) {
    const uint64_t relative = p.relativeKeys + (uint64_t(distance) * p.heads + head) * (HEAD_SIZE * 4);
    float sum = 0.0;
    [[unroll]] for (uint d = 0; d < QUADS; ++d) {
      const vec4 r = loadChannels4(ELEMENT_F32, false, relative, d * 4, HEAD_SIZE);
      [[unroll]] for (uint x = 0; x < 4; ++x) { sum = fma(query[d][x], r[x], sum); }
    }
    if (row < p.tokens) { FloatReference(result + distance * 4).value = sum; }
    ++distance;
    if (distance >= end) { break; }
  }
}
