//! What each ONNX operator between quantisers means on codes: its operation here, which waits for the
//! quantiser of its result.

use super::{
    Average, Conv, Form, Node, Op, Pending, Reader, Refusal, Tensor, Unary, Value, Waiting, attribute,
    checked, integers, label, output, windows,
};
use tract_onnx::pb;

impl<'a> Reader<'a, '_> {
    /// Reads a node as an integer one.
    pub(super) fn node(&mut self, node: &'a pb::NodeProto) -> Result<(), Refusal> {
        if !node.domain.is_empty() {
            return Err(format!("of domain `{}`, has no INT8 form here", node.domain).into());
        }
        match node.op_type.as_str() {
            "QuantizeLinear" => return self.quantise(node),
            "DequantizeLinear" => return self.dequantise(node),
            _ => {}
        }
        let results = node.output.iter().filter(|name| !name.is_empty()).count();
        if results != 1 && node.op_type != "Split" {
            return Err("gives more than one result, which has no INT8 form here".into());
        }
        let read = match node.op_type.as_str() {
            "Constant" => {
                let tensor = attribute(node, "value").and_then(|a| a.t.as_ref()).ok_or("no tensor in it")?;
                self.constants.insert(output(node)?, tensor);
                Ok(())
            }
            "Conv" => self.conv(node),
            "Clip" => self.clip(node),
            "Identity" => self.same_value(node),
            "Dropout" => self.dropout(node),
            "MaxPool" => {
                let input = self.plain(node, 0)?;
                let (shape, out) = windows::square(node, self.tensors[input].shape, None)?;
                self.wait(node, Waiting::Op(Op::MaxPool(shape)), vec![input], out, Form::Plain)
            }
            "Add" | "Sub" | "Mul" | "Div" => self.arithmetic(node),
            "GlobalAveragePool" | "ReduceMean" | "AveragePool" => self.average(node),
            "Concat" => self.concat(node),
            "Split" => self.split(node),
            "Reshape" | "Transpose" => self.shuffle(node),
            "Resize" | "Upsample" => self.resize(node),
            _ => match Unary::of(node) {
                Some(unary) => self.unary(node, unary),
                None => Err("has no INT8 form here".into()),
            },
        };
        read?;
        // Last, so that what has no integer form at all is told as such.
        match node.attribute.iter().find(|a| !read_of(&node.op_type).contains(&a.name.as_str())) {
            Some(unread) => Err(format!("its attribute `{}` has no INT8 form here", unread.name).into()),
            None => Ok(()),
        }
    }

    fn wait(
        &mut self,
        node: &'a pb::NodeProto,
        op: Waiting,
        inputs: Vec<usize>,
        shape: [usize; 3],
        form: Form,
    ) -> Result<(), String> {
        checked(shape)?;
        let pending = Pending { name: label(node).to_owned(), op, inputs, shape, form };
        self.values.insert(output(node)?, Value::Pending(Box::new(pending)));
        Ok(())
    }

    /// The tensor behind a dequantised input whose channels stand as usual.
    fn plain(&self, node: &pb::NodeProto, index: usize) -> Result<usize, String> {
        match self.coded(node, index)? {
            (tensor, Form::Plain) => Ok(tensor),
            _ => Err("reads within a channel shuffle".into()),
        }
    }

    fn coded(&self, node: &pb::NodeProto, index: usize) -> Result<(usize, Form), String> {
        let name = node.input.get(index).ok_or("too few inputs")?;
        match self.values.get(name.as_str()) {
            Some(Value::Codes(tensor, form)) => Ok((*tensor, *form)),
            _ => Err(format!("input `{name}` is not quantised")),
        }
    }

    fn conv(&mut self, node: &'a pb::NodeProto) -> Result<(), String> {
        let mut input = self.plain(node, 0)?;
        let tensor = self.tensors[input].clone();
        let name = node.input.get(1).ok_or("no weights")?;
        let Some(Value::Constant { codes, scales, shape }) = self.values.get(name.as_str()).cloned() else {
            return Err("weights that are not quantised constants".into());
        };
        let [outputs, mut per_group, height, width] = shape[..] else {
            return Err("weights without four dimensions".into());
        };
        let group = attribute(node, "group").map_or(1, |a| a.i);
        let depthwise =
            group != 1 && group == tensor.shape[0] as i64 && outputs == tensor.shape[0] && per_group == 1;
        if height != width || !(depthwise || group == 1 && per_group == tensor.shape[0]) {
            return Err(format!("weights {shape:?} in {group} groups for {} channels", tensor.shape[0]));
        }
        let expected = shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
        if expected != Some(codes.len()) || codes.is_empty() {
            return Err("as many weights as its shape says are not there".into());
        }
        let copies = parts_of_a_byte(&codes);
        if copies > 3 || depthwise && copies > 1 {
            return Err("weights beyond 8 bits".into());
        }
        let mut weights = split_weights(&codes, codes.len() / outputs, copies);
        if copies > 1 {
            input = self.repeated(input, copies)?;
            per_group *= copies;
        }
        let mut scales: Vec<f32> = if scales.len() == 1 { vec![scales[0]; outputs] } else { scales };
        let real: Vec<f64> = match node.input.get(2).filter(|name| !name.is_empty()) {
            None => vec![0.0; outputs],
            Some(name) => match self.values.get(name.as_str()) {
                Some(Value::Constant { codes, scales, .. }) => codes
                    .iter()
                    .enumerate()
                    .map(|(i, &c)| f64::from(c) * f64::from(scales[i % scales.len()]))
                    .collect(),
                _ => self.floats(name)?.iter().map(|&b| f64::from(b)).collect(),
            },
        };
        if real.len() != outputs || scales.len() != outputs {
            return Err("biases or scales that are not one an output".into());
        }
        // A channel with next to no weights has so small a scale that its bias would not fit: then its
        // weights are coarsened until it does, by less than a hundredth of an output code.
        let row = per_group * height * width;
        for (output, scale) in scales.iter_mut().enumerate() {
            let mut halvings = 0;
            while real[output].abs() / (f64::from(tensor.scale) * f64::from(*scale)) >= 2f64.powi(30)
                && halvings < 64
            {
                *scale *= 2.0;
                halvings += 1;
            }
            if halvings > 0 {
                let coarse =
                    |w: &mut i8| *w = (f64::from(*w) * 0.5f64.powi(halvings)).round_ties_even() as i8;
                weights[output * row..(output + 1) * row].iter_mut().for_each(coarse);
            }
        }
        let step = |(real, &scale): (&f64, &f32)| {
            let steps = (real / (f64::from(tensor.scale) * f64::from(scale))).round_ties_even();
            (steps.abs() < 2f64.powi(31)).then_some(steps as i32).ok_or("a bias beyond 32 bits")
        };
        let bias = real.iter().zip(&scales).map(step).collect::<Result<_, _>>()?;
        let (shape, mut out) = windows::square(node, tensor.shape, Some([height, width]))?;
        out[0] = outputs;
        let conv = Conv {
            weights,
            bias,
            scales,
            shape,
            depthwise,
            slope: 1.0,
            clip: [f32::NEG_INFINITY, f32::INFINITY],
        };
        self.wait(node, Waiting::Op(Op::Conv(Box::new(conv))), vec![input], out, Form::Plain)
    }

    /// The channels of a tensor `copies` times one after the other.
    fn repeated(&mut self, input: usize, copies: usize) -> Result<usize, String> {
        let Tensor { scale, zero, shape: [channels, height, width] } = self.tensors[input];
        if let Some(&known) = self.repeats.get(&(input, copies)) {
            return Ok(known);
        }
        let shape = [copies * channels, height, width];
        checked(shape)?;
        self.tensors.push(Tensor { scale, zero, shape });
        let output = self.tensors.len() - 1;
        let name = format!("{copies} copies of tensor {input}");
        self.nodes.push(Node { name, op: Op::Concat, inputs: vec![input; copies], output });
        self.repeats.insert((input, copies), output);
        Ok(output)
    }

    fn clip(&mut self, node: &'a pb::NodeProto) -> Result<(), String> {
        // Bounds were attributes up to opset 10.
        let limit = |i: usize, name: &str, default: f32| match node.input.get(i).filter(|n| !n.is_empty()) {
            _ if self.opset < 11 => Ok(attribute(node, name).map_or(default, |a| a.f)),
            Some(name) => self.floats(name)?.first().copied().ok_or_else(|| "an empty limit".to_owned()),
            None => Ok(default),
        };
        let (low, high) = (limit(1, "min", f32::NEG_INFINITY)?, limit(2, "max", f32::INFINITY)?);
        let unary = Unary::clip(low, high).ok_or("a limit that is no number")?;
        self.unary(node, unary)
    }

    /// Another name for the same value.
    fn same_value(&mut self, node: &'a pb::NodeProto) -> Result<(), String> {
        let name = node.input.first().ok_or("no input")?.as_str();
        let to = output(node)?;
        if let Some(tensor) = self.constants.get(name).copied() {
            self.constants.insert(to, tensor);
        } else if let Some(found) = self.codes.get(name).copied() {
            self.codes.insert(to, found);
        } else {
            let value =
                self.values.get(name).cloned().ok_or_else(|| format!("input `{name}` is not known"))?;
            self.values.insert(to, value);
        }
        Ok(())
    }

    /// A dropout drops nothing unless it trains.
    fn dropout(&mut self, node: &'a pb::NodeProto) -> Result<(), String> {
        let trains = match node.input.get(2).filter(|name| !name.is_empty()) {
            None => false,
            Some(name) => {
                let tensor = self.constants.get(name.as_str()).ok_or("a mode that is not constant")?;
                tensor.int32_data.first().map(|&n| n != 0).or(tensor.raw_data.first().map(|&b| b != 0))
                    != Some(false)
            }
        };
        if trains { Err("trains, which has no INT8 form here".into()) } else { self.same_value(node) }
    }

    /// An activation: fused where it alone reads a convolution or a sum, else a table.
    fn unary(&mut self, node: &'a pb::NodeProto, unary: Unary) -> Result<(), String> {
        self.unary_of(node, node.input.first().ok_or("no input")?.as_str(), unary)
    }

    /// `unary` of the value `name`, as the result of `node`.
    fn unary_of(&mut self, node: &'a pb::NodeProto, name: &str, unary: Unary) -> Result<(), String> {
        let alone = self.readers.get(name) == Some(&1);
        match self.values.get(name).cloned() {
            Some(Value::Codes(tensor, Form::Plain)) => {
                let shape = self.tensors[tensor].shape;
                self.wait(node, Waiting::Unary(vec![unary]), vec![tensor], shape, Form::Plain)
            }
            Some(Value::Pending(mut pending)) if alone => {
                let whole = [f32::NEG_INFINITY, f32::INFINITY];
                match (&mut pending.op, unary) {
                    (Waiting::Op(Op::Conv(conv)), Unary::Leaky(slope))
                        if (0.0..1.0).contains(&slope) && conv.slope == 1.0 && conv.clip == whole =>
                    {
                        conv.slope = slope;
                    }
                    (Waiting::Op(Op::Conv(conv)), Unary::Clip(low, high)) => {
                        conv.clip = conv.clip.map(|bound| bound.clamp(low, high));
                    }
                    (Waiting::Op(Op::Add(clip) | Op::Mul(clip)), Unary::Clip(low, high)) => {
                        *clip = clip.map(|bound| bound.clamp(low, high));
                    }
                    (Waiting::Unary(chain), unary) => chain.push(unary),
                    _ => return Err("cannot be fused with what it follows".into()),
                }
                self.values.insert(output(node)?, Value::Pending(pending));
                Ok(())
            }
            _ => Err(format!("input `{name}` is not quantised")),
        }
    }

    /// A sum or product of two tensors, or of a tensor and one number.
    fn arithmetic(&mut self, node: &'a pb::NodeProto) -> Result<(), String> {
        let [a, b] = [0, 1].map(|i| node.input.get(i).map(String::as_str).unwrap_or_default());
        let op = node.op_type.as_str();
        match (self.number(a), self.number(b)) {
            (None, Some(number)) => {
                let unary = match op {
                    "Add" => Unary::Affine(1.0, number),
                    "Sub" => Unary::Affine(1.0, -number),
                    "Mul" => Unary::Affine(number, 0.0),
                    _ => Unary::Family(|x, [divisor, _]| x / divisor, [number, 0.0]),
                };
                return self.unary_of(node, a, unary);
            }
            (Some(number), None) => {
                let unary = match op {
                    "Add" => Unary::Affine(1.0, number),
                    "Sub" => Unary::Affine(-1.0, number),
                    "Mul" => Unary::Affine(number, 0.0),
                    _ => return Err("divides by a tensor, which has no INT8 form here".into()),
                };
                return self.unary_of(node, b, unary);
            }
            _ => {}
        }
        if op == "Mul" && (self.times_itself(node, a, b)? || self.times_itself(node, b, a)?) {
            return Ok(());
        }
        let mut inputs = vec![self.plain(node, 0)?, self.plain(node, 1)?];
        let [mut shape, other] = [0, 1].map(|i| self.tensors[inputs[i]].shape);
        let free = [f32::NEG_INFINITY, f32::INFINITY];
        let op = match op {
            "Add" if shape == other => Op::Add(free),
            "Mul" if shape == other || other == [shape[0], 1, 1] => Op::Mul(free),
            "Mul" if shape == [other[0], 1, 1] => {
                inputs.swap(0, 1);
                shape = other;
                Op::Mul(free)
            }
            "Add" => return Err("summands of different shapes".into()),
            "Mul" => return Err("factors of different shapes".into()),
            _ => return Err("has no INT8 form here".into()),
        };
        self.wait(node, Waiting::Op(op), inputs, shape, Form::Plain)
    }

    /// Whether a product is that of codes, `x`, and a function of the same codes: a function of one value
    /// again, as in x · sigmoid(x).
    fn times_itself(&mut self, node: &'a pb::NodeProto, x: &str, other: &str) -> Result<bool, String> {
        let Some(&Value::Codes(tensor, Form::Plain)) = self.values.get(x) else { return Ok(false) };
        let of_same =
            |pending: &Pending| matches!(pending.op, Waiting::Unary(_)) && pending.inputs == [tensor];
        match self.values.get(other) {
            Some(Value::Pending(pending)) if of_same(pending) && self.readers.get(other) == Some(&1) => {
                self.unary_of(node, other, Unary::TimesInput)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// The number that a constant of one element is.
    fn number(&self, name: &str) -> Option<f32> {
        if let Some(Value::Constant { codes, scales, shape }) = self.values.get(name) {
            let (&[code], &[scale]) = (&codes[..], &scales[..]) else { return None };
            return (shape.len() <= 4).then_some(code as f32 * scale);
        }
        if self.constants.get(name)?.dims.len() > 4 {
            return None;
        }
        match self.floats(name).ok()?[..] {
            [number] if number.is_finite() => Some(number),
            _ => None,
        }
    }

    /// An average over a window, or over the whole plane.
    fn average(&mut self, node: &'a pb::NodeProto) -> Result<(), String> {
        let input = self.plain(node, 0)?;
        let shape @ [channels, height, width] = self.tensors[input].shape;
        // Sums are of 32 bits.
        if height * width > 1 << 23 {
            return Err("an average of more than 2^23 pixels".into());
        }
        let (average, out) = match node.op_type.as_str() {
            "AveragePool" => windows::average(node, shape)?,
            op => {
                if op == "ReduceMean" {
                    self.over_the_plane(node)?;
                }
                let whole = Average { kernel: [height, width], stride: [1, 1], pad: [0, 0], all: false };
                (whole, [channels, 1, 1])
            }
        };
        self.wait(node, Waiting::Op(Op::Average(average)), vec![input], out, Form::Plain)
    }

    /// Checks that a mean is one over rows and columns that keeps four sides.
    fn over_the_plane(&self, node: &pb::NodeProto) -> Result<(), String> {
        // Axes were an attribute up to opset 17.
        let axes: Vec<i64> = match node.input.get(1).filter(|name| !name.is_empty()) {
            Some(name) => {
                let tensor = self.constants.get(name.as_str()).ok_or("axes that are not constant")?;
                integers(tensor)?.into_iter().map(i64::from).collect()
            }
            None => attribute(node, "axes").map(|a| a.ints.clone()).unwrap_or_default(),
        };
        let mut axes: Vec<i64> =
            axes.into_iter().map(|axis| if axis < 0 { axis + 4 } else { axis }).collect();
        axes.sort_unstable();
        if axes == [2, 3] && attribute(node, "keepdims").is_none_or(|a| a.i == 1) {
            Ok(())
        } else {
            Err("is no mean over the plane that keeps its sides".into())
        }
    }

    fn concat(&mut self, node: &'a pb::NodeProto) -> Result<(), String> {
        if !along_channels(attribute(node, "axis").map_or(0, |a| a.i)) {
            return Err("joins along another axis than the channels".into());
        }
        let inputs = (0..node.input.len()).map(|i| self.plain(node, i)).collect::<Result<Vec<_>, _>>()?;
        let [_, height, width] = self.tensors[*inputs.first().ok_or("no input")?].shape;
        if inputs.iter().any(|&i| self.tensors[i].shape[1..] != [height, width]) {
            return Err("joins planes of different sizes".into());
        }
        let channels = inputs.iter().map(|&i| self.tensors[i].shape[0]).sum();
        self.wait(node, Waiting::Op(Op::Concat), inputs, [channels, height, width], Form::Plain)
    }

    fn split(&mut self, node: &'a pb::NodeProto) -> Result<(), String> {
        let input = self.plain(node, 0)?;
        let [channels, height, width] = self.tensors[input].shape;
        if !along_channels(attribute(node, "axis").map_or(0, |a| a.i)) {
            return Err("splits along another axis than the channels".into());
        }
        let parts = self.parts(node, channels)?;
        if parts.len() != node.output.len() || parts.iter().sum::<usize>() != channels || parts.contains(&0) {
            return Err(format!("parts {parts:?} of {channels} channels"));
        }
        let mut first = 0;
        for (name, part) in node.output.iter().zip(parts) {
            if name.is_empty() {
                first += part;
                continue;
            }
            let op = Waiting::Op(Op::Slice(first));
            let pending = Pending {
                name: label(node).to_owned(),
                op,
                inputs: vec![input],
                shape: [part, height, width],
                form: Form::Plain,
            };
            self.values.insert(name.as_str(), Value::Pending(Box::new(pending)));
            first += part;
        }
        Ok(())
    }

    /// Channels of each part of a split.
    fn parts(&self, node: &pb::NodeProto, channels: usize) -> Result<Vec<usize>, String> {
        let sides = |sides: &[i64]| sides.iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect();
        // Parts were an attribute up to opset 12.
        if let Some(split) = attribute(node, "split") {
            return Ok(sides(&split.ints));
        }
        if let Some(name) = node.input.get(1).filter(|name| !name.is_empty()) {
            let tensor = self.constants.get(name.as_str()).ok_or("parts that are not constant")?;
            return Ok(sides(&integers(tensor)?.into_iter().map(i64::from).collect::<Vec<_>>()));
        }
        let count = node.output.len();
        if attribute(node, "num_outputs").is_some_and(|a| a.i != count as i64) {
            return Err("as many outputs as `num_outputs` says are not there".into());
        }
        // Since opset 18 the last part is the smaller one where they are not equal.
        let part = channels.div_ceil(count.max(1));
        let last = channels.saturating_sub(part * count.saturating_sub(1));
        Ok((0..count).map(|i| if i + 1 == count { last } else { part }).collect())
    }

    /// `[1, c, h, w]` to `[1, 2, c / 2, h, w]`, the middle two turned, and back: two groups of channels in
    /// turn.
    fn shuffle(&mut self, node: &'a pb::NodeProto) -> Result<(), String> {
        let (tensor, form) = self.coded(node, 0)?;
        let [channels, height, width] = self.tensors[tensor].shape;
        let shape = [channels, height, width];
        if node.op_type == "Transpose" {
            let perm = attribute(node, "perm").map(|a| a.ints.clone()).unwrap_or_default();
            if form != Form::Grouped || perm != [0, 2, 1, 3, 4] {
                return Err("is no channel shuffle".into());
            }
            return self.wait(node, Waiting::Same, vec![tensor], shape, Form::Transposed);
        }
        let to = self
            .constants
            .get(node.input.get(1).ok_or("no shape")?.as_str())
            .ok_or("a shape that is not constant")?;
        let sizes = [channels, height, width].map(|n| n as i32);
        let to = integers(to)?;
        match (form, &to[..]) {
            (Form::Plain, &[1, 2, half, h, w]) if [2 * half, h, w] == sizes => {
                self.wait(node, Waiting::Same, vec![tensor], shape, Form::Grouped)
            }
            (Form::Transposed, &[1, c, h, w]) if (c == -1 || c == sizes[0]) && [h, w] == sizes[1..] => {
                self.wait(node, Waiting::Op(Op::Shuffle), vec![tensor], shape, Form::Plain)
            }
            _ => Err(format!("is no channel shuffle: {shape:?} to {to:?}")),
        }
    }

    fn resize(&mut self, node: &'a pb::NodeProto) -> Result<(), String> {
        let input = self.plain(node, 0)?;
        let [channels, height, width] = self.tensors[input].shape;
        let text = |key: &str| {
            attribute(node, key).map(|a| String::from_utf8_lossy(&a.s).into_owned()).unwrap_or_default()
        };
        // Sizes and scales of some axes only.
        if attribute(node, "axes").is_some() {
            return Err(NO_UPSAMPLING.into());
        }
        // Up to opset 10 there is no region, and scales are the second input, or an attribute.
        let first = if self.opset < 11 { 1 } else { 2 };
        let scales = match (node.input.get(first).filter(|name| !name.is_empty()), attribute(node, "scales"))
        {
            (Some(name), _) => self.floats(name)?,
            (None, Some(scales)) => scales.floats.clone(),
            (None, None) => Vec::new(),
        };
        let sizes = match node.input.get(3).filter(|name| !name.is_empty()) {
            Some(name) => integers(self.constants.get(name.as_str()).ok_or("sizes that are not constant")?)?,
            None => Vec::new(),
        };
        let doubled = scales == [1.0, 1.0, 2.0, 2.0]
            || sizes == [1, channels as i32, 2 * height as i32, 2 * width as i32];
        if !doubled {
            return Err(NO_UPSAMPLING.into());
        }
        let coordinates = text("coordinate_transformation_mode");
        // An Upsample, and a Resize before there were these rules, takes pixel corners for their places.
        let corners = node.op_type == "Upsample" || self.opset < 11 || coordinates == "asymmetric";
        let centres = !corners
            && matches!(
                coordinates.as_str(),
                "half_pixel" | "pytorch_half_pixel" | "half_pixel_symmetric" | ""
            );
        let nearest_mode = text("nearest_mode");
        // Twice as large, each of these rules reads pixel (y / 2, x / 2).
        let takes_half = node.op_type == "Upsample"
            || corners && matches!(nearest_mode.as_str(), "floor" | "round_prefer_floor" | "")
            || centres && matches!(nearest_mode.as_str(), "round_prefer_floor" | "round_prefer_ceil" | "");
        let op = match text("mode").as_str() {
            "" | "nearest" if takes_half => Op::Upsample,
            "linear" if centres => Op::Bilinear,
            _ => return Err(NO_UPSAMPLING.into()),
        };
        self.wait(node, Waiting::Op(op), vec![input], [channels, 2 * height, 2 * width], Form::Plain)
    }
}

/// Why a Resize has no integer form.
const NO_UPSAMPLING: &str =
    "is no upsampling to twice the size, nearest or linear with pixel centres at halves";

/// Into how many weights of 8 bits each of `codes`, of up to 9, has to be split: one where all fit.
fn parts_of_a_byte(codes: &[i32]) -> usize {
    let needed = |code: &i32| {
        let most = if *code < 0 { 128 } else { 127 };
        code.unsigned_abs().div_ceil(most) as usize
    };
    codes.iter().map(needed).max().unwrap_or(1).max(1)
}

/// Weights `[output][input][tap]`, rows of `row` for an output, as `copies` summands: first all inputs of the
/// first summand, then of the next. Their inputs are read as many times, so sums stay exact.
///
/// u8 weights whose zero point is not 128 reach beyond 8 bits, and no instruction set multiplies 9.
fn split_weights(codes: &[i32], row: usize, copies: usize) -> Vec<i8> {
    let mut weights = Vec::with_capacity(codes.len() * copies);
    for output in codes.chunks(row) {
        let mut rest = output.to_vec();
        for _ in 0..copies {
            for code in &mut rest {
                let part = (*code).clamp(i32::from(i8::MIN), i32::from(i8::MAX));
                weights.push(part as i8);
                *code -= part;
            }
        }
    }
    weights
}

/// Attributes that the integer form of an operator reads, or that change nothing of it.
fn read_of(op: &str) -> &'static [&'static str] {
    match op {
        "Constant" => &["value"],
        "Conv" => &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"],
        // Where the largest code stood is a second result.
        "MaxPool" => {
            &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"]
        }
        "AveragePool" => {
            &["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"]
        }
        "ReduceMean" => &["axes", "keepdims", "noop_with_empty_axes"],
        "Clip" => &["min", "max"],
        "Dropout" => &["ratio", "seed"],
        "Concat" => &["axis"],
        "Split" => &["axis", "split", "num_outputs"],
        "Reshape" => &["allowzero"],
        "Transpose" => &["perm"],
        // The rest of a Resize's are of other modes, or of regions; to twice the size antialiasing does nothing.
        "Resize" | "Upsample" => &[
            "axes",
            "antialias",
            "coordinate_transformation_mode",
            "cubic_coeff_a",
            "exclude_outside",
            "extrapolation_value",
            "keep_aspect_ratio_policy",
            "mode",
            "nearest_mode",
            "scales",
        ],
        _ => &super::unary::READ,
    }
}

/// Whether an axis of `[1, c, h, w]` is that of the channels.
fn along_channels(axis: i64) -> bool {
    axis == 1 || axis == -3
}
