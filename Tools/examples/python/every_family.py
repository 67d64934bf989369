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
        for family in (attention, statistics, merge, serve, caches, linear):
            family(device)
        try:
            device.attention(numbers(1, 4, 3, 8), numbers(1, 4, 2, 8), numbers(1, 4, 2, 8))
        except vkattn.Error as error:
            compare("errors are exceptions", error.status, c.VKATTN_INVALID_ARGUMENT)
    print("all agree" if failures == 0 else f"{failures} failed")
    return 0 if failures == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
