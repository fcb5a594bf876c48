mod keys;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use strata_proto::{runtime::v1 as runtime, store::v1 as store};

use super::*;
use crate::full_screen::Machine;
use crate::full_screen::tests::{click, picture, press, shown};
use crate::ui::update::Content;

fn container(name: &str, state: runtime::ContainerState) -> runtime::Container {
    let spec = runtime::ContainerSpec {
        root: Some(runtime::container_spec::Root::Image("app:1".to_owned())),
        ..Default::default()
    };
    let exit = runtime::ExitStatus { kind: Some(runtime::exit_status::Kind::Code(3)), is_oom_killed: false };
    runtime::Container {
        id: format!("id-of-{name}"),
        name: name.to_owned(),
        spec: Some(spec),
        image_id: "sha256:app".to_owned(),
        state: state.into(),
        exit: (state == runtime::ContainerState::Exited).then_some(exit),
        started_at: Some(prost_types::Timestamp { seconds: 1_000_000_000, nanos: 0 }),
        ..Default::default()
    }
}

fn image(names: &[&str]) -> store::Image {
    store::Image {
        id: "sha256:app".to_owned(),
        names: names.iter().map(|name| format!("docker.io/library/{name}")).collect(),
        size_bytes: 1_500_000,
        ..Default::default()
    }
}

fn look(names: &[&str], second: i64, cpu_seconds: i64) -> Update {
    let time = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let one = |(place, name): (usize, &&str)| runtime::ContainerStats {
        id: format!("id-of-{name}"),
        name: (*name).to_owned(),
        usage: Some(runtime::ContainerUsage {
            taken_at: time(second),
            cpu_time: time(cpu_seconds * place as i64),
            memory_bytes: Some(7_536_640),
            memory_limit_bytes: 64 << 20,
            received_bytes: Some(788),
            sent_bytes: Some(1300),
            pids: Some(2),
            ..Default::default()
        }),
    };
    Update::Stats(names.iter().enumerate().map(one).collect())
}

fn log(lines: &[&str]) -> Content {
    let entry = |text: &&str| runtime::ReadLogsResponse {
        chunk: format!("{text}\n").into_bytes().into(),
        ..Default::default()
    };
    Content::Log(lines.iter().map(entry).collect())
}

/// Three containers, an image with two names, a volume and a network, on a screen of this size, drawn once.
fn view(width: u16, height: u16) -> (Screen, Terminal<TestBackend>) {
    let mut screen = Screen::new("default", Palette::Colours);
    screen.tick(Timestamp::from_second(1_000_000_180).unwrap());
    let (running, exited) = (runtime::ContainerState::Running, runtime::ContainerState::Exited);
    screen.take(Update::Containers(vec![
        container("web", running),
        container("db", running),
        container("old", exited),
    ]));
    screen.take(Update::Images(vec![image(&["app:1", "app:2"])]));
    screen.take(Update::Volumes(vec![runtime::Volume {
        name: "data".into(),
        driver: "local".into(),
        ..Default::default()
    }]));
    let spec = runtime::NetworkSpec { name: "backend".into(), driver: 1, ..Default::default() };
    screen.take(Update::Networks(vec![runtime::Network {
        id: "f".repeat(64),
        spec: Some(spec),
        ..Default::default()
    }]));
    screen.take(look(&["web", "db"], 10, 0));
    screen.take(look(&["web", "db"], 12, 3));
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    (screen, terminal)
}

#[test]
fn containers_are_shown_with_what_they_use() {
    let (mut screen, mut terminal) = view(140, 30);

    let text = shown(&mut screen, &mut terminal);

    assert!(text.contains("1 Containers 3 2 Images 2 3 Volumes 1 4 Networks 1 context default"), "{text}");
    assert!(text.contains("NAME▲ IMAGE STATE CPU % MEMORY NET I/O PORTS UP"), "{text}");
    assert!(text.contains("│db app:1 running 150.00% 7.188MiB 788B / 1.3kB 3m │"), "{text}");
    assert!(text.contains("│old app:1 exited (3) │"), "{text}");
    assert!(text.contains("│web app:1 running 0.00% 7.188MiB 788B / 1.3kB 3m │"), "{text}");
    assert!(text.contains("l Logs m Stats d Details p Top db"), "{text}");
}

