"""AP of COCO results, difficult objects ignored (neither hit nor miss, as in the VOC protocol).

    retinad detect --model MODEL --format coco --annotations val.json --images images/val -o results.json
    python score.py val.json results.json
"""

import contextlib
import io
import sys

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


class DifficultIgnored(COCOeval):
    def _prepare(self):
        super()._prepare()
        for truths in self._gts.values():
            for truth in truths:
                truth["ignore"] = int(bool(truth["iscrowd"] or truth.get("difficult", 0)))


def score(annotations, results):
    """`{"ap", "ap50", "ap75", "per_class": {label: ap50}}`."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(annotations)
        evaluation = DifficultIgnored(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][0, :, :, 0, 2]
    labels = [c["name"] for c in truth.loadCats(evaluation.params.catIds)]
    ap, ap50, ap75 = evaluation.stats[:3]
    return {"ap": ap, "ap50": ap50, "ap75": ap75, "per_class": dict(zip(labels, precision.mean(axis=0)))}


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    found = score(sys.argv[1], sys.argv[2])
    print(f"AP50 {found['ap50']:.4f}  AP {found['ap']:.4f}  AP75 {found['ap75']:.4f}")
    print("AP50 per class: " + ", ".join(f"{label} {value:.2f}" for label, value in found["per_class"].items()))
