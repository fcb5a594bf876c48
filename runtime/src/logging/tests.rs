use super::*;
use crate::record::tests::record;

fn log(driver: Driver, options: &[(&str, &str)]) -> Log {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Log { driver: Some(driver), options }
}

fn rules(driver: Driver, options: &[(&str, &str)]) -> Result<Rules, String> {
    Rules::of(&log(driver, options), usual(&config::File::default()))
}

#[test]
fn files_have_the_bounds_of_their_driver_unless_options_say_otherwise() {
    let files = |driver, options: &[(&str, &str)]| rules(driver, options).unwrap().files;
    let bounds = |max_bytes, max_files, is_compressed| Some(Files { max_bytes, max_files, is_compressed });

    assert_eq!(files(Driver::JsonFile, &[]), bounds(10 << 20, 3, false));
    assert_eq!(files(Driver::Local, &[]), bounds(20_000_000, 5, true));
    assert_eq!(files(Driver::Journald, &[]), bounds(20_000_000, 5, true));
    assert_eq!(files(Driver::Local, &[("compress", "false")]), bounds(20_000_000, 5, false));
    let chosen = [("max-size", "1.5m"), ("max-file", "2"), ("compress", "true")];
    assert_eq!(files(Driver::JsonFile, &chosen), bounds(1_500_000, 2, true));
    assert_eq!(files(Driver::JsonFile, &[("max-size", "-1")]), bounds(0, 3, false));
    assert_eq!(files(Driver::Local, &[("max-file", "1")]), bounds(20_000_000, 1, false));
    assert_eq!(files(Driver::Syslog, &[("cache-max-size", "5k")]), bounds(5000, 5, true));
    assert_eq!(files(Driver::Syslog, &[("cache-disabled", "true")]), None);
    assert_eq!(files(Driver::None, &[]), None);
}

#[test]
fn what_nobody_can_mean_is_refused_and_says_what_there_is() {
    for (driver, name, value, said) in [
        (
            Driver::JsonFile,
            "max-sice",
            "1m",
            "compress, env, env-regex, labels, labels-regex, max-buffer-size, max-file",
        ),
        (Driver::JsonFile, "max-size", "lots", "10m"),
        (Driver::JsonFile, "max-size", "0", "10m"),
        (Driver::JsonFile, "max-file", "0", "1 or more"),
        (Driver::JsonFile, "mode", "sometimes", "non-blocking"),
        (Driver::JsonFile, "compress", "perhaps", "true"),
        (Driver::JsonFile, "max-buffer-size", "1t", "256 MiB"),
        (Driver::JsonFile, "tag", "{{.Nmae}}", "{{.Name}}"),
        (Driver::JsonFile, "tag", "{{.Name", "end"),
        (Driver::JsonFile, "labels-regex", "(", "regular expression"),
        (Driver::None, "max-size", "1m", "max-buffer-size, mode"),
        (Driver::Journald, "syslog-address", "udp://x", "cache-disabled"),
        (Driver::Syslog, "syslog-address", "udp:x", "unixgram:///PATH"),
        (Driver::Syslog, "syslog-address", "unix://relative", "absolute"),
        (Driver::Syslog, "syslog-address", "tcp+tls://x", "TLS"),
        (Driver::Syslog, "syslog-tls-cert", "/x", "TLS"),
        (Driver::Syslog, "syslog-facility", "local8", "local7"),
        (Driver::Syslog, "syslog-facility", "24", "local7"),
        (Driver::Syslog, "syslog-format", "json", "rfc5424micro"),
    ] {
        let problem = rules(driver, &[(name, value)]).unwrap_err();

        assert!(problem.contains(said), "{name}={value}: {problem}");
    }
    let problem = rules(Driver::JsonFile, &[("compress", "true"), ("max-file", "1")]).unwrap_err();
    assert!(problem.contains("rotate"), "{problem}");
    let problem = rules(Driver::Syslog, &[("mode", "blocking"), ("max-buffer-size", "1m")]).unwrap_err();
    assert!(problem.contains("non-blocking"), "{problem}");
    assert!(Driver::parse("fluentd").unwrap_err().contains("json-file, local, journald, syslog, none"));
}

