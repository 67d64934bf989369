// Masks, changes of the scores, packed sequences, states: everything that makes one attention differ from
// another. OPTIONS says which of them a pipeline has; what it lacks costs nothing.
//
// Order: scale q.k (+ the relative term) -> soft cap -> biases -> normaliser -> masks -> online softmax.
//
// Intervals. Causal masks (plain, by blocks, with a prefix), windows, chunks, key lengths and left padding leave
// row i the keys begin(i) ..< end(i), and with sink tokens 0 ..< sinkEnd(i) as well. All three rise with i, so the
// first and the last row of a tile say which keys some row sees (the hull) and which every row sees (the core):
// tiles outside the hull are skipped, tiles inside the core need no test. Masks that are data (dense, bits,
// segments, tree) are looked up key by key.
//
// Normalisers other than softmax are softmax of another score: a weight w is 2^(log2 w), so a ReLU'd score is
// log2(max(s, 0)), a sigmoid -log2(1 + 2^-s), and only the last factor differs (finishRow). Online softmax then
// keeps their weights in range as well.
//
// Scores here are exponents of 2: natural scores times log2(e).

#ifndef ATTENTION_OPTIONS_GLSL
#define ATTENTION_OPTIONS_GLSL

#include "attention_interface.glsl"
#include "../Common/online_softmax.glsl"

// The bits of OPTIONS, as in AttentionOptionBits.swift.
const uint OPTION_CAUSAL = 1u << 0;
const uint OPTION_TOP_LEFT = 1u << 1;
const uint OPTION_CAUSAL_BLOCK = 1u << 2;
const uint OPTION_PREFIX = 1u << 3;
const uint OPTION_WINDOW = 1u << 4;
const uint OPTION_CHUNK = 1u << 5;
const uint OPTION_SINK_TOKENS = 1u << 6;
const uint OPTION_KEY_LENGTHS = 1u << 7;
const uint OPTION_LEFT_PADDING = 1u << 8;
const uint OPTION_SEGMENTS = 1u << 9;
const uint OPTION_MASK = 1u << 10;
const uint OPTION_MASK_BITS = 1u << 11;
const uint OPTION_TREE = 1u << 12;
const uint OPTION_QUERY_SCALES = 1u << 13;
const uint OPTION_QUERY_BIAS = 1u << 14;
const uint OPTION_RELATIVE_TERM = 1u << 15;
const uint OPTION_SOFTCAP = 1u << 16;
const uint OPTION_BIAS = 1u << 17;
const uint OPTION_KEY_BIAS = 1u << 18;
const uint OPTION_RELATIVE_BIAS = 1u << 19;
const uint OPTION_GRID_BIAS = 1u << 20;
const uint OPTION_ALIBI = 1u << 21;
const uint OPTION_SINKS = 1u << 22;
const uint OPTION_RELU = 1u << 23;
const uint OPTION_SIGMOID = 1u << 24;
const uint OPTION_MEAN = 1u << 25;
const uint OPTION_GATES = 1u << 26;
const uint OPTION_PACKED_SEQUENCES = 1u << 27;
const uint OPTION_RESUME = 1u << 28;
const uint OPTION_RETURN_STATE = 1u << 29;
const uint OPTION_KEY_SOURCES = 1u << 30;
const uint OPTION_KEY_RANGE = 1u << 31;

#define HAS(option) ((OPTIONS & (option)) != 0u)

// Rows see an interval of the keys and not all of them.
const uint OPTION_INTERVALS = OPTION_CAUSAL | OPTION_WINDOW | OPTION_CHUNK | OPTION_KEY_LENGTHS
  | OPTION_LEFT_PADDING | OPTION_GATES | OPTION_PACKED_SEQUENCES | OPTION_KEY_RANGE;
// The first keys may be hidden from a row that sees later ones.
const uint OPTION_LEFT_EDGE =
  OPTION_WINDOW | OPTION_CHUNK | OPTION_SINK_TOKENS | OPTION_LEFT_PADDING | OPTION_KEY_RANGE;
