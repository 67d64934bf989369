// What both kernels of prepared blocks share: fragments, numbers as two f16.

#ifndef LINEAR_MATRIX_FRAGMENTS_GLSL
#define LINEAR_MATRIX_FRAGMENTS_GLSL

#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_control_flow_attributes : require

#include "linear_matrix_records.glsl"
#include "../Common/fragment_loops.glsl"
#include "../Common/half_units.glsl"

const uint SUBGROUPS = BLOCK_ROWS / FRAGMENT_M;

#define MatrixA coopmat<float16_t, gl_ScopeSubgroup, FRAGMENT_M, FRAGMENT_K, gl_MatrixUseA>
#define MatrixB coopmat<float16_t, gl_ScopeSubgroup, FRAGMENT_K, FRAGMENT_N, gl_MatrixUseB>
#define Accumulator coopmat<float, gl_ScopeSubgroup, FRAGMENT_M, FRAGMENT_N, gl_MatrixUseAccumulator>

const int ROW_MAJOR = gl_CooperativeMatrixLayoutRowMajor;
const int COLUMN_MAJOR = gl_CooperativeMatrixLayoutColumnMajor;
#define INFINITY uintBitsToFloat(0x7f800000u)
#define NOT_A_NUMBER uintBitsToFloat(0x7fc00000u)

uint lane, subgroup;
uint64_t record;  // of the block

/// The power of two that brings numbers up to one, given as bits, to the top of f16's range. What makes the state has a
/// limit by which powers of its products cannot pass f32's range.
int exponentFor(uint greatest, const int limit) {
  return clamp(14 - exponentOf(uintBitsToFloat(greatest)), -limit, limit);
}

const int STATE_LIMIT = 40;
const int OTHER_LIMIT = 60;

float greatestFinite(vec4 numbers, float greatest) {
  [[unroll]] for (uint x = 0; x < 4; ++x) {
    const float magnitude = abs(numbers[x]);
    greatest = magnitude < INFINITY ? max(greatest, magnitude) : greatest;
  }
  return greatest;
}

// Of two numbers in two parts, three products count: 0, 1 and 2 have the parts (0, 0), (1, 0) and (0, 1) of them.

/// Two numbers as f16, and what these lack. inf - inf is NaN, which would pass for inf's own.
uvec2 splitPair(vec2 numbers) {
  const uint high = packHalf2x16(numbers);
  const vec2 rest = numbers - unpackHalf2x16(high);
  return uvec2(high, packHalf2x16(mix(vec2(0.0), rest, lessThan(abs(rest), vec2(INFINITY)))));
}

void splitEight(vec4 low, vec4 high, out uvec4 first, out uvec4 second) {
  const uvec2 a = splitPair(low.xy), b = splitPair(low.zw), c = splitPair(high.xy), d = splitPair(high.zw);
  first = uvec4(a.x, b.x, c.x, d.x);
  second = uvec4(a.y, b.y, c.y, d.y);
}

#endif
