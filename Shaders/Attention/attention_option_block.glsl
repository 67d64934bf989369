// What the options of an attention are and where their tensors lie: the bits of OPTIONS, which say what a pipeline
// has, the block of options in memory, and loads of its tensors. Included by attention_options.glsl.

#ifndef ATTENTION_OPTION_BLOCK_GLSL
#define ATTENTION_OPTION_BLOCK_GLSL

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

// The bits of MORE_OPTIONS.
const uint MORE_OPTION_BLOCK_MAP = 1u << 0;

#define HAS_MORE(option) ((MORE_OPTIONS & (option)) != 0u)

// Rows see an interval of the keys and not all of them.
const uint OPTION_INTERVALS = OPTION_CAUSAL | OPTION_WINDOW | OPTION_CHUNK | OPTION_KEY_LENGTHS
  | OPTION_LEFT_PADDING | OPTION_GATES | OPTION_PACKED_SEQUENCES | OPTION_KEY_RANGE;
// The first keys may be hidden from a row that sees later ones.
const uint OPTION_LEFT_EDGE =
  OPTION_WINDOW | OPTION_CHUNK | OPTION_SINK_TOKENS | OPTION_LEFT_PADDING | OPTION_KEY_RANGE;
// Each key has to be looked up, but for blocks of which the block map says that all of them are seen.
const uint OPTION_DATA_MASKS = OPTION_SEGMENTS | OPTION_MASK | OPTION_MASK_BITS | OPTION_TREE;
// Macros and no constants: the optimiser takes no && and || of specialization constants apart.
#ifdef CUSTOM_MASK
// A user's mask is one more that is looked up (attention_custom.glsl).
#define HAS_DATA_MASKS true
#define HAS_DATA_MASKS_OR(option) true
#else
#define HAS_DATA_MASKS_OR(option) \
  ((OPTIONS & (OPTION_DATA_MASKS | (option)) | MORE_OPTIONS & MORE_OPTION_BLOCK_MAP) != 0u)
#define HAS_DATA_MASKS HAS_DATA_MASKS_OR(0u)
#endif
#ifdef CUSTOM_SCORE
// What a user's modification makes of a score is not known here (attention_custom.glsl).
const bool MAPS_SCORES = true;
const bool MAPS_TO_HIDDEN = true;
#else
/// Whether a score is more than scale * q.k.
const bool MAPS_SCORES = HAS(
  OPTION_QUERY_SCALES | OPTION_RELATIVE_TERM | OPTION_SOFTCAP | OPTION_BIAS | OPTION_KEY_BIAS
  | OPTION_RELATIVE_BIAS | OPTION_GRID_BIAS | OPTION_ALIBI | OPTION_RELU | OPTION_SIGMOID);
/// Whether such a score may be -inf where no mask hides the key.
const bool MAPS_TO_HIDDEN = HAS(
  OPTION_BIAS | OPTION_KEY_BIAS | OPTION_RELATIVE_BIAS | OPTION_GRID_BIAS | OPTION_RELU);
#endif

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
const uint TENSOR_BLOCK_MAP = 28;
const uint TENSOR_COUNT = 29;

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
  int blockMapRowShift;         // log2 of the query tokens of a block of the block map
  int blockMapKeyShift;         // and of its keys
  int customOffset;             // bytes from this block to the one of attention_custom.glsl
  uint64_t carry;               // 0 for a piece that has all keys of its rows
};

// Words of the block behind the tensors.
const uint OPTION_SCALARS = 26;

#define OPTION_BLOCK OptionBlock(p.options)

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
  return IntegerReference(tensorAddress(tensor) + index * 4ul).value;
}

float loadFloat(const uint tensor, uint64_t index) {
  return FloatReference(tensorAddress(tensor) + index * 4ul).value;
}

/// Element `index` of a tensor of integers that may be missing, and then `otherwise`. A software driver loads from
/// uniform addresses also where a condition says no, so what is missing is looked for in the block itself.
int loadOptionalInt(const uint tensor, uint64_t index, int otherwise) {
  const uint64_t address = tensorAddress(tensor);
  const int value = IntegerReference(address == 0ul ? p.options : address + index * 4ul).value;
  return address == 0ul ? otherwise : value;
}

float loadOptionalFloat(const uint tensor, uint64_t index, float otherwise) {
  return intBitsToFloat(loadOptionalInt(tensor, index, floatBitsToInt(otherwise)));
}

/// A byte of memory; the word around it lies in the same allocation.
uint loadByte(uint64_t address) {
  return WordReference(roundedDown(address, 4)).value >> (uint(address) & 3u) * 8 & 0xffu;
}

#endif
