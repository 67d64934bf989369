// The most f32 arithmetic a device does outside of its matrix units.
//
//   x[c] = x[c] · multiplier + addend      12 independent chains, 8 steps of each in one iteration
//
// Twelve chains hide the latency of a fused multiply-add (4 cycles at two a cycle need eight), and
// with the two factors fit into the 16 vector registers of AVX2. The factors come from the push constants, so that no
// compiler can shorten a chain. One value per invocation is written, so that none can drop it.
//
// Workgroup: local_size_x by specialization, y = z = 1. Grid: any along x.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "../Common/element_types.glsl"

layout(local_size_x_id = 0) in;

layout(push_constant, scalar) uniform Push {
  uint64_t result;  // f32 [invocations]
  uint iterations;
  float multiplier;
  float addend;
} p;

void main() {
  float seed = float(gl_LocalInvocationID.x) * 0.001;
  vec4 a = vec4(seed, seed + 0.25, seed + 0.5, seed + 0.75);
  vec4 b = a + 1.0;
  vec4 c = a + 2.0;
  vec4 multiplier = vec4(p.multiplier);
  vec4 addend = vec4(p.addend);
  for (uint i = 0; i < p.iterations; ++i) {
    [[unroll]] for (uint step = 0; step < 8; ++step) {
      a = fma(a, multiplier, addend);
      b = fma(b, multiplier, addend);
      c = fma(c, multiplier, addend);
    }
  }
  vec4 sum = a + b + c;
  FloatReference(p.result + 4ul * gl_GlobalInvocationID.x).value = sum.x + sum.y + sum.z + sum.w;
}
