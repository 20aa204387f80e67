"""Tests of the recipe on generated pictures, on one thread in under a minute.

python -m unittest test_recipe
"""

import copy
import io
import json
import pathlib
import random
import tempfile
import unittest
import zipfile

import numpy as np
import onnx
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

import card
import curves
import data
import export
import fake_quant
import loss
import mix
import network
import objective
import settings
import start as starts
import teacher as teachers
from data import BadData, Pictures, annotations, collate
from evaluate import detections
from train import rate_at, side_at, train

SIDE = 128


def write_set(root, name="train", count=12, seed=0):
    """A training set of grey pictures with coloured rectangles: red ones are class 0, green 1, blue 2."""
    rng, coco = random.Random(seed), {"images": [], "annotations": []}
    coco["categories"] = [{"id": i + 1, "name": label} for i, label in enumerate(starts.CLASSES)]
    (root / "images").mkdir(exist_ok=True)
    with zipfile.ZipFile(root / "images" / f"{name}.zip", "w") as archive:
        for number in range(1, count + 1):
            picture = Image.new("RGB", (120, 96), (rng.randrange(90, 150),) * 3)
            for _ in range(rng.randint(1, 3)):
                w, h, row = rng.randint(20, 60), rng.randint(20, 60), rng.randrange(3)
                x, y = rng.randint(0, 119 - w), rng.randint(0, 95 - h)
                colour = [40, 40, 40]
                colour[row] = 220
                ImageDraw.Draw(picture).rectangle((x, y, x + w - 1, y + h - 1), tuple(colour))
                entry = {"id": len(coco["annotations"]) + 1, "image_id": number, "category_id": row + 1}
                coco["annotations"].append(entry | {"bbox": [x, y, w, h]})
            coco["images"].append({"id": number, "file_name": f"{number}.png", "width": 120, "height": 96})
            buffer = io.BytesIO()
            picture.save(buffer, "png")
            archive.writestr(f"{number}.png", buffer.getvalue())
    (root / f"{name}.json").write_text(json.dumps(coco))
    return coco


def small(**more):
    """Settings of a run of ten steps."""
    usual = {"sets": "train", "steps": 10, "batch": 4, "side": SIDE, "first_side": 64, "lr": 1e-3}
    return settings.Settings(**(usual | more))


