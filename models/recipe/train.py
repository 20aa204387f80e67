"""Train the detector `m`. Resumable: run the same command again and it goes on from the last checkpoint.

    python train.py --data DATA --out run
    python train.py --data DATA --out run --start float.safetensors --steps 4000 --lr 2e-4

Writes RUN/checkpoint.pt every few minutes, RUN/log.csv once a minute, and at each checkpoint RUN/float.safetensors (the
averaged weights). The checkpoint holds the settings of the run; resuming it with others is refused.
"""

import argparse
import copy
import csv
import dataclasses
import math
import os
import pathlib
import random
import sys
import time

import torch
from safetensors.torch import save_file

import depthwise
import settings
import start as starts
import teacher as teachers
from data import Pictures, collate
from loss import focal, giou, match, opinion, quality_focal, taught
from network import anchors_for, decode, flatten

LOSSES = ("class", "box", "taught_class", "taught_box")
COLUMNS = ("step", "pictures", "side", "rate", *LOSSES, "positives", "pictures_per_second")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="folder with train.json, train-more.json, ... and images/*.zip")
    p.add_argument("--out", required=True, type=pathlib.Path, help="folder for checkpoints and the result")
    p.add_argument("--save-minutes", type=float, default=8, help="a checkpoint every so many minutes (default: 8)")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    settings.add_arguments(p)
    return p.parse_args()


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
    return chosen.first_side if step < chosen.first_part * chosen.steps else chosen.side


def rate_at(step, chosen):
    """A linear start, then half a cosine down to a fiftieth."""
    warm = min(200, chosen.steps // 10 + 1)
    return chosen.lr * min(1.0, (step + 1) / warm) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / chosen.steps)) / 2)


def losses(net, pictures, boxes, anchors, chosen, teacher=None):
    """The four losses of a batch, each summed over anchors and divided by the positives of the batch, and the positives.

    With a teacher the truth still wins where it says something. Its class scores are soft targets for the anchors that
    its boxes would match (see `taught`), its boxes are targets of those that the truth leaves without one. A positive
    takes its own class from the truth's IoU, weight 2, and from the teacher's opinion of that truth, weight 1: the
    teacher may have put the thing on another level, so the score of the same cell would be the wrong one. What only the
    teacher sees (score >= 0.3) is not background.
    """
    image = (pictures.float() - 127) / 128
    classes, deltas = net(image)
    logits, deltas = flatten(classes, net.classes).float(), flatten(deltas, 4).float()
    matched = torch.stack([match(anchors, b) for b in boxes]).to(logits.device)
    anchors = anchors.to(logits.device)
    picture, anchor = (matched >= 0).nonzero(as_tuple=True)
    truths = [b[b[:, 4] >= 0].to(logits.device) for b in boxes]
    first = torch.tensor([0] + [len(t) for t in truths]).cumsum(0)[:-1].to(logits.device)
    which = first[picture] + matched[picture, anchor]
    truth = torch.cat(truths)[which]
    label = truth[:, 4].long()
    positives = max(1, len(picture))
    overlap, quality = giou(decode(deltas[picture, anchor], anchors[anchor]), truth[:, :4])
    targets = torch.zeros_like(logits)
    soft = chosen.loss == "quality_focal"
    targets[picture, anchor, label] = quality.detach().clamp(0, 1) if soft else torch.ones_like(quality)
    kind, weight = (quality_focal, 2.0) if soft else (focal, 1.0)
    each = kind(logits, targets)
    class_loss = weight * (each.sum(-1) * (matched != -2)).sum()
    box_loss = 2.0 * (1 - overlap).sum()
    taught_class = taught_box = logits.new_zeros(())
    if teacher is not None:
        with torch.no_grad():
            scores, their_boxes = teacher(image)
            thoughts = torch.cat([opinion(s, b, t) for s, b, t in zip(scores, their_boxes, truths)])[which]
            p, cell, a = taught(scores, their_boxes, anchors)
            score, box, state = scores[p, cell], their_boxes[p, cell], matched[p, a]
            alone = (score >= 0.3) & (state == -1)[:, None]
            asked = torch.ones_like(score)
            own = (state >= 0).nonzero(as_tuple=True)[0]
            asked[own, torch.cat(truths)[first[p[own]] + state[own], 4].long()] = 0
            sure = ((state < 0) & (score.amax(dim=1) >= 0.3)).nonzero(as_tuple=True)[0]
        chance = logits[p, a]
        class_loss = class_loss - weight * (kind(chance, torch.zeros_like(chance)) * alone).sum()
        mine = quality_focal(logits[picture, anchor, label], thoughts) * (thoughts >= 0.1)
        taught_class = (quality_focal(chance, score) * asked).sum() + mine.sum()
        near, _ = giou(decode(deltas[p[sure], a[sure]], anchors[a[sure]]), box[sure])
        taught_box = ((1 - near) * score[sure].amax(dim=1)).sum()
    parts = class_loss, box_loss, chosen.distil * taught_class, chosen.distil * taught_box
    return [part / positives for part in parts], positives


