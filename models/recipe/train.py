"""Train the detector `m`. Resumable: run the same command again and it goes on from the last checkpoint.

    python train.py --data DATA --out run --start coco --steps 9000
    python train.py --data DATA --out run --start float.safetensors --steps 4000 --lr 2e-4

Writes RUN/checkpoint.pt every --save steps, RUN/log.csv, and at the end RUN/float.safetensors (the averaged weights).
"""

import argparse
import copy
import csv
import math
import os
import pathlib
import random
import time

import torch
from safetensors.torch import save_file

import depthwise
import start as starts
from data import SETS, Pictures, collate
from loss import focal, giou, match, quality_focal
from network import anchors_for, decode, flatten


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="folder with train.json, train-more.json, ... and images/*.zip")
    p.add_argument("--out", required=True, type=pathlib.Path, help="folder for checkpoints and the result")
    p.add_argument("--start", default="coco", help='"coco", or a .safetensors file with all weights (default: coco)')
    p.add_argument("--sets", default=",".join(SETS), help="training sets (default: all four)")
    p.add_argument("--steps", type=int, default=9000, help="optimiser steps in all (default: 9000)")
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--side", type=int, default=320, help="input size in pixels (default: 320)")
    p.add_argument("--lr", type=float, default=8e-4, help="of the subnets (default: 8e-4)")
    p.add_argument("--body-lr", type=float, default=0.2, help="the body's share of --lr (default: 0.2)")
    p.add_argument("--heads-only", type=float, default=0.06, help="share of the steps with the body frozen (default: 0.06)")
    p.add_argument("--loss", choices=("quality_focal", "focal"), default="quality_focal")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--save", type=int, default=250, help="checkpoint every so many steps (default: 250)")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    return p.parse_args()


class Draws(torch.utils.data.Sampler):
    """An endless weighted draw of pictures, the same for the same seed; starts anew at any step."""

    def __init__(self, weights, batch, steps, first, seed):
        self.weights, self.batch, self.steps, self.first, self.seed = weights, batch, steps, first, seed

    def __iter__(self):
        for step in range(self.first, self.steps):
            rng = random.Random(f"{self.seed}/{step}")
            chosen = rng.choices(range(len(self.weights)), self.weights, k=self.batch)
            yield [(index, step * self.batch + i) for i, index in enumerate(chosen)]

    def __len__(self):
        return self.steps - self.first


def losses(net, pictures, boxes, anchors, kind):
    """Classification and box loss of a batch, both summed over anchors and divided by the positives of the batch."""
    classes, deltas = net((pictures.float() - 127) / 128)
    logits, deltas = flatten(classes, net.classes).float(), flatten(deltas, 4).float()
    matched = torch.stack([match(anchors, b) for b in boxes]).to(logits.device)
    picture, anchor = (matched >= 0).nonzero(as_tuple=True)
    truths = [b[b[:, 4] >= 0].to(logits.device) for b in boxes]
    first = torch.tensor([0] + [len(t) for t in truths]).cumsum(0)[:-1].to(logits.device)
    truth = torch.cat(truths)[first[picture] + matched[picture, anchor]]
    positives = max(1, len(picture))
    predicted = decode(deltas[picture, anchor], anchors.to(logits.device)[anchor])
    overlap, quality = giou(predicted, truth[:, :4])
    targets = torch.zeros_like(logits)
    value = quality.detach().clamp(0, 1) if kind == "quality_focal" else torch.ones_like(quality)
    targets[picture, anchor, truth[:, 4].long()] = value
    each = quality_focal(logits, targets) if kind == "quality_focal" else focal(logits, targets)
    weight = 2.0 if kind == "quality_focal" else 1.0
    class_loss = weight * (each.sum(-1) * (matched != -2)).sum() / positives
    return class_loss, 2.0 * (1 - overlap).sum() / positives, positives


def main():
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = starts.load(args.start, args.seed).to(device, memory_format=torch.channels_last)
    if device == "cpu":
        depthwise.install()
    average = copy.deepcopy(net)
    for name, p in net.named_parameters():
        # The stem and the first stage have seen 118,000 pictures; a few thousand more only blur them.
        if name.startswith(("backbone.conv1", "backbone.stage2")):
            p.requires_grad_(False)
    body = [p for n, p in net.named_parameters() if n.startswith(("backbone.", "fpn.")) and p.requires_grad]
    heads = [p for n, p in net.named_parameters() if n.startswith(("cls.", "box."))]
    groups = [
        {"params": [p for p in ps if (p.dim() > 1) == decays], "weight_decay": 0.05 if decays else 0.0, "share": share}
        for ps, share in ((body, args.body_lr), (heads, 1.0))
        for decays in (True, False)
    ]
    optimiser = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.99))
    first, checkpoint = 0, args.out / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        net.load_state_dict(saved["net"])
        average.load_state_dict(saved["average"])
        optimiser.load_state_dict(saved["optimiser"])
        first = saved["step"]
        print(f"resumed at step {first} of {args.steps}")

    data = Pictures(args.data, args.sets.split(","), args.side, seed=args.seed)
    draws = Draws(data.weights(), args.batch, args.steps, first, args.seed)
    loader = torch.utils.data.DataLoader(data, batch_sampler=draws, collate_fn=collate, num_workers=2 if device == "cuda" else 1)
    anchors = anchors_for(args.side, args.side)
    warm = min(200, args.steps // 10 + 1)
    began, seen = time.time(), [0.0, 0.0, 0]
    log = csv.writer(open(args.out / "log.csv", "a", buffering=1))
    for step, (pictures, boxes) in enumerate(loader, first):
        rate = args.lr * min(1.0, (step + 1) / warm) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / args.steps)) / 2)
        frozen = step < args.heads_only * args.steps
        for group in optimiser.param_groups:
            group["lr"] = rate * group["share"]
        for p in body:
            p.requires_grad_(not frozen)
        pictures = pictures.to(device, memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):
            class_loss, box_loss, positives = losses(net, pictures, boxes, anchors, args.loss)
        optimiser.zero_grad(set_to_none=True)
        (class_loss + box_loss).backward()
        torch.nn.utils.clip_grad_norm_([p for p in net.parameters() if p.grad is not None], 10.0)
        optimiser.step()
        keep = min(0.998, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, p in zip(average.parameters(), net.parameters()):
                mean.lerp_(p.detach(), 1 - keep)
        seen = [seen[0] + class_loss.item(), seen[1] + box_loss.item(), seen[2] + 1]
        done = step + 1
        if done % 50 == 0:
            speed = (done - first) * args.batch / (time.time() - began)
            log.writerow([done, f"{rate:.2e}", f"{seen[0] / seen[2]:.4f}", f"{seen[1] / seen[2]:.4f}", positives, f"{speed:.1f}"])
            seen = [0.0, 0.0, 0]
        if done % args.save == 0 or done == args.steps:
            state = {"net": net.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict(), "step": done}
            torch.save(state, checkpoint.with_suffix(".tmp"))
            os.replace(checkpoint.with_suffix(".tmp"), checkpoint)
            weights = {k: v.contiguous().cpu() for k, v in average.state_dict().items()}
            save_file(weights, args.out / "float.safetensors", metadata={"start": str(args.start), "steps": str(done)})
    print(f"done: {args.steps} steps, weights in {args.out / 'float.safetensors'}")


if __name__ == "__main__":
    main()
