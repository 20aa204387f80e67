//! How a graph becomes a plan: a place in the arena for each tensor, the order of steps, packed weights.

use super::{
    BYTES_A_PIECE, CodesStep, Found, Input, LINE, MACS_A_PIECE, MAX_ARENA, Output, Place, Plan, Plane, Step,
    Work,
};
use crate::engine::float::Part;
use crate::engine::graph::{Conv, Graph, Op, Tensor, table};
use crate::engine::leftover::Source;
use crate::kernels::{Bilinear, ConvWeights, Geometry, Isa, Mean, Product, Requantise, Sum};
use std::ops::Range;

/// Code of a halo that no maximum takes.
const LOWEST: u8 = 0;

/// A step before its weights are packed: which node, and which of its copies.
struct Draft {
    /// Number of the node, or of the float part.
    node: usize,
    kind: Kind,
    inputs: Vec<Place>,
    /// None for a float part.
    output: Option<Place>,
}

enum Kind {
    Node,
    /// Input `i` of a concatenation, moved into its place.
    Part(usize),
    /// Concatenation and shuffle in one.
    Zip,
    /// The codes of its input in a plane of their own.
    Copy,
    /// Nodes in float; the places are of the codes among its inputs, in their order.
    Float,
}

pub(super) struct Layout {
    places: Vec<Option<Place>>,
    planes: Vec<Plane>,
    drafts: Vec<Draft>,
}

impl Layout {
    pub fn new(graph: &Graph) -> Self {
        let mut layout =
            Self { places: vec![None; graph.tensors.len()], planes: Vec::new(), drafts: Vec::new() };
        if let Source::Codes(tensor) = graph.input {
            layout.places[tensor] = Some(layout.plane_of(graph, tensor, 4));
        }
        // A concatenation of two equal halves that only a shuffle reads is one step with it.
        let zipped = |node: usize| {
            let concat = &graph.nodes[node];
            let halves = concat.inputs.len() == 2
                && graph.tensors[concat.inputs[0]].shape == graph.tensors[concat.inputs[1]].shape;
            let mut readers = graph.nodes.iter().filter(|n| n.inputs.contains(&concat.output));
            let only_shuffle = matches!((readers.next(), readers.next()), (Some(reader), None) if matches!(reader.op, Op::Shuffle));
            let read_in_float =
                graph.parts.iter().any(|part| part.inputs.contains(&Source::Codes(concat.output)));
            halves
                && only_shuffle
                && !read_in_float
                && graph.outputs.iter().all(|(_, source)| *source != Source::Codes(concat.output))
        };
        let mut unzipped: Vec<Option<usize>> = vec![None; graph.tensors.len()];
        for (number, node) in graph.nodes.iter().enumerate() {
            layout.parts_before(graph, number);
            let place =
                |layout: &Self, tensor: usize| layout.places[tensor].expect("written before it is read");
            match &node.op {
                Op::Concat if zipped(number) => unzipped[node.output] = Some(number),
                Op::Concat => {
                    let output = layout.plane_of(graph, node.output, 1);
                    let mut first = 0;
                    for (part, &tensor) in node.inputs.iter().enumerate() {
                        let from = place(&layout, tensor);
                        let to = Place { first, channels: from.channels, ..output };
                        layout.drafts.push(Draft {
                            node: number,
                            kind: Kind::Part(part),
                            inputs: vec![from],
                            output: Some(to),
                        });
                        first += from.channels;
                    }
                    layout.places[node.output] = Some(output);
                }
                Op::Shuffle => {
                    let output = layout.plane_of(graph, node.output, 1);
                    let (concat, inputs) = match unzipped[node.inputs[0]] {
                        Some(concat) => {
                            (concat, graph.nodes[concat].inputs.iter().map(|&t| place(&layout, t)).collect())
                        }
                        None => {
                            let whole = place(&layout, node.inputs[0]);
                            let half = whole.channels / 2;
                            let second = Place { first: whole.first + half, channels: half, ..whole };
                            (number, vec![Place { channels: half, ..whole }, second])
                        }
                    };
                    layout.drafts.push(Draft { node: concat, kind: Kind::Zip, inputs, output: Some(output) });
                    layout.places[node.output] = Some(output);
                }
                Op::Slice(first) if same(graph, node.inputs[0], node.output) => {
                    let whole = place(&layout, node.inputs[0]);
                    let channels = graph.tensors[node.output].shape[0];
                    layout.places[node.output] =
                        Some(Place { first: whole.first + first, channels, ..whole });
                }
                op => {
                    let mut inputs: Vec<Place> = node.inputs.iter().map(|&t| place(&layout, t)).collect();
                    let output = layout.plane_of(graph, node.output, 1);
                    if let Op::Slice(first) = op {
                        inputs[0] =
                            Place { first: inputs[0].first + first, channels: output.channels, ..inputs[0] };
                    }
                    layout.drafts.push(Draft {
                        node: number,
                        kind: Kind::Node,
                        inputs,
                        output: Some(output),
                    });
                    layout.places[node.output] = Some(output);
                }
            }
        }
        layout.parts_before(graph, graph.nodes.len());
        layout
    }

