#!/usr/bin/env python3
"""Writes the cases of ops decode, paged_decode and mla_decode under Tests/Cases.

The expected values are computed in float64, one query row after the other, from inputs already rounded
to the case's types: this file shares no code with attention_formula.py, which works on whole matrices.
Where PyTorch's scaled_dot_product_attention can express a case, it is run in float64 too and must agree.

    python3 Tools/cases/decode.py            # writes Tests/Cases/{decode,paged-decode,mla-decode}/
    python3 Tools/cases/decode.py --check    # compares with the files that are there
"""

import math
import zlib

import torch

from case_files import TYPES, metadata, write_cases
from decode_cases import DECODE, MLA, PAGED


class Source:
    """Normal numbers that depend on the case's name alone."""

    def __init__(self, name):
        self.generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))

    def normal(self, *shape):
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def permutation(self, count):
        return torch.randperm(count, generator=self.generator).tolist()


def one_row(q, keys, values, i, head, params, extra, b, queries):
    """o and lse of one query row: q [D], keys [n,D], values [n,E] of its sequence and key head.

    Returns also which keys it sees and what their scores gain after the soft cap.
    """
    n = keys.shape[0]
    bottom_right = params.get("causal_align", "bottom_right") == "bottom_right"
    position = i + (n - queries if bottom_right else 0)
    left, right = params.get("window_left", -1), params.get("window_right", -1)
    seen, added = [], []
    for j in range(n):
        visible = not params.get("causal", False) or j <= position
        near = (left < 0 or j >= position - left) and (right < 0 or j <= position + right)
        visible = visible and (near or j < params.get("sink_tokens", 0))
        if "mask" in extra:
            mask = extra["mask"]
            visible = visible and mask[
                b % mask.shape[0], head % mask.shape[1], i, j].item() != 0
        gain = 0.0
        if "bias" in extra:
            bias = extra["bias"]
            gain += bias[b % bias.shape[0], head % bias.shape[1], i, j].item()
        if "alibi_slopes" in extra:
            gain -= extra["alibi_slopes"][head].item() * abs(position - j)
        if visible and gain != -math.inf:
            seen.append(j)
            added.append(gain)
    sink = extra["sinks"][head].item() if "sinks" in extra else -math.inf
    logits = torch.tensor([sink], dtype=torch.float64)
    if seen:
        scores = params["scale"] * (keys[seen] @ q)
        if params.get("softcap", 0) > 0:
            scores = params["softcap"] * torch.tanh(scores / params["softcap"])
        logits = torch.cat([scores + torch.tensor(added, dtype=torch.float64), logits])
    lse = torch.logsumexp(logits, 0)
    o = torch.zeros(values.shape[1], dtype=torch.float64)
    if seen:
        o = torch.exp(logits[:-1] - lse) @ values[seen]
    return o, lse, seen, added


def evaluate(name, q, sequences, params, extra):
    """o [B,S,H,E], lse [B,S,H] and the checks passed; sequences has (k [n,G,D], v [n,G,E]) for each."""
    batch, queries, heads, channels = q.shape
    params = {"scale": 1 / math.sqrt(channels), **params}
    q = q.double()
    width = sequences[0][1].shape[-1]
    o = torch.zeros(batch, queries, heads, width, dtype=torch.float64)
    lse = torch.zeros(batch, queries, heads, dtype=torch.float64)
    checkable = params.get("softcap", 0) == 0 and "sinks" not in extra
    for b, (k, v) in enumerate(sequences):
        k, v = k.double(), v.double()
        bias = torch.full((heads, queries, k.shape[0]), -math.inf, dtype=torch.float64)
        for head in range(heads):
            group = head // (heads // k.shape[1])
            for i in range(queries):
                o[b, i, head], lse[b, i, head], seen, added = one_row(
                    q[b, i, head], k[:, group], v[:, group], i, head, params, extra, b, queries)
                bias[head, i, seen] = torch.tensor(added, dtype=torch.float64)
        if checkable and k.shape[0] > 0:
            rows = bias.isneginf().all(-1)
            theirs = torch.nn.functional.scaled_dot_product_attention(
                q[b].transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1),
                attn_mask=torch.where(rows.unsqueeze(-1), 0.0, bias), scale=params["scale"],
                enable_gqa=True)
            ours = o[b].transpose(0, 1)
            error = (theirs - ours)[~rows].abs().max().item() if (~rows).any() else 0
            if not error < 1e-12:
                sys.exit(f"{name}: scaled_dot_product_attention differs by {error}")
    return o, lse, ["scaled_dot_product_attention"] if checkable else []


def sizes(name):
    """The type and the sizes that a case's name spells, by letter."""
    kind, *parts = name.split("-")
    shape = {}
    for part in parts:
        if not (part[0].isupper() and part[1:].isdigit()):
            break
        shape[part[0]] = int(part[1:])
    return kind, shape


