"""A quantised ONNX graph (QDQ form) as an int8 TFLite file, for LiteRT: the same codes, weights and scales, moved to NHWC.

    python tflite.py MODEL.onnx OUT.tflite [PICTURES.f32]

With inputs of `cargo bench --bench heads` it also prints how far the heads are from the definition in f64 (exact.py), beside
onnxruntime's distance. u8 codes become s8 codes (zero point 128 lower). What TFLite has no form for is refused with the node's name.

Padding: TFLite knows SAME and VALID. SAME is written where it puts the same rows and columns; elsewhere (windows of stride 2 over an even
side, where SAME pads below and to the right only) a PAD before a VALID window, which XNNPACK folds into the convolution. Below a maximum
it is PADV2 with the lowest code.
"""

import sys

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import numpy_helper

OPERATOR, OPTIONS, ACTIVATION, PADDING = schema.BuiltinOperator, schema.BuiltinOptions, schema.ActivationFunctionType, schema.Padding
# Lowest version of each operator's int8 form.
VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "ADD": 2, "DEQUANTIZE": 2, "MAX_POOL_2D": 2, "CONCATENATION": 2, "SPLIT": 2, "PAD": 2,
            "PADV2": 2, "LEAKY_RELU": 2, "RESIZE_NEAREST_NEIGHBOR": 2, "RELU": 2, "TRANSPOSE": 4}  # fmt: skip


class Refused(Exception):
    """A node that TFLite's int8 form cannot express."""


class Pending:
    """A float result that waits for its quantiser, which gives the scale of the operator's output."""

    def __init__(self, emit, shape, fused=None):
        self.emit, self.shape, self.fused = emit, shape, fused


class File:
    """A TFLite file in the making."""

    def __init__(self):
        self.tensors, self.operators, self.codes = [], [], []
        self.buffers = [schema.BufferT()]
        self.constants = {}

    def tensor(self, name, shape, kind, quantised=None, data=None, axis=0):
        new = schema.TensorT()
        new.name, new.shape, new.type, new.buffer = name, [int(side) for side in shape], kind, 0
        if quantised is not None:
            new.quantization = schema.QuantizationParametersT()
            new.quantization.scale = [float(scale) for scale in np.ravel(quantised[0])]
            new.quantization.zeroPoint = [int(zero) for zero in np.ravel(quantised[1])]
            new.quantization.quantizedDimension = axis
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            new.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.tensors.append(new)
        return len(self.tensors) - 1

    def int32(self, name, values):
        """A constant of the operators' parameters; equal ones are one."""
        values = np.asarray(values, np.int32)
        key = values.shape, values.tobytes()
        if key not in self.constants:
            self.constants[key] = self.tensor(name, values.shape, schema.TensorType.INT32, data=values)
        return self.constants[key]

    def operator(self, name, inputs, outputs, **options):
        if name not in self.codes:
            self.codes.append(name)
        new = schema.OperatorT()
        new.opcodeIndex, new.inputs, new.outputs = self.codes.index(name), inputs, outputs
        kind = "Pool2DOptions" if name == "MAX_POOL_2D" else "".join(word.capitalize() for word in name.split("_")) + "Options"
        kind = kind.replace("2dOptions", "2DOptions").replace("Padv2", "PadV2")
        if hasattr(OPTIONS, kind):
            new.builtinOptionsType = getattr(OPTIONS, kind)
            new.builtinOptions = getattr(schema, kind + "T")()
            for key, value in options.items():
                assert hasattr(new.builtinOptions, key), (kind, key)
                setattr(new.builtinOptions, key, value)
        self.operators.append(new)

    def packed(self, inputs, outputs):
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = self.tensors, self.operators, inputs, outputs
        model = schema.ModelT()
        model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], self.buffers, []
        for name in self.codes:
            code = schema.OperatorCodeT()
            code.builtinCode = getattr(OPERATOR, name)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = VERSIONS.get(name, 1)
            model.operatorCodes.append(code)
        builder = flatbuffers.Builder(1 << 24)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


