//! What each ONNX operator between quantisers means on codes: its operation here, which waits for the
//! quantiser of its result.

use super::{
    Conv, Form, Op, Pending, Reader, Refusal, Unary, Value, Waiting, attribute, checked, integers, label,
    output,
};
use crate::kernels::ConvShape;
use tract_onnx::pb;

impl<'a> Reader<'a, '_> {
    /// Reads a node as an integer one.
    pub(super) fn node(&mut self, node: &'a pb::NodeProto) -> Result<(), Refusal> {
        let read = match node.op_type.as_str() {
            "Constant" => {
                let tensor = attribute(node, "value").and_then(|a| a.t.as_ref()).ok_or("no tensor in it")?;
                self.constants.insert(output(node)?, tensor);
                Ok(())
            }
            "QuantizeLinear" => return self.quantise(node),
            "DequantizeLinear" => return self.dequantise(node),
            "Conv" => self.conv(node),
            "LeakyRelu" => self.unary(node, Unary::Leaky(attribute(node, "alpha").map_or(0.01, |a| a.f))),
            "Relu" => self.unary(node, Unary::Clip(0.0, f32::INFINITY)),
            "Clip" => {
                let limit = |i: usize, default: f32| match node.input.get(i).filter(|n| !n.is_empty()) {
                    Some(name) => {
                        self.floats(name)?.first().copied().ok_or_else(|| "an empty limit".to_owned())
                    }
                    None => Ok(default),
                };
                let unary = Unary::Clip(limit(1, f32::NEG_INFINITY)?, limit(2, f32::INFINITY)?);
                self.unary(node, unary)
            }
            // Another name for the same value.
            "Identity" | "Dropout" => {
                let name = node.input.first().ok_or("no input")?.as_str();
                let to = output(node)?;
                if let Some(tensor) = self.constants.get(name).copied() {
                    self.constants.insert(to, tensor);
                } else if let Some(found) = self.codes.get(name).copied() {
                    self.codes.insert(to, found);
                } else {
                    let value = self
                        .values
                        .get(name)
                        .cloned()
                        .ok_or_else(|| format!("input `{name}` is not known"))?;
                    self.values.insert(to, value);
                }
                Ok(())
            }
            "Sigmoid" => self.unary(node, Unary::Sigmoid),
            "MaxPool" => {
                let input = self.plain(node, 0)?;
                let (shape, out) = window(node, self.tensors[input].shape, None)?;
                self.wait(node, Waiting::Op(Op::MaxPool(shape)), vec![input], out, Form::Plain)
            }
            "Add" => {
                let inputs = vec![self.plain(node, 0)?, self.plain(node, 1)?];
                let shape = self.tensors[inputs[0]].shape;
                if self.tensors[inputs[1]].shape != shape {
                    return Err("summands of different shapes".into());
                }
                self.wait(
                    node,
                    Waiting::Op(Op::Add([f32::NEG_INFINITY, f32::INFINITY])),
                    inputs,
                    shape,
                    Form::Plain,
                )
            }
            "Concat" => self.concat(node),
            "Split" => self.split(node),
            "Reshape" | "Transpose" => self.shuffle(node),
            "Resize" => self.resize(node),
            _ => Err("has no INT8 form here".into()),
        };
        Ok(read?)
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
        let input = self.plain(node, 0)?;
        let tensor = self.tensors[input].clone();
        let name = node.input.get(1).ok_or("no weights")?;
        let Some(Value::Constant { codes, scales, shape }) = self.values.get(name.as_str()) else {
            return Err("weights that are not quantised constants".into());
        };
        let &[outputs, per_group, height, width] = &shape[..] else {
            return Err("weights without four dimensions".into());
        };
        let group = attribute(node, "group").map_or(1, |a| a.i);
        let depthwise =
            group != 1 && group == tensor.shape[0] as i64 && outputs == tensor.shape[0] && per_group == 1;
        if height != width || !(depthwise || group == 1 && per_group == tensor.shape[0]) {
            return Err(format!("weights {shape:?} in {group} groups for {} channels", tensor.shape[0]));
        }
        let mut weights: Vec<i8> = codes
            .iter()
            .map(|&code| i8::try_from(code))
            .collect::<Result<_, _>>()
            .map_err(|_| "weights beyond 8 bits")?;
        let expected = shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
        if expected != Some(weights.len()) || weights.is_empty() {
            return Err("as many weights as its shape says are not there".into());
        }
        let mut scales: Vec<f32> = if scales.len() == 1 { vec![scales[0]; outputs] } else { scales.clone() };
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
        let (shape, mut out) = window(node, tensor.shape, Some(height))?;
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

    /// An activation: fused where it alone reads a convolution or a sum, else a table.
    fn unary(&mut self, node: &'a pb::NodeProto, unary: Unary) -> Result<(), String> {
        let name = node.input.first().ok_or("no input")?.as_str();
        let alone = self.readers.get(name) == Some(&1);
        match self.values.get(name).cloned() {
            Some(Value::Codes(tensor, Form::Plain)) => {
                let shape = self.tensors[tensor].shape;
                self.wait(node, Waiting::Unary(unary), vec![tensor], shape, Form::Plain)
            }
            Some(Value::Pending(mut pending)) if alone => {
                match (&mut pending.op, unary) {
                    (Waiting::Op(Op::Conv(conv)), Unary::Leaky(slope))
                        if (0.0..1.0).contains(&slope)
                            && conv.slope == 1.0
                            && conv.clip[0] == f32::NEG_INFINITY =>
                    {
                        conv.slope = slope;
                    }
                    (Waiting::Op(Op::Conv(conv)), Unary::Clip(low, high)) if low <= high => {
                        conv.clip = [conv.clip[0].max(low), conv.clip[1].min(high)];
                    }
                    (Waiting::Op(Op::Add(clip)), Unary::Clip(low, high)) if low <= high => {
                        *clip = [clip[0].max(low), clip[1].min(high)]
                    }
                    _ => return Err("cannot be fused with what it follows".into()),
                }
                self.values.insert(output(node)?, Value::Pending(pending));
                Ok(())
            }
            _ => Err(format!("input `{name}` is not quantised")),
        }
    }

    fn concat(&mut self, node: &'a pb::NodeProto) -> Result<(), String> {
        if attribute(node, "axis").map(|a| a.i) != Some(1) {
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
        if attribute(node, "axis").map_or(0, |a| a.i) != 1 {
            return Err("splits along another axis than the channels".into());
        }
        let parts: Vec<usize> = match node.input.get(1).filter(|name| !name.is_empty()) {
            Some(name) => {
                let tensor = self.constants.get(name.as_str()).ok_or("parts that are not constant")?;
                integers(tensor)?.iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect()
            }
            None => vec![channels / node.output.len().max(1); node.output.len()],
        };
        if parts.len() != node.output.len() || parts.iter().sum::<usize>() != channels || parts.contains(&0) {
            return Err(format!("parts {parts:?} of {channels} channels"));
        }
        let mut first = 0;
        for (name, part) in node.output.iter().zip(parts) {
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
        let scales = match node.input.get(2).filter(|name| !name.is_empty()) {
            Some(name) => self.floats(name)?,
            None => Vec::new(),
        };
        let sizes = match node.input.get(3).filter(|name| !name.is_empty()) {
            Some(name) => integers(self.constants.get(name.as_str()).ok_or("sizes that are not constant")?)?,
            None => Vec::new(),
        };
        let doubled = scales == [1.0, 1.0, 2.0, 2.0]
            || sizes == [1, channels as i32, 2 * height as i32, 2 * width as i32];
        // Twice as large, each of these rules reads pixel (y / 2, x / 2).
        let rule = matches!(
            (text("coordinate_transformation_mode").as_str(), text("nearest_mode").as_str()),
            ("asymmetric", "floor")
                | ("half_pixel" | "pytorch_half_pixel" | "", "round_prefer_floor" | "round_prefer_ceil" | "")
        );
        if !doubled || text("mode") != "nearest" || !rule {
            return Err("is no nearest upsampling to twice the size".into());
        }
        self.wait(
            node,
            Waiting::Op(Op::Upsample),
            vec![input],
            [channels, 2 * height, 2 * width],
            Form::Plain,
        )
    }
}

/// A square window from `kernel_shape`, `strides`, `pads`; and the output's shape, channels as the input's.
fn window(
    node: &pb::NodeProto,
    input: [usize; 3],
    kernel: Option<usize>,
) -> Result<(ConvShape, [usize; 3]), String> {
    let list = |name: &str, default: &[i64]| {
        attribute(node, name).map_or_else(|| default.to_vec(), |a| a.ints.clone())
    };
    if !list("dilations", &[1, 1]).iter().all(|&d| d == 1) {
        return Err("dilated".into());
    }
    if attribute(node, "auto_pad").is_some_and(|a| !a.s.is_empty() && a.s != b"NOTSET")
        || attribute(node, "ceil_mode").is_some_and(|a| a.i != 0)
    {
        return Err("auto_pad or ceil_mode".into());
    }
    let small =
        |n: i64| usize::try_from(n).ok().filter(|&n| n <= 16).ok_or("a window of more than 16 pixels");
    let k = list("kernel_shape", &kernel.map_or(vec![], |k| vec![k as i64; 2]));
    let (strides, pads) = (list("strides", &[1, 1]), list("pads", &[0; 4]));
    let (&[ky, kx], &[sy, sx], &[top, left, bottom, right]) = (&k[..], &strides[..], &pads[..]) else {
        return Err("a window that is not of two dimensions".into());
    };
    if ky != kx || sy != sx || top != left || kernel.is_some_and(|kernel| kernel as i64 != ky) {
        return Err("a window that is not square".into());
    }
    let shape = ConvShape { kernel: small(ky)?, stride: small(sy)?, pad: small(top)? };
    if shape.kernel == 0 || shape.stride == 0 || shape.pad >= shape.kernel {
        return Err("a window of no size".into());
    }
    let side = |size: usize, after: i64| {
        let whole = size + shape.pad + small(after)?;
        whole
            .checked_sub(shape.kernel)
            .map(|rest| rest / shape.stride + 1)
            .ok_or("a window larger than its input")
    };
    Ok((shape, [input[0], side(input[1], bottom)?, side(input[2], right)?]))
}
