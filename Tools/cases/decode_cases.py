"""The decode cases: what is special about each, see decode.py.

A maker of an extra tensor takes a source of normal numbers and the case's sizes by letter.
"""

import math

import torch

CAUSAL = {"causal": True}


def slopes(_, shape):
    return torch.tensor([2.0 ** (-8 * (h + 1) / shape["H"]) for h in range(shape["H"])])


def sinks(normal, shape):
    return normal(shape["H"]).float()


def bias_with_holes(normal, shape):
    bias = normal(1, shape["H"], shape["S"], shape["T"])
    return torch.where(bias > 1.2, -math.inf, bias).float()


def mask_with_empty_row(normal, shape):
    mask = (normal(shape["B"], 1, shape["S"], shape["T"]) > -0.3).to(torch.uint8)
    mask[0, 0, 1] = 0
    return mask


# A small S, long T for its size, every ratio of heads.
DECODE = {
    "f32-B1-S1-T1-H1-G1-D8-E8": {},
    "f32-B2-S1-T33-H4-G4-D32-E32": {},
    "f16-B1-S1-T129-H8-G2-D64-E64": {},
    "f16-B2-S1-T61-H10-G2-D32-E32-causal": {"params": CAUSAL},
    "f16-B1-S1-T70-H14-G2-D40-E24": {},
    "bf16-B1-S1-T65-H8-G1-D64-E64": {},
    "bf16-B2-S2-T31-H16-G1-D32-E32-causal": {"params": CAUSAL},
    "f32-B1-S8-T50-H4-G2-D24-E24-causal": {"params": CAUSAL},
    "f32-B5-S1-T48-H4-G1-D16-E16-lengths": {"lengths": [48, 0, 1, 17, 32]},
    "f16-B4-S4-T40-H5-G1-D32-E32-lengths-causal": {
        "params": CAUSAL, "lengths": [0, 2, 40, 25]},
    "f32-B3-S1-T64-H8-G2-D16-E16-lengths-window-sinks": {
        "params": {**CAUSAL, "window_left": 9}, "lengths": [64, 5, 30],
        "extra": {"sinks": sinks}},
    "f16-B2-S3-T37-H7-G1-D16-E16-window-sink-tokens": {
        "params": {**CAUSAL, "window_left": 6, "sink_tokens": 4}},
    "f32-B2-S2-T29-H4-G2-D16-E16-softcap-alibi": {
        "params": {**CAUSAL, "softcap": 1.5}, "extra": {"alibi_slopes": slopes}},
    "f32-B1-S3-T26-H4-G2-D16-E8-bias-scale": {
        "params": {"scale": 0.4}, "extra": {"bias": bias_with_holes}},
    "f16-B2-S4-T23-H4-G1-D16-E16-mask": {"extra": {"mask": mask_with_empty_row}},
    "f32-B1-S6-T4-H2-G1-D8-E8-causal-hidden-rows": {"params": CAUSAL},
    "f32-B1-S4-T20-H2-G1-D8-E8-causal-top-left": {
        "params": {**CAUSAL, "causal_align": "top_left"}},
    "f16-B1-S1-T80-H4-G1-D32-E32-k-bf16-v-f32": {"types": ("bf16", "f32")},
    "f32-B2-S1-T100-H4-G2-D16-E16-splits": {"cutting": {"splits": 3}},
    "f16-B2-S2-T90-H8-G2-D32-E32-fixed": {"cutting": {"mode": "fixed"}, "params": CAUSAL},
}

# Pages of 1, 4, 16 and 64 keys; the page tables are shuffled over all sequences.
PAGED = {
    "f32-B1-S1-H1-G1-D8-E8-page1": {"lengths": [1], "page": 1},
    "f32-B3-S1-H4-G4-D16-E16-page1": {"lengths": [7, 0, 19], "page": 1},
    "f16-B3-S1-H8-G2-D32-E32-page4": {"lengths": [30, 4, 13], "page": 4},
    "f16-B4-S1-H10-G2-D32-E32-page16": {"lengths": [33, 16, 1, 47], "page": 16},
    "bf16-B2-S1-H7-G1-D32-E32-page16": {"lengths": [64, 65], "page": 16},
    "bf16-B3-S1-H8-G1-D24-E16-page64": {"lengths": [63, 64, 10], "page": 64},
    "f16-B2-S1-H16-G1-D64-E64-page64": {"lengths": [60, 129], "page": 64},
    "f32-B2-S5-H5-G1-D16-E16-page4-causal": {"lengths": [11, 22], "page": 4, "params": CAUSAL},
    "f16-B3-S8-H4-G1-D16-E16-page16-causal-short": {
        "lengths": [3, 40, 0], "page": 16, "params": CAUSAL},
    "f32-B4-S1-H4-G2-D16-E16-page16-empty-first-and-last": {
        "lengths": [0, 20, 0, 0], "page": 16},
    "f16-B2-S2-H8-G2-D16-E16-page4-window-sinks": {
        "lengths": [41, 9], "page": 4, "params": {**CAUSAL, "window_left": 10},
        "extra": {"sinks": sinks}},
    "f32-B2-S1-H4-G1-D16-E16-page16-softcap-alibi": {
        "lengths": [37, 5], "page": 16, "params": {"softcap": 2.0},
        "extra": {"alibi_slopes": slopes}},
    "f32-B2-S3-H4-G2-D16-E8-page4-bias": {
        "lengths": [21, 14], "page": 4, "extra": {"bias": bias_with_holes}},
    "f16-B2-S2-H4-G2-D16-E16-page16-mask": {
        "lengths": [35, 18], "page": 16, "extra": {"mask": mask_with_empty_row}},
    "f16-B2-S1-H4-G2-D32-E16-page16-k-f32-v-bf16": {
        "lengths": [50, 3], "page": 16, "types": ("f32", "bf16"), "spare": 3},
    "bf16-B3-S2-H8-G2-D16-E16-page4-fixed": {
        "lengths": [44, 0, 17], "page": 4, "params": CAUSAL,
        "cutting": {"mode": "fixed", "splits": 2}},
}

# R channels of the latent, P of the rotary key.
MLA = {
    "f32-B1-S1-T1-H1-R8-P4": {},
    "f32-B2-S1-T37-H4-R32-P8": {},
    "f16-B1-S1-T40-H16-R64-P16": {},
    "f16-B2-S2-T50-H8-R48-P16-causal": {"params": CAUSAL},
    "bf16-B1-S1-T66-H8-R64-P32": {},
    "bf16-B2-S3-T21-H5-R32-P16-causal-scale": {
        "params": {**CAUSAL, "scale": 1 / math.sqrt(48)}},
    "f32-B3-S1-T45-H7-R24-P8-lengths": {"lengths": [45, 0, 13]},
    "f16-B3-S8-T33-H4-R32-P16-lengths-causal": {"params": CAUSAL, "lengths": [33, 5, 20]},
    "f32-B1-S4-T3-H2-R16-P4-causal-hidden-rows": {"params": CAUSAL},
    "f16-B1-S1-T17-H8-R512-P64-scale": {"params": {"scale": 1 / math.sqrt(192)}},
    "bf16-B1-S2-T12-H4-R512-P64-causal": {"params": {**CAUSAL, "scale": 1 / math.sqrt(192)}},
    "f32-B1-S2-T19-H3-R20-P6-scale": {"params": {"scale": 1.0}},
}
