// The online softmax of attention_matrix.comp by ordinary lanes, for VK_KHR_cooperative_matrix: where an element of a
// matrix lies, and so its row, is known of matrices in memory alone. So scores go through shared memory, and weights
// come back through it.

#ifndef ATTENTION_MATRIX_SCORES_GLSL
#define ATTENTION_MATRIX_SCORES_GLSL

uint rowInGroup;  // of this lane's first row, from firstRow
uint part;        // which SPAN of the keys this lane has
Row rows[ROWS_PER_LANE];
float reference[ROWS_PER_LANE];
float weightSum[ROWS_PER_LANE];  // over this lane's keys alone, until the end
vec4 scores[ROWS_PER_LANE * SPAN / 4];
uint hidden[ROWS_PER_LANE];  // bit c: key c of this lane's span gives the row nothing

/// Rows before their first key; leaves their references as the rows' factors.
void openRows() {
  rowInGroup = lane / LANES_PER_ROW;
  part = lane % LANES_PER_ROW;
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    const uint rowInSubgroup = rowInGroup + i * ROWS_AT_ONCE;
    const uint token = min(firstRow + rowInSubgroup, queryTokens - 1);
    rows[i] = openRow(token);
    loadState(token, LANES_PER_ROW, part, reference[i], weightSum[i]);
    if (part == 0) { setRowFactor(rowInSubgroup, reference[i]); }
  }
  SUBGROUP_SYNC();
}

/// The part of score row `i` of this lane in the arena.
uint spanBase(uint i) {
  return scoreBase + (rowInGroup + i * ROWS_AT_ONCE) * SCORE_PITCH + part * (SPAN / 4);
}

/// hidden = what the masks hide of the tile; false where that is all of it, for every row of the subgroup.
bool lookUpTile(uint firstKey) {
  bool seesSome = false;
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    hidden[i] = 0;
    for (uint c = 0; c < SPAN; ++c) {
      if (!seesKey(rows[i], int(firstKey + part * SPAN + c))) { hidden[i] |= 1u << c; }
    }
    seesSome = seesSome || hidden[i] != 0xffffffffu >> (32 - SPAN);
  }
  return subgroupAny(seesSome);
}

/// Takes this lane's scores out of the arena, maps them, hides what the masks hide and finds each row's largest
/// scaled score.
void takeScores(uint firstKey, bool hasHidden, float scale, out float rowMaximum[ROWS_PER_LANE]) {
  const float hiddenValue = hiddenScore(scale);
  const float factor = productFactor();
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    const uint base = spanBase(i);
    [[unroll]] for (uint c = 0; c < SPAN / 4; ++c) {
      scores[i * (SPAN / 4) + c] = uintBitsToFloat(arena[base + c]);
      if (PRODUCTS_SCALED) { scores[i * (SPAN / 4) + c] *= factor; }
    }
    if (MAPS_SCORES) {
      UNROLL for (uint c = 0; c < SPAN; ++c) {
        scores[i * (SPAN / 4) + c / 4][c % 4] = mapScore(
          rows[i], scores[i * (SPAN / 4) + c / 4][c % 4] * rows[i].scale, int(firstKey + part * SPAN + c));
      }
    }
    if (hasHidden) {
      [[unroll]] for (uint c = 0; c < SPAN / 4; ++c) {
        const bvec4 isHidden =
          notEqual(uvec4(hidden[i]) >> (uvec4(c * 4) + uvec4(0, 1, 2, 3)) & 1u, uvec4(0));
        scores[i * (SPAN / 4) + c] = mix(scores[i * (SPAN / 4) + c], vec4(hiddenValue), isHidden);
      }
    }
    vec4 maxima = scores[i * (SPAN / 4)] * scale;
    [[unroll]] for (uint c = 1; c < SPAN / 4; ++c) {
      maxima = max(maxima, scores[i * (SPAN / 4) + c] * scale);
    }
    float maximum = max(max(maxima.x, maxima.y), max(maxima.z, maxima.w));
    [[unroll]] for (uint distance = 1; distance < LANES_PER_ROW; distance *= 2) {
      maximum = max(maximum, subgroupShuffleXor(maximum, distance));
    }
    rowMaximum[i] = maximum;
  }
}

