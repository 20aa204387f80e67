"""What a batch is trained for: the losses of the two heads, from the truth and from the teacher."""

import torch

from loss import (
    assign,
    bin_divergence,
    bin_loss,
    focal,
    giou,
    inside_share,
    match,
    opinion,
    quality_focal,
    taught,
)
from network import anchors_for, decode, decode_bins, flatten, points_for

LOSSES = ("class", "box", "taught_class", "taught_box")


def answers(teacher, image, boxes):
    """The teacher's answers, its scores 0 for the pictures without any box.

    There the truth is that nothing is there, and a teacher that takes a fence for a train would teach it.
    """
    scores, their_boxes, bins = teacher(image)
    asked = torch.tensor([len(b) > 0 for b in boxes], device=scores.device)
    return scores * asked[:, None, None], their_boxes, bins


class Anchors:
    """Nine anchors a cell, matched by IoU; quality focal (or focal) loss and GIoU.

    With a teacher the truth still wins where it says something. The teacher's class scores are soft targets
    for the anchors that its boxes would match (see `taught`), its boxes are targets of those that the truth
    leaves without one. A positive takes its own class from the truth's IoU, weight 2, and from the teacher's
    opinion of that truth, weight 1: the teacher may have put the thing on another level, so the score of the
    same cell would be the wrong one. What only the teacher sees (score >= 0.3) is not background.
    """

    def __init__(self, chosen, teacher=None):
        self.chosen, self.teacher, self.anchors = chosen, teacher, {}
        self.kind, self.weight = (quality_focal, 2.0) if chosen.loss == "quality_focal" else (focal, 1.0)

    def losses(self, net, image, boxes):
        """The four losses of a batch, summed over anchors and divided by its positives, and the number of
        these."""
        side = tuple(image.shape[2:])
        anchors = self.anchors.setdefault(side, anchors_for(*side))
        classes, deltas = net(image)
        logits, deltas = flatten(classes, net.classes).float(), flatten(deltas, 4).float()
        matched = torch.stack([match(anchors, b) for b in boxes]).to(logits.device)
        anchors = anchors.to(logits.device)
        truths = [b[b[:, 4] >= 0].to(logits.device) for b in boxes]
        first = torch.tensor([0] + [len(t) for t in truths]).cumsum(0)[:-1].to(logits.device)
        picture, anchor = (matched >= 0).nonzero(as_tuple=True)
        which = first[picture] + matched[picture, anchor]
        truth = torch.cat(truths)[which]
        label = truth[:, 4].long()
        overlap, quality = giou(decode(deltas[picture, anchor], anchors[anchor]), truth[:, :4])
        targets = torch.zeros_like(logits)
        soft = self.kind is quality_focal
        targets[picture, anchor, label] = quality.detach().clamp(0, 1) if soft else torch.ones_like(quality)
        parts = [
            self.weight * (self.kind(logits, targets).sum(-1) * (matched != -2)).sum(),
            2.0 * (1 - overlap).sum(),
            logits.new_zeros(()),
            logits.new_zeros(()),
        ]
        if self.teacher is not None:
            scores, their_boxes, _ = answers(self.teacher, image, boxes)
            thoughts = torch.cat([opinion(s, b, t) for s, b, t in zip(scores, their_boxes, truths)])[which]
            own = quality_focal(logits[picture, anchor, label], thoughts) * (thoughts >= 0.1)
            labels = torch.full_like(matched, -1)
            labels[picture, anchor] = label
            dropped, taught_class, taught_box = self.taught(
                logits, deltas, anchors, matched, labels, scores, their_boxes
            )
            parts[0] = parts[0] - dropped
            parts[2] = self.chosen.distil * (taught_class + own.sum())
            parts[3] = self.chosen.distil * taught_box
        positives = max(1, len(picture))
        return [part / positives for part in parts], positives

    def taught(self, logits, deltas, anchors, matched, labels, scores, boxes):
        """What the truth's class loss counts as background and the teacher does not, and the teacher's two
        losses."""
        picture, cell, anchor = taught(scores, boxes, anchors)
        score, box, state = scores[picture, cell], boxes[picture, cell], matched[picture, anchor]
        chance = logits[picture, anchor]
        alone = (score >= 0.3) & (state == -1)[:, None]
        dropped = self.weight * (self.kind(chance, torch.zeros_like(chance)) * alone).sum()
        asked = torch.ones_like(score)
        own = (state >= 0).nonzero(as_tuple=True)[0]
        asked[own, labels[picture[own], anchor[own]]] = 0
        sure = ((state < 0) & (score.amax(dim=1) >= 0.3)).nonzero(as_tuple=True)[0]
        near, _ = giou(decode(deltas[picture[sure], anchor[sure]], anchors[anchor[sure]]), box[sure])
        return (
            dropped,
            (quality_focal(chance, score) * asked).sum(),
            ((1 - near) * score[sure].amax(dim=1)).sum(),
        )


