use proptest::prelude::*;

use super::*;

fn shown(text: &str) -> String {
    let bindings = PortBinding::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    bindings.iter().map(PortBinding::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_people_publish() {
    for (text, expected) in [
        ("80", "80/tcp"),
        ("80/udp", "80/udp"),
        ("80/SCTP", "80/sctp"),
        ("8080:80", "8080:80/tcp"),
        (":80", "80/tcp"),
        ("0:80", "80/tcp"),
        ("127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"),
        ("127.0.0.1::80/udp", "127.0.0.1::80/udp"),
        ("127.0.0.1:0:80", "127.0.0.1::80/tcp"),
        ("::80", "80/tcp"),
        ("[::1]:8080:80", "[::1]:8080:80/tcp"),
        ("[2001:db8::1]::53/udp", "[2001:db8::1]::53/udp"),
        ("80-82", "80/tcp 81/tcp 82/tcp"),
        ("8000-8002:80-82", "8000:80/tcp 8001:81/tcp 8002:82/tcp"),
        ("8000-8010:80", "8000-8010:80/tcp"),
        ("10.0.0.1:8000-8001:80-81/udp", "10.0.0.1:8000:80/udp 10.0.0.1:8001:81/udp"),
        ("target=80,published=8080,protocol=udp,mode=host", "8080:80/udp"),
        ("target=80", "80/tcp"),
        ("target=80-81,published=8080-8081", "8080:80/tcp 8081:81/tcp"),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for text in [
        "",
        ":",
        "0",
        "8080:",
        "8080:0",
        "65536",
        "8080:65536",
        "-1:80",
        "+80",
        "80-",
        "90-80",
        "0-5:80",
        "8000-8001:80-82",
        "8000:80-82",
        "a:80",
        "80/icmp",
        "80/",
        "80/tcp/udp",
        "::1:8080:80",
        "localhost:8080:80",
        "[::1]:80",
        "[::1:8080:80",
        "[10.0.0.1]:8080:80",
        "[::1]:1:2:3",
        "published=8080",
        "target=80,x=y",
        "target",
        "target=80,protocol=icmp",
    ] {
        assert!(PortBinding::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn ports_are_exposed_alone_and_in_ranges() {
    let numbers = |text: &str| Port::parse_range(text).unwrap().iter().map(Port::to_string).collect::<Vec<_>>();
    assert_eq!(numbers("80"), ["80/tcp"]);
    assert_eq!(numbers("80-82/udp"), ["80/udp", "81/udp", "82/udp"]);
    for text in ["", "0", "80:80", "82-80", "80/x"] {
        assert!(Port::parse_range(text).is_err(), "{text:?}");
    }
}

fn binding() -> impl Strategy<Value = PortBinding> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    let range =
        (1..=u16::MAX, 0..=u16::MAX).prop_map(|(first, more)| PortRange { first, last: first.saturating_add(more) });
    (1..=u16::MAX, protocol, any::<Option<IpAddr>>(), proptest::option::of(range))
        .prop_map(|(number, protocol, address, host)| PortBinding { port: Port { number, protocol }, address, host })
}

proptest! {
    #[test]
    fn what_is_shown_is_read_back(binding in binding()) {
        prop_assert_eq!(PortBinding::parse(&binding.to_string()).unwrap(), [binding.clone()]);
        prop_assert_eq!(binding.port.to_string().parse::<Port>().unwrap(), binding.port);
    }

    #[test]
    fn no_text_is_too_much(text in "[\\[\\]0-9a-f:./=,-]{0,40}") {
        // It is read or refused.
        if let Ok(bindings) = PortBinding::parse(&text) {
            prop_assert!(!bindings.is_empty());
        }
    }
}
