//! Writes the image of an archive, or unpacks it to a directory, compressed or not: `image ARCHIVE TARGET`. A target
//! that is a directory is unpacked to. Says what the processor did for it.

use rustix::fd::AsFd;
use std::fs::File;
use strata_archive::{ApplyOptions, apply, decompress};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(archive), Some(target)) = (arguments.next(), arguments.next()) else {
        return Err("usage: image ARCHIVE TARGET".into());
    };
    let (_, tar) = decompress(File::open(archive)?)?;
    let options = ApplyOptions::default();
    let target = std::path::Path::new(&target);
    let applied = match target.is_dir() {
        true => apply(tar, File::open(target)?.as_fd(), &options)?,
        false => {
            let image = File::options().read(true).write(true).create_new(true).open(target)?;
            strata_erofs::write(tar, &image, &options)?
        }
    };
    let used = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = used.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    println!(
        "{} of {} entries; processor: {} ticks for itself, {} in the kernel",
        applied.diff_id, applied.entries, fields[11], fields[12]
    );
    Ok(())
}
