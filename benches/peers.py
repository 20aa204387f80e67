"""Ours beside other runtimes: same model, same machine, one process each, taking turns.

    python peers.py --retinad ../target/release/retinad --out RESULTS.md

A round runs every runtime once, in its own process; the least CPU time and the median over all rounds are kept. CPU time is the
process's own over the timed runs, so a busy machine disturbs it less than the clock. With two threads the clock is what counts.
LiteRT runs the s8 form as a TFLite file that tflite.py writes, with pictures in NHWC as that form has them.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
SHIPPED = ROOT / "models" / "retinad-m-320-int8.onnx"
BENCH = DATA / "bench" / "retinanet-lite0-320-int8-u8.onnx"
RESNET = ROOT / "target" / "resnet50-fpn-320-int8.onnx"
NANODET = DATA / "peers" / "nanodet-plus-m-1.5x_416_int8.param"
SIDE = 320


def paired(source, target):
    """The shipped graph with a quantiser between each Conv and its LeakyRelu: the form that other runtimes fuse.

    It borrows the scale of the quantiser after the LeakyRelu, so its detections are worse; its time is that of the stock form. Returns
    how many there are.
    """
    import onnx

    model = onnx.load(source)
    graph = model.graph
    producer = {output: node for node in graph.node for output in node.output}
    readers = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    nodes, found = [], 0
    for node in graph.node:
        conv = producer.get(node.input[0]) if node.op_type == "LeakyRelu" else None
        after = [n for n in readers.get(node.output[0], []) if n.op_type == "QuantizeLinear"]
        if conv is not None and conv.op_type == "Conv" and after:
            name = node.input[0]
            nodes.append(onnx.helper.make_node("QuantizeLinear", [name, *after[0].input[1:]], [name + "_q"], name + "_q"))
            nodes.append(onnx.helper.make_node("DequantizeLinear", [name + "_q", *after[0].input[1:]], [name + "_d"], name + "_d"))
            node.input[0] = name + "_d"
            found += 1
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, target)
    return found


def signed(source, target):
    """The same graph with s8 codes: every u8 zero point of an activation 128 lower. Its outputs are the same numbers."""
    import numpy
    import onnx

    model = onnx.load(source)
    graph = model.graph
    weights = {node.input[2] for node in graph.node if node.op_type == "DequantizeLinear" and len(node.input) > 2}
    weights -= {node.input[2] for node in graph.node if node.op_type == "QuantizeLinear"}
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.UINT8 and tensor.name not in weights:
            codes = onnx.numpy_helper.to_array(tensor).astype(numpy.int16) - 128
            tensor.CopyFrom(onnx.numpy_helper.from_array(codes.astype(numpy.int8), tensor.name))
    for info in graph.value_info:
        if info.type.tensor_type.elem_type == onnx.TensorProto.UINT8:
            info.type.tensor_type.elem_type = onnx.TensorProto.INT8
    onnx.save(model, target)


def timed(run, runs):
    """CPU and clock milliseconds of each run, after three to warm up."""
    cpu, wall = [], []
    for number in range(runs + 3):
        begun = time.process_time(), time.perf_counter()
        run()
        if number >= 3:
            cpu.append((time.process_time() - begun[0]) * 1e3)
            wall.append((time.perf_counter() - begun[1]) * 1e3)
    return {"cpu": cpu, "wall": wall}


def onnxruntime(model, threads, runs):
    import numpy
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: numpy.zeros((1, 3, SIDE, SIDE), numpy.float32)}
    return timed(lambda: session.run(None, feed), runs)


def openvino(model, threads, runs):
    import numpy
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    picture = numpy.zeros((1, 3, SIDE, SIDE), numpy.float32)
    return timed(lambda: request.infer([picture]), runs)


def ncnn(model, threads, runs):
    import ncnn as peer
    import numpy

    net = peer.Net()
    net.opt.num_threads = threads
    net.opt.use_int8_inference = True
    if net.load_param(model) or net.load_model(model.removesuffix("param") + "bin"):
        raise SystemExit(f"{model}: not loaded")
    picture = numpy.zeros((3, SIDE, SIDE), numpy.float32)

    def run():
        extractor = net.create_extractor()
        extractor.input("data", peer.Mat(picture))
        for level in (8, 16, 32, 64):
            for head in ("cls", "dis"):
                extractor.extract(f"{head}{level}")

    return timed(run, runs)


def litert(model, threads, runs):
    import numpy
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model, num_threads=threads)
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]
    picture = numpy.zeros(place["shape"], numpy.float32)

    def run():
        interpreter.set_tensor(place["index"], picture)
        interpreter.invoke()

    return timed(run, runs)


PEERS = {"onnxruntime": onnxruntime, "openvino": openvino, "ncnn": ncnn, "litert": litert}


def probe(target):
    """A convolution whose every output is 64 x 255 x 127, at the end of both ranges, in steps of 10,000. Returns the code that is right."""
    import numpy
    import onnx
    from onnx import helper, numpy_helper

    values = {"one": numpy.float32(1), "zero": numpy.uint8(0), "weights": numpy.full((16, 64, 1, 1), 127, numpy.int8),
              "ones": numpy.ones(16, numpy.float32), "zeros": numpy.zeros(16, numpy.int8), "step": numpy.float32(10_000)}  # fmt: skip
    nodes = (("QuantizeLinear", ["x", "one", "zero"], "codes"), ("DequantizeLinear", ["codes", "one", "zero"], "real"),
             ("DequantizeLinear", ["weights", "ones", "zeros"], "kernel"), ("Conv", ["real", "kernel"], "sums"),
             ("QuantizeLinear", ["sums", "step", "zero"], "steps"), ("DequantizeLinear", ["steps", "one", "zero"], "y"))  # fmt: skip
    made = [helper.make_node(kind, inputs, [output], **({"axis": 0} if output == "kernel" else {})) for kind, inputs, output in nodes]
    ends = [[helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, depth, 4, 4))] for name, depth in (("x", 64), ("y", 16))]
    constants = [numpy_helper.from_array(numpy.asarray(value), name) for name, value in values.items()]
    model = helper.make_model(helper.make_graph(made, "probe", *ends, constants), opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, target)
    return round(64 * 255 * 127 / 10_000)


def probed(runtime, model):
    """The code that a runtime gives for it."""
    import numpy

    picture = numpy.full((1, 64, 4, 4), 255, numpy.float32)
    if runtime == "onnxruntime":
        import onnxruntime as ort

        found = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": picture})[0]
    else:
        import openvino as ov

        found = ov.Core().compile_model(model, "CPU")([picture])[0]
    return int(found.ravel()[0])


def saturation(args):
    """Rows of what each runtime makes of the probe: instructions that add pairs of products in 16 bits lose half of it."""
    model = args.scratch / "probe.onnx"
    right = probe(model)
    runtimes = (("onnxruntime", "onnxruntime", None), ("OpenVINO", "openvino", None), ("OpenVINO held to AVX2", "openvino", "AVX2"))
    for name, runtime, isa in runtimes:
        command = [sys.executable, __file__, "--probe", runtime, str(model)]
        environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa or "ALL"}
        found = int(subprocess.run(command, check=True, capture_output=True, env=environment).stdout.splitlines()[-1])
        yield f"| {name} | {found} | {right} | {'exact' if found == right else 'saturates'} |"


class NotRun(str):
    """Why a row has no figures; it stands where the row's model would."""


