#!/usr/bin/env python3
"""Writes the cases of ops linear_attention and ssd under Tests/Cases.

The expected values are computed in float64 from inputs already rounded to the case's types, one token after
the other for all heads at once. Where flash-linear-attention has a naive form of a case (it is tried if it is
installed), that form must agree to its float32.

    python3 Tools/cases/linear.py            # writes Tests/Cases/{linear-attention,ssd}/
    python3 Tools/cases/linear.py --check    # compares with the files that are there
"""

import math
import sys
import warnings

import torch

from case_files import TYPES, metadata, write_cases
from decode import Source, sizes
from linear_cases import LINEAR, SSD


def feature_map(name, x):
    """x [.., K] mapped."""
    if name == "relu":
        return x.clamp(min=0)
    if name == "elu1":
        return torch.nn.functional.elu(x) + 1
    if name == "softmax":
        return torch.softmax(x, -1)
    if name == "taylor2":
        y = x * x.shape[-1] ** -0.25
        second = (y.unsqueeze(-1) * y.unsqueeze(-2)).flatten(-2) / math.sqrt(2)
        return torch.cat([torch.ones_like(y[..., :1]), y, second], -1)
    return x


def recurrence(q, k, v, scale, extra, state, rule="linear", read="after", normalize=False, causal=True):
    """o [B,T,H,V] and the last state [B,H,K,V]; q and k [B,T,H,K], all in float64."""
    tokens = q.shape[1]
    total = torch.zeros_like(state[..., 0])
    o = torch.zeros_like(v)
    q = q * scale

    def output(t, before, update):
        if read == "before":
            weighted = before + extra["bonus"].unsqueeze(-1) * update if "bonus" in extra else before
            return torch.einsum("bhk,bhkv->bhv", q[:, t], weighted)
        out = torch.einsum("bhk,bhkv->bhv", q[:, t], state)
        if normalize:
            out = out / ((q[:, t] * total).sum(-1, keepdim=True) + 1e-10)
        return out

    for t in range(tokens):
        if "sequence_ids" in extra and t > 0:
            same = (extra["sequence_ids"][:, t] == extra["sequence_ids"][:, t - 1]).double()
            state = state * same[:, None, None, None]
            total = total * same[:, None, None]
        before = state
        if "decay" in extra:
            state = state * extra["decay"].exp()[:, None, None]
            total = total * extra["decay"].exp()[:, None]
        if "g" in extra:
            factor = extra["g"][:, t].exp()
            factor = factor.unsqueeze(-1) if factor.dim() == 2 else factor
            state = state * factor.unsqueeze(-1)
            total = total * factor
        if "g_value" in extra:
            state = state * extra["g_value"][:, t].exp().unsqueeze(-2)
        written = v[:, t]
        if rule == "delta":
            if "write_gates" in extra:
                written = written * extra["write_gates"][:, t]
            erased = extra["erase_keys"][:, t] if "erase_keys" in extra else k[:, t]
            if "erase_gates" in extra:
                erased = erased * extra["erase_gates"][:, t]
            written = written - torch.einsum("bhk,bhkv->bhv", erased, state)
            if "beta" in extra:
                written = written * extra["beta"][:, t].unsqueeze(-1)
        update = k[:, t].unsqueeze(-1) * written.unsqueeze(-2)
        state = state + update
        total = total + k[:, t]
        if "low_rank_a" in extra:
            held = torch.einsum("bhk,bhkv->bhv", extra["low_rank_a"][:, t], before)
            state = state + extra["low_rank_b"][:, t].unsqueeze(-1) * held.unsqueeze(-2)
        if causal:
            o[:, t] = output(t, before, update)
    if not causal:
        for t in range(tokens):
            o[:, t] = output(t, None, None)
    return o, state


