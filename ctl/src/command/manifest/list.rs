//! A list of images as its document: fields that are not known here stay.

use serde_json::{Map, Value, json};
use strata_types::{Digest, Platform, media_type};

use crate::args::Says;
use crate::error::{Error, Result};

/// An index.
#[derive(Debug, Clone, PartialEq)]
pub struct List(Map<String, Value>);

impl List {
    /// An OCI index without entries.
    pub fn new() -> Self {
        let mut map = Map::new();
        map.insert("schemaVersion".to_owned(), 2.into());
        map.insert("mediaType".to_owned(), media_type::OCI_INDEX.into());
        map.insert("manifests".to_owned(), json!([]));
        Self(map)
    }

    /// Reads an index.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        let parsed: Value = serde_json::from_slice(bytes)
            .map_err(|error| Error::new(format!("the document of {name} cannot be read: {error}")))?;
        match parsed {
            Value::Object(map) if map.get("manifests").is_some_and(Value::is_array) => Ok(Self(map)),
            _ => Err(Error::new(format!("{name} is an image, not a list")).hint("a list needs a name of its own")),
        }
    }

    /// The document.
    pub fn to_bytes(&self) -> Vec<u8> {
        Value::Object(self.0.clone()).to_string().into_bytes()
    }

    fn entries_mut(&mut self) -> &mut Vec<Value> {
        // Both ways to make a list see to it that it is there.
        match self.0.entry("manifests").or_insert_with(|| json!([])) {
            Value::Array(entries) => entries,
            _ => unreachable!("a list has entries"),
        }
    }

    /// Adds an entry; one of the same digest is replaced where it stands.
    pub fn put(&mut self, entry: Value) {
        let entries = self.entries_mut();
        match entries.iter_mut().find(|old| old["digest"] == entry["digest"]) {
            Some(old) => *old = entry,
            None => entries.push(entry),
        }
    }

    /// Has it an entry of this digest?
    pub fn has(&self, digest: &Digest) -> bool {
        let entries = self.0.get("manifests").and_then(Value::as_array);
        entries.is_some_and(|entries| entries.iter().any(|entry| entry["digest"] == digest.to_string()))
    }

    /// Takes the entry of this digest out.
    pub fn remove(&mut self, digest: &Digest) {
        self.entries_mut().retain(|entry| entry["digest"] != digest.to_string());
    }

    /// Says something of the entry of this digest.
    pub fn say(&mut self, digest: &Digest, says: &Says) -> Result<()> {
        match self.entries_mut().iter_mut().find(|entry| entry["digest"] == digest.to_string()) {
            Some(entry) => say(entry, says),
            None => Ok(()),
        }
    }

    /// Annotates the list itself.
    pub fn annotate(&mut self, annotations: &[String]) -> Result<()> {
        let mut value = Value::Object(std::mem::take(&mut self.0));
        let annotated = annotate(&mut value, annotations);
        if let Value::Object(map) = value {
            self.0 = map;
        }
        annotated
    }
}

/// Says something of an entry.
pub fn say(entry: &mut Value, says: &Says) -> Result<()> {
    annotate(entry, &says.annotation)?;
    let fields = [("os", &says.os), ("architecture", &says.arch), ("variant", &says.variant)];
    let fields = fields.into_iter().chain([("os.version", &says.os_version)]);
    let mut platform = entry["platform"].as_object().cloned().unwrap_or_default();
    let before = platform.clone();
    for (field, value) in fields {
        match value.as_deref() {
            None => {}
            Some("") => drop(platform.remove(field)),
            Some(value) => drop(platform.insert(field.to_owned(), value.into())),
        }
    }
    if !says.os_features.is_empty() {
        platform.insert("os.features".to_owned(), says.os_features.clone().into());
    }
    if platform == before {
        return Ok(());
    }
    let text = |field: &str| platform.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (os, architecture, variant) = (text("os"), text("architecture"), text("variant"));
    if os.is_empty() || architecture.is_empty() {
        return Err(Error::usage("a platform needs an operating system and an architecture: --os and --arch"));
    }
    let slash = if variant.is_empty() { "" } else { "/" };
    let whole = format!("{os}/{architecture}{slash}{variant}");
    let parsed = Platform::parse(&whole).map_err(|error| Error::usage(error.to_string()))?;
    // "x86_64" is known as "amd64" everywhere else.
    platform.insert("os".to_owned(), parsed.os.into());
    platform.insert("architecture".to_owned(), parsed.architecture.into());
    if let Some(variant) = parsed.variant {
        platform.insert("variant".to_owned(), variant.into());
    }
    entry["platform"] = Value::Object(platform);
    Ok(())
}

