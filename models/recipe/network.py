"""The detectors `m` and `s`: ShuffleNetV2 1.5x or 1.0x, Ghost-PAN, class and box subnets on its four levels.

Three heads: "anchors" is RetinaNet's, nine anchors a cell and four deltas an anchor; "bins" has one answer a
cell, and for each side of the box the distance from the cell's point as a distribution over eight bins (arXiv
2006.04388). Both share their two subnets between the levels. "level-bins" answers like "bins", but from a tower
of its own at each level, one for classes and boxes together: NanoDet-Plus's own head.

Batch norm is folded everywhere: each layer is a convolution with bias, as in the start weights, whose
parameter names these modules keep. Sources: ShuffleNetV2 (arXiv 1807.11164), NanoDet-Plus
(github.com/RangiLyu/nanodet, Apache-2.0) for the body's shape and weights, RetinaNet (arXiv 1708.02002) for
subnets and anchors.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

STRIDES = (8, 16, 32, 64)
ANCHORS = 9
BINS = 8
HEADS = ("anchors", "bins", "level-bins")
# Largest log-ratio a box delta may ask for: ln(1000 / 16), as torchvision and detectron2 clamp it.
DELTA_CLAMP = math.log(1000 / 16)


@dataclass(frozen=True)
class Size:
    """Channels of the body's three stages (strides 8, 16, 32), and of the pyramid and the subnets."""

    stages: tuple[int, int, int]
    width: int
    body: str


SIZES = {
    "m": Size((176, 352, 704), 128, "ShuffleNetV2 1.5x"),
    "s": Size((116, 232, 464), 96, "ShuffleNetV2 1.0x"),
}


def leaky(x):
    return F.leaky_relu(x, 0.1)


class DepthwiseConv(nn.Conv2d):
    """A depthwise convolution; its own class so that the optimiser and the tests can tell it from the
    others."""

    def __init__(self, channels, kernel, stride=1):
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels)


def pointwise(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 1)


def shuffle(x):
    """Interleave the two halves of the channels: ShuffleNet's channel shuffle with two groups."""
    n, c, h, w = x.shape
    return x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class ShuffleUnit(nn.Module):
    """One ShuffleNetV2 unit: with stride 2 both branches see the input, with stride 1 one half passes
    untouched."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        half = outputs // 2
        self.stride, self.half = stride, half
        if stride == 2:
            self.branch1 = nn.ModuleDict({"0": DepthwiseConv(inputs, 3, 2), "2": pointwise(inputs, half)})
        self.branch2 = nn.ModuleDict(
            {
                "0": pointwise(inputs if stride == 2 else half, half),
                "3": DepthwiseConv(half, 3, stride),
                "5": pointwise(half, half),
            }
        )

    def forward(self, x):
        kept, worked = (x, x) if self.stride == 2 else x.split(self.half, dim=1)
        if self.stride == 2:
            kept = leaky(self.branch1["2"](self.branch1["0"](kept)))
        worked = leaky(self.branch2["5"](self.branch2["3"](leaky(self.branch2["0"](worked)))))
        return shuffle(torch.cat((kept, worked), dim=1))


class Backbone(nn.Module):
    """ShuffleNetV2. `[n, 3, h, w]` to features of strides 8, 16, 32 with the channels of `stages`."""

    def __init__(self, stages):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1))
        widths, depths = (24, *stages), (4, 8, 4)
        for stage, depth in enumerate(depths):
            units = [ShuffleUnit(widths[stage], widths[stage + 1], 2)]
            units += [ShuffleUnit(widths[stage + 1], widths[stage + 1], 1) for _ in range(depth - 1)]
            self.add_module(f"stage{stage + 2}", nn.Sequential(*units))

    def forward(self, x):
        x = F.max_pool2d(leaky(self.conv1(x)), 3, 2, 1)
        c3 = self.stage2(x)
        c4 = self.stage3(c3)
        return c3, c4, self.stage4(c4)


class Ghost(nn.Module):
    """Half of the channels from a 1x1 conv, the other half from a 3x3 depthwise conv of the first
    (GhostNet)."""

    def __init__(self, inputs, outputs, act):
        super().__init__()
        self.act = leaky if act else nn.Identity()
        self.primary_conv = nn.Sequential(pointwise(inputs, outputs // 2))
        self.cheap_operation = nn.Sequential(DepthwiseConv(outputs // 2, 3))

    def forward(self, x):
        first = self.act(self.primary_conv(x))
        return torch.cat((first, self.act(self.cheap_operation(first))), dim=1)


class GhostBlock(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.ghost1 = Ghost(inputs, outputs, act=True)
        self.ghost2 = Ghost(outputs, outputs, act=False)
        self.shortcut = nn.ModuleDict({"0": DepthwiseConv(inputs, 5), "2": pointwise(inputs, outputs)})

    def forward(self, x):
        return self.ghost2(self.ghost1(x)) + self.shortcut["2"](self.shortcut["0"](x))


class GhostBlocks(nn.Module):
    """Ghost-PAN groups its blocks; here each group has one. The nesting keeps the names of the start
    weights."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.blocks = nn.Sequential(GhostBlock(inputs, outputs))

    def forward(self, x):
        return self.blocks(x)


