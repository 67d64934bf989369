#version 460
// The chunked form of linear attention on the matrix units (VK_KHR_cooperative_matrix), second step: walks the blocks
// of linear_matrix_prepare.comp with the state in fragments. linear_matrix.comp does states that decay as a whole in
// one step.
//
// @spirv-opt off
// @variant linear_matrix_walk
// @variant linear_matrix_walk_software SOFTWARE
//
//   each workgroup: one sequence and head, COLUMNS columns of the state; S -> fragments, f32, in registers
//     for each block of C rows:
//       for C channels of S at a time:
//         S 2^s as two f16 -> shared;                                                         workgroup barrier
//         change += W S (delta rule), result += Q~ S (fragments; W and Q~ from the record);   workgroup barrier
//       lanes: X = U - change, or w . v;  its greatest number;                                workgroup barrier
//              X 2^x as two f16 -> shared;                                                    workgroup barrier
//       o = result + A X (fragments; A from the record)
//       S = F S + K~^T X (fragments; K~ from the record)                                      workgroup barrier
//
// (Papers: linear_matrix_prepare.comp.) Every fragment of the record is loaded by one subgroup of a workgroup, straight
// from memory; what subgroups share, S and X, goes through shared memory.
//
// What is rounded. The state stays in f32 from the first block to the last; S, X, W and K~ go as two f16, 22 bits
// together, in three products. Q~, A, and the S and X that they multiply, are rounded to f16 once where o has 16 bits,
// after powers of two have brought them to the top of f16's range. Errors against Double, RMS(error) / RMS(reference),
// K = 24, V = 40, T = 1 to 300, ten models, 8x8x8 and 16x16x16: o in f16 2.0e-4 to 4.9e-4, with the delta rule without
// decays to 5.5e-4 (rounding the exact o alone gives 2.1e-4), o in f32 at most 1.7e-7, o in bf16 1.7e-3 to 1.8e-3, the
// final state at most 3.2e-7.
//
// Missing and spoilt data. inf and NaN in X would meet zeros of A above the diagonal, and 0 * NaN is NaN: they are
// taken out as X is staged and noted by row and column. Rows whose record says that they see one become NaN there, and
// so does the column of the state. A state that is not finite spoils its column of the rows that read it.
//
// Workgroup: C / M subgroups of SUBGROUP_SIZE, full. Grid: x = tiles of COLUMNS columns, y = value head, z = sequence *
// parts + part. Parts of a sequence side by side, for few sequences and heads: without the delta rule only, where what
// a part does to the state is a factor for each row (linear_matrix_scan.comp). Specialization constants:
// linear_matrix_records.glsl. Seen with 8x8x8 and 16x16x16, subgroups of 8 lanes.
//
// Shared memory, bytes: 32 C (E/4 + 1) + 8 E + 24, E = COLUMNS          C = E = 64: 35,352   C = 64, E = 32: 18,712
// Registers per lane, 32 bit, beside about 50 of addresses, R = ceil(K' / C):
//   M E (R + 2) / SUBGROUP_SIZE  state, change, result  + (M K R + N K) / SUBGROUP_SIZE  operands
//   K = 128, E = 64, 32 lanes: 128 + 24 = 152; K = 256, E = 32: 96 + 40 = 136; K = 512, E = 16: 80 + 72 = 152
//
// Counts for one block and tile, C = 64, K = 128, E = 64, o in f16, thousands of multiply-adds: W S 1573, Q~ S 524, A X
// 164, K~^T X 1573: 3834; without the delta rule 2261. Bytes of shared memory, thousands: fragments 217 (S 131, X 86),
// staging 176 (S 96, X 48, o 32). What both kernels take together, and the floors: linear_matrix_prepare.comp. Shared
// memory would take 0.41 ns for a token and head of V = 128 where memory takes 1.6.
//
// No speed was measured on a GPU. Not taken: X = T (v - E~ S) here, an eighth fewer bytes in memory, but two products
// after one another in the walk, and no other block to hide them behind.
//
#extension GL_GOOGLE_include_directive : require

