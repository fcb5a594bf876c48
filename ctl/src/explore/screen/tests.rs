use crossterm::event::{KeyCode, MouseEventKind};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::*;
use crate::explore::report::tests::example;
use crate::explore::stack::tests::{directory, file, removed, stack};
use crate::full_screen::tests::{click, control, key, mouse, picture, place, shown};
use crate::full_screen::{self, Machine, Next};

/// A view on a screen of this size, drawn once.
fn view(image: Image, width: u16, height: u16) -> (Screen, Terminal<TestBackend>) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let mut screen = Screen::new(image, Palette::Colours);
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    (screen, terminal)
}

/// Presses keys of which none ends anything.
fn press(screen: &mut Screen, keys: &str) {
    assert_eq!(full_screen::tests::press(screen, keys), Next::Stay, "{keys:?}");
}

#[test]
fn the_first_picture_shows_layers_files_and_details() {
    let (mut screen, mut terminal) = view(example(), 100, 20);

    let text = picture(&mut screen, &mut terminal);
    let expected = "\
┌ Layers 2/2 ──────────────────────────┐┌  1 Files   2 Changes of the layer   3 Waste ─────────────┐
│    80B ADD rootfs.tar /              ││·    100B ▸ a/                                            │
│   120B RUN make                      ││      30B   b                                             │
└──────────────────────────────────────┘│+     20B   c\\n                                           │
┌ Details ─────────────────────────────┐│                                                          │
│Layer 2 of 2                          ││                                                          │
│Size       120B                       ││                                                          │
│Changes    +1  ~1  -1                 ││                                                          │
│Hides      50B of the layers below    ││                                                          │
│Digest                                ││                                                          │
│sha256:abababababababababababababababa││                                                          │
│babababababababababababababababab     ││                                                          │
│RUN make                              ││                                                          │
│                                      ││                                                          │
│example:1                             ││                                                          │
│Size       200B                       ││                                                          │
│Wasted     50B at 2 paths             ││                                                          │
│Efficiency 75.00 %                    ││                                                          │
└──────────────────────────────────────┘└──────────────────────────────────────────────────────────┘
 q quit  Tab pane  1 2 3 view  ↑↓ move  ←→ fold  / search  a m r u kinds  s sort  ? help
";
    assert_eq!(text, expected);
}

#[test]
fn keys_walk_through_the_tree_and_fold_it() {
    let (mut screen, mut terminal) = view(example(), 100, 24);

    press(&mut screen, "\t>v");
    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("~") && text.contains("▾ a/") && text.contains("/a/one"), "{text}");
    assert!(text.contains("Changed content"), "{text}");
    assert!(text.contains("Layer 1 added 30B") && text.contains("Layer 2 changed to 100B"), "{text}");
    press(&mut screen, "v");
    assert!(shown(&mut screen, &mut terminal).contains("removed it"));
    press(&mut screen, "<<");
    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("▸ a/") && !text.contains("one"), "{text}");
    press(&mut screen, "e");
    assert!(shown(&mut screen, &mut terminal).contains("▾ a/"));
    press(&mut screen, "c");
    assert!(shown(&mut screen, &mut terminal).contains("▸ a/"));
}

#[test]
fn layers_are_chosen_from_every_pane() {
    let (mut screen, mut terminal) = view(example(), 100, 24);

    press(&mut screen, "^");
    assert!(shown(&mut screen, &mut terminal).contains("Layer 1 of 2"));
    press(&mut screen, "\t]");
    assert!(shown(&mut screen, &mut terminal).contains("Layer 2 of 2"));
    press(&mut screen, "]]]");
    assert!(shown(&mut screen, &mut terminal).contains("Layer 2 of 2"));
    press(&mut screen, "[2");
    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("Layer 1 of 2") && text.contains("+ 50B ▸ a/"), "{text}");
}

#[test]
fn the_changes_of_a_layer_and_its_kinds_are_shown_and_hidden() {
    let (mut screen, mut terminal) = view(example(), 100, 24);

    press(&mut screen, "2");
    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("~ 100B one") && text.contains("- 20B two"), "{text}");
    assert!(!text.contains("30B b"), "{text}");
    press(&mut screen, "r");
    let text = shown(&mut screen, &mut terminal);
    assert!(!text.contains("20B two") && text.contains("without removed"), "{text}");
    press(&mut screen, "m");
    assert!(!shown(&mut screen, &mut terminal).contains("100B one"));
    press(&mut screen, "mrs");
    assert!(shown(&mut screen, &mut terminal).contains("by size"));
}

