#version 460

// Merges partial results of one attention over disjoint sets of keys (FlashInfer, arXiv:2501.01005,
// section 2.2; the recurrence of "Online normalizer calculation for softmax", arXiv:1805.02867).
//
//   for each row r, head h:
//     m = -inf;  l = 0;  o = 0
//     for each partial p = 0 ... N-1, in this order:       (VARIABLE: starts[r] ... starts[r+1] - 1)
//       x = lse_p[r,h];  next p if x = -inf                (whatever O_p holds)
//       e = x = m ? 1 : exp(-|x - m|)                      (also for two infinities)
//       o, l, m = x > m ? (o * e + O_p[r,h], l * e + 1, x) : (o + e * O_p[r,h], l + e, m)
//     O[r,h] = o / l;  lse[r,h] = m + ln(l)                (0 and -inf where no partial counts)
//
// Memory: outputs by strides [N,rows,H,E] of ELEMENT_TYPE, channels contiguous; log-sum-exps f32 by strides
// [N,rows,H]; merged output [rows,H,E] of MERGED_ELEMENT_TYPE and log-sum-exp f32 [rows,H], contiguous.
// Strides are bytes modulo 2^64, so that the second of two partials can be any other buffer. VARIABLE:
// starts int32 [rows+1] counts partials, the row stride is 0 and what lies outside of 0 ... partials is left
// out. Moved: N * (E * bytes + 4) read and E * bytes + 4 written per row and head.
//
// One invocation merges CHANNELS_PER_INVOCATION channels of one row, neighbours the next channels, then the
// next head, then the next row. It reads only the outputs that it writes, so that the merged output can be
// the first partial; the log-sum-exp is read by all invocations of a row and needs a dispatch of its own
// for that (merged = 0). Workgroup: any size, 64 is fine. Grid: x * y * size >= rows * H * ceil(E / channels
// per invocation), in any split of x and y.
//
// ACCESS 8: 16-byte accesses of quads of f32 and octets of 16-bit elements; 4: 8-byte accesses; 1: elements.
//
// Ladder, GB/s read and written, E=128, 48 MiB of partials, AMD EPYC Zen 5, 2 cores, lavapipe of Mesa 26.1.6
// with its default of 256-bit vectors. The same driver copies 14 by a shader and 31 by its copy command. Best
// of 12 runs on a machine with other load, good to 10 %.
//                                                                         f32 N=2   N=8    f16 N=2   N=8
//   two passes (M first, then the sums), 8 channels, 16-byte accesses         8.1   7.1        3.8   4.3
//     4 channels per invocation                                               5.6   5.1        2.4   2.6
//     8-byte loads (the driver gathers lane by lane, so wider is cheaper)     9.2   7.9        3.9   4.5
//   one pass, two exponentials                                               10.3  10.4        4.4   5.6
//   one pass, one exponential                                                 9.9  10.9        4.7   6.1
//     + 8-byte stores                                                        11.6  11.3        4.5   5.6
//     + loop unrolled (PARTIALS)                                             14.2  12.7        5.3   6.8
//     + 16 channels per invocation, loop not unrolled                        15.2  14.2        5.7   7.2
//     + 16 channels per invocation, loop unrolled                            17.2  12.5        6.3   7.2
//     + 32 channels, unrolled                                                13.3  12.5        5.8   7.7
//     + neutral partials skipped by a branch, or weighed like the others   no gain
//   two passes again, 16 channels, unrolled at N=2                           15.6  11.0        5.3   6.3
//   as it is now, 16 channels, unrolled up to N=4                            17.2  14.2        6.3   7.2
//   the same with 512-bit vectors                                            12.1  11.1        5.7   6.2
// 16-bit types are held back by the arithmetic on each element (3.6 G elements/s at N=8, as in f32). E=100:
// 12.9 and 5.0 at N=2; E=59, element by element: 10.9 and 3.5.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_16bit_storage : require