// Each key has to be looked up.
const uint OPTION_DATA_MASKS = OPTION_SEGMENTS | OPTION_MASK | OPTION_MASK_BITS | OPTION_TREE;
/// Whether a score is more than scale * q.k.
const bool MAPS_SCORES = HAS(
  OPTION_QUERY_SCALES | OPTION_RELATIVE_TERM | OPTION_SOFTCAP | OPTION_BIAS | OPTION_KEY_BIAS
  | OPTION_RELATIVE_BIAS | OPTION_GRID_BIAS | OPTION_ALIBI | OPTION_RELU | OPTION_SIGMOID);
/// Whether such a score may be -inf where no mask hides the key.
const bool MAPS_TO_HIDDEN = HAS(
  OPTION_BIAS | OPTION_KEY_BIAS | OPTION_RELATIVE_BIAS | OPTION_GRID_BIAS | OPTION_RELU);

// --- The block of options --------------------------------------------------------------------------------

/// A tensor of an option, with the strides of its outer axes in elements, 0 along an axis that it repeats.
struct OptionTensor {
  uint64_t address;
  uint batchStride, headStride, tokenStride;
  uint reserved;
};

// The numbers of the tensors, as in AttentionOperand.swift.
const uint TENSOR_BIAS = 0;
const uint TENSOR_MASK = 1;
const uint TENSOR_MASK_BITS = 2;
const uint TENSOR_TREE_BITS = 3;
const uint TENSOR_QUERY_SEGMENTS = 4;
const uint TENSOR_KEY_SEGMENTS = 5;
const uint TENSOR_KEY_LENGTHS = 6;
const uint TENSOR_LEFT_PADDING = 7;
const uint TENSOR_PREFIX_LENGTHS = 8;
const uint TENSOR_HEAD_WINDOWS = 9;
const uint TENSOR_SINKS = 10;
const uint TENSOR_ALIBI_SLOPES = 11;
const uint TENSOR_RELATIVE_BIAS = 12;
const uint TENSOR_GRID_BIAS = 13;
const uint TENSOR_KEY_BIAS = 14;
const uint TENSOR_QUERY_SCALES = 15;
const uint TENSOR_GATES = 16;
const uint TENSOR_QUERY_BIAS = 17;
const uint TENSOR_RELATIVE_TERM = 18;
const uint TENSOR_QUERY_STARTS = 19;
const uint TENSOR_KEY_STARTS = 20;
const uint TENSOR_INITIAL_MAX = 21;
const uint TENSOR_INITIAL_SUM = 22;
const uint TENSOR_INITIAL_OUTPUT = 23;
const uint TENSOR_FINAL_MAX = 24;
const uint TENSOR_FINAL_SUM = 25;
const uint TENSOR_FINAL_OUTPUT = 26;
const uint TENSOR_KEY_SOURCES = 27;
const uint TENSOR_COUNT = 28;

layout(buffer_reference, scalar, buffer_reference_align = 8) readonly buffer OptionBlock {
  OptionTensor tensors[TENSOR_COUNT];
  int causalBlock;
  int prefixTokens;
  int windowLeft, windowRight;  // negative: no limit
  int chunk;
  int sinkTokens;
  int treeTokens;
  int segmentsDiffer;           // 0: a row sees the keys of its own segment, 1: those of all others
  int relativeLeft, relativeRight;
  int gridHeight, gridWidth;
  int queryTotal, keyTotal;     // tokens of all packed sequences
  int rangeBegin, rangeEnd;     // the keys of this piece
  int continues;                // whether an earlier piece has carried the rows so far
  int carryFirstRow, carryRows;
  float softcap;                // times log2(e)
  float sigmoidBias;            // times log2(e)
  int reserved;
  uint64_t carry;               // 0 for a piece that has all keys of its rows
};

#define OPTION_BLOCK OptionBlock(p.options)

layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer IntReference { int value; };
layout(buffer_reference, scalar, buffer_reference_align = 8) readonly buffer AddressPairReference {
  uint64_t key, value;
};

uint64_t tensorAddress(const uint tensor) {
  return OPTION_BLOCK.tensors[tensor].address;
}

/// The index of [batch, head, token] by the strides of a tensor.
uint64_t tensorIndex(const uint tensor, uint token) {
  return uint64_t(batch) * OPTION_BLOCK.tensors[tensor].batchStride
    + uint64_t(head) * OPTION_BLOCK.tensors[tensor].headStride
    + uint64_t(token) * OPTION_BLOCK.tensors[tensor].tokenStride;
}

