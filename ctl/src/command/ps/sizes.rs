//! How much of the disk containers have: what each wrote, and that with its image.

use std::collections::HashMap;

use strata_proto::runtime::v1 as pb;

use crate::command::{df, images};
use crate::error::Result;
use crate::platform::Platform;
use crate::render::size;

/// Sizes of containers and of their images, by id.
#[derive(Debug, Default)]
pub struct Sizes {
    written: HashMap<String, u64>,
    images: HashMap<String, u64>,
}

impl Sizes {
    /// Measures what containers wrote.
    pub async fn load(platform: &Platform, containers: &[pb::Container]) -> Result<Self> {
        let written = df::written(platform, containers).await?;
        let images = images::all(platform, "").await?.into_iter().map(|image| (image.id, image.size_bytes)).collect();
        Ok(Self { written, images })
    }

    /// Bytes that a container wrote, and those with its image. None: they were not asked for, or it is gone.
    pub fn of(&self, container: &pb::Container) -> Option<(u64, u64)> {
        let written = *self.written.get(&container.id)?;
        // An image that is gone has none that can be told.
        Some((written, written + self.images.get(&container.image_id).copied().unwrap_or(0)))
    }

    /// "12.3kB (virtual 120MB)".
    pub fn text(&self, container: &pb::Container) -> String {
        let text = |(written, all)| format!("{} (virtual {})", size::human(written), size::human(all));
        self.of(container).map_or_else(|| size::human(0), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_what_was_written_and_what_there_is_with_the_image() {
        let container =
            |id: &str, image: &str| pb::Container { id: id.into(), image_id: image.into(), ..Default::default() };
        let sizes = Sizes {
            written: HashMap::from([("one".to_owned(), 12_345), ("two".to_owned(), 1_000)]),
            images: HashMap::from([("base".to_owned(), 120_000_000)]),
        };

        assert_eq!(sizes.text(&container("one", "base")), "12.3kB (virtual 120MB)");
        assert_eq!(sizes.of(&container("two", "gone")), Some((1_000, 1_000)));
        assert_eq!(
            (sizes.of(&container("three", "base")), sizes.text(&container("three", "base"))),
            (None, "0B".into())
        );
    }
}
