//! Every setting of the services and of `ctl`: what it is called, what it is without a file, and what it means. `ctl config
//! show` and the manual page strata.toml(5) are made of this; a test asks the services whether it is all.

/// A key of a configuration file.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The file, without ".toml".
    pub file: &'static str,
    /// The table, "" at the top; "[[policies]]" for each entry of a list.
    pub table: &'static str,
    /// The key.
    pub key: &'static str,
    /// Its value without a file, as TOML. None: it is not set.
    pub default: Option<&'static str>,
    /// What it means.
    pub what: &'static str,
}

const fn setting(
    file: &'static str,
    table: &'static str,
    key: &'static str,
    default: Option<&'static str>,
    what: &'static str,
) -> Setting {
    Setting { file, table, key, default, what }
}

/// What the key of each service for metrics means.
const METRICS: &str =
    "where metrics for Prometheus are served: \"ADDRESS:PORT\", or \"PORT\" on loopback; unset: nowhere";

/// All keys, by file and table.
pub const SETTINGS: &[Setting] = &[
    setting("store", "", "garbage_grace_seconds", Some("60"), "how long an object without a reference is left alone"),
    setting("store", "", "garbage_delay_seconds", Some("5"), "time between a removal and the look for garbage"),
    setting("store", "", "partial_seconds", Some("86400"), "how long a blob that came in part waits to be continued"),
    setting(
        "store",
        "",
        "layer_backend",
        Some("\"dirs\""),
        "\"erofs\": pulled and loaded layers as one file each, which the kernel mounts (Linux 6.15, root)",
    ),
    setting(
        "store",
        "build_cache",
        "automatic",
        Some("true"),
        "build cache goes by itself; false: with `ctl builder prune` only",
    ),
    setting(
        "store",
        "build_cache",
        "reserved_space",
        None,
        "what stays in any case: \"10GB\", \"10%\"; unset: a tenth of the disk, up to 10GB",
    ),
    setting("store", "build_cache", "max_used_space", None, "what is too much; unset: 80% of the disk, up to 100GB"),
    setting("store", "build_cache", "min_free_space", Some("\"20%\""), "what of the disk is to be free"),
    setting(
        "store",
        "build_cache",
        "policies",
        Some("[]"),
        "policies instead of the usual three, applied one after the other",
    ),
    setting("store", "[[build_cache.policies]]", "all", Some("false"), "records that images share too"),
    setting(
        "store",
        "[[build_cache.policies]]",
        "description",
        Some("\"\""),
        "only records whose description contains this",
    ),
    setting(
        "store",
        "[[build_cache.policies]]",
        "keep_duration",
        Some("\"0s\""),
        "nothing that was used since: \"48h\", \"60d\"",
    ),
    setting("store", "[[build_cache.policies]]", "reserved_space", Some("0"), "as above"),
    setting("store", "[[build_cache.policies]]", "max_used_space", Some("0"), "as above"),
    setting("store", "[[build_cache.policies]]", "min_free_space", Some("0"), "as above"),
    setting(
        "store",
        "blobs",
        "keep",
        Some("\"always\""),
        "\"without-source\": no compressed layer that a registry has; it is fetched again by digest when asked for",
    ),
    setting("store", "", "metrics", None, METRICS),
    setting("store", "", "registries", None, "as [registries] of strata.toml, for the store alone"),
    setting(
        "store",
        "registry",
        "listen",
        None,
        "address and port of the registry that the store serves; unset, and no --registry: none",
    ),
    setting(
        "store",
        "registry",
        "anonymous",
        Some("\"none\""),
        "what callers may who show nothing: \"none\", \"pull\", \"push\"",
    ),
    setting(
        "store",
        "registry",
        "tls",
        None,
        "{ certificate, key, client_authority }, where they are not those of the store",
    ),
    setting(
        "store",
        "registry",
        "token",
        Some("[]"),
        "secrets that clients log in with: { name, sha256, permissions, repositories }",
    ),
    setting(
        "store",
        "registry",
        "client",
        Some("[]"),
        "holders of client certificates: { common_name, permissions, repositories }",
    ),
    setting(
        "store",
        "registry",
        "upstream",
        Some("[]"),
        "credentials for registries that ours answers for: { host, docker_config } or { host, username, password_file }",
    ),
    setting(
        "store",
        "registry",
        "hosts",
        Some("[]"),
        "further names by which clients on this machine may call without TLS",
    ),
    setting("store", "registry", "max_blob_bytes", Some("274877906944"), "bytes of the largest blob that is taken"),
    setting("store", "registry", "max_uploads", Some("1000"), "uploads under way at a time"),
    setting(
        "store",
        "registry",
        "upload_idle_seconds",
        Some("3600"),
        "after which an upload that nobody touches is forgotten",
    ),
    setting(
        "store",
        "registry",
        "unused_blob_seconds",
        Some("86400"),
        "after which a pushed blob that no manifest has named is let go",
    ),
    setting(
        "store",
        "registry",
        "accept_sparse",
        Some("false"),
        "takes indexes though some of their platforms are not there",
    ),
    setting(
        "store",
        "registry",
        "untagged_days",
        Some("30"),
        "after which a pushed manifest is let go that no tag leads to; 0: never",
    ),
    setting("store", "registry", "max_connections", Some("1024"), "connections at a time"),
    setting("builder", "", "store", None, "endpoint of the store, unix:PATH or tcp:HOST:PORT; unset: this host's"),
    setting("builder", "", "runtime", None, "endpoint of the runtime, likewise"),
    setting("builder", "", "tls", None, "{ ca, cert, key }: client certificate for peers over TCP"),
    setting("builder", "", "parallelism", None, "steps that work at once; unset: one per processor"),
    setting(
        "builder",
        "",
        "insecure_entitlements",
        Some("[\"network.host\"]"),
        "what `--allow` may give to steps; also \"security.insecure\", \"device\"",
    ),
    setting(
        "builder",
        "",
        "auto_allowed_devices",
        Some("[]"),
        "CDI devices, or kinds of them, that steps have without `--allow`",
    ),
    setting("builder", "", "metrics", None, METRICS),
    setting(
        "builder",
        "steps",
        "network",
        None,
        "that of RUN steps that do not say, \"bridge\" or \"host\"; unset: the bridge where containers are on it",
    ),
    setting("runtime", "", "store", None, "endpoint of the node's store; unset: this host's"),
    setting("runtime", "", "tls", None, "{ ca, cert, key }: client certificate for a store over TCP"),
    setting("runtime", "", "init", None, "the strata-init binary; unset: beside the service"),
    setting("runtime", "", "cgroup_parent", Some("\"strata\""), "cgroup below which containers get theirs"),
    setting(
        "runtime",
        "",
        "log_max_bytes",
        Some("10485760"),
        "size at which the log of a container is rotated; 0: never",
    ),
    setting("runtime", "", "log_max_files", Some("3"), "log files that are kept of a container"),
    setting("runtime", "", "metrics", None, METRICS),
    setting("runtime", "", "profile", Some("\"docker\""), "\"strict\": fewer capabilities, no_new_privs"),
    setting(
        "runtime",
        "cdi",
        "spec_dirs",
        Some("[\"/etc/cdi\", \"/var/run/cdi\"]"),
        "directories of CDI spec files; a later one counts first",
    ),
    setting(
        "runtime",
        "logs",
        "driver",
        Some("\"json-file\""),
        "log driver of containers: \"local\", \"journald\", \"syslog\", \"none\"",
    ),
    setting("runtime", "logs", "options", Some("{}"), "options of containers with that driver: { max-size = \"5m\" }"),
    setting(
        "runtime",
        "logs",
        "journald_socket",
        Some("\"/run/systemd/journal/socket\""),
        "where systemd's journal listens",
    ),
    setting(
        "runtime",
        "networks",
        "default",
        Some("\"bridge\""),
        "\"none\": a loopback device only, where `ctl run` has no --network",
    ),
    setting(
        "runtime",
        "networks",
        "helper",
        Some("\"any\""),
        "what carries packets of an ordinary user's networks: \"pasta\", \"slirp4netns\", \"none\"",
    ),
    setting(
        "runtime",
        "networks",
        "publish",
        Some("\"all\""),
        "where `-p 80:80` without an address is open: \"loopback\", or an address of the host",
    ),
    setting(
        "strata",
        "access",
        "trust_domain",
        Some("\"strata\""),
        "domain of the URIs in certificates that carry a role",
    ),
    setting(
        "strata",
        "access",
        "audit",
        Some("\"remote\""),
        "which requests are recorded: all but those of the owner on this host, or \"all\"",
    ),
    setting(
        "strata",
        "access",
        "subjects",
        Some("{}"),
        "roles of names in certificates, over what they carry; \"none\" refuses",
    ),
    setting("strata", "access", "users", Some("{}"), "roles of users of this host, by name or id"),
    setting("strata", "access", "grants", Some("{}"), "what subjects or roles may beside their permissions"),
    setting(
        "strata",
        "traces",
        "endpoint",
        None,
        "collector of traces that takes OTLP over gRPC, \"http://HOST:4317\" or \"https://…\"; unset, and no variable for it: none",
    ),
    setting(
        "strata",
        "traces",
        "ca",
        None,
        "file of the authority of a collector behind https; unset: those that this host believes",
    ),
    setting("strata", "registries", "transfers", Some("6"), "blobs of one host at a time"),
    setting("strata", "registries", "attempts", Some("6"), "how often a request is tried before it fails"),
    setting(
        "strata",
        "registries",
        "backoff_milliseconds",
        Some("250"),
        "the first wait between two tries; each further one is twice as long, up to 20 seconds",
    ),
    setting(
        "strata",
        "registries",
        "idle_seconds",
        Some("60"),
        "without a byte after which a connection counts as lost",
    ),
    setting(
        "strata",
        "registries",
        "certificates",
        Some("[\"/etc/strata/certs.d\", \"/etc/docker/certs.d\"]"),
        "directories with one HOST[:PORT]/ each: *.crt, *.cert, *.key",
    ),
    setting(
        "strata",
        "registries",
        "host",
        None,
        "settings of registries by host: the tables [registries.host.\"NAME\"]",
    ),
    setting("strata", "registries", "any", None, "settings of registries that have none of their own, as of a host"),
    setting("strata", "registries", "proxy", None, "the table [registries.proxy]"),
    setting("strata", "registries.proxy", "http", None, "URL of the proxy for http; unset: the environment's"),
    setting("strata", "registries.proxy", "https", None, "URL of the proxy for https"),
    setting(
        "strata",
        "registries.proxy",
        "no_proxy",
        Some("[]"),
        "hosts, domains and networks that are reached without it",
    ),
    setting("strata", "registries.host.\"NAME\"", "mirrors", Some("[]"), "where to look first, in this order"),
    setting("strata", "registries.host.\"NAME\"", "mirrors_only", Some("false"), "do not ask the registry itself"),
    setting(
        "strata",
        "registries.host.\"NAME\"",
        "pull_through",
        Some("false"),
        "our own registry answers for this one too, and keeps what it fetched",
    ),
    setting(
        "strata",
        "registries.host.\"NAME\"",
        "plain_http",
        None,
        "http instead of https; unset: only to this machine",
    ),
    setting(
        "strata",
        "registries.host.\"NAME\"",
        "ca",
        Some("[]"),
        "files of authorities that are trusted besides the system's",
    ),
    setting("strata", "registries.host.\"NAME\"", "client_certificate", None, "file of the certificate that we show"),
    setting("strata", "registries.host.\"NAME\"", "client_key", None, "file of its key"),
    setting(
        "strata",
        "registries.host.\"NAME\"",
        "token_realms",
        Some("[]"),
        "hosts that may get the registry's credentials in exchange for a token",
    ),
    setting(
        "strata",
        "registries.host.\"NAME\"",
        "compression",
        None,
        "how layers are compressed that are pushed there: \"gzip\", \"zstd\", \"none\"",
    ),
    setting(
        "strata",
        "registries.host.\"NAME\"",
        "chunk_bytes",
        None,
        "bytes of one request of an upload; unset: a blob goes in one request",
    ),
];

