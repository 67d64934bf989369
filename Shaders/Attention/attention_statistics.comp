#version 460

// Statistics of an attention, after it: from q, k and the log-sum-exp that it returned. Softmax only.
//
//   p[b,h,i,j] = exp(s[b,h,i,j] - lse[b,i,h])         0 for keys that the row does not see; s by mapScore()
//
// STATISTIC chooses what is kept of p:
//
//   0  key sums      c[b,h,j]   = sum of p[b,h,i,j] over the last L rows i
//   1  probabilities a[b,r,h,j] = p[b,h,i_r,j]        for the R listed rows i_r, clamped to 0 ..< S
//   2  entropy       e[b,i,h]   = -sum over j of p ln p   (0 ln 0 = 0)
//   3  top keys      x[b,i,h,n], w[b,i,h,n]           the keys of the n-th largest p, and that p; equal ones by
//                                                     rising key; -1 and 0 where the row sees no more keys
//
// Heavy hitters of a cache are chosen by c (H2O, https://arxiv.org/abs/2306.14048; with the last rows alone SnapKV,
// https://arxiv.org/abs/2404.06654). With sinks, or a state from before, a row's p add up to less than 1: what they
// hold is no key's, and no part of the entropy. A NaN among a row's scores makes its lse NaN, and then the p of all
// keys that it sees; its top keys are then the first that it sees, each with NaN.
//
// Memory: q [B,S,H,D] and k [B,T,G,D] by strides, of QUERY_TYPE and KEY_TYPE; lse f32 [B,S,H]. Results contiguous at
// p.o: c f32 [B,H,T], a f32 [B,R,H,T], e f32 [B,S,H], w f32 [B,S,H,K]. At p.v: the rows i_r, int [R], or x,
// int [B,S,H,K]. p.vTokenStride: L (0), R (1). T is 1 or more. Packed sequences: c [H,keys of all], e and w and x
// [queries of all,...], a [B,R,H,T] with the rows i_r of each sequence; tokens outside of every sequence are left out.
//
//   0, 1: each invocation owns a key                  2, 3: each invocation owns a query row
//     k_j in registers                                  q_i in registers
//     for each block of C rows that may see a key       for each block of C keys that a row of the
//     of the workgroup (1: for each block of C rows):   workgroup may see:
//       s = q . k_j, q at uniform addresses               s = q_i . k, k at uniform addresses
//       sum += p (1: store p)                             sum -= p ln p (3: insert p into the list)
//
// f32 arithmetic; sums in the order of rows and keys, so that the same inputs give the same bits; no shared memory,
// no barrier, no subgroup operation.
//
// Grid: x = tiles of keys (0, 1) or of rows (2, 3) from firstTile on, y = H, z = B. Workgroup: any size.
//
// Operations: D multiply-adds, one exp2 and the options for each pair of a row and a key: what Q K^T costs once more,
// for keys that a whole tile does not see nothing (1: no tile is passed over, zeros are written). Bytes: q and k
// once per tile on the other side, from caches as a rule; what is kept of p is small, so p is never written (1 aside).
//
// The list of 3 lies in registers, in order, K steps of one comparison and four selections per key. An index that is
// not a constant after unrolling would make it memory with one gather per access on the software driver, which also
// runs both sides of an if: skipping a key that is not among the best would save nothing there. On a GPU large lists
// spill; there, shared memory was not tried.
//
// Milliseconds, B1 H8 S=T=1024, [B,S,H,D], AMD EPYC Zen 3, both cores of a busy machine, lavapipe of Mesa 26.1.6, best
// of 7, beside the attention (path row) in the same minute; one run on a busy machine, so compare neighbours only:
//
//               attention  c of all rows  of the last 32  a of 32 rows   e   x, w: K = 1     8    64
//   D=64  f32          74             56             1.0           3.0   56           44   108   276
//     causal           37             22             1.1           1.7   16           16    54   136
//   D=128 f32         201             84             2.3           4.4   96           80   180   352
//   D=64  f16          64             80             1.1           1.8   92           84   121   280

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require

#include "attention_options.glsl"

layout(constant_id = 5) const uint STATISTIC = 0;
layout(constant_id = 6) const uint TOP_KEYS = 1;   // K
layout(constant_id = 7) const uint BLOCK = 4;      // C: rows or keys whose products are made at once

const uint KEY_SUMS = 0;
const uint PROBABILITIES = 1;
const uint ENTROPY = 2;
const uint TOP = 3;

const uint QUADS = (HEAD_SIZE_QK + 3) / 4;
// Below every probability.
const float NO_KEY = -1.0;

// What has a result, of this sequence: query rows and keys, those behind its length included.
uint ownedRows, ownedKeys;

vec4 own[QUADS];  // the key or the query (not scaled) of this invocation

/// What a row needs for its probabilities.
struct StatisticRow {
  Row row;
  float lse;
};