#include "linear_matrix_fragments.glsl"

// --- Derived sizes ---------------------------------------------------------------------------------------

const uint D_STEPS = K_PADDED / FRAGMENT_K;
const uint E_FRAGMENTS = COLUMNS / FRAGMENT_N;
const uint ROW_STEPS = BLOCK_ROWS / FRAGMENT_K;  // of A X and of K~^T X

// The state's rows of fragments go round the subgroups, so that BLOCK_ROWS channels are published at a time.
const uint STATE_FRAGMENTS = K_PADDED / FRAGMENT_M;
const uint ROUNDS = (STATE_FRAGMENTS + SUBGROUPS - 1) / SUBGROUPS;
const uint STEPS_PER_ROUND = BLOCK_ROWS / FRAGMENT_K;
const bool ALL_HAVE_STATE = STATE_FRAGMENTS % SUBGROUPS == 0;

// Shared memory is addressed in units of 16 bytes: 8 f16 or 4 f32. A row is COLUMNS f32, or two rows of f16; one unit
// of padding spreads the rows of a fragment over all memory banks.
const uint COLUMN_UNITS = COLUMNS / 8;
const uint PITCH = 2 * COLUMN_UNITS + 1;
const uint X_BASE = 0;
const uint WORK_BASE = BLOCK_ROWS * PITCH;
const uint ARENA_UNITS = 2 * BLOCK_ROWS * PITCH;
const uint READ_PRODUCTS = IS_SPLIT ? 3 : 1;
const uint UNITS_PER_LANE = (FRAGMENT_M * COLUMN_UNITS + SUBGROUP_SIZE - 1) / SUBGROUP_SIZE;

layout(buffer_reference, scalar, buffer_reference_align = 16) readonly buffer Halves { float16_t numbers[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) readonly buffer Floats { float numbers[]; };

shared uvec4 arena[ARENA_UNITS];
shared uint stateMaximum[2];  // of the block with this parity, as bits
shared uint changeMaximum[2];
shared uint badRows[2 * COLUMNS];  // of each column: the rows of X that are not finite there
shared uint hasBad[2];

uint workBase, changeBase;  // of this subgroup's rows in the arena
uint firstColumn;
uint firstRow;  // of the block, in this dispatch
uint rows;      // of the block that are there
uint lastRow;   // of the dispatch
Walk values, writeGates, outputs, outputGates, denominators;
bool valuesAligned, writeGatesAligned, outputsAligned, outputGatesAligned;

int recordPower(const uint power) {
  return int(WordReference(record + (AT_POWERS + power) * 4).value);
}

#include "linear_matrix_state.glsl"

// --- One block -------------------------------------------------------------------------------------------

Accumulator change[E_FRAGMENTS];  // W S, then A X
Accumulator result[E_FRAGMENTS];  // Q~ S

/// Adds the products of the channels of the state that are published.
void readState(uint round) {
  const uint row = subgroup * FRAGMENT_M;
  UNROLL for (uint step = 0; step < STEPS_PER_ROUND; ++step) {
    const uint own = round * STEPS_PER_ROUND + step;
    if (own < D_STEPS) {
      MatrixA erased[2], queries[2];
      if (IS_DELTA) {
        loadRows(erased, AT_SOLVED + row * SOLVED_PITCH + own * FRAGMENT_K, SOLVED, SOLVED_PITCH, 2);
      }
      if (READS) { loadRows(queries, AT_Q + row * K_PADDED + own * FRAGMENT_K, TILE, K_PADDED, READ_SHARES); }
      UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
        MatrixB columns[2];
        loadColumns(
          columns, WORK_BASE + step * FRAGMENT_K * PITCH + n * (FRAGMENT_N / 8), IS_DELTA ? 2 : READ_SHARES);
        UNROLL for (uint product = 0; product < (IS_DELTA ? 3 : 0); ++product) {
          change[n] = coopMatMulAdd(erased[product % 2], columns[product / 2], change[n]);
        }
        UNROLL for (uint product = 0; product < (READS ? READ_PRODUCTS : 0); ++product) {
          result[n] = coopMatMulAdd(queries[product % 2], columns[product / 2], result[n]);
        }
      }
    }
  }
}

