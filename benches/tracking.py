"""How well objects keep their identity: our tracker beside plain greedy IoU, and ByteTrack of PyPI `trackers`.

    python tracking.py --labels ../../shared/data/voc20/val.json --track ../target/release/examples/track [--out TRACKING.md]

Scenes and detector are those of tracking_scenes.py. Every tracker reads the same detections with their times. Metrics are trackeval's;
IDF1 and switches of some scenes are counted by motmetrics too, and must be equal. Needs what tracking.txt names.
Constants of ours were chosen on the scenes of --first-seed 1001 --scenes 12, which are not those that are reported.
"""

import argparse
import contextlib
import importlib.metadata
import io
import json
import pathlib
import subprocess
import sys
import warnings

import motmetrics
import numpy
import supervision
import trackers
from scipy.optimize import linear_sum_assignment
from trackeval.metrics import CLEAR, HOTA, Identity

import tracking_scenes
from tracking_scenes import STRONG, VISIBLE, Labels

warnings.filterwarnings("ignore")
GREEDY_IOU, GREEDY_AGE = 0.3, 1.0  # Usual values; seconds.


def overlaps(a, b):
    """IoU of each of `a` with each of `b`."""
    a, b = numpy.asarray(a, float).reshape(-1, 1, 4), numpy.asarray(b, float).reshape(1, -1, 4)
    shared = numpy.clip(numpy.minimum(a[..., 2:], b[..., 2:]) - numpy.maximum(a[..., :2], b[..., :2]), 0, None).prod(-1)
    both = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    return shared / numpy.maximum(both, 1e-9)


def ours(program):
    def run(sequences):
        lines = []
        for name, frames in sequences:
            for f in frames:
                lines.append(json.dumps(dict(sequence=name, t_ms=f.t_ms, width=f.width, height=f.height, detections=f.detections)))
        done = subprocess.run([program], input="\n".join(lines), capture_output=True, text=True, check=True)
        told = iter(done.stdout.splitlines())
        return [[[(t[0], t[1:5]) for t in json.loads(next(told))["tracks"]] for _ in frames] for _, frames in sequences]
    return run


def greedy(sequences):
    """The best overlap first, with the last box; strong detections only."""
    told = []
    for _, frames in sequences:
        tracks, last_id, of_frame = {}, 0, []
        for f in frames:
            now = f.t_ms / 1000
            tracks = {i: t for i, t in tracks.items() if now - t[1] <= GREEDY_AGE}
            found = [d[:4] for d in f.detections if d[6]]
            ids = list(tracks)
            matrix = overlaps([tracks[i][0] for i in ids], found) if ids and found else numpy.zeros((0, 0))
            partner, used = {}, set()
            for flat in numpy.argsort(-matrix, axis=None):
                row, column = numpy.unravel_index(flat, matrix.shape)
                if matrix[row, column] < GREEDY_IOU:
                    break
                if column not in partner and row not in used:
                    partner[column] = ids[row]
                    used.add(row)
            here = []
            for column, box in enumerate(found):
                if column not in partner:
                    last_id += 1
                    partner[column] = last_id
                tracks[partner[column]] = (box, now)
                here.append((partner[column], box))
            of_frame.append(here)
        told.append(of_frame)
    return told


def peer(make):
    """A tracker of PyPI's `trackers`, with the frames' times."""
    def run(sequences):
        told = []
        for name, frames in sequences:
            fps = float(name.split("-")[0])
            tracker, of_frame = make(fps), []
            for f in frames:
                boxes = numpy.array([d[:4] for d in f.detections], dtype=float).reshape(-1, 4)
                scores = numpy.array([d[4] for d in f.detections], dtype=float)
                given = supervision.Detections(xyxy=boxes, confidence=scores, class_id=numpy.zeros(len(scores), dtype=int))
                found = tracker.update(given, timestamp=f.t_ms / 1000)
                ids = found.tracker_id if found.tracker_id is not None else []
                of_frame.append([(int(i), list(b)) for i, b in zip(ids, found.xyxy) if i >= 0])
            told.append(of_frame)
        return told
    return run


def bytetrack(seconds, hits, iou=0.1):
    # The buffer is in frames of 1/30 s, whatever the rate is.
    return lambda fps: trackers.ByteTrackTracker(
        lost_track_buffer=round(30 * seconds), frame_rate=fps, track_activation_threshold=STRONG, high_conf_det_threshold=STRONG,
        minimum_consecutive_frames=hits, minimum_iou_threshold=iou)


