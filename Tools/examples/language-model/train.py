"""Trains the small language model of the example generate-text, and holds the Swift program against PyTorch.

Usage: train.py train MODEL [--steps N] [TEXT...]
       train.py check MODEL PROMPT TOKENS RUN...

`train` writes MODEL/config.json and MODEL/model.safetensors. The text is read byte by byte: by default the licences
and the documents of this repository, with the licences that Debian ships (/usr/share/common-licenses) where they are.

`check` lets the program RUN continue PROMPT by TOKENS tokens, chosen greedily, and continues it with PyTorch too: one
token at a time, from the whole text each time. The exit status is 1 where a token differs.

The model: 4 pre-norm layers of 128 channels over bytes, with tied embeddings. Layers alternate grouped-query softmax
attention with rotary embedding (https://arxiv.org/abs/2104.09864) and lightning attention, a linear attention whose
heads decay (https://arxiv.org/abs/2401.04658); each is followed by a SwiGLU (https://arxiv.org/abs/2002.05202).
"""

import json
import math
import pathlib
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

CONFIG = {
    "vocab_size": 256,
    "hidden_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 256,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "layer_types": ["softmax", "lightning", "softmax", "lightning"],
}
BATCH = 8
PEAK_RATE = 4e-3
SEED = 7


class Model:
    """The model as plain functions of its tensors."""

    def __init__(self, config, weights):
        self.config, self.weights = config, weights
        self.heads, self.key_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.head_size = config["hidden_size"] // self.heads
        positions = torch.arange(config["max_position_embeddings"], dtype=torch.float64)
        pairs = torch.arange(self.head_size // 2, dtype=torch.float64)
        angles = positions[:, None] * config["rope_theta"] ** (-2 * pairs / self.head_size)
        self.cos, self.sin = angles.cos().float(), angles.sin().float()
        distances = positions[:, None] - positions[None, :]
        # Later tokens, at negative distances, count for nothing.
        self.decays = {
            name.removesuffix("decay"): (distances * tensor.double()[:, None, None]).exp().tril().float()
            for name, tensor in weights.items() if name.endswith(".decay")}

    @staticmethod
    def shapes(config):
        """Names, shapes and standard deviations of the trained tensors; 0 is a norm's weight of ones."""
        channels, inner = config["hidden_size"], config["intermediate_size"]
        size = channels // config["num_attention_heads"]
        narrow = channels**-0.5
        shapes = {
            "embedding.weight": ((config["vocab_size"], channels), 0.05),
            "norm.weight": ((channels,), 0),
        }
        # Residual branches begin smaller, by the number of them.
        last = narrow / math.sqrt(2 * len(config["layer_types"]))
        for index, kind in enumerate(config["layer_types"]):
            layer = f"layers.{index}."
            rows = 3 * channels if kind == "lightning" else channels + 2 * config["num_key_value_heads"] * size
            shapes |= {
                layer + "attention_norm.weight": ((channels,), 0),
                layer + "query_key_value.weight": ((rows, channels), narrow),
                layer + "attention_output.weight": ((channels, channels), last),
                layer + "feed_forward_norm.weight": ((channels,), 0),
                layer + "gate_up.weight": ((2 * inner, channels), narrow),
                layer + "down.weight": ((channels, inner), last),
            }
            if kind == "lightning":
                shapes[layer + "context_norm.weight"] = ((channels,), 0)
        return shapes

    @classmethod
    def random(cls, config):
        weights = {}
        for name, (shape, deviation) in cls.shapes(config).items():
            tensor = torch.randn(shape) * deviation if deviation else torch.ones(shape)
            weights[name] = tensor.requires_grad_()
        heads, layers = config["num_attention_heads"], len(config["layer_types"])
        for index, kind in enumerate(config["layer_types"]):
            if kind == "lightning":
                # Natural logarithms of the decays: ALiBi's slopes, less from layer to layer.
                share = index / (layers - 1) if layers > 1 else 0
                slopes = 2 ** (-8 * torch.arange(1, heads + 1) / heads)
                weights[f"layers.{index}.decay"] = -slopes * (1 - share + 1e-5)
        return cls(config, weights)

    @classmethod
    def load(cls, folder):
        return cls(json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors"))

    def norm(self, name, x):
        scale = (x.square().mean(-1, keepdim=True) + self.config["rms_norm_eps"]).rsqrt()
        return x * scale * self.weights[name + ".weight"]

    def linear(self, name, x):
        return F.linear(x, self.weights[name + ".weight"])

    def rotate(self, x):
        """Turns the pairs (c, c + D/2) of x [N, H, T, D] by the angles of their tokens."""
        cos, sin = self.cos[: x.shape[-2]], self.sin[: x.shape[-2]]
        first, second = x.chunk(2, -1)
        return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)

    def softmax_attention(self, layer, x):
        q, k, v = self.linear(layer + "query_key_value", x).unflatten(-1, (-1, self.head_size)).transpose(1, 2).split(
            [self.heads, self.key_heads, self.key_heads], 1)
        group = self.heads // self.key_heads
        q, k, v = self.rotate(q), self.rotate(k).repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)

    def lightning_attention(self, layer, x):
        """o_t = Σ_{s ≤ t} e^{(t − s) · decay} (q_t · k_s) v_s, all tokens at once."""
        q, k, v = (
            F.silu(self.linear(layer + "query_key_value", x)).unflatten(-1, (-1, self.head_size)).transpose(1, 2)
            .chunk(3, 1))
        decays = self.decays[layer][:, : x.shape[1], : x.shape[1]]
        context = ((q @ k.transpose(-1, -2)) * decays) @ v
        return self.norm(layer + "context_norm", context.transpose(1, 2).flatten(2))

    def __call__(self, tokens):
        """Logits [N, T, V] of tokens [N, T]."""
        x = self.weights["embedding.weight"][tokens]
        for index, kind in enumerate(self.config["layer_types"]):
            layer = f"layers.{index}."
            normed = self.norm(layer + "attention_norm", x)
            mixed = (self.softmax_attention if kind == "softmax" else self.lightning_attention)(layer, normed)
            x = x + self.linear(layer + "attention_output", mixed)
            gate, up = self.linear(layer + "gate_up", self.norm(layer + "feed_forward_norm", x)).chunk(2, -1)
            x = x + self.linear(layer + "down", F.silu(gate) * up)
        return F.linear(self.norm("norm", x), self.weights["embedding.weight"])


