//! A quantised graph made ready to run: weights packed, planes laid out in one arena, steps in order.

mod layout;

use super::float::{Part, RealTensor};
use super::graph::{Graph, Tensor};
use super::leftover::Leftover;
use crate::kernels::{
    self, Bilinear, Geometry, Isa, Mean, PackedConv, PackedDepthwise, Product, Sum, View, ViewMut,
};
use layout::Layout;
use std::ops::Range;

/// Where a tensor's codes are: some channels of a plane.
#[derive(Debug, Clone, Copy)]
struct Place {
    plane: usize,
    first: usize,
    channels: usize,
}

/// A plane of the arena.
#[derive(Debug, Clone)]
struct Plane {
    geometry: Geometry,
    /// Code of its halo.
    border: u8,
    /// Steps from the first that writes it to the last that reads it.
    lives: Range<usize>,
    /// Written by the caller before the first step.
    given: bool,
    /// Offset in the arena.
    at: usize,
}

enum Work {
    Conv(PackedConv),
    Depthwise(PackedDepthwise),
    MaxPool(kernels::ConvShape),
    Add(Sum),
    Copy { table: Option<Box<[u8; 256]>>, twice: bool },
    Zip([Option<Box<[u8; 256]>>; 2]),
    Mul(Product),
    Average(Mean),
    Bilinear(Bilinear),
}

enum Step {
    Codes(Box<CodesStep>),
    /// Real values to codes: each divided by the scale, rounded to even, moved.
    Quantise {
        real: usize,
        scale: f32,
        zero: i32,
        output: Place,
    },
    /// Nodes in float, from codes dequantised on the way in, and real values.
    Float {
        part: Part,
        inputs: Vec<Input>,
        outputs: Vec<usize>,
    },
}

impl Step {
    /// The part of the work that it belongs to, for people.
    fn part(&self) -> &'static str {
        match self {
            Self::Codes(step) => match step.work {
                Work::Conv(_) => "convolutions",
                Work::Depthwise(_) => "depthwise convolutions",
                _ => "other operators in INT8",
            },
            Self::Quantise { .. } => "quantising",
            Self::Float { .. } => FLOAT_PART,
        }
    }
}

struct CodesStep {
    work: Work,
    inputs: Vec<Place>,
    output: Place,
    /// How many bands of rows are large enough to pay for a thread each.
    pieces: usize,
}

/// What a float step reads.
enum Input {
    Codes { place: Place, tensor: Tensor },
    Real(usize),
}

/// The part of the work that runs in float, for people.
pub const FLOAT_PART: &str = "operators in float";

/// What one session owns: the planes and the values in float.
pub struct Memory {
    arena: Vec<u8>,
    reals: Vec<Option<RealTensor>>,
}

/// A graph ready to run; shared by all sessions.
pub struct Plan {
    isa: Isa,
    steps: Vec<Step>,
    planes: Vec<Plane>,
    arena: usize,
    /// How many values in float there are.
    reals: usize,
    /// The picture's place and tensor; none: it is the first of the values in float.
    input: Option<(Place, Tensor)>,
    /// Channels, height and width of the picture.
    pub input_shape: [usize; 3],
    /// Graph outputs in the file's order.
    pub outputs: Vec<Output>,
    /// Multiply-adds of one run in INT8.
    pub macs: u64,
    /// What runs in float.
    pub leftovers: Vec<Leftover>,
}

/// An output of the graph.
pub struct Output {
    /// Its name in the ONNX file.
    pub name: String,
    /// `[1, channels, height, width]`, or as a float node made it.
    pub shape: Vec<usize>,
    found: Found,
}

enum Found {
    Codes { place: Place, tensor: Tensor },
    Real(usize),
}

impl Output {
    /// Whether it comes in codes.
    pub fn is_coded(&self) -> bool {
        matches!(self.found, Found::Codes { .. })
    }
}

/// An output after a run.
pub enum Value<'a> {
    /// Codes in their plane, as it holds them ([`Plan::flip`]), and what they mean.
    Codes(View<'a>, &'a Tensor),
    /// Real values in `c, y, x` order.
    Real(&'a [f32]),
}

/// Work below which another thread costs more than it gives: about 3 µs of it.
const MACS_A_PIECE: u64 = 600_000;
const BYTES_A_PIECE: u64 = 60_000;

/// Most memory of one session's planes, bytes.
const MAX_ARENA: usize = 1 << 30;

/// Planes begin at whole cache lines.
const LINE: usize = 64;

impl Plan {
    /// Lays out and packs `graph` for `isa`.
    ///
    /// # Errors
    /// The node whose weights cannot be packed, and why.
    pub fn new(graph: &Graph, isa: Isa) -> Result<Self, String> {
        Layout::new(graph).finish(graph, isa)
    }

