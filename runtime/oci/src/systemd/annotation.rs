//! Annotations `org.systemd.property.NAME`: properties of the unit as a spec asks for them, their values in the text
//! form of GVariant, of which this reads numbers, texts, truths and lists of them. Pure.

use std::collections::HashMap;

use super::{Error, Property, wire::Value};

const PREFIX: &str = "org.systemd.property.";

/// Returns the properties that annotations ask for, by name.
pub fn properties(annotations: &HashMap<String, String>) -> Result<Vec<Property>, Error> {
    let mut list: Vec<_> =
        annotations.iter().filter_map(|(key, text)| Some((key.strip_prefix(PREFIX)?, text))).collect();
    list.sort();
    list.into_iter().map(|(name, text)| property(name, text)).collect()
}

fn property(name: &str, text: &str) -> Result<Property, Error> {
    let refused = |reason: String| Error::Annotation { name: format!("{PREFIX}{name}"), reason };
    let is_name = name.len() >= 3 && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    if !is_name || !name.starts_with(|letter: char| letter.is_ascii_uppercase()) {
        return Err(refused("it is not the name of a property".to_owned()));
    }
    let mut parser = Parser { rest: text };
    let value = parser.value(None).filter(|_| parser.rest.trim().is_empty());
    let value =
        value.ok_or_else(|| refused(format!("{text:?} is not a value as `uint64 5`, `true`, `'text'`, `['a']`")))?;
    // Units have seconds in files, and microseconds on the bus.
    match name.strip_suffix("USec").is_none().then(|| name.strip_suffix("Sec")).flatten() {
        Some(short) => {
            let value = microseconds(&value).ok_or_else(|| refused(format!("{text:?} is not a number of seconds")))?;
            Ok(Property::required(&format!("{short}USec"), value))
        }
        None => Ok(Property::required(name, value)),
    }
}

fn microseconds(value: &Value) -> Option<Value> {
    let whole = |seconds: u64| seconds.checked_mul(1_000_000);
    let number = match value {
        Value::I32(seconds) => whole(u64::try_from(*seconds).ok()?)?,
        Value::U32(seconds) => whole(u64::from(*seconds))?,
        Value::I64(seconds) => whole(u64::try_from(*seconds).ok()?)?,
        Value::U64(seconds) => whole(*seconds)?,
        Value::F64(seconds) if *seconds >= 0.0 && *seconds < 1e12 => (seconds * 1e6) as u64,
        _ => return None,
    };
    Some(Value::U64(number))
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// Reads a value; of this type, if one was named before it.
    fn value(&mut self, kind: Option<&str>) -> Option<Value> {
        self.rest = self.rest.trim_start();
        match self.rest.chars().next()? {
            '\'' | '"' => self.text().filter(|_| kind.is_none_or(|kind| kind == "s")).map(Value::Text),
            '[' => self.list(kind),
            '@' => {
                let kind = self.word().strip_prefix('@')?.to_owned();
                self.value(Some(&kind))
            }
            _ => {
                let word = self.word();
                let named = match word {
                    "boolean" => "b",
                    "byte" => "y",
                    "int32" => "i",
                    "uint32" => "u",
                    "int64" => "x",
                    "uint64" => "t",
                    "double" => "d",
                    "string" => "s",
                    _ => return scalar(word, kind),
                };
                self.value(Some(named))
            }
        }
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|one: char| one.is_whitespace() || ",[]'\"".contains(one)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn text(&mut self) -> Option<String> {
        let mut letters = self.rest.char_indices();
        let (_, quote) = letters.next()?;
        let mut text = String::new();
        while let Some((place, letter)) = letters.next() {
            match letter {
                '\\' => text.push(letters.next()?.1),
                _ if letter == quote => {
                    self.rest = &self.rest[place + letter.len_utf8()..];
                    return Some(text).filter(|text| !text.contains('\0'));
                }
                _ => text.push(letter),
            }
        }
        None
    }

    /// All values of a list have one type: that before it, or that of the first.
    fn list(&mut self, kind: Option<&str>) -> Option<Value> {
        let mut of = match kind {
            Some(kind) => Some(kind.strip_prefix('a')?.to_owned()),
            None => None,
        };
        self.rest = &self.rest[1..];
        let mut values = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix(']') {
                self.rest = rest;
                return of.map(|of| Value::List(of, values));
            }
            if !values.is_empty() {
                self.rest = self.rest.strip_prefix(',')?;
            }
            let value = self.value(of.as_deref())?;
            if of.get_or_insert_with(|| value.signature()).as_str() != value.signature() {
                return None;
            }
            values.push(value);
        }
    }
}

