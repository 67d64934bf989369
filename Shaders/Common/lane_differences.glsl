// Differences between the lanes of fours: VK_KHR_compute_shader_derivatives with linear groups.
//
// A software driver has a shuffle of lanes 2i and 2i + 1, and of their pairs, for derivatives alone, an instruction or
// two; what GLSL calls a shuffle or a quad swap is a loop over the lanes there.

#ifndef LANE_DIFFERENCES_GLSL
#define LANE_DIFFERENCES_GLSL

#extension GL_EXT_spirv_intrinsics : require

// DerivativeGroupLinearKHR, which the compiler's GLSL has under the name of the older extension only.
spirv_execution_mode(extensions = ["SPV_KHR_compute_shader_derivatives"], capabilities = [5350], 5290);

/// In lanes 0 and 1 of each four, lane 1 less lane 0; in lanes 2 and 3, lane 3 less lane 2.
spirv_instruction(id = 207) float pairDifference(float value);

/// In lanes 0 and 2 of each four, lane 2 less lane 0; in lanes 1 and 3, lane 3 less lane 1.
spirv_instruction(id = 208) float crossDifference(float value);

#endif
