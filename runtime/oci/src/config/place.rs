//! From the position of a parser's error to the path of the field there.

/// What encloses a position.
enum Frame {
    Object { key: String, is_key_next: bool },
    Array { index: usize },
}

/// Returns the path of the value that ends at a position of a JSON text, as `process.env[3]`; empty for the document.
///
/// Line and column are serde_json's: of the last byte that was read, both from 1. Up to there the text is valid.
pub(super) fn field_at(bytes: &[u8], line: usize, column: usize) -> String {
    let before: usize =
        bytes.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    let mut left = &bytes[..bytes.len().min(before + column)];
    let mut frames = Vec::new();
    while let Some((byte, rest)) = left.split_first() {
        left = rest;
        match (byte, frames.last_mut()) {
            (b'{', _) => frames.push(Frame::Object { key: String::new(), is_key_next: true }),
            (b'[', _) => frames.push(Frame::Array { index: 0 }),
            (b'}' | b']', _) => drop(frames.pop()),
            (b',', Some(Frame::Object { is_key_next, .. })) => *is_key_next = true,
            (b',', Some(Frame::Array { index })) => *index += 1,
            (b'"', frame) => {
                let text = string(&mut left);
                if let Some(Frame::Object { key, is_key_next: is_next @ true }) = frame {
                    (*key, *is_next) = (text, false);
                }
            }
            _ => {}
        }
    }
    let mut path = String::new();
    for frame in frames {
        match frame {
            Frame::Object { key, .. } if path.is_empty() => path = key,
            Frame::Object { key, .. } => path = format!("{path}.{key}"),
            Frame::Array { index } => path = format!("{path}[{index}]"),
        }
    }
    path
}

/// Takes the rest of a string; names of fields need no escapes.
fn string(left: &mut &[u8]) -> String {
    let mut is_escaped = false;
    let end = left.iter().position(|byte| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    });
    let (text, rest) = left.split_at(end.unwrap_or(left.len()));
    *left = rest.get(1..).unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_that_of_the_value_that_ends_there() {
        let text = "{\"a\": {\"b,\\\"c\": [1, {\"d\": \"x]\"}, 3]},\n \"e\": true}";
        let at = |end: &str| {
            let offset = text.find(end).unwrap() + end.len();
            let line = text[..offset].matches('\n').count() + 1;
            let column = offset - text[..offset].rfind('\n').map_or(0, |at| at + 1);
            field_at(text.as_bytes(), line, column)
        };
        assert_eq!(at("[1"), "a.b,\\\"c[0]");
        assert_eq!(at("x]\""), "a.b,\\\"c[1].d");
        assert_eq!(at("x]\"}"), "a.b,\\\"c[1]");
        assert_eq!(at("3]"), "a.b,\\\"c");
        assert_eq!(at("3]}"), "a");
        assert_eq!(at("true"), "e");
        assert_eq!(at("true}"), "");
        assert_eq!(field_at(b"{\"a\": \"un", 9, 9), "a");
        assert_eq!(field_at(b"", 1, 0), "");
    }
}
