"""Float weights to the model file that `retinad` runs: ONNX opset 17, static QDQ quantisation, manifest inside.

    python export.py --weights run/float.safetensors --data DATA --out ../retinad-m-320-int8.onnx \
        --name retinad-m-320 --version 2.0.0 --stretch --class-range -6 3 --nms-iou 0.55 --voting 0.7 2
    python export.py --stamp ../retinad-m-320-int8.onnx --split val --ap50 0.806
    python export.py --stamp ../retinad-m-320-int8.onnx --version 2.0.1 --nms-iou 0.6

The last two forms change a file that exists: the measured score in its manifest, or how its outputs are coded
and decoded.
"""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import subprocess
import tempfile

import numpy as np
import onnx
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

import start as starts
from data import SETS, Pictures
from files import whole
from network import BINS, DELTA_CLAMP, SIZES, STRIDES, anchors_for, base_boxes, points_for

LEVELS = ("p3", "p4", "p5", "p6")
KEY = "retinad.manifest"


class Flat(torch.nn.Module):
    """One flat tuple of outputs, as ONNX wants it: class outputs of all levels, then box outputs."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.head = net.head

    def forward(self, image):
        classes, boxes = self.net(image)
        return (*classes, *boxes)


class Calibration(CalibrationDataReader):
    """Training pictures as they are fitted at run time, never those of `val` or `test`."""

    def __init__(self, data, count, side, seed, stretch):
        pictures = Pictures(data, ("train",), side, augment=False, stretch=float(stretch))
        chosen = np.random.default_rng(seed).choice(len(pictures), min(count, len(pictures)), replace=False)
        self.inputs = iter({"image": (pictures[int(i)][0].float().numpy()[None] - 127) / 128} for i in chosen)

    def get_next(self):
        return next(self.inputs, None)


def unpair(graph):
    """Take out the quantiser between a Conv and its LeakyRelu: its range is wide, and costs accuracy for nothing."""
    producer = {output: node for node in graph.node for output in node.output}
    taken = []
    for node in graph.node:
        if node.op_type != "LeakyRelu":
            continue
        dequantise = producer.get(node.input[0])
        quantise = dequantise is not None and dequantise.op_type == "DequantizeLinear" and producer.get(dequantise.input[0])
        if quantise and quantise.op_type == "QuantizeLinear" and producer[quantise.input[0]].op_type == "Conv":
            node.input[0] = quantise.input[0]
            taken += [dequantise, quantise]
    used = {name for node in graph.node for name in node.input}
    for node in taken:
        graph.node.remove(node)
    names = {name for node in graph.node for name in node.input}
    for init in [i for i in graph.initializer if i.name in used and i.name not in names]:
        graph.initializer.remove(init)
    return len(taken) // 2


def set_constants(graph, wanted):
    """Set initialisers, given as numpy scalars by name; one that is not there is an error."""
    left = dict(wanted)
    for init in graph.initializer:
        if init.name in left:
            init.CopyFrom(onnx.numpy_helper.from_array(np.array(left.pop(init.name)), init.name))
    if left:
        raise SystemExit(f"export: the graph has no {', '.join(sorted(left))}")


def narrow(graph, low, high):
    """Code the class outputs from `low` to `high` (logits): what lies beyond is told as that.

    Min-max spends most codes on logits far below any threshold, and its upper end is the surest score of the
    calibration pictures, so that surer ones cannot be told.
    """
    scale = np.float32((high - low) / 255)
    codes = {"scale": scale, "zero_point": np.uint8(np.round(-low / scale))}
    set_constants(graph, {f"cls_{level}_{part}": value for level in LEVELS for part, value in codes.items()})


DECODE = {
    "score_threshold": 0.05, "topk_per_level": 1000, "nms_iou": 0.5, "max_detections": 100, "clip": "before_nms",
}  # fmt: skip


def asked(args):
    """What the options ask of the manifest's `decode`."""
    keys = {} if args.nms_iou is None else {"nms_iou": args.nms_iou}
    if args.voting:
        iou, power = args.voting
        if power != int(power):
            raise SystemExit(f"export: --voting: the power must be a whole number, not {power}")
        keys["box_voting"] = {"iou": iou, "score_power": int(power)}
    return keys


def square_anchors(side):
    """One anchor a cell, a square of one stride around its point: `[cells, 4]`, level, y, x. Distances of the
    head with bins are in its sides."""
    points, strides = points_for(side, side)
    return torch.cat((points - strides / 2, points + strides / 2), dim=1)


