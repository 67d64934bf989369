"""Compares the example embed-sentences with PyTorch: the same weights in plain torch code, on the CPU.

Usage: embed_sentences.py MODEL SENTENCES RUN...

MODEL is the folder of all-MiniLM-L6-v2 (config.json, model.safetensors, tokenizer.json), SENTENCES a text file with
one sentence a line, RUN the command that runs the Swift program, without its arguments. The exit status is 1 where an
embedding's cosine with PyTorch's is below 0.9999, or where the token numbers differ.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer

MAX_TOKENS = 256
ROUNDS = 3
REPEATS = 5
LEAST_COSINE = 0.9999


class Encoder:
    """BERT's encoder, the mean of the last hidden states, and its direction."""

    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = load_file(folder / "model.safetensors")
        self.heads = self.config["num_attention_heads"]

    def linear(self, name, x):
        return F.linear(x, self.weights[name + ".weight"], self.weights[name + ".bias"])

    def norm(self, name, x):
        return F.layer_norm(
            x, x.shape[-1:], self.weights[name + ".weight"], self.weights[name + ".bias"],
            self.config["layer_norm_eps"])

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    @torch.inference_mode()
    def __call__(self, ids, mask):
        """Embeddings [N, C] of token numbers [N, S], padded where the mask [N, S] is False."""
        table = "embeddings.{}_embeddings.weight".format
        x = self.weights[table("word")][ids]
        x = x + self.weights[table("token_type")][0] + self.weights[table("position")][: ids.shape[1]]
        x = self.norm("embeddings.LayerNorm", x)
        for index in range(self.config["num_hidden_layers"]):
            layer = f"encoder.layer.{index}."
            q, k, v = (
                self.split(self.linear(layer + "attention.self." + name, x))
                for name in ("query", "key", "value"))
            context = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
            context = context.transpose(1, 2).flatten(2)
            x = self.norm(
                layer + "attention.output.LayerNorm",
                self.linear(layer + "attention.output.dense", context) + x)
            inner = F.gelu(self.linear(layer + "intermediate.dense", x))
            x = self.norm(
                layer + "output.LayerNorm", self.linear(layer + "output.dense", inner) + x)
        weight = mask[:, :, None].to(x.dtype)
        return F.normalize((x * weight).sum(1) / weight.sum(1), dim=-1)


def padded(tokens):
    longest = max(map(len, tokens))
    ids = torch.zeros(len(tokens), longest, dtype=torch.long)
    mask = torch.zeros(len(tokens), longest, dtype=torch.bool)
    for row, numbers in enumerate(tokens):
        ids[row, : len(numbers)] = torch.tensor(numbers)
        mask[row, : len(numbers)] = True
    return ids, mask


def by_length(encoder, tokens, size):
    """The embeddings in batches of sentences of similar length, which wastes less on padding."""
    order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
    batches = [order[first : first + size] for first in range(0, len(order), size)]
    inputs = [padded([tokens[row] for row in rows]) for rows in batches]

    def run():
        result = torch.empty(len(tokens), encoder.config["hidden_size"])
        for rows, (ids, mask) in zip(batches, inputs):
            result[rows] = encoder(ids, mask)
        return result

    return run


def timed(run, count):
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds


def main():
    folder, sentences, command = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    text = pathlib.Path(sentences).read_text(encoding="utf-8")
    lines = [line for line in text.split("\n") if line.strip()]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    tokens = [tokenizer.encode(line).ids for line in lines]
    encoder = Encoder(folder)
    # PyTorch's best of one batch and of batches of similar length.
    ways = {f"batches of {size}": by_length(encoder, tokens, size) for size in (1, 4, 8, len(lines))}
    expected = ways["batches of 1"]()
    for run in ways.values():
        timed(run, 2)

    torch_seconds = {name: [] for name in ways}
    own_seconds = {"f32": [], "f16": []}
    reports = {}
    for _ in range(ROUNDS):
        for name, run in ways.items():
            torch_seconds[name] += timed(run, REPEATS)
        for weights in own_seconds:
            arguments = [
                str(folder), "--weights", weights, "--repeats", str(REPEATS), "--max-tokens",
                str(MAX_TOKENS)]
            output = subprocess.run(
                command + arguments, input=text.encode(), stdout=subprocess.PIPE, check=True)
            reports[weights] = json.loads(output.stdout)
            own_seconds[weights] += reports[weights]["seconds"]

    total = sum(map(len, tokens))
    failures = 0
    for weights, report in reports.items():
        for line, ids, sentence in zip(lines, tokens, report["sentences"], strict=True):
            if sentence["tokens"] != ids:
                failures += 1
                print(f"FAILED: token numbers of {line!r}: {sentence['tokens']}, expected {ids}")
        actual = torch.tensor([sentence["embedding"] for sentence in report["sentences"]])
        cosines = F.cosine_similarity(actual.double(), expected.double())
        # Written so that NaN fails.
        failures += int((~(cosines >= LEAST_COSINE)).sum())
        print(
            f"{weights}: {len(lines)} sentences of {min(map(len, tokens))} to {max(map(len, tokens))} tokens, "
            f"least cosine with PyTorch {cosines.min().item():.8f}, "
            f"largest difference {(actual - expected).abs().max().item():.1e}")
    best = min(torch_seconds, key=lambda name: statistics.median(torch_seconds[name]))
    reference = statistics.median(torch_seconds[best])
    report = reports["f32"]
    print(f"{report['device']} · {report['driver']}; PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"medians of {ROUNDS * REPEATS} runs of {total} tokens, by turns:")
    for name, seconds in torch_seconds.items():
        median = statistics.median(seconds)
        print(f"  PyTorch f32, {name:<14} {median * 1e3:8.1f} ms {total / median:10.0f} tokens/s")
    for weights, seconds in own_seconds.items():
        median = statistics.median(seconds)
        print(
            f"  embed-sentences, {weights} weights {median * 1e3:8.1f} ms {total / median:10.0f} tokens/s, "
            f"{reference / median:.2f} of PyTorch's best")
    print("passed" if failures == 0 else f"{failures} failures")
    sys.exit(1 if failures else 0)


main()
