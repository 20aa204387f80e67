"""Box voting by NumPy in double precision: writes box_voting.json beside this file.

    python box_voting.py

Written from the description alone (greedy NMS of a class, then each kept box becomes the mean of the class's
candidates whose IoU with it exceeds a limit, weighted by a power of their scores), with whole matrices where
the program has loops. Boxes near a limit are drawn again, since single and double precision may differ there.
"""

import json
import pathlib

import numpy as np


def overlaps(boxes):
    """IoU of all pairs `[n, n]`; 0 where both boxes are empty."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    inter = (high - low).clip(0).prod(axis=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    union = area[:, None] + area[None, :] - inter
    return np.divide(inter, union, out=np.zeros_like(union), where=inter > 0)


def voted(boxes, scores, labels, nms_iou, iou, power, min_score):
    """Indices of the kept boxes, the best first, and the boxes that they become."""
    rivals = overlaps(boxes) * (labels[:, None] == labels[None, :])
    alive, kept = scores > min_score, []
    while alive.any():
        best = int(np.argmax(np.where(alive, scores, -1)))
        kept.append(best)
        alive &= rivals[best] <= nms_iou
        alive[best] = False
    weights = (rivals[kept] > iou) * scores**power
    totals = weights.sum(axis=1, keepdims=True)
    means = weights @ boxes / np.where(totals > 0, totals, 1)
    return kept, np.where(totals > 0, means, boxes[kept])


def drawn(rng, things, around, classes, limits):
    """Boxes in crowds around a few things, none of them near a limit."""
    while True:
        corner, size = rng.uniform(0, 200, (things, 2)), rng.uniform(20, 100, (things, 2))
        centre = np.repeat(np.concatenate([corner, corner + size], axis=1), around, axis=0)
        boxes = (centre + rng.normal(0, 4, centre.shape)).astype(np.float32).astype(float)
        if np.abs(overlaps(boxes)[..., None] - limits).min() > 1e-4:
            return boxes, rng.integers(0, classes, len(boxes))


def main():
    rng, cases = np.random.default_rng(20261127), []
    for name, things, around, classes, nms_iou, iou, power, min_score in [
        ("one thing, one class", 1, 12, 1, 0.55, 0.7, 2.0, 0.0),
        ("crowds of three classes", 6, 15, 3, 0.55, 0.7, 2.0, 0.0),
        ("all have the same say", 5, 10, 2, 0.5, 0.6, 0.0, 0.0),
        ("low scores vote and are not told", 6, 15, 2, 0.55, 0.7, 2.0, 0.5),
        ("boxes that NMS kept vote, too", 4, 15, 1, 0.9, 0.5, 1.0, 0.0),
    ]:
        boxes, labels = drawn(rng, things, around, classes, np.array([nms_iou, iou]))
        logits = rng.permutation(np.linspace(-2.9, 3, len(boxes))).astype(np.float32).astype(float)
        scores = 1 / (1 + np.exp(-logits))
        kept, means = voted(boxes, scores, labels, nms_iou, iou, power, min_score)
        cases.append(
            {"name": name, "nms_iou": nms_iou, "iou": iou, "score_power": power, "min_score": min_score}
            | {"classes": classes, "boxes": boxes.tolist(), "logits": logits.tolist()}
            | {"labels": labels.tolist(), "kept": kept, "expected": means.round(6).tolist()}
        )
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(json.dumps({"cases": cases}) + "\n")


if __name__ == "__main__":
    main()
