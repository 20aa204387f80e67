"""Weights to start from.

`load("coco")` reads the COCO weights of `models/start` and turns them into a RetinaNet: the stem is rewritten
for RGB and (byte - 127) / 128, both towers begin as the old head's stride-16 tower, the class output as the
twenty matching class rows repeated for the nine anchors, the box output as N(0, 0.01^2). With the head
"level-bins" it is the start net as it comes.

    python start.py NANODET.onnx OUT.safetensors NAME    # how the file of size `s` was made
"""

import pathlib
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from files import whole
from network import ANCHORS, BINS, SIZES, RetinaNet

FOLDER = pathlib.Path(__file__).parent.parent / "start"
# Of `m` the head came later, in a file of its own.
STARTS = {
    "m": (
        FOLDER / "nanodet-plus-m-1.5x-coco.fp16.safetensors",
        FOLDER / "nanodet-plus-m-1.5x-coco-head.fp16.safetensors",
    ),
    "s": (FOLDER / "nanodet-plus-m-coco.fp16.safetensors",),
}

NAMES = {"m": "NanoDet-Plus-m-1.5x", "s": "NanoDet-Plus-m"}

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


def start_net(size="m"):
    """State of the start net with its own head, of its 80 classes the 20 of VOC: head "level-bins"."""
    tensors = {}
    for path in STARTS[size]:
        tensors |= {k: v.float() for k, v in load_file(path).items()}
    return body_of(tensors) | {k: v for k, v in tensors.items() if k.startswith(("towers.", "outs."))}


def with_anchors(start, seed=0):
    """State of a RetinaNet with anchors from that of the start net with its own head.

    Both towers begin as the old one of stride 16, the class output as its class rows, repeated.
    """
    state = {k: v for k, v in start.items() if k.startswith(("backbone.", "fpn."))}
    for subnet in ("cls", "box"):
        for key, value in start.items():
            if key.startswith("towers.1."):
                state[f"{subnet}.tower.{key.removeprefix('towers.1.')}"] = value.clone()
    rows = slice(len(CLASSES))
    state["cls.out.weight"] = start["outs.1.weight"][rows].repeat(ANCHORS, 1, 1, 1)
    state["cls.out.bias"] = start["outs.1.bias"][rows].repeat(ANCHORS)
    generator = torch.Generator().manual_seed(seed)
    width = state["cls.out.weight"].shape[1]
    state["box.out.weight"] = torch.randn(ANCHORS * 4, width, 1, 1, generator=generator) * 0.01
    state["box.out.bias"] = torch.zeros(ANCHORS * 4)
    return state


def head_of(state):
    """Which head a state is of, by the names and rows that it has."""
    if "outs.0.bias" in state:
        return "level-bins"
    return "bins" if len(state["cls.out.bias"]) == len(CLASSES) else "anchors"


def size_of(state):
    """Which size a state is of, by the channels of its pyramid."""
    width = len(state["fpn.reduce_layers.0.conv.bias"])
    found = [name for name, size in SIZES.items() if size.width == width]
    if not found:
        raise ValueError(f"fpn.reduce_layers.0.conv.bias: no size has {width} channels")
    return found[0]


def load(start, seed=0, head=None, size=None):
    """A RetinaNet ready to train: `start` is "coco" or the path of a .safetensors file with all of its
    weights.

    Head and size are those that the weights have; one that is asked for and not had is an error. "coco" has
    anchors, or, asked for level-bins, the start net's own head, and is of size `m` unless asked for `s`.
    """
    if start != "coco":
        state = {k: v.float() for k, v in load_file(start).items()}
    else:
        state = start_net(size or "m")
        state = state if head == "level-bins" else with_anchors(state, seed)
    for name, asked, found in (("head", head, head_of(state)), ("size", size, size_of(state))):
        if asked not in (None, found):
            raise ValueError(f"{start}: has the {name} {found!r}, not {asked!r}")
    net = RetinaNet(len(CLASSES), head_of(state), size_of(state))
    net.load_state_dict(state)
    return net


def of_onnx(source):
    """Body, towers, class rows and distance rows of a NanoDet-Plus ONNX file, of its 80 classes the 20 of VOC."""
    import onnx
    from onnx import numpy_helper

    rows = [*CLASSES.values(), *range(80, 80 + 4 * BINS)]
    tensors = {}
    for init in onnx.load(source).graph.initializer:
        if not init.name.startswith(("backbone.", "fpn.", "head.")):
            continue
        value = torch.from_numpy(numpy_helper.to_array(init).copy())
        value = value[rows] if init.name.startswith("head.gfl_cls.") else value
        tensors[init.name.replace("head.cls_convs.", "towers.").replace("head.gfl_cls.", "outs.")] = value
    return tensors


def extract(source, target, name):
    """What the detector uses of a NanoDet-Plus ONNX file, as fp16."""
    about = {
        "origin": f"{name}, RangiLyu/nanodet, COCO 2017; BGR, mean 103.53 116.28 123.675, std 57.375 57.12 58.395",
        "licence": "Apache-2.0",
        "changes": "batch norm folded; fp16; of its 80 classes the 20 of VOC",
    }
    tensors = {k: v.half().contiguous() for k, v in of_onnx(source).items()}
    with whole(target) as beside:
        save_file(tensors, beside, metadata=about)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    extract(*sys.argv[1:])
    with safe_open(sys.argv[2], "pt") as file:
        print(f"{sys.argv[2]}: {len(file.keys())} tensors, {pathlib.Path(sys.argv[2]).stat().st_size} bytes")
