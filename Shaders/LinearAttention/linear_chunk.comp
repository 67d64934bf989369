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
// Grid: x = tiles of workgroup * COLUMNS columns, y = value head, z = sequence * parts + part.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require

#include "linear_records.glsl"

layout(constant_id = 11) const uint COLUMNS = 1;

// Every index is a constant after unrolling, so that these are registers or the stack of one lane.
float s[QUADS * 4][COLUMNS];
float y[BLOCK_ROWS][COLUMNS];
float o[BLOCK_ROWS][COLUMNS];
float held[BLOCK_ROWS][COLUMNS];
uint column[COLUMNS];
bool isStored[COLUMNS];

/// s <- F s + K~^T y for channels 4 d ... 4 d + 3.
void updateQuad(uint64_t record, vec4 factor, const uint d, const float columnFactor[COLUMNS]) {
  [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
    [[unroll]] for (uint x = 0; x < 4; x++) {
      if (ROW_FACTORS) { s[d * 4 + x][c] *= factor[x]; }
      if (HAS(OPTION_VALUE_DECAY)) { s[d * 4 + x][c] *= columnFactor[c]; }
    }
  }
  [[unroll]] for (uint j = 0; j < BLOCK_ROWS; j++) {
    const vec4 key = recordQuad(record, AT_K + (d * BLOCK_ROWS + j) * 4);
    [[unroll]] for (uint x = 0; x < 4; x++) {
      [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
        s[d * 4 + x][c] = fma(key[x], y[j][c], s[d * 4 + x][c]);
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
  const uint part = gl_WorkGroupID.z % p.parts;
  const uint sequenceOfDispatch = gl_WorkGroupID.z / p.parts;
  openSequence(sequenceOfDispatch + p.firstSequence, gl_WorkGroupID.y + p.firstHead);

  const uint64_t partState = BLOCK.tensors[SLOT_PARTS].address
    + ((uint64_t(sequenceOfDispatch) * gl_NumWorkGroups.y + gl_WorkGroupID.y) * p.parts + part)
    * (KEY_CHANNELS * VALUE_CHANNELS * 4);
  const uint64_t carry = stateAddress(SLOT_CARRY);
  const uint64_t initial = stateAddress(SLOT_INITIAL_STATE);
  const bool fromCarry = (p.flags & FLAG_FROM_CARRY) != 0;
  const bool isAlone = p.parts == 1;
  if (isAlone) {
    loadState(
      fromCarry ? carry : initial, fromCarry || ((p.flags & FLAG_LOADS) != 0 && initial != 0));
  } else {
    loadState(partState, !HAS(OPTION_NO_OUTPUT));
  }

  const uint rows = rowCount();
  const uint lastRow = max(rows, 1) - 1;
  uint block = part * p.blocksPerPart;
  const uint blockEnd = min(block + p.blocksPerPart, (rows + BLOCK_ROWS - 1) / BLOCK_ROWS);
  const uint start = tokenBegin * UPDATES + min(block * BLOCK_ROWS, lastRow);
  Walk v = openSharedWalk(!HAS(OPTION_ONES), SLOT_V, VALUE_TYPE, start, UPDATES, head);
  Walk writeGates = openSharedWalk(HAS(OPTION_WRITE_GATES), SLOT_WRITE_GATES, GATE_TYPE, start, UPDATES, head);
  // Walks over tokens are advanced by rows only where a token is a row.
  const uint token = start / UPDATES;
  Walk outputs = openSharedWalk(!HAS(OPTION_NO_OUTPUT), SLOT_O, OUTPUT_TYPE, token, 1, head);
  Walk valueDecay = openSharedWalk(HAS(OPTION_VALUE_DECAY), SLOT_VALUE_DECAY, GATE_TYPE, token, 1, head);
  Walk gate = openSharedWalk(HAS(OPTION_OUTPUT_GATE), SLOT_OUTPUT_GATE, VALUE_TYPE, token, 1, head);
  Walk denominators = openSharedWalk(HAS(OPTION_DIVIDE), SLOT_DENOMINATORS, ELEMENT_F32, token, 1, head);
  const uint firstRow = min(block * BLOCK_ROWS, lastRow);
  uint64_t record = recordAddress(sequenceOfDispatch, gl_WorkGroupID.y, block);

  if (block < blockEnd) {
    for (;;) {
      const uint here = block * BLOCK_ROWS;  // the block's first row in this dispatch
      float own[BLOCK_ROWS][COLUMNS];
      [[unroll]] for (uint i = 0; i < BLOCK_ROWS; i++) {
        const bool isThere = here + i < rows;
        const uint step = min(here + i, lastRow) - firstRow;
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
          own[i][c] = 1;
          if (!HAS(OPTION_ONES)) {
            own[i][c] = loadElement(VALUE_TYPE, v.at + step * v.step + column[c] * elementBytes(VALUE_TYPE));
          }
          y[i][c] = own[i][c];
          if (HAS(OPTION_WRITE_GATES)) {
            y[i][c] *= loadElement(
              GATE_TYPE, writeGates.at + step * writeGates.step + column[c] * elementBytes(GATE_TYPE));
          }
          // What is behind the last row may be NaN.
          if (!isThere) { y[i][c] = 0; }
          o[i][c] = 0;
          held[i][c] = 0;
        }
      }

      float columnFactor[COLUMNS];
      [[unroll]] for (uint c = 0; c < COLUMNS; c++) { columnFactor[c] = 1; }
      float rowFactor[HAS(OPTION_VALUE_DECAY) ? BLOCK_ROWS : 1][COLUMNS];
      if (HAS(OPTION_VALUE_DECAY)) {
        [[unroll]] for (uint i = 0; i < BLOCK_ROWS; i++) {
          const uint row = min(here + i, lastRow);
          const bool decays = here + i < rows && row % UPDATES == 0;
          const uint step = row / UPDATES - firstRow / UPDATES;
          [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
            const float own = decayFactor(loadElement(
              GATE_TYPE, valueDecay.at + step * valueDecay.step + column[c] * elementBytes(GATE_TYPE)));
            rowFactor[i][c] = decays ? own : 1.0;
            columnFactor[c] *= rowFactor[i][c];
          }
        }
      }

      const float blockFactor = ROW_FACTORS && !KEY_FACTORS ? FloatReference(record).value : 1.0;
      [[unroll]] for (uint d = 0; d < QUADS; d++) {
        if (!HAS(OPTION_NO_OUTPUT)) {
          [[unroll]] for (uint i = 0; i < BLOCK_ROWS; i++) {
            const vec4 query = recordQuad(record, AT_Q + (d * BLOCK_ROWS + i) * 4);
            [[unroll]] for (uint x = 0; x < 4; x++) {
              [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
                o[i][c] = fma(query[x], s[d * 4 + x][c], o[i][c]);
              }
            }
          }
        }
        if (IS_DELTA) {
          [[unroll]] for (uint i = 0; i < BLOCK_ROWS; i++) {
            const vec4 erased = recordQuad(record, AT_E + (d * BLOCK_ROWS + i) * 4);
            [[unroll]] for (uint x = 0; x < 4; x++) {
              [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
                held[i][c] = fma(erased[x], s[d * 4 + x][c], held[i][c]);
              }
            }
          }
        } else if (!HAS(OPTION_NO_UPDATE) && !HAS(OPTION_VALUE_DECAY)) {
          updateQuad(record, KEY_FACTORS ? recordQuad(record, d * 4) : vec4(blockFactor), d, columnFactor);
        }
      }

      if (!HAS(OPTION_NO_UPDATE)) {
        // Decays of value channels are passed row by row: by what was read of the state, and by the rows before.
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
          float passed = 1;
          [[unroll]] for (uint i = 0; i < BLOCK_ROWS; i++) {
            if (HAS(OPTION_VALUE_DECAY)) {
              const float before = passed;
              passed *= rowFactor[i][c];
              o[i][c] *= HAS(OPTION_BEFORE) ? before : passed;
              held[i][c] *= passed;
              if (HAS(OPTION_BEFORE)) {
                [[unroll]] for (uint j = 0; j < i; j++) {
                  o[i][c] = fma(
                    FloatReference(record + (AT_A + j * BLOCK_ROWS + i) * 4).value, y[j][c], o[i][c]);
                }
              }
              [[unroll]] for (uint j = 0; j < i; j++) { y[j][c] *= rowFactor[i][c]; }
            }
            if (IS_DELTA) {
              [[unroll]] for (uint j = 0; j < i; j++) {
                held[i][c] =
                  fma(FloatReference(record + (AT_B + j * BLOCK_ROWS + i) * 4).value, y[j][c], held[i][c]);
              }
              y[i][c] -= held[i][c];
            }
            if (!HAS(OPTION_NO_OUTPUT)) {
              const uint first = HAS(OPTION_VALUE_DECAY) && HAS(OPTION_BEFORE) ? i : 0;
              [[unroll]] for (uint j = first; j <= i; j++) {
                o[i][c] =
                  fma(FloatReference(record + (AT_A + j * BLOCK_ROWS + i) * 4).value, y[j][c], o[i][c]);
              }
            }
          }
        }
        if (IS_DELTA || HAS(OPTION_VALUE_DECAY)) {
          [[unroll]] for (uint d = 0; d < QUADS; d++) {
            updateQuad(record, KEY_FACTORS ? recordQuad(record, d * 4) : vec4(blockFactor), d, columnFactor);
          }
        }
      }

      if (!HAS(OPTION_NO_OUTPUT)) {
        [[unroll]] for (uint i = 0; i < BLOCK_ROWS; i++) {
          const uint row = min(here + i, lastRow);
          const bool isRead = here + i < rows && row % UPDATES == UPDATES - 1;
          const uint step = row / UPDATES - firstRow / UPDATES;
          const float denominator =
            HAS(OPTION_DIVIDE) ? FloatReference(denominators.at + step * denominators.step).value : 1.0;
          [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
            const float z = HAS(OPTION_OUTPUT_GATE)
              ? loadElement(VALUE_TYPE, gate.at + step * gate.step + column[c] * elementBytes(VALUE_TYPE)) : 0.0;
            const float result = finishOutput(o[i][c], own[i][c], z, denominator);
            if (isStored[c] && isRead) {
              storeElement(
                OUTPUT_TYPE, outputs.at + step * outputs.step + column[c] * elementBytes(OUTPUT_TYPE), result);
            }
          }
        }
      }
      block++;
      if (block >= blockEnd) { break; }
      record += RECORD_FLOATS * 4;
    }
  }

  if (!isAlone) {
    if (HAS(OPTION_NO_OUTPUT)) { storeState(partState); }
    return;
  }
  if ((p.flags & FLAG_TO_CARRY) != 0) { storeState(carry); }
  if ((p.flags & FLAG_STORES) != 0) {
    const uint64_t final = stateAddress(SLOT_FINAL_STATE);
    if (final != 0) { storeState(final); }
  }
}
