//! `retinad manifest`: shows, proposes, checks and writes the manifest of a model file.

mod check;
mod stamp;

use super::exit::{Exit, Failure};
use super::print::{self, complain, printable, safe_json};
use crate::engine::{Arithmetic, Engine};
use crate::model::{Draft, DraftWishes, Manifest, ModelFile, Outline, one_line};
use crate::regular_file;
use clap::Args;
use std::path::{Path, PathBuf};

/// What stands under `retinad manifest --help`.
pub const EXAMPLES: &str = "Examples:\n\
    \x20 retinad manifest model.onnx                                   # the manifest that it has\n\
    \x20 retinad manifest --template model.onnx -o model.json          # a proposal, to be finished\n\
    \x20 retinad manifest --check model.onnx --manifest model.json     # all errors at once\n\
    \x20 retinad manifest --stamp model.onnx --manifest model.json -o mine.onnx\n\n\
    docs/own-model.md says what each key means.\n\n\
    Exit code: 0 done; 2 usage; 71 the output cannot be written; 78 model or manifest cannot be used.";

/// Arguments of `retinad manifest`.
#[derive(Args)]
pub struct ManifestArguments {
    /// The ONNX file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Print the manifest that the file has, as JSON; also without this
    #[arg(long, group = "what")]
    show: bool,
    /// Propose a manifest, as JSON, from the graph's names and shapes; what a graph cannot say is assumed,
    /// and told on stderr
    #[arg(long, group = "what")]
    template: bool,
    /// Check the manifest, the file's own or that of --manifest, against the graph; every error is a line
    #[arg(long, group = "what")]
    check: bool,
    /// Write the model with the manifest of --manifest inside to -o, if that is right
    #[arg(long, group = "what", requires_all = ["manifest", "output"])]
    stamp: bool,
    /// A manifest as a file of its own (JSON, up to 4 MiB), for --check and --stamp
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["show", "template"])]
    manifest: Option<PathBuf>,
    /// Where --template writes, instead of stdout, and --stamp; the model itself may be named with --stamp
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["show", "check"])]
    output: Option<PathBuf>,
    /// Width and height of the input for --template, where the file leaves them open
    #[arg(long, value_name = "WxH", requires = "template", value_parser = size)]
    size: Option<[u32; 2]>,
    /// Side of the first square anchor for --template, in strides, above 0 and at most 64
    #[arg(long, value_name = "NUMBER", requires = "template", default_value = "4", value_parser = strides)]
    anchor_strides: f32,
}

/// Largest manifest file that is read, bytes.
const MAX_JSON: u64 = 4 << 20;

/// Runs `retinad manifest`.
pub fn manifest(arguments: &ManifestArguments) -> Result<(), Failure> {
    if arguments.template {
        template(arguments)
    } else if arguments.check {
        check::check(arguments)
    } else if arguments.stamp {
        stamp::stamp(arguments)
    } else if arguments.manifest.is_some() || arguments.output.is_some() {
        let words = "--manifest and -o go with --check, --stamp or --template; say which";
        Err(Failure::new(Exit::Usage, words))
    } else {
        let file = ModelFile::read(&arguments.model)?;
        let manifest = file.manifest().map_err(Failure::from)?;
        print::write(&pretty(manifest)?);
        Ok(())
    }
}

fn template(arguments: &ManifestArguments) -> Result<(), Failure> {
    let (file, _) = ModelFile::read_apart(&arguments.model)?;
    let outline = file.outline()?;
    let refused = |reason: String| Failure::new(Exit::Unusable, format!("{}: {reason}", file.path));
    let input_wh = input_size(&outline, arguments.size).map_err(refused)?;
    let shape = [1, 3, input_wh[1] as usize, input_wh[0] as usize];
    let wishes = DraftWishes { input_wh, anchor_strides: arguments.anchor_strides };
    let outputs = Engine::load_for(&file, Arithmetic::Best, &shape)?.outputs();
    let draft = Draft::new(&outline, &outputs, wishes)
        .or_else(|reason| before_the_ends(&file, &outline, &shape, wishes).ok_or(reason))
        .map_err(|reason| {
            let outputs: Vec<String> = outputs.iter().take(20).map(shown).collect();
            refused(format!("{reason}; its outputs: {}", outputs.join(", ")))
        })?;
    let json = pretty(&draft.manifest)?;
    match &arguments.output {
        Some(path) => stamp::write(path, json.as_bytes(), &[&arguments.model])?,
        None => print::write(&json),
    }
    for (key, words) in &draft.open {
        complain(format_args!("fill in {}: {}", printable(key), printable(words)));
    }
    Ok(())
}

/// A proposal from the tensors before the nodes that join or turn the heads, where the outputs themselves
/// are none.
fn before_the_ends(
    file: &ModelFile,
    outline: &Outline,
    shape: &[usize],
    wishes: DraftWishes,
) -> Option<Draft> {
    let tensors: Vec<&str> = outline.ends.iter().map(String::as_str).collect();
    let engine = Engine::load_up_to(file, Arithmetic::Best, shape, &tensors).ok()?;
    let outputs = engine.outputs();
    // Each tensor under the name that the manifest is to have, in the order of the outputs.
    let named = outline.ends.iter().filter_map(|tensor| {
        let given = engine.given_as(tensor);
        let (_, shape) = outputs.iter().find(|(name, _)| name == given)?;
        Some((tensor.clone(), shape.clone()))
    });
    Draft::new(outline, &named.collect::<Vec<_>>(), wishes).ok()
}

