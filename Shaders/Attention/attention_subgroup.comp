#version 460
// Tiled attention for any GPU: a query row is shared by a few lanes of a subgroup, f32 inside.
//
//   each workgroup: TILE_ROWS query rows of one head; each group of LANES_PER_ROW lanes: ROWS_PER_LANE of them
//     every lane holds D / LANES_PER_ROW channels of q and E / LANES_PER_ROW of the result for each of its rows
//     for each tile of KEY_TILE keys that some row of the workgroup sees:
//       barrier; K and V tile -> shared; barrier                                (only if STAGED)
//       for each KEY_STEP keys that some row of the subgroup sees:
//         scores = dot products over the lane's channels, summed over the row's lanes by a shuffle butterfly
//         map and mask where needed; where a weight would pass 2^8: move the row's reference, rescale its result
//         weights = 2^(score * scale * log2 e - reference); weightSum += weights; result += weights V
//     output = result / weightSum; lse = (reference + log2 weightSum) ln 2
//
// Scores, weights and row statistics never leave registers, and no barrier stands between them: the tile load
// is the only thing that the lanes of a workgroup have to agree on.
//
// Masked and missing data. What is read is always inside the tensors: tokens past T - 1 and channels past the end
// are clamped, missing channels of q and K are zero. Hidden scores are replaced before the maximum; in steps
// with hidden keys a row adds V only from keys that it sees, by select, since 0 * NaN is NaN.
//
// Workgroup: any multiple of the subgroup size (id 0), full subgroups of any size >= LANES_PER_ROW; the size need
// not be known. Grid x: ceil(S / TILE_ROWS) tiles of TILE_ROWS = id 0 / LANES_PER_ROW * ROWS_PER_LANE rows. With
// CAUSAL, tile t holds the t-th LAST group of rows: a cut by firstTile gets its long tiles first.
//
// Of short sequences, windows and axes several problems share a workgroup: attention_problems.glsl.
//
// Specialization constants (ids 0...4: attention_interface.glsl)
//   5   ROWS_PER_LANE   each K or V value read by a lane serves so many rows
//   6   LANES_PER_ROW   a power of two, at most the subgroup size
//   7   KEY_TILE        keys per tile: a multiple of KEY_STEP
//   8   KEY_STEP        keys whose scores a lane holds at once
//   9   STAGED          tiles in shared memory; otherwise K and V are read from memory by every lane, and there
//                       is neither shared memory nor a barrier
//   10  WIDENED         16-bit tensors are staged as f32: twice the shared memory, no conversion in the inner loops
//   11  PROBLEMS_PER_WORKGROUP (attention_problems.glsl)
//
// Shared memory, bytes, with C = 4 channels per 16 bytes for f32, WIDENED or not ALIGNED, else 8 (of K and of V),
// L = LANES_PER_ROW:
//   STAGED ? 16 * KEY_TILE * L * (ceil(D / (C * L)) + (VALUE_IS_KEY ? 0 : ceil(E / (C * L)))) : 16
// Registers per lane, 32 bit, beside about 40: ROWS_PER_LANE * ((D + E) / LANES_PER_ROW + KEY_STEP)
//
// Device: shaderInt64, bufferDeviceAddress, scalarBlockLayout; subgroup basic and shuffle in compute. Neither
// float16 arithmetic nor 16-bit storage: f16 and bf16 are unpacked from words.
//
// Why lanes share a row: (D + E) / L = 64 channels a lane, 2 rows and 8 keys make 64 * 2 = 128 multiply-adds per
// key for 16 shared loads of 16 bytes, each of which is L adjacent 16-byte words seen by all lane groups (one
// bank pass), log2 L shuffles a row and 2 exponentials. A tile of scores per subgroup would need as many loads
// and in addition weights through shared memory; a whole row per lane would need 256 registers at D = 64.
//
// Ladder (lavapipe, one thread, B1 H4 S=T=512 f32, GFLOP/s at D=E=64 and 128; no GPU yet; R rows, L lanes,
// S keys per step): unstaged R1 L1 S4 48, 48; R1 L1 S8 46, 46; R1 L1 S16 40, 40; R2 L1 S4 48, 26; R2 L1 S8 38, 27.
// Staged R2 L2 S4 9, 9: per-lane addresses are gathers there, so on a CPU only L = 1 unstaged makes sense.
// f16: R1 L1 S8 24, 23; R2 L1 S8 28, 23. D=E=256: R1 L1 S8 29. Two threads at S=T=1024: 63 and 71.
// Problems of a workgroup (B4096 H4 D=E=8 S=T f32, R1 L1 S8, 16 lanes, two threads of an EPYC 9004): S=16, a
// subgroup each: 1 problem 27.9, 2 27.3, 8 27.6, 16 26.8 (path row 32.4). S=8, half of one each: 1 problem 11.4, 2 6.1,
// 4 2.9. S=20: 1 problem in two subgroups 17.8, 2 to 4 in shares of 20 and more lanes 5.6 to 6.6. Starting a workgroup
// costs nothing there, and two problems in a subgroup make gathers of its loads: a processor shares none.
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_vote : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require

