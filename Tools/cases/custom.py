#!/usr/bin/env python3
"""Writes the cases of scores and masks in GLSL under Tests/Cases/attention-custom.

Each case has its GLSL and the same function in PyTorch, over whole matrices in float64; neither is made from the
other, and no line of attention_formula.py is used.

    python3 Tools/cases/custom.py            # writes Tests/Cases/attention-custom/
    python3 Tools/cases/custom.py --check    # compares with the files that are there
"""

import argparse
import json
import math
import pathlib
import sys
import zlib

import torch
from safetensors.torch import load_file, save_file

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "Tests" / "Cases" / "attention-custom"


def kerple(scores, position, keys):
    """KERPLE's logarithmic kernel (Chi et al., 2022, https://arxiv.org/abs/2205.09921), r1 = 1 + h, r2 = 0.5."""
    heads = torch.arange(scores.shape[1], dtype=torch.float64).view(-1, 1, 1)
    return scores - (1 + heads) * torch.log1p(0.5 * (position - keys).abs().double())


def dilated(position, keys):
    """Every third key up to the query's own position, and the four nearest."""
    distance = position - keys
    return (distance >= 0) & ((distance % 3 == 0) | (distance < 4))


def cubic(scores, position, keys):
    """A polynomial score, and none for keys of the batch entry's own number modulo 5."""
    batch = torch.arange(scores.shape[0]).view(-1, 1, 1, 1)
    return torch.where(keys % 5 == batch, -math.inf, scores + 0.1 * scores**3)


CASES = {
    "f32-B1-S33-T47-H4-G2-D32-E32-kerple-dilated": {
        "params": {
            "score_glsl":
                "float distance = float(abs(keyIndex - queryIndex - positionOffset));\n"
                "return score - float(1 + head) * log(1.0 + 0.5 * distance);",
            "mask_glsl":
                "int distance = queryIndex + positionOffset - keyIndex;\n"
                "return distance >= 0 && (distance % 3 == 0 || distance < 4);",
        },
        "score": kerple,
        "mask": dilated,
    },
    "f16-B2-S20-T20-H2-G2-D64-E64-causal-cubic": {
        "params": {
            "causal": True,
            "score_glsl":
                "if (keyIndex % 5 == batch) { return -1.0 / 0.0; }\n"
                "return score + 0.1 * score * score * score;",
        },
        "score": cubic,
        "mask": lambda position, keys: keys <= position,
    },
}


def build(name, case):
    """The case's tensors and its metadata."""
    kind, *parts = name.split("-")
    b, s, t, h, g, d, e = (int(part[1:]) for part in parts[:7])
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    stored = {"f32": torch.float32, "f16": torch.float16}[kind]

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(stored)

    q, k, v = normal(b, s, h, d), normal(b, t, g, d), normal(b, t, g, e)
    wide = [x.double().transpose(1, 2) for x in (q, k, v)]
    queries, keys, values = (
        x.repeat_interleave(h // x.shape[1], dim=1) if x.shape[1] != h else x for x in wide)
    position = (torch.arange(s) + t - s).view(-1, 1)
    scores = queries @ keys.transpose(2, 3) / math.sqrt(d)
    scores = case["score"](scores, position, torch.arange(t))
    scores = scores.masked_fill(~case["mask"](position, torch.arange(t)), -math.inf)
    lse = torch.logsumexp(scores, dim=-1)
    # A row that sees nothing has weights of zero, not NaN.
    weights = torch.exp(scores - torch.where(lse.isinf(), 0.0, lse).unsqueeze(-1))
    o = (weights @ values).transpose(1, 2)
    tensors = {"q": q, "k": k, "v": v, "expected.o": o.float(),
               "expected.lse": lse.transpose(1, 2).float()}
    description = {"version": 1, "op": "attention", "params": case["params"],
                   "source": "Tools/cases/custom.py: float64 formula in PyTorch"}
    return ({key: tensor.contiguous() for key, tensor in tensors.items()},
            {"vkattn": json.dumps(description, sort_keys=True)})


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        path = FOLDER / f"{name}.safetensors"
        tensors, metadata = build(name, case)
        if not arguments.check:
            save_file(tensors, path, metadata=metadata)
            continue
        there = load_file(path) if path.exists() else {}
        if there.keys() != tensors.keys() or not all(
                torch.allclose(there[key].double(), tensors[key].double(), rtol=1e-6, atol=1e-6)
                for key in tensors):
            sys.exit(f"differs: {path}")
    print(f"{len(CASES)} cases")


if __name__ == "__main__":
    main()
