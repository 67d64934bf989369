#version 460
// What linear_matrix_walk.comp needs of blocks of C rows, by matrix products: for states whose key channels decay by
// themselves (GLA, HGRN-2, RWKV-6), the delta rule (DeltaNet, gated DeltaNet, DeltaProduct, KDA, Comba, Gated
// DeltaNet-2) and low-rank changes (RWKV-7). What a record holds and how it lies: linear_matrix_records.glsl. All
// blocks of all heads at once: no block needs another one.
//
// @spirv-opt off
// @variant linear_matrix_prepare
// @variant linear_matrix_prepare_software SOFTWARE
//
//   each workgroup: one block of C = 64 (or 32) rows of one sequence and head, f_i the decays of row i's channels
//     greatest |q|, |beta k|, |e|, |v| of the block: each gets a power of two that brings it to the top of f16's range
//     for 16 channels at a time:
//       f, beta k -> shared, f32; their products over groups of 16 rows;                       workgroup barriers
//       lanes, down and up the rows of a group:
//         Q~, K~, E~ -> record, q and e times f up to the row, k times f behind it, from and to the block's ends
//         for halves of 32 rows and of 16: the second half's q and e from its start on, the first half's k to its end
//                                                                -> shared, as two f16;        workgroup barrier
//       A, B between the halves += products of these (fragments)
//       A, B within a group of 16 rows += q_i f_i f_(i-1) ... f_(j+1) k_j (lanes, f32), one row j after the other
//     A -> record
//     T = (I + B)^-1 (lanes, f32): 16 rows by substitution, then T21 = -T22 B21 T11 for halves of 16 and 32
//     W|U = T (E~ | w . v) (fragments) -> record, in the place of E~
//
// (Yang et al. 2023, arXiv:2312.06635, section 4.3; Yang et al. 2024, arXiv:2406.06484 and arXiv:2412.06464; Kimi Team
// 2025, arXiv:2510.26692.) Two rows meet either in their group or, once, as rows of two halves of one piece: decays are
// multiplied from the row to the border between the halves, on both sides. So decays are only ever multiplied, as
// factors of at most 1: nothing overflows, no logarithms are summed, -inf clears exactly, and what underflows is too
// small to matter.
//
// What is rounded. Numbers are f32 until a matrix takes them. What makes the state goes as two f16, 22 bits together,
// in three products (high high, low high, high low); so do Q~ and A where o is f32, else they are rounded to f16 once,
// as o is. The powers of two are the block's: a number that is less than 2^-38 of the block's greatest one loses
// digits. T is f32; W and U are bounded by the sums of T's rows, so that their power is known before they are.
//
// Missing and spoilt data. Rows behind the last one and channels past K or V are 0, replaced, not multiplied. inf and
// NaN stay in their row of Q~, A, B and T; in E~ and v they would meet the zeros of T above the diagonal, so they are
// taken out and the rows that see them become NaN afterwards, in U only in their column.
//
// Workgroup: C / M subgroups of SUBGROUP_SIZE, full. Grid: x = blocks of a sequence, y = value head, z = sequence.
// Specialization constants: linear_matrix_records.glsl; fragments of up to 16x16x16. Seen with 8x8x8 and 16x16x16,
// subgroups of 8 lanes.
//
// Shared memory, bytes, with L = 2 for C = 64, 1 for C = 32; delta rule, and without it:
//   16 max(10 C + 7.5 L C, C (C/4 + 1) + C N / 4) + 20 C + 44            C = 64: 26,924   C = 32: 9,644
//   16 max(10 C + 5 L C, C (C/4 + 1)) + 20 C + 44                        C = 64: 21,804   C = 32: 8,364
// Registers per lane for fragments and rows, 16x16x16 and 32 lanes: 24 + 16 + 16; then 32 + 16.
//
// Counts for one block, C = 64, K = V = 128, delta rule, o in f16, thousands of multiply-adds: between halves A 197 and
// B 590 (three products), W|U 1966; lanes: within groups 262 and as many multiplications by decays, T 90. Without the
// delta rule 197 and half of the lanes' work. Bytes of the record: Q~ 16,384, K~ 32,768, A 8,192, W|U 65,536, the rest
// 1,056: 123,936, or 1,937 for a token and head; without the delta rule 58,400, or 913. With the tensors (f16, f32
// decays of key channels) 5.4 and 3.4 thousand bytes go through memory for a token and head of both kernels, if caches
// hold nothing of one for the other. Floor on a device of 132 multiprocessors at 1.755 GHz, each 2048 multiply-adds by
// matrices and 128 by lanes a clock, and 3.35 TB/s, counted and NOT MEASURED, for a token and head of both kernels,
// delta rule:
//   matrix units  0.34 ns    (10.4 million multiply-adds for a block and two tiles of columns)
//   lanes         0.32 ns    at least, in this kernel
//   memory        1.6 ns     what binds, unless the second-level cache keeps the records
// B1 T8192 H96: 1.3 ms by memory; as a submission's records are held to 64 MiB, a large cache has most of them.
//
// Variants, on lavapipe (Mesa 26.1.6), of which only sizes and compile times say something about other devices:
//   q and e of a slab in shared memory, f32: 41,260 bytes, too much for 32 KiB; loaded twice instead
//   products of two parts written out: 3.3 s of compile time for KDA on 8x8x8; in a loop over the three 2.2 s
// Not taken: scores of a scalar decay by matrices alone, decays applied to them afterwards: it would save the lanes'
// work within groups, but memory binds. U and W as f32: the same bytes, and the walk would have to split them.
//
#extension GL_GOOGLE_include_directive : require

