#!/usr/bin/env python3
"""Times linear attention written in PyTorch on the workloads that `vkattn bench linear` runs.

    python3 Benchmarks/peers/pytorch_linear.py --model lightning --shape B1,T4096,H8,D128 --type f32

What a user without kernels of their own writes: chunked forms in batched matrix products for prefills, an
einsum for a decode step. Of a prefill the best of several chunk lengths counts. Models, with the recurrences
of Sources/VulkanAttention/VulkanAttention.docc/LinearAttentionModels.md: linear, lightning, scalar-decay, gla,
delta, gated-delta, kda. Tensors are contiguous [B, H, T, D], which PyTorch likes best; computed in f32 whatever
the type, as the recurrences need; gradients are off. Results are held against the recurrence in float64, token
by token, over the first tokens of one head. The JSON is of the form of pytorch_sdpa.py; --operations is what
rates are counted by. Needs Python 3.9 and torch.
"""

import argparse
import math
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from pytorch_sdpa import (  # noqa: E402  (says what is missing where torch is)
    TYPES, Way, chosen_device, core_count, fastest, report_of, timed, torch, write_report)

MODELS = ("linear", "lightning", "scalar-decay", "gla", "delta", "gated-delta", "kda")
CHUNKS = {"linear": (64, 128, 256), "lightning": (64, 128, 256), "scalar-decay": (64, 128, 256),
          "gla": (16, 32), "delta": (32, 64), "gated-delta": (32, 64), "kda": (16, 32)}
LETTERS = "BTHD"
VERIFIED_TOKENS = 128
# Computed in f32 whatever the type.
TOLERANCES = {name: 1e-3 for name in TYPES}


def parse_shape(text):
    """B1,T4096,… as a dictionary; every letter once, in any order."""
    parts = [re.fullmatch(r"([BTHD])([1-9][0-9]*)", part.strip()) for part in text.split(",")]
    shape = {part[1]: int(part[2]) for part in parts if part}
    if not all(parts) or len(parts) != len(LETTERS) or sorted(shape) != sorted(LETTERS):
        raise argparse.ArgumentTypeError(f"{text}: expected {','.join(x + 'n' for x in LETTERS)}")
    return shape


def inputs(model, shape, type_name, device):
    """q, k, v and the gates g (log decay) and beta, as far as the model has them."""
    generator = torch.Generator().manual_seed(1)
    b, t, h, d = (shape[letter] for letter in LETTERS)

    def normal(*sizes):
        return torch.randn(sizes, generator=generator).to(TYPES[type_name]).float().to(device)

    def uniform(*sizes):
        return torch.rand(sizes, generator=generator).to(device)

    q, k, v = normal(b, h, t, d), normal(b, h, t, d), normal(b, h, t, d)
    gates = {"g": None, "beta": None}
    if model in ("delta", "gated-delta", "kda"):
        k = torch.nn.functional.normalize(k, dim=-1).to(TYPES[type_name]).float()
        gates["beta"] = uniform(b, h, t)
    if model == "lightning":
        slopes = torch.arange(1, h + 1, device=device).float().square().reciprocal()
        gates["g"] = -slopes[None, :, None].expand(b, h, t).contiguous()
    elif model in ("scalar-decay", "gated-delta"):
        gates["g"] = -uniform(b, h, t)
    elif model in ("gla", "kda"):
        gates["g"] = -uniform(b, h, t, d)
    state = normal(b, h, d, d) if t == 1 else torch.zeros(b, h, d, d, device=device)
    return q, k, v, gates["g"], gates["beta"], state


def recurrence(q, k, v, g, beta, state):
    """The definition, token by token."""
    outputs = []
    scale = q.shape[-1] ** -0.5
    for t in range(q.shape[2]):
        if g is not None:
            factor = g[:, :, t].exp()
            state = state * (factor[..., None, None] if factor.dim() == 2 else factor[..., None])
        x = v[:, :, t]
        if beta is not None:
            x = beta[:, :, t, None] * (x - torch.einsum("bhkv,bhk->bhv", state, k[:, :, t]))
        state = state + torch.einsum("bhk,bhv->bhkv", k[:, :, t], x)
        outputs.append(scale * torch.einsum("bhkv,bhk->bhv", state, q[:, :, t]))
    return torch.stack(outputs, 2), state


