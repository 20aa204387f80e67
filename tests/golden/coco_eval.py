"""COCO numbers of made corner cases by pycocotools 2.0.11: writes coco_eval.json, which tests/golden_evaluation.rs reads.

    python tests/golden/coco_eval.py                          # writes tests/golden/coco_eval.json
    python tests/golden/coco_eval.py DATA                     # writes coco_eval_voc20.json: numbers of DATA/peers on DATA/voc20
    python tests/golden/coco_eval.py A.json D.json REPORT.json   # compares `retinad eval --json` with pycocotools and times it

Ignored is what is a crowd or `difficult`, as in the VOC protocol; pycocotools alone would ignore crowds only.
"""

import contextlib
import gzip
import io
import json
import pathlib
import random
import sys
import time

import numpy as np
import pycocotools.coco
import pycocotools.cocoeval

HERE = pathlib.Path(__file__).parent
NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


class Evaluation(pycocotools.cocoeval.COCOeval):
    """COCO's evaluation of boxes, in which difficult ones are ignored."""

    def _prepare(self):
        super()._prepare()
        for truths in self._gts.values():
            for truth in truths:
                truth["ignore"] = truth["iscrowd"] or truth.get("difficult", 0) or truth.get("_asked", 0)


def evaluate(annotations, results):
    """The twelve numbers, and AP and AP50 of each category by rising id; -1 where there is no truth."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = pycocotools.coco.COCO()
        truth.dataset = json.loads(json.dumps(annotations))
        for annotation in truth.dataset["annotations"]:
            annotation["_asked"] = annotation.get("ignore", 0)
        truth.createIndex()
        # loadRes fails on an empty list.
        found = truth.loadRes(json.loads(json.dumps(results))) if results else pycocotools.coco.COCO()
        evaluation = Evaluation(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]

    def mean(values):
        counted = values[values > -1]
        return float(counted.mean()) if counted.size else -1.0

    classes = range(precision.shape[2])
    return {
        "stats": [float(value) for value in evaluation.stats],
        "ap": [mean(precision[:, :, c]) for c in classes],
        "ap50": [mean(precision[0, :, c]) for c in classes],
    }


class Case:
    """Annotations and results that are put together box by box."""

    def __init__(self, name, pictures=1, categories=2, side=400):
        self.name = name
        images = [
            {"id": 10 - i, "file_name": f"{i}.jpg", "width": side, "height": side} for i in range(pictures)
        ]
        kinds = [{"id": 9 - 2 * i, "name": f"kind {i}"} for i in range(categories)]
        self.annotations = {"images": images, "categories": kinds, "annotations": []}
        self.results = []

    def truth(self, bbox, picture=0, category=0, **more):
        entry = {
            "id": len(self.annotations["annotations"]) + 1,
            "image_id": self.annotations["images"][picture]["id"],
            "category_id": self.annotations["categories"][category]["id"],
            "bbox": bbox,
            "area": bbox[2] * bbox[3],
            "iscrowd": 0,
        }
        self.annotations["annotations"].append(entry | more)
        return self

    def found(self, bbox, score, picture=0, category=0):
        self.results.append({
            "image_id": self.annotations["images"][picture]["id"],
            "category_id": self.annotations["categories"][category]["id"],
            "bbox": bbox,
            "score": score,
        })
        return self


def corner_cases():
    box, beside = [10, 10, 40, 40], [12, 10, 40, 40]
    yield Case("nothing at all")
    yield Case("no detections").truth(box).truth(beside, category=1)
    yield Case("no truths").found(box, 0.9).found(beside, 0.3, category=1)
    yield Case("detections of a category without truths").truth(box).found(box, 0.8).found(box, 0.9, category=1)
    yield Case("a hit").truth(box).found(beside, 0.5)
    yield Case("an exact hit").truth(box).found(box, 1.0)
    yield Case("duplicates").truth(box).found(box, 0.9).found(box, 0.9).found(beside, 0.8).found(box, 0.1)
    yield Case("two truths on one place").truth(box).truth(box).found(box, 0.9).found(box, 0.8)
    crowd = Case("crowd").truth([0, 0, 200, 200], iscrowd=1, area=12345.5).truth(box)
    for i in range(5):
        crowd.found([20 * i, 5, 38, 38], 0.9 - 0.1 * i)
    yield crowd.found([150, 150, 150, 150], 0.95)
    yield Case("only a crowd").truth([0, 0, 200, 200], iscrowd=1).found(box, 0.9).found([300, 300, 20, 20], 0.8)
    difficult = Case("difficult").truth(box, difficult=1, ignore=1).truth([100, 100, 50, 50])
    yield difficult.found(box, 0.9).found(beside, 0.8).found([100, 100, 50, 45], 0.7)
    yield Case("only difficult").truth(box, difficult=1).found(box, 0.9).found([200, 200, 9, 9], 0.5)
    yield Case("ignore").truth(box, ignore=1).truth([100, 100, 50, 50]).found(box, 0.9).found([100, 100, 50, 50], 0.8)
    either = Case("a truth that counts goes before an ignored one that fits better")
    yield either.truth(box, difficult=1).truth([14, 10, 40, 40]).found(box, 0.9)
    areas = Case("area borders", pictures=2, categories=1)
    for i, (w, h) in enumerate([(32, 32), (31.9, 32), (32, 32.1), (96, 96), (96, 95.9), (96.1, 96)]):
        x, y = (i % 3) * 110, (i // 3) * 120
        areas.truth([x, y, w, h]).found([x, y, w, h], 0.5 + i / 20)
        areas.truth([x, y, w, h], picture=1, area=w * h / 2).found([x + 1, y, w + 2, h], 0.4 + i / 30, picture=1)
    yield areas.found([300, 300, 32, 32], 0.99).found([300, 300, 96, 96], 0.98).found([300, 300, 97, 97], 0.97)
    ties = Case("ties in score", pictures=4)
    for picture in (2, 0, 3, 1):
        ties.truth(box, picture=picture).truth([200, 200, 60, 60], picture=picture, category=1)
        for shift in (60, 4, 0):
            ties.found([10 + shift, 10, 40, 40], 0.5, picture=picture)
            ties.found([200 + shift, 200, 60, 60], 0.5, picture=picture, category=1)
    yield ties
    borders = Case("overlaps on a threshold", categories=1)
    for i, width in enumerate([50, 55, 60, 65, 70, 75, 80, 85, 90, 95]):
        borders.truth([0, 30 * i, 100, 20]).found([0, 30 * i, width, 20], 0.9 - i / 20)
    yield borders
    many = Case("more than 100 detections", categories=1)
    for i in range(150):
        many.found([i % 20 * 15, i // 20 * 15, 12, 12], 0.2 + (i * 37 % 150) / 200)
    for i in (3, 40, 77, 120, 149):
        many.truth([i % 20 * 15, i // 20 * 15, 12, 13])
    yield many
    flat = Case("boxes without area").truth([10, 10, 0, 40]).truth(box).found([10, 10, 0, 40], 0.9)
    yield flat.found([10, 10, 40, 0], 0.8).found(box, 0.7)
    outside = Case("detections outside of the picture").truth([0, 0, 40, 40])
    yield outside.found([-10, -10, 50, 50], 0.9).found([500, 500, 20, 20], 0.95)
    yield Case("huge detections", categories=1).truth([0, 0, 400, 400]).found([0, 0, 5e5, 5e5], 0.9).found(
        [0, 0, 390, 400], 0.8
    )
    for seed in range(6):
        yield random_case(seed)


def random_case(seed):
    """Truths with jittered detections; scores of few steps, so that there are ties."""
    dice = random.Random(seed)
    case = Case(f"random {seed}", pictures=6, categories=3)
    for picture in range(6):
        for _ in range(dice.randrange(12)):
            size = [round(dice.choice([20, 60, 150]) * dice.uniform(0.6, 1.5), 1) for _ in range(2)]
            bbox = [round(dice.uniform(0, 400 - side), 1) for side in size] + size
            category = dice.randrange(3)
            flags = {"iscrowd": int(dice.random() < 0.1), "difficult": int(dice.random() < 0.2)}
            case.truth(bbox, picture, category, area=round(size[0] * size[1] * dice.uniform(0.5, 1), 2), **flags)
            for _ in range(dice.randrange(4)):
                moved = [round(side + dice.gauss(0, 0.08) * size[i % 2], 1) for i, side in enumerate(bbox)]
                moved[2:] = [max(side, 0.5) for side in moved[2:]]
                other = category if dice.random() < 0.85 else dice.randrange(3)
                case.found(moved, dice.randrange(1, 20) / 20, picture, other)
    return case


def write(path, value):
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")


def of_peers(data):
    annotations = json.loads((data / "voc20/test.json").read_text())
    numbers = {}
    for path in sorted((data / "peers/detections").glob("*.test.json.gz")):
        numbers[path.name] = evaluate(annotations, json.loads(gzip.open(path).read()))
    write(HERE / "coco_eval_voc20.json", numbers)


def compare(annotations, results, report):
    start = time.perf_counter()
    expected = evaluate(json.loads(pathlib.Path(annotations).read_text()), json.loads(pathlib.Path(results).read_text()))
    seconds = time.perf_counter() - start
    report = json.loads(pathlib.Path(report).read_text())
    number = lambda value: -1.0 if value is None else value
    found = [number(report["coco"][name]) for name in NAMES]
    pairs = list(zip(expected["stats"], found))
    pairs += [(a, number(c["ap"])) for a, c in zip(expected["ap"], report["classes"])]
    pairs += [(a, number(c["ap50"])) for a, c in zip(expected["ap50"], report["classes"])]
    largest = max(abs(a - b) for a, b in pairs)
    print(f"{len(pairs)} numbers, largest difference {largest:.2e}; pycocotools took {seconds:.2f} s with reading")
    print("  ".join(f"{name} {value:.4f}" for name, value in zip(NAMES, expected["stats"])))
    return largest < 1e-6


def main(arguments):
    if len(arguments) == 3:
        sys.exit(not compare(*arguments))
    if len(arguments) == 1:
        return of_peers(pathlib.Path(arguments[0]))
    cases = []
    for case in corner_cases():
        numbers = evaluate(case.annotations, case.results)
        cases.append({"name": case.name, "annotations": case.annotations, "results": case.results} | numbers)
    write(HERE / "coco_eval.json", cases)


if __name__ == "__main__":
    assert np.spacing(1) == 2.0**-52
    main(sys.argv[1:])
