"""torchvision's retinanet_resnet50_fpn with random weights, exported and quantised like the shipped model: a shape to time, no detector.

    python resnet50_fpn.py --out ../../target/resnet50-fpn-320-int8.onnx

Outputs are the heads before any permutation: class and box maps of P3 to P7. It needs torchvision beside requirements.txt.
"""

import argparse
import os
import pathlib
import tempfile

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torchvision.models.detection import retinanet_resnet50_fpn

LEVELS = ("p3", "p4", "p5", "p6", "p7")


class Heads(torch.nn.Module):
    """Picture to class maps of all levels, then box maps."""

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


class Noise(CalibrationDataReader):
    """Pictures of coloured noise, as smooth as a photograph is."""

    def __init__(self, count, side, seed):
        random = torch.Generator().manual_seed(seed)
        small = torch.randn(count, 3, 20, 20, generator=random)
        pictures = torch.nn.functional.interpolate(small, size=(side, side), mode="bilinear")
        self.inputs = iter({"image": picture.numpy()[None]} for picture in pictures)

    def get_next(self):
        return next(self.inputs, None)


def build(side, seed):
    torch.manual_seed(seed)
    net = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    heads = Heads(net)
    # Random weights without statistics to norm by grow from layer to layer: one pass in training mode fills them in.
    for module in heads.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    heads.train()
    with torch.no_grad():
        heads(torch.from_numpy(np.concatenate([entry["image"] for entry in Noise(4, side, seed).inputs])))
    return heads.eval()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True, help="the model file to write, 34 MB")
    p.add_argument("--side", type=int, default=320)
    p.add_argument("--calibration", type=int, default=8, help="noise pictures for the ranges (default: 8)")
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()
    net = build(args.side, args.seed)
    names = [f"{kind}_{level}" for kind in ("cls", "box") for level in LEVELS]
    with tempfile.TemporaryDirectory() as folder:
        plain, quantised = pathlib.Path(folder, "float.onnx"), pathlib.Path(folder, "int8.onnx")
        image = torch.zeros(1, 3, args.side, args.side)
        torch.onnx.export(net, (image,), plain, input_names=["image"], output_names=names, opset_version=17, dynamo=False)
        quantize_static(
            plain, quantised, Noise(args.calibration, args.side, args.seed + 1),
            quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        onnx.save(onnx.load(quantised), f"{args.out}.tmp")
    os.replace(f"{args.out}.tmp", args.out)
    print(f"{args.out}: {os.path.getsize(args.out)} bytes")


if __name__ == "__main__":
    main()
