//! Pictures that heads are judged on: features and boxes are taken once, each head costs its logits and the
//! decoding.

use crate::detection::{Heads, Tensor};
use crate::evaluation::{Evaluation, Found, Picture, Truth};
use crate::retinanet::decode::{DecodeError, DecodeLevel, DecodeOptions, Decoder};
use crate::retinanet::scores::ScoreForm;
use crate::tuning::features::{FeatureExtractor, PictureBoxes, PictureFeatures};
use crate::tuning::{Forward, Head, TrainingSet};

/// Pictures with their features, boxes and truths.
pub struct HeldOut {
    /// Features, with what each anchor ought to say.
    pub set: TrainingSet,
    boxes: Vec<PictureBoxes>,
    truths: Vec<Vec<Truth>>,
    levels: Vec<DecodeLevel>,
    options: DecodeOptions,
}

impl HeldOut {
    /// Without a picture, for the extractor's model.
    #[must_use]
    pub fn new(extractor: &FeatureExtractor) -> Self {
        let (levels, options) = extractor.decoding();
        let set = TrainingSet::new(extractor.layer());
        Self { set, boxes: Vec::new(), truths: Vec::new(), levels, options }
    }

    /// Adds a picture.
    pub fn add(&mut self, features: PictureFeatures, boxes: PictureBoxes, truths: Vec<Truth>) {
        self.set.pictures.push(features);
        self.boxes.push(boxes);
        self.truths.push(truths);
    }

    /// How many truths count.
    #[must_use]
    pub fn truths(&self) -> usize {
        self.truths.iter().flatten().filter(|truth| !truth.ignored).count()
    }

    /// Judges `head` on `classes` classes. `class_of` gives the class that an output's class is judged as;
    /// detections of others are left out.
    ///
    /// # Errors
    /// [`DecodeError`] if the head does not fit the anchors.
    pub fn judge(
        &self,
        head: &Head,
        classes: usize,
        class_of: impl Fn(usize) -> Option<usize>,
    ) -> Result<Evaluation, DecodeError> {
        let mut forward = Forward::new(head);
        let scores = ScoreForm::independent(head.classes);
        let mut decoder = Decoder::new(self.levels.clone(), DecodeOptions { scores, ..self.options.clone() });
        let mut pictures = Vec::with_capacity(self.boxes.len());
        for (number, (boxes, truths)) in self.boxes.iter().zip(&self.truths).enumerate() {
            let heads = self.heads(&mut forward, head, number);
            let placed = boxes.placed;
            let part = [(placed.x + placed.width) as f32, (placed.y + placed.height) as f32];
            let detections = decoder.decode(&heads, part, 0.0)?;
            let found = detections.iter().filter_map(|detection| {
                let class = class_of(detection.class)?;
                let [width, height] = boxes.size;
                let [x1, y1, x2, y2] = placed.to_picture(detection.bbox, width, height).map(f64::from);
                let bbox = [x1, y1, x2 - x1, y2 - y1];
                Some(Found { class, bbox, score: f64::from(detection.score) })
            });
            pictures.push(Picture { truths: truths.clone(), found: found.collect() });
        }
        Ok(Evaluation::new(&pictures, classes))
    }

    /// What the model would say of a picture with `head` as its last class layer.
    fn heads(&self, forward: &mut Forward, head: &Head, picture: usize) -> Heads {
        let features = &self.set.pictures[picture];
        let outputs = head.anchors * head.classes;
        let levels = features.levels.iter().zip(&self.set.codes).zip(&self.boxes[picture].heads).enumerate();
        let levels = levels.map(|(at, ((level, quantisation), boxes))| {
            let cells = boxes.height * boxes.width;
            let mut values = vec![0.0; outputs * cells];
            forward.each_cell(at, &level.codes, *quantisation, self.set.inputs, |cell, logits| {
                let planes = values[cell..].iter_mut().step_by(cells);
                planes.zip(logits).for_each(|(value, logit)| *value = *logit);
            });
            let class = Tensor {
                values,
                channels: outputs,
                height: boxes.height,
                width: boxes.width,
                ..Tensor::default()
            };
            (class, boxes.clone())
        });
        Heads { levels: levels.collect(), ..Heads::default() }
    }
}
