//! What the names of a copy mean, as Docker documents it: which is a container's, what a slash or a dot at the end says, and
//! where something goes under which name. Plain computing; nothing is looked up here.

use crate::error::{Error, Result};

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name. Empty: what is in the directory, without the directory.
    pub name: String,
    /// It is a directory.
    pub is_directory: bool,
}

/// Where it shall go, links followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The path.
    pub path: String,
    /// A directory is there, or something else. None: nothing is.
    pub is_directory: Option<bool>,
}

/// Where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The directory.
    pub directory: String,
    /// The name there. Empty: what is in the directory that is copied goes straight there.
    pub name: String,
}

/// Container and path; none for a path of this host: an absolute one, one that begins with a dot, or has no colon.
pub fn split(text: &str) -> Option<(&str, &str)> {
    if text.starts_with('/') {
        return None;
    }
    text.split_once(':').filter(|(container, _)| !container.starts_with('.') && !container.is_empty())
}

/// Decides where something goes.
pub fn target(source: &Source, destination: &Destination) -> Result<Target> {
    let path = destination.path.as_str();
    match destination.is_directory {
        Some(true) => Ok(Target { directory: path.to_owned(), name: source.name.clone() }),
        Some(false) if source.is_directory => {
            Err(Error::new(format!("cannot copy a directory to {path}, which is none")))
        }
        None if says_inside(path) || !source.is_directory && says_directory(path) => {
            Err(Error::new(format!("no such directory: {path}")))
        }
        Some(false) | None => Ok(Target { directory: parent(path).to_owned(), name: name(path) }),
    }
}

/// Whether a path can only be a directory.
pub fn says_directory(path: &str) -> bool {
    path.ends_with('/') || says_inside(path)
}

/// Whether a path is what is in a directory.
pub fn says_inside(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

/// From the root, without dots inside; a slash or a dot at the end stays, as it means something.
pub fn absolute(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    let end = match () {
        () if says_inside(path) || path.is_empty() => "/.",
        () if path.ends_with('/') && !names.is_empty() => "/",
        () => "",
    };
    match (names.is_empty(), end) {
        (true, "/.") => "/.".to_owned(),
        (true, _) => "/".to_owned(),
        (false, end) => format!("/{}{end}", names.join("/")),
    }
}

/// A path below another one.
pub fn join(directory: &str, path: &str) -> String {
    absolute(&format!("{directory}/{path}"))
}

/// The last name of a path. Empty: the path is what is in a directory, or the root.
pub fn name(path: &str) -> String {
    if says_inside(path) {
        return String::new();
    }
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
}

/// The directory that the last name of a path is in.
pub fn parent(path: &str) -> &str {
    let path = path.strip_suffix("/.").unwrap_or(path).trim_end_matches('/');
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_before_a_colon_is_a_containers_unless_a_path_begins_there() {
        for (text, expected) in [
            ("web:/etc/passwd", Some(("web", "/etc/passwd"))),
            ("web:etc", Some(("web", "etc"))),
            ("web:", Some(("web", ""))),
            ("web:/a:b", Some(("web", "/a:b"))),
            ("/etc:x", None),
            ("./file:name.txt", None),
            ("../file:name.txt", None),
            (":x", None),
            ("file", None),
            ("-", None),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }

    #[test]
    fn paths_are_made_absolute_and_keep_what_their_end_says() {
        for (path, absolute_path, last, directory) in [
            ("/etc/passwd", "/etc/passwd", "passwd", "/etc"),
            ("etc", "/etc", "etc", "/"),
            ("/a/../b/./c/", "/b/c/", "c", "/b"),
            ("/a/.", "/a/.", "", "/"),
            ("/../..", "/", "", "/"),
            ("", "/.", "", "/"),
            (".", "/.", "", "/"),
            ("/", "/", "", "/"),
        ] {
            let path = absolute(path);
            assert_eq!((path.as_str(), name(&path).as_str(), parent(&path)), (absolute_path, last, directory));
        }
        assert_eq!(join("/a/b", "../c"), "/a/c");
    }

    /// The table of Docker's documentation.
    #[test]
    fn where_something_goes_is_as_docker_documents_it() {
        let file = || Source { name: "file".into(), is_directory: false };
        let tree = || Source { name: "tree".into(), is_directory: true };
        let inside = || Source { name: String::new(), is_directory: true };
        for (source, path, is_directory, expected) in [
            // A file is saved as what does not exist yet,
            (file(), "/d/new", None, Some(("/d", "new"))),
            // but not as a directory that does not;
            (file(), "/d/new/", None, None),
            // it takes the place of a file, and goes into a directory.
            (file(), "/d/old", Some(false), Some(("/d", "old"))),
            (file(), "/d", Some(true), Some(("/d", "file"))),
            (tree(), "/d/new/.", None, None),
            // A directory is created as what does not exist yet, with what is in the source;
            (tree(), "/d/new", None, Some(("/d", "new"))),
            (tree(), "/d/new/", None, Some(("/d", "new"))),
            (inside(), "/d/new", None, Some(("/d", "new"))),
            // it takes the place of no file,
            (tree(), "/d/old", Some(false), None),
            (inside(), "/d/old", Some(false), None),
            // and goes into a directory itself, or what is in it does.
            (tree(), "/d", Some(true), Some(("/d", "tree"))),
            (inside(), "/d", Some(true), Some(("/d", ""))),
        ] {
            let destination = Destination { path: path.into(), is_directory };

            let target = target(&source, &destination).ok();

            let expected = expected.map(|(directory, name)| Target { directory: directory.into(), name: name.into() });
            assert_eq!(target, expected, "{source:?} {destination:?}");
        }
    }
}
