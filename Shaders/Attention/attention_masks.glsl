// Which keys a row sees: the sequence of a workgroup, the intervals that masks by position leave, and the masks that
// are data. Included by attention_options.glsl.
//
// Intervals. Causal masks (plain, by blocks, with a prefix), windows, chunks, key lengths and left padding leave
// row i the keys begin(i) ..< end(i), and with sink tokens 0 ..< sinkEnd(i) as well. All three rise with i, so the
// first and the last row of a tile say which keys some row sees (the hull) and which every row sees (the core):
// tiles outside the hull are skipped (attention_walk.glsl), tiles inside the core need no test. Masks that are data
// (dense, bits, segments, tree) are looked up key by key.
//
// Block map. For blocks of query tokens and keys it says whether the masks that are data hide all of them, none, or
// have to be asked; a walk skips the first kind, and tiles of the second need no test.

#ifndef ATTENTION_MASKS_GLSL
#define ATTENTION_MASKS_GLSL

#include "attention_option_block.glsl"

// --- The problem of a workgroup --------------------------------------------------------------------------

// Of this sequence and head.
int lowestKey, highestKey;  // the keys that may be seen at all: lowestKey ..< highestKey
int positionOffset;         // a row's position among the keys is row + positionOffset
int prefix;
int windowLeft, windowRight;
float slope;                // ALiBi, times log2(e)

#ifdef LEAN_DECODE
/// The keys that the sequence can have by its places in the cache, and the first that is still there
/// (Shaders/Decode/decode_cache.glsl).
uint heldKeys();
int firstHeldKey(uint length);

int segmentBegin, segmentEnd;  // the keys of this segment
#endif

#ifdef CUSTOM_ATTENTION
void openCustom();  // attention_custom.glsl
#endif

/// Sets what belongs to the sequence `batch` and to `head`, which are set. In a pipeline without options all of it
/// is known from the push constants.
void openSequence() {
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
#ifdef LEAN_DECODE
  keyTokens = min(keyTokens, heldKeys());
#endif
  if (HAS(OPTION_KEY_LENGTHS)) {
    keyTokens = uint(clamp(loadInt(TENSOR_KEY_LENGTHS, batch), 0, int(keyTokens)));
  }
  positionOffset = HAS(OPTION_TOP_LEFT) ? 0 : int(keyTokens) - int(queryTokens);
  lowestKey = HAS(OPTION_LEFT_PADDING) ? max(0, loadInt(TENSOR_LEFT_PADDING, batch)) : 0;
  highestKey = int(keyTokens);
#ifdef LEAN_DECODE
  lowestKey = max(max(lowestKey, segmentBegin), firstHeldKey(keyTokens));
  highestKey = min(highestKey, segmentEnd);
#else
  if (HAS(OPTION_KEY_RANGE)) {
    lowestKey = max(lowestKey, OPTION_BLOCK.rangeBegin);
    highestKey = min(highestKey, OPTION_BLOCK.rangeEnd);
  }
#endif
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
#ifdef CUSTOM_ATTENTION
  openCustom();
#endif
}

#ifndef LEAN_DECODE
/// Sets the problem of the workgroup.
void openProblem() {
  head = p.firstHead + gl_WorkGroupID.y;
  batch = p.firstBatch + gl_WorkGroupID.z;
  keyHead = head / p.headsPerGroup;
  openSequence();
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
#endif

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
  uint64_t blockMap;  // of block 0
};

// What the block map says of a block.
const uint BLOCK_HIDDEN = 0;   // no row sees a key
const uint BLOCK_PARTIAL = 1;  // the other masks decide
const uint BLOCK_FULL = 2;     // the masks that are data hide nothing

/// The address of the block map's entries for the row of blocks that a token is in.
uint64_t blockMapRow(uint token) {
  return tensorAddress(TENSOR_BLOCK_MAP)
    + tensorIndex(TENSOR_BLOCK_MAP, token >> OPTION_BLOCK.blockMapRowShift) * 4ul;
}

/// What the block map says of the block of a key, which must be below keyTokens.
uint blockState(uint64_t mapRow, uint key) {
  return WordReference(mapRow + uint64_t(key >> OPTION_BLOCK.blockMapKeyShift) * 4ul).value;
}

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
  if (HAS_MORE(MORE_OPTION_BLOCK_MAP)) { row.blockMap = blockMapRow(token); }
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

#ifdef CUSTOM_MASK
bool customMask(int batch, int head, int queryIndex, int keyIndex);  // attention_custom.glsl
#endif

/// Whether the masks that are data, a user's mask among them, leave key `key` to the row, whose byte of the dense mask
/// is `maskByte`; `key` must be below keyTokens.
bool passesDataMasks(Row row, int key, uint maskByte) {
  bool seen = true;
  if (HAS(OPTION_SEGMENTS)) {
    const int segment = loadInt(
      TENSOR_KEY_SEGMENTS, tensorIndex(TENSOR_KEY_SEGMENTS, firstKeyToken + key));
    seen = seen && (row.segment != segment) == (OPTION_BLOCK.segmentsDiffer != 0);
  }
  if (HAS(OPTION_MASK)) { seen = seen && maskByte != 0; }
  if (HAS(OPTION_MASK_BITS)) {
    seen = seen && (loadByte(row.maskBits + uint(key) / 8) >> uint(key) % 8 & 1u) != 0;
  }
  if (HAS(OPTION_TREE)) {
    const int node = key - (int(keyTokens) - OPTION_BLOCK.treeTokens);
    const uint bits = loadByte(row.treeBits + uint(max(node, 0)) / 8);
    seen = seen && (node < 0 || (bits >> uint(node) % 8 & 1u) != 0);
  }
#ifdef CUSTOM_MASK
  if (seen) { seen = customMask(int(batch), int(head), row.token, key); }
#endif
  if (HAS_MORE(MORE_OPTION_BLOCK_MAP)) {
    const uint state = blockState(row.blockMap, uint(key));
    seen = state != BLOCK_HIDDEN && (seen || state == BLOCK_FULL);
  }
  return seen;
}

bool passesDataMasks(Row row, int key) {
  return passesDataMasks(row, key, HAS(OPTION_MASK) ? loadByte(row.mask + key) : 0);
}

/// Whether the row sees the key, whose byte of the dense mask is `maskByte`. Any key may be asked for while the
/// sequence has one.
bool seesKey(Row row, int key, uint maskByte) {
  bool seen = inInterval(row, key);
  if (HAS_DATA_MASKS) { seen = passesDataMasks(row, min(key, int(keyTokens) - 1), maskByte) && seen; }
  return seen;
}

bool seesKey(Row row, int key) {
  return seesKey(row, key, HAS(OPTION_MASK) ? loadByte(row.mask + min(key, int(keyTokens) - 1)) : 0);
}

#endif
