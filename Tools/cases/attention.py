#!/usr/bin/env python3
"""Writes the attention cases under Tests/Cases: inputs and expected outputs as safetensors files.

The expected values are the formula itself in float64 (attention_formula.py), one matrix of scores
per head, computed from inputs already rounded to the case's types. Wherever other code can express
a case (attention_checks.py), it is run in float64 too and must agree before the file is written.

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

import attention_checks
from attention_cases import OPTIONS, PACKED, PLAIN
from attention_formula import evaluate, sequence

CASES_FOLDER = pathlib.Path(__file__).resolve().parents[2] / "Tests" / "Cases"
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


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
    source = ", ".join(
        ["Tools/cases/attention.py: float64 formula in PyTorch"]
        + [f"agrees with {check}" for check in made])
    description = {"version": 1, "op": "attention_varlen" if packed else "attention",
                   "params": params, "source": source}
    if tolerance:
        description["tolerance"] = tolerance
    tensors = {"q": q, "k": k, "v": v, **extra,
               "expected.o": o.float(), "expected.lse": lse.float()}
    tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    return tensors, {"vkattn": json.dumps(description, sort_keys=True)}


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

    folders = [("attention", PLAIN, False), ("attention-options", OPTIONS, False),
               ("attention-varlen", PACKED, True)]
    total, count, wrong = 0, 0, []
    for folder, cases, packed in folders:
        (arguments.output / folder).mkdir(parents=True, exist_ok=True)
        for name, options in cases.items():
            path = arguments.output / folder / f"{name}.safetensors"
            tensors, metadata = build(name, packed=packed, **options)
            if not arguments.check:
                save_file(tensors, path, metadata=metadata)
            elif not path.exists() or not agrees(path, tensors):
                wrong.append(str(path))
                continue
            total += path.stat().st_size
            count += 1
    print(f"{count} cases, {total} bytes")
    if wrong:
        sys.exit("differ:\n  " + "\n  ".join(wrong))


if __name__ == "__main__":
    main()
