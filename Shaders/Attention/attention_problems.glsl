// Several problems, heads of batch entries, that share a workgroup: short sequences, windows and axes, of which there
// are thousands. Included by attention_subgroup.comp.
//
// With PROBLEMS_PER_WORKGROUP > 1 a workgroup has so many problems of one tile each, and each of them PROBLEM_LANES
// neighbouring lanes: whole subgroups or less. A share may begin anywhere in a subgroup, for lanes exchange nothing
// beside the sums of a row and where its keys begin and end: a subgroup walks what any of its rows sees.
//
// Grid: x = ceil(problems / PROBLEMS_PER_WORKGROUP), heads before batch entries, so that neighbours share cache lines
// of [B,S,H,D]; y and z are 1. Of the push constants firstBatch is the batch entry of the first problem, and firstHead
// the number of problems of the dispatch, for heads are not cut.
//
// Not with STAGED: subgroups walk differently, and where a problem has no more than one subgroup each key is read once,
// so that a copy would serve no one else. Not with a block map, whose walks have no common one, and not with ranges
// of keys.

#ifndef ATTENTION_PROBLEMS_GLSL
#define ATTENTION_PROBLEMS_GLSL

/// Sets the problem of this lane where several share a workgroup. Returns the lane's place among the problem's.
uint openShare() {
  const uint firstLane = gl_SubgroupID * gl_SubgroupSize;
  const uint lane = firstLane + gl_SubgroupInvocationID;
  // One problem for the whole subgroup wherever it is one: loads of its keys then have one address.
  const uint share =
    min((PROBLEM_LANES % gl_SubgroupSize == 0 ? firstLane : lane) / PROBLEM_LANES, PROBLEMS_PER_WORKGROUP - 1);
  const uint asked = gl_WorkGroupID.x * PROBLEMS_PER_WORKGROUP + share;
  // Behind the last problem it is computed again and not stored: its lanes stay in every subgroup operation.
  const uint problem = min(asked, p.firstHead - 1);
  head = problem % p.queryHeads;
  batch = p.firstBatch + problem / p.queryHeads;
  keyHead = head / p.headsPerGroup;
  openSequence();
  storedRows = asked == problem ? queryTokens : 0;
  // A subgroup reads keys for all of its problems as long as one of them has any. An empty sequence may begin behind
  // the last token of its tensors and has no last key: it reads the first ones, which are hidden from all its rows.
  if (HAS(OPTION_PACKED_SEQUENCES) && queryTokens == 0) { firstQuery = 0; }
  if (HAS(OPTION_PACKED_SEQUENCES | OPTION_KEY_LENGTHS) && keyTokens == 0) {
    firstKeyToken = 0;
    keyTokens = 1;
  }
  return lane - share * PROBLEM_LANES;
}

/// The walk over the keys that some row of a subgroup sees, whatever its problem is.
void uniteWalks(inout KeyWalk walk, inout int sinks) {
  if (HAS(OPTION_INTERVALS)) {
    walk.first = subgroupMin(walk.first);
    walk.window = subgroupMin(walk.window);
    walk.sinks = subgroupMax(walk.sinks);
    walk.end = subgroupMax(walk.end);
    sinks = subgroupMax(sinks);
  }
}

#endif
