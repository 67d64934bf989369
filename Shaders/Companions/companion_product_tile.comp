#version 460

// Matrix product, path `tile`: 64 x 64 tiles of y, for many rows on a GPU.
//
//   for each 16 channels of the depth:  x and W of the tile into shared memory, in f32, transposed
//     each of 128 invocations: 8 rows x 4 columns += 8 numbers of x (outer product) 4 numbers of W
//
// An operand that is read from memory is used 64 times, one from shared memory 4 or 8 times; W is dequantised once for
// 64 rows. 8.5 KiB of shared memory. Nothing depends on the size of subgroups.
//
// Workgroup: 128. Grid: x = ceil(columns / 64), y = ceil(rows / 64).

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_16bit_storage : require

#include "companion_product.glsl"

const uint TILE = 64;
const uint STEP = 16;
// Off a power of two, so that the transposed stores meet different banks.
const uint PITCH = TILE + 1;

shared float xTile[STEP * PITCH];
shared float wTile[STEP * PITCH];

void main() {
  const uint firstRow = gl_WorkGroupID.y * TILE;
  const uint firstColumn = gl_WorkGroupID.x * TILE;
  const uint local = gl_LocalInvocationID.x;
  const uint ownRow = local / 16 * 8;
  const uint ownColumn = local % 16;
  float sum[8][4];
  [[unroll]] for (uint i = 0; i < 8; ++i) {
    [[unroll]] for (uint j = 0; j < 4; ++j) { sum[i][j] = 0; }
  }
  for (uint d = 0; d < p.depth; d += STEP) {
    // 64 rows of 4 fours each: two for every invocation.
    [[unroll]] for (uint i = 0; i < 2; ++i) {
      const uint item = local + i * 128;
      const uint line = item / 4;
      const uint quad = item % 4 * 4;
      const uint channel = d + quad;
      // Past the depth a tile holds zeros; what would be read there is not the row's.
      const bool exists = channel < p.depth;
      const uint known = exists ? channel : 0;
      const vec4 x = loadChannels4(INPUT_TYPE, ALIGNED, sourceRow(firstRow + line), known, p.depth);
      const vec4 w = loadWeights4(WEIGHT_FORMAT, ALIGNED, weightRow(firstColumn + line), known, p.depth);
      [[unroll]] for (uint c = 0; c < 4; ++c) {
        xTile[(quad + c) * PITCH + line] = exists ? x[c] : 0.0;
        wTile[(quad + c) * PITCH + line] = exists ? w[c] : 0.0;
      }
    }
    barrier();
    [[unroll]] for (uint k = 0; k < STEP; ++k) {
      float x[8];
      float w[4];
      [[unroll]] for (uint i = 0; i < 8; ++i) { x[i] = xTile[k * PITCH + ownRow + i]; }
      [[unroll]] for (uint j = 0; j < 4; ++j) { w[j] = wTile[k * PITCH + ownColumn + 16 * j]; }
      [[unroll]] for (uint i = 0; i < 8; ++i) {
        [[unroll]] for (uint j = 0; j < 4; ++j) { sum[i][j] = fma(x[i], w[j], sum[i][j]); }
      }
    }
    barrier();
  }
  [[unroll]] for (uint i = 0; i < 8; ++i) {
    [[unroll]] for (uint j = 0; j < 4; ++j) {
      finish(firstRow + ownRow + i, firstColumn + ownColumn + 16 * j, sum[i][j]);
    }
  }
}
