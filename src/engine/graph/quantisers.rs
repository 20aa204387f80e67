//! `QuantizeLinear` and `DequantizeLinear`: where codes begin, and where an operation that waits learns the
//! scale of its result.

use super::{
    Form, Node, Op, Pending, Reader, Refusal, Tensor, Unary, Value, Waiting, attribute, checked, integers,
    label, output, table,
};
use crate::engine::leftover::Real;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

impl<'a> Reader<'a, '_> {
    /// Scale (finite, above 0) and zero point (in the range of its type, moved to 0..=255) of a
    /// (de)quantiser.
    fn parameters(&self, node: &pb::NodeProto) -> Result<(Vec<f32>, Vec<i32>, bool), Refusal> {
        let scales = self.floats(node.input.get(1).ok_or("no scale")?)?;
        if scales.is_empty() || !scales.iter().all(|s| s.is_finite() && *s > 0.0) {
            return Err(Refusal::Broken("a scale that is not finite and above 0".into()));
        }
        let (zeros, signed) = match node.input.get(2).filter(|name| !name.is_empty()) {
            None => (vec![0; scales.len()], false),
            Some(name) => {
                let tensor = self.constants.get(name.as_str()).ok_or("a zero point that is not constant")?;
                let kind = tensor.data_type;
                // Codes of other types are refused before; s32 are constants.
                (integers(tensor)?, kind == DataType::Int8 as i32)
            }
        };
        if zeros.len() != scales.len() {
            return Err(Refusal::Broken("scales and zero points differ in number".into()));
        }
        Ok((scales, zeros, signed))
    }

    pub(super) fn quantise(&mut self, node: &'a pb::NodeProto) -> Result<(), Refusal> {
        let (scales, zeros, signed) = self.parameters(node)?;
        let (&[scale], &[zero]) = (&scales[..], &zeros[..]) else {
            return Err("activations quantised by channel".into());
        };
        let zero = if signed { zero.saturating_add(128) } else { zero };
        if !(0..=255).contains(&zero) {
            return Err(Refusal::Broken(format!("zero point {zero} out of range")));
        }
        let name = node.input.first().ok_or("no input")?.as_str();
        if let Some(&found) = self.quantised.get(name)
            && self.same(found.0, scale, zero)
        {
            self.codes.insert(output(node)?, found);
            return Ok(());
        }
        let value = self.values.get(name).cloned().ok_or_else(|| format!("input `{name}` is not known"))?;
        let found = match value {
            Value::Input if self.input.is_none() => {
                let tensor = self.tensor(scale, zero, self.input_shape);
                self.input = Some(tensor);
                (tensor, Form::Plain)
            }
            Value::Input => return Err("the input is quantised twice".into()),
            Value::Real(real) => {
                let Real { data_type, shape, .. } = &self.reals[real];
                let &[1, channels, height, width] = &shape[..] else {
                    return Err(format!("quantises a shape of {shape:?}").into());
                };
                if *data_type != DataType::Float as i32 {
                    return Err("quantises what is not f32".into());
                }
                checked([channels, height, width])?;
                let output = self.tensor(scale, zero, [channels, height, width]);
                self.nodes.push(Node {
                    name: label(node).to_owned(),
                    op: Op::Quantise(real),
                    inputs: Vec::new(),
                    output,
                });
                (output, Form::Plain)
            }
            Value::Codes(tensor, form) if self.same(tensor, scale, zero) => (tensor, form),
            Value::Codes(tensor, Form::Plain) => {
                let shape = self.tensors[tensor].shape;
                (self.table(label(node), &[Unary::Identity], tensor, scale, zero, shape), Form::Plain)
            }
            Value::Codes(..) | Value::Constant { .. } => {
                return Err("no integer form of this requantisation".into());
            }
            Value::Pending(pending) => {
                let Pending { name, op, inputs, shape, form } = *pending;
                match op {
                    Waiting::Same if self.same(inputs[0], scale, zero) => (inputs[0], form),
                    Waiting::Same => return Err("a channel shuffle between different scales".into()),
                    Waiting::Unary(unary) => (self.table(&name, &unary, inputs[0], scale, zero, shape), form),
                    // A maximum is taken on codes as they are; what follows moves them to the other scale,
                    // as two roundings of one value.
                    Waiting::Op(op @ Op::MaxPool(_)) if !self.same(inputs[0], scale, zero) => {
                        let Tensor { scale: own, zero: own_zero, .. } = self.tensors[inputs[0]];
                        let output = self.tensor(own, own_zero, shape);
                        self.nodes.push(Node { name: name.clone(), op, inputs, output });
                        (self.table(&name, &[Unary::Identity], output, scale, zero, shape), form)
                    }
                    Waiting::Op(op) => {
                        let output = self.tensor(scale, zero, shape);
                        self.nodes.push(Node { name, op, inputs, output });
                        (output, form)
                    }
                }
            }
        };
        self.quantised.insert(name, found);
        self.codes.insert(output(node)?, found);
        Ok(())
    }

    fn same(&self, tensor: usize, scale: f32, zero: i32) -> bool {
        self.tensors[tensor].scale == scale && self.tensors[tensor].zero == zero
    }

    fn tensor(&mut self, scale: f32, zero: i32, shape: [usize; 3]) -> usize {
        self.tensors.push(Tensor { scale, zero, shape });
        self.tensors.len() - 1
    }

    fn table(
        &mut self,
        name: &str,
        unary: &[Unary],
        input: usize,
        scale: f32,
        zero: i32,
        shape: [usize; 3],
    ) -> usize {
        let output = self.tensor(scale, zero, shape);
        let table = table(&self.tensors[input], &self.tensors[output], |x| Unary::chain(unary, x));
        self.nodes.push(Node { name: name.to_owned(), op: Op::Table(table), inputs: vec![input], output });
        output
    }

    pub(super) fn dequantise(&mut self, node: &'a pb::NodeProto) -> Result<(), Refusal> {
        let name = node.input.first().ok_or("no input")?.as_str();
        let value = match (self.codes.get(name), self.constants.get(name)) {
            (Some(&(tensor, form)), _) => {
                let (scales, zeros, signed) = self.parameters(node)?;
                let zero = zeros[0].saturating_add(if signed { 128 } else { 0 });
                if scales.len() != 1 || !self.same(tensor, scales[0], zero) {
                    return Err("dequantises with another scale than it was quantised with".into());
                }
                Value::Codes(tensor, form)
            }
            (None, Some(constant)) => {
                let (scales, zeros, _) = self.parameters(node)?;
                let mut codes = integers(constant)?;
                let shape: Vec<usize> =
                    constant.dims.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
                // The axis is 1 where nothing says it, but for a bias, which has no other than 0.
                let axis = attribute(node, "axis").map_or(i64::from(shape.len() > 1), |a| a.i);
                let first = axis == 0 || axis == -(shape.len() as i64);
                if scales.len() > 1 && (!first || shape.first() != Some(&scales.len())) {
                    return Err("weights quantised along another axis than the outputs".into());
                }
                if zeros.iter().any(|&z| z != zeros[0]) {
                    return Err("zero points that differ by channel".into());
                }
                codes.iter_mut().for_each(|code| *code = code.saturating_sub(zeros[0]));
                Value::Constant { codes, scales, shape }
            }
            (None, None) => return Err(format!("input `{name}` is not known").into()),
        };
        self.values.insert(output(node)?, value);
        Ok(())
    }
}
