#!/usr/bin/env python3
"""Times PyTorch's scaled_dot_product_attention on the shapes that `vkattn bench attention` runs.

    python3 Benchmarks/peers/pytorch_sdpa.py --shape B1,S1024,T1024,H8,G8,D64,E64 --type f32
    python3 Benchmarks/peers/pytorch_sdpa.py --shape … --causal --json theirs.json
    python3 Benchmarks/peers/pytorch_sdpa.py --shape … --against ours.json

The JSON is of the same form as `vkattn bench --json`: device, driver, commit, and results with id,
family, shape, type, path, seconds_median, seconds_p10, seconds_p90, gflops, gbps and max_error.
Tensors are contiguous [B, H, S, D], the layout that PyTorch likes best; gradients are off. The result is held
against the formula in float64 before it is timed. Needs Python 3.9 and torch; `vkattn bench --peers` runs it
by turns with the kernels. The other scripts of this folder take its timing, shapes and reports.
"""

import argparse
import collections
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import time

try:
    import torch
except ImportError:
    sys.exit(
        "pytorch_sdpa.py: this Python has no torch. Install it with\n"
        "  python3 -m venv .venv && .venv/bin/pip install torch numpy\n"
        "and run .venv/bin/python Benchmarks/peers/pytorch_sdpa.py, or name that Python in "
        "VKATTN_PYTHON for vkattn bench --peers.")

TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
LETTERS = "BSTHGDE"
# What the RMS error over the RMS of the float64 result must stay below.
TOLERANCES = {"f32": 1e-3, "f16": 5e-3, "bf16": 2e-2}
NOT_SUPPORTED = 3  # the exit status where a library has nothing for the problem
SHORTEST_SAMPLE = 5e-4  # seconds; shorter calls are timed several at once
MOST_SAMPLES = 200

# One way to compute a problem: its name, the call to time, and how the tensor of the result is taken from it.
Way = collections.namedtuple("Way", "name call result")


def program():
    return os.path.basename(sys.argv[0])


def not_supported(reason):
    """Ends the program: nothing went wrong, but the library has no kernel for this."""
    print(reason, file=sys.stderr)
    sys.exit(NOT_SUPPORTED)


def parse_shape(text):
    """B1,S1024,… as a dictionary; every letter once, in any order."""
    shape = {}
    for part in text.split(","):
        match = re.fullmatch(r"([BSTHGDE])([0-9]+)", part.strip())
        if not match or match[1] in shape or int(match[2]) == 0:
            raise argparse.ArgumentTypeError(f"{text}: expected {','.join(x + 'n' for x in LETTERS)}")
        shape[match[1]] = int(match[2])
    if sorted(shape) != sorted(LETTERS) or shape["H"] % shape["G"]:
        raise argparse.ArgumentTypeError(
            f"{text}: needs each of {', '.join(LETTERS)}, and H a multiple of G")
    return shape


def shape_text(shape):
    return "-".join(f"{letter}{shape[letter]}" for letter in LETTERS)


def visible_pairs(shape, causal):
    """Pairs of a query and a key that it sees, in one head."""
    queries, keys = shape["S"], shape["T"]
    if not causal:
        return queries * keys
    return sum(min(keys, max(0, i + keys - queries + 1)) for i in range(queries))


def work(shape, element_bytes, causal):
    """Floating-point operations and bytes that the attention cannot do without."""
    b, s, t, h, g, d, e = (shape[letter] for letter in LETTERS)
    operations = 2 * b * h * visible_pairs(shape, causal) * (d + e)
    return operations, element_bytes * b * (s * h * (d + e) + t * g * (d + e))


def attention_ways(q, k, v, causal):
    """PyTorch's one way to compute attention."""
    options = {}
    queries, keys = q.shape[2], k.shape[2]
    if k.shape[1] != q.shape[1]:
        options["enable_gqa"] = True
    if causal and queries == keys:
        options["is_causal"] = True
    elif causal:
        # PyTorch aligns is_causal top-left; bottom-right needs a mask of its own.
        ones = torch.ones(queries, keys, dtype=torch.bool, device=q.device)
        options["attn_mask"] = ones.tril(keys - queries)
    attention = torch.nn.functional.scaled_dot_product_attention
    return [Way("scaled_dot_product_attention", lambda: attention(q, k, v, **options), lambda o: o)]


