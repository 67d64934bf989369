#version 460

// Linear attention and its gated kin, a block of C rows at a time, from what linear_prepare.comp made of q, k and
// the gates (linear_records.glsl):
//
//   X = V - E~ S - B X            delta rule, row after row; else X = V
//   O = Q~ S + A X
//   S <- F S + K~^T X
//
// An invocation keeps COLUMNS columns of the state in registers and walks the blocks of its part of the sequence:
// what belongs to rows and key channels is read at addresses that are the same for all invocations, v and o one
// element per column. Every element of the state is loaded and stored once for 2 C products (3 C with the delta
// rule), of which 2 K V per row are those that the recurrence itself has; the blocks' squares add C (K + V) / V.
// Decays of value channels are numbers of an invocation and are applied here.
//
// Parts of a sequence that run side by side (few sequences and heads) need the states at their starts: the first
// dispatch computes what each part adds (OPTION_NO_OUTPUT), linear_scan.comp sums up, the second one starts there.
//
// With decays of value channels a block is a single portion.
//
// A tile is workgroup * COLUMNS columns; the grid is in linear_blocks.glsl.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require

#include "linear_blocks.glsl"

layout(constant_id = 11) const uint COLUMNS = 1;

// Rows that one pass over the state takes; a block is some such portions. The passes are loops over the portions, so
// that the code of each fits the processor's caches of instructions.
const uint PORTION = 4;
const uint PORTIONS = BLOCK_ROWS / PORTION;

// Every index is a constant after unrolling, so that these are registers or the stack of one lane.
float s[QUADS * 4][COLUMNS];
float y[BLOCK_ROWS][COLUMNS];    // what the rows add to the state
float own[BLOCK_ROWS][COLUMNS];  // v
uint column[COLUMNS];
bool isStored[COLUMNS];

/// The rows of one area of the record, times the state: two sums of each, so that additions do not wait for each
/// other.
void multiplyState(uint64_t record, const uint area, uint portion, out float product[PORTION][COLUMNS]) {
  float sums[2][PORTION][COLUMNS];
  [[unroll]] for (uint i = 0; i < PORTION; i++) {
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) { sums[0][i][c] = sums[1][i][c] = 0; }
  }
  const uint64_t rows = record + portion * (QUADS * PORTION * 16);
  [[unroll]] for (uint d = 0; d < QUADS; d++) {
    [[unroll]] for (uint i = 0; i < PORTION; i++) {
      const vec4 row = recordQuad(rows, area + (d * PORTION + i) * 4);
      [[unroll]] for (uint x = 0; x < 4; x++) {
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
          sums[x % 2][i][c] = fma(row[x], s[d * 4 + x][c], sums[x % 2][i][c]);
        }
      }
    }
  }
  [[unroll]] for (uint i = 0; i < PORTION; i++) {
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) { product[i][c] = sums[0][i][c] + sums[1][i][c]; }
  }
}

/// How much of row j is in row i.
float recordSquare(uint64_t record, const uint area, const uint j, const uint i) {
  return FloatReference(record + (area + j * BLOCK_ROWS + i) * 4).value;
}

/// s <- s + K~^T y for the rows of a portion.
void updateState(uint64_t record, uint portion, const float change[PORTION][COLUMNS]) {
  const uint64_t rows = record + portion * (QUADS * PORTION * 16);
  [[unroll]] for (uint d = 0; d < QUADS; d++) {
    [[unroll]] for (uint j = 0; j < PORTION; j++) {
      const vec4 key = recordQuad(rows, AT_K + (d * PORTION + j) * 4);
      [[unroll]] for (uint x = 0; x < 4; x++) {
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
          s[d * 4 + x][c] = fma(key[x], change[j][c], s[d * 4 + x][c]);
        }
      }
    }
  }
}

/// s <- F s
void decayState(uint64_t record, const float columnFactor[COLUMNS]) {
  if (!ROW_FACTORS && !HAS(OPTION_VALUE_DECAY)) { return; }
  const float blockFactor = ROW_FACTORS && !KEY_FACTORS ? FloatReference(record).value : 1.0;
  [[unroll]] for (uint d = 0; d < QUADS; d++) {
    const vec4 factor = KEY_FACTORS ? recordQuad(record, d * 4) : vec4(blockFactor);
    [[unroll]] for (uint x = 0; x < 4; x++) {
      [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
        if (ROW_FACTORS) { s[d * 4 + x][c] *= factor[x]; }
        if (HAS(OPTION_VALUE_DECAY)) { s[d * 4 + x][c] *= columnFactor[c]; }
      }
    }
  }
}

