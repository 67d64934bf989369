#!/usr/bin/env python3
"""Writes the attention cases under Tests/Cases: inputs and expected outputs as safetensors files.

The expected values are the formula itself in float64 (attention_formula.py), one matrix of scores
per head, computed from inputs already rounded to the case's types. Wherever other code can express
a case (attention_checks.py), it is run in float64 too and must agree before the file is written.

    python3 Tools/cases/attention.py            # writes Tests/Cases/attention*/
    python3 Tools/cases/attention.py --check    # compares with the files that are there
"""

import math
import zlib

import torch

import attention_checks
from attention_cases import OPTIONS, PACKED, PLAIN
from attention_formula import evaluate, sequence
from case_files import TYPES, metadata, write_cases


def sizes(name):
    """The type and the sizes spelled in a case's name: f16-B1-S33-T65-H4-G2-D64-E64-causal."""
    parts = name.split("-")
    return parts[0], {part[0]: int(part[1:]) for part in parts[1:8]}


def expected(name, q, k, v, params, extra):
    """o, lse, the keys that a query sees as [B,T,G], and the checks that were made."""
    result = evaluate(q, k, v, params, extra)
    batch, queries, heads, keys = result.visible.permute(0, 2, 1, 3).shape
    groups = k.shape[2]
    seen = result.visible.view(batch, groups, heads // groups, queries, keys).any(3).any(2)
    return (result.o, result.lse, seen.transpose(1, 2),
            attention_checks.check(name, result, params, extra))


def expected_packed(name, q, k, v, params, extra):
    """The same of packed sequences; rows outside of every sequence are NaN."""
    o = torch.full((*q.shape[:2], v.shape[-1]), math.nan, dtype=torch.float64)
    lse = torch.full(q.shape[:2], math.nan, dtype=torch.float64)
    seen = torch.zeros(k.shape[:2], dtype=torch.bool)
    made = None
    for b in range(len(extra["cu_seqlens_q"]) - 1):
        own = sequence(b, q, k, v, extra)
        if own is None:
            continue
        rows, keys, *problem, own_extra = own
        own_o, own_lse, own_seen, own_made = expected(name, *problem, params, own_extra)
        o[rows], lse[rows], seen[keys] = own_o[0], own_lse[0], own_seen[0]
        # An empty sequence is nothing to check.
        if keys.start != keys.stop:
            made = own_made if made is None else [check for check in made if check in own_made]
    return o, lse, seen, made or []


def build(name, params=None, amplitude=1.0, extra=None, tolerance=None, poison=None, types=None,
          packed=False):
    """One case: its tensors and its metadata.

    poison: "lengths" fills keys past kv_lengths with NaN, "hidden" every key that no query sees.
    types: the types of k and v where they are others than q's.
    """
    params = params or {}
    q_type, shape = sizes(name)
    k_type, v_type = (TYPES[name] for name in types or (q_type, q_type))
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    lead = () if packed else (shape["B"],)
    q = (amplitude * normal(*lead, shape["S"], shape["H"], shape["D"])).to(TYPES[q_type])
    k = (amplitude * normal(*lead, shape["T"], shape["G"], shape["D"])).to(k_type)
    v = normal(*lead, shape["T"], shape["G"], shape["E"]).to(v_type)
    shape["params"] = params
    extra = {key: make(normal, shape) for key, make in (extra or {}).items()}
    if poison == "lengths":
        for b, length in enumerate(extra["kv_lengths"].tolist()):
            k[b, length:] = math.nan
            v[b, length:] = math.nan

    evaluated = expected_packed if packed else expected
    o, lse, seen, made = evaluated(name, q, k, v, params, extra)
    if poison == "hidden":
        k[~seen] = math.nan
        v[~seen] = math.nan
        o, lse, seen, made = evaluated(name, q, k, v, params, extra)
    tensors = {"q": q, "k": k, "v": v, **extra,
               "expected.o": o.float(), "expected.lse": lse.float()}
    return tensors, metadata(
        "attention_varlen" if packed else "attention", params,
        "Tools/cases/attention.py: float64 formula in PyTorch", made,
        **({"tolerance": tolerance} if tolerance else {}))


def main():
    write_cases(__doc__, [
        ("attention", PLAIN, lambda name: build(name, **PLAIN[name])),
        ("attention-options", OPTIONS, lambda name: build(name, **OPTIONS[name])),
        ("attention-varlen", PACKED, lambda name: build(name, packed=True, **PACKED[name]))])


if __name__ == "__main__":
    main()
