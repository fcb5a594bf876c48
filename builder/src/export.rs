//! The end of a build: its last stage becomes an image of the store, or a snapshot that the client fetches.

use strata_types::ImageConfig;

use crate::error::Error;
use crate::image::Draft;
use crate::peers::Manifest;
use crate::progress::{Running, StepState};
use crate::solve::Build;

/// What was made of the last stage.
#[derive(Debug, Clone, Default)]
pub struct Exported {
    /// Id of the image. Empty: none was asked for.
    pub image_id: String,
    /// Its names.
    pub names: Vec<String>,
    /// Its manifest.
    pub manifest: Option<Manifest>,
    /// Key of the snapshot with the files. Empty: none was asked for.
    pub snapshot: String,
}

/// Makes what the request asks for of the last stage.
pub async fn run(build: &Build, config: &ImageConfig, last: &Draft) -> Result<Exported, Error> {
    let mut exported = Exported::default();
    if build.request.makes_image {
        let running = build.progress.running(build.steps.count() + 1, "exporting to image", 0);
        running.builds_on(last.step);
        running.begin("");
        exported = match running.within(image(build, config, last, &running)).await {
            Ok(exported) => exported,
            Err(error) => {
                running.fail(&error);
                return Err(error);
            }
        };
        running.end(StepState::Done);
    }
    if build.request.keeps_tree {
        exported.snapshot = format!("{}-result", build.lease);
        let layers = files(build, last).await?;
        build.store.prepare(&exported.snapshot, &layers, &build.lease).await?;
    }
    Ok(exported)
}

/// The layers of the last stage; where they must be fetched for that, it is a step.
async fn files(build: &Build, last: &Draft) -> Result<Vec<String>, Error> {
    if let Some(layers) = last.here() {
        return Ok(layers);
    }
    let running = build.progress.running(build.steps.count() + 1, "fetching layers", 0);
    match running.within(build.files(last, &running)).await {
        Ok(layers) => {
            running.end(StepState::Done);
            Ok(layers)
        }
        Err(error) => {
            running.fail(&error);
            Err(error)
        }
    }
}

async fn image(build: &Build, config: &ImageConfig, last: &Draft, running: &Running) -> Result<Exported, Error> {
    let layers = build.files(last, running).await?;
    let describing = running.part("exporting layers");
    let exported = build.store.create_image(config, &layers, &build.request.names, &build.lease).await?;
    describing.done();
    running.part(format!("writing image {}", exported.image_id)).done();
    for name in exported.names.iter().filter(|name| is_asked_for(build, name)) {
        running.part(format!("naming to {name}")).done();
    }
    Ok(exported)
}

/// The image may have names of earlier builds too.
fn is_asked_for(build: &Build, name: &str) -> bool {
    let is_same = |asked: &String| strata_types::Reference::parse(asked).is_ok_and(|asked| asked.to_string() == name);
    build.request.names.iter().any(is_same)
}
