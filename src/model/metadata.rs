//! One entry of an ONNX file's `metadata_props` put into its bytes.
//!
//! An ONNX file is a protobuf message: fields one after the other, each a key (a number and a wire type) and
//! a value. Only the entry's own field is written; every other byte stays, also in fields that the protobuf
//! types here do not know.

use prost::Message;
use tract_onnx::pb;

/// Number of `ModelProto.metadata_props`.
const METADATA_PROPS: u64 = 14;
/// Wire type of a field that begins with its length.
const LENGTH_DELIMITED: u64 = 2;

/// `bytes` of an ONNX file with the entry `key` set to `value`: the first entry of that key is replaced, or
/// one is added at the end.
///
/// `None` if the bytes are not a sequence of whole fields (groups, which ONNX does not have, are not known).
pub fn with_entry(bytes: &[u8], key: &str, value: &str) -> Option<Vec<u8>> {
    let mut replaced = bytes.len()..bytes.len();
    let mut at = 0;
    while at < bytes.len() {
        let field = first_field(&bytes[at..])?;
        let end = at + field.length;
        if field.number == METADATA_PROPS
            && field.content.is_some_and(|content| entry_key(content).as_deref() == Some(key))
        {
            replaced = at..end;
            break;
        }
        at = end;
    }
    let entry = pb::StringStringEntryProto { key: key.to_owned(), value: value.to_owned() }.encode_to_vec();
    let mut out = bytes[..replaced.start].to_vec();
    push_varint(&mut out, (METADATA_PROPS << 3) | LENGTH_DELIMITED);
    push_varint(&mut out, entry.len() as u64);
    out.extend_from_slice(&entry);
    out.extend_from_slice(&bytes[replaced.end..]);
    Some(out)
}

fn entry_key(content: &[u8]) -> Option<String> {
    pb::StringStringEntryProto::decode(content).ok().map(|entry| entry.key)
}

/// One field of a message.
struct Field<'a> {
    number: u64,
    /// The value of a length-delimited field.
    content: Option<&'a [u8]>,
    /// Bytes of key and value.
    length: usize,
}

/// The field that `bytes` begin with.
///
/// Source: protobuf's encoding, <https://protobuf.dev/programming-guides/encoding/>.
fn first_field(bytes: &[u8]) -> Option<Field<'_>> {
    let mut rest = bytes;
    let key = varint(&mut rest)?;
    let mut content = None;
    match key & 7 {
        0 => {
            varint(&mut rest)?;
        }
        1 => rest = rest.get(8..)?,
        LENGTH_DELIMITED => {
            let length = usize::try_from(varint(&mut rest)?).ok()?;
            let (value, after) = rest.split_at_checked(length)?;
            (content, rest) = (Some(value), after);
        }
        5 => rest = rest.get(4..)?,
        _ => return None,
    }
    Some(Field { number: key >> 3, content, length: bytes.len() - rest.len() })
}

/// Takes a number of seven bits a byte, the lowest first, from the front of `bytes`.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(entries: &[(&str, &str)]) -> pb::ModelProto {
        let entry = |(key, value): &(&str, &str)| pb::StringStringEntryProto {
            key: (*key).into(),
            value: (*value).into(),
        };
        pb::ModelProto {
            ir_version: 8,
            model_version: -1,
            metadata_props: entries.iter().map(entry).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn an_entry_is_replaced_in_its_place_or_added_at_the_end() {
        let long = "x".repeat(300);
        let before = model(&[("a", "1"), ("key", "old"), ("z", "2")]).encode_to_vec();
        assert_eq!(
            with_entry(&before, "key", &long),
            Some(model(&[("a", "1"), ("key", &long), ("z", "2")]).encode_to_vec())
        );
        let without = model(&[("a", "1")]).encode_to_vec();
        assert_eq!(
            with_entry(&without, "key", "new"),
            Some(model(&[("a", "1"), ("key", "new")]).encode_to_vec())
        );
        assert_eq!(
            with_entry(b"", "key", "new"),
            Some(
                pb::ModelProto { ir_version: 0, model_version: 0, ..model(&[("key", "new")]) }
                    .encode_to_vec()
            )
        );
    }

    #[test]
    fn fields_of_every_kind_and_unknown_number_stay_as_they_are() {
        // A varint of ten bytes, 64 bits, 32 bits, and a length-delimited field, all of numbers that ONNX
        // does not use.
        let strange: &[u8] = &[
            0xc0, 0x3e, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0xc9, 0x3e, 1, 2, 3, 4,
            5, 6, 7, 8, 0xd5, 0x3e, 1, 2, 3, 4, 0xda, 0x3e, 2, 9, 9,
        ];
        let (old, new) = (model(&[("key", "old")]).encode_to_vec(), model(&[("key", "new")]).encode_to_vec());
        assert_eq!(
            with_entry(&[strange, &old, strange].concat(), "key", "new"),
            Some([strange, &new, strange].concat())
        );
    }

    #[test]
    fn bytes_that_are_cut_or_no_fields_are_refused() {
        let whole = model(&[("a", &"1".repeat(200))]).encode_to_vec();
        assert_eq!(with_entry(&whole[..whole.len() - 1], "key", "new"), None);
        assert_eq!(with_entry(&[0xff; 20], "key", "new"), None);
        // A group, and a length beyond the end.
        assert_eq!(with_entry(&[0x0b, 0x0c], "key", "new"), None);
        assert_eq!(
            with_entry(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], "key", "new"),
            None
        );
    }
}
