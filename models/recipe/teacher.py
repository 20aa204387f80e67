"""The start net with its own head, as a teacher: its 20 class scores and its box for every cell of the four
levels."""

import torch
from torch import nn

from files import whole
from network import BINS, STRIDES, RetinaNet, decode_bins, flatten, points_for
from start import CLASSES, start_net


class Teacher(nn.Module):
    """NanoDet-Plus-m-1.5x: one tower a level, 80 class rows of which 20 are kept, then 4 x 8 distance
    bins."""

    def __init__(self, state):
        super().__init__()
        self.net = RetinaNet(len(CLASSES), "level-bins")
        self.net.load_state_dict(state)

    def forward(self, image):
        """`[n, 3, h, w]`, RGB, (byte - 127) / 128, to scores `[n, cells, 20]`, boxes `[n, cells, 4]`, and the
        logits of the bins `[n, cells, 32]` behind the boxes."""
        classes, boxes = self.net(image)
        scores, bins = flatten(classes, len(CLASSES)).float(), flatten(boxes, 4 * BINS).float()
        points, strides = (t.to(bins.device) for t in points_for(*image.shape[2:]))
        return scores.sigmoid(), decode_bins(bins, points, strides), bins


class Mirrored(nn.Module):
    """The mean of a teacher's answers to a picture and to its mirror image.

    A cell's point is x * stride, so column i of the picture is column w - i of the mirror image; column 0 has
    no partner there and keeps its own answer.
    """

    def __init__(self, teacher):
        super().__init__()
        self.teacher = teacher

    def forward(self, image):
        scores, _, bins = self.teacher(image)
        their_scores, _, their_bins = self.teacher(image.flip(-1))
        their_bins = their_bins.unflatten(-1, (4, BINS))[..., [2, 1, 0, 3], :].flatten(-2)
        height, width = image.shape[2:]
        sizes = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
        scores, bins = with_mirror(scores, their_scores, sizes), with_mirror(bins, their_bins, sizes)
        points, strides = (t.to(bins.device) for t in points_for(height, width))
        return scores, decode_bins(bins, points, strides), bins


def with_mirror(rows, theirs, sizes):
    """The mean of rows `[n, cells, k]` and the mirror image's, level by level, where a cell has a partner."""
    levels, counts = [], [h * w for h, w in sizes]
    for mine, other, size in zip(rows.split(counts, 1), theirs.split(counts, 1), sizes):
        mine, other = mine.unflatten(1, size), other.unflatten(1, size)
        both = (mine[:, :, 1:] + other[:, :, 1:].flip(2)) / 2
        levels.append(torch.cat((mine[:, :, :1], both), dim=2).flatten(1, 2))
    return torch.cat(levels, dim=1)


def load(mirrored=False):
    """The teacher, from the two start files, without gradients."""
    net = Teacher(start_net()).eval().requires_grad_(False)
    return Mirrored(net) if mirrored else net


def extract(source, target):
    """All four towers, the 20 class rows of each and its distance rows from the ONNX file, as fp16."""
    import onnx
    from onnx import numpy_helper
    from safetensors.torch import save_file

    rows = [*CLASSES.values(), *range(80, 80 + 4 * BINS)]
    tensors = {}
    for init in onnx.load(source).graph.initializer:
        if not init.name.startswith("head."):
            continue
        value = torch.from_numpy(numpy_helper.to_array(init).copy())
        if init.name.startswith("head.gfl_cls."):
            value = value[rows]
        name = init.name.replace("head.cls_convs.", "towers.").replace("head.gfl_cls.", "outs.")
        tensors[name] = value.half().contiguous()
    about = {
        "origin": "NanoDet-Plus-m-1.5x 416, RangiLyu/nanodet, COCO 2017",
        "licence": "Apache-2.0",
        "changes": "batch norm folded; fp16; the whole head, of its 80 classes the 20 of VOC",
    }
    with whole(target) as beside:
        save_file(tensors, beside, metadata=about)


if __name__ == "__main__":
    import sys

    if len(sys.argv) != 3:
        sys.exit(
            __doc__
            + "\n    python teacher.py COCO.onnx OUT.safetensors     # how the head in models/start was made"
        )
    extract(sys.argv[1], sys.argv[2])