#[test]
fn a_search_narrows_the_tree_while_it_is_typed_and_keys_are_letters_then() {
    let (mut screen, mut terminal) = view(example(), 100, 24);

    press(&mut screen, "/q");
    assert!(shown(&mut screen, &mut terminal).contains("Nothing with this text"));
    screen.on(&key(KeyCode::Backspace));
    press(&mut screen, "one\n");
    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("▾ a/") && text.contains("~ 100B one") && !text.contains("c\\n"), "{text}");
    assert!(text.contains("Only paths with"), "{text}");
    press(&mut screen, "\x1b");
    assert!(shown(&mut screen, &mut terminal).contains("c\\n"));
}

#[test]
fn waste_leads_to_the_file() {
    let (mut screen, mut terminal) = view(example(), 100, 24);

    press(&mut screen, "3\t");
    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("30B /a/one") && text.contains("20B /a/two"), "{text}");
    press(&mut screen, "v\n");
    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("- 20B two") && text.contains("/a/two"), "{text}");
    assert_eq!(screen.tab, Tab::Files);
}

#[test]
fn the_mouse_selects_layers_tabs_and_rows_and_folds_with_a_second_click() {
    let (mut screen, mut terminal) = view(example(), 100, 24);
    let text = picture(&mut screen, &mut terminal);

    let (column, row) = place(&text, "ADD rootfs.tar /");
    click(&mut screen, column, row);
    assert!(shown(&mut screen, &mut terminal).contains("Layer 1 of 2"));
    let (column, row) = place(&text, "▸ a/");
    click(&mut screen, column, row + 1);
    assert_eq!((screen.focus, screen.tree.at), (Pane::Tree, 1));
    click(&mut screen, column, row);
    click(&mut screen, column, row);
    assert!(shown(&mut screen, &mut terminal).contains("▾ a/"));
    let (column, row) = place(&text, "2 Changes");
    click(&mut screen, column, row);
    assert_eq!(screen.tab, Tab::Changes);
    let (column, row) = place(&text, "3 Waste");
    click(&mut screen, column, row);
    assert_eq!(screen.tab, Tab::Waste);
    click(&mut screen, 99, 23);
    click(&mut screen, 1000, 1000);
}

#[test]
fn the_wheel_scrolls_what_is_under_it_and_leaves_the_selection() {
    let files = (0..100).map(|n| file(&format!("f{n:02}"), 1)).collect();
    let (mut screen, mut terminal) = view(Image { stack: stack(vec![files]), ..one_layer() }, 100, 20);

    mouse(&mut screen, MouseEventKind::ScrollDown, 60, 5);
    let text = shown(&mut screen, &mut terminal);
    assert!(!text.contains("f00") && text.contains("f03"), "{text}");
    assert_eq!(screen.tree.at, 0);
    press(&mut screen, "\tv");
    assert!(shown(&mut screen, &mut terminal).contains("f01"), "keys bring the selection back");
    press(&mut screen, "G");
    assert!(shown(&mut screen, &mut terminal).contains("f99"));
    press(&mut screen, "g");
    assert!(shown(&mut screen, &mut terminal).contains("f00"));
    for _ in 0..200 {
        mouse(&mut screen, MouseEventKind::ScrollDown, 60, 5);
    }
    assert!(shown(&mut screen, &mut terminal).contains("f99"));
}

fn one_layer() -> Image {
    let image = example();
    Image { layers: image.layers[..1].to_vec(), ..image }
}

#[test]
fn names_cannot_write_to_the_terminal() {
    let hostile = "\u{1b}]0;title\u{7}\r\n\u{202e}x";
    let files = vec![directory("d"), file(&format!("d/{hostile}"), 1)];
    let mut image = Image { stack: stack(vec![files]), ..one_layer() };
    image.name = hostile.to_owned();
    image.layers[0].origin.created_by = Some(format!("RUN {hostile}"));
    let (mut screen, mut terminal) = view(image, 120, 30);

    press(&mut screen, "\tev");
    let text = shown(&mut screen, &mut terminal);

    assert!(text.contains("\\u{1b}]0;title\\u{7}\\r\\n\\u{202e}x"), "{text}");
    assert!(!text.chars().any(|letter| letter.is_control() && letter != '\n' || letter == '\u{202e}'), "{text:?}");
}

