// The online softmax of attention_matrix.comp in registers, the path `matrix2`: neither scores nor weights go through
// shared memory, and no subgroup barrier is left in the loop over tiles.
//
//     products = Q K^T (fragments of M x N, f32)
//     tiles that have hidden keys, scores that are mapped: each element by its row and key (coopMatPerElementNV)
//     maxima = the largest of a row's fragments, element by element; then one reduction along the row (coopMatReduceNV)
//     where a weight would pass 2^15: reference, weightSum and the result fragments move, element by element
//     products = 2^(score * scale * log2 e - reference); weightSum += products, column by column, f32
//     weights = products as f16 and as the left operand of P V (a conversion of use)
//
// Every one of these matrices is M x N as the result fragments are, so that no row's number has to be spread over
// another shape: the reduction leaves a row's maximum in all N columns, and from there on all is element by element.
// That is why P V goes in steps of N keys (VALUE_STEP), and why the products M x N x K and M x N x N must both be ones
// that the device has. Sums of columns are reduced once, at the end.
//
// The rest is as in attention_matrix.comp, masks and what is missing included: a hidden score is replaced before the
// maximum; inf and NaN are taken out of V and added back by ordinary lanes, here always with the exact weight, since
// lanes do not find a weight in a matrix. An element's row is opened anew for every element that is asked
// (attention_masks.glsl): a few integer operations for masks by position, loads at addresses that neighbours share for
// the others; a tile inside of the core of all rows asks nothing.
//
// Specialization constants as in attention_matrix.comp, without LANES_PER_ROW; KEY_TILE a multiple of N, K at most 2 N.
// Seen with 8x8x8, 16x8x16, 8x16x8, 8x32x16 and 32x8x8. Not with 16x16x16: lavapipe (Mesa 26.1.6) splits what is
// larger than 8x8 and reduces rows wrongly where it splits both ways, so a plan for a CPU refuses that.
//
// Shared memory, bytes: 16 * ( max(KEY_TILE * (D'/8 + 1) + max(KEY_TILE * (E'/8 + 1), SUBGROUPS * M * N / 4),
//                                  R * (N/4 + 1))                                      the tiles, or rows on their way
//                              + (QUERY_IN_SHARED ? R * (D'/8 + 1) : 0) )              Q
//   + 4 * R + 24
// Registers per lane, 32 bit, beside about 30 of addresses:
//   RF * M * (E' + KEY_TILE + 3 N + (QUERY_IN_SHARED ? 0 : D'/2)) / SG  + (PREFETCH ? about 4 fetches of 16 bytes : 0)
//   products become weights one after the other; the three are references, sums and maxima.
//
// Counted and NOT MEASURED on a GPU, 16x16x16, 32 keys, 32 lanes, beside the path matrix:
//                                  matrix                         matrix2
//   bytes of shared memory for a score, each K or V fragment read once for RF * 16 rows, and at 128 a clock:
//     D = E = 64,  RF = 2          8 + 12 = 20   0.16 clocks      8             0.06 clocks   products 0.125 clocks
//     D = E = 128                  16 + 12 = 28  0.22 (RF = 2)    32            0.25 (RF = 1) products 0.25 clocks
//   registers
//     D = E = 64,  RF = 2          128                            176
//     D = E = 128                  224 (RF = 2)                   136 (RF = 1); RF = 2 would take 272
//   shared memory, 4 subgroups
//     D = E = 64,  RF = 2          28,184 bytes                   10,776 bytes
//   subgroup barriers of a tile    3, or 4                        0
// So at D = 64 the products bind and not shared memory. At D = 128 the two are even by bytes, and the registers of a
// multiprocessor hold three workgroups instead of two.

#ifndef ATTENTION_MATRIX2_SCORES_GLSL
#define ATTENTION_MATRIX2_SCORES_GLSL

Accumulator reference[ROW_FRAGMENTS];  // constant along a row
Accumulator weightSum[ROW_FRAGMENTS];  // column by column, until the end
MatrixP weights[ROW_FRAGMENTS * KEY_STEPS];

