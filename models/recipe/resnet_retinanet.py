"""RetinaNets with ResNet-50-FPN as torchvision and Detectron2 make them, to ONNX files that `retinad` runs.

    python resnet_retinanet.py --form torchvision --weights retinanet_resnet50_fpn_coco.pth --side 640 \
        --pictures FOLDER --out retinanet.onnx
    python resnet_retinanet.py --form detectron2 --weights model_final.pkl --side 640 --pictures FOLDER --out d2.onnx
    python resnet_retinanet.py --form torchvision-v2 --float --compare ../../target/release/retinad \
        --out random.onnx

`--form` is torchvision's `retinanet_resnet50_fpn`, its `_v2`, or Detectron2's RetinaNet_R_50_FPN. The file is INT8
with its manifest inside, or with `--float` float. Without `--weights` they are random: a shape to time, and with
`--compare` the proof that the program's boxes are those of torchvision's own post-processing. It needs torchvision
beside requirements.txt.
"""

import argparse
import itertools
import json
import math
import pathlib
import pickle
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from PIL import Image
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from files import whole
from loss import iou

LEVELS = ("p3", "p4", "p5", "p6", "p7")
STRIDES = (8, 16, 32, 64, 128)
NAMES = [f"{kind}_{level}" for kind in ("cls", "box") for level in LEVELS]
# Largest log-ratio a box delta may ask for, the same in both projects.
DELTA_CLAMP = math.log(1000 / 16)
# Mean and deviation in RGB, of bytes: torchvision's, and Detectron2's for MSRA weights, which stay bytes.
PREPROCESSING = {
    "rgb": ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
    "bgr": ([123.675, 116.28, 103.53], [1.0, 1.0, 1.0]),
}
FORMS = ("torchvision", "torchvision-v2", "detectron2")


def base_boxes(form, stride):
    """The nine boxes around 0 of a level, `[9, 4]`: four strides the smallest side.

    torchvision rounds sides down and half extents to whole pixels, and lists all scales of a ratio together;
    Detectron2 rounds nothing, and lists all ratios of a scale together.
    """
    first = 4 * stride
    if form == "detectron2":
        boxes = []
        for octave, ratio in itertools.product(range(3), (0.5, 1.0, 2.0)):
            side = first * 2 ** (octave / 3)
            w = math.sqrt(side * side / ratio)
            boxes.append([-w / 2, -w * ratio / 2, w / 2, w * ratio / 2])
        return torch.tensor(boxes)
    sides = torch.tensor([first, int(first * 2 ** (1 / 3)), int(first * 2 ** (2 / 3))], dtype=torch.float32)
    h = torch.tensor([0.5, 1.0, 2.0]).sqrt()
    w, h = ((part[:, None] * sides).reshape(-1) for part in (1 / h, h))
    return (torch.stack((-w, -h, w, h), dim=1) / 2).round()


def renamed(key):
    """A parameter of Detectron2's RetinaNet under torchvision's name; None for one that it does not have."""
    key = key.replace("backbone.bottom_up.stem.conv1.norm", "backbone.body.bn1")
    key = key.replace("backbone.bottom_up.stem.conv1", "backbone.body.conv1")
    key = re.sub(r"backbone\.bottom_up\.res(\d)\.", lambda m: f"backbone.body.layer{int(m[1]) - 1}.", key)
    key = re.sub(r"\.conv(\d)\.norm\.", r".bn\1.", key)
    key = key.replace(".shortcut.norm.", ".downsample.1.").replace(".shortcut.", ".downsample.0.")
    for ours, theirs in (("inner_blocks", "lateral"), ("layer_blocks", "output")):
        key = re.sub(rf"backbone\.fpn_{theirs}(\d)", lambda m: f"backbone.fpn.{ours}.{int(m[1]) - 3}.0", key)
    key = key.replace("backbone.top_block.", "backbone.fpn.extra_blocks.")
    for subnet, head, last in (("cls", "classification", "cls_logits"), ("bbox", "regression", "bbox_reg")):
        start = f"head.{head}_head"
        key = re.sub(rf"head\.{subnet}_subnet\.(\d)", lambda m: f"{start}.conv.{int(m[1]) // 2}.0", key)
        key = key.replace(f"head.{subnet}_{'score' if subnet == 'cls' else 'pred'}", f"{start}.{last}")
    return None if key.startswith("anchor_generator") or key in ("pixel_mean", "pixel_std") else key


