use super::super::story::{at, beginning, failed, output, over, part, running, warning};
use super::*;

const FROM: &str = "[1/3] FROM debian:bookworm";
const RUN: &str = "[2/3] RUN make";
const COPY: &str = "[3/3] COPY . .";

fn view(columns: u16, rows: u16) -> Live {
    Live { colours: Colours::default(), log_lines: LOG_LINES, fixed: Some((columns, rows)), ..Live::new(at(0)) }
}

fn tell(view: &mut Live, events: impl IntoIterator<Item = (i64, Told)>) {
    for (time, told) in events {
        let mut out = Vec::new();
        view.told(told, at(time), &mut out);
        assert!(out.is_empty() || time == i64::MAX, "only time and the end draw");
    }
}

/// What a terminal of this size shows after these bytes.
fn screen(bytes: &[u8], columns: u16, rows: u16) -> String {
    let size = |size| NonZero::new(size).expect("a terminal has a size");
    let mut terminal = vt100::Parser::new(size(rows), size(columns), 0);
    terminal.process(String::from_utf8_lossy(bytes).replace('\n', "\r\n").as_bytes());
    let lines: Vec<String> = terminal.screen().rows(0, columns).map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n").trim_end().to_owned()
}

fn frame(view: &mut Live, time: i64) -> Vec<u8> {
    let mut out = Vec::new();
    view.tick(at(time), &mut out);
    out
}

fn end(view: &mut Live, end: End, time: i64) -> Vec<u8> {
    let mut out = Vec::new();
    view.told(Told::End(end), at(time), &mut out);
    out
}

#[test]
fn working_steps_show_their_time_their_parts_and_their_last_lines() {
    let mut view = view(60, 24);
    tell(&mut view, beginning());
    tell(
        &mut view,
        [
            (10, running(1, FROM, 10)),
            (20, part(1, "sha256:0123456789abcdef", (1_500_000, 31_400_000), 20, 900, false)),
            (30, part(1, "sha256:fedcba9876543210", (900, 900), 20, 500, true)),
            (40, running(2, RUN, 40)),
            (50, output(2, "one\ntwo\nthr", 50)),
        ],
    );

    let shown = frame(&mut view, 1240);

    let expected = "\
[+] Building 1.2s (1/4)
 => [internal] load build definition from Dockerfile   0.0s
 => => transferring dockerfile: 120B                   0.0s
 => [1/3] FROM debian:bookworm                         1.2s
 => => sha256:0123456789abcdef 1.50MB / 31.40MB        1.2s
 => => sha256:fedcba9876543210 900B / 900B             0.5s
 => [2/3] RUN make                                     1.2s
 => => # one
 => => # two
 => => # thr";
    assert_eq!(screen(&shown, 60, 24), expected);
}

#[test]
fn a_frame_replaces_the_one_before() {
    let mut view = view(60, 24);
    tell(&mut view, beginning());
    tell(&mut view, [(10, running(2, RUN, 10)), (20, output(2, "begun\n", 20))]);
    let mut shown = frame(&mut view, 100);
    tell(&mut view, [(200, over(2, RUN, pb::StepState::Done, 10, 200))]);
    shown.extend(frame(&mut view, 1100));

    let expected = "\
[+] Building 1.1s (2/4)
 => [internal] load build definition from Dockerfile   0.0s
 => => transferring dockerfile: 120B                   0.0s
 => [2/3] RUN make                                     0.2s";
    assert_eq!(screen(&shown, 60, 24), expected);
}

#[test]
fn progress_bars_and_hostile_output_stay_in_their_lines() {
    let mut view = view(50, 24);
    tell(
        &mut view,
        [
            (0, running(2, RUN, 0)),
            (1, output(2, " 10%\r 20%\r 30%\n\x1b[2J\x1b[1;1H\x1b[31mred\x1b[0m\x07\nwide 日本 and \u{202e}back", 1)),
        ],
    );

    let shown = frame(&mut view, 100);

    let text = String::from_utf8_lossy(&shown).into_owned();
    assert!(!text.contains("\x1b[2J") && !text.contains('\x07') && !text.contains('\u{202e}'), "{text:?}");
    assert!(text.contains("red") && text.contains("wide 日本"), "{text:?}");
}

#[test]
fn a_low_terminal_shows_what_works_and_then_what_is_newest() {
    let mut view = view(40, 8);
    let name = |number| format!("[{number}/20] RUN {number}");
    for number in 1..=20 {
        let state = if number == 3 || number == 20 { pb::StepState::Running } else { pb::StepState::Done };
        let told = match state {
            pb::StepState::Running => running(number, &name(number), 0),
            state => over(number, &name(number), state, 0, 10),
        };
        tell(&mut view, [(0, told)]);
    }

    let shown = frame(&mut view, 50);

    let expected = "\
[+] Building 0.1s (18/20)
 => [3/20] RUN 3                   0.1s
 => [16/20] RUN 16                 0.0s
 => [17/20] RUN 17                 0.0s
 => [18/20] RUN 18                 0.0s
 => [19/20] RUN 19                 0.0s
 => [20/20] RUN 20                 0.1s";
    assert_eq!(screen(&shown, 40, 8), expected);
}

