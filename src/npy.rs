//! Arrays of f32 in NumPy's `.npy` format: read with every word of the header checked, and written.
//!
//! Source: NumPy's documentation of the format, `numpy.lib.format`, versions 1.0 to 3.0.

use std::io::Read;
use std::path::Path;

/// An array, row by row (the last side varies fastest).
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Its sides.
    pub shape: Vec<usize>,
    /// As many numbers as the sides multiplied.
    pub values: Vec<f32>,
}

/// Why a file cannot be read as an array. The text follows the file's name.
#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    /// The system's reason.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// What was found, and what must be.
    #[error("{0}")]
    Form(String),
}

/// Most bytes of a file.
const MAX_BYTES: u64 = 1 << 28;
const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// The header, with all before it, is a multiple of this.
const ALIGN: usize = 64;

/// Reads a file of f32, in little-endian order and row by row, as `numpy.save` writes it.
///
/// # Errors
/// [`NpyError`]; a file of another type or order, cut short or too long is named as such. A folder, FIFO or
/// device is refused without waiting.
pub fn read(path: &Path) -> Result<Array, NpyError> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = std::fs::File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(NpyError::Form("not a regular file".into()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(NpyError::Form(format!("more than {MAX_BYTES} bytes")));
    }
    parse(&bytes).map_err(NpyError::Form)
}

/// Reads the bytes of such a file.
///
/// # Errors
/// What was found, and what must be.
pub fn parse(bytes: &[u8]) -> Result<Array, String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("not a .npy file, as `numpy.save` writes it")?;
    let (&[major, _], rest) = rest.split_first_chunk().ok_or("cut short")?;
    let (length, rest) = match major {
        1 => rest.split_first_chunk().map(|(b, rest)| (u16::from_le_bytes(*b) as usize, rest)),
        2 | 3 => rest.split_first_chunk().map(|(b, rest)| (u32::from_le_bytes(*b) as usize, rest)),
        other => return Err(format!("version {other} of the format, must be 1 to 3")),
    }
    .ok_or("cut short")?;
    let (header, data) = rest.split_at_checked(length).ok_or("cut short")?;
    let shape = header_shape(std::str::from_utf8(header).map_err(|_| "a header that is no text")?)?;
    let count = shape.iter().try_fold(1usize, |all, &side| all.checked_mul(side));
    let expected = count.and_then(|count| count.checked_mul(4));
    if expected != Some(data.len()) {
        return Err(format!("{} bytes of numbers, but a shape of {shape:?} f32", data.len()));
    }
    let values = data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    Ok(Array { shape, values })
}

/// The shape in a header: `{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }`, its keys in any
/// order.
fn header_shape(header: &str) -> Result<Vec<usize>, String> {
    let strange =
        || format!("a header that is not NumPy's: {:?}", header.chars().take(80).collect::<String>());
    let inner = header.trim().strip_prefix('{').and_then(|h| h.strip_suffix('}')).ok_or_else(strange)?;
    let (mut descr, mut order, mut shape) = (None, None, None);
    let mut rest = inner.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once(':').ok_or_else(strange)?;
        let after = after.trim_start();
        // A shape holds commas of its own.
        let end = match after.strip_prefix('(') {
            Some(_) => after.find(')').ok_or_else(strange)? + 1,
            None => after.find(',').unwrap_or(after.len()),
        };
        let (value, after) = after.split_at(end);
        let slot = match key.trim() {
            "'descr'" | "\"descr\"" => &mut descr,
            "'fortran_order'" | "\"fortran_order\"" => &mut order,
            "'shape'" | "\"shape\"" => &mut shape,
            _ => return Err(strange()),
        };
        if slot.replace(value.trim()).is_some() {
            return Err(strange());
        }
        rest = after.trim_start().trim_start_matches(',').trim_start();
    }
    let (Some(descr), Some(order), Some(shape)) = (descr, order, shape) else { return Err(strange()) };
    match descr.trim_matches(['\'', '"']) {
        "<f4" => {}
        other => {
            return Err(format!("numbers of type {other}, must be <f4: `array.astype('<f4')` makes them so"));
        }
    }
    match order {
        "False" => {}
        "True" => return Err("column by column, must be row by row: `numpy.ascontiguousarray`".into()),
        _ => return Err(strange()),
    }
    let sides = shape.strip_prefix('(').and_then(|s| s.strip_suffix(')')).ok_or_else(strange)?;
    let sides = sides.trim().trim_end_matches(',');
    if sides.is_empty() {
        return Ok(Vec::new());
    }
    sides.split(',').map(|side| side.trim().parse().map_err(|_| strange())).collect()
}

