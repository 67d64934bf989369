#version 460

// Matrix product, path `vector`: for few rows (decode steps) on a GPU, where reading W is all the work.
//
//   16 invocations share a column n: each sums every 16th four of channels of R rows, then the 16 sums are added
//
// Neighbours read neighbouring fours of a row of W, each number of it once for R rows. The sums meet in shared memory,
// in a fixed order; nothing depends on the size of subgroups.
//
// Workgroup: 64, 4 columns. Grid: x * y >= ceil(columns / 4) by x, z = ceil(rows / R).

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_16bit_storage : require

#include "companion_product.glsl"

layout(constant_id = 7) const uint ROWS_PER_TILE = 1;  // R, at most 8

const uint LANES = 16;

shared float parts[64 * ROWS_PER_TILE];

void main() {
  const uint lane = gl_LocalInvocationID.x % LANES;
  const uint group = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
  const uint firstColumn = group * (gl_WorkGroupSize.x / LANES);
  const uint firstRow = gl_WorkGroupID.z * ROWS_PER_TILE;
  const uint64_t w = weightRow(firstColumn + gl_LocalInvocationID.x / LANES);
  uint64_t x[ROWS_PER_TILE];
  float sum[ROWS_PER_TILE];
  [[unroll]] for (uint r = 0; r < ROWS_PER_TILE; ++r) {
    x[r] = sourceRow(firstRow + r);
    sum[r] = 0;
  }
  for (uint d = lane * 4; d < p.depth; d += LANES * 4) {
    const vec4 weights = loadWeights4(WEIGHT_FORMAT, ALIGNED, w, d, p.depth);
    [[unroll]] for (uint r = 0; r < ROWS_PER_TILE; ++r) {
      const vec4 values = loadChannels4(INPUT_TYPE, ALIGNED, x[r], d, p.depth);
      [[unroll]] for (uint c = 0; c < 4; ++c) { sum[r] = fma(values[c], weights[c], sum[r]); }
    }
  }
  [[unroll]] for (uint r = 0; r < ROWS_PER_TILE; ++r) {
    parts[r * gl_WorkGroupSize.x + gl_LocalInvocationID.x] = sum[r];
  }
  barrier();
  const uint columns = gl_WorkGroupSize.x / LANES;
  const uint result = gl_LocalInvocationID.x;
  if (result < columns * ROWS_PER_TILE) {
    const uint row = result / columns;
    const uint column = result % columns;
    float total = 0;
    [[unroll]] for (uint i = 0; i < LANES; ++i) { total += parts[row * gl_WorkGroupSize.x + column * LANES + i]; }
    finish(firstRow + row, firstColumn + column, total);
  }
}
