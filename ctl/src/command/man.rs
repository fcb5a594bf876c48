//! `ctl man`: manual pages of all commands, and of the configuration files.

use std::fs;
use std::path::Path;

use clap::CommandFactory;

use crate::args::{Cli, Man};
use crate::command::config;
use crate::error::{Error, Result};
use crate::settings::VARIABLES;

/// Writes the pages below `man1` and `man5` of a directory.
pub fn run(args: &Man) -> Result<u8> {
    write(&args.directory)
        .map_err(|error| Error::new(format!("cannot write pages to {}: {error}", args.directory.display())))?;
    Ok(0)
}

fn write(directory: &Path) -> std::io::Result<()> {
    let (commands, files) = (directory.join("man1"), directory.join("man5"));
    fs::create_dir_all(&commands)?;
    fs::create_dir_all(&files)?;
    clap_mangen::generate_to(Cli::command(), &commands)?;
    fs::write(files.join("strata.toml.5"), settings())
}

/// strata.toml(5).
fn settings() -> String {
    let mut page = format!(".TH strata.toml 5 \"\" \"strata {}\"\n", env!("CARGO_PKG_VERSION"));
    page.push_str(".SH NAME\nstrata.toml, store.toml, builder.toml, runtime.toml \\- settings of Strata\n");
    page.push_str(".SH DESCRIPTION\n");
    page.push_str(
        "Every setting has a default, and no file is needed. Services read NAME.toml in /etc/strata, in strata below \
         $XDG_CONFIG_HOME where they are an ordinary user's, or in etc below $STRATA_ROOT; all of them and\n.BR ctl (1)\n\
         read strata.toml there. Keys that are not known are refused.\n.PP\n`ctl config show` prints what holds on a host, \
         and where it is from; `ctl config show --defaults` prints what follows.\n",
    );
    for file in ["strata", "store", "builder", "runtime"] {
        page.push_str(&format!(".SH \"{}.TOML\"\n.nf\n", file.to_uppercase()));
        for line in config::defaults(file).lines().skip(1) {
            page.push_str(&escaped(line));
            page.push('\n');
        }
        page.push_str(".fi\n");
    }
    page.push_str(".SH ENVIRONMENT\n");
    for variable in VARIABLES {
        let default =
            if variable.default.is_empty() { String::new() } else { format!(" (default: {})", variable.default) };
        let what = escaped(&format!("{}{default}", variable.what));
        page.push_str(&format!(".TP\n.B {}\n{what}\n", escaped(variable.name)));
    }
    page.push_str(".SH SEE ALSO\n.BR ctl (1)\n");
    page
}

/// A line of text that roff takes for text.
fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-");
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_each_command_and_one_for_the_files() {
        let directory = tempfile::tempdir().unwrap();

        write(directory.path()).unwrap();

        for (page, text) in [
            ("man1/ctl.1", ".TH"),
            ("man1/ctl-run.1", "publish"),
            ("man1/ctl-network-create.1", "subnet"),
            ("man5/strata.toml.5", "garbage_grace_seconds = 60"),
            ("man5/strata.toml.5", "STRATA_CONTEXT"),
        ] {
            let found =
                fs::read_to_string(directory.path().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
            assert!(found.contains(text), "{page}: {text}");
        }
    }

    #[test]
    fn no_line_of_text_is_a_request_to_roff() {
        assert_eq!(escaped(".x \\n -y"), "\\&.x \\en \\-y");
        assert_eq!(escaped("x"), "x");
    }
}
