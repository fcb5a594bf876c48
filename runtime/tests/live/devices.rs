//! CDI devices: what the service lists, and what it owes hooks when it was away.

use std::time::Duration;

use super::house::{House, house};

const HEAD: &str = "cdiVersion: 0.6.0\nkind: test.com/thing\ndevices:\n";

#[tokio::test]
async fn devices_are_listed_in_pages_with_what_their_specs_say() {
    let house = house().await;
    let one = "- {name: one, annotations: {org.mobyproject.buildkit.device.autoallow: true}}\n";
    let two = "- {name: two, annotations: {org.mobyproject.buildkit.device.class: gpu}}\n";
    house.describe("a.yaml", &format!("{HEAD}{one}{two}- name: three\n"));
    house.describe("b.json", "{}");

    let (mut devices, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = house.devices(2, page_token).await.unwrap();
        assert!(page.problems[0].spec_path.ends_with("/cdi/b.json"), "{:?}", page.problems);
        assert!(page.problems[0].problem.contains("missing field"), "{:?}", page.problems);
        devices.extend(page.devices);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }

    let said: Vec<_> =
        devices.iter().map(|one| (one.name.as_str(), one.device_class.as_str(), one.is_auto_allowed)).collect();
    assert_eq!(
        said,
        [("test.com/thing=one", "", true), ("test.com/thing=three", "", false), ("test.com/thing=two", "gpu", false)]
    );
    assert!(devices[0].spec_path.ends_with("/cdi/a.yaml"));
    let status = house.devices(0, "x".into()).await.unwrap_err();
    assert_eq!(strata_rpc::reason_of(&status).as_deref(), Some("FAULT_INVALID_ARGUMENT"), "{status:?}");
    house.is_clean().await;
}

#[tokio::test]
async fn a_device_that_is_not_there_when_the_container_starts_is_named() {
    let house = house().await;
    let mut spec = House::spec(&["true"]);
    spec.cdi_devices = vec!["test.com/thing=one".into()];

    let status = house.run(spec).await.unwrap_err();

    assert_eq!(strata_rpc::reason_of(&status).as_deref(), Some("FAULT_START_FAILED"), "{status:?}");
    assert!(status.message().contains("device test.com/thing=one; there is none in /"), "{status:?}");
    house.is_clean().await;
}

#[tokio::test]
async fn hooks_of_the_end_run_once_though_the_service_was_away() {
    let mut house = house().await;
    let told = house.path("told");
    let script = format!("echo end >> {}", told.display());
    let hook = format!("{{hookName: poststop, path: /bin/sh, args: [sh, -c, {script:?}]}}");
    house.describe("a.yaml", &format!("{HEAD}- name: one\n  containerEdits: {{hooks: [{hook}]}}\n"));
    let mut spec = House::spec(&["sleep", "1"]);
    spec.cdi_devices = vec!["test.com/thing=one".into()];
    let id = house.create(spec).await.unwrap().id;
    house.start(&id).await.unwrap();

    house.crash().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    house.restart().await;

    let text = || std::fs::read_to_string(&told).unwrap_or_default();
    house.eventually("the hook ran", async |_| !text().is_empty()).await;
    house.delete(&id, false).await.unwrap();
    assert_eq!(text(), "end\n");
    house.is_clean().await;
}
