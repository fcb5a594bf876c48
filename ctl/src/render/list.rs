//! Lists in the format that was asked for.

use serde_json::Value;

use super::{line, table};
use crate::args::Format;
use crate::error::{Error, Result};
use crate::render::template::Template;

/// Something in a list: its cells for the table, and its fields.
#[derive(Debug)]
pub struct Row {
    /// Cells of the table.
    pub cells: Vec<String>,
    /// All that is known, by Docker's names.
    pub fields: Value,
}

/// Prints rows below the head of their table.
pub fn print(format: &Format, head: &[&str], rows: Vec<Row>) -> Result<()> {
    match format {
        Format::Table => {
            let mut text = vec![head.iter().map(|&cell| cell.to_owned()).collect()];
            text.extend(rows.into_iter().map(|row| row.cells));
            table::print(&text)
        }
        Format::Json => rows.iter().try_for_each(|row| line(&row.fields)),
        Format::Template(template) => {
            let filled: Vec<String> = rows.iter().map(|row| fill(template, &row.fields)).collect::<Result<_>>()?;
            filled.iter().try_for_each(line)
        }
        Format::Columns(template) => {
            let cells = |text: String| text.split('\t').map(str::to_owned).collect();
            let mut text = vec![template.fields().map(column).collect()];
            for row in &rows {
                text.push(cells(fill(template, &row.fields)?));
            }
            table::print(&text)
        }
    }
}

/// Prints what was inspected: one array, or each of it as it was asked for.
pub fn inspected(format: Option<&Format>, found: Vec<Value>) -> Result<()> {
    match format {
        None | Some(Format::Table) => line(format!("{:#}", Value::Array(found))),
        Some(Format::Json) => found.iter().try_for_each(line),
        Some(Format::Template(template) | Format::Columns(template)) => {
            found.iter().try_for_each(|value| line(fill(template, value)?))
        }
    }
}

/// Fills a template with the fields of an object.
pub fn fill(template: &Template, fields: &Value) -> Result<String> {
    template.render(fields).map_err(|problem| Error::usage(format!("--format: {problem}")))
}

/// "CREATED SINCE" for "CreatedSince".
fn column(field: &str) -> String {
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
    fn heads_of_columns_are_the_words_of_their_fields() {
        for (field, head) in [("ID", "ID"), ("CreatedSince", "CREATED SINCE"), ("Repository", "REPOSITORY")] {
            assert_eq!(column(field), head);
        }
    }
}