#include "attention_options.glsl"

layout(constant_id = 5) const uint ROWS_PER_LANE = 2;
layout(constant_id = 6) const uint LANES_PER_ROW = 2;
layout(constant_id = 7) const uint KEY_TILE = 32;
layout(constant_id = 8) const uint KEY_STEP = 8;
layout(constant_id = 9) const bool STAGED = true;
layout(constant_id = 10) const bool WIDENED = false;
layout(constant_id = 11) const uint PROBLEMS_PER_WORKGROUP = 1;

// --- Derived sizes ---------------------------------------------------------------------------------------

// A unit is 16 bytes of a K or V row as the inner loops read it. Unit u of a row belongs to the lane u %
// LANES_PER_ROW of the row's lanes, so neighbouring lanes read neighbouring units.
const bool WIDENS_K = KEY_TYPE != ELEMENT_F32 && ALIGNED && STAGED && WIDENED;  // a load then fills two units
const bool WIDENS_V = VALUE_TYPE != ELEMENT_F32 && ALIGNED && STAGED && WIDENED;
// 16-bit elements that are loaded one by one stay f32.
const bool NARROW_K = KEY_TYPE != ELEMENT_F32 && ALIGNED && !WIDENS_K;
const bool NARROW_V = VALUE_TYPE != ELEMENT_F32 && ALIGNED && !WIDENS_V;
const uint CHANNELS_K = NARROW_K ? 8 : 4;  // of a unit
const uint CHANNELS_V = NARROW_V ? 8 : 4;
const uint VECTORS_K = CHANNELS_K / 4;   // of a unit
const uint VECTORS_V = CHANNELS_V / 4;
const uint QK_STEPS = (HEAD_SIZE_QK + CHANNELS_K * LANES_PER_ROW - 1) / (CHANNELS_K * LANES_PER_ROW);
const uint V_STEPS = (HEAD_SIZE_V + CHANNELS_V * LANES_PER_ROW - 1) / (CHANNELS_V * LANES_PER_ROW);
const uint K_PITCH = QK_STEPS * LANES_PER_ROW;  // units, the missing channels are zero
const uint V_PITCH = VALUE_IS_KEY ? K_PITCH : V_STEPS * LANES_PER_ROW;
const uint V_BASE = VALUE_IS_KEY ? 0 : KEY_TILE * K_PITCH;
const uint TILE_UNITS = STAGED ? V_BASE + KEY_TILE * V_PITCH : 1;

const bool SHARES_WORKGROUP = PROBLEMS_PER_WORKGROUP > 1;
// What is left over belongs to the last problem, and is behind its rows.
const uint PROBLEM_LANES = gl_WorkGroupSize.x / PROBLEMS_PER_WORKGROUP / LANES_PER_ROW * LANES_PER_ROW;
const uint TILE_ROWS = PROBLEM_LANES / LANES_PER_ROW * ROWS_PER_LANE;

// The reference of a row's weights 2^(score - reference) moves only when a weight would pass 2^WEIGHT_LIMIT:
// that keeps rescaling out of nearly all steps, and f32 has range to spare.
const float WEIGHT_LIMIT = 8.0;

shared uvec4 tile[TILE_UNITS];

// --- Position --------------------------------------------------------------------------------------------

uint part;        // which of its rows' lanes this is
uint firstRow;    // of this lane
uint storedRows;  // rows that are stored: those of the problem, or none where a problem is computed twice

#include "attention_problems.glsl"

// --- K and V ---------------------------------------------------------------------------------------------

