"""The attention cases: what is special about each, and how its tensors are made.

A maker takes a source of normal numbers and the case's sizes by letter and gives a tensor.
"""

import math

import torch

CAUSAL = {"causal": True}

# What every kernel of tiled attention runs. Odd and prime sizes, one more and one less than a
# tile, grouped heads, S above and below T, D other than E, no key at all.
PLAIN = {
    "f32-B1-S1-T1-H1-G1-D8-E8": {},
    "f32-B1-S16-T16-H1-G1-D16-E16": {},
    "f32-B2-S7-T13-H2-G2-D24-E24": {},
    "f32-B1-S33-T65-H2-G1-D64-E64": {},
    "f32-B1-S33-T65-H2-G1-D64-E64-causal": {"params": CAUSAL},
    "f32-B2-S17-T17-H4-G2-D32-E32-causal": {"params": CAUSAL},
    "f32-B1-S1-T50-H8-G2-D64-E64": {},
    "f32-B1-S24-T9-H2-G1-D32-E32-causal-hidden-rows": {"params": CAUSAL},
    "f32-B2-S5-T0-H2-G1-D16-E24-no-keys": {},
    "f32-B1-S20-T31-H2-G1-D40-E72-scale": {"params": {"scale": 0.3}},
    # Scores of some hundreds. Near 256 two Float neighbours are 3e-5 apart, and that is the
    # relative error of their exponentials: the default tolerance of 1e-5 cannot be asked.
    "f32-B1-S12-T40-H1-G1-D64-E64-large-scores": {
        "params": {"scale": 1.0}, "amplitude": 5.0, "tolerance": {"o": 1e-4, "lse": 1e-3}},
    "f16-B1-S33-T65-H4-G2-D64-E64-causal": {"params": CAUSAL},
    "f16-B1-S16-T32-H2-G2-D128-E128": {},
    "f16-B2-S19-T23-H3-G1-D80-E48-causal": {"params": CAUSAL},
    "f16-B1-S1-T129-H4-G1-D64-E64-causal": {"params": CAUSAL},
    "f16-B1-S9-T20-H1-G1-D256-E256-scale": {"params": {"scale": 0.1}},
    "f16-B1-S31-T10-H2-G2-D16-E8-causal-hidden-rows": {"params": CAUSAL},
    "f16-B1-S12-T40-H1-G1-D64-E64-large-scores": {"params": {"scale": 1.0}, "amplitude": 4.0},
    # Head sizes that are no multiple of a vector, and large ones.
    "f32-B1-S3-T5-H2-G1-D100-E52": {},
    "f16-B1-S4-T7-H2-G1-D100-E52-causal": {"params": CAUSAL},
    "f32-B1-S5-T9-H2-G2-D6-E6": {},
    "f32-B2-S5-T9-H2-G1-D1-E3-causal": {"params": CAUSAL},
    "f16-B1-S4-T7-H2-G1-D59-E59": {},
    "f32-B1-S3-T7-H2-G1-D59-E7-causal": {"params": CAUSAL},
    "f16-B1-S3-T5-H2-G1-D192-E128-causal": {"params": CAUSAL},
    "f16-B1-S3-T5-H1-G1-D576-E512": {},
    "f32-B1-S2-T3-H1-G1-D320-E320": {},
    # k and v of types of their own.
    "f32-B1-S7-T12-H2-G1-D24-E16-k-f16-v-bf16": {"types": ("f16", "bf16")},
    "f16-B1-S7-T12-H2-G1-D16-E24-k-bf16-v-f32-causal": {
        "types": ("bf16", "f32"), "params": CAUSAL},
    "bf16-B1-S7-T12-H2-G1-D16-E16-k-f32-v-f16": {"types": ("f32", "f16")},
    "f16-B1-S7-T12-H2-G1-D16-E16-k-f16-v-bf16": {"types": ("f16", "bf16")},
}


def causal_hole_bias(normal, shape):
    """A bias for all heads and batch entries, some of it -inf."""
    bias = normal(1, 1, shape["S"], shape["T"])
    return torch.where(bias > 1.2, -math.inf, bias).float()