/// Four numbers of y for a portion that is known at run time only.
void choosePortion(const float rows[BLOCK_ROWS][COLUMNS], uint portion, out float chosen[PORTION][COLUMNS]) {
  [[unroll]] for (uint i = 0; i < PORTION; i++) {
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
      chosen[i][c] = rows[i][c];
      [[unroll]] for (uint b = 1; b < PORTIONS; b++) {
        chosen[i][c] = portion == b ? rows[b * PORTION + i][c] : chosen[i][c];
      }
    }
  }
}

void loadState(uint64_t address, bool isThere) {
  [[unroll]] for (uint d = 0; d < QUADS * 4; d++) {
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) { s[d][c] = 0; }
  }
  // A load at an address that all invocations share is executed by the software driver even where none of them is
  // there to load, so that it must be one that can be read.
  const uint64_t base = isThere ? address : p.block;
  const uint rowBytes = isThere ? VALUE_CHANNELS * 4 : 0;
  if (isThere) {
    [[unroll]] for (uint d = 0; d < KEY_CHANNELS; d++) {
      [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
        s[d][c] = FloatReference(base + d * rowBytes + column[c] * 4).value;
      }
    }
  }
}

void storeState(uint64_t address) {
  [[unroll]] for (uint d = 0; d < KEY_CHANNELS; d++) {
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
      if (isStored[c]) { FloatReference(address + (d * VALUE_CHANNELS + column[c]) * 4).value = s[d][c]; }
    }
  }
}

