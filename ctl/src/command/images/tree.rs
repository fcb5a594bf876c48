//! `ctl images --tree`: images with their layers, and which other images have them too. A layer is on disk once,
//! however many images have it, and however often one has it.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use serde_json::json;
use strata_proto::store::v1 as pb;
use strata_types::ImageConfig;

use super::filter::Filter;
use crate::args::Format;
use crate::error::Result;
use crate::explore::{Layer, history};
use crate::platform::Platform;
use crate::render::{self, list, name, size, table};

/// Images asked for at once.
const AT_ONCE: usize = 16;

/// Names of other images in one line.
const SHOWN_NAMES: usize = 3;

/// Characters of an instruction in one line.
const INSTRUCTION: usize = 45;

/// An image with the layers that it is made of.
#[derive(Clone, Debug, Default)]
struct Whole {
    id: String,
    names: Vec<String>,
    layers: Vec<Part>,
}

/// A layer of an image.
#[derive(Clone, Debug, Default)]
struct Part {
    diff_id: String,
    bytes: u64,
    instruction: String,
}

/// Which images have which layers.
#[derive(Debug)]
struct Sharing<'a> {
    images: &'a [Whole],
    /// By diff-id: bytes, and the images, as indexes.
    layers: BTreeMap<&'a str, (u64, BTreeSet<usize>)>,
}

/// Shows some images, or all; what they share with is looked for among all.
pub async fn run(platform: &Platform, filter: &Filter, format: &Format, no_trunc: bool) -> Result<u8> {
    let wanted = if filter.is_empty() { None } else { Some(filter.images(platform).await?) };
    let listed = super::all(platform, "").await?;
    let longest = if *format == Format::Table && !no_trunc { INSTRUCTION } else { usize::MAX };
    let images = load(platform, listed, longest).await?;
    let is_wanted = |image: &Whole| wanted.as_ref().is_none_or(|some| some.iter().any(|one| one.id == image.id));
    let sharing = Sharing::of(&images);
    let chosen: Vec<usize> = (0..images.len()).filter(|index| is_wanted(&images[*index])).collect();
    match format {
        Format::Json => render::line(sharing.json(&chosen))?,
        Format::Template(template) | Format::Columns(template) => {
            render::line(list::fill(template, &sharing.json(&chosen))?)?;
        }
        Format::Table => {
            for index in &chosen {
                render::text(&sharing.image_text(*index, no_trunc))?;
            }
            render::text(&sharing.summary())?;
        }
    }
    Ok(0)
}

/// Asks for the layers of each image, and keeps no more of an instruction than is shown. An image that has gone meanwhile
/// is left out.
async fn load(platform: &Platform, mut listed: Vec<pb::Image>, longest: usize) -> Result<Vec<Whole>> {
    listed.sort_by(|left, right| (left.names.is_empty(), &left.names).cmp(&(right.names.is_empty(), &right.names)));
    let client = platform.images().await?;
    let get = |image: pb::Image| {
        let mut client = client.clone();
        async move { client.get_image(pb::GetImageRequest { reference: image.id, ..Default::default() }).await }
    };
    let mut replies = futures_util::stream::iter(listed).map(get).buffered(AT_ONCE);
    let mut images = Vec::new();
    while let Some(reply) = replies.next().await {
        match reply {
            Ok(reply) => images.extend(reply.into_inner().image.map(|image| whole(image, longest))),
            Err(status) => {
                let error = crate::error::Error::from(status);
                if error.reason != "FAULT_IMAGE_NOT_FOUND" {
                    return Err(error);
                }
            }
        }
    }
    Ok(images)
}

fn whole(image: pb::Image, longest: usize) -> Whole {
    // An image whose config cannot be read has its layers all the same.
    let config: ImageConfig = serde_json::from_slice(&image.config_json).unwrap_or_default();
    let origins = history::origins(&config, image.layers.len());
    let part = |(layer, origin): (pb::ImageLayer, _)| Part {
        diff_id: layer.diff_id,
        bytes: layer.size_bytes,
        instruction: table::cut(&Layer { diff_id: String::new(), origin }.instruction(), longest),
    };
    let names = image.names.iter().map(|full| name::familiar(full)).collect();
    Whole { id: image.id, names, layers: image.layers.into_iter().zip(origins).map(part).collect() }
}