    /// Float parts that run before integer node `number`.
    fn parts_before(&mut self, graph: &Graph, number: usize) {
        for (index, part) in graph.parts.iter().enumerate().filter(|(_, part)| part.before == number) {
            let codes = |source: &Source| {
                if let Source::Codes(tensor) = source { self.places[*tensor] } else { None }
            };
            let inputs = part.inputs.iter().filter_map(codes).collect();
            self.drafts.push(Draft { node: index, kind: Kind::Float, inputs, output: None });
        }
    }

    /// A plane of its own for a tensor, pixels of a multiple of `align` bytes.
    fn plane_of(&mut self, graph: &Graph, tensor: usize, align: usize) -> Place {
        let Tensor { zero, shape: [channels, height, width], .. } = graph.tensors[tensor];
        let geometry = Geometry { height, width, channels: channels.next_multiple_of(align), halo: 0 };
        self.planes.push(Plane { geometry, border: zero as u8, lives: 0..0, given: false, at: 0 });
        Place { plane: self.planes.len() - 1, first: 0, channels }
    }

    pub fn finish(mut self, graph: &Graph, isa: Isa) -> Result<Plan, String> {
        let place = |tensor: usize| self.places[tensor].expect("every node was placed");
        let output = |(name, source): &(String, Source)| match *source {
            Source::Codes(tensor) => {
                let (place, tensor) = (place(tensor), graph.tensors[tensor].clone());
                let shape = [&[1][..], &tensor.shape].concat();
                Output { name: name.clone(), shape, found: Found::Codes { place, tensor } }
            }
            Source::Real(real) => Output {
                name: name.clone(),
                shape: graph.reals[real].shape.clone(),
                found: Found::Real(real),
            },
        };
        let outputs: Vec<Output> = graph.outputs.iter().map(output).collect();
        let (input, input_shape) = match graph.input {
            Source::Codes(tensor) => {
                (Some((place(tensor), graph.tensors[tensor].clone())), graph.tensors[tensor].shape)
            }
            Source::Real(real) => {
                let &[1, channels, height, width] = &graph.reals[real].shape[..] else {
                    return Err("a picture without four sides".into());
                };
                (None, [channels, height, width])
            }
        };
        self.part_paddings(graph);
        self.live(&outputs, input.as_ref().map(|(place, _)| *place));
        self.pad(graph);
        let arena = self.arrange();
        if arena > MAX_ARENA {
            return Err(format!(
                "{} MB of memory for one picture, at most {} are taken",
                arena >> 20,
                MAX_ARENA >> 20
            ));
        }
        let mut macs = 0;
        let mut steps = Vec::new();
        for draft in self.drafts {
            let Some(output) = draft.output else {
                let part = &graph.parts[draft.node];
                let mut places = draft.inputs.into_iter();
                let input = |source: &Source| match *source {
                    Source::Codes(tensor) => {
                        let place = places.next().ok_or("an input of a float node was not placed")?;
                        Ok(Input::Codes { place, tensor: graph.tensors[tensor].clone() })
                    }
                    Source::Real(real) => Ok(Input::Real(real)),
                };
                let inputs = part.inputs.iter().map(input).collect::<Result<_, String>>()?;
                steps.push(Step::Float {
                    part: Part::new(&part.model)?,
                    inputs,
                    outputs: part.outputs.clone(),
                });
                continue;
            };
            let node = &graph.nodes[draft.node];
            if let Op::Quantise(real) = node.op {
                let Tensor { scale, zero, .. } = graph.tensors[node.output];
                steps.push(Step::Quantise { real, scale, zero, output });
                continue;
            }
            let before = macs;
            let work =
                work(graph, isa, &draft, &mut macs).map_err(|reason| format!("{}: {reason}", node.name))?;
            let bytes = self.planes[output.plane].geometry.bytes() as u64;
            let pieces = ((macs - before) / MACS_A_PIECE).max(bytes / BYTES_A_PIECE).max(1) as usize;
            steps.push(Step::Codes(Box::new(CodesStep { work, inputs: draft.inputs, output, pieces })));
        }
        if macs == 0 && !graph.leftovers.is_empty() {
            return Err(format!("no convolution has an integer form: {}", graph.leftovers[0].text));
        }
        let (reals, leftovers) = (graph.reals.len(), graph.leftovers.clone());
        Ok(Plan {
            isa,
            steps,
            planes: self.planes,
            arena,
            reals,
            input,
            input_shape,
            outputs,
            macs,
            leftovers,
        })
    }

