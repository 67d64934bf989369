#!/usr/bin/env python3
"""Writes the attention cases under Tests/Cases: inputs and expected outputs as safetensors files.

The expected values are the formula itself in float64, one matrix of scores per head, computed
from inputs already rounded to the case's type. Wherever PyTorch's scaled_dot_product_attention
can express a case, it is run in float64 too and must agree before the file is written.

    python3 Tools/cases/attention.py            # writes Tests/Cases/attention*/
    python3 Tools/cases/attention.py --check    # compares with the files that are there
"""

import argparse
import json
import math
import pathlib
import sys
import zlib

import torch
from safetensors.torch import load_file, save_file

CASES_FOLDER = pathlib.Path(__file__).resolve().parents[2] / "Tests" / "Cases"
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def sizes(name):
    """The type and the sizes spelled in a case's name: f16-B1-S33-T65-H4-G2-D64-E64-causal."""
    parts = name.split("-")
    numbers = {part[0]: int(part[1:]) for part in parts[1:8]}
    return TYPES[parts[0]], [numbers[letter] for letter in "BSTHGDE"]


def expected_attention(q, k, v, params, extra):
    """o, lse of CASES' op `attention`, in float64; also the additive mask that was used."""
    q, k, v = q.double(), k.double(), v.double()
    batch, queries, heads, channels = q.shape
    keys, groups = k.shape[1], k.shape[2]
    lengths = extra.get("kv_lengths", torch.full((batch,), keys)).long()

    i = torch.arange(queries).view(1, 1, queries, 1)
    j = torch.arange(keys).view(1, 1, 1, keys)
    n = lengths.view(batch, 1, 1, 1)
    top_left = params.get("causal_align", "bottom_right") == "top_left"
    position = i + (torch.zeros_like(n) if top_left else n - queries)

    visible = (j < n).expand(batch, heads, queries, keys).clone()
    if params.get("causal", False):
        visible &= j <= position
    window = torch.ones(batch, 1, queries, keys, dtype=torch.bool)
    if params.get("window_left", -1) >= 0:
        window &= j >= position - params["window_left"]
    if params.get("window_right", -1) >= 0:
        window &= j <= position + params["window_right"]
    visible &= window | (j < params.get("sink_tokens", 0))
    if "mask" in extra:
        visible &= extra["mask"] != 0

    # Keys past the sequence's end may hold NaN, which 0 * NaN would let through.
    valid = (torch.arange(keys).view(1, keys) < lengths.view(batch, 1)).view(batch, keys, 1, 1)
    k = torch.where(valid, k, 0.0).repeat_interleave(heads // groups, dim=2)
    v = torch.where(valid, v, 0.0).repeat_interleave(heads // groups, dim=2)

    scores = torch.einsum("bshd,bthd->bhst", q, k) * params.get("scale", 1 / math.sqrt(channels))
    softcap = params.get("softcap", 0)
    if softcap > 0:
        scores = softcap * torch.tanh(scores / softcap)
    added = torch.zeros(batch, heads, queries, keys, dtype=torch.float64)
    if "bias" in extra:
        added = added + extra["bias"].double()
    if "alibi_slopes" in extra:
        slopes = extra["alibi_slopes"].double().view(1, heads, 1, 1)
        added = added - slopes * (position - j).abs().double()
    added = added.masked_fill(~visible, -math.inf)
    scores = scores + added

    logits = scores
    if "sinks" in extra:
        sink = extra["sinks"].double().view(1, heads, 1, 1).expand(batch, heads, queries, 1)
        logits = torch.cat([scores, sink], dim=-1)
    lse = torch.logsumexp(logits, dim=-1) if logits.shape[-1] else torch.full(
        (batch, heads, queries), -math.inf, dtype=torch.float64)
    # exp(-inf - -inf) is NaN: a row with nothing visible has weights of zero.
    finite_lse = torch.where(lse.isinf(), 0.0, lse)
    weights = torch.exp(scores - finite_lse.unsqueeze(-1))
    o = torch.einsum("bhst,bthe->bshe", weights, v)
    return o, lse.transpose(1, 2).contiguous(), added, k, v


def cross_check(name, q, k, v, o, added, params, extra):
    """Holds o against PyTorch's own attention; False where that has no such option."""
    if params.get("softcap", 0) > 0 or "sinks" in extra or k.shape[1] == 0:
        return False
    theirs = torch.nn.functional.scaled_dot_product_attention(
        q.double().transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=added,
        scale=params.get("scale")).transpose(1, 2)
    # Rows with nothing visible: zero here, NaN or zero there, by version.
    seen = (~added.isinf()).any(dim=-1).transpose(1, 2).unsqueeze(-1)
    difference = torch.where(seen, theirs - o, 0.0).abs().max().item()
    if not difference < 1e-12:
        sys.exit(f"{name}: differs from scaled_dot_product_attention by {difference}")
    return True


def build(name, params=None, amplitude=1.0, extra=None, tolerance=None, poison=False):
    """One case: its tensors and its metadata."""
    params, dtype_and_sizes = params or {}, sizes(name)
    dtype, (batch, queries, keys, heads, groups, channels, values) = dtype_and_sizes
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    q = (amplitude * normal(batch, queries, heads, channels)).to(dtype)
    k = (amplitude * normal(batch, keys, groups, channels)).to(dtype)
    v = normal(batch, keys, groups, values).to(dtype)
    shape = {"B": batch, "H": heads, "S": queries, "T": keys}
    extra = {key: make(normal, shape) for key, make in (extra or {}).items()}
    if poison:
        for b, length in enumerate(extra["kv_lengths"].tolist()):
            k[b, length:] = math.nan
            v[b, length:] = math.nan

    o, lse, added, wide_k, wide_v = expected_attention(q, k, v, params, extra)
    checked = cross_check(name, q, wide_k, wide_v, o, added, params, extra)
    source = "Tools/cases/attention.py: float64 formula in PyTorch"
    if checked:
        source += ", agrees with scaled_dot_product_attention"
    description = {"version": 1, "op": "attention", "params": params, "source": source}
    if tolerance:
        description["tolerance"] = tolerance
    tensors = {"q": q, "k": k, "v": v, **extra,
               "expected.o": o.float(), "expected.lse": lse.float()}
    tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    return tensors, {"vkattn": json.dumps(description, sort_keys=True)}


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
        "params": CAUSAL, "extra": {"kv_lengths": lengths(17, 4, 0)}, "poison": True},
    "f16-B2-S10-T22-H4-G2-D32-E16-everything": {
        "params": {"causal": True, "window_left": 9, "window_right": 3, "sink_tokens": 2,
                   "softcap": 4.0, "scale": 0.5},
        "extra": {"bias": bias_per_head, "mask": mask_per_batch, "sinks": sink_logits,
                  "alibi_slopes": slopes, "kv_lengths": lengths(22, 13)},
        "poison": True},
}


