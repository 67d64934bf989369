"""The cases of linear attention: what is special about each, see linear.py.

A case's name spells its type and sizes: B batch, T tokens, H value heads, G heads of q and k, K and V
channels. The lists name what is beside q, k and v; linear.py makes the numbers.
"""

DELTA = {"rule": "delta"}

LINEAR = {
    "f32-B1-T1-H1-G1-K8-V8": {},
    "f32-B2-T37-H3-G3-K16-V24": {},
    "f16-B1-T130-H2-G2-K64-V64": {},
    "bf16-B1-T65-H2-G2-K32-V48": {},
    "f32-B1-T50-H2-G2-K20-V12-state-scale": {"with": ["initial_state"], "params": {"scale": 1.0}},
    "f32-B1-T100-H4-G4-K32-V32-decay": {"with": ["decay"]},
    "f16-B2-T129-H4-G2-K64-V32-decay-state": {"with": ["decay", "initial_state"]},
    "f32-B2-T75-H2-G2-K32-V16-scalar": {"with": ["g"]},
    "f16-B1-T200-H4-G1-K64-V64-scalar-state": {"with": ["g", "initial_state"]},
    "bf16-B1-T90-H2-G2-K32-V32-scalar": {"with": ["g"]},
    "f32-B1-T64-H2-G2-K16-V16-scalar-strong": {"with": ["g"], "gate": 20.0},
    "f32-B1-T64-H2-G2-K16-V16-scalar-resets": {"with": ["g"], "resets": 7},
    "f32-B2-T70-H2-G2-K32-V16-vector": {"with": ["gk"]},
    "f16-B1-T140-H2-G2-K64-V64-vector-state": {"with": ["gk", "initial_state"]},
    "f32-B1-T64-H2-G2-K16-V16-vector-strong": {"with": ["gk"], "gate": 30.0},
    "f32-B1-T45-H2-G2-K16-V24-value-vector": {"with": ["g_value"]},
    "f32-B1-T45-H2-G2-K16-V24-vector-value-vector": {"with": ["gk", "g_value"]},
    "f32-B1-T80-H2-G2-K32-V32-delta": {"with": ["beta"], "params": DELTA},
    "f16-B2-T66-H4-G2-K32-V32-delta-scalar": {
        "with": ["beta", "g", "initial_state"], "params": DELTA},
    "f32-B1-T100-H2-G2-K64-V64-delta-scalar": {"with": ["beta", "g"], "params": DELTA},
    "f32-B1-T70-H4-G2-K32-V16-delta-vector": {"with": ["beta", "gk"], "params": DELTA},
    "f16-B1-T70-H2-G2-K64-V64-delta-vector-state": {
        "with": ["beta", "gk", "initial_state"], "params": DELTA},
    "f32-B1-T60-H2-G2-K16-V16-delta-erase-keys": {
        "with": ["beta", "g", "erase_keys"], "params": DELTA},
    "f32-B1-T60-H2-G2-K16-V16-delta-channel-gates": {
        "with": ["gk", "erase_gates", "write_gates"], "params": DELTA},
    "f32-B1-T60-H2-G2-K16-V16-low-rank": {"with": ["gk", "low_rank"]},
    "f16-B1-T60-H2-G2-K64-V64-low-rank-state": {"with": ["gk", "low_rank", "initial_state"]},
    "f32-B1-T60-H2-G2-K16-V16-before-bonus": {
        "with": ["gk", "bonus", "initial_state"], "params": {"read": "before"}},
    "f32-B1-T60-H2-G2-K16-V16-before": {"with": ["gk"], "params": {"read": "before"}},
    "f32-B1-T90-H2-G2-K16-V16-elu1-normalize": {
        "params": {"feature": "elu1", "normalize": True}},
    "f16-B1-T90-H2-G2-K32-V32-relu-normalize-decay": {
        "with": ["decay"], "params": {"feature": "relu", "normalize": True}},
    "f32-B1-T40-H2-G2-K16-V16-taylor2-normalize": {
        "params": {"feature": "taylor2", "normalize": True, "scale": 1.0}},
    "f32-B1-T50-H2-G2-K16-V16-softmax": {"params": {"feature": "softmax"}},
    "f32-B2-T50-H2-G2-K16-V24-not-causal": {"params": {"causal": False}},
    "f32-B1-T50-H2-G1-K16-V16-not-causal-elu1-normalize": {
        "params": {"causal": False, "feature": "elu1", "normalize": True}},
    "f32-B1-T60-H2-G2-K16-V16-packed-scalar": {
        "with": ["g", "initial_state"], "starts": [0, 1, 1, 18, 55]},
    "f16-B1-T150-H2-G1-K32-V32-packed-delta": {
        "with": ["beta", "g"], "params": DELTA, "starts": [0, 15, 100, 150]},
    "f32-B1-T60-H2-G2-K16-V16-packed-vector": {"with": ["gk"], "starts": [3, 20, 57]},
    "f32-B2-T40-H2-G2-K16-V16-sequence-ids": {"with": ["g", "sequence_ids", "initial_state"]},
    "f32-B1-T90-H2-G2-K16-V16-scalar-chunk": {"with": ["g"], "params": {"form": "chunk"}},
    "f32-B1-T90-H2-G2-K16-V16-scalar-recurrent": {"with": ["g"], "params": {"form": "recurrent"}},
}

SSD = {
    "f32-B1-T1-H1-G1-K8-V8": {},
    "f32-B2-T70-H4-G2-K16-V24": {},
    "f16-B1-T130-H4-G1-K64-V32-skip": {"with": ["d"]},
    "bf16-B1-T70-H2-G1-K32-V32-skip-state": {"with": ["d", "initial_state"]},
    "f32-B1-T90-H4-G1-K32-V16-skip-gate": {"with": ["d", "z"]},
    "f32-B1-T90-H4-G2-K16-V16-softplus": {
        "with": ["d", "dt_bias", "initial_state"], "params": {"dt_softplus": True}},
    "f32-B1-T90-H2-G1-K16-V16-chunk16": {"params": {"chunk": 16}},
    "f32-B1-T60-H2-G1-K16-V16-packed": {"with": ["d"], "starts": [0, 20, 20, 60]},
    "f32-B2-T40-H2-G1-K16-V16-sequence-ids": {"with": ["sequence_ids"]},
}
