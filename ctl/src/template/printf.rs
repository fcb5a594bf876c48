//! `printf` of templates: Go's verbs for values of JSON. As in Go, a verb that does not fit is shown, not refused.

use serde_json::Value;

use super::shape::shown;

/// The widest that a value is made, and its most digits.
const WIDEST: usize = 10_000;

/// Fills a format.
pub fn formatted(format: &str, args: &[Value]) -> Result<String, String> {
    let mut args = args.iter();
    let mut text = String::new();
    let mut letters = format.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let mut verb = Verb::default();
        while let Some(flag) = letters.next_if(|letter| "-+# 0".contains(*letter)) {
            match flag {
                '-' => verb.is_left = true,
                '+' => verb.has_sign = true,
                '#' => verb.is_other = true,
                ' ' => verb.has_blank = true,
                _ => verb.has_zeros = true,
            }
        }
        let mut number = |letters: &mut std::iter::Peekable<std::str::Chars<'_>>| -> Result<Option<usize>, String> {
            if letters.next_if_eq(&'*').is_some() {
                let width = args.next().and_then(Value::as_u64).and_then(|width| usize::try_from(width).ok());
                return Ok(Some(width.ok_or("printf: * needs a number")?));
            }
            let mut number = None;
            while let Some(digit) = letters.peek().and_then(|letter| letter.to_digit(10)) {
                letters.next();
                number = Some((number.unwrap_or(0_usize)).saturating_mul(10).saturating_add(digit as usize));
            }
            Ok(number)
        };
        verb.width = number(&mut letters)?;
        if letters.next_if_eq(&'.').is_some() {
            verb.precision = Some(number(&mut letters)?.unwrap_or(0));
        }
        if verb.width.max(verb.precision).is_some_and(|width| width > WIDEST) {
            return Err(format!("printf: nothing is wider than {WIDEST}"));
        }
        match letters.next() {
            None => text.push_str("%!(NOVERB)"),
            Some('%') => text.push('%'),
            Some(letter) => match args.next() {
                Some(value) => text.push_str(&verb.fill(letter, value)),
                None => text.push_str(&format!("%!{letter}(MISSING)")),
            },
        }
    }
    let left: Vec<String> = args.map(|value| format!("{}={}", go_type(value), shown(value))).collect();
    if !left.is_empty() {
        text.push_str(&format!("%!(EXTRA {})", left.join(", ")));
    }
    Ok(text)
}

/// What stands between the percent sign and the letter.
#[derive(Debug, Default)]
struct Verb {
    is_left: bool,
    has_sign: bool,
    is_other: bool,
    has_blank: bool,
    has_zeros: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

impl Verb {
    fn fill(&self, letter: char, value: &Value) -> String {
        // A verb goes through a list, as in Go.
        if let (Value::Array(items), false) = (value, matches!(letter, 'v' | 'T')) {
            let items: Vec<String> = items.iter().map(|item| self.fill(letter, item)).collect();
            return format!("[{}]", items.join(" "));
        }
        let number = value.as_i64();
        let text = match (letter, value) {
            ('v', Value::Null) => "<nil>".to_owned(),
            ('v', Value::Number(_)) if self.has_sign => self.signed(shown(value)),
            ('v', _) => shown(value),
            ('T', _) => go_type(value).to_owned(),
            ('s', Value::String(text)) => self.cut(text),
            ('q', Value::String(text)) => format!("{:?}", self.cut(text)),
            ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            ('X', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
            ('t', Value::Bool(is)) => is.to_string(),
            ('e' | 'E' | 'f' | 'F' | 'g' | 'G', Value::Number(number)) if number.is_f64() => {
                self.signed(self.broken(letter, number.as_f64().unwrap_or_default()))
            }
            ('b' | 'c' | 'd' | 'o' | 'O' | 'q' | 'x' | 'X' | 'U', _) => match number {
                Some(number) => self.whole(letter, number),
                None => return format!("%!{letter}({}={})", go_type(value), shown(value)),
            },
            (letter, Value::Null) => return format!("%!{letter}(<nil>)"),
            (letter, value) => return format!("%!{letter}({}={})", go_type(value), shown(value)),
        };
        self.padded(text, value.is_number() && !matches!(letter, 'c' | 'q' | 'U'))
    }

    fn whole(&self, letter: char, number: i64) -> String {
        let size = number.unsigned_abs();
        let sign = if number < 0 { "-" } else { "" };
        let character = || u32::try_from(number).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
        let prefix = |prefix: &'static str| if self.is_other { prefix } else { "" };
        match letter {
            'b' => format!("{sign}{size:b}"),
            'c' => character().to_string(),
            'q' => format!("{:?}", character()),
            'o' => format!("{sign}{}{size:o}", prefix("0")),
            'O' => format!("{sign}0o{size:o}"),
            'x' => format!("{sign}{}{size:x}", prefix("0x")),
            'X' => format!("{sign}{}{size:X}", prefix("0X")),
            'U' => format!("U+{size:04X}"),
            _ => self.signed(format!("{sign}{size:0digits$}", digits = self.precision.unwrap_or(0))),
        }
    }

    fn broken(&self, letter: char, number: f64) -> String {
        match letter {
            'f' | 'F' => format!("{number:.digits$}", digits = self.precision.unwrap_or(6)),
            'e' | 'E' => {
                let text = format!("{number:.digits$e}", digits = self.precision.unwrap_or(6));
                // Go writes two digits of an exponent, and its sign.
                let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                let exponent: i32 = exponent.parse().unwrap_or(0);
                let sign = if exponent < 0 { '-' } else { '+' };
                let text = format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs());
                if letter == 'E' { text.to_uppercase() } else { text }
            }
            _ => number.to_string(),
        }
    }

    fn signed(&self, text: String) -> String {
        match (text.starts_with('-'), self.has_sign, self.has_blank) {
            (false, true, _) => format!("+{text}"),
            (false, false, true) => format!(" {text}"),
            _ => text,
        }
    }

    fn cut(&self, text: &str) -> String {
        text.chars().take(self.precision.unwrap_or(usize::MAX)).collect()
    }

    fn padded(&self, text: String, is_number: bool) -> String {
        let missing = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        if self.is_left {
            return text + &" ".repeat(missing);
        }
        if !self.has_zeros || !is_number {
            return " ".repeat(missing) + &text;
        }
        let signs = text.len() - text.trim_start_matches(['-', '+', ' ']).len();
        format!("{}{}{}", &text[..signs], "0".repeat(missing), &text[signs..])
    }
}

/// Go's name of the type that such a value has there.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