#[test]
fn every_size_can_be_drawn_and_clicked() {
    for (width, height) in [(1, 1), (5, 40), (20, 6), (40, 10), (79, 24), (80, 3), (80, 24), (250, 70)] {
        let (mut screen, mut terminal) = view(example(), width, height);
        press(&mut screen, "\t>vv2e3c1?\x1b/x\x1b\t\t");
        for column in 0..width {
            click(&mut screen, column, height / 2);
        }
        shown(&mut screen, &mut terminal);
        // And another one than was drawn.
        terminal.backend_mut().resize(height, width);
        shown(&mut screen, &mut terminal);
    }
}

#[test]
fn a_narrow_screen_has_layers_above_files() {
    let (mut screen, mut terminal) = view(example(), 60, 16);

    let text = shown(&mut screen, &mut terminal);

    assert!(place(&text, "RUN make").1 < place(&text, "▸ a/").1, "{text}");
    assert!(!text.contains("Details"), "{text}");
}

#[test]
fn colours_tell_changes_and_can_be_left_out() {
    let colours = |palette| {
        let mut terminal = Terminal::new(TestBackend::new(100, 24)).unwrap();
        let mut screen = Screen::new(example(), palette);
        press(&mut screen, "2");
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let cells = terminal.backend().buffer().content().to_vec();
        cells.into_iter().map(|cell| cell.fg).collect::<Vec<_>>()
    };

    let coloured = colours(Palette::Colours);
    for colour in [Color::Green, Color::Yellow, Color::Red] {
        assert!(coloured.contains(&colour), "{colour}");
    }
    assert!(colours(Palette::Plain).iter().all(|colour| *colour == Color::Reset));
}

#[test]
fn the_ends_are_told_apart() {
    let (mut screen, _terminal) = view(example(), 100, 24);

    assert_eq!(screen.on(&key(KeyCode::Char('q'))), Next::Leave);
    assert_eq!(screen.on(&control('c')), Next::Leave);
    assert_eq!(screen.on(&control('z')), Next::Suspend);
    press(&mut screen, "/");
    assert_eq!(screen.on(&key(KeyCode::Char('q'))), Next::Stay, "a letter of the search");
    assert_eq!(screen.on(&control('c')), Next::Leave);
    screen.on(&key(KeyCode::Esc));
    press(&mut screen, "?");
    assert_eq!(screen.on(&key(KeyCode::Char('q'))), Next::Leave);
}

#[test]
fn an_image_without_layers_can_be_looked_at() {
    let image = Image { layers: vec![], stack: stack(vec![]), ..example() };
    let (mut screen, mut terminal) = view(image, 100, 24);

    press(&mut screen, "\tv>]2\n3\n1ec");

    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("Nothing."), "{text}");
}

#[test]
fn a_removed_directory_shows_what_was_in_it() {
    let layers = vec![vec![directory("d"), file("d/gone", 7)], vec![removed("d")]];
    let (mut screen, mut terminal) = view(Image { stack: stack(layers), ..example() }, 100, 24);

    press(&mut screen, "\t>");

    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("- 7B ▾ d/") && text.contains("- 7B gone"), "{text}");
}

#[test]
fn what_is_selected_stays_in_sight_on_a_smaller_screen() {
    let files = (0..100).map(|n| file(&format!("f{n:02}"), 1)).collect();
    let (mut screen, mut terminal) = view(Image { stack: stack(vec![files]), ..one_layer() }, 100, 40);
    press(&mut screen, "\tvvvvvvvvvvvvvvvvvvvv");
    assert!(shown(&mut screen, &mut terminal).contains("f00"));

    terminal.backend_mut().resize(100, 16);

    let text = shown(&mut screen, &mut terminal);
    assert!(text.contains("1B f20") && !text.contains("1B f00"), "{text}");
}
