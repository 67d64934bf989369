"""The formula held against other people's ways to say the same."""

import sys

import torch

from attention_formula import positions, t5_bucket


def fail_unless_equal(name, what, theirs, ours):
    difference = (theirs - ours).abs().max().item() if ours.numel() else 0.0
    if not difference < 1e-12:
        sys.exit(f"{name}: differs from {what} by {difference}")


def check(name, result, params, extra):
    """Stops where a check differs; the names of those that were made."""
    made = []
    if agrees_with_sdpa(name, result, params, extra):
        made.append("scaled_dot_product_attention")
    if "grid_bias" in extra:
        check_swin(name, result, params, extra)
        made.append("Swin's relative_position_index")
    if "t5_bias" in extra:
        check_t5(name, result, params, extra)
        made.append("a T5 table by distance")
    if shifts_like_transformer_xl(result, params, extra):
        check_transformer_xl(name, result, params, extra)
        made.append("Transformer-XL's relative shift")
    return made


def agrees_with_sdpa(name, result, params, extra):
    """Against PyTorch's own attention; False where that has no such option."""
    keys = result.k.shape[1]
    normalizer = params.get("normalizer", "softmax")
    if params.get("softcap", 0) > 0 or "sinks" in extra or "initial_max" in extra or keys == 0:
        return False
    if normalizer not in ("softmax", "softmax1"):
        return False
    mask = result.added + result.before_cap
    k, v = result.k, result.v
    if normalizer == "softmax1":
        # add_zero_attn of nn.MultiheadAttention: one more key and value of zeros.
        k, v = (torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 1)) for x in (k, v))
        mask = torch.nn.functional.pad(mask, (0, 1))
    theirs = torch.nn.functional.scaled_dot_product_attention(
        result.q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask,
        scale=params.get("scale")).transpose(1, 2)
    if "gates" in extra:
        theirs = theirs * extra["gates"].double().unsqueeze(-1)
    # Rows with nothing visible: zero here, NaN or zero there, by version.
    seen = (~mask.isinf()).any(dim=-1).transpose(1, 2).unsqueeze(-1)
    fail_unless_equal(
        name, "scaled_dot_product_attention", torch.where(seen, theirs, 0.0),
        torch.where(seen, result.o, 0.0))
    return True


def check_swin(name, result, params, extra):
    """The bias as WindowAttention of Swin Transformer gathers it."""
    height, width = params["grid_height"], params["grid_width"]
    coords = torch.stack(torch.meshgrid(
        torch.arange(height), torch.arange(width), indexing="ij")).flatten(1)
    relative = (coords[:, :, None] - coords[:, None, :]).permute(1, 2, 0).contiguous()
    relative[:, :, 0] += height - 1
    relative[:, :, 1] += width - 1
    relative[:, :, 0] *= 2 * width - 1
    index = relative.sum(-1)
    table = extra["grid_bias"].double()
    bias = table[index.view(-1)].view(height * width, height * width, -1).permute(2, 0, 1)
    queries, keys = result.added.shape[2:]
    others = [key for key in ("bias", "key_bias", "alibi_slopes") if key in extra]
    assert not others, f"{name}: grid_bias is checked alone"
    bias = bias[:, :queries, :keys].unsqueeze(0).expand_as(result.added)
    visible = result.visible
    fail_unless_equal(name, "Swin", bias[visible], result.added[visible])


def check_t5(name, result, params, extra):
    """A table of all distances that differ, clamped, as the kernels look it up."""
    batch, heads, queries, keys = result.added.shape
    weights = extra["t5_bias"].double()
    bidirectional = params.get("t5_bidirectional", True)
    last = params.get("t5_max_distance", 128)
    distances = torch.arange(-last, (last if bidirectional else 0) + 1)
    table = weights[t5_bucket(distances, bidirectional, weights.shape[0], last)]
    position = positions(params, extra, batch, queries, keys)
    entry = (torch.arange(keys) - position).clamp(-last, int(distances[-1])) + last
    bias = table[entry[:, 0]].permute(0, 3, 1, 2)
    fail_unless_equal(name, "T5", bias[result.visible], result.added[result.visible])


def shifts_like_transformer_xl(result, params, extra):
    """Causal, with a key for each distance up to the farthest and none ahead."""
    return (
        "relative_keys" in extra and params.get("causal", False)
        and params.get("relative_left", 0) == result.k.shape[1] - 1
        and params.get("relative_right", 0) == 0 and "kv_lengths" not in extra
        and "query_scales" not in extra
        and params.get("causal_align", "bottom_right") == "bottom_right")


def check_transformer_xl(name, result, params, extra):
    """The score by distance as Transformer-XL shifts it, for every visible key."""
    raw_q = result.raw_q + extra["relative_query_bias"].double()
    # [S, positions, B, H]: the positions run from the farthest distance down to 0, as the table.
    shifted = torch.einsum("bihd,jhd->ijbh", raw_q, extra["relative_keys"].double())
    padded = torch.cat([torch.zeros_like(shifted[:, :1]), shifted], dim=1)
    padded = padded.view(shifted.shape[1] + 1, shifted.shape[0], *shifted.shape[2:])
    shifted = padded[1:].view_as(shifted).permute(2, 3, 0, 1)
    scale = params.get("scale", raw_q.shape[-1] ** -0.5)
    fail_unless_equal(
        name, "Transformer-XL", (scale * shifted)[result.visible],
        result.before_cap[result.visible])
