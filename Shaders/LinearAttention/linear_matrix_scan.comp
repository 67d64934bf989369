#version 460

// The states at the starts of the parts of each sequence, from what each part adds by itself and what its decays make:
// a number, which linear_matrix.comp left, or the products F of the part's blocks in the records of
// linear_matrix_prepare.comp.
//
// @variant linear_matrix_scan
// @variant linear_matrix_scan_records RECORDS
//
//   for every part: start = S; S <- F S + L
//
// An invocation has one element of the state. L is read from and start written to the same place; the last S goes
// to the carry or to the final state.
// Grid: x = tiles of K V elements, y = value head, z = sequence.

#extension GL_GOOGLE_include_directive : require

#ifdef RECORDS
#include "linear_matrix_records.glsl"
#else
#include "linear_interface.glsl"
#endif

void main() {
  const uint element = (gl_WorkGroupID.x + p.firstTile) * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
  // Before any invocation leaves: where none is left, sameForAll() has nothing to go by.
  openSequence(gl_WorkGroupID.z + p.firstSequence, gl_WorkGroupID.y + p.firstHead);
#ifdef RECORDS
  uint64_t record = recordAddress(gl_WorkGroupID.z, gl_WorkGroupID.y, 0) + element / VALUE_CHANNELS * 4;
  uint blocks = (rowCount() + BLOCK_ROWS - 1) / BLOCK_ROWS;
#endif
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
#ifndef RECORDS
  uint64_t factors = BLOCK.tensors[SLOT_RECORDS].address + firstPart * 4;
#endif
  uint64_t place =
    BLOCK.tensors[SLOT_PARTS].address + (firstPart * (KEY_CHANNELS * VALUE_CHANNELS) + element) * 4;
  for (uint part = 0; part < p.parts; part++) {
#ifdef RECORDS
    float factor = 1;
    const uint count = min(p.blocksPerPart, blocks);
    for (uint block = 0; block < count; block++) {
      factor *= FloatReference(record).value;
      record += RECORD_BYTES;
    }
    blocks -= count;
#else
    const float factor = FloatReference(factors).value;
    factors += 4;
#endif
    const float added = FloatReference(place).value;
    FloatReference(place).value = state;
    // 0 * infinity is NaN: a factor of 0 clears.
    state = factor == 0 ? added : fma(factor, state, added);
    place += KEY_CHANNELS * VALUE_CHANNELS * 4;
  }
  if ((p.flags & FLAG_TO_CARRY) != 0) { FloatReference(carry + element * 4ul).value = state; }
  if ((p.flags & FLAG_STORES) != 0) {
    const uint64_t final = stateAddress(SLOT_FINAL_STATE);
    if (final != 0) { FloatReference(final + element * 4ul).value = state; }
  }
}
