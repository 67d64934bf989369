// The state of linear_matrix_walk.comp in fragments, which includes this behind its own declarations: between memory,
// the arena and the fragments, and its update by a block.

#ifndef LINEAR_MATRIX_STATE_GLSL
#define LINEAR_MATRIX_STATE_GLSL

const uint WORK_PITCH = PITCH;

#include "linear_matrix_state_fragments.glsl"

/// Eight numbers into the arena as f16, and behind the row's what these lack.
void putEight(uint place, vec4 low, vec4 high) {
  splitEight(low, high, arena[place], arena[place + COLUMN_UNITS]);
}

/// The fragments of a round into this subgroup's work rows as f16, and behind them what that lacks.
void publishState(uint round, float scale) {
  if (!hasStateRow(round)) { return; }
  exposeState(round);
  vec4 low[UNITS_PER_LANE];
  vec4 high[UNITS_PER_LANE];
  UNROLL for (uint u = 0; u < UNITS_PER_LANE; ++u) {
    const uint i = min(u * SUBGROUP_SIZE + lane, FRAGMENT_M * COLUMN_UNITS - 1);
    const uint place = workBase + i / COLUMN_UNITS * PITCH + i % COLUMN_UNITS * 2;
    low[u] = uintBitsToFloat(arena[place]) * scale;
    high[u] = uintBitsToFloat(arena[place + 1]) * scale;
  }
  SUBGROUP_SYNC();
  UNROLL for (uint u = 0; u < UNITS_PER_LANE; ++u) {
    const uint i = min(u * SUBGROUP_SIZE + lane, FRAGMENT_M * COLUMN_UNITS - 1);
    putEight(workBase + i / COLUMN_UNITS * PITCH + i % COLUMN_UNITS, low[u], high[u]);
  }
}

/// A fragment of columns in the arena, and the one of what that lacks.
void loadColumns(out MatrixB columns[2], uint place, const uint parts) {
  UNROLL for (uint i = 0; i < parts; ++i) {
    coopMatLoad(columns[i], arena, place + i * COLUMN_UNITS, PITCH, ROW_MAJOR);
  }
}

/// A fragment of rows in the record, and the one `distance` numbers behind it.
void loadRows(out MatrixA rowsOf[2], uint place, uint distance, uint pitch, const uint parts) {
  UNROLL for (uint i = 0; i < parts; ++i) {
    coopMatLoad(rowsOf[i], Halves(record).numbers, place + i * distance, pitch, ROW_MAJOR);
  }
}

/// state <- F state + K~^T X, `exponent` that of the products.
void updateState(int exponent) {
  UNROLL for (uint round = 0; round < ROUNDS; ++round) {
    if (hasStateRow(round)) {
      Accumulator factors;
      // Stride 0: every column is the same column of factors.
      coopMatLoad(
        factors, Floats(record).numbers, (round * SUBGROUPS + subgroup) * FRAGMENT_M, 0, COLUMN_MAJOR);
      UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
        const uint f = round * E_FRAGMENTS + n;
        UNROLL for (uint i = 0; i < factors.length(); ++i) {
          // 0 * infinity is NaN: a factor of 0 clears.
          state[f][i] = factors[i] == 0.0 ? 0.0 : state[f][i] * factors[i] * powerOfTwo(exponent);
        }
      }
    }
  }
  UNROLL for (uint step = 0; step < ROW_STEPS; ++step) {
    const uint token = step * FRAGMENT_K;
    MatrixA channels[2 * ROUNDS];
    UNROLL for (uint i = 0; i < 2 * ROUNDS; ++i) {
      const uint fragment = hasStateRow(i / 2) ? i / 2 * SUBGROUPS + subgroup : 0;
      const uint place = AT_K + i % 2 * TILE + token * K_PADDED + fragment * FRAGMENT_M;
      coopMatLoad(channels[i], Halves(record).numbers, place, K_PADDED, COLUMN_MAJOR);
    }
    UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
      MatrixB columns[2];
      loadColumns(columns, X_BASE + token * PITCH + n * (FRAGMENT_N / 8), 2);
      UNROLL for (uint round = 0; round < ROUNDS; ++round) {
        const uint f = round * E_FRAGMENTS + n;
        UNROLL for (uint product = 0; product < 3; ++product) {
          state[f] = coopMatMulAdd(channels[2 * round + product % 2], columns[product / 2], state[f]);
        }
      }
    }
  }
  UNROLL for (uint f = 0; f < ROUNDS * E_FRAGMENTS; ++f) { state[f] = state[f] * powerOfTwo(-exponent); }
}

#endif