/// 16 bytes from channel `channel` of a row on, or 4 channels as f32 where rows are not aligned. What is read is
/// always inside of the tensor; channels past the end are 0 only where rows are not aligned.
uvec4 loadWords(
  const uint type, uint64_t base, uint tokenStride, uint token, uint channel, const uint size
) {
  const uint64_t row =
    base + uint64_t(min(token, keyTokens - 1)) * tokenStride * elementBytes(type);
  const uint perLoad = type == ELEMENT_F32 ? 4 : 8;
  if (ALIGNED) {
    return WordQuadReference(row + min(channel, size - perLoad) * elementBytes(type)).value;
  }
  return floatBitsToUint(loadChannels4(type, false, row, channel, size));
}

/// Copies KEY_TILE rows, `pitch` units each, into the tile.
void stage(
  const uint type, const bool widens, const uint tileBase, const uint pitch, uint64_t base, uint tokenStride,
  uint firstKey, const uint size
) {
  const uint unitsPerLoad = widens ? 2 : 1;
  const uint channels = type == ELEMENT_F32 || widens || !ALIGNED ? 4 : 8;
  const uint loadsPerRow = pitch / unitsPerLoad;
  const uint loads = KEY_TILE * loadsPerRow;
  [[unroll]] for (uint first = 0; first < loads; first += gl_WorkGroupSize.x) {
    const uint i = first + gl_LocalInvocationIndex;
    if (i < loads) {
      const uint key = i / loadsPerRow;
      const uint unit = i % loadsPerRow * unitsPerLoad;
      uvec4 words = loadWords(type, base, tokenStride, firstKey + key, unit * channels, size);
      if (unit * channels >= size) {
        words = uvec4(0);
      }
      const uint place = tileBase + key * pitch + unit;
      if (unitsPerLoad == 2) {
        tile[place] = floatBitsToUint(
          vec4(unpackElements(type, words.x), unpackElements(type, words.y)));
        tile[place + 1] = floatBitsToUint(
          vec4(unpackElements(type, words.z), unpackElements(type, words.w)));
      } else {
        tile[place] = words;
      }
    }
  }
}

uint64_t keyBase, valueBase;

uvec4 keyUnit(uint firstKey, uint key, uint step) {
  const uint unit = step * LANES_PER_ROW + part;
  if (STAGED) {
    return tile[key * K_PITCH + unit];
  }
  uvec4 words = loadWords(
    KEY_TYPE, keyBase, p.kTokenStride, firstKey + key, unit * CHANNELS_K, HEAD_SIZE_QK);
  if (HEAD_SIZE_QK % (CHANNELS_K * LANES_PER_ROW) != 0 && unit * CHANNELS_K >= HEAD_SIZE_QK) {
    words = uvec4(0);
  }
  return words;
}

uvec4 valueUnit(uint firstKey, uint key, uint step) {
  const uint unit = step * LANES_PER_ROW + part;
  if (STAGED) {
    return tile[V_BASE + key * V_PITCH + unit];
  }
  return loadWords(
    VALUE_TYPE, valueBase, p.vTokenStride, firstKey + key, unit * CHANNELS_V, HEAD_SIZE_V);
}

/// Four channels of a unit.
vec4 unpackUnit(const uint type, const bool isNarrow, uvec4 unit, const uint vector) {
  if (!isNarrow) {
    return uintBitsToFloat(unit);
  }
  const uvec2 words = vector == 0 ? unit.xy : unit.zw;
  return vec4(unpackElements(type, words.x), unpackElements(type, words.y));
}

// --- One step of keys ------------------------------------------------------------------------------------

vec4 query[ROWS_PER_LANE * QK_STEPS * VECTORS_K];
vec4 result[ROWS_PER_LANE * V_STEPS * VECTORS_V];
float reference[ROWS_PER_LANE];
float weightSum[ROWS_PER_LANE];
Row rows[ROWS_PER_LANE];
uint hidden[ROWS_PER_LANE];               // bit c: key c of the step gives the row nothing
float weights[ROWS_PER_LANE * KEY_STEP];  // scores first

/// hidden = what the masks hide of the step that begins at `firstKey`; false where that is all of it, for every
/// row of the subgroup.
bool lookUpStep(uint firstKey) {
  bool seesSome = false;
  [[unroll]] for (uint r = 0; r < ROWS_PER_LANE; ++r) {
    hidden[r] = 0;
    [[unroll]] for (uint c = 0; c < KEY_STEP; ++c) {
      if (!seesKey(rows[r], int(firstKey + c))) { hidden[r] |= 1u << c; }
    }
    seesSome = seesSome || hidden[r] != (1u << KEY_STEP) - 1;
  }
  return subgroupAny(seesSome);
}