def heads_of(x, heads):
    return x.repeat_interleave(heads // x.shape[2], dim=2)


def ranges(starts, batch, tokens):
    """The batch entry and the tokens of each sequence."""
    if starts is None:
        return [(slice(b, b + 1), slice(0, tokens)) for b in range(batch)]
    return [(slice(0, 1), slice(a, b)) for a, b in zip(starts, starts[1:])]


PER_TOKEN = {
    "g", "g_value", "beta", "erase_keys", "erase_gates", "write_gates", "low_rank_a", "low_rank_b",
    "sequence_ids"}


def run(q, k, v, scale, extra, initial, starts, **options):
    """All sequences, one by one."""
    o = torch.zeros_like(v)
    states = []
    for n, (entry, tokens) in enumerate(ranges(starts, v.shape[0], v.shape[1])):
        own = {
            key: x[entry, tokens] if key in PER_TOKEN else x for key, x in extra.items()}
        state = torch.zeros(1, v.shape[2], k.shape[-1], v.shape[-1], dtype=torch.float64)
        if initial is not None:
            state = initial[n:n + 1].clone()
        out, state = recurrence(
            q[entry, tokens], k[entry, tokens], v[entry, tokens], scale, own, state, **options)
        o[entry, tokens] = out
        states.append(state)
    return o, torch.cat(states)


def outside(starts, x):
    """x with NaN at the tokens of no sequence."""
    if starts is not None:
        x[:, :starts[0]] = math.nan
        x[:, starts[-1]:] = math.nan
    return x


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def build_linear(name, params=None, starts=None, gate=1.0, resets=0, **options):
    given = options.get("with", [])
    params = params or {}
    kind, shape = sizes(name)
    source = Source(name)
    b, t, h, g, kc, vc = (shape[letter] for letter in "BTHGKV")
    normal = source.normal

    def log_gates(*dims):
        return (-gate * torch.rand(dims, generator=source.generator, dtype=torch.float64)).float()

    feature = params.get("feature", "none")
    keys = normal(b, t, g, kc)
    if params.get("rule") == "delta" or "low_rank" in given:
        keys = unit(keys)
    q, k, v = normal(b, t, g, kc).to(TYPES[kind]), keys.to(TYPES[kind]), normal(b, t, h, vc).to(TYPES[kind])
    extra = {}
    if "decay" in given:
        extra["decay"] = torch.tensor([-2.0 ** (-2 * (i + 1)) for i in range(h)])
    if "g" in given:
        extra["g"] = log_gates(b, t, h)
        if resets:
            extra["g"][:, resets::resets] = -math.inf
    if "gk" in given:
        extra["g"] = log_gates(b, t, h, kc)
    if "g_value" in given:
        extra["g_value"] = log_gates(b, t, h, vc)
    if "beta" in given:
        extra["beta"] = torch.sigmoid(normal(b, t, h)).float()
    if "erase_keys" in given:
        extra["erase_keys"] = unit(normal(b, t, g, kc)).to(TYPES[kind])
    for key, width in (("erase_gates", kc), ("write_gates", vc)):
        if key in given:
            extra[key] = torch.sigmoid(normal(b, t, h, width)).float()
    if "low_rank" in given:
        a = unit(normal(b, t, h, kc))
        extra["low_rank_a"] = (-a).to(TYPES[kind])
        extra["low_rank_b"] = (a * torch.sigmoid(normal(b, t, h, kc))).to(TYPES[kind])
    if "bonus" in given:
        extra["bonus"] = normal(h, kc).float()
    if "sequence_ids" in given:
        extra["sequence_ids"] = torch.tensor(
            [[(i * (n + 3)) // 19 for i in range(t)] for n in range(b)], dtype=torch.int32)
    mapped = feature_map(feature, torch.zeros(1, kc)).shape[-1]
    count = len(starts) - 1 if starts else b
    initial = normal(count, h, mapped, vc).float() if "initial_state" in given else None

    wide = {
        key: heads_of(x.double(), h) if key == "erase_keys" else x.double()
        for key, x in extra.items()}
    scale = params.get("scale", kc ** -0.5)
    phi_q, phi_k = (heads_of(feature_map(feature, x.double()), h) for x in (q, k))
    o, state = run(
        phi_q, phi_k, v.double(), scale, wide, initial.double() if initial is not None else None, starts,
        rule=params.get("rule", "linear"), read=params.get("read", "after"),
        normalize=params.get("normalize", False), causal=params.get("causal", True))
    checks = []
    if starts is None and feature == "none" and "sequence_ids" not in given and params.get("causal", True):
        checks = flash_linear_attention(
            name, phi_q, phi_k, v.double(), scale, wide, initial, params, o, state)
    tensors = {"q": outside(starts, q), "k": outside(starts, k), "v": outside(starts, v), **extra}
    if initial is not None:
        tensors["initial_state"] = initial
    if starts is not None:
        tensors["cu_seqlens"] = torch.tensor(starts, dtype=torch.int32)
    return tensors, {"o": o, "final_state": state}, checks


def flash_linear_attention(name, q, k, v, scale, extra, initial, params, o, state):
    """Compares with the naive forms of flash-linear-attention, as far as they know the case."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from fla.ops.delta_rule.naive import delta_rule_recurrence
            from fla.ops.gated_delta_rule.naive import naive_recurrent_gated_delta_rule
            from fla.ops.generalized_delta_rule.dplr.naive import dplr_recurrence
            from fla.ops.gla.naive import naive_recurrent_gla
            from fla.ops.kda.naive import naive_recurrent_kda
            from fla.ops.linear_attn.naive import naive_recurrent_linear_attn
            from fla.ops.rwkv6.recurrent_naive import naive_recurrent_rwkv6
            from fla.ops.simple_gla.naive import naive_recurrent_simple_gla
    except ImportError:
        return []
    plain = q.shape[-1] ** -0.5
    # Some of the forms know the default scale only.
    f = {key: x.float() for key, x in
         {"q": q * (scale / plain), "k": k, "v": v, **extra}.items()}
    first = initial.float() if initial is not None else None
    keys = set(extra) - {"initial_state"}
    delta = params.get("rule") == "delta"
    turn = lambda x: x.transpose(1, 2)
    vector = "g" in extra and extra["g"].dim() == 4
    theirs = label = None
    if params.get("normalize") or "g_value" in keys or "decay" in keys:
        return []
    if keys == set() and not delta:
        label = "naive_recurrent_linear_attn"
        theirs = naive_recurrent_linear_attn(f["q"], f["k"], f["v"], None, first, True)
    elif keys == {"g"} and not delta and params.get("read") != "before":
        label = "naive_recurrent_gla" if vector else "naive_recurrent_simple_gla"
        form = naive_recurrent_gla if vector else naive_recurrent_simple_gla
        theirs = form(f["q"], f["k"], f["v"], f["g"], initial_state=first, output_final_state=True)
    elif keys == {"g", "bonus"}:
        label = "naive_recurrent_rwkv6"
        theirs = naive_recurrent_rwkv6(
            turn(f["q"]), turn(f["k"]), turn(f["v"]), turn(f["g"]), f["bonus"], None, first, True)
        theirs = (turn(theirs[0]), theirs[1])
    elif keys == {"beta"} and delta:
        label = "delta_rule_recurrence"
        theirs = delta_rule_recurrence(
            turn(f["q"]), turn(f["k"]), turn(f["v"]), turn(f["beta"]), first)
        theirs = (turn(theirs[0]), theirs[1])
    elif keys == {"beta", "g"}:
        label = "naive_recurrent_kda" if vector else "naive_recurrent_gated_delta_rule"
        form = naive_recurrent_kda if vector else naive_recurrent_gated_delta_rule
        theirs = form(
            f["q"], f["k"], f["v"], beta=f["beta"], g=f["g"], initial_state=first,
            output_final_state=True)
    elif keys == {"g", "low_rank_a", "low_rank_b"}:
        label = "dplr_recurrence"
        theirs = dplr_recurrence(
            turn(f["q"]), turn(f["k"]), turn(f["v"]), turn(f["low_rank_a"]), turn(f["low_rank_b"]),
            turn(f["g"]), first)
        theirs = (turn(theirs[0]), theirs[1])
    else:
        return []
    for ours, their in zip((o, state), theirs):
        error = ((ours - their).square().mean() / ours.square().mean()).sqrt().item()
        if not error < 2e-6:
            sys.exit(f"{name}: {label} differs by {error}")
    return [f"fla's {label}"]


def build_ssd(name, params=None, starts=None, **options):
    given = options.get("with", [])
    params = params or {}
    kind, shape = sizes(name)
    source = Source(name)
    b, t, h, g, kc, vc = (shape[letter] for letter in "BTHGKV")
    normal = source.normal
    x, bs, cs = (normal(*dims).to(TYPES[kind]) for dims in ((b, t, h, vc), (b, t, g, kc), (b, t, g, kc)))
    softplus = params.get("dt_softplus", False)
    dt = normal(b, t, h)
    dt = (dt if softplus else torch.nn.functional.softplus(dt - 1)).float()
    a = -torch.linspace(0.5, 2.0, h)
    tensors = {"x": x, "dt": dt, "a": a, "b": bs, "c": cs}
    if "d" in given:
        tensors["d"] = normal(h).float()
    if "z" in given:
        tensors["z"] = normal(b, t, h, vc).to(TYPES[kind])
    if "dt_bias" in given:
        tensors["dt_bias"] = normal(h).float()
    count = len(starts) - 1 if starts else b
    if "initial_state" in given:
        tensors["initial_state"] = normal(count, h, kc, vc).float()
    extra = {}
    if "sequence_ids" in given:
        tensors["sequence_ids"] = torch.tensor(
            [[(i * (n + 3)) // 19 for i in range(t)] for n in range(b)], dtype=torch.int32)
        extra["sequence_ids"] = tensors["sequence_ids"]
    wide = {key: value.double() for key, value in tensors.items()}
    step = wide["dt"] + wide.get("dt_bias", torch.zeros(h, dtype=torch.float64))
    step = torch.nn.functional.softplus(step) if softplus else step
    extra["g"] = step * wide["a"]
    y, state = run(
        heads_of(wide["c"], h), heads_of(wide["b"], h), step.unsqueeze(-1) * wide["x"], 1.0, extra,
        wide.get("initial_state"), starts)
    if "d" in given:
        y = y + wide["d"].unsqueeze(-1) * wide["x"]
    if "z" in given:
        y = y * torch.nn.functional.silu(wide["z"])
    for sequence in ([] if starts is None else [slice(0, starts[0]), slice(starts[-1], t)]):
        y[:, sequence] = 0
    if starts is not None:
        tensors["cu_seqlens"] = torch.tensor(starts, dtype=torch.int32)
        for key in ("x", "b", "c", "dt"):
            tensors[key] = outside(starts, tensors[key])
    checks = [] if starts is not None or "sequence_ids" in given else quadratic(name, wide, step, y, state)
    return tensors, {"y": y, "final_state": state}, checks


def quadratic(name, wide, step, y, state):
    """The same as a masked matrix product over all pairs of tokens (Dao and Gu 2024, section 3)."""
    h = step.shape[2]
    g = (step * wide["a"]).cumsum(1)
    difference = g.unsqueeze(2) - g.unsqueeze(1)
    tokens = g.shape[1]
    lower = torch.ones(tokens, tokens).tril().bool().unsqueeze(-1)
    mask = torch.where(lower, difference, -math.inf).exp()
    b, c = heads_of(wide["b"], h), heads_of(wide["c"], h)
    x = step.unsqueeze(-1) * wide["x"]
    out = torch.einsum("bihk,bjhk,bijh,bjhv->bihv", c, b, mask, x)
    if "initial_state" in wide:
        out = out + torch.einsum("bih,bihk,bhkv->bihv", g.exp(), c, wide["initial_state"])
    if "d" in wide:
        out = out + wide["d"].unsqueeze(-1) * wide["x"]
    if "z" in wide:
        out = out * torch.nn.functional.silu(wide["z"])
    error = (out - y).abs().max().item()
    if not error < 1e-10:
        sys.exit(f"{name}: the quadratic form differs by {error}")
    return ["the quadratic form"]


def main():
    checked = 0

    def described(op, make, options):
        """Makes cases of an op from their options."""
        def case(name):
            nonlocal checked
            tensors, outputs, checks = make(name, **options[name])
            checked += len(checks)
            return ({**tensors, **{f"expected.{key}": x.float() for key, x in outputs.items()}},
                    metadata(op, options[name].get("params", {}),
                             "Tools/cases/linear.py: float64 token by token in PyTorch", checks))
        return op.replace("_", "-"), options, case

    write_cases(
        __doc__, [described("linear_attention", build_linear, LINEAR), described("ssd", build_ssd, SSD)],
        remark=lambda: f"; {checked} of them hold against another form")


if __name__ == "__main__":
    main()
