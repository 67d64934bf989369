// The memory rate a device reaches when it copies: destination[i] = source[i], 16 bytes at a time.
//
// Neighbouring invocations copy neighbouring vectors, and each goes on invocationCount vectors
// further: coalesced on a GPU, streaming on a CPU.
//
// Workgroup: local_size_x by specialization, y = z = 1. Grid: any along x.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "../Common/element_types.glsl"

layout(local_size_x_id = 0) in;

layout(push_constant, scalar) uniform Push {
  uint64_t source;       // 16 bytes × vectorCount
  uint64_t destination;  // 16 bytes × vectorCount
  uint vectorCount;
  uint invocationCount;  // of the whole grid
} p;

void main() {
  for (uint i = gl_GlobalInvocationID.x; i < p.vectorCount; i += p.invocationCount) {
    WordQuadReference(p.destination + 16ul * i).value = WordQuadReference(p.source + 16ul * i).value;
  }
}
