"""Writes tests/faults/siblings/: small graphs in the forms of an operator that differ by opset, domain or attribute,
each with the outputs that onnxruntime gives (optimisation off).

    python tests/faults/siblings.py
"""

import pathlib

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

FOLDER = pathlib.Path(__file__).parent / "siblings"
SHAPE = [1, 3, 12, 10]
KINDS = {"u8": np.uint8, "s8": np.int8}


class Writer:
    """A graph, node by node; every value has a name."""

    def __init__(self, opset, microsoft=False):
        self.opset, self.microsoft = opset, microsoft
        self.nodes, self.constants, self.functions, self.count = [], [], [], 0
        self.random = np.random.default_rng(7)
        self.outputs = []

    def name(self):
        self.count += 1
        return f"v{self.count}"

    def constant(self, array):
        name = self.name()
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op, inputs, outputs=1, domain="", **attributes):
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def parameters(self, scale, zero, kind="u8"):
        return [self.constant(np.float32(scale)), self.constant(KINDS[kind](zero))]

    def quantise(self, real, scale=0.02, zero=128, kind="u8", **attributes):
        return self.node("QuantizeLinear", [real, *self.parameters(scale, zero, kind)], **attributes)

    def dequantise(self, codes, scale=0.02, zero=128, kind="u8"):
        return self.node("DequantizeLinear", [codes, *self.parameters(scale, zero, kind)])

    def grid(self, real, scale=0.02, zero=128, kind="u8"):
        return self.dequantise(self.quantise(real, scale, zero, kind), scale, zero, kind)

    def weights(self, outputs, inputs, kernel=3):
        """Weights by output, dequantised (opset 10 has one scale)."""
        codes = self.constant(self.random.integers(-127, 128, (outputs, inputs, kernel, kernel)).astype(np.int8))
        if self.opset < 13:
            return self.node("DequantizeLinear", [codes, self.constant(np.float32(0.003)), self.constant(np.int8(0))])
        scales = self.constant(self.random.uniform(0.002, 0.004, outputs).astype(np.float32))
        return self.node("DequantizeLinear", [codes, scales, self.constant(np.zeros(outputs, np.int8))], axis=0)

    def conv(self, real, inputs=3, outputs=8, kernel=3, **attributes):
        attributes = {"pads": [kernel // 2] * 4, "kernel_shape": [kernel] * 2, **attributes}
        return self.node("Conv", [real, self.weights(outputs, inputs, kernel)], **attributes)

    def trunk(self):
        """Codes of a convolution of the picture, dequantised."""
        return self.grid(self.conv(self.grid("x", 1 / 64)))

    def give(self, real, scale=0.05, zero=120):
        self.outputs.append(self.grid(real, scale, zero))

    def save(self, name):
        value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        graph = helper.make_graph(
            self.nodes, name, [value("x", SHAPE)], [value(o, None) for o in self.outputs], self.constants
        )
        opsets = [helper.make_opsetid("", self.opset)]
        if self.microsoft:
            opsets.append(helper.make_opsetid("com.microsoft", 1))
        if self.functions:
            opsets.append(helper.make_opsetid("acme", 1))
        model = helper.make_model(graph, opset_imports=opsets, functions=self.functions, ir_version=10)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found = session.run(self.outputs, {"x": np.load(FOLDER / "input.npy")})
        (FOLDER / f"{name}.onnx").write_bytes(model.SerializeToString())
        for output, array in zip(self.outputs, found):
            np.save(FOLDER / f"{name}.out_{output}.npy", array.astype(np.float32))


CASES = {}


def case(opset, microsoft=False, name=None):
    def keep(write):
        CASES[name or write.__name__] = (write, opset, microsoft)
        return write

    return keep


def unary(op, opset=17, **attributes):
    label = f"unary_{op.lower()}" + "".join(f"_{k}" for k in attributes)
    case(opset, name=label)(lambda w: w.give(w.node(op, [w.trunk()], **attributes)))


for op in ["Relu", "LeakyRelu", "Sigmoid", "Tanh", "Abs", "Neg", "Exp", "HardSwish", "HardSigmoid", "Elu", "Selu",
           "Softplus", "Softsign", "ThresholdedRelu", "Floor", "Erf"]:
    unary(op)
unary("Mish", 18)
unary("LeakyRelu", alpha=-0.5)
unary("HardSigmoid", alpha=0.4, beta=0.1)
unary("Elu", alpha=0.3)


@case(10)
def clip_low_only_op10(w):
    w.give(w.node("Clip", [w.trunk()], min=-0.3))


@case(10)
def clip_fused_op10(w):
    w.give(w.node("Clip", [w.conv(w.grid("x", 1 / 64))], max=0.7))


@case(17)
def clip_without_low(w):
    w.give(w.node("Clip", [w.trunk(), "", w.constant(np.float32(0.4))]))


@case(17)
def clip_twice_apart(w):
    first = w.node("Clip", [w.conv(w.grid("x", 1 / 64)), w.constant(np.float32(0)), w.constant(np.float32(1))])
    w.give(w.node("Clip", [first, w.constant(np.float32(2)), w.constant(np.float32(3))]))


@case(17)
def clip_crossed_fused(w):
    w.give(w.node("Clip", [w.conv(w.grid("x", 1 / 64)), w.constant(np.float32(1)), w.constant(np.float32(0.5))]))


@case(17)
def leaky_after_clip(w):
    clipped = w.node("Clip", [w.conv(w.grid("x", 1 / 64)), "", w.constant(np.float32(-0.5))])
    w.give(w.node("LeakyRelu", [clipped], alpha=0.1))


@case(17)
def leaky_above_one_fused(w):
    w.give(w.node("LeakyRelu", [w.conv(w.grid("x", 1 / 64))], alpha=1.5))


def two(w, parts, scale=0.02):
    for part in parts:
        w.give(part, scale, 128)


@case(17)
def split_input_negative_axis(w):
    two(w, w.node("Split", [w.trunk(), w.constant(np.int64([3, 5]))], 2, axis=-3))


@case(18)
def split_num_outputs_uneven(w):
    two(w, w.node("Split", [w.trunk()], 3, axis=1, num_outputs=3))


@case(11)
def split_equal_op11(w):
    two(w, w.node("Split", [w.trunk()], 2, axis=1))


@case(17)
def concat_negative_axis(w):
    a = w.trunk()
    w.give(w.node("Concat", [a, w.grid(w.node("Neg", [a]))], axis=-3))


@case(17)
def concat_rows(w):
    a = w.trunk()
    w.give(w.node("Concat", [a, a], axis=2))


@case(10)
def resize_nearest_op10(w):
    w.give(w.node("Resize", [w.trunk(), w.constant(np.float32([1, 1, 2, 2]))], mode="nearest"), 0.02, 128)


@case(10)
def resize_three_times_op10(w):
    w.give(w.node("Resize", [w.trunk(), w.constant(np.float32([1, 1, 3, 3]))], mode="nearest"), 0.02, 128)


@case(11)
def resize_nearest_op11(w):
    inputs = [w.trunk(), w.constant(np.zeros(0, np.float32)), w.constant(np.float32([1, 1, 2, 2]))]
    w.give(w.node("Resize", inputs, coordinate_transformation_mode="asymmetric", nearest_mode="floor"), 0.02, 128)


@case(17)
def resize_ceil(w):
    inputs = [w.trunk(), "", w.constant(np.float32([1, 1, 2, 2]))]
    w.give(w.node("Resize", inputs, coordinate_transformation_mode="asymmetric", nearest_mode="ceil"), 0.02, 128)


@case(18)
def resize_axes(w):
    inputs = [w.trunk(), "", w.constant(np.float32([2, 2]))]
    w.give(w.node("Resize", inputs, axes=[2, 3]), 0.02, 128)


@case(17)
def resize_linear(w):
    w.give(w.node("Resize", [w.trunk(), "", w.constant(np.float32([1, 1, 2, 2]))], mode="linear"), 0.02, 128)


def pool(op, **attributes):
    label = f"{op.lower()}_" + "_".join(f"{k}" for k in attributes if k != "kernel_shape")
    case(19, name=label)(
        lambda w: w.give(w.node(op, [w.trunk()], **{"kernel_shape": [3, 3], **attributes}), 0.02, 128)
    )


for op in ["MaxPool", "AveragePool"]:
    pool(op, strides=[2, 2])
    pool(op, pads=[1, 1, 1, 1])
    pool(op, pads=[1, 0, 0, 1], strides=[2, 2])
    pool(op, ceil_mode=1, strides=[2, 2])
    pool(op, dilations=[2, 2])
    pool(op, auto_pad="SAME_UPPER", strides=[2, 2])
pool("MaxPool", storage_order=1)
pool("AveragePool", count_include_pad=1, pads=[1, 1, 1, 1])
pool("AveragePool", kernel_shape=[2, 4], pads=[1, 2, 0, 1])
CASES["averagepool_oblong"] = CASES.pop("averagepool_pads")
pool("AveragePool", pads=[1, 1, 1, 1])


def convolution(label, **attributes):
    case(17, name=f"conv_{label}")(lambda w: w.give(w.conv(w.grid("x", 1 / 64), **attributes)))


convolution("auto_pad_upper", auto_pad="SAME_UPPER", pads=None, strides=[2, 2])
convolution("auto_pad_lower", auto_pad="SAME_LOWER", pads=None, strides=[2, 2])
convolution("valid", auto_pad="VALID", pads=None)
convolution("dilated", dilations=[2, 2], pads=[2, 2, 2, 2])
convolution("uneven_pads", pads=[0, 1, 2, 1])
convolution("uneven_strides", strides=[1, 2])


@case(17)
def conv_groups(w):
    codes = w.constant(w.random.integers(-127, 128, (8, 2, 3, 3)).astype(np.int8))
    weights = w.node("DequantizeLinear", [codes, w.constant(np.float32(0.004)), w.constant(np.int8(0))])
    w.give(w.node("Conv", [w.trunk(), weights], group=4, kernel_shape=[3, 3], pads=[1] * 4))


def weights_of(label, codes, scale, zero=None, opset=21, **attributes):
    """The second convolution, 8 to 8 channels at 1 x 1, has its weights dequantised in one of many forms."""

    def write(w):
        inputs = [w.constant(codes), w.constant(scale), *([] if zero is None else [w.constant(zero)])]
        w.give(w.node("Conv", [w.trunk(), w.node("DequantizeLinear", inputs, **attributes)]))

    case(opset, name=f"w_{label}")(write)


random = np.random.default_rng(3)
signed = random.integers(-127, 128, (8, 8, 1, 1)).astype(np.int8)
unsigned = random.integers(0, 256, (8, 8, 1, 1)).astype(np.uint8)
eight = random.uniform(0.002, 0.006, 8).astype(np.float32)
weights_of("default_axis_1", signed, eight)
weights_of("axis_1", signed, eight, np.zeros(8, np.int8), axis=1)
weights_of("axis_negative", signed, eight, np.zeros(8, np.int8), axis=-4)
weights_of("without_zero", signed, np.float32(0.004))
weights_of("u8_without_zero", unsigned, np.float32(0.002))
weights_of("u8_zp_0", np.maximum(unsigned, 200).astype(np.uint8) + np.uint8(0), np.float32(0.002), np.uint8(0))
weights_of("u8_zp_3_by_channel", unsigned, eight / 2, np.full(8, 3, np.uint8), axis=0)
weights_of("u8_zp_differ", unsigned, eight / 2, np.arange(100, 108).astype(np.uint8), axis=0)
weights_of("blocks_of_4_axis_1", signed, random.uniform(0.002, 0.006, (8, 2, 1, 1)).astype(np.float32), axis=1, block_size=4)
weights_of("blocks_uneven", signed, random.uniform(0.002, 0.006, (8, 3, 1, 1)).astype(np.float32), axis=1, block_size=3)
weights_of("s16", (signed.astype(np.int16) * 100), np.float32(0.00004))


@case(21)
def w_int4(w):
    codes = w.name()
    values = w.random.integers(-8, 8, 64)
    w.constants.append(helper.make_tensor(codes, TensorProto.INT4, (8, 8, 1, 1), values))
    weights = w.node("DequantizeLinear", [codes, w.constant(np.float32(0.05))])
    w.give(w.node("Conv", [w.trunk(), weights]))


@case(17)
def w_quantised_in_the_graph(w):
    real = w.constant(w.random.uniform(-0.4, 0.4, (8, 8, 3, 3)).astype(np.float32))
    scales, zeros = w.constant(np.full(8, 0.003, np.float32)), w.constant(np.zeros(8, np.int8))
    codes = w.node("QuantizeLinear", [real, scales, zeros], axis=0)
    weights = w.node("DequantizeLinear", [codes, scales, zeros], axis=0)
    w.give(w.node("Conv", [w.trunk(), weights], pads=[1] * 4))


@case(17)
def w_constant_nodes(w):
    codes = w.random.integers(-127, 128, (8, 8, 1, 1)).astype(np.int8)
    codes = w.node("Constant", [], value=numpy_helper.from_array(codes))
    scale = w.node("Constant", [], value_float=0.004)
    w.give(w.node("Conv", [w.trunk(), w.node("DequantizeLinear", [codes, scale])]))


@case(17)
def s8_activations(w):
    real = w.grid(w.conv(w.grid("x", 1 / 64, 0, "s8")), 0.02, -5, "s8")
    w.give(w.conv(real, 8, 4, 1))


@case(21)
def q_output_dtype_twice(w):
    scale = w.constant(np.float32(0.02))
    codes = w.node("QuantizeLinear", [w.conv(w.grid("x", 1 / 64)), scale], output_dtype=TensorProto.INT8)
    again = w.node("QuantizeLinear", [w.node("DequantizeLinear", [codes, scale]), scale], output_dtype=TensorProto.INT8)
    w.give(w.node("DequantizeLinear", [again, scale]))


@case(17, True)
def q_of_microsoft(w):
    codes = w.node("QuantizeLinear", [w.conv(w.grid("x", 1 / 64)), *w.parameters(0.02, 128)], domain="com.microsoft")
    w.give(w.node("DequantizeLinear", [codes, *w.parameters(0.02, 128)], domain="com.microsoft"))


@case(17)
def by_channel_output(w):
    scales, zeros = w.constant(np.linspace(0.01, 0.04, 8).astype(np.float32)), w.constant(np.full(8, 128, np.uint8))
    codes = w.node("QuantizeLinear", [w.trunk(), scales, zeros], axis=1)
    w.outputs.append(w.node("DequantizeLinear", [codes, scales, zeros], axis=1))


@case(17)
def silu(w):
    x = w.trunk()
    w.give(w.node("Mul", [x, w.node("Sigmoid", [x])]))


@case(17)
def hard_swish_in_pieces(w):
    x = w.trunk()
    three, six = w.constant(np.float32(3)), w.constant(np.float32(6))
    clipped = w.node("Clip", [w.node("Add", [x, three]), w.constant(np.float32(0)), six])
    w.give(w.node("Div", [w.node("Mul", [x, clipped]), six]))


@case(17)
def mul_of_two(w):
    x = w.trunk()
    w.give(w.node("Mul", [x, w.grid(w.conv(x, 8, 8), 0.03, 100)]))


@case(17)
def squeeze_and_excite(w):
    x = w.trunk()
    mean = w.grid(w.node("GlobalAveragePool", [x]), 0.004, 120)
    gate = w.grid(w.node("HardSigmoid", [w.grid(w.conv(mean, 8, 8, 1), 0.01, 128)]), 1 / 255, 0)
    w.give(w.node("Mul", [gate, x]))


@case(17)
def reduce_mean_axes_attribute(w):
    w.give(w.node("ReduceMean", [w.trunk()], axes=[-1, -2]), 0.004, 120)


@case(18)
def reduce_mean_axes_input(w):
    w.give(w.node("ReduceMean", [w.trunk(), w.constant(np.int64([2, 3]))]), 0.004, 120)


@case(18)
def reduce_mean_without_axes(w):
    w.give(w.node("ReduceMean", [w.trunk()]), 0.004, 120)


@case(12)
def softmax_op12(w):
    w.outputs.append(w.node("Softmax", [w.trunk()]))


@case(13)
def softmax_op13(w):
    w.outputs.append(w.node("Softmax", [w.trunk()]))


@case(11)
def squeeze_axes_attribute(w):
    w.outputs.append(w.node("Squeeze", [w.node("GlobalAveragePool", [w.trunk()])], axes=[2, 3]))


@case(13)
def unsqueeze_axes_input(w):
    w.outputs.append(w.node("Unsqueeze", [w.trunk(), w.constant(np.int64([0]))]))


@case(10)
def pad_attribute_op10(w):
    w.give(w.node("Pad", [w.trunk()], pads=[0, 0, 1, 1, 0, 0, 2, 0], value=0.5), 0.02, 128)


@case(17)
def pad_reflect(w):
    w.give(w.node("Pad", [w.trunk(), w.constant(np.int64([0, 0, 1, 1, 0, 0, 2, 0]))], mode="reflect"), 0.02, 128)


@case(10)
def slice_steps(w):
    inputs = [w.trunk(), *[w.constant(np.int64(v)) for v in ([1, 9], [7, -100], [1, 3], [2, -1])]]
    w.give(w.node("Slice", inputs), 0.02, 128)


@case(17)
def gemm(w):
    flat = w.grid(w.node("Flatten", [w.grid(w.node("GlobalAveragePool", [w.trunk()]), 0.004, 120)]), 0.004, 120)
    codes = w.constant(w.random.integers(-127, 128, (5, 8)).astype(np.int8))
    weights = w.node("DequantizeLinear", [codes, w.constant(np.float32(0.01))])
    bias = w.constant(np.linspace(-1, 1, 5).astype(np.float32))
    w.outputs.append(w.node("Gemm", [flat, weights, bias], alpha=0.5, beta=2.0, transB=1))


@case(17)
def batch_normalization(w):
    parameters = [w.constant(w.random.uniform(0.5, 1.5, 8).astype(np.float32)) for _ in range(4)]
    w.give(w.node("BatchNormalization", [w.trunk(), *parameters], epsilon=0.01))


@case(17)
def dropout_with_inputs(w):
    w.give(w.node("Dropout", [w.trunk(), w.constant(np.float32(0.5)), w.constant(np.bool_(False))]), 0.02, 128)


@case(17)
def max_pool_with_indices(w):
    values, places = w.node("MaxPool", [w.trunk()], 2, kernel_shape=[2, 2], strides=[2, 2])
    w.give(values, 0.02, 128)
    w.outputs.append(w.node("Cast", [places], to=TensorProto.FLOAT))


@case(17)
def maxpool_and_conv_of_a_split(w):
    first, second = w.node("Split", [w.trunk()], 2, axis=1)
    first, second = w.grid(first), w.grid(second)
    pooled = w.grid(w.node("MaxPool", [first], kernel_shape=[3, 3], pads=[1] * 4))
    w.give(w.node("Concat", [pooled, w.grid(w.conv(first, 4, 4)), w.grid(w.conv(second, 4, 4))], axis=1))


def function(w, name, nodes, inputs, outputs, attributes=(), defaults=()):
    w.functions.append(
        helper.make_function("acme", name, inputs, outputs, nodes, [helper.make_opsetid("", w.opset)],
                             attributes=list(attributes), attribute_protos=list(defaults))
    )


def referring(node, name, to, kind):
    node.attribute.append(onnx.AttributeProto(name=name, ref_attr_name=to, type=kind))
    return node


@case(17)
def function_with_attribute(w):
    body = [referring(helper.make_node("LeakyRelu", ["a"], ["b"]), "alpha", "slope", onnx.AttributeProto.FLOAT)]
    function(w, "Bend", body, ["a"], ["b"], attributes=["slope"])
    w.give(w.node("Bend", [w.node("Bend", [w.trunk()], domain="acme", slope=0.5)], domain="acme"))


@case(17)
def function_with_default(w):
    body = [referring(helper.make_node("Elu", ["a"], ["b"]), "alpha", "alpha", onnx.AttributeProto.FLOAT)]
    function(w, "Conv", body, ["a"], ["b"], defaults=[helper.make_attribute("alpha", 0.25)])
    w.give(w.node("Conv", [w.trunk()], domain="acme"))


@case(17)
def function_within_function(w):
    function(w, "Twice", [helper.make_node("Add", ["a", "a"], ["t"]), helper.make_node("Neg", ["t"], ["b"])], ["a"], ["b"])
    body = [helper.make_node("Twice", ["a"], ["t"], domain="acme"), helper.make_node("Twice", ["t"], ["b"], domain="acme")]
    w.functions.append(helper.make_function(
        "acme", "Clip", ["a"], ["b"], body, [helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)]))
    w.give(w.node("Clip", [w.trunk()], domain="acme"))


class Coded:
    """A QOperator graph: values are codes with scale, zero point and type.

    Weights are of 7 bits, because onnxruntime's sums of two products saturate on some CPUs.
    """

    def __init__(self, w, kind="u8"):
        self.w, self.kind = w, kind
        self.x = (w.quantise("x", 1 / 64, 128 if kind == "u8" else 0, kind), 1 / 64, 128 if kind == "u8" else 0)

    def operand(self, codes):
        name, scale, zero = codes
        return [name, *self.w.parameters(scale, zero, self.kind)]

    def op(self, op, operands, scale, zero, domain="com.microsoft", after_first=False, **attributes):
        result = self.w.parameters(scale, zero, self.kind)
        inputs = [name for codes in operands for name in self.operand(codes)]
        inputs = [*result, *inputs] if after_first else [*inputs, *result]
        return (self.w.node(op, inputs, domain=domain, **attributes), scale, zero)

    def conv(self, codes, inputs=3, outputs=8, kernel=3, scale=0.02, zero=100, bias=True):
        w = self.w
        zero = zero if self.kind == "u8" else zero - 128
        weights = w.constant(w.random.integers(-63, 64, (outputs, inputs, kernel, kernel)).astype(np.int8))
        names = [*self.operand(codes), weights, w.constant(np.full(outputs, 0.003, np.float32)),
                 w.constant(np.zeros(outputs, np.int8)), *w.parameters(scale, zero, self.kind)]
        if bias:
            names.append(w.constant(w.random.integers(-3000, 3000, outputs).astype(np.int32)))
        return (w.node("QLinearConv", names, pads=[kernel // 2] * 4, kernel_shape=[kernel] * 2), scale, zero)

    def give(self, codes):
        name, scale, zero = codes
        self.w.outputs.append(self.w.dequantise(name, scale, zero, self.kind))


def coded(label, build, opset=17, kinds=("u8", "s8")):
    for kind in kinds:
        def write(w, kind=kind):
            c = Coded(w, kind)
            c.give(build(c, c.conv(c.x), 0 if kind == "u8" else -128))
        case(opset, True, f"qo_{label}_{kind}")(write)


coded("add", lambda c, a, z: c.op("QLinearAdd", [a, c.conv(a, 8)], 0.04, 120 + z))
coded("mul", lambda c, a, z: c.op("QLinearMul", [a, c.conv(a, 8)], 0.04, 120 + z))
coded("leaky", lambda c, a, z: c.op("QLinearLeakyRelu", [a], 0.02, 90 + z, alpha=0.2))
coded("sigmoid", lambda c, a, z: c.op("QLinearSigmoid", [a], 1 / 256, z))
coded("average", lambda c, a, z: c.op("QLinearAveragePool", [a], 0.015, 110 + z, kernel_shape=[3, 3], strides=[2, 2],
                                      pads=[1] * 4, count_include_pad=1))
coded("average_ceil", lambda c, a, z: c.op("QLinearAveragePool", [a], 0.015, 110 + z, kernel_shape=[3, 3],
                                           strides=[2, 2], ceil_mode=1), kinds=("u8",))
coded("global_average", lambda c, a, z: c.op("QLinearGlobalAveragePool", [a], 0.005, 128 + z))
coded("concat", lambda c, a, z: c.op("QLinearConcat", [a, c.conv(a, 8, 4, scale=0.03)], 0.03, 120 + z, axis=1,
                                     after_first=True))
coded("softmax", lambda c, a, z: c.op("QLinearSoftmax", [a], 1 / 256, z, axis=1, opset=13))
coded("softmax_last_of_op12", lambda c, a, z: c.op("QLinearSoftmax", [a], 1 / 256, z, axis=-1, opset=12), kinds=("u8",))


def flat(c, a, z):
    mean = c.op("QLinearGlobalAveragePool", [a], 0.005, 128 + z)
    return (c.w.node("Flatten", [mean[0]]), *mean[1:])


def q_gemm(c, a, z, real=False, many=False, **attributes):
    w, x = c.w, flat(c, a, z)
    shape = (5, 8) if attributes.get("transB") else (8, 5)
    scales = np.linspace(0.005, 0.02, 5).astype(np.float32) if many else np.float32(0.01)
    zeros = np.zeros(5, np.int8) if many else np.int8(0)
    weights = [w.constant(w.random.integers(-63, 64, shape).astype(np.int8)), w.constant(scales), w.constant(zeros)]
    bias = w.constant(w.random.integers(-5000, 5000, 5).astype(np.int32))
    result = [] if real else w.parameters(0.01, 100 + z, c.kind)
    return w.node("QGemm", [*c.operand(x), *weights, bias, *result], domain="com.microsoft", **attributes)


coded("gemm", lambda c, a, z: (q_gemm(c, a, z, alpha=0.5), 0.01, 100 + z), kinds=("u8",))
coded("gemm_turned", lambda c, a, z: (q_gemm(c, a, z, many=True, transB=1), 0.01, 100 + z), kinds=("u8",))


@case(17, True)
def qo_gemm_real(w):
    c = Coded(w)
    w.outputs.append(q_gemm(c, c.conv(c.x), 0, real=True))


def mat_mul(c, a, z):
    x = flat(c, a, z)
    w = c.w
    weights = [w.constant(w.random.integers(-63, 64, (8, 5)).astype(np.int8)), w.constant(np.float32(0.01)),
               w.constant(np.int8(0))]
    return (w.node("QLinearMatMul", [*c.operand(x), *weights, *w.parameters(0.01, 100 + z, c.kind)]), 0.01, 100 + z)


coded("mat_mul", mat_mul, kinds=("u8",))
coded("moved", lambda c, a, z: (c.w.node("Transpose", [c.w.node("MaxPool", [a[0]], kernel_shape=[2, 2])],
                                         perm=[0, 1, 3, 2]), *a[1:]), kinds=("u8",))


def main():
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.*"):
        old.unlink()
    random = np.random.default_rng(1)
    np.save(FOLDER / "input.npy", random.uniform(-1.9, 1.9, SHAPE).astype(np.float32))
    for name, (write, opset, microsoft) in CASES.items():
        writer = Writer(opset, microsoft)
        try:
            write(writer)
            writer.save(name)
        except Exception as error:  # What onnxruntime does not take either is no reference.
            print(f"{name}: {str(error)[:200]}")


if __name__ == "__main__":
    main()
