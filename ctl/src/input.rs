//! What people type for environments, sizes and labels, in Docker's forms; `mounts` reads what is to be mounted.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::args::MOST_SECONDS;
use crate::error::{Error, Result};

/// Seconds until a kill, as services take them; -1 is for ever.
pub fn until_kill(seconds: i64) -> prost_types::Duration {
    let seconds = if seconds < 0 { MOST_SECONDS } else { seconds };
    prost_types::Duration { seconds, nanos: 0 }
}

/// Environment of files first, of flags then. A name without a value is taken from this process, if it is set here.
pub fn environment(files: &[PathBuf], flags: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Error::usage(format!("cannot read --env-file {}: {error}", file.display())))?;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let here = format!("{}:{}", file.display(), index + 1);
            all.extend(variable(line, &here)?);
        }
    }
    for flag in flags {
        all.extend(variable(flag, "--env")?);
    }
    Ok(all)
}

fn variable(text: &str, place: &str) -> Result<Option<String>> {
    let name = text.split('=').next().unwrap_or_default();
    if name.is_empty() || name.contains(char::is_whitespace) || text.contains('\0') {
        return Err(Error::usage(format!("{place}: invalid variable {text:?}: NAME=VALUE or NAME is expected")));
    }
    if text.contains('=') {
        return Ok(Some(text.to_owned()));
    }
    Ok(std::env::var(name).ok().map(|value| format!("{name}={value}")))
}

/// "os/architecture[/variant]".
pub fn platform(text: &str) -> Result<strata_proto::types::v1::Platform> {
    if text.contains(',') {
        return Err(Error::usage("--platform: several platforms at once are not available yet"));
    }
    let platform = strata_types::Platform::parse(text).map_err(|error| Error::usage(format!("--platform: {error}")))?;
    let (os, architecture, variant) = (platform.os, platform.architecture, platform.variant.unwrap_or_default());
    Ok(strata_proto::types::v1::Platform { os, architecture, variant })
}

/// "name:address" or "name=address"; an IPv6 address may be in brackets.
pub fn host(text: &str) -> Result<strata_proto::types::v1::HostEntry> {
    let wrong = |why: &str| Error::usage(format!("invalid --add-host {text:?}: {why}"));
    let (name, address) = text.split_once(['=', ':']).ok_or_else(|| wrong("NAME:ADDRESS is expected"))?;
    if address == "host-gateway" {
        return Err(wrong("there is no gateway: steps have the network of the host").hint("127.0.0.1 is the host"));
    }
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address: std::net::IpAddr = address.parse().map_err(|_| wrong("the address is no IP address"))?;
    Ok(strata_proto::types::v1::HostEntry { name: name.to_owned(), address: address.to_string() })
}

/// "vendor.com/class=name": a device that a CDI spec file of the runtime's host describes.
pub fn device(text: &str) -> Result<String> {
    match text.starts_with(['/', '.']) {
        true => Err(Error::usage(format!("--device {text:?}: devices by their path are not available yet"))
            .hint("a CDI spec file in /etc/cdi gives a device a name: `--device vendor.com/class=name`")),
        false => Ok(text.to_owned()),
    }
}

/// Entitlements, several in one flag with commas between them; those of devices have commas of their own and come last.
pub fn entitlements(flags: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    for flag in flags {
        let mut rest = flag.as_str();
        while !rest.starts_with("device=")
            && let Some((one, others)) = rest.split_once(',')
        {
            all.push(one.to_owned());
            rest = others;
        }
        all.push(rest.to_owned());
    }
    all
}

/// "name=soft[:hard]"; -1 is unlimited.
pub fn ulimit(text: &str) -> Result<strata_proto::types::v1::Ulimit> {
    let wrong = || Error::usage(format!("invalid --ulimit {text:?}: NAME=SOFT[:HARD] is expected, nofile=1024:2048"));
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| if text == "-1" { Ok(u64::MAX) } else { text.parse().map_err(|_| wrong()) };
    Ok(strata_proto::types::v1::Ulimit { name: name.to_owned(), soft: number(soft)?, hard: number(hard)? })
}

/// A working directory in a container.
pub fn directory(text: &str) -> Result<String> {
    match text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err(Error::usage(format!("invalid --workdir {text:?}: it must be an absolute path"))),
    }
}

/// "512m": bytes, with k, m, g or t for powers of 1024; a "b" or "ib" may follow.
pub fn bytes(flag: &str, text: &str) -> Result<u64> {
    let wrong = || Error::usage(format!("invalid {flag} {text:?}: a size such as 512m is expected"));
    let lower = text.trim().to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let power = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(wrong()),
    };
    let value = number.parse::<f64>().map_err(|_| wrong())? * 1024_f64.powi(power);
    if value < 0.0 || value > i64::MAX as f64 { Err(wrong()) } else { Ok(value as u64) }
}

/// "size=10G", the one storage option that there is, in bytes. None: 0.
pub fn storage(options: &[String]) -> Result<u64> {
    let mut size = 0;
    for option in options {
        size = match option.split_once('=') {
            Some(("size", text)) => bytes("--storage-opt size", text)?,
            _ => {
                let error = Error::usage(format!("invalid --storage-opt {option:?}"));
                return Err(error.hint("there is one: `--storage-opt size=10G`"));
            }
        };
    }
    Ok(size)
}

