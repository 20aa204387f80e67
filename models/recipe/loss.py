"""Matching and the losses of training (definitions: arXiv 1708.02002 and 2006.04388)."""

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

    IoU >= 0.5 is positive, [0.4, 0.5) ignored. Every anchor that ties for a truth's best IoU becomes positive
    for the truth it overlaps best, unless that best is 0. Anchors mostly inside an ignored box are ignored,
    not background.
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
        found[(found == -1) & (inside_share(anchors, ignored) > 0.5)] = -2
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
    """Quality focal loss, elementwise: |target - p|^gamma BCE, the target being an IoU (arXiv 2006.04388,
    equation 5)."""
    p = logits.sigmoid()
    return (targets - p).abs() ** gamma * F.binary_cross_entropy_with_logits(
        logits, targets, reduction="none"
    )


def opinion(scores, boxes, truths):
    """What the teacher thinks of each truth of a picture: its highest score for the truth's class among its
    boxes with IoU >= 0.6, on whichever level they are; 0 where it does not see the thing."""
    overlap = iou(truths[:, :4], boxes)
    return (scores[:, truths[:, 4].long()].T * (overlap >= 0.6)).amax(dim=1)


def paired_iou(a, b):
    """IoU of boxes one to one, over leading dimensions that broadcast."""
    inter = (
        (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    )
    area_a, area_b = (a[..., 2:] - a[..., :2]).prod(-1), (b[..., 2:] - b[..., :2]).prod(-1)
    return inter / (area_a + area_b - inter).clamp(min=1e-9)


def taught(scores, boxes, anchors):
    """The anchors to which the teacher's cells speak: `(picture, cell, anchor)` indices.

    A cell speaks when one of its scores is at least 0.05, and to those of its anchors that would be matched
    to its box if that box were a truth (IoU >= 0.5). The other anchors of the cell are for things of another
    shape: the one answer of the cell is no statement about them, neither of a thing nor of background.
    """
    per_cell = len(anchors) // scores.shape[1]
    picture, cell = (scores.amax(dim=-1) >= 0.05).nonzero(as_tuple=True)
    overlap = paired_iou(anchors.view(-1, per_cell, 4)[cell], boxes[picture, cell][:, None])
    row, which = (overlap >= POSITIVE).nonzero(as_tuple=True)
    return picture[row], cell[row], cell[row] * per_cell + which


def inside_share(boxes, ignored):
    """Of each box the largest share of its area that lies inside one of the ignored boxes."""
    if not len(ignored):
        return boxes.new_zeros(len(boxes))
    low = torch.maximum(ignored[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(ignored[:, None, 2:], boxes[None, :, 2:])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1).clamp(min=1e-9)
    return ((high - low).clamp(min=0).prod(-1) / area).amax(dim=0)


def assign(logits, predicted, points, truths, most=13):
    """For each cell the index of its truth or -1: dynamic soft-label assignment, as in NanoDet-Plus.

    A truth can take the cells whose point lies inside it. It takes as many as the sum of its `most` best IoUs
    with the predicted boxes, at least one: those of the least cost, which is the quality focal loss towards
    the IoU plus three times -ln IoU. A cell that several truths want goes to the one of the least cost.
    """
    found = torch.full((len(points),), -1, dtype=torch.long, device=points.device)
    inside = (
        torch.cat((points[None] - truths[:, None, :2], truths[:, None, 2:4] - points[None]), dim=-1).amin(-1)
        > 0
    )
    cells = inside.any(dim=0).nonzero(as_tuple=True)[0]
    if not len(cells):
        return found
    inside, overlap = inside[:, cells], iou(truths[:, :4], predicted[cells])
    targets = F.one_hot(truths[:, 4].long(), logits.shape[1])[:, None] * overlap[..., None]
    cost = quality_focal(logits[None, cells].expand_as(targets), targets).sum(-1) - 3 * (overlap + 1e-7).log()
    cost = torch.where(inside, cost, 1e8)
    number = (overlap * inside).topk(min(most, len(cells)), dim=1).values.sum(dim=1).int().clamp(min=1)
    taken = torch.zeros_like(inside)
    for row, count in enumerate(number.tolist()):
        taken[row, cost[row].topk(min(count, len(cells)), largest=False).indices] = True
    least, truth = torch.where(taken & inside, cost, 1e9).min(dim=0)
    found[cells] = torch.where(least < 1e8, truth, -1)
    return found


def bin_loss(logits, truths, points, strides):
    """Distribution focal loss of rows of 4 x 8 bin logits, the mean over the sides (arXiv 2006.04388,
    equation 6)."""
    bins = logits.shape[-1] // 4
    sides = torch.cat((points - truths[:, :2], truths[:, 2:] - points), dim=-1) / strides
    sides = sides.clamp(0, bins - 1.01)
    left = sides.long()
    share = sides - left
    log = logits.unflatten(-1, (4, bins)).log_softmax(-1)
    below = log.gather(-1, left[..., None])[..., 0]
    above = log.gather(-1, left[..., None] + 1)[..., 0]
    return -(below * (1 - share) + above * share).mean(-1)


def bin_divergence(logits, teacher):
    """Kullback-Leibler divergence of rows of 4 x 8 bins from the teacher's, the mean over the sides."""
    mine, theirs = (t.unflatten(-1, (4, -1)).log_softmax(-1) for t in (logits, teacher))
    return (theirs.exp() * (theirs - mine)).sum(-1).mean(-1)
