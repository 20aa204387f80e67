"""A quantised ONNX graph (QDQ form) evaluated as its operators are defined, in f64: what every other evaluation is a rounding of.

Sums of a convolution are whole numbers here and exact; a code is rte(real / scale) + zero point, kept within its type.
"""

import numpy as np
import onnx
from onnx import numpy_helper


class Value:
    """Real values [c, h, w] (or as a shuffle regroups them) in f64, and the codes they stand for where they are dequantised."""

    def __init__(self, real, codes=None, scale=None):
        self._real, self.codes, self.scale = real, codes, scale

    @property
    def real(self):
        return self.codes * self.scale if self._real is None else self._real


class Exact:
    """An evaluation of one graph. `run` gives its outputs by name."""

    def __init__(self, model):
        self.graph = onnx.load(model).graph
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        self.input = next(value.name for value in self.graph.input if value.name not in self.constants)
        self.outputs = [output.name for output in self.graph.output]
        self.attributes = [{a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} for node in self.graph.node]
        self.producers = {name: node for node in self.graph.node for name in node.output}

    def run(self, picture, given=None, seen=None):
        """Outputs on `picture` [c, h, w]. Codes that another evaluation `given` has (by the quantiser's output) take the place of its
        own, so that every operator reads what that one read; `seen` is called with the quantiser, the given codes and its own."""
        values = {self.input: Value(picture.astype(np.float64))}
        codes = {}
        for node, attributes in zip(self.graph.node, self.attributes):
            name, to = node.input[0] if node.input else None, node.output[0]
            if node.op_type == "Constant":
                self.constants[to] = numpy_helper.to_array(attributes["value"])
            elif node.op_type == "QuantizeLinear":
                scale, zero = self.constants[node.input[1]].astype(np.float64), self.constants[node.input[2]]
                limits = np.iinfo(zero.dtype)
                own = np.clip(np.rint(values[name].real / scale) + int(zero), limits.min, limits.max)
                if given is not None and to in given:
                    seen(node, given[to], own)
                    own = given[to]
                codes[to] = own
            elif node.op_type == "DequantizeLinear":
                scale, zero = (self.constants[constant].astype(np.float64) for constant in node.input[1:3])
                if name in codes:
                    values[to] = Value(None, codes[name] - zero, scale)
                else:
                    along = [1] * self.constants[name].ndim
                    if scale.size > 1:
                        along[attributes.get("axis", 1)] = scale.size
                    values[to] = Value(None, self.constants[name] - zero.reshape(along), scale.reshape(along))
            else:
                values[to] = self.operator(node, attributes, values)
                for index, other in enumerate(node.output[1:], 1):
                    values[other] = self.operator(node, attributes, values, index)
        return {name: values[name].real for name in self.outputs}

    def operator(self, node, attributes, values, index=0):
        inputs = [values.get(name) for name in node.input]
        kind = node.op_type
        if kind == "Conv":
            return Value(convolution(inputs, attributes))
        if kind == "LeakyRelu":
            real = inputs[0].real
            # The attribute is an f32.
            return Value(np.where(real < 0, np.float64(np.float32(attributes.get("alpha", 0.01))) * real, real))
        if kind == "Relu":
            return Value(np.maximum(inputs[0].real, 0))
        if kind == "Clip":
            return Value(np.clip(inputs[0].real, *(self.constants[name].astype(np.float64) for name in node.input[1:])))
        if kind == "Add":
            return Value(inputs[0].real + inputs[1].real)
        if kind == "Concat":
            return Value(np.concatenate([value.real for value in inputs]))
        if kind == "Split":
            return Value(np.split(inputs[0].real, len(node.output))[index])
        if kind == "Reshape":
            return Value(inputs[0].real.reshape(self.constants[node.input[1]][1:]))
        if kind == "Transpose":
            return Value(inputs[0].real.transpose([axis - 1 for axis in attributes["perm"][1:]]))
        if kind == "Resize":
            assert attributes["mode"] == b"nearest" and self.constants[node.input[2]].tolist() == [1, 1, 2, 2], node.name
            return Value(inputs[0].real.repeat(2, 1).repeat(2, 2))
        if kind == "MaxPool":
            return Value(np.maximum.reduce(list(taps(inputs[0].real, attributes, -np.inf))))
        raise SystemExit(f"{kind} `{node.name}`: is not known here")


def taps(plane, attributes, border):
    """For each place of the window, what it sees: [c, h, w] each, row by row."""
    (height, width), stride = attributes["kernel_shape"], attributes.get("strides", [1, 1])
    top, left, bottom, right = attributes.get("pads", [0] * 4)
    padded = np.pad(plane, ((0, 0), (top, bottom), (left, right)), constant_values=border)
    rows, columns = ((size - kernel) // step + 1 for size, kernel, step in zip(padded.shape[1:], (height, width), stride))
    for y in range(height):
        for x in range(width):
            yield padded[:, y : y + (rows - 1) * stride[0] + 1 : stride[0], x : x + (columns - 1) * stride[1] + 1 : stride[1]]


def convolution(inputs, attributes):
    plane, weights = inputs[0], inputs[1]
    outputs, height, width = weights.codes.shape[0], *weights.codes.shape[2:]
    seen = taps(plane.codes, {"kernel_shape": [height, width], **attributes}, 0)
    total = 0
    for place, window in enumerate(seen):
        tap = weights.codes[:, :, place // width, place % width]
        if attributes.get("group", 1) == 1:
            total = total + (tap @ window.reshape(len(window), -1)).reshape(outputs, *window.shape[1:])
        else:
            total = total + tap.reshape(-1, 1, 1) * window
    real = total * (plane.scale * weights.scale.reshape(-1, 1, 1))
    return real + inputs[2].real.reshape(-1, 1, 1) if len(inputs) > 2 else real