uint sourceOf(uint r) { return min(firstRow + r, lastRow); }

/// Eight columns of what a row writes where the system has not been solved: there is none.
void loadWritten(uint r, uint channel, out vec4 low, out vec4 high) {
  low = high = vec4(0.0);
  if (r >= rows || channel >= VALUE_CHANNELS) { return; }
  if (HAS(OPTION_ONES)) {
    low.x = channel == 0 ? 1.0 : 0.0;
    return;
  }
  const bool isWhole = channel + 4 < VALUE_CHANNELS;
  const uint64_t row = values.at + sourceOf(r) * values.step;
  low = loadChannels4(VALUE_TYPE, valuesAligned, row, channel, VALUE_CHANNELS);
  if (isWhole) { high = loadChannels4(VALUE_TYPE, valuesAligned, row, channel + 4, VALUE_CHANNELS); }
  if (HAS(OPTION_WRITE_GATES)) {
    const uint64_t gates = writeGates.at + sourceOf(r) * writeGates.step;
    low *= loadChannels4(GATE_TYPE, writeGatesAligned, gates, channel, VALUE_CHANNELS);
    if (isWhole) { high *= loadChannels4(GATE_TYPE, writeGatesAligned, gates, channel + 4, VALUE_CHANNELS); }
  }
}

vec4 halvesOf(uvec2 words) {
  return vec4(unpackHalf2x16(words.x), unpackHalf2x16(words.y));
}

/// Takes what is not finite out of X: a row of products would get it from rows behind it, since 0 * NaN is NaN.
vec4 withoutBad(vec4 numbers, uint r, uint column, uint parity) {
  [[unroll]] for (uint x = 0; x < 4; ++x) {
    if (!(abs(numbers[x]) < INFINITY)) {
      numbers[x] = 0;
      atomicOr(badRows[2 * (column + x) + r / 32], 1u << (r % 32));
      atomicOr(hasBad[parity], 1u);
    }
  }
  return numbers;
}

/// X into the arena as two f16. `heldScale` undoes the powers of the product with the state. Has workgroup barriers.
/// Gives X's power.
int putChanges(vec2 heldScale, uint parity) {
  if (IS_DELTA) {
    UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
      coopMatStore(change[n], arena, changeBase + n * (FRAGMENT_N / 4), PITCH, ROW_MAJOR);
    }
    SUBGROUP_SYNC();
  }
  vec4 low[UNITS_PER_LANE];
  vec4 high[UNITS_PER_LANE];
  float greatest = 0;
  UNROLL for (uint u = 0; u < UNITS_PER_LANE; ++u) {
    const uint i = min(u * SUBGROUP_SIZE + lane, FRAGMENT_M * COLUMN_UNITS - 1);
    const uint r = subgroup * FRAGMENT_M + i / COLUMN_UNITS;
    const uint column = i % COLUMN_UNITS * 8;
    if (IS_DELTA) {
      const uint64_t address = record + (AT_SOLVED + r * SOLVED_PITCH + K_PADDED + firstColumn + column) * 2;
      const uvec4 words = WordQuadReference(address).value;
      const uvec4 rest = WordQuadReference(address + SOLVED * 2).value;
      const float scale = powerOfTwo(-recordPower(POWER_U));
      const uint place = changeBase + i / COLUMN_UNITS * PITCH + i % COLUMN_UNITS * 2;
      low[u] = (halvesOf(words.xy) + halvesOf(rest.xy)) * scale
        - uintBitsToFloat(arena[place]) * heldScale.x * heldScale.y;
      high[u] = (halvesOf(words.zw) + halvesOf(rest.zw)) * scale
        - uintBitsToFloat(arena[place + 1]) * heldScale.x * heldScale.y;
      // The state may be spoilt where no row is.
      if (r >= rows) { low[u] = high[u] = vec4(0.0); }
    } else {
      loadWritten(r, firstColumn + column, low[u], high[u]);
    }
    low[u] = withoutBad(low[u], r, column, parity);
    high[u] = withoutBad(high[u], r, column + 4, parity);
    greatest = greatestFinite(high[u], greatestFinite(low[u], greatest));
  }
  greatest = subgroupMax(greatest);
  if (lane == 0) { atomicMax(changeMaximum[parity], floatBitsToUint(greatest)); }
  barrier();
  const int exponent = exponentFor(changeMaximum[parity], STATE_LIMIT);
  const float scale = powerOfTwo(exponent);
  UNROLL for (uint u = 0; u < UNITS_PER_LANE; ++u) {
    const uint i = min(u * SUBGROUP_SIZE + lane, FRAGMENT_M * COLUMN_UNITS - 1);
    putEight(changeBase + i / COLUMN_UNITS * PITCH + i % COLUMN_UNITS, low[u] * scale, high[u] * scale);
  }
  barrier();
  return exponent;
}