/// A variable of the environment.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What holds without it.
    pub default: &'static str,
    /// What it means.
    pub what: &'static str,
}

const fn variable(name: &'static str, default: &'static str, what: &'static str) -> Variable {
    Variable { name, default, what }
}

/// All variables.
pub const VARIABLES: &[Variable] = &[
    variable("STRATA_ROOT", "/var/lib/strata, or strata in $XDG_DATA_HOME", "base directory of state"),
    variable("STRATA_RUN", "/run/strata, or run in $STRATA_ROOT", "directory of sockets"),
    variable("STRATA_BIN_DIR", "beside the one that looks", "where the service binaries are"),
    variable("STRATA_CONTEXT", "the one in use", "context of ctl"),
    variable(
        "STRATA_IDLE_TIMEOUT",
        "300",
        "seconds until a service that ctl or systemd started stops by itself; 0 is never",
    ),
    variable("STRATA_LOG", "info", "what services log: a level, or directives of tracing"),
    variable(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "none",
        "collector of traces, before the one of strata.toml: \"http://HOST:4317\" or \"https://…\", OTLP over gRPC",
    ),
    variable("OTEL_EXPORTER_OTLP_CERTIFICATE", "this host's", "file of the authority of that collector, behind https"),
    variable("DOCKER_CONFIG", "~/.docker", "directory of config.json, which has the credentials for registries"),
    variable("DOCKER_DEFAULT_PLATFORM", "this host's", "platform of images that are pulled, built and run"),
    variable("BUILDKIT_PROGRESS", "auto", "how `ctl build` shows itself: as --progress"),
    variable("BUILDKIT_COLORS", "", "colours of the live view of `ctl build`: run=green:error=255,100,0"),
    variable("BUILDKIT_TTY_LOG_LINES", "6", "lines of output below a step in it"),
    variable("TTY_DISPLAY_RATE", "", "milliseconds between frames of it"),
    variable(
        "BUILDKIT_STEP_LOG_MAX_SIZE",
        "",
        "of the builder: bytes of output of a step that are told in all; -1 is no limit",
    ),
    variable("BUILDKIT_STEP_LOG_MAX_SPEED", "", "of the builder: the same per second"),
    variable("NO_COLOR", "", "set to anything: no colours"),
    variable("HTTP_PROXY, HTTPS_PROXY, NO_PROXY", "none", "proxies for registries, where strata.toml has none"),
    variable("XDG_CONFIG_HOME", "~/.config", "strata/contexts.toml, and the settings of an ordinary user's services"),
    variable("XDG_CACHE_HOME", "~/.cache", "the index of build contexts"),
];
