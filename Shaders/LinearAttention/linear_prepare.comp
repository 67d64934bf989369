#version 460

// @variant linear_prepare
// @variant linear_prepare_subgroup SUBGROUPS

// What linear_chunk.comp and linear_chunk_subgroup.comp need of each block of rows, laid out so that the first of them
// reads in the order in which it works: see linear_records.glsl.
//
// A workgroup prepares one block, LANES invocations one row i of it: they hold q_i (and e_i) and walk the rows j
// from the last to the first, multiplying by their decays as they pass them.
//
// By `row` one invocation has all channels of its row, and reads rows j in the record at addresses that are the same
// for all invocations. By `subgroup` lanes have groups of four channels in turn and add up by shuffles, and rows j wait
// in shared memory: a block of 8 rows fills a subgroup of 32 lanes, where it would be 8 of them, with 64 registers of
// q_i and e_i at K = 128 in place of 256; 2 log2(LANES) shuffles for the 2 K / LANES multiply-adds of a row j.
// 4 C K + 4 C bytes of shared memory, with decays of key channels 8 C K. Counted, not measured on a GPU.
//
// Grid: x = blocks of a sequence, y = value head, z = sequence.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#ifdef SUBGROUPS
#extension GL_KHR_shader_subgroup_shuffle : require
#endif

#include "linear_records.glsl"

#ifdef SUBGROUPS
layout(constant_id = 11) const uint LANES = 4;  // of a row; a power of two, at most the subgroup's size
shared vec4 keptKeys[BLOCK_ROWS * QUADS];
shared vec4 keptFactors[KEY_FACTORS ? BLOCK_ROWS * QUADS : 1];
shared float keptFactor[BLOCK_ROWS];
const bool KEEPS_IN_RECORD = false;
#define SYNC() barrier()
#else
const uint LANES = 1;
const bool KEEPS_IN_RECORD = true;
layout(buffer_reference, scalar, buffer_reference_align = 16) coherent buffer SharedQuad { vec4 value; };
layout(buffer_reference, scalar, buffer_reference_align = 4) coherent buffer SharedFloat { float value; };
#define SYNC() { memoryBarrierBuffer(); barrier(); }
#endif

// Groups of four channels that an invocation holds.
const uint OWN_QUADS = (QUADS + LANES - 1) / LANES;

vec4 q[OWN_QUADS];
vec4 e[OWN_QUADS];
uint row;   // i
uint lane;  // 0 ..< LANES: which channels are this invocation's
bool isOwner;

/// The d-th group of this invocation; the last one again where it has less.
uint quadOf(const uint d) {
  return LANES == 1 ? d : min(d * LANES + lane, QUADS - 1);
}

bool hasQuad(const uint d) {
  return OWN_QUADS * LANES == QUADS || d * LANES + lane < QUADS;
}

vec4 loadOwn(const uint type, uint64_t channels, const uint d) {
  const vec4 values = loadChannels4(type, ALIGNED, channels, quadOf(d) * 4, KEY_CHANNELS);
  return hasQuad(d) ? values : vec4(0.0);
}

float laneSum(vec4 partial) {
  float sum = (partial.x + partial.y) + (partial.z + partial.w);
#ifdef SUBGROUPS
  [[unroll]] for (uint k = 0; k < 6; k++) {
    if (1u << k < LANES) { sum += subgroupShuffleXor(sum, 1u << k); }
  }
#endif
  return sum;
}

uint64_t place(uint64_t record, const uint area, const uint d, uint ownRow) {
  return record + rowPlace(area, quadOf(d), ownRow) * 4;
}

// k_j and the decays of row j, where all invocations read them.

void keepKey(uint64_t record, const uint d, vec4 key) {
  if (!isOwner || !hasQuad(d)) { return; }
#ifdef SUBGROUPS
  keptKeys[row * QUADS + quadOf(d)] = key;
#else
  SharedQuad(place(record, AT_K, d, row)).value = key;
#endif
}

vec4 keptKey(uint64_t record, const uint d, uint j) {
#ifdef SUBGROUPS
  return keptKeys[j * QUADS + quadOf(d)];
#else
  return SharedQuad(place(record, AT_K, d, j)).value;
#endif
}

void keepFactors(uint64_t record, const uint d, vec4 factors) {
  if (!isOwner || !hasQuad(d)) { return; }
#ifdef SUBGROUPS
  keptFactors[row * QUADS + quadOf(d)] = factors;
#else
  SharedQuad(place(record, AT_D, d, row)).value = factors;
#endif
}

vec4 factorQuad(uint64_t record, uint quad, uint j) {
  if (!KEY_FACTORS) { return vec4(1.0); }
#ifdef SUBGROUPS
  return keptFactors[j * QUADS + quad];
#else
  return SharedQuad(record + rowPlace(AT_D, quad, j) * 4).value;
#endif
}

void keepFactor(uint64_t record, float factor) {
#ifdef SUBGROUPS
  keptFactor[row] = factor;
#else
  SharedFloat(record + (AT_D + row) * 4).value = factor;
#endif
}

