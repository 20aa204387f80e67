//! A model's own functions, put in the place of the nodes that call them: whoever reads the graph then meets
//! operators only. A function may have the name of an operator, in its own domain or in ONNX's.

use crate::engine::{label, named, schema};
use prost::Message;
use std::collections::HashMap;
use tract_onnx::pb;

/// Functions within functions: deeper ones call themselves, or might as well.
const MAX_DEPTH: usize = 16;

/// What tract's types leave out of a function.
#[derive(Clone, PartialEq, Message)]
struct Rest {
    /// Attributes with a default.
    #[prost(message, repeated, tag = "11")]
    defaults: Vec<pb::AttributeProto>,
    /// Which of several functions of one name.
    #[prost(string, optional, tag = "13")]
    overload: Option<String>,
}

/// What tract's types leave out of a model, for its functions in order.
#[derive(Clone, PartialEq, Message)]
struct Rests {
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Rest>,
}

struct Function {
    body: pb::FunctionProto,
    defaults: Vec<pb::AttributeProto>,
}

/// Domain and name.
type Key = (String, String);

/// Puts the functions of `model`, whose file is `bytes`, in the place of the nodes that call them; the graph
/// has at most `most` nodes after it.
///
/// # Errors
/// The node or function that does not hold, and why.
pub fn inline(model: &mut pb::ModelProto, bytes: &[u8], most: usize) -> Result<(), String> {
    if model.functions.is_empty() {
        return Ok(());
    }
    let rests = Rests::decode(bytes).map_err(|e| e.to_string())?;
    let opset = schema::opset(&model.opset_import)?;
    let mut functions = HashMap::new();
    for (body, rest) in std::mem::take(&mut model.functions).into_iter().zip(rests.functions) {
        let (key, defaults) = (key(body.domain(), body.name()), rest.defaults);
        check(&body, opset).map_err(|reason| format!("function `{}`: {reason}", key.1))?;
        if rest.overload.is_some_and(|name| !name.is_empty())
            || functions.insert(key.clone(), Function { body, defaults }).is_some()
        {
            return Err(format!("function `{}` is there more than once", key.1));
        }
    }
    let Some(graph) = &mut model.graph else { return Ok(()) };
    let mut inliner = Inliner { functions, nodes: Vec::new(), calls: 0, most };
    for node in std::mem::take(&mut graph.node) {
        inliner.node(node, 0)?;
    }
    graph.node = inliner.nodes;
    Ok(())
}

fn key(domain: &str, name: &str) -> Key {
    (if schema::is_onnx(domain) { String::new() } else { domain.to_owned() }, name.to_owned())
}

/// A function's body means in `opset`, the model's, what it means in its own.
fn check(body: &pb::FunctionProto, opset: i64) -> Result<(), String> {
    let own = schema::opset(&body.opset_import).unwrap_or(opset);
    for node in &body.node {
        if node.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty()) {
            return Err(format!("{} within it has a graph within", node.op_type));
        }
        let version = |opset| schema::find(&node.domain, &node.op_type, opset).ok();
        if schema::is_onnx(&node.domain) && version(own) != version(opset) {
            return Err(format!("{} means another thing in its opset {own} than in {opset}", node.op_type));
        }
    }
    Ok(())
}

struct Inliner {
    functions: HashMap<Key, Function>,
    nodes: Vec<pb::NodeProto>,
    calls: usize,
    most: usize,
}

impl Inliner {
    fn node(&mut self, node: pb::NodeProto, depth: usize) -> Result<(), String> {
        let Some(function) = self.functions.get(&key(&node.domain, &node.op_type)) else {
            if self.nodes.len() >= self.most {
                return Err(format!("more than {} nodes with its functions", self.most));
            }
            self.nodes.push(node);
            return Ok(());
        };
        if depth == MAX_DEPTH {
            return Err(named(&node, &format!("functions within functions, more than {MAX_DEPTH} deep")));
        }
        self.calls += 1;
        let body = function.body(&node, self.calls).map_err(|reason| named(&node, &reason))?;
        body.into_iter().try_for_each(|inner| self.node(inner, depth + 1))
    }
}

impl Function {
    /// The nodes that stand for `call`, the `number`-th of all.
    fn body(&self, call: &pb::NodeProto, number: usize) -> Result<Vec<pb::NodeProto>, String> {
        let body = &self.body;
        if call.input.len() > body.input.len() || call.output.len() > body.output.len() {
            return Err("more inputs or outputs than its function has".into());
        }
        let known = |name: &String| {
            body.attribute.contains(name) || self.defaults.iter().any(|default| default.name == *name)
        };
        if let Some(other) = call.attribute.iter().find(|attribute| !known(&attribute.name)) {
            return Err(format!("its function has no attribute `{}`", other.name));
        }
        let given = |name: &String| {
            let at = body.input.iter().position(|formal| formal == name)?;
            Some(call.input.get(at).cloned().unwrap_or_default())
        };
        let taken = |name: &String| {
            let at = body.output.iter().position(|formal| formal == name)?;
            call.output.get(at).filter(|actual| !actual.is_empty()).cloned()
        };
        // No file has a name like this: it holds a line's end.
        let inner = |name: &String| format!("{name}\n{number}");
        let renamed = |name: &String| match given(name).or_else(|| taken(name)) {
            Some(actual) => actual,
            None if name.is_empty() => String::new(),
            None => inner(name),
        };
        let mut nodes: Vec<pb::NodeProto> = body
            .node
            .iter()
            .map(|node| pb::NodeProto {
                name: format!("{}/{}", label(call), label(node)),
                input: node.input.iter().map(&renamed).collect(),
                output: node.output.iter().map(&renamed).collect(),
                attribute: self.attributes(call, node),
                ..node.clone()
            })
            .collect();
        // A function may hand an input on as it is.
        for name in &body.output {
            if let (Some(from), Some(to)) = (given(name), taken(name)) {
                nodes.push(pb::NodeProto {
                    op_type: "Identity".into(),
                    input: vec![from],
                    output: vec![to],
                    ..Default::default()
                });
            }
        }
        Ok(nodes)
    }

    /// Attributes of a node of the body: those that refer to the function's take what the call says, or the
    /// default, or fall away.
    fn attributes(&self, call: &pb::NodeProto, node: &pb::NodeProto) -> Vec<pb::AttributeProto> {
        let resolved = |attribute: &pb::AttributeProto| {
            if attribute.ref_attr_name.is_empty() {
                return Some(attribute.clone());
            }
            let find = |list: &[pb::AttributeProto]| {
                list.iter().find(|other| other.name == attribute.ref_attr_name).cloned()
            };
            let value = find(&call.attribute).or_else(|| find(&self.defaults))?;
            Some(pb::AttributeProto { name: attribute.name.clone(), ..value })
        };
        node.attribute.iter().filter_map(resolved).collect()
    }
}