def full_mask(normal, shape):
    """A mask of its own for every head, one row of it empty."""
    mask = (normal(shape["B"], shape["H"], shape["S"], shape["T"]) > -0.3).to(torch.uint8)
    mask[0, 0, 2] = 0
    return mask


def bias_per_head(normal, shape):
    return normal(1, shape["H"], shape["S"], shape["T"]).float()


def mask_per_batch(normal, shape):
    return (normal(shape["B"], 1, shape["S"], shape["T"]) > -0.8).to(torch.uint8)


def slopes(_, shape):
    return torch.tensor([2.0 ** (-8 * (h + 1) / shape["H"]) for h in range(shape["H"])])


def sink_logits(normal, shape):
    return normal(shape["H"]).float()


def lengths(*values):
    return lambda normal, shape: torch.tensor(values, dtype=torch.int32)


def normals(*extents, amplitude=1.0):
    """Normal numbers of a shape given by sizes' letters and numbers."""
    return lambda normal, shape: (
        amplitude * normal(*(shape.get(extent, extent) for extent in extents))).float()


def by_distance(*extents, amplitude=1.0):
    """Normal numbers with the table of distances in place of "R"."""
    def make(normal, shape):
        params = shape["params"]
        shape = {**shape, "R": params.get("relative_left", 0) + 1 + params.get("relative_right", 0)}
        return normals(*extents, amplitude=amplitude)(normal, shape)
    return make


def with_holes(*extents):
    """Normal numbers, some of them -inf."""
    def make(normal, shape):
        values = normals(*extents)(normal, shape)
        return torch.where(values > 1, -math.inf, values)
    return make


def half(make):
    return lambda normal, shape: make(normal, shape).half()


def positive(make):
    return lambda normal, shape: make(normal, shape).exp()


def gates_with_zeros(*extents):
    def make(normal, shape):
        gates = torch.sigmoid(normals(*extents)(normal, shape))
        return torch.where(gates < 0.35, 0.0, gates)
    return make


