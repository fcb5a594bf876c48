//! The program of the engine, as a process shows it that waits to become a container's.

use std::{fs, io::ErrorKind};

use nix::mount::{MsFlags, mount};
use rustix::{
    fs::CWD,
    io::Errno,
    mount::{OpenTreeFlags, open_tree},
};

use crate::bundle::Bundle;

/// Row 8 (CVE-2019-5736): not even root of the host, with all capabilities, can write to the program through the process.
#[test]
fn row_8_cve_2019_5736_the_program_of_a_waiting_process_is_read_only_for_good() {
    let bundle = Bundle::new("true", |_| {});
    assert!(bundle.create());
    let program = format!("/proc/{}/exe", bundle.state()["pid"]);

    let write = fs::OpenOptions::new().write(true).truncate(true).open(&program).unwrap_err();
    assert!(matches!(write.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::ExecutableFileBusy), "{write}");
    // The mount is in no namespace, so nobody can change it or copy it.
    let remount = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    assert_eq!(mount(None::<&str>, program.as_str(), None::<&str>, remount, None::<&str>), Err(nix::Error::EINVAL));
    assert_eq!(open_tree(CWD, &program, OpenTreeFlags::OPEN_TREE_CLONE).unwrap_err(), Errno::INVAL);
    assert_eq!(fs::read_link(&program).unwrap().to_str(), Some("/"));
}