    /// From the first step that writes each plane to the last that reads it.
    fn live(&mut self, outputs: &[Output], input: Option<Place>) {
        let end = self.drafts.len();
        for (number, draft) in self.drafts.iter().enumerate() {
            for place in draft.inputs.iter().chain(&draft.output) {
                let lives = &mut self.planes[place.plane].lives;
                // An empty range has not begun.
                let start = if lives.end == 0 { number } else { lives.start };
                *lives = start..number + 1;
            }
        }
        for output in outputs {
            if let Found::Codes { place, .. } = &output.found {
                self.planes[place.plane].lives.end = end + 1;
            }
        }
        // The picture is written before the first step, and its halo with it.
        if let Some(input) = input {
            self.planes[input.plane].lives.start = 0;
            self.planes[input.plane].given = true;
        }
    }

    /// Gives each maximum whose input is padded for sums too an input of its own: a copy, in a plane whose
    /// halo is below every code.
    fn part_paddings(&mut self, graph: &Graph) {
        let mut for_sums = vec![false; self.planes.len()];
        for draft in &self.drafts {
            if let Some((halo, false)) = self.halo(graph, draft) {
                for_sums[draft.inputs[0].plane] |= halo > 0;
            }
        }
        for mut draft in std::mem::take(&mut self.drafts) {
            let padded = matches!(self.halo(graph, &draft), Some((halo, true)) if halo > 0);
            let from = draft.inputs.first().copied();
            if let (true, Some(from)) = (padded, from)
                && for_sums[from.plane]
                && self.planes[from.plane].border != LOWEST
            {
                let Geometry { height, width, .. } = self.planes[from.plane].geometry;
                let geometry = Geometry { height, width, channels: from.channels, halo: 0 };
                self.planes.push(Plane { geometry, border: LOWEST, lives: 0..0, given: false, at: 0 });
                for_sums.push(false);
                let copy = Place { plane: self.planes.len() - 1, first: 0, channels: from.channels };
                self.drafts.push(Draft {
                    node: draft.node,
                    kind: Kind::Copy,
                    inputs: vec![from],
                    output: Some(copy),
                });
                draft.inputs[0] = copy;
            }
            self.drafts.push(draft);
        }
    }