class SeparableConv(nn.Module):
    """5x5 depthwise and 1x1, each followed by LeakyReLU."""

    def __init__(self, channels, stride=1):
        super().__init__()
        self.depthwise = DepthwiseConv(channels, 5, stride)
        self.pointwise = pointwise(channels, channels)

    def forward(self, x):
        return leaky(self.pointwise(leaky(self.depthwise(x))))


class Reduce(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = pointwise(inputs, outputs)

    def forward(self, x):
        return leaky(self.conv(x))


class GhostPan(nn.Module):
    """Top-down, then bottom-up, over strides 8, 16, 32, and one extra level of stride 64."""

    def __init__(self, size, upsample="nearest"):
        super().__init__()
        self.upsample, width = upsample, size.width
        self.reduce_layers = nn.ModuleList(Reduce(c, width) for c in size.stages)
        self.top_down_blocks = nn.ModuleList(GhostBlocks(2 * width, width) for _ in range(2))
        self.downsamples = nn.ModuleList(SeparableConv(width, 2) for _ in range(2))
        self.bottom_up_blocks = nn.ModuleList(GhostBlocks(2 * width, width) for _ in range(2))
        self.extra_lvl_in_conv = nn.ModuleList([SeparableConv(width, 2)])
        self.extra_lvl_out_conv = nn.ModuleList([SeparableConv(width, 2)])

    def up(self, x):
        if self.upsample == "nearest":
            return F.interpolate(x, scale_factor=2, mode="nearest")
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    def forward(self, features):
        r3, r4, r5 = (reduce(x) for reduce, x in zip(self.reduce_layers, features))
        t4 = self.top_down_blocks[0](torch.cat((self.up(r5), r4), dim=1))
        p3 = self.top_down_blocks[1](torch.cat((self.up(t4), r3), dim=1))
        p4 = self.bottom_up_blocks[0](torch.cat((self.downsamples[0](p3), t4), dim=1))
        p5 = self.bottom_up_blocks[1](torch.cat((self.downsamples[1](p4), r5), dim=1))
        p6 = self.extra_lvl_in_conv[0](r5) + self.extra_lvl_out_conv[0](p5)
        return p3, p4, p5, p6


def tower(width):
    return nn.Sequential(SeparableConv(width), SeparableConv(width))


class Subnet(nn.Module):
    """Two separable convs and a 1x1: the class or the box subnet, shared by all levels."""

    def __init__(self, width, outputs):
        super().__init__()
        self.tower = tower(width)
        self.out = pointwise(width, outputs)

    def forward(self, x):
        return self.out(self.tower(x))


class RetinaNet(nn.Module):
    """`[n, 3, h, w]`, RGB, (byte - 127) / 128, to per-level class logits and box outputs.

    With anchors these are `[n, 9K, h, w]` and deltas `[n, 36, h, w]`, with bins `[n, K, h, w]` and `[n, 32,
    h, w]`, the bins of the left side first, then top, right and bottom. The start net upsamples bilinearly, and
    its own head is kept with that; the shared subnets were taught on nearest.
    """

    def __init__(self, classes=20, head="anchors", size="m"):
        super().__init__()
        self.classes, self.head, self.size = classes, head, size
        channels = SIZES[size]
        self.backbone = Backbone(channels.stages)
        self.fpn = GhostPan(channels, "bilinear" if head == "level-bins" else "nearest")
        width = channels.width
        if head == "level-bins":
            self.towers = nn.ModuleList(tower(width) for _ in STRIDES)
            self.outs = nn.ModuleList(pointwise(width, classes + 4 * BINS) for _ in STRIDES)
        else:
            self.cls = Subnet(width, (ANCHORS if head == "anchors" else 1) * classes)
            self.box = Subnet(width, ANCHORS * 4 if head == "anchors" else 4 * BINS)

    def forward(self, x):
        levels = self.fpn(self.backbone(x))
        if self.head != "level-bins":
            return [self.cls(p) for p in levels], [self.box(p) for p in levels]
        seen = [tower(p) for tower, p in zip(self.towers, levels)]
        # One layer has the rows of the classes and then those of the boxes. It runs as two, so that in the
        # exported file each has a range of codes of its own.
        classes, boxes = slice(self.classes), slice(self.classes, None)
        return tuple(
            [F.conv2d(x, out.weight[rows], out.bias[rows]) for out, x in zip(self.outs, seen)]
            for rows in (classes, boxes)
        )


def flatten(heads, last):
    """Per-level `[n, A*last, h, w]` to `[n, anchors, last]` in the order level, y, x, anchor."""
    return torch.cat([t.permute(0, 2, 3, 1).reshape(t.shape[0], -1, last) for t in heads], dim=1)


def base_boxes(stride):
    """Nine boxes around 0, scale outer and ratio (height / width) inner, 3 * stride the smallest; no
    rounding."""
    boxes = []
    for octave in range(3):
        side = 3.0 * stride * 2 ** (octave / 3)
        for ratio in (0.5, 1.0, 2.0):
            w, h = side / math.sqrt(ratio), side * math.sqrt(ratio)
            boxes.append([-w / 2, -h / 2, w / 2, h / 2])
    return torch.tensor(boxes, dtype=torch.float32)


def anchors_for(height, width):
    """All anchors `[anchors, 4]` (x1 y1 x2 y2, network pixels) of an input whose sides 64 divides or not."""
    every = []
    for stride in STRIDES:
        h, w = -(-height // stride), -(-width // stride)
        y, x = torch.meshgrid(torch.arange(h) * float(stride), torch.arange(w) * float(stride), indexing="ij")
        shift = torch.stack((x, y, x, y), dim=-1).reshape(-1, 1, 4)
        every.append((shift + base_boxes(stride)).reshape(-1, 4))
    return torch.cat(every)


def decode(deltas, anchors):
    """Deltas dx, dy, dw, dh on anchors to boxes x1 y1 x2 y2 (weights 1; dw and dh clamped above)."""
    size = anchors[..., 2:] - anchors[..., :2]
    centre = anchors[..., :2] + size / 2 + deltas[..., :2] * size
    half = size * deltas[..., 2:].clamp(max=DELTA_CLAMP).exp() / 2
    return torch.cat((centre - half, centre + half), dim=-1)


def points_for(height, width):
    """Of each cell the point `[cells, 2]` (x y, network pixels) and the stride `[cells, 1]`, in the order
    level, y, x."""
    where, strides = [], []
    for stride in STRIDES:
        h, w = -(-height // stride), -(-width // stride)
        y, x = torch.meshgrid(torch.arange(h) * float(stride), torch.arange(w) * float(stride), indexing="ij")
        where.append(torch.stack((x, y), dim=-1).reshape(-1, 2))
        strides.append(torch.full((h * w, 1), float(stride)))
    return torch.cat(where), torch.cat(strides)


def decode_bins(logits, points, strides):
    """Bin logits `[..., cells, 32]` to boxes: softmax per side, expected bin times stride, from the cell's
    point."""
    steps = torch.arange(BINS, device=logits.device, dtype=logits.dtype)
    sides = (logits.unflatten(-1, (4, BINS)).softmax(-1) * steps).sum(-1) * strides
    return torch.cat((points - sides[..., :2], points + sides[..., 2:]), dim=-1)
