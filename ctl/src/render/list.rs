//! Lists in the format that was asked for.

use serde_json::{Map, Value, json};

use super::{line, table};
use crate::args::Format;
use crate::error::{Error, Result};
use crate::template::Template;

/// Something in a list: its cells for the table, and its fields.
#[derive(Debug)]
pub struct Row {
    /// Cells of the table.
    pub cells: Vec<String>,
    /// All that is known, by Docker's names. Labels are an object here; people read "key=value,…", and templates may ask
    /// for one: `.Label "key"`.
    pub fields: Value,
}

/// Prints rows below the head of their table.
pub fn print(format: &Format, head: &[&str], rows: Vec<Row>) -> Result<()> {
    super::text(&text(format, head, rows)?)
}

/// The text of rows below the head of their table.
pub fn text(format: &Format, head: &[&str], rows: Vec<Row>) -> Result<String> {
    let lines = |lines: Vec<String>| lines.into_iter().map(|line| line + "\n").collect();
    match format {
        Format::Table => {
            let mut text = vec![head.iter().map(|&cell| cell.to_owned()).collect()];
            text.extend(rows.into_iter().map(|row| row.cells));
            Ok(table::text(&text))
        }
        Format::Json => Ok(lines(rows.into_iter().map(|row| said(row.fields).0.to_string()).collect())),
        Format::Template(template) => {
            rows.into_iter().map(|row| filled(template, row)).collect::<Result<_>>().map(lines)
        }
        Format::Columns(template) => {
            let cells = |text: String| text.split('\t').map(str::to_owned).collect();
            let heads: Map<String, Value> =
                template.fields().into_iter().map(|field| (field.clone(), column(&field, head).into())).collect();
            let mut text = vec![cells(template.head(&heads.into()).map_err(wrong)?)];
            for row in rows {
                text.push(cells(filled(template, row)?));
            }
            Ok(table::text(&text))
        }
    }
}

/// Prints what was inspected: one array, or each of it as it was asked for.
pub fn inspected(format: Option<&Format>, found: Vec<Value>) -> Result<()> {
    match format {
        None | Some(Format::Table) => line(format!("{:#}", Value::Array(found))),
        Some(Format::Json) => line(Value::Array(found)),
        Some(Format::Template(template) | Format::Columns(template)) => {
            found.iter().try_for_each(|value| line(fill(template, value)?))
        }
    }
}

/// Fills a template with the fields of an object.
pub fn fill(template: &Template, fields: &Value) -> Result<String> {
    template.render(fields, &Value::Null).map_err(wrong)
}

fn filled(template: &Template, row: Row) -> Result<String> {
    let (fields, labels) = said(row.fields);
    template.render(&fields, &json!({ "Label": labels })).map_err(wrong)
}

fn wrong(problem: String) -> Error {
    Error::usage(format!("--format: {problem}"))
}

/// Fields as people read them, and the labels apart.
fn said(mut fields: Value) -> (Value, Value) {
    let Some(slot) = fields.get_mut("Labels") else { return (fields, json!({})) };
    let Value::Object(labels) = slot else { return (fields, json!({})) };
    let labels = std::mem::take(labels);
    let pair = |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or_default());
    let mut pairs: Vec<String> = labels.iter().map(pair).collect();
    pairs.sort();
    *slot = pairs.join(",").into();
    (fields, labels.into())
}

/// The head of a field's column: that of the table where there is one, else the words of the field.
fn column(field: &str, head: &[&str]) -> String {
    let of_table = |end: &str| head.iter().find(|cell| cell.ends_with(end)).map(|&cell| cell.to_owned());
    let found = match field {
        "CreatedSince" | "RunningFor" => of_table("CREATED"),
        "ID" => of_table(" ID").or_else(|| of_table("IMAGE")),
        "Name" => of_table("NAME"),
        "BlockIO" => of_table("BLOCK I/O"),
        "CPUPerc" => of_table("CPU %"),
        "MemPerc" => of_table("MEM %"),
        "MemUsage" => of_table("MEM USAGE / LIMIT"),
        "NetIO" => of_table("NET I/O"),
        "StarCount" => of_table("STARS"),
        "IsOfficial" => of_table("OFFICIAL"),
        "IsAutomated" => Some("AUTOMATED".to_owned()),
        _ => None,
    };
    found.unwrap_or_else(|| words(field))
}

/// "CREATED SINCE" for "CreatedSince".
fn words(field: &str) -> String {
    let mut head = String::new();
    let mut is_after_small = false;
    for letter in field.chars() {
        if letter.is_uppercase() && is_after_small {
            head.push(' ');
        }
        is_after_small = letter.is_lowercase();
        head.extend(letter.to_uppercase());
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_columns_are_those_of_the_table_or_the_words_of_their_fields() {
        for (field, head, expected) in [
            ("ID", &["CONTAINER ID", "IMAGE"][..], "CONTAINER ID"),
            ("ID", &["IMAGE", "CREATED"], "IMAGE"),
            ("ID", &["NAME"], "ID"),
            ("RunningFor", &["CREATED"], "CREATED"),
            ("CreatedAt", &["CREATED"], "CREATED AT"),
            ("Name", &["DRIVER", "VOLUME NAME"], "VOLUME NAME"),
            ("LocalVolumes", &[], "LOCAL VOLUMES"),
            ("StarCount", &["NAME", "STARS"], "STARS"),
        ] {
            assert_eq!(column(field, head), expected, "{field} {head:?}");
        }
    }

    #[test]
    fn labels_are_read_as_one_text_and_asked_for_one_by_one() {
        let row = || Row { cells: vec![], fields: json!({ "ID": "1", "Labels": { "b": "2", "a": "1,5" } }) };
        for (template, expected) in [
            ("{{.Labels}}", "a=1,5,b=2"),
            ("{{.Label \"a\"}}/{{.Label \"c\"}}", "1,5/"),
            ("{{range split .Labels \",\"}}[{{.}}]{{end}}", "[a=1][5][b=2]"),
            ("{{if eq (.Label \"b\") \"2\"}}two{{end}}", "two"),
        ] {
            assert_eq!(filled(&template.parse().unwrap(), row()).unwrap(), expected, "{template}");
        }
    }
}
