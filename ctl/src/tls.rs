//! `ctl tls`: a certificate authority, a pair of certificate and key for each service and for a client, as PEM files in one
//! directory. The name in a certificate carries the role of who shows it: `spiffe://strata/ROLE/NAME`.

mod place;

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose as Purpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use strata_rpc::access::Role;

use self::place::{Pem, cannot, place, refuse_existing};
use crate::args::{TlsInit, TlsIssue};
use crate::error::{Error, Result};
use crate::render;

const AUTHORITY: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca.key";
/// Services, and what each is to those that it calls itself.
const SERVICES: [(&str, Role); 3] = [("store", Role::Viewer), ("builder", Role::Builder), ("runtime", Role::Operator)];
const CLIENT: &str = "client";

/// Clocks of hosts differ: certificates are valid from so long ago.
const SKEW: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Makes the files and says how to use them.
pub fn init(args: &TlsInit) -> Result<()> {
    let hosts = args.host.iter().map(|text| host(text)).collect::<Result<Vec<_>>>()?;
    let validity = Validity::from_now(args.days)?;
    let files = make(&hosts, &validity).map_err(|error| failed(&error))?;
    refuse_existing(&args.directory, files.iter().map(|file| file.name.as_str()))?;
    place(&args.directory, &files)?;
    print!("{}", guide(args, &validity));
    Ok(())
}

/// Makes one more pair, signed by an authority of `init`.
pub fn issue(args: &TlsIssue) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if args.name.is_empty() || args.name.len() > 64 || args.name.starts_with('.') || !args.name.bytes().all(is_plain) {
        return Err(Error::usage(format!("{:?} is no name for a certificate", args.name))
            .hint("give up to 64 letters, digits, '-', '_' and '.'"));
    }
    let hosts = args.host.iter().map(|text| host(text)).collect::<Result<Vec<_>>>()?;
    let validity = Validity::from_now(args.days)?;
    let names = [format!("{}.pem", args.name), format!("{}.key", args.name)];
    refuse_existing(&args.directory, names.iter().map(String::as_str))?;
    let read = |name: &str| {
        let path = args.directory.join(name);
        fs::read_to_string(&path).map_err(|error| {
            cannot("read", &path, error).hint(format!("`ctl tls init {}` makes an authority", args.directory.display()))
        })
    };
    let (authority, key) = (read(AUTHORITY)?, read(AUTHORITY_KEY)?);
    let wrong =
        |error: rcgen::Error| Error::new(format!("the authority in {} cannot sign: {error}", args.directory.display()));
    let key = KeyPair::from_pem(&key).map_err(wrong)?;
    let authority = Issuer::from_ca_cert_pem(&authority, key).map_err(wrong)?;
    let files = pair(&authority, &args.name, args.role, &hosts, &validity).map_err(|error| failed(&error))?;
    place(&args.directory, &files)?;
    render::line(format!("{} and {}: {}", names[0], names[1], uri(args.role, &args.name)))
}

fn failed(error: &rcgen::Error) -> Error {
    Error::new(format!("cannot make certificates: {error}"))
}

/// From when until when, since 1970.
struct Validity {
    from: Duration,
    until: Duration,
}

impl Validity {
    fn from_now(days: u16) -> Result<Self> {
        if days == 0 {
            return Err(Error::usage("--days must be at least 1"));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_err(|_| Error::new("the clock of this host is before 1970"))?;
        Ok(Self { from: now.saturating_sub(SKEW), until: now + DAY * u32::from(days) })
    }
}

/// A name or an address that a service is dialled by.
fn host(text: &str) -> Result<SanType> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let is_label = |label: &str| {
        let fits = (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
        fits && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let name = Ia5String::try_from(text).ok().filter(|_| text.len() <= 253 && text.split('.').all(is_label));
    name.map(SanType::DnsName).ok_or_else(|| {
        Error::usage(format!("--host {text:?} is neither a host name nor an IP address"))
            .hint("give what clients dial, without a port: --host node-1 --host 10.0.0.1 --host fd00::1")
    })
}

/// The name of a certificate, which carries a role.
fn uri(role: Role, name: &str) -> String {
    format!("spiffe://strata/{role}/{name}")
}

/// An authority, and the pairs that it signed.
fn make(hosts: &[SanType], validity: &Validity) -> Result<Vec<Pem>, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = parameters("", validity);
    // Several authorities of one person must not have one name: a verifier looks them up by it.
    let id: String = params.key_identifier(&key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("Strata CA {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = key.serialize_pem();
    let authority = CertifiedIssuer::self_signed(params, key)?;

    let mut files = vec![Pem::certificate(AUTHORITY, authority.pem()), Pem::key(AUTHORITY_KEY, authority_key)];
    for (service, role) in SERVICES {
        files.extend(pair(&authority, service, role, hosts, validity)?);
    }
    files.extend(pair(&authority, CLIENT, Role::Admin, &[], validity)?);
    Ok(files)
}

/// A certificate and its key. With hosts it is a service's, which may be a client of other services too.
fn pair(
    authority: &Issuer<'_, KeyPair>,
    name: &str,
    role: Role,
    hosts: &[SanType],
    validity: &Validity,
) -> Result<[Pem; 2], rcgen::Error> {
    let mut params = parameters(name, validity);
    params.subject_alt_names = hosts.to_vec();
    params.subject_alt_names.push(SanType::URI(uri(role, name).try_into()?));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match hosts {
        [] => vec![Purpose::ClientAuth],
        _ => vec![Purpose::ServerAuth, Purpose::ClientAuth],
    };
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?.pem();
    Ok([Pem::certificate(format!("{name}.pem"), certificate), Pem::key(format!("{name}.key"), key.serialize_pem())])
}

fn parameters(name: &str, validity: &Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Strata");
    if !name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + validity.from;
    params.not_after = epoch + validity.until;
    params
}

fn guide(args: &TlsInit, validity: &Validity) -> String {
    let dir = std::path::absolute(&args.directory).unwrap_or_else(|_| args.directory.clone());
    let dir = dir.display();
    let until = jiff::Timestamp::from_second(i64::try_from(validity.until.as_secs()).unwrap_or(i64::MAX));
    let until = until.map(|time| time.to_string()).unwrap_or_else(|_| "its end".to_owned());
    let first = &args.host[0];
    let dialled = if first.contains(':') { format!("[{first}]") } else { first.clone() };
    format!(
        "\
Made in {dir}, valid until {until}:
  ca.pem       the certificate authority: services and clients let in whom it signed
  ca.key       its private key: only to sign further certificates, keep it off the services' hosts
  store.pem, builder.pem, runtime.pem
               for these services on {hosts}; each with its key
  client.pem   for an administrator's ctl; with client.key. Others get theirs by
               ctl tls issue {dir} NAME --role viewer|builder|operator|admin

On each host, with ca.pem and the service's own pair there (strata-builder and strata-runtime likewise):
  strata-store --listen tcp:{dialled}:7001 --tls-ca ca.pem --tls-cert store.pem --tls-key store.key

Services that are clients of others over TCP name the same files in their --config, for the runtime:
  [tls]
  ca = \"ca.pem\"
  cert = \"runtime.pem\"
  key = \"runtime.key\"

Here:
  ctl context create NAME --store tcp:{dialled}:7001 --builder tcp:{dialled}:7003 --runtime tcp:{dialled}:7002 \\
    --tls-ca {dir}/ca.pem --tls-cert {dir}/client.pem --tls-key {dir}/client.key
",
        hosts = args.host.join(", "),
    )
}

#[cfg(test)]
mod tests;
