#version 460

// Linear attention and its gated kin, a block of C rows at a time, the state of some columns split over the lanes of a
// subgroup: for GPUs without matrix units, and for f32, which matrix units do not multiply.
//
//   each workgroup: one sequence and head, a tile of columns of the state; S -> registers, f32
//     for each block of C rows (linear_records.glsl):
//       its record -> shared memory, by all lanes;                                           workgroup barrier
//       X = V - E~ S         delta rule, else X = V; a lane sums over its rows of S, and the lanes that share columns
//       O = Q~ S             halve the rows they hold sums of by shuffles, till each has a row of its own, whole
//       S = F S
//       for every row j:     x_j -> all lanes that share its columns, by shuffles
//         lanes of rows i:   x_i -= B_ji x_j for i > j;  o_i += A_ji x_j for i >= j
//         all lanes:         S += K~_j x_j^T
//       each lane: o of its own row -> memory;                                               workgroup barrier
//
// LANES lanes share COLUMNS columns, side by side; lane l of them has groups l, l + LANES, ... of four rows of the
// state. A row of a block is one lane's: its v, gates, denominator and o are loaded and stored by that lane alone, and
// solving for X is one multiply-add a lane and column for each row before, in the shadow of the R that the same row
// adds to each column of the state. Decays of value channels are passed in the same walk over rows, by Horner's rule.
//
// Registers per lane, 32 bit, R = K / LANES rows of S: R COLUMNS of the state, min(C, LANES) COLUMNS of sums, 3
// ceil(C / LANES) COLUMNS of x, o and v, 4 ceil(record / (16 workgroup)) of the record that is read ahead, and about 30
// of addresses. LANES = 8, COLUMNS = 4, C = 8, delta rule, 128 lanes: K = 128 64 + 32 + 12 + 28 + 30 = 166, so that
// 65,536 registers hold 12 subgroups of 32; K = 64 32 + 32 + 12 + 16 + 30 = 122, 16 subgroups.
// Shared bytes, n areas of Q~, K~ and E~, K' = K rounded up to 4 LANES:
//   16 (K/4 + n C (K'/4 + 2) + (n - 1) C C / 4)              K = 128, C = 8: delta rule 14,080, else 9472
//                                                            K = 256, C = 8: delta rule 26,880; K = 320, C = 4: 17,152
//
// Counts for a block of 8 rows, K = V = 128, delta rule, one lane:
//   multiply-adds   3 * 8 * 64 of the state + 64 of decays + 64 of the block's squares       1664
//   shared reads    3 * 8 * 4 of 16 bytes, each serving 16 multiply-adds, + 16 of 4 bytes     112
//   shuffles        2 * 28 of sums (96 each if every lane got every sum) + 32 of x             88
//   memory          13 KB of record for a workgroup, read once; v and o 4 numbers each
// Where shared memory and shuffles take a clock of a multiprocessor for each subgroup (1 to 4 for 16 bytes by 8
// different lanes), 4 subgroups' 800 to 1950 clocks stand beside 1664 of multiply-adds. linear_chunk.comp reads 16
// bytes for 4 multiply-adds of a lane and holds K numbers of the state; linear_recurrent.comp by `subgroup` reads 16
// bytes for 4, and each of its tokens waits for 2 log2(LANES) shuffles, where here 8 rows wait once.
// Floor on a device of 132 multiprocessors at 1.755 GHz, each 128 multiply-adds a clock, and 3.35 TB/s, for a token and
// head of K = V = 128, delta rule, f32: 53 thousand multiply-adds 1.8 ns; 3.3 KB of record written and read, 2.5 KB of
// q, k, v and o 1.7 ns. B1 T8192 H32: 0.5 ms.
//
// Ladder: counted, not measured on a GPU. A record is read ahead into registers while its predecessor is at work, so
// that one buffer does and that memory's latency, some 700 clocks for 1700 of work, is not waited for where a
// multiprocessor has a single workgroup; not where that would be more than 14 groups of four numbers a lane. Not taken:
// COLUMNS = 8 with half the rows a lane, half the reads of shared memory for twice the shuffles; blocks of 16 rows,
// whose squares and sums cost more than the decays they save.
//
// On the software driver, where shuffles and barriers are dear and each lane loads for itself, it is for tests. f32 B1
// T2048 H8 K = V = 128, lavapipe of Mesa 26.1.6 on two cores of an EPYC, ms (16 lanes, 8 lanes):
//
//                                       KDA      gated delta    lightning
//   linear_recurrent.comp, subgroup   331  315      280  162      222  136
//   this                              209  157      220  142      123  103
//   linear_chunk.comp                  48            39            22
//
// A tile is workgroup / LANES * COLUMNS columns; the grid is in linear_blocks.glsl.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_shuffle : require