/// The bytes of a file of `shape` and `values`, version 1.0.
///
/// # Panics
/// If there are not as many values as the shape says.
#[must_use]
pub fn encode(shape: &[usize], values: &[f32]) -> Vec<u8> {
    assert_eq!(shape.iter().product::<usize>(), values.len(), "numbers of another shape");
    let sides: String = shape.iter().map(|side| format!("{side}, ")).collect();
    // One side is written with its comma, more without the last one.
    let sides = if shape.len() > 1 { sides.trim_end_matches(", ") } else { sides.trim_end() };
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({sides}), }}");
    let before = MAGIC.len() + 4;
    let end = (before + header.len() + 1).next_multiple_of(ALIGN);
    header.extend(std::iter::repeat_n(' ', end - before - header.len() - 1));
    header.push('\n');
    let mut bytes = Vec::with_capacity(end + 4 * values.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_the_same_and_begins_at_a_multiple_of_64() {
        for shape in [vec![], vec![3], vec![1, 3, 2, 2], vec![0, 5]] {
            let count = shape.iter().product::<usize>();
            let values: Vec<f32> = (0..count).map(|i| i as f32 * 0.5 - 1.0).collect();
            let bytes = encode(&shape, &values);
            assert_eq!((bytes.len() - 4 * count) % ALIGN, 0);
            assert_eq!(parse(&bytes), Ok(Array { shape, values }));
        }
    }

    /// The first bytes that NumPy 2.3 writes for `numpy.save(file, numpy.float32([[1, 2, 3]]))`.
    #[test]
    fn headers_are_those_of_numpy() {
        let bytes = encode(&[1, 3], &[1.0, 2.0, 3.0]);
        let start = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }   ";
        assert!(bytes.starts_with(start), "{:?}", String::from_utf8_lossy(&bytes[..80]));
        let one = encode(&[3], &[1.0, 2.0, 3.0]);
        assert!(String::from_utf8_lossy(&one).contains("'shape': (3,), }"));
    }

    #[test]
    fn other_types_orders_and_lengths_are_refused_in_words() {
        let good = encode(&[2, 2], &[1.0; 4]);
        let with = |from: &str, to: &str| {
            let text: Vec<u8> = good.clone();
            let at = text.windows(from.len()).position(|w| w == from.as_bytes()).expect("there");
            [&text[..at], to.as_bytes(), &text[at + from.len()..]].concat()
        };
        for (bytes, words) in [
            (with("<f4", "<f8"), "<f8"),
            (with("<f4", ">f4"), ">f4"),
            (with("False", "True "), "row by row"),
            (with("(2, 2)", "(2, 3)"), "16 bytes of numbers"),
            (with("(2, 2)", "(2,-2)"), "header"),
            (with("'shape'", "'shade'"), "header"),
            (with("'shape'", "'descr'"), "header"),
            (with("(2, 2), }                  ", "(9999999999, 9999999999), }"), "a shape of"),
            (good[..good.len() - 1].to_vec(), "15 bytes"),
            ([&good[..], &[0]].concat(), "17 bytes"),
            (good[..40].to_vec(), "cut short"),
            (good[..8].to_vec(), "cut short"),
            (b"PK\x03\x04".to_vec(), "not a .npy"),
            (Vec::new(), "not a .npy"),
        ] {
            let error = parse(&bytes).expect_err(words);
            assert!(error.contains(words), "{words}: {error}");
        }
        for length in 0..good.len() {
            assert!(parse(&good[..length]).is_err(), "{length} bytes");
        }
    }
}
