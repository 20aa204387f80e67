//! A manifest proposed from a graph's shapes and names, for a person to finish.
//!
//! A graph does not say how its input is normalised, what its classes are called or how large its anchors
//! are. What is assumed in such a place is told, with the reason why it is not known. Nothing here is used
//! when a model runs: that reads the manifest alone.

use super::words::{
    ActivationKind, AnchorOrder, AnchorRounding, BoxFormat, BoxOrder, CellOrder, Channels, ClassChannels,
    ClipOrder, Format, InputType, Layout, Placement, Resample, Rounding,
};
use super::{
    Activation, Anchors, BoxCoder, Class, Decode, Head, Input, LetterboxSpec, Level, Manifest, Outline,
    one_line,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// What the person who asks for a draft knows already.
#[derive(Debug, Clone, Copy)]
pub struct DraftWishes {
    /// Width and height of the input in pixels.
    pub input_wh: [u32; 2],
    /// Side of the square anchor of the first scale, in strides: 4 in the RetinaNet paper.
    pub anchor_strides: f32,
}

/// A proposed manifest.
#[derive(Debug)]
pub struct Draft {
    /// The proposal. It holds for the graph; what it assumes may be wrong.
    pub manifest: Manifest,
    /// Key, and what is assumed there and why it is not known.
    pub open: Vec<(String, String)>,
}

/// Upper bound of `dw` and `dh` in torchvision and Detectron2: ln(1000 / 16).
const USUAL_CLAMP: f32 = 4.135_166_6;
/// Base boxes a cell of RetinaNet: three scales by three ratios.
const RETINANET_BOXES: usize = 9;
/// Box channels of heads with 8, 16 and 17 bins, as NanoDet and other heads of distributions have them.
const USUAL_BIN_CHANNELS: [usize; 3] = [32, 64, 68];
/// Most base boxes a cell that a manifest may list.
const MAX_BOXES: usize = 64;
/// What texts begin with that only a person can write.
const FILL_IN: &str = "FILL IN";
/// Parts of names that are usual for class outputs, and for box outputs.
const CLASS_NAMES: [&str; 5] = ["cls", "class", "score", "conf", "logit"];
const BOX_NAMES: [&str; 6] = ["box", "reg", "loc", "delta", "dist", "offset"];

/// What a level's outputs are, all of one feature size.
struct Pair<'a> {
    size: [usize; 2],
    /// Name and channels, in the graph's order; of one output that holds both, its classes first.
    outputs: [(&'a str, usize); 2],
    /// An output of one channel beside them.
    object: Option<&'a str>,
}

impl Pair<'_> {
    fn is_joined(&self) -> bool {
        self.outputs[0].0 == self.outputs[1].0
    }
}

/// What the channels of a class and a box output are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Form {
    boxes: usize,
    classes: usize,
    bins: Option<usize>,
}

/// A level, its outputs told apart.
struct Found<'a> {
    size: [usize; 2],
    class_output: &'a str,
    box_output: &'a str,
    /// First channel of the boxes.
    box_from: usize,
    object: Option<&'a str>,
}

/// Keys that are open, in the order in which they were found.
struct Open(Vec<(String, String)>);

impl Open {
    fn tell(&mut self, key: &str, words: &str) {
        self.0.push((key.to_owned(), words.to_owned()));
    }
}