    /// Halo that a step asks of its input's plane, and whether it is one below every code; none where a step
    /// reads no window.
    fn halo(&self, graph: &Graph, draft: &Draft) -> Option<(usize, bool)> {
        let output = draft.output?;
        let (shape, lowest) = match (&draft.kind, &graph.nodes[draft.node].op) {
            (Kind::Node, Op::Conv(conv)) => (conv.shape, false),
            (Kind::Node, Op::MaxPool(shape)) => (*shape, true),
            _ => return None,
        };
        let (out, from) = (self.planes[output.plane].geometry, self.planes[draft.inputs[0].plane].geometry);
        let beyond = |out: usize, size: usize| {
            ((out - 1) * shape.stride + shape.kernel).saturating_sub(shape.pad + size)
        };
        let halo = shape.pad.max(beyond(out.height, from.height)).max(beyond(out.width, from.width));
        Some((halo, lowest))
    }

    /// Halos as wide as the windows over them reach.
    fn pad(&mut self, graph: &Graph) {
        for number in 0..self.drafts.len() {
            let draft = &self.drafts[number];
            let Some((halo @ 1.., lowest)) = self.halo(graph, draft) else { continue };
            let plane = draft.inputs[0].plane;
            let plane = &mut self.planes[plane];
            plane.geometry.halo = plane.geometry.halo.max(halo);
            // Below every code for a maximum, the zero point for a sum.
            if lowest {
                plane.border = LOWEST;
            }
        }
    }

    /// Puts planes that live at the same time side by side, each at the lowest place that is free. Returns
    /// the arena's length.
    fn arrange(&mut self) -> usize {
        let mut order: Vec<usize> = (0..self.planes.len()).collect();
        let bytes = |plane: &Plane| plane.geometry.bytes().next_multiple_of(LINE);
        order.sort_by_key(|&i| std::cmp::Reverse(bytes(&self.planes[i])));
        let mut placed: Vec<usize> = Vec::new();
        let mut arena = 0;
        for index in order {
            let (own, size) = (self.planes[index].lives.clone(), bytes(&self.planes[index]));
            let mut taken: Vec<Range<usize>> = placed
                .iter()
                .map(|&other| &self.planes[other])
                .filter(|other| other.lives.start < own.end && own.start < other.lives.end)
                .map(|other| other.at..other.at + bytes(other))
                .collect();
            taken.sort_by_key(|range| range.start);
            let mut at = 0;
            for range in taken {
                if at + size <= range.start {
                    break;
                }
                at = at.max(range.end);
            }
            self.planes[index].at = at;
            arena = arena.max(at + size);
            placed.push(index);
        }
        arena
    }
}

fn same(graph: &Graph, a: usize, b: usize) -> bool {
    let (a, b) = (&graph.tensors[a], &graph.tensors[b]);
    a.scale == b.scale && a.zero == b.zero
}

/// The table from one tensor's codes to another's; none where they mean the same.
fn moved(graph: &Graph, isa: Isa, from: usize, to: usize) -> Option<Box<[u8; 256]>> {
    (!same(graph, from, to)).then(|| stored(isa, &table(&graph.tensors[from], &graph.tensors[to], |x| x)))
}

/// A table of codes as planes hold them.
fn stored(isa: Isa, table: &[u8; 256]) -> Box<[u8; 256]> {
    Box::new(std::array::from_fn(|code| table[code ^ usize::from(isa.flip())] ^ isa.flip()))
}

