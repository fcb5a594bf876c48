//! Traces: a command of `ctl` and all that services do for it is one, and nobody waits for a collector that is away.

use std::{collections::BTreeSet, fs, time::Duration};

use strata_rpc::spans::otlp::{Kind, Span, any_value::Value};
use strata_tests::{Collector, Context, House, Sent, eventually};

const SOON: Duration = Duration::from_secs(30);

/// The parts of the trace of the last command of this name.
fn trace_of(collector: &Collector, command: &str) -> Vec<Sent> {
    let sent = collector.sent();
    let Some((_, root)) = sent.iter().rfind(|(service, span)| service == "strata-ctl" && span.name == command) else {
        return Vec::new();
    };
    let id = root.trace_id.clone();
    sent.into_iter().filter(|(_, span)| span.trace_id == id).collect()
}

fn has(trace: &[Sent], service: &str, end: &str) -> bool {
    trace.iter().any(|(of, span)| of == service && span.name.ends_with(end))
}

#[test]
fn a_command_and_all_that_is_done_for_it_is_one_trace() {
    let collector = Collector::start();
    let mut house = House::start();
    house.set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
    house.import_guest();
    house.guest(&["noop"]).ok();
    let context = Context::new("FROM guest\nRUN [\"/guest\", \"write\", \"/one\", \"x\"]\n");
    house.build(&context, "one").ok();

    eventually("the trace of a run is whole", SOON, || {
        let trace = trace_of(&collector, "ctl run");
        has(&trace, "strata-runtime", "ContainerService/CreateContainer")
            && has(&trace, "strata-store", "SnapshotService/PrepareSnapshot")
    });
    eventually("the trace of a build is whole", SOON, || {
        let trace = trace_of(&collector, "ctl build");
        has(&trace, "strata-builder", "BuildService/Build") && has(&trace, "strata-runtime", "StreamService/Run")
    });
    for command in ["ctl run", "ctl build"] {
        let trace = trace_of(&collector, command);
        let ids: BTreeSet<&[u8]> = trace.iter().map(|(_, span)| span.span_id.as_slice()).collect();
        assert_eq!(ids.len(), trace.len(), "each part has an id of its own");
        let roots = trace.iter().filter(|(_, span)| span.parent_span_id.is_empty());
        assert_eq!(roots.map(|(service, _)| service.as_str()).collect::<Vec<_>>(), ["strata-ctl"], "{trace:?}");
        for (service, span) in &trace {
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano && span.trace_id.len() == 16, "{service}");
        }
        // What is in a call is in no span.
        assert!(!format!("{trace:?}").contains("noop"), "{trace:?}");
    }
    house.ctl(&["inspect", "nobody"]).fails();
    eventually("a command that fails says so", SOON, || {
        trace_of(&collector, "ctl inspect")
            .iter()
            .any(|(service, span)| service == "strata-ctl" && span.status.is_some())
    });
    // A trace that somebody else began goes on.
    let mut command = house.ctl_command(&["ps"]);
    command.env("TRACEPARENT", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    strata_tests::Running::spawn(command).finish().ok();
    eventually("it is a part of the trace that it was given", SOON, || {
        let trace = trace_of(&collector, "ctl ps");
        trace.iter().any(|(_, span)| {
            span.trace_id[0] == 0x4b && span.parent_span_id == [0, 0xf0, 0x67, 0xaa, 0xb, 0xa9, 2, 0xb7]
        })
    });
}

/// The steps of the last build, by the word that each name has.
fn step<'a>(trace: &'a [Sent], word: &str) -> Option<&'a Span> {
    let steps =
        trace.iter().filter(|(service, span)| service == "strata-builder" && span.kind == Kind::Internal as i32);
    steps.map(|(_, span)| span).find(|span| span.name.contains(word))
}

fn is_cached(step: &Span) -> bool {
    let cached = step.attributes.iter().find(|one| one.key == "strata.step.cached");
    let value = cached.and_then(|one| one.value.clone()?.value);
    value == Some(Value::String("true".to_owned()))
}