impl Draft {
    /// Proposes a manifest for a graph with these `outputs` (names and shapes).
    ///
    /// # Errors
    /// A line that says why these outputs are no heads that can be read.
    pub fn new(
        outline: &Outline,
        outputs: &[(String, Vec<usize>)],
        wishes: DraftWishes,
    ) -> Result<Self, String> {
        let mut open = Open(Vec::new());
        tell_unknowable(&mut open);
        let pairs = pairs(outputs, &mut open)?;
        let (found, form) = told_apart(&pairs, &mut open)?;
        open.tell("classes", &format!("class_0 to class_{}: a graph has no labels", form.classes - 1));
        let of_class = |names: &[String]| {
            found.iter().filter(|level| names.iter().any(|name| name == level.class_output)).count()
        };
        if of_class(&outline.softmaxes) > 0 {
            let words = "a class output ends in a softmax: `kind` is \"softmax\", `logits` false, and `background` \
                         says which channel of an anchor is no class";
            open.tell("activation", words);
        }
        let scores = of_class(&outline.sigmoids);
        if scores > 0 && scores < found.len() {
            open.tell(
                "activation.logits",
                "some class outputs end in a sigmoid and some do not: must be alike",
            );
        }
        let levels = listed_levels(&found, form, wishes, &mut open);
        let has_objects = found.iter().any(|level| level.object.is_some());
        let box_order = box_order(form, has_objects, &mut open);
        let deltas = box_order == BoxOrder::DxDyDwDh;
        let input = outline.inputs.first().map_or("", |input| &input.name);
        let manifest = Manifest {
            format: Format::V1,
            name: FILL_IN.into(),
            version: "0.1.0".into(),
            description: description(&open.0),
            licence: FILL_IN.into(),
            licence_url: String::new(),
            authors: Vec::new(),
            input: input_of(input, wishes.input_wh),
            letterbox: LetterboxSpec {
                keep_aspect: true,
                placement: Placement::TopLeft,
                pad_rgb: [114; 3],
                resample: Resample::BilinearHalfPixel,
                rounding: Rounding::Nearest,
            },
            classes: labels(form.classes),
            heads: found.iter().zip(&levels).enumerate().map(|(i, of)| head(i, of, box_order)).collect(),
            activation: Activation {
                kind: ActivationKind::Sigmoid,
                logits: scores < found.len(),
                background: None,
            },
            anchors: Anchors {
                format: BoxFormat::Xyxy,
                order: AnchorOrder::LevelYXAnchor,
                cell_order: CellOrder::ScaleRatio,
                rounding: AnchorRounding::None,
                offset: 0.0,
                levels,
                sha256: None,
            },
            box_coder: BoxCoder {
                weights: [1.0; 4],
                clamp: (deltas && !has_objects).then_some(USUAL_CLAMP),
                bins: form.bins,
            },
            decode: Decode {
                score_threshold: 0.05,
                topk_per_level: 1000,
                nms_iou: 0.5,
                box_voting: None,
                max_detections: 100,
                clip: ClipOrder::BeforeNms,
            },
            taps: Vec::new(),
            self_test: None,
            training: Value::Null,
            quantisation: Value::Null,
            evaluation: Value::Null,
            lineage: Value::Null,
        };
        for fault in manifest.faults() {
            open.tell(&fault.field, &fault.reason);
        }
        Ok(Self { manifest, open: open.0 })
    }
}

impl Manifest {
    /// Keys whose text still asks a person to fill it in.
    #[must_use]
    pub fn unfilled(&self) -> Vec<&'static str> {
        let texts = [("name", &self.name), ("description", &self.description), ("licence", &self.licence)];
        texts.iter().filter(|(_, text)| text.starts_with(FILL_IN)).map(|(key, _)| *key).collect()
    }
}

/// Tells what no graph holds.
fn tell_unknowable(open: &mut Open) {
    for (key, words) in [
        ("name", "a text, published beside the detections: a graph has none that is sure"),
        ("description, licence", "for people; may be left out"),
        ("input.channels", "\"rgb\" is assumed: the order of colours is not in a graph"),
        (
            "input.scale_to_unit, input.mean, input.std",
            "1, 0 and 1 are assumed (bytes as they are): copy the training's preprocessing, a graph does not \
             hold it",
        ),
        (
            "letterbox",
            "a picture that keeps its aspect, at the top left of grey bars, is assumed: copy the training's \
             preprocessing, a graph does not hold it",
        ),
        ("anchors.offset", "0 is assumed; 0.5 if the training put a cell's point in its middle"),
        (
            "box_coder.weights, box_coder.clamp",
            "1 and the usual bound are assumed: copy the training's box coder, a graph does not hold it",
        ),
        ("decode", "usual values, not the graph's: try others with `retinad eval`"),
    ] {
        open.tell(key, words);
    }
}

/// The description of a draft: JSON has no comments, and this key is for people.
fn description(open: &[(String, String)]) -> String {
    let mut keys: Vec<&str> = open.iter().map(|(key, _)| key.as_str()).collect();
    keys.retain(|key| !key.contains("description"));
    keys.dedup();
    format!("{FILL_IN}; assumed so far, not read from the graph: {}", keys.join(", "))
}

