// Loops over the fragments of cooperative matrices, and the barrier of a subgroup.
//
// Fragments must be in registers, so on a GPU every loop over them is unrolled. A software driver keeps them in
// memory anyway and would only compile for longer. It also runs a subgroup as one thread of vector code, in
// order, and mistakes a subgroup barrier for a workgroup barrier (lavapipe, Mesa 26): there, none is used.

#ifndef FRAGMENT_LOOPS_GLSL
#define FRAGMENT_LOOPS_GLSL

#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require

#ifdef SOFTWARE
#define UNROLL [[dont_unroll]]
#define SUBGROUP_SYNC subgroupMemoryBarrierShared
#else
#define UNROLL [[unroll]]
#define SUBGROUP_SYNC subgroupBarrier
#endif

#endif