#[test]
fn the_pane_follows_what_is_selected_and_takes_nothing_else() {
    let (mut screen, mut terminal) = view(100, 30);

    let run = Some((1_000_000_000, 0));
    let log_of = |name: &str| Subject::Log { id: format!("id-of-{name}"), run };
    let (first, subject) = screen.turn().unwrap();
    assert_eq!(subject, Some(log_of("db")));
    assert!(screen.turn().is_none(), "once");
    screen.take(Update::Pane(first, Content::LogBegins));
    screen.take(Update::Pane(first, log(&["first line"])));
    assert!(shown(&mut screen, &mut terminal).contains("first line"));

    press(&mut screen, "v");
    let (second, subject) = screen.turn().unwrap();
    assert_eq!(subject, Some(log_of("old")));
    screen.take(Update::Pane(first, log(&["late line"])));
    let text = shown(&mut screen, &mut terminal);
    assert!(!text.contains("first line") && !text.contains("late line"), "{text}");
    screen.take(Update::Pane(second, Content::Failed("it is \u{1b}gone".to_owned())));
    assert!(shown(&mut screen, &mut terminal).contains("it is"), "the reason");

    for (keys, expected) in [
        ("d", Some(Subject::Container("id-of-old".to_owned()))),
        ("p", Some(Subject::Processes("id-of-old".to_owned()))),
        ("m", None),
        ("2", Some(Subject::Layers("docker.io/library/app:1".to_owned()))),
        (">", Some(Subject::Image("docker.io/library/app:1".to_owned()))),
        ("3", Some(Subject::Volume("data".to_owned()))),
        ("4", Some(Subject::Network("f".repeat(64)))),
    ] {
        press(&mut screen, keys);
        assert_eq!(screen.turn().unwrap().1, expected, "{keys}");
    }
}

#[test]
fn a_container_that_is_started_anew_has_its_log_followed_anew() {
    let (mut screen, _terminal) = view(100, 30);
    screen.turn();

    let again = runtime::Container {
        started_at: Some(prost_types::Timestamp { seconds: 1_000_000_100, nanos: 5 }),
        ..container("db", runtime::ContainerState::Running)
    };
    screen.take(Update::Containers(vec![again]));

    let expected = Subject::Log { id: "id-of-db".to_owned(), run: Some((1_000_000_100, 5)) };
    assert_eq!(screen.turn().unwrap().1, Some(expected));
}

#[test]
fn what_is_lost_is_said_until_it_is_back_and_errors_until_a_key() {
    let (mut screen, mut terminal) = view(100, 30);

    screen.take(Update::Lost(Source::Containers, "the service went away".to_owned()));
    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("No containers, trying again: the service went away") && text.contains("│web"), "{text}");
    screen.take(Update::Failed("web is in use".to_owned()));
    assert!(shown(&mut screen, &mut terminal).contains("Error: web is in use"));
    press(&mut screen, "v");
    assert!(shown(&mut screen, &mut terminal).contains("No containers, trying again"));
    screen.take(Update::Back(Source::Containers));
    assert!(!shown(&mut screen, &mut terminal).contains("trying again"));
}

#[test]
fn stats_are_drawn_as_graphs() {
    let (mut screen, mut terminal) = view(100, 30);

    press(&mut screen, "m");

    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("CPU 150.00% most 150.00%"), "{text}");
    assert!(text.contains("MEMORY 7.188MiB / 64MiB most 7.188MiB") && text.contains("█"), "{text}");
    assert!(text.contains("NET I/O 788B / 1.3kB BLOCK I/O -- / -- PIDS 2"), "{text}");
}

