//! What the lower pane shows, fetched for as long as it is looked at.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use strata_proto::{runtime::v1 as runtime, store::v1 as store};
use strata_types::ImageConfig;
use tokio::sync::mpsc::Sender;
use tokio::time::sleep;

use super::link::{Link, said};
use super::log::MOST_LINES;
use super::update::{Content, Subject, Update};
use crate::args::InspectKind;
use crate::command::{images, inspect, ps};
use crate::error::{Error, Result};
use crate::explore::history::Origin;
use crate::explore::text::line;
use crate::platform::Platform;
use crate::render::{size, table};

/// Who only passes by is not followed.
const SETTLE: Duration = Duration::from_millis(120);
/// Between two parts of a log: many lines at once are one picture.
const GATHER: Duration = Duration::from_millis(50);
/// Between two looks at what changes by itself.
const AGAIN: Duration = Duration::from_secs(2);

/// The reason for which a service refuses those who may not.
const DENIED: &str = "FAULT_PERMISSION_DENIED";

/// Follows what is asked for until it is dropped.
pub async fn follow(link: Arc<Link>, subject: Subject, number: u64, updates: Sender<Update>) {
    let pane = Pane { link, number, updates };
    sleep(SETTLE).await;
    loop {
        let platform = pane.link.platform();
        let shown = match &subject {
            Subject::Log { id, .. } => match pane.log(&platform, id).await {
                // One that is started anew is another subject.
                Ok(()) => return,
                Err(error) => Err(error),
            },
            other => pane.lines(&platform, other).await,
        };
        match shown {
            // An image does not change.
            Ok(()) if matches!(subject, Subject::Layers(_) | Subject::Image(_)) => return,
            Ok(()) => {}
            Err(error) => {
                if pane.say(Content::Failed(said(&error))).await.is_err() {
                    return;
                }
                // Asked again, it would be refused again, and each time noted down.
                if error.reason == DENIED {
                    return;
                }
                // No service has refused: it was not reached.
                if error.reason.is_empty() {
                    pane.link.is_broken(&platform);
                }
            }
        }
        sleep(AGAIN).await;
    }
}

struct Pane {
    link: Arc<Link>,
    number: u64,
    updates: Sender<Update>,
}

impl Pane {
    /// Fails when nobody listens any more.
    async fn say(&self, content: Content) -> Result<()> {
        let sent = self.updates.send(Update::Pane(self.number, content)).await;
        sent.map_err(|_| Error::silent(0))
    }

    async fn log(&self, platform: &Platform, id: &str) -> Result<()> {
        let mut request = runtime::ReadLogsRequest { container: id.to_owned(), follow: true, ..Default::default() };
        request.tail = Some(MOST_LINES as u64);
        let entries = platform.containers().await?.all.read_logs(request).await?.into_inner();
        self.say(Content::LogBegins).await?;
        let mut entries = entries.ready_chunks(MOST_LINES);
        while let Some(part) = entries.next().await {
            let part: Vec<_> = part.into_iter().collect::<Result<_, tonic::Status>>()?;
            self.say(Content::Log(part)).await?;
            sleep(GATHER).await;
        }
        // A runtime that stops ends the stream too.
        let request = runtime::GetContainerRequest { container: id.to_owned() };
        let reply = platform.containers().await?.all.get_container(request).await?.into_inner();
        match reply.container.is_some_and(|container| ps::is_up(&container)) {
            true => Err(Error::new("the runtime ended the stream")),
            false => self.say(Content::LogEnds).await,
        }
    }

    async fn lines(&self, platform: &Platform, subject: &Subject) -> Result<()> {
        let lines = match subject {
            Subject::Processes(id) => processes(platform, id).await?,
            Subject::Container(id) => {
                readable(&inspect::of(platform, id, InspectKind::Container, &inspect::With::default()).await?)
            }
            Subject::Image(id) => {
                readable(&inspect::of(platform, id, InspectKind::Image, &inspect::With::default()).await?)
            }
            Subject::Volume(name) => {
                readable(&inspect::of(platform, name, InspectKind::Volume, &inspect::With::default()).await?)
            }
            Subject::Network(id) => {
                readable(&inspect::of(platform, id, InspectKind::Network, &inspect::With::default()).await?)
            }
            Subject::Layers(id) => layers(&images::get(platform, id).await?)?,
            Subject::Log { .. } => Vec::new(),
        };
        self.say(Content::Lines(lines)).await
    }
}

