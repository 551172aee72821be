//! What is measured. Every scenario checks what was done: a benchmark of wrong work is worth nothing.

use std::time::{Duration, Instant};

use crate::measure::Measured;
use crate::server::Database;
use crate::table::{Figure, Table, mib, rate, seconds};
use crate::world::{Ground, World, postgres};
use crate::{Outcome, contacts};

/// How often the first plan and the other program are measured, one after the other.
const FEW: usize = 2;

/// How often what writes nothing is measured, unless that takes longer than [`PATIENCE`] together.
const MANY: usize = 5;
const PATIENCE: Duration = Duration::from_secs(20);

/// How many times as fast as the other program a first plan has to be, and every later one.
const FIRST_PLAN: f64 = 4.0;
const LATER_PLAN: f64 = 10.0;

/// From so many records on: with fewer, beginning and ending take most of the time.
const COMPARED_FROM: u64 = 1_000_000;

/// What a state may keep of a record.
const STATE_BYTES: u64 = 600;

const NO_CHANGES: &str = "No changes. Every store holds what the manifests say it should.";

/// Measures something that writes nothing some times.
fn repeat(run: impl Fn() -> Outcome<Measured>) -> Outcome<Measured> {
    let began = Instant::now();
    let mut runs = vec![run()?];
    while runs.len() < MANY && began.elapsed() < PATIENCE {
        runs.push(run()?);
    }
    Ok(medians(&runs))
}

/// The medians of some runs, and the highest of their peaks.
fn medians(runs: &[Measured]) -> Measured {
    let median = |figure: &dyn Fn(&Measured) -> f64| {
        let mut figures: Vec<f64> = runs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        f64::midpoint(figures[(figures.len() - 1) / 2], figures[figures.len() / 2])
    };
    Measured {
        wall_seconds: median(&|run| run.wall_seconds),
        cpu_seconds: median(&|run| run.cpu_seconds),
        peak_bytes: runs.iter().map(|run| run.peak_bytes).max().unwrap_or_default(),
        ..Measured::default()
    }
}

/// Adds a figure next to what the other program took, where it ran. Ours has to be so many times as fast.
fn against(
    ground: &Ground,
    table: &mut Table,
    name: String,
    (ours, theirs): (&Measured, Option<&Measured>),
    times: f64,
) {
    let figure =
        Figure { name, result: seconds(ours.wall_seconds), peak_bytes: ours.peak_bytes, ..Figure::default() };
    let Some(theirs) = theirs else { return table.add(figure) };
    let ratio = theirs.wall_seconds / ours.wall_seconds;
    table.demand(ratio >= times || ground.rows < COMPARED_FROM, || {
        format!("{}: {ratio:.1} times as fast, and {times} is wanted", figure.name)
    });
    table.add(Figure {
        compared_with: format!("reladiff: {}, {}", seconds(theirs.wall_seconds), mib(theirs.peak_bytes)),
        ratio: format!("{ratio:.1} times as fast"),
        ..figure
    });
}

/// What the state keeps of a record.
fn state(ground: &Ground, table: &mut Table, world: &World) -> Outcome<String> {
    let bytes = world.state_bytes()? / ground.rows;
    table.demand(bytes < STATE_BYTES, || format!("{bytes} bytes a record in the state, not {STATE_BYTES}"));
    Ok(format!("state: {bytes} bytes a record"))
}

fn expect(what: &str, found: u64, wanted: u64) -> Outcome<()> {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found} instead of {wanted}").into()) }
}