def bits(*extents, of="T"):
    """Random bits, enough bytes for one of the sizes; those past it are random as well."""
    def make(normal, shape):
        count = shape["params"]["tree_tokens"] if of == "tree" else shape[of]
        rows = [shape.get(extent, extent) for extent in extents]
        return ((normal(*rows, (count + 7) // 8, 8) > -0.5)
                * (2 ** torch.arange(8))).sum(-1).to(torch.uint8)
    return make


def tree(parents):
    """The bits of a tree of draft tokens: each sees its ancestors and itself."""
    def make(normal, shape):
        seen = torch.zeros(len(parents), (len(parents) + 7) // 8 * 8, dtype=torch.bool)
        for token, parent in enumerate(parents):
            if parent is not None:
                seen[token] = seen[parent]
            seen[token, token] = True
        rows = seen.view(1, len(parents), -1, 8)
        return (rows * (2 ** torch.arange(8))).sum(-1).to(torch.uint8)
    return make


def segments(*rows):
    """Segment numbers from the segments' lengths: [2, 3] is 0 0 1 1 1."""
    return lambda normal, shape: torch.stack([
        torch.repeat_interleave(torch.arange(len(row)), torch.tensor(row)) for row in rows]).int()


def integers(*values):
    return lambda normal, shape: torch.tensor(values, dtype=torch.int32)


def grid_table(normal, shape):
    height, width = shape["params"]["grid_height"], shape["params"]["grid_width"]
    return normal((2 * height - 1) * (2 * width - 1), shape["H"]).float()


def state(*rows, empty=()):
    """A running state: what some keys left behind; nothing yet in the rows `empty`."""
    def top(normal, shape):
        values = normals(*rows)(normal, shape)
        values.view(-1)[list(empty)] = -math.inf
        return values

    def total(normal, shape):
        values = normals(*rows)(normal, shape).exp()
        values.view(-1)[list(empty)] = 0
        return values

    def output(normal, shape):
        values = normals(*rows, "E", amplitude=2.0)(normal, shape)
        values.view(-1, shape["E"])[list(empty)] = 0
        return values
    return {"initial_max": top, "initial_sum": total, "initial_output": output}


ROWS = ("B", "S", "H")
PACKED_ROWS = ("S", "H")

# The options of the format one by one, then together.
OPTIONS = {
    "bf16-B1-S9-T21-H2-G1-D32-E32-causal": {"params": CAUSAL},
    "f32-B1-S13-T11-H2-G2-D16-E16-causal-top-left": {
        "params": {"causal": True, "causal_align": "top_left"}},
    "f32-B1-S12-T19-H2-G1-D16-E16-window": {"params": {"window_left": 3, "window_right": 2}},
    "f32-B1-S12-T19-H2-G1-D16-E16-window-top-left": {
        "params": {"window_left": 4, "window_right": 0, "causal_align": "top_left"}},
    "f32-B1-S21-T21-H2-G2-D16-E16-causal-window-sink-tokens": {
        "params": {"causal": True, "window_left": 4, "sink_tokens": 3}},
    "f32-B1-S11-T14-H2-G2-D16-E16-softcap": {"params": {"softcap": 2.5, "scale": 1.0}},
    "f32-B2-S7-T12-H2-G1-D16-E16-bias": {"extra": {"bias": causal_hole_bias}},
    "f32-B2-S7-T12-H2-G1-D16-E16-mask": {"extra": {"mask": full_mask}},
    "f32-B1-S9-T15-H4-G2-D16-E16-alibi": {
        "params": CAUSAL, "extra": {"alibi_slopes": slopes}},
    "f32-B1-S9-T6-H4-G2-D16-E16-sinks": {
        "params": CAUSAL, "extra": {"sinks": sink_logits}},
    "f32-B3-S6-T17-H2-G1-D16-E16-lengths": {
        "params": CAUSAL, "extra": {"kv_lengths": lengths(17, 4, 0)}, "poison": "lengths"},
    "f16-B2-S10-T22-H4-G2-D32-E16-everything": {
        "params": {"causal": True, "window_left": 9, "window_right": 3, "sink_tokens": 2,
                   "softcap": 4.0, "scale": 0.5},
        "extra": {"bias": bias_per_head, "mask": mask_per_batch, "sinks": sink_logits,
                  "alibi_slopes": slopes, "kv_lengths": lengths(22, 13)},
        "poison": "lengths"},
    # Visibility.
    "f32-B1-S13-T13-H2-G1-D16-E8-causal-block": {"params": {"causal": True, "causal_block": 4}},
    "f16-B1-S9-T5-H2-G2-D16-E8-causal-block-hidden-rows": {
        "params": {"causal": True, "causal_block": 3}},
    "f32-B1-S9-T14-H2-G1-D16-E8-prefix": {"params": {"causal": True, "prefix_tokens": 9}},
    "f32-B3-S5-T9-H1-G1-D16-E8-prefix-lengths": {
        "params": {"causal": True, "prefix_tokens": 3},
        "extra": {"prefix_lengths": integers(0, 9, 6)}},
    "f32-B1-S12-T17-H2-G1-D16-E8-causal-chunk": {"params": {"causal": True, "chunk": 5}},
    "f32-B1-S10-T14-H2-G1-D16-E8-chunk-sink-tokens-top-left": {
        "params": {"chunk": 4, "sink_tokens": 2, "causal_align": "top_left"}, "poison": "hidden"},
    "f32-B1-S9-T5-H2-G2-D16-E8-chunk-hidden-rows": {"params": {"chunk": 3}},
    "f32-B1-S6-T11-H4-G2-D16-E8-head-windows": {
        "extra": {"head_windows": integers([0, 0], [-1, 3], [4, -1], [2, 5])}},
    "f32-B3-S4-T9-H1-G1-D16-E8-left-padding": {
        "params": CAUSAL, "extra": {"left_padding": integers(0, 4, 9)}, "poison": "hidden"},
    "f32-B2-S7-T7-H2-G1-D16-E8-segments-causal": {
        "params": CAUSAL,
        "extra": {"q_segments": segments([3, 1, 3], [7]), "k_segments": segments([3, 1, 3], [7])}},
    "f32-B2-S6-T9-H1-G1-D16-E8-segments-different": {
        "params": {"segments": "different"},
        "extra": {"q_segments": segments([2, 4]), "k_segments": segments([5, 4], [1, 8])}},
    "f32-B2-S4-T13-H2-G1-D16-E8-mask-bits": {
        "extra": {"mask_bits": bits("B", "H", "S")}, "poison": "hidden"},
    "f16-B1-S5-T13-H3-G3-D16-E16-mask-bits-causal": {
        "params": CAUSAL, "extra": {"mask_bits": bits(1, 1, "S")}},
    "f32-B2-S11-T17-H1-G1-D16-E8-tree": {
        "params": {"tree_tokens": 11},
        "extra": {"tree_bits": tree([None, 0, 0, 0, 1, 1, 2, 4, 4, 5, 7]),
                  "kv_lengths": integers(17, 13)}, "poison": "lengths"},
    "f32-B2-S4-T12-H2-G1-D16-E8-tree-bits": {
        "params": {"tree_tokens": 10}, "extra": {
            "tree_bits": bits("B", "S", of="tree"), "kv_lengths": integers(12, 6)},
        "poison": "hidden"},
    # Scores.
    "f16-B2-S5-T10-H2-G1-D16-E16-bias-f16": {
        "extra": {"bias": half(normals(1, "H", "S", "T"))}},
    "f32-B2-S4-T9-H2-G1-D16-E8-bias-f16": {
        "extra": {"bias": half(with_holes("B", 1, "S", "T"))}},
    "f32-B2-S4-T9-H2-G1-D16-E8-key-bias": {"extra": {"key_bias": with_holes("B", 1, "T")}},
    "f16-B2-S5-T10-H2-G1-D16-E16-key-bias-per-head": {"extra": {"key_bias": normals(1, "H", "T")}},
    "f32-B2-S4-T9-H2-G1-D16-E8-query-scales": {
        "extra": {"query_scales": positive(normals("B", "S", 1, amplitude=0.3))}},
    "f16-B1-S7-T12-H2-G1-D16-E16-query-scales-per-head": {
        "params": CAUSAL, "extra": {"query_scales": positive(normals(1, "S", "H"))}},
    "f32-B1-S7-T12-H2-G1-D16-E8-relative-bias": {
        "params": {"relative_left": 6, "relative_right": 3},
        "extra": {"relative_bias": by_distance("H", "R")}},
    "f32-B1-S7-T12-H2-G1-D16-E8-relative-bias-shared-top-left": {
        "params": {"relative_left": 4, "relative_right": 20, "causal_align": "top_left"},
        "extra": {"relative_bias": by_distance(1, "R")}},
    "f32-B1-S17-T17-H2-G1-D8-E8-t5": {
        "params": {"t5_max_distance": 14, "scale": 1.0}, "extra": {"t5_bias": normals(16, "H")}},
    "f16-B1-S3-T134-H2-G1-D8-E8-t5-causal": {
        "params": {"causal": True, "t5_bidirectional": False, "scale": 1.0},
        "extra": {"t5_bias": normals(32, "H"), "kv_lengths": integers(132)}},
    "f32-B2-S6-T6-H2-G1-D16-E8-grid": {
        "params": {"grid_height": 2, "grid_width": 3}, "extra": {"grid_bias": grid_table}},
    "f16-B1-S20-T20-H2-G2-D8-E8-grid-shifted-window": {
        "params": {"grid_height": 4, "grid_width": 5},
        "extra": {"grid_bias": grid_table, "q_segments": segments([10, 5, 5]),
                  "k_segments": segments([10, 5, 5])}},
    "f32-B1-S5-T11-H2-G1-D16-E8-grid-partly-filled": {
        "params": {"grid_height": 4, "grid_width": 3}, "extra": {"grid_bias": grid_table}},
    "f32-B1-S6-T10-H2-G1-D16-E8-query-bias": {"extra": {"query_bias": normals("H", "D")}},
    "f32-B1-S6-T10-H2-G1-D16-E8-transformer-xl": {
        "params": {"causal": True, "relative_left": 9},
        "extra": {"query_bias": normals("H", "D"), "relative_query_bias": normals("H", "D"),
                  "relative_keys": normals(10, "H", "D")}},
    "f16-B1-S8-T11-H2-G1-D16-E16-relative-keys": {
        "params": {"relative_left": 4, "relative_right": 2},
        "extra": {"relative_keys": by_distance("R", "H", "D")}},
    # Rows.
    "f32-B1-S9-T6-H2-G1-D16-E8-softmax1-hidden-rows": {
        "params": {"causal": True, "normalizer": "softmax1"}},
    "f16-B1-S7-T12-H2-G1-D16-E16-softmax1": {"params": {"normalizer": "softmax1"}},
    "f32-B2-S4-T9-H2-G1-D16-E8-relu-mean": {
        "params": {"causal": True, "normalizer": "relu_mean"},
        "extra": {"kv_lengths": integers(9, 5)}, "poison": "lengths"},
    "f32-B1-S7-T12-H2-G1-D16-E8-relu-sum": {
        "params": {"causal": True, "normalizer": "relu_sum"}},
    "f32-B1-S7-T12-H2-G1-D16-E8-sigmoid": {"params": {"normalizer": "sigmoid"}},
    "f16-B1-S9-T6-H2-G1-D16-E16-sigmoid-bias-hidden-rows": {
        "params": {"causal": True, "normalizer": "sigmoid", "sigmoid_bias": -1.75}},
    "f32-B2-S5-T9-H2-G1-D16-E8-gates": {"extra": {"gates": gates_with_zeros(*ROWS)}},
    "f16-B1-S5-T10-H4-G2-D16-E16-gates-per-head": {
        "params": CAUSAL, "extra": {"gates": normals(1, 1, "H")}},
    "f32-B2-S4-T9-H2-G1-D16-E8-initial-state": {"extra": state(*ROWS, empty=(0, 3, 13))},
    "f32-B1-S8-T5-H2-G1-D16-E8-initial-state-hidden-rows": {
        "params": CAUSAL, "extra": state(*ROWS, empty=(0, 15))},
    "f32-B1-S3-T0-H2-G1-D16-E16-initial-state-no-keys": {"extra": state(*ROWS, empty=(2,))},
    "f16-B1-S5-T12-H2-G1-D16-E16-initial-state-softmax1": {
        "params": {"causal": True, "normalizer": "softmax1"}, "extra": state(*ROWS)},
    "f32-B1-S5-T10-H2-G1-D16-E8-initial-state-relu-sum": {
        "params": {"normalizer": "relu_sum"}, "extra": state(*ROWS, empty=(1,))},
    "f32-B1-S5-T10-H2-G1-D16-E8-initial-state-sigmoid": {
        "params": {"normalizer": "sigmoid"}, "extra": state(*ROWS)},
    # Several at once: as models combine them, then as none does.
    "f16-B1-S10-T14-H2-G1-D16-E16-causal-window-softcap": {
        "params": {"causal": True, "window_left": 7, "softcap": 5.0, "scale": 0.5}},
    "f16-B1-S10-T20-H4-G2-D16-E8-causal-window-sinks": {
        "params": {"causal": True, "window_left": 6}, "extra": {"sinks": sink_logits}},
    "bf16-B1-S12-T12-H2-G1-D16-E16-causal-chunk-query-scales": {
        "params": {"causal": True, "chunk": 5}, "extra": {
            "query_scales": positive(normals(1, "S", 1, amplitude=0.3))}},
    "f16-B3-S7-T7-H2-G1-D16-E8-causal-left-padding-alibi": {
        "params": CAUSAL, "extra": {
            "left_padding": integers(3, 0, 7), "alibi_slopes": slopes}, "poison": "hidden"},
    "f16-B1-S8-T22-H4-G2-D16-E8-tree-window-sinks": {
        "params": {"window_left": 12, "sink_tokens": 2, "tree_tokens": 8},
        "extra": {"tree_bits": tree([None, 0, 0, 1, 1, 2, 3, 5]), "sinks": sink_logits}},
    "f32-B2-S9-T21-H2-G1-D8-E8-every-mask": {
        "params": {"causal": True, "causal_block": 2, "chunk": 10, "sink_tokens": 3,
                   "tree_tokens": 5},
        "extra": {"prefix_lengths": integers(18, 2), "kv_lengths": integers(21, 18),
                  "left_padding": integers(0, 2),
                  "head_windows": integers([8, -1], [-1, 2]),
                  "q_segments": segments([1, 8]), "k_segments": segments([9, 12], [2, 19]),
                  "mask_bits": bits(1, "H", "S"), "tree_bits": bits("B", "S", of="tree")},
        "poison": "hidden"},
    "f32-B2-S5-T11-H2-G1-D16-E8-every-score-term": {
        "params": {"causal": True, "softcap": 3.0, "relative_left": 4, "relative_right": 2,
                   "scale": 0.4, "causal_block": 5},
        "extra": {"query_scales": positive(normals("B", "S", "H", amplitude=0.3)),
                  "query_bias": normals("H", "D"), "relative_query_bias": normals("H", "D"),
                  "relative_keys": by_distance("R", "H", "D"),
                  "relative_bias": by_distance("H", "R"), "bias": half(normals(1, 1, "S", "T")),
                  "key_bias": normals("B", "H", "T"), "alibi_slopes": slopes,
                  "sinks": sink_logits, "gates": gates_with_zeros("B", "S", 1),
                  **state(*ROWS, empty=(5,))}},
    "f32-B2-S6-T13-H2-G1-D16-E8-sigmoid-window-alibi-gates": {
        "params": {"normalizer": "sigmoid", "sigmoid_bias": -3.0, "window_left": 6,
                   "window_right": 1, "softcap": 4.0},
        "extra": {"alibi_slopes": slopes, "gates": normals(*ROWS),
                  "kv_lengths": integers(13, 7)}, "poison": "lengths"},
    "f32-B1-S6-T15-H2-G1-D16-E8-relu-mean-chunk-key-bias": {
        "params": {"normalizer": "relu_mean", "chunk": 6, "causal": True},
        "extra": {"key_bias": with_holes("B", "H", "T"), "query_scales": normals(1, "S", 1)}},
    "bf16-B2-S6-T12-H2-G1-D16-E8-softmax1-mask-relative-bias": {
        "params": {"normalizer": "softmax1", "relative_left": 11},
        "extra": {"mask": mask_per_batch, "relative_bias": by_distance("H", "R")}},
    "f16-B1-S8-T14-H2-G1-D20-E12-k-bf16-v-f32-causal-window": {
        "types": ("bf16", "f32"), "params": {"causal": True, "window_left": 5}},
}


def starts(queries, keys):
    """The bounds of packed sequences."""
    return {"cu_seqlens_q": integers(*queries), "cu_seqlens_k": integers(*keys)}


# Packed sequences; B is their number, S and T the packed tokens of all.
PACKED = {
    "f32-B3-S10-T16-H2-G1-D16-E8-causal": {
        "params": CAUSAL, "extra": starts([0, 4, 5, 10], [0, 7, 11, 16])},
    "f16-B3-S40-T50-H1-G1-D16-E8-causal": {
        "params": CAUSAL, "extra": starts([0, 3, 36, 40], [0, 10, 43, 50])},
    "bf16-B2-S12-T12-H2-G2-D16-E16-causal-top-left": {
        "params": {"causal": True, "causal_align": "top_left"},
        "extra": starts([0, 5, 12], [0, 8, 12])},
    # Sequences without queries, without keys, without both; tokens of no sequence at both ends.
    "f32-B5-S12-T14-H2-G1-D16-E8-empty-sequences": {
        "extra": starts([0, 4, 4, 9, 9, 12], [0, 5, 8, 8, 8, 14])},
    "f32-B2-S12-T16-H2-G1-D16-E8-tokens-outside": {
        "params": CAUSAL, "extra": starts([2, 6, 9], [1, 8, 13]), "poison": "hidden"},
    "f32-B6-S6-T24-H2-G1-D16-E8-one-query-each": {
        "params": CAUSAL, "extra": starts(range(7), [0, 3, 4, 10, 10, 21, 24])},
    "f16-B3-S10-T16-H2-G1-D16-E16-causal-window-sinks": {
        "params": {"causal": True, "window_left": 3, "sink_tokens": 1},
        "extra": {**starts([0, 4, 5, 10], [0, 7, 11, 16]), "sinks": sink_logits}},
    "f32-B3-S10-T16-H2-G1-D16-E8-alibi-softcap": {
        "params": {"softcap": 3.0, "scale": 0.5}, "extra": {
            **starts([0, 4, 5, 10], [0, 7, 11, 16]), "alibi_slopes": slopes}},
    "f32-B3-S9-T21-H2-G1-D16-E8-lengths-padding-prefix": {
        "params": CAUSAL, "extra": {
            **starts([0, 3, 6, 9], [0, 8, 15, 21]), "kv_lengths": integers(8, 3, 6),
            "left_padding": integers(2, 0, 1), "prefix_lengths": integers(0, 2, 5)},
        "poison": "hidden"},
    "f32-B2-S10-T16-H2-G1-D16-E8-chunk-head-windows": {
        "params": {"causal": True, "chunk": 5}, "extra": {
            **starts([0, 3, 10], [0, 7, 16]), "head_windows": integers([2, -1], [-1, 0])}},
    "f32-B2-S9-T15-H2-G1-D16-E8-segments": {
        "extra": {**starts([0, 5, 9], [0, 6, 15]), "q_segments": segments([3, 4, 2]),
                  "k_segments": segments([3, 6, 6])}},
    "f32-B2-S8-T18-H2-G1-D16-E8-tree": {
        "params": {"tree_tokens": 4}, "extra": {
            **starts([0, 4, 8], [0, 7, 18]), "tree_bits": bits(1, "S", of="tree")}},
    "f32-B3-S10-T16-H2-G1-D16-E8-key-bias-query-scales-gates": {
        "extra": {**starts([0, 4, 5, 10], [0, 7, 11, 16]), "key_bias": with_holes(1, "H", "T"),
                  "query_scales": positive(normals(1, "S", 1, amplitude=0.3)),
                  "gates": gates_with_zeros(1, "S", "H")}},
    "f32-B2-S9-T15-H2-G1-D16-E8-relative-bias-relative-keys": {
        "params": {"relative_left": 5, "relative_right": 2}, "extra": {
            **starts([0, 5, 9], [0, 6, 15]), "relative_bias": by_distance("H", "R"),
            "relative_keys": by_distance("R", "H", "D"), "query_bias": normals("H", "D")}},
    "f16-B2-S14-T30-H2-G1-D16-E16-t5": {
        "params": {"t5_max_distance": 16, "scale": 1.0}, "extra": {
            **starts([0, 4, 14], [0, 6, 30]), "t5_bias": normals(8, "H")}},
    "f32-B2-S9-T15-H2-G1-D16-E8-initial-state": {
        "params": CAUSAL, "extra": {
            **starts([0, 5, 9], [0, 6, 15]), **state(*PACKED_ROWS, empty=(1, 17))}},
    "f32-B2-S9-T15-H2-G1-D16-E8-softmax1": {
        "params": {"normalizer": "softmax1"}, "extra": starts([0, 5, 9], [0, 6, 15])},
    "f32-B2-S9-T15-H2-G1-D16-E8-relu-mean": {
        "params": {"normalizer": "relu_mean"}, "extra": starts([0, 5, 9], [0, 6, 15])},
    "f16-B2-S9-T15-H2-G1-D20-E12-k-f32-v-bf16": {
        "types": ("f32", "bf16"), "extra": starts([0, 5, 9], [0, 6, 15])},
}
