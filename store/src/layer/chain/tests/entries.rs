//! A layer as the entries of its archive.

use std::path::Path;

/// One entry of a layer; paths are below the root.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Directory {
        path: String,
        mode: u32,
    },
    File {
        path: String,
        text: String,
    },
    Link {
        path: String,
        target: String,
    },
    Whiteout {
        path: String,
    },
    /// A directory that hides what is below it.
    Opaque {
        path: String,
    },
}

impl Item {
    pub(super) fn path(&self) -> &str {
        match self {
            Self::Directory { path, .. }
            | Self::File { path, .. }
            | Self::Link { path, .. }
            | Self::Whiteout { path }
            | Self::Opaque { path } => path,
        }
    }

    /// Name in the archive, type flag, mode, target and content.
    fn header(&self) -> (String, u8, u32, &str, &str) {
        match self {
            Self::Directory { path, mode } => (format!("{path}/"), b'5', *mode, "", ""),
            Self::File { path, text } => (path.clone(), b'0', 0o640, "", text),
            Self::Link { path, target } => (path.clone(), b'2', 0o777, target, ""),
            Self::Whiteout { path } => {
                let path = Path::new(path);
                let name = format!(".wh.{}", path.file_name().unwrap().to_str().unwrap());
                (path.with_file_name(name).to_str().unwrap().to_owned(), b'0', 0o644, "", "")
            }
            Self::Opaque { path } => (format!("{path}/.wh..wh..opq"), b'0', 0o644, "", ""),
        }
    }
}

pub(super) fn archive(items: &[Item]) -> Vec<u8> {
    let mut tar = Vec::new();
    for item in items {
        if let Item::Opaque { path } = item {
            // As all tools write it: the directory, then the mark in it.
            header(&mut tar, (format!("{path}/"), b'5', 0o755, "", ""));
        }
        header(&mut tar, item.header());
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn header(tar: &mut Vec<u8>, (name, kind, mode, target, text): (String, u8, u32, &str, &str)) {
    let mut block = [0u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{:011o}\0", text.len()).as_bytes());
    block[136..148].copy_from_slice(b"00000001750\0");
    block[148..156].copy_from_slice(b"        ");
    block[156] = kind;
    block[157..157 + target.len()].copy_from_slice(target.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&block);
    tar.extend_from_slice(text.as_bytes());
    tar.resize(tar.len().next_multiple_of(512), 0);
}
