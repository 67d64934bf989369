#version 460

// The block map of an attention: of each block of query tokens and keys, whether the masks that are data (dense, bits,
// segments, tree) hide all of it, nothing, or some.
//
//   seen = passesDataMasks(i, j)  for the rows i and keys j of the block that the sequence has
//   map[b][h][i / R][j / C] = BLOCK_HIDDEN if none is seen, BLOCK_FULL if all are, else BLOCK_PARTIAL
//
// Programming model: the block masks of FlexAttention (https://arxiv.org/abs/2412.05496). A map costs S * T look-ups
// once and saves an attention the blocks that nobody sees in every layer.
//
// Memory: map uint32 [B or 1, H or 1, ceil(S / R), ceil(T / C)] at p.o, strides in p.oBatchStride, p.oHeadStride and
// p.oTokenStride (of a row of blocks); R = 1 << blockMapRowShift, C = 1 << blockMapKeyShift in the block of options.
//
// Grid: x = blocks of one head, keys first (from firstTile on), y = head, z = batch. Workgroup: any size; each
// invocation takes rows of the block in turn and leaves once it has found a key that is seen and one that is hidden.
// Shared memory: 8 bytes.

#extension GL_EXT_control_flow_attributes : require

#include "attention_options.glsl"

shared uint someSeen;
shared uint someHidden;

const uint KEYS_AT_ONCE = 8;

void main() {
  openProblem();
  if (gl_LocalInvocationIndex == 0) {
    someSeen = 0;
    someHidden = 0;
  }
  barrier();
  const uint rowShift = OPTION_BLOCK.blockMapRowShift;
  const uint keyShift = OPTION_BLOCK.blockMapKeyShift;
  const uint keyBlocks = (p.keyTokens - 1 >> keyShift) + 1;
  const uint block = gl_WorkGroupID.x + p.firstTile;
  const uint firstRow = block / keyBlocks << rowShift;
  const uint firstKey = block % keyBlocks << keyShift;
  const uint rowEnd = min(firstRow + (1u << rowShift), queryTokens);
  const uint keyEnd = min(firstKey + (1u << keyShift), keyTokens);
  bool seesSome = false;
  bool missesSome = false;
  if (firstKey < keyEnd) {
    for (uint token = firstRow + gl_LocalInvocationIndex; token < rowEnd; token += gl_WorkGroupSize.x) {
      const Row row = openRow(token);
      for (uint key = firstKey; key < keyEnd && !(seesSome && missesSome); key += KEYS_AT_ONCE) {
        [[unroll]] for (uint c = 0; c < KEYS_AT_ONCE; ++c) {
          // Behind the block's last key that one is asked for again.
          const bool seen = passesDataMasks(row, int(min(key + c, keyEnd - 1)));
          seesSome = seesSome || seen;
          missesSome = missesSome || !seen;
        }
      }
    }
  }
  if (seesSome) { atomicOr(someSeen, 1u); }
  if (missesSome) { atomicOr(someHidden, 1u); }
  barrier();
  if (gl_LocalInvocationIndex == 0) {
    const uint64_t entry = uint64_t(batch) * p.oBatchStride + uint64_t(head) * p.oHeadStride
      + uint64_t(firstRow >> rowShift) * p.oTokenStride + (firstKey >> keyShift);
    WordReference(p.o + entry * 4ul).value =
      someSeen == 0 ? BLOCK_HIDDEN : someHidden == 0 ? BLOCK_FULL : BLOCK_PARTIAL;
  }
}
