"""Calls every kernel family of the C interface from Python and checks it against NumPy.

    Tools/install --prefix ~/vkattn
    VKATTN_LIBRARY=~/vkattn/lib/libvkattn.so python3 Tools/examples/python/every_family.py

Exits with 0 where all agree, 77 without a device.
"""

import sys

import numpy as np
import vkattn
from vkattn import Device, Kernel, c

random = np.random.default_rng(7)
failures = 0


def numbers(*shape):
    return random.standard_normal(shape).astype(np.float32)


def compare(name, actual, expected, gate=1e-5):
    """RMS of the difference over that of what is expected; NaN fails."""
    global failures
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    error = np.sqrt(np.mean((actual - expected) ** 2) / np.mean(expected**2))
    passed = bool(error <= gate)
    failures += not passed
    print(f"{name:34} {error:8.1e}  {'ok' if passed else 'FAILED'}")


def softmax_attention(q, k, v, visible=None):
    """o [B, S, H, E], lse [B, S, H] and p [B, H, S, T] in double."""
    heads = q.shape[2] // k.shape[2]
    q, k, v = q.astype(float), np.repeat(k, heads, 2).astype(float), np.repeat(v, heads, 2).astype(float)
    s = np.einsum("bihd,bjhd->bhij", q, k) / np.sqrt(q.shape[3])
    if visible is not None:
        s = np.where(visible, s, -np.inf)
    most = s.max(-1, keepdims=True)
    w = np.exp(s - most)
    total = w.sum(-1, keepdims=True)
    p = w / total
    lse = (most + np.log(total))[..., 0].transpose(0, 2, 1)
    return np.einsum("bhij,bjhe->bihe", p, v), lse, p


def causal(queries, keys):
    return np.arange(keys)[None] <= np.arange(queries)[:, None] + keys - queries


def attention(device):
    q, k, v = numbers(2, 33, 4, 64), numbers(2, 47, 2, 64), numbers(2, 47, 2, 32)
    expected = softmax_attention(q, k, v, causal(33, 47))[0]
    compare("attention f32", device.attention(q, k, v, causal=True), expected)
    q, k, v = (x.astype(np.float16) for x in (q, k, v))
    compare("attention f16", device.attention(q, k, v, causal=True),
            softmax_attention(q, k, v, causal(33, 47))[0], 2e-3)


def statistics(device):
    q, k = numbers(1, 9, 4, 32), numbers(1, 21, 2, 32)
    _, lse, p = softmax_attention(q, k, k)
    plain = vkattn.vkattn_attention_request(
        batch_size=1, query_tokens=9, key_tokens=21, query_heads=4, key_heads=2, head_size=32,
        flags=c.VKATTN_ATTENTION_RETURNS_LOG_SUM_EXP)
    request = vkattn.vkattn_statistics_request(
        attention=plain, statistics=c.VKATTN_STATISTIC_KEY_SUMS | c.VKATTN_STATISTIC_ENTROPY)
    sums, entropy = device.buffer(numbers(1, 4, 21)), device.buffer(numbers(1, 9, 4))
    Kernel(device, "statistics", request)(
        query=device.buffer(q), key=device.buffer(k),
        log_sum_exp=device.buffer(lse.astype(np.float32)), key_sums=sums, entropy=entropy)
    compare("statistics: key sums", sums.get(), p.sum(2))
    compare("statistics: entropy", entropy.get(), -(p * np.log(p)).sum(-1).transpose(0, 2, 1))


def merge(device):
    """Keys in two halves, merged, are attention over all of them."""
    q, k, v = numbers(1, 6, 4, 16), numbers(1, 30, 4, 16), numbers(1, 30, 4, 16)
    parts = [softmax_attention(q, k[:, s], v[:, s]) for s in (slice(0, 11), slice(11, 30))]
    request = vkattn.vkattn_merge_request(
        row_count=6, head_count=4, partial_count=2, value_head_size=16,
        flags=c.VKATTN_MERGE_RETURNS_LOG_SUM_EXP)
    tensors = {}
    for index, (o, lse, _) in enumerate(parts):
        tensors[f"partial_outputs__{index}"] = device.buffer(o.astype(np.float32))
        tensors[f"partial_log_sum_exps__{index}"] = device.buffer(lse.astype(np.float32))
    output, lse = device.buffer(numbers(6, 4, 16)), device.buffer(numbers(6, 4))
    Kernel(device, "merge", request)(output=output, log_sum_exp=lse, **tensors)
    expected = softmax_attention(q, k, v)
    compare("merge", output.get(), expected[0][0])
    compare("merge: log-sum-exp", lse.get(), expected[1][0])