#include "linear_blocks.glsl"

layout(constant_id = 11) const uint COLUMNS = 4;
layout(constant_id = 12) const uint LANES = 8;          // a power of two, at most the subgroup's size
layout(constant_id = 13) const bool READS_AHEAD = true;  // the next record into registers

// Rows that one pass over the state takes, each of which ends up in the lanes of one of them.
const uint PORTION = BLOCK_ROWS < LANES ? BLOCK_ROWS : LANES;
const uint PORTIONS = BLOCK_ROWS / PORTION;
const uint SHARERS = LANES / PORTION;  // lanes that have the same row

// Groups of four rows of the state that a lane holds; those past K are zeros, in the record too.
const uint OWN_QUADS = (QUADS + LANES - 1) / LANES;
const uint STAGED_QUADS = OWN_QUADS * LANES;
// Two more than the row: lanes write four rows of two groups at a time, which then lie in different banks.
const uint PITCH = STAGED_QUADS + 2;
const uint STAGED_TILE = BLOCK_ROWS * PITCH;
const uint STAGED_Q = QUADS;
const uint STAGED_K = STAGED_Q + STAGED_TILE;
const uint STAGED_E = STAGED_K + STAGED_TILE;
const uint STAGED_A = STAGED_E + (IS_DELTA ? STAGED_TILE : 0);
const uint STAGED_B = STAGED_A + SQUARE / 4;
const uint STAGED_END = STAGED_B + (IS_DELTA ? SQUARE / 4 : 0);
const uint COPIED_QUADS = AT_D / 4;  // of a record
const uint AHEAD_QUADS = READS_AHEAD ? (COPIED_QUADS + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x : 1;

shared vec4 staged[STAGED_END];

// Every index is a constant after unrolling, so that these are registers.
float s[OWN_QUADS * 4][COLUMNS];
vec4 ahead[AHEAD_QUADS];
uint lane;         // 0 ..< LANES: which rows are this invocation's
uint columnLane;
uint columnLanes;  // in a subgroup
uint column[COLUMNS];
bool isStored[COLUMNS];

// --- Records ---------------------------------------------------------------------------------------------

/// Where a group of four numbers of a record goes: rows one after the other.
uint stagedPlace(uint index) {
  if (index < QUADS) { return index; }
  const uint inTiles = index - QUADS;
  const uint tileQuads = TILE / 4;
  const uint tiles = IS_DELTA ? 3 : 2;
  if (inTiles >= tiles * tileQuads) { return STAGED_A + (inTiles - tiles * tileQuads); }
  const uint inTile = inTiles % tileQuads;
  const uint row = inTile / (QUADS * 4) * 4 + inTile % 4;
  return STAGED_Q + inTiles / tileQuads * STAGED_TILE + row * PITCH + inTile / 4 % QUADS;
}

void readAhead(uint64_t record) {
  [[unroll]] for (uint i = 0; i < AHEAD_QUADS; i++) {
    const uint index = min(i * gl_WorkGroupSize.x + gl_LocalInvocationID.x, COPIED_QUADS - 1);
    ahead[i] = recordQuad(record, index * 4);
  }
}

void stageAhead() {
  [[unroll]] for (uint i = 0; i < AHEAD_QUADS; i++) {
    const uint index = i * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
    if (index < COPIED_QUADS) { staged[stagedPlace(index)] = ahead[i]; }
  }
}

void stage(uint64_t record) {
  for (uint index = gl_LocalInvocationID.x; index < COPIED_QUADS; index += gl_WorkGroupSize.x) {
    staged[stagedPlace(index)] = recordQuad(record, index * 4);
  }
}

/// Zeros behind the rows of a record, which no record overwrites.
void stagePadding() {
  const uint padding = STAGED_QUADS - QUADS;
  if (padding == 0) { return; }
  const uint count = (IS_DELTA ? 3 : 2) * BLOCK_ROWS * padding;
  for (uint index = gl_LocalInvocationID.x; index < count; index += gl_WorkGroupSize.x) {
    staged[STAGED_Q + index / padding * PITCH + QUADS + index % padding] = vec4(0.0);
  }
}

/// Four numbers of a row of the record: those of this lane's d-th group.
vec4 stagedRow(const uint area, const uint row, const uint d) {
  return staged[area + row * PITCH + d * LANES + lane];
}

/// How much of row j is in row i.
float stagedSquare(const uint area, const uint j, uint i) {
  return staged[area + (j * BLOCK_ROWS + i) / 4][i % 4];
}

// --- The state -------------------------------------------------------------------------------------------

/// A portion's rows of an area times the state, for this lane's row of the portion.
void multiplyState(const uint area, const uint portion, out float product[COLUMNS]) {
  float sums[PORTION][COLUMNS];
  [[unroll]] for (uint i = 0; i < PORTION; i++) {
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) { sums[i][c] = 0; }
  }
  [[unroll]] for (uint d = 0; d < OWN_QUADS; d++) {
    [[unroll]] for (uint i = 0; i < PORTION; i++) {
      const vec4 row = stagedRow(area, portion * PORTION + i, d);
      [[unroll]] for (uint x = 0; x < 4; x++) {
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) { sums[i][c] = fma(row[x], s[d * 4 + x][c], sums[i][c]); }
      }
    }
  }
  // Lanes of the upper half take the upper half of the rows; with one row left, the sum is for all of them.
  [[unroll]] for (uint k = 0; k < 6; k++) {
    const uint span = LANES >> (k + 1);
    const uint rest = span / SHARERS;
    const bool isUpper = (lane & span) != 0;
    if (span > 0) {
      if (rest == 0) {
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
          sums[0][c] += subgroupShuffleXor(sums[0][c], span * columnLanes);
        }
      }
      [[unroll]] for (uint i = 0; i < PORTION / 2; i++) {
        if (i < rest) {
          [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
            const float given = isUpper ? sums[i][c] : sums[i + rest][c];
            const float kept = isUpper ? sums[i + rest][c] : sums[i][c];
            sums[i][c] = kept + subgroupShuffleXor(given, span * columnLanes);
          }
        }
      }
    }
  }
  [[unroll]] for (uint c = 0; c < COLUMNS; c++) { product[c] = sums[0][c]; }
}

