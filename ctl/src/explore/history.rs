//! Which instruction made which layer: entries of the history that made one, in order.

use strata_types::ImageConfig;

/// Where a layer comes from, as the image's config tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The entry as it stands in the history; none: the history is shorter than the image.
    pub created_by: Option<String>,
    /// When, RFC 3339.
    pub created: Option<String>,
    /// Remark.
    pub comment: Option<String>,
}

impl Origin {
    /// The instruction as a Dockerfile would have it, on one line.
    pub fn instruction(&self) -> Option<String> {
        let text = self.created_by.as_deref().filter(|text| !text.trim().is_empty());
        let Some(text) = text else { return self.comment.clone().filter(|text| !text.is_empty()) };
        let text = text.trim().trim_end_matches("# buildkit").trim_end();
        // Docker's old builder wrote what was no RUN as a shell comment, and RUN as the shell's command.
        let text = match (text.strip_prefix("/bin/sh -c #(nop) "), text.strip_prefix("/bin/sh -c ")) {
            (Some(instruction), _) => instruction.trim_start().to_owned(),
            (None, Some(command)) => format!("RUN {command}"),
            (None, None) => match text.strip_prefix("RUN /bin/sh -c ") {
                Some(command) => format!("RUN {command}"),
                None => text.to_owned(),
            },
        };
        Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

/// The origin of each of so many layers, bottom first.
pub fn origins(config: &ImageConfig, layers: usize) -> Vec<Origin> {
    let made = config.history.iter().filter(|entry| !entry.empty_layer).map(|entry| Origin {
        created_by: entry.created_by.clone(),
        created: entry.created.clone(),
        comment: entry.comment.clone(),
    });
    made.chain(std::iter::repeat_with(Origin::default)).take(layers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(text: &str) -> Origin {
        Origin { created_by: Some(text.to_owned()), ..Origin::default() }
    }

    #[test]
    fn instructions_read_as_in_a_dockerfile() {
        for (text, expected) in [
            ("/bin/sh -c #(nop)  ADD file:abc in / ", "ADD file:abc in /"),
            ("/bin/sh -c apt-get update", "RUN apt-get update"),
            ("RUN /bin/sh -c apt-get update # buildkit", "RUN apt-get update"),
            ("COPY . . # buildkit", "COPY . ."),
            ("RUN |1 A=b /bin/sh -c x", "RUN |1 A=b /bin/sh -c x"),
            ("RUN a \\\n\t  b", "RUN a \\ b"),
        ] {
            assert_eq!(by(text).instruction().as_deref(), Some(expected), "{text:?}");
        }
        let imported = Origin { comment: Some("Imported from -".to_owned()), ..by("") };
        assert_eq!(imported.instruction().as_deref(), Some("Imported from -"));
        assert_eq!(Origin::default().instruction(), None);
    }

    #[test]
    fn entries_without_a_layer_are_passed_over_and_layers_without_an_entry_have_none() {
        let json = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"history":[
            {"created_by":"one"},{"created_by":"ENV","empty_layer":true},{"created_by":"two"}]}"#;
        let config: ImageConfig = serde_json::from_str(json).unwrap();

        let names = |count| -> Vec<_> { origins(&config, count).into_iter().map(|origin| origin.created_by).collect() };

        assert_eq!(names(3), [Some("one".to_owned()), Some("two".to_owned()), None]);
        assert_eq!(names(1), [Some("one".to_owned())]);
    }
}
