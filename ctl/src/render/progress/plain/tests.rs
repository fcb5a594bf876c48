use super::super::story::{at, beginning, failed, output, over, part, running, running_because, waiting, warning};
use super::*;

const FROM: &str = "[1/3] FROM debian:bookworm";
const RUN: &str = "[2/3] RUN make";
const COPY: &str = "[3/3] COPY . .";

fn shown(mut view: Plain, events: impl IntoIterator<Item = (i64, Told)>) -> String {
    let mut out = Vec::new();
    for (time, told) in events {
        view.told(told, at(time), &mut out);
    }
    String::from_utf8(out).expect("only text is shown")
}

#[test]
fn a_build_is_told_line_by_line_with_numbers_and_times() {
    let mut events = beginning();
    events.extend([
        (10, running(1, FROM, 10)),
        (20, part(1, "resolve docker.io/library/debian:bookworm", (0, 0), 10, 20, false)),
        (30, part(1, "resolve docker.io/library/debian:bookworm", (0, 0), 10, 130, true)),
        (40, over(1, FROM, pb::StepState::Done, 10, 140)),
        (50, running_because(2, RUN, 50, "what it reads has changed")),
        (60, output(2, "compil", 173)),
        (70, output(2, "ing\n\x1b[32mdone\x1b[0m\n", 12_390)),
        (80, over(2, RUN, pb::StepState::Done, 50, 12_400)),
        (90, over(3, COPY, pb::StepState::Cached, 90, 90)),
        (100, Told::End(End::Over)),
    ]);

    let expected = "\
#1 [internal] load build definition from Dockerfile
#1 transferring dockerfile: 120B done
#1 DONE 0.0s

#2 [1/3] FROM debian:bookworm
#2 resolve docker.io/library/debian:bookworm
#2 resolve docker.io/library/debian:bookworm 0.1s done
#2 DONE 0.1s

#3 [2/3] RUN make
#3 not cached: what it reads has changed
#3 0.123 compiling
#3 12.34 done
#3 DONE 12.3s

#4 [3/3] COPY . .
#4 CACHED

";
    assert_eq!(shown(Plain::new(), events), expected);
}

#[test]
fn steps_that_work_at_once_take_turns_in_blocks() {
    let events = [
        (0, running(1, "a", 0)),
        (1, running(2, "b", 0)),
        (100, output(1, "a1\n", 100)),
        (200, output(2, "b1\n", 200)),
        (300, output(1, "a2\n", 300)),
        (400, output(2, "b2\n", 400)),
        (6_000, output(1, "a3\n", 6_000)),
        (6_100, over(1, "a", pb::StepState::Done, 0, 6_100)),
        (7_000, over(2, "b", pb::StepState::Done, 0, 7_000)),
    ];

    let expected = "\
#1 a
#1 0.100 a1
#1 0.300 a2
#1 6.000 a3
#1 ...

#2 b
#2 0.200 b1
#2 0.400 b2
#2 ...

#1 a
#1 DONE 6.1s

#2 b
#2 DONE 7.0s

";
    assert_eq!(shown(Plain::new(), events), expected);
}

#[test]
fn a_part_is_told_again_when_much_of_it_came_or_much_time_passed() {
    let moved = |percent: u64, time| part(1, "sha256:abc", (percent * 10_000, 1_000_000), 0, time, percent == 100);
    let events = [
        (0, running(1, FROM, 0)),
        (100, moved(1, 100)),
        (200, moved(3, 200)),
        (300, moved(7, 300)),
        (5_400, moved(8, 5_400)),
        (5_500, moved(100, 5_500)),
    ];

    let expected = "\
#1 [1/3] FROM debian:bookworm
#1 sha256:abc 10.00kB / 1.00MB 0.1s
#1 sha256:abc 70.00kB / 1.00MB 0.3s
#1 sha256:abc 80.00kB / 1.00MB 5.4s
#1 sha256:abc 1.00MB / 1.00MB 5.5s done
";
    assert_eq!(shown(Plain::new(), events), expected);
}

#[test]
fn what_fails_says_why_and_its_last_lines_come_again() {
    let lines: String = (1..=12).map(|line| format!("line {line}\n")).collect();
    let mut events = beginning();
    events.extend([
        (5, warning("the stage name should be lower case", 3)),
        (10, running(2, RUN, 10)),
        (20, output(2, &lines, 20)),
        (25, output(2, "no end", 25)),
        (30, failed(2, RUN, "process \"make\" did not complete successfully: exit code: 2", 10, 30)),
        (31, over(3, COPY, pb::StepState::Cancelled, 20, 30)),
        (40, Told::End(End::Over)),
    ]);

    let shown = shown(Plain::new(), events);

    assert!(shown.contains("#1 WARN: the stage name should be lower case\n"), "{shown}");
    let end = "\
#2 0.015 no end
#2 ERROR: process \"make\" did not complete successfully: exit code: 2

#3 [3/3] COPY . .
#3 CANCELED

------
 > [2/3] RUN make:
0.010 line 4
0.010 line 5
0.010 line 6
0.010 line 7
0.010 line 8
0.010 line 9
0.010 line 10
0.010 line 11
0.010 line 12
0.015 no end
------

 1 warning found:
 - the stage name should be lower case (line 3)
";
    assert!(shown.ends_with(end), "{shown}");
}

#[test]
fn quiet_shows_only_what_a_failed_step_printed_last() {
    let good = [(0, running(1, FROM, 0)), (1, over(1, FROM, pb::StepState::Done, 0, 1)), (2, Told::End(End::Over))];
    let bad = [
        (0, running(2, RUN, 0)),
        (1, output(2, "no such file\n", 1)),
        (2, failed(2, RUN, "exit code: 2", 0, 2)),
        (3, warning("unheard", 1)),
        (4, Told::End(End::Over)),
    ];

    assert_eq!(shown(Plain::quiet(), good), "");
    assert_eq!(shown(Plain::quiet(), bad), "------\n > [2/3] RUN make:\n0.001 no such file\n------\n");
}

#[test]
fn what_was_given_up_is_cancelled_and_what_never_began_is_not_told() {
    let events =
        [(0, waiting(1, FROM)), (0, running(2, RUN, 0)), (1, output(2, "half", 1)), (900, Told::End(End::Cancelled))];

    assert_eq!(shown(Plain::new(), events), "#1 [2/3] RUN make\n#1 0.001 half\n#1 CANCELED\n\n");
}

#[test]
fn a_step_that_starts_again_adds_its_times() {
    let events = [
        (0, running(9, "context", 0)),
        (100, over(9, "context", pb::StepState::Done, 0, 100)),
        (500, running(9, "context", 500)),
        (700, over(9, "context", pb::StepState::Done, 500, 700)),
    ];

    assert_eq!(shown(Plain::new(), events), "#1 context\n#1 DONE 0.1s\n\n#1 context\n#1 DONE 0.3s\n\n");
}
