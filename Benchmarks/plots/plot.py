#!/usr/bin/env python3
"""Draws results of `vkattn bench --json`, schedules of `vkattn plan decode --explain --json` and maps of
`vkattn mask --json`.

    Benchmarks/plots/plot.py results.json … [schedule.json …] [mask.json …] --out pictures

Writes those pictures that the files have data for, each as SVG and as PNG, and report.html, which holds them all
and needs no other file:

    rate        operations a second over the sequence length, for each path and peer
    roofline    operations a second over operations for each byte, below the ceilings of the same run
    decode      bytes a second of decode steps over the number of keys
    crossover   time of linear and of softmax attention over the sequence length
    schedule    which tiles each group of a decode step computes: lean cuts beside a split for each problem
    mask        which blocks of queries and keys masks hide

Needs matplotlib (pip install -r Benchmarks/plots/requirements.txt).
"""

import argparse
import base64
import collections
import html
import io
import json
import math
import pathlib
import re
import sys

try:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib import ticker
except ImportError as error:
    print(f"plot.py: {error}; install it with\n"
          "  python3 -m pip install -r Benchmarks/plots/requirements.txt", file=sys.stderr)
    sys.exit(3)

# Okabe and Ito's colours, which people with any colour vision tell apart; grey for other people's programs. Marks
# and dashes differ as well, so that a print in grey can be read.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
PEER_COLOURS = ["#777777", "#AAAAAA"]
MARKS = ["o", "s", "^", "D", "v", "P", "X"]
DASHES = ["-", "--", "-.", ":"]

plt.rcParams.update({
    "font.size": 9, "axes.titlesize": 10, "axes.grid": True, "grid.color": "#dddddd",
    "grid.linewidth": 0.6, "axes.axisbelow": True, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "svg.fonttype": "none", "svg.hashsalt": "vkattn",
    "figure.constrained_layout.use": True,
})


class WrongFile(Exception):
    """A file that is no result, no schedule and no map of a mask."""


def sizes(result):
    """The numbers behind the letters of a shape: {"B": 1, "S": 1024, …}."""
    found = dict(re.findall(r"([A-Z])(\d+)", result.get("shape") or result["id"]))
    return {letter: int(number) for letter, number in found.items()}


def load(path):
    """The kind of a file, and its contents."""
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WrongFile(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise WrongFile(f"{path}: no JSON: {error}") from error
    if isinstance(contents, dict) and isinstance(contents.get("results"), list):
        return "results", contents
    if isinstance(contents, dict) and isinstance(contents.get("schedules"), list):
        return "schedule", contents
    if isinstance(contents, dict) and contents.get("format") == "vkattn-mask":
        return "mask", contents
    if isinstance(contents, list) and contents and "gflops_theirs" in contents[0]:
        # These tables name device and driver in one.
        device, _, driver = contents[0].get("ours", "").partition("), ")
        return "results", {"device": f"{device})" if driver else device, "driver": driver, "commit": "",
                           "results": [], "peers": [dict(row, peer="PyTorch") for row in contents]}
    raise WrongFile(f"{path}: neither results of `vkattn bench --json` nor a schedule of "
                    "`vkattn plan decode --explain --json` nor a map of `vkattn mask --json`")


def powers_of_two(axis, values):
    """Marks an axis at the values that were measured, and not at powers of ten."""
    values = sorted(set(values))
    axis.set_major_locator(ticker.FixedLocator(values))
    axis.set_major_formatter(ticker.FuncFormatter(
        lambda value, _: f"{value / 1024:g}k" if value >= 1024 and value % 1024 == 0 else f"{value:g}"))
    axis.set_minor_locator(ticker.NullLocator())


def plain_logarithm(axis):
    """A logarithmic axis with numbers that people write."""
    axis.set_major_locator(ticker.LogLocator(base=10, subs=(1, 2, 5), numticks=30))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def panels(groups):
    """A figure with an axis for each group, as square as it gets; what is left over is hidden."""
    columns = min(3, len(groups), 2 if len(groups) in (2, 4) else 3)
    rows = -(-len(groups) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(max(5.2, 3.9 * columns), 3.0 * rows + 0.7), squeeze=False)
    for axis in axes.flat[len(groups):]:
        axis.set_visible(False)
    return figure, list(axes.flat)


def of_device(report, reports):
    """What tells a report's lines from those of other devices; nothing where there is one device."""
    devices = sorted({other["device"] for other in reports})
    return f", {report['device']}" if len(devices) > 1 else ""


def legend_below(figure, axes):
    """One legend for all panels, below them, each name once."""
    entries = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels()):
            entries.setdefault(label, handle)
    if entries:
        # About 14 letters fit an inch; a mark takes the place of eight.
        fitting = int(figure.get_figwidth() * 14 / (max(map(len, entries)) + 8))
        figure.legend(entries.values(), entries.keys(), loc="outside lower center",
                      ncols=max(1, min(4, fitting, len(entries))))


