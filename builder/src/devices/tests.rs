use super::*;

fn device(name: &str, class: &str, is_auto_allowed: bool) -> Device {
    Device { name: name.to_owned(), class: class.to_owned(), is_auto_allowed }
}

fn devices() -> Devices {
    Devices {
        devices: vec![
            device("one.com/gpu=0", "gpu", false),
            device("one.com/gpu=1", "", false),
            device("two.com/gpu=0", "gpu", false),
            device("two.com/net=a", "", true),
            device("two.com/odd=x", "one.com/gpu=7", false),
        ],
        problems: vec!["/etc/cdi/x.json: kind: it is missing".to_owned()],
    }
}

/// What the RUN of these flags gets, or what is said of it.
fn granted(flags: &str, entitlements: &Entitlements) -> Result<Granted, String> {
    let text = format!("FROM x\nRUN {flags} true\n");
    let file = strata_dockerfile::parse(&text, "Dockerfile").expect("the text is a Dockerfile");
    let Kind::Run(run) = &file.stages[0].instructions[0].kind else { panic!("it is no RUN") };
    grant(&file, run, &devices(), entitlements).map_err(|error| {
        let suggestion = error.diagnostic().and_then(|at| at.suggestion.clone()).unwrap_or_default();
        format!("{error}; {suggestion}")
    })
}

fn all() -> Entitlements {
    allowing(&["device"])
}

fn allowing(request: &[&str]) -> Entitlements {
    Entitlements {
        service: vec![Entitlement::Device],
        open_devices: Vec::new(),
        request: request.iter().map(|text| Grant::parse(text).expect(text)).collect(),
        ..Entitlements::default()
    }
}

#[test]
fn a_name_means_one_device_the_first_of_a_kind_all_of_it_or_a_class() {
    for (flags, expected) in [
        ("--device=one.com/gpu=1", &["one.com/gpu=1"][..]),
        ("--device=one.com/gpu", &["one.com/gpu=0"]),
        ("--device=one.com/gpu=*", &["one.com/gpu=0", "one.com/gpu=1"]),
        ("--device=gpu", &["one.com/gpu=0", "two.com/gpu=0"]),
        ("--device=one.com/gpu=7", &["two.com/odd=x"]),
        ("--device=two.com/gpu --device=gpu,required", &["two.com/gpu=0", "one.com/gpu=0"]),
    ] {
        assert_eq!(granted(flags, &all()).expect(flags).names, expected, "{flags}");
    }
}

#[test]
fn a_device_that_is_not_there_is_an_error_if_it_is_required() {
    for flags in ["--device=one.com/tpu=0", "--device=one.com/tpu=*", "--device=tpu", "--device=one.com/gpu=00"] {
        let granted_without = granted(flags, &all()).expect(flags);
        assert_eq!((granted_without.names.len(), granted_without.absent.len()), (0, 1), "{flags}");
        assert!(granted_without.absent[0].contains("without it; /etc/cdi/x.json: kind"), "{granted_without:?}");
        let said = granted(&format!("{flags},required"), &all()).expect_err(flags);
        let begin = said.starts_with("Dockerfile:2:5: device \"");
        let names =
            ["is required and is not there; /etc/cdi/x.json: kind", "one.com/gpu=0, one.com/gpu=1, two.com/gpu=0"];
        assert!(begin && names.iter().all(|name| said.contains(name)), "{said}");
    }
}

#[test]
fn a_device_is_had_where_service_and_request_allow_it() {
    let one = "--device=one.com/gpu=0";
    let nothing = Entitlements::default();
    let service = allowing(&[]);
    let request = Entitlements { service: vec![], ..all() };
    for (entitlements, said) in [
        (&nothing, "`insecure_entitlements = [\"device\"]`"),
        (&request, "`insecure_entitlements = [\"device\"]`"),
        (&service, "`ctl build --allow device=one.com/gpu=0`"),
        (&allowing(&["device=one.com/gpu=1"]), "`ctl build --allow device=one.com/gpu=0`"),
        (&allowing(&["security.insecure"]), "`ctl build --allow device=one.com/gpu=0`"),
        (&allowing(&["device=one.com/gpu=0,alias=else"]), "`ctl build --allow device=one.com/gpu=0`"),
    ] {
        let error = granted(one, entitlements).expect_err(said);
        let begin = "Dockerfile:2:5: device one.com/gpu=0 is not allowed by ";
        assert!(error.starts_with(begin) && error.contains(said), "{error}");
    }
    for request in ["device", "device=one.com/gpu=0", "device=one.com/gpu", "device=one.com/gpu=*", "device=gpu"] {
        assert!(granted(one, &allowing(&[request])).is_ok(), "{request}");
    }
    // What is not there needs no leave.
    assert!(granted("--device=one.com/tpu=0", &nothing).is_ok());
    // Of several, each.
    assert!(granted("--device=one.com/gpu=*", &allowing(&["device=one.com/gpu=0"])).is_err());
}

#[test]
fn devices_that_annotations_or_the_configuration_open_need_no_leave() {
    assert_eq!(
        granted("--device=two.com/net=a", &Entitlements::default()).expect("it is open").names,
        ["two.com/net=a"]
    );
    for open in ["one.com/gpu", "one.com/gpu=0"] {
        let entitlements = Entitlements { open_devices: vec![open.to_owned()], ..Entitlements::default() };
        assert!(granted("--device=one.com/gpu=0", &entitlements).is_ok(), "{open}");
        assert!(granted("--device=two.com/gpu=0", &entitlements).is_err(), "{open}");
    }
}

#[test]
fn a_request_can_give_a_device_in_place_of_another() {
    let entitlements = allowing(&["device=two.com/gpu=0,alias=nvidia.com/gpu", "device=gone,alias=old"]);

    assert_eq!(granted("--device=nvidia.com/gpu", &entitlements).expect("it stands for one").names, ["two.com/gpu=0"]);
    let said = granted("--device=old,required", &entitlements).expect_err("it is not there");
    assert!(said.contains("device \"gone\", which stands for \"old\", is required"), "{said}");
    let refused = Entitlements { service: vec![], ..entitlements };
    assert!(granted("--device=nvidia.com/gpu", &refused).is_err());
}
