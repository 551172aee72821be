//! `demo`: a folder with three stores that disagree, brought to agree by the same code that other folders get.
//!
//! The manifests, the stores and what happens to them are files under `examples/demo`, for people to read; this module
//! only puts them into place and goes through the commands that somebody would give by hand.

mod crm;
mod folder;
mod place;
mod warehouse;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::controller::{Engine, PassOptions};
use crate::plan::{clean, meeting_lines};
use crate::spec::Spec;
use crate::telemetry::Logged;

use super::args::{DemoArgs, RunArgs, Shared, WorkArgs};
use super::ask::{Answer, Question, approve};
use super::planning;
use super::session::Session;
use super::{Exit, Failure, service, signals};

use crm::Crm;
use folder::Moment;
use warehouse::Warehouse;

/// What happens to the stores, as `examples/demo/later` does it; the reader meets the same records in the plan.
const STORY: &str = "\
Since then three applications have gone on with their work, each in its own database and without trueup:

  contacts 1001   edited in app
  contacts 1002   one field edited in app, another in local: both stay
  contacts 1003   one field edited in app and local; local raised the version further
  contacts 1004   one field edited in app and local; app did it half an hour later
  contacts 1005   one field edited in app and local; nothing says which is newer
  contacts 1007   deleted in local, with nobody else's edits in the way
  contacts 1008   deleted in app, edited in local
  contacts 1009   set to a category in app that there is not
  contacts 1010   different parts of one JSON value edited in app and local
  contacts 1011   a sensitive field edited in warehouse
  contacts 1021   new in app, with an e-mail address and a job
  and beside them a phone number (I1012-2), a new job (1013, B004) and a website (B002)
";

/// What happens in the CRM besides, as `examples/demo/twenty/later.json` does it.
const STORY_OF_THE_CRM: &str = "\
  and in the CRM:
  contacts 1016   one field edited
  contacts 1019   another e-mail address
  and somebody new, whom nobody gave an id
";

/// How often an application edits its store while the demo is served.
const EDIT_EVERY: std::time::Duration = std::time::Duration::from_secs(2);

/// Where there is a CRM, one edit of this many is one in it.
const EVERY_SO_MANY: usize = 4;

/// Writes the example and goes through it.
pub(super) async fn demo(session: &Session<'_>, args: &DemoArgs) -> Result<Exit, Failure> {
    if session.ui.json {
        return Err(Failure::new("the demo is for people and has no JSON")
            .hint("leave out --json, and give it to `trueup plan --json` in the folder"));
    }
    folder::write(&args.dir)?;
    // As `trueup -f DIR/manifests` would; the folder given for other commands is not the demo's.
    let shared = Shared { manifests: args.dir.join(folder::MANIFESTS), ..session.shared.clone() };
    let session = &Session { ui: session.ui, shared: &shared };
    let warehouse = args.bigquery.as_deref().map(|url| Warehouse::at(&args.dir, url)).transpose()?;
    if let Some(warehouse) = &warehouse {
        warehouse.run(Moment::First).await?;
    }
    let crm = args.twenty.then(|| Crm::start(&args.dir)).transpose()?;
    let spec = session.load()?;
    let engine = Engine::open(spec, true).await?;
    agree(session, &engine, &args.dir, crm.as_ref()).await?;
    for store in engine.spec().stores.keys() {
        match (&warehouse, &crm) {
            (Some(warehouse), _) if store.as_str() == warehouse::NAME => warehouse.run(Moment::Later).await?,
            (_, Some(crm)) if store.as_str() == crm::NAME => crm.run(Moment::Later)?,
            _ => folder::run(&args.dir, store.as_str(), Moment::Later)?,
        }
    }
    session.ui.out(&format!("\n{STORY}{}\n", if crm.is_some() { STORY_OF_THE_CRM } else { "" }));
    let exit = repair(session, &engine, args, crm.as_ref()).await?;
    if exit == Exit::Ok {
        session.ui.out("\nThe same again, to see that nothing is left:\n\n");
        let plan = planning::make(session, &engine, &PassOptions::default()).await?;
        planning::show(session, &engine, &plan);
        if plan.has_actions() || !plan.guards.is_empty() {
            return Ok(Exit::Incomplete);
        }
        let conflict = engine.conflicts(false).await?.into_iter().next();
        if args.serve {
            drop(engine);
            return Box::pin(go_on(session, args, crm)).await;
        }
        let conflict = conflict.map(|conflict| conflict.id.to_string());
        session.ui.out(&next_steps(&args.dir, conflict.as_deref(), crm.as_ref()));
    }
    Ok(exit)
}

/// Keeps the stores in agreement while their applications go on editing them.
async fn go_on(session: &Session<'_>, args: &DemoArgs, crm: Option<Crm>) -> Result<Exit, Failure> {
    session.ui.out(
        "\nFrom now on an application edits its store every two seconds, until you interrupt. A page for people is served \
         (any name; the password is demo).\n\n",
    );
    let stop = signals::stop_on_signals(session.ui);
    let (dir, stopped) = (args.dir.clone(), stop.clone());
    let crm = crm.map(Arc::new);
    let edited = crm.clone();
    let edits = tokio::spawn(async move {
        for number in 0.. {
            tokio::select! {
                () = tokio::time::sleep(EDIT_EVERY) => {}
                () = stopped.cancelled() => return,
            }
            let (dir, crm) = (dir.clone(), edited.clone());
            let edit = move || match &crm {
                // One edit in so many is one in the CRM.
                Some(crm) if number % EVERY_SO_MANY == 0 => crm.edit(number / EVERY_SO_MANY),
                _ => folder::edit(&dir, number),
            };
            match tokio::task::spawn_blocking(edit).await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => tracing::warn!("an edit failed: {}", failure.message),
                Err(_) => return,
            }
        }
    });
    let run = RunArgs {
        interval: None,
        once: false,
        dry_run: false,
        listen: args.listen,
        work: WorkArgs::default(),
    };
    let exit = service::serve(session, &run, &stop).await;
    stop.cancel();
    // It ends by itself.
    let _ = edits.await;
    // Its thread is waited for, which nothing else should have to.
    let _ = tokio::task::spawn_blocking(move || drop(crm)).await;
    exit
}