StatisticRow openStatisticRow(uint token) {
  StatisticRow opened;
  opened.row = openRow(token);
  opened.lse = FloatReference(p.lse + rowIndex(HAS(OPTION_PACKED_SEQUENCES), token) * 4ul).value;
  return opened;
}

/// p of a key that the row may see, from q . k; NO_KEY where it does not.
float probability(StatisticRow opened, float product, int key, out float exponent) {
  float score = product * opened.row.scale;
  if (MAPS_SCORES) { score = mapScore(opened.row, score, key); }
  const bool seen = seesKey(opened.row, key) && score != -INFINITY;
  exponent = fma(opened.lse, -LOG2_E, score);
  // exp2 may lose a NaN.
  const float weight = isnan(exponent) ? QUIET_NAN : exp2(exponent);
  return seen ? weight : NO_KEY;
}

// --- An invocation for each key --------------------------------------------------------------------------

/// Whether one of the rows first ... last may see one of the keys.
bool mayMeet(uint first, uint last, int firstKey, int lastKey) {
  bool meet = firstKey < endKey(int(last)) && lastKey >= beginKey(int(first));
  if (HAS(OPTION_SINK_TOKENS)) {
    meet = meet || firstKey < sinkEnd(int(last)) && lastKey >= lowestKey;
  }
  return meet;
}

void walkRows(uint tile) {
  const uint key = tile * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
  const uint readable = min(key, keyTokens - 1);
  const uint64_t address = keyBaseAddress() + uint64_t(readable) * p.kTokenStride * elementBytes(KEY_TYPE);
  [[unroll]] for (uint d = 0; d < QUADS; d++) {
    own[d] = loadChannels4(KEY_TYPE, ALIGNED, address, d * 4, HEAD_SIZE_QK);
  }
  const int firstKey = int(tile * gl_WorkGroupSize.x);
  const int lastKey = firstKey + int(gl_WorkGroupSize.x) - 1;
  const uint end = STATISTIC == KEY_SUMS ? ownedRows : p.vTokenStride;
  uint first = STATISTIC == KEY_SUMS ? end - min(end, p.vTokenStride) : 0;
  if (HAS(OPTION_PACKED_SEQUENCES) && STATISTIC == KEY_SUMS) {
    // A tile behind the sequence.
    first = firstKey < int(ownedKeys) ? first : end;
  }
  float sum = 0.0;
  // All loops test at their end: the software driver finds out only there that every lane has left.
  for (;;) {
    if (STATISTIC == KEY_SUMS && HAS(OPTION_INTERVALS)) {
      for (;;) {
        if (first + BLOCK >= end || mayMeet(first, first + BLOCK - 1, firstKey, lastKey)) { break; }
        first += BLOCK;
      }
    }
    StatisticRow rows[BLOCK];
    uint64_t queries[BLOCK];
    float products[BLOCK];
    [[unroll]] for (uint r = 0; r < BLOCK; r++) {
      uint token = min(first + r, max(end, 1) - 1);
      if (STATISTIC == PROBABILITIES) {
        token = uint(clamp(IntegerReference(p.v + token * 4ul).value, 0, int(queryTokens) - 1));
      }
      rows[r] = openStatisticRow(token);
      queries[r] = queryAddress(token);
      products[r] = 0.0;
    }
    [[unroll]] for (uint d = 0; d < QUADS; d++) {
      [[unroll]] for (uint r = 0; r < BLOCK; r++) {
        const vec4 q = loadQueryChannels4(queries[r], d * 4);
        [[unroll]] for (uint x = 0; x < 4; x++) { products[r] = fma(q[x], own[d][x], products[r]); }
      }
    }
    [[unroll]] for (uint r = 0; r < BLOCK; r++) {
      float exponent;
      float weight = probability(rows[r], products[r], int(key), exponent);
      weight = weight == NO_KEY ? 0.0 : weight;
      if (STATISTIC == KEY_SUMS) {
        sum += first + r < end ? weight : 0.0;
      } else if (first + r < end && key < p.keyTokens) {
        if (ownedRows == 0) { weight = 0.0; }
        const uint64_t place =
          ((uint64_t(batch) * end + first + r) * p.queryHeads + head) * p.keyTokens + key;
        FloatReference(p.o + place * 4ul).value = weight;
      }
    }
    first += BLOCK;
    if (first >= end) { break; }
  }
  if (STATISTIC == KEY_SUMS && key < ownedKeys) {
    uint64_t place = (uint64_t(batch) * p.queryHeads + head) * p.keyTokens + key;
    if (HAS(OPTION_PACKED_SEQUENCES)) {
      place = uint64_t(head) * uint(OPTION_BLOCK.keyTotal) + firstKeyToken + key;
    }
    FloatReference(p.o + place * 4ul).value = sum;
  }
}

// --- An invocation for each row --------------------------------------------------------------------------

// The largest probabilities so far, falling, and their keys.
float best[TOP_KEYS];
int bestKeys[TOP_KEYS];

