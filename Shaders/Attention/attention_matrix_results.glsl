// The ends of attention_matrix.comp: inf and NaN of V, results out of memory and into it, through the rows that a
// subgroup has in the arena: its score rows, or with MATRIX2 the place of the tiles.

#ifndef ATTENTION_MATRIX_RESULTS_GLSL
#define ATTENTION_MATRIX_RESULTS_GLSL

/// The f32 weight of a key, from the tensors themselves; -1 where the row's score is -inf.
float exactWeight(Row row, uint key, float rowReference) {
  const uint64_t q = queryAddress(uint(row.token));
  const uint64_t k = keyBaseAddress() + uint64_t(key) * p.kTokenStride * 2ul;
  float score = 0.0;
  for (uint d = 0; d < HEAD_SIZE_QK; d += 4) {
    const vec4 product =
      loadQueryChannels4(q, d) * loadChannels4(KEY_TYPE, ALIGNED, k, d, HEAD_SIZE_QK);
    score += (product.x + product.y) + (product.z + product.w);
  }
  const float offset = weightOffset(rowReference);
  if (MAPS_SCORES) {
    score = mapScore(row, score * row.scale, int(key));
    return MAPS_TO_HIDDEN && score == -INFINITY ? -1.0 : exp2(score + offset);
  }
  return exp2(fma(score, row.scale, offset));
}

/// Adds the inf and NaN that were left out of the V tile to the rows that see them, and to no other: in a
/// matrix product they would spoil the rows that they are hidden from as well, since 0 * NaN is NaN.
/// The place of the V tile is free: the whole workgroup has done with it.
void accumulateNonFiniteValues(uint firstKey) {
  const uint scratch = VALUE_BASE + subgroup * FRAGMENT_UNITS;
  const uint64_t base = valueBaseAddress();
  publishReferences();
  for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
    for (uint n = 0; n < E_FRAGMENTS; ++n) {
      for (uint i = lane; i < FRAGMENT_UNITS; i += SUBGROUP_SIZE) {
        const uint row = r * FRAGMENT_M + i / (FRAGMENT_N / 4);
        const uint channel = n * FRAGMENT_N + i % (FRAGMENT_N / 4) * 4;
        const Row asked = openRow(min(firstRow + row, queryTokens - 1));
        const uint end = min(keyTokens, firstKey + KEY_TILE);
        vec4 sum = vec4(0.0);
        for (uint key = firstKey; key < end && channel < HEAD_SIZE_V; ++key) {
          if (!seesKey(asked, int(key))) { continue; }
          const uint64_t value = base + uint64_t(key) * p.vTokenStride * 2ul;
          vec4 numbers = loadChannels4(VALUE_TYPE, ALIGNED, value, channel, HEAD_SIZE_V);
          const bvec4 isFinite = lessThan(abs(numbers), vec4(INFINITY));
          // The finite neighbours have been added already.
          numbers = mix(numbers, vec4(0.0), isFinite);
          if (!all(isFinite)) {
            float weight = weightInTile(row, key - firstKey);
            if (weight == 0.0) {
              // 0 * inf is NaN, but only if f32 has no smaller weight either.
              weight = exactWeight(asked, key, rowFactor(row));
            }
            if (weight >= 0.0 || isnan(weight)) { sum += weight * numbers; }
          }
        }
        arena[scratch + i] = floatBitsToUint(sum);
      }
      SUBGROUP_SYNC();
      Accumulator addend;
      coopMatLoad(addend, arena, scratch, FRAGMENT_N / 4, ROW_MAJOR);
      UNROLL for (uint f = 0; f < ROW_FRAGMENTS * E_FRAGMENTS; ++f) {
        if (f == r * E_FRAGMENTS + n) {
          result[f] = result[f] + addend;
        }
      }
      SUBGROUP_SYNC();
    }
  }
}

// --- Output ----------------------------------------------------------------------------------------------

// PARTS_OF_FRAGMENTS. Fragments go to memory and back through the score rows, some at a time, in a rolled loop that
// asks every fragment whether it is one of them. A loop around one with an unknown number of trips is not unrolled by
// Mesa whatever it is told, and fragments indexed by what is not a constant lie in memory for the whole kernel: RADV
// for NAVI31 then kept Q and O of D = E = 256 in 1536 bytes of scratch for each lane, and reached 16 fragments of
// D = E = 128 by comparisons (119 branches).