fn work(graph: &Graph, isa: Isa, draft: &Draft, macs: &mut u64) -> Result<Work, String> {
    let node = &graph.nodes[draft.node];
    let from = *node.inputs.first().ok_or("has no input")?;
    let to = node.output;
    Ok(match (&draft.kind, &node.op) {
        (Kind::Zip, Op::Concat) => {
            Work::Zip([moved(graph, isa, from, to), moved(graph, isa, node.inputs[1], to)])
        }
        (Kind::Zip, _) => Work::Zip([moved(graph, isa, from, to), moved(graph, isa, from, to)]),
        (Kind::Copy, _) => Work::Copy { table: None, twice: false },
        (Kind::Part(part), _) => {
            Work::Copy { table: moved(graph, isa, node.inputs[*part], to), twice: false }
        }
        (Kind::Node, Op::Conv(conv)) => {
            let (input, output) = (&graph.tensors[from], &graph.tensors[to]);
            let requantise = requantise(conv, input, output);
            let [channels, height, width] = output.shape;
            debug_assert_eq!(channels, conv.bias.len());
            let weights = ConvWeights {
                weights: &conv.weights,
                shape: conv.shape,
                bias: &conv.bias,
                zero_point: input.zero,
                requantise,
            };
            if conv.depthwise {
                let packed = weights.pack_depthwise(isa).map_err(|e| e.to_string())?;
                *macs += packed.macs(height * width);
                Work::Depthwise(packed)
            } else {
                let packed = weights.pack(input.shape[0], isa, height * width).map_err(|e| e.to_string())?;
                *macs += packed.macs(height * width);
                Work::Conv(packed)
            }
        }
        (Kind::Node, Op::MaxPool(shape)) => {
            if !same(graph, from, to) {
                return Err("a maximum between different scales".into());
            }
            Work::MaxPool(*shape)
        }
        (Kind::Node, Op::Add(clip)) => {
            let [a, b] = [0, 1].map(|i| &graph.tensors[node.inputs[i]]);
            let output = &graph.tensors[to];
            let multiplier = |t: &Tensor| (f64::from(t.scale) / f64::from(output.scale)) as f32;
            Work::Add(Sum {
                zeros: [a.zero, b.zero],
                multipliers: [multiplier(a), multiplier(b)],
                zero: output.zero,
                range: range(*clip, output),
            })
        }
        (Kind::Node, Op::Mul(clip)) => {
            let [a, b] = [0, 1].map(|i| &graph.tensors[node.inputs[i]]);
            let output = &graph.tensors[to];
            let scales = f64::from(a.scale) * f64::from(b.scale);
            Work::Mul(Product {
                zeros: [a.zero, b.zero],
                multiplier: (scales / f64::from(output.scale)) as f32,
                zero: output.zero,
                range: range(*clip, output),
            })
        }
        (Kind::Node, Op::Average(average)) => {
            let (input, output) = (&graph.tensors[from], &graph.tensors[to]);
            Work::Average(Mean {
                kernel: average.kernel,
                stride: average.stride,
                pad: average.pad,
                all: average.all,
                zeros: [input.zero, output.zero],
                multiplier: (f64::from(input.scale) / f64::from(output.scale)) as f32,
            })
        }
        (Kind::Node, Op::Upsample) => Work::Copy { table: moved(graph, isa, from, to), twice: true },
        (Kind::Node, Op::Bilinear) => {
            let (input, output) = (&graph.tensors[from], &graph.tensors[to]);
            let multiplier = (f64::from(input.scale) / f64::from(output.scale)) as f32;
            Work::Bilinear(Bilinear { zeros: [input.zero, output.zero], multiplier })
        }
        (Kind::Node, Op::Table(table)) => Work::Copy { table: Some(stored(isa, table)), twice: false },
        (Kind::Node | Kind::Float, _) => Work::Copy { table: moved(graph, isa, from, to), twice: false },
    })
}

/// Codes that real values of `clip` can take: exact, because rounding is monotone.
fn range(clip: [f32; 2], tensor: &Tensor) -> [i32; 2] {
    let code = |real: f32| {
        let steps = (f64::from(real) / f64::from(tensor.scale)).round_ties_even() + f64::from(tensor.zero);
        steps.clamp(0.0, 255.0) as i32
    };
    clip.map(code)
}

fn requantise(conv: &Conv, input: &Tensor, output: &Tensor) -> Requantise {
    let multiplier =
        |&scale: &f32| (f64::from(input.scale) * f64::from(scale) / f64::from(output.scale)) as f32;
    Requantise {
        multipliers: conv.scales.iter().map(multiplier).collect(),
        slope: conv.slope,
        zero: output.zero,
        range: range(conv.clip, output),
    }
}
