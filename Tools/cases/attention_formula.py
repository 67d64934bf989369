"""The formula of CASES' ops `attention` and `attention_varlen` in float64, in dense matrices.

Tensors and parameters are those of the format, see README.md. Letters: B batch, S query tokens i,
T key tokens j, H query heads h, G key heads, D key channels, E value channels.
"""

import math

import numpy
import torch


class Evaluated:
    """A problem's answer, and what of it a check by other code needs (all float64).

    o [B,S,H,E], lse [B,S,H]; visible [B,H,S,T]; added [B,H,S,T]: what the scores gain after the
    soft cap, -inf where hidden; before_cap [B,H,S,T]: what they gain before it beside q.k;
    raw_q [B,S,H,D]; q [B,S,H,D] with its bias and the rows' scales; k [B,T,H,D], v [B,T,H,E] with
    hidden NaN gone.
    """


def heads_of(tensor, heads):
    """[B,T,G,C] as [B,T,H,C]."""
    return tensor.repeat_interleave(heads // tensor.shape[2], dim=2)


def key_counts(params, extra, batch, keys):
    return extra.get("kv_lengths", torch.full((batch,), keys)).long().view(batch, 1, 1, 1)


def positions(params, extra, batch, queries, keys):
    """[B,1,S,1]: where the queries stand among the keys."""
    i = torch.arange(queries).view(1, 1, queries, 1)
    n = key_counts(params, extra, batch, keys)
    top_left = params.get("causal_align", "bottom_right") == "top_left"
    return i + (torch.zeros_like(n) if top_left else n - queries)


def visibility(params, extra, batch, heads, queries, keys):
    """[B,H,S,T], true where every option lets the query see the key."""
    j = torch.arange(keys).view(1, 1, 1, keys)
    n = key_counts(params, extra, batch, keys)
    position = positions(params, extra, batch, queries, keys)

    def per_sequence(name, default):
        return extra.get(name, torch.full((batch,), default)).long().view(batch, 1, 1, 1)

    visible = (j < n).expand(batch, heads, queries, keys).clone()
    visible &= j >= per_sequence("left_padding", 0)
    if params.get("causal", False):
        block = params.get("causal_block", 1)
        # // rounds towards -inf, as the definition does.
        visible &= (j // block <= position // block) | (
            j < per_sequence("prefix_lengths", params.get("prefix_tokens", 0)))

    windows = torch.tensor([[params.get("window_left", -1), params.get("window_right", -1)]])
    windows = extra.get("head_windows", windows.expand(heads, 2)).long().view(1, heads, 2, 1, 1)
    left, right = windows[:, :, 0], windows[:, :, 1]
    near = ((left < 0) | (j >= position - left)) & ((right < 0) | (j <= position + right))
    if params.get("chunk", 0) > 0:
        near = near & (j // params["chunk"] == position // params["chunk"])
    visible &= near | (j < params.get("sink_tokens", 0))

    if "q_segments" in extra:
        same = extra["q_segments"][:, :, None] == extra["k_segments"][:, None, :]
        visible &= (same if params.get("segments", "same") == "same" else ~same).unsqueeze(1)
    if "mask" in extra:
        visible &= extra["mask"] != 0
    if "mask_bits" in extra:
        visible &= unpacked(extra["mask_bits"])[..., :keys]
    if "tree_bits" in extra:
        width = params["tree_tokens"]
        bits = unpacked(extra["tree_bits"])[..., :width]
        for b in range(batch):
            count = int(n[b])
            # The row of bits lies over the last keys; with fewer keys its end is what counts.
            for w in range(width):
                key = count - width + w
                if 0 <= key < keys:
                    visible[b, :, :, key] &= bits[b if bits.shape[0] > 1 else 0, :, w]
    return visible


def unpacked(bits):
    """Bytes as booleans, the lowest bit first."""
    return torch.from_numpy(
        numpy.unpackbits(bits.numpy(), axis=-1, bitorder="little")).bool()


def t5_bucket(distance, bidirectional, buckets, max_distance):
    """T5Attention._relative_position_bucket of Hugging Face transformers."""
    result = torch.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        result += (distance > 0).long() * buckets
        distance = distance.abs()
    else:
        distance = -torch.min(distance, torch.zeros_like(distance))
    exact = buckets // 2
    large = exact + (torch.log(distance.float() / exact) / math.log(max_distance / exact)
                     * (buckets - exact)).long()
    large = torch.min(large, torch.full_like(large, buckets - 1))
    return result + torch.where(distance < exact, distance, large)


def added_scores(params, extra, batch, heads, queries, keys):
    """[B,H,S,T]: the sum of what scores gain after the soft cap."""
    i = torch.arange(queries).view(1, 1, queries, 1)
    j = torch.arange(keys).view(1, 1, 1, keys)
    position = positions(params, extra, batch, queries, keys)
    added = torch.zeros(batch, heads, queries, keys, dtype=torch.float64)
    if "bias" in extra:
        added = added + extra["bias"].double()
    if "key_bias" in extra:
        added = added + extra["key_bias"].double().unsqueeze(2)
    if "relative_bias" in extra:
        table = extra["relative_bias"].double().expand(heads, -1)
        entries = distance_entries(params, position, j)
        added = added + table[:, entries[:, 0]].transpose(0, 1)
    if "t5_bias" in extra:
        table = extra["t5_bias"].double()
        buckets = t5_bucket(
            j - position, params.get("t5_bidirectional", True), table.shape[0],
            params.get("t5_max_distance", 128))
        added = added + table[buckets[:, 0]].permute(0, 3, 1, 2)
    if "grid_bias" in extra:
        height, width = params["grid_height"], params["grid_width"]
        entry = (i // width - j // width + height - 1) * (2 * width - 1) + (
            i % width - j % width + width - 1)
        added = added + extra["grid_bias"].double()[entry[0, 0]].permute(2, 0, 1)
    if "alibi_slopes" in extra:
        slopes = extra["alibi_slopes"].double().view(1, heads, 1, 1)
        added = added - slopes * (position - j).abs().double()
    return added


def distance_entries(params, position, j):
    left, right = params.get("relative_left", 0), params.get("relative_right", 0)
    return (j - position).clamp(-left, right) + left


def row_factors(extra, name, batch, queries, heads):
    factors = extra.get(name, torch.ones(1, 1, 1)).double()
    return factors.expand(batch, queries, heads)


def evaluate(q, k, v, params, extra):
    """The answer to op `attention`."""
    q, k, v = q.double(), k.double(), v.double()
    batch, queries, heads, channels = q.shape
    keys, groups = k.shape[1], k.shape[2]
    position = positions(params, extra, batch, queries, keys)
    visible = visibility(params, extra, batch, heads, queries, keys)

    # Keys that nobody sees may hold NaN, which 0 * NaN would let through.
    seen = visible.view(batch, groups, heads // groups, queries, keys).any(dim=3).any(dim=2)
    seen = seen.transpose(1, 2).unsqueeze(-1)
    k = heads_of(torch.where(seen, k, 0.0), heads)
    v = heads_of(torch.where(seen, v, 0.0), heads)

    scale = params.get("scale", 1 / math.sqrt(channels))
    scales = scale * row_factors(extra, "query_scales", batch, queries, heads)
    scales = scales.transpose(1, 2).unsqueeze(-1)
    biased = q + extra.get("query_bias", torch.zeros(1)).double()
    scores = scales * torch.einsum("bshd,bthd->bhst", biased, k)
    before_cap = torch.zeros_like(scores)
    if "relative_keys" in extra:
        relative = q + extra.get("relative_query_bias", torch.zeros(1)).double()
        by_distance = torch.einsum("bshd,ehd->bhse", relative, extra["relative_keys"].double())
        entries = distance_entries(params, position, torch.arange(keys).view(1, 1, 1, keys))
        before_cap = scales * by_distance.gather(3, entries.expand(batch, heads, queries, keys))
    scores = scores + before_cap
    softcap = params.get("softcap", 0)
    if softcap > 0:
        scores = softcap * torch.tanh(scores / softcap)
    added = added_scores(params, extra, batch, heads, queries, keys)
    added = added.masked_fill(~visible, -math.inf)

    result = Evaluated()
    result.visible, result.added, result.before_cap = visible, added, before_cap
    result.q = biased * scales.squeeze(-1).transpose(1, 2).unsqueeze(-1) / scale
    result.raw_q, result.k, result.v = q, k, v
    result.o, result.lse = rows(scores + added, v, params, extra)
    return result


def rows(scores, v, params, extra):
    """o and lse of finished scores [B,H,S,T] and values [B,T,H,E]."""
    batch, heads, queries, keys = scores.shape
    values = v.permute(0, 2, 1, 3).unsqueeze(2).expand(batch, heads, queries, keys, v.shape[-1])
    normalizer = params.get("normalizer", "softmax")
    softmax = normalizer in ("softmax", "softmax1")
    weights = scores
    if normalizer == "sigmoid":
        weights = torch.sigmoid(scores + params.get("sigmoid_bias", 0))
    elif not softmax:
        weights = torch.relu(scores)
    if "initial_max" in extra:
        # A state is one more key: its weight is the sum, its value the mean.
        total = extra["initial_sum"].double().transpose(1, 2).unsqueeze(-1)
        mean = extra["initial_output"].double().transpose(1, 2).unsqueeze(3) / torch.where(
            total == 0, 1.0, total).unsqueeze(-1)
        values = torch.cat([values, mean], dim=3)
        top = extra["initial_max"].double().transpose(1, 2).unsqueeze(-1)
        weights = torch.cat([weights, top + total.log() if softmax else total], dim=3)

    if softmax:
        # One column more for the logit that has no value.
        if "sinks" in extra:
            sink = extra["sinks"].double().view(1, heads, 1, 1)
        else:
            sink = torch.full((1, 1, 1, 1), 0.0 if normalizer == "softmax1" else -math.inf)
        logits = torch.cat(
            [weights, sink.double().expand(batch, heads, queries, 1)], dim=-1)
        lse = torch.logsumexp(logits, dim=-1)
        # exp(-inf - -inf) is NaN: a row with nothing visible has weights of zero.
        weights = torch.exp(weights - torch.where(lse.isinf(), 0.0, lse).unsqueeze(-1))
    else:
        total = weights.sum(dim=-1)
        lse = total.log()
        if normalizer == "relu_mean":
            n = key_counts(params, extra, batch, keys)
            weights = weights / torch.clamp(n, min=1)
        elif normalizer == "relu_sum":
            weights = weights / torch.where(total == 0, 1.0, total).unsqueeze(-1)
    o = torch.einsum("bhst,bhste->bshe", weights, values)
    lse = lse.transpose(1, 2).contiguous()
    gates = row_factors(extra, "gates", batch, queries, heads)
    return o * gates.unsqueeze(-1), torch.where(gates == 0, -math.inf, lse)


PER_SEQUENCE = ("kv_lengths", "left_padding", "prefix_lengths")
PER_QUERY = ("q_segments", "tree_bits", "query_scales", "gates")
PER_QUERY_UNBATCHED = ("initial_max", "initial_sum", "initial_output")


def sequence(b, q, k, v, extra):
    """Sequence b of a packed problem as a problem with a batch of 1; None without queries."""
    rows = slice(*extra["cu_seqlens_q"][b:b + 2].tolist())
    keys = slice(*extra["cu_seqlens_k"][b:b + 2].tolist())
    if rows.start == rows.stop:
        return None
    own = {}
    for name, tensor in extra.items():
        if name.startswith("cu_seqlens"):
            continue
        if name in PER_SEQUENCE:
            tensor = tensor[b:b + 1]
        elif name in PER_QUERY and tensor.shape[1] > 1:
            tensor = tensor[:, rows]
        elif name in PER_QUERY_UNBATCHED:
            tensor = tensor[rows].unsqueeze(0)
        elif name == "k_segments":
            tensor = tensor[:, keys]
        elif name == "key_bias":
            tensor = tensor[:, :, keys]
        own[name] = tensor
    return rows, keys, q[rows].unsqueeze(0), k[keys].unsqueeze(0), v[keys].unsqueeze(0), own