/// result <- result + A X; the scales undo the powers of both products.
void addChanges(vec2 readScale, vec2 changeScale) {
  UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) { result[n] = result[n] * readScale.x * readScale.y; }
  if (!UPDATES_STATE) { return; }
  UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) { change[n] = Accumulator(0.0); }
  UNROLL for (uint step = 0; step < ROW_STEPS; ++step) {
    const uint token = step * FRAGMENT_K;
    if (token < (subgroup + 1) * FRAGMENT_M) {
      MatrixA weights[2];
      loadRows(weights, AT_A + subgroup * FRAGMENT_M * BLOCK_ROWS + token, SQUARE, BLOCK_ROWS, READ_SHARES);
      UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
        MatrixB columns[2];
        loadColumns(columns, X_BASE + token * PITCH + n * (FRAGMENT_N / 8), READ_SHARES);
        UNROLL for (uint product = 0; product < READ_PRODUCTS; ++product) {
          change[n] = coopMatMulAdd(weights[product % 2], columns[product / 2], change[n]);
        }
      }
    }
  }
  UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) { result[n] = result[n] + change[n] * changeScale.x * changeScale.y; }
}

vec4 finishOutputs(vec4 numbers, uint token, uint column, uint channel, uvec2 seen, float denominator) {
  vec4 own = vec4(0.0);
  vec4 gate = vec4(0.0);
  if (HAS(OPTION_SKIP)) {
    own = loadChannels4(
      VALUE_TYPE, valuesAligned, values.at + token * values.step, min(channel, VALUE_CHANNELS), VALUE_CHANNELS);
  }
  if (HAS(OPTION_OUTPUT_GATE)) {
    gate = loadChannels4(
      VALUE_TYPE, outputGatesAligned, outputGates.at + token * outputGates.step, channel, VALUE_CHANNELS);
  }
  [[unroll]] for (uint x = 0; x < 4; ++x) {
    if (seen != uvec2(0) && (seen & uvec2(badRows[2 * (column + x)], badRows[2 * (column + x) + 1])) != uvec2(0)) {
      numbers[x] = NOT_A_NUMBER;
    }
    numbers[x] = finishOutput(numbers[x], own[x], gate[x], denominator);
  }
  return numbers;
}