def judged(frames, told):
    """trackeval's form: what is hardly visible is not judged, nor is a box that a tracker puts there."""
    data = dict(gt_ids=[], tracker_ids=[], similarity_scores=[])
    truth_number, told_number = {}, {}
    for f, boxes in zip(frames, told):
        matrix = overlaps([b for _, b, _ in f.truth], [b for _, b in boxes]) if f.truth and boxes else numpy.zeros((len(f.truth), len(boxes)))
        keep_truth = [i for i, (_, _, share) in enumerate(f.truth) if share >= VISIBLE]
        gain = numpy.where(matrix >= 0.5, matrix + [[1.0 if s >= VISIBLE else 0.0] for _, _, s in f.truth] if f.truth else 0, 0)
        rows, columns = linear_sum_assignment(-gain)
        dropped = {c for r, c in zip(rows, columns) if gain[r, c] > 0 and f.truth[r][2] < VISIBLE}
        keep_told = [i for i in range(len(boxes)) if i not in dropped]
        data["gt_ids"].append(numpy.array([truth_number.setdefault(f.truth[i][0], len(truth_number)) for i in keep_truth], dtype=int))
        data["tracker_ids"].append(numpy.array([told_number.setdefault(boxes[i][0], len(told_number)) for i in keep_told], dtype=int))
        data["similarity_scores"].append(matrix[numpy.ix_(keep_truth, keep_told)])
    data["num_timesteps"] = len(frames)
    data["num_gt_ids"], data["num_tracker_ids"] = len(truth_number), len(told_number)
    data["num_gt_dets"] = sum(map(len, data["gt_ids"]))
    data["num_tracker_dets"] = sum(map(len, data["tracker_ids"]))
    return data


def by_motmetrics(data):
    """IDF1 and switches of the same, by another library."""
    counter = motmetrics.MOTAccumulator(auto_id=True)
    for truth, told, similar in zip(data["gt_ids"], data["tracker_ids"], data["similarity_scores"]):
        distance = numpy.where(similar >= 0.5, 1 - similar, numpy.nan)
        counter.update(truth, told, distance)
    return counter


METRICS = {"HOTA": HOTA(), "Identity": Identity({"PRINT_CONFIG": False}), "CLEAR": CLEAR({"PRINT_CONFIG": False})}


def evaluated(frames, told):
    """What each metric says of one scene, and how many objects it had."""
    data = judged(frames, told)
    with contextlib.redirect_stdout(io.StringIO()):
        return {kind: metric.eval_sequence(data) for kind, metric in METRICS.items()}, data["num_gt_ids"]


def together(scenes_results):
    """All metrics over some scenes."""
    tracks = sum(objects for _, objects in scenes_results)
    whole = {kind: metric.combine_sequences({n: results[kind] for n, (results, _) in enumerate(scenes_results)})
             for kind, metric in METRICS.items()}
    return dict(IDF1=float(whole["Identity"]["IDF1"]), IDSW=float(whole["CLEAR"]["IDSW"]) / tracks * 100,
                **{name: float(numpy.mean(whole["HOTA"][name])) for name in ("HOTA", "DetA", "AssA")})


def compare_with_motmetrics(frames, told):
    """Stops where the other library counts otherwise."""
    results, tracks = evaluated(frames, told)
    row = together([(results, tracks)])
    summary = motmetrics.metrics.create().compute(by_motmetrics(judged(frames, told)), metrics=["idf1", "num_switches"]).iloc[0]
    other = float(summary["idf1"]), float(summary["num_switches"]) / tracks * 100
    # Switches may differ where two pairings of a frame are equally good.
    if abs(other[0] - row["IDF1"]) > 1e-6 or abs(other[1] - row["IDSW"]) > 0.02 * row["IDSW"] + 1.0:
        raise RuntimeError(f"motmetrics says {other}, trackeval {row}")


# Whether the camera moves, and whether it is pushed and blinded.
KINDS = {"still": (False, False), "moving": (True, False), "faults": (False, True)}
RATES = (2, 4, 10)


def scenes(labels, fps, seeds):
    return [(f"{fps}-{kind}-{seed}", tracking_scenes.sequence(labels, seed, fps, moving, faults))
            for kind, (moving, faults) in KINDS.items() for seed in seeds]