/// weights = raw scores q.k of the keys key..<key + KEY_STEP of the tile that begins at `firstKey`
void computeScores(uint firstKey, uint key) {
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE * KEY_STEP; ++i) {
    weights[i] = 0.0;
  }
  [[unroll]] for (uint step = 0; step < QK_STEPS; ++step) {
    [[unroll]] for (uint c = 0; c < KEY_STEP; ++c) {
      const uvec4 unit = keyUnit(firstKey, key + c, step);
      [[unroll]] for (uint v = 0; v < VECTORS_K; ++v) {
        const vec4 k = unpackUnit(KEY_TYPE, NARROW_K, unit, v);
        [[unroll]] for (uint r = 0; r < ROWS_PER_LANE; ++r) {
          const vec4 q = query[(r * QK_STEPS + step) * VECTORS_K + v];
          const float sum = weights[r * KEY_STEP + c];
          weights[r * KEY_STEP + c] = fma(q.w, k.w, fma(q.z, k.z, fma(q.y, k.y, fma(q.x, k.x, sum))));
        }
      }
    }
  }
  // A butterfly adds the same pairs in every lane, so all lanes of a row go on with the same bits.
  [[unroll]] for (uint distance = 1; distance < LANES_PER_ROW; distance *= 2) {
    [[unroll]] for (uint i = 0; i < ROWS_PER_LANE * KEY_STEP; ++i) {
      weights[i] += subgroupShuffleXor(weights[i], distance);
    }
  }
}

/// Turns scores into weights, moves the references of rows that need it and rescales what they weighed.
void computeWeights(uint firstKey, bool hasHidden) {
  // Where scores are mapped they are exponents of 2 already.
  const float scale = MAPS_SCORES ? 1.0 : log2Scale(p.scale);
  if (MAPS_SCORES) {
    [[unroll]] for (uint r = 0; r < ROWS_PER_LANE; ++r) {
      [[unroll]] for (uint c = 0; c < KEY_STEP; ++c) {
        const float score =
          mapScore(rows[r], weights[r * KEY_STEP + c] * rows[r].scale, int(firstKey + c));
        weights[r * KEY_STEP + c] = score;
        if (MAPS_TO_HIDDEN && score == -INFINITY) { hidden[r] |= 1u << c; }
      }
    }
  }
  if (hasHidden) {
    const float hiddenValue = hiddenScore(scale);
    [[unroll]] for (uint r = 0; r < ROWS_PER_LANE; ++r) {
      [[unroll]] for (uint c = 0; c < KEY_STEP; ++c) {
        weights[r * KEY_STEP + c] = (hidden[r] >> c & 1u) != 0 ? hiddenValue : weights[r * KEY_STEP + c];
      }
    }
  }
  float maximum[ROWS_PER_LANE];
  bool grows = false;
  [[unroll]] for (uint r = 0; r < ROWS_PER_LANE; ++r) {
    maximum[r] = weights[r * KEY_STEP] * scale;
    [[unroll]] for (uint c = 1; c < KEY_STEP; ++c) {
      maximum[r] = max(maximum[r], weights[r * KEY_STEP + c] * scale);
    }
    grows = grows || maximum[r] > reference[r] + WEIGHT_LIMIT;
  }
  if (grows) {
    [[unroll]] for (uint r = 0; r < ROWS_PER_LANE; ++r) {
      // Each row decides for itself, so its bits do not depend on its neighbours.
      const float moved = maximum[r] > reference[r] + WEIGHT_LIMIT ? maximum[r] : reference[r];
      const float factor = moved > reference[r] ? exp2(reference[r] - moved) : 1.0;
      reference[r] = moved;
      weightSum[r] *= factor;
      [[unroll]] for (uint i = 0; i < V_STEPS * VECTORS_V; ++i) {
        result[r * V_STEPS * VECTORS_V + i] *= factor;
      }
    }
  }
  [[unroll]] for (uint r = 0; r < ROWS_PER_LANE; ++r) {
    const float offset = weightOffset(reference[r]);
    [[unroll]] for (uint c = 0; c < KEY_STEP; ++c) {
      weights[r * KEY_STEP + c] = exp2(fma(weights[r * KEY_STEP + c], scale, offset));
      weightSum[r] += weights[r * KEY_STEP + c];
    }
  }
}