def with_spread(axis, points, **style):
    """A line through medians, with bars from p10 to p90: points are (x, y, lowest y, highest y)."""
    points = sorted(points)
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    below = [max(0, point[1] - point[2]) for point in points]
    above = [max(0, point[3] - point[1]) for point in points]
    axis.errorbar(xs, ys, yerr=[below, above], capsize=2, linewidth=1.4, markersize=4.5,
                  elinewidth=0.9, **style)


def rates(result, member):
    """A rate at the median, p90 and p10 of the time."""
    rate = result[member]
    median = result["seconds_median"]
    return rate, rate * median / result["seconds_p90"], rate * median / result["seconds_p10"]


def rate_picture(reports):
    """Operations a second over the sequence length."""
    groups = collections.defaultdict(lambda: collections.defaultdict(dict))
    for report in reports:
        for result in report["results"]:
            shape = sizes(result)
            # One panel compares like with like: what is named after a model is not in it.
            if not result["id"].startswith("attention/") or shape.get("S") != shape.get("T"):
                continue
            group = (result["type"], shape["D"], result["causal"])
            mean, low, high = rates(result, "gflops")
            name = result["path"] + of_device(report, reports)
            groups[group][(0, name)][shape["S"]] = (shape["S"], mean, low, high)
        for row in report.get("peers") or []:
            identifier = row["id"]
            if not identifier.startswith("attention/"):
                continue
            shape = sizes({"id": identifier})
            group = (identifier.split("/")[1], shape["D"], identifier.endswith("-causal"))
            rate = row["gflops_theirs"]
            groups[group][(1, row.get("peer", "PyTorch"))][shape["S"]] = (shape["S"], rate, rate, rate)
            ours = row["gflops_ours"]
            name = row["path"] + of_device(report, reports)
            groups[group][(0, name)].setdefault(shape["S"], (shape["S"], ours, ours, ours))
    groups = {key: lines for key, lines in groups.items()
              if max(len(points) for points in lines.values()) > 1}
    if not groups:
        return None
    names = sorted({name for lines in groups.values() for name in lines})
    ours, peers = [n for n in names if n[0] == 0], [n for n in names if n[0] == 1]
    figure, axes = panels(groups)
    for axis, (group, lines) in zip(axes, sorted(groups.items())):
        for name, points in sorted(lines.items()):
            if name[0] == 0:
                index = ours.index(name)
                style = {"color": COLOURS[index % len(COLOURS)], "label": f"path {name[1]}"}
            else:
                index = peers.index(name)
                style = {"color": PEER_COLOURS[index % 2], "label": name[1],
                         "linestyle": DASHES[1 + index % 3]}
            with_spread(axis, points.values(), marker=MARKS[(index + 3 * name[0]) % 7], **style)
        axis.set_xscale("log", base=2)
        powers_of_two(axis.xaxis, [s for points in lines.values() for s in points])
        axis.set_ylim(bottom=0)
        axis.set_title(f"{group[0]}, D = {group[1]}{', causal' if group[2] else ''}")
        axis.set_xlabel("sequence length S = T (tokens)")
        axis.set_ylabel("GFLOP/s, visible pairs")
    legend_below(figure, axes)
    return figure, "Rate over sequence length. Bars reach from p10 to p90; higher is better."


