//! `ctl system df`: what of the disk is used, and what `prune` would give back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::StreamExt;
use jiff::Timestamp;
use serde_json::json;
use strata_proto::runtime::v1 as runtime;
use strata_proto::store::v1 as store;

use super::{builder, images, ps, volume};
use crate::args::{Df, Format};
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::render::list::{self, Row};
use crate::render::{self, name, size, table, time};

/// Images asked for at once.
const AT_ONCE: usize = 16;

/// Keys in one request.
const KEYS: usize = 1000;

/// Everything that is counted.
struct Usage {
    images: Vec<store::Image>,
    containers: Vec<runtime::Container>,
    /// Bytes that containers wrote, by id.
    written: HashMap<String, u64>,
    volumes: Vec<runtime::Volume>,
    cache: Vec<store::CacheUsage>,
}

/// A row of the summary.
#[derive(Debug, Default, Clone, PartialEq)]
struct Sum {
    total: usize,
    active: usize,
    bytes: u64,
    reclaimable: u64,
}

/// Prints how much there is of each kind, or with -v of each thing.
pub async fn run(platform: &Platform, args: &Df) -> Result<u8> {
    let usage = Usage::load(platform).await?;
    match (args.verbose, &args.format) {
        (true, Format::Table) => usage.print()?,
        (true, _) => return Err(Error::usage("--format and --verbose say different things")),
        (false, format) => {
            let kinds = [
                ("Images", usage.of_images()),
                ("Containers", usage.of_containers()),
                ("Local Volumes", usage.of_volumes()),
                ("Build Cache", usage.of_cache()),
            ];
            let rows = kinds.into_iter().map(|(kind, sum)| row(kind, &sum)).collect();
            list::print(format, &["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"], rows)?;
        }
    }
    Ok(0)
}

fn row(kind: &str, sum: &Sum) -> Row {
    let share = (sum.reclaimable * 100).checked_div(sum.bytes);
    let reclaimable = size::human(sum.reclaimable);
    // BuildKit's cache has no share in Docker's table either.
    let reclaimable = match share.filter(|_| kind != "Build Cache") {
        Some(share) => format!("{reclaimable} ({share}%)"),
        None => reclaimable,
    };
    let cells = [kind.to_owned(), sum.total.to_string(), sum.active.to_string(), size::human(sum.bytes), reclaimable];
    let [kind, total, active, bytes, reclaimable] = &cells;
    let fields =
        json!({ "Type": kind, "TotalCount": total, "Active": active, "Size": bytes, "Reclaimable": reclaimable });
    Row { cells: cells.to_vec(), fields }
}

impl Usage {
    async fn load(platform: &Platform) -> Result<Self> {
        let containers = ps::list(platform, true).await?;
        let written = written(platform, &containers).await?;
        let volumes = volume::all(platform, true).await?;
        let cache = builder::records(platform).await?;
        Ok(Self { images: whole_images(platform).await?, containers, written, volumes, cache })
    }

    fn users_of<'a>(&'a self, image: &'a str) -> impl Iterator<Item = &'a runtime::Container> {
        self.containers.iter().filter(move |container| container.image_id == image)
    }

    /// Layers by diff-id: bytes, and by how many images they are had.
    fn layers(&self, is_meant: impl Fn(&store::Image) -> bool) -> BTreeMap<&str, (u64, usize)> {
        let mut layers: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
        for image in self.images.iter().filter(|image| is_meant(image)) {
            let own: BTreeMap<&str, u64> =
                image.layers.iter().map(|layer| (layer.layer_id.as_str(), layer.size_bytes)).collect();
            for (id, bytes) in own {
                layers.entry(id).or_insert((bytes, 0)).1 += 1;
            }
        }
        layers
    }

    fn of_images(&self) -> Sum {
        let is_active = |image: &store::Image| self.users_of(&image.id).next().is_some();
        let bytes = |layers: BTreeMap<&str, (u64, usize)>| layers.values().map(|(bytes, _)| bytes).sum::<u64>();
        let total = bytes(self.layers(|_| true));
        Sum {
            total: self.images.len(),
            active: self.images.iter().filter(|image| is_active(image)).count(),
            bytes: total,
            reclaimable: total - bytes(self.layers(is_active)),
        }
    }