/// result += weights * V. With `guarded`, a row takes nothing from keys hidden from it: weight 0 is not
/// enough, since 0 * NaN is NaN.
void accumulateValues(uint firstKey, uint key, const bool guarded) {
  [[unroll]] for (uint c = 0; c < KEY_STEP; ++c) {
    [[unroll]] for (uint step = 0; step < V_STEPS; ++step) {
      const uvec4 unit = valueUnit(firstKey, key + c, step);
      [[unroll]] for (uint v = 0; v < VECTORS_V; ++v) {
        const vec4 value = unpackUnit(VALUE_TYPE, NARROW_V, unit, v);
        [[unroll]] for (uint r = 0; r < ROWS_PER_LANE; ++r) {
          const uint i = (r * V_STEPS + step) * VECTORS_V + v;
          const vec4 sum = fma(vec4(weights[r * KEY_STEP + c]), value, result[i]);
          result[i] = guarded && (hidden[r] >> c & 1u) != 0 ? result[i] : sum;
        }
      }
    }
  }
}

// --- Output ----------------------------------------------------------------------------------------------

void storeResults() {
  [[unroll]] for (uint r = 0; r < ROWS_PER_LANE; ++r) {
    const uint row = firstRow + r;
    if (row >= storedRows) {
      continue;
    }
    float factor;
    float lse;
    finishRow(row, reference[r], weightSum[r], factor, lse);
    const uint64_t address = outputAddress(row);
    [[unroll]] for (uint step = 0; step < V_STEPS; ++step) {
      [[unroll]] for (uint v = 0; v < VECTORS_V; ++v) {
        const uint channel = (step * LANES_PER_ROW + part) * CHANNELS_V + v * 4;
        if (channel < HEAD_SIZE_V) {
          const vec4 values = result[(r * V_STEPS + step) * VECTORS_V + v];
          storeChannels4(
            OUTPUT_TYPE, ALIGNED, address, channel, HEAD_SIZE_V, MODIFIED_OUTPUT(row, channel, values * factor));
          storeStateChannels4(row, channel, reference[r], values);
        }
      }
    }
    if (part == 0) {
      storeState(row, reference[r], weightSum[r]);
      storeLaneSum(row, 1, 0, weightSum[r]);
      if (p.lse != 0ul) {
        FloatReference(p.lse + rowIndex(HAS(OPTION_PACKED_SEQUENCES), row) * 4ul).value = lse;
      }
    }
  }
}