class Bins:
    """One answer a cell, assigned dynamically; quality focal loss, GIoU x 2, distribution focal loss x 1/4.

    The teacher has the same head, so it is followed cell by cell: its scores are soft targets of all cells
    and classes, its distributions those of the sides where it sees something (score >= 0.05), weighted by its
    score. What only the teacher sees (score >= 0.3 in a cell without truth) is not background.
    """

    def __init__(self, chosen, teacher=None):
        self.chosen, self.teacher, self.points = chosen, teacher, {}

    def losses(self, net, image, boxes):
        """The four losses of a batch and the number of its positive cells."""
        side = tuple(image.shape[2:])
        if side not in self.points:
            self.points[side] = tuple(t.to(image.device) for t in points_for(*side))
        points, strides = self.points[side]
        classes, bins = net(image)
        logits, bins = flatten(classes, net.classes).float(), flatten(bins, bins[0].shape[1]).float()
        predicted = decode_bins(bins, points, strides)
        with torch.no_grad():
            boxes = [b.to(logits.device) for b in boxes]
            truths = [b[b[:, 4] >= 0] for b in boxes]
            matched = torch.stack([assign(lo, p, points, t) for lo, p, t in zip(logits, predicted, truths)])
            ignored = torch.stack(
                [inside_share(p, b[b[:, 4] < 0, :4]) > 0.5 for p, b in zip(predicted, boxes)]
            )
            ignored &= matched < 0
            first = torch.tensor([0] + [len(t) for t in truths]).cumsum(0)[:-1].to(logits.device)
            picture, cell = (matched >= 0).nonzero(as_tuple=True)
            truth = torch.cat(truths)[first[picture] + matched[picture, cell]]
            label = truth[:, 4].long()
            weight = logits[picture, cell].sigmoid().amax(dim=1)
        overlap, quality = giou(predicted[picture, cell], truth[:, :4])
        targets = torch.zeros_like(logits)
        targets[picture, cell, label] = quality.detach().clamp(0, 1)
        each = quality_focal(logits, targets) * ~ignored[..., None]
        sides = bin_loss(bins[picture, cell], truth[:, :4], points[cell], strides[cell])
        positives = max(1, len(picture))
        parts = [
            each.sum() / positives,
            ((2.0 * (1 - overlap) + 0.25 * sides) * weight).sum() / weight.sum().clamp(min=1),
            logits.new_zeros(()),
            logits.new_zeros(()),
        ]
        if self.teacher is not None:
            scores, _, their_bins = answers(self.teacher, image, boxes)
            alone = (scores >= 0.3) & (matched < 0)[..., None]
            parts[0] = parts[0] - (each * alone).sum() / positives
            parts[2] = self.chosen.distil * quality_focal(logits, scores).sum() / positives
            sure = scores.amax(dim=-1)
            picture, cell = (sure >= 0.05).nonzero(as_tuple=True)
            weight = sure[picture, cell]
            apart = bin_divergence(bins[picture, cell], their_bins[picture, cell])
            parts[3] = self.chosen.distil * (apart * weight).sum() / weight.sum().clamp(min=1)
        return parts, positives


OBJECTIVES = {"anchors": Anchors, "bins": Bins, "level-bins": Bins}
