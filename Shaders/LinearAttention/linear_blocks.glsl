// What the walks over prepared blocks share, linear_chunk.comp and linear_chunk_subgroup.comp: the blocks of a
// workgroup's part, the state it begins with and where it leaves it, and the tensors that belong to rows.
//
// Grid: x = tiles of columns, y = value head, z = sequence * parts + part.

#ifndef LINEAR_BLOCKS_GLSL
#define LINEAR_BLOCKS_GLSL

#include "linear_records.glsl"

/// The blocks of a part, and the rows of the tensors beside them.
struct BlockWalk {
  uint rows;      // of this dispatch
  uint lastRow;
  uint firstRow;  // of this part
  uint block;
  uint blockEnd;
  uint64_t record;
  // Advanced by rows only where a token is a row.
  Walk v, writeGates, outputs, valueDecay, gate, denominators;
};

uint64_t partState;  // where a part has the state at its start, or leaves what it adds
uint64_t carry;

uint partOfWorkgroup() {
  return gl_WorkGroupID.z % p.parts;
}

/// Opens the sequence. Returns where the state is that this part begins with; `isThere` is false where that is 0.
uint64_t openPart(out bool isThere) {
  const uint sequenceOfDispatch = gl_WorkGroupID.z / p.parts;
  openSequence(sequenceOfDispatch + p.firstSequence, gl_WorkGroupID.y + p.firstHead);
  partState = BLOCK.tensors[SLOT_PARTS].address
    + ((uint64_t(sequenceOfDispatch) * gl_NumWorkGroups.y + gl_WorkGroupID.y) * p.parts + partOfWorkgroup())
    * (KEY_CHANNELS * VALUE_CHANNELS * 4);
  carry = stateAddress(SLOT_CARRY);
  if (p.parts != 1) {
    isThere = !HAS(OPTION_NO_OUTPUT);
    return partState;
  }
  return stateBefore(carry, stateAddress(SLOT_INITIAL_STATE), isThere);
}

/// After openPart().
BlockWalk openBlocks() {
  BlockWalk walk;
  walk.rows = rowCount();
  walk.lastRow = max(walk.rows, 1) - 1;
  walk.block = partOfWorkgroup() * p.blocksPerPart;
  walk.blockEnd = min(walk.block + p.blocksPerPart, (walk.rows + BLOCK_ROWS - 1) / BLOCK_ROWS);
  walk.firstRow = min(walk.block * BLOCK_ROWS, walk.lastRow);
  walk.record = recordAddress(gl_WorkGroupID.z / p.parts, gl_WorkGroupID.y, walk.block);
  const uint update = tokenBegin * UPDATES + updateOf(walk.firstRow);
  walk.v = openSharedWalk(!HAS(OPTION_ONES), SLOT_V, VALUE_TYPE, update, UPDATES, head);
  walk.writeGates = openSharedWalk(HAS(OPTION_WRITE_GATES), SLOT_WRITE_GATES, GATE_TYPE, update, UPDATES, head);
  const uint token = tokenBegin + walk.firstRow / ROWS_PER_TOKEN;
  walk.outputs = openSharedWalk(!HAS(OPTION_NO_OUTPUT), SLOT_O, OUTPUT_TYPE, token, 1, head);
  walk.valueDecay = openSharedWalk(HAS(OPTION_VALUE_DECAY), SLOT_VALUE_DECAY, GATE_TYPE, token, 1, head);
  walk.gate = openSharedWalk(HAS(OPTION_OUTPUT_GATE), SLOT_OUTPUT_GATE, VALUE_TYPE, token, 1, head);
  walk.denominators = openSharedWalk(HAS(OPTION_DIVIDE), SLOT_DENOMINATORS, ELEMENT_F32, token, 1, head);
  return walk;
}

uint64_t columnAddress(const uint type, Walk walk, uint step, uint ownColumn) {
  return walk.at + step * walk.step + ownColumn * elementBytes(type);
}

/// An element of the row that is so many rows behind where a walk was opened.
float loadColumn(const uint type, Walk walk, uint step, uint ownColumn) {
  return loadElement(type, columnAddress(type, walk, step, ownColumn));
}

#endif
