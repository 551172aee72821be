//! Where text goes: results to standard output, everything else to standard error. The only place that writes to either.

use std::io::{self, IsTerminal, Write};

use crate::model::Timestamp;
use crate::plan::json::stream;
use crate::plan::{Rates, RenderOptions, ReportOptions, clean_json};
use crate::spec::Spec;
use crate::telemetry::{LogStyle, init_logging};

use super::Failure;
use super::args::Shared;

/// The terminal, or what stands in its place.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // Independent yes-or-no settings.
pub(crate) struct Ui {
    /// Whether results are coloured.
    pub color: bool,
    /// Whether messages are coloured.
    pub error_color: bool,
    /// Whether results are JSON.
    pub json: bool,
    /// Whether everything is listed.
    pub verbose: bool,
    /// Whether a person may be asked.
    pub input: bool,
    /// Whether nobody reads the advice on what to do next.
    pub automation: bool,
    /// Whether progress may be drawn.
    pub progress: bool,
}

impl Ui {
    /// What the process has, the environment says and the options ask for.
    pub(crate) fn of_process(shared: &Shared) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colorful = !shared.no_color && !set("NO_COLOR") && !dumb;
        let automation = set("TRUEUP_IN_AUTOMATION");
        Self {
            color: colorful && !shared.json && io::stdout().is_terminal(),
            error_color: colorful && io::stderr().is_terminal(),
            json: shared.json,
            verbose: shared.verbose,
            input: shared.input && io::stdin().is_terminal(),
            automation,
            progress: !shared.json && !automation && !dumb && io::stderr().is_terminal(),
        }
    }

    /// Starts log lines at the level that `TRUEUP_LOG` says.
    pub(crate) fn start_logging(&self, default: &str) -> Result<(), String> {
        let filter = std::env::var("TRUEUP_LOG").ok();
        init_logging(filter.as_deref(), default, LogStyle::of_stderr(), self.error_color)
    }

    /// Writes a result.
    #[allow(clippy::unused_self)] // The terminal is where results go.
    pub(crate) fn out(&self, text: &str) {
        write_all(&mut io::stdout().lock(), text);
    }

    /// Writes a result as one line of JSON.
    pub(crate) fn json_line(&self, value: &serde_json::Value) {
        self.out(&clean_json(&format!("{value}\n")));
    }

    /// Writes a result as JSON for reading.
    pub(crate) fn json_page(&self, value: &serde_json::Value) {
        self.out(&clean_json(&format!("{value:#}\n")));
    }

    /// Writes a message.
    #[allow(clippy::unused_self)] // The terminal is where messages go.
    pub(crate) fn message(&self, text: &str) {
        write_all(&mut io::stderr().lock(), text);
    }

    /// Advice on what to do next, where someone reads it.
    pub(crate) fn advice(&self, text: &str) {
        if !self.automation && !self.json {
            self.out(text);
        }
    }

    /// Says why the command could not do its work.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.json {
            self.json_line(&stream::error(&failure.message, failure.hint.as_deref(), now()));
            return;
        }
        let word = if self.error_color { "\u{1b}[1;31mError:\u{1b}[0m" } else { "Error:" };
        self.message(&failure_text(word, failure));
    }

    /// How plans are laid out here.
    pub(crate) fn render_options(&self, spec: Option<&Spec>) -> RenderOptions {
        RenderOptions {
            color: self.color,
            verbose: self.verbose,
            rates: spec.map(Rates::of).unwrap_or_default(),
        }
    }

    /// How reports are laid out here.
    pub(crate) fn report_options(&self) -> ReportOptions {
        ReportOptions { color: self.color, verbose: self.verbose, refused: false }
    }
}

fn failure_text(word: &str, failure: &Failure) -> String {
    let hint = failure.hint.as_ref().map_or(String::new(), |hint| format!("\n  hint: {hint}\n"));
    format!("{word} {}\n{hint}", failure.message)
}

/// Says why a command could not even begin.
pub(super) fn plain_failure(failure: &Failure) {
    write_all(&mut io::stderr().lock(), &failure_text("Error:", failure));
}

/// Writes what can be written: a reader that has gone away (`| head`) is no error of ours, and there is nobody left to tell.
fn write_all(stream: &mut dyn Write, text: &str) {
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}

/// The present. The stages above take it as a value.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let micros = i64::try_from(since.as_micros()).ok().and_then(Timestamp::from_micros);
    micros.expect("the clock shows a year below 10000")
}