def tflite_of(source, target):
    """The model as a TFLite file, or why it has no such form."""
    import tflite

    try:
        tflite.convert(source, target)
    except tflite.Refused as refusal:
        return NotRun(f"no int8 form in TFLite: {refusal}")
    return target


def measure(args, runtime, model, threads, isa):
    if runtime == "retinad":
        command = [args.retinad, "bench", "--json", "--model", str(model), "--threads", str(threads), "--runs", str(args.runs)]
        found = json.loads(subprocess.run(command + (["--isa", isa] if isa else []), check=True, capture_output=True).stdout)
        return {"cpu": found["cpu_ms"], "wall": found["wall_ms"]}
    command = [sys.executable, __file__, "--one", runtime, str(model), str(threads), str(args.runs)]
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa or "ALL"}
    done = subprocess.run(command, check=True, capture_output=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def peak(args):
    """What retinad reaches of its core's own measured peak on the bench model, by instruction set."""
    for isa in instruction_sets(args)[1:]:
        command = [args.retinad, "bench", "--json", "--model", str(BENCH), "--threads", "1", "--runs", str(args.runs), "--isa", isa]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        yield f"| {isa} | {found['peak_gmac_s']:.0f} | {found['share_of_peak']:.0%} |"


def rows(args):
    """(title, figure, threads, [(name, runtime, model, instruction set)]); ours first."""
    sets = instruction_sets(args)
    stock = args.scratch / "stock.onnx"
    paired(SHIPPED, stock)
    wide = "AVX512_CORE_VNNI"
    if BENCH.exists():
        s8 = args.scratch / "bench-s8.onnx"
        signed(BENCH, s8)
        lite = tflite_of(s8, args.scratch / "bench-s8.tflite")
        peers = [("onnxruntime", "onnxruntime", BENCH, None), ("OpenVINO", "openvino", BENCH, None), ("LiteRT", "litert", lite, None)]
        held = BENCH if "avx512-vnni" in sets else NotRun("this CPU has no AVX-512 VNNI")
        yield "Bench model, 1 thread", "cpu", 1, [
            ("retinad", "retinad", BENCH, None), *peers, (f"OpenVINO held to {wide}", "openvino", held, wide),
        ]
        held = BENCH if "avx-vnni" in sets else NotRun("this CPU has no AVX-VNNI")
        yield "Bench model, 1 thread, both held to avx-vnni", "cpu", 1, [
            ("retinad --isa avx-vnni", "retinad", held, "avx-vnni"), ("OpenVINO held to AVX2_VNNI", "openvino", held, "AVX2_VNNI"),
        ]
        held = BENCH if "avx2" in sets else NotRun("this CPU has no AVX2")
        # onnxruntime and LiteRT cannot be held to a set: what they are on AVX2 is seen where the CPU has no more.
        more = [name for name in sets if "vnni" in name]
        free = NotRun(f"takes {more[-1]}, which this CPU has, and cannot be held back") if more else held
        yield "Bench model, 1 thread, held to avx2", "cpu", 1, [
            ("retinad --isa avx2", "retinad", held, "avx2"), ("OpenVINO held to AVX2", "openvino", held, "AVX2"),
            ("onnxruntime", "onnxruntime", free, None), ("LiteRT", "litert", free if isinstance(free, NotRun) else lite, None),
        ]
        yield "Bench model with s8 codes, 1 thread", "cpu", 1, [
            ("retinad, s8", "retinad", s8, None), ("retinad, u8", "retinad", BENCH, None), ("onnxruntime, s8", "onnxruntime", s8, None),
            ("LiteRT, s8", "litert", lite, None),
        ]
        yield "Bench model, 2 threads (clock)", "wall", 2, [("retinad", "retinad", BENCH, None), *peers]
    if RESNET.exists():
        yield "ResNet-50-FPN (torchvision, random weights), 320, 1 thread", "cpu", 1, [
            ("retinad", "retinad", RESNET, None), ("onnxruntime", "onnxruntime", RESNET, None), ("OpenVINO", "openvino", RESNET, None),
        ]
    peers = [("retinad", "retinad", SHIPPED, None)]
    for name, model in (("shipped form", SHIPPED), ("stock form", stock)):
        lite = tflite_of(model, args.scratch / f"{model.stem}.tflite")
        peers += [
            (f"onnxruntime, {name}", "onnxruntime", model, None), (f"OpenVINO, {name}", "openvino", model, None),
            (f"LiteRT, {name}", "litert", lite, None),
        ]
    if NANODET.exists():
        peers.append(("ncnn, NanoDet-Plus-m-1.5x 320 int8", "ncnn", NANODET, None))
    yield "Shipped model, 1 thread", "cpu", 1, peers


def instruction_sets(args):
    """Instruction sets that this CPU has, as retinad names them."""
    command = [args.retinad, "bench", "--json", "--model", str(SHIPPED), "--threads", "1", "--runs", "1"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["isas"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--retinad", default=str(ROOT / "target" / "release" / "retinad"))
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "benches" / "RESULTS.md")
    parser.add_argument("--scratch", type=pathlib.Path, default=ROOT / "target")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--runs", type=int, default=20)
    args = parser.parse_args()
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown CPU")
    text = [
        "# Beside other runtimes", "", "Written by `make bench-peers`; do not edit.", "",
        f"{cpu}, {os.cpu_count()} cores; instruction sets {', '.join(instruction_sets(args))}. {args.rounds} rounds in turn, {args.runs} runs"
        " a round after three to warm up, a process each. Milliseconds a frame: CPU time of the process, or the clock where it says so."
        " Ratios: ours by theirs, under 1 ours is faster. Where medians are far above minima the machine was busy with others' work;"
        " minima are then the better measure.", "",
    ]
    if not BENCH.exists():
        text += ["The bench model was not there: its rows were not run.", ""]
    if not RESNET.exists():
        text += ["The ResNet-50-FPN model was not there: `make resnet` writes it. Its row was not run.", ""]
    for title, figure, threads, runtimes in rows(args):
        times = {name: [] for name, _, model, _ in runtimes if not isinstance(model, NotRun)}
        for _ in range(args.rounds):
            for name, runtime, model, isa in runtimes:
                if name in times:
                    times[name] += measure(args, runtime, model, threads, isa)[figure]
        text += [f"## {title}", "", "| runtime | median | minimum | ratio of medians | of minima |", "|---|---|---|---|---|"]
        for name, _, model, _ in runtimes:
            if name not in times:
                text.append(f"| {name} | not run: {model} | | | |")
                continue
            (median, least), (our_median, our_least) = ((statistics.median(times[row]), min(times[row])) for row in (name, runtimes[0][0]))
            text.append(f"| {name} | {median:.2f} | {least:.2f} | {our_median / median:.2f} | {our_least / least:.2f} |")
        text.append("")
        print("\n".join(text[-len(runtimes) - 5:]), flush=True)
    if BENCH.exists():
        text += ["## Share of the core's own peak, bench model, 1 thread", "", "| set | peak, GMAC/s | share |", "|---|---|---|", *peak(args), ""]
    text += [
        "## Sums of u8 codes times s8 weights at the ends of their ranges", "",
        "Where they saturate, pairs of products are added in 16 bits: faster, and other numbers. Ours are exact on every instruction set.", "",
        "| runtime | gives | right | |", "|---|---|---|---|", *saturation(args), "",
    ]
    args.out.write_text("\n".join(text).rstrip() + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        runtime, model, threads, runs = sys.argv[2:]
        print(json.dumps(PEERS[runtime](model, int(threads), int(runs))))
    elif sys.argv[1:2] == ["--probe"]:
        print(probed(*sys.argv[2:]))
    else:
        main()
