//! Who may do what: secrets, tokens, client certificates, and what those may who show nothing.

use std::{fs, process::Command};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use sha2::{Digest, Sha256};
use strata_tests::{Output, Running, binaries};

use crate::{
    content::{Image, push_blob},
    http::Request,
    subject::{Registry, over_ours},
};

over_ours!(
    a_process_of_another_user_is_nobody,
    those_who_show_nothing_may_what_the_configuration_says,
    a_secret_permits_what_it_says_where_it_says,
    a_secret_is_exchanged_for_a_token_of_less,
    a_web_page_cannot_use_the_registry,
    a_blob_is_not_mounted_from_where_the_caller_may_not_look,
    without_tls_only_this_machine_is_served,
    a_client_logs_in_over_tls,
    a_client_certificate_permits_what_is_listed,
    a_renewed_certificate_is_for_new_connections,
);

fn encode(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = text.as_bytes().chunks(3).map(|group| {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        let letter = |place: usize| match place <= group.len() {
            true => char::from(LETTERS[(bits >> (18 - 6 * place)) as usize & 63]),
            false => '=',
        };
        (0..4).map(letter).collect::<String>()
    });
    groups.collect()
}

fn basic(name: &str, secret: &str) -> String {
    format!("Basic {}", encode(&format!("{name}:{secret}")))
}

fn token(name: &str, secret: &str, permissions: &str, repositories: &str) -> String {
    let hash = hex::encode(Sha256::digest(secret.as_bytes()));
    format!(
        "[[registry.token]]\nname = \"{name}\"\nsha256 = \"{hash}\"\npermissions = {permissions}\nrepositories = {repositories}\n"
    )
}

/// What a program of another user of this machine gets.
#[track_caller]
fn as_somebody_else(registry: &Registry, request: &str) -> String {
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{}; printf '{request} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\
         Content-Length: 0\\r\\n\\r\\n' >&3; cat <&3",
        registry.address.port()
    );
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "12345", "--regid", "12345", "--clear-groups", "bash", "-c", &script]);
    Running::spawn(command).finish().ok().stdout
}

/// Row 127: on a shared machine, loopback alone is no identity.
fn a_process_of_another_user_is_nobody(registry: &Registry) {
    Image::new("of our user").push(registry, "app", "v1");

    for request in [
        "GET /v2/",
        "GET /v2/_catalog",
        "GET /v2/app/manifests/v1",
        "GET /v2/NO/manifests/v1",
        "POST /v2/app/blobs/uploads/",
        "DELETE /v2/app/manifests/v1",
    ] {
        let answer = as_somebody_else(registry, request);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{request}: {answer}");
        assert!(answer.contains("www-authenticate: Bearer realm=\"http://localhost/v2/token\""), "{answer}");
        assert!(answer.contains("UNAUTHORIZED"), "{answer}");
    }
    registry.get("/v2/app/manifests/v1").expect(200);
}

fn those_who_show_nothing_may_what_the_configuration_says(_: &Registry) {
    let registry = Registry::configured("[registry]\nanonymous = \"pull\"\n");
    Image::new("public").push(&registry, "app", "v1");
    let get = |request: &str| as_somebody_else(&registry, request);

    assert!(get("GET /v2/").starts_with("HTTP/1.1 200 "));
    assert!(get("GET /v2/app/manifests/v1").starts_with("HTTP/1.1 200 "));
    assert!(get("POST /v2/app/blobs/uploads/").starts_with("HTTP/1.1 401 "));
    assert!(get("DELETE /v2/app/manifests/v1").starts_with("HTTP/1.1 401 "));
    registry.stop();
    let registry = Registry::configured("[registry]\nanonymous = \"push\"\n");
    assert!(as_somebody_else(&registry, "POST /v2/app/blobs/uploads/").starts_with("HTTP/1.1 202 "));
    registry.stop();
}

fn with_secrets() -> Registry {
    let tokens =
        [token("ci", "s3cret", "[\"push\"]", "[\"team/*\"]"), token("node", "0ther", "[\"pull\"]", "[\"team/app\"]")];
    let registry = Registry::configured(&tokens.concat());
    Image::new("one").push(&registry, "team/app", "v1");
    Image::new("two").push(&registry, "other/app", "v1");
    registry
}

