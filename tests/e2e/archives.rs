//! Hostile and broken archives: refused or confined, with a clear error, and nothing of them stays.

use std::path::Path;

use strata_tests::{House, Tar};

/// Imports; whatever happens, nothing appears outside of the store and the store stays whole.
fn import(house: &House, bytes: &[u8]) -> strata_tests::Output {
    let canary = Path::new("/var/tmp/strata-canary");
    assert!(!canary.exists(), "something left {} before this test", canary.display());
    std::fs::write(house.path("hostile.tar"), bytes).unwrap();
    let output = house.ctl(&["import", house.path("hostile.tar").to_str().unwrap(), "hostile"]);
    let escaped = canary.exists();
    let _ = std::fs::remove_file(canary);
    assert!(!escaped, "an archive wrote outside of its root: {output:?}");
    house.verify();
    output
}

fn refused(house: &House, bytes: &[u8]) -> strata_tests::Output {
    let output = import(house, bytes).fails();
    assert_eq!(house.ctl(&["images", "-q"]).ok().stdout, "", "no image stays of a refused archive");
    output
}

#[test]
fn a_truncated_archive_is_refused() {
    let house = House::start();
    let whole = Tar::of_guest().bytes();

    for end in [100, 513, 5000, whole.len() / 2] {
        let output = refused(&house, &whole[..end]);
        assert!(!output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn a_truncated_compressed_archive_is_refused() {
    let house = House::start();
    let whole = zstd::encode_all(Tar::of_guest().bytes().as_slice(), 3).unwrap();

    refused(&house, &whole[..whole.len() / 2]);
}

#[test]
fn what_is_no_archive_is_refused() {
    let house = House::start();

    refused(&house, b"this is no archive, whatever its name says");
    refused(&house, &[0xff; 4096]);
    refused(&house, b"");
}

#[test]
fn a_header_that_lies_about_itself_is_refused() {
    let house = House::start();
    let mut wrong_sum = Tar::default().file("a", 0o644, b"text").bytes();
    wrong_sum[0] = b'b';
    refused(&house, &wrong_sum);
    let mut too_large = Tar::default().file("a", 0o644, b"text").bytes();
    too_large[124..136].copy_from_slice(b"77777777777\0");
    too_large[148..156].copy_from_slice(b"        ");
    let sum: u32 = too_large[..512].iter().map(|byte| u32::from(*byte)).sum();
    too_large[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    refused(&house, &too_large);
}

/// CVE-2014-9356, row 53, by the whole way from the command line.
#[test]
fn names_that_climb_out_stay_inside_or_are_refused() {
    let house = House::start();
    let climbing = [
        "../../../../../../../../var/tmp/strata-canary",
        "a/../../../../../../../../../var/tmp/strata-canary",
        "/var/tmp/strata-canary",
    ];
    for name in climbing {
        let output = import(&house, &Tar::of_guest().file(name, 0o644, b"escaped").bytes());
        if output.code == 0 {
            house.ctl(&["rmi", "-f", "hostile"]).ok();
        }
    }
}

/// CVE-2014-6407, row 52, by the whole way from the command line.
#[test]
fn links_that_lead_out_are_followed_inside_only() {
    let house = House::start();
    let through_a_link = Tar::of_guest().symlink("out", "/var/tmp").file("out/strata-canary", 0o644, b"escaped");
    let output = import(&house, &through_a_link.bytes());
    if output.code == 0 {
        house.ctl(&["rmi", "-f", "hostile"]).ok();
    }
    let relative =
        Tar::of_guest().symlink("out", "../../../../../../../../var/tmp").file("out/strata-canary", 0o644, b"x");
    let output = import(&house, &relative.bytes());
    if output.code == 0 {
        house.ctl(&["rmi", "-f", "hostile"]).ok();
    }
    let hard = Tar::of_guest().hard_link("stolen", "../../../../../../../../etc/shadow");
    let output = import(&house, &hard.bytes());
    if output.code == 0 {
        house.ctl(&["run", "--rm", "hostile", "/guest", "read", "/stolen"]).fails();
        house.ctl(&["rmi", "-f", "hostile"]).ok();
    }
    let absolute = Tar::of_guest().hard_link("stolen", "/etc/hostname");
    let output = import(&house, &absolute.bytes());
    assert_ne!(output.code, 0, "the archive has no /etc/hostname to link to: {output:?}");
}

#[test]
fn a_link_to_the_hosts_files_shows_the_containers() {
    let house = House::start();
    let tar = Tar::of_guest().symlink("hosts-shadow", "/etc/shadow").write(house.path("link.tar"));

    house.ctl(&["import", tar.to_str().unwrap(), "linked"]).ok();

    house.ctl(&["run", "--rm", "linked", "/guest", "read", "/hosts-shadow"]).code(99).complains(&["No such file"]);
}