int loadInt(const uint tensor, uint64_t index) {
  return IntReference(tensorAddress(tensor) + index * 4ul).value;
}

float loadFloat(const uint tensor, uint64_t index) {
  return FloatReference(tensorAddress(tensor) + index * 4ul).value;
}

/// Element `index` of a tensor of integers that may be missing, and then `otherwise`. A software driver loads from
/// uniform addresses also where a condition says no, so what is missing is looked for in the block itself.
int loadOptionalInt(const uint tensor, uint64_t index, int otherwise) {
  const uint64_t address = tensorAddress(tensor);
  const int value = IntReference(address == 0ul ? p.options : address + index * 4ul).value;
  return address == 0ul ? otherwise : value;
}

float loadOptionalFloat(const uint tensor, uint64_t index, float otherwise) {
  return intBitsToFloat(loadOptionalInt(tensor, index, floatBitsToInt(otherwise)));
}

/// A byte of memory; the word around it lies in the same allocation.
uint loadByte(uint64_t address) {
  return WordReference(address & ~3ul).value >> uint(address & 3ul) * 8 & 0xffu;
}

// --- The problem of a workgroup --------------------------------------------------------------------------

// Of this sequence and head.
int lowestKey, highestKey;  // the keys that may be seen at all: lowestKey ..< highestKey
int positionOffset;         // a row's position among the keys is row + positionOffset
int prefix;
int windowLeft, windowRight;
float slope;                // ALiBi, times log2(e)

/// Sets the problem of the workgroup. In a pipeline without options all of it is known from the push constants.
void openProblem() {
  head = p.firstHead + gl_WorkGroupID.y;
  batch = p.firstBatch + gl_WorkGroupID.z;
  keyHead = head / p.headsPerGroup;
  queryTokens = p.queryTokens;
  keyTokens = p.keyTokens;
  firstQuery = 0;
  firstKeyToken = 0;
  if (HAS(OPTION_PACKED_SEQUENCES)) {
    // Clamped: what a device tensor says must not lead outside of q, k and v.
    const int queryTotal = OPTION_BLOCK.queryTotal;
    const int keyTotal = OPTION_BLOCK.keyTotal;
    const int q0 = clamp(loadInt(TENSOR_QUERY_STARTS, batch), 0, queryTotal);
    const int q1 = clamp(loadInt(TENSOR_QUERY_STARTS, batch + 1), q0, queryTotal);
    const int k0 = clamp(loadInt(TENSOR_KEY_STARTS, batch), 0, keyTotal);
    const int k1 = clamp(loadInt(TENSOR_KEY_STARTS, batch + 1), k0, keyTotal);
    firstQuery = uint(q0);
    firstKeyToken = uint(k0);
    queryTokens = min(uint(q1 - q0), p.queryTokens);
    keyTokens = min(uint(k1 - k0), p.keyTokens);
  }
  if (HAS(OPTION_KEY_LENGTHS)) {
    keyTokens = uint(clamp(loadInt(TENSOR_KEY_LENGTHS, batch), 0, int(keyTokens)));
  }
  positionOffset = HAS(OPTION_TOP_LEFT) ? 0 : int(keyTokens) - int(queryTokens);
  lowestKey = HAS(OPTION_LEFT_PADDING) ? max(0, loadInt(TENSOR_LEFT_PADDING, batch)) : 0;
  highestKey = int(keyTokens);
  if (HAS(OPTION_KEY_RANGE)) {
    lowestKey = max(lowestKey, OPTION_BLOCK.rangeBegin);
    highestKey = min(highestKey, OPTION_BLOCK.rangeEnd);
  }
  prefix = 0;
  if (HAS(OPTION_PREFIX)) {
    prefix = loadOptionalInt(TENSOR_PREFIX_LENGTHS, batch, OPTION_BLOCK.prefixTokens);
  }
  windowLeft = -1;
  windowRight = -1;
  if (HAS(OPTION_WINDOW)) {
    // Sums with a position must stay in range.
    const int largest = (1 << 30) - 1;
    windowLeft = min(loadOptionalInt(TENSOR_HEAD_WINDOWS, head * 2, OPTION_BLOCK.windowLeft), largest);
    windowRight = min(loadOptionalInt(TENSOR_HEAD_WINDOWS, head * 2 + 1, OPTION_BLOCK.windowRight), largest);
  }
  slope = HAS(OPTION_ALIBI) ? loadFloat(TENSOR_ALIBI_SLOPES, tensorIndex(TENSOR_ALIBI_SLOPES, 0)) * LOG2_E : 0.0;
}

