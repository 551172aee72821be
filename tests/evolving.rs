//! The promises where manifests change over time: fields and stores that come and go, other directions, scopes and policies.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod shell;
mod world;

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use trueup::plan::{GuardName, NoticeKind};
use trueup::state::memory::MemoryStateData;
use world::edits::{Edits, STORES};
use world::{Stamp, World, entity, key, spec, three_stores};

const THINGS: [&str; 2] = ["1", "2"];

/// What a version of the manifests says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Each is one that the manifests may say or not.
struct Says {
    /// Whether there is a field `b`.
    b: bool,
    /// Whether `local` is mapped.
    local: bool,
    /// Whether `a` is mapped in `local`.
    a_there: bool,
    /// Whether `a` is only read in `app`.
    only_read: bool,
    /// Whether `b` is only read in the canonical store.
    works_out: bool,
    /// `where` in `local`: none, not z, only x.
    scope: usize,
    remove: bool,
    group: bool,
    derive: bool,
    sync: bool,
    local_sync: bool,
    unique: bool,
    deletes: usize,
}

const WHOLE: Says = Says {
    b: true,
    local: true,
    a_there: true,
    only_read: false,
    works_out: false,
    scope: 0,
    remove: false,
    group: false,
    derive: false,
    sync: true,
    local_sync: true,
    unique: false,
    deletes: 0,
};