void storeResults(uint parity) {
  UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
    coopMatStore(result[n], arena, workBase + n * (FRAGMENT_N / 4), PITCH, ROW_MAJOR);
  }
  SUBGROUP_SYNC();
  for (uint i = lane; i < FRAGMENT_M * COLUMN_UNITS; i += SUBGROUP_SIZE) {
    const uint r = subgroup * FRAGMENT_M + i / COLUMN_UNITS;
    const uint column = i % COLUMN_UNITS * 8;
    const uint channel = firstColumn + column;
    const uint source = firstRow + r;
    if (r < rows && channel < VALUE_CHANNELS && source % ROWS_PER_TOKEN == ROWS_PER_TOKEN - 1) {
      const uint place = workBase + i / COLUMN_UNITS * PITCH + i % COLUMN_UNITS * 2;
      const uint token = source / ROWS_PER_TOKEN;
      uvec2 seen = uvec2(0);
      if (UPDATES_STATE && hasBad[parity] != 0) {
        seen = WordPairReference(record + (AT_SEEN + r * 2) * 4).value;
      }
      const float denominator =
        HAS(OPTION_DIVIDE) ? FloatReference(denominators.at + token * denominators.step).value : 1.0;
      const vec4 low = finishOutputs(uintBitsToFloat(arena[place]), token, column, channel, seen, denominator);
      const vec4 high =
        finishOutputs(uintBitsToFloat(arena[place + 1]), token, column + 4, channel + 4, seen, denominator);
      const uint64_t address = outputs.at + token * outputs.step;
      if (outputsAligned && OUTPUT_TYPE != ELEMENT_F32) {
        WordQuadReference(address + channel * 2).value = uvec4(
          packElements(OUTPUT_TYPE, low.xy), packElements(OUTPUT_TYPE, low.zw),
          packElements(OUTPUT_TYPE, high.xy), packElements(OUTPUT_TYPE, high.zw));
      } else {
        storeChannels4(OUTPUT_TYPE, outputsAligned, address, channel, VALUE_CHANNELS, low);
        storeChannels4(OUTPUT_TYPE, outputsAligned, address, channel + 4, VALUE_CHANNELS, high);
      }
    }
  }
  SUBGROUP_SYNC();
}

/// The state takes what was left out of X: a NaN in each column that had something. Has workgroup barriers.
void putBad() {
  barrier();
  for (uint column = gl_LocalInvocationIndex; column < COLUMNS; column += gl_WorkGroupSize.x) {
    const uint low = badRows[2 * column];
    const uint high = badRows[2 * column + 1];
    if ((low | high) != 0) {
      const uint r = low != 0 ? findLSB(low) : 32 + findLSB(high);
      const uint place = X_BASE + r * PITCH + column / 8;
      const uint shift = column % 2 * 16;
      atomicOr(arena[place][column % 8 / 2], 0x7e00u << shift);
      badRows[2 * column] = 0;
      badRows[2 * column + 1] = 0;
    }
  }
  barrier();
}

/// Whether rows of value channels can be loaded 16 bytes at a time.
bool isAligned(Walk walk) {
  return VALUE_CHANNELS % 8 == 0 && ((uint(walk.at) | uint(walk.step)) & 15u) == 0;
}

void openWalks() {
  const bool writes = UPDATES_STATE && !IS_DELTA;
  const uint update = tokenBegin * UPDATES;
  values = openSharedWalk(
    (writes || HAS(OPTION_SKIP)) && !HAS(OPTION_ONES), SLOT_V, VALUE_TYPE, update, UPDATES, head);
  writeGates = openSharedWalk(writes && HAS(OPTION_WRITE_GATES), SLOT_WRITE_GATES, GATE_TYPE, update, UPDATES, head);
  outputs = openSharedWalk(READS, SLOT_O, OUTPUT_TYPE, tokenBegin, 1, head);
  outputGates = openSharedWalk(HAS(OPTION_OUTPUT_GATE), SLOT_OUTPUT_GATE, VALUE_TYPE, tokenBegin, 1, head);
  denominators = openSharedWalk(HAS(OPTION_DIVIDE), SLOT_DENOMINATORS, ELEMENT_F32, tokenBegin, 1, head);
  valuesAligned = isAligned(values);
  writeGatesAligned = isAligned(writeGates);
  outputsAligned = isAligned(outputs);
  outputGatesAligned = isAligned(outputGates);
}