#include "../Common/element_types.glsl"
#include "../Common/online_softmax.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint CHANNELS = 64;                 // E
layout(constant_id = 2) const uint HEADS = 1;                     // H
layout(constant_id = 3) const uint ELEMENT_TYPE = 0;              // of the partial outputs
layout(constant_id = 4) const uint MERGED_ELEMENT_TYPE = 0;       // of the merged output
layout(constant_id = 5) const uint ACCESS = 8;                    // a divisor of E and of the strides
layout(constant_id = 6) const uint CHANNELS_PER_INVOCATION = 8;   // a multiple of 8
layout(constant_id = 7) const uint PARTIALS = 0;                  // N; 0 if the push constant says it
layout(constant_id = 8) const bool VARIABLE = false;              // rows have partials by `starts`

const uint SPANS = (CHANNELS + CHANNELS_PER_INVOCATION - 1) / CHANNELS_PER_INVOCATION;
const uint QUADS = CHANNELS_PER_INVOCATION / 4;
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer RangeReference { ivec2 value; };

// 96 bytes.
layout(push_constant, scalar) uniform AttentionMergePush {
  uint64_t outputs;          // device address of the first partial's output
  uint64_t logSumExps;       // device address of the first partial's log-sum-exp
  uint64_t starts;           // device address, or 0
  uint64_t merged;           // device address, or 0 for no output
  uint64_t mergedLogSumExp;  // device address, or 0 for none
  uint64_t outputPartialStride, outputRowStride, outputHeadStride;           // in bytes
  uint64_t logSumExpPartialStride, logSumExpRowStride, logSumExpHeadStride;  // in bytes
  uint rows;
  uint partials;             // N; with VARIABLE those of all rows together
} p;

/// Four elements by 8-byte accesses.
vec4 loadQuad(const uint type, uint64_t address) {
  const uint64_t first = LongReference(address).value;
  const uvec2 words = uvec2(uint(first), uint(first >> 32));
  if (type != ELEMENT_F32) {
    return vec4(unpackElements(type, words.x), unpackElements(type, words.y));
  }
  const uint64_t second = LongReference(address + 8ul).value;
  return uintBitsToFloat(uvec4(words, uint(second), uint(second >> 32)));
}

void storeQuad(const uint type, uint64_t address, vec4 values) {
  if (type == ELEMENT_F32) {
    const uvec4 words = floatBitsToUint(values);
    LongReference(address).value = joined(words.x, words.y);
    LongReference(address + 8ul).value = joined(words.z, words.w);
  } else {
    LongReference(address).value =
      joined(packElements(type, values.xy), packElements(type, values.zw));
  }
}

/// Eight elements by 16-byte accesses.
void storeOctet(const uint type, uint64_t address, vec4 low, vec4 high) {
  if (type == ELEMENT_F32) {
    FloatQuadReference(address).value = low;
    FloatQuadReference(address + 16ul).value = high;
  } else {
    WordQuadReference(address).value =
      uvec4(
        packElements(type, low.xy), packElements(type, low.zw), packElements(type, high.xy),
        packElements(type, high.zw));
  }
}

/// The first `count` channels at an address; the others are 0. Every index is a constant after unrolling.
void loadSpan(uint64_t address, uint count, out vec4 values[QUADS]) {
  const uint size = elementBytes(ELEMENT_TYPE);
  [[unroll]] for (uint i = 0; i < QUADS; i++) {
    values[i] = vec4(0);
    if (ACCESS == 1) {
      [[unroll]] for (uint j = 0; j < 4; j++) {
        if (4 * i + j < count) {
          values[i][j] = loadElement(ELEMENT_TYPE, address + (4 * i + j) * size);
        }
      }
    } else if (ACCESS == 4 && 4 * i < count) {
      values[i] = loadQuad(ELEMENT_TYPE, address + 4 * i * size);
    }
  }
  if (ACCESS == 8) {
    [[unroll]] for (uint i = 0; i < QUADS; i += 2) {
      if (4 * i < count) {
        loadElements8(ELEMENT_TYPE, address + 4 * i * size, values[i], values[i + 1]);
      }
    }
  }
}