void main() {
  part = gl_SubgroupInvocationID % LANES_PER_ROW;
  uint tileRow = 0;
  uint lastRow;
  bool hasRows;  // whether some row of this subgroup is one of the problem's
  if (SHARES_WORKGROUP) {
    firstRow = openShare() / LANES_PER_ROW * ROWS_PER_LANE;
    lastRow = max(queryTokens, 1) - 1;
    hasRows = subgroupAny(firstRow < storedRows);
  } else {
    openProblem();
    storedRows = queryTokens;
    uint rowTile = p.firstTile + gl_WorkGroupID.x;
    if (HAS(OPTION_PACKED_SEQUENCES) && rowTile * TILE_ROWS >= queryTokens) {
      return;
    }
    if (HAS(OPTION_CAUSAL)) {
      // Later rows see more keys: begin with the long tiles, so that the short ones fill the end.
      rowTile = (queryTokens + TILE_ROWS - 1) / TILE_ROWS - 1 - rowTile;
    }
    tileRow = rowTile * TILE_ROWS;
    const uint subgroupRow = tileRow + gl_SubgroupID * gl_SubgroupSize / LANES_PER_ROW * ROWS_PER_LANE;
    firstRow = subgroupRow + gl_SubgroupInvocationID / LANES_PER_ROW * ROWS_PER_LANE;
    lastRow = queryTokens - 1;
    hasRows = subgroupRow <= lastRow;
  }
  keyBase = keyBaseAddress();
  valueBase = valueBaseAddress();

  [[unroll]] for (uint r = 0; r < ROWS_PER_LANE; ++r) {
    const uint row = min(firstRow + r, lastRow);
    rows[r] = openRow(row);
    const uint64_t address = queryAddress(row);
    [[unroll]] for (uint step = 0; step < QK_STEPS; ++step) {
      const uint channel = (step * LANES_PER_ROW + part) * CHANNELS_K;
      [[unroll]] for (uint v = 0; v < VECTORS_K; ++v) {
        // Inside of the row, whatever this lane's channels are.
        const uint clamped =
          ALIGNED ? min(channel + v * 4, HEAD_SIZE_QK - 4) : min(channel + v * 4, HEAD_SIZE_QK);
        const vec4 q = loadQueryChannels4(address, clamped);
        query[(r * QK_STEPS + step) * VECTORS_K + v] = channel < HEAD_SIZE_QK ? q : vec4(0.0);
      }
    }
    loadState(row, 1, 0, reference[r], weightSum[r]);
    [[unroll]] for (uint step = 0; step < V_STEPS; ++step) {
      [[unroll]] for (uint v = 0; v < VECTORS_V; ++v) {
        result[(r * V_STEPS + step) * VECTORS_V + v] =
          loadStateChannels4(row, (step * LANES_PER_ROW + part) * CHANNELS_V + v * 4, reference[r]);
      }
    }
  }

  // The keys that rows of the workgroup may see, the same for all of its subgroups unless they have problems of
  // their own.
  const int lastTileRow = int(min(tileRow + TILE_ROWS - 1, lastRow));
  KeyWalk walk = openTileWalk(int(tileRow), lastTileRow, KEY_TILE);
  int tileSinks = sinkEnd(lastTileRow);
  if (SHARES_WORKGROUP) { uniteWalks(walk, tileSinks); }
  // What some row of this subgroup sees, and what every row of it sees.
  int hullBegin = rows[0].begin;
  int hullEnd = rows[0].end;
  int coreBegin = rows[0].begin;
  int coreEnd = rows[0].end;
  if (HAS(OPTION_INTERVALS)) {
    [[unroll]] for (uint r = 1; r < ROWS_PER_LANE; ++r) {
      hullBegin = min(hullBegin, rows[r].begin);
      hullEnd = max(hullEnd, rows[r].end);
      coreBegin = max(coreBegin, rows[r].begin);
      coreEnd = min(coreEnd, rows[r].end);
    }
    hullBegin = subgroupMin(hullBegin);
    hullEnd = hasRows ? subgroupMax(hullEnd) : 0;
    coreBegin = subgroupMax(coreBegin);
    coreEnd = subgroupMin(coreEnd);
  } else if (!hasRows) {
    hullEnd = 0;
  }

  uint firstKey = walk.first;
  while (firstKey < walk.end) {
    if (STAGED) {
      barrier();
      stage(KEY_TYPE, WIDENS_K, 0, K_PITCH, keyBase, p.kTokenStride, firstKey, HEAD_SIZE_QK);
      if (!VALUE_IS_KEY) {
        stage(VALUE_TYPE, WIDENS_V, V_BASE, V_PITCH, valueBase, p.vTokenStride, firstKey, HEAD_SIZE_V);
      }
      barrier();
    }
    const bool hasDataMasks = stepHasDataMasks(walk, firstKey, KEY_TILE);
    int stepBegin = HAS(OPTION_LEFT_EDGE) ? clamp(hullBegin - int(firstKey), 0, int(KEY_TILE)) : 0;
    int stepEnd = clamp(hullEnd - int(firstKey), 0, int(KEY_TILE));
    if (HAS(OPTION_SINK_TOKENS)) {
      const bool hasSinks = int(firstKey) < tileSinks && hasRows;
      stepBegin = hasSinks ? 0 : stepBegin;
      stepEnd = hasSinks ? max(stepEnd, min(tileSinks - int(firstKey), int(KEY_TILE))) : stepEnd;
    }
    [[dont_unroll]] for (uint key = uint(stepBegin) / KEY_STEP * KEY_STEP; key < uint(stepEnd); key += KEY_STEP) {
      const int step = int(firstKey + key);
      const bool hasHidden =
        step < coreBegin || step + int(KEY_STEP) > coreEnd || hasDataMasks;
      [[unroll]] for (uint r = 0; r < ROWS_PER_LANE; ++r) { hidden[r] = 0; }
      if (hasHidden) {
        if (!lookUpStep(firstKey + key)) { continue; }
      }
      computeScores(firstKey, key);
      computeWeights(firstKey + key, hasHidden);
#ifdef CUSTOM_ATTENTION
      // A user's code may hide any key and seldom does: where it does not, no value needs a guard.
      bool isHiding = false;
      [[unroll]] for (uint r = 0; r < ROWS_PER_LANE; ++r) { isHiding = isHiding || hidden[r] != 0; }
      if (subgroupAny(isHiding)) {
#else
      if (MAPS_TO_HIDDEN || hasHidden) {
#endif
        accumulateValues(firstKey, key, true);
      } else {
        accumulateValues(firstKey, key, false);
      }
    }
    firstKey = nextStep(walk, firstKey, KEY_TILE);
  }
  storeResults();
}