void walkBlock(uint parity) {
  const int stateExponent = exponentFor(stateMaximum[parity], 100);
  if (READS || IS_DELTA) {
    UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
      change[n] = Accumulator(0.0);
      result[n] = Accumulator(0.0);
    }
    UNROLL for (uint round = 0; round < ROUNDS; ++round) {
      publishState(round, powerOfTwo(stateExponent));
      barrier();
      readState(round);
      barrier();
    }
  }
  if (gl_LocalInvocationIndex == 0) {
    stateMaximum[parity ^ 1] = 0;
    changeMaximum[parity ^ 1] = 0;
    hasBad[parity ^ 1] = 0;
  }
  int exponent = 0;
  if (UPDATES_STATE) {
    const int held = IS_DELTA ? recordPower(POWER_W) : 0;
    exponent = putChanges(vec2(powerOfTwo(-held), powerOfTwo(-stateExponent)), parity);
  }
  if (READS) {
    addChanges(
      vec2(powerOfTwo(-recordPower(POWER_Q)), powerOfTwo(-stateExponent)),
      vec2(UPDATES_STATE ? powerOfTwo(-recordPower(POWER_A)) : 1.0, powerOfTwo(-exponent)));
    storeResults(parity);
  }
  if (UPDATES_STATE) {
    if (hasBad[parity] != 0) { putBad(); }
    updateState(recordPower(POWER_K) + exponent);
  } else {
    barrier();
  }
  findStateMaximum(parity ^ 1);
  barrier();
}

void main() {
  lane = gl_SubgroupInvocationID;
  subgroup = gl_SubgroupID;
  workBase = WORK_BASE + subgroup * FRAGMENT_M * PITCH;
  changeBase = X_BASE + subgroup * FRAGMENT_M * PITCH;
  firstColumn = (gl_WorkGroupID.x + p.firstTile) * COLUMNS;
  const uint part = gl_WorkGroupID.z % p.parts;
  const uint sequenceOfDispatch = gl_WorkGroupID.z / p.parts;
  openSequence(sequenceOfDispatch + p.firstSequence, gl_WorkGroupID.y + p.firstHead);
  openWalks();
  const bool isAlone = p.parts == 1;
  const uint64_t partState = BLOCK.tensors[SLOT_PARTS].address
    + ((uint64_t(sequenceOfDispatch) * gl_NumWorkGroups.y + gl_WorkGroupID.y) * p.parts + part)
    * (KEY_CHANNELS * VALUE_CHANNELS * 4);
  const uint64_t carry = stateAddress(SLOT_CARRY);
  bool isThere = READS;
  const uint64_t before =
    isAlone ? stateBefore(carry, stateAddress(SLOT_INITIAL_STATE), isThere) : partState;
  loadState(before, isThere);
  for (uint i = gl_LocalInvocationIndex; i < 2 * COLUMNS; i += gl_WorkGroupSize.x) {
    badRows[i] = 0;
    if (i < 2) {
      stateMaximum[i] = 0;
      changeMaximum[i] = 0;
      hasBad[i] = 0;
    }
  }
  barrier();
  findStateMaximum(0);
  barrier();

  const uint count = rowCount();
  lastRow = max(count, 1) - 1;
  uint block = part * p.blocksPerPart;
  const uint blockEnd = min(block + p.blocksPerPart, (count + BLOCK_ROWS - 1) / BLOCK_ROWS);
  record = recordAddress(sequenceOfDispatch, gl_WorkGroupID.y, block);
  uint parity = 0;
  if (block < blockEnd) {
    for (;;) {
      firstRow = block * BLOCK_ROWS;
      rows = min(BLOCK_ROWS, count - firstRow);
      walkBlock(parity);
      parity ^= 1;
      block++;
      if (block >= blockEnd) { break; }
      record += RECORD_BYTES;
    }
  }

  uint64_t first = 0ul;
  uint64_t second = 0ul;
  if (isAlone) {
    if ((p.flags & FLAG_TO_CARRY) != 0) { first = carry; }
    if ((p.flags & FLAG_STORES) != 0) { second = stateAddress(SLOT_FINAL_STATE); }
  } else if (!READS) {
    first = partState;
  }
  storeStates(first, second);
}