#[test]
fn no_line_is_wider_than_the_terminal_whatever_its_letters_take() {
    for columns in [1, 5, 12, 20, 33] {
        let mut view = view(columns, 24);
        tell(
            &mut view,
            [
                (0, running(2, "[2/3] RUN echo 日本語日本語日本語日本語日本語", 0)),
                (1, output(2, "日本語日本語日本語日本語日本語日本語日本語\n", 1)),
                (1, part(2, "日本語日本語日本語日本語日本語日本語", (1, 2), 0, 1, false)),
            ],
        );

        for (text, _) in view.frame(at(90), None) {
            assert!(text.width() < usize::from(columns).max(1) || text.is_empty(), "{columns}: {text:?}");
        }
    }
}

#[test]
fn a_terminal_that_became_narrower_is_cleared_of_what_it_broke() {
    let mut view = view(60, 24);
    tell(&mut view, beginning());
    frame(&mut view, 10);

    view.fixed = Some((30, 24));
    let shown = String::from_utf8(frame(&mut view, 20)).expect("only text is drawn");

    // Two lines of 59 columns take two rows each now, and the head one.
    assert!(shown.starts_with("\x1b[?25l\r\x1b[5A"), "{shown:?}");
}

#[test]
fn the_end_shows_every_step_what_failed_printed_and_the_warnings() {
    let mut view = view(60, 6);
    tell(&mut view, beginning());
    tell(
        &mut view,
        [
            (5, warning("the stage name should be lower case", 3)),
            (10, over(1, FROM, pb::StepState::Cached, 10, 10)),
            (20, running(2, RUN, 20)),
            (30, output(2, "cc\nno such file", 43)),
            (2_000, failed(2, RUN, "process \"make\" did not complete successfully: exit code: 2", 20, 2_000)),
            (2_001, over(3, COPY, pb::StepState::Cancelled, 500, 2_000)),
        ],
    );

    let shown = end(&mut view, End::Over, 2_100);

    let expected = "\
[+] Building 2.1s (4/4) FINISHED
 => [internal] load build definition from Dockerfile   0.0s
 => => transferring dockerfile: 120B                   0.0s
 => WARN: the stage name should be lower case          0.0s
 => CACHED [1/3] FROM debian:bookworm                  0.0s
 => ERROR [2/3] RUN make                               2.0s
 => CANCELED [3/3] COPY . .                            1.5s
------
 > [2/3] RUN make:
0.023 cc
0.023 no such file
------

 1 warning found:
 - the stage name should be lower case (line 3)";
    assert_eq!(screen(&shown, 60, 24), expected);
}

#[test]
fn a_build_that_was_given_up_says_what_it_left() {
    let mut view = view(60, 24);
    tell(&mut view, [(0, over(1, FROM, pb::StepState::Done, 0, 900)), (0, running(2, RUN, 0))]);

    let shown = end(&mut view, End::Cancelled, 1_500);

    let expected = "\
[+] Building 1.5s (2/2) CANCELED
 => [1/3] FROM debian:bookworm                         0.9s
 => CANCELED [2/3] RUN make                            1.5s";
    assert_eq!(screen(&shown, 60, 24), expected);
}

#[test]
fn lines_have_the_colours_of_their_states() {
    let mut view = view(60, 24);
    view.colours =
        Colours { run: "<run>".into(), error: "<error>".into(), cancel: "<cancel>".into(), ..Default::default() };
    tell(
        &mut view,
        [
            (0, over(1, FROM, pb::StepState::Done, 0, 900)),
            (0, failed(2, RUN, "", 0, 1)),
            (0, over(3, COPY, pb::StepState::Cancelled, 0, 1)),
        ],
    );

    let shown = String::from_utf8(frame(&mut view, 1)).expect("only text is drawn");

    for (colour, name) in [("<run>", FROM), ("<error>", RUN), ("<cancel>", COPY)] {
        let line = shown.lines().find(|line| line.contains(name)).expect(name);
        assert!(line.contains(colour) && line.contains(colours::END), "{line:?}");
    }
}

#[test]
fn a_clock_that_differs_from_ours_does_not_matter_to_a_step_at_work() {
    let mut view = view(60, 24);
    tell(&mut view, [(0, running(2, RUN, -3_600_000))]);

    let shown = frame(&mut view, 2_000);

    assert!(screen(&shown, 60, 24).contains("2.0s"), "{}", screen(&shown, 60, 24));
}