def chunked(q, k, v, g, beta, state, size):
    """The same by chunks of `size` tokens; decays of channels are divided out, which their sizes allow here."""
    b, h, t, d = q.shape
    count = t // size
    q, k, v = (x.reshape(b, h, count, size, d) for x in (q * d ** -0.5, k, v))
    lower = torch.ones(size, size, dtype=torch.bool, device=q.device).tril()
    if g is None:
        total = torch.ones(1, device=q.device)[:, None, None, None, None]
        read, kept, weights = q, k, None
    elif g.dim() == 3:
        sums = g.reshape(b, h, count, size).cumsum(-1)
        weights = (sums[..., :, None] - sums[..., None, :]).masked_fill(~lower, -math.inf).exp()
        last = sums[..., -1:]
        read, kept = q * sums.exp()[..., None], k * (last - sums).exp()[..., None]
        total = last.exp()[..., None]
    else:
        sums = g.reshape(b, h, count, size, d).cumsum(-2)
        last = sums[..., -1:, :]
        read, kept, weights = q * sums.exp(), k * (last - sums).exp(), None
        total = last.exp().transpose(-1, -2)
    divided = k if g is None or g.dim() == 3 else k * (-sums).exp()
    before = q if g is None or g.dim() == 3 else read
    scores = before @ divided.transpose(-1, -2)
    scores = scores * weights if weights is not None else scores.masked_fill(~lower, 0)
    if beta is not None:
        strength = beta.reshape(b, h, count, size, 1)
        erased = k if g is None else k * (sums.exp()[..., None] if g.dim() == 3 else sums.exp())
        own = (k if g is None or g.dim() == 3 else erased) @ divided.transpose(-1, -2)
        own = strength * (own * weights if weights is not None else own)
        system = own.tril(-1) + torch.eye(size, device=q.device)
        # One solve for what a chunk writes by itself and for what it takes from the state before it.
        both = torch.linalg.solve_triangular(
            system, torch.cat((strength * v, strength * erased), -1), upper=False, unitriangular=True)
        v, taken = both[..., :d], both[..., d:]
        outputs = []
        for c in range(count):
            x = v[:, :, c] - taken[:, :, c] @ state
            outputs.append(read[:, :, c] @ state + scores[:, :, c] @ x)
            factor = total[:, :, c] if g is not None else 1
            state = state * factor + kept[:, :, c].transpose(-1, -2) @ x
        return torch.stack(outputs, 2).reshape(b, h, t, d), state
    added = kept.transpose(-1, -2) @ v
    states = []
    for c in range(count):
        states.append(state)
        state = state * (total[:, :, c] if g is not None else 1) + added[:, :, c]
    outputs = scores @ v + read @ torch.stack(states, 2)
    return outputs.reshape(b, h, t, d), state


def relative_error(result, arguments):
    """RMS error over RMS of the recurrence in float64, over the first tokens of the last head."""
    tokens = min(VERIFIED_TOKENS, result.shape[2])
    q, k, v, g, beta, state = arguments
    own = [x if x is None else x[-1:, -1:, :tokens].double() for x in (q, k, v, g, beta)]
    expected, _ = recurrence(*own, state[-1:, -1:].double())
    error = (result[-1:, -1:, :tokens].double() - expected).square().mean().sqrt()
    return (error / expected.square().mean().sqrt()).item()


def linear_ways(model, arguments, type_name):
    """PyTorch's ways: chunks of several lengths, or the step itself."""
    tokens = arguments[0].shape[2]
    sizes = [c for c in CHUNKS[model] if tokens % c == 0] if tokens > 1 else []
    ways = [Way(f"chunks of {c}", lambda c=c: chunked(*arguments, c)[0], lambda o: o) for c in sizes]
    return ways or [Way("einsum", lambda: recurrence(*arguments)[0], lambda o: o)]


def measure(model, shape, type_name, device, samples, operations, ways_of, tolerances):
    arguments = inputs(model, shape, type_name, device)
    best = fastest(
        ways_of(model, arguments, type_name), lambda result: relative_error(result, arguments),
        tolerances[type_name], device, samples)
    text = "-".join(f"{letter}{shape[letter]}" for letter in LETTERS)
    return {"id": f"linear/{model}/{type_name}/{text}", "family": "linear", "shape": text,
            "type": type_name, **timed(best, operations)}


def main(description=__doc__, ways_of=linear_ways, tolerances=None, library_of=lambda device: None,
         default_device="cpu"):
    """Measures the ways of a library to compute a model; `library_of` gives its name and version."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, choices=MODELS)
    parser.add_argument("--shape", required=True, type=parse_shape)
    parser.add_argument("--type", default="f32", choices=TYPES)
    parser.add_argument("--operations", type=float, default=math.nan)
    parser.add_argument("--device", choices=["cpu", "cuda"], default=default_device)
    parser.add_argument("--threads", type=int, default=core_count(), help="of the CPU; default: all cores")
    parser.add_argument("--samples", type=int, default=15, help="at least this many")
    parser.add_argument("--json", metavar="FILE", help="write the result here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = chosen_device(arguments.device)
    result = measure(
        arguments.model, arguments.shape, arguments.type, device, arguments.samples, arguments.operations,
        ways_of, tolerances or TOLERANCES)
    print(f"{result['id']}: {result['seconds_median'] * 1e3:.3f} ms, {result['path']}, "
          f"error {result['max_error']:.1e}")
    if arguments.json:
        write_report(report_of([result], device, library_of(device)), arguments.json)


if __name__ == "__main__":
    main()