/// Between the result fragments and memory, through the score rows: rows of E_PADDED channels, some at a time.
void loadResults() {
  [[dont_unroll]] for (uint first = 0; first < E_FRAGMENTS; first += ROW_PARTS) {
    const uint fragments = min(ROW_PARTS, E_FRAGMENTS - first);
    SUBGROUP_SYNC();
    const uint units = fragments * FRAGMENT_N / 4;
    for (uint i = lane; i < ROWS * units; i += SUBGROUP_SIZE) {
      const uint token = min(firstRow + i / units, queryTokens - 1);
      const uint channel = first * FRAGMENT_N + i % units * 4;
      vec4 values = loadStateChannels4(token, channel, rowFactor(i / units));
      arena[scoreBase + i / units * SCORE_PITCH + i % units] = floatBitsToUint(values);
    }
    SUBGROUP_SYNC();
    UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
      if (n >= first && n < first + fragments) {
        UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
          const uint element =
            scoreBase + r * FRAGMENT_M * SCORE_PITCH + (n - first) * (FRAGMENT_N / 4);
          coopMatLoad(result[r * E_FRAGMENTS + n], arena, element, SCORE_PITCH, ROW_MAJOR);
        }
      }
    }
  }
  SUBGROUP_SYNC();
}

void storeResults() {
  closeRows();
  [[dont_unroll]] for (uint first = 0; first < E_FRAGMENTS; first += ROW_PARTS) {
    const uint fragments = min(ROW_PARTS, E_FRAGMENTS - first);
    SUBGROUP_SYNC();
    UNROLL for (uint n = 0; n < E_FRAGMENTS; ++n) {
      if (n >= first && n < first + fragments) {
        UNROLL for (uint r = 0; r < ROW_FRAGMENTS; ++r) {
          const uint element =
            scoreBase + r * FRAGMENT_M * SCORE_PITCH + (n - first) * (FRAGMENT_N / 4);
          coopMatStore(result[r * E_FRAGMENTS + n], arena, element, SCORE_PITCH, ROW_MAJOR);
        }
      }
    }
    SUBGROUP_SYNC();
    const uint units = fragments * FRAGMENT_N / 8;
    for (uint i = lane; i < ROWS * units; i += SUBGROUP_SIZE) {
      const uint row = firstRow + i / units;
      const uint channel = first * FRAGMENT_N + i % units * 8;
      if (row < queryTokens && channel < HEAD_SIZE_V) {
        const uint element = scoreBase + i / units * SCORE_PITCH + i % units * 2;
        const float factor = rowFactor(i / units);
        const vec4 low = uintBitsToFloat(arena[element]);
        const vec4 high = uintBitsToFloat(arena[element + 1]);
        const uint64_t address = outputAddress(row);
        if (ALIGNED && OUTPUT_TYPE != ELEMENT_F32) {
          const vec4 a = MODIFIED_OUTPUT(row, channel, low * factor);
          const vec4 b = MODIFIED_OUTPUT(row, channel + 4, high * factor);
          WordQuadReference(address + channel * 2).value =
            uvec4(
              packElements(OUTPUT_TYPE, a.xy), packElements(OUTPUT_TYPE, a.zw), packElements(OUTPUT_TYPE, b.xy),
              packElements(OUTPUT_TYPE, b.zw));
        } else {
          storeChannels4(
            OUTPUT_TYPE, ALIGNED, address, channel, HEAD_SIZE_V, MODIFIED_OUTPUT(row, channel, low * factor));
          storeChannels4(
            OUTPUT_TYPE, ALIGNED, address, channel + 4, HEAD_SIZE_V,
            MODIFIED_OUTPUT(row, channel + 4, high * factor));
        }
        if (HAS(OPTION_RETURN_STATE | OPTION_KEY_RANGE)) {
          const float rowReference = uintBitsToFloat(arena[scoreBase + i / units * SCORE_PITCH + ROW_NUMBERS / 4].x);
          storeStateChannels4(row, channel, rowReference, low);
          storeStateChannels4(row, channel + 4, rowReference, high);
        }
      }
    }
  }
}

#endif