#include "linear_matrix_fragments.glsl"
#include "linear_matrix_rows.glsl"

// --- Derived sizes ---------------------------------------------------------------------------------------

const uint GROUP = 16;  // rows whose products among themselves are made by lanes
const uint GROUPS = BLOCK_ROWS / GROUP;
const uint LEVELS = GROUPS == 4 ? 2 : 1;  // of halves of 16 rows, of 32 rows
const uint SLAB = 16;                     // channels at a time
const uint SLABS = K_PADDED / SLAB;

const bool HAS_A = !HAS(OPTION_NO_OUTPUT | OPTION_NO_UPDATE);
const bool HAS_B = IS_DELTA;
const uint TENSORS = (HAS_A ? 1 : 0) + (HAS_B ? 1 : 0);
const uint LEVEL_TILES = BLOCK_ROWS / 2 * GROUP / (FRAGMENT_M * FRAGMENT_N);  // of the level of 16 rows
const uint TILES = LEVEL_TILES * ((1 << LEVELS) - 1) * TENSORS;
const uint TILE_SLOTS = (TILES + SUBGROUPS - 1) / SUBGROUPS;
const uint ROW_SLOTS = (BLOCK_ROWS * TENSORS + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;
const uint INVERSE_SLOTS = (BLOCK_ROWS + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;

// The arena is addressed in units of 16 bytes, with a unit of padding in each row. While slabs are summed: the decays
// and keys of 16 channels as they are (f32), and for each level its operands as two f16 after one another.
const uint NUMBERS_PITCH = SLAB / 4 + 1;
const uint AT_FACTORS = 0;
const uint AT_KEYS = BLOCK_ROWS * NUMBERS_PITCH;
const uint AT_LEVELS = 2 * BLOCK_ROWS * NUMBERS_PITCH;
const uint PAIR_PITCH = 2 * SLAB / 8 + 1;
const uint LEVEL_UNITS = BLOCK_ROWS * PAIR_PITCH + (HAS_B ? BLOCK_ROWS / 2 * PAIR_PITCH : 0);
const uint SLAB_UNITS = AT_LEVELS + LEVELS * LEVEL_UNITS;
// Then A, f32; then B, T = (I + B)^-1 in its place, and T as two f16 in that; behind it M by N numbers of each
// subgroup.
const uint SQUARE_PITCH = BLOCK_ROWS / 4 + 1;
const uint WORK_BASE = BLOCK_ROWS * SQUARE_PITCH;
const uint SQUARE_UNITS = WORK_BASE + (HAS_B ? BLOCK_ROWS * FRAGMENT_N / 4 : 0);
const uint ARENA_UNITS = SLAB_UNITS > SQUARE_UNITS ? SLAB_UNITS : SQUARE_UNITS;
const uint EIGHTS = BLOCK_ROWS * BLOCK_ROWS / 8;  // of a square
const uint EIGHT_SLOTS = (EIGHTS + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;

// What other invocations of the workgroup have written is read.
layout(buffer_reference, scalar, buffer_reference_align = 16) workgroupcoherent buffer Halves { float16_t numbers[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) workgroupcoherent buffer SharedQuad { uvec4 value; };
layout(buffer_reference, scalar, buffer_reference_align = 4) workgroupcoherent buffer SharedWord { uint value; };

shared uvec4 arena[ARENA_UNITS];
shared vec2 scalars[BLOCK_ROWS];     // of each row: the number that its decays make, its strength
shared vec2 totals[GROUPS * SLAB / 2];  // the decays of a group together
shared uint maxima[6];               // of q, k, e, v, A, the sums of T's rows: as bits
shared uint seen[2 * BLOCK_ROWS];    // of A, then of T: of each row, what is not 0
shared uint spoilt[4];               // rows whose e is not finite; rows of W that it spoils
shared uint nonFinite;               // whether v is not finite somewhere

const uint MAXIMUM_Q = 0, MAXIMUM_K = 1, MAXIMUM_E = 2, MAXIMUM_V = 3, MAXIMUM_A = 4, MAXIMUM_T = 5;

int powers[5];  // as in the record; those of W and U are of e and v before the system is solved

bool isFinite(vec4 numbers) {
  return all(lessThan(abs(numbers), vec4(INFINITY)));
}

// --- Slabs of channels -----------------------------------------------------------------------------------

void findMaxima() {
  float q = 0, k = 0, e = 0, v = 0;
  const uint quads = K_PADDED / 4;
  for (uint i = gl_LocalInvocationIndex; i < BLOCK_ROWS * quads; i += gl_WorkGroupSize.x) {
    const uint r = i / quads;
    const uint channel = i % quads * 4;
    if (READS) { q = greatestFinite(queryQuad(r, channel), q); }
    if (UPDATES_STATE) { k = greatestFinite(keyQuad(r, channel) * scalarsOf(r).y, k); }
    if (HAS_B) { e = greatestFinite(eraseQuad(r, channel), e); }
  }
  const uint units = V_PADDED / 8;
  for (uint i = gl_LocalInvocationIndex; i < (HAS_B ? BLOCK_ROWS * units : 0); i += gl_WorkGroupSize.x) {
    vec4 low, high;
    loadWritten(i / units, i % units * 8, low, high);
    v = greatestFinite(high, greatestFinite(low, v));
  }
  if (READS) { atomicMax(maxima[MAXIMUM_Q], floatBitsToUint(q)); }
  if (UPDATES_STATE) { atomicMax(maxima[MAXIMUM_K], floatBitsToUint(k)); }
  if (HAS_B) {
    atomicMax(maxima[MAXIMUM_E], floatBitsToUint(e));
    atomicMax(maxima[MAXIMUM_V], floatBitsToUint(v));
  }
}

/// 16 channels of every row as they are.
void stageNumbers(uint slab) {
  for (uint i = gl_LocalInvocationIndex; i < BLOCK_ROWS * (SLAB / 4); i += gl_WorkGroupSize.x) {
    const uint r = i / (SLAB / 4);
    const uint channel = slab * SLAB + i % (SLAB / 4) * 4;
    const uint place = r * NUMBERS_PITCH + i % (SLAB / 4);
    if (UPDATES_STATE) {
      const vec2 own = scalars[r];
      arena[AT_FACTORS + place] = floatBitsToUint(factorQuad(r, channel, own.x));
      // Behind the last row 0 must not meet a strength.
      arena[AT_KEYS + place] = floatBitsToUint(r < rows ? keyQuad(r, channel) * own.y : vec4(0.0));
    }
    if (HAS_B && !isFinite(eraseQuad(r, channel))) { atomicOr(spoilt[r / 32], 1u << (r % 32)); }
  }
}

/// Channels 2 * pair and the next of a row of the decays or keys.
vec2 numberPair(uint area, uint r, uint pair) {
  const uvec4 unit = arena[area + r * NUMBERS_PITCH + pair / 2];
  return uintBitsToFloat(pair % 2 == 0 ? unit.xy : unit.zw);
}

/// The decays of groups of rows.
void multiplyGroups() {
  for (uint i = gl_LocalInvocationIndex; i < GROUPS * (SLAB / 2); i += gl_WorkGroupSize.x) {
    vec2 total = vec2(1.0);
    for (uint r = 0; r < GROUP; ++r) { total *= numberPair(AT_FACTORS, i / (SLAB / 2) * GROUP + r, i % (SLAB / 2)); }
    totals[i] = total;
  }
}

/// The decays of groups from one up to another.
vec2 decaysOfGroups(uint first, uint end, uint pair) {
  vec2 total = vec2(1.0);
  for (uint group = first; group < end; ++group) { total *= totals[group * (SLAB / 2) + pair]; }
  return total;
}

void putLevel(uint place, uint pair, vec2 numbers) {
  const uvec2 words = splitPair(numbers);
  arena[place + pair / 4][pair % 4] = words.x;
  arena[place + SLAB / 8 + pair / 4][pair % 4] = words.y;
}

/// The same in the record, in two matrices that are `distance` numbers apart.
void putRecord(uint place, uint distance, bool isTwo, vec2 numbers) {
  const uvec2 words = splitPair(numbers);
  SharedWord(record + place * 2).value = words.x;
  if (isTwo) { SharedWord(record + (place + distance) * 2).value = words.y; }
}

/// k of a group's rows with the decays after them: up to the end of the half for each level, to the block's end for
/// the record. Levels have the keys of first halves and the queries of second ones.
void decayKeys(uint group, uint pair, uint channel) {
  const float scale = powerOfTwo(powers[POWER_K]);
  const vec2 toEnd = decaysOfGroups(group + 1, GROUPS, pair);
  const vec2 toHalf = LEVELS == 2 && group % 2 == 0 ? totals[(group + 1) * (SLAB / 2) + pair] : vec2(1.0);
  vec2 passed = vec2(scale);
  for (uint i = GROUP; i-- > 0;) {
    const uint r = group * GROUP + i;
    const vec2 key = numberPair(AT_KEYS, r, pair) * passed;
    putRecord(AT_K + r * K_PADDED + channel, TILE, true, key * toEnd);
    if (TENSORS > 0 && group % 2 == 0) { putLevel(AT_LEVELS + r * PAIR_PITCH, pair, key); }
    if (TENSORS > 0 && LEVELS == 2 && group < 2) {
      putLevel(AT_LEVELS + LEVEL_UNITS + r * PAIR_PITCH, pair, key * toHalf);
    }
    passed *= numberPair(AT_FACTORS, r, pair);
  }
}

/// Four channels of q or e.
vec4 readerQuad(bool isErased, uint r, uint channel) {
  if (HAS_B && isErased) { return eraseQuad(r, channel); }
  return READS ? queryQuad(r, channel) : vec4(0.0);
}

/// q or e of a group's rows with the decays before them, likewise.
void decayReaders(bool isErased, uint group, uint pair, uint channel) {
  const float scale = powerOfTwo(powers[isErased ? POWER_W : POWER_Q]);
  const bool passesOwn = isErased ? !HAS(OPTION_LOW_RANK) : !HAS(OPTION_BEFORE);
  const bool isInLevels = isErased || HAS_A;
  const vec2 fromStart = UPDATES_STATE ? decaysOfGroups(0, group, pair) : vec2(1.0);
  const vec2 fromHalf = LEVELS == 2 && group == 3 ? totals[2 * (SLAB / 2) + pair] : vec2(1.0);
  vec2 passed = vec2(scale);
  for (uint i = 0; i < GROUP; ++i) {
    const uint r = group * GROUP + i;
    const vec2 factor = UPDATES_STATE ? numberPair(AT_FACTORS, r, pair) : vec2(1.0);
    if (passesOwn) { passed *= factor; }
    const vec4 quad = readerQuad(isErased, r, channel / 4 * 4);
    const vec2 numbers = (pair % 2 == 0 ? quad.xy : quad.zw) * passed;
    if (isErased) {
      // Rows of products would take over what is not finite from the rows behind them; W's lanes add it.
      const vec2 finite = mix(vec2(0.0), numbers * fromStart, lessThan(abs(numbers), vec2(INFINITY)));
      putRecord(AT_SOLVED + r * SOLVED_PITCH + channel, SOLVED, true, finite);
    } else {
      putRecord(AT_Q + r * K_PADDED + channel, TILE, IS_SPLIT, numbers * fromStart);
    }
    // Of e a level has only the rows of second halves.
    const uint erasedBase = AT_LEVELS + BLOCK_ROWS * PAIR_PITCH;
    if (isInLevels && group % 2 == 1) {
      putLevel(
        isErased ? erasedBase + (group / 2 * GROUP + i) * PAIR_PITCH : AT_LEVELS + r * PAIR_PITCH, pair, numbers);
    }
    if (isInLevels && LEVELS == 2 && group >= 2) {
      putLevel(
        LEVEL_UNITS + (isErased ? erasedBase + (r - 2 * GROUP) * PAIR_PITCH : AT_LEVELS + r * PAIR_PITCH), pair,
        numbers * fromHalf);
    }
    if (!passesOwn) { passed *= factor; }
  }
}

void decayRows(uint slab) {
  const uint items = GROUPS * (SLAB / 2);
  const uint roles = 1 + (UPDATES_STATE ? 1 : 0) + (HAS_B ? 1 : 0);
  for (uint i = gl_LocalInvocationIndex; i < roles * items; i += gl_WorkGroupSize.x) {
    const uint role = i / items;
    const uint group = i % items / (SLAB / 2);
    const uint pair = i % (SLAB / 2);
    const uint channel = slab * SLAB + pair * 2;
    if (role == 0) {
      if (READS) { decayReaders(false, group, pair, channel); }
    } else if (role == 1) {
      decayKeys(group, pair, channel);
      if (group == 0) {
        const vec2 all = decaysOfGroups(0, GROUPS, pair);
        WordPairReference(record + channel * 4).value = floatBitsToUint(all);
      }
    } else {
      decayReaders(true, group, pair, channel);
    }
  }
}

#include "linear_matrix_scores.glsl"
#include "linear_matrix_solve.glsl"

/// A workgroup barrier behind which what any of its invocations wrote to memory can be read.
void memoryBarrier() {
  controlBarrier(
    gl_ScopeWorkgroup, gl_ScopeWorkgroup, gl_StorageSemanticsShared | gl_StorageSemanticsBuffer,
    gl_SemanticsAcquireRelease | gl_SemanticsMakeAvailable | gl_SemanticsMakeVisible);
}

void main() {
  lane = gl_SubgroupInvocationID;
  subgroup = gl_SubgroupID;
  openSequence(gl_WorkGroupID.z + p.firstSequence, gl_WorkGroupID.y + p.firstHead);
  firstRow = gl_WorkGroupID.x * BLOCK_ROWS;
  record = recordAddress(gl_WorkGroupID.z, gl_WorkGroupID.y, gl_WorkGroupID.x);
  const uint count = rowCount();
  if (firstRow >= count) { return; }
  rows = min(BLOCK_ROWS, count - firstRow);
  openWalks();

  for (uint i = gl_LocalInvocationIndex; i < BLOCK_ROWS; i += gl_WorkGroupSize.x) {
    scalars[i] = scalarsOf(i);
    seen[i * 2] = 0;
    seen[i * 2 + 1] = 0;
    if (i < 6) { maxima[i] = 0; }
    if (i < 4) { spoilt[i] = 0; }
    if (i == 0) { nonFinite = 0; }
  }
  barrier();
  findMaxima();
  barrier();
  powers[POWER_Q] = exponentFor(maxima[MAXIMUM_Q], OTHER_LIMIT);
  powers[POWER_K] = exponentFor(maxima[MAXIMUM_K], STATE_LIMIT);
  powers[POWER_A] = 0;
  powers[POWER_W] = exponentFor(maxima[MAXIMUM_E], OTHER_LIMIT);
  powers[POWER_U] = exponentFor(maxima[MAXIMUM_V], OTHER_LIMIT);

  UNROLL for (uint slot = 0; slot < TILE_SLOTS; ++slot) { products[slot] = Accumulator(0.0); }
  UNROLL for (uint slot = 0; slot < ROW_SLOTS; ++slot) {
    UNROLL for (uint j = 0; j < GROUP; ++j) { own[slot][j] = 0; }
  }
  uint slab = 0;
  for (;;) {
    stageNumbers(slab);
    barrier();
    if (UPDATES_STATE) { multiplyGroups(); }
    barrier();
    decayRows(slab);
    if (TENSORS > 0) {
      multiplyOwnGroups(slab);
      barrier();
      multiplyTiles();
    }
    barrier();
    slab++;
    if (slab >= SLABS) { break; }
  }
  if (HAS_A) {
    putProducts(false);
    barrier();
    atomicMax(maxima[MAXIMUM_A], floatBitsToUint(scanSquare()));
    barrier();
    powers[POWER_A] = exponentFor(maxima[MAXIMUM_A], OTHER_LIMIT);
    storeA();
    barrier();
  }
  if (HAS_B) {
    putProducts(true);
    barrier();
    invertGroups();
    barrier();
    putInverses();
    barrier();
    joinHalves(GROUP);
    if (LEVELS == 2) { joinHalves(2 * GROUP); }
    scanInverse();
    stageWritten();
    barrier();
    const int exponent = exponentFor(maxima[MAXIMUM_T], OTHER_LIMIT);
    splitInverse(powerOfTwo(exponent));
    memoryBarrier();
    // Sums are at most those of T's rows times the greatest number, less than 2^30 as they are multiplied here.
    solve(powerOfTwo(-15));
    powers[POWER_W] += exponent - 15;
    powers[POWER_U] += exponent - 15;
  }
  if (gl_LocalInvocationIndex < 5) {
    // Not an index that the lanes' registers are addressed by.
    int own = powers[0];
    UNROLL for (uint i = 1; i < 5; ++i) { own = gl_LocalInvocationIndex == i ? powers[i] : own; }
    WordReference(record + (AT_POWERS + gl_LocalInvocationIndex) * 4).value = uint(own);
  }
}
