//! The edits of spec files, made to an OCI spec: what stands there under the same name, path or destination is replaced.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use oci_spec::{
    OciSpecError,
    runtime::{
        Hook, HookBuilder, Hooks, Linux, LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder,
        LinuxDeviceType, LinuxIntelRdt, LinuxIntelRdtBuilder, LinuxNetDevice, Mount, MountBuilder, Spec as OciSpec,
    },
};

use super::{Error, document, registry::Placed};
use crate::process;

/// How device nodes come into a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    /// They are made.
    Make,
    /// The host's are bound, where none can be made: in a user namespace.
    Bind,
}

/// Makes edits to a spec, in their order. Reads numbers of device nodes from this host. Blocking.
pub fn apply(spec: &mut OciSpec, edits: &[Placed<'_>], nodes: Nodes) -> Result<(), Error> {
    edits.iter().try_for_each(|placed| Applying { spec, placed, nodes }.all())
}

struct Applying<'a> {
    spec: &'a mut OciSpec,
    placed: &'a Placed<'a>,
    nodes: Nodes,
}

impl Applying<'_> {
    fn all(mut self) -> Result<(), Error> {
        let edits = self.placed.edits;
        self.process(edits);
        for (index, node) in edits.device_nodes.iter().enumerate() {
            self.device_node(node, &format!("deviceNodes[{index}]"))?;
        }
        for device in &edits.net_devices {
            let mut moved = LinuxNetDevice::default();
            moved.set_name(Some(device.name.clone()));
            let devices = self.linux().net_devices_mut().get_or_insert_with(HashMap::new);
            devices.insert(device.host_interface_name.clone(), moved);
        }
        for (index, mount) in edits.mounts.iter().enumerate() {
            self.mount(mount, &format!("mounts[{index}]"))?;
        }
        for (index, hook) in edits.hooks.iter().enumerate() {
            let made = made(hook).map_err(|source| self.no_place(&format!("hooks[{index}]"), source))?;
            add_hook(self.spec.hooks_mut().get_or_insert_with(Hooks::default), &hook.hook_name, made);
        }
        if let Some(rdt) = &edits.intel_rdt {
            let rdt = shares(rdt).map_err(|source| self.no_place("intelRdt", source))?;
            self.linux().set_intel_rdt(Some(rdt));
        }
        Ok(())
    }

    /// The field as it stands in the file.
    fn field(&self, field: &str) -> String {
        match self.placed.device {
            Some(index) => format!("devices[{index}].containerEdits.{field}"),
            None => format!("containerEdits.{field}"),
        }
    }

    fn no_place(&self, field: &str, source: OciSpecError) -> Error {
        Error::Spec { spec: self.placed.spec.to_owned(), field: self.field(field), source }
    }

    fn no_file(&self, field: &str, path: &Path, source: io::Error) -> Error {
        Error::Host { spec: self.placed.spec.to_owned(), field: self.field(field), path: path.to_owned(), source }
    }

    fn linux(&mut self) -> &mut Linux {
        self.spec.linux_mut().get_or_insert_with(Linux::default)
    }

    fn process(&mut self, edits: &document::Edits) {
        let Some(process) = self.spec.process_mut() else { return };
        process::overlay(process.env_mut().get_or_insert_with(Vec::new), &edits.env);
        let groups = process.user_mut().additional_gids_mut().get_or_insert_with(Vec::new);
        for gid in edits.additional_gids.iter().filter(|gid| **gid != 0) {
            if !groups.contains(gid) {
                groups.push(*gid);
            }
        }
    }

    fn device_node(&mut self, node: &document::DeviceNode, field: &str) -> Result<(), Error> {
        let source = PathBuf::from(node.host_path.as_ref().unwrap_or(&node.path));
        if self.nodes == Nodes::Bind && node.kind.as_deref() != Some("p") {
            fs::metadata(&source).map_err(|error| self.no_file(field, &source, error))?;
            let bind = bind(&source, Path::new(&node.path)).map_err(|error| self.no_place(field, error))?;
            self.put_mount(bind);
            return Ok(());
        }
        let device = self.device(node, &source, field)?;
        let rule = rule(&device, node.permissions.as_deref()).map_err(|error| self.no_place(field, error))?;
        let linux = self.linux();
        let devices = linux.devices_mut().get_or_insert_with(Vec::new);
        devices.retain(|other| other.path() != device.path());
        devices.push(device);
        if let Some(rule) = rule {
            let resources = linux.resources_mut().get_or_insert_with(Default::default);
            resources.devices_mut().get_or_insert_with(Vec::new).push(rule);
        }
        Ok(())
    }

    /// A node with what the file does not say read from the host's.
    fn device(&self, node: &document::DeviceNode, source: &Path, field: &str) -> Result<LinuxDevice, Error> {
        let kind = node.kind.as_deref().filter(|kind| !kind.is_empty());
        let major = node.major.filter(|major| *major != 0);
        // What the file says in full need not be on this host.
        let is_complete = kind == Some("p") || (kind.is_some() && major.is_some());
        let host = match fs::symlink_metadata(source) {
            Ok(metadata) => Some(metadata),
            Err(_) if is_complete => None,
            Err(error) => return Err(self.no_file(field, source, error)),
        };
        let host_kind = host.as_ref().map(kind_of).unwrap_or_default();
        let wrong = |problem: String| Error::Node {
            spec: self.placed.spec.to_owned(),
            field: self.field(field),
            path: source.to_owned(),
            problem,
        };
        let kind = kind.unwrap_or(host_kind);
        if !is_complete && host_kind.is_empty() {
            return Err(wrong("is no device".to_owned()));
        }
        let is_same = kind == host_kind || (kind, host_kind) == ("u", "c");
        if !is_complete && !is_same {
            return Err(wrong(format!("is of type {host_kind}, and the file says {kind}")));
        }
        let (major, minor) = match (major, &host) {
            _ if kind == "p" => (0, 0),
            (Some(major), _) => (major, node.minor.unwrap_or(0)),
            (None, Some(host)) => (rustix::fs::major(host.rdev()).into(), i64::from(rustix::fs::minor(host.rdev()))),
            (None, None) => (0, 0),
        };
        let mode = node.file_mode.map(|mode| mode & 0o1777).or(host.as_ref().map(|host| host.mode() & 0o777));
        let user = self.spec.process().as_ref().map(|process| process.user());
        let uid = node.uid.or(user.map(|user| user.uid()).filter(|uid| *uid != 0));
        let gid = node.gid.or(user.map(|user| user.gid()).filter(|gid| *gid != 0));
        let kind = match kind {
            "b" => LinuxDeviceType::B,
            "u" => LinuxDeviceType::U,
            "p" => LinuxDeviceType::P,
            _ => LinuxDeviceType::C,
        };
        let built = LinuxDeviceBuilder::default().path(&node.path).typ(kind).major(major).minor(minor).build();
        let mut device = built.map_err(|error| self.no_place(field, error))?;
        device.set_file_mode(mode).set_uid(uid).set_gid(gid);
        Ok(device)
    }

    fn mount(&mut self, mount: &document::Mount, field: &str) -> Result<(), Error> {
        let mut options = mount.options.clone();
        if mount.is_bind() {
            let path = Path::new(&mount.host_path);
            fs::metadata(path).map_err(|error| self.no_file(&format!("{field}.hostPath"), path, error))?;
            if !mount.says_bind() {
                options.push("rbind".to_owned());
            }
        }
        let kind = mount.kind.clone().filter(|kind| !kind.is_empty());
        let built = MountBuilder::default()
            .destination(&mount.container_path)
            .source(&mount.host_path)
            .typ(kind.unwrap_or_else(|| "none".to_owned()))
            .options(options)
            .build();
        let built = built.map_err(|error| self.no_place(field, error))?;
        self.put_mount(built);
        Ok(())
    }

    /// Puts a mount after those of its parents, in the place of one with its destination.
    fn put_mount(&mut self, mount: Mount) {
        let mounts = self.spec.mounts_mut().get_or_insert_with(Vec::new);
        mounts.retain(|other| other.destination() != mount.destination());
        mounts.push(mount);
        mounts.sort_by_key(|mount| mount.destination().components().count());
    }
}

