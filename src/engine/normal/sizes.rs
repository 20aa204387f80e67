//! How large the values of a graph are, as far as that follows from its constants and the input's shape:
//! worked out before the float engine, which allocates whatever a graph of constants asks for.
//!
//! Sides may be larger here than they really are, never smaller; what is not known is left out.

use std::collections::HashMap;
use tract_onnx::pb;

/// Most elements of one value: 256 MB in float. The largest picture that is taken has 12 million.
pub const MAX_ELEMENTS: u64 = 1 << 26;
/// Most numbers of a value that are followed, such as the sides of a shape.
pub const MAX_VALUES: u64 = 64;

/// What is known of a value.
#[derive(Debug, Clone, Default)]
struct Known {
    dims: Option<Vec<i64>>,
    values: Option<Vec<f64>>,
    /// It follows from constants alone, so the float engine works it out while it loads, and keeps it.
    constant: bool,
}

/// What is known of all values, by name.
#[derive(Debug, Default)]
pub struct Sizes {
    known: HashMap<String, Known>,
    /// Elements of all values that follow from constants.
    constants: u64,
}

impl Sizes {
    /// Adds a constant.
    pub fn constant(&mut self, name: &str, dims: Vec<i64>, values: Option<Vec<f64>>) {
        self.known.insert(name.to_owned(), Known { dims: Some(dims), values, constant: true });
    }

    /// Adds an input of the graph.
    ///
    /// # Errors
    /// If it is larger than a value may be.
    pub fn input(&mut self, input: &pb::ValueInfoProto) -> Result<(), String> {
        use pb::tensor_shape_proto::dimension::Value;
        if self.known.contains_key(&input.name) {
            return Ok(());
        }
        let Some(pb::type_proto::Value::TensorType(tensor)) =
            input.r#type.as_ref().and_then(|kind| kind.value.as_ref())
        else {
            return Ok(());
        };
        let side = |dim: &pb::tensor_shape_proto::Dimension| match dim.value {
            Some(Value::DimValue(n)) if n > 0 => Some(n),
            _ => None,
        };
        let dims: Option<Vec<i64>> =
            tensor.shape.as_ref().and_then(|shape| shape.dim.iter().map(side).collect());
        if let Some(dims) = &dims {
            bounded(dims).map_err(|reason| format!("input `{}`: {reason}", input.name))?;
        }
        self.known.insert(input.name.clone(), Known { dims, values: None, constant: false });
        Ok(())
    }

    /// Adds the results of a node.
    ///
    /// # Errors
    /// If one is larger than a value may be.
    pub fn node(&mut self, node: &pb::NodeProto) -> Result<(), String> {
        let inputs: Vec<Known> =
            node.input.iter().map(|name| self.known.get(name).cloned().unwrap_or_default()).collect();
        let constant = inputs.iter().all(|input| input.constant);
        let reading = Reading { node, inputs };
        for (i, name) in node.output.iter().enumerate() {
            let Known { dims, values, .. } = reading.result(i);
            if let Some(dims) = &dims {
                let elements = bounded(dims)?;
                self.constants += if constant { elements } else { 0 };
            }
            if self.constants > MAX_ELEMENTS {
                return Err(format!("its constants make more than {MAX_ELEMENTS} numbers"));
            }
            let values = values.filter(|values| values.len() as u64 <= MAX_VALUES);
            self.known.insert(name.clone(), Known { dims, values, constant });
        }
        Ok(())
    }
}

/// Elements of a value of these sides.
fn bounded(dims: &[i64]) -> Result<u64, String> {
    let product = |all: u64, &side: &i64| all.checked_mul(side.max(0) as u64);
    let elements = dims.iter().try_fold(1, product).filter(|&all| all <= MAX_ELEMENTS);
    elements.ok_or_else(|| format!("a value of shape {dims:?}, at most {MAX_ELEMENTS} numbers are taken"))
}

/// A node with what is known of its inputs.
struct Reading<'a> {
    node: &'a pb::NodeProto,
    inputs: Vec<Known>,
}