#[test]
fn a_step_of_a_build_is_below_the_build_and_what_is_done_for_it_below_the_step() {
    let collector = Collector::start();
    let mut house = House::start();
    house.set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
    house.import_guest();
    let run = "RUN [\"/guest\", \"write\", \"/one\", \"x\"]\n";
    let context = Context::new(&format!("FROM guest\n{run}COPY file /\n")).file("file", "content");
    let steps = ["FROM guest", "RUN [", "COPY file /", "exporting to image"];

    house.build(&context, "one").ok();

    let below = |trace: &[Sent], parent: &Span, service: &str, end: &str| {
        trace
            .iter()
            .any(|(of, span)| of == service && span.name.ends_with(end) && span.parent_span_id == parent.span_id)
    };
    eventually("the trace of a build has its steps", SOON, || {
        let trace = trace_of(&collector, "ctl build");
        let Some((_, build)) = trace.iter().find(|(_, span)| span.name.ends_with("BuildService/Build")) else {
            return false;
        };
        let Some(found) = steps.iter().map(|word| step(&trace, word)).collect::<Option<Vec<_>>>() else {
            return false;
        };
        let [_, run, copy, _] = found[..] else { return false };
        found.iter().all(|step| step.parent_span_id == build.span_id && step.status.is_none())
            && !is_cached(run)
            && below(&trace, run, "strata-store", "SnapshotService/PrepareSnapshot")
            && below(&trace, run, "strata-runtime", "StreamService/Run")
            && trace.iter().any(|(of, span)| of == "strata-store" && span.parent_span_id == copy.span_id)
    });
    let before = collector.sent().len();

    house.build(&context, "one").ok();

    eventually("what was cached says so", SOON, || {
        let sent = collector.sent().split_off(before);
        ["RUN [", "COPY file /"].iter().all(|word| step(&sent, word).is_some_and(is_cached))
    });
    let before = collector.sent().len();
    let context = Context::new("FROM guest\nRUN [\"/guest\", \"exit\", \"7\"]\n");

    house.build(&context, "two").fails();

    eventually("a step that failed says why", SOON, || {
        let sent = collector.sent().split_off(before);
        let failed = step(&sent, "RUN [").filter(|step| !is_cached(step)).and_then(|step| step.status.clone());
        failed.is_some_and(|status| status.message.contains("exit code: 7"))
    });
}

#[test]
fn a_collector_that_is_away_keeps_nobody_and_what_is_none_is_told() {
    let mut house = House::start();
    house.configure(&format!("{}[traces]\nendpoint = \"http://127.0.0.1:9\"\n", strata_tests::NOBODY));
    house.import_guest();
    assert_eq!(house.guest(&["echo", "done"]).ok().text(), "done");
    eventually("the log says that traces are lost", SOON, || {
        let log = fs::read_to_string(house.root().join("runtime/service.log")).unwrap_or_default();
        log.contains("cannot send traces")
    });
    house.configure(&format!("{}[traces]\nendpoint = \"collector:4317\"\n", strata_tests::NOBODY));
    house.ctl(&["ps"]).code(1).complains(&["invalid endpoint", "collector:4317", "OTLP over gRPC"]);
    let absent = "endpoint = \"https://collector:4317\"\nca = \"/nonexistent/ca.pem\"\n";
    house.configure(&format!("{}[traces]\n{absent}", strata_tests::NOBODY));
    house.ctl(&["ps"]).code(1).complains(&["certificate authority", "/nonexistent/ca.pem"]);
    // The variable may be meant for others.
    house.configure(strata_tests::NOBODY);
    house.set("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317");
    house.ctl(&["ps"]).ok();
}

#[test]
fn a_collector_behind_https_gets_traces_of_those_who_believe_it() {
    let authority = House::start();
    let directory = authority.path("tls");
    authority.ctl(&["tls", "init", directory.to_str().unwrap(), "--host", "127.0.0.1"]).ok();
    let pem = |name: &str| fs::read(directory.join(name)).unwrap();
    let collector = Collector::with_tls(&pem("store.pem"), &pem("store.key"));
    let table = format!("{}[traces]\nendpoint = \"{}\"\n", strata_tests::NOBODY, collector.endpoint());

    // The host does not believe the authority.
    let doubtful = House::start();
    doubtful.configure(&table);
    doubtful.ctl(&["ps"]).ok();
    eventually("the log says that traces are lost", SOON, || {
        let log = fs::read_to_string(doubtful.root().join("runtime/service.log")).unwrap_or_default();
        log.contains("cannot send traces")
    });
    assert!(collector.sent().is_empty(), "{:?}", collector.sent());

    let house = House::start();
    house.configure(&format!("{table}ca = \"{}\"\n", directory.join("ca.pem").display()));
    house.ctl(&["ps"]).ok();
    eventually("the trace is there", SOON, || {
        has(&trace_of(&collector, "ctl ps"), "strata-runtime", "ContainerService/ListContainers")
    });
}
