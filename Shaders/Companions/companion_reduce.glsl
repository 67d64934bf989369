// Sums and maxima over a workgroup, the same for all of its invocations and in every run: over each subgroup, then
// over the subgroups in their order. All invocations of the workgroup must come here.

#ifndef COMPANION_REDUCE_GLSL
#define COMPANION_REDUCE_GLSL

#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require

// A workgroup that is a single subgroup needs no shared memory and no barrier: a barrier is costly on a
// software driver.
layout(constant_id = 20) const bool ONE_SUBGROUP = false;

// As many as a workgroup of 256 can have subgroups of 4.
shared float subgroupParts[64];

float workgroupSum(float value) {
  value = subgroupAdd(value);
  if (ONE_SUBGROUP) { return value; }
  barrier();
  if (subgroupElect()) { subgroupParts[gl_SubgroupID] = value; }
  barrier();
  float sum = 0;
  for (uint i = 0; i < gl_NumSubgroups; ++i) { sum += subgroupParts[i]; }
  return sum;
}

float workgroupMax(float value) {
  value = subgroupMax(value);
  if (ONE_SUBGROUP) { return value; }
  barrier();
  if (subgroupElect()) { subgroupParts[gl_SubgroupID] = value; }
  barrier();
  float largest = subgroupParts[0];
  for (uint i = 1; i < gl_NumSubgroups; ++i) { largest = max(largest, subgroupParts[i]); }
  return largest;
}

#endif
