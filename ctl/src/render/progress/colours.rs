//! Colours of the live view: BuildKit's, as `BUILDKIT_COLORS` changes them, and none with `NO_COLOR`.

/// The escape sequence of each kind of line. Empty: no colour.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Colours {
    /// Steps that ended well.
    pub run: String,
    /// Steps that were given up.
    pub cancel: String,
    /// Steps that failed.
    pub error: String,
    /// Warnings.
    pub warning: String,
    /// Output of steps.
    pub output: String,
}

/// What ends a colour.
pub const END: &str = "\x1b[0m";

impl Colours {
    /// Those of this process's environment.
    pub fn of_environment() -> Self {
        let value = |name: &str| std::env::var(name).unwrap_or_default();
        Self::of(&value("NO_COLOR"), &value("BUILDKIT_COLORS"))
    }

    /// Entries that cannot be read change nothing.
    fn of(no_color: &str, changes: &str) -> Self {
        if !no_color.is_empty() {
            return Self::default();
        }
        let mut colours = Self {
            run: named("blue").unwrap_or_default(),
            cancel: named("yellow").unwrap_or_default(),
            error: named("red").unwrap_or_default(),
            warning: named("yellow").unwrap_or_default(),
            output: "\x1b[2m".to_owned(),
        };
        for (kind, value) in changes.split(':').filter_map(|entry| entry.split_once('=')) {
            let value = value.trim_matches('"').to_lowercase();
            let Some(colour) = named(&value).or_else(|| mixed(&value)) else { continue };
            match kind.to_lowercase().as_str() {
                "run" => colours.run = colour,
                "cancel" => colours.cancel = colour,
                "error" => colours.error = colour,
                "warning" => colours.warning = colour,
                _ => {}
            }
        }
        colours
    }
}

fn named(name: &str) -> Option<String> {
    let (base, name) = name.strip_prefix("light-").map_or((30, name), |name| (90, name));
    let colours = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
    match colours.iter().position(|colour| *colour == name) {
        Some(at) => Some(format!("\x1b[{}m", base + at)),
        None => (name == "default" && base == 30).then(|| "\x1b[39m".to_owned()),
    }
}

/// "255,165,0", as the nearest of the 256 colours that terminals have.
fn mixed(text: &str) -> Option<String> {
    let parts: Vec<u32> =
        text.split(',').map(|part| part.trim().parse::<u8>().map(u32::from)).collect::<Result<_, _>>().ok()?;
    let [red, green, blue] = parts[..] else { return None };
    let level = |part: u32| part * 5 / 255;
    Some(format!("\x1b[38;5;{}m", 16 + 36 * level(red) + 6 * level(green) + level(blue)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_changed_by_name_or_by_mixture_and_mistakes_change_nothing() {
        let usual = Colours::of("", "");

        assert_eq!(usual.run, "\x1b[34m");
        let changed = Colours::of("", "run=green:error=255,165,0:warning=light-cyan:cancel=12,13:what=red:x");
        assert_eq!(changed.run, "\x1b[32m");
        assert_eq!(changed.error, "\x1b[38;5;214m");
        assert_eq!(changed.warning, "\x1b[96m");
        assert_eq!(changed.cancel, usual.cancel);
    }

    #[test]
    fn no_color_means_none() {
        assert_eq!(Colours::of("1", "run=green"), Colours::default());
    }
}
