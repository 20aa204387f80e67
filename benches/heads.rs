//! Inputs and outputs of a quantised model on many pictures, for `agree.py`, which lets other arithmetic
//! compute the same: `cargo bench --bench heads -- PICTURES OUT [COUNT] [MODEL]`. OUT gets `input.f32`
//! (`[n, 3, h, w]`) and `heads.f32` (of each picture all outputs in the file's order, each `[c, h, w]`).
//! Without MODEL it is the shipped one; one without a manifest is taken to want 320 x 320 pixels, (byte -
//! 127) / 128.

use retinad::engine::{Arithmetic, Engine, Input};
use retinad::frame::{Encoding, Picture, RawFrame, Turn};
use retinad::image::{self, Fit, Letterbox};
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
    let model = arguments.next().map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("models/retinad-m-320-int8.onnx"),
        PathBuf::from,
    );
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&pictures)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.sort();
    let file = ModelFile::read(&model)?;
    let ([width, height], unit, mean, std) = match file.manifest.as_ref().map(|manifest| &manifest.input) {
        Some(input) => ([input.width, input.height], input.scale_to_unit, input.mean, input.std),
        None => ([320; 2], 1.0, [127.0; 3], [128.0; 3]),
    };
    let real: [[f32; 256]; 3] =
        std::array::from_fn(|c| std::array::from_fn(|v| (v as f32 * unit - mean[c]) / std[c]));
    let engine = Engine::load_any(&file, Arithmetic::Best)?;
    let (scale, zero) = engine.input_quantisation().ok_or("the model does not run in INT8 here")?;
    let codes = real
        .map(|values| values.map(|v| ((v / scale).round_ties_even() + zero as f32).clamp(0.0, 255.0) as u8));
    let mut session = engine.session(1)?;
    let mut letterbox = Letterbox::new(width, height, Fit::TopLeft);
    std::fs::create_dir_all(&out)?;
    let mut inputs = std::io::BufWriter::new(std::fs::File::create(Path::new(&out).join("input.f32"))?);
    let mut heads = std::io::BufWriter::new(std::fs::File::create(Path::new(&out).join("heads.f32"))?);
    let mut values = vec![0.0; 3 * (width * height) as usize];
    let mut done = 0;
    for path in files.iter().take(count) {
        let mut picture = Picture::default();
        image::decode(
            &RawFrame {
                width: 0,
                height: 0,
                encoding: Encoding::Jpeg,
                turn: Turn::NONE,
                data: std::fs::read(path)?,
            },
            &mut picture,
        )?;
        letterbox.fit(&picture, [127; 3], &real, &mut values)?;
        values.iter().try_for_each(|v| inputs.write_all(&v.to_le_bytes()))?;
        let fill = |input: Input<'_>| match input {
            Input::Codes { data, row, pixel } => {
                letterbox.fit_codes(&picture, [127; 3], &codes, data, (row, pixel))
            }
            Input::Real(_) => Err("an INT8 session takes codes".into()),
        };
        session.run(fill)?;
        for output in 0..engine.outputs().len() {
            let head = session.output(output)?;
            for channel in 0..head.channels {
                (0..head.height * head.width)
                    .try_for_each(|cell| heads.write_all(&head.value(channel, cell).to_le_bytes()))?;
            }
        }
        done += 1;
    }
    println!("{done} pictures to {out}");
    Ok(())
}
