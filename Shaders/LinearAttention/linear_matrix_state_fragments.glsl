// A workgroup's columns of the state in fragments, for linear_matrix.comp and linear_matrix_walk.comp, which include
// this behind their own declarations: between memory, the work rows (WORK_PITCH units of the arena apart) and the
// fragments.

#ifndef LINEAR_MATRIX_STATE_FRAGMENTS_GLSL
#define LINEAR_MATRIX_STATE_FRAGMENTS_GLSL

// Fragments of M channels by N columns; those of round r and this subgroup are channels (r * SUBGROUPS + subgroup) * M
// and on.
Accumulator state[ROUNDS * E_FRAGMENTS];

bool hasStateRow(uint round) {
  return ALL_HAVE_STATE || round * SUBGROUPS + subgroup < STATE_FRAGMENTS;
}

/// This subgroup's channels of the state, between memory and the fragments, through its work rows.
void loadState(uint64_t address, bool isThere) {
  UNROLL for (uint round = 0; round < ROUNDS; ++round) {
    if (hasStateRow(round)) {
      const uint firstChannel = (round * SUBGROUPS + subgroup) * FRAGMENT_M;
      for (uint i = lane; i < FRAGMENT_M * (COLUMNS / 4); i += SUBGROUP_SIZE) {
        const uint channel = firstChannel + i / (COLUMNS / 4);
        vec4 numbers = vec4(0.0);
        if (isThere && channel < KEY_CHANNELS) {
          numbers = loadChannels4(
            ELEMENT_F32, false, address + uint64_t(channel) * (VALUE_CHANNELS * 4),
            min(firstColumn + i % (COLUMNS / 4) * 4, VALUE_CHANNELS), VALUE_CHANNELS);
        }
        arena[workBase + i / (COLUMNS / 4) * WORK_PITCH + i % (COLUMNS / 4)] = floatBitsToUint(numbers);
      }
      SUBGROUP_SYNC();
      UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
        coopMatLoad(
          state[round * E_FRAGMENTS + n], arena, workBase + n * (FRAGMENT_N / 4), WORK_PITCH, ROW_MAJOR);
      }
      SUBGROUP_SYNC();
    } else {
      UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) { state[round * E_FRAGMENTS + n] = Accumulator(0.0); }
    }
  }
}

/// The fragments of a round into this subgroup's work rows, f32.
void exposeState(uint round) {
  UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
    coopMatStore(state[round * E_FRAGMENTS + n], arena, workBase + n * (FRAGMENT_N / 4), WORK_PITCH, ROW_MAJOR);
  }
  SUBGROUP_SYNC();
}

void storeState(uint64_t address) {
  UNROLL for (uint round = 0; round < ROUNDS; ++round) {
    if (hasStateRow(round)) {
      exposeState(round);
      const uint firstChannel = (round * SUBGROUPS + subgroup) * FRAGMENT_M;
      for (uint i = lane; i < FRAGMENT_M * (COLUMNS / 4); i += SUBGROUP_SIZE) {
        const uint channel = firstChannel + i / (COLUMNS / 4);
        if (channel < KEY_CHANNELS) {
          storeChannels4(
            ELEMENT_F32, false, address + uint64_t(channel) * (VALUE_CHANNELS * 4),
            firstColumn + i % (COLUMNS / 4) * 4, VALUE_CHANNELS,
            uintBitsToFloat(arena[workBase + i / (COLUMNS / 4) * WORK_PITCH + i % (COLUMNS / 4)]));
        }
      }
      SUBGROUP_SYNC();
    }
  }
}

/// The greatest finite number of the state, for all subgroups after the next workgroup barrier.
void findStateMaximum(uint parity) {
  float greatest = 0;
  UNROLL for (uint f = 0; f < ROUNDS * E_FRAGMENTS; ++f) {
    UNROLL for (uint i = 0; i < state[f].length(); ++i) {
      const float magnitude = abs(state[f][i]);
      greatest = magnitude < INFINITY ? max(greatest, magnitude) : greatest;
    }
  }
  greatest = subgroupMax(greatest);
  if (lane == 0) { atomicMax(stateMaximum[parity], floatBitsToUint(greatest)); }
}

/// Leaves the state at up to two places; 0 is none. One after the other in a loop, so that drivers compile it once.
void storeStates(uint64_t first, uint64_t second) {
  const uint64_t places[2] = uint64_t[2](first, second);
  [[dont_unroll]] for (uint i = 0; i < 2; ++i) {
    if (places[i] != 0) { storeState(places[i]); }
  }
}

#endif
