//! Windows of convolutions and pools: from what a node says of them to pixels.

use super::{Average, attribute};
use crate::kernels::ConvShape;
use tract_onnx::pb;

/// A window over a plane, rows first.
struct Window {
    kernel: [usize; 2],
    stride: [usize; 2],
    /// Above and on the left; what is below and on the right follows from `out`.
    pad: [usize; 2],
    /// Sides of the output.
    out: [usize; 2],
    /// The last window may begin in the picture and end beyond its padding.
    overhangs: bool,
}

/// Widest window, step and padding, pixels.
const MAX_SIDE: i64 = 1024;
/// Widest window that a kernel of its own slides over a plane.
const MAX_SQUARE: usize = crate::kernels::MAX_KERNEL;

/// A square window of one step, for `input` `[channels, height, width]`, and the output's shape, channels as
/// the input's. `weights` are the sides of the weights, where there are any.
///
/// # Errors
/// What has no such form.
pub fn square(
    node: &pb::NodeProto,
    input: [usize; 3],
    weights: Option<[usize; 2]>,
) -> Result<(ConvShape, [usize; 3]), String> {
    let Window { kernel: [ky, kx], stride: [sy, sx], pad: [top, left], out, .. } =
        window(node, input, weights)?;
    if ky != kx || sy != sx || top != left {
        return Err("a window that is not square".into());
    }
    if ky > MAX_SQUARE || sy > MAX_SQUARE {
        return Err(format!("a window of more than {MAX_SQUARE} pixels"));
    }
    if top >= ky {
        return Err("padded by more than its window".into());
    }
    Ok((ConvShape { kernel: ky, stride: sy, pad: top }, [input[0], out[0], out[1]]))
}

/// The window of an AveragePool, and its output's shape.
///
/// # Errors
/// What has no such form.
pub fn average(node: &pb::NodeProto, input: [usize; 3]) -> Result<(Average, [usize; 3]), String> {
    let Window { kernel, stride, pad, out, overhangs } = window(node, input, None)?;
    let all = attribute(node, "count_include_pad").is_some_and(|a| a.i != 0);
    if all && overhangs {
        return Err("counts padding, with windows that reach beyond it".into());
    }
    if pad[0] >= kernel[0] || pad[1] >= kernel[1] {
        return Err("padded by more than its window".into());
    }
    Ok((Average { kernel, stride, pad, all }, [input[0], out[0], out[1]]))
}

fn window(
    node: &pb::NodeProto,
    [_, height, width]: [usize; 3],
    weights: Option<[usize; 2]>,
) -> Result<Window, String> {
    if attribute(node, "dilations").is_some_and(|a| a.ints.iter().any(|&d| d != 1)) {
        return Err("dilated".into());
    }
    let own = pair(node, "kernel_shape", 1)?;
    let kernel = own.or(weights).ok_or("a window without sides")?;
    if weights.is_some_and(|weights| weights != kernel) {
        return Err(format!("`kernel_shape` {kernel:?}, but weights of {weights:?}"));
    }
    let stride = pair(node, "strides", 1)?.unwrap_or([1, 1]);
    let ceil = attribute(node, "ceil_mode").is_some_and(|a| a.i != 0);
    let word = attribute(node, "auto_pad").map_or(&b"NOTSET"[..], |a| &a.s);
    let pads = match word {
        b"" | b"NOTSET" => list::<4>(node, "pads", 0)?.unwrap_or_default(),
        b"VALID" => [0; 4],
        b"SAME_UPPER" | b"SAME_LOWER" => {
            let upper = word == b"SAME_UPPER";
            let [top, bottom] = same(height, kernel[0], stride[0], upper);
            let [left, right] = same(width, kernel[1], stride[1], upper);
            [top, left, bottom, right]
        }
        _ => return Err("an `auto_pad` that is not known".into()),
    };
    let side = |axis: usize, size: usize| {
        let whole = size + pads[axis] + pads[axis + 2];
        let rest = whole.checked_sub(kernel[axis]).ok_or("a window larger than its input")?;
        if !ceil {
            return Ok(rest / stride[axis] + 1);
        }
        let out = rest.div_ceil(stride[axis]) + 1;
        // A window that would begin in the padding behind the picture is left out.
        let begins_behind = (out - 1) * stride[axis] >= size + pads[axis];
        Ok::<_, String>(if begins_behind { out - 1 } else { out })
    };
    let out = [side(0, height)?, side(1, width)?];
    Ok(Window { kernel, stride, pad: [pads[0], pads[1]], out, overhangs: ceil })
}

/// Padding before and behind that makes the output as long as the input, divided by the step.
fn same(size: usize, kernel: usize, stride: usize, upper: bool) -> [usize; 2] {
    let all = ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size);
    let less = all / 2;
    if upper { [less, all - less] } else { [all - less, less] }
}

fn pair(node: &pb::NodeProto, name: &str, least: i64) -> Result<Option<[usize; 2]>, String> {
    list::<2>(node, name, least)
}

/// `N` numbers of an attribute, `least` to [`MAX_SIDE`]; none if it is not there.
fn list<const N: usize>(node: &pb::NodeProto, name: &str, least: i64) -> Result<Option<[usize; N]>, String> {
    let Some(found) = attribute(node, name) else { return Ok(None) };
    let sides: &[i64; N] =
        found.ints.as_slice().try_into().map_err(|_| "a window that is not of two dimensions")?;
    if !sides.iter().all(|side| (least..=MAX_SIDE).contains(side)) {
        return Err(format!("`{name}` {sides:?}, must be {least} to {MAX_SIDE}"));
    }
    Ok(Some(sides.map(|side| side as usize)))
}
