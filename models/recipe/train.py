"""Train a detector. Resumable: run the same command again and it goes on from the last checkpoint.

    python train.py --data DATA --out RUN
    python train.py --data DATA --out RUN --start float.safetensors --steps 4000 --lr 2e-4

Writes RUN/checkpoint.pt every few minutes and when it is stopped, RUN/log.csv once a minute, and with each
checkpoint RUN/float.safetensors (the averaged weights) and RUN/curves.svg. The checkpoint holds the settings
of the run; resuming it with others is refused.
"""

import argparse
import copy
import csv
import dataclasses
import math
import os
import pathlib
import random
import signal
import sys
import time

import numpy as np
import torch
from safetensors.torch import save_file

import curves
import depthwise
import settings
import start as starts
import teacher as teachers
from data import BadData, Pictures, collate
from fake_quant import Quantised
from files import whole
from objective import LOSSES, OBJECTIVES

# Pictures that the ranges of a training in sight of INT8 come from.
CALIBRATION = 150
COLUMNS = ("step", "pictures", "side", "rate", *LOSSES, "positives", "pictures_per_second")


class Draws(torch.utils.data.Sampler):
    """A weighted draw of pictures for each step, the same for the same seed; starts anew at any step."""

    def __init__(self, weights, chosen, first):
        self.weights, self.chosen, self.first = weights, chosen, first

    def __iter__(self):
        for step in range(self.first, self.chosen.steps):
            rng = random.Random(f"{self.chosen.seed}/{step}")
            picked = rng.choices(range(len(self.weights)), self.weights, k=self.chosen.batch)
            side = side_at(step, self.chosen)
            yield [(index, step * self.chosen.batch + i, side) for i, index in enumerate(picked)]

    def __len__(self):
        return self.chosen.steps - self.first


def side_at(step, chosen):
    """The input size of a step."""
    if step < chosen.first_part * chosen.steps:
        return chosen.first_side
    return random.Random(f"{chosen.seed}/side/{step}").choice(chosen.later())


