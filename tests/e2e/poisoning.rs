//! Row 117 (CVE-2024-24557): what is taken from the cache is what a build without one would make.

use serde_json::Value;
use strata_tests::{Context, DockerRegistry, House, Steps, Went};

/// The config of an image, without what differs from build to build.
fn config(house: &House, name: &str) -> Value {
    let mut shown = house.ctl(&["inspect", name]).ok().json()[0].take();
    let mut config = shown["Config"].take();
    config["Author"] = shown["Author"].take();
    config
}

/// One change of the base's config each, and whether a step that runs reads it. Files are the same on all of them.
const CHANGES: [(&str, Went); 17] = [
    ("CMD [\"/guest\", \"args\"]", Went::Cached),
    ("ENTRYPOINT [\"/guest\", \"args\"]", Went::Cached),
    ("ENV A=1", Went::Done),
    ("ENV PATH=/elsewhere", Went::Done),
    ("EXPOSE 80", Went::Cached),
    ("HEALTHCHECK CMD [\"/guest\", \"noop\"]", Went::Cached),
    ("HEALTHCHECK --interval=7s --retries=2 CMD [\"/guest\", \"noop\"]", Went::Cached),
    ("HEALTHCHECK NONE", Went::Cached),
    ("LABEL a=1", Went::Cached),
    ("MAINTAINER somebody", Went::Cached),
    ("ONBUILD ENV OF_THE_TRIGGER=1", Went::Done),
    ("ONBUILD LABEL of-the-trigger=1", Went::Cached),
    ("SHELL [\"/guest\", \"echo\", \"other\"]", Went::Done),
    ("STOPSIGNAL SIGINT", Went::Cached),
    ("USER 1000:50", Went::Done),
    ("VOLUME /volume", Went::Cached),
    ("WORKDIR /etc", Went::Done),
];

#[test]
fn row_117_every_field_of_the_bases_config_reaches_the_result_or_the_key() {
    let house = House::with_guest();
    let base = |change: &str| {
        let text = format!("FROM guest\nSHELL [\"/guest\", \"echo\"]\n{change}\n");
        house.build(&Context::new(&text), "base").ok();
    };
    let app = Context::new("FROM base\nRUN what a shell would do\nCOPY file /file\n").file("file", "x");
    base("");
    house.build(&app, "app").ok();
    let plain = config(&house, "app");

    for (change, expected) in CHANGES {
        base(change);

        let steps = Steps::of(&house.build(&app, "app").ok());
        let from_cache = config(&house, "app");
        house.ctl(&["build", "--no-cache", "-t", "anew", app.arg()]).ok();

        assert_eq!(steps.went("RUN"), expected, "{change}");
        assert_ne!(from_cache, plain, "{change} is in the image");
        assert_eq!(from_cache, config(&house, "anew"), "{change}");
    }
    base("");
    Steps::of(&house.build(&app, "app").ok()).all_cached();
    assert_eq!(config(&house, "app"), plain);
}

/// An image that says in its history that it was made by the very step is no reason not to run the step.
#[test]
fn row_117_an_image_that_was_pulled_or_loaded_is_never_taken_for_the_cache() {
    let registry = DockerRegistry::open();
    let maker = House::with_guest();
    let app =
        Context::new("FROM guest\nRUN [\"/guest\", \"write\", \"/made\", \"x\"]\nCOPY file /file\n").file("file", "x");
    let name = registry.image("app:1");
    maker.build(&app, &name).ok();
    maker.ctl(&["push", "-q", &name]).ok();
    let archive = maker.path("app.tar");
    maker.ctl(&["save", "-o", archive.to_str().unwrap(), &name]).ok();

    for take in [vec!["pull", &name], vec!["load", "-i", archive.to_str().unwrap()]] {
        // The guest is the same, to the byte, so that a key would be too.
        let house = House::with_guest();
        house.ctl(&take).ok();
        let layers = ["inspect", "-f", "{{json .RootFS.Layers}}", "guest"];
        assert_eq!(house.ctl(&layers).ok().text(), maker.ctl(&layers).ok().text());
        assert!(house.ctl(&["history", "--no-trunc", &name]).ok().stdout.contains("/guest write /made x"));

        let steps = Steps::of(&house.build(&app, &name).ok());

        assert_eq!((steps.went("RUN"), steps.went("COPY")), (Went::Done, Went::Done), "{take:?}");
        Steps::of(&house.build(&app, &name).ok()).all_cached();
    }
}
