//! `spec`: config.json of a default container.

use std::{fs, io::Write, path::PathBuf};

use strata_oci::default_spec::{Defaults, UserNamespace};

/// Writes config.json of a default container into the bundle.
#[derive(clap::Args)]
pub struct Spec {
    /// Directory of the bundle.
    #[arg(short, long, default_value = ".")]
    bundle: PathBuf,
    /// Writes a spec for a user without privileges.
    #[arg(long)]
    rootless: bool,
}

impl Spec {
    /// Refuses to overwrite, as a bundle's spec is somebody's work.
    pub fn run(&self) -> Result<(), String> {
        let path = self.bundle.join("config.json");
        let mut defaults = Defaults { terminal: true, hostname: Some("strata".to_owned()), ..Defaults::default() };
        if self.rootless {
            defaults.user_namespace = Some(single_id());
        }
        let mut spec = defaults.build().map_err(|error| error.to_string())?;
        if let (true, Some(linux)) = (self.rootless, spec.linux_mut()) {
            // What only root may do, or those to whom root delegated a cgroup.
            linux.set_resources(None).set_cgroups_path(None);
        }
        let text = serde_json::to_string_pretty(&spec).map_err(|error| error.to_string())?;
        let file = fs::OpenOptions::new().write(true).create_new(true).open(&path);
        file.and_then(|mut file| writeln!(file, "{text}"))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
    }
}

/// Maps root inside to the caller: all that a user may do without helpers.
fn single_id() -> UserNamespace {
    let mapping = |id: u32| {
        let builder = oci_spec::runtime::LinuxIdMappingBuilder::default().container_id(0_u32).host_id(id).size(1_u32);
        builder.build().into_iter().collect()
    };
    UserNamespace {
        uid_mappings: mapping(rustix::process::geteuid().as_raw()),
        gid_mappings: mapping(rustix::process::getegid().as_raw()),
    }
}
