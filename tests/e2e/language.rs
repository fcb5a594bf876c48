//! The language of Dockerfiles where it can be seen from outside only: warnings, users of steps, times, names of images.

use strata_tests::{Context, House};

#[test]
fn what_was_probably_not_meant_is_a_warning_with_its_line() {
    let house = House::with_guest();
    let text = "FROM guest\n\
                MAINTAINER somebody\n\
                ENV a=1 \\\n\
                \n\
                    b=2\n\
                EXPOSE 80/TCP\n\
                EXPOSE 127.0.0.1:81:82\n";
    let context = Context::new(text);

    let output =
        house.ctl(&["build", "--progress", "plain", "--build-arg", "nobody=1", "-t", "app", context.arg()]).ok();

    for words in [
        "Dockerfile:2:1: MAINTAINER is deprecated",
        "Dockerfile:4:1: empty line inside a continued instruction",
        "Dockerfile:6:8: the protocol of port 80/TCP should be written in lower case",
        "Dockerfile:7:8: port 127.0.0.1:81:82 names an address or a port of the host",
        "build argument \"nobody\" is declared by no ARG",
    ] {
        assert!(output.stderr.contains(words), "{words} in {output:?}");
    }
}

#[test]
fn a_group_beside_the_user_drops_the_others_in_steps_and_containers() {
    let house = House::with_guest();
    let groups = |user: &str| {
        let context =
            Context::new(&format!("FROM guest\nUSER {user}\nRUN [\"/guest\", \"id\"]\nCMD [\"/guest\", \"id\"]\n"));
        let built = house.build(&context, "app").ok();
        let run = house.ctl(&["run", "--rm", "app"]).ok();
        assert!(built.stderr.contains(run.text()), "steps and containers agree: {built:?} {run:?}");
        run.text().to_owned()
    };

    assert_eq!(groups("alice"), "uid 1000 gid 1000 groups 50,1000");
    assert_eq!(groups("alice:alice"), "uid 1000 gid 1000 groups 1000");
    assert_eq!(groups("1000:50"), "uid 1000 gid 50 groups 50");
}

#[test]
fn an_epoch_of_the_file_is_the_time_of_the_image_and_of_its_history() {
    let house = House::with_guest();
    let text = "ARG SOURCE_DATE_EPOCH=1600000000\nFROM guest\nARG SOURCE_DATE_EPOCH\nENV epoch=$SOURCE_DATE_EPOCH\nCOPY Dockerfile /\n";
    let context = Context::new(text);
    let created = |flags: &[&str]| {
        house.ctl(&[&["build", "-t", "app"], flags, &[context.arg()]].concat()).ok();
        let shown = house.ctl(&["inspect", "app"]).ok().json();
        let env = shown[0]["Config"]["Env"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
        (shown[0]["Created"].as_str().unwrap().to_owned(), env)
    };

    assert_eq!(created(&[]), ("2020-09-13T12:26:40Z".to_owned(), "epoch=1600000000".to_owned()));
    let given = created(&["--build-arg", "SOURCE_DATE_EPOCH=1500000000"]);
    assert_eq!(given, ("2017-07-14T02:40:00Z".to_owned(), "epoch=1500000000".to_owned()));
    let none = created(&["--build-arg", "SOURCE_DATE_EPOCH="]);
    assert!(!none.0.starts_with("2020-09") && !none.0.starts_with("2017"), "an empty one is none: {none:?}");
}

#[test]
fn what_asks_for_what_is_not_there_yet_is_refused_by_name() {
    let house = House::with_guest();
    let context = Context::new("FROM guest\nENV a=b\n");
    let refused = |flag: &str, word: &str| {
        house.ctl(&["build", "--build-arg", flag, context.arg()]).fails().complains(&[word, "not available yet"]);
    };

    refused("BUILDKIT_INLINE_CACHE=1", "BUILDKIT_INLINE_CACHE");
    refused("BUILDKIT_MULTI_PLATFORM=true", "BUILDKIT_MULTI_PLATFORM");
    refused("BUILDKIT_DOCKERFILE_CHECK=error=true", "BUILDKIT_DOCKERFILE_CHECK");
    let checked = Context::new("# check=error=true\nFROM guest\nENV a=b\n");
    house.build(&checked, "app").fails().complains(&["Dockerfile:1:9", "not available yet"]);
    for flag in ["BUILDKIT_SYNTAX=docker/dockerfile:1-labs", "BUILDKIT_BUILD_NAME=x", "BUILDKIT_INLINE_CACHE=0"] {
        house.ctl(&["build", "--build-arg", flag, context.arg()]).ok();
    }
}