fn manifests(says: Says) -> String {
    let deletes = ["propagate", "restore"][says.deletes % 2];
    let scope = match says.scope {
        0 => String::new(),
        1 => ", where: {kind: {not: z}}".to_owned(),
        _ => ", where: {kind: x}".to_owned(),
    };
    let scope = if scope.is_empty() {
        scope
    } else {
        format!("{scope}, leave: {}", if says.remove { "remove" } else { "keep" })
    };
    let mut fields = String::from("    a: string\n");
    if says.b {
        fields += "    b: string\n";
    }
    if says.derive {
        fields += "    d: {derive: name(a)}\n";
    } else {
        fields += "    d: string\n";
    }
    fields += "    kind: {enum: [x, y, z]}\n";
    fields += if says.unique { "    u: {type: string, unique: true}\n" } else { "    u: string\n" };
    let group =
        if says.group && says.b && says.a_there && !says.only_read { "  groups: [[a, b]]\n" } else { "" };
    let local_fields =
        if says.a_there { r#"{"*": same}"#.to_owned() } else { r#"{"*": same, a: none}"#.to_owned() };
    let app_fields =
        if says.only_read { r#"{"*": same, a: {direction: from-store}}"# } else { r#"{"*": same}"# };
    let hub_fields = if says.works_out && says.b {
        r#"{"*": same, b: {direction: from-store}}"#
    } else {
        r#"{"*": same}"#
    };
    let sync = |yes: bool| if yes { ", sync: {columns: same}" } else { "" };
    let local = if says.local {
        format!("    local: {{table: things, fields: {local_fields}{}{scope}}}\n", sync(says.local_sync))
    } else {
        String::new()
    };
    format!(
        r"{}apiVersion: trueup/v1
kind: Entity
metadata: {{name: things}}
spec:
  key: {{id: string}}
  fields:
{fields}{group}  times: {{updated: changed_at}}
  deletes: {deletes}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {{name: things}}
spec:
  entity: things
  stores:
    hub: {{table: things, fields: {hub_fields}, sync: {{columns: same}}}}
    app: {{table: things, fields: {app_fields}{}}}
{local}",
        three_stores!(""),
        sync(says.sync)
    )
}

#[derive(Debug, Clone)]
enum Op {
    Edit { at: usize, thing: usize, field: usize, stamp: Stamp },
    Kind { at: usize, thing: usize, kind: usize },
    Insert { at: usize, thing: usize, kind: usize, stamp: Stamp },
    Delete { at: usize, thing: usize },
    Reach { at: usize, reachable: bool },
    Pass,
    Killed { after: usize },
    LoseState,
    KeepState,
    StaleState,
    Decide { side: usize },
    Manifests { what: usize, to: usize },
    Rest,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let at = || 0..3usize;
    let thing = || 0..2usize;
    let stamp = || prop_oneof![Just(Stamp::None), Just(Stamp::Clock), Just(Stamp::Raise)];
    let op = prop_oneof![
        8 => (at(), thing(), 0..2usize, stamp()).prop_map(|(at, thing, field, stamp)| Op::Edit { at, thing, field, stamp }),
        3 => (at(), thing(), 0..3usize).prop_map(|(at, thing, kind)| Op::Kind { at, thing, kind }),
        4 => (at(), thing(), 0..3usize, stamp()).prop_map(|(at, thing, kind, stamp)| Op::Insert { at, thing, kind, stamp }),
        2 => (at(), thing()).prop_map(|(at, thing)| Op::Delete { at, thing }),
        2 => (1..3usize, any::<bool>()).prop_map(|(at, reachable)| Op::Reach { at, reachable }),
        8 => Just(Op::Pass),
        2 => (0..24usize).prop_map(|after| Op::Killed { after }),
        1 => Just(Op::LoseState),
        1 => Just(Op::KeepState),
        1 => Just(Op::StaleState),
        1 => (0..3usize).prop_map(|side| Op::Decide { side }),
        7 => (0..13usize, 0..3usize).prop_map(|(what, to)| Op::Manifests { what, to }),
        1 => Just(Op::Rest),
    ];
    prop::collection::vec(op, 1..24)
}

struct Run {
    world: World,
    says: Says,
    edits: Edits,
    saved: Option<MemoryStateData>,
    whole: std::sync::Arc<trueup::spec::Spec>,
}

fn text_of_edit(text: String) -> Option<String> {
    Some(text).filter(|text| text.starts_with('e') && text.len() == 4)
}

impl Run {
    fn new() -> Self {
        let mut world = World::new(&manifests(WHOLE));
        world.allow.extend([GuardName::Deletes, GuardName::Emptied, GuardName::Updates]);
        Self { world, says: WHOLE, edits: Edits::default(), saved: None, whole: spec(&manifests(WHOLE)) }
    }

    /// What a store holds, whatever the manifests say now.
    fn get(&self, at: &str, id: &str, name: &str) -> String {
        let whole = self.whole.clone();
        let mapped = world::mapped(&whole, &entity("things"), &world::store(at)).unwrap();
        let row =
            self.world.stores[&world::store(at)].table(&mapped).and_then(|table| table.rows.get(&key(id)));
        row.map_or_else(
            || "-".to_owned(),
            |row| {
                let cell = row
                    .fields
                    .get(&world::field(name))
                    .and_then(trueup::model::Cell::value)
                    .cloned()
                    .unwrap_or_default();
                cell.as_text().unwrap_or("null").to_owned()
            },
        )
    }

    fn set(&mut self, says: Says) {
        self.says = says;
        self.world.spec = spec(&manifests(says));
    }

    fn put(&mut self, at: &str, id: &str, name: &str, value: &str, stamp: Stamp) {
        // Also where no manifest names it.
        let now = self.world.spec.clone();
        self.world.spec = self.whole.clone();
        self.world.edit(at, id, name, value, stamp);
        self.world.spec = now;
    }

    fn perform(&mut self, op: &Op) -> Result<(), String> {
        match op.clone() {
            Op::Edit { at, thing, field, stamp } => {
                let (at, id, name) = (STORES[at], THINGS[thing], ["a", "b"][field]);
                let now = self.get(at, id, name);
                // Whoever puts something where nothing can be put means it instead of what stands elsewhere.
                let blind = now == "null" && name == "a" && at == "app" && self.says.only_read;
                if now != "-" && !blind {
                    let token = self.edits.next(text_of_edit(now));
                    self.put(at, id, name, &token, stamp);
                }
            }
            Op::Kind { at, thing, kind } => {
                let (at, id) = (STORES[at], THINGS[thing]);
                if self.get(at, id, "kind") != "-" {
                    self.put(at, id, "kind", ["x", "y", "z"][kind], Stamp::None);
                }
            }
            Op::Insert { at, thing, kind, stamp } => {
                let (at, id) = (STORES[at], THINGS[thing]);
                if self.get(at, id, "a") == "-" {
                    let (a, b) = (self.edits.next(None), self.edits.next(None));
                    let now = self.world.spec.clone();
                    self.world.spec = self.whole.clone();
                    self.world.insert(
                        at,
                        id,
                        &[("a", &a), ("b", &b), ("kind", ["x", "y", "z"][kind])],
                        stamp,
                    );
                    self.world.spec = now;
                }
            }
            Op::Delete { at, thing } => {
                let (at, id) = (STORES[at], THINGS[thing]);
                for name in ["a", "b"] {
                    self.edits.removed.extend(text_of_edit(self.get(at, id, name)));
                }
                let now = self.world.spec.clone();
                self.world.spec = self.whole.clone();
                self.world.delete(at, id);
                self.world.spec = now;
            }
            Op::Reach { at, reachable } => self.world.reach(STORES[at], reachable),
            Op::Pass => {
                self.world.tick();
                let _ = self.world.pass();
            }
            Op::Killed { after } => {
                self.world.tick();
                self.world.lives = Some(after);
                let _ = self.world.pass();
                self.world.lives = None;
            }
            Op::LoseState => self.world.lose_state(),
            Op::KeepState => self.saved = Some(self.world.state.clone()),
            Op::StaleState => {
                if let Some(state) = self.saved.clone() {
                    self.world.state = state;
                }
            }
            Op::Decide { side } => {
                if let Some(conflict) = self.world.open_conflicts().first().cloned() {
                    let take = conflict.sides[side % conflict.sides.len()].store.clone();
                    self.world.decide(&conflict, take.as_str());
                }
            }
            Op::Manifests { what, to } => {
                let mut says = self.says;
                let yes = to > 0;
                match what {
                    0 => says.b = yes,
                    1 => says.local = yes,
                    2 => says.a_there = yes,
                    3 => says.only_read = !yes,
                    4 => says.scope = to,
                    5 => says.remove = yes,
                    6 => says.group = yes,
                    7 => says.derive = yes,
                    8 => says.sync = yes,
                    9 => says.local_sync = yes,
                    10 => says.unique = yes,
                    11 => says.works_out = !yes,
                    _ => says.deletes = to,
                }
                self.set(says);
            }
            Op::Rest => {
                self.world.rest("on the way").map_err(|why| format!("{why} under {:?}", self.says))?;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        for at in STORES {
            self.world.reach(at, true);
        }
        self.world.rest("before the end").map_err(|why| format!("{why} under {:?}", self.says))?;
        self.set(WHOLE);
        self.world.rest("in the end").map_err(|why| format!("{why} under {:?}", self.says))?;
        let plan = self.world.plan();
        if !plan.guards.is_empty() {
            return Ok(());
        }
        let mut named: BTreeMap<String, Vec<NoticeKind>> = BTreeMap::new();
        let mut waits = String::new();
        for notice in &plan.notices {
            if let Some(id) = &notice.record {
                named.entry(id.key.parts()[0].clone()).or_default().push(notice.kind);
                if matches!(notice.kind, NoticeKind::Rejected | NoticeKind::Regressed) {
                    for at in STORES {
                        waits +=
                            &["a", "b"].map(|name| self.get(at, &id.key.parts()[0], name) + " ").concat();
                    }
                }
            }
        }
        let mut surviving = format!("{:?}{}{waits}", self.world.conflicts(), self.world.tombstones());
        for id in THINGS {
            surviving += &["a", "b"].map(|name| self.get("hub", id, name) + " ").concat();
        }
        let lost = self.edits.lost(&surviving);
        if !lost.is_empty() {
            return Err(format!("lost {lost:?}: {named:#?}"));
        }
        // Absences in a store that went back are not known.
        if plan.notices.iter().any(|notice| notice.kind == NoticeKind::Regressed) {
            return Ok(());
        }
        for id in THINGS {
            if named.contains_key(id) {
                continue;
            }
            for name in ["a", "b", "kind", "d"] {
                let all: Vec<String> = STORES.iter().map(|at| self.get(at, id, name)).collect();
                if all.iter().collect::<BTreeSet<_>>().len() > 1 {
                    return Err(format!("{id} {name} differs: {all:?}"));
                }
            }
        }
        Ok(())
    }
}

fn live(ops: &[Op]) -> Result<(), String> {
    let mut run = Run::new();
    for op in ops {
        run.perform(op)?;
    }
    run.end()
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2000) / 8
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_lost_where_manifests_change(ops in ops()) {
        prop_assert_eq!(live(&ops), Ok(()));
    }
}

#[test]
fn a_field_that_gets_another_name_is_known_by_its_column() {
    let before = shell::manifests(&["hub", "app", "local"], "items", "name: string, note: string");
    let place = shell::Place::with(&before);
    place.run(&["migrate", "-auto-approve"], 0);
    place.sql(
        "hub",
        "INSERT INTO items (id, name, note) VALUES ('I1', 'a', 'n1'), ('I2', 'b', 'n2'), ('I3', 'c', 'n3')",
    );
    place.run(&["apply", "-auto-approve"], 0);
    // What was changed and cleared before the name changed is a change and a clear under the new one.
    place.sql("app", "UPDATE items SET note = 'edited' WHERE id = 'I1'");
    place.sql("app", "UPDATE items SET note = NULL WHERE id = 'I2'");
    let renamed =
        before.replace("note: string", "remark: string").replace("\"*\": same", "\"*\": same, remark: note");
    place.manifests(&renamed);
    place.run(&["apply", "-auto-approve"], 0);
    for at in ["hub", "app", "local"] {
        let notes = "SELECT group_concat(coalesce(note, '-')) FROM (SELECT * FROM items ORDER BY id)";
        assert_eq!(place.text(at, notes), "edited,-,n3", "{at}");
    }
    assert_eq!(place.text("hub", "SELECT CAST(count(*) AS TEXT) FROM sync_conflicts"), "0");
    // And back again.
    place.manifests(&before);
    place.run(&["plan", "-detailed-exitcode"], 0);
}