/// Moves the references of the rows whose weights would pass f16's range, and rescales what they weighed.
void moveReferences(float rowMaximum[ROWS_PER_LANE]) {
  bool grows = false;
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    grows = grows || rowMaximum[i] > reference[i] + WEIGHT_LIMIT;
  }
  if (!subgroupAny(grows)) {
    return;
  }
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    // Each row decides for itself, so its bits do not depend on its neighbours.
    float factor = 1.0;
    if (rowMaximum[i] > reference[i] + WEIGHT_LIMIT) {
      const float moved = rowMaximum[i] - WEIGHT_START;
      factor = exp2(reference[i] - moved);
      reference[i] = moved;
      weightSum[i] *= factor;
    }
    if (part == 0) {
      setRowFactor(rowInGroup + i * ROWS_AT_ONCE, factor);
    }
  }
  SUBGROUP_SYNC();
  UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
    // Stride 0: every column is the same column of factors.
    Accumulator factors;
    coopMatLoad(factors, rowFactors, (subgroup * ROWS + r * FRAGMENT_M) / 4, 0, COLUMN_MAJOR);
    UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
      result[r * E_FRAGMENTS + n] = result[r * E_FRAGMENTS + n] * factors;
    }
  }
}

/// Puts this lane's f16 weights of each row in the first half of the place that its f32 scores had.
void computeWeights(float scale) {
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    const uint base = spanBase(i);
    const float offset = weightOffset(reference[i]);
    [[unroll]] for (uint c = 0; c < SPAN / 8; ++c) {
      const vec4 low = scores[i * (SPAN / 4) + 2 * c];
      const vec4 high = scores[i * (SPAN / 4) + 2 * c + 1];
      const vec4 lowWeights = exp2(fma(low, vec4(scale), vec4(offset)));
      const vec4 highWeights = exp2(fma(high, vec4(scale), vec4(offset)));
      const vec4 sums = lowWeights + highWeights;
      weightSum[i] += (sums.x + sums.y) + (sums.z + sums.w);
      arena[base + c] = uvec4(
        packHalf2x16(lowWeights.xy), packHalf2x16(lowWeights.zw),
        packHalf2x16(highWeights.xy), packHalf2x16(highWeights.zw));
    }
  }
}

/// Raw scores -> the score rows -> weights in the score rows.
void weighProducts(uint firstKey, bool hasHidden, float scale) {
  UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
    UNROLL for (uint n = 0; n < KEY_FRAGMENTS; ++n) {
      const uint element = scoreBase + r * FRAGMENT_M * SCORE_PITCH + n * (FRAGMENT_N / 4);
      coopMatStore(products[r * KEY_FRAGMENTS + n], arena, element, SCORE_PITCH, ROW_MAJOR);
    }
  }
  SUBGROUP_SYNC();
  float rowMaximum[ROWS_PER_LANE];
  takeScores(firstKey, hasHidden, scale, rowMaximum);
  moveReferences(rowMaximum);
  computeWeights(scale);
  SUBGROUP_SYNC();
}

/// The place in the arena of the weight of a key of the tile, from the row's first, in units of 8 weights.
uint weightUnit(uint key) {
  return key / SPAN * (SPAN / 4) + key % SPAN / 8;
}

void takeWeights(uint r, uint step, out MatrixP weights) {
  coopMatLoad(
    weights, arena, scoreBase + r * FRAGMENT_M * SCORE_PITCH + weightUnit(step * VALUE_STEP), SCORE_PITCH, ROW_MAJOR);
}

/// The f16 weight of a row and key of the tile; 0 also where it was too small for f16.
float weightInTile(uint rowInSubgroup, uint key) {
  const vec2 pair = unpackHalf2x16(arena[scoreBase + rowInSubgroup * SCORE_PITCH + weightUnit(key)][key % 8 / 2]);
  return key % 2 == 0 ? pair.x : pair.y;
}

/// The references as factors of the rows.
void publishReferences() {
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    if (part == 0) { setRowFactor(rowInGroup + i * ROWS_AT_ONCE, reference[i]); }
  }
  SUBGROUP_SYNC();
}

/// Rows behind their last key: what their results are multiplied by as factors, references into their padding.
void closeRows() {
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE; ++i) {
    const uint rowInSubgroup = rowInGroup + i * ROWS_AT_ONCE;
    const uint row = firstRow + rowInSubgroup;
    float sum = weightSum[i];
    [[unroll]] for (uint distance = 1; distance < LANES_PER_ROW; distance *= 2) {
      sum += subgroupShuffleXor(sum, distance);
    }
    if (row < queryTokens) { storeLaneSum(row, LANES_PER_ROW, part, weightSum[i]); }
    if (part == 0) { closeRow(rowInSubgroup, reference[i], sum); }
  }
}

#endif