def agrees(path, tensors):
    """Whether the file holds these tensors: inputs bit for bit, outputs to the last places."""
    stored = load_file(path)
    if stored.keys() != tensors.keys():
        return False
    return all(
        torch.allclose(stored[key].double(), tensors[key].double(), equal_nan=True,
                       rtol=1e-6 if key.startswith("expected.") else 0,
                       atol=1e-6 if key.startswith("expected.") else 0)
        for key in tensors)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    parser.add_argument("--output", type=pathlib.Path, default=CASES_FOLDER)
    arguments = parser.parse_args()

    total, wrong = 0, []
    for folder, cases in [("attention", PLAIN), ("attention-options", OPTIONS)]:
        (arguments.output / folder).mkdir(parents=True, exist_ok=True)
        for name, options in cases.items():
            path = arguments.output / folder / f"{name}.safetensors"
            tensors, metadata = build(name, **options)
            if not arguments.check:
                save_file(tensors, path, metadata=metadata)
            elif not path.exists() or not agrees(path, tensors):
                wrong.append(str(path))
                continue
            total += path.stat().st_size
    print(f"{len(PLAIN) + len(OPTIONS) - len(wrong)} cases, {total} bytes")
    if wrong:
        sys.exit("differ:\n  " + "\n  ".join(wrong))


if __name__ == "__main__":
    main()
