//! Formats of lists.

use std::str::FromStr;

use crate::template::Template;

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

/// `raw` of `ctl images`, as Docker has it.
pub fn of_images(text: &str) -> Result<Format, String> {
    with_raw(
        text,
        "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n",
    )
}

/// `raw` of `ctl network ls`.
pub fn of_networks(text: &str) -> Result<Format, String> {
    with_raw(text, "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n")
}

/// `raw` of `ctl ps`.
pub fn of_containers(text: &str) -> Result<Format, String> {
    with_raw(
        text,
        "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n\
         state:{{pad .State 1 0}}\nstatus:{{pad .Status 1 0}}\nnames: {{.Names}}\nlabels:{{pad .Labels 1 0}}\n\
         ports:{{pad .Ports 1 0}}\n",
    )
}

/// `raw` of `ctl secret ls`.
pub fn of_secrets(text: &str) -> Result<Format, String> {
    with_raw(text, "id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\n")
}

/// `raw` of `ctl volume ls`.
pub fn of_volumes(text: &str) -> Result<Format, String> {
    with_raw(text, "name: {{.Name}}\ndriver: {{.Driver}}\n")
}

fn with_raw(text: &str, raw: &str) -> Result<Format, String> {
    if text == "raw" { raw.parse().map(Format::Template) } else { text.parse() }
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
        for of in [of_containers, of_images, of_networks, of_secrets, of_volumes] {
            assert!(matches!(of("raw"), Ok(Format::Template(_))));
            assert_eq!(of("table"), Ok(Format::Table));
        }
        let error = "jsn".parse::<Format>().unwrap_err();
        assert!(error.contains("did you mean json?"), "{error}");
    }
}