fn labels(classes: usize) -> Vec<Option<Class>> {
    (0..classes).map(|i| Some(Class { label: format!("class_{i}"), coco_id: None })).collect()
}

fn input_of(name: &str, [width, height]: [u32; 2]) -> Input {
    Input {
        name: name.to_owned(),
        width,
        height,
        layout: Layout::Nchw,
        channels: Channels::Rgb,
        dtype: InputType::F32,
        scale_to_unit: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
        quant_scale: None,
        quant_zero_point: None,
        sizes: Vec::new(),
    }
}

fn head(i: usize, (found, level): (&Found, &Level), box_order: BoxOrder) -> Head {
    let [down, across] = level.stride_yx;
    let is_level = down == across && down.is_power_of_two();
    Head {
        level: if is_level { format!("p{}", down.trailing_zeros()) } else { format!("level{i}") },
        class_output: found.class_output.to_owned(),
        class_from: 0,
        box_output: found.box_output.to_owned(),
        box_from: found.box_from,
        object_output: found.object.map(str::to_owned),
        object_from: 0,
        class_channels: ClassChannels::AnchorMajor,
        box_order,
    }
}

fn box_order(form: Form, has_objects: bool, open: &mut Open) -> BoxOrder {
    let (order, words) = if has_objects && form.bins.is_none() {
        let words = "\"dx_dy_dw_dh\" is assumed, because there is an object output, as in YOLOX";
        (BoxOrder::DxDyDwDh, words)
    } else if form.boxes > 1 {
        let words = "\"dx_dy_dw_dh\" is assumed (torchvision, Detectron2); TensorFlow's models have \
                     \"dy_dx_dh_dw\", and the numbers of channels do not say which";
        (BoxOrder::DxDyDwDh, words)
    } else {
        let words = "\"left_top_right_bottom\" is assumed, because there is one box a cell";
        (BoxOrder::LeftTopRightBottom, words)
    };
    open.tell("heads[].box_order", words);
    order
}

/// Outputs by feature size, the finest first.
fn pairs<'a>(outputs: &'a [(String, Vec<usize>)], open: &mut Open) -> Result<Vec<Pair<'a>>, String> {
    let mut sizes: BTreeMap<[usize; 2], Vec<(&str, usize)>> = BTreeMap::new();
    for (name, shape) in outputs {
        match shape[..] {
            [1, channels, height, width] if channels > 0 => {
                sizes.entry([height, width]).or_default().push((name, channels));
            }
            _ => {
                let name = one_line(name);
                let words =
                    format!("output `{name}` is {shape:?}, left out: must be [1, channels, height, width]");
                open.tell("heads", &words);
            }
        }
    }
    let mut pairs = Vec::new();
    for (size @ [height, width], found) in sizes {
        if let Some(pair) = pair(size, &found) {
            pairs.push(pair);
            continue;
        }
        let names: Vec<String> = found.iter().take(6).map(|(name, _)| one_line(name)).collect();
        let (outputs, names) = (found.len(), names.join(", "));
        let words = format!(
            "left out: {outputs} of {height} x {width} cells ({names}), a level has two, classes and boxes, \
             and may have a third of one channel that the classes are multiplied by"
        );
        open.tell("heads", &words);
    }
    if pairs.is_empty() {
        return Err(
            "no two outputs [1, channels, height, width] of one feature size: a level needs a class \
                    and a box output, as the last convolutions give them"
                .into(),
        );
    }
    pairs.sort_by_key(|pair| std::cmp::Reverse(pair.size[0] * pair.size[1]));
    if pairs[0].is_joined() {
        let [(_, classes), (_, sides)] = pairs[0].outputs;
        let words = format!(
            "one output holds both: {classes} classes and then {sides} channels of boxes are assumed, as in NanoDet; \
             its channels do not say where the boxes begin"
        );
        open.tell("heads[].box_from", &words);
    }
    if pairs.iter().any(|pair| pair.object.is_some()) {
        open.tell("heads[].object_output", "assumed, because a third output has one channel, as in YOLOX");
    }
    Ok(pairs)
}

