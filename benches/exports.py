"""Exports as others make them: float detectors quantised by onnxruntime, in QDQ and in QOperator form, what retinad chooses beside our own float. "mixed": some nodes
have no integer form, and both arithmetics were timed when the model was loaded.

    python exports.py --retinad ../target/release/retinad --models ../../shared/data/peers ../../shared/data/weights [--out EXPORTS.md]

Each file is run by one process after the other, in INT8 and in float, taking turns; the median over all rounds is kept, one thread. The
last column compares the outputs with onnxruntime's of the same quantised file, run as it is written (its own fusions change the numbers
far more than rounding does): the mean difference as a share of each output's range, of the worst output.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

onnxruntime.set_default_logger_severity(3)


class Noise(CalibrationDataReader):
    """Smooth random pictures: what matters here is time, and that ranges are plausible."""

    def __init__(self, name, shape, count=8):
        rng = numpy.random.default_rng(0)
        self.left = []
        block = numpy.ones((1, -(-shape[2] // 8), -(-shape[3] // 8)), dtype=numpy.float32)
        for _ in range(count):
            coarse = rng.random((shape[1], 8, 8), dtype=numpy.float32)
            self.left.append({name: numpy.kron(coarse, block)[None, :, : shape[2], : shape[3]]})

    def get_next(self):
        return self.left.pop() if self.left else None


def picture_input(path):
    """Name and shape of the model's only input, if that is a picture."""
    inputs = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_inputs()
    # A side that the file leaves open is the one in its name.
    side = int(pathlib.Path(path).stem.rsplit("_", 1)[-1]) if path[-6:-5].isdigit() else 1
    shape = [d if isinstance(d, int) else side if i > 1 else 1 for i, d in enumerate(inputs[0].shape)]
    return (inputs[0].name, shape) if len(inputs) == 1 and len(shape) == 4 and shape[1] == 3 else None


def quantised(source, target, form, name, shape):
    """Writes the model in this form; weights per channel where its opset has that, of 7 bits, with which onnxruntime does not
    saturate on CPUs without VNNI either.
    """
    model = onnx.load(source)
    for dimension, size in zip(model.graph.input[0].type.tensor_type.shape.dim, shape):
        dimension.dim_value = size
    fixed = target + ".float"
    onnx.save(model, fixed)
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    quantize_static(fixed, target, Noise(name, shape), quant_format=form, per_channel=opset >= 13,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, reduce_range=True)


def bench(retinad, model, isa):
    command = [retinad, "bench", "--model", model, "--threads", "1", "--runs", "10", "--json", *isa]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def difference(retinad, model, name, shape, folder):
    """Mean difference from onnxruntime as a share of each output's range, of the worst output."""
    picture = Noise(name, shape, 1).get_next()[name]
    numpy.save(folder / "x.npy", picture)
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, plain, providers=["CPUExecutionProvider"])
    expected = session.run(None, {name: picture})
    out = folder / "out"
    done = subprocess.run([retinad, "run-model", model, "--input", folder / "x.npy", "--outputs", out], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    worst = 0.0
    for output, values in zip(session.get_outputs(), expected):
        ours = numpy.load(out / (output.name.replace("/", "_") + ".npy")).reshape(values.shape)
        worst = max(worst, float(numpy.abs(ours - values).mean()) / max(float(numpy.ptp(values)), 1e-9))
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--retinad", required=True)
    parser.add_argument("--models", nargs="+", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    files = sorted(f for folder in arguments.models for f in folder.glob("*.onnx"))
    cpu = next((line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown CPU")
    lines = ["# Exports as others make them", "", f"By `benches/exports.py --rounds {arguments.rounds}`, one thread, {cpu}.", ""]
    lines += ["| model | form | chosen | ms | float, ms | chosen / float | mean difference |", "|---|---|---|---:|---:|---:|---:|"]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for source in files:
            found = picture_input(str(source))
            if not found:
                continue
            for form in (QuantFormat.QDQ, QuantFormat.QOperator):
                target = str(folder / f"{source.stem}-{form.name}.onnx")
                row = f"| {source.stem} | {form.name} "
                try:
                    quantised(str(source), target, form, *found)
                    times, chosen = {"best": [], "float": []}, set()
                    for _ in range(arguments.rounds):
                        report = bench(arguments.retinad, target, [])
                        chosen.add(report["arithmetic"].split(" ")[0].strip(",") + (", mixed" if "timed here" in report["arithmetic"] else ""))
                        times["best"].append(report["median_ms"])
                        times["float"].append(bench(arguments.retinad, target, ["--isa", "float"])["median_ms"])
                    best, plain = (statistics.median(times[key]) for key in ("best", "float"))
                    agrees = difference(arguments.retinad, target, *found, folder)
                    row += f"| {' or '.join(sorted(chosen))} | {best:.1f} | {plain:.1f} | {best / plain:.2f} | {agrees:.5f} |"
                except Exception as error:  # One that cannot be quantised or run is told in its row.
                    row += f"| {type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''} | | | | |"
                lines.append(row)
                print(row, file=sys.stderr, flush=True)
    text = "\n".join(lines) + "\n"
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
