//! Turns one image archive into another: `convert SOURCE TARGET oci|docker [PLATFORM|all]`. SOURCE is a file, a
//! directory or "-"; TARGET is a file, or a directory if it ends in a slash. Says what it found.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, stdin};
use std::path::Path;

use strata_image::{Archive, Format, Limits, Plan, Platforms, save};
use strata_types::Platform;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (source, target, format, platforms) = match &arguments[..] {
        [source, target, format] => (source, target, format, Platforms::Host),
        [source, target, format, all] if all == "all" => (source, target, format, Platforms::All),
        [source, target, format, platform] => (source, target, format, Platforms::Only(Platform::parse(platform)?)),
        _ => return Err("usage: convert SOURCE TARGET oci|docker [PLATFORM|all]".into()),
    };
    let format = if format == "docker" { Format::DockerArchive } else { Format::OciLayout };
    let (limits, spool) = (Limits::default(), std::env::temp_dir());
    let archive = match source.as_str() {
        "-" => Archive::from_stream(stdin(), &spool, &limits)?,
        path => Archive::open(Path::new(path), &spool, &limits)?,
    };
    let plan = Plan::new(&archive, archive.roots(), &platforms, &limits)?;
    for root in plan.roots() {
        let names: Vec<String> = root.names.iter().map(ToString::to_string).collect();
        println!("{} names={names:?} tag={:?}", root.descriptor.digest, root.tag);
        for image in &root.images {
            println!("  {} id={} layers={}", image.platform, image.config.digest, image.layers.len());
        }
    }
    if target.ends_with('/') {
        save::directory(&plan, &archive, format, Path::new(target))?;
    } else {
        save::tar(&plan, &archive, format, BufWriter::new(File::create(target)?))?;
    }
    Ok(())
}
