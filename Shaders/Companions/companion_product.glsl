// What the kernels of matrix products have in common: y = act(x W^T + bias) + residual.
//
// Memory: x [rows, depth] and y [rows, columns] by row strides of INPUT_TYPE and OUTPUT_TYPE, W [columns, depth] of
// WEIGHT_FORMAT, contiguous; bias [columns] of BIAS_TYPE; residual as y, and y may be the residual. f32 arithmetic.

#ifndef COMPANION_PRODUCT_GLSL
#define COMPANION_PRODUCT_GLSL

#include "companion_activations.glsl"
#include "companion_weights.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint INPUT_TYPE = 0;
layout(constant_id = 2) const uint WEIGHT_FORMAT = 0;
layout(constant_id = 3) const uint BIAS_TYPE = 0;
layout(constant_id = 4) const uint OUTPUT_TYPE = 0;
layout(constant_id = 5) const bool ALIGNED = true;  // rows of x and W at multiples of 16 bytes, depth of 8
layout(constant_id = 6) const uint ACTIVATION = 0;

// 64 bytes.
layout(push_constant, scalar) uniform ProductPush {
  uint64_t source;       // x
  uint64_t weight;       // W
  uint64_t bias;         // or 0
  uint64_t residual;     // or 0
  uint64_t destination;  // y
  uint rows, columns, depth;
  uint sourceStride, destinationStride;  // of rows, in elements
  uint reserved;
} p;

uint64_t sourceRow(uint row) {
  // Past the last row it is read again.
  return p.source + uint64_t(min(row, p.rows - 1)) * p.sourceStride * elementBytes(INPUT_TYPE);
}

uint64_t weightRow(uint column) {
  return p.weight + uint64_t(min(column, p.columns - 1)) * weightRowBytes(WEIGHT_FORMAT, p.depth);
}

/// Finishes an element of the product and stores it, where there is one.
void finish(uint row, uint column, float sum) {
  if (row >= p.rows || column >= p.columns) { return; }
  if (p.bias != 0ul) { sum += loadElement(BIAS_TYPE, p.bias + uint64_t(column) * elementBytes(BIAS_TYPE)); }
  float y = activated(ACTIVATION, sum);
  const uint64_t place = (uint64_t(row) * p.destinationStride + column) * elementBytes(OUTPUT_TYPE);
  if (p.residual != 0ul) { y += loadElement(OUTPUT_TYPE, p.residual + place); }
  storeElement(OUTPUT_TYPE, p.destination + place, y);
}

#endif
