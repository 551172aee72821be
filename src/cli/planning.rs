//! `plan` and `apply`.

use crate::controller::{Engine, PassOptions};
use crate::model::RecordId;
use crate::plan::json::stream;
use crate::plan::{Plan, ReportOptions, UNSAVED_NOTE, render, render_report};
use crate::reconcile::Report;
use crate::telemetry::{Event, Fan, Logged, Observer, WriteResult};

use super::args::{ApplyArgs, PlanArgs};
use super::ask::{Answer, Question, approve};
use super::output::{Ui, now};
use super::session::{Session, pass_options};
use super::{Exit, Failure, planfile, signals};

/// `plan`
pub(super) async fn plan(session: &Session<'_>, args: &PlanArgs) -> Result<Exit, Failure> {
    let engine = session.open().await?;
    let options = pass_options(engine.spec(), &args.pass)?;
    let options = PassOptions { only_look: args.out.is_none(), ..options };
    start_stream(session.ui);
    let plan = make(session, &engine, &options).await?;
    if let Some(path) = &args.out {
        planfile::save(&plan, path)?;
    }
    show(session, &engine, &plan);
    match &args.out {
        Some(path) => {
            let path = path.display();
            session.ui.advice(&format!(
                "\nSaved the plan to: {path}\n\nTo perform exactly these actions, run the following command to apply:\n    \
                 trueup apply \"{path}\"\n"
            ));
        }
        None if plan.has_actions() => session.ui.advice(&format!("\n{UNSAVED_NOTE}")),
        None => {}
    }
    Ok(match (is_whole(&plan), args.detailed_exitcode && plan.has_actions()) {
        (false, _) => Exit::Incomplete,
        (true, true) => Exit::Changes,
        (true, false) => Exit::Ok,
    })
}

/// Whether the plan is about everything: no guard refuses an entity, and every store could be read.
fn is_whole(plan: &Plan) -> bool {
    plan.guards.is_empty() && plan.unreadable().is_empty()
}

/// `apply`
pub(super) async fn apply(session: &Session<'_>, args: &ApplyArgs) -> Result<Exit, Failure> {
    let saved = args.plan.as_deref().map(planfile::read).transpose()?;
    let engine = session.open().await?;
    let options = pass_options(engine.spec(), &args.pass)?;
    start_stream(session.ui);
    if let Some((header, plan)) = saved {
        if header.spec_sha != engine.spec().sha {
            return Err(Failure::new("the plan was made under other manifests than those there now; nothing was written")
                .hint("make the plan again with `trueup plan --out FILE`, or go back to the manifests it was made under"));
        }
        return carry_out(session, &engine, plan, true, &options).await;
    }
    let plan = make(session, &engine, &options).await?;
    show(session, &engine, &plan);
    if !plan.has_actions() {
        return remember(session, &engine, plan, &options).await;
    }
    let question = Question {
        what: "Do you want to perform these actions?",
        explanation: "trueup will perform the actions described above.",
        refused: "Apply cancelled.",
        unasked: "give --auto-approve, or save a plan with `trueup plan --out FILE` and apply that",
    };
    match approve(session.ui, args.approval.auto_approve, question).await? {
        Answer::Stop(exit) => Ok(exit),
        Answer::Go { asked } => {
            session.ui.advice("\n");
            carry_out(session, &engine, plan, asked, &options).await
        }
    }
}

/// Makes a plan.
pub(crate) async fn make(
    session: &Session<'_>,
    engine: &Engine,
    options: &PassOptions,
) -> Result<Plan, Failure> {
    let progress = session.progress();
    let observer = Fan(vec![&progress, &Logged]);
    Ok(engine.plan(options, &observer).await?)
}

/// Shows a plan.
pub(crate) fn show(session: &Session<'_>, engine: &Engine, plan: &Plan) {
    if session.ui.json {
        for message in &stream::plan(plan, now()) {
            session.ui.json_line(message);
        }
    } else {
        session.ui.out(&render(plan, &session.ui.render_options(Some(engine.spec()))));
    }
}

/// Applies a plan without writes: what it settles and takes note of needs nobody's approval.
async fn remember(
    session: &Session<'_>,
    engine: &Engine,
    plan: Plan,
    options: &PassOptions,
) -> Result<Exit, Failure> {
    if plan.is_empty() {
        let exit = if is_whole(&plan) { Exit::Ok } else { Exit::Incomplete };
        session.ui.advice("\n");
        let report = Report {
            books: plan.books.clone(),
            unreadable: plan.unreadable(),
            conflicts_waiting: plan.open_conflicts.values().sum(),
            ..Report::default()
        };
        engine.note_standing(&plan, &report, options).await?;
        say_report(session, &report, !plan.guards.is_empty(), exit);
        return Ok(exit);
    }
    session.ui.advice("\n");
    carry_out(session, engine, plan, false, options).await
}

/// Applies a plan and says what came of it.
pub(crate) async fn carry_out(
    session: &Session<'_>,
    engine: &Engine,
    plan: Plan,
    recheck: bool,
    options: &PassOptions,
) -> Result<Exit, Failure> {
    let stop = signals::stop_on_signals(session.ui);
    // Guards that refused an entity were shown with the plan; the report repeats only those that came up since.
    let shown = plan.guards.clone();
    let result = {
        let progress = session.progress();
        let stream = Stream { ui: session.ui };
        let observer = Fan(vec![&progress, &Logged, &stream]);
        engine.apply(plan, recheck, options, &observer, &stop).await
    };
    let mut report = result?;
    let refused = !report.guards.is_empty() || !shown.is_empty();
    report.guards.retain(|trip| !shown.contains(trip));
    let exit = if report.is_clean() && !refused { Exit::Ok } else { Exit::Incomplete };
    say_report(session, &report, refused, exit);
    Ok(exit)
}

fn say_report(session: &Session<'_>, report: &Report, refused: bool, exit: Exit) {
    if session.ui.json {
        for message in &stream::report(report, now()) {
            session.ui.json_line(message);
        }
        return;
    }
    let options = ReportOptions { refused, ..session.ui.report_options() };
    session.ui.out(&render_report(report, &options));
    if exit != Exit::Ok && !report.is_clean() {
        session.ui.advice("\nRun `trueup plan` to see what is left.\n");
    }
}

/// The first message of a JSON stream.
pub(crate) fn start_stream(ui: &Ui) {
    if ui.json {
        ui.json_line(&stream::version(env!("CARGO_PKG_VERSION"), now()));
    }
}

/// Writes go into the JSON stream as they happen.
struct Stream<'a> {
    ui: &'a Ui,
}

impl Observer for Stream<'_> {
    fn notice(&self, event: &Event<'_>) {
        if !self.ui.json {
            return;
        }
        match event {
            Event::WriteStarted { store, entity, writes } => {
                self.ui.json_line(&stream::apply_start(store, entity, *writes, now()));
            }
            Event::Wrote { store, entity, key, kind, result: WriteResult::Applied } => {
                let record = RecordId { entity: (*entity).clone(), key: (*key).clone() };
                self.ui.json_line(&stream::apply_complete(store, &record, *kind, now()));
            }
            _ => {}
        }
    }
}
