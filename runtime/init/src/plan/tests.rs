//! The binary form of a plan.

use super::*;

fn sample() -> Plan {
    Plan {
        namespaces: Namespaces { pid: Namespace::New, ..Namespaces::default() },
        root: Root::Overlay {
            lowers: vec!["/l1".into(), "/l2".into()],
            upper: "/u".into(),
            work: "/w".into(),
            options: vec!["volatile".into()],
        },
        steps: vec![
            Step::Mask { path: "/proc/keys".into() },
            Step::WriteFile { path: "/s".into(), bytes: vec![0, 255], mode: 0o400, uid: 1, gid: 2 },
            Step::LoopbackUp,
        ],
        log: Some(Log {
            path: "/log".into(),
            max_size: 10,
            max_files: 3,
            attributes: "{}".into(),
            is_compressed: true,
        }),
        log_receiver: Some(LogReceiver {
            name: "syslog".into(),
            address: ReceiverAddress::Udp { address: "192.0.2.1:514".into() },
            form: MessageForm::Syslog {
                facility: 3,
                layout: SyslogLayout::Rfc5424,
                host: "box".into(),
                tag: "web".into(),
                offset_seconds: -3600,
            },
            max_queued_bytes: 1 << 20,
            waits: false,
        }),
        ..Plan::default()
    }
}

#[test]
fn decode_of_encode_is_the_same_plan() {
    assert_eq!(Plan::decode(&sample().encode()), Ok(sample()));
}

#[test]
fn every_truncation_of_a_plan_is_refused() {
    let bytes = sample().encode();

    for length in 0..bytes.len() {
        assert!(Plan::decode(&bytes[..length]).is_err(), "{length} bytes were accepted");
    }
}

#[test]
fn trailing_bytes_are_refused() {
    let mut bytes = sample().encode();
    bytes.push(0);

    assert_eq!(Plan::decode(&bytes), Err(DecodeError::Trailing));
}