/// Width and height of the one input, which must be a picture.
fn input_size(outline: &Outline, wished: Option<[u32; 2]>) -> Result<[u32; 2], String> {
    let [input] = &outline.inputs[..] else {
        return Err(format!("{} inputs, must be one", outline.inputs.len()));
    };
    let name = one_line(&input.name);
    if !input.is_f32 {
        return Err(format!("input `{name}` is not of 32-bit floats, must be"));
    }
    let sides: Vec<String> =
        input.sides.iter().map(|side| side.map_or_else(|| "?".into(), |side| side.to_string())).collect();
    let sides = sides.join(", ");
    let [batch, channels, height, width] = input.sides[..] else {
        return Err(format!("input `{name}` is [{sides}], must be [1, 3, height, width]"));
    };
    if batch.is_some_and(|n| n != 1) || channels.is_some_and(|n| n != 3) {
        return Err(format!("input `{name}` is [{sides}], must be [1, 3, height, width] (nchw)"));
    }
    let [wished_width, wished_height] = wished.map_or([None; 2], |wished| wished.map(Some));
    let side = |key: &str, own: Option<usize>, wished: Option<u32>| {
        let own = own.map(|own| u32::try_from(own).unwrap_or(u32::MAX));
        match (own, wished) {
            (Some(own), Some(wished)) if own != wished => {
                Err(format!("--size asks for a {key} of {wished}, but input `{name}` is [{sides}]"))
            }
            (None, None) => {
                Err(format!("input `{name}` is [{sides}], its {key} is open: say it, such as --size 320x320"))
            }
            (own, wished) => match own.or(wished).unwrap_or_default() {
                side @ 32..=2048 => Ok(side),
                side => Err(format!("input `{name}` has a {key} of {side}, must be 32 to 2048")),
            },
        }
    };
    Ok([side("width", width, wished_width)?, side("height", height, wished_height)?])
}

/// An output with its shape.
fn shown((name, shape): &(String, Vec<usize>)) -> String {
    format!("{} {shape:?}", one_line(name))
}

/// The manifest for people: indented, its keys in the order of the document.
fn pretty(manifest: &Manifest) -> Result<String, Failure> {
    let json = serde_json::to_string_pretty(manifest).map_err(Failure::of(Exit::Internal))?;
    Ok(json.lines().map(|line| safe_json(line) + "\n").collect())
}

/// The text of a manifest file.
fn read_json(path: &Path) -> Result<String, Failure> {
    let name = one_line(&path.display().to_string());
    let failed = |reason: String| Failure::new(Exit::Unusable, format!("{name}: {reason}"));
    let bytes = regular_file::read(path, MAX_JSON).map_err(|e| failed(e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| failed(format!("{}, must be JSON in UTF-8", e.utf8_error())))
}

/// `320x320`: width and height.
fn size(text: &str) -> Result<[u32; 2], String> {
    let sides = text.split_once('x').and_then(|(w, h)| Some([w.parse().ok()?, h.parse().ok()?]));
    let allowed = |sides: &[u32; 2]| sides.iter().all(|side| (32..=2048).contains(side));
    sides.filter(allowed).ok_or_else(|| "must be such as 320x320, each side 32 to 2048".into())
}

fn strides(text: &str) -> Result<f32, String> {
    let number = text.parse::<f32>().ok().filter(|number| *number > 0.0 && *number <= 64.0);
    number.ok_or_else(|| "must be a number above 0 and at most 64".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::GraphInput;

    #[test]
    fn the_input_is_one_picture_whose_size_the_file_or_the_person_says() {
        let input = |sides: &[usize], is_f32| GraphInput {
            name: "x".into(),
            sides: sides.iter().map(|side| Some(*side).filter(|side| *side > 0)).collect(),
            is_f32,
        };
        let of =
            |inputs: Vec<GraphInput>, wished| input_size(&Outline { inputs, ..Outline::default() }, wished);
        assert_eq!(of(vec![input(&[1, 3, 240, 320], true)], None), Ok([320, 240]));
        assert_eq!(of(vec![input(&[0, 3, 0, 0], true)], Some([320, 240])), Ok([320, 240]));
        for (inputs, wished, words) in [
            (vec![], None, "0 inputs"),
            (vec![input(&[1, 3, 0, 320], true)], None, "its height is open"),
            (vec![input(&[1, 3, 240, 320], true)], Some([320, 320]), "--size asks for a height of 320"),
            (vec![input(&[1, 240, 320, 3], true)], None, "must be [1, 3, height, width]"),
            (vec![input(&[1, 3, 240, 320], false)], None, "32-bit floats"),
            (vec![input(&[9], true)], None, "must be [1, 3"),
            (vec![input(&[1, 3, 240, 1 << 40], true)], None, "must be 32 to 2048"),
        ] {
            let error = of(inputs, wished).expect_err("refused");
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn sizes_and_strides_are_numbers_within_bounds() {
        assert_eq!(size("320x240"), Ok([320, 240]));
        for text in ["", "320", "0x0", "320x99999", "-1x32", "320x240x3"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(strides("3"), Ok(3.0));
        for text in ["", "0", "NaN", "inf", "-1", "65"] {
            assert!(strides(text).is_err(), "{text}");
        }
    }
}
