//! A security update of Debian, made from the base image: what moves between stores when it is copied is measured by
//! it.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

/// Bytes without any order, always the same of one seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Writes a root file system tar of Debian with another OpenSSL, and everything newer. Returns how many files have
/// other contents.
pub fn with_another_openssl(base: &Path, to: &Path) -> io::Result<u64> {
    let mut archive = tar::Archive::new(io::BufReader::new(File::open(base)?));
    let mut made = tar::Builder::new(io::BufWriter::new(File::create(to)?));
    let mut changed = 0;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let mut header = entry.header().clone();
        header.set_mtime(header.mtime()? + 86_400);
        header.set_cksum();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_openssl = name.starts_with("libssl.so") || name.starts_with("libcrypto.so");
        if header.entry_type().is_file() && is_openssl {
            // Worse than any update: it cannot be compressed.
            bytes = noise(changed, bytes.len());
            changed += 1;
        }
        match entry.link_name()? {
            Some(link) => made.append_link(&mut header, &path, link)?,
            None => made.append_data(&mut header, &path, &bytes[..])?,
        }
    }
    made.into_inner()?.flush()?;
    Ok(changed)
}

/// What `ctl image cp` says that it moved, in bytes: "Moved 5.3MB, spared ...".
pub fn moved(stdout: &str) -> Option<u64> {
    let line = stdout.lines().find_map(|line| line.strip_prefix("Moved "))?;
    let text = line.split(',').next()?;
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let scale = match unit {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        _ => return None,
    };
    Some((number.parse::<f64>().ok()? * scale) as u64)
}
