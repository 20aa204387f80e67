"""The card of a model: what it is measured to do, as Markdown, and its worst mistakes as a picture.

    python card.py --program ../../target/release/retinad --data DATA --out DIR MODEL.onnx
    python card.py --program ../../target/release/retinad --data DATA --out DIR --test MODEL.onnx

Writes DIR/card.md and DIR/failures.jpg: the false alarms most sure of themselves, and the largest things that were
missed, on `val`. `test` is looked at only when asked for: a model that was chosen by it proves nothing there. The
pictures are those of DATA; whether they may be passed on is for their licence to say.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import onnx
from PIL import Image, ImageDraw

import robust
from files import whole

# Thresholds of the card's table, and how many mistakes of each kind are shown.
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
SHOWN = 12
TILE = 240


def evaluation(program, model, data, split):
    """What `retinad eval --json` says."""
    asked = [program, "eval", "--model", model, "--annotations", data / f"{split}.json"]
    asked += ["--images", data / "images" / split, "--json"]
    done = subprocess.run([str(word) for word in asked], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"card: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def scores(program, model, data, splits):
    yield "| set | pictures | AP50 | AP | AP75 |\n|---|---:|---:|---:|---:|"
    for split in splits:
        found = evaluation(program, model, data, split)
        coco = found["coco"]
        row = (split, found["pictures"], *(f"{coco[key]:.3f}" for key in ("AP50", "AP", "AP75")))
        yield "| " + " | ".join(str(value) for value in row) + " |"


def classes(found):
    yield "| class | things | AP50 | AP |\n|---|---:|---:|---:|"
    known = [entry for entry in found["classes"] if entry["truths"]]
    for entry in sorted(known, key=lambda entry: -entry["ap50"]):
        yield f"| {entry['name']} | {entry['truths']} | {entry['ap50']:.2f} | {entry['ap']:.2f} |"


def thresholds(found):
    yield "| score above | precision | recall | false alarms a picture |\n|---|---:|---:|---:|"
    for row in found["thresholds"]:
        if any(abs(row["threshold"] - wanted) < 1e-6 for wanted in THRESHOLDS):
            yield (
                f"| {row['threshold']:.2f} | {row['precision']:.2f} | {row['recall']:.2f} "
                f"| {row['false_alarms_per_picture']:.2f} |"
            )


def mistakes(coco, found):
    """The false alarms with the highest scores, and the largest things that nothing above 0.5 overlaps by half:
    each `(image, category, box, score or None)`."""
    images = {image["id"]: image for image in coco["images"]}
    held = robust.by_picture(found)
    truths = {}
    for entry in coco["annotations"]:
        truths.setdefault(entry["image_id"], []).append(entry)
    alarms, missed = [], []
    for key, image in images.items():
        own, told = truths.get(key, []), [one for one in held.get(key, []) if one["score"] > robust.SURE]
        for one in told:
            rivals = [
                entry["bbox"] for entry in own if entry["category_id"] == one["category_id"] or entry.get("difficult")
            ]
            if not robust.overlaps(one["bbox"], rivals):
                alarms.append((one["score"], image, one["category_id"], one["bbox"]))
        for entry in own:
            rivals = [one["bbox"] for one in told if one["category_id"] == entry["category_id"]]
            if not (entry.get("difficult") or entry.get("iscrowd") or robust.overlaps(entry["bbox"], rivals)):
                share = entry["bbox"][2] * entry["bbox"][3] / (image["width"] * image["height"])
                missed.append((share, image, entry["category_id"], entry["bbox"]))
    alarms.sort(key=lambda item: -item[0])
    missed.sort(key=lambda item: -item[0])
    return [(image, category, box, score) for score, image, category, box in alarms[:SHOWN]] + [
        (image, category, box, None) for _, image, category, box in missed[:SHOWN]
    ]


def sheet(shown, names, folder):
    """The mistakes side by side: false alarms in red with their scores, what was missed in yellow."""
    across = 6
    canvas = Image.new("RGB", (across * TILE, -(-max(len(shown), 1) // across) * TILE), (30, 30, 30))
    for number, (image, category, (x, y, w, h), chance) in enumerate(shown):
        with Image.open(folder / image["file_name"]) as file:
            tile = file.convert("RGB")
        tile.thumbnail((TILE - 6, TILE - 6))
        scale = tile.width / image["width"]
        draw, colour = ImageDraw.Draw(tile), "red" if chance is not None else "yellow"
        draw.rectangle([side * scale for side in (x, y, x + w, y + h)], outline=colour, width=3)
        text = f"{names[category]} {chance:.2f}" if chance is not None else f"missed: {names[category]}"
        draw.text((x * scale + 4, y * scale + 3), text, fill=colour)
        canvas.paste(tile, (number % across * TILE, number // across * TILE))
    return canvas


def found_in(program, model, data, split):
    with tempfile.TemporaryDirectory() as held:
        out = pathlib.Path(held, "found.json")
        asked = [program, "detect", "--model", model, "--format", "coco", "--annotations", data / f"{split}.json"]
        asked += ["--images", data / "images" / split, "-o", out]
        subprocess.run([str(word) for word in asked], capture_output=True, check=True)
        return json.loads(out.read_text())


def card(program, model, data, splits):
    """Lines of the card."""
    graph = onnx.load(model)
    manifest = json.loads(next(entry.value for entry in graph.metadata_props if entry.key == "retinad.manifest"))
    found = evaluation(program, model, data, "val")
    labels = ", ".join(entry["label"] for entry in manifest["classes"] if entry)
    yield f"# {manifest['name']}, version {manifest['version']}\n"
    yield f"| | |\n|---|---|\n| file | `{pathlib.Path(model).name}`, {pathlib.Path(model).stat().st_size:,} bytes |"
    yield f"| classes | {labels} |"
    yield f"| input | {manifest['input']['width']} x {manifest['input']['height']} |"
    yield f"| licence | {manifest['licence']} |"
    yield f"| trained on | `{json.dumps(manifest.get('training', {}).get('datasets'))}` |\n"
    yield "## What it is measured to do\n\nBy `retinad eval`, `difficult` things ignored:\n"
    yield from scores(program, model, data, splits)
    yield "\nBy class, on `val`:\n"
    yield from classes(found)
    yield "\nBy threshold, on `val`:\n"
    yield from thresholds(found)
    yield f"\nExpected calibration error: {found['calibration']['expected_error']:.3f}.\n"
    yield "On what cameras at home give, by `robust.py`:\n"
    yield f"| 200 pictures of `val` | {manifest['name']} |\n|---|---|"
    asked = argparse.Namespace(program=program, data=data, split="val", pictures=200, models=[model])
    for name, row in robust.measured(asked):
        yield f"| {name} | {row[0]} |"
    yield f"\n## Where it fails\n\n`failures.jpg`: the {SHOWN} false alarms most sure of themselves (red), and the"
    yield f"{SHOWN} largest things that are not told at 0.5 (yellow), of `val`."


def write(program, model, data, out, splits):
    data, out = pathlib.Path(data), pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    coco = json.loads((data / "val.json").read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    shown = mistakes(coco, found_in(program, model, data, "val"))
    with whole(out / "failures.jpg") as path:
        sheet(shown, names, data / "images" / "val").save(path, "jpeg", quality=85)
    text = "\n".join(card(program, model, data, splits)) + "\n"
    with whole(out / "card.md") as path:
        path.write_text(text)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--program", required=True, help="retinad")
    p.add_argument("--data", required=True, help="folder with val.json and images/val")
    p.add_argument("--out", required=True, help="folder for card.md and failures.jpg")
    p.add_argument("--test", action="store_true", help="also look at test.json and images/test")
    p.add_argument("model", metavar="MODEL.onnx")
    args = p.parse_args()
    write(args.program, args.model, args.data, args.out, ("val", "test") if args.test else ("val",))
    print(f"{args.out}/card.md and {args.out}/failures.jpg")


if __name__ == "__main__":
    main()
