"""AP of float weights on a split, straight from PyTorch: letterboxed and stretched to the square.

    python evaluate.py --weights RUN/float.safetensors --data DATA
    python evaluate.py --run RUN --data DATA    # RUN's averaged weights; adds to scores.csv and curves.svg
    python evaluate.py --teacher m --data DATA   # the start net with its own head

The figures of a released model come from `retinad detect` and `score.py`; these are for choosing between
trainings.
"""

import argparse
import csv
import json
import os
import pathlib
import sys
import tempfile

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

import curves
import start as starts
from data import letterboxed, squared
from files import whole
from network import SIZES, anchors_for, decode, decode_bins, flatten, points_for
from score import score

GEOMETRIES = {"letterboxed": letterboxed, "stretched": squared}
THRESHOLD, MOST, KEPT = 0.05, 1000, 100


def candidates(net, image):
    """Scores `[places, K]` and boxes `[places, 4]` of one picture, in network pixels."""
    classes, boxes = net(image)
    scores, side = flatten(classes, net.classes)[0].sigmoid(), image.shape[2:]
    if net.head == "anchors":
        return scores, decode(flatten(boxes, 4)[0], anchors_for(*side))
    return scores, decode_bins(flatten(boxes, boxes[0].shape[1])[0], *points_for(*side))


def suppressed(boxes, scores, nms_iou):
    """Indices that greedy non-maximum suppression of one class keeps."""
    order, kept = np.argsort(-scores, kind="stable"), []
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        low, high = (
            np.maximum(boxes[best, :2], boxes[order, :2]),
            np.minimum(boxes[best, 2:], boxes[order, 2:]),
        )
        inter = (high - low).clip(0).prod(axis=1)
        order = order[inter <= nms_iou * (area[best] + area[order] - inter)]
    return kept


def detections(net, picture, side, geometry, nms_iou):
    """`[(class, score, x, y, w, h)]` in pixels of the picture, the best first."""
    canvas, corners = GEOMETRIES[geometry](
        picture, np.array([[0, 0, picture.width, picture.height, 0]], np.float32), side
    )
    image = (torch.from_numpy(canvas).permute(2, 0, 1)[None].float() - 127) / 128
    with torch.inference_mode():
        scores, boxes = candidates(net, image.contiguous(memory_format=torch.channels_last))
    width, height = corners[0, 2:4]
    scores, boxes = scores.numpy(), boxes.numpy().clip(0, [width, height, width, height])
    boxes = boxes * np.tile([picture.width / width, picture.height / height], 2)
    found = []
    for label in range(scores.shape[1]):
        rows = np.flatnonzero(scores[:, label] >= THRESHOLD)
        rows = rows[np.argsort(-scores[rows, label], kind="stable")[:MOST]]
        for row in rows[suppressed(boxes[rows], scores[rows, label], nms_iou)]:
            x0, y0, x1, y1 = boxes[row].tolist()
            found.append((label, float(scores[row, label]), x0, y0, x1 - x0, y1 - y0))
    return sorted(found, key=lambda item: -item[1])[:KEPT]


def evaluate(net, data, split, side, geometry, nms_iou):
    """`score.score` of a net on `val` or `test`."""
    data = pathlib.Path(data)
    coco = json.loads((data / f"{split}.json").read_text())
    ids, results = sorted(c["id"] for c in coco["categories"]), []
    for entry in coco["images"]:
        picture = Image.open(data / "images" / split / entry["file_name"]).convert("RGB")
        for label, chance, *box in detections(net, picture, side, geometry, nms_iou):
            results.append({"image_id": entry["id"], "category_id": ids[label], "score": chance, "bbox": box})
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "results.json")
        path.write_text(json.dumps(results))
        return score(str(data / f"{split}.json"), str(path))


def record(run, rows):
    """Add rows to RUN/scores.csv and draw the curves anew."""
    path, columns = (
        run / "scores.csv",
        ("pictures", "split", "side", "geometry", "nms_iou", "AP50", "AP", "AP75"),
    )
    before = curves.table(path)
    with whole(path) as beside, open(beside, "w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows([*before, *rows])
    curves.draw(run)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--weights", help="a .safetensors file with all weights")
    what.add_argument("--run", type=pathlib.Path, help="folder of a training run")
    what.add_argument("--teacher", choices=SIZES, help="the start net of this size with its own head")
    p.add_argument("--data", required=True, help="folder with val.json and images/val")
    p.add_argument("--split", default="val")
    p.add_argument("--side", type=int, default=320)
    p.add_argument("--nms-iou", type=float, default=0.5)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    pictures, weights = 0, args.weights or (args.run and args.run / "float.safetensors")
    if args.run:
        settings = torch.load(args.run / "checkpoint.pt", map_location="cpu", weights_only=True)["settings"]
        with safe_open(weights, "pt") as file:
            pictures = int(file.metadata()["steps"]) * settings["batch"]
    try:
        asked = ("coco", 0, "level-bins", args.teacher) if args.teacher else (str(weights),)
        net = starts.load(*asked)
        net = net.eval().to(memory_format=torch.channels_last)
        rows = []
        for geometry in GEOMETRIES:
            found = evaluate(net, args.data, args.split, args.side, geometry, args.nms_iou)
            figures = {name: f"{found[name.lower()]:.4f}" for name in ("AP50", "AP", "AP75")}
            print(
                f"{args.split} {args.side} {geometry}: " + "  ".join(f"{k} {v}" for k, v in figures.items()),
                flush=True,
            )
            where = {"pictures": pictures, "split": args.split, "side": args.side, "nms_iou": args.nms_iou}
            rows.append({**where, "geometry": geometry, **figures})
    except (OSError, ValueError) as error:
        sys.exit(f"evaluate: {error}")
    if args.run:
        record(args.run, rows)


if __name__ == "__main__":
    main()