/// s <- F s
void decayState() {
  if (!ROW_FACTORS) { return; }
  const float blockFactor = KEY_FACTORS ? 1.0 : staged[0].x;
  [[unroll]] for (uint d = 0; d < OWN_QUADS; d++) {
    const vec4 factor = KEY_FACTORS ? staged[min(d * LANES + lane, QUADS - 1)] : vec4(blockFactor);
    [[unroll]] for (uint x = 0; x < 4; x++) {
      [[unroll]] for (uint c = 0; c < COLUMNS; c++) { s[d * 4 + x][c] *= factor[x]; }
    }
  }
}

/// s <- s factor + k y^T for one row, the factor that of the row's decays of value channels.
void addRow(const uint row, const float change[COLUMNS], const float factor[COLUMNS]) {
  [[unroll]] for (uint d = 0; d < OWN_QUADS; d++) {
    const vec4 key = stagedRow(STAGED_K, row, d);
    [[unroll]] for (uint x = 0; x < 4; x++) {
      [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
        const float before = HAS(OPTION_VALUE_DECAY) ? s[d * 4 + x][c] * factor[c] : s[d * 4 + x][c];
        s[d * 4 + x][c] = fma(key[x], change[c], before);
      }
    }
  }
}

void loadState(uint64_t address, bool isThere) {
  [[unroll]] for (uint d = 0; d < OWN_QUADS * 4; d++) {
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) { s[d][c] = 0; }
  }
  // As in linear_chunk.comp: an address that can be read, whether it is or not.
  const uint64_t base = isThere ? address : p.block;
  const uint rowBytes = isThere ? VALUE_CHANNELS * 4 : 0;
  if (isThere) {
    [[unroll]] for (uint d = 0; d < OWN_QUADS * 4; d++) {
      const uint channel = (d / 4 * LANES + lane) * 4 + d % 4;
      const uint64_t row = base + uint64_t(min(channel, KEY_CHANNELS - 1) * rowBytes);
      [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
        const float value = FloatReference(row + column[c] * 4).value;
        s[d][c] = channel < KEY_CHANNELS ? value : 0.0;
      }
    }
  }
}

