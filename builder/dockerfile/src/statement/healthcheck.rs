//! `HEALTHCHECK`: a probe with its times, or none.

use super::{Result, Scope, command, usage};
use crate::ast::{CommandForm, Flag, Healthcheck, ProbeCommand};
use crate::diagnostic::Diagnostic;
use crate::flag::Flags;
use crate::{meta, suggest};

pub(super) fn healthcheck(scope: &Scope<'_>, flags: &Flags) -> Result<Healthcheck> {
    let rest = scope.rest();
    if rest.is_empty() {
        return Err(scope.error_at_name("HEALTHCHECK requires CMD or NONE").with_suggestion(usage("HEALTHCHECK")));
    }
    let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (form, after) = rest.split_at(length);
    let command_start = scope.line.text.len() - after.trim_start().len();
    if form.eq_ignore_ascii_case("none") {
        return match after.trim().is_empty() {
            true => Ok(Healthcheck::None),
            false => Err(scope.error(command_start, scope.line.text.len(), "HEALTHCHECK NONE takes no arguments")),
        };
    }
    if !form.eq_ignore_ascii_case("cmd") {
        let message = format!("HEALTHCHECK requires CMD or NONE, not {form:?}");
        let error = scope.error(scope.args, scope.args + length, message);
        return Err(match suggest::nearest(form, ["CMD", "NONE"]) {
            None => error.with_suggestion(usage("HEALTHCHECK")),
            near => error.did_you_mean(near),
        });
    }
    let missing = || {
        let error = scope.error(scope.args, scope.args + length, "HEALTHCHECK CMD requires a command");
        error.with_suggestion(usage("HEALTHCHECK"))
    };
    let command = command(scope, command_start)?.ok_or_else(missing)?;
    if matches!(&command, CommandForm::Exec(words) if words.is_empty()) {
        return Err(missing());
    }
    let interval = |name| parsed(scope, flags.text(name), meta::parse_interval);
    Ok(Healthcheck::Probe(Box::new(ProbeCommand {
        command,
        interval: interval("interval")?,
        timeout: interval("timeout")?,
        start_period: interval("start-period")?,
        start_interval: interval("start-interval")?,
        retries: parsed(scope, flags.text("retries"), meta::parse_retries)?,
    })))
}

fn parsed<T>(
    scope: &Scope<'_>,
    flag: Option<Flag<String>>,
    parse: fn(&str) -> std::result::Result<T, meta::MetaError>,
) -> Result<Option<Flag<T>>> {
    let Some(Flag { value, span, value_span }) = flag.filter(|flag| !flag.value.is_empty()) else { return Ok(None) };
    let value = parse(&value).map_err(|error| Diagnostic::at(scope.source, value_span, error.to_string()))?;
    Ok(Some(Flag { value, span, value_span }))
}
