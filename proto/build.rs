//! Compiles the protos with protox: no `protoc` is needed. The descriptor set keeps method options and comments.

use std::path::{Path, PathBuf};

use prost::Message;

/// Messages whose fields no log may show: `src/secret.rs` says how they look instead.
const SECRET: [&str; 6] = [
    "strata.builder.v1.BuildSecret",
    "strata.runtime.v1.BytesSource",
    "strata.runtime.v1.SecretVariable",
    "strata.types.v1.RegistryCredentials",
    "strata.types.v1.RegistryCredentials.proof",
    "strata.types.v1.RegistryPassword",
];

fn protos(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            protos(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=strata");
    let mut files = Vec::new();
    protos(Path::new("strata"), &mut files)?;
    files.sort();

    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // `encode_file_descriptor_set` keeps custom options; decoding into prost types would drop them.
    std::fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let set = prost_types_set(&compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().bytes(".").skip_debug(SECRET).compile_fds(set)?;
    Ok(())
}

fn prost_types_set(bytes: &[u8]) -> Result<tonic_prost_build::FileDescriptorSet, prost::DecodeError> {
    tonic_prost_build::FileDescriptorSet::decode(bytes)
}