/// Stores the first `count` channels.
void storeSpan(uint64_t address, uint count, vec4 values[QUADS]) {
  const uint size = elementBytes(MERGED_ELEMENT_TYPE);
  [[unroll]] for (uint i = 0; i < QUADS; i++) {
    if (ACCESS == 1) {
      [[unroll]] for (uint j = 0; j < 4; j++) {
        if (4 * i + j < count) {
          storeElement(MERGED_ELEMENT_TYPE, address + (4 * i + j) * size, values[i][j]);
        }
      }
    } else if (ACCESS == 4 && 4 * i < count) {
      storeQuad(MERGED_ELEMENT_TYPE, address + 4 * i * size, values[i]);
    }
  }
  if (ACCESS == 8) {
    [[unroll]] for (uint i = 0; i < QUADS; i += 2) {
      if (4 * i < count) {
        storeOctet(MERGED_ELEMENT_TYPE, address + 4 * i * size, values[i], values[i + 1]);
      }
    }
  }
}

void main() {
  const uint group = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
  const uint item = group * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
  const uint span = item % SPANS;
  const uint head = item / SPANS % HEADS;
  const uint row = item / SPANS / HEADS;
  if (row >= p.rows || p.merged == 0ul && span > 0) {
    return;
  }

  const uint channel = span * CHANNELS_PER_INVOCATION;
  const uint channels =
    CHANNELS % CHANNELS_PER_INVOCATION == 0
      ? CHANNELS_PER_INVOCATION : min(CHANNELS_PER_INVOCATION, CHANNELS - channel);
  uint64_t outputs =
    p.outputs + row * p.outputRowStride + head * p.outputHeadStride
    + channel * elementBytes(ELEMENT_TYPE);
  uint64_t logSumExps = p.logSumExps + row * p.logSumExpRowStride + head * p.logSumExpHeadStride;
  uint count = PARTIALS > 0 ? PARTIALS : p.partials;
  if (VARIABLE) {
    const ivec2 range = clamp(RangeReference(p.starts + 4ul * row).value, 0, int(p.partials));
    outputs += uint(range.x) * p.outputPartialStride;
    logSumExps += uint(range.x) * p.logSumExpPartialStride;
    count = uint(max(range.y - range.x, 0));
  }

  float largest = -INFINITY;
  float weightSum = 0;
  vec4 sums[QUADS];
  [[unroll]] for (uint i = 0; i < QUADS; i++) { sums[i] = vec4(0); }
  if (count > 0) {
    uint partial = 0;
    do {
      const float x = FloatReference(logSumExps).value;
      vec4 values[QUADS];
      loadSpan(outputs, channels, values);
      // NaN goes into the sums through e: no comparison with it is true.
      const float e = x == largest ? 1.0 : exp2(-abs(x - largest) * LOG2_E);
      const bool rises = x > largest;
      const bool counts = x != -INFINITY;
      const float weight = rises ? 1.0 : e;
      const float decay = rises ? e : 1.0;
      largest = rises ? x : largest;
      // Chosen, not multiplied by 0: what a neutral partial holds may be NaN.
      weightSum = counts ? weightSum * decay + weight : weightSum;
      [[unroll]] for (uint i = 0; i < QUADS; i++) {
        sums[i] = counts ? sums[i] * decay + values[i] * weight : sums[i];
      }
      logSumExps += p.logSumExpPartialStride;
      outputs += p.outputPartialStride;
    } while (++partial < count);
  }

  const uint64_t mergedRow = uint64_t(row) * HEADS + head;
  if (p.merged != 0ul) {
    const float scale = weightSum == 0.0 ? 0.0 : 1.0 / weightSum;
    [[unroll]] for (uint i = 0; i < QUADS; i++) { sums[i] *= scale; }
    storeSpan(
      p.merged + (mergedRow * CHANNELS + channel) * elementBytes(MERGED_ELEMENT_TYPE), channels,
      sums);
  }
  if (p.mergedLogSumExp != 0ul && span == 0) {
    FloatReference(p.mergedLogSumExp + 4ul * mergedRow).value =
      weightSum == 0.0 ? -INFINITY : largest + log2(weightSum) * LN_2;
  }
}
