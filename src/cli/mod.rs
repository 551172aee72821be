//! The command line: arguments in, pages and exit codes out. The rest of the library knows of no terminal.

mod args;
mod argv;
mod ask;
mod check;
mod conflicts;
mod deleted;
mod demo;
mod draft;
mod explain;
mod identity;
pub mod load;
mod manifests;
mod migrate;
mod output;
mod pausing;
mod planfile;
mod planning;
mod progress;
mod prompt;
mod sandbox;
mod service;
mod session;
mod signals;
mod status;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::controller::EngineError;

use args::{Arguments, Command, DemoArgs};
use output::Ui;
use session::Session;

/// How a command ended, apart from errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// As asked.
    Ok,
    /// Not everything could be done; what was not has been said.
    Incomplete,
    /// `plan --detailed-exitcode` found something to do.
    Changes,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Ok => Self::SUCCESS,
            Exit::Incomplete => Self::FAILURE,
            Exit::Changes => Self::from(2),
        }
    }
}

/// Why a command could not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// The same with a hint.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self { message: error.message, hint: error.hint }
    }
}

/// Reads the process's arguments and environment, runs the command and gives the exit code.
pub fn main() -> ExitCode {
    let arguments = match arguments(std::env::args_os().collect(), |name| std::env::var(name).ok()) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let ui = Ui::of_process(&arguments.shared);
    match run(&ui, arguments) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            ui.failure(&failure);
            ExitCode::FAILURE
        }
    }
}

/// The arguments as clap understands them, with single-dash spellings and the environment's additions taken in.
fn arguments(argv: Vec<OsString>, env: impl Fn(&str) -> Option<String>) -> Result<Arguments, ExitCode> {
    let command = Arguments::command();
    let argv = match argv::prepare(argv, &command, env) {
        Ok(argv) => argv,
        Err(message) => {
            output::plain_failure(&Failure::new(message));
            return Err(ExitCode::FAILURE);
        }
    };
    let parsed = command.try_get_matches_from(argv).and_then(|matches| Arguments::from_arg_matches(&matches));
    parsed.map_err(|error| {
        // Help and version are results, everything else is an error; a closed pipe is neither.
        let _ = error.print();
        if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    })
}

fn run(ui: &Ui, arguments: Arguments) -> Result<Exit, Failure> {
    if let Some(folder) = &arguments.shared.chdir {
        std::env::set_current_dir(folder)
            .map_err(|error| Failure::new(format!("cannot work in {}: {error}", folder.display())))?;
    }
    let default_level = if matches!(
        &arguments.command,
        Command::Run(_) | Command::Sandbox(_) | Command::Demo(DemoArgs { serve: true, .. })
    ) {
        "info"
    } else {
        "off"
    };
    ui.start_logging(default_level).map_err(Failure::new)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    let session = Session { ui, shared: &arguments.shared };
    let result = runtime.block_on(dispatch(&session, arguments.command));
    // A blocking read of the terminal must not keep the process alive.
    runtime.shutdown_background();
    crate::telemetry::flush();
    result
}

async fn dispatch(session: &Session<'_>, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Validate(args) => check::validate(session, &args),
        Command::Draft(args) => draft::draft(session, &args).await,
        Command::Plan(args) => planning::plan(session, &args).await,
        Command::Apply(args) => Box::pin(planning::apply(session, &args)).await,
        Command::Show(args) => planfile::show(session, &args),
        Command::Migrate(args) => migrate::migrate(session, &args).await,
        Command::Status => status::status(session).await,
        Command::Explain(args) => explain::explain(session, &args).await,
        Command::Conflicts(args) => Box::pin(conflicts::conflicts(session, &args)).await,
        Command::Deleted(args) => Box::pin(deleted::deleted(session, &args)).await,
        Command::Prompt(args) => prompt::prompt(session, &args).await,
        Command::Identity(args) => identity::identity(session, &args).await,
        Command::Run(args) => service::run(session, &args).await,
        Command::Pause(args) => pausing::pause(session, &args).await,
        Command::Resume(args) => pausing::resume(session, &args).await,
        Command::Approve(args) => pausing::approve(session, &args).await,
        Command::Errors => pausing::errors(session).await,
        Command::Schema(args) => check::schema(session, &args),
        Command::Demo(args) => Box::pin(demo::demo(session, &args)).await,
        Command::Sandbox(args) => sandbox::sandbox(session, args).await,
        Command::Completion(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Arguments::command(), "trueup", &mut script);
            let script = String::from_utf8_lossy(&script);
            if session.ui.json {
                session.ui.json_page(&serde_json::json!({"format_version": "1.0", "script": script}));
            } else {
                session.ui.out(&script);
            }
            Ok(Exit::Ok)
        }
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            if session.ui.json {
                let page = serde_json::json!({"format_version": "1.0", "trueup_version": version});
                session.ui.json_page(&page);
            } else {
                session.ui.out(&format!("trueup {version}\n"));
            }
            Ok(Exit::Ok)
        }
    }
}

#[cfg(test)]
mod tests;
