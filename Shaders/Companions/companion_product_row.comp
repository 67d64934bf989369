#version 460

// Matrix product, path `row`: each invocation owns a column of y in R rows; for CPU-like devices.
//
//   for each tile of R rows m, each column n:                        (lanes of a subgroup: neighbouring columns)
//     s_m = 0;  for each four of channels d: s_m += x[m, d] . W[n, d];  y[m, n] = act(s_m + bias[n]) + residual[m, n]
//
// x is read at subgroup-uniform addresses, so that each number is a scalar operand; a lane reads its own row of
// W, dequantises it in registers and uses it R times. No shared memory, no barrier.
//
// Workgroup: any size, a subgroup or some. Grid: x = ceil(rows / R), y = ceil(columns / size).

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_16bit_storage : require

#include "companion_product.glsl"

layout(constant_id = 7) const uint ROWS_PER_TILE = 8;  // R
layout(constant_id = 8) const uint UNROLLED = 16;      // channels per step, a multiple of 4

/// Four weights of a lane's own row: by 8-byte loads, which the software driver gathers in half the time of words.
vec4 loadOwnWeights4(uint64_t row, uint channel) {
  if (ALIGNED && WEIGHT_FORMAT == ELEMENT_F32) {
    const uint64_t low = LongReference(row + channel * 4).value;
    const uint64_t high = LongReference(row + channel * 4 + 8ul).value;
    return uintBitsToFloat(uvec4(uint(low), uint(low >> 32), uint(high), uint(high >> 32)));
  }
  if (ALIGNED && WEIGHT_FORMAT <= ELEMENT_BF16) {
    const uint64_t words = LongReference(row + channel * 2).value;
    return vec4(
      unpackElements(WEIGHT_FORMAT, uint(words)), unpackElements(WEIGHT_FORMAT, uint(words >> 32)));
  }
  return loadWeights4(WEIGHT_FORMAT, ALIGNED, row, channel, p.depth);
}

void main() {
  const uint column = gl_WorkGroupID.y * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
  const uint firstRow = gl_WorkGroupID.x * ROWS_PER_TILE;
  const uint64_t own = weightRow(column);
  uint64_t x[ROWS_PER_TILE];
  float sum[ROWS_PER_TILE];
  [[unroll]] for (uint r = 0; r < ROWS_PER_TILE; ++r) {
    x[r] = sourceRow(firstRow + r);
    sum[r] = 0;
  }
  uint d = 0;
  const uint whole = p.depth / UNROLLED * UNROLLED;
  // Tested at its end: the software driver runs a loop once more with all lanes off.
  if (whole > 0) {
    for (;;) {
      [[unroll]] for (uint i = 0; i < UNROLLED; i += 4) {
        const vec4 w = loadOwnWeights4(own, d + i);
        [[unroll]] for (uint r = 0; r < ROWS_PER_TILE; ++r) {
          const vec4 values = loadChannels4(INPUT_TYPE, ALIGNED, x[r], d + i, p.depth);
          [[unroll]] for (uint c = 0; c < 4; ++c) { sum[r] = fma(values[c], w[c], sum[r]); }
        }
      }
      d += UNROLLED;
      if (d >= whole) { break; }
    }
  }
  if (d < p.depth) {
    for (;;) {
      const vec4 w = loadOwnWeights4(own, d);
      [[unroll]] for (uint r = 0; r < ROWS_PER_TILE; ++r) {
        const vec4 values = loadChannels4(INPUT_TYPE, ALIGNED, x[r], d, p.depth);
        [[unroll]] for (uint c = 0; c < 4; ++c) { sum[r] = fma(values[c], w[c], sum[r]); }
      }
      d += 4;
      if (d >= p.depth) { break; }
    }
  }
  [[unroll]] for (uint r = 0; r < ROWS_PER_TILE; ++r) { finish(firstRow + r, column, sum[r]); }
}
