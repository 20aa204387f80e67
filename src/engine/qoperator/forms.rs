//! Which inputs of a QOperator node are codes, and what it is in float.

/// How a QOperator node is made.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// The operator on real values.
    pub op: &'static str,
    /// First inputs of its operands.
    operands: Operands,
    /// Where the bias stands, in steps of the scales of the first two operands.
    pub bias: Option<usize>,
    /// Where scale and zero point of the result stand; a name that is missing there leaves the result real.
    pub after: usize,
}

#[derive(Debug, Clone, Copy)]
enum Operands {
    Listed(&'static [Place]),
    /// From here on, three inputs each.
    ByThree(usize),
}

/// An operand of a node.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// Codes, and behind them scale and zero point.
    Codes(usize),
    /// As it is.
    Real(usize),
}

impl Form {
    /// The operands of a node with `inputs` inputs, in their order.
    pub fn places(&self, inputs: usize) -> Vec<Place> {
        match self.operands {
            Operands::Listed(places) => places.to_vec(),
            Operands::ByThree(first) => (first..inputs).step_by(3).map(Place::Codes).collect(),
        }
    }
}

/// The form of a QOperator operator.
pub fn of(op: &str) -> Option<Form> {
    use Place::{Codes, Real};
    let one = |op, after| (op, Operands::Listed(&[Codes(0)]), None, after);
    let two = |op, bias, after| (op, Operands::Listed(&[Codes(0), Codes(3)]), bias, after);
    let (op, operands, bias, after) = match op {
        "QLinearConv" => two("Conv", Some(8), 6),
        "QLinearMatMul" => two("MatMul", None, 6),
        "QGemm" => two("Gemm", Some(6), 7),
        "QLinearAdd" => two("Add", None, 6),
        "QLinearMul" => two("Mul", None, 6),
        "QLinearLeakyRelu" => one("LeakyRelu", 3),
        "QLinearSigmoid" => one("Sigmoid", 3),
        "QLinearSoftmax" => one("Softmax", 3),
        "QLinearAveragePool" => one("AveragePool", 3),
        "QLinearGlobalAveragePool" => one("GlobalAveragePool", 3),
        "QLinearReduceMean" => one("ReduceMean", 3),
        "QLinearWhere" => ("Where", Operands::Listed(&[Real(0), Codes(1), Codes(4)]), None, 7),
        "QLinearConcat" => ("Concat", Operands::ByThree(2), None, 0),
        _ => return None,
    };
    Some(Form { op, operands, bias, after })
}
