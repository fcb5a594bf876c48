//! Keys and the mouse: what they lead to.

use crossterm::event::{KeyCode, MouseEventKind};

use super::*;
use crate::full_screen::Next;
use crate::full_screen::tests::{control, key, mouse, place};
use crate::ui::action::Verb;

#[test]
fn a_filter_narrows_the_list_while_it_is_typed_and_keys_are_letters_then() {
    let (mut screen, mut terminal) = view(100, 30);

    press(&mut screen, "/we");
    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("│web") && !text.contains("│db") && text.contains("Filter: we"), "{text}");
    press(&mut screen, "q");
    assert!(shown(&mut screen, &mut terminal).contains("Nothing with this text"));
    screen.on(&key(KeyCode::Backspace));
    press(&mut screen, "\n");
    assert!(shown(&mut screen, &mut terminal).contains("Only what has \"we\""));
    press(&mut screen, "\x1b");
    assert!(shown(&mut screen, &mut terminal).contains("│db"));
}

#[test]
fn stopped_containers_can_be_hidden_and_columns_sorted() {
    let (mut screen, mut terminal) = view(100, 30);

    press(&mut screen, "a");
    assert!(!shown(&mut screen, &mut terminal).contains("│old"));
    press(&mut screen, "a");
    press(&mut screen, "sss");
    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("CPU %▼"), "{text}");
    assert!(place(&text, "│db").1 < place(&text, "│web").1, "{text}");
    press(&mut screen, "r");
    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("CPU %▲") && place(&text, "│web").1 < place(&text, "│db").1, "{text}");
    assert_eq!(screen.selected().unwrap().name, "db", "what is selected stays so");
}

#[test]
fn actions_are_wishes_and_those_that_destroy_are_asked_about() {
    let (mut screen, mut terminal) = view(100, 30);

    assert_eq!(press(&mut screen, "T"), Next::Act);
    let wishes = screen.take_wishes();
    assert!(matches!(&wishes[..], [Wish::Do(action)] if action.verb == Verb::Stop && action.target == "id-of-db"));
    assert!(shown(&mut screen, &mut terminal).contains("Stopping db"));

    assert_eq!(press(&mut screen, "D"), Next::Stay);
    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("Remove container db?") && text.contains("It runs: it is killed first."), "{text}");
    press(&mut screen, "n");
    assert!(screen.take_wishes().is_empty());
    press(&mut screen, "D");
    assert_eq!(press(&mut screen, "y"), Next::Act);
    let wishes = screen.take_wishes();
    assert!(matches!(&wishes[..], [Wish::Do(action)] if action.verb == Verb::Remove && action.force));

    press(&mut screen, "2D");
    assert!(shown(&mut screen, &mut terminal).contains("Only this name goes: the image has another one."));
    press(&mut screen, "y");
    let wishes = screen.take_wishes();
    assert!(matches!(&wishes[..], [Wish::Do(action)] if action.target == "docker.io/library/app:1"), "{wishes:?}");
    press(&mut screen, "3X");
    assert!(shown(&mut screen, &mut terminal).contains("all anonymous volumes that no container uses?"));
    press(&mut screen, "\n");
    assert!(screen.take_wishes().is_empty(), "only y is yes");
}

#[test]
fn a_paused_container_is_unpaused_and_a_stopped_one_has_no_shell() {
    let (mut screen, mut terminal) = view(100, 30);
    let paused = container("db", runtime::ContainerState::Paused);
    screen.take(Update::Containers(vec![paused, container("old", runtime::ContainerState::Exited)]));

    press(&mut screen, "P");
    let wishes = screen.take_wishes();
    assert!(matches!(&wishes[..], [Wish::Do(action)] if action.verb == Verb::Unpause), "{wishes:?}");
    assert_eq!(press(&mut screen, "ve"), Next::Stay);
    assert!(shown(&mut screen, &mut terminal).contains("Error: old does not run"));
    screen.take(Update::Containers(vec![container("old", runtime::ContainerState::Running)]));
    assert_eq!(press(&mut screen, "e"), Next::Act);
    assert_eq!(screen.take_wishes(), [Wish::Shell("id-of-old".to_owned(), "old".to_owned())]);
}

