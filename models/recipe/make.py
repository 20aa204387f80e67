"""From data to a model file with its card, in one command; run it again to go on after a stop.

    python make.py --data DATA --out DIR --program ../../target/release/retinad
    python make.py --data DATA --out DIR --program ../../target/release/retinad --size s --name porch

Trains from the shipped model's weights (`float`), then in sight of INT8 (`rounded`), writes DIR/NAME.onnx, and of it
DIR/card.md and DIR/failures.jpg. The stages are in PLANS; each keeps its checkpoints, settings, log and curves in a folder of DIR,
and one that is done is not done again. A stage that was begun with other settings is refused by name.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

import card
from network import SIZES

HERE = pathlib.Path(__file__).resolve().parent
# After what the shipped models were made with, which began with other weights, and whose bodies were mixed. START and
# the folder of an earlier stage are put in.
COMMON = {"head": "level-bins", "stretch": 0.9, "zoom-out": 0.5, "corrupt": 0.15, "first-part": 0.0, "heads-only": 0.0}
FLOAT = COMMON | {"start": "START", "steps": 2000, "lr": 3e-4, "body-lr": 0.15, "distil": 0.5}
ROUNDED = COMMON | {"start": "float", "steps": 500, "lr": 1e-4, "body-lr": 0.5, "ema": 0.995, "seed": 2}
PLANS = {size: {"float": FLOAT, "rounded": ROUNDED} for size in SIZES}
SWITCHES = {"float": ["--mirrored"], "rounded": ["--mirrored", "--quantised", "--no-freeze"]}
# Of the export, as the shipped files have it.
EXPORT = ["--stretch", "--class-range", "-6", "3", "--nms-iou", "0.55", "--voting", "0.7", "2"]
EXPORT += ["--sizes", "352x288", "288x352"]


def options(stage, plan, out, size, fewer):
    """Of `train.py`, for a stage of a plan."""
    shipped = {name: HERE.parent / "start" / f"retinad-{name}-320.fp16.safetensors" for name in SIZES}
    places = {"START": shipped[size], "float": out / "float" / "float.safetensors"}
    chosen = dict(plan) | {"teacher": shipped["m"]}
    chosen["start"] = places[plan["start"]]
    chosen["steps"] = max(1, round(plan["steps"] * fewer))
    return [word for key, value in chosen.items() for word in (f"--{key}", str(value))] + SWITCHES[stage]


def run(program, *words):
    """A program of the recipe, whose words go to the terminal."""
    done = subprocess.run([sys.executable, HERE / program, *map(str, words)], cwd=HERE)
    if done.returncode:
        raise SystemExit(f"make: {program} stopped; run the same command again to go on")


def make(args):
    out = pathlib.Path(args.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    data, model = pathlib.Path(args.data).resolve(), out / f"{args.name}.onnx"
    steps = 0
    for stage, plan in PLANS[args.size].items():
        run(
            "train.py", "--data", data, "--out", out / stage, "--threads", args.threads,
            *options(stage, plan, out, args.size, args.fewer),
        )  # fmt: skip
        steps += max(1, round(plan["steps"] * args.fewer))
    weights = out / "rounded" / "float.safetensors"
    run(
        "export.py", "--weights", weights, "--data", data, "--out", model, "--name", args.name,
        "--version", args.version, "--steps", steps, *EXPORT,
    )  # fmt: skip
    card.write(args.program, model, data, out, ("val",))
    print(json.dumps({"model": str(model), "card": str(out / "card.md"), "failures": str(out / "failures.jpg")}))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="folder with train.json, ..., val.json, and images/*.zip and images/val")
    p.add_argument("--out", required=True, help="folder for the stages, the model file and its card")
    p.add_argument("--program", required=True, help="retinad")
    p.add_argument("--size", choices=SIZES, default="m", help="m for the Pi 4 and 5, s for the Pi 3 and Zero 2 W")
    p.add_argument("--name", default="my-model", help="name of the model and of its file (default: my-model)")
    p.add_argument("--version", default="1.0.0", help="the model's version (default: 1.0.0)")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument(
        "--fewer", type=float, default=1.0, help="share of the plan's steps, such as 0.01 for a trial (default: 1)"
    )
    args = p.parse_args()
    if not 0 < args.fewer <= 1:
        p.error("--fewer: must be above 0 and at most 1")
    args.program = str(pathlib.Path(args.program).resolve())
    make(args)


if __name__ == "__main__":
    main()