/// The byte addresses of channel 0 of key or value 0 of this sequence and head.
uint64_t keyBaseAddress() {
  if (HAS(OPTION_KEY_SOURCES)) {
    return rowAddress(
      KEY_TYPE, AddressPairReference(tensorAddress(TENSOR_KEY_SOURCES) + keyHead * 16ul).key, p.kBatchStride,
      firstKeyToken, p.kTokenStride, 0, 0);
  }
  return rowAddress(KEY_TYPE, p.k, p.kBatchStride, firstKeyToken, p.kTokenStride, keyHead, p.kHeadStride);
}

uint64_t valueBaseAddress() {
  if (HAS(OPTION_KEY_SOURCES)) {
    return rowAddress(
      VALUE_TYPE, AddressPairReference(tensorAddress(TENSOR_KEY_SOURCES) + keyHead * 16ul).value, p.vBatchStride,
      firstKeyToken, p.vTokenStride, 0, 0);
  }
  return rowAddress(VALUE_TYPE, p.v, p.vBatchStride, firstKeyToken, p.vTokenStride, keyHead, p.vHeadStride);
}

// --- Intervals -------------------------------------------------------------------------------------------

/// x / n rounded towards -inf, for n > 0.
int floorDivide(int x, int n) {
  return x >= 0 ? x / n : -((-x + n - 1) / n);
}

/// Keys before this one are not hidden by the causal mask.
int causalEnd(int row) {
  const int position = row + positionOffset;
  int end = highestKey;
  if (HAS(OPTION_CAUSAL)) {
    int limit = position + 1;
    if (HAS(OPTION_CAUSAL_BLOCK)) {
      const int block = OPTION_BLOCK.causalBlock;
      limit = (floorDivide(position, block) + 1) * block;
    }
    if (HAS(OPTION_PREFIX)) { limit = max(limit, prefix); }
    end = min(end, limit);
  }
  return end;
}

/// The first key of a row's interval.
int beginKey(int row) {
  const int position = row + positionOffset;
  int begin = lowestKey;
  if (HAS(OPTION_WINDOW) && windowLeft >= 0) { begin = max(begin, position - windowLeft); }
  if (HAS(OPTION_CHUNK)) {
    begin = max(begin, floorDivide(position, OPTION_BLOCK.chunk) * OPTION_BLOCK.chunk);
  }
  return begin;
}

/// The key behind the last one of a row's interval; at most beginKey(row) where the interval is empty.
int endKey(int row) {
  const int position = row + positionOffset;
  int end = causalEnd(row);
  if (HAS(OPTION_WINDOW) && windowRight >= 0) { end = min(end, position + windowRight + 1); }
  if (HAS(OPTION_CHUNK)) {
    end = min(end, (floorDivide(position, OPTION_BLOCK.chunk) + 1) * OPTION_BLOCK.chunk);
  }
  return end;
}

/// A row sees the keys lowestKey ..< sinkEnd(row) whatever its interval is.
int sinkEnd(int row) {
  return HAS(OPTION_SINK_TOKENS) ? min(OPTION_BLOCK.sinkTokens, causalEnd(row)) : 0;
}

// --- Rows ------------------------------------------------------------------------------------------------

/// What the options need to know of a query row.
struct Row {
  int token;
  int begin, end, sinkEnd;
  float scale;       // from q.k to a score: scale * log2(e), times the row's own factor
  int segment;
  uint64_t bias, mask, maskBits, treeBits, keyBias, relativeTerm;  // addresses of key 0
};

