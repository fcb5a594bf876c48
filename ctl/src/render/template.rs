//! Templates for `--format`, as Go has them and Docker's users write them: text, fields (`{{.Repository}}`), `{{json .}}`,
//! `upper`, `lower`, `title`, `join`, `len`, `index`, and pipes between them. What decides or repeats is not there.

use std::str::FromStr;

use serde_json::Value;

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// A field, and functions for its value.
    Field(Vec<String>, Vec<Function>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Function {
    Index(String),
    Json,
    Join(String),
    Len,
    Lower,
    Title,
    Upper,
}

impl Template {
    /// The fields that it names, in order: the head of a table.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Field(path, _) => path.last().map(String::as_str),
            Piece::Text(_) => None,
        })
    }

    /// Fills it with the fields of an object.
    pub fn render(&self, value: &Value) -> Result<String, String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Field(path, functions) => text.push_str(&filled(value, path, functions)?),
            }
        }
        Ok(text)
    }
}

fn filled(value: &Value, path: &[String], functions: &[Function]) -> Result<String, String> {
    let mut found = value;
    for name in path {
        let Some(fields) = found.as_object() else {
            return Err(format!("there is no field .{}", path.join(".")));
        };
        // A map of labels has whatever keys it has; a record has all of its fields.
        found = fields.get(name).ok_or_else(|| {
            let known: Vec<&str> = fields.keys().map(String::as_str).collect();
            format!("there is no field .{}; there are {}", path.join("."), known.join(", "))
        })?;
    }
    let mut found = found.clone();
    for function in functions {
        found = match function {
            Function::Index(key) => match &found {
                Value::Array(items) => key.parse().ok().and_then(|at: usize| items.get(at)).cloned(),
                // What a map does not have is empty, as in Go.
                Value::Object(fields) => Some(fields.get(key).cloned().unwrap_or_default()),
                _ => None,
            }
            .ok_or_else(|| format!(".{} has no {key}", path.join(".")))?,
            Function::Json => found.to_string().into(),
            Function::Join(between) => match found.as_array() {
                Some(items) => items.iter().map(shown).collect::<Vec<_>>().join(between).into(),
                None => return Err("join needs a list".to_owned()),
            },
            Function::Len => match &found {
                Value::Array(items) => items.len().into(),
                Value::Object(fields) => fields.len().into(),
                Value::String(text) => text.len().into(),
                _ => return Err("len needs a list, a map or a text".to_owned()),
            },
            Function::Lower => shown(&found).to_lowercase().into(),
            Function::Upper => shown(&found).to_uppercase().into(),
            Function::Title => title(&shown(&found)).into(),
        };
    }
    Ok(shown(&found))
}

fn title(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// A value as Go prints it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let pairs: Vec<String> = fields.iter().map(|(key, value)| format!("{key}:{}", shown(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("{{") {
            if start > 0 {
                pieces.push(Piece::Text(unescaped(&rest[..start])));
            }
            let after = &rest[start + 2..];
            let end = after.find("}}").ok_or("a {{ is never closed with }}")?;
            pieces.push(action(&after[..end])?);
            rest = &after[end + 2..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(unescaped(rest)));
        }
        Ok(Self(pieces))
    }
}

