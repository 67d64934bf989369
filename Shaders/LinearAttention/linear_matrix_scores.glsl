// A and B of linear_matrix_prepare.comp, which includes this behind its own parts: the products of rows, slab by slab
// of channels, between halves by fragments and within groups by lanes; then A in the record.

#ifndef LINEAR_MATRIX_SCORES_GLSL
#define LINEAR_MATRIX_SCORES_GLSL

Accumulator products[TILE_SLOTS > 0 ? TILE_SLOTS : 1];
float own[ROW_SLOTS > 0 ? ROW_SLOTS : 1][GROUP];

/// A product of rows of a second half with rows of the first.
struct Tile {
  bool isErased;   // of B
  uint level;
  uint row;        // the first of M
  uint column;     // the first of N
  uint readerRow;  // the row's place in its area
};

Tile tileOf(uint index) {
  Tile tile;
  tile.isErased = HAS_B && (TENSORS == 1 || index % 2 == 1);
  uint own = index / max(TENSORS, 1);
  tile.level = own < LEVEL_TILES ? 0 : 1;
  own -= tile.level * LEVEL_TILES;
  const uint reach = GROUP << tile.level;
  const uint acrossHalf = reach / FRAGMENT_N;
  const uint perPair = reach / FRAGMENT_M * acrossHalf;
  const uint first = own / perPair * 2 * reach;
  const uint down = own % perPair / acrossHalf * FRAGMENT_M;
  tile.row = first + reach + down;
  tile.column = first + own % acrossHalf * FRAGMENT_N;
  tile.readerRow = tile.isErased ? BLOCK_ROWS + own / perPair * reach + down : tile.row;
  return tile;
}

/// Adds a slab to the products of rows that lie in different groups.
void multiplyTiles() {
  UNROLL for (uint slot = 0; slot < TILE_SLOTS; ++slot) {
    const uint index = slot * SUBGROUPS + subgroup;
    if (index < TILES) {
      const Tile tile = tileOf(index);
      const uint base = AT_LEVELS + tile.level * LEVEL_UNITS;
      // Of two numbers in two parts, three products count. A's are rounded as o is.
      const bool isWhole = IS_SPLIT || tile.isErased;
      UNROLL for (uint step = 0; step < SLAB / FRAGMENT_K; ++step) {
        MatrixA readers[2];
        MatrixB keys[2];
        UNROLL for (uint i = 0; i < 2; ++i) {
          const uint unit = step * (FRAGMENT_K / 8) + i * (SLAB / 8);
          coopMatLoad(readers[i], arena, base + tile.readerRow * PAIR_PITCH + unit, PAIR_PITCH, ROW_MAJOR);
          coopMatLoad(keys[i], arena, base + tile.column * PAIR_PITCH + unit, PAIR_PITCH, COLUMN_MAJOR);
        }
        UNROLL for (uint product = 0; product < 3; ++product) {
          if (product == 0 || isWhole) {
            products[slot] = coopMatMulAdd(readers[product % 2], keys[product / 2], products[slot]);
          }
        }
      }
    }
  }
}

/// Adds a slab to the products of a row with the rows of its own group: it passes their decays one by one.
void multiplyOwnGroups(uint slab) {
  UNROLL for (uint slot = 0; slot < ROW_SLOTS; ++slot) {
    const uint item = slot * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
    if (item < BLOCK_ROWS * TENSORS) {
      const uint r = item % BLOCK_ROWS;
      const bool isErased = HAS_B && (TENSORS == 1 || item >= BLOCK_ROWS);
      const bool passesOwn = isErased ? !HAS(OPTION_LOW_RANK) : !HAS(OPTION_BEFORE);
      vec4 reader[SLAB / 4];
      UNROLL for (uint c = 0; c < SLAB / 4; ++c) {
        reader[c] = readerQuad(isErased, r, slab * SLAB + c * 4);
      }
      UNROLL for (uint back = 0; back < GROUP; ++back) {
        const uint j = GROUP - 1 - back;
        const uint other = (r / GROUP * GROUP + j) * NUMBERS_PITCH;
        const bool passes = passesOwn ? r % GROUP >= j : r % GROUP > j;
        vec4 sum = vec4(0.0);
        UNROLL for (uint c = 0; c < SLAB / 4; ++c) {
          vec4 key = uintBitsToFloat(arena[AT_KEYS + other + c]);
          if (HAS(OPTION_BEFORE) && r % GROUP == j) {
            key *= HAS(OPTION_BONUS)
              ? loadKeys4(
                ELEMENT_F32, BLOCK.tensors[SLOT_BONUS].address + uint64_t(head) * KEY_CHANNELS * 4,
                slab * SLAB + c * 4)
              : vec4(0.0);
          }
          sum = fma(reader[c], key, sum);
          const vec4 decayed = reader[c] * uintBitsToFloat(arena[AT_FACTORS + other + c]);
          reader[c] = passes ? decayed : reader[c];
        }
        const float product = (sum.x + sum.y) + (sum.z + sum.w);
        own[slot][j] += r % GROUP >= j ? product : 0.0;
      }
    }
  }
}