def flicker(program, hours=1.0, fps=2, missing=0.18):
    """Ids beyond the first that objects at rest got, for bursts of some frames on average; 20 objects each."""
    ends = {}
    for burst in (1, 3, 6):
        rng, lines = numpy.random.default_rng([burst, 18]), []
        back, away = 1 / burst, missing / (1 - missing) / burst
        centres = [(80 + 120 * (i % 5), 60 + 110 * (i // 5)) for i in range(20)]
        gone = numpy.zeros(20, dtype=bool)
        for n in range(int(hours * 3600 * fps)):
            gone = numpy.where(gone, rng.random(20) >= back, rng.random(20) < away) & (n > 10)
            found = []
            for (x, y), away_now in zip(centres, gone):
                if not away_now:
                    w, h = numpy.array([40, 80]) * numpy.exp(rng.normal(0, tracking_scenes.SIZE_JITTER, 2))
                    x, y = numpy.array([x, y]) + rng.normal(0, tracking_scenes.CENTRE_JITTER, 2) * [w, h]
                    score = float(rng.uniform(tracking_scenes.WEAK, 0.95))
                    found.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2, score, 1, int(score >= STRONG)])
            lines.append(json.dumps(dict(sequence="rest", t_ms=n * 1000 // fps, width=640, height=480, detections=found)))
        done = subprocess.run([program], input="\n".join(lines), capture_output=True, text=True, check=True)
        ids = {t[0] for line in done.stdout.splitlines() for t in json.loads(line)["tracks"]}
        ends[burst] = len(ids) - 20
    return ends


COLUMNS = "| IDF1 | HOTA | DetA | AssA | switches per 100 tracks |"


def cells(row):
    return f"| {row['IDF1']:.3f} | {row['HOTA']:.3f} | {row['DetA']:.3f} | {row['AssA']:.3f} | {row['IDSW']:.1f} |"


def report(rows, rest, arguments):
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("trackers", "trackeval", "motmetrics"))
    lines = ["# Tracking", "", f"By `benches/tracking.py --scenes {arguments.scenes} --first-seed {arguments.first_seed}`, with {versions}.", ""]
    lines += [f"{arguments.scenes} scenes of {tracking_scenes.SECONDS:.0f} s of each kind at each rate, made from labels of `val` by "
              "`benches/tracking_scenes.py`: the camera stands (*still*), wanders over the picture (*moving*), or stands and is pushed and "
              "sees nothing for a second, each every 20 s on average (*faults*). Of the detections "
              f"{tracking_scenes.DROPPED:.0%} are dropped in bursts, {tracking_scenes.WEAK_SHARE:.0%} of the others are weak "
              f"({tracking_scenes.WEAK} to {STRONG}), boxes are jittered, {tracking_scenes.FALSE_PER_FRAME} a frame are false, "
              f"{tracking_scenes.OTHER_LABEL:.0%} bear another label. Ours tells where it takes an object to be while it is missed for a "
              "moment; the others tell what was detected. Ours and ByteTrack read weak detections, too.", ""]
    for title, key in (("Still and moving, all rates", "all"), ("With faults, all rates", "faults")):
        lines += [f"## {title}", "", f"| tracker {COLUMNS}", "|---|---:|---:|---:|---:|---:|"]
        lines += [f"| {name} {cells(row)}" for (name, k), row in rows.items() if k == key] + [""]
    lines += ["## By kind and rate", "", f"| frames a second | scenes | tracker {COLUMNS}", "|---:|---|---|---:|---:|---:|---:|---:|"]
    lines += [f"| {k[0]} | {k[1]} | {name} {cells(row)}" for (name, k), row in rows.items() if isinstance(k, tuple)]
    lines += ["", "## At rest", "", "20 objects at rest for an hour at 2 frames a second, 18 % of detections missing; ours. A false end is a new id.", "",
              "| mean burst, frames | false ends |", "|---:|---:|"]
    lines += [f"| {burst} | {ends} |" for burst, ends in rest.items()]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--track", required=True)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    labels = Labels(arguments.labels)
    contestants = {
        "ours": ours(arguments.track),
        "greedy IoU": greedy,
        # Its usual second is worse by far, five seconds with one hit are no better.
        "ByteTrack, 3 s, 2 hits": peer(bytetrack(3.0, 2)),
    }
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.scenes)
    sequences = [scene for fps in RATES for scene in scenes(labels, fps, seeds)]
    groups = {"all": [i for i, (s, _) in enumerate(sequences) if "faults" not in s],
              "faults": [i for i, (s, _) in enumerate(sequences) if "faults" in s]}
    groups |= {(fps, kind): [i for i, (s, _) in enumerate(sequences) if s.startswith(f"{fps}-{kind}-")] for fps in RATES for kind in KINDS}
    rows = {}
    for name, run in contestants.items():
        told = run(sequences)
        results = [evaluated(frames, boxes) for (_, frames), boxes in zip(sequences, told)]
        for key, chosen in groups.items():
            rows[name, key] = together([results[i] for i in chosen])
            print(name, key, cells(rows[name, key]), file=sys.stderr, flush=True)
        for i in groups[4, "still"][:4]:
            compare_with_motmetrics(sequences[i][1], told[i])
    text = report(rows, flicker(arguments.track), arguments)
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
