// Blocks of C rows (updates of the state) for the matrix units: what linear_matrix_prepare.comp leaves of each and
// linear_matrix_walk.comp reads. With S the state before the block,
//
//   X = U - W S        o = Q~ S + A X        S <- F S + K~^T X
//
//   F      [K']         f32: the product of the block's decays
//   powers [5]          int: the exponents of the powers of two by which Q~, K~, A, W, U are multiplied
//   seen   [C]          two words for each row: the rows that it sees, A not 0
//   Q~     [C,K']       q_i . (product of the decays up to i)
//   K~     [C,K']       beta_j k_j . (product of the decays after j)
//   A      [C,C]        q_i . (decays after j up to i) . beta_j k_j for j <= i, else 0
//   W|U    [C,K'+V']    (I + B)^-1 (E~ | v), B as in linear_records.glsl; delta rule only, else U is v itself
//
// K' and V' are rounded up to fragments and tiles, with zeros. Each matrix is f16, and behind it there is another with
// what f16 lacks, 22 bits together: always of K~ and W|U, which make the state; of Q~ and A where o is f32. Fragments
// are loaded straight from here, each by one subgroup.

#ifndef LINEAR_MATRIX_RECORDS_GLSL
#define LINEAR_MATRIX_RECORDS_GLSL

#extension GL_GOOGLE_include_directive : require

#include "linear_interface.glsl"

layout(constant_id = 10) const uint FRAGMENT_M = 16;
layout(constant_id = 11) const uint FRAGMENT_N = 16;
layout(constant_id = 12) const uint FRAGMENT_K = 16;
layout(constant_id = 13) const uint SUBGROUP_SIZE = 32;
layout(constant_id = 14) const uint COLUMNS = 64;
layout(constant_id = 15) const uint BLOCK_ROWS = 64;  // C, 32 or 64
layout(constant_id = 16) const bool IS_SPLIT = false;  // Q~ and A in two parts

// A low-rank change is an update of its own before that of k and v: its key is b, its value 0, and it erases -a.
const bool IS_DELTA = HAS(OPTION_DELTA | OPTION_LOW_RANK);
const uint ROWS_PER_TOKEN = HAS(OPTION_LOW_RANK) ? 2 : UPDATES;
const bool READS = !HAS(OPTION_NO_OUTPUT);
const bool UPDATES_STATE = !HAS(OPTION_NO_UPDATE);

const uint CHANNEL_STEP = 16;
const uint K_PADDED = (KEY_CHANNELS + CHANNEL_STEP - 1) / CHANNEL_STEP * CHANNEL_STEP;
const uint V_PADDED = (VALUE_CHANNELS + COLUMNS - 1) / COLUMNS * COLUMNS;
const uint SOLVED_PITCH = K_PADDED + V_PADDED;

// Numbers of f16.
const uint TILE = BLOCK_ROWS * K_PADDED;
const uint SQUARE = BLOCK_ROWS * BLOCK_ROWS;
const uint SOLVED = BLOCK_ROWS * SOLVED_PITCH;
const uint READ_SHARES = IS_SPLIT ? 2 : 1;
// Words, then numbers.
const uint AT_POWERS = K_PADDED;
const uint AT_SEEN = AT_POWERS + 8;
const uint AT_Q = (AT_SEEN + 2 * BLOCK_ROWS) * 2;
const uint AT_K = AT_Q + READ_SHARES * TILE;
const uint AT_A = AT_K + 2 * TILE;
const uint AT_SOLVED = AT_A + READ_SHARES * SQUARE;
// As LinearAttentionPlan counts it.
const uint RECORD_BYTES = (AT_SOLVED + (IS_DELTA ? 2 * SOLVED : 0)) * 2;

const uint POWER_Q = 0, POWER_K = 1, POWER_A = 2, POWER_W = 3, POWER_U = 4;

/// The record of a block, counted in this dispatch.
uint64_t recordAddress(uint sequenceOfDispatch, uint headOfDispatch, uint block) {
  const uint64_t index =
    (uint64_t(sequenceOfDispatch) * gl_NumWorkGroups.y + headOfDispatch) * (p.parts * p.blocksPerPart) + block;
  return sameForAll(BLOCK.tensors[SLOT_RECORDS].address) + index * RECORD_BYTES;
}

/// The update of k, v and beta that a row has. A low-rank change has none, and stands before its token's.
uint updateOf(uint row) {
  return HAS(OPTION_LOW_RANK) ? row / ROWS_PER_TOKEN : row;
}

/// Rows of this dispatch, after openSequence().
uint rowCount() {
  return (tokenEnd - tokenBegin) * ROWS_PER_TOKEN;
}

#endif
