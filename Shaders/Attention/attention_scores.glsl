// The map from scale q.k to the finished score of a key: the relative term, soft cap, biases, normaliser. Included by
// attention_options.glsl.
//
// Normalisers other than softmax are softmax of another score: a weight w is 2^(log2 w), so a ReLU'd score is
// log2(max(s, 0)), a sigmoid -log2(1 + 2^-s), and only the last factor differs (finishRow in attention_states.glsl).
// Online softmax then keeps their weights in range as well.

#ifndef ATTENTION_SCORES_GLSL
#define ATTENTION_SCORES_GLSL

#include "attention_masks.glsl"
#ifdef CUSTOM_ATTENTION
#include "attention_custom.glsl"
#endif

/// tanh to f32's accuracy; the built-in one may overflow for large arguments.
float boundedTanh(float x) {
  const float square = x * x;
  // Near 0 the quotient cancels. Taylor's series to x^11 is good to 1e-6 of x at 0.5.
  const float series = x * fma(square, fma(square, fma(square, fma(square, fma(square,
    -1382.0 / 155925.0, 62.0 / 2835.0), -17.0 / 315.0), 2.0 / 15.0), -1.0 / 3.0), 1.0);
  const float quotient = 1.0 - 2.0 / (1.0 + exp2(2.0 * LOG2_E * x));
  return abs(x) < 0.5 ? series : quotient;
}

/// A score with a bias, an exponent of 2 with a natural one. -inf hides the key, whatever its score is: NaN too.
float addBias(float score, float bias) {
  return bias == -INFINITY ? -INFINITY : fma(bias, LOG2_E, score);
}

/// The finished score of a key from scale * q.k, both as exponents of 2; -inf where its weight is 0. Any key may
/// be asked for while the sequence has one.
float mapScore(Row row, float score, int asked) {
  const int key = min(asked, int(keyTokens) - 1);
  const int distance = key - row.token - positionOffset;
  if (HAS(OPTION_RELATIVE_TERM)) {
    const int place = clamp(distance, -OPTION_BLOCK.relativeLeft, OPTION_BLOCK.relativeRight)
      + OPTION_BLOCK.relativeLeft;
    score = fma(FloatReference(row.relativeTerm + uint(place) * 4).value, row.scale, score);
  }
  if (HAS(OPTION_SOFTCAP)) {
    const float cap = OPTION_BLOCK.softcap;
    score = cap * boundedTanh(score / cap);
  }
  if (HAS(OPTION_BIAS)) {
    score = addBias(score, loadElement(BIAS_TYPE, row.bias + uint64_t(key) * elementBytes(BIAS_TYPE)));
  }
  if (HAS(OPTION_KEY_BIAS)) {
    score = addBias(score, loadFloat(TENSOR_KEY_BIAS, tensorIndex(TENSOR_KEY_BIAS, firstKeyToken + key)));
  }
  if (HAS(OPTION_RELATIVE_BIAS)) {
    const int place = clamp(distance, -OPTION_BLOCK.relativeLeft, OPTION_BLOCK.relativeRight)
      + OPTION_BLOCK.relativeLeft;
    score = addBias(
      score, loadFloat(TENSOR_RELATIVE_BIAS, tensorIndex(TENSOR_RELATIVE_BIAS, 0) + uint(place)));
  }
  if (HAS(OPTION_GRID_BIAS)) {
    const int width = OPTION_BLOCK.gridWidth;
    const int dy = row.token / width - key / width + OPTION_BLOCK.gridHeight - 1;
    const int dx = row.token % width - key % width + width - 1;
    const uint place = uint(dy * (2 * width - 1) + dx);
    score = addBias(score, loadFloat(TENSOR_GRID_BIAS, tensorIndex(TENSOR_GRID_BIAS, place)));
  }
  if (HAS(OPTION_ALIBI)) { score = fma(-slope, float(abs(distance)), score); }
#ifdef CUSTOM_SCORE
  // What a bias hides stays hidden, whatever is made of its score.
  if (!HAS(OPTION_BIAS | OPTION_KEY_BIAS | OPTION_RELATIVE_BIAS | OPTION_GRID_BIAS) || score != -INFINITY) {
    score = LOG2_E * customScore(LN_2 * score, int(batch), int(head), row.token, key);
  }
#endif
  if (HAS(OPTION_RELU)) {
    // A NaN must stay one, so max() will not do.
    score = score <= 0.0 ? -INFINITY : log2(score * LN_2);
  }
  if (HAS(OPTION_SIGMOID)) {
    const float shifted = score + OPTION_BLOCK.sigmoidBias;
    const float weight = min(shifted, 0.0) - log2(1.0 + exp2(-abs(shifted)));
    score = isnan(shifted) ? shifted : weight;
  }
  return score;
}

#endif
