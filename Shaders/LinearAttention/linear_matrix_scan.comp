#version 460

// The states at the starts of the parts of each sequence, from what each part adds by itself and the number that its
// decays make, which linear_matrix.comp left:
//
//   for every part: start = S; S <- f S + L
//
// An invocation has one element of the state. L is read from and start written to the same place; the last S goes
// to the carry or to the final state.
// Grid: x = tiles of K V elements, y = value head, z = sequence.

#extension GL_GOOGLE_include_directive : require

#include "linear_interface.glsl"

void main() {
  const uint element = (gl_WorkGroupID.x + p.firstTile) * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
  // Before any invocation leaves: where none is left, sameForAll() has nothing to go by.
  openSequence(gl_WorkGroupID.z + p.firstSequence, gl_WorkGroupID.y + p.firstHead);
  if (element >= KEY_CHANNELS * VALUE_CHANNELS) { return; }
  const uint64_t carry = stateAddress(SLOT_CARRY);
  const uint64_t initial = stateAddress(SLOT_INITIAL_STATE);
  float state = 0;
  if ((p.flags & FLAG_FROM_CARRY) != 0) {
    state = FloatReference(carry + element * 4ul).value;
  } else if ((p.flags & FLAG_LOADS) != 0 && initial != 0) {
    state = FloatReference(initial + element * 4ul).value;
  }
  const uint64_t firstPart = (uint64_t(gl_WorkGroupID.z) * gl_NumWorkGroups.y + gl_WorkGroupID.y) * p.parts;
  uint64_t factors = BLOCK.tensors[SLOT_RECORDS].address + firstPart * 4;
  uint64_t place =
    BLOCK.tensors[SLOT_PARTS].address + (firstPart * (KEY_CHANNELS * VALUE_CHANNELS) + element) * 4;
  for (uint part = 0; part < p.parts; part++) {
    const float factor = FloatReference(factors).value;
    const float added = FloatReference(place).value;
    FloatReference(place).value = state;
    // 0 * infinity is NaN: a factor of 0 clears.
    state = factor == 0 ? added : fma(factor, state, added);
    factors += 4;
    place += KEY_CHANNELS * VALUE_CHANNELS * 4;
  }
  if ((p.flags & FLAG_TO_CARRY) != 0) { FloatReference(carry + element * 4ul).value = state; }
  if ((p.flags & FLAG_STORES) != 0) {
    const uint64_t final = stateAddress(SLOT_FINAL_STATE);
    if (final != 0) { FloatReference(final + element * 4ul).value = state; }
  }
}