#[test]
fn an_image_is_explored_with_enter() {
    let (mut screen, mut terminal) = view(100, 30);

    assert_eq!(press(&mut screen, "\tv\n"), Next::Act);

    assert_eq!(screen.take_wishes(), [Wish::Explore("docker.io/library/app:2".to_owned())]);
    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("REPOSITORY▲ TAG IMAGE ID SIZE AGE USED BY"), "{text}");
    assert!(text.contains("│app 1") && text.contains("1.5MB 3 │"), "{text}");
}

#[test]
fn a_log_is_searched_and_followed() {
    let (mut screen, mut terminal) = view(100, 30);
    let (number, _) = screen.turn().unwrap();
    let lines: Vec<String> = (0..200).map(|line| format!("line {line}")).collect();
    screen.take(Update::Pane(number, Content::LogBegins));
    screen.take(Update::Pane(number, log(&lines.iter().map(String::as_str).collect::<Vec<_>>())));
    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("line 199") && text.contains("following; line 200 of 200"), "{text}");

    press(&mut screen, "\n/line 42\n");
    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("│line 42 │") && !text.contains("line 199"), "{text}");
    screen.take(Update::Pane(number, log(&["newest"])));
    assert!(!shown(&mut screen, &mut terminal).contains("newest"), "it is not followed");
    press(&mut screen, "f");
    assert!(shown(&mut screen, &mut terminal).contains("newest"));
    press(&mut screen, "g");
    assert!(shown(&mut screen, &mut terminal).contains("│line 0 │"));
    press(&mut screen, "\x1b\x1b");
    assert!(!screen.is_pane_focused);
}

#[test]
fn the_keys_are_told_on_a_low_screen_too() {
    let (mut screen, mut terminal) = view(60, 15);

    press(&mut screen, "?");
    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("containers, images, volumes, networks │") && !text.contains("q, Ctrl-C"), "{text}");
    for _ in 0..30 {
        press(&mut screen, "v");
        shown(&mut screen, &mut terminal);
    }
    assert!(shown(&mut screen, &mut terminal).contains("q, Ctrl-C quit"));
    press(&mut screen, "^");
    assert!(screen.help.is_some(), "up goes up at once");
    press(&mut screen, "a");
    assert!(screen.help.is_none() && screen.listing().rows() == 3, "any other key only closes it");
}

#[test]
fn the_mouse_selects_sorts_and_scrolls() {
    let (mut screen, mut terminal) = view(100, 30);
    let text = picture(&mut screen, &mut terminal);

    let (column, row) = place(&text, "web");
    click(&mut screen, column, row);
    assert_eq!(screen.selected().unwrap().name, "web");
    let (column, row) = place(&text, "STATE");
    click(&mut screen, column, row);
    assert!(shown(&mut screen, &mut terminal).contains("STATE▲"));
    let (column, row) = place(&text, "m Stats");
    click(&mut screen, column, row);
    assert_eq!(screen.look(), Look::Stats);
    let (column, row) = place(&text, "3 Volumes");
    click(&mut screen, column, row);
    assert_eq!(screen.tab, Tab::Volumes);
    for kind in [MouseEventKind::ScrollDown, MouseEventKind::ScrollUp] {
        mouse(&mut screen, kind, 5, 5);
        mouse(&mut screen, kind, 5, 25);
    }
    click(&mut screen, 99, 29);
    click(&mut screen, 1000, 1000);
    press(&mut screen, "X");
    click(&mut screen, 50, 15);
    assert!(screen.question.is_some(), "a click answers no question");
}

#[test]
fn the_ends_are_told_apart() {
    let (mut screen, _terminal) = view(100, 30);

    assert_eq!(press(&mut screen, "q"), Next::Leave);
    assert_eq!(screen.on(&control('c')), Next::Leave);
    assert_eq!(screen.on(&control('z')), Next::Suspend);
    assert_eq!(press(&mut screen, "/q"), Next::Stay, "a letter of the filter");
    assert_eq!(screen.on(&control('c')), Next::Leave);
}
