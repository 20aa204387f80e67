//! What each operator of ONNX takes, by domain, version and attribute: a node that says anything else is
//! refused by name before anything reads it, because whoever ignores a word of it computes something else.
//!
//! `operators.txt` holds the operators of ONNX itself, written by `operators.py` beside it; those of
//! `com.microsoft` that are known here stand below.

mod beyond;

use std::collections::HashMap;
use std::sync::LazyLock;
use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;

/// One version of an operator.
#[derive(Debug, PartialEq)]
pub struct Version {
    /// First opset it is in force in.
    since: i64,
    /// Fewest and most inputs.
    inputs: [usize; 2],
    /// Fewest and most outputs.
    outputs: [usize; 2],
    /// Name, type, and whether it must be there.
    attributes: Vec<(&'static str, AttributeType, bool)>,
    /// The operator ended with this version.
    gone: bool,
}

/// All operators, and the opsets that they are known for.
struct Table {
    opsets: [i64; 2],
    versions: HashMap<&'static str, Vec<Version>>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| table(include_str!("schema/operators.txt")));

/// Operators of `com.microsoft`: those of onnxruntime's `ContribOperators.md` that are rewritten here.
static MICROSOFT: LazyLock<Table> = LazyLock::new(|| table(MICROSOFT_OPERATORS));
const MICROSOFT_OPERATORS: &str = "\
opset 1 1
DequantizeLinear 1 2-3 1-1 axis:int block_size:int
QuantizeLinear 1 2-3 1-1 axis:int block_size:int
QGemm 1 6-9 1-1 alpha:float transA:int transB:int
QLinearAdd 1 7-8 1-1
QLinearAveragePool 1 4-5 1-1 auto_pad:string ceil_mode:int channels_last:int count_include_pad:int kernel_shape!:ints pads:ints strides:ints
QLinearConcat 1 5-* 1-1 axis!:int
QLinearConv 1 8-9 1-1 auto_pad:string channels_last:int dilations:ints group:int kernel_shape:ints pads:ints strides:ints
QLinearGlobalAveragePool 1 5-5 1-1 channels_last:int
QLinearLeakyRelu 1 4-5 1-1 alpha:float
QLinearMul 1 7-8 1-1
QLinearReduceMean 1 4-5 1-1 axes!:ints keepdims!:int
QLinearSigmoid 1 4-5 1-1
QLinearSoftmax 1 5-5 1-1 axis:int opset!:int
QLinearWhere 1 9-9 1-1
";

fn table(text: &'static str) -> Table {
    let mut lines = text.lines().map(|line| line.split(' '));
    let number = |word: Option<&str>| word.and_then(|word| word.parse().ok()).expect("a number");
    let mut first = lines.next().expect("a line of opsets").skip(1);
    let opsets = [number(first.next()), number(first.next())];
    let mut versions: HashMap<&str, Vec<Version>> = HashMap::new();
    for mut words in lines {
        let name = words.next().expect("a name");
        versions.entry(name).or_default().push(version(number(words.next()), words));
    }
    Table { opsets, versions }
}

fn version(since: i64, mut words: std::str::Split<'static, char>) -> Version {
    let range = |word: Option<&str>| -> [usize; 2] {
        let (least, most) = word.and_then(|word| word.split_once('-')).unwrap_or(("0", "0"));
        [least.parse().expect("a number"), most.parse().unwrap_or(usize::MAX)]
    };
    let inputs = words.next();
    if inputs == Some("gone") {
        return Version { since, inputs: [0; 2], outputs: [0; 2], attributes: Vec::new(), gone: true };
    }
    let outputs = range(words.next());
    let attribute = |word: &'static str| {
        let (name, kind) = word.split_once(':').expect("a name and a type");
        (name.trim_end_matches('!'), attribute_type(kind), name.ends_with('!'))
    };
    let attributes = words.map(attribute).collect();
    Version { since, inputs: range(inputs), outputs, attributes, gone: false }
}

fn attribute_type(name: &str) -> AttributeType {
    match name {
        "float" => AttributeType::Float,
        "int" => AttributeType::Int,
        "string" => AttributeType::String,
        "tensor" => AttributeType::Tensor,
        "graph" => AttributeType::Graph,
        "floats" => AttributeType::Floats,
        "ints" => AttributeType::Ints,
        "strings" => AttributeType::Strings,
        "sparse_tensor" => AttributeType::SparseTensor,
        "type_proto" => AttributeType::TypeProto,
        other => unreachable!("a type `{other}` in the table of operators"),
    }
}

/// Domain of ONNX's own operators, under either of its names.
pub fn is_onnx(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// Domain of onnxruntime's operators.
pub const MICROSOFT_DOMAIN: &str = "com.microsoft";

/// Opset of ONNX's own operators that `imports` name.
///
/// # Errors
/// None, two, or one that is not known here.
pub fn opset(imports: &[pb::OperatorSetIdProto]) -> Result<i64, String> {
    let mut found = imports.iter().filter(|import| is_onnx(&import.domain)).map(|import| import.version);
    let (Some(opset), None) = (found.next(), found.next()) else {
        return Err("not exactly one opset of ONNX is imported".into());
    };
    let [first, last] = TABLE.opsets;
    if (first..=last).contains(&opset) {
        Ok(opset)
    } else {
        Err(format!("opset {opset}, must be {first} to {last}"))
    }
}

/// The version of operator `name` of `domain` in force in `opset`.
///
/// # Errors
/// Why there is none.
pub fn find(domain: &str, name: &str, opset: i64) -> Result<&'static Version, String> {
    let (table, opset, place) = match domain {
        _ if is_onnx(domain) => (&*TABLE, opset, format!("opset {opset}")),
        MICROSOFT_DOMAIN => (&*MICROSOFT, 1, format!("domain `{MICROSOFT_DOMAIN}` as far as it is known")),
        other => return Err(format!("its domain `{other}` is not known")),
    };
    let versions = table.versions.get(name).map(Vec::as_slice).unwrap_or_default();
    match versions.iter().rev().find(|version| version.since <= opset) {
        Some(version) if !version.gone => Ok(version),
        _ => Err(format!("no such operator in {place}")),
    }
}

/// Checks every node of `model`, whose functions are inlined, graphs within nodes too.
///
/// # Errors
/// The first node that does not hold, by name, and why.
pub fn check(model: &pb::ModelProto) -> Result<(), String> {
    let opset = opset(&model.opset_import)?;
    model.graph.as_ref().map_or(Ok(()), |graph| check_graph(graph, opset))
}

fn check_graph(graph: &pb::GraphProto, opset: i64) -> Result<(), String> {
    for node in &graph.node {
        check_node(node, opset).map_err(|reason| super::named(node, &reason))?;
        for inner in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
            check_graph(inner, opset)?;
        }
    }
    Ok(())
}

