"""Pictures and boxes: reading and checking the training sets, augmenting, letterboxing and stretching.

Difficult and crowd boxes, and boxes that a crop cut down to a sliver, are *ignored*: no anchor on them is a
positive, and no anchor mostly inside them is background.
"""

import io
import json
import math
import pathlib
import random
import zipfile
import zlib

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance

from corrupt import corrupted

SETS = ("train", "train-more", "train-extra", "train-coco")
PAD = 127
# The shorter side, in pixels, that a part without boxes must have to be a scene without things.
EMPTY_SIDE = 100


class BadData(ValueError):
    """A training set that cannot be used; the message is one line that names the entry."""


def number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def unique(path, kind, entries):
    """The entries of a list by their id."""
    found = {}
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int):
            raise BadData(f"{path}: {kind} without a whole number as id: {str(entry)[:80]}")
        if entry["id"] in found:
            raise BadData(f"{path}: {kind} {entry['id']} is there twice")
        found[entry["id"]] = entry
    return found


def checked_box(path, annotation, picture):
    """The box x1 y1 x2 y2 of an annotation; half a pixel of rounding may stick out of the picture, and is cut
    off."""
    box = annotation.get("bbox")
    what = f"{path}: annotation {annotation['id']}"
    if not isinstance(box, list) or len(box) != 4 or not all(number(v) for v in box):
        raise BadData(f"{what}: bbox is not four finite numbers: {box}")
    x, y, w, h = box
    if w <= 0 or h <= 0:
        raise BadData(f"{what}: bbox has no area: {box}")
    width, height = picture["width"], picture["height"]
    if x < -0.5 or y < -0.5 or x + w > width + 0.5 or y + h > height + 0.5:
        raise BadData(
            f"{what}: bbox {box} is not inside picture {picture['id']} of {width} x {height} pixels"
        )
    return max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)


