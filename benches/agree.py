"""Logits of the shipped model, ours beside onnxruntime's, on the pictures of a folder.

    cargo bench --bench heads -- PICTURES target/agree 200 && python benches/agree.py target/agree

Prints the mean difference of class logits to onnxruntime as it comes (fused) and with its rewriting off, and how far these two are apart:
the graph amplifies each code that falls to the other side of a tie, so two right evaluations are not equal either.
"""

import pathlib
import sys

import numpy as np
import onnxruntime as ort

MODEL = pathlib.Path(__file__).resolve().parent.parent / "models" / "retinad-m-320-int8.onnx"


def session(level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    return ort.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])


def main():
    folder = pathlib.Path(sys.argv[1])
    fused, plain = session(ort.GraphOptimizationLevel.ORT_ENABLE_ALL), session(ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    names = [output.name for output in fused.get_outputs()]
    names = [n for n in names if n.startswith("cls")] + [n for n in names if n.startswith("box")]
    shape = fused.get_inputs()[0].shape
    inputs = np.fromfile(folder / "input.f32", np.float32).reshape(-1, *shape)
    ours = np.fromfile(folder / "heads.f32", np.float32).reshape(len(inputs), -1)
    # Class logits and box deltas apart; sums over all pictures of |ours - fused|, |ours - plain|, |fused - plain|.
    sums, counts = {"class logits": np.zeros(3), "box deltas": np.zeros(3)}, {"class logits": 0, "box deltas": 0}
    for picture, own in zip(inputs, ours):
        at = 0
        for name, a, b in zip(names, fused.run(names, {"image": picture}), plain.run(names, {"image": picture})):
            kind = "class logits" if name.startswith("cls") else "box deltas"
            own_part, a, b = own[at : at + a.size], a.ravel(), b.ravel()
            at += a.size
            sums[kind] += [np.abs(own_part - a).sum(), np.abs(own_part - b).sum(), np.abs(a - b).sum()]
            counts[kind] += a.size
        assert at == own.size, "heads.f32 is of another model"
    for kind, total in sums.items():
        mean = total / counts[kind]
        print(f"{kind}, {len(inputs)} pictures, mean |difference|: ours to onnxruntime {mean[0]:.4f}, ours to onnxruntime unfused "
              f"{mean[1]:.4f}, the two of onnxruntime {mean[2]:.4f}")  # fmt: skip


if __name__ == "__main__":
    main()