/// The outputs of one feature size, if they are what a level has: two; two and one of one channel; or one,
/// if it has more channels than distributions over eight bins.
fn pair<'a>(size: [usize; 2], found: &[(&'a str, usize)]) -> Option<Pair<'a>> {
    match *found {
        [(name, channels)] if channels > USUAL_BIN_CHANNELS[0] => {
            let sides = USUAL_BIN_CHANNELS[0];
            Some(Pair { size, outputs: [(name, channels - sides), (name, sides)], object: None })
        }
        [first, second] => Some(Pair { size, outputs: [first, second], object: None }),
        [_, _, _] => {
            let (objects, others): (Vec<_>, Vec<_>) = found.iter().partition(|(_, channels)| *channels == 1);
            let (&[(object, _)], &[first, second]) = (&objects[..], &others[..]) else { return None };
            Some(Pair { size, outputs: [first, second], object: Some(object) })
        }
        _ => None,
    }
}

/// Which output of each pair is the class output, and what their channels are.
fn told_apart<'a>(pairs: &[Pair<'a>], open: &mut Open) -> Result<(Vec<Found<'a>>, Form), String> {
    let [first, second] = pairs[0].outputs;
    let straight = form(first.1, second.1).map(|(form, rank)| (form, rank, [first.1, second.1]));
    let swapped = form(second.1, first.1).map(|(form, rank)| (form, rank, [second.1, first.1]));
    let guess = match by_name(&pairs[0]) {
        Some(true) => straight,
        Some(false) => swapped,
        None => {
            open.tell(
                "heads[].class_output, heads[].box_output",
                "told apart by their numbers of channels, because their names say nothing",
            );
            match (straight, swapped) {
                (Some(one), Some(other)) if other.1 > one.1 => Some(other),
                (one, other) => one.or(other),
            }
        }
    };
    let Some((form, _, channels)) = guess else {
        return Err(format!(
            "outputs `{}` ({} channels) and `{}` ({} channels): no class output [1, anchors * classes, height, \
             width] with a box output [1, anchors * 4, height, width] or [1, 4 * bins, height, width]",
            one_line(first.0),
            first.1,
            one_line(second.0),
            second.1
        ));
    };
    if let Some(bins) = form.bins {
        let of = channels[1];
        let words = format!(
            "{bins} is read from {of} box channels, as one anchor a cell; {bins} anchors have as many"
        );
        open.tell("box_coder.bins", &words);
    }
    let mut levels = Vec::new();
    for pair in pairs {
        let [one, other] = pair.outputs;
        let is_straight = by_name(pair).unwrap_or([one.1, other.1] == channels);
        let (class, sides) = if is_straight { (one, other) } else { (other, one) };
        if [class.1, sides.1] == channels {
            let box_from = if pair.is_joined() { class.1 } else { 0 };
            let (class_output, box_output) = (class.0, sides.0);
            levels.push(Found { size: pair.size, class_output, box_output, box_from, object: pair.object });
        } else {
            let names = [one.0, other.0].map(one_line).join(", ");
            open.tell(
                "heads",
                &format!("left out: {names}, of other numbers of channels than the finest level's"),
            );
        }
    }
    Ok((levels, form))
}

/// Whether the first of two outputs is the class output, if one of their names says so.
fn by_name(pair: &Pair<'_>) -> Option<bool> {
    if pair.is_joined() {
        return Some(true);
    }
    let says = |name: &str| {
        let name = name.to_ascii_lowercase();
        let holds = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
        let (class, sides) = (holds(&CLASS_NAMES), holds(&BOX_NAMES));
        (class != sides).then_some(class)
    };
    match pair.outputs.map(|(name, _)| says(name)) {
        [Some(one), Some(other)] if one == other => None,
        [Some(one), _] => Some(one),
        [None, other] => other.map(|is_class| !is_class),
    }
}

/// Reads numbers of channels, and says how usual that is: the higher, the more.
fn form(class_channels: usize, box_channels: usize) -> Option<(Form, u8)> {
    let boxes = box_channels / 4;
    if !box_channels.is_multiple_of(4) || boxes == 0 {
        return None;
    }
    let fits = boxes <= MAX_BOXES && class_channels.is_multiple_of(boxes);
    let anchors = fits.then(|| Form { boxes, classes: class_channels / boxes, bins: None });
    let bins = Form { boxes: 1, classes: class_channels, bins: Some(boxes) };
    let bins = (2..=64).contains(&boxes).then_some(bins);
    let found = match (anchors, bins) {
        (Some(form), _) if form.boxes == RETINANET_BOXES => (form, 4),
        (_, Some(form)) if USUAL_BIN_CHANNELS.contains(&box_channels) => (form, 3),
        (Some(form), _) => (form, 2),
        (None, Some(form)) => (form, 1),
        (None, None) => return None,
    };
    (1..=1000).contains(&found.0.classes).then_some(found)
}

