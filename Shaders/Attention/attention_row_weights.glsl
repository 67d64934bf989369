// The weights of a block of keys in the row kernels of attention and of decode: a row for each invocation. Included
// behind attention_options.glsl and the constant KEYS_PER_BLOCK.

#ifndef ATTENTION_ROW_WEIGHTS_GLSL
#define ATTENTION_ROW_WEIGHTS_GLSL

float rowMax;  // of the scores so far
float rowSum;  // of 2^(score - rowMax)
Row row;

// Words that hold the bytes of a block's keys in a dense mask, which begin anywhere in the first.
const uint MASK_WORDS = (KEYS_PER_BLOCK + 3) / 4 + 1;

/// Bit c is set where key firstKey + c is hidden from the row.
///
/// The bytes of a dense mask are loaded a word at a time: a load at an address of each lane's own is a test, a branch
/// and an insertion for each lane on a software driver. Ten documents in 4096 tokens, H8 D64 f32, lavapipe at 512 bits
/// on two cores of an EPYC 9004, ms: a load for each key and 128 x 128 blocks in the block map, without that map 134,
/// with it 48 (no mask at all: 204); the step behind the last hidden one not looked up twice 126, and 64 x 64 blocks
/// 38; words 73 and 33.7 (128 x 128 blocks 37.6, 32 x 32 blocks 32.8, 16 x 16 blocks 31.9).
uint hiddenKeys(uint firstKey) {
  uint words[MASK_WORDS];
  uint skip = 0;  // bits of the first word before the first key
  if (HAS(OPTION_MASK)) {
    const uint64_t first = row.mask + firstKey;
    const uint64_t last = roundedDown(row.mask + min(firstKey + KEYS_PER_BLOCK, keyTokens) - 1, 4);
    skip = (uint(first) & 3u) * 8;
    [[unroll]] for (uint w = 0; w < MASK_WORDS; w++) {
      words[w] = WordReference(min(roundedDown(first, 4) + w * 4, last)).value;
    }
  }
  uint hidden = 0;
  [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {
    uint maskByte = 0;
    if (HAS(OPTION_MASK)) {
      const uint at = skip + c % 4 * 8;
      maskByte = (at < 32 ? words[c / 4] >> at : words[c / 4 + 1] >> at - 32) & 0xffu;
    }
    if (!seesKey(row, int(firstKey + c), maskByte)) { hidden |= 1u << c; }
  }
  return hidden;
}

/// Turns the scores of a block into weights and adds them to the row: m' = max(m, s); p = 2^(s - m');
/// l = l 2^(m - m') + sum p. Returns 2^(m - m').
float weighBlock(const bool masked, inout uint hidden, uint firstKey, inout float s[KEYS_PER_BLOCK]) {
  float newMax = rowMax;
  float poison = 0;
  [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {
    if (MAPS_SCORES) { s[c] = mapScore(row, s[c], int(firstKey + c)); }
    if (masked && (hidden >> c & 1u) != 0) { s[c] = -INFINITY; }
    if (MAPS_TO_HIDDEN && s[c] == -INFINITY) { hidden |= 1u << c; }
    newMax = max(newMax, s[c]);
    poison += s[c];
  }
  // max and exp2 may lose a NaN; a sum does not.
  float blockSum = isnan(poison) ? QUIET_NAN : 0;
  const float origin = newMax == -INFINITY ? 0 : newMax;
  const float rescale = exp2(rowMax - origin);
  [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {
    s[c] = exp2(s[c] - origin);
    if ((masked || MAPS_TO_HIDDEN) && (hidden >> c & 1u) != 0) { s[c] = 0; }
    blockSum += s[c];
  }
  rowMax = newMax;
  rowSum = fma(rowSum, rescale, blockSum);
  return rescale;
}

#endif