class Converter:
    """Reads an ONNX graph node by node. Values are codes (tensor indices), pending results or constants."""

    def __init__(self, model):
        self.graph, self.file = model.graph, File()
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        self.codes, self.values, self.weights = {}, {}, {}
        self.shapes = {}
        readers = [name for node in self.graph.node for name in node.input] + [output.name for output in self.graph.output]
        self.readers = {name: readers.count(name) for name in set(readers)}
        names = [value.name for value in self.graph.input if value.name not in self.constants]
        assert len(names) == 1, "one input"
        self.input = names[0]
        shape = next(value for value in self.graph.input if value.name == self.input).type.tensor_type.shape.dim
        batch, channels, height, width = (side.dim_value for side in shape)
        self.picture = self.file.tensor(self.input, (batch, height, width, channels), schema.TensorType.FLOAT32)

    def convert(self):
        for node in self.graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            read = getattr(self, node.op_type.lower(), None)
            if read is None:
                raise Refused(f"{node.op_type} `{node.name}`: no int8 form is known")
            try:
                read(node, attributes)
            except Refused as refusal:
                raise Refused(f"{node.op_type} `{node.name or node.output[0]}`: {refusal}") from None
        outputs = []
        for output in self.graph.output:
            codes = self.of(output.name)
            real = self.file.tensor(output.name, self.file.tensors[codes].shape, schema.TensorType.FLOAT32)
            self.file.operator("DEQUANTIZE", [codes], [real])
            outputs.append(real)
        return self.file.packed([self.picture], outputs)

    def of(self, name):
        """Codes of a dequantised value."""
        value = self.values.get(name)
        if not isinstance(value, int):
            raise Refused(f"reads `{name}` before it is quantised, and int8 operators give int8 codes only")
        return value

    def shape(self, index):
        return list(self.file.tensors[index].shape)

    def parameters(self, index):
        found = self.file.tensors[index].quantization
        return np.float32(found.scale[0]), int(found.zeroPoint[0])

    def scale_of(self, node):
        """Scale and zero point in s8 codes."""
        scale, zero = self.constants[node.input[1]], self.constants[node.input[2]]
        if zero.size != 1:
            return scale, zero.astype(int)
        return np.float32(scale.ravel()[0]), int(zero.ravel()[0]) - (128 if zero.dtype == np.uint8 else 0)

    def with_scale(self, index, quantised):
        """The codes, moved to another scale where it is another."""
        if self.parameters(index) == quantised:
            return index
        moved = self.file.tensor(f"{self.file.tensors[index].name}/moved", self.shape(index), schema.TensorType.INT8, quantised)
        self.file.operator("QUANTIZE", [index], [moved])
        return moved

    def constant(self, node, _):
        tensor = next(a.t for a in node.attribute if a.name == "value")
        self.constants[node.output[0]] = numpy_helper.to_array(tensor)

    def quantizelinear(self, node, _):
        name, quantised = node.input[0], self.scale_of(node)
        if name == self.input:
            index = self.file.tensor(node.output[0], self.shape(self.picture), schema.TensorType.INT8, quantised)
            self.file.operator("QUANTIZE", [self.picture], [index])
        elif isinstance(self.values[name], Pending):
            pending = self.values[name]
            index = self.file.tensor(node.output[0], pending.shape, schema.TensorType.INT8, quantised)
            pending.emit(index, quantised)
        else:
            index = self.with_scale(self.values[name], quantised)
        self.codes[node.output[0]] = index

    def dequantizelinear(self, node, _):
        if node.input[0] in self.codes:
            self.values[node.output[0]] = self.codes[node.input[0]]
        else:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            self.weights[node.output[0]] = (self.constants[node.input[0]], *self.scale_of(node), axis, node.input[0])

    def padded(self, name, index, attributes, kernel, lowest=False):
        """The input of a window, padded by an operator of its own if SAME would pad elsewhere; and what is left to the window."""
        stride, (top, left, bottom, right) = attributes.get("strides", [1, 1]), attributes.get("pads", [0] * 4)
        _, height, width, _ = self.shape(index)
        if any(d != 1 for d in attributes.get("dilations", [1, 1])) or attributes.get("ceil_mode", 0):
            raise Refused("dilated, or with ceil_mode")
        out = [(height + top + bottom - kernel[0]) // stride[0] + 1, (width + left + right - kernel[1]) // stride[1] + 1]

        def same(size, out, kernel, stride):
            total = max((out - 1) * stride + kernel - size, 0)
            return (total // 2, total - total // 2) if out == -(-size // stride) else None

        if not any((top, left, bottom, right)):
            return index, PADDING.VALID, out
        if (same(height, out[0], kernel[0], stride[0]), same(width, out[1], kernel[1], stride[1])) == ((top, bottom), (left, right)):
            return index, PADDING.SAME, out
        wide = [1, height + top + bottom, width + left + right, self.shape(index)[3]]
        quantised = self.parameters(index)
        result = self.file.tensor(f"{name}/padded", wide, schema.TensorType.INT8, quantised)
        sides = self.file.int32("pads", [[0, 0], [top, bottom], [left, right], [0, 0]])
        if lowest:
            code = self.file.tensor(f"{name}/lowest", [], schema.TensorType.INT8, quantised, data=np.int8(-128))
            self.file.operator("PADV2", [index, sides, code], [result])
        else:
            self.file.operator("PAD", [index, sides], [result])
        return result, PADDING.VALID, out

    def conv(self, node, attributes):
        index = self.of(node.input[0])
        codes, scales, zeros, _, source = self.weights[node.input[1]]
        channels, outputs, group = self.shape(index)[3], codes.shape[0], attributes.get("group", 1)
        depthwise = group != 1
        if depthwise and not group == channels == outputs or codes.dtype != np.int8 or np.any(zeros):
            raise Refused(f"weights {codes.dtype} {codes.shape} in {group} groups, or with a zero point")
        scales = np.broadcast_to(np.ravel(scales), (outputs,)).astype(np.float32)
        step = self.parameters(index)[0].astype(np.float64) * scales
        real = np.zeros(outputs)
        if len(node.input) > 2 and node.input[2]:
            found = self.weights.get(node.input[2])
            real = self.constants[node.input[2]].astype(np.float64) if found is None else found[0] * found[1].astype(np.float64)
        # A channel with next to no weights has so small a scale that its bias would not fit 32 bits: its weights are coarsened.
        halvings = np.maximum(0, np.ceil(np.log2(np.maximum(np.abs(real), 1e-300) / step / 2.0**30)))
        if halvings.any():
            codes = np.rint(codes / 2.0 ** halvings[:, None, None, None]).astype(np.int8)
            scales = (scales * 2.0**halvings).astype(np.float32)
            source = f"{source}/{node.output[0]}"
        step = self.parameters(index)[0].astype(np.float64) * scales
        key = "weights", source, depthwise
        if key not in self.file.constants:
            moved = codes.transpose(1, 2, 3, 0) if depthwise else codes.transpose(0, 2, 3, 1)
            quantised, axis = (scales, np.zeros(outputs, int)), 3 if depthwise else 0
            self.file.constants[key] = self.file.tensor(source, moved.shape, schema.TensorType.INT8, quantised, moved, axis)
        weights = self.file.constants[key]
        bias = np.rint(real / step).astype(np.int32)
        bias = self.file.tensor(f"{node.output[0]}/bias", [outputs], schema.TensorType.INT32, (step, np.zeros(outputs, int)), bias)
        index, padding, out = self.padded(node.output[0], index, attributes, codes.shape[2:])
        strides = attributes.get("strides", [1, 1])

        def emit(to, _, activation=ACTIVATION.NONE):
            options = dict(padding=padding, strideH=strides[0], strideW=strides[1], fusedActivationFunction=activation)
            if depthwise:
                self.file.operator("DEPTHWISE_CONV_2D", [index, weights, bias], [to], depthMultiplier=1, **options)
            else:
                self.file.operator("CONV_2D", [index, weights, bias], [to], **options)

        self.values[node.output[0]] = Pending(emit, [1, *out, outputs], fused=emit)

    def activation(self, node, kind):
        name = node.input[0]
        value = self.values.get(name)
        if isinstance(value, Pending) and value.fused and self.readers[name] == 1:
            self.values[node.output[0]] = Pending(lambda to, quantised: value.fused(to, quantised, kind), value.shape)
        elif kind == ACTIVATION.RELU:
            index = self.of(name)
            self.values[node.output[0]] = Pending(lambda to, _: self.file.operator("RELU", [index], [to]), self.shape(index))
        else:
            raise Refused("no operator of its own is known")

    def relu(self, node, _):
        self.activation(node, ACTIVATION.RELU)

    def clip(self, node, _):
        if [float(self.constants[name]) for name in node.input[1:]] != [0.0, 6.0]:
            raise Refused("is not ReLU6")
        self.activation(node, ACTIVATION.RELU6)

    def leakyrelu(self, node, attributes):
        index = self.of(node.input[0])
        emit = lambda to, _: self.file.operator("LEAKY_RELU", [index], [to], alpha=attributes.get("alpha", 0.01))
        self.values[node.output[0]] = Pending(emit, self.shape(index))

    def add(self, node, _):
        inputs = [self.of(name) for name in node.input]

        def emit(to, _, activation=ACTIVATION.NONE):
            self.file.operator("ADD", inputs, [to], fusedActivationFunction=activation, potScaleInt16=False)

        self.values[node.output[0]] = Pending(emit, self.shape(inputs[0]), fused=emit)

    def maxpool(self, node, attributes):
        index = self.of(node.input[0])
        kernel, strides = attributes["kernel_shape"], attributes.get("strides", [1, 1])

        def emit(to, quantised):
            padded, padding, _ = self.padded(node.output[0], self.with_scale(index, quantised), attributes, kernel, lowest=True)
            options = dict(padding=padding, strideH=strides[0], strideW=strides[1], filterHeight=kernel[0], filterWidth=kernel[1])
            self.file.operator("MAX_POOL_2D", [padded], [to], fusedActivationFunction=ACTIVATION.NONE, **options)

        pads = attributes.get("pads", [0] * 4)
        out = [(self.shape(index)[1 + i] + pads[i] + pads[2 + i] - kernel[i]) // strides[i] + 1 for i in (0, 1)]
        self.values[node.output[0]] = Pending(emit, [1, *out, self.shape(index)[3]])

    def resize(self, node, attributes):
        index = self.of(node.input[0])
        _, height, width, channels = self.shape(index)
        scales = self.constants[node.input[2]].tolist() if len(node.input) > 2 and node.input[2] else []
        sizes = self.constants[node.input[3]].tolist() if len(node.input) > 3 else []
        if scales != [1, 1, 2, 2] and sizes != [1, channels, 2 * height, 2 * width] or attributes.get("mode") != b"nearest":
            raise Refused("is no nearest upsampling to twice the size")
        size = self.file.int32("size", [2 * height, 2 * width])

        def emit(to, quantised):
            inputs = [self.with_scale(index, quantised), size]
            self.file.operator("RESIZE_NEAREST_NEIGHBOR", inputs, [to], alignCorners=False, halfPixelCenters=False)

        self.values[node.output[0]] = Pending(emit, [1, 2 * height, 2 * width, channels])

    def concat(self, node, attributes):
        inputs = [self.of(name) for name in node.input]
        if attributes["axis"] != 1:
            raise Refused("joins along another axis than the channels")

        def emit(to, quantised):
            moved = [self.with_scale(index, quantised) for index in inputs]
            self.file.operator("CONCATENATION", moved, [to], axis=3, fusedActivationFunction=ACTIVATION.NONE)

        self.values[node.output[0]] = Pending(emit, [*self.shape(inputs[0])[:3], sum(self.shape(index)[3] for index in inputs)])

    def split(self, node, attributes):
        index = self.of(node.input[0])
        *front, channels = self.shape(index)
        parts = self.constants[node.input[1]].tolist() if len(node.input) > 1 else [channels // len(node.output)] * len(node.output)
        if attributes.get("axis", 0) != 1 or len(set(parts)) != 1:
            raise Refused("is no split into equal parts of the channels")
        halves = [self.file.tensor(name, [*front, parts[0]], schema.TensorType.INT8, self.parameters(index)) for name in node.output]
        self.file.operator("SPLIT", [self.file.int32("axis", 3), index], halves, numSplits=len(halves))
        for name, half in zip(node.output, halves):
            self.values[name] = half

    def reshape(self, node, _):
        index, to = self.of(node.input[0]), self.constants[node.input[1]].tolist()
        shape = self.shape(index)
        # Channels are last here: [1, g, c, h, w] stands as [1, h, w, g, c].
        moved = [to[0], *to[-2:], *to[1:-2]]
        if np.prod(moved) != np.prod(shape) or moved[:3] != shape[:3]:
            raise Refused("is no regrouping of channels")
        emit = lambda to, quantised: self.file.operator(
            "RESHAPE", [self.with_scale(index, quantised), self.file.int32("shape", moved)], [to], newShape=moved)  # fmt: skip
        self.values[node.output[0]] = Pending(emit, moved)

    def transpose(self, node, attributes):
        index = self.of(node.input[0])
        if attributes["perm"] != [0, 2, 1, 3, 4]:
            raise Refused("turns others than the groups of channels")
        *front, groups, channels = self.shape(index)
        turn = self.file.int32("turn", [0, 1, 2, 4, 3])
        emit = lambda to, quantised: self.file.operator("TRANSPOSE", [self.with_scale(index, quantised), turn], [to])
        self.values[node.output[0]] = Pending(emit, [*front, channels, groups])


def convert(source, target):
    """Writes `source` as a TFLite file; `Refused` says which node has no form."""
    data = Converter(onnx.load(source)).convert()
    with open(target, "wb") as file:
        file.write(data)


def agreement(source, target, pictures):
    """Mean |difference| of all outputs: LiteRT to the definition in f64, onnxruntime (unfused) to the same, LiteRT to onnxruntime."""
    import onnxruntime as ort
    from ai_edge_litert.interpreter import Interpreter
    from exact import Exact

    options = ort.SessionOptions()
    # Its fused u8 convolutions saturate on CPUs without VNNI.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    interpreter, exact = Interpreter(str(target), num_threads=1), Exact(source)
    interpreter.allocate_tensors()
    sums, count = np.zeros(3), 0
    for picture in np.fromfile(pictures, np.float32).reshape(-1, *session.get_inputs()[0].shape):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.ascontiguousarray(picture.transpose(0, 2, 3, 1)))
        interpreter.invoke()
        theirs, defined = session.run(exact.outputs, {exact.input: picture}), exact.run(picture[0])
        for name, peer, detail in zip(exact.outputs, theirs, interpreter.get_output_details()):
            own = interpreter.get_tensor(detail["index"]).transpose(0, 3, 1, 2)[0]
            sums += [np.abs(a - b).sum() for a, b in ((own, defined[name]), (peer[0], defined[name]), (own, peer[0]))]
            count += own.size
    return sums / count


if __name__ == "__main__":
    try:
        convert(sys.argv[1], sys.argv[2])
    except Refused as refusal:
        raise SystemExit(f"{sys.argv[1]}: {refusal}") from None
    if len(sys.argv) > 3:
        found = agreement(*sys.argv[1:])
        print("mean |difference| of heads: LiteRT to f64 {:.4f}, onnxruntime unfused to f64 {:.4f}, these two {:.4f}".format(*found))
