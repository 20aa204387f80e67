//! Inputs and heads of the shipped model on many pictures, for `agree.py`, which lets another runtime compute the same:
//! `cargo bench --bench heads -- PICTURES OUT [COUNT]`. OUT gets `input.f32` (`[n, 3, h, w]`) and `heads.f32` (of each picture all class
//! outputs, then all box outputs, each `[c, h, w]`).

use retinad::engine::{Arithmetic, Engine, Input};
use retinad::frame::{Encoding, Picture, RawFrame};
use retinad::image::{self, Letterbox};
use retinad::model::ModelFile;
use std::io::Write;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    let (Some(pictures), Some(out)) = (arguments.next(), arguments.next()) else {
        println!("skipped: heads wants a folder of pictures and one to write to");
        return Ok(());
    };
    let count: usize = arguments.next().map_or(Ok(200), |n| n.parse())?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(&pictures)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.sort();
    let file = ModelFile::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/retinad-m-320-int8.onnx"))?;
    let input = file.manifest()?.input.clone();
    let real: [[f32; 256]; 3] =
        std::array::from_fn(|c| std::array::from_fn(|v| (v as f32 * input.scale_to_unit - input.mean[c]) / input.std[c]));
    let engine = Engine::load(&file, Arithmetic::Best)?;
    let (scale, zero) = engine.input_quantisation().ok_or("the model does not run in INT8 here")?;
    let codes = real.map(|values| values.map(|v| ((v / scale).round_ties_even() + zero as f32).clamp(0.0, 255.0) as u8));
    let mut session = engine.session(1)?;
    let mut letterbox = Letterbox::new(input.width, input.height, false);
    std::fs::create_dir_all(&out)?;
    let mut inputs = std::io::BufWriter::new(std::fs::File::create(Path::new(&out).join("input.f32"))?);
    let mut heads_file = std::io::BufWriter::new(std::fs::File::create(Path::new(&out).join("heads.f32"))?);
    let mut values = vec![0.0; 3 * (input.width * input.height) as usize];
    let mut done = 0;
    for path in files.iter().take(count) {
        let mut picture = Picture::default();
        image::decode(&RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, data: std::fs::read(path)? }, &mut picture)?;
        letterbox.fit(&picture, [127; 3], &real, &mut values)?;
        values.iter().try_for_each(|v| inputs.write_all(&v.to_le_bytes()))?;
        let fill = |input: Input<'_>| match input {
            Input::Codes { data, row, pixel } => letterbox.fit_codes(&picture, [127; 3], &codes, data, (row, pixel)),
            Input::Real(_) => Err("an INT8 session takes codes".into()),
        };
        let (_, heads) = session.run(fill)?;
        for head in heads.levels.iter().map(|level| &level.0).chain(heads.levels.iter().map(|level| &level.1)) {
            for channel in 0..head.channels {
                (0..head.height * head.width).try_for_each(|cell| heads_file.write_all(&head.value(channel, cell).to_le_bytes()))?;
            }
        }
        done += 1;
    }
    println!("{done} pictures to {out}");
    Ok(())
}
