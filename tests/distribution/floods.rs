//! Floods of HTTP/2 on the port of our registry, which speaks it without TLS too.

use std::net::TcpStream;

use strata_tests::flood::{Target, endure};

use crate::subject::{Kind, Registry, over};

/// CVE-2023-44487 and its kin, row 127.
#[test]
fn floods_of_http_2_cost_the_registry_little_memory_and_others_are_served() {
    over(Kind::Ours, |registry: &Registry| {
        let target = Target {
            method: "PUT",
            authority: registry.address.to_string(),
            path: "/v2/flooded/manifests/latest".into(),
        };
        let connect = || Box::new(TcpStream::connect(registry.address).expect("the registry listens")) as Box<_>;
        let serve = || drop(registry.get("/v2/").expect(200));

        endure(registry.pid(), &target, connect, serve);

        registry.get("/v2/flooded/tags/list").expect(404);
    });
}
