//! Asking a person for approval.

use std::io::BufRead;

use super::output::Ui;
use super::{Exit, Failure};

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Go on. `asked` says whether time has passed over the question.
    Go {
        /// Whether a person was asked.
        asked: bool,
    },
    /// Stop; it has been said.
    Stop(Exit),
}

/// What a person is asked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Question<'a> {
    /// What is to be approved.
    pub what: &'a str,
    /// What comes of a yes.
    pub explanation: &'a str,
    /// What is said after anything else.
    pub refused: &'a str,
    /// What to do where nobody can be asked.
    pub unasked: &'a str,
}

/// Asks unless approval was given beforehand.
///
/// # Errors
/// When it would have to ask and may not.
pub(crate) async fn approve(ui: &Ui, auto_approve: bool, asked: Question<'_>) -> Result<Answer, Failure> {
    if auto_approve {
        return Ok(Answer::Go { asked: false });
    }
    if !ui.input || ui.json {
        let why = if ui.json {
            "with --json nobody can be asked for approval"
        } else {
            "approval is needed, and there is no terminal to ask on (or --input=false)"
        };
        return Err(Failure::new(why).hint(asked.unasked));
    }
    ui.out(&prompt(asked.what, asked.explanation));
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let line = line.await.ok().and_then(Result::ok).unwrap_or_default();
    ui.out("\n");
    if is_yes(&line) {
        return Ok(Answer::Go { asked: true });
    }
    ui.out(&format!("{}\n", asked.refused));
    Ok(Answer::Stop(Exit::Incomplete))
}

fn prompt(question: &str, explanation: &str) -> String {
    format!("\n{question}\n  {explanation}\n  Only 'yes' will be accepted to approve.\n\n  Enter a value: ")
}

/// Only `yes` is yes.
fn is_yes(line: &str) -> bool {
    line.trim_end_matches(['\n', '\r']) == "yes"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for (line, yes) in [
            ("yes\n", true),
            ("yes", true),
            ("yes\r\n", true),
            ("y\n", false),
            ("Yes\n", false),
            (" yes\n", false),
            ("", false),
            ("yes please\n", false),
        ] {
            assert_eq!(is_yes(line), yes, "{line:?}");
        }
    }

    fn ui(input: bool, json: bool) -> Ui {
        Ui {
            color: false,
            error_color: false,
            json,
            verbose: false,
            input,
            automation: false,
            progress: false,
        }
    }

    #[tokio::test]
    async fn approval_given_beforehand_is_not_asked_for() {
        assert_eq!(
            approve(&ui(false, false), true, Question::default()).await,
            Ok(Answer::Go { asked: false })
        );
    }

    #[tokio::test]
    async fn where_nobody_can_be_asked_it_fails_and_says_what_to_do() {
        for ui in [ui(false, false), ui(true, true)] {
            let question = Question { unasked: "give --auto-approve", ..Question::default() };
            let failure = approve(&ui, false, question).await.unwrap_err();
            assert_eq!(failure.hint.unwrap(), "give --auto-approve");
        }
    }
}