#[test]
fn a_narrow_screen_has_the_list_or_the_pane() {
    let (mut screen, mut terminal) = view(60, 15);

    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("db running 150.00% 7.188MiB 3m"), "{text}");
    assert!(!text.contains("l Logs") && text.contains("1 Containers 3 2 Ima. 3 Vol. 4 Net."), "{text}");
    assert!(screen.turn().is_none(), "what is out of sight is not followed");
    press(&mut screen, "\n");
    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("l Logs") && !text.contains("NAME"), "{text}");
    assert!(matches!(screen.turn(), Some((_, Some(Subject::Log { .. })))));
    press(&mut screen, "\x1b");
    assert!(shown(&mut screen, &mut terminal).contains("NAME▲"));
}

#[test]
fn thousands_of_containers_are_drawn_by_their_rows_in_sight() {
    let (mut screen, mut terminal) = view(100, 30);
    let all = (0..3000).map(|number| container(&format!("c{number:04}"), runtime::ContainerState::Running));
    screen.take(Update::Containers(all.collect()));

    press(&mut screen, "G");
    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("c2999") && !text.contains("c2900"), "{text}");
    press(&mut screen, "g");
    assert!(shown(&mut screen, &mut terminal).contains("c0000"));
}

#[test]
fn every_size_can_be_drawn_and_clicked() {
    for (width, height) in [(1, 1), (5, 40), (20, 6), (40, 10), (60, 15), (80, 3), (80, 24), (250, 70)] {
        let (mut screen, mut terminal) = view(width, height);
        for keys in ["v", "mdpl", "\nv^<>z", "\x1b", "2d", "34", "1?\x1b", "D\x1b", "/x\x1b", "sss", "\x1b\x1b"] {
            press(&mut screen, keys);
            screen.turn();
            shown(&mut screen, &mut terminal);
        }
        for column in 0..width {
            click(&mut screen, column, height / 2);
        }
        // And another one than was drawn.
        terminal.backend_mut().resize(height, width);
        shown(&mut screen, &mut terminal);
    }
}

#[test]
fn a_view_of_nothing_can_be_used() {
    let mut screen = Screen::new("far", Palette::Plain);
    let mut terminal = Terminal::new(TestBackend::new(100, 30)).unwrap();

    assert!(shown(&mut screen, &mut terminal).contains("…"), "nothing is known yet");
    screen.take(Update::Containers(Vec::new()));
    press(&mut screen, "vSTRPKDe\nmdpl\x1b234\n>sra");
    assert!(screen.take_wishes().is_empty());
    press(&mut screen, "1");
    assert!(shown(&mut screen, &mut terminal).contains("Nothing."));
}

#[test]
fn names_cannot_write_to_the_terminal() {
    let (mut screen, mut terminal) = view(140, 30);
    let hostile = "\u{1b}]0;title\u{7}\u{202e}x";
    screen.take(Update::Volumes(vec![runtime::Volume { name: hostile.to_owned(), ..Default::default() }]));
    screen.take(Update::Failed(hostile.to_owned()));

    press(&mut screen, "3D");

    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("title"), "{text}");
    assert!(!text.chars().any(|letter| letter.is_control() && letter != '\n' || letter == '\u{202e}'), "{text:?}");
}

#[test]
fn colours_tell_states_and_can_be_left_out() {
    let colours = |palette| {
        let (mut screen, mut terminal) = view(100, 30);
        screen.palette = palette;
        picture(&mut screen, &mut terminal);
        let cells = terminal.backend().buffer().content().to_vec();
        cells.into_iter().map(|cell| cell.fg).collect::<Vec<_>>()
    };

    assert!(colours(Palette::Colours).contains(&Color::Green));
    assert!(colours(Palette::Plain).iter().all(|colour| *colour == Color::Reset));
}