def default_texts():
    repository = pathlib.Path(__file__).resolve().parents[3]
    paths = [repository / "LICENSE", *sorted(repository.glob("*.md")), *sorted(repository.glob("Sources/**/*.md"))]
    # Links stand for another licence of the folder.
    licenses = sorted(pathlib.Path("/usr/share/common-licenses").glob("*"))
    return paths + [path for path in licenses if path.is_file() and not path.is_symlink()]


def train(folder, steps, paths):
    torch.manual_seed(SEED)
    data = b"\n\n".join(pathlib.Path(path).read_bytes() for path in paths or default_texts())
    context = CONFIG["max_position_embeddings"]
    if len(data) <= context + 1:
        sys.exit(f"a text of {len(data)} bytes is too short for contexts of {context}")
    data = torch.frombuffer(bytearray(data), dtype=torch.uint8).long()
    model = Model.random(CONFIG)
    trained = [tensor for tensor in model.weights.values() if tensor.requires_grad]
    count = sum(tensor.numel() for tensor in trained)
    print(f"{count} parameters, {len(data)} bytes of text, {steps} steps of {BATCH} × {context}", flush=True)
    optimizer = torch.optim.AdamW(trained, lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=0.1)
    start, recent = time.monotonic(), []
    for step in range(1, steps + 1):
        first = torch.randint(len(data) - context, (BATCH,))
        rows = data[first[:, None] + torch.arange(context + 1)]
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        recent.append(loss.item())
        if step % 50 == 0 or step == steps:
            mean = sum(recent[-50:]) / len(recent[-50:])
            print(f"step {step:5} loss {mean:.3f} nats a byte, {time.monotonic() - start:.0f} s", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    save_file({name: tensor.detach().contiguous() for name, tensor in model.weights.items()}, folder / "model.safetensors")


@torch.inference_mode()
def check(folder, prompt, count, command):
    model = Model.load(folder)
    arguments = ["--prompt", prompt, "--tokens", str(count), "--json"]
    output = subprocess.run([*command, str(folder), *arguments], stdout=subprocess.PIPE, check=True)
    actual = json.loads(output.stdout)["tokens"]
    tokens = list(prompt.encode())
    expected = []
    closest = math.inf
    for _ in range(count):
        logits = model(torch.tensor([tokens + expected]))[0, -1]
        best = logits.topk(2).values
        closest = min(closest, (best[0] - best[1]).item())
        expected.append(logits.argmax().item())
    matches = next((i for i, pair in enumerate(zip(actual, expected)) if pair[0] != pair[1]), len(actual))
    print(
        f"PyTorch {torch.__version__}: {min(matches, count)} of {count} tokens are the same; "
        f"the two best logits were never closer than {closest:.1e}")
    if actual != expected:
        sys.exit(f"FAILED: token {matches} differs: {actual[matches:matches + 1]}, expected {expected[matches:matches + 1]}")


def main():
    arguments = sys.argv[1:]
    if len(arguments) >= 2 and arguments[0] == "train":
        steps = 300
        texts = arguments[2:]
        if texts[:1] == ["--steps"] and len(texts) >= 2:
            steps, texts = int(texts[1]), texts[2:]
        train(pathlib.Path(arguments[1]), steps, texts)
    elif len(arguments) >= 5 and arguments[0] == "check":
        check(pathlib.Path(arguments[1]), arguments[2], int(arguments[3]), arguments[4:])
    else:
        sys.exit(__doc__)


main()