#[test]
fn addresses_of_syslog_are_read_as_docker_reads_them() {
    use syslog::Address;
    for (text, expected) in [
        ("udp://logs.example", Address::Udp("logs.example".into(), 514)),
        ("udp://192.0.2.1:1514", Address::Udp("192.0.2.1".into(), 1514)),
        ("udp://:1514", Address::Udp("localhost".into(), 1514)),
        ("tcp://[2001:db8::1]:601", Address::Tcp("2001:db8::1".into(), 601)),
        ("tcp://[::1]", Address::Tcp("::1".into(), 514)),
        ("unix:///dev/log", Address::Stream("/dev/log".into())),
        ("unixgram:///dev/log", Address::Datagrams("/dev/log".into())),
    ] {
        assert_eq!(Address::parse(text), Ok(expected), "{text}");
    }
    for text in ["", "udp://", "udp://a b", "tcp://x:0", "tcp://x:y", "tcp://[x]:1", "ftp://x", "unixgram://"] {
        assert!(Address::parse(text).is_err(), "{text}");
    }
}

#[test]
fn attributes_are_labels_variables_and_the_tag() {
    let mut record = record(7, "web");
    for (name, value) in [("team", "red"), ("com.example.a", "1"), ("other", "2")] {
        record.spec.labels.insert(name.to_owned(), value.to_owned());
    }
    record.process.env = vec!["HOME=/root".to_owned(), "LEVEL=7".to_owned(), "SECRET=no".to_owned()];
    let facts = Facts { record: &record, hostname: "box" };
    let options = [
        ("labels", "team,nothing"),
        ("labels-regex", "^com\\.example"),
        ("env", "LEVEL"),
        ("tag", "{{.Name}} {{ .ID }}/{{.ImageName}}@{{.Hostname}}"),
    ];

    let rules = rules(Driver::JsonFile, &options).unwrap();

    let short = "070707070707";
    let tag = format!("web {short}/debian:bookworm@box");
    let expected = [("com.example.a", "1"), ("LEVEL", "7"), ("tag", tag.as_str()), ("team", "red")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(rules.attributes(&facts), BTreeMap::from(expected));
    assert_eq!(rules.tag(&facts), tag.replace(' ', "_"), "receivers take a word");
    assert_eq!(self::rules(Driver::Syslog, &[]).unwrap().tag(&facts), short);
}

#[test]
fn options_of_the_configuration_are_for_its_own_driver_and_give_way() {
    let mut file = config::File::default();
    file.logs.driver = Driver::Local;
    file.logs.options = [("max-size", "5m"), ("max-file", "2")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();

    let usual = settle(Log::default(), &file).unwrap();
    let own = settle(log(Driver::Local, &[("max-file", "4")]), &file).unwrap();
    let other = settle(log(Driver::JsonFile, &[]), &file).unwrap();

    assert_eq!(usual, log(Driver::Local, &[("max-size", "5m"), ("max-file", "2")]));
    assert_eq!(own, log(Driver::Local, &[("max-size", "5m"), ("max-file", "4")]));
    assert_eq!(other, log(Driver::JsonFile, &[]));
}

#[test]
fn an_address_of_the_host_is_told_unless_it_is_the_configured_one() {
    let mut file = config::File::default();
    let of = |address| log(Driver::Syslog, &[("syslog-address", address)]);

    assert_eq!(reach(&of("unixgram:///dev/log"), &file), Some(Reach::Socket("/dev/log".into())));
    assert_eq!(reach(&of("udp://127.0.0.1:99"), &file), Some(Reach::Network("127.0.0.1:99".into())));
    assert_eq!(reach(&log(Driver::Syslog, &[]), &file), None);
    file.logs.options.insert("syslog-address".into(), "udp://127.0.0.1:99".into());
    assert_eq!(reach(&of("udp://127.0.0.1:99"), &file), None);
}
