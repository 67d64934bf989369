// Where a key of a sequence lies in a cache: contiguous, a ring, or pages.
//
// Sequences, positions and page numbers are data in device memory and may be anything. What lies outside of the
// cache has no place, and the block and slot given for it are 0: an address made of them can be read, as
// some drivers do for lanes that are switched off.

#ifndef CACHE_PLACES_GLSL
#define CACHE_PLACES_GLSL

#include "../Common/element_types.glsl"

const uint CACHE_CONTIGUOUS = 0;
const uint CACHE_RING = 1;
const uint CACHE_PAGED = 2;


struct CachePlace {
  uint block;   // a sequence, or a page
  uint slot;    // a token of it
  bool exists;
};

// `blocks` sequences of `blockTokens` places, or pages of as many; `sequences` have entries in the page table,
// which has `pageEntries` numbers of pages.
CachePlace findPlace(
  const uint arrangement, int sequence, int position, uint sequences, uint blocks, uint blockTokens,
  uint pageEntries, uint64_t indptr, uint64_t indices
) {
  bool exists = sequence >= 0 && uint(sequence) < sequences && position >= 0;
  const uint known = exists ? uint(sequence) : 0;
  const uint token = exists ? uint(position) : 0;
  uint block = known;
  uint slot = token;
  if (arrangement == CACHE_RING) {
    slot = token % blockTokens;
  } else if (arrangement == CACHE_PAGED) {
    slot = token % blockTokens;
    const int first = IntegerReference(indptr + uint64_t(known) * 4).value;
    const int end = IntegerReference(indptr + uint64_t(known) * 4 + 4).value;
    // Below 2^32: both are below 2^31.
    const uint entry = uint(max(first, 0)) + token / blockTokens;
    exists = exists && first >= 0 && entry < min(uint(max(end, 0)), pageEntries);
    const int page = IntegerReference(indices + uint64_t(exists ? entry : 0) * 4).value;
    exists = exists && page >= 0 && uint(page) < blocks;
    block = uint(page);
  } else {
    exists = exists && token < blockTokens;
  }
  return CachePlace(exists ? block : 0, exists ? slot : 0, exists);
}

#endif