class Recipe(unittest.TestCase):
    def setUp(self):
        torch.set_num_threads(1)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.coco = write_set(self.root)

    def rows(self, run):
        return curves.table(self.root / run / "log.csv")

    def test_interrupted_run_resumes_to_the_same_result(self):
        whole = train(small(), self.root, self.root / "whole")
        train(small(), self.root, self.root / "cut", stop=lambda step: step == 6)
        cut = train(small(), self.root, self.root / "cut")
        self.assertEqual(cut.step, 10)
        for name, value in whole.net.state_dict().items():
            self.assertTrue(torch.equal(value, cut.net.state_dict()[name]), name)
            self.assertTrue(
                torch.equal(whole.average.state_dict()[name], cut.average.state_dict()[name]), name
            )
        logged = [int(row["step"]) for row in self.rows("cut")]
        self.assertEqual(logged, sorted(set(logged)))
        self.assertLessEqual({6, 10}, set(logged))
        self.assertIn("</svg>", (self.root / "cut" / "curves.svg").read_text())
        again = starts.load(str(self.root / "cut" / "float.safetensors"))
        self.assertTrue(torch.equal(again.cls.out.weight, cut.average.cls.out.weight))
        with self.assertRaisesRegex(BadData, "^[^\n]*seed: the run has 0, this command 1$"):
            train(small(seed=1), self.root, self.root / "cut")

    def test_both_sizes_have_their_start_nets_and_are_told_apart(self):
        for size, channels in network.SIZES.items():
            for head in ("anchors", "level-bins"):
                net = starts.load("coco", head=head, size=size)
                self.assertEqual((net.size, net.head), (size, head))
                self.assertEqual(starts.size_of(net.state_dict()), size)
                self.assertEqual(net.fpn.reduce_layers[0].conv.out_channels, channels.width)
        path = self.root / "s.safetensors"
        save_file(starts.start_net("s"), path)
        self.assertEqual(starts.load(str(path)).size, "s")
        with self.assertRaisesRegex(ValueError, "has the size 's', not 'm'"):
            starts.load(str(path), size="m")

    def test_training_in_sight_of_int8_rounds_and_learns(self):
        net = starts.load("coco", head="level-bins", size="s")
        images = [(self.picture(i).float()[None] - 127) / 128 for i in range(3)]
        seen = fake_quant.Quantised(net)
        with torch.no_grad():
            before = net(images[0])[0][0]
            self.assertTrue(torch.allclose(seen.graph(images[0])[0][0], before, atol=1e-4), "not yet rounded")
        seen.calibrate(images)
        with torch.no_grad():
            after = seen(images[0])[0][0]
            error = (after - before).abs().mean() / before.abs().mean()
            self.assertTrue(1e-4 < error < 0.1, error)
        for codes in seen.codes:
            self.assertTrue(codes.scale > 0 and 0 <= codes.zero_point <= 255)
            held = codes(torch.linspace(-50, 50, 4001)).unique()
            self.assertLessEqual(len(held), 256)
            self.assertIn(0.0, held.tolist())
        goal = objective.OBJECTIVES[net.head](small(head=net.head))
        pictures = Pictures(self.root, ("train",), SIDE, augment=False)
        batch, boxes = collate([pictures[i] for i in range(4)])
        optimiser, values = torch.optim.AdamW(net.parameters(), 5e-4), []
        for _ in range(10):
            parts, _ = goal.losses(seen, (batch.float() - 127) / 128, boxes)
            optimiser.zero_grad()
            sum(parts).backward()
            optimiser.step()
            values.append(sum(parts).item())
        self.assertLess(values[-1], 0.9 * values[0])

    def test_the_mean_is_of_nets_of_one_form(self):
        one, other = {"a": torch.tensor([1.0, 3.0])}, {"a": torch.tensor([3.0, 3.0], dtype=torch.float16)}
        self.assertEqual(mix.mean([one, other])["a"].tolist(), [2.0, 3.0])
        for bad in ({"b": one["a"]}, {"a": torch.zeros(3)}, {"a": one["a"], "b": one["a"]}):
            with self.assertRaisesRegex(ValueError, "^[ab]: not all of the weights"):
                mix.mean([one, bad])

    def picture(self, number):
        return Pictures(self.root, ("train",), SIDE, augment=False)[number][0]

    def test_ten_steps_learn_in_every_head(self):
        coco = starts.load("coco")
        bins = network.RetinaNet(20, "bins")
        state = {
            k: v for k, v in coco.state_dict().items() if not k.endswith(("cls.out.weight", "cls.out.bias"))
        }
        state = {k: v for k, v in state.items() if not k.startswith("box.out")}
        bins.load_state_dict(state, strict=False)
        torch.nn.init.constant_(bins.cls.out.bias, -4.6)
        level = starts.load("coco", head="level-bins")
        pictures = Pictures(self.root, ("train",), SIDE, augment=False)
        batch, boxes = collate([pictures[i] for i in range(4)])
        image = (batch.float() - 127) / 128
        teacher = teachers.load()
        for net in (coco, bins, level):
            goal = objective.OBJECTIVES[net.head](small(head=net.head), teacher)
            optimiser, values = torch.optim.AdamW(net.parameters(), 5e-4), []
            for _ in range(10):
                parts, positives = goal.losses(net, image, boxes)
                self.assertGreater(positives, 0)
                optimiser.zero_grad()
                sum(parts).backward()
                optimiser.step()
                values.append([part.item() for part in parts])
            for first, last in zip(values[0][:2], values[-1][:2]):
                self.assertLess(last, 0.9 * first, net.head)
            picture, _ = pictures.read(0)
            for found in (
                detections(net.eval(), picture, SIDE, g, 0.5) for g in ("letterboxed", "stretched")
            ):
                for _, chance, x, y, w, h in found:
                    self.assertTrue(
                        0 <= chance <= 1 and x >= 0 and y >= 0 and x + w <= 120.01 and y + h <= 96.01
                    )

    def test_bad_annotations_are_named_in_one_line(self):
        nan = float("nan")
        cases = {
            "annotation 1 has category 99": lambda c: c["annotations"][0].update(category_id=99),
            "annotation 2 is of picture 77": lambda c: c["annotations"][1].update(image_id=77),
            "annotation 1: bbox is not four finite numbers": lambda c: c["annotations"][0].update(
                bbox=[0, 0, nan, 5]
            ),
            "annotation 1: bbox .* is not inside picture 1 ": lambda c: c["annotations"][0].update(
                bbox=[100, 0, 30, 5]
            ),
            "annotation 1: bbox has no area": lambda c: c["annotations"][0].update(bbox=[10, 0, 0, 5]),
            "annotation 1 is there twice": lambda c: c["annotations"].append(c["annotations"][0]),
            "picture 3 is there twice": lambda c: c["images"].append(c["images"][2]),
            "category 1 is there twice": lambda c: c["categories"].append(c["categories"][0]),
            "picture 5 needs file_name": lambda c: c["images"][4].pop("file_name"),
            "no pictures": lambda c: c["images"].clear(),
            "not a COCO file": lambda c: c.pop("images"),
            "picture gone.png of the annotations": lambda c: c["images"][0].update(file_name="gone.png"),
            "no box to train on": lambda c: c["annotations"].clear(),
        }
        for message, spoil in cases.items():
            coco = copy.deepcopy(self.coco)
            spoil(coco)
            (self.root / "train.json").write_text(json.dumps(coco))
            with self.subTest(message), self.assertRaisesRegex(BadData, f"^[^\n]*{message}[^\n]*$"):
                Pictures(self.root, ("train",))

    def test_files_that_are_missing_or_cut_off(self):
        with self.assertRaisesRegex(BadData, "other.json: No such file"):
            annotations(self.root / "other.json")
        text = (self.root / "train.json").read_text()
        (self.root / "train.json").write_text(text[: len(text) // 2])
        with self.assertRaisesRegex(BadData, "not JSON, or cut off"):
            annotations(self.root / "train.json")
        (self.root / "train.json").write_text(text)
        archive = self.root / "images" / "train.zip"
        archive.write_bytes(archive.read_bytes()[:2000])
        with self.assertRaisesRegex(BadData, "not a zip, or cut off"):
            Pictures(self.root, ("train",))
        archive.unlink()
        with self.assertRaisesRegex(BadData, "train.zip: No such file"):
            Pictures(self.root, ("train",))

    def test_a_class_too_many_and_a_spoilt_picture(self):
        coco = copy.deepcopy(self.coco)
        coco["categories"].append({"id": 21, "name": "zebra"})
        coco["annotations"][0]["category_id"] = 21
        (self.root / "train.json").write_text(json.dumps(coco))
        with self.assertRaisesRegex(BadData, "category number 21, but the net has 20"):
            train(small(), self.root, self.root / "run")
        write_set(self.root)
        archive = self.root / "images" / "train.zip"
        data = bytearray(archive.read_bytes())
        data[100:140] = bytes(40)
        archive.write_bytes(data)
        with self.assertRaisesRegex(BadData, "picture 1.png cannot be read"):
            Pictures(self.root, ("train",), SIDE)[0]

    def test_augmented_boxes_stay_on_their_things(self):
        pictures = Pictures(self.root, ("train",), SIDE, stretch=0.5, corrupt=0.3, zoom_out=0.3)
        for draw in range(60):
            canvas, boxes = pictures[draw % 12, draw, SIDE]
            self.assertEqual(canvas.shape, (3, SIDE, SIDE))
            again, _ = pictures[draw % 12, draw, SIDE]
            self.assertTrue(torch.equal(canvas, again))
            for x0, y0, x1, y1, _ in boxes.tolist():
                self.assertTrue(0 <= x0 < x1 <= SIDE and 0 <= y0 < y1 <= SIDE)
        plain = Pictures(self.root, ("train",), SIDE, stretch=0.5)
        for draw in range(30):
            canvas, boxes = plain[draw % 12, draw, SIDE]
            for x0, y0, x1, y1, row in boxes[boxes[:, 4] >= 0].tolist()[-1:]:
                middle = canvas[:, int(y0 + y1) // 2, int(x0 + x1) // 2].float()
                if middle.max() - middle.min() > 40:
                    self.assertEqual(int(middle.argmax()), int(row))

    def test_a_scene_without_things_touches_no_box_and_its_teacher_is_not_asked(self):
        picture = Image.new("RGB", (400, 300))
        boxes = np.array([[250, 40, 390, 280, 3], [230.5, 0, 260, 30, -1]], np.float32)
        cut, left = data.without_things(picture, boxes)
        self.assertEqual((cut.size, len(left)), ((230, 300), 0))
        self.assertEqual(data.without_things(picture, boxes[:0])[0].size, (400, 300))
        full = np.array([[40, 40, 390, 280, 3]], np.float32)
        same, kept = data.without_things(picture, full)
        self.assertTrue(same is picture and kept is full)

        def teacher(image):
            return torch.full((2, 5, 20), 0.7), torch.zeros(2, 5, 4), None

        scores, _, _ = objective.answers(teacher, None, [torch.zeros(1, 5), torch.zeros(0, 5)])
        self.assertAlmostEqual(scores[0].min().item(), 0.7, places=6)
        self.assertEqual(scores[1].max().item(), 0)

    def test_the_worst_mistakes_are_false_alarms_by_score_and_missed_things_by_size(self):
        image = {"id": 1, "file_name": "a.png", "width": 100, "height": 100}
        truth = {"image_id": 1, "category_id": 1, "iscrowd": 0}
        coco = {"images": [image], "annotations": [
            truth | {"bbox": [0, 0, 20, 20]}, truth | {"bbox": [50, 50, 40, 40]},
            truth | {"bbox": [0, 60, 30, 30], "difficult": 1},
        ]}  # fmt: skip
        found = [
            {"image_id": 1, "category_id": 1, "score": score, "bbox": box}
            for score, box in ((0.9, [0, 0, 20, 20]), (0.8, [60, 0, 30, 30]), (0.4, [50, 50, 40, 40]), (0.6, [0, 60, 30, 30]))
        ]
        shown = card.mistakes(coco, found)
        self.assertEqual([(box, chance) for _, _, box, chance in shown], [([60, 0, 30, 30], 0.8), ([50, 50, 40, 40], None)])
        Image.new("RGB", (100, 100)).save(self.root / "a.png")
        self.assertEqual(card.sheet(shown, {1: "cat"}, self.root).size, (6 * card.TILE, card.TILE))

    def test_bins_decode_and_their_loss(self):
        points, strides = network.points_for(SIDE, SIDE)
        self.assertEqual(len(points), sum((SIDE // s) ** 2 for s in network.STRIDES))
        truth = torch.tensor([[20.0, 30.0, 60.0, 70.0]])
        cell = int(((points == torch.tensor([40.0, 48.0])).all(1) & (strides[:, 0] == 8)).nonzero()[0])
        logits = torch.full((1, 4, 8), -40.0)
        for side, distance in enumerate(((40 - 20) / 8, (48 - 30) / 8, (60 - 40) / 8, (70 - 48) / 8)):
            low = int(distance)
            logits[0, side, low] = torch.tensor(1 - (distance - low)).log()
            if distance > low:
                logits[0, side, low + 1] = torch.tensor(distance - low).log()
        logits = logits.flatten(1).requires_grad_()
        box = network.decode_bins(logits, points[[cell]], strides[[cell]])
        self.assertTrue(torch.allclose(box, truth, atol=1e-4))
        loss.bin_loss(logits, truth, points[[cell]], strides[[cell]]).sum().backward()
        self.assertLess(logits.grad.abs().max().item(), 1e-5, "the true distribution is the minimum")
        self.assertAlmostEqual(loss.bin_divergence(logits, logits).sum().item(), 0, places=6)

    def test_assignment_keeps_to_its_box_and_gives_every_truth_a_cell(self):
        points, _ = network.points_for(SIDE, SIDE)
        truths = torch.tensor([[10.0, 10, 60, 60, 0], [50, 50, 120, 120, 2], [100, 5, 112, 17, 1]])
        torch.manual_seed(0)
        predicted = torch.cat((points - 20 * torch.rand(len(points), 2), points + 20), dim=1)
        found = loss.assign(torch.randn(len(points), 20), predicted, points, truths)
        self.assertEqual(set(found.tolist()), {-1, 0, 1, 2})
        for row in range(3):
            x, y = points[found == row].T
            x0, y0, x1, y1, _ = truths[row]
            self.assertTrue(((x > x0) & (x < x1) & (y > y0) & (y < y1)).all())
        self.assertTrue(
            (loss.assign(torch.randn(len(points), 20), predicted, points, truths[:0]) == -1).all()
        )

    def test_teacher_speaks_to_anchors_of_its_box_only(self):
        anchors = network.anchors_for(SIDE, SIDE)
        cells = len(anchors) // network.ANCHORS
        scores, boxes = torch.zeros(1, cells, 20), torch.zeros(1, cells, 4)
        scores[0, 7, 3], boxes[0, 7] = 0.6, anchors[7 * network.ANCHORS + 4]
        picture, cell, anchor = loss.taught(scores, boxes, anchors)
        self.assertIn(7 * network.ANCHORS + 4, anchor.tolist())
        self.assertEqual(set(cell.tolist()), {7})
        self.assertTrue((loss.iou(anchors[anchor], boxes[0, [7]]) >= 0.5).all())
        truth = torch.cat((boxes[0, 7], torch.tensor([3.0])))[None]
        self.assertAlmostEqual(loss.opinion(scores[0], boxes[0], truth).item(), 0.6, places=5)

    def test_mirrored_teacher_is_symmetric(self):
        torch.manual_seed(0)
        image = torch.nn.functional.interpolate(torch.randn(1, 3, 16, 16), SIDE, mode="bilinear")
        teacher = teachers.load(mirrored=True)
        scores, boxes, _ = teacher(image)
        their_scores, their_boxes, _ = teacher(image.flip(-1))
        width = SIDE // 8
        for row, column in ((3, 5), (8, 1), (10, 12)):
            here, there = row * width + column, row * width + width - column
            self.assertTrue(torch.allclose(scores[0, here], their_scores[0, there], atol=1e-5))
            x0, y0, x1, y1 = their_boxes[0, there].tolist()
            flipped = torch.tensor([SIDE - x1, y0, SIDE - x0, y1])
            self.assertTrue(torch.allclose(boxes[0, here], flipped, atol=1e-3))

    def test_square_anchors_hold_the_points_and_strides_of_the_bins(self):
        side = 100  # a multiple of no stride but 4: the last cells reach beyond the picture
        anchors, (points, strides) = export.square_anchors(side), network.points_for(side, side)
        self.assertTrue(torch.equal((anchors[:, :2] + anchors[:, 2:]) / 2, points))
        self.assertTrue(torch.equal(anchors[:, 2:] - anchors[:, :2], strides.expand(-1, 2)))
        bins = torch.randn(len(points), 4 * network.BINS)
        sides = (bins.unflatten(-1, (4, -1)).softmax(-1) * torch.arange(network.BINS)).sum(-1)
        size = (anchors[:, 2:] - anchors[:, :2]).repeat(1, 2) * torch.tensor([-1, -1, 1, 1])
        boxes = ((anchors[:, :2] + anchors[:, 2:]) / 2).repeat(1, 2) + sides * size
        self.assertTrue(torch.allclose(boxes, network.decode_bins(bins, points, strides), atol=1e-4))

    def test_the_layer_of_a_level_runs_as_two_without_a_change(self):
        image, net = torch.randn(1, 3, 64, 64), starts.load("coco", head="level-bins").eval()
        with torch.no_grad():
            outs = export.Flat(net)(image)
            levels = net.fpn(net.backbone(image))
            whole = [out(tower(x)) for out, tower, x in zip(net.outs, net.towers, levels)]
        for classes, boxes, both in zip(outs[:4], outs[4:], whole):
            self.assertTrue(torch.allclose(torch.cat((classes, boxes), dim=1), both, atol=1e-4))

    def test_class_outputs_are_coded_in_the_range_asked_for(self):
        names = [f"cls_{level}_{part}" for level in export.LEVELS for part in ("scale", "zero_point")]
        kinds = [np.float32, np.uint8] * len(export.LEVELS)
        tensors = [onnx.numpy_helper.from_array(np.array(1, kind), name) for kind, name in zip(kinds, names)]
        graph = onnx.helper.make_graph([], "g", [], [], tensors)
        export.narrow(graph, -6, 3)
        scale, zero = (onnx.numpy_helper.to_array(init) for init in graph.initializer[:2])
        self.assertEqual((scale.dtype, zero.dtype, int(zero)), (np.float32, np.uint8, 170))
        self.assertAlmostEqual(float(scale) * (255 - int(zero)), 3, places=2)
        del graph.initializer[3]
        with self.assertRaisesRegex(SystemExit, "cls_p4_zero_point"):
            export.narrow(graph, -6, 3)

    def test_settings(self):
        saved = {"sets": "train", "steps": 10, "batch": 4, "side": SIDE, "first_side": 64, "lr": 1e-3}
        self.assertIsNone(settings.difference(saved, small()))
        self.assertIn("lr: the run has 0.001, this command 0.002", settings.difference(saved, small(lr=2e-3)))
        self.assertIn("no such setting", settings.difference(saved | {"old": 1}, small()))
        drawn = [side_at(step, small(last_sides="128,192")) for step in range(10)]
        self.assertEqual(drawn[:5], [64] * 5)
        self.assertLessEqual(set(drawn[5:]), {128, 192})
        for bad in (
            {"side": 300},
            {"stretch": 1.5},
            {"steps": 0},
            {"last_sides": "320;416"},
            {"last_sides": "330"},
            {"precision": "bfloat16", "quantised": True},
        ):
            with self.assertRaisesRegex(ValueError, f"^{next(iter(bad))}: must be [^\n]*$"):
                small(**bad)
        rates = [rate_at(step, small()) for step in range(10)]
        self.assertTrue(rates[0] < rates[1] > rates[-1] > 0)


if __name__ == "__main__":
    unittest.main()
