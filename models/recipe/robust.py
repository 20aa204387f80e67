"""How a model file does on what cameras at home give it, by `retinad detect`: bad pictures, small things, scenes
without anything, and frames that differ by next to nothing.

    python robust.py --program ../../target/release/retinad --data DATA --split val MODEL.onnx [OTHER.onnx ...]

Prints a Markdown table, a column for each model. Everything is drawn with a fixed seed from the pictures of the
split, so that models are compared on the same bytes.
"""

import argparse
import io
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import torch
from PIL import Image, ImageFilter

from loss import iou
from score import score

# The score from which a detection counts where one threshold is asked for: the daemon's default.
SURE = 0.5


def infra_red(pixels, rng):
    """Grey, blurred, noisy: a night camera."""
    picture = Image.fromarray(pixels).convert("L").filter(ImageFilter.GaussianBlur(1.5)).convert("RGB")
    return np.asarray(picture, np.float32) + rng.normal(0, 18, pixels.shape[:2])[..., None]


def dark(pixels, rng):
    """A tenth of the light, counted in photons (40 for white), brightened to half."""
    return rng.poisson(pixels / 255 * 40) / 40 * 255 * 0.5


def motion(pixels, rng):
    """Smeared along a line of 13 pixels at a random angle."""
    angle, total = rng.uniform(0, np.pi), np.zeros(pixels.shape, np.float32)
    padded = np.pad(pixels, ((6, 6), (6, 6), (0, 0)), "edge")
    height, width = pixels.shape[:2]
    for step in range(-6, 7):
        x, y = 6 + round(step * np.cos(angle)), 6 + round(step * np.sin(angle))
        total += padded[y : y + height, x : x + width]
    return total / 13


