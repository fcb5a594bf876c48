//! What is said of an image without a terminal: a summary for people, and JSON for programs.
//!
//! The JSON is one document; its fields stay as long as `version` does, more may come. Paths are text with the escapes
//! of `text::escaped`, without a slash in front.

use std::io::Write;

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use super::entry::{Facts, Kind};
use super::rules::Verdict;
use super::stack::{Change, Node, Stack, State};
use super::text::escaped;
use super::{Image, Layer};
use crate::render::{size, table};

/// Version of the JSON.
const VERSION: u32 = 1;

/// Wasted paths in the summary.
const SHOWN_WASTE: usize = 20;

/// The summary: the image, its layers, where most is wasted, and what came of the rules.
pub fn plain(image: &Image, verdicts: &[Verdict]) -> String {
    let stack = &image.stack;
    let (bytes, wasted) = (stack.bytes(), stack.wasted());
    let mut text = format!("Image        {} ({})\n", super::text::line(&image.name), table::short_id(&image.id));
    text.push_str(&format!("Platform     {}\n", super::text::line(&image.platform)));
    text.push_str(&format!("Size         {} in {}\n", size::human(bytes), layers(image.layers.len())));
    let paths = counted(stack.waste().len(), "path");
    text.push_str(&format!("Wasted       {} at {paths}\n", size::human(wasted)));
    text.push_str(&format!("Efficiency   {:.2} %\n\n", stack.efficiency() * 100.0));
    let head = ["LAYER", "SIZE", "ADDED", "CHANGED", "REMOVED", "HIDES", "INSTRUCTION"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (index, (layer, totals)) in image.layers.iter().zip(stack.layers()).enumerate() {
        rows.push(vec![
            (index + 1).to_string(),
            size::human(totals.bytes),
            totals.added.to_string(),
            totals.changed.to_string(),
            totals.removed.to_string(),
            size::human(totals.hides),
            table::cut(&layer.instruction(), 80),
        ]);
    }
    text.push_str(&table::text(&rows));
    if !stack.waste().is_empty() {
        let mut rows = vec![["WASTED", "COPIES", "PATH"].map(str::to_owned).to_vec()];
        for waste in stack.waste().iter().take(SHOWN_WASTE) {
            let path = format!("/{}", escaped(&stack.path(waste.node)));
            rows.push(vec![size::human(waste.bytes), waste.copies.to_string(), path]);
        }
        text.push('\n');
        text.push_str(&table::text(&rows));
        if let Some(more) = stack.waste().len().checked_sub(SHOWN_WASTE + 1) {
            text.push_str(&format!("... and {} more\n", counted(more + 1, "path")));
        }
    }
    if !verdicts.is_empty() {
        text.push('\n');
    }
    for verdict in verdicts {
        let word = match (verdict.limit, verdict.is_kept) {
            (None, _) => "SKIP",
            (Some(_), true) => "PASS",
            (Some(_), false) => "FAIL",
        };
        text.push_str(&format!("{word}   {}: {}\n", verdict.rule, verdict.text));
    }
    text
}

fn layers(count: usize) -> String {
    counted(count, "layer")
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Writes the JSON, one line. Changes of a million files are written as they are found.
pub fn json(image: &Image, verdicts: &[Verdict], mut out: impl Write) -> std::io::Result<()> {
    serde_json::to_writer(&mut out, &Document::of(image, verdicts))?;
    out.write_all(b"\n")?;
    out.flush()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    version: u32,
    image: ImageJson<'a>,
    layers: Vec<LayerJson<'a>>,
    /// The most first.
    wasted: WasteJson<'a>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    rules: Vec<RuleJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageJson<'a> {
    name: &'a str,
    id: &'a str,
    platform: &'a str,
    size_bytes: u64,
    wasted_bytes: u64,
    /// Of all layers but the bottom one.
    user_bytes: u64,
    user_wasted_share: f64,
    efficiency: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LayerJson<'a> {
    /// 0 is the bottom one.
    index: usize,
    diff_id: &'a str,
    /// As a Dockerfile would have it; null: the history does not say.
    instruction: Option<String>,
    created_by: Option<&'a str>,
    created: Option<&'a str>,
    comment: Option<&'a str>,
    size_bytes: u64,
    added: u64,
    changed: u64,
    removed: u64,
    /// Bytes of layers below that nobody can see since this one.
    hides_bytes: u64,
    changes: ChangesJson<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleJson {
    rule: &'static str,
    value: f64,
    limit: Option<f64>,
    kept: bool,
}

impl<'a> Document<'a> {
    fn of(image: &'a Image, verdicts: &[Verdict]) -> Self {
        let stack = &image.stack;
        let layer = |(index, layer): (usize, &'a Layer)| {
            let totals = stack.layers()[index];
            LayerJson {
                index,
                diff_id: &layer.diff_id,
                instruction: layer.origin.instruction(),
                created_by: layer.origin.created_by.as_deref(),
                created: layer.origin.created.as_deref(),
                comment: layer.origin.comment.as_deref(),
                size_bytes: totals.bytes,
                added: totals.added,
                changed: totals.changed,
                removed: totals.removed,
                hides_bytes: totals.hides,
                changes: ChangesJson { stack, layer: index },
            }
        };
        let rule = |verdict: &Verdict| RuleJson {
            rule: verdict.rule,
            value: verdict.value,
            limit: verdict.limit,
            kept: verdict.is_kept,
        };
        Self {
            version: VERSION,
            image: ImageJson {
                name: &image.name,
                id: &image.id,
                platform: &image.platform,
                size_bytes: stack.bytes(),
                wasted_bytes: stack.wasted(),
                user_bytes: image.user_bytes(),
                user_wasted_share: image.user_wasted_share(),
                efficiency: stack.efficiency(),
            },
            layers: image.layers.iter().enumerate().map(layer).collect(),
            wasted: WasteJson(stack),
            rules: verdicts.iter().map(rule).collect(),
        }
    }
}

struct WasteJson<'a>(&'a Stack);

impl Serialize for WasteJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct One {
            path: String,
            bytes: u64,
            copies: u32,
        }
        let mut list = serializer.serialize_seq(None)?;
        for waste in self.0.waste() {
            let path = escaped(&self.0.path(waste.node));
            list.serialize_element(&One { path, bytes: waste.bytes, copies: waste.copies })?;
        }
        list.end()
    }
}

/// Changes of one layer, a directory before what is in it.
struct ChangesJson<'a> {
    stack: &'a Stack,
    layer: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangeJson {
    path: String,
    change: &'static str,
    /// What it is; of what was removed, what it was.
    kind: &'static str,
    size_bytes: u64,
    /// Octal.
    mode: String,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Of what was changed: type, content, target, mode, owner, attributes. None of them: it is the same once more.
    #[serde(skip_serializing_if = "Option::is_none")]
    differs: Option<Vec<&'static str>>,
}

impl Serialize for ChangesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let mut open: Vec<Node> = vec![super::stack::ROOT];
        while let Some(node) = open.pop() {
            if let Some(change) = self.change(node) {
                list.serialize_element(&change)?;
            }
            open.extend(self.stack.children(node).iter().rev());
        }
        list.end()
    }
}

