use proptest::prelude::*;
use serde_json::{Value, json};

use super::Template;

fn render(template: &str, value: &Value) -> Result<String, String> {
    template.parse::<Template>()?.render(value, &Value::Null)
}

fn container() -> Value {
    json!({
        "Id": "0123456789ab",
        "Name": "/web",
        "Args": ["-p", "80"],
        "Count": 7,
        "Share": 0.5,
        "Empty": null,
        "State": { "Status": "running", "Running": true, "ExitCode": 0 },
        "Config": { "Env": ["A=1", "B=2"], "Labels": { "team": "red" }, "Cmd": null, "Image": "debian:12" },
        "NetworkSettings": {
            "Networks": { "front": { "IPAddress": "10.0.0.2" }, "bridge": { "IPAddress": "172.17.0.2" } },
            "Ports": { "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8080" }], "53/udp": null },
        },
        "Mounts": [{ "Type": "volume", "Name": "data" }, { "Type": "bind", "Source": "/srv" }],
    })
}

#[test]
fn templates_say_what_go_says() {
    for (template, expected) in [
        ("plain", "plain"),
        ("{{.Id}}", "0123456789ab"),
        ("{{ .Id }}:{{.Count}} {{.Share}}", "0123456789ab:7 0.5"),
        (r"{{.Id}}\t{{.Count}}\n", "0123456789ab\t7\n"),
        ("{{$.State.Status}}", "running"),
        ("[{{.Empty}}]", "[]"),
        ("{{.Config.Cmd}} {{.Args}} {{.Config.Labels}}", "[] [-p 80] map[team:red]"),
        ("{{.Config.Labels.team}} {{.Config.Labels.none}}", "red <no value>"),
        (r#"{{index .Config.Labels "team"}}[{{index .Config.Labels "none"}}]"#, "red[]"),
        ("{{json .Config.Labels}} {{json .Name}} {{.Count | json}}", r#"{"team":"red"} "/web" 7"#),
        // What is asked of containers every day.
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", "172.17.0.2 10.0.0.2 "),
        (
            "{{range $name, $net := .NetworkSettings.Networks}}{{$name}}={{$net.IPAddress}};{{end}}",
            "bridge=172.17.0.2;front=10.0.0.2;",
        ),
        ("{{.NetworkSettings.Networks.bridge.IPAddress}}", "172.17.0.2"),
        (r#"{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}"#, "8080"),
        (
            r#"{{range $p, $to := .NetworkSettings.Ports}}{{$p}}{{range $to}}->{{.HostPort}}{{end}} {{end}}"#,
            "53/udp 80/tcp->8080 ",
        ),
        (r#"{{range .Config.Env}}{{println .}}{{end}}"#, "A=1\nB=2\n"),
        (r#"{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}}{{end}}{{end}}"#, "data"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        (r#"{{slice .Id 0 4}} {{slice .Name 1}} {{len .Args}} {{len .Name}}"#, "0123 web 2 4"),
        // Deciding.
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .State.ExitCode}}bad{{else if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if and .State.Running (gt .Count 5)}}yes{{end}}{{if or .Empty .Config.Cmd}}no{{end}}", "yes"),
        ("{{and 1 0 2}} {{or 0 \"x\"}} {{not .Empty}}", "0 x true"),
        (
            r#"{{eq .State.Status "exited" "running"}} {{ne .Count 7}} {{lt 1 2}} {{le 2 2}} {{ge 1 2}} {{lt "a" "b"}}"#,
            "true false true true false true",
        ),
        ("{{with .State}}{{.Status}}{{end}}{{with .Empty}}x{{else}}nothing{{end}}", "runningnothing"),
        ("{{with $s := .State.Status}}{{$s}}/{{$.Name}}{{end}}", "running//web"),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        ("{{range $i, $a := .Args}}{{if $i}},{{end}}{{$a}}{{end}}", "-p,80"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{range .Args}}{{if eq . \"80\"}}{{continue}}{{end}}{{.}}{{end}}|{{range .Args}}{{break}}{{end}}", "-p|"),
        ("{{$n := 0}}{{range .Args}}{{$n = len .}}{{end}}{{$n}}", "2"),
        ("{{$x := \"a\"}}{{if true}}{{$x := \"b\"}}{{$x}}{{end}}{{$x}}", "ba"),
        // Blanks and comments.
        ("a  {{- .Count -}}  b", "a7b"),
        ("a {{/* nothing */}}b{{- /* nor here */ -}} c", "a bc"),
        ("{{3 -}} x{{-3}}", "3x-3"),
        (r#"{{"}}"}}{{`a\n`}}{{"\u00e9\x41\n"}}{{'a'}}"#, "}}a\\n\u{e9}A\n97"),
        // Docker's functions.
        (r#"{{join .Args ", "}} {{.Args | join "/"}}"#, "-p, 80 -p/80"),
        (r#"{{lower "ABC"}} {{.State.Status | upper}} {{title "two words"}}"#, "abc RUNNING Two Words"),
        (r#"{{index (split .Config.Image ":") 1}}"#, "12"),
        (r#"[{{pad .Name 1 2}}][{{pad "" 1 2}}]{{truncate .Id 3}}"#, "[ /web  ][]012"),
        (r#"{{print "a" 1 2 "b"}} {{println 1 "a"}}"#, "a1 2b 1 a\n"),
        (r#"{{html "<a&b>"}} {{urlquery "a b/c"}}"#, "&lt;a&amp;b&gt; a+b%2Fc"),
        // Numbers.
        ("{{0x10}} {{0b11}} {{0o17}} {{1_000}} {{1.5e3}} {{-7}}", "16 3 15 1000 1500 -7"),
    ] {
        assert_eq!(render(template, &container()).as_deref(), Ok(expected), "{template}");
    }
    let all = render("{{json .}}", &container()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&all).unwrap(), container());
}

#[test]
fn printf_has_the_verbs_of_go() {
    for (template, expected) in [
        (r#"{{printf "%s-%d-%v" .Name .Count .State.Running}}"#, "/web-7-true"),
        (
            r#"{{printf "%5d|%-5d|%05d|%+d|%x|%X|%o|%b|%c|%U" 42 42 42 42 255 255 8 5 65 65}}"#,
            "   42|42   |00042|+42|ff|FF|10|101|A|U+0041",
        ),
        (r#"{{printf "%q %x %.2s %6s|%-6s|" "a\"b" "az" "abc" "r" "l"}}"#, r#""a\"b" 617a ab      r|l     |"#),
        (r#"{{printf "%.2f %e %t %%" 1.5 1500.0 true}}"#, "1.50 1.500000e+03 true %"),
        (r#"{{printf "%*d" 4 7}}"#, "   7"),
        (
            r#"{{printf "%d" "x"}} {{printf "%s" 1}} {{printf "%d"}} {{printf "x" 1}}"#,
            "%!d(string=x) %!s(int=1) %!d(MISSING) x%!(EXTRA int=1)",
        ),
        (r#"{{.Name | printf "%s:%s" "n"}}"#, "n:/web"),
        (r#"{{printf "%v %s" .Args .Args}}"#, "[-p 80] [-p 80]"),
    ] {
        assert_eq!(render(template, &container()).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (template, expected) in [
        ("{{.Id", "column 1: a {{ is never closed with }}"),
        ("ab{{}}", "column 3: there is nothing between {{ and }}"),
        ("{{jsn .}}", "column 3: there is no function \"jsn\"; did you mean json?"),
        ("{{ID}}", "there is no function \"ID\"; .ID would be a field"),
        ("{{if .Id}}x", "column 1: if has no end"),
        ("x{{end}}", "column 2: there is an end without"),
        ("{{else}}", "there is an else without"),
        ("{{if .Id}}a{{else}}b{{else}}c{{end}}", "if has an else already"),
        ("{{break}}", "there is a break outside of a range"),
        ("{{.Id .Name}}", ".Id takes no argument"),
        ("{{(.Id}}", "column 3: a ( is never closed"),
        ("{{.Id)}}", "there is a ) without a ("),
        ("{{.Id | .}}", "a pipe leads to a function"),
        ("{{.Id | }}", "a value or a function is missing"),
        ("{{$x}}", "there is no variable $x"),
        ("{{$x = 1}}", "there is no variable $x; := makes one"),
        ("{{$x, $y := .Args}}", "only range sets two variables"),
        ("{{if $x := 1}}{{end}}{{$x}}", "there is no variable $x"),
        ("{{\"x}}", "a \" is never closed"),
        ("{{/* x}}", "a comment is never closed"),
        ("{{template \"x\"}}", "template is not available"),
        ("{{.Id # 1}}", "'#' means nothing here"),
        ("a\nb{{.Nme}}", "line 2, column 4: there is no field .Nme; there are"),
        ("{{.Nme}}", "did you mean .Name?"),
        (
            "{{.State.Staus}}",
            "there is no field .State.Staus; there are ExitCode, Running, Status; did you mean .Status?",
        ),
        ("{{.Name.x}}", "there is no field .Name.x: .Name is a text"),
        ("{{.State.Health.Status}}", "there is no field .State.Health.Status: .State.Health is nothing"),
        ("{{index .Args 2}}", "there is no item 2 in a list of 2"),
        ("{{join .Name \",\"}}", "join needs a list, and this is a text"),
        ("{{join .Args}}", "join takes a list and the text between"),
        ("{{eq .Name 1}}", "a text cannot be compared with a number"),
        ("{{lt .State 1}}", "have no order"),
        ("{{slice .Id 5 2}}", "slice: 5 to 2 is not within 0 to 12"),
        ("{{len .Count}}", "have a length"),
        ("{{range .Name}}{{end}}", "range goes through lists and objects, and this is a text"),
        ("{{pad .Id 99999999 0}}", "pad makes too long a text"),
        ("{{printf \"%99999999d\" 1}}", "nothing is wider than"),
        ("{{range 99999999}}{{end}}", "range goes up to"),
        ("{{range 9999}}{{range 9999}}{{end}}{{end}}", "it takes more than 1000000 steps"),
        ("{{range 9999}}{{pad \"x\" 9999 0}}{{end}}", "the output is longer than 64 MiB"),
    ] {
        let error = render(template, &container()).expect_err(template);

        assert!(error.contains(expected), "{template}: {error}");
    }
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(10_000), close.repeat(10_000));
    for template in
        [deep("{{if 1}}", "{{end}}"), format!("{{{{{}}}}}", deep("(", ")")), "{{if 1}}{{else if 1}}".repeat(9999)]
    {
        let error = template.parse::<Template>().expect_err("it is too deep");

        assert!(error.contains("nested more than") || error.contains("else"), "{error}");
    }
}

#[test]
fn heads_of_columns_are_those_of_the_fields() {
    for (template, expected) in [
        ("{{.ID}}\t{{.Names}}", "CONTAINER ID\tNAMES"),
        ("{{json .ID}} {{.Names | upper}} {{join .Mounts \",\"}}", "CONTAINER ID NAMES MOUNTS"),
        ("{{printf \"%.5s\" .ID}} {{index .Mounts 0}}", "CONTAINER ID MOUNTS"),
        ("{{if .ID}}{{.ID}}{{else}}{{.Names}}{{end}}", "CONTAINER ID"),
        ("{{.Label \"com.example.the-team\"}}", "THE TEAM"),
    ] {
        let heads = json!({ "ID": "CONTAINER ID" });

        assert_eq!(template.parse::<Template>().unwrap().head(&heads).as_deref(), Ok(expected), "{template}");
    }
    let fields = "{{.B}}{{range .A}}{{.X}}{{end}}{{$.C}}".parse::<Template>().unwrap().fields();
    assert_eq!(fields, ["B", "A", "X", "C"]);
}

proptest! {
    #[test]
    fn no_template_ends_the_program(parts in prop::collection::vec(prop::sample::select(WORDS), 0..40)) {
        let _ = render(&parts.concat(), &container());
    }

    #[test]
    fn no_text_ends_the_program(text in "\\PC{0,60}") {
        let _ = render(&text, &container());
        let _ = render(&format!("{{{{{text}}}}}"), &container());
    }

    #[test]
    fn texts_without_braces_stay_as_they_are(text in "[^{\\\\]{0,60}") {
        prop_assert_eq!(render(&text, &container()), Ok(text));
    }
}

/// What templates are made of.
const WORDS: &[&str] = &[
    "{{",
    "}}",
    "{{-",
    " -}}",
    " ",
    "\n",
    ".",
    ".Name",
    ".State",
    ".Args",
    "$",
    "$x",
    ":=",
    "=",
    ",",
    "|",
    "(",
    ")",
    "if ",
    "range ",
    "with ",
    "else",
    "else if ",
    "end",
    "break",
    "continue",
    "{{end}}",
    "{{else}}",
    "{{range .Args}}",
    "index ",
    "printf ",
    "\"%d %*.3v\"",
    "slice ",
    "pad ",
    "eq ",
    "and ",
    "1",
    "-1",
    "1e309",
    "0x",
    "\"",
    "`",
    "'a'",
    "'",
    "\\",
    "é",
    "nil",
    "/*",
    "*/",
    "{{/* x */}}",
    "join ",
    "split ",
    "truncate ",
    "json ",
];