def annotations(path):
    """COCO file to `[(file_name, boxes [n, 5] of x1 y1 x2 y2 class, ignored ones with class -1)]`."""
    path = pathlib.Path(path)
    try:
        coco = json.loads(path.read_text())
    except OSError as error:
        raise BadData(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise BadData(f"{path}: not JSON, or cut off: {error}") from error
    if not isinstance(coco, dict) or any(
        not isinstance(coco.get(k), list) for k in ("categories", "images", "annotations")
    ):
        raise BadData(f"{path}: not a COCO file with categories, images and annotations")
    rows = {key: row for row, key in enumerate(sorted(unique(path, "category", coco["categories"])))}
    pictures = unique(path, "picture", coco["images"])
    if not pictures:
        raise BadData(f"{path}: no pictures")
    for key, picture in pictures.items():
        if not isinstance(picture.get("file_name"), str) or not all(
            number(picture.get(k)) for k in ("width", "height")
        ):
            raise BadData(f"{path}: picture {key} needs file_name, width and height")
    boxes = {key: [] for key in pictures}
    for key, a in unique(path, "annotation", coco["annotations"]).items():
        if a.get("image_id") not in pictures:
            raise BadData(
                f"{path}: annotation {key} is of picture {a.get('image_id')}, which is not in the file"
            )
        if a.get("category_id") not in rows:
            raise BadData(
                f"{path}: annotation {key} has category {a.get('category_id')}, which is not in the file"
            )
        skip = bool(a.get("iscrowd") or a.get("difficult") or a.get("ignore"))
        box = checked_box(path, a, pictures[a["image_id"]])
        boxes[a["image_id"]].append((*box, -1 if skip else rows[a["category_id"]]))
    return [(p["file_name"], np.array(boxes[key], np.float32).reshape(-1, 5)) for key, p in pictures.items()]


def archive_of(path, wanted):
    """An open zip of pictures and the member of each wanted file name."""
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise BadData(f"{path}: {error.strerror}") from error
    except zipfile.BadZipFile as error:
        raise BadData(f"{path}: not a zip, or cut off: {error}") from error
    members = {pathlib.PurePosixPath(name).name: name for name in archive.namelist()}
    for name in wanted:
        if pathlib.PurePosixPath(name).name not in members:
            raise BadData(f"{path}: picture {name} of the annotations is not in it")
    return archive, members


class Pictures(torch.utils.data.Dataset):
    """The training pictures of several sets. Items: u8 `[3, side, side]`, boxes `[n, 5]` (class -1: ignored).

    An item is asked for by its index, or by `(index, draw, side)`: the draw seeds its augmentation. Of the
    augmented pictures the share `stretch` is stretched to the square, the others keep their aspect; the share
    `corrupt` looks as from a bad camera; they are scaled down to `zoom_out`; and the share `empty` of those that
    have a part which no box touches is cut to it. Of those that are not augmented all are stretched where
    `stretch` is 1, else none.
    """

    def __init__(
        self, root, sets=SETS, side=320, augment=True, stretch=0.0, corrupt=0.0, zoom_out=0.6, empty=0.0, seed=0
    ):
        self.root, self.side, self.augment, self.seed = pathlib.Path(root), side, augment, seed
        self.stretch, self.corrupt, self.zoom_out, self.empty = stretch, corrupt, zoom_out, empty
        self.items = [(name, *item) for name in sets for item in annotations(self.root / f"{name}.json")]
        if not any((boxes[:, 4] >= 0).any() for _, _, boxes in self.items):
            raise BadData(f"{self.root}: no box to train on in {', '.join(sets) or 'an empty list of sets'}")
        for name in sets:
            archive, _ = self.archive(name)
            archive.close()
        self.zips = None  # opened anew in each process that reads

    def weights(self):
        """How often to draw each picture: thin classes more often, by the root of the class's rarity."""
        counts = np.zeros(64)
        for _, _, boxes in self.items:
            counts[np.unique(boxes[boxes[:, 4] >= 0, 4]).astype(int)] += 1
        share = counts / len(self.items)
        need = np.maximum(1.0, np.sqrt(0.1 / np.maximum(share, 1e-9)))
        return [max([1.0, *need[np.unique(b[b[:, 4] >= 0, 4]).astype(int)]]) for _, _, b in self.items]

    def __len__(self):
        return len(self.items)

    def last_class(self):
        return max(int(boxes[:, 4].max(initial=-1)) for _, _, boxes in self.items)

    def archive(self, name):
        return archive_of(
            self.root / "images" / f"{name}.zip", (file for item, file, _ in self.items if item == name)
        )

    def read(self, index):
        name, file, boxes = self.items[index]
        self.zips = self.zips or {}
        if name not in self.zips:
            self.zips[name] = self.archive(name)
        archive, members = self.zips[name]
        try:
            content = archive.read(members[pathlib.PurePosixPath(file).name])
            picture = Image.open(io.BytesIO(content)).convert("RGB")
        except (OSError, zipfile.BadZipFile, zlib.error) as error:
            raise BadData(f"{archive.filename}: picture {file} cannot be read: {error}") from error
        return picture, boxes.copy()

    def __getitem__(self, key):
        index, draw, side = key if isinstance(key, tuple) else (key, 0, self.side)
        picture, boxes = self.read(index)
        rng = random.Random(self.seed * 1_000_003 + draw)
        if self.augment:
            if self.empty and rng.random() < self.empty:
                picture, boxes = without_things(picture, boxes)
            if self.corrupt and rng.random() < self.corrupt:
                picture = corrupted(picture, rng)
            canvas, boxes = augmented(picture, boxes, side, rng, self.stretch, self.zoom_out)
        else:
            canvas, boxes = (squared if self.stretch == 1 else letterboxed)(picture, boxes, side)
        return torch.from_numpy(canvas).permute(2, 0, 1).contiguous(), torch.from_numpy(boxes)


def resized(picture, width, height):
    """Bilinear between pixel centres, as at run time: without the smoothing of PIL where it shrinks."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
    pixels = F.interpolate(pixels, (height, width), mode="bilinear", align_corners=False)
    return pixels[0].permute(1, 2, 0).round().to(torch.uint8).numpy()


def letterboxed(picture, boxes, side):
    """Fit at the top left of a square of 127, aspect kept, as the manifest says."""
    scale = min(side / picture.width, side / picture.height)
    w, h = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    canvas = np.full((side, side, 3), PAD, np.uint8)
    canvas[:h, :w] = resized(picture, w, h)
    boxes[:, [0, 2]] *= w / picture.width
    boxes[:, [1, 3]] *= h / picture.height
    return canvas, boxes


def squared(picture, boxes, side):
    """Stretched to the square, as with `keep_aspect = false`."""
    boxes[:, [0, 2]] *= side / picture.width
    boxes[:, [1, 3]] *= side / picture.height
    return resized(picture, side, side), boxes


def without_things(picture, boxes):
    """The largest strip along an edge of the picture that no box touches, ignored ones neither, without boxes;
    the picture as it is where none is large enough."""
    width, height = picture.size
    left, top, right, bottom = boxes[:, :4].T if len(boxes) else np.array([[width], [height], [0], [0]])
    strips = [
        (0, 0, math.floor(left.min()), height),
        (0, 0, width, math.floor(top.min())),
        (math.ceil(right.max()), 0, width, height),
        (0, math.ceil(bottom.max()), width, height),
    ]
    best = max(strips, key=lambda s: min(s[2] - s[0], s[3] - s[1]))
    if min(best[2] - best[0], best[3] - best[1]) < EMPTY_SIDE:
        return picture, boxes
    return picture.crop(best), boxes[:0]


def coloured(picture, rng):
    for enhance, spread in (
        (ImageEnhance.Brightness, 0.3),
        (ImageEnhance.Contrast, 0.3),
        (ImageEnhance.Color, 0.4),
    ):
        if rng.random() < 0.5:
            picture = enhance(picture).enhance(1 + rng.uniform(-spread, spread))
    return picture.convert("L").convert("RGB") if rng.random() < 0.03 else picture


def augmented(picture, boxes, side, rng, stretch=0.0, zoom_out=0.6):
    """Colour (before the padding, which stays 127), flip, aspect, scale `zoom_out` to 1.7 with a crop or a
    place at random.

    The scale is relative to a picture that fills the square (the share `stretch`) or just fits into it (the
    others).
    """
    picture = coloured(picture, rng)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        boxes[:, [0, 2]] = picture.width - boxes[:, [2, 0]]
    fill = side / picture.width, side / picture.height
    fit_x, fit_y = fill if rng.random() < stretch else (min(fill), min(fill))
    low, high = (zoom_out, 1.0) if rng.random() < 0.4 else (1.0, 1.7) if rng.random() < 0.6 else (1.0, 1.0)
    zoom = rng.uniform(low, high) if low < high else 1.0
    aspect = rng.uniform(0.85, 1.18)
    w = max(1, round(picture.width * fit_x * zoom * aspect**0.5))
    h = max(1, round(picture.height * fit_y * zoom / aspect**0.5))
    picture_now = np.asarray(picture.resize((w, h), Image.Resampling.BILINEAR))
    boxes[:, [0, 2]] *= w / picture.width
    boxes[:, [1, 3]] *= h / picture.height
    # Where the picture is larger than the square a crop at random, else its place: often the top left,
    # as when it runs.
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