/// CVE-2026-33997, row 126: a permission is compared as a whole, and so is a repository.
fn a_secret_permits_what_it_says_where_it_says(_: &Registry) {
    let registry = with_secrets();
    let send = |method, target: &str, name: &str, secret: &str| {
        registry.send(Request::new(method, target).header("authorization", basic(name, secret)))
    };

    send("GET", "/v2/", "ci", "s3cret").expect(200);
    send("GET", "/v2/team/app/manifests/v1", "ci", "s3cret").expect(200);
    send("POST", "/v2/team/app/blobs/uploads/", "ci", "s3cret").expect(202);
    send("GET", "/v2/other/app/manifests/v1", "ci", "s3cret").fails_with(403, "DENIED");
    send("GET", "/v2/team/app/manifests/v1", "node", "0ther").expect(200);
    send("POST", "/v2/team/app/blobs/uploads/", "node", "0ther").fails_with(403, "DENIED");
    send("DELETE", "/v2/team/app/manifests/v1", "node", "0ther").fails_with(403, "DENIED");
    send("GET", "/v2/team/application/manifests/v1", "node", "0ther").fails_with(403, "DENIED");
    send("GET", "/v2/_catalog", "ci", "s3cret").fails_with(403, "DENIED");
    for (name, secret) in [("ci", "0ther"), ("ci", ""), ("", "s3cret"), ("nobody", "s3cret")] {
        // Wrong credentials of our own user are wrong all the same.
        let answer = send("GET", "/v2/", name, secret).fails_with(401, "UNAUTHORIZED");
        assert!(!format!("{answer:?}").contains("s3cret"));
    }
    registry.stop();
}

fn a_secret_is_exchanged_for_a_token_of_less(_: &Registry) {
    let registry = with_secrets();
    let ask = |scope: &str| {
        let target = format!("/v2/token?service=strata&scope={scope}");
        let answer = registry.send(Request::new("GET", target).header("authorization", basic("ci", "s3cret")));
        let answer = answer.expect(200).has("cache-control", "no-store");
        assert!(answer.json()["expires_in"].as_u64().unwrap() >= 60);
        answer.json()["token"].as_str().unwrap().to_owned()
    };
    let send = |method, target: &str, token: &str| {
        registry.send(Request::new(method, target).header("authorization", format!("Bearer {token}")))
    };

    let pull = ask("repository:team/app:pull");
    send("GET", "/v2/", &pull).expect(200);
    send("GET", "/v2/team/app/manifests/v1", &pull).expect(200);
    let answer = send("POST", "/v2/team/app/blobs/uploads/", &pull).fails_with(401, "UNAUTHORIZED");
    let challenge = answer.must("www-authenticate");
    assert!(challenge.contains("insufficient_scope"), "{challenge}");
    assert!(challenge.contains("scope=\"repository:team/app:pull,push\""), "{challenge}");
    send("GET", "/v2/team/other/manifests/v1", &pull).expect(401);
    let push = ask("repository:team/app:pull,push%20repository:other/app:pull");
    send("POST", "/v2/team/app/blobs/uploads/", &push).expect(202);
    send("GET", "/v2/other/app/manifests/v1", &push).expect(401);
    let nothing = ask("repository:other/app:pull,push");
    send("GET", "/v2/other/app/manifests/v1", &nothing).expect(401);
    for wrong in ["", "x", &pull[1..]] {
        send("GET", "/v2/", wrong).expect(401);
    }
    registry.stop();
}

/// CVE-2025-9074, row 127.
fn a_web_page_cannot_use_the_registry(registry: &Registry) {
    for (name, value) in [
        ("host", "evil.example:5000"),
        ("host", "localhost.evil.example"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        registry.send(Request::new("GET", "/v2/").header(name, value)).fails_with(403, "DENIED");
        let request = Request::new("POST", "/v2/app/blobs/uploads/").header(name, value);
        registry.send(request).fails_with(403, "DENIED");
    }
    registry.send(Request::new("GET", "/v2/").header("host", "localhost:5000")).expect(200);
}

/// GHSA-55r9-5mx9-qq7r of zot, row 128: to know a digest is no right.
fn a_blob_is_not_mounted_from_where_the_caller_may_not_look(_: &Registry) {
    let registry = with_secrets();
    let digest = push_blob(&registry, "other/app", b"of others");
    let mount = |query: &str| {
        let target = format!("/v2/team/app/blobs/uploads/?mount={digest}{query}");
        registry.send(Request::new("POST", target).header("authorization", basic("ci", "s3cret")))
    };

    mount("&from=other/app").expect(202);
    mount("").expect(202);

    registry.get(format!("/v2/team/app/blobs/{digest}")).expect(404);
    push_blob(&registry, "team/tools", b"of others");
    mount("&from=team/tools").expect(201);
    registry.stop();
}

/// CVE-2014-3499 and others, row 127.
fn without_tls_only_this_machine_is_served(registry: &Registry) {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let state = registry.state().with_extension("second");
        let mut command = Command::new(binaries().join("strata-store"));
        command.arg("--root").arg(&state).arg("--registry").arg(address);
        command.arg("--listen").arg(format!("unix:{}", state.with_extension("sock").display()));
        Running::spawn(command).finish().fails().both_contain(&["only with TLS", "registry.tls"]);
    }
}

trait Both {
    fn both_contain(self, words: &[&str]);
}

