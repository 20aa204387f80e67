"""Pictures and boxes: reading the training sets from their zips, augmenting, letterboxing.

Difficult and crowd boxes, and boxes that a crop cut down to a sliver, are *ignored*: no anchor on them is a positive, and
no anchor mostly inside them is background.
"""

import io
import json
import pathlib
import random
import zipfile

import numpy as np
import torch
from PIL import Image, ImageEnhance

SETS = ("train", "train-more", "train-extra", "train-coco")
PAD = 127


def annotations(path):
    """COCO file to `[(file_name, boxes [n, 5] of x1 y1 x2 y2 class, ignored [m, 4])]`."""
    coco = json.loads(pathlib.Path(path).read_text())
    rows = {c["id"]: i for i, c in enumerate(sorted(coco["categories"], key=lambda c: c["id"]))}
    boxes = {picture["id"]: [] for picture in coco["images"]}
    for a in coco["annotations"]:
        x, y, w, h = a["bbox"]
        skip = bool(a.get("iscrowd") or a.get("difficult") or a.get("ignore"))
        if w > 0 and h > 0:
            boxes[a["image_id"]].append((x, y, x + w, y + h, -1 if skip else rows[a["category_id"]]))
    return [(p["file_name"], np.array(boxes[p["id"]], np.float32).reshape(-1, 5)) for p in coco["images"]]


class Pictures(torch.utils.data.Dataset):
    """The training pictures of several sets. Items: u8 `[3, side, side]`, boxes `[n, 5]` (class -1: ignored).

    An item is asked for by its index, or by `(index, draw, side)`: the draw seeds its augmentation. Of the augmented
    pictures the share `stretch` is stretched to the square, the others keep their aspect.
    """

    def __init__(self, root, sets=SETS, side=320, augment=True, stretch=0.0, seed=0):
        self.root, self.side, self.augment, self.stretch, self.seed = pathlib.Path(root), side, augment, stretch, seed
        self.items = [(name, *item) for name in sets for item in annotations(self.root / f"{name}.json")]
        self.zips = None

    def weights(self):
        """How often to draw each picture: those with thin classes more often, by the root of the class's rarity."""
        counts = np.zeros(64)
        for _, _, boxes in self.items:
            counts[np.unique(boxes[boxes[:, 4] >= 0, 4]).astype(int)] += 1
        share = counts / len(self.items)
        need = np.maximum(1.0, np.sqrt(0.1 / np.maximum(share, 1e-9)))
        return [max([1.0, *need[np.unique(b[b[:, 4] >= 0, 4]).astype(int)]]) for _, _, b in self.items]

    def __len__(self):
        return len(self.items)

    def read(self, index):
        if self.zips is None:
            self.zips = {}
        folder, name, boxes = self.items[index]
        if folder not in self.zips:
            self.zips[folder] = zipfile.ZipFile(self.root / "images" / f"{folder}.zip")
            self.zips[folder].names = {pathlib.Path(n).name: n for n in self.zips[folder].namelist()}
        archive = self.zips[folder]
        picture = Image.open(io.BytesIO(archive.read(archive.names[pathlib.Path(name).name]))).convert("RGB")
        return picture, boxes.copy()

    def __getitem__(self, key):
        index, draw, side = key if isinstance(key, tuple) else (key, 0, self.side)
        picture, boxes = self.read(index)
        rng = random.Random(self.seed * 1_000_003 + draw)
        if self.augment:
            canvas, boxes = augmented(picture, boxes, side, rng, self.stretch)
        else:
            canvas, boxes = letterboxed(picture, boxes, side)
        return torch.from_numpy(canvas).permute(2, 0, 1).contiguous(), torch.from_numpy(boxes)


def letterboxed(picture, boxes, side):
    """Fit at the top left of a square of 127, aspect kept, as the manifest says."""
    scale = min(side / picture.width, side / picture.height)
    w, h = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    canvas = np.full((side, side, 3), PAD, np.uint8)
    canvas[:h, :w] = np.asarray(picture.resize((w, h), Image.Resampling.BILINEAR))
    boxes[:, [0, 2]] *= w / picture.width
    boxes[:, [1, 3]] *= h / picture.height
    return canvas, boxes


def coloured(picture, rng):
    for enhance, spread in ((ImageEnhance.Brightness, 0.3), (ImageEnhance.Contrast, 0.3), (ImageEnhance.Color, 0.4)):
        if rng.random() < 0.5:
            picture = enhance(picture).enhance(1 + rng.uniform(-spread, spread))
    return picture.convert("L").convert("RGB") if rng.random() < 0.03 else picture


def augmented(picture, boxes, side, rng, stretch=0.0):
    """Colour (before the padding, which stays 127), flip, aspect, scale 0.6 to 1.7 with a crop or a place at random.

    The scale is relative to a picture that fills the square (the share `stretch`) or just fits into it (the others).
    """
    picture = coloured(picture, rng)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        boxes[:, [0, 2]] = picture.width - boxes[:, [2, 0]]
    fill = side / picture.width, side / picture.height
    fit_x, fit_y = fill if rng.random() < stretch else (min(fill), min(fill))
    zoom = rng.uniform(0.6, 1.0) if rng.random() < 0.4 else rng.uniform(1.0, 1.7) if rng.random() < 0.6 else 1.0
    aspect = rng.uniform(0.85, 1.18)
    w = max(1, round(picture.width * fit_x * zoom * aspect**0.5))
    h = max(1, round(picture.height * fit_y * zoom / aspect**0.5))
    picture_now = np.asarray(picture.resize((w, h), Image.Resampling.BILINEAR))
    boxes[:, [0, 2]] *= w / picture.width
    boxes[:, [1, 3]] *= h / picture.height
    # Where the picture is larger than the square a crop at random, else its place: often the top left, as at run time.
    placed = rng.random() < 0.5
    left = rng.randint(side - w, 0) if w > side else 0 if placed else rng.randint(0, side - w)
    top = rng.randint(side - h, 0) if h > side else 0 if placed else rng.randint(0, side - h)
    canvas = np.full((side, side, 3), PAD, np.uint8)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + w, side), min(top + h, side)
    canvas[y0:y1, x0:x1] = picture_now[y0 - top : y1 - top, x0 - left : x1 - left]
    boxes[:, [0, 2]] += left
    boxes[:, [1, 3]] += top
    before = np.maximum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), 1e-6)
    boxes[:, [0, 2]] = boxes[:, [0, 2]].clip(x0, x1)
    boxes[:, [1, 3]] = boxes[:, [1, 3]].clip(y0, y1)
    size = boxes[:, 2:4] - boxes[:, :2]
    seen = size.prod(axis=1) / before
    boxes[(seen < 0.35) | (size.min(axis=1) < 3), 4] = -1
    return canvas, boxes[size.min(axis=1) >= 1]


def collate(batch):
    return torch.stack([picture for picture, _ in batch]), [boxes for _, boxes in batch]