float factorOf(uint64_t record, uint j) {
  if (!ROW_FACTORS || KEY_FACTORS) { return 1.0; }
#ifdef SUBGROUPS
  return keptFactor[j];
#else
  return SharedFloat(record + (AT_D + j) * 4).value;
#endif
}

void main() {
  openSequence(gl_WorkGroupID.z + p.firstSequence, gl_WorkGroupID.y + p.firstHead);
  const uint firstRow = gl_WorkGroupID.x * BLOCK_ROWS;
  const uint rows = rowCount();
  // Before the workgroup leaves: where no invocation is left, sameForAll() has nothing to go by.
  const uint64_t record = recordAddress(gl_WorkGroupID.z, gl_WorkGroupID.y, gl_WorkGroupID.x);
  if (firstRow >= rows) { return; }
#ifdef SUBGROUPS
  const uint index = gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
#else
  const uint index = gl_LocalInvocationID.x;
#endif
  lane = index % LANES;
  row = min(index / LANES, BLOCK_ROWS - 1);
  isOwner = index / LANES < BLOCK_ROWS;
  const bool isThere = firstRow + row < rows;
  // Rows behind the last one repeat it, with every number that counts 0.
  const uint source = tokenBegin * ROWS_PER_TOKEN + min(firstRow + row, rows - 1);
  const uint token = source / ROWS_PER_TOKEN;
  const uint update = source % ROWS_PER_TOKEN;
  const bool isLowRank = HAS(OPTION_LOW_RANK) && update == 0;

  const uint64_t qRow = openWalk(!HAS(OPTION_NO_OUTPUT), SLOT_Q, KEY_TYPE, token, 1, keyHead).at;
  uint64_t kRow = openWalk(true, SLOT_K, KEY_TYPE, updateOf(source), UPDATES, keyHead).at;
  if (HAS(OPTION_LOW_RANK)) {
    const uint64_t bRow = openWalk(true, SLOT_LOW_RANK_B, KEY_TYPE, token, 1, head).at;
    kRow = isLowRank ? bRow : kRow;
  }
  // e, before its gates and signs.
  uint64_t eRow = kRow;
  if (HAS(OPTION_LOW_RANK)) { eRow = openWalk(true, SLOT_LOW_RANK_A, KEY_TYPE, token, 1, head).at; }
  if (HAS(OPTION_ERASE_KEYS)) { eRow = openWalk(true, SLOT_ERASE_KEYS, KEY_TYPE, source, UPDATES, keyHead).at; }
  const uint64_t eraseGates = openWalk(HAS(OPTION_ERASE_GATES), SLOT_ERASE_GATES, GATE_TYPE, source, UPDATES, head).at;
  const float headFactor = HAS(OPTION_HEAD_DECAY) ? decayFactor(headValue(SLOT_HEAD_DECAY)) : 1.0;
  float strength;
  float factor = tokenFactor(
    headFactor, HAS(OPTION_TIME_STEP) ? headValue(SLOT_RATE) : 0.0,
    openWalk(HAS(OPTION_TIME_STEP), SLOT_TIME_STEP, GATE_TYPE, token, 1, head).at,
    openWalk(HAS(OPTION_DECAY), SLOT_DECAY, GATE_TYPE, token, 1, head).at, strength);
  if (HAS(OPTION_SEQUENCE_IDS) && token > 0) {
    const Walk ids = openWalk(true, SLOT_SEQUENCE_IDS, ELEMENT_F32, token, 1, 0);
    if (WordReference(ids.at).value != WordReference(ids.at - ids.step).value) { factor = 0; }
  }
  if (HAS(OPTION_BETA)) {
    strength = loadElement(GATE_TYPE, openWalk(true, SLOT_BETA, GATE_TYPE, updateOf(source), UPDATES, head).at);
  }
  if (isLowRank) { strength = 1; }
  if (update != 0 || !isThere) { factor = 1; }
  const bool isRead = isThere && update == ROWS_PER_TOKEN - 1 && !HAS(OPTION_NO_OUTPUT);

  const uint64_t gates = openWalk(KEY_FACTORS, SLOT_KEY_DECAY, GATE_TYPE, token, 1, head).at;
  [[unroll]] for (uint d = 0; d < OWN_QUADS; d++) {
    const vec4 key = loadOwn(KEY_TYPE, kRow, d) * strength;
    keepKey(record, d, isThere ? key : vec4(0.0));
    if (KEY_FACTORS) {
      vec4 own = vec4(factor);
      if (update == 0 && isThere) { own *= decayFactor(loadOwn(GATE_TYPE, gates, d)); }
      keepFactors(record, d, own);
    }
  }
  if (ROW_FACTORS && !KEY_FACTORS && isOwner && lane == 0) { keepFactor(record, factor); }

  vec4 ownWeights = vec4(0.0);  // of a row's own update where it reads before that
  [[unroll]] for (uint d = 0; d < OWN_QUADS; d++) {
    q[d] = vec4(0.0);
    if (!HAS(OPTION_NO_OUTPUT)) {
      const vec4 query = loadOwn(KEY_TYPE, qRow, d) * BLOCK.scale;
      q[d] = isRead ? query : vec4(0.0);
    }
    if (HAS(OPTION_BONUS)) {
      const uint64_t bonus = BLOCK.tensors[SLOT_BONUS].address + uint64_t(head) * KEY_CHANNELS * 4;
      const vec4 weight = q[d] * loadOwn(ELEMENT_F32, bonus, d);
      const vec4 key = loadOwn(KEY_TYPE, kRow, d) * strength;
      ownWeights = fma(weight, isThere ? key : vec4(0.0), ownWeights);
    }
    if (IS_DELTA) {
      e[d] = loadOwn(KEY_TYPE, eRow, d);
      if (HAS(OPTION_ERASE_GATES)) { e[d] *= loadOwn(GATE_TYPE, eraseGates, d); }
      if (HAS(OPTION_LOW_RANK)) { e[d] = isLowRank ? -e[d] : vec4(0.0); }
      if (!isThere) { e[d] = vec4(0.0); }
    }
  }
  const float ownWeight = HAS(OPTION_BONUS) ? laneSum(ownWeights) : 0.0;
  SYNC();

  float passedQ = 1;  // the decays that q_i and e_i have passed, where they are numbers
  float passedE = 1;
  for (uint j = BLOCK_ROWS; j-- > 0;) {
    vec4 a = vec4(0.0);
    vec4 b = vec4(0.0);
    const bool passesQ = HAS(OPTION_BEFORE) ? row > j : row >= j;
    const bool passesE = HAS(OPTION_LOW_RANK) ? row > j : row >= j;
    [[unroll]] for (uint d = 0; d < OWN_QUADS; d++) {
      const vec4 key = keptKey(record, d, j);
      a = fma(q[d], key, a);
      if (IS_DELTA) { b = fma(e[d], key, b); }
      if (KEY_FACTORS) {
        const vec4 own = factorQuad(record, quadOf(d), j);
        q[d] = passesQ ? q[d] * own : q[d];
        if (IS_DELTA) { e[d] = passesE ? e[d] * own : e[d]; }
      }
    }
    float weight = laneSum(a) * passedQ;
    const float held = IS_DELTA ? laneSum(b) * passedE : 0.0;
    if (HAS(OPTION_BEFORE) && row == j) { weight = ownWeight; }
    if (isOwner && lane == 0) {
      FloatReference(record + (AT_A + j * BLOCK_ROWS + row) * 4).value = row >= j ? weight : 0.0;
      if (IS_DELTA) {
        FloatReference(record + (AT_B + j * BLOCK_ROWS + row) * 4).value = row > j ? held : 0.0;
      }
    }
    if (ROW_FACTORS && !KEY_FACTORS) {
      const float own = factorOf(record, j);
      passedQ = passesQ ? passedQ * own : passedQ;
      passedE = passesE ? passedE * own : passedE;
    }
  }
  [[unroll]] for (uint d = 0; d < OWN_QUADS; d++) {
    if (isOwner && hasQuad(d)) {
      FloatQuadReference(place(record, AT_Q, d, row)).value = q[d] * passedQ;
      if (IS_DELTA) { FloatQuadReference(place(record, AT_E, d, row)).value = e[d] * passedE; }
    }
  }

  // K~: q is no longer needed and holds k_i on its way to the end of the block.
  float after = 1;
  [[unroll]] for (uint d = 0; d < OWN_QUADS; d++) { q[d] = keptKey(record, d, row); }
  if (ROW_FACTORS) {
    for (uint j = 1; j < BLOCK_ROWS; j++) {
      if (KEY_FACTORS) {
        [[unroll]] for (uint d = 0; d < OWN_QUADS; d++) {
          const vec4 own = factorQuad(record, quadOf(d), j);
          q[d] = j > row ? q[d] * own : q[d];
        }
      } else {
        after *= j > row ? factorOf(record, j) : 1.0;
      }
    }
    if (KEY_FACTORS) {
      // A tail of this loop has no work for some invocations.
      for (uint d = index; d < QUADS; d += gl_WorkGroupSize.x) {
        vec4 all = vec4(1.0);
        for (uint j = 0; j < BLOCK_ROWS; j++) { all *= factorQuad(record, d, j); }
        FloatQuadReference(record + d * 16).value = all;
      }
    } else if (row == 0 && isOwner && lane == 0) {
      FloatReference(record).value = after * factorOf(record, 0);
    }
  }
  // In the record, K~_j goes where k_j was read, and is the same without decays.
  if (ROW_FACTORS && KEEPS_IN_RECORD) { SYNC(); }
  if (ROW_FACTORS || !KEEPS_IN_RECORD) {
    [[unroll]] for (uint d = 0; d < OWN_QUADS; d++) {
      if (isOwner && hasQuad(d)) { FloatQuadReference(place(record, AT_K, d, row)).value = q[d] * after; }
    }
  }
}