    fn of_containers(&self) -> Sum {
        let runs = |container: &&runtime::Container| ps::state(container) == "running";
        let bytes = |container: &runtime::Container| self.written.get(&container.id).copied().unwrap_or(0);
        Sum {
            total: self.containers.len(),
            active: self.containers.iter().filter(runs).count(),
            bytes: self.containers.iter().map(bytes).sum(),
            reclaimable: self.containers.iter().filter(|one| !runs(one)).map(bytes).sum(),
        }
    }

    fn of_volumes(&self) -> Sum {
        let is_active = |volume: &&runtime::Volume| !volume.container_ids.is_empty();
        let bytes = |volume: &runtime::Volume| volume.size_bytes.unwrap_or(0);
        Sum {
            total: self.volumes.len(),
            active: self.volumes.iter().filter(is_active).count(),
            bytes: self.volumes.iter().map(bytes).sum(),
            reclaimable: self.volumes.iter().filter(|one| !is_active(one)).map(bytes).sum(),
        }
    }

    fn of_cache(&self) -> Sum {
        // What images share is theirs.
        let own = || self.cache.iter().filter(|record| !record.is_shared);
        Sum {
            total: self.cache.len(),
            active: self.cache.iter().filter(|record| record.is_in_use).count(),
            bytes: own().map(|record| record.size_bytes).sum(),
            reclaimable: own().filter(|record| !record.is_in_use).map(|record| record.size_bytes).sum(),
        }
    }

    fn print(&self) -> Result<()> {
        let now = Timestamp::now();
        let part = |title: &str, head: &[&str], rows: Vec<Vec<String>>| {
            render::line(format!("{title}\n"))?;
            let head = head.iter().map(|&cell| cell.to_owned()).collect();
            table::print(&std::iter::once(head).chain(rows).collect::<Vec<_>>())?;
            render::line("")
        };
        let head = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"];
        part("Images space usage:", &head, self.image_rows(now))?;
        let head = ["CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"];
        part("Containers space usage:", &head, self.container_rows(now))?;
        let row = |volume: &runtime::Volume| {
            let bytes = volume.size_bytes.map_or("N/A".to_owned(), size::human);
            vec![volume.name.clone(), volume.container_ids.len().to_string(), bytes]
        };
        let rows = self.volumes.iter().map(row).collect();
        part("Local Volumes space usage:", &["VOLUME NAME", "LINKS", "SIZE"], rows)?;
        let bytes = size::human(self.of_cache().bytes);
        let head = ["CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED"];
        part(&format!("Build cache usage: {bytes}"), &head, self.cache_rows(now))
    }

    fn image_rows(&self, now: Timestamp) -> Vec<Vec<String>> {
        let layers = self.layers(|_| true);
        let mut rows = Vec::new();
        for image in &self.images {
            let ids: BTreeSet<&str> = image.layers.iter().map(|layer| layer.layer_id.as_str()).collect();
            let (mut shared, mut unique) = (0, 0);
            for (bytes, count) in ids.iter().filter_map(|id| layers.get(id)) {
                *(if *count > 1 { &mut shared } else { &mut unique }) += bytes;
            }
            let names = match image.names.is_empty() {
                true => vec![("<none>".to_owned(), "<none>".to_owned())],
                false => image.names.iter().map(|full| name::repository_and_tag(full)).collect(),
            };
            let created = time::ago(image.created_at.as_ref().and_then(time::timestamp), now);
            for (repository, tag) in names {
                rows.push(vec![
                    repository,
                    tag,
                    table::short_id(&image.id).to_owned(),
                    created.clone(),
                    size::human(shared + unique),
                    size::human(shared),
                    size::human(unique),
                    self.users_of(&image.id).count().to_string(),
                ]);
            }
        }
        rows
    }

