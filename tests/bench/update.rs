//! A security update of a base image from store to store: what moves, beside what its compressed layer would be. Ours
//! only: peers move layers.

use std::{collections::BTreeMap, fs};

use strata_tests::{House, Running, update};

use crate::{
    Outcome,
    report::{Cell, Report, Samples, Unit},
    room,
    work::Work,
};

/// Copies a base image, then its update, and measures that.
pub(crate) fn measure(work: &Work, report: &mut Report) -> Outcome<()> {
    let base = strata_tests::target().join("images/debian-bookworm.tar");
    if !base.exists() {
        return Err(format!("{} is not there: `make base` makes it", base.display()).into());
    }
    let home = work.home("update")?;
    let house = House::with_root(Some(&home.join("state")));
    let ctl = |words: &[&str]| room::finish(house.ctl_command(words));
    let socket = house.path("far.sock");
    let endpoint = format!("unix:{}", socket.display());
    let mut command = house.command(strata_tests::binaries().join("strata-store"));
    command.args(["--listen", &endpoint, "--root"]).arg(home.join("far"));
    let mut far = Running::spawn(command);
    far.wait_for("serving service=");
    ctl(&["context", "create", "far", "--store", &endpoint, "--builder", &endpoint, "--runtime", &endpoint])?;

    let newer = home.join("newer.tar");
    if update::with_another_openssl(&base, &newer)? == 0 {
        return Err(format!("{} has no OpenSSL", base.display()).into());
    }
    for (tar, name) in [(&base, "debian:1"), (&newer, "debian:2")] {
        let mut import = house.ctl_command(&["import"]);
        import.arg(tar).arg(name);
        room::finish(import)?;
    }
    let archive = home.join("newer-saved.tar");
    let mut save = house.ctl_command(&["save", "-o"]);
    save.arg(&archive).arg("debian:2");
    room::finish(save)?;
    // All of it but the layer, in gzip, is a few kilobytes.
    let compressed = fs::metadata(&archive)?.len();
    ctl(&["image", "cp", "debian:1", "far:"])?;
    let said = ctl(&["image", "cp", "debian:2", "far:"])?.stdout;
    let moved = update::moved(&said).ok_or_else(|| format!("it does not say what moved: {said:?}"))?;

    let figure = Samples::of(moved as f64 * 100.0 / compressed as f64);
    let cells = BTreeMap::from([("ctl".to_owned(), Cell::Samples(figure))]);
    report.row("image cp, an update: of its layer", Unit::Percent, cells);
    far.signal(nix::sys::signal::Signal::SIGTERM);
    far.finish();
    let complaints = house.close();
    if complaints.is_empty() { Ok(()) } else { Err(format!("left behind: {complaints:?}").into()) }
}
