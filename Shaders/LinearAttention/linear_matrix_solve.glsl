// The triangular system of linear_matrix_prepare.comp, which includes this behind its own parts: T = (I + B)^-1 from B
// in the arena, then W|U = T (E~|v) in the record.

#ifndef LINEAR_MATRIX_SOLVE_GLSL
#define LINEAR_MATRIX_SOLVE_GLSL

float squareAt(uint r, uint column) {
  return uintBitsToFloat(arena[r * SQUARE_PITCH + column / 4][column % 4]);
}

void putSquare(uint r, uint column, float number) {
  arena[r * SQUARE_PITCH + column / 4][column % 4] = floatBitsToUint(number);
}

float inverse[INVERSE_SLOTS][GROUP];

/// A column of (I + B)^-1 within a group of rows.
void invertGroups() {
  UNROLL for (uint slot = 0; slot < INVERSE_SLOTS; ++slot) {
    const uint item = min(slot * gl_WorkGroupSize.x + gl_LocalInvocationIndex, BLOCK_ROWS - 1);
    const uint first = item / GROUP * GROUP;
    const uint column = item % GROUP;
    UNROLL for (uint i = 0; i < GROUP; ++i) {
      float number = i == column ? 1.0 : 0.0;
      UNROLL for (uint j = 0; j < i; ++j) { number = fma(-squareAt(first + i, first + j), inverse[slot][j], number); }
      inverse[slot][i] = i < column ? 0.0 : number;
    }
  }
}

void putInverses() {
  UNROLL for (uint slot = 0; slot < INVERSE_SLOTS; ++slot) {
    const uint item = slot * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
    if (item < BLOCK_ROWS) {
      UNROLL for (uint i = 0; i < GROUP; ++i) { putSquare(item / GROUP * GROUP + i, item, inverse[slot][i]); }
    }
  }
}

/// (I + B)^-1 of twice as many rows from that of halves: T21 = -T22 (B21 T11), the product in brackets in the place
/// above the diagonal. Rows take nothing from those behind them, not even 0 times what is there.
void joinHalves(uint reach) {
  for (uint i = gl_LocalInvocationIndex; i < BLOCK_ROWS / 2 * reach; i += gl_WorkGroupSize.x) {
    const uint first = i / (reach * reach) * 2 * reach;
    const uint r = i % (reach * reach) / reach;
    const uint column = i % reach;
    float sum = 0;
    for (uint j = column; j < reach; ++j) {
      sum = fma(squareAt(first + reach + r, first + j), squareAt(first + j, first + column), sum);
    }
    putSquare(first + r, first + reach + column, sum);
  }
  barrier();
  for (uint i = gl_LocalInvocationIndex; i < BLOCK_ROWS / 2 * reach; i += gl_WorkGroupSize.x) {
    const uint first = i / (reach * reach) * 2 * reach;
    const uint r = i % (reach * reach) / reach;
    const uint column = i % reach;
    float sum = 0;
    for (uint j = 0; j <= r; ++j) {
      sum = fma(squareAt(first + reach + r, first + reach + j), squareAt(first + j, first + reach + column), sum);
    }
    putSquare(first + reach + r, first + column, -sum);
  }
  barrier();
}

/// The greatest sum of a row of T, and the rows of W that an e that is not finite spoils.
void scanInverse() {
  scanSquare();
  const uvec2 bad = uvec2(spoilt[0], spoilt[1]);
  for (uint r = gl_LocalInvocationIndex; r < BLOCK_ROWS; r += gl_WorkGroupSize.x) {
    float sum = 0;
    bool isSpoilt = false;
    for (uint j = 0; j <= r; ++j) {
      const float number = squareAt(r, j);
      sum += abs(number) < INFINITY ? abs(number) : 0.0;
      isSpoilt = isSpoilt || ((bad[j / 32] >> (j % 32) & 1u) != 0 && number != 0.0);
    }
    if (sum < INFINITY) { atomicMax(maxima[MAXIMUM_T], floatBitsToUint(sum)); }
    if (isSpoilt) { atomicOr(spoilt[2 + r / 32], 1u << (r % 32)); }
  }
}

/// T as two f16 in its own place. Has a workgroup barrier.
void splitInverse(float scale) {
  uvec4 first[EIGHT_SLOTS], second[EIGHT_SLOTS];
  UNROLL for (uint slot = 0; slot < EIGHT_SLOTS; ++slot) {
    const uint i = min(slot * gl_WorkGroupSize.x + gl_LocalInvocationIndex, EIGHTS - 1);
    vec4 low, high;
    lowerEight(i / (BLOCK_ROWS / 8), i % (BLOCK_ROWS / 8), low, high);
    splitEight(low * scale, high * scale, first[slot], second[slot]);
  }
  barrier();
  UNROLL for (uint slot = 0; slot < EIGHT_SLOTS; ++slot) {
    const uint i = min(slot * gl_WorkGroupSize.x + gl_LocalInvocationIndex, EIGHTS - 1);
    const uint place = i / (BLOCK_ROWS / 8) * SQUARE_PITCH + i % (BLOCK_ROWS / 8);
    arena[place] = first[slot];
    arena[place + BLOCK_ROWS / 8] = second[slot];
  }
}