    fn container_rows(&self, now: Timestamp) -> Vec<Vec<String>> {
        let row = |container: &runtime::Container| {
            let image = match container.spec.as_ref().and_then(|spec| spec.root.as_ref()) {
                Some(runtime::container_spec::Root::Image(image)) => image.as_str(),
                _ => "<none>",
            };
            vec![
                table::short_id(&container.id).to_owned(),
                image.to_owned(),
                format!("{:?}", table::cut(&ps::command(container), 20)),
                ps::volumes(container).count().to_string(),
                size::human(self.written.get(&container.id).copied().unwrap_or(0)),
                time::ago(container.created_at.as_ref().and_then(time::timestamp), now),
                ps::status(container, now),
                container.name.clone(),
            ]
        };
        self.containers.iter().map(row).collect()
    }

    fn cache_rows(&self, now: Timestamp) -> Vec<Vec<String>> {
        let row = |record: &store::CacheUsage| {
            let ago = |at: Option<&prost_types::Timestamp>| {
                at.and_then(time::timestamp).map_or(String::new(), |at| time::ago(Some(at), now))
            };
            vec![
                table::short_id(&record.key).to_owned(),
                builder::kind(record).to_owned(),
                size::human(record.size_bytes),
                ago(record.created_at.as_ref()),
                ago(record.last_used_at.as_ref()),
                record.usage_count.to_string(),
                record.is_shared.to_string(),
            ]
        };
        self.cache.iter().map(row).collect()
    }
}

/// Every image with its layers. One that has gone meanwhile is left out.
async fn whole_images(platform: &Platform) -> Result<Vec<store::Image>> {
    let listed = images::all(platform, "").await?;
    let client = platform.images().await?;
    let get = |image: store::Image| {
        let mut client = client.clone();
        async move { client.get_image(store::GetImageRequest { reference: image.id, ..Default::default() }).await }
    };
    let mut replies = futures_util::stream::iter(listed).map(get).buffered(AT_ONCE);
    let mut found = Vec::new();
    while let Some(reply) = replies.next().await {
        match reply.map_err(Error::from) {
            Ok(reply) => found.extend(reply.into_inner().image),
            Err(error) if error.reason == "FAULT_IMAGE_NOT_FOUND" => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Bytes that containers wrote, by id.
pub async fn written(platform: &Platform, containers: &[runtime::Container]) -> Result<HashMap<String, u64>> {
    let mut client = platform.snapshots().await?;
    let mut written = HashMap::new();
    for some in containers.chunks(KEYS) {
        let keys = some.iter().map(|container| container.snapshot_key.clone()).collect();
        let sizes = client.measure_snapshots(store::MeasureSnapshotsRequest { keys }).await?.into_inner().sizes;
        let sizes: HashMap<String, u64> = sizes.into_iter().map(|size| (size.key, size.size_bytes)).collect();
        let of = |container: &runtime::Container| Some((container.id.clone(), *sizes.get(&container.snapshot_key)?));
        written.extend(some.iter().filter_map(of));
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_images_share_count_once_and_go_with_the_last() {
        let layer = |id: &str, size_bytes| store::ImageLayer { layer_id: id.into(), size_bytes, ..Default::default() };
        let image =
            |id: &str, layers: Vec<store::ImageLayer>| store::Image { id: id.into(), layers, ..Default::default() };
        let usage = Usage {
            images: vec![
                image("used", vec![layer("base", 100), layer("own", 10)]),
                image("idle", vec![layer("base", 100), layer("other", 5), layer("other", 5)]),
            ],
            containers: vec![runtime::Container { id: "c".into(), image_id: "used".into(), ..Default::default() }],
            written: HashMap::from([("c".to_owned(), 7)]),
            volumes: Vec::new(),
            cache: Vec::new(),
        };

        assert_eq!(usage.of_images(), Sum { total: 2, active: 1, bytes: 115, reclaimable: 5 });
        assert_eq!(usage.of_containers(), Sum { total: 1, active: 0, bytes: 7, reclaimable: 7 });
    }

    #[test]
    fn what_can_be_reclaimed_has_its_share() {
        let sum = Sum { total: 3, active: 1, bytes: 2000, reclaimable: 500 };
        assert_eq!(row("Images", &sum).cells, ["Images", "3", "1", "2kB", "500B (25%)"]);
        assert_eq!(row("Build Cache", &sum).cells[4], "500B");
        assert_eq!(row("Images", &Sum::default()).cells[4], "0B");
    }
}