fn check_node(node: &pb::NodeProto, opset: i64) -> Result<(), String> {
    let version = find(&node.domain, &node.op_type, opset)?;
    let count = |what: &str, found: usize, [least, most]: [usize; 2]| {
        if (least..=most).contains(&found) {
            return Ok(());
        }
        let most = if most == usize::MAX { "any number".to_owned() } else { most.to_string() };
        Err(format!("{found} {what}, must be {least} to {most}"))
    };
    count("inputs", node.input.len(), version.inputs)?;
    count("outputs", node.output.len(), version.outputs)?;
    for (i, attribute) in node.attribute.iter().enumerate() {
        let name = &attribute.name;
        let (_, kind, _) = version.attributes.iter().find(|(known, ..)| known == name).ok_or_else(|| {
            format!("attribute `{name}` is none of its own in opset {opset}: {}", version.names())
        })?;
        if node.attribute[..i].iter().any(|other| other.name == *name) {
            return Err(format!("attribute `{name}` is there twice"));
        }
        // Files of the oldest kind leave the type out.
        if attribute.r#type != AttributeType::Undefined as i32 && attribute.r#type != *kind as i32 {
            return Err(format!("attribute `{name}` is not of type {}", kind.as_str_name()));
        }
    }
    let missing = |(name, _, required): &&(&str, AttributeType, bool)| {
        *required && !node.attribute.iter().any(|attribute| attribute.name == *name)
    };
    if let Some((name, ..)) = version.attributes.iter().find(missing) {
        return Err(format!("attribute `{name}` is missing"));
    }
    beyond::check(node)
}

impl Version {
    fn names(&self) -> String {
        let names: Vec<&str> = self.attributes.iter().map(|(name, ..)| *name).collect();
        if names.is_empty() { "it has none".into() } else { format!("it has {}", names.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op: &str, inputs: usize, attributes: &[(&str, AttributeType)]) -> pb::NodeProto {
        let attribute = |(name, kind): &(&str, AttributeType)| pb::AttributeProto {
            name: (*name).into(),
            r#type: *kind as i32,
            ..Default::default()
        };
        pb::NodeProto {
            op_type: op.into(),
            input: vec!["x".into(); inputs],
            output: vec!["y".into()],
            attribute: attributes.iter().map(attribute).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn an_attribute_belongs_to_some_versions_of_an_operator_only() {
        let max = [("max", AttributeType::Float)];
        assert_eq!(check_node(&node("Clip", 1, &max), 10), Ok(()));
        let error = check_node(&node("Clip", 1, &max), 11).expect_err("an input since then");
        assert_eq!(error, "attribute `max` is none of its own in opset 11: it has none");
        assert_eq!(check_node(&node("Clip", 3, &[]), 11), Ok(()));
        assert!(check_node(&node("Clip", 3, &[]), 10).is_err(), "three inputs in opset 10");
        let split = [("split", AttributeType::Ints)];
        assert_eq!(check_node(&node("Split", 1, &split), 11), Ok(()));
        assert!(check_node(&node("Split", 1, &split), 13).is_err());
        assert!(check_node(&node("Split", 1, &[("split", AttributeType::Int)]), 11).is_err(), "its type");
    }

    #[test]
    fn operators_begin_and_end_with_an_opset() {
        assert!(find("", "HardSwish", 13).is_err() && find("", "HardSwish", 14).is_ok());
        assert!(find("", "Upsample", 9).is_ok() && find("", "Upsample", 10).is_err());
        assert!(find("ai.onnx", "Relu", 17).is_ok() && find("com.microsoft", "QLinearMul", 17).is_ok());
        for (domain, name) in [("acme", "Relu"), ("com.microsoft", "Relu"), ("", "QLinearMul")] {
            assert!(find(domain, name, 17).is_err(), "{name} of `{domain}`");
        }
        assert_eq!(opset(&[]), Err("not exactly one opset of ONNX is imported".into()));
        let import = |version| [pb::OperatorSetIdProto { domain: "ai.onnx".into(), version }];
        assert_eq!(opset(&import(13)), Ok(13));
        assert!(opset(&import(6)).is_err() && opset(&import(99)).is_err());
    }

    #[test]
    fn what_is_missing_or_there_twice_is_named() {
        assert_eq!(check_node(&node("Concat", 2, &[]), 13), Err("attribute `axis` is missing".into()));
        let twice = [("alpha", AttributeType::Float); 2];
        assert_eq!(
            check_node(&node("LeakyRelu", 1, &twice), 13),
            Err("attribute `alpha` is there twice".into())
        );
        assert_eq!(check_node(&node("Add", 1, &[]), 13), Err("1 inputs, must be 2 to 2".into()));
    }
}