/// Strides and base boxes.
fn listed_levels(found: &[Found], form: Form, wishes: DraftWishes, open: &mut Open) -> Vec<Level> {
    let [width, height] = wishes.input_wh.map(|side| side as usize);
    if let Some(&[down, across]) =
        found.iter().map(|level| &level.size).find(|[h, w]| height % h != 0 || width % w != 0)
    {
        let words = format!(
            "assumed: {width} x {height} pixels do not divide by {across} x {down} cells, so the last ones lie \
             partly outside"
        );
        open.tell("anchors.levels[].stride_yx", &words);
    }
    let words = match form.boxes {
        1 => "a square of one stride is assumed, so that distances are in strides".to_owned(),
        RETINANET_BOXES => format!(
            "RetinaNet's nine are assumed, the first square of {} strides (--anchor-strides takes another): a \
             graph does not hold its anchors",
            wishes.anchor_strides
        ),
        boxes => format!("{boxes} squares stand in their place: a graph does not hold its anchors"),
    };
    open.tell("anchors.levels[].base", &words);
    let level = |found: &Found| {
        let stride_yx = [stride(height, found.size[0]), stride(width, found.size[1])];
        Level { stride_yx, feature_hw: found.size, base: base(form.boxes, stride_yx, wishes.anchor_strides) }
    };
    found.iter().map(level).collect()
}

/// Pixels from cell to cell: the power of two that gives so many cells, the last of them perhaps not whole,
/// or else what is nearest.
fn stride(side: usize, cells: usize) -> u32 {
    let usual = (0..=12).map(|power| 1usize << power).find(|stride| side.div_ceil(*stride) == cells);
    usual.map_or_else(|| ((side as f64 / cells as f64).round() as u32).max(1), |stride| stride as u32)
}

