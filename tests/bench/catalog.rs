//! A store with many images: what its first page, a tag and its start cost. Ours only: peers have no such store to make
//! in a time that anybody waits for.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use strata_proto::store::v1::{
    CreateImageRequest, GetImageRequest, HoldLeaseRequest, ImageLayer, ListImagesRequest, PutBlobHeader,
    PutBlobRequest, TagImageRequest, blob_service_client::BlobServiceClient, image_service_client::ImageServiceClient,
    lease_service_client::LeaseServiceClient, put_blob_request::Part,
};
use strata_rpc::Endpoint;
use strata_tests::House;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::{
    Outcome,
    report::{Cell, Report, Samples, Unit},
    room,
    work::Work,
};

const IMAGES: usize = 10_000;
/// Blobs beside the two that each image has.
const BLOBS: usize = 30_000;
/// Calls under way at once while the store is filled.
const AT_ONCE: usize = 16;
/// Entries of the page that `ctl images` asks for first would be 1,000; this is the default of the API.
const PAGE: u32 = 100;

/// Fills a store and measures it.
pub(crate) fn measure(work: &Work, runs: u32, report: &mut Report) -> Outcome<()> {
    let house = House::with_root(Some(&work.home("catalog")?.join("state")));
    let mut import = house.ctl_command(&["import"]);
    import.arg(work.image()).arg("guest");
    room::finish(import)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    eprintln!("filling the store: {IMAGES} images, {BLOBS} more blobs");
    runtime.block_on(fill(&house))?;
    let starts = starts(&house, runs)?;
    // The last start has left a store that runs.
    let (pages, tags) = runtime.block_on(calls(&house, runs))?;
    for (title, samples) in [
        ("10,000 images: first page of the list", pages),
        ("10,000 images: tag", tags),
        ("10,000 images: inspect that starts it", starts),
    ] {
        report.row(title, Unit::Milliseconds, BTreeMap::from([("ctl".to_owned(), Cell::Samples(samples))]));
    }
    let complaints = house.close();
    if complaints.is_empty() { Ok(()) } else { Err(format!("left behind: {complaints:?}").into()) }
}

fn channel(house: &House) -> Outcome<Channel> {
    let endpoint = Endpoint::parse(&format!("unix:{}", house.socket("store").display()))?;
    Ok(strata_rpc::connect(&endpoint, None)?)
}

/// Makes the images, over the layer of one, and the blobs. All of it is held until it is measured: images by their
/// names, blobs by a lease whose grace is longer than the measuring.
async fn fill(house: &House) -> Outcome<()> {
    let channel = channel(house)?;
    let grace = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
    let mut leases = LeaseServiceClient::new(channel.clone());
    let mut held = leases.hold_lease(HoldLeaseRequest { holder: "bench".into(), grace }).await?.into_inner();
    let lease = held.message().await?.and_then(|message| message.lease).ok_or("a lease")?.id;
    let reference = GetImageRequest { reference: "guest".into(), lease_id: lease.clone(), ..Default::default() };
    let guest = ImageServiceClient::new(channel.clone()).get_image(reference).await?.into_inner().image;
    let layers: Vec<ImageLayer> = guest.ok_or("the guest's image")?.layers;
    let layer_ids: Vec<String> = layers.into_iter().map(|layer| layer.layer_id).collect();
    let mut work = JoinSet::new();
    for number in 0..IMAGES.max(BLOBS) {
        while work.len() >= AT_ONCE {
            finished(work.join_next().await)?;
        }
        crate::go_on()?;
        if number < IMAGES {
            work.spawn(create(channel.clone(), number, layer_ids.clone(), lease.clone()));
        }
        if number < BLOBS {
            work.spawn(put(channel.clone(), number, lease.clone()));
        }
    }
    while let Some(done) = work.join_next().await {
        finished(Some(done))?;
    }
    Ok(())
}

type Call = Result<(), Box<tonic::Status>>;

fn finished(done: Option<Result<Call, tokio::task::JoinError>>) -> Outcome<()> {
    if let Some(done) = done {
        done??;
    }
    Ok(())
}

async fn create(channel: Channel, number: usize, layer_ids: Vec<String>, lease_id: String) -> Call {
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": { "Labels": { "number": number.to_string() } },
        "rootfs": { "type": "layers", "diff_ids": [] },
    });
    let names = vec![format!("bench-{number:05}:1")];
    let request = CreateImageRequest { config_json: config.to_string().into(), layer_ids, names, lease_id };
    ImageServiceClient::new(channel).create_image(request).await.map(drop).map_err(Box::new)
}

async fn put(channel: Channel, number: usize, lease_id: String) -> Call {
    let header = PutBlobHeader { expected_digest: None, lease_id };
    let parts = [Part::Header(header), Part::Chunk(format!("blob {number}").into())];
    let messages = parts.map(|part| PutBlobRequest { part: Some(part) });
    BlobServiceClient::new(channel).put_blob(tokio_stream::iter(messages)).await.map(drop).map_err(Box::new)
}

/// The first page of a list, and a further name for an image in the middle.
async fn calls(house: &House, runs: u32) -> Outcome<(Samples, Samples)> {
    let mut client = ImageServiceClient::new(channel(house)?);
    let (mut pages, mut tags) = (Samples::default(), Samples::default());
    for round in 0..=runs {
        crate::go_on()?;
        let start = Instant::now();
        let page = client.list_images(ListImagesRequest { page_size: PAGE, ..Default::default() }).await?.into_inner();
        let page_took = start.elapsed();
        if page.images.len() != PAGE as usize || page.next_page_token.is_empty() {
            return Err(format!("the first page has {} images", page.images.len()).into());
        }
        let source = format!("bench-{:05}:1", IMAGES / 2 + round as usize);
        let start = Instant::now();
        client.tag_image(TagImageRequest { source, target: "bench-tag:1".into() }).await?;
        let tag_took = start.elapsed();
        // The first makes the connection.
        if round > 0 {
            pages.push(milliseconds(page_took));
            tags.push(milliseconds(tag_took));
        }
    }
    Ok((pages, tags))
}

/// A command that has to start the store, from its start to its end.
fn starts(house: &House, runs: u32) -> Outcome<Samples> {
    let mut samples = Samples::default();
    for _ in 0..runs {
        crate::go_on()?;
        let left = house.stop();
        if !left.is_empty() {
            return Err(format!("the store does not stop: {left:?}").into());
        }
        let command = house.ctl_command(&["inspect", "--type", "image", "bench-05000:1"]);
        samples.push(milliseconds(room::finish(command)?.took));
    }
    Ok(samples)
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}