Row openRow(uint token) {
  Row row;
  row.token = int(token);
  row.begin = beginKey(row.token);
  row.end = endKey(row.token);
  row.sinkEnd = sinkEnd(row.token);
  row.scale = log2Scale(p.scale);
  const uint packedToken = firstQuery + token;
  if (HAS(OPTION_QUERY_SCALES)) {
    row.scale = log2Scale(
      p.scale * loadFloat(TENSOR_QUERY_SCALES, tensorIndex(TENSOR_QUERY_SCALES, packedToken)));
  }
  if (HAS(OPTION_SEGMENTS)) {
    row.segment = loadInt(TENSOR_QUERY_SEGMENTS, tensorIndex(TENSOR_QUERY_SEGMENTS, packedToken));
  }
  if (HAS(OPTION_BIAS)) {
    row.bias = tensorAddress(TENSOR_BIAS) + tensorIndex(TENSOR_BIAS, token) * elementBytes(BIAS_TYPE);
  }
  if (HAS(OPTION_MASK)) { row.mask = tensorAddress(TENSOR_MASK) + tensorIndex(TENSOR_MASK, token); }
  if (HAS(OPTION_MASK_BITS)) {
    row.maskBits = tensorAddress(TENSOR_MASK_BITS) + tensorIndex(TENSOR_MASK_BITS, token);
  }
  if (HAS(OPTION_TREE)) {
    row.treeBits = tensorAddress(TENSOR_TREE_BITS) + tensorIndex(TENSOR_TREE_BITS, packedToken);
  }
  if (HAS(OPTION_RELATIVE_TERM)) {
    row.relativeTerm =
      tensorAddress(TENSOR_RELATIVE_TERM) + tensorIndex(TENSOR_RELATIVE_TERM, packedToken) * 4ul;
  }
  if (HAS(OPTION_GATES)
    && loadFloat(TENSOR_GATES, tensorIndex(TENSOR_GATES, packedToken)) == 0.0) {
    // Gated off: sees nothing, and does not stretch the hull of its tile.
    row.begin = 0x7fffffff;
    row.end = 0;
    row.sinkEnd = 0;
  }
  return row;
}

/// What a row's output is multiplied by.
float gateOf(uint token) {
  return HAS(OPTION_GATES) ? loadFloat(TENSOR_GATES, tensorIndex(TENSOR_GATES, firstQuery + token)) : 1.0;
}

/// Whether the intervals leave key `key` to the row.
bool inInterval(Row row, int key) {
  bool seen = key >= row.begin && key < row.end;
  if (HAS(OPTION_SINK_TOKENS)) { seen = seen || key >= lowestKey && key < row.sinkEnd; }
  return seen;
}

/// Whether the masks that are data leave key `key` to the row; `key` must be below keyTokens.
bool passesDataMasks(Row row, int key) {
  bool seen = true;
  if (HAS(OPTION_SEGMENTS)) {
    const int segment = loadInt(
      TENSOR_KEY_SEGMENTS, tensorIndex(TENSOR_KEY_SEGMENTS, firstKeyToken + key));
    seen = seen && (row.segment != segment) == (OPTION_BLOCK.segmentsDiffer != 0);
  }
  if (HAS(OPTION_MASK)) { seen = seen && loadByte(row.mask + key) != 0; }
  if (HAS(OPTION_MASK_BITS)) {
    seen = seen && (loadByte(row.maskBits + uint(key) / 8) >> uint(key) % 8 & 1u) != 0;
  }
  if (HAS(OPTION_TREE)) {
    const int node = key - (int(keyTokens) - OPTION_BLOCK.treeTokens);
    const uint bits = loadByte(row.treeBits + uint(max(node, 0)) / 8);
    seen = seen && (node < 0 || (bits >> uint(node) % 8 & 1u) != 0);
  }
  return seen;
}

/// Whether the row sees the key. Any key may be asked for while the sequence has one.
bool seesKey(Row row, int key) {
  bool seen = inInterval(row, key);
  if (HAS(OPTION_DATA_MASKS)) {
    seen = passesDataMasks(row, min(key, int(keyTokens) - 1)) && seen;
  }
  return seen;
}

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

// --- The walk over the keys ------------------------------------------------------------------------------

/// The steps of keys, aligned to their size, in which some row of a tile sees a key.
struct KeyWalk {
  uint first;   // the first step
  uint window;  // the first step of the intervals
  uint sinks;   // the key behind the last sink token
  uint end;     // the key behind the last one
};

