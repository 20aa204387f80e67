"""How near to its definition a quantised model is run: by us, and by onnxruntime as it comes (fused) and with its rewriting off.

    cargo bench --bench heads -- PICTURES target/agree 200 && python benches/agree.py target/agree

prints the mean |difference| of class logits and box deltas between these three and the definition evaluated in f64 (exact.py). The graph
carries each code that falls to the other side of a tie through all layers after it, so evaluations that differ in one early code differ
everywhere: nearness to another runtime says little, nearness to f64 says who rounds less. On CPUs without VNNI onnxruntime's fused sums
of u8 codes saturate as it comes (peers.py shows whether they do); here it gets weights with which they do not.

    python benches/agree.py --expose target/all.onnx
    cargo bench --bench heads -- PICTURES target/all 4 target/all.onnx
    python benches/agree.py target/all --model target/all.onnx --operators

compares operator by operator, each on the codes that the evaluation at hand gave to it.
"""

import argparse
import collections
import pathlib

import numpy as np
import onnx
import onnxruntime as ort
from exact import Exact

MODEL = pathlib.Path(__file__).resolve().parent.parent / "models" / "retinad-m-320-int8.onnx"
PAIRS = (("ours", "f64"), ("fused", "f64"), ("unfused", "f64"), ("ours", "fused"), ("ours", "unfused"), ("fused", "unfused"))


def unsigned(model):
    """The model's bytes, with its s8 weights as the same weights in u8, whose zero point is 128: sums of these onnxruntime does not let
    saturate on any CPU."""
    model = onnx.load(model)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        weights = tensors.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if weights is None or weights.data_type != onnx.TensorProto.INT8:
            continue
        zeros = onnx.numpy_helper.to_array(tensors[node.input[2]])
        for place, codes in ((0, onnx.numpy_helper.to_array(weights)), (2, zeros)):
            node.input[place] += " u8"
            if node.input[place] not in tensors:
                tensor = onnx.numpy_helper.from_array((codes.astype(np.int16) + 128).astype(np.uint8), node.input[place])
                tensors[tensor.name] = tensor
                model.graph.initializer.append(tensor)
    read = {name for node in model.graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in read]:
        model.graph.initializer.remove(tensor)
    return model.SerializeToString()


