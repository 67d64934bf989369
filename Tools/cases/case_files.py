"""What the scripts that write case files share: where the files lie, how one is written and compared."""

import argparse
import json
import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file

CASES_FOLDER = pathlib.Path(__file__).resolve().parents[2] / "Tests" / "Cases"
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def metadata(op, params, origin, agreements, **more):
    """The metadata of a case: what it asks for, and where its expected values are from."""
    source = ", ".join([origin] + [f"agrees with {check}" for check in agreements])
    description = {"version": 1, "op": op, "params": params, "source": source, **more}
    return {"vkattn": json.dumps(description, sort_keys=True)}


def agrees(path, tensors):
    """Whether the file holds these tensors: inputs bit for bit, outputs to the last places."""
    stored = load_file(path)
    if stored.keys() != tensors.keys():
        return False
    return all(
        torch.allclose(stored[key].double(), tensors[key].double(), equal_nan=True,
                       rtol=1e-6 if key.startswith("expected.") else 0,
                       atol=1e-6 if key.startswith("expected.") else 0)
        for key in tensors)


def write_cases(about, families, remark=lambda: ""):
    """Writes the cases, or compares them with the files that are there, as the command line says.

    families: for each folder its name, the cases' names, and what makes tensors and metadata of a name.
    remark: what is said behind the count at the end.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    parser.add_argument("--output", type=pathlib.Path, default=CASES_FOLDER)
    arguments = parser.parse_args()

    total, count, wrong = 0, 0, []
    for folder, names, make in families:
        (arguments.output / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            path = arguments.output / folder / f"{name}.safetensors"
            tensors, described = make(name)
            tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
            if not arguments.check:
                save_file(tensors, path, metadata=described)
            elif not path.exists() or not agrees(path, tensors):
                wrong.append(str(path))
                continue
            total += path.stat().st_size
            count += 1
    print(f"{count} cases, {total} bytes{remark()}")
    if wrong:
        sys.exit("differ:\n  " + "\n  ".join(wrong))
