#version 460

// What linear_chunk.comp needs of each block of rows, laid out so that it reads in the order in which it works:
// see linear_records.glsl.
//
// A workgroup prepares one block, an invocation one row i of it: it holds q_i (and e_i) and walks the rows j
// from the last to the first, multiplying by their decays as it passes them. Rows j are read at addresses that
// are the same for all invocations.
// Grid: x = blocks of a sequence, y = value head, z = sequence.

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require

#include "linear_records.glsl"

layout(buffer_reference, scalar, buffer_reference_align = 16) coherent buffer SharedQuad { vec4 value; };
layout(buffer_reference, scalar, buffer_reference_align = 4) coherent buffer SharedFloat { float value; };

vec4 q[QUADS];
vec4 e[QUADS];
uint row;  // i

uint64_t place(uint64_t record, const uint area, uint quad, uint ownRow) {
  return record + rowPlace(area, quad, ownRow) * 4;
}

/// Four channels of the decays of row j.
vec4 factorQuad(uint64_t record, const uint quad, uint j) {
  return KEY_FACTORS ? SharedQuad(place(record, AT_D, quad, j)).value : vec4(1.0);
}

float factorOf(uint64_t record, uint j) {
  return ROW_FACTORS && !KEY_FACTORS ? SharedFloat(record + (AT_D + j) * 4).value : 1.0;
}