impl Whole {
    /// Its first name, or its id.
    fn title(&self) -> &str {
        self.names.first().map_or_else(|| table::short_id(&self.id), String::as_str)
    }

    fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }
}

impl<'a> Sharing<'a> {
    fn of(images: &'a [Whole]) -> Self {
        let mut layers: BTreeMap<&str, (u64, BTreeSet<usize>)> = BTreeMap::new();
        for (index, image) in images.iter().enumerate() {
            for layer in &image.layers {
                let known = layers.entry(&layer.diff_id).or_insert((layer.bytes, BTreeSet::new()));
                known.1.insert(index);
            }
        }
        Self { images, layers }
    }

    /// The first few other images with a layer, and how many there are: a base may be below thousands.
    fn others(&self, diff_id: &str, image: usize) -> (Vec<&str>, usize) {
        let Some((_, images)) = self.layers.get(diff_id) else { return (Vec::new(), 0) };
        let others = images.iter().filter(|other| **other != image).take(SHOWN_NAMES);
        let count = images.len() - usize::from(images.contains(&image));
        (others.map(|other| self.images[*other].title()).collect(), count)
    }

    /// Bytes of the layers that only this image has.
    fn unique(&self, image: usize) -> u64 {
        let own: BTreeSet<&str> = self.images[image].layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let known = own.into_iter().filter_map(|diff_id| self.layers.get(diff_id));
        known.filter(|(_, images)| images.len() == 1).map(|(bytes, _)| bytes).sum()
    }

    /// Bytes of all layers on disk, each once.
    fn on_disk(&self) -> u64 {
        self.layers.values().map(|(bytes, _)| bytes).sum()
    }

    /// What all images have together.
    fn summary(&self) -> String {
        let together: u64 = self.images.iter().map(Whole::bytes).sum();
        let counted =
            |count: usize, noun: &str| if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") };
        format!(
            "{}, {}: {} on disk, {} without sharing\n",
            counted(self.images.len(), "image"),
            counted(self.layers.len(), "layer"),
            size::human(self.on_disk()),
            size::human(together),
        )
    }

    fn image_text(&self, index: usize, no_trunc: bool) -> String {
        let mut text = String::new();
        let image = &self.images[index];
        let id = |full: &str| if no_trunc { full.to_owned() } else { table::short_id(full).to_owned() };
        let names = if image.names.is_empty() { "<none>".to_owned() } else { image.names.join(", ") };
        let (bytes, unique) = (size::human(image.bytes()), size::human(self.unique(index)));
        text.push_str(&format!("{names}  {}  {bytes}, {unique} its own\n", id(&image.id)));
        for (position, layer) in image.layers.iter().enumerate() {
            let branch = if position + 1 == image.layers.len() { "└─" } else { "├─" };
            let (shown, count) = self.others(&layer.diff_id, index);
            let more = count - shown.len();
            let shared = match (shown.is_empty(), more) {
                (true, _) => String::new(),
                (false, 0) => format!("  [also in {}]", shown.join(", ")),
                (false, more) => format!("  [also in {} and {more} more]", shown.join(", ")),
            };
            let by = if no_trunc { layer.instruction.clone() } else { table::cut(&layer.instruction, INSTRUCTION) };
            let (id, bytes) = (id(&layer.diff_id), size::human(layer.bytes));
            text.push_str(&format!("{branch} {id}  {bytes:>7}  {by}{shared}\n"));
        }
        text.push('\n');
        text
    }