def groups_of(net, chosen):
    """The body's parameters and the optimiser's groups: body and subnets, with and without weight decay."""
    for name, p in net.named_parameters():
        # The stem and the first stage have seen 118,000 pictures; a few thousand more only blur them.
        if name.startswith(("backbone.conv1", "backbone.stage2")):
            p.requires_grad_(False)
    body = [p for n, p in net.named_parameters() if n.startswith(("backbone.", "fpn.")) and p.requires_grad]
    heads = [p for n, p in net.named_parameters() if n.startswith(("cls.", "box."))]
    groups = [
        {"params": [p for p in ps if (p.dim() > 1) == decays], "weight_decay": 0.05 if decays else 0.0, "share": share}
        for ps, share in ((body, chosen.body_lr), (heads, 1.0))
        for decays in (True, False)
    ]
    return body, groups


class Log:
    """RUN/log.csv: a row a minute with the means since the last one; rows after a resumed step are cut off."""

    def __init__(self, path, first, chosen):
        self.chosen, self.first = chosen, first
        kept = []
        if path.exists():
            with open(path, newline="") as file:
                kept = [row for row in list(csv.reader(file))[1:] if int(row[0]) <= first]
        self.file = open(path, "w", buffering=1, newline="")
        self.rows = csv.writer(self.file)
        self.rows.writerows([COLUMNS, *kept])
        self.sums, self.count, self.since = [0.0] * (len(LOSSES) + 1), 0, time.monotonic()

    def add(self, step, parts, positives, last):
        values = [*(part.item() for part in parts), positives]
        self.sums = [a + b for a, b in zip(self.sums, values)]
        self.count += 1
        passed = time.monotonic() - self.since
        if passed < 60 and not last:
            return
        means = [f"{s / self.count:.4f}" for s in self.sums]
        speed = self.count * self.chosen.batch / max(passed, 1e-9)
        where = [step, step * self.chosen.batch, side_at(step - 1, self.chosen), f"{rate_at(step - 1, self.chosen):.2e}"]
        self.rows.writerow([*where, *means, f"{speed:.1f}"])
        self.sums, self.count, self.since = [0.0] * len(self.sums), 0, time.monotonic()


def save(out, step, net, average, optimiser, chosen):
    """Checkpoint and averaged weights, each written beside and renamed."""
    state = {"net": net.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
    torch.save(state | {"settings": dataclasses.asdict(chosen)}, out / "checkpoint.tmp")
    os.replace(out / "checkpoint.tmp", out / "checkpoint.pt")
    weights = {k: v.contiguous().cpu() for k, v in average.state_dict().items()}
    save_file(weights, out / "float.tmp", metadata={"start": str(chosen.start), "steps": str(step)})
    os.replace(out / "float.tmp", out / "float.safetensors")


def main():
    args = arguments()
    chosen = settings.from_arguments(args)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(chosen.seed)
    torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = starts.load(chosen.start, chosen.seed).to(device, memory_format=torch.channels_last)
    teacher = teachers.load().to(device, memory_format=torch.channels_last) if chosen.distil > 0 else None
    if device == "cpu":
        depthwise.install()
    average = copy.deepcopy(net)
    body, groups = groups_of(net, chosen)
    optimiser = torch.optim.AdamW(groups, lr=chosen.lr, betas=(0.9, 0.99))
    first, checkpoint = 0, args.out / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        if differs := settings.difference(saved["settings"], chosen):
            sys.exit(f"train: {args.out} was begun with other settings: {differs}")
        net.load_state_dict(saved["net"])
        average.load_state_dict(saved["average"])
        optimiser.load_state_dict(saved["optimiser"])
        first = saved["step"]
        print(f"resumed at step {first} of {chosen.steps}", flush=True)

    data = Pictures(args.data, chosen.sets.split(","), chosen.side, stretch=chosen.stretch, seed=chosen.seed)
    draws = Draws(data.weights(), chosen, first)
    workers = 2 if device == "cuda" else 1
    loader = torch.utils.data.DataLoader(data, batch_sampler=draws, collate_fn=collate, num_workers=workers)
    log = Log(args.out / "log.csv", first, chosen)
    anchors = {side: anchors_for(side, side) for side in (chosen.first_side, chosen.side)}
    low = chosen.precision == "bfloat16"
    saved_at = time.monotonic()
    for step, (pictures, boxes) in enumerate(loader, first):
        frozen = step < chosen.heads_only * chosen.steps
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, chosen) * group["share"]
        for p in body:
            p.requires_grad_(not frozen)
        pictures = pictures.to(device, memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16, enabled=low):
            parts, positives = losses(net, pictures, boxes, anchors[pictures.shape[-1]], chosen, teacher)
        optimiser.zero_grad(set_to_none=True)
        sum(parts).backward()
        torch.nn.utils.clip_grad_norm_([p for p in net.parameters() if p.grad is not None], 10.0)
        optimiser.step()
        keep = min(chosen.ema, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, p in zip(average.parameters(), net.parameters()):
                mean.lerp_(p.detach(), 1 - keep)
        done = step + 1
        log.add(done, parts, positives, done == chosen.steps)
        if time.monotonic() - saved_at > 60 * args.save_minutes or done == chosen.steps:
            save(args.out, done, net, average, optimiser, chosen)
            saved_at = time.monotonic()
    print(f"done: {chosen.steps} steps, weights in {args.out / 'float.safetensors'}")


if __name__ == "__main__":
    main()