def rate_at(step, chosen):
    """A linear start, then half a cosine down to a fiftieth."""
    warm = min(200, chosen.steps // 10 + 1)
    fall = 0.02 + 0.98 * (1 + math.cos(math.pi * step / chosen.steps)) / 2
    return chosen.lr * min(1.0, (step + 1) / warm) * fall


def body_and_groups(net, chosen):
    """The body's parameters, and the optimiser's groups: body and subnets, with and without weight decay."""
    for name, p in net.named_parameters() if chosen.freeze else ():
        # The stem and the first stage have seen 118,000 pictures; a few thousand more only blur them.
        if name.startswith(("backbone.conv1", "backbone.stage2")):
            p.requires_grad_(False)
    named, body_names = list(net.named_parameters()), ("backbone.", "fpn.")
    body = [p for n, p in named if n.startswith(body_names) and p.requires_grad]
    heads = [p for n, p in named if not n.startswith(body_names)]
    groups = []
    for parameters, share in ((body, chosen.body_lr), (heads, 1.0)):
        flat, deep = ([p for p in parameters if (p.dim() > 1) == decays] for decays in (False, True))
        groups.append({"params": deep, "weight_decay": 0.05, "share": share})
        groups.append({"params": flat, "weight_decay": 0.0, "share": share})
    return body, groups


class Run:
    """The state of a training: the net, its running average, the optimiser and the steps done."""

    def __init__(self, chosen, out, device):
        self.chosen, self.out, self.device, self.step = chosen, pathlib.Path(out), device, 0
        torch.manual_seed(chosen.seed)
        self.net = starts.load(chosen.start, chosen.seed, chosen.head, chosen.size or None).to(
            device, memory_format=torch.channels_last
        )
        self.average = copy.deepcopy(self.net)
        self.seen = self.net
        self.body, groups = body_and_groups(self.net, chosen)
        self.optimiser = torch.optim.AdamW(groups, lr=chosen.lr, betas=(0.9, 0.99))
        teacher = (
            teachers.load(chosen.teacher, chosen.mirrored).to(device, memory_format=torch.channels_last)
            if chosen.distil > 0
            else None
        )
        self.objective = OBJECTIVES[chosen.head](chosen, teacher)

    def quantise(self, pictures):
        """Train in sight of INT8 from here on: with ranges of the start weights, by pictures as they are at run
        time."""
        count = min(CALIBRATION, len(pictures))
        chosen = np.random.default_rng(self.chosen.seed).choice(len(pictures), count, replace=False)
        images = ((pictures[int(i)][0][None].to(self.device).float() - 127) / 128 for i in chosen)
        self.seen = Quantised(self.net)
        self.seen.calibrate([image.contiguous(memory_format=torch.channels_last) for image in images])

    def resume(self):
        """Go on from the checkpoint where there is one; refuse one that was made with other settings."""
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return
        saved = torch.load(path, map_location=self.device, weights_only=True)
        if differs := settings.difference(saved["settings"], self.chosen):
            raise BadData(f"{path}: begun with other settings: {differs}")
        self.net.load_state_dict(saved["net"])
        self.average.load_state_dict(saved["average"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step = saved["step"]

    def save(self):
        """The checkpoint, and the averaged weights alone."""
        parts = {"net": self.net, "average": self.average, "optimiser": self.optimiser}
        state = {name: part.state_dict() for name, part in parts.items()}
        with whole(self.out / "checkpoint.pt") as path:
            torch.save(state | {"step": self.step, "settings": dataclasses.asdict(self.chosen)}, path)
        weights = {k: v.contiguous().cpu() for k, v in self.average.state_dict().items()}
        with whole(self.out / "float.safetensors") as path:
            save_file(weights, path, metadata={"start": self.chosen.start, "steps": str(self.step)})

    def update(self, pictures, boxes):
        """One step. Returns its losses and the number of positives."""
        frozen = self.step < self.chosen.heads_only * self.chosen.steps
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.step, self.chosen) * group["share"]
        for p in self.body:
            p.requires_grad_(not frozen)
        image = (pictures.to(self.device, memory_format=torch.channels_last).float() - 127) / 128
        with torch.autocast(self.device, torch.bfloat16, enabled=self.chosen.precision == "bfloat16"):
            parts, positives = self.objective.losses(self.seen, image, boxes)
        self.optimiser.zero_grad(set_to_none=True)
        sum(parts).backward()
        torch.nn.utils.clip_grad_norm_([p for p in self.net.parameters() if p.grad is not None], 10.0)
        self.optimiser.step()
        keep = min(self.chosen.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for mean, p in zip(self.average.parameters(), self.net.parameters()):
                mean.lerp_(p.detach(), 1 - keep)
        self.step += 1
        return [part.item() for part in parts], positives


class Log:
    """RUN/log.csv: a row a minute with the means since the last one. Rows after the step resumed from are cut
    off."""

    def __init__(self, path, first, chosen):
        self.chosen = chosen
        kept = []
        if path.exists():
            with open(path, newline="") as file:
                kept = [row for row in list(csv.reader(file))[1:] if int(row[0]) <= first]
        with whole(path) as beside, open(beside, "w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *kept])
        self.file = open(path, "a", buffering=1, newline="")
        self.clear()

    def clear(self):
        self.sums, self.count, self.since = [0.0] * (len(LOSSES) + 1), 0, time.monotonic()

    def add(self, step, parts, positives, last):
        self.sums = [a + b for a, b in zip(self.sums, [*parts, positives])]
        self.count += 1
        passed = time.monotonic() - self.since
        if passed < 60 and not last:
            return
        means = [f"{s / self.count:.4f}" for s in self.sums]
        speed = self.count * self.chosen.batch / max(passed, 1e-9)
        where = [
            step,
            step * self.chosen.batch,
            side_at(step - 1, self.chosen),
            f"{rate_at(step - 1, self.chosen):.2e}",
        ]
        row = [*where, *means, f"{speed:.1f}"]
        csv.writer(self.file).writerow(row)
        print(", ".join(f"{name} {value}" for name, value in zip(COLUMNS, row)), flush=True)
        self.clear()


def train(chosen, data, out, device="cpu", save_minutes=8.0, stop=lambda step: False):
    """Train or resume until the last step, or until `stop(steps done)` says so; saved in either case."""
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    pictures = Pictures(
        data,
        chosen.sets.split(","),
        chosen.side,
        stretch=chosen.stretch,
        corrupt=chosen.corrupt,
        zoom_out=chosen.zoom_out,
        empty=chosen.empty,
        seed=chosen.seed,
    )
    run = Run(chosen, out, device)
    if (row := pictures.last_class()) >= run.net.classes:
        raise BadData(
            f"{data}: a box of category number {row + 1}, but the net has {run.net.classes} classes"
        )
    if chosen.quantised:
        run.quantise(Pictures(data, chosen.sets.split(",")[:1], chosen.side, augment=False, stretch=1.0))
    run.resume()
    log = Log(out / "log.csv", run.step, chosen)
    loader = torch.utils.data.DataLoader(
        pictures,
        batch_sampler=Draws(pictures.weights(), chosen, run.step),
        collate_fn=collate,
        num_workers=2 if device == "cuda" else 1,
    )
    saved_at = time.monotonic()
    for batch in loader:
        parts, positives = run.update(*batch)
        last = run.step == chosen.steps or stop(run.step)
        log.add(run.step, parts, positives, last)
        if last or time.monotonic() - saved_at > 60 * save_minutes:
            run.save()
            curves.draw(out)
            saved_at = time.monotonic()
        if last:
            break
    log.file.close()
    return run


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--data", required=True, help="folder with train.json, train-more.json, ... and images/*.zip"
    )
    p.add_argument("--out", required=True, help="folder for checkpoints and the result")
    p.add_argument(
        "--save-minutes", type=float, default=8.0, help="a checkpoint every so many minutes (default: 8)"
    )
    p.add_argument("--threads", type=int, default=os.cpu_count())
    settings.add_arguments(p)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        depthwise.install()
    stopped = []
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stopped.append(True))
    try:
        run = train(
            settings.from_arguments(args),
            args.data,
            args.out,
            device,
            args.save_minutes,
            lambda _: bool(stopped),
        )
    except (ValueError, OSError) as error:
        # An error of the reading process comes with its traceback; the last line is the message.
        sys.exit(f"train: {str(error).strip().splitlines()[-1]}")
    print(f"{run.step} of {run.chosen.steps} steps done, averaged weights in {run.out / 'float.safetensors'}")


if __name__ == "__main__":
    main()