/// A or B into the arena.
void putProducts(bool isErased) {
  UNROLL for (uint slot = 0; slot < TILE_SLOTS; ++slot) {
    const uint index = slot * SUBGROUPS + subgroup;
    const Tile tile = tileOf(min(index, TILES - 1));
    if (index < TILES && tile.isErased == isErased) {
      products[slot] = products[slot] * powerOfTwo(-powers[isErased ? POWER_W : POWER_Q]);
      products[slot] = products[slot] * powerOfTwo(-powers[POWER_K]);
      coopMatStore(products[slot], arena, tile.row * SQUARE_PITCH + tile.column / 4, SQUARE_PITCH, ROW_MAJOR);
    }
  }
  UNROLL for (uint slot = 0; slot < ROW_SLOTS; ++slot) {
    const uint item = slot * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
    const uint first = isErased && HAS_A ? BLOCK_ROWS : 0;
    if (item >= first && item < first + BLOCK_ROWS) {
      const uint r = item - first;
      const uint place = r * SQUARE_PITCH + r / GROUP * (GROUP / 4);
      UNROLL for (uint c = 0; c < GROUP / 4; ++c) {
        arena[place + c] =
          floatBitsToUint(vec4(own[slot][c * 4], own[slot][c * 4 + 1], own[slot][c * 4 + 2], own[slot][c * 4 + 3]));
      }
    }
  }
}

/// Eight numbers of a row of A or of T, 0 above the diagonal.
void lowerEight(uint r, uint unit, out vec4 low, out vec4 high) {
  low = uintBitsToFloat(arena[r * SQUARE_PITCH + unit * 2]);
  high = uintBitsToFloat(arena[r * SQUARE_PITCH + unit * 2 + 1]);
  UNROLL for (uint x = 0; x < 4; ++x) {
    if (unit * 8 + x > r) { low[x] = 0; }
    if (unit * 8 + 4 + x > r) { high[x] = 0; }
  }
}

/// Notes what of A or T is not 0; gives the greatest number of this lane's.
float scanSquare() {
  float greatest = 0;
  for (uint i = gl_LocalInvocationIndex; i < EIGHTS; i += gl_WorkGroupSize.x) {
    const uint r = i / (BLOCK_ROWS / 8);
    const uint unit = i % (BLOCK_ROWS / 8);
    vec4 low, high;
    lowerEight(r, unit, low, high);
    greatest = greatestFinite(high, greatestFinite(low, greatest));
    uint bits = 0;
    UNROLL for (uint x = 0; x < 4; ++x) {
      if (!(low[x] == 0.0)) { bits |= 1u << x; }
      if (!(high[x] == 0.0)) { bits |= 16u << x; }
    }
    if (bits != 0) { atomicOr(seen[r * 2 + unit / 4], bits << (unit % 4 * 8)); }
  }
  return greatest;
}

void storeA() {
  const float scale = powerOfTwo(powers[POWER_A]);
  for (uint i = gl_LocalInvocationIndex; i < EIGHTS; i += gl_WorkGroupSize.x) {
    const uint r = i / (BLOCK_ROWS / 8);
    vec4 low, high;
    lowerEight(r, i % (BLOCK_ROWS / 8), low, high);
    uvec4 first, second;
    splitEight(low * scale, high * scale, first, second);
    const uint64_t address = record + (AT_A + i * 8) * 2;
    WordQuadReference(address).value = first;
    if (IS_SPLIT) { WordQuadReference(address + SQUARE * 2).value = second; }
  }
  for (uint i = gl_LocalInvocationIndex; i < 2 * BLOCK_ROWS; i += gl_WorkGroupSize.x) {
    WordReference(record + (AT_SEEN + i) * 4).value = seen[i];
    seen[i] = 0;
  }
}

#endif