def weights_of(path, form):
    """The state that a file of weights has, under torchvision's names."""
    if form != "detectron2":
        return torch.load(path, map_location="cpu", weights_only=True)
    if path.endswith(".pkl"):
        with open(path, "rb") as file:
            state = pickle.load(file, encoding="latin1")
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("model", state)
    named = {renamed(key): torch.as_tensor(np.asarray(value)) for key, value in state.items()}
    named.pop(None, None)
    return named


def build(form, weights, classes, channels, side, seed):
    """The net in `form`, with its weights or random ones."""
    torch.manual_seed(seed)
    make = detection.retinanet_resnet50_fpn_v2 if form == "torchvision-v2" else detection.retinanet_resnet50_fpn
    net = make(weights=None, weights_backbone=None, num_classes=classes)
    if form == "detectron2":
        # P6 is made of C5, and the MSRA weights have the stride of a block in its first convolution.
        net.backbone.fpn.extra_blocks = LastLevelP6P7(2048, 256)
        for stage in (net.backbone.body.layer2, net.backbone.body.layer3, net.backbone.body.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    net.anchor_generator.cell_anchors = [base_boxes(form, stride) for stride in STRIDES]
    if weights:
        net.load_state_dict(weights_of(weights, form))
    else:
        randomise(net, normalised(example(side), channels), side, seed)
    return net.eval()


def randomise(net, image, side, seed):
    """Random weights that find a few hundred things in `image`, of all sizes and surenesses.

    Without statistics to norm by the numbers would grow from layer to layer, so one pass in training mode fills
    them in where a layer has some.
    """
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    heads = Heads(net)
    scores, deltas = net.head.classification_head.cls_logits, net.head.regression_head.bbox_reg
    net.train()
    with torch.no_grad():
        heads(torch.stack(list(noise(4, side, seed))))
        net.eval()
        outputs = heads(image[None])
        logits, moves = (torch.cat([o.flatten() for o in half]) for half in (outputs[:5], outputs[5:]))
        # The 400 highest logits lie from that of the threshold 0.05 up to 1.5; deltas have a deviation of 0.3.
        high, low = logits.max(), logits.topk(400).values[-1]
        factor = (1.5 - math.log(0.05 / 0.95)) / (high - low)
        scores.bias.copy_(factor * (scores.bias - low) + math.log(0.05 / 0.95))
        scores.weight *= factor
        deltas.weight *= 0.3 / moves.std()


class Heads(torch.nn.Module):
    """Picture to class maps of all levels, then box maps, before any permutation."""

    def __init__(self, net):
        super().__init__()
        self.body, head = net.backbone, net.head
        self.subnets = torch.nn.ModuleList([
            torch.nn.Sequential(head.classification_head.conv, head.classification_head.cls_logits),
            torch.nn.Sequential(head.regression_head.conv, head.regression_head.bbox_reg),
        ])  # fmt: skip

    def forward(self, image):
        features = list(self.body(image).values())
        return tuple(subnet(feature) for subnet in self.subnets for feature in features)


def noise(count, side, seed):
    """Pictures of coloured noise `[3, side, side]`, as smooth as a photograph is."""
    random = torch.Generator().manual_seed(seed)
    small = torch.randn(count, 3, 20, 20, generator=random)
    yield from torch.nn.functional.interpolate(small, size=(side, side), mode="bilinear")


def example(side):
    """A photograph, stretched to the square."""
    source = pathlib.Path(__file__).parents[2] / "examples" / "pictures" / "chelsea.jpg"
    return Image.open(source).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)


def normalised(pixels, channels):
    """`[side, side, 3]` RGB bytes to the net's input `[3, side, side]`."""
    mean, std = PREPROCESSING[channels]
    pixels = (torch.from_numpy(np.array(pixels)).float() - torch.tensor(mean)) / torch.tensor(std)
    return (pixels.flip(-1) if channels == "bgr" else pixels).permute(2, 0, 1).contiguous()