/// Rows before their first key; leaves their references as the rows' factors.
void openRows() {
  if (!HAS(OPTION_RESUME | OPTION_KEY_RANGE)) {
    UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
      reference[r] = Accumulator(-INFINITY);
      weightSum[r] = Accumulator(0.0);
    }
    return;
  }
  for (uint i = lane; i < ROWS * (FRAGMENT_N / 4); i += SUBGROUP_SIZE) {
    const uint rowInSubgroup = i / (FRAGMENT_N / 4);
    const uint token = min(firstRow + rowInSubgroup, queryTokens - 1);
    float rowReference;
    vec4 sums;
    [[unroll]] for (uint c = 0; c < 4; ++c) {
      loadState(token, FRAGMENT_N, i % (FRAGMENT_N / 4) * 4 + c, rowReference, sums[c]);
    }
    arena[scoreBase + rowInSubgroup * SCORE_PITCH + i % (FRAGMENT_N / 4)] = floatBitsToUint(sums);
    if (i % (FRAGMENT_N / 4) == 0) { setRowFactor(rowInSubgroup, rowReference); }
  }
  SUBGROUP_SYNC();
  UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
    coopMatLoad(weightSum[r], arena, scoreBase + r * FRAGMENT_M * SCORE_PITCH, SCORE_PITCH, ROW_MAJOR);
    // Stride 0: every column is the same column.
    coopMatLoad(reference[r], rowFactors, (subgroup * ROWS + r * FRAGMENT_M) / 4, 0, COLUMN_MAJOR);
  }
}

/// Whether some row of the subgroup may see a key of the tile. No matrix has been made yet, and asking every key of
/// every row would cost more than a tile of weights 0 now and then: the block map passes over stretches of those.
bool lookUpTile(uint firstKey) {
  return true;
}

float larger(const in float a, const in float b) {
  return max(a, b);
}

float added(const in float a, const in float b) {
  return a + b;
}

/// The score of an element of a fragment of products, as an exponent of 2.
float mappedScore(
  const in uint row, const in uint column, const in float product, const in uint firstToken, const in uint firstKey
) {
  const Row asked = openRow(min(firstToken + row, queryTokens - 1));
  return mapScore(asked, product * asked.scale, int(firstKey + column));
}

/// `score` where the masks leave the key to the row, else what times `scale` is -inf.
float maskedScore(
  const in uint row, const in uint column, const in float score, const in uint firstToken, const in uint firstKey,
  const in float hidden
) {
  const Row asked = openRow(min(firstToken + row, queryTokens - 1));
  return seesKey(asked, int(firstKey + column)) ? score : hidden;
}

/// Moves the references of the rows whose weights would pass f16's range, and rescales what they weighed.
void moveReferences(Accumulator maxima[ROW_FRAGMENTS]) {
  bool grows = false;
  UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
    UNROLL for (uint i = 0; i < maxima[r].length(); ++i) {
      grows = grows || maxima[r][i] > reference[r][i] + WEIGHT_LIMIT;
    }
  }
  if (!subgroupAny(grows)) { return; }
  UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
    Accumulator factors = Accumulator(1.0);
    UNROLL for (uint i = 0; i < factors.length(); ++i) {
      // Each row decides for itself, so its bits do not depend on its neighbours.
      if (maxima[r][i] > reference[r][i] + WEIGHT_LIMIT) {
        const float moved = maxima[r][i] - WEIGHT_START;
        factors[i] = exp2(reference[r][i] - moved);
        reference[r][i] = moved;
      }
    }
    weightSum[r] = weightSum[r] * factors;
    UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
      result[r * E_FRAGMENTS + n] = result[r * E_FRAGMENTS + n] * factors;
    }
  }
}