    /// One document: what each image has, and of each layer which images have it. Layers of images that were not
    /// chosen are left out; the images that share a layer are named all.
    fn json(&self, chosen: &[usize]) -> serde_json::Value {
        let image = |index: &usize| {
            let image = &self.images[*index];
            json!({
                "id": image.id,
                "names": image.names,
                "sizeBytes": image.bytes(),
                "uniqueBytes": self.unique(*index),
                "layers": image.layers.iter().map(|layer| json!({
                    "diffId": layer.diff_id, "sizeBytes": layer.bytes, "instruction": layer.instruction,
                })).collect::<Vec<_>>(),
            })
        };
        let all_chosen: BTreeSet<usize> = chosen.iter().copied().collect();
        let is_chosen = |images: &BTreeSet<usize>| images.iter().any(|index| all_chosen.contains(index));
        let layers =
            self.layers.iter().filter(|(_, (_, images))| is_chosen(images)).map(|(diff_id, (bytes, images))| {
                let ids: Vec<&str> = images.iter().map(|index| self.images[*index].id.as_str()).collect();
                json!({ "diffId": diff_id, "sizeBytes": bytes, "images": ids })
            });
        json!({
            "version": 1,
            "images": chosen.iter().map(image).collect::<Vec<_>>(),
            "layers": layers.collect::<Vec<_>>(),
            "diskBytes": self.on_disk(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, names: &[&str], layers: &[(&str, u64)]) -> Whole {
        let part = |(diff_id, bytes): &(&str, u64)| Part {
            diff_id: format!("sha256:{diff_id}"),
            bytes: *bytes,
            instruction: format!("RUN {diff_id}"),
        };
        Whole {
            id: format!("sha256:{id}"),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            layers: layers.iter().map(part).collect(),
        }
    }

    fn three() -> Vec<Whole> {
        vec![
            image("1", &["base:1"], &[("b", 100)]),
            image("2", &["app:1", "app:latest"], &[("b", 100), ("x", 20), ("x", 20), ("y", 3)]),
            image("3", &[], &[("b", 100), ("x", 20)]),
        ]
    }

    #[test]
    fn what_is_shared_is_told_with_whom_and_what_is_not_is_summed() {
        let images = three();
        let sharing = Sharing::of(&images);

        assert_eq!((0..3).map(|index| sharing.unique(index)).collect::<Vec<_>>(), [0, 3, 0]);
        assert_eq!(sharing.on_disk(), 123);
        assert_eq!(
            (0..3).map(|index| sharing.image_text(index, false)).collect::<String>() + &sharing.summary(),
            "\
base:1  1  100B, 0B its own
└─ b     100B  RUN b  [also in app:1, 3]

app:1, app:latest  2  143B, 3B its own
├─ b     100B  RUN b  [also in base:1, 3]
├─ x      20B  RUN x  [also in 3]
├─ x      20B  RUN x  [also in 3]
└─ y       3B  RUN y

<none>  3  120B, 0B its own
├─ b     100B  RUN b  [also in base:1, app:1]
└─ x      20B  RUN x  [also in app:1]

3 images, 3 layers: 123B on disk, 363B without sharing
"
        );
    }

    #[test]
    fn a_layer_of_many_images_names_a_few() {
        let images: Vec<Whole> = ('a'..='f').map(|name| image(&name.to_string(), &[], &[("b", 1)])).collect();

        let text = Sharing::of(&images).image_text(0, false);

        assert!(text.contains("[also in b, c, d and 2 more]"), "{text}");
    }

    #[test]
    fn of_thousands_that_share_a_base_each_is_told_with_little_work() {
        let images: Vec<Whole> =
            (0..10_000).map(|number| image(&number.to_string(), &[], &[("base", 100), ("more", 1)])).collect();
        let sharing = Sharing::of(&images);

        // As many steps for each as there are others would be 200 million; what is looked at is what is shown.
        let (shown, count) = sharing.others("sha256:base", 5000);
        assert_eq!((shown.as_slice(), count), (&["0", "1", "2"][..], 9_999));
        let lines: usize = (0..images.len()).map(|index| sharing.image_text(index, false).lines().count()).sum();

        assert_eq!(lines, 40_000);
        assert_eq!(sharing.summary(), "10000 images, 2 layers: 101B on disk, 1.01MB without sharing\n");
    }

    #[test]
    fn the_json_names_every_image_of_a_chosen_layer() {
        let images = three();

        let value = Sharing::of(&images).json(&[2]);

        assert_eq!(value["images"].as_array().unwrap().len(), 1);
        assert_eq!(value["images"][0]["uniqueBytes"], 0);
        let expected = json!([
            { "diffId": "sha256:b", "sizeBytes": 100, "images": ["sha256:1", "sha256:2", "sha256:3"] },
            { "diffId": "sha256:x", "sizeBytes": 20, "images": ["sha256:2", "sha256:3"] },
        ]);
        assert_eq!(value["layers"], expected);
    }
}