def photographs(folder, count, side, channels):
    """Up to `count` pictures of a folder, stretched to the square."""
    found = sorted(p for p in pathlib.Path(folder).iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    if not found:
        raise SystemExit(f"resnet_retinanet: {folder}: has no .jpg, .png or .webp")
    for path in found[:count]:
        picture = Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        yield normalised(picture, channels)


class Calibration(CalibrationDataReader):
    def __init__(self, pictures):
        self.inputs = ({"image": picture.numpy()[None]} for picture in pictures)

    def get_next(self):
        return next(self.inputs, None)


def manifest(form, side, labels, channels, quantised):
    mean, std = PREPROCESSING[channels]
    return {
        "format": "retinad-manifest/1",
        "name": f"retinanet-resnet50-fpn-{form}",
        "version": "1.0.0",
        "input": {
            "name": "image", "width": side, "height": side, "layout": "nchw", "channels": channels, "dtype": "f32",
            "scale_to_unit": 1.0, "mean": mean, "std": std,
        },
        "letterbox": {
            "keep_aspect": False, "placement": "top_left", "pad_rgb": [0, 0, 0],
            "resample": "bilinear_half_pixel", "rounding": "nearest",
        },
        "classes": [label and {"label": label, "coco_id": None} for label in labels],
        "heads": [
            {"level": p, "class_output": f"cls_{p}", "box_output": f"box_{p}", "class_channels": "anchor_major",
             "box_order": "dx_dy_dw_dh"}
            for p in LEVELS
        ],
        "activation": {"kind": "sigmoid", "logits": True},
        "anchors": {
            "format": "xyxy", "order": "level_y_x_anchor", "offset": 0.0,
            "cell_order": "scale_ratio" if form == "detectron2" else "ratio_scale",
            "rounding": "none" if form == "detectron2" else "half_extent_ties_even",
            "levels": [
                {"stride_yx": [s, s], "feature_hw": [-(-side // s)] * 2, "base": base_boxes(form, s).double().tolist()}
                for s in STRIDES
            ],
        },
        "box_coder": {"weights": [1.0] * 4, "clamp": DELTA_CLAMP},
        "decode": {
            "score_threshold": 0.05, "topk_per_level": 1000, "nms_iou": 0.5, "max_detections": 300,
            "clip": "before_nms",
        },
        "quantisation": {"scheme": "static QDQ, s8 per-channel weights, u8 activations"} if quantised else None,
    }  # fmt: skip


def export(net, args, labels, channels):
    heads = Heads(net).eval()
    with tempfile.TemporaryDirectory() as folder:
        plain, quantised = pathlib.Path(folder, "float.onnx"), pathlib.Path(folder, "int8.onnx")
        image = torch.zeros(1, 3, args.side, args.side)
        torch.onnx.export(
            heads, (image,), plain, input_names=["image"], output_names=NAMES, opset_version=17, dynamo=False
        )
        if not args.float:
            pictures = (
                photographs(args.pictures, args.calibration, args.side, channels)
                if args.pictures
                else noise(min(args.calibration, 8), args.side, args.seed + 1)
            )
            quantize_static(
                plain, quantised, Calibration(pictures), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            )  # fmt: skip
        model = onnx.load(plain if args.float else quantised)
    contents = manifest(args.form, args.side, labels, channels, not args.float)
    onnx.helper.set_model_props(model, {"retinad.manifest": json.dumps(contents, separators=(",", ":"))})
    with whole(args.out) as beside:
        onnx.save(model, beside)


def own_boxes(net, picture, channels):
    """torchvision's own detections of a picture of the input's size: `[(class, score, x1, y1, x2, y2)]`."""
    image = normalised(picture, channels)[None]
    size = tuple(image.shape[2:])
    with torch.inference_mode():
        features = list(net.backbone(image).values())
        outputs = net.head(features)
        anchors = net.anchor_generator(ImageList(image, [size]), features)
        counts = [f.shape[2] * f.shape[3] * 9 for f in features]
        by_level = {name: list(rows.split(counts, dim=1)) for name, rows in outputs.items()}
        found = net.postprocess_detections(by_level, [list(anchors[0].split(counts))], [size])[0]
    rows = zip(found["labels"].tolist(), found["scores"].tolist(), found["boxes"].tolist())
    return [(label, score, *box) for label, score, box in rows]


def compare(net, args, labels, channels):
    """Fails unless the program finds what torchvision does: as many boxes, each with one of the same class and
    score and IoU 0.99 and more."""
    picture = example(args.side)
    expected = own_boxes(net, picture, channels)
    categories = [{"id": i, "name": label} for i, label in enumerate(labels) if label]
    entry = {"id": 1, "file_name": "picture.png", "width": args.side, "height": args.side}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        picture.save(folder / "picture.png")
        annotations = {"images": [entry], "annotations": [], "categories": categories}
        (folder / "a.json").write_text(json.dumps(annotations))
        asked = [args.compare, "detect", "--model", args.out, "--format", "coco"]
        asked += ["--annotations", str(folder / "a.json"), "--images", name]
        found = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    left, worst, furthest = [row for row in expected if labels[row[0]]], 1.0, 0.0
    count = len(left)
    for detection in found:
        x, y, w, h = detection["bbox"]
        box = np.array([x, y, x + w, y + h])
        rivals = [
            row
            for row in left
            if row[0] == detection["category_id"] and abs(row[1] - detection["score"]) < 1e-3
        ]
        best = 0.0
        if rivals:
            shares = iou(torch.tensor(box[None]), torch.tensor(rivals, dtype=torch.float64)[:, 2:])[0]
            best, row = shares.max().item(), rivals[shares.argmax()]
            left.remove(row)
            furthest = max(furthest, np.abs(box - np.array(row[2:])).max())
        worst = min(worst, best)
    print(
        f"{len(found)} detections, torchvision {count}, unmatched {len(left)}; least IoU {worst:.4f}, furthest side "
        f"{furthest:.4f} pixels"
    )
    if not found or left or len(found) != count or worst < 0.99:
        sys.exit("resnet_retinanet: not the same boxes")


def class_labels(args):
    """A label for each class output; None: never told."""
    if args.labels:
        lines = pathlib.Path(args.labels).read_text().splitlines()
        return [line.strip() or None for line in lines]
    if args.weights and args.form != "detectron2":
        names = detection.RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
        return [None if name in ("__background__", "N/A") else name for name in names]
    return [f"class_{i}" for i in range(80 if args.form == "detectron2" else 91)]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--form", choices=FORMS, default="torchvision")
    p.add_argument(
        "--weights",
        help="a .pth of torchvision, or a .pkl or .pth of Detectron2 (default: random); a .pkl can run code when it "
        "is read: only from a source you trust",
    )
    p.add_argument("--labels", help="a text file with a line for each class output; an empty line: never told")
    p.add_argument("--out", required=True, help="the model file to write: 34 MB, float 136 MB")
    p.add_argument("--side", type=int, default=320, help="the input's sides, a multiple of 128 (default: 320)")
    p.add_argument("--float", action="store_true", help="do not quantise")
    p.add_argument("--pictures", help="folder of pictures for the ranges, 100 or more (default: noise)")
    p.add_argument("--calibration", type=int, default=150, help="how many of them (default: 150)")
    p.add_argument("--compare", metavar="RETINAD", help="compare this program's boxes with torchvision's own")
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()
    if args.weights and not args.float and not args.pictures:
        p.error("--pictures: needed to quantise real weights; noise gives ranges of noise")
    channels, labels = "bgr" if args.form == "detectron2" else "rgb", class_labels(args)
    net = build(args.form, args.weights, len(labels), channels, args.side, args.seed)
    export(net, args, labels, channels)
    print(f"{args.out}: {pathlib.Path(args.out).stat().st_size} bytes")
    if args.compare:
        compare(net, args, labels, channels)


if __name__ == "__main__":
    main()