impl ChangesJson<'_> {
    fn change(&self, node: Node) -> Option<ChangeJson> {
        let (facts, change) = match self.stack.state(node, self.layer) {
            State::Present(facts, Some(Change::Added)) => (facts, "added"),
            State::Present(facts, Some(Change::Changed)) => (facts, "changed"),
            State::Removed(facts) => (facts, "removed"),
            State::Present(..) | State::Absent => return None,
        };
        let differs = (change == "changed").then(|| differences(self.stack, node, self.layer, facts));
        Some(ChangeJson {
            path: escaped(&self.stack.path(node)),
            change,
            kind: facts.kind.word(),
            size_bytes: facts.size,
            mode: format!("{:04o}", facts.mode),
            uid: facts.uid,
            gid: facts.gid,
            target: (facts.kind == Kind::Symlink).then(|| escaped(&facts.target)),
            differs,
        })
    }
}

/// What a layer changed about a name.
pub fn differences(stack: &Stack, node: Node, layer: usize, facts: &Facts) -> Vec<&'static str> {
    let before = stack.events(node).find(|(other, ..)| *other < layer);
    before.map(|(_, _, before)| facts.differences(before)).unwrap_or_default()
}

#[cfg(test)]
pub(in crate::explore) mod tests {
    use super::*;
    use crate::explore::history::Origin;
    use crate::explore::rules::{Limits, check};
    use crate::explore::stack::tests::{directory, file, removed, stack};