impl Both for Output {
    #[track_caller]
    fn both_contain(self, words: &[&str]) {
        for word in words {
            assert!(self.both().contains(word), "no {word:?} in {self:?}");
        }
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "authority of a test");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// An authority, and a registry with a certificate of it; further lines go to its configuration.
fn over_tls(lines: &str) -> (Registry, CertifiedIssuer<'static, KeyPair>, tempfile::TempDir) {
    let authority = authority();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (certificate, key) = pair(&authority, &["127.0.0.1"], "registry");
    fs::write(path("ca.crt"), authority.pem()).unwrap();
    fs::write(path("server.pem"), certificate).unwrap();
    fs::write(path("server-key.pem"), key).unwrap();
    let table = format!(
        "[registry.tls]\ncertificate = {:?}\nkey = {:?}\nclient_authority = {:?}\n{lines}",
        path("server.pem"),
        path("server-key.pem"),
        path("ca.crt")
    );
    (Registry::configured(&table), authority, directory)
}

fn pair(authority: &CertifiedIssuer<'static, KeyPair>, hosts: &[&str], name: &str) -> (String, String) {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap().pem();
    (certificate, key.serialize_pem())
}

fn skopeo(args: &[&str]) -> Output {
    let mut command = Command::new("skopeo");
    command.args(args).env("HOME", "/nonexistent").env("XDG_RUNTIME_DIR", "/nonexistent");
    Running::spawn(command).finish()
}

fn a_client_logs_in_over_tls(_: &Registry) {
    let tokens = [token("ci", "s3cret", "[\"push\"]", "[\"team/*\"]"), token("node", "0ther", "[\"pull\"]", "[\"*\"]")];
    let (registry, _authority, directory) = over_tls(&tokens.concat());
    let certificates = directory.path().to_str().unwrap();
    let layout = crate::clients::layout(directory.path(), "image");
    let target = format!("docker://{}/team/app:v1", registry.address);

    let push = |credentials: &str| {
        skopeo(&["copy", "--dest-cert-dir", certificates, "--dest-creds", credentials, &layout, &target])
    };
    push("ci:wrong").fails();
    push("node:0ther").fails();
    push("ci:s3cret").ok();
    skopeo(&["inspect", "--cert-dir", certificates, &target]).fails();
    skopeo(&["inspect", "--cert-dir", certificates, "--creds", "node:0ther", &target]).ok();
    // Without the authority: whoever answers is not believed.
    skopeo(&["inspect", "--creds", "node:0ther", &target]).fails().complains(&["certificate"]);
    registry.stop();
}

fn a_renewed_certificate_is_for_new_connections(_: &Registry) {
    let (registry, _authority, directory) = over_tls(&token("ci", "s3cret", "[\"push\"]", "[\"*\"]"));
    let layout = crate::clients::layout(directory.path(), "image");
    let target = format!("docker://{}/team/app:v1", registry.address);
    let before = directory.path().join("before");
    fs::create_dir(&before).unwrap();
    fs::copy(directory.path().join("ca.crt"), before.join("ca.crt")).unwrap();
    let push = |certificates: &std::path::Path| {
        let certificates = certificates.to_str().unwrap();
        skopeo(&["copy", "--dest-cert-dir", certificates, "--dest-creds", "ci:s3cret", &layout, &target])
    };
    push(&before).ok();

    let other = authority();
    let (certificate, key) = pair(&other, &["127.0.0.1"], "registry");
    for (name, text) in [("ca.crt", other.pem()), ("server.pem", certificate), ("server-key.pem", key)] {
        fs::write(directory.path().join(name), text).unwrap();
    }

    push(&before).fails().complains(&["certificate"]);
    push(directory.path()).ok();
    registry.stop();
}

fn a_client_certificate_permits_what_is_listed(_: &Registry) {
    let client = |name: &str, permissions: &str| {
        format!("[[registry.client]]\ncommon_name = \"{name}\"\npermissions = {permissions}\n")
    };
    let lines = [client("builder", "[\"push\"]"), client("node-7", "[\"pull\"]")].concat();
    let (registry, authority, directory) = over_tls(&lines);
    let layout = crate::clients::layout(directory.path(), "image");
    let target = format!("docker://{}/team/app:v1", registry.address);
    let holder = |name: &str| {
        let own = directory.path().join(name);
        fs::create_dir(&own).unwrap();
        fs::copy(directory.path().join("ca.crt"), own.join("ca.crt")).unwrap();
        let (certificate, key) = pair(&authority, &[], name);
        fs::write(own.join("client.cert"), certificate).unwrap();
        fs::write(own.join("client.key"), key).unwrap();
        own.to_str().unwrap().to_owned()
    };
    let (builder, node, stranger) = (holder("builder"), holder("node-7"), holder("stranger"));

    skopeo(&["copy", "--dest-cert-dir", &node, &layout, &target]).fails();
    skopeo(&["copy", "--dest-cert-dir", &builder, &layout, &target]).ok();
    skopeo(&["inspect", "--cert-dir", &node, &target]).ok();
    skopeo(&["inspect", "--cert-dir", &stranger, &target]).fails();
    registry.stop();
}

#[test]
fn what_this_file_encodes_is_base64() {
    for (text, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("a:b?~", "YTpiP34=")] {
        assert_eq!(encode(text), encoded);
    }
}