/// From the hull of the rows' intervals and sinks.
KeyWalk openWalk(int begin, int end, int sinks, const uint step) {
  KeyWalk walk;
  end = max(end, 0);
  walk.window = HAS(OPTION_LEFT_EDGE) ? uint(min(begin, end)) / step * step : 0;
  walk.first = walk.window;
  walk.sinks = 0;
  walk.end = uint(end);
  if (HAS(OPTION_SINK_TOKENS)) {
    walk.sinks = uint(max(sinks, 0));
    walk.end = max(walk.end, walk.sinks);
    if (lowestKey < sinks) { walk.first = min(walk.first, uint(lowestKey) / step * step); }
  }
  return walk;
}

/// For the rows firstRow ... lastRow.
KeyWalk openTileWalk(int firstRow, int lastRow, const uint step) {
  int end = endKey(lastRow);
  int sinks = sinkEnd(lastRow);
  if (HAS(OPTION_GATES)) {
    // A head that is gated off for all tokens is not computed.
    if (OPTION_BLOCK.tensors[TENSOR_GATES].tokenStride == 0 && gateOf(0) == 0.0) {
      end = 0;
      sinks = 0;
    }
  }
  return openWalk(beginKey(firstRow), end, sinks, step);
}

uint nextStep(KeyWalk walk, uint key, const uint step) {
  key += step;
  // From the sink tokens over what lies between to the intervals.
  if (HAS(OPTION_SINK_TOKENS) && key >= walk.sinks && key < walk.window) { key = walk.window; }
  return key;
}

// --- The end of a row ------------------------------------------------------------------------------------

/// What a row's result is multiplied by, and its log-sum-exp.
void finishRow(uint token, float reference, float weightSum, out float factor, out float lse) {
  const float gate = gateOf(token);
  if (HAS(OPTION_SINKS)) {
    // Without a tensor the logit is 0: softmax "off by one".
    const float sink = loadOptionalFloat(TENSOR_SINKS, tensorIndex(TENSOR_SINKS, 0), 0.0) * LOG2_E;
    const float largest = max(reference, sink);
    const float origin = largest == -INFINITY ? 0.0 : largest;
    const float moved = exp2(reference - origin);
    const float sum = fma(weightSum, moved, exp2(sink - origin));
    factor = sum == 0.0 ? 0.0 : moved / sum;
    lse = naturalLogSum(origin, sum);
  } else {
    factor = normalisation(weightSum);
    lse = naturalLogSum(reference, weightSum);
  }
  if (HAS(OPTION_MEAN | OPTION_SIGMOID)) {
    factor = weightSum == 0.0 ? 0.0 : exp2(reference);
    if (HAS(OPTION_MEAN)) { factor /= float(keyTokens); }
    if (isnan(weightSum)) { factor = weightSum; }
  }
  if (HAS(OPTION_GATES)) {
    factor = gate == 0.0 ? 0.0 : factor * gate;
    lse = gate == 0.0 ? -INFINITY : lse;
  }
}

/// The place of a row in a state of its own: by the tensor's strides.
uint64_t stateIndex(const uint tensor, uint token) {
  return tensorIndex(tensor, firstQuery + token);
}

/// Whether this piece goes on where an earlier piece of the same attention stopped.
bool continues() {
  return HAS(OPTION_KEY_RANGE) && OPTION_BLOCK.continues != 0;
}

/// Whether this piece leaves something for the next.
bool carries() {
  return HAS(OPTION_KEY_RANGE) && OPTION_BLOCK.carry != 0ul;
}

// What pieces of one attention leave for the next, for the rows of one tile, f32: maxima [rows], results [rows, E],
// sums [rows, lanes that share a row]. Maxima stay exponents of 2 and sums stay apart, so that a cut changes no bit.

uint64_t carriedMaximum(uint token) {
  return OPTION_BLOCK.carry + (token - uint(OPTION_BLOCK.carryFirstRow)) * 4;
}

uint64_t carriedResult(uint token) {
  const uint row = token - uint(OPTION_BLOCK.carryFirstRow);
  return OPTION_BLOCK.carry + (uint64_t(OPTION_BLOCK.carryRows) + uint64_t(row) * HEAD_SIZE_V) * 4ul;
}

uint64_t carriedSum(uint token, const uint lanes, uint lane) {
  const uint row = token - uint(OPTION_BLOCK.carryFirstRow);
  return OPTION_BLOCK.carry
    + (uint64_t(OPTION_BLOCK.carryRows) * (1 + HEAD_SIZE_V) + uint64_t(row) * lanes + lane) * 4ul;
}

