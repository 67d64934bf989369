#version 460

// Rows of tables, gathered by number and summed: token embeddings, with those of positions and of token types.
//
//   y[n] = scale * (sum over tables t of table_t[number_t[n]])        (NaN where a number lies outside of its table)
//
// Memory: up to three tables [entries, CHANNELS] of WEIGHT_FORMAT (all the same), contiguous; numbers int32 [rows];
// y by a row stride of OUTPUT_TYPE. One invocation takes 4 channels, neighbours the next ones, then the next row.
// Workgroup: any size, 64 is fine. Grid: x * y * size >= rows * ceil(channels / 4).

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_16bit_storage : require

#include "companion_weights.glsl"
#include "../Common/online_softmax.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint WEIGHT_FORMAT = 0;
layout(constant_id = 2) const uint OUTPUT_TYPE = 0;
layout(constant_id = 3) const bool ALIGNED = true;
layout(constant_id = 4) const uint TABLES = 1;


// 88 bytes.
layout(push_constant, scalar) uniform EmbedPush {
  uint64_t table0, table1, table2;
  uint64_t numbers0, numbers1, numbers2;
  uint64_t destination;
  uint entries0, entries1, entries2;
  uint rows, channels;
  uint destinationStride;  // in elements
  float scale;
  uint reserved;
} p;

vec4 entry(uint64_t table, uint64_t numbers, uint entries, uint64_t row, uint channel) {
  const int number = IntegerReference(numbers + row * 4).value;
  const bool exists = number >= 0 && uint(number) < entries;
  const uint64_t place = table + uint64_t(exists ? uint(number) : 0) * weightRowBytes(WEIGHT_FORMAT, p.channels);
  const vec4 numbersOfRow = loadWeights4(WEIGHT_FORMAT, ALIGNED, place, channel, p.channels);
  return exists ? numbersOfRow : vec4(QUIET_NAN);
}

void main() {
  const uint quads = (p.channels + 3) / 4;
  const uint item =
    (gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
  const uint64_t row = item / quads;
  const uint channel = item % quads * 4;
  if (row >= p.rows) { return; }
  vec4 y = entry(p.table0, p.numbers0, p.entries0, row, channel);
  if (TABLES > 1) { y += entry(p.table1, p.numbers1, p.entries1, row, channel); }
  if (TABLES > 2) { y += entry(p.table2, p.numbers2, p.entries2, row, channel); }
  storeChannels4(
    OUTPUT_TYPE, ALIGNED, p.destination + row * p.destinationStride * elementBytes(OUTPUT_TYPE), channel, p.channels,
    y * p.scale);
}
