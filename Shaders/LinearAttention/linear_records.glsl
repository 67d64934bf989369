// Blocks of C rows (updates of the state) and what linear_prepare.comp leaves for each of them, in f32:
//
//   F  [K]         the product of all decays of the block; [1] where key channels have no decays of their own
//   Q~ [C/4,K/4,4,4]   q_i . (product of the decays up to i)
//   K~ [C/4,K/4,4,4]   beta_j k_j . (product of the decays after j)
//   E~ [C/4,K/4,4,4]   e_i . (product of the decays up to i; before i for a low-rank change); delta rule only
//   A  [j,i]       q_i . (decays after j up to i) . beta_j k_j for j <= i, else 0
//   B  [j,i]       e_i . (decays after j up to i) . beta_j k_j for j < i, else 0; delta rule only
//   D  [C/4,K/4,4,4]   the decays of each row, while they are needed; [C] where key channels have none of their own
//
// Decays are multiplied as factors of at most 1, never divided: nothing overflows, a factor of 0 clears exactly,
// and what underflows is too small to matter. With U updates for a token a row is one update; q is 0 except
// in the last and the decay 1 except in the first of a token.

#ifndef LINEAR_RECORDS_GLSL
#define LINEAR_RECORDS_GLSL

#include "linear_interface.glsl"

layout(constant_id = 10) const uint BLOCK_ROWS = 8;  // C, a multiple of 4

const uint QUADS = (KEY_CHANNELS + 3) / 4;
// A low-rank change is an update of its own before that of k and v: its key is b, its value 0, and it erases -a.
const bool IS_DELTA = HAS(OPTION_DELTA | OPTION_LOW_RANK);
const uint ROWS_PER_TOKEN = HAS(OPTION_LOW_RANK) ? 2 : UPDATES;
const bool KEY_FACTORS = HAS(OPTION_KEY_DECAY);
const bool ROW_FACTORS =
  HAS(OPTION_HEAD_DECAY | OPTION_DECAY | OPTION_TIME_STEP | OPTION_SEQUENCE_IDS) || KEY_FACTORS;
const uint TILE = QUADS * 4 * BLOCK_ROWS;
const uint SQUARE = BLOCK_ROWS * BLOCK_ROWS;
const uint AT_Q = QUADS * 4;
const uint AT_K = AT_Q + TILE;
const uint AT_E = AT_K + TILE;
const uint AT_A = AT_E + (IS_DELTA ? TILE : 0);
const uint AT_B = AT_A + SQUARE;
const uint AT_D = AT_B + (IS_DELTA ? SQUARE : 0);
// As LinearAttentionPlan counts it.
const uint RECORD_FLOATS = AT_D + (KEY_FACTORS ? TILE : BLOCK_ROWS);

/// The record of a block, counted in this dispatch.
uint64_t recordAddress(uint sequenceOfDispatch, uint headOfDispatch, uint block) {
  const uint64_t index =
    (uint64_t(sequenceOfDispatch) * gl_NumWorkGroups.y + headOfDispatch) * (p.parts * p.blocksPerPart) + block;
  return sameForAll(BLOCK.tensors[SLOT_RECORDS].address) + index * (RECORD_FLOATS * 4);
}

/// The update of k, v and beta that a row has. A low-rank change has none, and stands before its token's.
uint updateOf(uint row) {
  return HAS(OPTION_LOW_RANK) ? row / ROWS_PER_TOKEN : row;
}

/// Rows of this dispatch, after openSequence().
uint rowCount() {
  return (tokenEnd - tokenBegin) * ROWS_PER_TOKEN;
}

/// Where four channels of a row begin in an area of the record: four rows at a time, in the order in which
/// linear_chunk.comp reads them.
uint rowPlace(uint area, uint quad, uint ownRow) {
  return area + ((ownRow / 4 * QUADS + quad) * 4 + ownRow % 4) * 4;
}

vec4 recordQuad(uint64_t record, uint index) {
  return FloatQuadReference(record + index * 4).value;
}

#endif