def build_decode(name, params=None, extra=None, lengths=None, types=None, amplitude=1.0):
    """Contiguous caches [B,T,G,D]; keys behind the lengths are NaN."""
    kind, shape = sizes(name)
    source = Source(name)
    k_type, v_type = types or (kind, kind)
    b, t, g = shape["B"], shape["T"], shape["G"]
    q = (amplitude * source.normal(b, shape["S"], shape["H"], shape["D"])).to(TYPES[kind])
    k = (amplitude * source.normal(b, t, g, shape["D"])).to(TYPES[k_type])
    v = source.normal(b, t, g, shape["E"]).to(TYPES[v_type])
    extra = {key: make(source.normal, shape) for key, make in (extra or {}).items()}
    tensors = {"q": q, "k": k, "v": v, **extra}
    if lengths is not None:
        tensors["kv_lengths"] = torch.tensor(lengths, dtype=torch.int32)
    lengths = lengths or [t] * b
    sequences = [(k[s, :n], v[s, :n]) for s, n in enumerate(lengths)]
    o, lse, made = evaluate(name, q, sequences, params or {}, extra)
    for s, n in enumerate(lengths):
        k[s, n:] = math.nan
        v[s, n:] = math.nan
    return tensors, o, lse, made


def build_paged(name, lengths, page, spare=1, params=None, extra=None, types=None):
    """Pages in an order that is shuffled over all sequences; slots that hold no key are NaN."""
    kind, shape = sizes(name)
    source = Source(name)
    k_type, v_type = types or (kind, kind)
    b, g = shape["B"], shape["G"]
    q = source.normal(b, shape["S"], shape["H"], shape["D"]).to(TYPES[kind])
    counts = [-(-n // page) for n in lengths]
    total = sum(counts) + spare
    order = source.permutation(total)
    k_pages = torch.full((total, page, g, shape["D"]), math.nan).to(TYPES[k_type])
    v_pages = torch.full((total, page, g, shape["E"]), math.nan).to(TYPES[v_type])
    sequences, indptr, indices = [], [0], []
    for n, count in zip(lengths, counts):
        own = order[len(indices):len(indices) + count]
        indices += own
        indptr.append(len(indices))
        k = source.normal(n, g, shape["D"]).to(TYPES[k_type])
        v = source.normal(n, g, shape["E"]).to(TYPES[v_type])
        for j in range(n):
            k_pages[own[j // page], j % page] = k[j]
            v_pages[own[j // page], j % page] = v[j]
        sequences.append((k, v))
    extra = {
        key: make(source.normal, {**shape, "T": max(lengths)})
        for key, make in (extra or {}).items()}
    last = [n - (count - 1) * page if count else 0 for n, count in zip(lengths, counts)]
    tensors = {
        "q": q, "k_pages": k_pages, "v_pages": v_pages, **extra,
        "page_indptr": torch.tensor(indptr, dtype=torch.int32),
        "page_indices": torch.tensor(indices, dtype=torch.int32),
        "last_page_len": torch.tensor(last, dtype=torch.int32)}
    o, lse, made = evaluate(name, q, sequences, params or {}, extra)
    return tensors, o, lse, made


def build_mla(name, params=None, lengths=None):
    """One latent vector and one rotary key per token, for all heads; the latent is the value."""
    kind, shape = sizes(name)
    source = Source(name)
    b, t, rank, rotary = shape["B"], shape["T"], shape["R"], shape["P"]
    q_nope = source.normal(b, shape["S"], shape["H"], rank).to(TYPES[kind])
    q_rope = source.normal(b, shape["S"], shape["H"], rotary).to(TYPES[kind])
    latent = source.normal(b, t, rank).to(TYPES[kind])
    k_rope = source.normal(b, t, rotary).to(TYPES[kind])
    tensors = {"q_nope": q_nope, "q_rope": q_rope, "latent": latent, "k_rope": k_rope}
    if lengths is not None:
        tensors["kv_lengths"] = torch.tensor(lengths, dtype=torch.int32)
    lengths = lengths or [t] * b
    sequences = [
        (torch.cat([latent[s, :n], k_rope[s, :n]], -1).unsqueeze(1), latent[s, :n].unsqueeze(1))
        for s, n in enumerate(lengths)]
    o, lse, made = evaluate(
        name, torch.cat([q_nope, q_rope], -1), sequences, params or {}, {})
    for s, n in enumerate(lengths):
        latent[s, n:] = math.nan
        k_rope[s, n:] = math.nan
    return tensors, o, lse, made


def described(op, make, options):
    """Makes cases of an op from their options."""
    def case(name):
        own = dict(options[name])
        # Of the caller's, not of the problem's: they change no expected value.
        cutting = own.pop("cutting", {})
        tensors, o, lse, made = make(name, **own)
        return ({**tensors, "expected.o": o.float(), "expected.lse": lse.float()},
                metadata(op, {**own.get("params", {}), **cutting},
                         "Tools/cases/decode.py: float64 row by row in PyTorch", made))
    return op.replace("_", "-"), options, case


def main():
    write_cases(__doc__, [
        described("decode", build_decode, DECODE), described("paged_decode", build_paged, PAGED),
        described("mla_decode", build_mla, MLA)])


if __name__ == "__main__":
    main()