fn bind(source: &Path, target: &Path) -> Result<Mount, OciSpecError> {
    let options = ["bind", "nosuid", "noexec"].map(str::to_owned);
    MountBuilder::default().destination(target).source(source).typ("bind").options(options).build()
}

fn kind_of(metadata: &fs::Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_block_device() => "b",
        () if kind.is_char_device() => "c",
        () if kind.is_fifo() => "p",
        () => "",
    }
}

/// What processes may do with a device; a pipe needs no leave, and "none" gives none.
fn rule(device: &LinuxDevice, permissions: Option<&str>) -> Result<Option<LinuxDeviceCgroup>, OciSpecError> {
    let access = match permissions {
        Some("none") => return Ok(None),
        None | Some("") => "rwm",
        Some(access) => access,
    };
    let kind = match device.typ() {
        LinuxDeviceType::P => return Ok(None),
        LinuxDeviceType::U => LinuxDeviceType::C,
        kind => kind,
    };
    let rule = LinuxDeviceCgroupBuilder::default().allow(true).typ(kind).access(access);
    rule.major(device.major()).minor(device.minor()).build().map(Some)
}

fn made(hook: &document::Hook) -> Result<Hook, OciSpecError> {
    let mut made = HookBuilder::default().path(&hook.path).build()?;
    made.set_args(Some(hook.args.clone()).filter(|args| !args.is_empty()));
    made.set_env(Some(hook.env.clone()).filter(|env| !env.is_empty()));
    made.set_timeout(hook.timeout);
    Ok(made)
}

fn add_hook(hooks: &mut Hooks, point: &str, hook: Hook) {
    let list = match point {
        "prestart" => hooks.prestart_mut(),
        "createRuntime" => hooks.create_runtime_mut(),
        "createContainer" => hooks.create_container_mut(),
        "startContainer" => hooks.start_container_mut(),
        "poststart" => hooks.poststart_mut(),
        _ => hooks.poststop_mut(),
    };
    list.get_or_insert_with(Vec::new).push(hook);
}

fn shares(rdt: &document::IntelRdt) -> Result<LinuxIntelRdt, OciSpecError> {
    let mut shares = LinuxIntelRdtBuilder::default().build()?;
    shares.set_clos_id(rdt.clos_id.clone());
    shares.set_l3_cache_schema(rdt.l3_cache_schema.clone());
    shares.set_mem_bw_schema(rdt.mem_bw_schema.clone());
    shares.set_schemata(Some(rdt.schemata.clone()).filter(|lines| !lines.is_empty()));
    let is_watched = rdt.enable_monitoring || rdt.enable_cmt || rdt.enable_mbm;
    shares.set_enable_monitoring(is_watched.then_some(true));
    Ok(shares)
}

#[cfg(test)]
mod tests;