fn annotate(value: &mut Value, annotations: &[String]) -> Result<()> {
    for annotation in annotations {
        let (key, text) = annotation.split_once('=').unwrap_or_default();
        if key.is_empty() {
            return Err(Error::usage(format!("invalid annotation {annotation:?}: KEY=VALUE is expected")));
        }
        if !value["annotations"].is_object() {
            value["annotations"] = json!({});
        }
        value["annotations"][key] = text.into();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Says {
        let (arch, os, os_version, variant) = (None, None, None, None);
        Says { annotation: vec![], arch, os, os_features: vec![], os_version, variant }
    }

    fn digest(byte: u8) -> Digest {
        Digest::from_sha256_bytes([byte; 32])
    }

    fn entry(byte: u8, more: Value) -> Value {
        let mut entry = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest(byte).to_string(), "size": 7 });
        entry.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        entry
    }

    #[test]
    fn an_image_is_in_a_list_once() {
        let mut list = List::new();
        list.put(entry(1, json!({})));
        list.put(entry(2, json!({})));
        list.put(entry(1, json!({ "platform": { "os": "linux", "architecture": "amd64" } })));

        let value: Value = serde_json::from_slice(&list.to_bytes()).unwrap();

        assert_eq!(value["manifests"].as_array().unwrap().len(), 2);
        assert_eq!(value["manifests"][0]["platform"]["architecture"], "amd64");
        list.remove(&digest(1));
        assert!(!list.has(&digest(1)) && list.has(&digest(2)));
    }

    #[test]
    fn what_is_said_of_an_entry_joins_what_it_says_already() {
        let mut list = List::new();
        list.put(entry(
            1,
            json!({ "platform": { "os": "linux", "architecture": "arm" }, "annotations": { "a": "1" } }),
        ));
        let says = Says {
            annotation: vec!["b=2=3".into()],
            arch: Some("aarch64".into()),
            variant: Some("v8".into()),
            os_version: Some("1".into()),
            os_features: vec!["x".into(), "y".into()],
            ..nothing()
        };

        list.say(&digest(1), &says).unwrap();

        let value: Value = serde_json::from_slice(&list.to_bytes()).unwrap();
        let expected = json!({
            "os": "linux", "architecture": "arm64", "variant": "v8", "os.version": "1", "os.features": ["x", "y"]
        });
        assert_eq!(value["manifests"][0]["platform"], expected);
        assert_eq!(value["manifests"][0]["annotations"], json!({ "a": "1", "b": "2=3" }));
    }

    #[test]
    fn half_a_platform_and_annotations_without_a_key_are_refused() {
        for says in [
            Says { os: Some("linux".into()), ..nothing() },
            Says { os: Some("linux".into()), arch: Some("a/b/c".into()), ..nothing() },
            Says { annotation: vec!["novalue".into()], ..nothing() },
            Says { annotation: vec!["=x".into()], ..nothing() },
        ] {
            assert!(say(&mut entry(1, json!({})), &says).is_err(), "{says:?}");
        }
        assert!(say(&mut entry(1, json!({})), &nothing()).is_ok());
    }

    #[test]
    fn fields_that_are_not_known_survive() {
        let text = br#"{"manifests":[],"mediaType":"x","schemaVersion":2,"subject":{"a":1}}"#;
        let list = List::parse("l", text).unwrap();

        assert_eq!(list.to_bytes(), text);
        assert!(List::parse("l", br#"{"config":{},"layers":[]}"#).is_err());
    }
}
