//! Ctrl-C and the request to terminate: once to stop after the batch in flight, twice to stop at once.

use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use super::output::Ui;

/// The exit code of a process that was interrupted, as shells have it.
const INTERRUPTED: i32 = 130;

/// Of the whole process: whoever asks for it first begins to listen.
static STOP: OnceLock<CancellationToken> = OnceLock::new();

/// A token that is cancelled by the first signal. The second one ends the process: what was in flight is found out about by the
/// next pass, from the journal.
pub(crate) fn stop_on_signals(ui: &Ui) -> CancellationToken {
    let listen = || {
        let stop = CancellationToken::new();
        let (token, ui) = (stop.clone(), ui.clone());
        tokio::spawn(async move {
            signal().await;
            ui.message("\nStopping after the batch in flight. Interrupt again to stop at once.\n");
            token.cancel();
            signal().await;
            ui.message("\nStopped at once; the next pass finds out what became of the batch in flight.\n");
            std::process::exit(INTERRUPTED);
        });
        stop
    };
    STOP.get_or_init(listen).clone()
}

/// The request to read the manifests again.
pub(crate) struct HangUp {
    #[cfg(unix)]
    signals: Option<tokio::signal::unix::Signal>,
}

impl HangUp {
    /// Listens from now on. Without it the process would end on such a request.
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(unix)]
            signals: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok(),
        }
    }

    /// Waits for the next one.
    pub(crate) async fn wait(&mut self) {
        #[cfg(unix)]
        if let Some(signals) = &mut self.signals {
            signals.recv().await;
            return;
        }
        std::future::pending::<()>().await;
    }
}

/// Waits for a signal to stop.
#[cfg(unix)]
async fn signal() {
    let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    let Ok(mut terminate) = terminate else {
        return interrupt().await;
    };
    tokio::select! {
        () = interrupt() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
async fn signal() {
    interrupt().await;
}

async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without signals nothing stops the work but its end.
        std::future::pending::<()>().await;
    }
}
