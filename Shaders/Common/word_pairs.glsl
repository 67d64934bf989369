// 64-bit numbers of two words, without packUint2x32() and without masks of addresses, of which compilers make one: of
// words that are not the same for all lanes, lavapipe of Mesa 26.1.6 ends the process at 512 bits when it compiles that
// (it writes 32 indices into an array of 16).

#ifndef WORD_PAIRS_GLSL
#define WORD_PAIRS_GLSL

#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require

uint64_t joined(uint low, uint high) {
  return uint64_t(low) | uint64_t(high) << 32;
}

/// The last multiple of a power of two that is not behind the address.
uint64_t roundedDown(uint64_t address, const uint size) {
  return address - uint64_t(uint(address) & (size - 1));
}

#endif
