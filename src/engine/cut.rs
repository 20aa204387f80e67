//! Heads that are no outputs of the graph: the tensors that a manifest names become its outputs, and what
//! comes after them is left out.
//!
//! Many exports end in nodes that turn the heads into one table of boxes (Transpose, Reshape, Concat, also
//! NMS). The tables mix levels, so that they cannot be decoded as heads, and they cost time; the
//! convolutions before them are what a manifest can name.

use std::collections::{HashMap, HashSet};
use tract_onnx::pb;

/// Makes every tensor of `named` an output of `graph`, if one of them is none yet; nodes that no output needs
/// are then taken out. Returns, for each tensor that is given under another name, both names: one that is
/// quantised is given as its codes are read again.
///
/// A name that the graph does not have is left to be refused by whoever looks for it among the outputs.
pub fn at(graph: &mut pb::GraphProto, named: &[&str]) -> HashMap<String, String> {
    let outputs: HashSet<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    let inner = |name: &&&str| !outputs.contains(**name);
    let made: HashSet<&str> = graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
    if !named.iter().any(|name| inner(&name) && made.contains(name)) {
        return HashMap::new();
    }
    let found: Vec<&str> = named.iter().copied().filter(|name| made.contains(name)).collect();
    let aliases: HashMap<String, String> = found
        .iter()
        .filter(inner)
        .filter_map(|name| Some(((*name).to_owned(), read_again(graph, name)?)))
        .collect();
    let mut kept: Vec<String> = Vec::new();
    for name in found {
        let output = aliases.get(name).map_or(name, String::as_str);
        if !kept.iter().any(|other| other == output) {
            kept.push(output.to_owned());
        }
    }
    let mut old = std::mem::take(&mut graph.output);
    graph.output = kept
        .into_iter()
        .map(|name| match old.iter().position(|output| output.name == name) {
            Some(at) => old.swap_remove(at),
            None => pb::ValueInfoProto { name, ..Default::default() },
        })
        .collect();
    take_out_unneeded(graph);
    aliases
}

/// Where a quantised `tensor` is read again: the output of the DequantizeLinear of its codes.
fn read_again(graph: &pb::GraphProto, tensor: &str) -> Option<String> {
    let reader = |op: &str, value: &str| {
        let reads = |node: &&pb::NodeProto| {
            node.op_type == op && node.input.first().is_some_and(|input| input == value)
        };
        graph.node.iter().find(reads).and_then(|node| node.output.first()).cloned()
    };
    reader("DequantizeLinear", &reader("QuantizeLinear", tensor)?)
}

/// Takes out the nodes that no output of `graph` needs.
fn take_out_unneeded(graph: &mut pb::GraphProto) {
    let maker: HashMap<&str, usize> = graph
        .node
        .iter()
        .enumerate()
        .flat_map(|(i, node)| node.output.iter().map(move |output| (output.as_str(), i)))
        .collect();
    let mut open: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    let mut needed = vec![false; graph.node.len()];
    while let Some(value) = open.pop() {
        if let Some(&i) = maker.get(value)
            && !std::mem::replace(&mut needed[i], true)
        {
            open.extend(graph.node[i].input.iter().map(String::as_str));
            // A node with a graph of its own may read any value around it.
            open.extend(graph.node[i].attribute.iter().filter_map(|a| a.g.as_ref()).flat_map(outer_values));
        }
    }
    let mut needed = needed.into_iter();
    graph.node.retain(|_| needed.next().unwrap_or(true));
}

/// Every name that the nodes of an inner graph read, its own among them.
fn outer_values(graph: &pb::GraphProto) -> Vec<&str> {
    let mut names: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    for node in &graph.node {
        names.extend(node.input.iter().map(String::as_str));
        names.extend(node.attribute.iter().filter_map(|a| a.g.as_ref()).flat_map(outer_values));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op: &str, inputs: &[&str], output: &str) -> pb::NodeProto {
        pb::NodeProto {
            op_type: op.into(),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.into()],
            ..Default::default()
        }
    }

    /// conv -> q -> dq -> reshape, and conv2 -> reshape2; both reshaped are joined.
    fn joined() -> pb::GraphProto {
        pb::GraphProto {
            node: vec![
                node("Conv", &["x"], "conv"),
                node("QuantizeLinear", &["conv", "s", "z"], "codes"),
                node("DequantizeLinear", &["codes", "s", "z"], "again"),
                node("Reshape", &["again"], "rows"),
                node("Conv", &["x"], "conv2"),
                node("Reshape", &["conv2"], "rows2"),
                node("Concat", &["rows", "rows2"], "table"),
            ],
            output: vec![pb::ValueInfoProto { name: "table".into(), ..Default::default() }],
            ..Default::default()
        }
    }

    #[test]
    fn named_tensors_become_the_outputs_and_what_follows_them_is_gone() {
        let mut graph = joined();
        let aliases = at(&mut graph, &["conv", "conv2", "conv2", "nothing"]);
        let outputs: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
        assert_eq!(outputs, ["again", "conv2"]);
        assert_eq!(aliases.into_iter().collect::<Vec<_>>(), [("conv".to_owned(), "again".to_owned())]);
        let ops: Vec<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
        assert_eq!(ops, ["Conv", "QuantizeLinear", "DequantizeLinear", "Conv"]);
    }

    #[test]
    fn outputs_and_unknown_names_leave_the_graph_as_it_is() {
        let mut graph = joined();
        assert!(at(&mut graph, &["table", "nothing"]).is_empty());
        assert_eq!(graph, joined());
    }
}
