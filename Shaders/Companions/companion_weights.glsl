// Matrices of weights (WeightFormat.swift): rows of plain elements, or of ggml's blocks of 32.

#ifndef COMPANION_WEIGHTS_GLSL
#define COMPANION_WEIGHTS_GLSL

#include "../Common/cache_formats.glsl"

/// Bytes of a contiguous row of weights.
uint weightRowBytes(const uint format, uint channels) {
  return isBlockFormat(format) ? channels / 32 * blockBytes(format) : channels * elementBytes(format);
}

/// Channels channel ... channel + 3 of a row, a multiple of 4, as finished numbers; those past the end are 0.
/// Rows that are `aligned` begin at multiples of 16 bytes and have a multiple of 8 channels.
vec4 loadWeights4(const uint format, const bool aligned, uint64_t row, uint channel, uint channels) {
  if (isBlockFormat(format)) {
    const vec4 codes = loadCacheChannels4(format, true, row, channel, channels);
    return codes * unpackHalf2x16(loadHalfWord(row + channel / 32 * blockBytes(format))).x;
  }
  return loadChannels4(format, aligned, row, channel, channels);
}

#endif
