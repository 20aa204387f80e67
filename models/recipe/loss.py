"""Matching of anchors and the losses of training (definitions: arXiv 1708.02002 and 2006.04388)."""

import torch
import torch.nn.functional as F

POSITIVE, BACKGROUND = 0.5, 0.4


def iou(a, b):
    """IoU `[n, m]` of boxes x1 y1 x2 y2, without +1."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(-1), (b[:, 2:] - b[:, :2]).prod(-1)
    return inter / (area_a[:, None] + area_b[None] - inter).clamp(min=1e-9)


def match(anchors, boxes):
    """For each anchor the index of its truth, -1 for background, -2 for ignored.

    IoU >= 0.5 is positive, [0.4, 0.5) ignored. Every anchor that ties for a truth's best IoU becomes positive for the
    truth it overlaps best, unless that best is 0. Anchors mostly inside an ignored box are ignored, not background.
    """
    truths, ignored = boxes[boxes[:, 4] >= 0, :4], boxes[boxes[:, 4] < 0, :4]
    found = torch.full((len(anchors),), -1, dtype=torch.long)
    if len(truths):
        overlap = iou(truths, anchors)
        best, index = overlap.max(dim=0)
        found[best >= BACKGROUND] = -2
        highest = overlap.max(dim=1, keepdim=True).values
        low_quality = ((overlap == highest) & (highest > 0)).any(dim=0)
        positive = (best >= POSITIVE) | low_quality
        found[positive] = index[positive]
    if len(ignored):
        low = torch.maximum(ignored[:, None, :2], anchors[None, :, :2])
        high = torch.minimum(ignored[:, None, 2:], anchors[None, :, 2:])
        inside = (high - low).clamp(min=0).prod(-1) / (anchors[:, 2:] - anchors[:, :2]).prod(-1)
        found[(found == -1) & (inside > 0.5).any(dim=0)] = -2
    return found


def giou(a, b):
    """GIoU and IoU of boxes one to one."""
    inter = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(-1)
    union = (a[:, 2:] - a[:, :2]).prod(-1) + (b[:, 2:] - b[:, :2]).prod(-1) - inter
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(-1)
    overlap = inter / union.clamp(min=1e-6)
    return overlap - (hull - union) / hull.clamp(min=1e-6), overlap


def focal(logits, targets, alpha=0.25, gamma=2.0):
    """Focal loss, elementwise: alpha_t (1 - p_t)^gamma CE (arXiv 1708.02002, equation 5)."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p = logits.sigmoid()
    p_t = targets * p + (1 - targets) * (1 - p)
    return (targets * alpha + (1 - targets) * (1 - alpha)) * (1 - p_t) ** gamma * cross_entropy


def quality_focal(logits, targets, gamma=2.0):
    """Quality focal loss, elementwise: |target - p|^gamma BCE, the target being an IoU (arXiv 2006.04388, equation 5)."""
    p = logits.sigmoid()
    return (targets - p).abs() ** gamma * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
