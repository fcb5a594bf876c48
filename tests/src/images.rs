//! What is built and imported: tars made entry by entry, and build contexts in a temporary directory.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

/// A tar in the making.
pub struct Tar {
    builder: Builder<Vec<u8>>,
    owner: (u64, u64),
}

impl Default for Tar {
    fn default() -> Self {
        Self { builder: Builder::new(vec![]), owner: (0, 0) }
    }
}

impl Tar {
    /// A root file system with the guest, two users and an empty /tmp.
    pub fn of_guest() -> Self {
        let guest = fs::read(crate::guest()).expect("the guest is readable");
        Self::default()
            .directory("etc", 0o755)
            .directory("tmp", 0o1777)
            .file("guest", 0o755, &guest)
            .file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/guest\nalice:x:1000:1000::/home/alice:/guest\n")
            .file("etc/group", 0o644, b"root:x:0:\nalice:x:1000:\nstaff:x:50:alice\n")
    }

    fn entry(mut self, kind: EntryType, name: &[u8], mode: u32, link: Option<&[u8]>, data: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(1_600_000_000);
        header.set_size(data.len() as u64);
        // Names go in raw: the hostile ones would be refused otherwise.
        let field = &mut header.as_old_mut().name;
        assert!(name.len() < field.len(), "a short name");
        field[..name.len()].copy_from_slice(name);
        if let Some(link) = link {
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        }
        header.set_cksum();
        self.builder.append(&header, data).expect("memory takes it");
        self
    }

    /// Whose the entries are that follow; root's at first.
    pub fn owned_by(self, uid: u64, gid: u64) -> Self {
        Self { owner: (uid, gid), ..self }
    }

    /// Adds a directory.
    pub fn directory(self, name: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, name.as_bytes(), mode, None, b"")
    }

    /// Adds a file.
    pub fn file(self, name: &str, mode: u32, data: &[u8]) -> Self {
        self.entry(EntryType::Regular, name.as_bytes(), mode, None, data)
    }

    /// Gives the entry that follows an extended attribute.
    pub fn attribute(mut self, name: &str, value: &[u8]) -> Self {
        let key = format!("SCHILY.xattr.{name}");
        self.builder.append_pax_extensions([(key.as_str(), value)]).expect("memory takes it");
        self
    }

    /// Adds a symbolic link.
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name.as_bytes(), 0o777, Some(target.as_bytes()), b"")
    }

    /// Adds a hard link.
    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name.as_bytes(), 0o644, Some(target.as_bytes()), b"")
    }

    /// The archive.
    pub fn bytes(self) -> Vec<u8> {
        self.builder.into_inner().expect("memory takes it")
    }

    /// The archive in a file.
    pub fn write(self, path: impl AsRef<Path>) -> PathBuf {
        fs::write(&path, self.bytes()).expect("the test's directory is writable");
        path.as_ref().to_owned()
    }
}

/// A build context.
pub struct Context {
    dir: TempDir,
}

impl Context {
    /// A context with this Dockerfile.
    pub fn new(dockerfile: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("strata-context-").tempdir_in("/var/tmp").expect("/var/tmp is there");
        Self { dir }.file("Dockerfile", dockerfile)
    }

    /// Writes a file; its directories are made.
    pub fn file(self, name: &str, content: &str) -> Self {
        self.write(name, content);
        self
    }

    /// Writes a file; its directories are made.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().expect("it is below the context")).expect("a temporary directory");
        fs::write(path, content).expect("a temporary directory");
    }

    /// Sets permission bits.
    pub fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.dir.path().join(name), fs::Permissions::from_mode(mode)).expect("the file is there");
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where it is, as an argument.
    pub fn arg(&self) -> &str {
        self.dir.path().to_str().expect("an ASCII path")
    }
}