def rotated(x, positions):
    """Channels c and c + d/2 turned by position · 10000^(−2c/d)."""
    half = x.shape[-1] // 2
    angles = positions[:, None, None] * 10000.0 ** (-np.arange(half) / half)
    a, b = x[..., :half].astype(float), x[..., half:].astype(float)
    return np.concatenate(
        [a * np.cos(angles) - b * np.sin(angles), a * np.sin(angles) + b * np.cos(angles)], -1)


def serve(device):
    """A paged cache as a server has it: append with rotary embedding, rotate, decode, drafts, copies."""
    heads, channels, page, pages = 2, 32, 8, 10
    lengths = np.array([21, 9], np.int32)
    indptr, indices = np.array([0, 3, 5], np.int32), np.array([7, 2, 9, 0, 4], np.int32)
    k, v = numbers(lengths.sum(), heads, channels), numbers(lengths.sum(), heads, channels)
    sequences = np.repeat([0, 1], lengths).astype(np.int32)
    positions = np.concatenate([np.arange(n) for n in lengths]).astype(np.int32)
    rotary = vkattn.vkattn_rotary(channels=channels)
    table = np.empty(channels // 2, np.uint64)
    vkattn.call("rotary_frequency_table", rotary, table, len(table))

    shape = dict(arrangement=c.VKATTN_CACHE_PAGED, block_count=pages, block_tokens=page, heads=heads,
                 channels=channels)
    key = vkattn.vkattn_cache_tensor(format=c.VKATTN_CACHE_F32, **shape)
    value = vkattn.vkattn_cache_tensor(format=c.VKATTN_CACHE_INT8, scale_group=channels, **shape)
    cache = vkattn.vkattn_cache(
        key=key, value=value, page_table_sequences=2, page_table_entries=len(indices))
    memory = dict(
        key_cache=device.buffer(np.full((pages, page, heads, channels), np.nan, np.float32)),
        value_cache=device.buffer(np.zeros((pages, page, heads, channels), np.int8)),
        value_scales=device.buffer(np.full((pages, page, heads), np.nan, np.float32)))
    lists = dict(page_indptr=device.buffer(indptr), page_indices=device.buffer(indices))
    append = vkattn.vkattn_append_request(tokens=len(k), cache=cache, rotary=rotary)
    Kernel(device, "append", append)(
        key=device.buffer(k), value=device.buffer(v), sequences=device.buffer(sequences),
        positions=device.buffer(positions), frequencies=device.buffer(table), **memory, **lists)
    places = [(indices[indptr[b] + j // page], j % page) for b, j in zip(sequences, positions)]
    at = tuple(np.array(places).T)
    turned = rotated(k, positions)
    compare("append: rotated keys", memory["key_cache"].get()[at], turned, 1e-6)
    stored = memory["value_cache"].get()[at] * memory["value_scales"].get()[at][..., None]
    compare("append: int8 values", stored, v, 1e-2)

    q = numbers(2, 4, channels)
    output = device.buffer(numbers(2, 4, channels))
    rotate = vkattn.vkattn_rotate_request(tokens=2, heads=4, channels=channels, rotary=rotary)
    Kernel(device, "rotate", rotate)(
        input=device.buffer(q), output=output, positions=device.buffer(lengths - 1),
        frequencies=device.buffer(table))
    turned_query = output.get()
    compare("rotate", turned_query, rotated(q, lengths - 1), 1e-6)

    request = vkattn.vkattn_decode_request(
        batch_size=2, query_heads=4, key_cache=key, value_cache=value,
        max_key_tokens=int(lengths.max()), element_type=c.VKATTN_F32)
    kernel = Kernel(device, "decode", request)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    expected = [
        softmax_attention(turned_query[b][None, None], turned[starts[b]:starts[b + 1]][None],
                          stored[starts[b]:starts[b + 1]][None])[0][0, 0] for b in (0, 1)]
    output = device.buffer(np.full((2, 1, 4, channels), np.nan, np.float32))
    tensors = dict(query=device.buffer(turned_query), output=output, **memory)
    kernel.decode(lengths, indptr=indptr, indices=indices, **tensors)
    compare("decode, pages on the host", output.get()[:, 0], expected)
    kernel.decode(lengths, shared=lists, **tensors)
    compare("decode, pages on the device", output.get()[:, 0], expected)

    before = memory["key_cache"].get()
    compact = vkattn.vkattn_compact_request(cache=cache, nodes=3)
    paths = np.array([[0, 2, 0], [1, 0, 0]], np.int32)
    Kernel(device, "compact", compact)(
        committed=device.buffer(lengths - 3), paths=device.buffer(paths),
        path_lengths=device.buffer(np.array([2, 1], np.int32)), **memory, **lists)
    for b in (0, 1):
        for i, node in enumerate(paths[b][: 2 - b]):
            old, new = lengths[b] - 3 + node, lengths[b] - 3 + i
            before[indices[indptr[b] + new // page], new % page] = \
                before[indices[indptr[b] + old // page], old % page]
    after = memory["key_cache"].get()
    compare("compact", np.array_equal(after, before, equal_nan=True), True)
    copy = vkattn.vkattn_copy_pages_request(cache=cache, copies=1)
    Kernel(device, "copy_pages", copy)(
        copies=device.buffer(np.array([[7, 5]], np.int32)), **memory, **lists)
    compare("copy pages", memory["key_cache"].get()[5], before[7])


def caches(device):
    """A ring, and latent attention, whose values are the first channels of keys."""
    length, capacity = 29, 16
    q, k, v = numbers(1, 1, 4, 32), numbers(1, length, 2, 32), numbers(1, length, 2, 32)
    last = np.arange(length - capacity, length)
    ring_keys, ring_values = numbers(1, capacity, 2, 32), numbers(1, capacity, 2, 32)
    ring_keys[0, last % capacity], ring_values[0, last % capacity] = k[0, last], v[0, last]
    ring = vkattn.vkattn_cache_tensor(
        format=c.VKATTN_CACHE_F16, arrangement=c.VKATTN_CACHE_RING, block_count=1,
        block_tokens=capacity, heads=2, channels=32)
    request = vkattn.vkattn_decode_request(
        batch_size=1, query_heads=4, key_cache=ring, value_cache=ring, element_type=c.VKATTN_F32)
    output = device.buffer(numbers(1, 1, 4, 32))
    halves = [x.astype(np.float16) for x in (ring_keys, ring_values)]
    Kernel(device, "decode", request).decode(
        [length], query=device.buffer(q), key_cache=device.buffer(halves[0]),
        value_cache=device.buffer(halves[1]), output=output)
    compare("decode, ring of f16", output.get(), softmax_attention(q, *halves)[0])

    latent = numbers(1, length, 1, 48)
    tensor = vkattn.vkattn_cache_tensor(
        format=c.VKATTN_CACHE_F32, arrangement=c.VKATTN_CACHE_CONTIGUOUS, block_count=1,
        block_tokens=length, heads=1, channels=48)
    request = vkattn.vkattn_decode_request(
        batch_size=1, query_heads=4, key_cache=tensor, value_head_size=40,
        element_type=c.VKATTN_F32)
    q, output = numbers(1, 1, 4, 48), device.buffer(numbers(1, 1, 4, 40))
    Kernel(device, "decode", request).decode(
        [length], query=device.buffer(q), key_cache=device.buffer(latent), output=output)
    compare("decode, latent", output.get(), softmax_attention(q, latent, latent[..., :40])[0])


def linear(device):
    """The gated delta rule, and retention, with states."""
    batch, tokens, heads, keys, values = 1, 40, 2, 32, 16
    q, k, v = numbers(batch, tokens, heads, keys), numbers(batch, tokens, heads, keys), numbers(
        batch, tokens, heads, values)
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    decay = -np.abs(numbers(batch, tokens, heads)) / 8
    beta = 1 / (1 + np.exp(-numbers(batch, tokens, heads)))
    initial = numbers(batch, heads, keys, values)
    operands = [vkattn.vkattn_operand(tensor=getattr(c, "VKATTN_TENSOR_" + name)) for name in (
        "DECAY", "BETA", "INITIAL_STATE", "FINAL_STATE")]
    state = initial.astype(float)
    expected = np.empty_like(v, dtype=float)
    for t in range(tokens):
        state = state * np.exp(decay[:, t, :, None, None])
        held = np.einsum("bhkv,bhk->bhv", state, k[:, t])
        state = state + np.einsum("bhk,bhv->bhkv", k[:, t], beta[:, t, :, None] * (v[:, t] - held))
        expected[:, t] = np.einsum("bhkv,bhk->bhv", state, q[:, t]) / np.sqrt(keys)
    for form in ("RECURRENT", "CHUNK"):
        request = vkattn.vkattn_linear_request(
            batch_size=batch, tokens=tokens, value_heads=heads, key_head_size=keys,
            value_head_size=values, flags=c.VKATTN_LINEAR_ERASES, operands=operands,
            operand_count=len(operands), form=getattr(c, "VKATTN_LINEAR_" + form))
        output, final = device.buffer(np.full_like(v, np.nan)), device.buffer(np.full_like(initial, np.nan))
        Kernel(device, "linear", request)(
            query=device.buffer(q), key=device.buffer(k), value=device.buffer(v), output=output,
            decay=device.buffer(decay), beta=device.buffer(beta), initial_state=device.buffer(initial),
            final_state=final)
        compare(f"gated delta rule, {form.lower()}", output.get(), expected)
        compare("its state", final.get(), state)


def drafts(device):
    """Linear attention over a tree of drafts, and the next token after an accepted one."""
    tokens, heads, keys, values = 5, 2, 16, 8
    parents = np.array([-1, 0, 0, 1, 2], np.int32)
    q, k, v = numbers(1, tokens, heads, keys), numbers(1, tokens, heads, keys), numbers(1, tokens, heads, values)
    initial = numbers(1, heads, keys, values)
    states = np.empty((tokens, heads, keys, values))
    for t, parent in enumerate(parents):
        states[t] = (initial[0] if parent < 0 else states[parent]) + np.einsum("hk,hv->hkv", k[0, t], v[0, t])
    expected = np.einsum("thkv,thk->thv", states, q[0]) / np.sqrt(keys)
    shape = dict(value_heads=heads, key_head_size=keys, value_head_size=values)

    def operands(*names):
        return [vkattn.vkattn_operand(tensor=getattr(c, "VKATTN_TENSOR_" + name)) for name in names]

    request = vkattn.vkattn_linear_request(
        batch_size=1, tokens=tokens, operand_count=3, **shape,
        operands=operands("INITIAL_STATE", "SNAPSHOTS", "PARENTS"))
    output = device.buffer(np.full_like(v, np.nan))
    snapshots = device.buffer(np.full(states.shape, np.nan, np.float32))
    Kernel(device, "linear", request)(
        query=device.buffer(q), key=device.buffer(k), value=device.buffer(v), output=output,
        initial_state=device.buffer(initial), snapshots=snapshots, parents=device.buffer(parents))
    compare("tree of drafts", output.get()[0], expected)
    compare("its states", snapshots.get(), states)

    request = vkattn.vkattn_linear_request(
        batch_size=1, tokens=1, state_count=tokens, operand_count=2, **shape,
        operands=operands("INITIAL_STATE", "STATE_SLOTS"))
    output = device.buffer(np.full((1, 1, heads, values), np.nan, np.float32))
    Kernel(device, "linear", request)(
        query=device.buffer(q[:, :1]), key=device.buffer(k[:, :1]), value=device.buffer(v[:, :1]),
        output=output, initial_state=snapshots, state_slots=device.buffer(np.array([3], np.int32)))
    after = states[3] + np.einsum("hk,hv->hkv", k[0, 0], v[0, 0])
    compare("after an accepted draft", output.get()[0, 0], np.einsum("hkv,hk->hv", after, q[0, 0]) / np.sqrt(keys))


def block_maps(device):
    """A mask's map of blocks, and attention that skips by it."""
    tokens, heads, size = 200, 2, 32
    visible = np.arange(tokens)[None] // 50 == np.arange(tokens)[:, None] // 50
    shared = c.VKATTN_SHARED_BATCH | c.VKATTN_SHARED_HEADS
    operands = [vkattn.vkattn_operand(tensor=c.VKATTN_TENSOR_MASK, shared_axes=shared),
                vkattn.vkattn_operand(tensor=c.VKATTN_TENSOR_BLOCK_MAP, shared_axes=shared)]
    request = vkattn.vkattn_attention_request(
        batch_size=1, query_tokens=tokens, key_tokens=tokens, query_heads=heads, head_size=size,
        mask=vkattn.vkattn_mask(block_map_rows=64, block_map_keys=64), operands=operands, operand_count=2)
    mask, blocks = device.buffer(visible.astype(np.uint8)), device.buffer(np.full((4, 4), -1, np.int32))
    Kernel(device, "block_map", request)(mask=mask, block_map=blocks)
    parts = [[visible[i:i + 64, j:j + 64] for j in range(0, tokens, 64)] for i in range(0, tokens, 64)]
    compare("block map", blocks.get(), [[2 if b.all() else int(b.any()) for b in row] for row in parts], 0)
    q, k, v = (numbers(1, tokens, heads, size) for _ in range(3))
    output = device.buffer(np.full_like(q, np.nan))
    Kernel(device, "attention", request)(
        query=device.buffer(q), key=device.buffer(k), value=device.buffer(v), output=output, mask=mask,
        block_map=blocks)
    compare("attention by its blocks", output.get(), softmax_attention(q, k, v, visible)[0])


def silu(x):
    return x / (1 + np.exp(-x))


def around_linear(device):
    """Feature maps, output norms with gates, short convolutions with state, xPos."""
    batch, tokens, heads, size = 2, 12, 2, 16
    x, z = numbers(batch, tokens, heads, size), numbers(batch, tokens, heads, size)
    shape = dict(batch_size=batch, tokens=tokens, heads=heads, channels=size)

    def mapped(width, tensors=None, **fields):
        output = device.buffer(np.full((batch, tokens, heads, width), np.nan, np.float32))
        request = vkattn.vkattn_feature_map_request(**shape, **fields)
        Kernel(device, "feature_map", request)(input=device.buffer(x), output=output, **tensors or {})
        return output.get()

    u = x.astype(float)
    compare("feature map: ELU + 1", mapped(size, map=c.VKATTN_MAP_ELU_PLUS_ONE),
            np.where(u > 0, u + 1, np.exp(u)))
    compare("feature map: softmax of tokens", mapped(size, map=c.VKATTN_MAP_TOKEN_SOFTMAX),
            np.exp(u) / np.exp(u).sum(1, keepdims=True))
    s = u * size**-0.25
    pairs = np.einsum("bthi,bthj->bthij", s, s).reshape(batch, tokens, heads, -1) / np.sqrt(2)
    compare("feature map: second-order series",
            mapped(1 + size + size**2, map=c.VKATTN_MAP_TAYLOR_2),
            np.concatenate([np.ones((batch, tokens, heads, 1)), s, pairs], -1))
    w = numbers(24, size)
    exponents = s @ w.T.astype(float) - (s**2).sum(-1, keepdims=True) / 2
    features = np.exp(exponents - exponents.max((1, 3), keepdims=True)) / np.sqrt(24)
    compare("feature map: FAVOR+",
            mapped(24, dict(projection=device.buffer(w)), map=c.VKATTN_MAP_FAVOR_PLUS, features=24,
                   stabilizer=c.VKATTN_FAVOR_BY_SEQUENCE), features)
    angles = np.pi * np.arange(tokens) / (2 * 64)
    turns = [np.maximum(u, 0) * f(angles)[:, None, None] for f in (np.cos, np.sin)]
    compare("feature map: cosFormer", mapped(2 * size, map=c.VKATTN_MAP_COS_FORMER, max_position=64),
            np.concatenate(turns, -1))

    weight = numbers(size)
    request = vkattn.vkattn_output_norm_request(
        **shape, norm=c.VKATTN_NORM_RMS, epsilon=1e-6, weight=c.VKATTN_NORM_PER_CHANNEL,
        gate=c.VKATTN_NORM_SILU)
    output = device.buffer(np.full_like(x, np.nan))
    Kernel(device, "output_norm", request)(
        input=device.buffer(x), output=output, output_gate=device.buffer(z), weight=device.buffer(weight))
    norm = u / np.sqrt((u**2).mean(-1, keepdims=True) + 1e-6) * weight
    compare("output norm with a gate", output.get(), norm * silu(z.astype(float)))

    # A prefill, and one token from the state that it leaves.
    channels, width = heads * size, 4
    flat, filters = x.reshape(batch, tokens, channels), numbers(channels, width)
    padded = np.concatenate([np.zeros((batch, width - 1, channels)), flat], 1)
    expected = silu(sum(padded[:, i:i + tokens] * filters[:, i].astype(float) for i in range(width)))
    state = device.buffer(np.full((batch, channels, width - 1), np.nan, np.float32))
    filters = device.buffer(filters)
    for first, last, flags in ((0, tokens - 1, c.VKATTN_CONVOLUTION_FINAL_STATE),
                               (tokens - 1, tokens, c.VKATTN_CONVOLUTION_INITIAL_STATE)):
        request = vkattn.vkattn_short_convolution_request(
            batch_size=batch, tokens=last - first, channels=channels, width=width,
            flags=flags | c.VKATTN_CONVOLUTION_SILU)
        output = device.buffer(np.full((batch, last - first, channels), np.nan, np.float32))
        is_first = flags == c.VKATTN_CONVOLUTION_FINAL_STATE
        Kernel(device, "short_convolution", request)(
            input=device.buffer(flat[:, first:last]), weight=filters, output=output,
            **{"final_state" if is_first else "initial_state": state})
        compare("short convolution" if is_first else "short convolution, next token",
                output.get(), expected[:, first:last])

    # With RetNet's frequencies a score decays with the distance, whatever the origin.
    pairs = size // 2
    frequencies = 10000.0 ** (-np.arange(pairs) / (pairs - 1))
    rotary = vkattn.vkattn_rotary(
        channels=size, pairing=c.VKATTN_ROTARY_INTERLEAVED, frequencies=frequencies)
    xpos = vkattn.vkattn_xpos(rotary=rotary, origin=tokens // 2)
    table, rates = np.empty(pairs, np.uint64), np.empty(pairs, np.float32)
    vkattn.call("rotary_frequency_table", rotary, table, pairs)
    vkattn.call("xpos_rate_table", xpos, 0, rates, pairs)
    positions = np.arange(tokens, dtype=np.int32)
    request = vkattn.vkattn_xpos_request(tokens=tokens, heads=heads, channels=size, xpos=xpos)
    output = device.buffer(np.full_like(x[0], np.nan))
    Kernel(device, "xpos", request)(
        input=device.buffer(x[0]), output=output, positions=device.buffer(positions),
        frequencies=device.buffer(table), xpos_rates=device.buffer(rates))
    grown = ((np.arange(pairs) / pairs + 0.4) / 1.4) ** ((positions[:, None, None] - tokens // 2) / 512)
    turned = (u[0, ..., 0::2] + 1j * u[0, ..., 1::2]) * grown * np.exp(
        1j * positions[:, None, None] * frequencies)
    compare("xpos", output.get(), np.stack([turned.real, turned.imag], -1).reshape(x[0].shape))


def q8_0(weights):
    """ggml's blocks of 32 numbers, a binary16 scale and 32 bytes, and the numbers that they stand for."""
    blocks = weights.reshape(-1, 32)
    scales = (np.abs(blocks).max(1) / 127).astype(np.float16)
    codes = np.clip(np.round(blocks / scales[:, None].astype(float)), -127, 127).astype(np.int8)
    packed = np.concatenate([scales.view(np.uint8).reshape(-1, 2), codes.view(np.uint8)], 1)
    return packed, (codes * scales[:, None].astype(float)).reshape(weights.shape)


def companions(device):
    """What a transformer's layer has beside attention."""
    rows, size, hidden = 5, 64, 96
    x, residual, weight = numbers(rows, size), numbers(rows, size), numbers(size)

    def run(family, request, shape, kind=np.float32, output="output", **tensors):
        made = device.buffer(np.full(shape, np.nan if kind == np.float32 else -7, kind))
        tensors = {name: device.buffer(array) for name, array in tensors.items()}
        Kernel(device, family, request)(**{output: made}, **tensors)
        return made.get()

    total = x.astype(float) + residual
    request = vkattn.vkattn_normalize_request(
        rows=rows, channels=size, norm=c.VKATTN_NORM_RMS, epsilon=1e-5,
        flags=c.VKATTN_NORMALIZE_WEIGHT | c.VKATTN_NORMALIZE_RESIDUAL)
    compare("RMSNorm of a sum",
            run("normalize", request, x.shape, input=x, residual=residual, weight=weight),
            total / np.sqrt((total**2).mean(1, keepdims=True) + 1e-5) * weight)
    request = vkattn.vkattn_normalize_request(
        rows=rows, channels=size, norm=c.VKATTN_NORM_LAYER, epsilon=1e-5,
        flags=c.VKATTN_NORMALIZE_WEIGHT | c.VKATTN_NORMALIZE_BIAS)
    centered = x.astype(float) - x.mean(1, keepdims=True, dtype=float)
    compare("LayerNorm", run("normalize", request, x.shape, input=x, weight=weight, bias=residual[0]),
            centered / np.sqrt((centered**2).mean(1, keepdims=True) + 1e-5) * weight + residual[0])

    packed, w = q8_0(numbers(2 * hidden, size))
    request = vkattn.vkattn_matrix_product_request(
        rows=rows, output_channels=2 * hidden, input_channels=size, weight_format=c.VKATTN_WEIGHT_Q8_0)
    both = run("matrix_product", request, (rows, 2 * hidden), input=x, weight=packed)
    compare("linear layer of q8_0", both, x.astype(float) @ w.T)
    request = vkattn.vkattn_matrix_product_request(
        rows=rows, output_channels=hidden, input_channels=size, activation=c.VKATTN_ACTIVATION_GELU_TANH,
        flags=c.VKATTN_PRODUCT_BIAS)
    w, bias = numbers(hidden, size), numbers(hidden)
    sums = x.astype(float) @ w.T + bias
    compare("linear layer, bias and GELU",
            run("matrix_product", request, (rows, hidden), input=x, weight=w, bias=bias),
            sums * (1 + np.tanh(np.sqrt(2 / np.pi) * (sums + 0.044715 * sums**3))) / 2)
    request = vkattn.vkattn_elementwise_request(
        rows=rows, channels=hidden, activation=c.VKATTN_ACTIVATION_SILU,
        combination=c.VKATTN_COMBINE_MULTIPLY, first_stride=2 * hidden)
    gates, values = both[:, :hidden].astype(float), np.ascontiguousarray(both[:, hidden:])
    compare("SwiGLU", run("elementwise", request, values.shape, input=both, second_input=values),
            silu(gates) * values)
    request = vkattn.vkattn_softmax_request(rows=rows, channels=size)
    weights = np.exp(x.astype(float))
    compare("softmax", run("softmax", request, x.shape, input=x), weights / weights.sum(1, keepdims=True))

    words, places = numbers(50, size), numbers(8, size)
    tokens, positions = np.array([3, 49, 0, 7, 7], np.int32), np.arange(5, dtype=np.int32)
    request = vkattn.vkattn_embedding_request(rows=rows, channels=size, table_count=2, entries=[50, 8])
    compare("embedding",
            run("embedding", request, x.shape, table=words, tokens=tokens, table__1=places,
                tokens__1=positions), words[tokens].astype(float) + places[positions])
    logits, uniforms = 3 * numbers(rows, 40), random.random(rows, np.float32)
    request = vkattn.vkattn_sampling_request(rows=rows, vocabulary=40)
    compare("sampling, greedy",
            run("sampling", request, rows, np.int32, "tokens", input=logits), logits.argmax(1), 0)
    request = vkattn.vkattn_sampling_request(
        rows=rows, vocabulary=40, method=c.VKATTN_SAMPLING_DRAW, top_tokens=5)
    least = np.sort(logits, 1)[:, -5:-4]
    kept = np.where(logits >= least, np.exp(logits.astype(float)), 0)
    drawn = (np.cumsum(kept, 1) / kept.sum(1, keepdims=True) > uniforms[:, None]).argmax(1)
    compare("sampling, a draw",
            run("sampling", request, rows, np.int32, "tokens", input=logits, uniforms=uniforms), drawn, 0)


def modifications(device):
    """A score and a mask of one's own, in GLSL."""
    q, k, v = numbers(1, 20, 4, 32), numbers(1, 30, 2, 32), numbers(1, 30, 2, 32)
    slopes = np.abs(numbers(4))
    score = vkattn.vkattn_modification(
        body="return score - slopes(head) * log(1.0 + float(abs(queryIndex + positionOffset - keyIndex)));",
        parameters=[vkattn.vkattn_custom_parameter(name="slopes", type=c.VKATTN_CUSTOM_F32_BUFFER)],
        parameter_count=1)
    mask = vkattn.vkattn_modification(
        body="return abs(queryIndex + positionOffset - keyIndex) < window;",
        parameters=[vkattn.vkattn_custom_parameter(name="window", type=c.VKATTN_CUSTOM_INT, integer=9)],
        parameter_count=1)
    request = vkattn.vkattn_attention_request(
        batch_size=1, query_tokens=20, key_tokens=30, query_heads=4, key_heads=2, head_size=32)
    both = vkattn.vkattn_modifications(score=score, mask=mask)
    try:
        kernel = Kernel(device, "custom_attention", request, both)
    except vkattn.Error as error:
        if error.status != c.VKATTN_NO_COMPILER:
            raise
        return print(f"modifications were left out: {error}")
    output = device.buffer(np.full_like(q, np.nan))
    kernel(query=device.buffer(q), key=device.buffer(k), value=device.buffer(v), output=output,
           custom_buffer__0=device.buffer(slopes))
    distance = np.abs(np.arange(20)[:, None] + 10 - np.arange(30))
    s = np.einsum("bihd,bjhd->bhij", q.astype(float), np.repeat(k, 2, 2)) / np.sqrt(32)
    s = np.where(distance < 9, s - slopes[:, None, None] * np.log(1 + distance), -np.inf)
    p = np.exp(s - s.max(-1, keepdims=True))
    compare("score and mask of one's own", output.get(),
            np.einsum("bhij,bjhd->bihd", p / p.sum(-1, keepdims=True), np.repeat(v, 2, 2)))


def main():
    try:
        device = Device()
    except vkattn.Error as error:
        if error.status in (c.VKATTN_NO_DRIVER, c.VKATTN_NO_DEVICE, c.VKATTN_MISSING_FEATURES):
            print(f"no device: {error}")
            return 77
        raise
    with device:
        print(f"vkattn {vkattn.lib.vkattn_version().decode()} on {device.name}")
        for family in (attention, block_maps, statistics, merge, serve, caches, linear, drafts, around_linear,
                       companions, modifications):
            family(device)
        try:
            device.attention(numbers(1, 4, 3, 8), numbers(1, 4, 2, 8), numbers(1, 4, 2, 8))
        except vkattn.Error as error:
            compare("errors are exceptions", error.status, c.VKATTN_INVALID_ARGUMENT)
    print("all agree" if failures == 0 else f"{failures} failed")
    return 0 if failures == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
