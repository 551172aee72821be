//! `sandbox`: a server that behaves as a real system does, for trying things out.

use crate::sandbox::{Options, Sandbox};

use super::args::{SandboxArgs, SandboxCommand, TwentyArgs};
use super::session::Session;
use super::{Exit, Failure, signals};

pub(super) async fn sandbox(session: &Session<'_>, args: SandboxArgs) -> Result<Exit, Failure> {
    match args.command {
        SandboxCommand::Twenty(args) => twenty(session, args).await,
    }
}

async fn twenty(session: &Session<'_>, args: TwentyArgs) -> Result<Exit, Failure> {
    let stop = signals::stop_on_signals(session.ui);
    let options = Options {
        port: args.port,
        data: args.data,
        calls_per_minute: args.calls_per_minute,
        calls_per_second: args.calls_per_second,
        ..Options::new(args.key)
    };
    let started = Sandbox::start(options);
    let sandbox =
        started.map_err(|message| Failure::new(message).hint("choose another --port or --data FILE"))?;
    session.ui.out(&format!("{}\n", sandbox.url()));
    session.ui.message("Serving a Twenty of its own. Interrupt to stop.\n");
    stop.cancelled().await;
    // Its thread is waited for, which nothing else should have to.
    let stopped = tokio::task::spawn_blocking(move || sandbox.stop()).await;
    stopped.map_err(|error| Failure::new(format!("the sandbox did not stop: {error}")))?;
    Ok(Exit::Ok)
}
