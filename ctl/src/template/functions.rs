//! The functions of Go's templates and of Docker's.

use std::cmp::Ordering;

use serde_json::Value;

use super::printf;
use super::shape::{is_true, kind, shown};

macro_rules! functions {
    ($($variant:ident = $name:literal,)*) => {
        /// A function.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Function { $($variant),* }

        impl Function {
            /// By its name.
            pub fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// All names.
            pub fn names() -> Vec<&'static str> {
                vec![$($name),*]
            }
        }
    };
}

functions! {
    And = "and", Eq = "eq", Ge = "ge", Gt = "gt", Html = "html", Index = "index", Join = "join", Json = "json", Le = "le",
    Len = "len", Lower = "lower", Lt = "lt", Ne = "ne", Not = "not", Or = "or", Pad = "pad", Print = "print",
    Printf = "printf", Println = "println", Slice = "slice", Split = "split", Title = "title", Truncate = "truncate",
    Upper = "upper", Urlquery = "urlquery",
}

/// The most bytes that one function makes: a format is no way to fill a memory.
const MOST_BYTES: usize = 4 << 20;

impl Function {
    /// Calls it. `and` and `or` are the evaluator's, which does not look at all of their arguments.
    pub fn call(self, args: &[Value]) -> Result<Value, String> {
        let found = match (self, args) {
            (Self::And | Self::Or, _) => args.last().cloned(),
            (Self::Not, [value]) => Some((!is_true(value)).into()),
            (Self::Eq, [first, others @ ..]) if !others.is_empty() => Some(any_equal(first, others)?.into()),
            (Self::Ne, [one, other]) => Some((!is_equal(one, other)?).into()),
            (Self::Lt, [one, other]) => Some((order(one, other)? == Ordering::Less).into()),
            (Self::Le, [one, other]) => Some((order(one, other)? != Ordering::Greater).into()),
            (Self::Gt, [one, other]) => Some((order(one, other)? == Ordering::Greater).into()),
            (Self::Ge, [one, other]) => Some((order(one, other)? != Ordering::Less).into()),
            (Self::Index, [of, keys @ ..]) => Some(keys.iter().try_fold(of.clone(), |of, key| index(&of, key))?),
            (Self::Slice, [of, bounds @ ..]) if bounds.len() <= 2 => Some(slice(of, bounds)?),
            (Self::Len, [value]) => Some(length(value)?.into()),
            (Self::Json, [value]) => Some(value.to_string().into()),
            (Self::Join, [one, other]) => Some(join(one, other)?.into()),
            (Self::Split, [of, by]) => Some(split(&text(of)?, &text(by)?)),
            (Self::Lower, [value]) => Some(text(value)?.to_lowercase().into()),
            (Self::Upper, [value]) => Some(text(value)?.to_uppercase().into()),
            (Self::Title, [value]) => Some(title(&text(value)?).into()),
            (Self::Pad, [of, before, after]) => Some(pad(&text(of)?, whole(before)?, whole(after)?)?.into()),
            (Self::Truncate, [of, most]) => Some(truncate(&text(of)?, whole(most)?).into()),
            (Self::Print, _) => Some(printed(args).into()),
            (Self::Println, _) => Some((args.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n").into()),
            (Self::Printf, [format, args @ ..]) => Some(printf::formatted(&text(format)?, args)?.into()),
            (Self::Html, _) => Some(html(&printed(args)).into()),
            (Self::Urlquery, _) => Some(url_query(&printed(args)).into()),
            _ => None,
        };
        let found = found.ok_or_else(|| format!("{} takes {}", self.name(), self.arguments()))?;
        match &found {
            Value::String(text) if text.len() > MOST_BYTES => Err(format!("{} makes too long a text", self.name())),
            _ => Ok(found),
        }
    }

    fn arguments(self) -> &'static str {
        match self {
            Self::And | Self::Or | Self::Print | Self::Println | Self::Html | Self::Urlquery => "values",
            Self::Eq => "two values or more",
            Self::Ge | Self::Gt | Self::Le | Self::Lt | Self::Ne => "two values",
            Self::Index => "a list or an object, and what to look for",
            Self::Join => "a list and the text between",
            Self::Json | Self::Len | Self::Not => "a value",
            Self::Lower | Self::Title | Self::Upper => "a text",
            Self::Pad => "a text, and the numbers of blanks before and behind it",
            Self::Printf => "a format and values",
            Self::Slice => "a list or a text, and where to begin and to end",
            Self::Split => "a text and what stands between its parts",
            Self::Truncate => "a text and the most characters",
        }
    }
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::Array(_) | Value::Object(_) => Err(format!("a text is needed, and this is {}", kind(value))),
        other => Ok(shown(other)),
    }
}

fn whole(value: &Value) -> Result<usize, String> {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| format!("a number of 0 or more is needed, and this is {}", kind(value)))
}

fn any_equal(first: &Value, others: &[Value]) -> Result<bool, String> {
    others.iter().try_fold(false, |is, other| Ok(is | is_equal(first, other)?))
}