/// Two equal databases, of which a hundred records differ: the first plan, taking note, and every plan after that.
pub(crate) fn plan(ground: &Ground, table: &mut Table) -> Outcome<()> {
    let rows = ground.rows;
    let (hub, app) = (ground.filled(), ground.filled());
    let width = ground.ask(&hub, "SELECT round(avg(pg_column_size(contacts.*)))::text FROM contacts")?;
    eprintln!("{rows} records of {width} bytes");
    let world = World::new(&[("hub", postgres(&hub)), ("app", postgres(&app))])?;
    world.trueup(&["migrate", "--auto-approve"])?;
    let edit = contacts::edit_a_hundred(rows, "organization = 'Edited Works'");
    ground.sql(&app, &edit);
    ground.settle([&hub, &app]);

    let hundred = "Plan: 0 to add, 100 to change, 0 to destroy.";
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..FEW {
        world.forget()?;
        ours.push(world.trueup_says(&["plan"], hundred)?);
        theirs.extend(world.reladiff(ground, [&hub, &app], 100)?);
    }
    let (ours, theirs) = (medians(&ours), (!theirs.is_empty()).then(|| medians(&theirs)));
    let name = format!("first plan of {rows} equal records in two databases, of which 100 differ");
    against(ground, table, name, (&ours, theirs.as_ref()), FIRST_PLAN);

    let applied = world.trueup_says(
        &["apply", "--auto-approve"],
        "Apply complete! Records: 0 added, 100 changed, 0 destroyed.",
    )?;
    expect("records that still differ", ground.count(&app, "organization = 'Edited Works'")?, 0)?;
    ground.all_fields(&hub)?.must_equal(&ground.all_fields(&app)?, "after the first apply")?;
    let compared_with = state(ground, table, &world)?;
    table.add(Figure {
        name: "first apply of that: 100 records written, all remembered".to_owned(),
        result: format!("{}, {}", seconds(applied.wall_seconds), rate(rows, applied.wall_seconds)),
        compared_with,
        peak_bytes: applied.peak_bytes,
        ..Figure::default()
    });
    later_plans(ground, table, &world, [&hub, &app], theirs.as_ref())?;
    ground.remove([&hub, &app]);
    Ok(())
}

fn later_plans(
    ground: &Ground,
    table: &mut Table,
    world: &World,
    [hub, app]: [&Database; 2],
    theirs: Option<&Measured>,
) -> Outcome<()> {
    let hundred = "Plan: 0 to add, 100 to change, 0 to destroy.";
    let many = |says: &str| repeat(|| world.trueup_says(&["plan"], says));
    ground.settle([hub, app]);
    let name = "later plan, nothing changed".to_owned();
    against(ground, table, name, (&many(NO_CHANGES)?, theirs), LATER_PLAN);
    pass(ground, table, world, hub, "two databases")?;

    let edit = "notes = notes || ' (edited)', updated_at = now()";
    ground.sql(app, &contacts::edit_a_hundred(ground.rows, edit));
    let name = "later plan, 100 records edited".to_owned();
    against(ground, table, name, (&many(hundred)?, theirs), LATER_PLAN);

    let other = ground.database();
    ground.sql(&other, "CREATE TABLE things AS SELECT n FROM generate_series(1, 1000) AS n");
    let name = "later plan, 100 records edited and another database of the server written".to_owned();
    against(ground, table, name, (&many(hundred)?, theirs), LATER_PLAN);
    ground.remove([&other]);

    let says = "Apply complete! Records: 0 added, 100 changed, 0 destroyed.";
    let applied = world.trueup_says(&["apply", "--auto-approve"], says)?;
    expect("edits that arrived", ground.count(hub, "notes LIKE '%(edited)'")?, 100)?;
    table.add(Figure {
        name: "apply of these 100 edits".to_owned(),
        result: seconds(applied.wall_seconds),
        peak_bytes: applied.peak_bytes,
        ..Figure::default()
    });
    world.trueup_says(&["plan"], NO_CHANGES)?;
    Ok(())
}

/// A pass that finds nothing to do.
fn pass(ground: &Ground, table: &mut Table, world: &World, hub: &Database, stores: &str) -> Outcome<()> {
    // Every pass that writes or remembers anything leaves its number there.
    let passes = || ground.ask(hub, "SELECT string_agg(passes::text, ' ') FROM trueup_passes AS passes");
    let before = passes()?;
    let pass = repeat(|| world.trueup(&["run", "--once"]))?;
    if passes()? != before {
        return Err("a pass with nothing to do did something".into());
    }
    table.add(Figure {
        name: format!("a pass of `run` with nothing to do, {stores}"),
        result: format!("{}, {:.2} s of processor time", seconds(pass.wall_seconds), pass.cpu_seconds),
        peak_bytes: pass.peak_bytes,
        ..Figure::default()
    });
    Ok(())
}