def session(model, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    return ort.InferenceSession(unsigned(model), options, providers=["CPUExecutionProvider"])


def expose(source, target):
    """The model with every quantised tensor an output, but those within a channel shuffle, which no integer engine has."""
    model = onnx.load(source)
    graph = model.graph
    readers = collections.defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    outputs = {output.name for output in graph.output}
    for node in graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        dequantisers = [reader for reader in readers[node.output[0]] if reader.op_type == "DequantizeLinear"]
        after = [reader.op_type for dequantiser in dequantisers for reader in readers[dequantiser.output[0]]]
        if {"Reshape", "Transpose"} & set(after) or outputs & {dequantiser.output[0] for dequantiser in dequantisers}:
            continue
        graph.output.append(onnx.helper.make_empty_tensor_value_info(dequantisers[0].output[0]))
    onnx.save(onnx.shape_inference.infer_shapes(model), target)


def evaluations(folder, model):
    """(picture, our outputs, onnxruntime's fused, unfused) of each picture, outputs by name."""
    fused, plain = session(model, ort.GraphOptimizationLevel.ORT_ENABLE_ALL), session(model, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    names, picture = [output.name for output in fused.get_outputs()], fused.get_inputs()[0]
    shapes = None
    with open(folder / "input.f32", "rb") as inputs, open(folder / "heads.f32", "rb") as heads:
        while (values := np.fromfile(inputs, np.float32, np.prod(picture.shape))).size:
            values = values.reshape(picture.shape)
            theirs = [[output[0] for output in session.run(names, {picture.name: values})] for session in (fused, plain)]
            shapes = shapes or [output.shape for output in theirs[0]]
            ours = [np.fromfile(heads, np.float32, np.prod(shape)).reshape(shape) for shape in shapes]
            yield values[0], *(dict(zip(names, outputs)) for outputs in (ours, *theirs))
        assert not heads.read(1), "heads.f32 is of another model"


def whole(folder, model):
    exact = Exact(model)
    sums, counts, pictures = collections.defaultdict(float), collections.Counter(), 0
    for picture, ours, fused, plain in evaluations(folder, model):
        found = {"ours": ours, "fused": fused, "unfused": plain, "f64": exact.run(picture)}
        pictures += 1
        for name in ours:
            kind = "class logits" if name.startswith("cls") else "box deltas"
            counts[kind] += ours[name].size
            for pair in PAIRS:
                sums[kind, pair] += np.abs(found[pair[0]][name] - found[pair[1]][name].astype(np.float64)).sum()
    print(f"{model.name}, {pictures} pictures, mean |difference|\n")
    print(f"| | {' | '.join(' to '.join(pair) for pair in PAIRS)} |\n|---|{'---|' * len(PAIRS)}")
    for kind in counts:
        print(f"| {kind} | {' | '.join(f'{sums[kind, pair] / counts[kind]:.4f}' for pair in PAIRS)} |")


def kind_of(exact, quantiser):
    """What a quantiser follows, in words."""
    words, name = [], quantiser.input[0]
    while name in exact.producers and exact.producers[name].op_type not in ("QuantizeLinear", "DequantizeLinear"):
        node = exact.producers[name]
        words.insert(0, node.op_type)
        if node.op_type == "Conv":
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            side = attributes["kernel_shape"][0]
            words[0] = f"{'depthwise' if attributes.get('group', 1) > 1 else 'Conv'} {side}x{side}"
        if node.op_type in ("Conv", "Add", "Concat"):
            break
        name = node.input[0]
    return ", ".join(words).replace("Reshape", "Concat and shuffle") or "picture"


def operators(folder, model):
    exact = Exact(model)
    quantisers = {node.output[0]: node for node in exact.graph.node if node.op_type == "QuantizeLinear"}
    # Codes are read back from the dequantised outputs, which are exactly (code - zero) * scale.
    behind = {name: quantisers[exact.producers[name].input[0]] for name in exact.outputs}
    for title, number in (("ours", 1), ("onnxruntime unfused", 3)):
        # Outputs, those apart, the most a code is apart, the sum of how far.
        found = collections.defaultdict(lambda: np.zeros(4))

        def seen(quantiser, given, own):
            apart = given - own
            row = found[kind_of(exact, quantiser)]
            row[:] = row[0] + apart.size, row[1] + np.count_nonzero(apart), max(row[2], np.abs(apart).max()), row[3] + apart.sum()

        for evaluation in evaluations(folder, model):
            given = {}
            for name, values in evaluation[number].items():
                scale, zero = (exact.constants[constant] for constant in behind[name].input[1:3])
                given[behind[name].output[0]] = np.rint(values / np.float64(scale)) + int(zero)
            exact.run(evaluation[0], given, seen)
        print(f"\n{title}, each operator to f64 on the same codes\n")
        print("| operator | outputs | apart | share | most | mean, codes |\n|---|---|---|---|---|---|")
        for kind, (count, apart, most, total) in [*sorted(found.items()), ("all", np.array(list(found.values())).sum(0))]:
            most = max(row[2] for row in found.values()) if kind == "all" else most
            print(f"| {kind} | {count:.0f} | {apart:.0f} | {apart / count:.1e} | {most:.0f} | {total / count:+.1e} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=pathlib.Path, help="what `cargo bench --bench heads` wrote")
    parser.add_argument("--model", type=pathlib.Path, default=MODEL)
    parser.add_argument("--operators", action="store_true", help="operator by operator; wants a model of --expose")
    parser.add_argument("--expose", type=pathlib.Path, metavar="OUT", help="write the model with every quantised tensor an output")
    args = parser.parse_args()
    if args.expose:
        expose(args.model, args.expose)
    elif args.folder is None:
        parser.error("a folder or --expose is needed")
    else:
        (operators if args.operators else whole)(args.folder, args.model)


if __name__ == "__main__":
    main()
