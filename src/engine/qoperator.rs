//! QOperator form (`QLinearConv` and its kin, operators on codes) rewritten as QDQ form, so that one reader
//! knows one form and tract, which knows few of these operators, can run what is left over.

use std::collections::HashMap;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

/// Names of scale and zero point of a value made of codes; no zero point is an empty name.
type Parameters = (String, String);

/// Rewrites each QOperator node of `graph` as DequantizeLinear nodes, the float operator, and a
/// QuantizeLinear. A graph without any stays as it is.
///
/// Sources of the forms: ONNX operator `QLinearConv`, and onnxruntime's `ContribOperators.md` for those of
/// `com.microsoft`.
pub fn rewrite(graph: &mut pb::GraphProto) {
    if !graph.node.iter().any(|node| node.op_type.starts_with("QLinear")) {
        return;
    }
    let mut rewriter = Rewriter { known: HashMap::new(), nodes: Vec::new(), constants: Vec::new(), fresh: 0 };
    for node in std::mem::take(&mut graph.node) {
        rewriter.node(node, graph);
    }
    graph.node = rewriter.nodes;
    graph.initializer.extend(rewriter.constants);
}

struct Rewriter {
    known: HashMap<String, Parameters>,
    nodes: Vec<pb::NodeProto>,
    constants: Vec<pb::TensorProto>,
    fresh: usize,
}

impl Rewriter {
    fn node(&mut self, mut node: pb::NodeProto, graph: &pb::GraphProto) {
        let input = |i: usize| node.input.get(i).cloned().unwrap_or_default();
        let parameters = |i: usize| (input(i), input(i + 1));
        match node.op_type.as_str() {
            "QuantizeLinear" => {
                if let Some(output) = node.output.first() {
                    self.known.insert(output.clone(), parameters(1));
                }
                self.nodes.push(node);
            }
            // x, its scale and zero point, w, its scale and zero point, those of y, and the bias in steps
            // of both scales.
            "QLinearConv" if node.input.len() >= 8 => {
                let (x, w) =
                    (self.dequantised(&input(0), parameters(1)), self.dequantised(&input(3), parameters(4)));
                let mut inputs = vec![x, w];
                if !input(8).is_empty() {
                    match self.product(graph, &input(1), &input(4)) {
                        Some(scale) => inputs.push(self.dequantised(&input(8), (scale, String::new()))),
                        // Left as it is: the reader names it.
                        None => return self.nodes.push(node),
                    }
                }
                let after = parameters(6);
                self.between("Conv", inputs, after, node);
            }
            "QLinearAdd" if node.input.len() >= 7 => {
                let inputs = vec![
                    self.dequantised(&input(0), parameters(1)),
                    self.dequantised(&input(3), parameters(4)),
                ];
                let after = parameters(6);
                self.between("Add", inputs, after, node);
            }
            "QLinearLeakyRelu" | "QLinearSigmoid" if node.input.len() >= 4 => {
                let inputs = vec![self.dequantised(&input(0), parameters(1))];
                let after = parameters(3);
                let op = if node.op_type == "QLinearSigmoid" { "Sigmoid" } else { "LeakyRelu" };
                self.between(op, inputs, after, node);
            }
            // Scale and zero point of the result come first, then three inputs a part.
            "QLinearConcat" if node.input.len() >= 5 => {
                let inputs = (2..node.input.len())
                    .step_by(3)
                    .map(|i| self.dequantised(&input(i), parameters(i + 1)))
                    .collect();
                let after = parameters(0);
                self.between("Concat", inputs, after, node);
            }
            // Operators that move codes or compare them do so on real values just as well.
            "MaxPool" | "Resize" | "Reshape" | "Transpose" | "Split" | "Concat" | "Slice" | "Squeeze"
            | "Unsqueeze" | "Flatten"
                if node.input.first().is_some_and(|name| self.known.contains_key(name)) =>
            {
                let parts = if node.op_type == "Concat" { node.input.len() } else { 1 };
                let Some(after) = self.known.get(&input(0)).cloned() else { return };
                let same = (0..parts).all(|i| self.known.get(&input(i)) == Some(&after));
                if !same {
                    return self.nodes.push(node);
                }
                let mut inputs: Vec<String> =
                    (0..parts).map(|i| self.dequantised(&input(i), after.clone())).collect();
                inputs.extend(node.input.drain(..).skip(parts));
                let op = node.op_type.clone();
                self.between(&op, inputs, after, node);
            }
            _ => self.nodes.push(node),
        }
    }

    fn name(&mut self, of: &str) -> String {
        self.fresh += 1;
        format!("{of}/real{}", self.fresh)
    }

    fn dequantised(&mut self, codes: &str, (scale, zero): Parameters) -> String {
        let real = self.name(codes);
        let mut input = vec![codes.to_owned(), scale];
        if !zero.is_empty() {
            input.push(zero);
        }
        let axis = pb::AttributeProto {
            name: "axis".into(),
            r#type: pb::attribute_proto::AttributeType::Int as i32,
            i: 0,
            ..Default::default()
        };
        self.nodes.push(pb::NodeProto {
            name: real.clone(),
            op_type: "DequantizeLinear".into(),
            input,
            output: vec![real.clone()],
            attribute: vec![axis],
            ..Default::default()
        });
        real
    }

    /// `node` as `op` on real values, and a quantiser after each of its outputs.
    fn between(&mut self, op: &str, inputs: Vec<String>, after: Parameters, mut node: pb::NodeProto) {
        let outputs = std::mem::take(&mut node.output);
        node.output = outputs.iter().map(|output| self.name(output)).collect();
        let reals = node.output.clone();
        (node.op_type, node.domain, node.input) = (op.to_owned(), String::new(), inputs);
        let name = if node.name.is_empty() {
            outputs.first().cloned().unwrap_or_default()
        } else {
            node.name.clone()
        };
        self.nodes.push(pb::NodeProto { name: name.clone(), ..node });
        for (real, output) in reals.into_iter().zip(outputs) {
            let mut input = vec![real, after.0.clone()];
            if !after.1.is_empty() {
                input.push(after.1.clone());
            }
            self.nodes.push(pb::NodeProto {
                name: format!("{name}/quantised"),
                op_type: "QuantizeLinear".into(),
                input,
                output: vec![output.clone()],
                ..Default::default()
            });
            self.known.insert(output, after.clone());
        }
    }

    /// A new constant: the scale of a bias, one number or one an output.
    fn product(&mut self, graph: &pb::GraphProto, x: &str, w: &str) -> Option<String> {
        let floats = |name: &str| {
            let tensor = graph.initializer.iter().find(|tensor| tensor.name == name)?;
            (tensor.data_type == DataType::Float as i32).then(|| match tensor.raw_data.as_chunks::<4>().0 {
                [] => tensor.float_data.clone(),
                raw => raw.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            })
        };
        let (x, scales) = (floats(x)?, floats(w)?);
        let &[x] = &x[..] else { return None };
        let name = self.name(w);
        self.constants.push(pb::TensorProto {
            name: name.clone(),
            data_type: DataType::Float as i32,
            dims: if scales.len() == 1 { vec![] } else { vec![scales.len() as i64] },
            float_data: scales.iter().map(|scale| x * scale).collect(),
            ..Default::default()
        });
        Some(name)
    }
}
