//! What `ctl build` builds from: a directory, a URL, or what comes on standard input.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use strata_dockerfile::remote::{self, Remote, redact};

use crate::args::Build;
use crate::error::{Error, Result};

/// Bytes that tell an archive from a Dockerfile.
const HEAD: usize = 1024;
/// Largest Dockerfile that comes on standard input, in bytes.
const LARGEST_DOCKERFILE: u64 = 2 << 20;

/// What is built from.
#[derive(Debug)]
pub enum Place {
    /// A directory, links resolved.
    Directory(PathBuf),
    /// A git repository, or a file of a web server: the builder fetches it.
    Url(String),
    /// An archive that came on standard input.
    Archive(Archive),
    /// Nothing but this Dockerfile, which came on standard input.
    Nothing(Vec<u8>),
}

/// An archive without a name on the disk.
#[derive(Debug)]
pub struct Archive {
    file: File,
    /// Digest of it.
    pub blake3: [u8; 32],
    /// Its size in bytes.
    pub size: u64,
}

impl Archive {
    /// Where it can be opened.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

impl Place {
    /// Finds out what the argument means. A directory wins over a URL that looks like its path.
    pub async fn of(args: &Build) -> Result<Self> {
        let text = args.path.to_string_lossy();
        if text == "-" {
            let file = args.file.clone();
            let read = tokio::task::spawn_blocking(move || Self::from_standard_input(file.as_deref()));
            return read.await.map_err(|error| Error::of(&error))?;
        }
        if args.path.is_dir() {
            return directory(&args.path).map(Self::Directory);
        }
        match remote::parse_context(&text) {
            Ok(Some(_)) => Ok(Self::Url(text.into_owned())),
            Ok(None) => directory(&args.path).map(Self::Directory),
            Err(problem) => {
                let error = Error::usage(problem.to_string());
                Err(match problem.advice() {
                    Some(advice) => error.hint(advice),
                    None => error,
                })
            }
        }
    }

    fn from_standard_input(file: Option<&Path>) -> Result<Self> {
        let failed = |error| Error::new(format!("cannot read the build context from standard input: {error}"));
        if file == Some(Path::new("-")) {
            return Err(Error::usage("the Dockerfile and the build context cannot both come on standard input"));
        }
        let mut input = io::stdin().lock();
        let mut head = Vec::with_capacity(HEAD);
        (&mut input).take(HEAD as u64).read_to_end(&mut head).map_err(failed)?;
        if is_archive(&head) {
            return spool(head, input).map(Self::Archive).map_err(failed);
        }
        if let Some(file) = file {
            let error = Error::usage(format!("-f {} is a file of the context, and there is none", file.display()));
            return Err(error.hint("what comes on standard input is no archive: it is taken for the Dockerfile"));
        }
        (&mut input).take(LARGEST_DOCKERFILE + 1).read_to_end(&mut head).map_err(failed)?;
        if head.is_empty() {
            return Err(Error::new("nothing came on standard input: a Dockerfile or an archive is expected"));
        }
        if head.len() as u64 > LARGEST_DOCKERFILE {
            let error = Error::new("what comes on standard input is too large for a Dockerfile, and is no archive");
            return Err(error.hint("archives are tar, also with gzip, bzip2, xz or zstd"));
        }
        Ok(Self::Nothing(head))
    }
}

fn directory(path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    let failed = |error| Error::new(format!("cannot open the build context {shown}: {error}"));
    let top = path.canonicalize().map_err(failed)?;
    if !top.is_dir() {
        let hint = "`ctl build - < FILE` takes an archive, `ctl build -f FILE DIRECTORY` another Dockerfile";
        return Err(Error::new(format!("the build context {shown} is not a directory")).hint(hint));
    }
    Ok(top)
}

/// The URL of a file that `-f` names.
pub fn dockerfile_url(file: &Path) -> Result<Option<String>> {
    let text = file.to_string_lossy();
    match remote::parse(&text) {
        _ if file.exists() => Ok(None),
        Ok(Some(Remote::Http(_))) => Ok(Some(text.into_owned())),
        Ok(Some(Remote::Git(_))) => {
            let error = Error::usage(format!("-f {} is a git repository", redact(&text)));
            Err(error.hint("name the repository as the context, and the file in it with -f"))
        }
        Ok(None) => Ok(None),
        Err(problem) => Err(Error::usage(problem.to_string())),
    }
}

/// By what it starts with: a compression, or the first block of a tar.
fn is_archive(head: &[u8]) -> bool {
    let compressions: [&[u8]; 4] = [b"BZh", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    compressions.iter().any(|magic| head.starts_with(magic)) || is_tar(head)
}

/// The first block has its own checksum. Blanks count for the field itself.
fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.get(..512) else { return false };
    let field = &block[148..156];
    let digits = String::from_utf8_lossy(field);
    let stated = u64::from_str_radix(digits.trim_matches(['\0', ' ']), 8);
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    stated.is_ok_and(|stated| stated == sum(block) - sum(field) + 8 * u64::from(b' '))
}

/// Keeps an archive until the builder has asked for it: it is asked for by its digest.
fn spool(head: Vec<u8>, mut input: impl Read) -> io::Result<Archive> {
    let mut file = tempfile::tempfile()?;
    let mut hasher = blake3::Hasher::new();
    let mut size = 0;
    let mut buffer = vec![0; 256 << 10];
    let mut part = &head[..];
    loop {
        hasher.update(part);
        file.write_all(part)?;
        size += part.len() as u64;
        match input.read(&mut buffer)? {
            0 => break,
            count => part = &buffer[..count],
        }
    }
    file.rewind()?;
    Ok(Archive { file, blake3: *hasher.finalize().as_bytes(), size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_known_by_how_they_start() {
        let mut tar = vec![0; 1024];
        tar[..4].copy_from_slice(b"name");
        let sum: u64 = tar.iter().map(|byte| u64::from(*byte)).sum::<u64>() + 8 * 32;
        tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());

        assert!(is_archive(&tar) && is_archive(&tar[..512]));
        for magic in [&b"BZh91AY"[..], b"\x1f\x8b\x08\0", b"\xfd7zXZ\0\0", b"\x28\xb5\x2f\xfd\0"] {
            assert!(is_archive(magic), "{magic:?}");
        }
        for text in [&b""[..], b"FROM scratch\n", &[b'#'; 1024], &[0; 1024], &tar[..511]] {
            assert!(!is_archive(text), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn an_archive_is_kept_whole() {
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();

        let archive = spool(bytes[..1000].to_vec(), &bytes[1000..]).expect("there is room for it");

        assert_eq!((archive.blake3, archive.size), (*blake3::hash(&bytes).as_bytes(), 1_000_000));
        assert_eq!(std::fs::read(archive.path()).expect("it can be opened"), bytes);
    }
}