def roofline_picture(reports):
    """Operations a second over operations for each byte."""
    usable = [report for report in reports
              if (report.get("ceilings") or {}).get("copy_gbps") and report["results"]]
    if not usable:
        return None
    # Points belong below the ceilings of their own run: the file that has most of them.
    report = max(usable, key=lambda report: len(report["results"]))
    ceilings = report["ceilings"]
    copy = ceilings["copy_gbps"]
    roofs = [(name, ceilings[member]) for name, member in
             [("f32 fma", "fma_gflops"), ("f16 matrix units", "matrix_gflops")]
             if ceilings.get(member)]
    points = collections.defaultdict(list)
    for result in report["results"]:
        if result["gbps"] > 0:
            points[(result["family"], result["path"])].append(
                (result["gflops"] / result["gbps"], result["gflops"]))
    figure, axis = plt.subplots(figsize=(7.4, 4.6))
    everything = [point for group in points.values() for point in group]
    left = min([point[0] for point in everything] + [roof / copy for _, roof in roofs]) / 2
    right = max([point[0] for point in everything] + [roof / copy for _, roof in roofs]) * 2
    top = max([roof for _, roof in roofs] or [copy * right])
    knee = top / copy
    axis.plot([left, knee], [left * copy, top], color="#333333", linewidth=1.2)
    middle = math.sqrt(left * knee)
    axis.annotate(f"copy {copy:.3g} GB/s", (middle, middle * copy), textcoords="offset points",
                  xytext=(9, -4), fontsize=8, color="#333333")
    for name, roof in roofs:
        axis.plot([roof / copy, right], [roof, roof], color="#333333", linewidth=1.2)
        axis.annotate(f"{name} {roof:.3g} GFLOP/s", (right, roof), textcoords="offset points",
                      xytext=(-4, 4), ha="right", fontsize=8, color="#333333")
    families = sorted({family for family, _ in points})
    paths = sorted({path for _, path in points})
    for (family, path), group in sorted(points.items()):
        axis.scatter([point[0] for point in group], [point[1] for point in group], s=26, alpha=0.85,
                     color=COLOURS[paths.index(path) % 7], marker=MARKS[families.index(family) % 7],
                     edgecolors="white", linewidths=0.5, label=f"{family}, {path}")
    axis.set_xscale("log")
    axis.set_yscale("log")
    for side in (axis.xaxis, axis.yaxis):
        plain_logarithm(side)
    axis.set_xlim(left, right)
    lowest = min([point[1] for point in everything] + [left * copy])
    axis.set_ylim(lowest / 1.6, top * 1.7)
    axis.set_xlabel("operations for each byte that must move (FLOP/B)")
    axis.set_ylabel("GFLOP/s")
    legend_below(figure, [axis])
    return figure, (f"Roofline of {report['device']}. Lines are what the device reached at best in the same run; a point on a "
                    "line could not be faster.")


