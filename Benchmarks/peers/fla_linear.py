#!/usr/bin/env python3
"""Times flash-linear-attention's Triton kernels on the workloads that `vkattn bench linear` runs.

    python3 Benchmarks/peers/fla_linear.py --model kda --shape B1,T4096,H8,D128 --type bf16

The library's chunked forms for prefills and its fused recurrences for a decode step, on contiguous [B, T, H, D],
its own layout; gates and states are f32. Command line, JSON and inputs are those of pytorch_linear.py, and so is
the recurrence in float64 that results are held against before they are timed. Where the library refuses a
type, the program says so and ends with status 3. With --device cpu the kernels run in Triton's interpreter, each
with the first of its configurations: a check of the calls at tiny sizes, whose times mean nothing. Needs Python
3.10, torch and flash-linear-attention.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from pytorch_linear import TYPES, main  # noqa: E402  (says what is missing where torch is)
from pytorch_sdpa import Way, not_supported  # noqa: E402

# Products are of TF32 or 16 bits, and what goes from one kernel of a chunked form to the next has 16 bits.
TOLERANCES = {"f32": 5e-3, "f16": 5e-3, "bf16": 2e-2}


def operators(model, is_step):
    """The library's function for a model, and the names of the arguments that the decay and beta go by."""
    from fla.ops import delta_rule, gated_delta_rule, gla, kda, linear_attn, simple_gla
    form = "fused_recurrent" if is_step else "chunk"
    module, name, decay = {
        "linear": (linear_attn, "linear_attn", None),
        "lightning": (simple_gla, "simple_gla", "g_gamma"),
        "scalar-decay": (simple_gla, "simple_gla", "g"),
        "gla": (gla, "gla", "gk" if is_step else "g"),
        "delta": (delta_rule, "delta_rule", None),
        "gated-delta": (gated_delta_rule, "gated_delta_rule", "g"),
        "kda": (kda, "kda", "g"),
    }[model]
    return f"{form}_{name}", getattr(module, f"{form}_{name}"), decay


def interpret():
    """Lets Triton interpret kernels; without a device there is nothing to choose configurations by."""
    os.environ["TRITON_INTERPRET"] = "1"
    import triton
    autotune = triton.autotune
    triton.autotune = lambda configs, *rest, **options: autotune(configs[:1], *rest, **options)


def fla_ways(model, arguments, type_name):
    """The library's one way: its chunked form, or its fused recurrence for a step."""
    q, k, v, g, beta, state = arguments
    if not q.is_cuda:
        interpret()
    is_step = q.shape[2] == 1
    name, function, decay = operators(model, is_step)
    if model == "delta" and type_name == "f32" and not is_step:
        not_supported(f"{name} has no f32")
    options = {"initial_state": state}
    for key, x in (("q", q), ("k", k), ("v", v)):
        options[key] = x.transpose(1, 2).to(TYPES[type_name]).contiguous()
    if model == "linear":
        options["normalize"] = False
    if decay == "g_gamma":
        options[decay] = g[0, :, 0].contiguous()
    elif decay:
        options[decay] = g.transpose(1, 2).contiguous()
    if beta is not None:
        options["beta"] = beta.transpose(1, 2).contiguous()
    return [Way(name, lambda: function(**options)[0], lambda o: o.transpose(1, 2))]


def library(device):
    import fla
    import triton
    how = "" if device == "cuda" else " interpreted"
    return f"flash-linear-attention {fla.__version__}, Triton {triton.__version__}{how}"


if __name__ == "__main__":
    main(__doc__, fla_ways, TOLERANCES, library, default_device="cuda")