/// Behind all that are as large: they are of keys before this one.
void insert(float weight, int key) {
  // From the end on, so that each place reads what its neighbour was.
  [[unroll]] for (uint m = 0; m < TOP_KEYS; m++) {
    const uint n = TOP_KEYS - 1 - m;
    const bool here = weight > best[n];
    const bool above = n > 0 && weight > best[max(n, 1) - 1];
    const float moved = above ? best[max(n, 1) - 1] : weight;
    const int movedKey = above ? bestKeys[max(n, 1) - 1] : key;
    best[n] = here ? moved : best[n];
    bestKeys[n] = here ? movedKey : bestKeys[n];
  }
}

void walkKeys(uint tile) {
  const uint firstRow = tile * gl_WorkGroupSize.x;
  const uint ownRow = firstRow + gl_LocalInvocationID.x;
  const uint token = min(ownRow, queryTokens - 1);
  const StatisticRow opened = openStatisticRow(token);
  const uint64_t address = queryAddress(token);
  [[unroll]] for (uint d = 0; d < QUADS; d++) { own[d] = loadQueryChannels4(address, d * 4); }
  [[unroll]] for (uint n = 0; n < TOP_KEYS; n++) {
    best[n] = NO_KEY;
    bestKeys[n] = -1;
  }
  float sum = 0.0;
  KeyWalk walk = openTileWalk(
    int(firstRow), int(min(firstRow + gl_WorkGroupSize.x, queryTokens)) - 1, BLOCK);
  // A tile behind the sequence.
  if (HAS(OPTION_PACKED_SEQUENCES) && firstRow >= ownedRows) { walk.end = 0; }
  const uint64_t base = keyBaseAddress();
  const uint64_t step = uint64_t(p.kTokenStride) * elementBytes(KEY_TYPE);
  uint first = walk.first;
  if (first < walk.end) {
    for (;;) {
      uint64_t keys[BLOCK];
      float products[BLOCK];
      [[unroll]] for (uint c = 0; c < BLOCK; c++) {
        keys[c] = base + min(first + c, keyTokens - 1) * step;
        products[c] = 0.0;
      }
      [[unroll]] for (uint d = 0; d < QUADS; d++) {
        [[unroll]] for (uint c = 0; c < BLOCK; c++) {
          const vec4 k = loadChannels4(KEY_TYPE, ALIGNED, keys[c], d * 4, HEAD_SIZE_QK);
          [[unroll]] for (uint x = 0; x < 4; x++) { products[c] = fma(own[d][x], k[x], products[c]); }
        }
      }
      [[unroll]] for (uint c = 0; c < BLOCK; c++) {
        float exponent;
        const float weight = probability(opened, products[c], int(first + c), exponent);
        if (STATISTIC == ENTROPY) {
          // 0 where the weight is: the exponent may be -inf.
          const bool counts = weight != NO_KEY && weight != 0.0;
          sum -= counts ? weight * exponent : 0.0;
        } else {
          insert(isnan(weight) ? INFINITY : weight, int(first + c));
        }
      }
      first = nextStep(walk, first, BLOCK);
      if (first >= walk.end) { break; }
    }
  }
  if (ownRow < ownedRows) {
    const uint64_t place = rowIndex(HAS(OPTION_PACKED_SEQUENCES), token);
    if (STATISTIC == ENTROPY) {
      FloatReference(p.o + place * 4ul).value = sum * LN_2;
    } else {
      [[unroll]] for (uint n = 0; n < TOP_KEYS; n++) {
        const uint64_t offset = (place * TOP_KEYS + n) * 4ul;
        const float weight = best[n] == INFINITY ? QUIET_NAN : best[n];
        WordReference(p.v + offset).value = uint(bestKeys[n]);
        FloatReference(p.o + offset).value = weight == NO_KEY ? 0.0 : weight;
      }
    }
  }
}

void main() {
  openProblem();
  ownedRows = queryTokens;
  ownedKeys = p.keyTokens;
  // A sequence without keys or queries: what is read is a token that nobody sees or that has no result. It may be
  // another sequence's.
  keyTokens = max(keyTokens, 1);
  if (HAS(OPTION_PACKED_SEQUENCES)) {
    const int keyTotal = OPTION_BLOCK.keyTotal;
    const int k1 = clamp(loadInt(TENSOR_KEY_STARTS, batch + 1), int(firstKeyToken), keyTotal);
    ownedKeys = min(uint(k1) - firstKeyToken, p.keyTokens);
    queryTokens = max(queryTokens, 1);
    firstQuery = min(firstQuery, uint(OPTION_BLOCK.queryTotal) - 1);
    firstKeyToken = min(firstKeyToken, uint(keyTotal) - 1);
  }
  const uint tile = gl_WorkGroupID.x + p.firstTile;
  if (STATISTIC == KEY_SUMS || STATISTIC == PROBABILITIES) {
    walkRows(tile);
  } else {
    walkKeys(tile);
  }
}