/// "1m30s", "500ms", "1.5s": a time in the form that Go has, without a sign.
pub fn duration(text: &str) -> Option<Duration> {
    let (mut nanos, mut rest) = (0_f64, text);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, unit) = rest.split_at(digits);
        let letters = unit.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(unit.len());
        let scale = match &unit[..letters] {
            "h" => 3600e9,
            "m" => 60e9,
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" => 1e3,
            "ns" => 1.0,
            _ => return None,
        };
        nanos += number.parse::<f64>().ok()? * scale;
        rest = &unit[letters..];
    }
    (!text.is_empty() && nanos < u64::MAX as f64).then(|| Duration::from_nanos(nanos.round() as u64))
}

/// "1.5" processors, in billionths.
pub fn nano_cpus(text: &str) -> Result<u64> {
    let wrong = || Error::usage(format!("invalid --cpus {text:?}: a number of processors such as 1.5 is expected"));
    let value: f64 = text.parse().map_err(|_| wrong())?;
    if !(0.0..=1e6).contains(&value) { Err(wrong()) } else { Ok((value * 1e9).round() as u64) }
}

/// "KEY=VALUE" of each line of files first, of flags then; "KEY" alone has an empty value.
pub fn labels(files: &[PathBuf], flags: &[String]) -> Result<HashMap<String, String>> {
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Error::usage(format!("cannot read --label-file {}: {error}", file.display())))?;
        let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
        all.extend(lines.map(str::to_owned));
    }
    all.extend_from_slice(flags);
    pairs("label", &all)
}

/// Annotations of flags.
pub fn annotations(flags: &[String]) -> Result<HashMap<String, String>> {
    pairs("annotation", flags)
}

/// "KEY=VALUE", or "KEY" without a value; of those with one key the last counts.
fn pairs(what: &str, texts: &[String]) -> Result<HashMap<String, String>> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        match key {
            "" => Err(Error::usage(format!("invalid {what} {text:?}: KEY=VALUE is expected"))),
            key => Ok((key.to_owned(), value.to_owned())),
        }
    };
    texts.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_limits_are_written_as_for_docker() {
        let entry = |text: &str| host(text).map(|entry| format!("{} {}", entry.name, entry.address)).map_err(drop);
        assert_eq!(entry("db:10.0.0.1"), Ok("db 10.0.0.1".to_owned()));
        assert_eq!(entry("db=[fe80::1]"), Ok("db fe80::1".to_owned()));
        assert_eq!(entry("db:fe80::1"), Ok("db fe80::1".to_owned()));
        assert!(entry("db").is_err() && entry("db:host-gateway").is_err() && entry("db:x").is_err());
        let limit = |text: &str| ulimit(text).map(|limit| (limit.soft, limit.hard)).map_err(drop);
        assert_eq!(limit("nofile=1024"), Ok((1024, 1024)));
        assert_eq!(limit("nofile=1024:-1"), Ok((1024, u64::MAX)));
        assert!(limit("nofile").is_err() && limit("nofile=x").is_err());
    }

    #[test]
    fn entitlements_are_separated_by_commas_but_for_those_of_devices() {
        for (flags, expected) in [
            (&["network.host,security.insecure"][..], &["network.host", "security.insecure"][..]),
            (&["device", "network.host"], &["device", "network.host"]),
            (&["device=v.com/a=b,alias=c"], &["device=v.com/a=b,alias=c"]),
            (&["network.host,device=v.com/a,alias=c"], &["network.host", "device=v.com/a,alias=c"]),
        ] {
            let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
            assert_eq!(entitlements(&flags), expected, "{flags:?}");
        }
    }

    #[test]
    fn a_device_has_a_name_and_no_path() {
        assert_eq!(device("vendor.com/gpu=0").ok().as_deref(), Some("vendor.com/gpu=0"));
        assert!(device("/dev/null").is_err() && device("./null:/dev/x").is_err());
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, expected) in [("512m", 512 << 20), ("1G", 1 << 30), ("1.5k", 1536), ("10", 10), ("7MiB", 7 << 20)] {
            assert_eq!(bytes("--memory", text).unwrap(), expected, "{text}");
        }
        for text in ["lots", "", "-1", "1x", "1.2.3m"] {
            assert!(bytes("--memory", text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_add_their_parts() {
        for (text, expected) in [
            ("24h", Some(86_400_000)),
            ("1h30m", Some(5_400_000)),
            ("90s", Some(90_000)),
            ("1.5s20ms", Some(1520)),
            ("0s", Some(0)),
            ("0", None),
            ("", None),
            ("10", None),
            ("h", None),
            ("5d", None),
            ("-1h", None),
            ("9999999999999999h", None),
        ] {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn variables_without_a_value_come_from_here_or_not_at_all() {
        let flags = ["A=1".to_owned(), "PATH".to_owned(), "NOT_SET_ANYWHERE_42".to_owned(), "E=".to_owned()];
        let env = environment(&[], &flags).unwrap();
        assert_eq!(env.len(), 3, "{env:?}");
        assert!(env[1].starts_with("PATH=/"));
        assert!(environment(&[], &["=x".to_owned()]).is_err());
    }
}
