// The most arithmetic a device does in its matrix units: f16 products summed up in f32.
//
//   C[c] = A[c] · B + C[c]      4 independent accumulators of M×N, 8 steps in one iteration
//
// A and B are loaded once and stay in registers: nothing but the matrix units works. They come from
// memory, because a compiler saves most of the work on matrices whose elements it knows to be equal.
// The sum of the accumulators is written at the end, so that none can be dropped.
//
// Workgroup: local_size_x by specialization, one subgroup. Grid: any along x.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_shader_16bit_storage : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#include "../Common/element_types.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint M = 16;
layout(constant_id = 2) const uint N = 16;
layout(constant_id = 3) const uint K = 16;

layout(push_constant, scalar) uniform Push {
  uint64_t operands;  // f16 [M, K], then f16 [K, N]
  uint64_t result;    // f32 [groups, M, N]
  uint iterations;
} p;

layout(buffer_reference, scalar, buffer_reference_align = 4) buffer FloatArray { float values[]; };
layout(buffer_reference, scalar, buffer_reference_align = 2) buffer HalfArray { float16_t values[]; };

void main() {
  HalfArray operands = HalfArray(p.operands);
  coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> a;
  coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> b;
  coopMatLoad(a, operands.values, 0, K, gl_CooperativeMatrixLayoutRowMajor);
  coopMatLoad(b, operands.values, M * K, N, gl_CooperativeMatrixLayoutRowMajor);
  // Unequal starts keep the four chains apart.
  coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> c0 =
    coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);
  coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> c1 =
    coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(1.0);
  coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> c2 =
    coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(2.0);
  coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> c3 =
    coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(3.0);
  for (uint i = 0; i < p.iterations; ++i) {
    [[unroll]] for (uint step = 0; step < 8; ++step) {
      c0 = coopMatMulAdd(a, b, c0);
      c1 = coopMatMulAdd(a, b, c1);
      c2 = coopMatMulAdd(a, b, c2);
      c3 = coopMatMulAdd(a, b, c3);
    }
  }
  FloatArray result = FloatArray(p.result + uint64_t(4u * M * N) * gl_WorkGroupID.x);
  coopMatStore(c0 + c1 + c2 + c3, result.values, 0, N, gl_CooperativeMatrixLayoutRowMajor);
}
