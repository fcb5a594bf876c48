//! Formats of lists.

use std::str::FromStr;

use crate::render::template::Template;

/// How a list is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// A table for people
    Table,
    /// One JSON object per line
    Json,
    /// A template for each
    Template(Template),
    /// A table of what a template names, its columns with tabs between
    Columns(Template),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "table" => Ok(Self::Table),
            _ if !text.contains("{{") => {
                let near = strata_dockerfile::nearest(text, ["json", "table"]);
                let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                Err(format!("it is table, json or a template such as {{{{.ID}}}}{hint}"))
            }
            _ => match text.strip_prefix("table ") {
                Some(columns) => columns.parse().map(Self::Columns),
                None => text.parse().map(Self::Template),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_a_word_or_a_template() {
        assert_eq!("json".parse(), Ok(Format::Json));
        assert!(matches!("{{.ID}}".parse(), Ok(Format::Template(_))));
        assert!(matches!("table {{.ID}}\t{{.Tag}}".parse(), Ok(Format::Columns(_))));
        let error = "jsn".parse::<Format>().unwrap_err();
        assert!(error.contains("did you mean json?"), "{error}");
    }
}
