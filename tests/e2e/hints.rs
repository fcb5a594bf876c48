//! What helps after a mistake: the closest name, the next command to type.

use strata_tests::House;

#[test]
fn a_name_that_is_not_there_is_answered_with_the_closest_one() {
    let house = House::with_network();
    house.ctl(&["create", "--network", "none", "--name", "database", "guest", "/guest"]).ok();
    house.ctl(&["network", "create", "backend"]).ok();
    house.ctl(&["volume", "create", "uploads"]).ok();
    house.ctl(&["context", "create", "prod", "--host", "ssh://node"]).ok();
    for (args, near) in [
        (&["logs", "databse"][..], "database"),
        (&["stop", "databsae"], "database"),
        (&["rmi", "gust"], "guest"),
        (&["history", "guest:1"], "guest"),
        (&["network", "rm", "backnd"], "backend"),
        (&["network", "inspect", "backedn"], "backend"),
        (&["volume", "rm", "upload"], "uploads"),
        (&["inspect", "--type", "container", "databas"], "database"),
        (&["context", "use", "prd"], "prod"),
        (&["run", "--rm", "--network", "backen", "guest", "/guest"], "backend"),
        (&["create", "--network", "backed", "guest", "/guest"], "backend"),
        (&["create", "--volumes-from", "databse", "guest", "/guest"], "database"),
        (&["create", "--requires", "databas", "guest", "/guest"], "database"),
    ] {
        let failed = house.ctl(args);
        assert_ne!(failed.code, 0, "{args:?}: {failed:?}");
        assert!(failed.stderr.contains(&format!("did you mean {near}?")), "{args:?}: {failed:?}");
    }
    let made = house.ctl(&["ps", "-a", "--format", "{{.Names}}"]).ok();
    assert_eq!(made.text(), "database", "nothing is made of what names nobody");
    let far = house.ctl(&["logs", "nothing-like-it"]).fails();
    assert!(!far.stderr.contains("did you mean"), "{far:?}");
}

#[test]
fn a_name_that_is_taken_is_answered_with_what_frees_it() {
    let house = House::with_network();
    house.ctl(&["network", "create", "back"]).ok();
    house.ctl(&["create", "--network", "none", "--name", "web", "guest", "/guest"]).ok();

    let network = house.ctl(&["network", "create", "back"]).fails();
    let container = house.ctl(&["create", "--network", "none", "--name", "web", "guest", "/guest"]).fails();

    network.complains(&["back", "`ctl network rm NAME` frees the name"]);
    container.complains(&["web", "`ctl rm NAME` frees the name"]);
}

#[test]
fn an_id_that_is_not_unique_is_answered_with_those_that_start_so() {
    let house = House::with_guest();
    // Of 17 ids two start alike.
    for _ in 0..17 {
        house.ctl(&["create", "--network", "none", "guest", "/guest"]).ok();
    }
    let ids = house.ctl(&["ps", "-aq"]).ok();
    let ids: Vec<&str> = ids.stdout.lines().collect();
    let is_double = |id: &&&str| ids.iter().filter(|other| other.starts_with(&id[..1])).count() > 1;
    let double = ids.iter().find(is_double).expect("there are 16 digits and 17 ids");

    let refused = house.ctl(&["stop", &double[..1]]).fails();

    refused.complains(&["is the start of several container ids", &double[..12], "("]);
}