void main() {
  openSequence(gl_WorkGroupID.z + p.firstSequence, gl_WorkGroupID.y + p.firstHead);
  const uint firstRow = gl_WorkGroupID.x * BLOCK_ROWS;
  const uint rows = rowCount();
  // Before the workgroup leaves: where no invocation is left, sameForAll() has nothing to go by.
  const uint64_t record = recordAddress(gl_WorkGroupID.z, gl_WorkGroupID.y, gl_WorkGroupID.x);
  if (firstRow >= rows) { return; }
  row = min(gl_LocalInvocationID.x, BLOCK_ROWS - 1);
  const bool isOwner = gl_LocalInvocationID.x < BLOCK_ROWS;
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
  float factor = HAS(OPTION_HEAD_DECAY) ? decayFactor(headValue(SLOT_HEAD_DECAY)) : 1.0;
  float strength = 1;
  if (HAS(OPTION_TIME_STEP)) {
    strength = timeStep(loadElement(GATE_TYPE, openWalk(true, SLOT_TIME_STEP, GATE_TYPE, token, 1, head).at));
    factor *= decayFactor(strength * headValue(SLOT_RATE));
  }
  if (HAS(OPTION_DECAY)) {
    factor *= decayFactor(loadElement(GATE_TYPE, openWalk(true, SLOT_DECAY, GATE_TYPE, token, 1, head).at));
  }
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

  // k_j and the decays go to the record, from where all invocations read them.
  const uint64_t gates = openWalk(KEY_FACTORS, SLOT_KEY_DECAY, GATE_TYPE, token, 1, head).at;
  [[unroll]] for (uint d = 0; d < QUADS; d++) {
    const vec4 key = loadChannels4(KEY_TYPE, ALIGNED, kRow, d * 4, KEY_CHANNELS) * strength;
    if (isOwner) { SharedQuad(place(record, AT_K, d, row)).value = isThere ? key : vec4(0.0); }
    if (KEY_FACTORS) {
      vec4 own = vec4(factor);
      if (update == 0 && isThere) {
        own *= decayFactor(loadChannels4(GATE_TYPE, ALIGNED, gates, d * 4, KEY_CHANNELS));
      }
      if (isOwner) { SharedQuad(place(record, AT_D, d, row)).value = own; }
    }
  }
  if (ROW_FACTORS && !KEY_FACTORS && isOwner) { SharedFloat(record + (AT_D + row) * 4).value = factor; }

  float ownWeight = 0;  // of a row's own update where it reads before that
  [[unroll]] for (uint d = 0; d < QUADS; d++) {
    q[d] = vec4(0.0);
    if (!HAS(OPTION_NO_OUTPUT)) {
      const vec4 query = loadChannels4(KEY_TYPE, ALIGNED, qRow, d * 4, KEY_CHANNELS) * BLOCK.scale;
      q[d] = isRead ? query : vec4(0.0);
    }
    if (HAS(OPTION_BONUS)) {
      const uint64_t bonus = BLOCK.tensors[SLOT_BONUS].address + uint64_t(head) * KEY_CHANNELS * 4;
      const vec4 weight = q[d] * loadChannels4(ELEMENT_F32, ALIGNED, bonus, d * 4, KEY_CHANNELS);
      const vec4 key = loadChannels4(KEY_TYPE, ALIGNED, kRow, d * 4, KEY_CHANNELS) * strength;
      ownWeight += dot(weight, isThere ? key : vec4(0.0));
    }
    if (IS_DELTA) {
      e[d] = loadChannels4(KEY_TYPE, ALIGNED, eRow, d * 4, KEY_CHANNELS);
      if (HAS(OPTION_ERASE_GATES)) {
        e[d] *= loadChannels4(GATE_TYPE, ALIGNED, eraseGates, d * 4, KEY_CHANNELS);
      }
      if (HAS(OPTION_LOW_RANK)) { e[d] = isLowRank ? -e[d] : vec4(0.0); }
      if (!isThere) { e[d] = vec4(0.0); }
    }
  }
  memoryBarrierBuffer();
  barrier();

  float passedQ = 1;  // the decays that q_i and e_i have passed, where they are numbers
  float passedE = 1;
  for (uint j = BLOCK_ROWS; j-- > 0;) {
    vec4 a = vec4(0.0);
    vec4 b = vec4(0.0);
    const bool passesQ = HAS(OPTION_BEFORE) ? row > j : row >= j;
    const bool passesE = HAS(OPTION_LOW_RANK) ? row > j : row >= j;
    [[unroll]] for (uint d = 0; d < QUADS; d++) {
      const vec4 key = SharedQuad(place(record, AT_K, d, j)).value;
      a = fma(q[d], key, a);
      if (IS_DELTA) { b = fma(e[d], key, b); }
      if (KEY_FACTORS) {
        const vec4 own = factorQuad(record, d, j);
        q[d] = passesQ ? q[d] * own : q[d];
        if (IS_DELTA) { e[d] = passesE ? e[d] * own : e[d]; }
      }
    }
    float weight = ((a.x + a.y) + (a.z + a.w)) * passedQ;
    if (HAS(OPTION_BEFORE) && row == j) { weight = ownWeight; }
    if (isOwner) {
      FloatReference(record + (AT_A + j * BLOCK_ROWS + row) * 4).value = row >= j ? weight : 0.0;
      if (IS_DELTA) {
        const float held = ((b.x + b.y) + (b.z + b.w)) * passedE;
        FloatReference(record + (AT_B + j * BLOCK_ROWS + row) * 4).value = row > j ? held : 0.0;
      }
    }
    if (ROW_FACTORS && !KEY_FACTORS) {
      const float own = factorOf(record, j);
      passedQ = passesQ ? passedQ * own : passedQ;
      passedE = passesE ? passedE * own : passedE;
    }
  }
  [[unroll]] for (uint d = 0; d < QUADS; d++) {
    if (isOwner) {
      FloatQuadReference(place(record, AT_Q, d, row)).value = q[d] * passedQ;
      if (IS_DELTA) { FloatQuadReference(place(record, AT_E, d, row)).value = e[d] * passedE; }
    }
  }

  // K~: q is no longer needed and holds k_i on its way to the end of the block.
  float after = 1;
  [[unroll]] for (uint d = 0; d < QUADS; d++) { q[d] = SharedQuad(place(record, AT_K, d, row)).value; }
  if (ROW_FACTORS) {
    for (uint j = 1; j < BLOCK_ROWS; j++) {
      if (KEY_FACTORS) {
        [[unroll]] for (uint d = 0; d < QUADS; d++) {
          const vec4 own = factorQuad(record, d, j);
          q[d] = j > row ? q[d] * own : q[d];
        }
      } else {
        after *= j > row ? factorOf(record, j) : 1.0;
      }
    }
    if (KEY_FACTORS) {
      // A tail of this loop has no work for some invocations.
      for (uint d = gl_LocalInvocationID.x; d < QUADS; d += gl_WorkGroupSize.x) {
        vec4 all = vec4(1.0);
        for (uint j = 0; j < BLOCK_ROWS; j++) {
          all *= SharedQuad(place(record, AT_D, d, j)).value;
        }
        FloatQuadReference(record + d * 16).value = all;
      }
    } else if (row == 0 && isOwner) {
      FloatReference(record).value = after * factorOf(record, 0);
    }
    memoryBarrierBuffer();
    barrier();
    [[unroll]] for (uint d = 0; d < QUADS; d++) {
      if (isOwner) { FloatQuadReference(place(record, AT_K, d, row)).value = q[d] * after; }
    }
  }
}