/// The beginning: the stores get the columns that they lack, and the first pass brings them to agree and remembers it.
async fn agree(session: &Session<'_>, engine: &Engine, dir: &Path, crm: Option<&Crm>) -> Result<(), Failure> {
    let migration = engine.migration().await?;
    let added: usize = migration.values().map(Vec::len).sum();
    engine.migrate(&migration).await?;
    let options = PassOptions::default();
    let plan = engine.plan(&options, &Logged).await?;
    let met = meeting_lines(&plan);
    let report = engine.apply(plan, false, &options, &Logged, &CancellationToken::new()).await?;
    if !report.is_clean() || !report.guards.is_empty() {
        return Err(Failure::new(format!("the first pass over {} was not completed", dir.display()))
            .hint("look at the folder with `trueup plan`, or begin again in another one"));
    }
    session.ui.out(&format!(
        "Wrote {}: manifests, and three SQLite stores as other applications would have made them.\n{}\
         Added {added} columns and tables that the manifests name and the stores lacked (`trueup migrate`).\n\
         Made the stores agree for the first time (`trueup apply`): {} added, {} changed. Each holds\n{}.\n{}",
        dir.display(),
        crm.map_or(String::new(), |crm| format!(
            "Serves a stand-in for Twenty, the CRM, at {}, with companies and people that somebody typed in.\n",
            crm.url()
        )),
        report.applied.create,
        report.applied.update,
        sizes(engine.spec(), &report.books),
        crm.map_or(String::new(), |_| format!("Who was there without an id was recognised:\n  {}\n", met.join("\n  "))),
    ));
    Ok(())
}

/// `20 contacts, 33 contact_identifiers, ...`, as the canonical store has them after a pass that filled it.
fn sizes(spec: &Spec, books: &crate::plan::BooksTable) -> String {
    let size = |entity| {
        books.get(entity).and_then(|stores| stores.get(&spec.canonical)).map_or(0, |books| books.seen)
    };
    let sizes: Vec<String> =
        spec.entities.iter().map(|entity| format!("{} {}", size(&entity.name), entity.name)).collect();
    sizes.join(", ")
}

/// The plan, the question and the work.
async fn repair(
    session: &Session<'_>,
    engine: &Engine,
    args: &DemoArgs,
    crm: Option<&Crm>,
) -> Result<Exit, Failure> {
    let options = PassOptions::default();
    let plan = planning::make(session, engine, &options).await?;
    planning::show(session, engine, &plan);
    let question = Question {
        what: "Do you want to perform these actions?",
        explanation: "trueup will perform the actions described above, in the demo's own stores only.",
        refused: "Apply cancelled.",
        unasked: "give --auto-approve",
    };
    let asked = match approve(session.ui, args.approval.auto_approve, question).await? {
        Answer::Stop(exit) => {
            session.ui.advice(&format!(
                "\nThe stores still disagree. In {} you can go on by hand:\n\n",
                args.dir.display()
            ));
            session.ui.advice(&commands(&args.dir, &["plan", "apply"], crm));
            return Ok(exit);
        }
        Answer::Go { asked } => asked,
    };
    session.ui.out("\n");
    planning::carry_out(session, engine, plan, asked, &options).await
}

/// What to try in the folder, as lines to copy.
fn next_steps(dir: &Path, conflict: Option<&str>, crm: Option<&Crm>) -> String {
    let me = place::program();
    let shown = place::quoted(&dir.to_string_lossy());
    let many = if crm.is_some() { "Four" } else { "Three" };
    let mut text = format!(
        "\n{many} stores agree again, but for what only a person can decide. What to try next:\n\n    cd {shown}\n"
    );
    let mut line = |command: &str, what: &str| {
        let _ = writeln!(text, "\n    # {what}\n    {command}");
    };
    if let Some(crm) = crm {
        line(&format!("{} &", crm.again()), "serve the CRM again, which ended with this command");
    }
    line(&format!("{me} status"), "where every record stands");
    if let Some(id) = conflict.map(clean) {
        line(&format!("{me} explain 'contacts[\"1005\"]'"), "one record, as every store has it");
        line(&format!("{me} conflicts list"), "what waits for a person; then decide it");
        line(&format!("{me} conflicts resolve {id} --take app"), "or --take local, or --set notes='...'");
    }
    line(
        "sqlite3 stores/local.db \"UPDATE contacts SET job = 'mayor' WHERE contact_id = '1006'\"",
        "edit a store behind trueup's back, with sqlite3 or anything else, and see it found",
    );
    line(&format!("{me} plan --detailed-exitcode"), "exits with 2 as long as there is something to write");
    line(&format!("{me} apply"), "and put it right");
    line(
        &format!("{me} run"),
        "go on doing so, every ten seconds; http://127.0.0.1:9464 shows how things are (password: demo), /metrics counts",
    );
    text
}

/// Commands in the folder.
fn commands(dir: &Path, words: &[&str], crm: Option<&Crm>) -> String {
    let me = place::program();
    let mut text = format!("    cd {}\n", place::quoted(&dir.to_string_lossy()));
    if let Some(crm) = crm {
        let _ = writeln!(text, "    {} &", crm.again());
    }
    for word in words {
        let _ = writeln!(text, "    {me} {word}");
    }
    text
}
