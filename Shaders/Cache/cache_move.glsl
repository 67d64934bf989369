// Copies of a few bytes from one place of a cache to another.

#ifndef CACHE_MOVE_GLSL
#define CACHE_MOVE_GLSL

#include "../Common/element_types.glsl"

/// Copies `bytes` bytes, 2, 4, 8 or 16, to which both addresses are aligned.
void movePiece(const uint bytes, uint64_t from, uint64_t to) {
  if (bytes == 16) {
    WordQuadReference(to).value = WordQuadReference(from).value;
  } else if (bytes == 8) {
    LongReference(to).value = LongReference(from).value;
  } else if (bytes == 4) {
    WordReference(to).value = WordReference(from).value;
  } else {
    HalfWordReference(to).value = HalfWordReference(from).value;
  }
}

#endif