    /// Two layers: 80 bytes, then 120, which hide 50.
    pub(in crate::explore) fn example() -> Image {
        let stack = stack(vec![
            vec![directory("a"), file("a/one", 30), file("a/two", 20), file("b", 30)],
            vec![file("a/one", 100), removed("a/two"), file("c\n", 20)],
        ]);
        let layer = |by: &str| Layer {
            diff_id: format!("sha256:{}", "ab".repeat(32)),
            origin: Origin { created_by: Some(by.to_owned()), ..Origin::default() },
        };
        Image {
            name: "example:1".to_owned(),
            id: format!("sha256:{}", "0123456789abcdef".repeat(4)),
            platform: "linux/amd64".to_owned(),
            layers: vec![layer("ADD rootfs.tar /"), layer("RUN /bin/sh -c make # buildkit")],
            stack,
        }
    }

    const LIMITS: Limits =
        Limits { lowest_efficiency: Some(0.9), highest_wasted_bytes: None, highest_user_wasted_percent: Some(0.5) };

    #[test]
    fn the_summary_says_what_is_where_and_what_is_wasted() {
        let image = example();

        let text = plain(&image, &check(&image, &LIMITS));

        assert_eq!(
            text,
            "\
Image        example:1 (0123456789ab)
Platform     linux/amd64
Size         200B in 2 layers
Wasted       50B at 2 paths
Efficiency   75.00 %

LAYER   SIZE   ADDED   CHANGED   REMOVED   HIDES   INSTRUCTION
1       80B    4       0         0         0B      ADD rootfs.tar /
2       120B   1       1         1         50B     RUN make

WASTED   COPIES   PATH
30B      1        /a/one
20B      1        /a/two

FAIL   lowest-efficiency: 75.00 %, at least 90.00 %
SKIP   highest-wasted-bytes: 50B, no limit
PASS   highest-user-wasted-percent: 41.67 %, at most 50.00 %
"
        );
    }

    #[test]
    fn the_json_is_one_line_with_the_documented_fields() {
        let image = example();
        let mut bytes = Vec::new();

        json(&image, &check(&image, &LIMITS), &mut bytes).unwrap();

        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "name": "example:1", "id": image.id, "platform": "linux/amd64", "sizeBytes": 200, "wastedBytes": 50,
            "userBytes": 120, "userWastedShare": 50.0 / 120.0, "efficiency": 0.75,
        });
        assert_eq!((&value["version"], &value["image"]), (&1.into(), &expected));
        let layer = &value["layers"][1];
        assert_eq!(layer["instruction"], "RUN make");
        assert_eq!(layer["createdBy"], "RUN /bin/sh -c make # buildkit");
        assert_eq!((&layer["added"], &layer["hidesBytes"]), (&1.into(), &50.into()));
        let changes: Vec<_> = layer["changes"].as_array().unwrap().iter().collect();
        let first = serde_json::json!({ "path": "a/one", "change": "changed", "kind": "file", "sizeBytes": 100,
            "mode": "0644", "uid": 0, "gid": 0, "differs": ["content"] });
        assert_eq!(*changes[0], first);
        assert_eq!((&changes[1]["path"], &changes[1]["change"]), (&"a/two".into(), &"removed".into()));
        assert_eq!(changes[2]["path"], "c\\n");
        assert_eq!(value["wasted"][0], serde_json::json!({ "path": "a/one", "bytes": 30, "copies": 1 }));
        let rule = serde_json::json!({ "rule": "lowest-efficiency", "value": 0.75, "limit": 0.9, "kept": false });
        assert_eq!(value["rules"][0], rule);
    }

    #[test]
    fn an_image_without_layers_wastes_nothing() {
        let image = Image { layers: vec![], stack: stack(vec![]), ..example() };

        assert_eq!((image.stack.efficiency(), image.user_wasted_share()), (1.0, 0.0));
        assert!(plain(&image, &[]).contains("0B in 0 layers"));
    }
}