/// Raw scores -> weights, fragment by fragment.
void weighProducts(uint firstKey, bool hasHidden, float scale) {
  const float hidden = hiddenScore(scale);
  const float factor = productFactor();
  Accumulator maxima[ROW_FRAGMENTS];
  UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
    const uint firstToken = firstRow + r * FRAGMENT_M;
    maxima[r] = Accumulator(-INFINITY);
    UNROLL for (uint n = 0; n < KEY_FRAGMENTS; ++n) {
      const uint f = r * KEY_FRAGMENTS + n;
      const uint fragmentKey = firstKey + n * FRAGMENT_N;
      if (PRODUCTS_SCALED) { products[f] = products[f] * factor; }
      if (MAPS_SCORES) { coopMatPerElementNV(products[f], products[f], mappedScore, firstToken, fragmentKey); }
      if (hasHidden) { coopMatPerElementNV(products[f], products[f], maskedScore, firstToken, fragmentKey, hidden); }
      UNROLL for (uint i = 0; i < maxima[r].length(); ++i) {
        maxima[r][i] = max(maxima[r][i], products[f][i] * scale);
      }
    }
    coopMatReduceNV(maxima[r], maxima[r], gl_CooperativeMatrixReduceRowNV, larger);
  }
  moveReferences(maxima);
  UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
    UNROLL for (uint n = 0; n < KEY_FRAGMENTS; ++n) {
      const uint f = r * KEY_FRAGMENTS + n;
      UNROLL for (uint i = 0; i < products[f].length(); ++i) {
        products[f][i] = exp2(fma(products[f][i], scale, weightOffset(reference[r][i])));
      }
      weightSum[r] = weightSum[r] + products[f];
      weights[f] = MatrixP(products[f]);
    }
  }
}

void takeWeights(uint r, uint step, out MatrixP taken) {
  taken = weights[r * KEY_STEPS + step];
}

/// Ordinary lanes do not find a weight in a matrix: 0 asks for the exact one.
float weightInTile(uint rowInSubgroup, uint key) {
  return 0.0;
}

/// A matrix for each fragment of rows into the subgroup's rows.
void storeRows(Accumulator matrices[ROW_FRAGMENTS]) {
  SUBGROUP_SYNC();
  UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
    coopMatStore(matrices[r], arena, scoreBase + r * FRAGMENT_M * SCORE_PITCH, SCORE_PITCH, ROW_MAJOR);
  }
  SUBGROUP_SYNC();
}

/// The first number of each of the subgroup's rows as its factor.
void takeRowFactors() {
  for (uint row = lane; row < ROWS; row += SUBGROUP_SIZE) {
    setRowFactor(row, uintBitsToFloat(arena[scoreBase + row * SCORE_PITCH].x));
  }
}

/// The references as factors of the rows. The place of the tiles is free.
void publishReferences() {
  storeRows(reference);
  takeRowFactors();
  SUBGROUP_SYNC();
}

/// Rows behind their last key: what their results are multiplied by as factors, references into their padding.
void closeRows() {
  if (carries()) {
    storeRows(weightSum);
    for (uint i = lane; i < ROWS * FRAGMENT_N; i += SUBGROUP_SIZE) {
      const uint rowInSubgroup = i / FRAGMENT_N;
      const uint column = i % FRAGMENT_N;
      if (firstRow + rowInSubgroup < queryTokens) {
        storeLaneSum(
          firstRow + rowInSubgroup, FRAGMENT_N, column,
          uintBitsToFloat(arena[scoreBase + rowInSubgroup * SCORE_PITCH + column / 4][column % 4]));
      }
    }
  }
  UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
    coopMatReduceNV(weightSum[r], weightSum[r], gl_CooperativeMatrixReduceRowNV, added);
  }
  storeRows(weightSum);
  takeRowFactors();
  storeRows(reference);
  for (uint row = lane; row < ROWS; row += SUBGROUP_SIZE) {
    closeRow(row, uintBitsToFloat(arena[scoreBase + row * SCORE_PITCH].x), rowFactor(row));
  }
}

#endif
