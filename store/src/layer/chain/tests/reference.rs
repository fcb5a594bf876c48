//! A second, plainer implementation: archives applied one after the other to a plain directory, as docker and containerd do.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::entries::Item;

/// Finds where a directory is in `root`, following links inside it and making what is missing. Nothing if a file of the
/// same layer is in the way: no tool applies such a layer.
fn reference_directory(root: &Path, path: &Path, own: &mut BTreeSet<PathBuf>) -> Option<PathBuf> {
    let mut pending: Vec<_> = path.iter().rev().map(|name| name.to_owned()).collect();
    let mut current = PathBuf::new();
    for _ in 0..100 {
        let Some(name) = pending.pop() else { return Some(root.join(current)) };
        if name == ".." {
            current.pop();
            continue;
        }
        if name == "/" {
            current = PathBuf::new();
            continue;
        }
        let here = root.join(&current).join(&name);
        match fs::symlink_metadata(&here) {
            Ok(found) if found.is_symlink() => {
                pending.extend(fs::read_link(&here).unwrap().iter().rev().map(|name| name.to_owned()));
                continue;
            }
            Ok(found) if found.is_dir() => {}
            Ok(_) if own.contains(&here) => return None,
            Ok(_) => {
                fs::remove_file(&here).unwrap();
                fs::create_dir(&here).unwrap();
                own.insert(here);
            }
            Err(_) => {
                fs::create_dir(&here).unwrap();
                own.insert(here);
            }
        }
        current.push(name);
    }
    panic!("a loop of links below {}", path.display());
}

fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Removes what the layers below have put here; a mark says nothing of its own layer (image-spec, layer.md,
/// "Whiteouts").
fn hide(path: &Path, own: &BTreeSet<PathBuf>) {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        fs::read_dir(path).unwrap().for_each(|entry| hide(&entry.unwrap().path(), own));
    }
    if !own.iter().any(|kept| kept.starts_with(path)) {
        remove(path);
    }
}

/// Applies a layer to a plain directory, as docker and containerd do.
pub(super) fn reference(root: &Path, items: &[Item]) -> Option<()> {
    let mut own = BTreeSet::new();
    for item in items {
        let path = Path::new(item.path());
        let here = reference_directory(root, path.parent().unwrap(), &mut own)?.join(path.file_name().unwrap());
        let is_directory = fs::symlink_metadata(&here).is_ok_and(|found| found.is_dir());
        match item {
            Item::Directory { mode, .. } => {
                if !is_directory {
                    remove(&here);
                    fs::create_dir(&here).unwrap();
                }
                fs::set_permissions(&here, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Item::File { text, .. } => {
                remove(&here);
                fs::write(&here, text).unwrap();
                fs::set_permissions(&here, fs::Permissions::from_mode(0o640)).unwrap();
            }
            Item::Link { target, .. } => {
                remove(&here);
                std::os::unix::fs::symlink(target, &here).unwrap();
            }
            Item::Whiteout { .. } => hide(&here, &own),
            Item::Opaque { .. } => {
                hide(&here, &own);
                if !here.is_dir() {
                    remove(&here);
                    fs::create_dir(&here).unwrap();
                }
            }
        }
        if !matches!(item, Item::Whiteout { .. }) {
            own.insert(here);
        }
    }
    Some(())
}
