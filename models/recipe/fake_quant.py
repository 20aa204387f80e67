"""Training in sight of INT8: weights and activations are rounded as the exported file rounds them.

Forward each weight is a code of its channel (s8, symmetric) and each activation one of 256 steps of its
tensor's range; backward the rounding is looked through (straight-through estimator, arXiv 1308.3432; the scheme
is that of arXiv 1712.05877). The heads' outputs stay floats, since what their codes are for is said at export.
"""

import operator

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.func import functional_call

BINS = 2048


class Codes(nn.Module):
    """The quantiser of one tensor. It sees calibration pictures twice, for the ends of its values and for how
    they lie between these; then it rounds."""

    def __init__(self):
        super().__init__()
        self.ends, self.counts, self.scale, self.zero_point = None, None, None, None

    def forward(self, x):
        if self.scale is not None:
            return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, 0, 255)
        if self.counts is None:
            ends = x.min().item(), x.max().item()
            self.ends = ends if self.ends is None else (min(self.ends[0], ends[0]), max(self.ends[1], ends[1]))
        else:
            self.counts += torch.histc(x.float(), BINS, *self.ends).cpu().numpy()
        return x

    def count(self):
        """From now on, count the values of each bin."""
        self.counts = np.zeros(BINS)

    def settle(self, percentile):
        """From now on, round. `percentile` of the values lie within the range, which has a code for 0."""
        low, high = self.ends
        shares = self.counts.cumsum() / max(self.counts.sum(), 1)
        edges, beyond = np.linspace(low, high, BINS + 1), (1 - percentile / 100) / 2
        first, last = np.searchsorted(shares, (beyond, 1 - beyond)).clip(0, BINS - 1)
        low, high = min(edges[first], 0.0), max(edges[last + 1], 0.0)
        self.scale = max((high - low) / 255, 1e-8)
        self.zero_point = int(np.clip(round(-low / self.scale), 0, 255))


class Tracer(fx.Tracer):
    """Convolutions are one step each, also those with a class of their own."""

    def is_leaf_module(self, module, name):
        return isinstance(module, nn.Conv2d) or super().is_leaf_module(module, name)


def rounded(weight):
    """A weight as its s8 codes say it: one scale for each output channel."""
    scale = (weight.detach().abs().amax(dim=(1, 2, 3)) / 127).clamp(min=1e-12)
    none = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
    return torch.fake_quantize_per_channel_affine(weight, scale, none, 0, -127, 127)


class Quantised(nn.Module):
    """A net with its roundings. It shares the net's parameters, so that training it trains the net."""

    def __init__(self, net):
        super().__init__()
        self.classes, self.codes = net.classes, []
        graph = Tracer().trace(net)
        parts = dict(net.named_modules()) | dict(net.named_parameters())
        for node in list(graph.nodes):
            if not self.rounds(node, parts):
                continue
            name = f"codes{len(self.codes)}"
            parts[name] = Codes()
            self.codes.append(parts[name])
            with graph.inserting_after(node):
                quantiser = graph.call_module(name)
            node.replace_all_uses_with(quantiser)
            quantiser.args = (node,)
        self.graph = fx.GraphModule(parts, graph)

    @staticmethod
    def rounds(node, parts):
        """Whether the exported file has codes for what this step gives, with a range of their own."""
        if node.op == "call_module":
            followed = [user.target for user in node.users]
            return isinstance(parts[node.target], nn.Conv2d) and followed != [F.leaky_relu]
        return node.op == "call_function" and node.target in (F.leaky_relu, torch.cat, operator.add, F.interpolate)

    def calibrate(self, images, percentile=99.995):
        """Set the ranges from some images `[n, 3, h, w]`, and round from then on."""
        with torch.inference_mode():
            for image in images:
                self.graph(image)
            for codes in self.codes:
                codes.count()
            for image in images:
                self.graph(image)
        for codes in self.codes:
            codes.settle(percentile)

    def forward(self, image):
        named = dict(self.graph.named_parameters())
        return functional_call(self.graph, {n: rounded(p) for n, p in named.items() if p.dim() == 4}, (image,))