void storeState(uint64_t address) {
  [[unroll]] for (uint d = 0; d < OWN_QUADS * 4; d++) {
    const uint channel = (d / 4 * LANES + lane) * 4 + d % 4;
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
      if (isStored[c] && channel < KEY_CHANNELS) {
        FloatReference(address + uint64_t(channel * VALUE_CHANNELS + column[c]) * 4).value = s[d][c];
      }
    }
  }
}

// --- Rows ------------------------------------------------------------------------------------------------

// Of this lane's row of each portion.
float own[PORTIONS][COLUMNS];           // v
float y[PORTIONS][COLUMNS];             // what it adds to the state
float o[PORTIONS][COLUMNS];
float held[PORTIONS][COLUMNS];          // what it erases, where value channels decay
float columnFactor[PORTIONS][COLUMNS];  // the row's decays of value channels

void loadRows(const BlockWalk walk, uint ownRow) {
  [[unroll]] for (uint portion = 0; portion < PORTIONS; portion++) {
    const uint place = walk.block * BLOCK_ROWS + portion * PORTION + ownRow;
    const bool isThere = place < walk.rows;
    const uint row = min(place, walk.lastRow);
    const uint update = updateOf(row) - updateOf(walk.firstRow);
    const uint token = row / ROWS_PER_TOKEN - walk.firstRow / ROWS_PER_TOKEN;
    const bool isFirst = row % ROWS_PER_TOKEN == 0;
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
      own[portion][c] = HAS(OPTION_ONES) ? 1.0 : loadColumn(VALUE_TYPE, walk.v, update, column[c]);
      y[portion][c] = own[portion][c];
      if (HAS(OPTION_WRITE_GATES)) { y[portion][c] *= loadColumn(GATE_TYPE, walk.writeGates, update, column[c]); }
      // What is behind the last row may be NaN; a low-rank change has no value.
      if (!isThere || (HAS(OPTION_LOW_RANK) && isFirst)) { y[portion][c] = 0; }
      columnFactor[portion][c] = 1;
      if (HAS(OPTION_VALUE_DECAY)) {
        const float given = decayFactor(loadColumn(GATE_TYPE, walk.valueDecay, token, column[c]));
        columnFactor[portion][c] = isThere && isFirst ? given : 1.0;
      }
    }
  }
}

/// Passes row j of a portion: to the rows after it and into the state.
void passRow(const uint portion, const uint j, uint ownRow) {
  const uint source = j * SHARERS * columnLanes + columnLane;
  float factor[COLUMNS];
  float change[COLUMNS];
  [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
    factor[c] = 1;
    if (HAS(OPTION_VALUE_DECAY)) {
      factor[c] = subgroupShuffle(columnFactor[portion][c], source);
      [[unroll]] for (uint i = portion; i < PORTIONS; i++) {
        const bool isLater = i > portion || ownRow > j;
        const bool decays = isLater || ownRow == j;
        o[i][c] *= (HAS(OPTION_BEFORE) ? isLater : decays) ? factor[c] : 1.0;
        if (IS_DELTA) { held[i][c] *= decays ? factor[c] : 1.0; }
      }
      if (IS_DELTA && ownRow == j) { y[portion][c] -= held[portion][c]; }
    }
    change[c] = subgroupShuffle(y[portion][c], source);
  }
  [[unroll]] for (uint i = portion; i < PORTIONS; i++) {
    // An earlier row has the weight 0, but what comes later may be NaN: it must not be looked at.
    const bool isLater = i > portion || ownRow > j;
    const bool isReached = isLater || ownRow == j;
    const uint row = i * PORTION + ownRow;
    const float read = stagedSquare(STAGED_A, portion * PORTION + j, row);
    const float erased = IS_DELTA ? stagedSquare(STAGED_B, portion * PORTION + j, row) : 0.0;
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
      if (!HAS(OPTION_NO_OUTPUT)) { o[i][c] = isReached ? fma(read, change[c], o[i][c]) : o[i][c]; }
      if (IS_DELTA && HAS(OPTION_VALUE_DECAY)) {
        held[i][c] = isLater ? fma(erased, change[c], held[i][c]) : held[i][c];
      } else if (IS_DELTA) {
        y[i][c] = isLater ? fma(-erased, change[c], y[i][c]) : y[i][c];
      }
    }
  }
  addRow(portion * PORTION + j, change, factor);
}