def decode_picture(reports):
    """Bytes a second of decode steps over the number of keys."""
    groups = collections.defaultdict(lambda: collections.defaultdict(dict))
    copy = None
    for report in reports:
        copy = (report.get("ceilings") or {}).get("copy_gbps") or copy
        for result in report["results"]:
            if not result["id"].startswith("decode/") or "-ragged" in result["id"] \
                    or "-equal" in result["id"]:
                continue
            shape = sizes(result)
            cache = re.search(r"-E\d+-([a-z][a-z0-9_:]*)", result["id"])
            name = (f"{cache[1] if cache else result['type']} cache, {result['path']}"
                    + of_device(report, reports))
            mean, low, high = rates(result, "gbps")
            title = f"B = {shape['B']}, H = {shape['H']}, G = {shape['G']}, D = {shape['D']}"
            groups[title][name][shape["T"]] = (shape["T"], mean, low, high)
    groups = {title: lines for title, lines in groups.items()
              if max(len(points) for points in lines.values()) > 1}
    if not groups:
        return None
    names = sorted({name for lines in groups.values() for name in lines})
    figure, axes = panels(groups)
    for axis, (title, lines) in zip(axes, sorted(groups.items())):
        for name, points in sorted(lines.items()):
            index = names.index(name)
            with_spread(axis, points.values(), marker=MARKS[index % 7],
                        color=COLOURS[index % len(COLOURS)], linestyle=DASHES[index // 7 % 4],
                        label=name)
        axis.set_xscale("log", base=2)
        powers_of_two(axis.xaxis, [t for points in lines.values() for t in points])
        axis.set_ylim(bottom=0)
        axis.set_title(title)
        axis.set_xlabel("keys in the cache T")
        axis.set_ylabel("GB/s of keys and values")
    legend_below(figure, axes)
    note = f" The device copies {copy:.3g} GB/s, read plus written." if copy else ""
    return figure, f"Decode bandwidth over the number of keys; higher is better.{note}"


def crossover_picture(reports):
    """Time of linear and of softmax attention over the sequence length."""
    groups = collections.defaultdict(lambda: collections.defaultdict(dict))
    for report in reports:
        for result in report["results"]:
            shape = sizes(result)
            identifier = result["id"]
            tokens = shape.get("T")
            linear = re.search(r"(?:^|/)linear/([^/]+)/", identifier)
            if linear and "G" not in shape:
                name = (0, f"{linear[1]} (linear){of_device(report, reports)}")
            elif re.search(r"(?:^|/)attention/", identifier) and shape["S"] == shape["T"] \
                    and shape["D"] == shape["E"] and shape["H"] == shape["G"] and result["causal"] \
                    and "-window" not in identifier:
                name = (1, f"causal softmax{of_device(report, reports)}")
            else:
                continue
            if not tokens or tokens < 2:
                continue
            group = (result["type"], shape["B"], shape["H"], shape["D"])
            seconds = [result[f"seconds_{part}"] * 1e3 for part in ("median", "p10", "p90")]
            groups[group][name][tokens] = (tokens, *seconds)
    # A point alone crosses nothing.
    groups = {key: {name: points for name, points in lines.items() if len(points) > 1}
              for key, lines in groups.items()}
    groups = {key: lines for key, lines in groups.items()
              if {kind for kind, _ in lines} == {0, 1}}
    if not groups:
        return None
    names = sorted({name for lines in groups.values() for name in lines})
    figure, axes = panels(groups)
    for axis, (group, lines) in zip(axes, sorted(groups.items())):
        for name, points in sorted(lines.items()):
            index = names.index(name)
            with_spread(axis, points.values(), marker=MARKS[index % 7], label=name[1],
                        color="#000000" if name[0] else COLOURS[index % 6],
                        linestyle="--" if name[0] else "-")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        powers_of_two(axis.xaxis, [t for points in lines.values() for t in points])
        plain_logarithm(axis.yaxis)
        axis.set_title("{}, B = {}, H = {}, D = {}".format(*group))
        axis.set_xlabel("sequence length T (tokens)")
        axis.set_ylabel("time (ms)")
    legend_below(figure, axes)
    return figure, ("Linear beside softmax attention: softmax grows with the square of the length. Lower "
                    "is better.")


def schedule_picture(schedules):
    """Which tiles each group computes, as bars over time; a unit of time is a tile of keys."""
    if not schedules:
        return None
    plan = schedules[-1]
    rows = plan["schedules"]
    figure, axes = plt.subplots(
        len(rows), 1, figsize=(8.6, 2.5 * len(rows) + 0.9), sharex=True, squeeze=False)
    problems = 1 + max((bar["problem"] for row in rows for bar in row["bars"]), default=0)
    per_sequence = max(1, problems // max(1, len(plan["lengths"])))
    longest = max((row["makespan"] for row in rows), default=1)
    for axis, row in zip(axes.flat, rows):
        for bar in row["bars"]:
            sequence = bar["problem"] // per_sequence
            axis.barh(bar["worker"], bar["tiles"], left=bar["start"], height=0.86,
                      color=COLOURS[sequence % len(COLOURS)], edgecolor="white",
                      linewidth=0.4 if row["workers"] <= 40 else 0.1,
                      hatch=["", "///", "...", "xxx"][sequence // len(COLOURS) % 4])
        axis.axvline(row["ideal"], color="#333333", linestyle=":", linewidth=1.2)
        share = row["ideal"] / row["makespan"] if row["makespan"] else 1
        axis.set_title(f"{row['name']}: done after {row['makespan']} tiles, {share:.0%} of the device "
                       "busy", loc="left")
        axis.set_ylabel("workgroup")
        axis.set_ylim(row["workers"] - 0.4, -0.6)
        axis.yaxis.set_major_locator(ticker.MaxNLocator(integer=True, nbins=8))
        axis.set_xlim(0, longest * 1.02)
        axis.grid(axis="y", visible=False)
    axes.flat[-1].set_xlabel(f"time (tiles of {plan['tile']['keys']} keys); dotted: all workgroups equally busy")
    handles = [plt.Rectangle((0, 0), 1, 1, facecolor=COLOURS[index % len(COLOURS)],
                             hatch=["", "///", "...", "xxx"][index // len(COLOURS) % 4],
                             edgecolor="white")
               for index in range(min(len(plan["lengths"]), 12))]
    labels = [f"{length} keys" for length in plan["lengths"][:12]]
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)),
                  title="a colour for each sequence" + (" (the first 12)" if len(plan["lengths"]) > 12 else ""),
                  title_fontsize=8)
    return figure, ("A decode step by a model that knows no bandwidth: lean cuts give every workgroup the "
                    "same number of tiles, with at most one partial result for each of its ends; whole "
                    "problems end with the longest; splits of one length fill the device as well where "
                    "they are short, and then write more partial results.")


def mask_picture(masks):
    """The blocks of masks, side by side: queries downwards, keys to the right."""
    if not masks:
        return None
    figure, axes = panels(masks)
    colours = ["#F2F2F2", COLOURS[5], COLOURS[0]]
    for axis, mask in zip(axes, masks):
        blocks = [[int(digit) for digit in row] for row in mask["blocks"]]
        extent = (0, len(blocks[0]) * mask["block_keys"], len(blocks) * mask["block_rows"], 0)
        axis.imshow(blocks, cmap=matplotlib.colors.ListedColormap(colours), vmin=0, vmax=2,
                    extent=extent, interpolation="nearest", aspect="equal")
        axis.set_xlim(0, mask["key_tokens"])
        axis.set_ylim(mask["query_tokens"], 0)
        share = mask["empty"] / max(1, mask["empty"] + mask["partial"] + mask["full"])
        text = mask["mask"] if len(mask["mask"]) <= 44 else mask["mask"][:43] + "…"
        axis.set_title(f"{text}\n{share:.0%} of the blocks are skipped", loc="left")
        axis.set_xlabel("key")
        axis.set_ylabel("query")
        axis.grid(visible=False)
    figure.legend([plt.Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor="#bbbbbb")
                   for colour in reversed(colours)],
                  ["full: not masked", "partial: the mask is asked", "empty: skipped"],
                  loc="outside lower center", ncols=3)
    return figure, ("The block maps of masks: a kernel skips empty blocks, and asks the mask in partial "
                    "ones alone.")


PICTURES = [
    ("rate", rate_picture, "results"), ("roofline", roofline_picture, "results"),
    ("decode", decode_picture, "results"), ("crossover", crossover_picture, "results"),
    ("schedule", schedule_picture, "schedule"), ("mask", mask_picture, "mask"),
]


def table(report):
    """The results as rows of HTML."""
    rows = "".join(
        "<tr>" + "".join(f"<td{' class=n' if number else ''}>{html.escape(text)}</td>"
                         for text, number in [
                             (result["id"], False), (result["path"], False),
                             (f"{result['seconds_median'] * 1e3:.3g}", True),
                             (f"{result['seconds_p10'] * 1e3:.3g}", True),
                             (f"{result['seconds_p90'] * 1e3:.3g}", True),
                             (f"{result['gflops']:.3g}", True), (f"{result['gbps']:.3g}", True),
                             (f"{result['ceiling_share']:.0%} {result['ceiling']}"
                              if result.get("ceiling_share") else "", True)]) + "</tr>"
        for result in report["results"])
    head = "".join(f"<th>{name}</th>" for name in [
        "workload", "path", "median ms", "p10", "p90", "GFLOP/s", "GB/s", "share of ceiling"])
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""


def write_report(folder, drawn, reports):
    """One page with everything in it."""
    parts = []
    for name, caption, png in drawn:
        parts.append(f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,'
                     f'{base64.b64encode(png).decode()}"><figcaption>{html.escape(caption)}'
                     "</figcaption></figure>")
    for report in reports:
        when = f" · {report['time']}" if report.get("time") else ""
        parts.append(f"<h2>{html.escape(report['device'])}</h2><p>{html.escape(report['driver'])} · commit "
                     f"{html.escape(report['commit'])}{html.escape(when)}</p>{table(report)}")
    page = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>VulkanAttention: results</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
img {{ max-width: 100%; height: auto }} figure {{ margin: 0 0 2.5rem }} figcaption {{ color: #555 }}
table {{ border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto }}
th, td {{ text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #ddd; white-space: nowrap }}
.n {{ text-align: right; font-variant-numeric: tabular-nums }}
</style>
<h1>VulkanAttention: results</h1>
{chr(10).join(parts)}
</html>
"""
    (folder / "report.html").write_text(page, encoding="utf-8")


def folders(arguments, reports):
    """Where pictures go, and the results that are in them."""
    if not arguments.by_device:
        return [(arguments.out, reports)]
    groups = collections.defaultdict(list)
    for report in reports:
        groups[re.sub(r"[^a-z0-9]+", "-", report["device"].lower()).strip("-")].append(report)
    return [(arguments.out / name, group) for name, group in sorted(groups.items())]


def draw_all(folder, data):
    """Draws what there is data for into a folder, and the page of it."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, draw, kind in PICTURES:
        picture = draw(data[kind])
        if picture is None:
            print(f"{name}: no data")
            continue
        figure, caption = picture
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=150)
        plt.close(figure)
        (folder / f"{name}.png").write_bytes(png.getvalue())
        drawn.append((name, caption, png.getvalue()))
        print(f"{name}: {folder / name}.svg, .png")
    if not drawn:
        raise WrongFile("no picture has data in these files: lines need two lengths at least")
    write_report(folder, drawn, data["results"])
    print(f"report: {folder / 'report.html'}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--by-device", action="store_true",
                        help="a folder with pictures of its own for the results of each device")
    arguments = parser.parse_args()

    data = {"results": [], "schedule": [], "mask": []}
    try:
        for file in arguments.files:
            kind, contents = load(file)
            data[kind].append(contents)
        for folder, reports in folders(arguments, data["results"]):
            draw_all(folder, dict(data, results=reports))
    except (WrongFile, OSError) as error:
        print(f"plot.py: {error}", file=sys.stderr)
        sys.exit(2)
    except (KeyError, TypeError) as error:
        print(f"plot.py: a file lacks or has otherwise {error}; Benchmarks/results/FORMAT.md has the format",
              file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
