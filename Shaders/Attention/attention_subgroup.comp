#version 460
// Tiled attention for any GPU: a query row is shared by a few lanes of a subgroup, f32 inside.
//
//   each workgroup: TILE_ROWS query rows of one head; each group of LANES_PER_ROW lanes: ROWS_PER_LANE of them
//     every lane holds D / LANES_PER_ROW channels of q and E / LANES_PER_ROW of the result for each of its rows
//     for each tile of KEY_TILE keys that some row of the workgroup sees:
//       barrier; K and V tile -> shared; barrier                                (only if STAGED)
//       for each KEY_STEP keys that some row of the subgroup sees:
//         scores = dot products over the lane's channels, summed over the row's lanes by a shuffle butterfly
//         mask where needed; where a weight would pass 2^8: move the row's reference, rescale its result
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
// Specialization constants (ids 0...4: attention_interface.glsl)
//   5   ROWS_PER_LANE   each K or V value read by a lane serves so many rows
//   6   LANES_PER_ROW   a power of two, at most the subgroup size
//   7   KEY_TILE        keys per tile: a multiple of KEY_STEP
//   8   KEY_STEP        keys whose scores a lane holds at once
//   9   STAGED          tiles in shared memory; otherwise K and V are read from memory by every lane, and there
//                       is neither shared memory nor a barrier
//   10  WIDENED         16-bit tensors are staged as f32: twice the shared memory, no conversion in the inner loops
//
// Shared memory, bytes, with C = 4 channels per 16 bytes for f32 or WIDENED, else 8, L = LANES_PER_ROW:
//   STAGED ? 16 * KEY_TILE * L * (ceil(D / (C * L)) + ceil(E / (C * L))) : 16
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
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require

#include "attention_interface.glsl"
#include "../Common/online_softmax.glsl"

layout(constant_id = 5) const uint ROWS_PER_LANE = 2;
layout(constant_id = 6) const uint LANES_PER_ROW = 2;
layout(constant_id = 7) const uint KEY_TILE = 32;
layout(constant_id = 8) const uint KEY_STEP = 8;
layout(constant_id = 9) const bool STAGED = true;
layout(constant_id = 10) const bool WIDENED = false;

// --- Derived sizes ---------------------------------------------------------------------------------------

// A unit is 16 bytes of a K or V row as the inner loops read it. Unit u of a row belongs to the lane u %
// LANES_PER_ROW of the row's lanes, so neighbouring lanes read neighbouring units.
const bool WIDENS = ELEMENT_TYPE != ELEMENT_F32 && STAGED && WIDENED;  // a load then fills two units
const bool WIDE_UNITS = ELEMENT_TYPE == ELEMENT_F32 || WIDENS;
const uint CHANNELS = WIDE_UNITS ? 4 : 8;  // of a unit
const uint VECTORS = CHANNELS / 4;         // of a unit
const uint QK_STEPS = (HEAD_SIZE_QK + CHANNELS * LANES_PER_ROW - 1) / (CHANNELS * LANES_PER_ROW);
const uint V_STEPS = (HEAD_SIZE_V + CHANNELS * LANES_PER_ROW - 1) / (CHANNELS * LANES_PER_ROW);
const uint K_PITCH = QK_STEPS * LANES_PER_ROW;  // units, the missing channels are zero
const uint V_PITCH = V_STEPS * LANES_PER_ROW;
const uint V_BASE = KEY_TILE * K_PITCH;
const uint TILE_UNITS = STAGED ? KEY_TILE * (K_PITCH + V_PITCH) : 1;

const uint TILE_ROWS = gl_WorkGroupSize.x / LANES_PER_ROW * ROWS_PER_LANE;

// The reference of a row's weights 2^(score - reference) moves only when a weight would pass 2^WEIGHT_LIMIT:
// that keeps rescaling out of nearly all steps, and f32 has range to spare.
const float WEIGHT_LIMIT = 8.0;

shared uvec4 tile[TILE_UNITS];

// --- Problem and position --------------------------------------------------------------------------------

uint batch, head, keyHead;
uint part;      // which of its rows' lanes this is
uint firstRow;  // of this lane

// --- K and V ---------------------------------------------------------------------------------------------

/// 16 bytes from channel `channel` of a row on; what is read is always inside of the tensor.
uvec4 loadWords(uint64_t base, uint tokenStride, uint token, uint channel, uint size) {
  const uint perLoad = ELEMENT_TYPE == ELEMENT_F32 ? 4 : 8;
  const uint64_t offset =
    uint64_t(min(token, p.keyTokens - 1)) * tokenStride + min(channel, size - perLoad);
  return WordQuadReference(base + offset * elementBytes(ELEMENT_TYPE)).value;
}