/// Base boxes of a level, all ratios (height by width) of the first scale, then of the next.
///
/// Source: Lin et al. 2017, section 4: ratios 1:2, 1:1, 2:1 and scales 2^0, 2^(1/3), 2^(2/3).
fn base(boxes: usize, [down, across]: [u32; 2], anchor_strides: f32) -> Vec<[f32; 4]> {
    let (h, w) = (f64::from(down) / 2.0, f64::from(across) / 2.0);
    let around = |w: f64, h: f64| [-w as f32, -h as f32, w as f32, h as f32];
    let first = f64::from(anchor_strides);
    if boxes == 1 {
        return vec![around(w, h)];
    }
    if boxes == RETINANET_BOXES {
        let scales = [0.0, 1.0 / 3.0, 2.0 / 3.0].map(|power| first * f64::exp2(power));
        let nine = scales.iter().flat_map(|scale| {
            [0.5f64, 1.0, 2.0].map(|ratio| around(w * scale / ratio.sqrt(), h * scale * ratio.sqrt()))
        });
        return nine.collect();
    }
    let scale = |i: usize| first * f64::exp2(i as f64 / boxes as f64);
    (0..boxes).map(|i| around(w * scale(i), h * scale(i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::GraphInput;

    const WISHES: DraftWishes = DraftWishes { input_wh: [320, 320], anchor_strides: 3.0 };

    fn draft(outputs: &[(&str, [usize; 4])]) -> Result<Draft, String> {
        let outputs: Vec<_> = outputs.iter().map(|(n, shape)| ((*n).to_owned(), shape.to_vec())).collect();
        let input = GraphInput { name: "x".into(), sides: vec![Some(1), Some(3), None, None], is_f32: true };
        let outline = Outline { inputs: vec![input], sigmoids: vec!["c".into()], ..Outline::default() };
        Draft::new(&outline, &outputs, WISHES)
    }

    #[test]
    fn channels_say_anchors_classes_and_bins() {
        let read = |class, sides| form(class, sides).map(|(form, _)| (form.boxes, form.classes, form.bins));
        assert_eq!(read(180, 36), Some((9, 20, None)));
        assert_eq!(read(80, 32), Some((1, 80, Some(8))));
        assert_eq!(read(80, 4), Some((1, 80, None)));
        assert_eq!(read(60, 12), Some((3, 20, None)));
        assert_eq!(read(20, 6), None);
        assert_eq!(read(2000, 4), None, "a manifest holds a thousand classes");
        assert_eq!(read(5, 0), None);
    }

    #[test]
    fn strides_are_powers_of_two_where_these_give_the_cells() {
        assert_eq!([stride(320, 40), stride(416, 7), stride(300, 19)], [8, 64, 16]);
        assert_eq!([stride(300, 100), stride(3, 9)], [3, 1], "else the nearest");
    }

    #[test]
    fn an_output_of_one_channel_multiplies_and_one_alone_holds_both() {
        let outputs = [("b", [1, 4, 40, 40]), ("o", [1, 1, 40, 40]), ("c", [1, 80, 40, 40])];
        let found = draft(&outputs).expect("heads").manifest;
        let head = &found.heads[0];
        let names = (head.class_output.as_str(), head.box_output.as_str(), head.object_output.as_deref());
        assert_eq!((names, head.box_order), (("c", "b", Some("o")), BoxOrder::DxDyDwDh));
        let found = draft(&[("p3", [1, 112, 40, 40]), ("p4", [1, 112, 20, 20])]).expect("heads");
        let head = &found.manifest.heads[1];
        assert_eq!((head.class_output.as_str(), head.box_output.as_str(), head.box_from), ("p4", "p4", 80));
        assert!(found.manifest.faults().is_empty(), "{:?}", found.manifest.faults());
        assert!(found.open.iter().any(|(key, _)| key == "heads[].box_from"));
        assert!(draft(&[("p3", [1, 32, 40, 40])]).is_err(), "no channels are left for classes");
    }

    #[test]
    fn names_and_else_channels_tell_classes_from_boxes() {
        for outputs in [
            [("box_a", [1, 36, 40, 40]), ("cls_a", [1, 180, 40, 40])],
            [("11", [1, 36, 40, 40]), ("12", [1, 180, 40, 40])],
            [("12", [1, 180, 40, 40]), ("11", [1, 36, 40, 40])],
        ] {
            let manifest = draft(&outputs).expect("heads").manifest;
            assert_eq!((manifest.classes.len(), manifest.anchors.levels[0].base.len()), (20, 9));
            assert!(["12", "cls_a"].contains(&manifest.heads[0].class_output.as_str()));
            assert_eq!(manifest.anchors.levels[0].stride_yx, [8, 8]);
            assert!(manifest.faults().is_empty(), "{:?}", manifest.faults());
            assert_eq!(manifest.unfilled(), ["name", "description", "licence"]);
        }
    }

    #[test]
    fn levels_are_sorted_and_what_is_no_level_is_told() {
        let outputs = [
            ("b", [1, 32, 10, 10]),
            ("c", [1, 20, 10, 10]),
            ("d", [1, 20, 40, 40]),
            ("e", [1, 32, 40, 40]),
            ("alone", [1, 7, 20, 20]),
            ("joined", [2, 7, 20, 20]),
        ];
        let found = draft(&outputs).expect("heads");
        let strides: Vec<_> = found.manifest.anchors.levels.iter().map(|level| level.stride_yx[0]).collect();
        assert_eq!((strides, found.manifest.box_coder.bins), (vec![8, 32], Some(8)));
        assert_eq!(found.manifest.anchors.levels[0].base, [[-4.0, -4.0, 4.0, 4.0]]);
        assert_eq!(found.manifest.heads[0].level, "p3");
        assert!(found.manifest.activation.logits, "only one of the two ends in a sigmoid");
        for left_out in ["alone", "joined"] {
            assert!(found.open.iter().any(|(key, words)| key == "heads" && words.contains(left_out)));
        }
        assert!(draft(&outputs[4..]).expect_err("no pair").contains("no two outputs"));
        let error = draft(&[("p", [1, 7, 4, 4]), ("q", [1, 5, 4, 4])]).expect_err("no form");
        assert!(error.contains("`p` (7 channels)") && error.lines().count() == 1, "{error}");
    }
}