def description(start_net, net):
    start = f"{starts.NAMES[net.size]} (RangiLyu/nanodet, Apache-2.0, COCO 2017)"
    if start_net:
        return f"{start} with its own head, of its 80 classes the 20 of VOC."
    subnets = "a subnet a level with distance bins" if net.head == "level-bins" else "RetinaNet subnets"
    return f"{SIZES[net.size].body} and Ghost-PAN with {subnets}, 20 VOC classes. Trained from {start}."


def size(text):
    """Width and height of a text such as 352x288."""
    width, height = (int(side) for side in text.split("x"))
    if min(width, height) < 32 or width % 32 or height % 32:
        raise ValueError
    return [width, height]


def manifest(args, sizes, net):
    side, bins = args.side, net.head != "anchors"
    anchors = (square_anchors if bins else lambda side: anchors_for(side, side))(side).numpy().astype("<f4")
    base = (lambda s: [[-s / 2, -s / 2, s / 2, s / 2]]) if bins else (lambda s: base_boxes(s).double().tolist())
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True).stdout.strip()
    return {
        "format": "retinad-manifest/1",
        "name": args.name,
        "version": args.version or "1.0.0",
        "description": description(args.start_net, net),
        "licence": "Apache-2.0",
        "licence_url": "https://www.apache.org/licenses/LICENSE-2.0",
        "authors": ["the retinad authors", "RangiLyu (NanoDet-Plus, start weights)"],
        "input": {
            "name": "image", "width": side, "height": side, "layout": "nchw", "channels": "rgb", "dtype": "f32",
            "scale_to_unit": 1.0, "mean": [127.0] * 3, "std": [128.0] * 3, "quant_scale": 1 / 128, "quant_zero_point": 127,
            **({"sizes": args.sizes} if args.sizes else {}),
        },
        "letterbox": {
            "keep_aspect": not args.stretch, "placement": "top_left", "pad_rgb": [127, 127, 127],
            "resample": "bilinear_half_pixel", "rounding": "nearest",
        },
        "classes": [{"label": label, "coco_id": None} for label in starts.CLASSES],
        "heads": [
            {"level": p, "class_output": f"cls_{p}", "box_output": f"box_{p}", "class_channels": "anchor_major",
             "box_order": "left_top_right_bottom" if bins else "dx_dy_dw_dh"}
            for p in LEVELS
        ],
        "activation": {"kind": "sigmoid", "logits": True},
        "anchors": {
            "format": "xyxy", "order": "level_y_x_anchor", "cell_order": "scale_ratio", "rounding": "none", "offset": 0.0,
            "levels": [
                {"stride_yx": [s, s], "feature_hw": [-(-side // s)] * 2, "base": base(s)} for s in STRIDES
            ],
            "sha256": hashlib.sha256(anchors.tobytes()).hexdigest(),
        },
        "box_coder": {"weights": [1.0] * 4} | ({"clamp": None, "bins": BINS} if bins else {"clamp": DELTA_CLAMP}),
        "decode": DECODE | asked(args),
        "training": None if args.start_net else {
            "datasets": [
                {"name": f"voc20/{name}", "version": "2026-11", "licence": "see the model card", "images": count}
                for name, count in sizes.items()
            ],
            "loss": {"kind": "quality_focal", "alpha": None, "gamma": 2.0, "beta": None},
            "normaliser": "positives", "steps": args.steps, "commit": commit,
        },
        "quantisation": {
            "scheme": f"static QDQ, s8 per-channel weights, u8 activations, percentile {args.percentile}",
            "calibration": {"dataset": "voc20/train", "images": args.calibration, "seed": args.seed},
        },
        "evaluation": None,
        "lineage": {"parent_sha256": None, "generation": 0, "tuned_on": None},
    }  # fmt: skip


def save(model, path):
    onnx.checker.check_model(model)
    with whole(path) as beside:
        onnx.save(model, beside)


def export(args):
    net = starts.load("coco", head="level-bins", size=args.size) if args.start_net else starts.load(args.weights)
    net = Flat(net.eval())
    names = [f"cls_{p}" for p in LEVELS] + [f"box_{p}" for p in LEVELS]
    sizes = {name: len(Pictures(args.data, (name,))) for name in SETS}
    with tempfile.TemporaryDirectory() as folder:
        plain, quantised = pathlib.Path(folder, "float.onnx"), pathlib.Path(folder, "int8.onnx")
        image = torch.zeros(1, 3, args.side, args.side)
        torch.onnx.export(
            net, (image,), plain, input_names=["image"], output_names=names, opset_version=17, dynamo=False
        )
        if args.float_out:
            save(onnx.load(plain), args.float_out)
        quantize_static(
            plain, quantised, Calibration(args.data, args.calibration, args.side, args.seed, args.stretch),
            quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile, extra_options={"CalibPercentile": args.percentile},
        )  # fmt: skip
        model = onnx.load(quantised)
    # A picture's bytes are the codes of the input, whatever the calibration pictures had.
    set_constants(model.graph, {"image_scale": np.float32(1 / 128), "image_zero_point": np.uint8(127)})
    taken_out = unpair(model.graph)
    if args.class_range:
        narrow(model.graph, *args.class_range)
    onnx.helper.set_model_props(model, {KEY: json.dumps(manifest(args, sizes, net.net), separators=(",", ":"))})
    model.producer_name, model.graph.name = "retinad", args.name
    save(model, args.out)
    print(f"{args.out}: {os.path.getsize(args.out)} bytes, {taken_out} quantisers before LeakyRelu taken out")


def stamp(args):
    model = onnx.load(args.stamp)
    entry = next(p for p in model.metadata_props if p.key == KEY)
    contents = json.loads(entry.value)
    if args.ap50 is not None:
        contents["evaluation"] = {
            "dataset": "voc20", "split": args.split, "metric": "AP50, difficult ignored", "value": args.ap50,
            "tool": f"pycocotools on the results of retinad detect, {datetime.date.today()}",
        }  # fmt: skip
    if args.class_range:
        narrow(model.graph, *args.class_range)
    if args.sizes:
        contents["input"]["sizes"] = args.sizes
    contents["decode"] |= asked(args)
    contents["version"] = args.version or contents["version"]
    entry.value = json.dumps(contents, separators=(",", ":"))
    save(model, args.stamp)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--weights", help="float .safetensors of train.py")
    p.add_argument("--start-net", action="store_true", help="the start net with its own head instead")
    p.add_argument("--size", choices=SIZES, default="m", help="size of the start net (default: m)")
    p.add_argument("--data", help="folder of the training data, for calibration")
    p.add_argument("--out", help="the model file to write")
    p.add_argument("--float-out", help="also write the float ONNX file here")
    p.add_argument("--name", default="retinad-m-320")
    p.add_argument("--version", help="the model's version (default: 1.0.0, or what the stamped file has)")
    p.add_argument("--steps", type=int, default=0, help="training steps behind the weights, for the manifest")
    p.add_argument("--side", type=int, default=320)
    p.add_argument(
        "--sizes", nargs="+", type=size, metavar="WxH",
        help="further sizes that the file runs at, multiples of 32, such as 352x288 288x352",
    )  # fmt: skip
    p.add_argument("--stretch", action="store_true", help="stretch pictures to the square (default: letterbox)")
    p.add_argument("--calibration", type=int, default=150, help="training pictures for the ranges (default: 150)")
    p.add_argument(
        "--percentile", type=float, default=99.995,
        help="share of a tensor's values that its codes reach; the rest saturates (default: 99.995; 100: all)",
    )
    p.add_argument("--seed", type=int, default=0)
    p.add_argument(
        "--class-range", nargs=2, type=float, metavar=("LOW", "HIGH"),
        help="logits that the class outputs' codes reach, such as -6 3 (default: what the calibration pictures gave)",
    )
    p.add_argument("--nms-iou", type=float, help="overlap above which the lower score is dropped (default: 0.5)")
    p.add_argument(
        "--voting", nargs=2, type=float, metavar=("IOU", "POWER"),
        help="make kept boxes means of the candidates that overlap them more, weighted by score to the power (a whole number)",
    )
    p.add_argument("--stamp", metavar="FILE", help="change this file instead")
    p.add_argument("--split", default="val")
    p.add_argument("--ap50", type=float)
    args = p.parse_args()
    if args.stamp:
        return stamp(args)
    if not ((args.weights or args.start_net) and args.data and args.out):
        p.error("give --weights (or --start-net), --data and --out, or --stamp")
    return export(args)


if __name__ == "__main__":
    main()