fn is_equal(one: &Value, other: &Value) -> Result<bool, String> {
    match (one, other) {
        (Value::Null, _) | (_, Value::Null) => Ok(one == other || shown(one) == shown(other)),
        (Value::Number(a), Value::Number(b)) => Ok(a == b || a.as_f64() == b.as_f64()),
        (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => Ok(one == other),
        _ => Err(format!("{} cannot be compared with {}", kind(one), kind(other))),
    }
}

fn order(one: &Value, other: &Value) -> Result<Ordering, String> {
    let order = match (one, other) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
        },
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    };
    order.ok_or_else(|| format!("{} and {} have no order", kind(one), kind(other)))
}

/// What a map does not have is empty, as in Go; what a list does not have is a mistake.
fn index(of: &Value, key: &Value) -> Result<Value, String> {
    match of {
        Value::Array(items) => {
            let at = whole(key)?;
            let count = items.len();
            items.get(at).cloned().ok_or_else(|| format!("index: there is no item {at} in a list of {count}"))
        }
        Value::Object(fields) => Ok(fields.get(&text(key)?).cloned().unwrap_or_default()),
        Value::Null if key.is_number() => Err("index: there is no item in an empty list".to_owned()),
        Value::Null => Ok(Value::Null),
        other => Err(format!("index looks into lists and objects, and this is {}", kind(other))),
    }
}

fn slice(of: &Value, bounds: &[Value]) -> Result<Value, String> {
    let length = length(of)?;
    let start = bounds.first().map_or(Ok(0), whole)?;
    let end = bounds.get(1).map_or(Ok(length), whole)?;
    let outside = || format!("slice: {start} to {end} is not within 0 to {length}");
    match of {
        Value::Array(items) => items.get(start..end).map(|items| items.to_vec().into()).ok_or_else(outside),
        Value::String(text) => text.get(start..end).map(Into::into).ok_or_else(outside),
        other => Err(format!("slice cuts lists and texts, and this is {}", kind(other))),
    }
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::Array(items) => Ok(items.len()),
        Value::Object(fields) => Ok(fields.len()),
        Value::String(text) => Ok(text.len()),
        Value::Null => Ok(0),
        Value::Bool(_) | Value::Number(_) => {
            Err(format!("only lists, objects and texts have a length, and this is {}", kind(value)))
        }
    }
}

/// The list may stand first, as Docker has it, or come through a pipe.
fn join(one: &Value, other: &Value) -> Result<String, String> {
    let (items, between) = match (one, other) {
        (Value::Array(items), between) | (between, Value::Array(items)) => (items.as_slice(), between),
        (Value::Null, between) | (between, Value::Null) => (&[][..], between),
        _ => return Err(format!("join needs a list, and this is {}", kind(one))),
    };
    let bytes = items.iter().map(|item| shown(item).len()).sum::<usize>();
    let between = text(between)?;
    match bytes.saturating_add(between.len().saturating_mul(items.len())) > MOST_BYTES {
        true => Err("join makes too long a text".to_owned()),
        false => Ok(items.iter().map(shown).collect::<Vec<_>>().join(&between)),
    }
}

fn split(of: &str, by: &str) -> Value {
    match by.is_empty() {
        true => of.chars().map(|letter| Value::from(letter.to_string())).collect(),
        false => of.split(by).map(Value::from).collect(),
    }
}

/// The first letter of each word is large.
fn title(text: &str) -> String {
    let mut is_start = true;
    let mut large = String::new();
    for letter in text.chars() {
        match is_start {
            true => large.extend(letter.to_uppercase()),
            false => large.push(letter),
        }
        is_start = !(letter.is_alphanumeric() || letter == '_' || letter == '\'');
    }
    large
}

/// What is empty stays empty.
fn pad(text: &str, before: usize, after: usize) -> Result<String, String> {
    if before.saturating_add(after) > MOST_BYTES {
        return Err("pad makes too long a text".to_owned());
    }
    Ok(if text.is_empty() { String::new() } else { format!("{}{text}{}", " ".repeat(before), " ".repeat(after)) })
}

fn truncate(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// As Go's Sprint: a blank between two values when neither is a text.
fn printed(args: &[Value]) -> String {
    let mut text = String::new();
    for (at, value) in args.iter().enumerate() {
        if at > 0 && !value.is_string() && !args[at - 1].is_string() {
            text.push(' ');
        }
        text.push_str(&shown(value));
    }
    text
}

fn html(text: &str) -> String {
    let mut safe = String::new();
    for letter in text.chars() {
        match letter {
            '"' => safe.push_str("&#34;"),
            '\'' => safe.push_str("&#39;"),
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            other => safe.push(other),
        }
    }
    safe
}

/// As Go's `url.QueryEscape`, which Docker's logs use too.
pub fn url_query(text: &str) -> String {
    let mut safe = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => safe.push(char::from(byte)),
            b' ' => safe.push('+'),
            other => safe.push_str(&format!("%{other:02X}")),
        }
    }
    safe
}
