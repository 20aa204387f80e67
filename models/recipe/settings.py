"""The settings of a training run: everything that decides its result, in one place.

They are kept in the run's checkpoint. A run that is resumed with other settings is refused, since its result
would be neither that of the old settings nor that of the new ones. Paths, threads and how often to save are
no settings.
"""

import argparse
import dataclasses
from dataclasses import dataclass, field

from network import HEADS, SIZES


def setting(default, about, **more):
    return field(default=default, metadata={"about": about, **more})


@dataclass(frozen=True)
class Settings:
    start: str = setting("coco", '"coco", or a .safetensors file with all weights')
    head: str = setting("anchors", "nine anchors a cell, or distance bins", choices=HEADS)
    size: str = setting("", "m or s, the start net's; empty: m, or that of the weights", choices=("", *SIZES))
    sets: str = setting("train,train-more,train-extra,train-coco", "training sets")
    steps: int = setting(1856, "optimiser steps in all")
    batch: int = setting(16, "pictures a step")
    side: int = setting(320, "input size in pixels")
    first_side: int = setting(256, "input size during the first part of the steps")
    first_part: float = setting(0.45, "share of the steps at the first size")
    last_sides: str = setting("", "sizes to draw from after the first part, such as 256,320,416; empty: side")
    stretch: float = setting(
        0.65, "share of the pictures stretched to the square; the others keep their aspect"
    )
    zoom_out: float = setting(0.6, "the smallest scale of the augmentation")
    corrupt: float = setting(0.0, "share of the pictures that look as from a bad camera")
    empty: float = setting(
        0.0, "of the pictures with a part that no box touches, the share that is cut to it: scenes without things"
    )
    lr: float = setting(8e-4, "learning rate of the subnets")
    body_lr: float = setting(0.15, "the body's share of the learning rate")
    heads_only: float = setting(0.06, "share of the steps with the body frozen")
    loss: str = setting("quality_focal", "loss of the classes", choices=("quality_focal", "focal"))
    distil: float = setting(1.0, "weight of the distillation from the teacher; 0 is none")
    teacher: str = setting("coco", '"coco" for the start net `m`, or a .safetensors file with level-bins')
    mirrored: bool = setting(False, "distil from the mean of a picture's and its mirror image's answers")
    quantised: bool = setting(False, "round weights and activations as INT8 does")
    freeze: bool = setting(True, "leave the stem and the first stage as they are")
    ema: float = setting(0.998, "how much of the averaged weights each step keeps")
    precision: str = setting("float32", "arithmetic of the network", choices=("float32", "bfloat16"))
    seed: int = setting(0, "of the draws, the augmentation and the new weights")

    def __post_init__(self):
        if self.quantised and self.precision != "float32":
            # bfloat16 has as few digits as the codes, so that it would blur what is to be learned.
            raise ValueError(f"precision: must be float32 with quantised, not {self.precision}")
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, not {getattr(self, name)}")
        for name in ("first_part", "stretch", "corrupt", "empty", "heads_only", "ema"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be a share from 0 to 1, not {getattr(self, name)}")
        for name, sides in (
            ("side", [self.side]),
            ("first_side", [self.first_side]),
            ("last_sides", self.later()),
        ):
            for side in sides:
                if side < 64 or side % 32:
                    raise ValueError(f"{name}: must be a multiple of 32 from 64 on, not {side}")

    def later(self):
        """The input sizes after the first part of the steps."""
        try:
            return [int(side) for side in self.last_sides.split(",")] if self.last_sides else [self.side]
        except ValueError:
            raise ValueError(f"last_sides: must be sizes between commas, not {self.last_sides!r}") from None


def add_arguments(parser):
    """One option a setting: `first_side` is `--first-side`."""
    for f in dataclasses.fields(Settings):
        about = f"{f.metadata['about']} (default: {f.default})"
        option = "--" + f.name.replace("_", "-")
        if isinstance(f.default, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=f.default, help=about)
            continue
        parser.add_argument(
            option, type=type(f.default), default=f.default, choices=f.metadata.get("choices"), help=about
        )


def from_arguments(args: argparse.Namespace):
    return Settings(**{f.name: getattr(args, f.name) for f in dataclasses.fields(Settings)})


def difference(saved: dict, now: Settings):
    """One line that names the first setting in which a saved run differs from this one, or None.

    A setting that the saved run does not know is newer than the run, and had its default's effect.
    """
    mine = dataclasses.asdict(now)
    theirs = dataclasses.asdict(Settings()) | saved
    for key in sorted(theirs):
        if key not in mine:
            return f"{key}: the run has {theirs[key]!r}, this version of the recipe has no such setting"
        if theirs[key] != mine[key]:
            return f"{key}: the run has {theirs[key]!r}, this command {mine[key]!r}"
    return None