    /// Name of the instruction set.
    pub fn isa(&self) -> &'static str {
        self.isa.name()
    }

    /// Multiply-adds a second of one core in this plan's instruction set: [`kernels::peak`].
    pub fn peak(&self) -> Option<f64> {
        kernels::peak(self.isa)
    }

    /// Memory for one session.
    pub fn memory(&self) -> Memory {
        Memory { arena: vec![0; self.arena], reals: (0..self.reals).map(|_| None).collect() }
    }

    /// What a picture's codes mean; none where it is read in float.
    pub fn input_tensor(&self) -> Option<&Tensor> {
        self.input.as_ref().map(|(_, tensor)| tensor)
    }

    /// What the codes in planes are XORed with: [`Isa::flip`].
    pub fn flip(&self) -> u8 {
        self.isa.flip()
    }

    /// The picture's plane: its bytes and its geometry. Codes go to the first channels of each pixel. None
    /// where it is read in float. [`Plan::settle`] ends the writing.
    pub fn input<'a>(&self, memory: &'a mut Memory) -> Option<ViewMut<'a>> {
        let (place, _) = self.input.as_ref()?;
        let plane = &self.planes[place.plane];
        let data = &mut memory.arena[plane.at..plane.at + plane.geometry.bytes()];
        let mut view = ViewMut::new(data, plane.geometry, place.first, place.channels);
        view.fill(plane.border);
        Some(view)
    }

    /// The picture's codes, written as they are, are stored as this plan's kernels read them.
    pub fn settle(&self, memory: &mut Memory) {
        if let (Some((place, _)), flip @ 1..) = (&self.input, self.flip()) {
            let plane = &self.planes[place.plane];
            memory.arena[plane.at..plane.at + plane.geometry.bytes()]
                .iter_mut()
                .for_each(|code| *code ^= flip);
        }
    }

    /// Lets `fill` write the picture in float.
    ///
    /// # Errors
    /// tract's reason.
    pub fn real_input<T>(
        &self,
        memory: &mut Memory,
        fill: impl FnOnce(&mut [f32]) -> T,
    ) -> Result<T, String> {
        memory.reals[0].insert(RealTensor::zero(&[&[1][..], &self.input_shape].concat())?).write(fill)
    }

    /// Output `index` after a run.
    ///
    /// # Errors
    /// If it is in float and was not made, or is not f32.
    pub fn output<'a>(&'a self, memory: &'a Memory, index: usize) -> Result<Value<'a>, String> {
        match &self.outputs[index].found {
            Found::Codes { place, tensor } => Ok(Value::Codes(self.view(&memory.arena, *place, 0), tensor)),
            Found::Real(real) => {
                Ok(Value::Real(memory.reals[*real].as_ref().ok_or("an output was not made")?.values()?))
            }
        }
    }

    /// Shape and real values of output `index` after a run, row by row.
    ///
    /// # Errors
    /// If it is in float and was not made, or has no numbers.
    pub fn values(&self, memory: &Memory, index: usize) -> Result<(Vec<usize>, Vec<f32>), String> {
        match &self.outputs[index].found {
            Found::Codes { place, tensor } => {
                let shape = [&[1][..], &tensor.shape].concat();
                let mut values = vec![0.0; shape.iter().product()];
                dequantise(&self.view(&memory.arena, *place, 0), self.flip(), tensor, &mut values);
                Ok((shape, values))
            }
            Found::Real(real) => memory.reals[*real].as_ref().ok_or("an output was not made")?.numbers(),
        }
    }

    /// Some rows of a step's output.
    fn work(&self, work: &Work, inputs: &[View<'_>; 2], output: &mut ViewMut<'_>) {
        match work {
            Work::Conv(weights) => kernels::conv(self.isa, weights, &inputs[0], output),
            Work::Depthwise(weights) => kernels::depthwise(self.isa, weights, &inputs[0], output),
            Work::MaxPool(shape) => kernels::max_pool(self.isa, *shape, &inputs[0], output),
            Work::Add(sum) => kernels::add(self.isa, sum, &inputs[0], &inputs[1], output),
            Work::Mul(product) => kernels::mul(self.isa, product, &inputs[0], &inputs[1], output),
            Work::Average(mean) => kernels::average(self.isa, mean, &inputs[0], output),
            Work::Bilinear(bilinear) => kernels::bilinear(self.isa, bilinear, &inputs[0], output),
            Work::Copy { table, twice } => {
                kernels::copy(self.isa, table.as_deref(), *twice, &inputs[0], output)
            }
            Work::Zip(tables) => {
                let tables = [tables[0].as_deref(), tables[1].as_deref()];
                kernels::zip(self.isa, tables, &inputs[0], &inputs[1], output);
            }
        }
    }

    /// Runs every step; the input holds a picture. Steps are split over up to `threads` threads of the pool
    /// this is called in; `done` hears of each that ended to which part of the work it belongs.
    ///
    /// # Errors
    /// tract's reason if a node without an integer form fails. A graph that runs wholly in INT8 has no
    /// errors.
    pub fn run(
        &self,
        memory: &mut Memory,
        threads: usize,
        done: &mut dyn FnMut(&'static str),
    ) -> Result<(), String> {
        for (number, step) in self.steps.iter().enumerate() {
            match step {
                Step::Codes(step) => self.run_codes(number, step, &mut memory.arena, threads),
                Step::Quantise { real, scale, zero, output } => {
                    let values = memory.reals[*real].as_ref().ok_or("a value was not made")?.values()?;
                    let plane = &self.planes[output.plane];
                    let data = &mut memory.arena[plane.at..plane.at + plane.geometry.bytes()];
                    let mut view = ViewMut::new(data, plane.geometry, output.first, output.channels);
                    view.fill_halo(plane.border ^ self.flip());
                    let size = plane.geometry.width * plane.geometry.height;
                    if values.len() != size * output.channels {
                        return Err(format!(
                            "a value of {} numbers, not {}",
                            values.len(),
                            size * output.channels
                        ));
                    }
                    for (channel, values) in values.chunks_exact(size).enumerate() {
                        for (cell, value) in values.iter().enumerate() {
                            let code =
                                ((value / scale).round_ties_even() + *zero as f32).clamp(0.0, 255.0) as u8;
                            view.pixel(cell / plane.geometry.width, cell % plane.geometry.width)[channel] =
                                code ^ self.flip();
                        }
                    }
                }
                Step::Float { part, inputs, outputs } => {
                    let input = |input: &Input| match input {
                        Input::Codes { place, tensor } => {
                            let view = self.view(&memory.arena, *place, 0);
                            let mut real = RealTensor::zero(&[&[1][..], &tensor.shape].concat())?;
                            real.write(|values| dequantise(&view, self.flip(), tensor, values))?;
                            Ok(real)
                        }
                        Input::Real(real) => {
                            memory.reals[*real].clone().ok_or_else(|| "a value was not made".to_owned())
                        }
                    };
                    let found = part.run(inputs.iter().map(input).collect::<Result<_, String>>()?)?;
                    for (&real, value) in outputs.iter().zip(found) {
                        memory.reals[real] = Some(value);
                    }
                }
            }
            done(step.part());
        }
        Ok(())
    }

    fn run_codes(&self, number: usize, step: &CodesStep, arena: &mut [u8], threads: usize) {
        let plane = &self.planes[step.output.plane];
        let (start, end) = (plane.at, plane.at + plane.geometry.bytes());
        // An input lies wholly before or after the output in the arena: both are alive now.
        let (before, rest) = arena.split_at_mut(start);
        let (data, after) = rest.split_at_mut(end - start);
        let (before, after) = (&*before, &*after);
        let input = |i: usize| {
            let place = step.inputs[i];
            if self.planes[place.plane].at < start {
                self.view(before, place, 0)
            } else {
                self.view(after, place, end)
            }
        };
        let mut output = ViewMut::new(data, plane.geometry, step.output.first, step.output.channels);
        if plane.lives.start == number && !plane.given {
            output.fill_halo(plane.border ^ self.flip());
        }
        let inputs = [input(0), input(step.inputs.len() - 1)];
        let pieces = threads.min(step.pieces);
        in_bands(pieces, output, &|output| self.work(&step.work, &inputs, output));
    }

    /// A place in a piece of the arena that begins at `from`.
    fn view<'a>(&self, memory: &'a [u8], place: Place, from: usize) -> View<'a> {
        let plane = &self.planes[place.plane];
        let start = plane.at - from;
        View {
            data: &memory[start..start + plane.geometry.bytes()],
            geometry: plane.geometry,
            first: place.first,
            channels: place.channels,
        }
    }
}

/// Codes of a plane as real values in `c, y, x` order.
fn dequantise(view: &View<'_>, flip: u8, tensor: &Tensor, values: &mut [f32]) {
    let [_, height, width] = tensor.shape;
    for cell in 0..height * width {
        for (channel, &code) in view.pixel(cell / width, cell % width).iter().enumerate() {
            values[channel * height * width + cell] =
                (i32::from(code ^ flip) - tensor.zero) as f32 * tensor.scale;
        }
    }
}

/// Runs `work` on `output` in `pieces` bands of rows, on the threads of the current pool.
fn in_bands(pieces: usize, mut output: ViewMut<'_>, work: &(impl Fn(&mut ViewMut<'_>) + Sync)) {
    if pieces < 2 || output.height() < 2 {
        return work(&mut output);
    }
    let first = pieces / 2;
    let (upper, lower) = {
        let rows = output.height() * first / pieces;
        output.split(rows.max(1))
    };
    rayon::join(|| in_bands(first, upper, work), || in_bands(pieces - first, lower, work));
}
