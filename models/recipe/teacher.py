"""A net with one answer a cell, as a teacher: its class scores and its box for every cell of the four levels."""

import torch
from torch import nn

import start as starts
from network import BINS, STRIDES, decode_bins, flatten, points_for


class Teacher(nn.Module):
    """A net with a tower a level and distance bins: the start net with its own head, or what came of it."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image):
        """`[n, 3, h, w]`, RGB, (byte - 127) / 128, to scores `[n, cells, 20]`, boxes `[n, cells, 4]`, and the
        logits of the bins `[n, cells, 32]` behind the boxes."""
        classes, boxes = self.net(image)
        scores, bins = flatten(classes, self.net.classes).float(), flatten(boxes, 4 * BINS).float()
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


def load(weights="coco", mirrored=False):
    """The teacher without gradients: the start net of size `m`, or the weights of a .safetensors file."""
    net = Teacher(starts.load(weights, head="level-bins")).eval().requires_grad_(False)
    return Mirrored(net) if mirrored else net