/// The running state of a row before its first key, the sum that of one of the `lanes` that share the row.
void loadState(uint token, const uint lanes, uint lane, out float reference, out float weightSum) {
  reference = -INFINITY;
  weightSum = 0.0;
  if (HAS(OPTION_RESUME)) {
    reference = loadFloat(TENSOR_INITIAL_MAX, stateIndex(TENSOR_INITIAL_MAX, token)) * LOG2_E;
    if (lane == 0) { weightSum = loadFloat(TENSOR_INITIAL_SUM, stateIndex(TENSOR_INITIAL_SUM, token)); }
    // The weights of other normalisers are relative to nothing.
    if (HAS(OPTION_RELU | OPTION_SIGMOID)) { reference = 0.0; }
  }
  if (HAS(OPTION_KEY_RANGE)) {
    if (continues()) {
      reference = FloatReference(carriedMaximum(token)).value;
      weightSum = FloatReference(carriedSum(token, lanes, lane)).value;
    }
  }
  if (reference == -INFINITY) { weightSum = 0.0; }
}

/// Four channels of a row's result before its first key.
vec4 loadStateChannels4(uint token, uint channel, float reference) {
  vec4 values = vec4(0.0);
  if (HAS(OPTION_RESUME | OPTION_KEY_RANGE)) {
    uint64_t address = 0ul;
    if (HAS(OPTION_RESUME)) {
      address = tensorAddress(TENSOR_INITIAL_OUTPUT)
        + stateIndex(TENSOR_INITIAL_OUTPUT, token) * 4ul;
    }
    if (continues()) { address = carriedResult(token); }
    if (address != 0ul) {
      values = loadChannels4(ELEMENT_F32, false, address, channel, HEAD_SIZE_V);
    }
    if (reference == -INFINITY) { values = vec4(0.0); }
  }
  return values;
}

/// What a returned sum and result are multiplied by: the weights of other normalisers are relative to nothing.
float stateScale(float reference) {
  return HAS(OPTION_RELU | OPTION_SIGMOID) && reference != -INFINITY ? exp2(reference) : 1.0;
}

/// Keeps the state of a row; called by its first lane.
void storeState(uint token, float reference, float weightSum) {
  if (HAS(OPTION_RETURN_STATE)) {
    FloatReference(tensorAddress(TENSOR_FINAL_MAX) + stateIndex(TENSOR_FINAL_MAX, token) * 4ul).value =
      HAS(OPTION_RELU | OPTION_SIGMOID) ? 0.0 : reference * LN_2;
    FloatReference(tensorAddress(TENSOR_FINAL_SUM) + stateIndex(TENSOR_FINAL_SUM, token) * 4ul).value =
      weightSum * stateScale(reference);
  }
  if (carries()) { FloatReference(carriedMaximum(token)).value = reference; }
}

/// Keeps the sum of one of the `lanes` that share a row.
void storeLaneSum(uint token, const uint lanes, uint lane, float weightSum) {
  if (carries()) { FloatReference(carriedSum(token, lanes, lane)).value = weightSum; }
}

void storeStateChannels4(uint token, uint channel, float reference, vec4 values) {
  if (HAS(OPTION_RETURN_STATE)) {
    storeChannels4(
      ELEMENT_F32, false,
      tensorAddress(TENSOR_FINAL_OUTPUT) + stateIndex(TENSOR_FINAL_OUTPUT, token) * 4ul, channel,
      HEAD_SIZE_V, values * stateScale(reference));
  }
  if (carries()) {
    storeChannels4(ELEMENT_F32, false, carriedResult(token), channel, HEAD_SIZE_V, values);
  }
}

/// Four channels of q + query_bias, not scaled.
vec4 loadQueryChannels4(uint64_t row, uint channel) {
  vec4 q = loadChannels4(QUERY_TYPE, ALIGNED, row, channel, HEAD_SIZE_QK);
  if (HAS(OPTION_QUERY_BIAS)) {
    q += loadChannels4(
      ELEMENT_F32, false, tensorAddress(TENSOR_QUERY_BIAS) + uint64_t(head) * (HEAD_SIZE_QK * 4), channel,
      HEAD_SIZE_QK);
  }
  return q;
}

#endif
