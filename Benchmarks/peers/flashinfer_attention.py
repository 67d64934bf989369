#!/usr/bin/env python3
"""Times FlashInfer's attention on the shapes that `vkattn bench attention` and `vkattn bench decode` run.

    python3 Benchmarks/peers/flashinfer_attention.py --shape B1,S1024,T1024,H8,G8,D128,E128 --type f16
    python3 Benchmarks/peers/flashinfer_attention.py --shape B8,S1,T4096,H32,G8,D128,E128 --type bf16

One sequence by its single prefill and decode, batches by its wrappers: prefills packed, decode steps over pages of
16 tokens; plans are made once, outside of what is timed. Of a decode step the faster of use_tensor_cores=False and
True counts, with the backends that the library chooses. Command line, JSON and the check against float64 are those
of pytorch_sdpa.py; layouts are the library's own, [tokens, heads, channels]. What it has no kernel for ends with
status 3. Needs CUDA with nvcc, which the library compiles its kernels by at their first call, Python 3.10, torch
and flashinfer-python.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from pytorch_sdpa import Way, main, not_supported, torch  # noqa: E402  (says what is missing where torch is)

HEAD_SIZES = (64, 128, 256)
PAGE_SIZE = 16
WORKSPACE_BYTES = 128 << 20


def tokens_first(x):
    """[B, heads, tokens, channels] as [B, tokens, heads, channels]."""
    return x.transpose(1, 2).contiguous()


def heads_first(batch):
    """How a result of [B·tokens, heads, channels] or, of one step, [heads, channels] is read."""
    def result(o):
        heads, channels = o.shape[-2:]
        return o.reshape(batch, -1, heads, channels).transpose(1, 2)
    return result


def steps(lengths, device):
    """The sums of the lengths before each sequence, and of all."""
    return torch.tensor([0, *lengths], dtype=torch.int32, device=device).cumsum(0, dtype=torch.int32)


def workspace(device):
    return torch.zeros(WORKSPACE_BYTES, dtype=torch.uint8, device=device)


def paged(x):
    """[B, tokens, heads, channels] in pages; each sequence begins one."""
    batch, tokens, heads, channels = x.shape
    pages = -(-tokens // PAGE_SIZE)
    cache = x.new_zeros(batch, pages * PAGE_SIZE, heads, channels)
    cache[:, :tokens] = x
    return cache.view(batch * pages, PAGE_SIZE, heads, channels)


def decode_way(flashinfer, q, k, v, tensor_cores):
    batch, _, query_heads, channels = q.shape
    tokens, heads = k.shape[1], k.shape[2]
    option = f"use_tensor_cores={tensor_cores}"
    if batch == 1:
        row, keys, values = q[0, 0], k[0], v[0]
        single = flashinfer.single_decode_with_kv_cache
        return Way(f"single decode, {option}",
                   lambda: single(row, keys, values, use_tensor_cores=tensor_cores), heads_first(1))
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
        workspace(q.device), use_tensor_cores=tensor_cores)
    pages = -(-tokens // PAGE_SIZE)
    wrapper.plan(
        steps([pages] * batch, q.device),
        torch.arange(batch * pages, dtype=torch.int32, device=q.device),
        torch.full((batch,), tokens - (pages - 1) * PAGE_SIZE, dtype=torch.int32, device=q.device),
        query_heads, heads, channels, PAGE_SIZE, q_data_type=q.dtype, kv_data_type=k.dtype)
    rows, cache = q[:, 0].contiguous(), (paged(k), paged(v))
    return Way(f"batch decode, {option}", lambda: wrapper.run(rows, cache), heads_first(batch))


def prefill_way(flashinfer, q, k, v, causal):
    batch, queries, query_heads, channels = q.shape
    tokens, heads = k.shape[1], k.shape[2]
    if batch == 1:
        rows, keys, values = q[0], k[0], v[0]
        single = flashinfer.single_prefill_with_kv_cache
        return Way("single prefill", lambda: single(rows, keys, values, causal=causal), heads_first(1))
    wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(workspace(q.device))
    wrapper.plan(
        steps([queries] * batch, q.device), steps([tokens] * batch, q.device), query_heads, heads,
        channels, causal=causal, q_data_type=q.dtype, kv_data_type=k.dtype)
    rows, keys, values = (x.flatten(0, 1) for x in (q, k, v))
    return Way("batch prefill", lambda: wrapper.run(rows, keys, values), heads_first(batch))


def flashinfer_ways(q, k, v, causal):
    """The library's ways to compute attention; causal is aligned bottom-right there too."""
    if q.dtype == torch.float32:
        not_supported("it has no attention in f32")
    if q.shape[-1] not in HEAD_SIZES or v.shape[-1] != q.shape[-1]:
        not_supported(f"it is compared with heads of D=E of {', '.join(map(str, HEAD_SIZES))}")
    import flashinfer
    q, k, v = (tokens_first(x) for x in (q, k, v))
    if q.shape[1] == 1:
        # A single query sees every key, causal or not.
        return [decode_way(flashinfer, q, k, v, tensor_cores) for tensor_cores in (False, True)]
    return [prefill_way(flashinfer, q, k, v, causal)]


def library(_):
    import flashinfer
    return f"FlashInfer {flashinfer.__version__}"


if __name__ == "__main__":
    main(__doc__, flashinfer_ways, library, devices=("cuda",))