def relative_error(result, q, k, v, shape, causal):
    """RMS error over RMS of the formula in float64, for the last head of the last batch entry."""
    group = shape["H"] // shape["G"]
    q, k, v = q[-1, -1].double(), k[-1, (shape["H"] - 1) // group].double(), v[-1, -1].double()
    scores = q @ k.T / math.sqrt(shape["D"])
    if causal:
        hidden = torch.ones_like(scores, dtype=torch.bool).triu(shape["T"] - shape["S"] + 1)
        scores.masked_fill_(hidden, -math.inf)
    expected = torch.softmax(scores, dim=-1) @ v
    error = (result[-1, -1].double() - expected).square().mean().sqrt()
    return (error / expected.square().mean().sqrt()).item()


def time_calls(call, device, samples):
    """Seconds of one call, `samples` times or more, after warming up."""
    def elapsed(count):
        if device == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(count):
                call()
            end.record()
            end.synchronize()
            return start.elapsed_time(end) * 1e-3
        start = time.perf_counter()
        for _ in range(count):
            call()
        return time.perf_counter() - start

    began = time.perf_counter()
    calls = 0
    while calls < 3 or time.perf_counter() - began < 0.2:
        latest = elapsed(1)
        calls += 1
    count = max(1, math.ceil(SHORTEST_SAMPLE / max(latest, 1e-7)))
    seconds = []
    began = time.perf_counter()
    while len(seconds) < samples or (
            time.perf_counter() - began < 0.5 and len(seconds) < MOST_SAMPLES):
        seconds.append(elapsed(count) / count)
    return sorted(seconds)


def quantile(ordered, fraction):
    """A quantile by linear interpolation between the two nearest of the ordered values."""
    place = fraction * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def fastest(ways, error_of, tolerance, device, samples):
    """The way that is fastest, its error and its times; each is verified before it is timed."""
    best = None
    with torch.inference_mode():
        for way in ways:
            error = error_of(way.result(way.call()))
            if not error < tolerance:
                sys.exit(f"{program()}: {way.name}: error {error} against float64; allowed: {tolerance}")
            seconds = time_calls(way.call, device, samples)
            if best is None or statistics.median(seconds) < statistics.median(best[2]):
                best = (way.name, error, seconds)
    return best


def timed(best, operations):
    """The fields of a result that fastest() and the number of operations give."""
    name, error, seconds = best
    median = statistics.median(seconds)
    return {
        "path": name, "seconds_median": median, "seconds_p10": quantile(seconds, 0.1),
        "seconds_p90": quantile(seconds, 0.9), "gflops": operations / median * 1e-9, "max_error": error,
    }


def measure(shape, type_name, causal, device, samples, ways_of):
    generator = torch.Generator().manual_seed(1)
    b, s, t, h, g, d, e = (shape[letter] for letter in LETTERS)

    def normal(*sizes):
        return torch.randn(sizes, generator=generator).to(device, TYPES[type_name])

    q, k, v = normal(b, h, s, d), normal(b, g, t, d), normal(b, g, t, e)
    best = fastest(
        ways_of(q, k, v, causal), lambda result: relative_error(result, q, k, v, shape, causal),
        TOLERANCES[type_name], device, samples)
    operations, moved = work(shape, q.element_size(), causal)
    name = f"attention/{type_name}/{shape_text(shape)}" + ("-causal" if causal else "")
    result = {"id": name, "family": "attention", "shape": shape_text(shape), "type": type_name,
              **timed(best, operations)}
    return {**result, "gbps": moved / result["seconds_median"] * 1e-9}


def device_name(device):
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        name = names[0]
    except (OSError, IndexError):
        name = platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads"


def core_count():
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def report_of(results, device, library=None):
    """What `vkattn bench --json` writes, of PyTorch or of a library on top of it."""
    version = f"PyTorch {torch.__version__}"
    return {"device": device_name(device), "driver": f"{library}, {version}" if library else version,
            "commit": commit(), "results": results}


def write_report(report, path):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(report, file, indent=2)


def commit():
    folder = os.path.dirname(os.path.abspath(__file__))
    try:
        answer = subprocess.run(
            ["git", "-C", folder, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    except OSError:
        return "unknown"
    return answer.stdout.strip() if answer.returncode == 0 else "unknown"


def print_table(report, against):
    ours = {result["id"]: result for result in against.get("results", [])} if against else {}
    width = max(len(result["id"]) for result in report["results"])
    head = f"{'id':{width}}  {'median ms':>10}  {'p10':>9}  {'p90':>9}  {'GFLOP/s':>9}  {'error':>8}"
    if against:
        head += f"  {'ours':>9}  {'ours/theirs':>11}  path"
    print(head)
    for result in report["results"]:
        milliseconds = [result[f"seconds_{key}"] * 1e3 for key in ("median", "p10", "p90")]
        line = (f"{result['id']:{width}}  {milliseconds[0]:10.3f}  {milliseconds[1]:9.3f}  "
                f"{milliseconds[2]:9.3f}  {result['gflops']:9.1f}  {result['max_error']:8.1e}")
        if against and result["id"] in ours:
            mine = ours[result["id"]]
            ratio = result["seconds_median"] / mine["seconds_median"]
            line += f"  {mine['gflops']:9.1f}  {ratio:11.2f}  {mine['path']}"
        elif against:
            line += f"  {'none':>9}"
        print(line)


def chosen_device(name):
    """The device that was asked for; by default CUDA where it is."""
    if name == "cuda" and not torch.cuda.is_available():
        sys.exit(f"{program()}: torch sees no CUDA device")
    return name or ("cuda" if torch.cuda.is_available() else "cpu")


def main(description=__doc__, ways_of=attention_ways, library_of=lambda device: None, devices=("cpu", "cuda")):
    """Measures the ways of a library to compute attention; `library_of` gives its name and version."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", required=True, type=parse_shape)
    parser.add_argument("--type", default="f32", choices=TYPES)
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--device", choices=devices, default=devices[0] if len(devices) == 1 else None,
                        help="default: cuda if it is there")
    parser.add_argument("--threads", type=int, default=core_count(), help="of the CPU; default: all cores")
    parser.add_argument("--samples", type=int, default=25, help="at least this many, 15 or more")
    parser.add_argument("--json", metavar="FILE", help="write the results here as well")
    parser.add_argument("--against", metavar="FILE", help="print the ratio to `vkattn bench --json`")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    device = chosen_device(arguments.device)
    samples = max(15, arguments.samples)
    results = [measure(shape, arguments.type, arguments.causal, device, samples, ways_of)
               for shape in arguments.shape]
    report = report_of(results, device, library_of(device))
    against = None
    if arguments.against:
        with open(arguments.against, encoding="utf-8") as file:
            against = json.load(file)
    if arguments.json:
        write_report(report, arguments.json)
    print(f"{report['device']}, {report['driver']}")
    print_table(report, against)


if __name__ == "__main__":
    main()