impl Reading<'_> {
    /// Result `i`.
    fn result(&self, i: usize) -> Known {
        if self.node.op_type == "Split" {
            return Known { dims: self.split(i), ..Known::default() };
        }
        if i > 0 {
            return Known::default();
        }
        let values = self.values();
        let dims = self.dims().or_else(|| values.as_ref().map(|values| vec![values.len() as i64]));
        Known { dims, values, ..Known::default() }
    }

    fn attribute(&self, name: &str) -> Option<&pb::AttributeProto> {
        self.node.attribute.iter().find(|a| a.name == name)
    }

    fn input_dims(&self, i: usize) -> Option<&Vec<i64>> {
        self.inputs.get(i)?.dims.as_ref()
    }

    fn input_values(&self, i: usize) -> Option<&Vec<f64>> {
        self.inputs.get(i)?.values.as_ref()
    }

    /// Whole numbers of input `i`.
    fn wholes(&self, i: usize) -> Option<Vec<i64>> {
        Some(self.input_values(i)?.iter().map(|&v| v as i64).collect())
    }

    /// Sides of the first result.
    fn dims(&self) -> Option<Vec<i64>> {
        let first = self.input_dims(0).cloned();
        match self.node.op_type.as_str() {
            "ConstantOfShape" => self.wholes(0),
            "Expand" => broadcast(&first?, &self.wholes(1)?),
            "Tile" => scaled(&first?, self.input_values(1)?),
            "Upsample" => match self.attribute("scales") {
                Some(scales) => {
                    scaled(&first?, &scales.floats.iter().map(|&s| f64::from(s)).collect::<Vec<_>>())
                }
                None => scaled(&first?, self.input_values(1)?),
            },
            "Resize" => self.resized(&first?),
            "Range" => {
                let [from, to, step] = [0, 1, 2].map(|i| self.input_values(i).and_then(|v| v.first()));
                Some(vec![((to? - from?) / step?).ceil().max(0.0) as i64])
            }
            "OneHot" => {
                let depth = *self.wholes(1)?.first()?;
                Some([first?, vec![depth]].concat())
            }
            "Pad" => self.padded(&first?),
            "Reshape" => self.reshaped(&first?),
            "Shape" => Some(vec![first?.len() as i64]),
            "RandomNormal" | "RandomUniform" => Some(self.attribute("shape")?.ints.clone()),
            "Conv" | "MaxPool" | "AveragePool" | "LpPool" | "ConvTranspose" => self.windowed(&first?),
            "Concat" => self.joined(),
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Min" | "Sum" | "Mean" | "Equal" | "Less"
            | "Greater" | "And" | "Or" | "Where" | "PRelu" | "Mod" => {
                (1..self.inputs.len()).try_fold(first?, |all, i| broadcast(&all, self.input_dims(i)?))
            }
            "MatMul" => {
                let (a, b) = (first?, self.input_dims(1)?);
                let (rows, outer) = a.split_last().map(|(_, rest)| rest).and_then(<[i64]>::split_last)?;
                let (columns, inner) = b.split_last()?;
                let outer = broadcast(outer, &inner[..inner.len().saturating_sub(1)])?;
                Some([outer, vec![*rows, *columns]].concat())
            }
            "Gather" => {
                let axis = self.axis(first.as_ref()?.len(), 0)?;
                let (data, indices) = (first?, self.input_dims(1)?);
                Some([&data[..axis], indices, &data[axis + 1..]].concat())
            }
            "Transpose" => {
                let dims = first?;
                let Some(perm) = self.attribute("perm") else {
                    return Some(dims.into_iter().rev().collect());
                };
                perm.ints.iter().map(|&i| dims.get(usize::try_from(i).ok()?).copied()).collect()
            }
            "DepthToSpace" => {
                let (&[n, c, h, w], size) = (&first?[..], self.attribute("blocksize")?.i.max(1)) else {
                    return None;
                };
                Some(vec![n, c / size / size, h * size, w * size])
            }
            // As the first input, or smaller on the way to one pixel.
            "QuantizeLinear"
            | "DequantizeLinear"
            | "Identity"
            | "Dropout"
            | "Cast"
            | "Relu"
            | "LeakyRelu"
            | "Clip"
            | "Sigmoid"
            | "HardSigmoid"
            | "HardSwish"
            | "Tanh"
            | "Exp"
            | "Log"
            | "Sqrt"
            | "Erf"
            | "Neg"
            | "Abs"
            | "Floor"
            | "Ceil"
            | "Round"
            | "Softmax"
            | "Elu"
            | "Softplus"
            | "Mish"
            | "Not"
            | "BatchNormalization"
            | "InstanceNormalization"
            | "LRN"
            | "CumSum"
            | "Reciprocal"
            | "Trilu"
            | "GlobalAveragePool"
            | "GlobalMaxPool" => first,
            _ => None,
        }
    }

    /// An axis of a value with `rank` sides.
    fn axis(&self, rank: usize, default: i64) -> Option<usize> {
        let axis = self.attribute("axis").map_or(default, |a| a.i);
        let axis = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(axis).ok().filter(|&axis| axis < rank)
    }

    fn resized(&self, first: &[i64]) -> Option<Vec<i64>> {
        if let Some(sizes) = self.wholes(3).filter(|sizes| !sizes.is_empty()) {
            return Some(sizes);
        }
        let scales = if self.inputs.len() == 2 { 1 } else { 2 };
        scaled(first, self.input_values(scales)?)
    }

    fn padded(&self, first: &[i64]) -> Option<Vec<i64>> {
        let pads = match self.attribute("pads") {
            Some(pads) => pads.ints.clone(),
            None => self.wholes(1)?,
        };
        // With axes, pads may belong to any: the largest pair stands for all.
        if pads.len() != 2 * first.len() {
            let most = pads.iter().max()?.saturating_mul(2);
            return Some(first.iter().map(|side| side.saturating_add(most)).collect());
        }
        let side =
            |(i, side): (usize, &i64)| side.saturating_add(pads[i]).saturating_add(pads[i + first.len()]);
        Some(first.iter().enumerate().map(side).collect())
    }

    fn reshaped(&self, first: &[i64]) -> Option<Vec<i64>> {
        let to = self.wholes(1)?;
        let copied: Option<Vec<i64>> = to
            .iter()
            .enumerate()
            .map(|(i, &side)| if side == 0 { first.get(i).copied() } else { Some(side) })
            .collect();
        let mut copied = copied?;
        let product = |sides: &[i64]| sides.iter().fold(1i64, |all, &side| all.saturating_mul(side));
        let all = product(first);
        let known: Vec<i64> = copied.iter().copied().filter(|&side| side != -1).collect();
        let others = product(&known);
        if let Some(open) = copied.iter_mut().find(|side| **side == -1) {
            *open = all.checked_div(others)?;
        }
        Some(copied)
    }

    fn windowed(&self, first: &[i64]) -> Option<Vec<i64>> {
        let (&[n, c, ref spatial @ ..], turned) = (first, self.node.op_type == "ConvTranspose") else {
            return None;
        };
        let list = |name: &str| self.attribute(name).map(|a| a.ints.as_slice()).unwrap_or_default();
        let weights = self.input_dims(1);
        let channels = match (&weights, turned) {
            (Some(w), false) => *w.first()?,
            (Some(w), true) => w.get(1)?.saturating_mul(self.attribute("group").map_or(1, |a| a.i)),
            (None, _) if self.node.op_type.ends_with("Pool") => c,
            _ => return None,
        };
        let kernel = |i: usize| {
            let own = list("kernel_shape").get(i).copied();
            own.or_else(|| weights?.get(i + 2).copied()).unwrap_or(1)
        };
        let side = |(i, &side): (usize, &i64)| {
            let at = |name: &str, i: usize, default: i64| list(name).get(i).copied().unwrap_or(default);
            let stride = at("strides", i, 1).max(1);
            if turned {
                let own = at("output_shape", i, 0);
                let window = kernel(i).saturating_mul(at("dilations", i, 1));
                let made = side.saturating_mul(stride).saturating_add(window);
                return own.max(made.saturating_add(at("output_padding", i, 0)));
            }
            let pads = at("pads", i, 0).saturating_add(at("pads", i + spatial.len(), 0));
            side.saturating_add(pads) / stride + 1
        };
        Some([n, channels].into_iter().chain(spatial.iter().enumerate().map(side)).collect())
    }

    /// Sides of part `i`.
    fn split(&self, i: usize) -> Option<Vec<i64>> {
        let mut dims = self.input_dims(0)?.clone();
        let axis = self.axis(dims.len(), 0)?;
        let count = self.node.output.len() as i64;
        let parts = match self.attribute("split") {
            Some(split) => Some(split.ints.clone()),
            None => self.wholes(1),
        };
        dims[axis] = match parts {
            Some(parts) => *parts.get(i)?,
            // Whatever says the parts is not known.
            None if self.inputs.len() > 1 => return None,
            None => (dims[axis] + count - 1) / count,
        };
        Some(dims)
    }

    fn joined(&self) -> Option<Vec<i64>> {
        let mut all = self.input_dims(0)?.clone();
        let axis = self.axis(all.len(), 0)?;
        for i in 1..self.inputs.len() {
            all[axis] = all[axis].saturating_add(*self.input_dims(i)?.get(axis)?);
        }
        Some(all)
    }

    /// The numbers of the result, where those of the inputs are known.
    fn values(&self) -> Option<Vec<f64>> {
        let pairwise = |apply: fn(f64, f64) -> f64| {
            let (a, b) = (self.input_values(0)?, self.input_values(1)?);
            match (a.len(), b.len()) {
                (n, m) if n == m => Some(a.iter().zip(b).map(|(&a, &b)| apply(a, b)).collect()),
                (_, 1) => Some(a.iter().map(|&a| apply(a, b[0])).collect()),
                (1, _) => Some(b.iter().map(|&b| apply(a[0], b)).collect()),
                _ => None,
            }
        };
        match self.node.op_type.as_str() {
            // `start` and `end` take a part.
            "Shape" if self.node.attribute.is_empty() => {
                Some(self.input_dims(0)?.iter().map(|&side| side as f64).collect())
            }
            "Identity" | "Cast" | "Unsqueeze" | "Squeeze" | "Reshape" => self.input_values(0).cloned(),
            "Floor" => Some(self.input_values(0)?.iter().map(|v| v.floor()).collect()),
            "Ceil" => Some(self.input_values(0)?.iter().map(|v| v.ceil()).collect()),
            "Add" => pairwise(|a, b| a + b),
            "Sub" => pairwise(|a, b| a - b),
            "Mul" => pairwise(|a, b| a * b),
            "Div" => pairwise(|a, b| a / b),
            "Max" => pairwise(f64::max),
            "Min" => pairwise(f64::min),
            "Concat" => {
                let parts: Option<Vec<_>> =
                    (0..self.inputs.len()).map(|i| self.input_values(i).cloned()).collect();
                Some(parts?.concat())
            }
            "Gather" => {
                let data = self.input_values(0)?;
                let at = |&i: &i64| {
                    let i = if i < 0 { i + data.len() as i64 } else { i };
                    data.get(usize::try_from(i).ok()?).copied()
                };
                self.wholes(1)?.iter().map(at).collect()
            }
            "Slice" => {
                let (data, from, to) = (self.input_values(0)?, self.wholes(1)?, self.wholes(2)?);
                if self.wholes(4).is_some_and(|steps| steps != [1]) || from.len() != 1 || to.len() != 1 {
                    return None;
                }
                let at = |i: i64| {
                    let i = if i < 0 { i.saturating_add(data.len() as i64) } else { i };
                    i.clamp(0, data.len() as i64) as usize
                };
                data.get(at(from[0])..at(to[0])).map(<[f64]>::to_vec)
            }
            "ConstantOfShape" => {
                let count = self.wholes(0)?.iter().try_fold(1i64, |all, &side| all.checked_mul(side))?;
                let value = self.attribute("value").and_then(|a| a.t.as_ref());
                let value = match value {
                    None => 0.0,
                    Some(t) if t.data_type == pb::tensor_proto::DataType::Int64 as i32 => {
                        let raw = t.raw_data.first_chunk::<8>().map(|b| i64::from_le_bytes(*b));
                        t.int64_data.first().copied().or(raw)? as f64
                    }
                    Some(_) => return None,
                };
                (0..=MAX_VALUES as i64).contains(&count).then(|| vec![value; count as usize])
            }
            _ => None,
        }
    }
}

/// Sides of two values together, each of them as long as the longer one.
fn broadcast(a: &[i64], b: &[i64]) -> Option<Vec<i64>> {
    let rank = a.len().max(b.len());
    let side = |dims: &[i64], i: usize| (i + dims.len()).checked_sub(rank).map_or(1, |at| dims[at]);
    Some((0..rank).map(|i| side(a, i).max(side(b, i))).collect())
}

fn scaled(dims: &[i64], scales: &[f64]) -> Option<Vec<i64>> {
    // With axes, scales may belong to any: the largest stands for all.
    let most = scales.iter().copied().fold(0.0, f64::max);
    let scale = |i: usize| if scales.len() == dims.len() { scales[i] } else { most };
    Some(dims.iter().enumerate().map(|(i, &side)| (side as f64 * scale(i)).ceil() as i64).collect())
}