async fn processes(platform: &Platform, id: &str) -> Result<Vec<String>> {
    let request = runtime::ReadProcessesRequest { container: id.to_owned(), ps_args: Vec::new() };
    let reply = platform.containers().await?.all.read_processes(request).await?.into_inner();
    let mut rows = vec![reply.titles];
    rows.extend(reply.processes.into_iter().map(|process| process.cells));
    Ok(table::text(&rows).lines().map(line).collect())
}

/// One line for each instruction of an image, the bottom first.
pub fn layers(image: &store::Image) -> Result<Vec<String>> {
    let config: ImageConfig = serde_json::from_slice(&image.config_json)
        .map_err(|error| Error::new(format!("the config of the image cannot be read: {error}")))?;
    let mut layers = image.layers.iter();
    let mut lines = vec![format!("{:>8}  INSTRUCTION", "SIZE")];
    for entry in &config.history {
        let bytes = if entry.empty_layer { 0 } else { layers.next().map_or(0, |layer| layer.size_bytes) };
        let origin = Origin {
            created_by: entry.created_by.clone(),
            created: entry.created.clone(),
            comment: entry.comment.clone(),
        };
        let instruction = origin.instruction().unwrap_or_else(|| "<missing>".to_owned());
        lines.push(format!("{:>8}  {}", size::human(bytes), line(&instruction)));
    }
    // Layers without an entry are part of the image all the same.
    lines.extend(layers.map(|layer| format!("{:>8}  <missing>", size::human(layer.size_bytes))));
    lines.push(format!("{:>8}  in {} layers", size::human(image.size_bytes), image.layers.len()));
    Ok(lines)
}

/// A document as lines for people: what says nothing is left out.
pub fn readable(value: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    write(value, 0, &mut lines);
    lines
}

fn write(value: &Value, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    let mut one = |head: String, value: &Value| match text(value) {
        Some(text) => lines.push(format!("{indent}{head} {text}")),
        None => {
            lines.push(format!("{indent}{head}"));
            write(value, depth + 1, lines);
        }
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(_, value)| !is_empty(value)) {
                one(format!("{}:", line(name)), value);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| one("-".to_owned(), value)),
        other => lines.extend(text(other)),
    }
}

/// What fits on a line; none: it has parts.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Object(_) | Value::Array(_) => None,
        Value::String(text) => Some(line(text)),
        other => Some(other.to_string()),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_read_without_braces_and_without_what_is_empty() {
        let value = json!({
            "Name": "/web", "Empty": "", "Nothing": null, "Env": ["A=b", "C=\u{1b}[2J"], "State": {"Pid": 0, "Error": ""},
            "Mounts": [{"Type": "bind"}], "Deep": {"None": {}},
        });

        let lines = readable(&value);

        let expected = [
            "Env:",
            "  - A=b",
            "  - C=\u{fffd}[2J",
            "Mounts:",
            "  -",
            "    Type: bind",
            "Name: /web",
            "State:",
            "  Pid: 0",
        ];
        let mut sorted = lines.clone();
        sorted.sort();
        let mut wanted: Vec<String> = expected.map(str::to_owned).to_vec();
        wanted.sort();
        assert_eq!(sorted, wanted, "{lines:#?}");
    }

    #[test]
    fn layers_have_their_instructions_and_what_has_none_is_there_too() {
        let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
            "history": [{"created_by": "COPY . . # buildkit"}, {"created_by": "ENV A=b", "empty_layer": true}]});
        let layer = |size_bytes| store::ImageLayer { size_bytes, ..Default::default() };
        let image = store::Image {
            config_json: config.to_string().into_bytes().into(),
            layers: vec![layer(1500), layer(20)],
            size_bytes: 1520,
            ..Default::default()
        };

        let lines = layers(&image).unwrap();

        assert_eq!(
            lines,
            [
                "    SIZE  INSTRUCTION",
                "   1.5kB  COPY . .",
                "      0B  ENV A=b",
                "     20B  <missing>",
                "  1.52kB  in 2 layers"
            ]
        );
    }
}