/// A full database, an empty one and an empty file: the first load; then, if asked for, edits of a tenth.
pub(crate) fn load(ground: &Ground, table: &mut Table, edits: bool) -> Outcome<()> {
    let rows = ground.rows;
    let (hub, app) = (ground.filled(), ground.database());
    let file = |path| format!("sqlite: {{path: {path}}}");
    let world =
        World::new(&[("hub", postgres(&hub)), ("app", postgres(&app)), ("local", file("../local.db"))])?;
    world.trueup(&["migrate", "--auto-approve"])?;
    ground.settle([&hub]);
    let says = format!("Apply complete! Records: {} added, 0 changed, 0 destroyed.", 2 * rows);
    let applied = world.trueup_says(&["apply", "--auto-approve"], &says)?;
    let (before, after) = (ground.all_fields(&hub)?, ground.all_fields(&app)?);
    expect("records in the database", after.records, rows)?;
    let local = ground.texts_of_file(&world.path("local.db"))?;
    expect("records in the file", local.records, rows)?;
    before.must_equal(&after, "after the first load")?;
    ground.texts(&hub)?.must_equal(&local, "after the first load")?;
    let compared_with = state(ground, table, &world)?;
    table.add(Figure {
        name: format!(
            "first load of {rows} records from Postgres into an empty Postgres and an empty SQLite"
        ),
        result: format!("{}, {}", seconds(applied.wall_seconds), rate(rows, applied.wall_seconds)),
        compared_with,
        peak_bytes: applied.peak_bytes,
        ..Figure::default()
    });
    ground.settle([&hub, &app]);
    world.trueup_says(&["plan"], NO_CHANGES)?;
    // What the file was before it was filled says nothing of what it holds now.
    let first = world.trueup(&["run", "--once"])?;
    table.add(Figure {
        name: "the pass of `run` after it, which reads the file whole".to_owned(),
        result: format!("{}, {:.2} s of processor time", seconds(first.wall_seconds), first.cpu_seconds),
        peak_bytes: first.peak_bytes,
        ..Figure::default()
    });
    pass(ground, table, &world, &hub, "two databases and a file")?;
    if edits {
        edits_of_a_tenth(ground, table, &world, [&hub, &app])?;
    }
    ground.remove([&hub, &app]);
    Ok(())
}

fn edits_of_a_tenth(
    ground: &Ground,
    table: &mut Table,
    world: &World,
    [hub, app]: [&Database; 2],
) -> Outcome<()> {
    let tenth = ground.rows / 10;
    ground.sql(app, &contacts::edit_a_tenth("notes = notes || ' (edited)', updated_at = now()"));
    expect("edits", ground.count(app, "notes LIKE '%(edited)'")?, tenth)?;
    let says = format!("Apply complete! Records: 0 added, {} changed, 0 destroyed.", 2 * tenth);
    let applied = world.trueup_says(&["apply", "--auto-approve"], &says)?;
    let wanted = ground.texts(app)?;
    expect("edits that are still there", ground.count(app, "notes LIKE '%(edited)'")?, tenth)?;
    ground.texts(hub)?.must_equal(&wanted, "after the edits")?;
    ground.texts_of_file(&world.path("local.db"))?.must_equal(&wanted, "after the edits")?;
    table.add(Figure {
        name: format!("{tenth} records edited in one store, to the two others"),
        result: format!("{}, {}", seconds(applied.wall_seconds), rate(tenth, applied.wall_seconds)),
        peak_bytes: applied.peak_bytes,
        ..Figure::default()
    });
    world.trueup_says(&["plan"], NO_CHANGES)?;
    Ok(())
}
