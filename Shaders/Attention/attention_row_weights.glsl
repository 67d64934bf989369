// The weights of a block of keys in the row kernels of attention and of decode: a row for each invocation. Included
// behind attention_options.glsl and the constant KEYS_PER_BLOCK.

#ifndef ATTENTION_ROW_WEIGHTS_GLSL
#define ATTENTION_ROW_WEIGHTS_GLSL

float rowMax;  // of the scores so far
float rowSum;  // of 2^(score - rowMax)
Row row;

/// Bit c is set where key firstKey + c is hidden from the row.
uint hiddenKeys(uint firstKey) {
  uint hidden = 0;
  [[unroll]] for (uint c = 0; c < KEYS_PER_BLOCK; c++) {
    if (!seesKey(row, int(firstKey + c))) { hidden |= 1u << c; }
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