/// A number without a type is an `int32`, or a `double` if it has a point.
fn scalar(word: &str, kind: Option<&str>) -> Option<Value> {
    let is_number = word.starts_with(|one: char| one.is_ascii_digit() || one == '-');
    match (word, kind) {
        ("true" | "false", None | Some("b")) => Some(Value::Bool(word == "true")),
        _ if !is_number => None,
        (_, Some("d")) => word.parse().ok().map(Value::F64),
        (_, None) if word.contains('.') => word.parse().ok().map(Value::F64),
        (_, None | Some("i")) => word.parse().ok().map(Value::I32),
        (_, Some("y")) => word.parse().ok().map(Value::Byte),
        (_, Some("u")) => word.parse().ok().map(Value::U32),
        (_, Some("x")) => word.parse().ok().map(Value::I64),
        (_, Some("t")) => word.parse().ok().map(Value::U64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Property, Error> {
        let annotations = [(format!("{PREFIX}{name}"), text.to_owned()), ("other".to_owned(), "x".to_owned())];
        properties(&annotations.into_iter().collect()).map(|list| list[0].clone())
    }

    #[test]
    fn annotations_are_properties_of_the_type_they_name() {
        let texts = |list: &[&str]| {
            Value::List("s".to_owned(), list.iter().map(|text| Value::Text((*text).to_owned())).collect())
        };
        for (name, text, expected) in [
            ("TimeoutStopUSec", "uint64 123456789", Value::U64(123_456_789)),
            ("CollectMode", "'inactive-or-failed'", Value::Text("inactive-or-failed".to_owned())),
            ("Description", r#""a \"b\"""#, Value::Text("a \"b\"".to_owned())),
            ("SendSIGHUP", "true", Value::Bool(true)),
            ("OOMScoreAdjust", "-5", Value::I32(-5)),
            ("After", "['a.service', 'b.service']", texts(&["a.service", "b.service"])),
            ("Wants", "@as []", texts(&[])),
            ("AllowedCPUs", "[byte 3, 1]", Value::List("y".to_owned(), vec![Value::Byte(3), Value::Byte(1)])),
        ] {
            assert_eq!(read(name, text).unwrap(), Property::required(name, expected), "{name}");
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        for (text, expected) in [("5", 5_000_000), ("uint64 2", 2_000_000), ("1.5", 1_500_000)] {
            assert_eq!(
                read("TimeoutStopSec", text).unwrap(),
                Property::required("TimeoutStopUSec", Value::U64(expected))
            );
        }
        assert!(read("TimeoutStopSec", "'5'").is_err());
        assert!(read("TimeoutStopSec", "-5").is_err());
    }

    #[test]
    fn what_is_no_value_is_an_error_that_names_the_annotation() {
        for text in
            ["", "x", "uint64", "uint64 -1", "byte 256", "'a", "[1, 'a']", "[1", "[]", "1 2", "true false", "{}"]
        {
            let error = read("After", text).unwrap_err().to_string();
            assert!(error.starts_with("annotations.org.systemd.property.After: "), "{text:?}: {error}");
        }
        for name in ["", "ab", "after", "Aft er", "A/b", "After1"] {
            assert!(read(name, "true").is_err(), "{name:?}");
        }
    }
}
