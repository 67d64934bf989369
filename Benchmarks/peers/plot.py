#!/usr/bin/env python3
"""Draws the tables of `compare --json` as bars, ours beside PyTorch's, into one picture.

    Benchmarks/peers/plot.py f32.json f32-causal.json … --output rates.svg

One panel for each file. Needs matplotlib (pip install matplotlib).
"""

import argparse
import json
import pathlib
import re

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)

OURS, THEIRS = "#2a78d6", "#9aa5b1"


def title(identifier):
    element_type = identifier.split("/")[1]
    return element_type + (", causal" if identifier.endswith("-causal") else "")


def label(identifier):
    shape = re.search(r"-S(\d+)-T\d+-H\d+-G\d+-D(\d+)", identifier)
    return f"S={shape[1]}\nD={shape[2]}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    arguments = parser.parse_args()

    tables = [json.loads(file.read_text(encoding="utf-8")) for file in arguments.files]
    columns = 2 if len(tables) > 1 else 1
    rows = -(-len(tables) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(5 * columns, 2.9 * rows), sharey=True, squeeze=False)
    for axis, table in zip(axes.flat, tables):
        places = range(len(table))
        ours = axis.bar(
            [place - 0.2 for place in places], [row["gflops_ours"] for row in table], 0.38,
            color=OURS, label="VulkanAttention on lavapipe")
        axis.bar(
            [place + 0.2 for place in places], [row["gflops_theirs"] for row in table], 0.38,
            color=THEIRS, label="PyTorch, CPU")
        axis.bar_label(ours, [f"{row['ratio']:.2f}×" for row in table], fontsize=7, padding=1)
        axis.set_xticks(list(places), [label(row["id"]) for row in table], fontsize=7)
        axis.set_title(title(table[0]["id"]), fontsize=9)
        axis.tick_params(axis="y", labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    for row in axes:
        row[0].set_ylabel("GFLOP/s", fontsize=8)
    figure.legend(
        *axes[0][0].get_legend_handles_labels(), loc="upper center", ncols=2, fontsize=8,
        frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    figure.savefig(arguments.output, dpi=130)


if __name__ == "__main__":
    main()