/// v where U will be, without what is not finite.
void stageWritten() {
  const float scale = powerOfTwo(powers[POWER_U]);
  const uint units = V_PADDED / 8;
  bool hasBad = false;
  for (uint i = gl_LocalInvocationIndex; i < BLOCK_ROWS * units; i += gl_WorkGroupSize.x) {
    vec4 low, high;
    loadWritten(i / units, i % units * 8, low, high);
    hasBad = hasBad || !isFinite(low) || !isFinite(high);
    uvec4 first, second;
    splitEight(
      mix(vec4(0.0), low * scale, lessThan(abs(low), vec4(INFINITY))),
      mix(vec4(0.0), high * scale, lessThan(abs(high), vec4(INFINITY))), first, second);
    const uint64_t address = record + (AT_SOLVED + i / units * SOLVED_PITCH + K_PADDED + i % units * 8) * 2;
    SharedQuad(address).value = first;
    SharedQuad(address + SOLVED * 2).value = second;
  }
  if (hasBad) { atomicOr(nonFinite, 1u); }
}

/// What was left out of v, in eight columns of a row of U: NaN where the row has something of it.
void addNonFinite(uint r, uint channel, inout vec4 low, inout vec4 high) {
  const uvec2 own = uvec2(seen[2 * r], seen[2 * r + 1]);
  for (uint j = 0; j <= r; ++j) {
    if ((own[j / 32] >> (j % 32) & 1u) == 0) { continue; }
    vec4 lowWritten, highWritten;
    loadWritten(j, channel, lowWritten, highWritten);
    low = mix(vec4(NOT_A_NUMBER), low, lessThan(abs(lowWritten), vec4(INFINITY)));
    high = mix(vec4(NOT_A_NUMBER), high, lessThan(abs(highWritten), vec4(INFINITY)));
  }
}

const uint COLUMN_FRAGMENTS = SOLVED_PITCH / FRAGMENT_N;
const uint ROW_FRAGMENTS = BLOCK_ROWS / FRAGMENT_M;

/// W|U = T (E~|v) times `scale`, fragments of columns at a time, each in its own place.
void solve(float scale) {
  for (uint n = subgroup; n < COLUMN_FRAGMENTS; n += SUBGROUPS) {
    Accumulator solved[ROW_FRAGMENTS];
    UNROLL for (uint m = 0; m < ROW_FRAGMENTS; ++m) { solved[m] = Accumulator(0.0); }
    UNROLL for (uint step = 0; step < BLOCK_ROWS / FRAGMENT_K; ++step) {
      const uint place = AT_SOLVED + step * FRAGMENT_K * SOLVED_PITCH + n * FRAGMENT_N;
      MatrixB columns[2];
      UNROLL for (uint i = 0; i < 2; ++i) {
        coopMatLoad(columns[i], Halves(record).numbers, place + i * SOLVED, SOLVED_PITCH, ROW_MAJOR);
      }
      UNROLL for (uint m = 0; m < ROW_FRAGMENTS; ++m) {
        if (step * FRAGMENT_K < (m + 1) * FRAGMENT_M) {
          const uint at = m * FRAGMENT_M * SQUARE_PITCH + step * (FRAGMENT_K / 8);
          MatrixA weights[2];
          UNROLL for (uint i = 0; i < 2; ++i) {
            coopMatLoad(weights[i], arena, at + i * (BLOCK_ROWS / 8), SQUARE_PITCH, ROW_MAJOR);
          }
          UNROLL for (uint product = 0; product < 3; ++product) {
            solved[m] = coopMatMulAdd(weights[product % 2], columns[product / 2], solved[m]);
          }
        }
      }
    }
    const bool isKey = n * FRAGMENT_N < K_PADDED;
    const uint work = WORK_BASE + subgroup * (FRAGMENT_M * FRAGMENT_N / 4);
    const uint units = FRAGMENT_N / 8;
    UNROLL for (uint m = 0; m < ROW_FRAGMENTS; ++m) {
      coopMatStore(solved[m], arena, work, FRAGMENT_N / 4, ROW_MAJOR);
      SUBGROUP_SYNC();
      for (uint i = lane; i < FRAGMENT_M * units; i += SUBGROUP_SIZE) {
        const uint r = m * FRAGMENT_M + i / units;
        const uint column = n * FRAGMENT_N + i % units * 8;
        vec4 low = uintBitsToFloat(arena[work + i * 2]) * scale;
        vec4 high = uintBitsToFloat(arena[work + i * 2 + 1]) * scale;
        if (isKey) {
          if ((spoilt[2 + r / 32] >> (r % 32) & 1u) != 0) { low = high = vec4(NOT_A_NUMBER); }
        } else if (nonFinite != 0) {
          addNonFinite(r, column - K_PADDED, low, high);
        }
        uvec4 first, second;
        splitEight(low, high, first, second);
        const uint64_t address = record + (AT_SOLVED + r * SOLVED_PITCH + column) * 2;
        SharedQuad(address).value = first;
        SharedQuad(address + SOLVED * 2).value = second;
      }
      SUBGROUP_SYNC();
    }
  }
}

#endif