/// As Docker does: what a shell leaves of `\t` and `\n` is a tab and a line break.
fn unescaped(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// What stands between the braces.
fn action(text: &str) -> Result<Piece, String> {
    let unknown = |word: &str| {
        format!("{{{{{text}}}}}: {word:?} is not known; fields and index, json, join, len, lower, title, upper are")
    };
    let mut path = None;
    let mut functions = Vec::new();
    for command in text.split('|') {
        let mut words = words(command)?.into_iter().peekable();
        let mut function = match words.peek() {
            Some(word) if !word.starts_with('.') => match words.next().as_deref() {
                Some("index") => Some(Function::Index(String::new())),
                Some("json") => Some(Function::Json),
                Some("len") => Some(Function::Len),
                Some("lower") => Some(Function::Lower),
                Some("title") => Some(Function::Title),
                Some("upper") => Some(Function::Upper),
                Some("join") => Some(Function::Join(String::new())),
                other => return Err(unknown(other.unwrap_or_default())),
            },
            _ => None,
        };
        if path.is_none() {
            let field = words.next().filter(|word| word.starts_with('.')).ok_or_else(|| unknown(command.trim()))?;
            path = Some(field.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect());
        }
        if let Some(Function::Join(argument) | Function::Index(argument)) = &mut function {
            let word = words.next().ok_or_else(|| format!("{{{{{text}}}}}: the last word is missing"))?;
            *argument = word.strip_prefix('"').unwrap_or(&word).to_owned();
        }
        if let Some(word) = words.next() {
            return Err(unknown(&word));
        }
        functions.extend(function);
    }
    Ok(Piece::Field(path.ok_or_else(|| unknown(text))?, functions))
}

/// Words and texts in quotes; a text keeps its first quote, which says that it is one.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = match rest.strip_prefix('"') {
            Some(inner) => inner.find('"').ok_or("a \" is never closed")? + 1,
            None => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        found.push(rest[..end].to_owned());
        rest = rest[end..].trim_start_matches('"').trim_start();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_functions_and_text_are_filled_in() {
        let value = json!({
            "ID": "abc", "Tag": "Latest", "Size": 7, "Names": ["a", "b"], "Labels": { "x": "y" }, "None": null
        });
        for (template, expected) in [
            ("{{.ID}}", "abc"),
            ("{{ .ID }}:{{.Tag}}", "abc:Latest"),
            (r"{{.ID}}\t{{.Size}}", "abc\t7"),
            ("{{json .Labels}}", r#"{"x":"y"}"#),
            ("{{.Labels.x}}", "y"),
            ("{{lower .Tag}}{{.Tag | upper}}", "latestLATEST"),
            (r#"{{join .Names ", "}}"#, "a, b"),
            (r#"{{.Names | join "/"}}"#, "a/b"),
            ("{{len .Names}}", "2"),
            ("{{index .Names 1}}", "b"),
            (r#"{{index .Labels "x"}}[{{index .Labels "none"}}]"#, "y[]"),
            ("{{title .ID}}", "Abc"),
            ("{{.Names}} {{.Labels}}", "[a b] map[x:y]"),
            ("[{{.None}}]", "[]"),
            ("plain", "plain"),
            ("{{json .ID}}", r#""abc""#),
        ] {
            let rendered = template.parse::<Template>().and_then(|template| template.render(&value));

            assert_eq!(rendered.as_deref(), Ok(expected), "{template}");
        }
        let all: Template = "{{json .}}".parse().unwrap();
        assert_eq!(serde_json::from_str::<Value>(&all.render(&value).unwrap()).unwrap(), value);
    }

    #[test]
    fn what_is_not_there_is_named() {
        for (template, word) in [
            ("{{.ID", "never closed"),
            ("{{range .Names}}{{.}}{{end}}", "range"),
            ("{{if .ID}}x{{end}}", "if"),
            ("{{ID}}", "ID"),
            ("{{}}", "not known"),
            ("{{.ID .Tag}}", ".Tag"),
            ("{{join .Names}}", "missing"),
            (r#"{{join .Names "x}}"#, "never closed"),
        ] {
            let error = template.parse::<Template>().expect_err(template);

            assert!(error.contains(word), "{template}: {error}");
        }
        let template: Template = "{{.Repo}}".parse().unwrap();
        let error = template.render(&json!({ "Repository": "a", "Tag": "b" })).unwrap_err();
        let beyond: Template = "{{index .L 3}}".parse().unwrap();
        assert!(beyond.render(&json!({ "L": [1] })).unwrap_err().contains(".L has no 3"));
        assert!(error.contains(".Repo;") && error.contains("Repository, Tag"), "{error}");
    }
}
