//! Compiles the protos with protox: no `protoc` is needed. The descriptor set keeps method options and comments.

use std::path::{Path, PathBuf};

use prost::Message;

/// The part of a descriptor set that declares permissions; prost's own types drop options that they do not know.
mod declared {
    #[derive(prost::Message)]
    pub struct Set {
        #[prost(message, repeated, tag = "1")]
        pub files: Vec<File>,
    }
    #[derive(prost::Message)]
    pub struct File {
        #[prost(string, tag = "2")]
        pub package: String,
        #[prost(message, repeated, tag = "6")]
        pub services: Vec<Service>,
    }
    #[derive(prost::Message)]
    pub struct Service {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, repeated, tag = "2")]
        pub methods: Vec<Method>,
    }
    #[derive(prost::Message)]
    pub struct Method {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, optional, tag = "4")]
        pub options: Option<Options>,
    }
    #[derive(prost::Message)]
    pub struct Options {
        #[prost(int32, optional, tag = "50001")]
        pub permission: Option<i32>,
    }
}

/// Messages whose fields no log may show: `src/secret.rs` says how they look instead.
const SECRET: [&str; 8] = [
    "strata.builder.v1.BuildSecret",
    "strata.runtime.v1.BytesSource",
    "strata.runtime.v1.CreateSecretRequest",
    "strata.runtime.v1.ReadSecretResponse",
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
    std::fs::write(out.join("permissions.rs"), permissions(&compiler.encode_file_descriptor_set())?)?;
    let set = prost_types_set(&compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().bytes(".").skip_debug(SECRET).compile_fds(set)?;
    Ok(())
}

/// The table of methods and their permissions, ordered by path. A method without one is not built.
fn permissions(set: &[u8]) -> Result<String, Box<dyn std::error::Error>> {
    let mut rows = Vec::new();
    for file in declared::Set::decode(set)?.files.iter().filter(|file| file.package.starts_with("strata.")) {
        for service in &file.services {
            for method in &service.methods {
                let path = format!("/{}.{}/{}", file.package, service.name, method.name);
                let permission = method.options.as_ref().and_then(|options| options.permission).unwrap_or(0);
                if permission == 0 {
                    return Err(format!("{path} declares no permission: option (strata.types.v1.permission)").into());
                }
                rows.push(format!("({path:?}, {permission})"));
            }
        }
    }
    rows.sort();
    Ok(format!("[{}]", rows.join(",\n")))
}

fn prost_types_set(bytes: &[u8]) -> Result<tonic_prost_build::FileDescriptorSet, prost::DecodeError> {
    tonic_prost_build::FileDescriptorSet::decode(bytes)
}