/// Copies KEY_TILE rows, `pitch` units each, into the tile.
void stage(
  const uint tileBase, const uint pitch, uint64_t base, uint tokenStride, uint firstKey, const uint size
) {
  const uint unitsPerLoad = WIDENS ? 2 : 1;
  const uint loadsPerRow = pitch / unitsPerLoad;
  const uint loads = KEY_TILE * loadsPerRow;
  [[unroll]] for (uint first = 0; first < loads; first += gl_WorkGroupSize.x) {
    const uint i = first + gl_LocalInvocationIndex;
    if (i < loads) {
      const uint key = i / loadsPerRow;
      const uint unit = i % loadsPerRow * unitsPerLoad;
      uvec4 words = loadWords(base, tokenStride, firstKey + key, unit * CHANNELS, size);
      if (unit * CHANNELS >= size) {
        words = uvec4(0);
      }
      const uint place = tileBase + key * pitch + unit;
      if (unitsPerLoad == 2) {
        tile[place] = floatBitsToUint(
          vec4(unpackElements(ELEMENT_TYPE, words.x), unpackElements(ELEMENT_TYPE, words.y)));
        tile[place + 1] = floatBitsToUint(
          vec4(unpackElements(ELEMENT_TYPE, words.z), unpackElements(ELEMENT_TYPE, words.w)));
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
  uvec4 words = loadWords(keyBase, p.kTokenStride, firstKey + key, unit * CHANNELS, HEAD_SIZE_QK);
  if (HEAD_SIZE_QK % (CHANNELS * LANES_PER_ROW) != 0 && unit * CHANNELS >= HEAD_SIZE_QK) {
    words = uvec4(0);
  }
  return words;
}

uvec4 valueUnit(uint firstKey, uint key, uint step) {
  const uint unit = step * LANES_PER_ROW + part;
  if (STAGED) {
    return tile[V_BASE + key * V_PITCH + unit];
  }
  return loadWords(valueBase, p.vTokenStride, firstKey + key, unit * CHANNELS, HEAD_SIZE_V);
}

/// Four channels of a unit.
vec4 unpackUnit(uvec4 unit, const uint vector) {
  if (WIDE_UNITS) {
    return uintBitsToFloat(unit);
  }
  const uvec2 words = vector == 0 ? unit.xy : unit.zw;
  return vec4(unpackElements(ELEMENT_TYPE, words.x), unpackElements(ELEMENT_TYPE, words.y));
}

// --- One step of keys ------------------------------------------------------------------------------------

vec4 query[ROWS_PER_LANE * QK_STEPS * VECTORS];
vec4 result[ROWS_PER_LANE * V_STEPS * VECTORS];
float reference[ROWS_PER_LANE];
float weightSum[ROWS_PER_LANE];
uint visible[ROWS_PER_LANE];
float weights[ROWS_PER_LANE * KEY_STEP];  // scores first

/// weights = raw scores q.k of the keys key..<key + KEY_STEP of the tile that begins at `firstKey`
void computeScores(uint firstKey, uint key) {
  [[unroll]] for (uint i = 0; i < ROWS_PER_LANE * KEY_STEP; ++i) {
    weights[i] = 0.0;
  }
  [[unroll]] for (uint step = 0; step < QK_STEPS; ++step) {
    [[unroll]] for (uint c = 0; c < KEY_STEP; ++c) {
      const uvec4 unit = keyUnit(firstKey, key + c, step);
      [[unroll]] for (uint v = 0; v < VECTORS; ++v) {
        const vec4 k = unpackUnit(unit, v);
        [[unroll]] for (uint r = 0; r < ROWS_PER_LANE; ++r) {
          const vec4 q = query[(r * QK_STEPS + step) * VECTORS + v];
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
void computeWeights(uint firstKey, bool hasHidden, float scale) {
  if (hasHidden) {
    const float hidden = hiddenScore(scale);
    [[unroll]] for (uint r = 0; r < ROWS_PER_LANE; ++r) {
      [[unroll]] for (uint c = 0; c < KEY_STEP; ++c) {
        weights[r * KEY_STEP + c] = firstKey + c < visible[r] ? weights[r * KEY_STEP + c] : hidden;
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
      [[unroll]] for (uint i = 0; i < V_STEPS * VECTORS; ++i) {
        result[r * V_STEPS * VECTORS + i] *= factor;
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
      [[unroll]] for (uint v = 0; v < VECTORS; ++v) {
        const vec4 value = unpackUnit(unit, v);
        [[unroll]] for (uint r = 0; r < ROWS_PER_LANE; ++r) {
          const uint i = (r * V_STEPS + step) * VECTORS + v;
          const vec4 sum = fma(vec4(weights[r * KEY_STEP + c]), value, result[i]);
          result[i] = !guarded || firstKey + key + c < visible[r] ? sum : result[i];
        }
      }
    }
  }
}

// --- Output ----------------------------------------------------------------------------------------------

void storeResults() {
  [[unroll]] for (uint r = 0; r < ROWS_PER_LANE; ++r) {
    const uint row = firstRow + r;
    if (row >= p.queryTokens) {
      continue;
    }
    const float factor = normalisation(weightSum[r]);
    const uint64_t address = outputAddress(batch, row, head);
    [[unroll]] for (uint step = 0; step < V_STEPS; ++step) {
      const uint channel = (step * LANES_PER_ROW + part) * CHANNELS;
      if (channel < HEAD_SIZE_V) {
        [[unroll]] for (uint v = 0; v < VECTORS; ++v) {
          storeElements4(
            ELEMENT_TYPE, address + (channel + v * 4) * elementBytes(ELEMENT_TYPE),
            result[(r * V_STEPS + step) * VECTORS + v] * factor);
        }
      }
    }
    if (p.lse != 0ul && part == 0) {
      FloatReference(lseAddress(batch, row, head)).value =
        naturalLogSum(reference[r], weightSum[r]);
    }
  }
}

void main() {
  batch = gl_WorkGroupID.z;
  head = gl_WorkGroupID.y;
  keyHead = head / p.headsPerGroup;
  keyBase = keyAddress(batch, 0, keyHead);
  valueBase = valueAddress(batch, 0, keyHead);

  uint rowTile = p.firstTile + gl_WorkGroupID.x;
  if (CAUSAL) {
    // Later rows see more keys: begin with the long tiles, so that the short ones fill the end.
    rowTile = (p.queryTokens + TILE_ROWS - 1) / TILE_ROWS - 1 - rowTile;
  }
  const uint tileRow = rowTile * TILE_ROWS;
  const uint subgroupLane = gl_SubgroupID * gl_SubgroupSize;
  const uint subgroupRow = tileRow + subgroupLane / LANES_PER_ROW * ROWS_PER_LANE;
  const uint subgroupRows = gl_SubgroupSize / LANES_PER_ROW * ROWS_PER_LANE;
  part = gl_SubgroupInvocationID % LANES_PER_ROW;
  firstRow = subgroupRow + gl_SubgroupInvocationID / LANES_PER_ROW * ROWS_PER_LANE;

  const uint lastRow = p.queryTokens - 1;
  const uint endKey = visibleKeyCount(min(tileRow + TILE_ROWS - 1, lastRow));
  // What this subgroup's rows see in any case, and at most.
  const uint allSee = visibleKeyCount(subgroupRow);
  const uint someSee = subgroupRow > lastRow ? 0 : visibleKeyCount(min(subgroupRow + subgroupRows - 1, lastRow));
  const float scale = log2Scale(p.scale);

  [[unroll]] for (uint r = 0; r < ROWS_PER_LANE; ++r) {
    const uint row = min(firstRow + r, lastRow);
    const uint64_t address = queryAddress(batch, row, head);
    [[unroll]] for (uint step = 0; step < QK_STEPS; ++step) {
      const uint channel = (step * LANES_PER_ROW + part) * CHANNELS;
      [[unroll]] for (uint v = 0; v < VECTORS; ++v) {
        const uint clamped = min(channel + v * 4, HEAD_SIZE_QK - 4);
        const vec4 q = loadElements4(ELEMENT_TYPE, address + clamped * elementBytes(ELEMENT_TYPE));
        query[(r * QK_STEPS + step) * VECTORS + v] = channel < HEAD_SIZE_QK ? q : vec4(0.0);
      }
    }
    [[unroll]] for (uint i = 0; i < V_STEPS * VECTORS; ++i) {
      result[r * V_STEPS * VECTORS + i] = vec4(0.0);
    }
    reference[r] = -INFINITY;
    weightSum[r] = 0.0;
    visible[r] = visibleKeyCount(row);
  }

  for (uint firstKey = 0; firstKey < endKey; firstKey += KEY_TILE) {
    if (STAGED) {
      barrier();
      stage(0, K_PITCH, keyBase, p.kTokenStride, firstKey, HEAD_SIZE_QK);
      stage(V_BASE, V_PITCH, valueBase, p.vTokenStride, firstKey, HEAD_SIZE_V);
      barrier();
    }
    const uint keys = firstKey < someSee ? min(KEY_TILE, someSee - firstKey) : 0;
    [[dont_unroll]] for (uint key = 0; key < keys; key += KEY_STEP) {
      computeScores(firstKey, key);
      const bool hasHidden = firstKey + key + KEY_STEP > allSee;
      computeWeights(firstKey + key, hasHidden, scale);
      if (hasHidden) {
        accumulateValues(firstKey, key, true);
      } else {
        accumulateValues(firstKey, key, false);
      }
    }
  }
  storeResults();
}