void main() {
  [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
    const uint own =
      ((gl_WorkGroupID.x + p.firstTile) * COLUMNS + c) * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
    column[c] = min(own, VALUE_CHANNELS - 1);
    isStored[c] = own < VALUE_CHANNELS;
  }
  bool hasState;
  const uint64_t start = openPart(hasState);
  loadState(start, hasState);
  BlockWalk walk = openBlocks();

  if (walk.block < walk.blockEnd) {
    for (;;) {
      const uint here = walk.block * BLOCK_ROWS;  // the block's first row in this dispatch
      [[unroll]] for (uint i = 0; i < BLOCK_ROWS; i++) {
        const bool isThere = here + i < walk.rows;
        const uint row = min(here + i, walk.lastRow);
        const uint step = updateOf(row) - updateOf(walk.firstRow);
        const bool isLowRank = HAS(OPTION_LOW_RANK) && row % ROWS_PER_TOKEN == 0;
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
          own[i][c] = 1;
          if (!HAS(OPTION_ONES)) {
            own[i][c] = loadColumn(VALUE_TYPE, walk.v, step, column[c]);
          }
          y[i][c] = own[i][c];
          if (HAS(OPTION_WRITE_GATES)) {
            y[i][c] *= loadColumn(GATE_TYPE, walk.writeGates, step, column[c]);
          }
          // What is behind the last row may be NaN.
          if (!isThere || isLowRank) { y[i][c] = 0; }
        }
      }

      if (IS_DELTA && !HAS(OPTION_NO_UPDATE) && !HAS(OPTION_VALUE_DECAY)) {
        uint portion = 0;
        for (;;) {
          float held[PORTION][COLUMNS];
          multiplyState(walk.record, AT_E, portion, held);
          [[unroll]] for (uint i = 0; i < BLOCK_ROWS; i++) {
            [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
              y[i][c] = portion == i / PORTION ? y[i][c] - held[i % PORTION][c] : y[i][c];
            }
          }
          portion++;
          if (portion >= PORTIONS) { break; }
        }
        [[unroll]] for (uint i = 1; i < BLOCK_ROWS; i++) {
          [[unroll]] for (uint j = 0; j < i; j++) {
            const float weight = recordSquare(walk.record, AT_B, j, i);
            [[unroll]] for (uint c = 0; c < COLUMNS; c++) { y[i][c] = fma(-weight, y[j][c], y[i][c]); }
          }
        }
      }

      float columnFactor[COLUMNS];
      [[unroll]] for (uint c = 0; c < COLUMNS; c++) { columnFactor[c] = 1; }
      uint portion = 0;
      for (;;) {
        float o[PORTION][COLUMNS];
        if (!HAS(OPTION_NO_OUTPUT)) { multiplyState(walk.record, AT_Q, portion, o); }
        if (HAS(OPTION_VALUE_DECAY)) {
          // A block is one portion. Its decays are passed row by row: by what was read of the state, and by the
          // rows before.
          float held[PORTION][COLUMNS];
          if (IS_DELTA && !HAS(OPTION_NO_UPDATE)) { multiplyState(walk.record, AT_E, 0, held); }
          [[unroll]] for (uint i = 0; i < (HAS(OPTION_NO_UPDATE) ? 0 : PORTION); i++) {
            const uint row = min(here + i, walk.lastRow);
            const bool decays = here + i < walk.rows && row % ROWS_PER_TOKEN == 0;
            const uint step = row / ROWS_PER_TOKEN - walk.firstRow / ROWS_PER_TOKEN;
            [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
              const float given = decayFactor(loadColumn(GATE_TYPE, walk.valueDecay, step, column[c]));
              const float factor = decays ? given : 1.0;
              const float before = columnFactor[c];
              columnFactor[c] *= factor;
              if (!HAS(OPTION_NO_OUTPUT)) {
                o[i][c] *= HAS(OPTION_BEFORE) ? before : columnFactor[c];
                if (HAS(OPTION_BEFORE)) {
                  [[unroll]] for (uint j = 0; j < i; j++) {
                    o[i][c] = fma(recordSquare(walk.record, AT_A, j, i), y[j][c], o[i][c]);
                  }
                }
              }
              [[unroll]] for (uint j = 0; j < i; j++) { y[j][c] *= factor; }
              if (IS_DELTA) {
                y[i][c] = fma(-held[i][c], columnFactor[c], y[i][c]);
                [[unroll]] for (uint j = 0; j < i; j++) {
                  const float weight = recordSquare(walk.record, AT_B, j, i);
                  y[i][c] = fma(-weight, y[j][c], y[i][c]);
                }
              }
              if (!HAS(OPTION_NO_OUTPUT)) {
                [[unroll]] for (uint j = HAS(OPTION_BEFORE) ? i : 0; j <= i; j++) {
                  o[i][c] = fma(recordSquare(walk.record, AT_A, j, i), y[j][c], o[i][c]);
                }
              }
            }
          }
        } else if (!HAS(OPTION_NO_UPDATE) && !HAS(OPTION_NO_OUTPUT)) {
          const uint64_t weights = walk.record + (AT_A + portion * PORTION) * 4;
          // A later row has the weight 0, but may be NaN: it must not be looked at.
          [[unroll]] for (uint j = 0; j < BLOCK_ROWS - PORTION; j++) {
            const vec4 weight = recordQuad(weights, j * BLOCK_ROWS);
            [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
              const float earlier = portion > j / PORTION ? y[j][c] : 0.0;
              [[unroll]] for (uint i = 0; i < PORTION; i++) { o[i][c] = fma(weight[i], earlier, o[i][c]); }
            }
          }
          float change[PORTION][COLUMNS];
          choosePortion(y, portion, change);
          [[unroll]] for (uint j = 0; j < PORTION; j++) {
            const vec4 weight = recordQuad(weights + (portion * PORTION + j) * (BLOCK_ROWS * 4), 0);
            [[unroll]] for (uint i = j; i < PORTION; i++) {
              [[unroll]] for (uint c = 0; c < COLUMNS; c++) { o[i][c] = fma(weight[i], change[j][c], o[i][c]); }
            }
          }
        }

        if (!HAS(OPTION_NO_OUTPUT)) {
          float values[PORTION][COLUMNS];
          choosePortion(own, portion, values);
          [[unroll]] for (uint i = 0; i < PORTION; i++) {
            const uint place = here + portion * PORTION + i;
            const uint row = min(place, walk.lastRow);
            const bool isRead = place < walk.rows && row % ROWS_PER_TOKEN == ROWS_PER_TOKEN - 1;
            const uint step = row / ROWS_PER_TOKEN - walk.firstRow / ROWS_PER_TOKEN;
            const float denominator =
              HAS(OPTION_DIVIDE) ? FloatReference(walk.denominators.at + step * walk.denominators.step).value : 1.0;
            [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
              const float z = HAS(OPTION_OUTPUT_GATE)
                ? loadColumn(VALUE_TYPE, walk.gate, step, column[c]) : 0.0;
              const float result = finishOutput(o[i][c], values[i][c], z, denominator);
              if (isStored[c] && isRead) {
                storeElement(OUTPUT_TYPE, columnAddress(OUTPUT_TYPE, walk.outputs, step, column[c]), result);
              }
            }
          }
        }
        portion++;
        if (HAS(OPTION_NO_OUTPUT) || portion >= PORTIONS) { break; }
      }

      if (!HAS(OPTION_NO_UPDATE)) {
        decayState(walk.record, columnFactor);
        portion = 0;
        for (;;) {
          float change[PORTION][COLUMNS];
          choosePortion(y, portion, change);
          updateState(walk.record, portion, change);
          portion++;
          if (portion >= PORTIONS) { break; }
        }
      }
      walk.block++;
      if (walk.block >= walk.blockEnd) { break; }
      walk.record += RECORD_FLOATS * 4;
    }
  }

  if (p.parts != 1) {
    if (HAS(OPTION_NO_OUTPUT)) { storeState(partState); }
    return;
  }
  if ((p.flags & FLAG_TO_CARRY) != 0) { storeState(carry); }
  if ((p.flags & FLAG_STORES) != 0) {
    const uint64_t final = stateAddress(SLOT_FINAL_STATE);
    if (final != 0) { storeState(final); }
  }
}
