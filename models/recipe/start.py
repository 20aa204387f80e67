"""Weights to start from.

`load("coco")` reads `models/start/nanodet-plus-m-1.5x-coco.fp16.safetensors` and turns it into a RetinaNet:
the stem is rewritten for RGB and (byte - 127) / 128, both towers begin as the old head's stride-16 tower, the
class output as the twenty matching class rows repeated for the nine anchors, the box output as N(0, 0.01^2).
With the head "level-bins" it is the start net as it comes.

    python start.py COCO.onnx OUT.safetensors     # how the file in models/start was made
"""

import pathlib
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from files import whole
from network import ANCHORS, RetinaNet

FOLDER = pathlib.Path(__file__).parent.parent / "start"
COCO = FOLDER / "nanodet-plus-m-1.5x-coco.fp16.safetensors"
COCO_HEAD = FOLDER / "nanodet-plus-m-1.5x-coco-head.fp16.safetensors"

# The 20 VOC classes in alphabetical order: COCO's name and its row among the 80 contiguous classes.
CLASSES = {
    "aeroplane": 4, "bicycle": 1, "bird": 14, "boat": 8, "bottle": 39, "bus": 5, "car": 2, "cat": 15, "chair": 56,
    "cow": 19, "diningtable": 60, "dog": 16, "horse": 17, "motorbike": 3, "person": 0, "pottedplant": 58, "sheep": 18,
    "sofa": 57, "train": 6, "tvmonitor": 62,
}  # fmt: skip
MEAN_BGR = torch.tensor([103.53, 116.28, 123.675])
STD_BGR = torch.tensor([57.375, 57.12, 58.395])


def rewrite_stem(weight, bias):
    """BGR with ImageNet mean and std to RGB with 127 and 128: exact away from the border, where padding
    differs."""
    bias = bias + (weight * ((127.0 - MEAN_BGR) / STD_BGR).view(1, 3, 1, 1)).sum(dim=(1, 2, 3))
    weight = weight * (128.0 / STD_BGR).view(1, 3, 1, 1)
    return weight.flip(1).contiguous(), bias


def body_of(tensors):
    """State of the body from the tensors of the COCO start file, with the stem rewritten."""
    state = {k: v.float() for k, v in tensors.items() if k.startswith(("backbone.", "fpn."))}
    stem = rewrite_stem(state["backbone.conv1.0.weight"], state["backbone.conv1.0.bias"])
    state["backbone.conv1.0.weight"], state["backbone.conv1.0.bias"] = stem
    return state


def start_net():
    """State of the start net with its own head, of its 80 classes the 20 of VOC: head "level-bins"."""
    return body_of(load_file(COCO)) | {k: v.float() for k, v in load_file(COCO_HEAD).items()}


def from_coco(tensors, seed=0):
    """State of a RetinaNet with anchors from the tensors of the COCO start file."""
    state = body_of(tensors)
    for subnet in ("cls", "box"):
        for key, value in tensors.items():
            if key.startswith("head.tower."):
                state[f"{subnet}.{key.removeprefix('head.')}"] = value.float().clone()
    rows = list(CLASSES.values())
    state["cls.out.weight"] = tensors["head.cls.weight"].float()[rows].repeat(ANCHORS, 1, 1, 1)
    state["cls.out.bias"] = tensors["head.cls.bias"].float()[rows].repeat(ANCHORS)
    generator = torch.Generator().manual_seed(seed)
    state["box.out.weight"] = (
        torch.randn(ANCHORS * 4, state["cls.out.weight"].shape[1], 1, 1, generator=generator) * 0.01
    )
    state["box.out.bias"] = torch.zeros(ANCHORS * 4)
    return state


def head_of(state):
    """Which head a state is of, by the names and rows that it has."""
    if "outs.0.bias" in state:
        return "level-bins"
    return "bins" if len(state["cls.out.bias"]) == len(CLASSES) else "anchors"


def load(start, seed=0, head=None):
    """A RetinaNet ready to train: `start` is "coco" or the path of a .safetensors file with all of its
    weights.

    The head is the one that the weights have; one that is asked for and not had is an error. "coco" has
    anchors, or, asked for level-bins, the start net's own head.
    """
    if start != "coco":
        state = {k: v.float() for k, v in load_file(start).items()}
    else:
        state = start_net() if head == "level-bins" else from_coco(load_file(COCO), seed)
    found = head_of(state)
    if head not in (None, found):
        raise ValueError(f"{start}: has the head {found!r}, not {head!r}")
    net = RetinaNet(len(CLASSES), found)
    net.load_state_dict(state)
    return net


def extract(source, target):
    """Body, stride-16 tower and class rows of NanoDet-Plus-m-1.5x's ONNX file as fp16."""
    import onnx
    from onnx import numpy_helper

    tensors = {}
    for init in onnx.load(source).graph.initializer:
        name = init.name
        if name.startswith("head.cls_convs.1."):
            name = name.replace("head.cls_convs.1.", "head.tower.")
        elif name.startswith("head.gfl_cls.1."):
            name = name.replace("head.gfl_cls.1.", "head.cls.")
        elif not name.startswith(("backbone.", "fpn.")):
            continue
        value = torch.from_numpy(numpy_helper.to_array(init).copy())
        # Rows 80 and up of the old class output are distance bins, which this detector does not use.
        value = value[:80] if name.startswith("head.cls.") else value
        tensors[name] = value.half().contiguous()
    about = {
        "origin": "NanoDet-Plus-m-1.5x 416, RangiLyu/nanodet, COCO 2017; BGR, mean 103.53 116.28 123.675, std 57.375 57.12 58.395",
        "licence": "Apache-2.0",
        "changes": "batch norm folded; fp16; of the head only the stride-16 tower and its 80 class rows",
    }
    with whole(target) as beside:
        save_file(tensors, beside, metadata=about)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    extract(sys.argv[1], sys.argv[2])
    with safe_open(sys.argv[2], "pt") as file:
        print(f"{sys.argv[2]}: {len(file.keys())} tensors, {pathlib.Path(sys.argv[2]).stat().st_size} bytes")