def jpeg(pixels, rng):
    """JPEG of quality 15."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=15)
    return np.asarray(Image.open(buffer).convert("RGB"))


def fog(pixels, rng):
    """Half of the contrast, towards a light grey."""
    return pixels * 0.5 + 100


CORRUPTIONS = {"infra-red, noise, blur": infra_red, "dark": dark, "motion blur": motion, "JPEG 15": jpeg, "fog": fog}


def bytes_of(pixels):
    return np.asarray(pixels).round().clip(0, 255).astype(np.uint8)


def nearly_same(pixels, rng):
    """Eight frames that nobody would tell apart: moved by up to 2 pixels, noise, JPEG 50 to 90, gamma."""
    for kind in (0, 0, 1, 1, 2, 2, 3, 3):
        if kind == 0:
            x, y = rng.integers(-2, 3, 2)
            yield np.roll(np.roll(pixels, y, axis=0), x, axis=1)
        elif kind == 1:
            yield bytes_of(pixels + rng.normal(0, 4, pixels.shape))
        elif kind == 2:
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "jpeg", quality=int(rng.integers(50, 91)))
            yield np.asarray(Image.open(buffer).convert("RGB"))
        else:
            yield bytes_of(255 * (pixels / 255) ** rng.uniform(0.85, 1.18))


def empty_scenes(coco, read):
    """Parts of pictures, 120 pixels and more, that no annotated box touches."""
    boxes = {}
    for entry in coco["annotations"]:
        boxes.setdefault(entry["image_id"], []).append(entry["bbox"])
    for image in coco["images"]:
        width, height = image["width"], image["height"]
        own = boxes.get(image["id"], [])
        free = [
            (min((x for x, _, _, _ in own), default=width), height, 0, 0),
            (width, min((y for _, y, _, _ in own), default=height), 0, 0),
        ]
        right, below = max((x + w for x, _, w, _ in own), default=0), max((y + h for _, y, _, h in own), default=0)
        free += [(width - right, height, right, 0), (width, height - below, 0, below)]
        w, h, x, y = max(free, key=lambda part: min(part[0], part[1]))
        if min(w, h) >= 120:
            yield read(image)[int(np.ceil(y)) : int(y + h), int(np.ceil(x)) : int(x + w)]


def overlaps(one, many):
    """Whether a box (x, y, width, height) has an IoU above 0.5 with one of many."""
    if not many:
        return False
    boxes = torch.tensor([one, *many], dtype=torch.float64)
    boxes[:, 2:] += boxes[:, :2]
    return bool((iou(boxes[:1], boxes[1:]) > 0.5).any())


class Pictures:
    """A folder of pictures with annotations, for one or more models to be run on."""

    def __init__(self, categories):
        self.held = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.held.name)
        self.coco = {"images": [], "annotations": [], "categories": categories}

    def add(self, pixels, number=None):
        number = len(self.coco["images"]) + 1 if number is None else number
        Image.fromarray(pixels).save(self.folder / f"{number}.png")
        height, width = pixels.shape[:2]
        self.coco["images"].append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        return number

    def detect(self, program, model):
        (self.folder / "a.json").write_text(json.dumps(self.coco))
        out = self.folder / "found.json"
        asked = [program, "detect", "--model", model, "--format", "coco", "--annotations", self.folder / "a.json"]
        asked += ["--images", self.folder, "-o", out]
        subprocess.run([str(word) for word in asked], capture_output=True, check=True)
        return json.loads(out.read_text())


def by_picture(found):
    held = {}
    for one in found:
        held.setdefault(one["image_id"], []).append(one)
    return held


def small_recall(coco, found, least, most):
    """Share of the objects with a side (root of the area, in pixels of 320 for the longer side) from `least` to
    `most` that a detection of their class above 0.5 overlaps by half."""
    sides = {image["id"]: 320 / max(image["width"], image["height"]) for image in coco["images"]}
    held, hits, count = by_picture(found), 0, 0
    for entry in coco["annotations"]:
        side = np.sqrt(entry["bbox"][2] * entry["bbox"][3]) * sides[entry["image_id"]]
        if entry.get("difficult") or entry.get("iscrowd") or not least <= side < most:
            continue
        count += 1
        rivals = [
            one["bbox"]
            for one in held.get(entry["image_id"], [])
            if one["category_id"] == entry["category_id"] and one["score"] > SURE
        ]
        hits += overlaps(entry["bbox"], rivals)
    return hits / max(count, 1), count


def vanished(first, others):
    """Of what is above 0.5 in a frame, the share that is not in a frame that looks the same."""
    lost, count = 0, 0
    for one in first:
        if one["score"] <= SURE:
            continue
        for found in others:
            rivals = [
                other["bbox"]
                for other in found
                if other["category_id"] == one["category_id"] and other["score"] > SURE
            ]
            count += 1
            lost += not overlaps(one["bbox"], rivals)
    return lost, count


def ap(pictures, found):
    with tempfile.TemporaryDirectory() as folder:
        truth, results = pathlib.Path(folder, "truth.json"), pathlib.Path(folder, "found.json")
        truth.write_text(json.dumps(pictures.coco))
        results.write_text(json.dumps(found))
        return score(str(truth), str(results))


def measured(args):
    """Rows of the table: a name, and a text for each model."""
    data = pathlib.Path(args.data)
    coco = json.loads((data / f"{args.split}.json").read_text())

    def read(image):
        return np.asarray(Image.open(data / "images" / args.split / image["file_name"]).convert("RGB"))

    chosen = coco["images"][: args.pictures]
    ids = {image["id"] for image in chosen}
    truths = [entry for entry in coco["annotations"] if entry["image_id"] in ids]

    clean = Pictures(coco["categories"])
    for image in chosen:
        clean.add(read(image), image["id"])
    clean.coco["annotations"] = truths
    found = [clean.detect(args.program, model) for model in args.models]
    scores = [ap(clean, one) for one in found]
    yield "as they are, AP50 / AP", [f"{s['ap50']:.3f} / {s['ap']:.3f}" for s in scores]
    for least, most in ((0, 16), (16, 32), (32, 64), (64, 1000)):
        recalls = [small_recall(clean.coco, one, least, most) for one in found]
        name = f"found at 0.5, {least} to {most} pixels" if most < 1000 else f"found at 0.5, from {least} pixels on"
        yield f"{name} ({recalls[0][1]} things)", [f"{share:.2f}" for share, _ in recalls]

    for name, change in CORRUPTIONS.items():
        bad, rng = Pictures(coco["categories"]), np.random.default_rng(1)
        for image in chosen:
            bad.add(bytes_of(change(read(image), rng)), image["id"])
        bad.coco["annotations"] = truths
        scores = [ap(bad, bad.detect(args.program, model)) for model in args.models]
        yield f"{name}, AP50 / AP", [f"{s['ap50']:.3f} / {s['ap']:.3f}" for s in scores]

    empty = Pictures(coco["categories"])
    for pixels in empty_scenes(coco, read):
        empty.add(np.ascontiguousarray(pixels))
    counts = [
        sum(one["score"] > SURE for one in empty.detect(args.program, model)) / len(empty.coco["images"])
        for model in args.models
    ]
    yield f"false boxes at 0.5 a scene without things ({len(empty.coco['images'])} parts of pictures)", [
        f"{count:.2f}" for count in counts
    ]

    frames, groups, rng = Pictures(coco["categories"]), [], np.random.default_rng(2)
    for image in chosen[: args.pictures // 2]:
        pixels = read(image)
        groups.append([frames.add(one) for one in (pixels, *nearly_same(pixels, rng))])
    row = []
    for model in args.models:
        held = by_picture(frames.detect(args.program, model))
        losses = [vanished(held.get(g[0], []), [held.get(i, []) for i in g[1:]]) for g in groups]
        lost, count = (sum(part) for part in zip(*losses))
        row.append(f"{lost / max(count, 1):.1%}")
    yield "gone in a frame that looks the same, at 0.5", row


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--program", required=True, help="retinad")
    p.add_argument("--data", required=True, help="folder with val.json and images/val")
    p.add_argument("--split", default="val")
    p.add_argument("--pictures", type=int, default=200, help="how many of the split (default: 200)")
    p.add_argument("models", nargs="+", metavar="MODEL.onnx")
    args = p.parse_args()
    names = [pathlib.Path(model).stem for model in args.models]
    print(f"| {args.pictures} pictures of `{args.split}` | {' | '.join(names)} |")
    print("|---" * (len(names) + 1) + "|")
    for name, row in measured(args):
        print(f"| {name} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