void storeRows(const BlockWalk walk, uint ownRow) {
  [[unroll]] for (uint portion = 0; portion < PORTIONS; portion++) {
    const uint place = walk.block * BLOCK_ROWS + portion * PORTION + ownRow;
    const uint row = min(place, walk.lastRow);
    const bool isRead =
      place < walk.rows && row % ROWS_PER_TOKEN == ROWS_PER_TOKEN - 1 && lane % SHARERS == 0;
    const uint token = row / ROWS_PER_TOKEN - walk.firstRow / ROWS_PER_TOKEN;
    const float denominator = HAS(OPTION_DIVIDE) ? loadColumn(ELEMENT_F32, walk.denominators, token, 0) : 1.0;
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
      const float z = HAS(OPTION_OUTPUT_GATE) ? loadColumn(VALUE_TYPE, walk.gate, token, column[c]) : 0.0;
      const float result = finishOutput(o[portion][c], own[portion][c], z, denominator);
      if (isStored[c] && isRead) {
        storeElement(OUTPUT_TYPE, columnAddress(OUTPUT_TYPE, walk.outputs, token, column[c]), result);
      }
    }
  }
}

void main() {
  columnLanes = gl_SubgroupSize / LANES;
  lane = gl_SubgroupInvocationID / columnLanes;
  columnLane = gl_SubgroupInvocationID % columnLanes;
  const uint group = (gl_WorkGroupID.x + p.firstTile) * gl_NumSubgroups + gl_SubgroupID;
  [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
    const uint ownColumn = (group * columnLanes + columnLane) * COLUMNS + c;
    column[c] = min(ownColumn, VALUE_CHANNELS - 1);
    isStored[c] = ownColumn < VALUE_CHANNELS;
  }
  const uint ownRow = lane / SHARERS;  // of a portion
  bool hasState;
  const uint64_t start = openPart(hasState);
  loadState(start, hasState);
  BlockWalk walk = openBlocks();

  if (walk.block < walk.blockEnd) {
    stagePadding();
    stage(walk.record);
    for (;;) {
      loadRows(walk, ownRow);
      const bool isLast = walk.block + 1 >= walk.blockEnd;
      if (READS_AHEAD) { readAhead(isLast ? walk.record : walk.record + RECORD_FLOATS * 4); }
      barrier();
      [[unroll]] for (uint portion = 0; portion < PORTIONS; portion++) {
        float product[COLUMNS];
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) { o[portion][c] = 0; }
        if (!HAS(OPTION_NO_OUTPUT)) {
          multiplyState(STAGED_Q, portion, product);
          [[unroll]] for (uint c = 0; c < COLUMNS; c++) { o[portion][c] = product[c]; }
        }
        if (IS_DELTA && !HAS(OPTION_NO_UPDATE)) {
          multiplyState(STAGED_E, portion, product);
          [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
            if (HAS(OPTION_VALUE_DECAY)) {
              held[portion][c] = product[c];
            } else {
              y[portion][c] -= product[c];
            }
          }
        }
      }
      if (!HAS(OPTION_NO_UPDATE)) {
        decayState();
        [[unroll]] for (uint portion = 0; portion < PORTIONS; portion++) {
          [[unroll]] for (uint j = 0; j < PORTION; j++) { passRow(portion, j, ownRow); }
        }
      }
      if (!HAS(OPTION_NO_OUTPUT)) { storeRows(walk, ownRow); }
      walk.block++;
      if (walk.block >= walk.blockEnd) { break; }
      walk.record += RECORD_FLOATS * 4;
      barrier();
      if (READS_AHEAD) {
        stageAhead();
      } else {
        stage(walk.record);
      }
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
