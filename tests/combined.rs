//! The promises where rules meet: random worlds of records with groups, derivations, patterns that name fields, unique values, `where` and
//! children, whose passes meet pauses, targets, decisions and saved plans, besides most of what `tests/promises.rs` has.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod world;

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use trueup::model::{Cell, DeletePolicy, Value};
use trueup::plan::{GuardName, Hold, NoticeKind, Orders, Place, Plan, Target};
use trueup::state::memory::MemoryStateData;
use trueup::store::memory::{Hook, MemoryRow};
use world::edits::{Edits, STORES};
use world::{Stamp, World, entity, field, key, store, three_stores};

const THINGS: [&str; 3] = ["1", "2", "3"];
const KIDS: [&str; 2] = ["k1", "k2"];
/// Fields that rules are about, with what they may be set to.
const SMALL: [(&str, &[&str]); 4] = [
    ("kind", &["x", "y", "z"]),
    ("code", &["x1", "x2", "y1", "null"]),
    ("u", &["u1", "u2", "null"]),
    ("must", &["m", "n", "null"]),
];

/// Manifests, each of twelve with other policies.
fn manifests(variant: usize) -> String {
    let deletes = ["propagate", "restore", "ignore", "propagate"][variant % 4];
    let group = if variant.is_multiple_of(2) { "" } else { "  groups: [[kind, code]]\n" };
    let leave = ["remove", "keep"][(variant / 2) % 2];
    let scope =
        if variant >= 4 { format!(", where: {{kind: {{not: z}}}}, leave: {leave}") } else { String::new() };
    let fall = ["cascade", "restrict", "ignore"][variant % 3];
    let unique = if variant % 5 < 3 { "{type: string, unique: true}" } else { "string" };
    format!(
        r#"{}apiVersion: trueup/v1
kind: Entity
metadata: {{name: things}}
spec:
  key: {{id: string}}
  fields:
    a: string
    b: string
    d: {{derive: name(a)}}
    kind: {{enum: [x, y, z]}}
    code: {{pattern: "^{{kind}}[0-9]+$"}}
    dc: {{derive: name(code)}}
    u: {unique}
    must: {{type: string, required: true}}
{group}  times: {{updated: changed_at}}
  deletes: {deletes}
---
apiVersion: trueup/v1
kind: Entity
metadata: {{name: kids}}
spec:
  key: {{id: string}}
  fields:
    a: string
    up: {{type: string, references: things, on_delete: {fall}}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {{name: things}}
spec:
  entity: things
  stores:
    hub: {{table: things, fields: {{"*": same}}, sync: {{columns: same}}}}
    app: {{table: things, fields: {{"*": same}}, sync: {{columns: same}}}}
    local: {{table: things, fields: {{"*": same}}, sync: {{columns: same}}{scope}}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {{name: kids}}
spec:
  entity: kids
  stores:
    hub: {{table: kids, fields: {{"*": same}}, sync: {{columns: same}}}}
    app: {{table: kids, fields: {{"*": same}}, sync: {{columns: same}}}}
    local: {{table: kids, fields: {{"*": same}}, sync: {{columns: same}}}}
"#,
        three_stores!("")
    )
}

#[derive(Debug, Clone)]
enum Op {
    Edit { at: usize, thing: usize, field: usize, stamp: Stamp },
    Set { at: usize, thing: usize, field: usize, value: usize, stamp: Stamp },
    EditKid { at: usize, kid: usize },
    MoveKid { at: usize, kid: usize, to: usize },
    Insert { at: usize, thing: usize, kind: usize, code: usize, u: usize, must: usize, stamp: Stamp },
    InsertKid { at: usize, kid: usize, up: usize },
    Delete { at: usize, thing: usize },
    DeleteKid { at: usize, kid: usize },
    DeleteFamily { at: usize, thing: usize },
    Reach { at: usize, reachable: bool },
    Pass,
    Target { thing: usize },
    Killed { after: usize },
    Race { at: usize, thing: usize, field: usize },
    LoseAnswer { at: usize },
    FailBatch { at: usize },
    LoseState,
    KeepState,
    StaleState,
    Pause { at: Option<usize>, of: Option<bool>, id: Option<usize> },
    Resume,
    Decide { side: usize },
    SavePlan,
    ApplyPlan,
    Rest,
}

fn ops() -> impl Strategy<Value = (usize, Vec<Op>)> {
    let at = || 0..3usize;
    let thing = || 0..3usize;
    let kid = || 0..2usize;
    let stamp = || prop_oneof![Just(Stamp::None), Just(Stamp::Clock), Just(Stamp::Raise)];
    let op = prop_oneof![
        6 => (at(), thing(), 0..2usize, stamp()).prop_map(|(at, thing, field, stamp)| Op::Edit { at, thing, field, stamp }),
        6 => (at(), thing(), 0..4usize, 0..4usize, stamp()).prop_map(|(at, thing, field, value, stamp)| Op::Set { at, thing, field, value, stamp }),
        2 => (at(), kid()).prop_map(|(at, kid)| Op::EditKid { at, kid }),
        1 => (at(), kid(), thing()).prop_map(|(at, kid, to)| Op::MoveKid { at, kid, to }),
        4 => (at(), thing(), 0..3usize, 0..4usize, 0..3usize, 0..3usize, stamp()).prop_map(|(at, thing, kind, code, u, must, stamp)| Op::Insert { at, thing, kind, code, u, must, stamp }),
        3 => (at(), kid(), thing()).prop_map(|(at, kid, up)| Op::InsertKid { at, kid, up }),
        2 => (at(), thing()).prop_map(|(at, thing)| Op::Delete { at, thing }),
        1 => (at(), kid()).prop_map(|(at, kid)| Op::DeleteKid { at, kid }),
        1 => (at(), thing()).prop_map(|(at, thing)| Op::DeleteFamily { at, thing }),
        2 => (1..3usize, any::<bool>()).prop_map(|(at, reachable)| Op::Reach { at, reachable }),
        7 => Just(Op::Pass),
        1 => thing().prop_map(|thing| Op::Target { thing }),
        3 => (0..24usize).prop_map(|after| Op::Killed { after }),
        1 => (at(), thing(), 0..2usize).prop_map(|(at, thing, field)| Op::Race { at, thing, field }),
        1 => at().prop_map(|at| Op::LoseAnswer { at }),
        1 => at().prop_map(|at| Op::FailBatch { at }),
        1 => Just(Op::LoseState),
        1 => Just(Op::KeepState),
        1 => Just(Op::StaleState),
        2 => (prop::option::of(at()), prop::option::of(any::<bool>()), prop::option::of(thing())).prop_map(|(at, of, id)| Op::Pause { at, of, id }),
        1 => Just(Op::Resume),
        1 => (0..3usize).prop_map(|side| Op::Decide { side }),
        1 => Just(Op::SavePlan),
        1 => Just(Op::ApplyPlan),
        2 => Just(Op::Rest),
    ];
    (0..12usize, prop::collection::vec(op, 1..22))
}

struct Run {
    world: World,
    edits: Edits,
    saved: Option<MemoryStateData>,
    plan: Option<Plan>,
}

/// A text that an edit of its own wrote.
fn text_of_edit(text: String) -> Option<String> {
    Some(text).filter(|text| text.starts_with('e') && text.len() == 4)
}

impl Run {
    fn get(&self, of: &str, at: &str, id: &str, name: &str) -> String {
        self.world.value_in(&entity(of), at, id, name)
    }

    fn tokens(&self, of: &str, at: &str, id: &str) -> Vec<String> {
        ["a", "b"]
            .iter()
            .filter(|name| of == "things" || **name == "a")
            .filter_map(|name| text_of_edit(self.get(of, at, id, name)))
            .collect()
    }

    fn remove(&mut self, of: &str, at: &str, id: &str) {
        let gone = self.tokens(of, at, id);
        self.edits.removed.extend(gone);
        let mapped = self.world.mapped(of, at);
        self.world.tick();
        self.world.db(at).delete(&mapped, &key(id));
    }

    fn perform(&mut self, op: &Op) -> Result<(), String> {
        match op.clone() {
            Op::Edit { at, thing, field, stamp } => {
                let (at, id, name) = (STORES[at], THINGS[thing], ["a", "b"][field]);
                let now = self.get("things", at, id, name);
                if now != "-" {
                    let token = self.edits.next(text_of_edit(now));
                    self.world.edit(at, id, name, &token, stamp);
                }
            }
            Op::Set { at, thing, field, value, stamp } => {
                let (at, id, (name, values)) = (STORES[at], THINGS[thing], SMALL[field]);
                if self.get("things", at, id, name) != "-" {
                    self.world.edit(at, id, name, values[value % values.len()], stamp);
                }
            }
            Op::EditKid { at, kid } => {
                let (at, id) = (STORES[at], KIDS[kid]);
                let now = self.get("kids", at, id, "a");
                if now != "-" {
                    let token = self.edits.next(text_of_edit(now));
                    self.world.edit_in(&entity("kids"), at, id, "a", &token, Stamp::None);
                }
            }
            Op::MoveKid { at, kid, to } => {
                self.world.edit_in(&entity("kids"), STORES[at], KIDS[kid], "up", THINGS[to], Stamp::None);
            }
            Op::Insert { at, thing, kind, code, u, must, stamp } => {
                let (at, id) = (STORES[at], THINGS[thing]);
                if self.get("things", at, id, "a") == "-" {
                    let (a, b) = (self.edits.next(None), self.edits.next(None));
                    let of = |field: usize, value: usize| SMALL[field].1[value % SMALL[field].1.len()];
                    let fields = [
                        ("a", a.as_str()),
                        ("b", b.as_str()),
                        ("kind", of(0, kind)),
                        ("code", of(1, code)),
                        ("u", of(2, u)),
                        ("must", of(3, must)),
                    ];
                    self.world.insert(at, id, &fields, stamp);
                }
            }
            Op::InsertKid { at, kid, up } => {
                let (at, id) = (STORES[at], KIDS[kid]);
                if self.get("kids", at, id, "a") == "-" {
                    let a = self.edits.next(None);
                    self.world.insert_into(
                        &entity("kids"),
                        at,
                        id,
                        &[("a", &a), ("up", THINGS[up])],
                        Stamp::None,
                    );
                }
            }
            Op::Delete { at, thing } => self.remove("things", STORES[at], THINGS[thing]),
            Op::DeleteKid { at, kid } => self.remove("kids", STORES[at], KIDS[kid]),
            Op::DeleteFamily { at, thing } => {
                for kid in KIDS {
                    if self.get("kids", STORES[at], kid, "up") == THINGS[thing] {
                        self.remove("kids", STORES[at], kid);
                    }
                }
                self.remove("things", STORES[at], THINGS[thing]);
            }
            Op::Reach { at, reachable } => self.world.reach(STORES[at], reachable),
            Op::Pass => {
                self.world.tick();
                let _ = self.world.pass();
            }
            Op::Target { thing } => {
                self.world.tick();
                self.world.targets.push(Target { entity: entity("things"), key: Some(key(THINGS[thing])) });
                let _ = self.world.pass();
                self.world.targets.clear();
            }
            Op::Killed { after } => {
                self.world.tick();
                self.world.lives = Some(after);
                let _ = self.world.pass();
                self.world.lives = None;
            }
            Op::Race { at, thing, field: of } => self.race(STORES[at], THINGS[thing], ["a", "b"][of]),
            Op::LoseAnswer { at } => self.world.db(STORES[at]).faults.lose_answers = 1,
            Op::FailBatch { at } => self.world.db(STORES[at]).faults.fail_batches = 1,
            Op::LoseState => self.world.lose_state(),
            Op::KeepState => self.saved = Some(self.world.state.clone()),
            Op::StaleState => {
                if let Some(state) = self.saved.clone() {
                    self.world.state = state;
                }
            }
            Op::Pause { at, of, id } => {
                let of = of.map(|kids| if kids { "kids" } else { "things" });
                let id = id
                    .filter(|_| of.is_some())
                    .map(|id| if of == Some("kids") { KIDS[id % 2] } else { THINGS[id] });
                let place =
                    Place { store: at.map(|at| store(STORES[at])), entity: of.map(entity), key: id.map(key) };
                self.world.orders.holds.add(place, Hold::Paused);
            }
            Op::Resume => self.world.orders = Orders::default(),
            Op::Decide { side } => {
                if let Some(conflict) = self.world.open_conflicts().first().cloned() {
                    let take = conflict.sides[side % conflict.sides.len()].store.clone();
                    self.world.decide(&conflict, take.as_str());
                }
            }
            Op::SavePlan => {
                self.plan = None;
                let opened = self.world.open(false);
                if let Ok(opened) = opened {
                    self.plan = Some(self.world.observe(&opened));
                }
            }
            Op::ApplyPlan => {
                if let Some(plan) = self.plan.take() {
                    self.world.tick();
                    let state = self.world.state.header().id.clone();
                    if plan.state == state
                        && let Ok(opened) = self.world.open(true)
                        && opened.rebuild == plan.rebuild
                    {
                        let _ = self.world.carry_out(&opened, plan, true);
                    }
                }
            }
            Op::Rest => self.world.rest("with what is the matter")?,
        }
        Ok(())
    }

    /// Somebody edits a field just before the next batch reaches its store.
    fn race(&mut self, at: &str, id: &str, name: &str) {
        self.edits.made += 1;
        let token = format!("e{:03}", self.edits.made);
        let races = self.edits.races.clone();
        let mapped = self.world.mapped("things", at);
        let (id, name) = (key(id), field(name));
        self.world.db(at).faults.before_batch = Some(Hook::new(move |db| {
            db.edit(&mapped, &id, |row: &mut MemoryRow| {
                let replaced = row.fields.insert(name.clone(), Cell::Value(Value::text(token.as_str())));
                let seen =
                    replaced.as_ref().and_then(Cell::value).and_then(Value::as_text).map(ToOwned::to_owned);
                races.lock().unwrap().push((token.clone(), seen.and_then(text_of_edit)));
            });
        }));
    }

    /// Heals everything.
    fn end(&mut self) -> Result<(), String> {
        for at in STORES {
            let db = self.world.db(at);
            db.faults.before_batch = None;
            db.faults.unreachable = false;
            db.faults.lose_answers = 0;
            db.faults.fail_batches = 0;
        }
        self.edits.replaced.extend(self.edits.races.lock().unwrap().drain(..));
        self.world.orders = Orders::default();
        self.world.rest("in the end")?;
        let plan = self.world.plan();
        if plan.guards.is_empty() { self.agree(&plan) } else { Ok(()) }
    }

    /// Whether no edit is lost, and all stores hold the same of every record about which nothing is to be said.
    fn agree(&self, plan: &Plan) -> Result<(), String> {
        let mut named: BTreeMap<(String, String), Vec<NoticeKind>> = BTreeMap::new();
        let mut waits = String::new();
        for notice in &plan.notices {
            if let Some(id) = &notice.record {
                named
                    .entry((id.entity.to_string(), id.key.parts()[0].clone()))
                    .or_default()
                    .push(notice.kind);
                if matches!(notice.kind, NoticeKind::Rejected | NoticeKind::Regressed) {
                    for at in STORES {
                        waits += &self.tokens(id.entity.as_str(), at, &id.key.parts()[0]).join(" ");
                    }
                }
            }
        }
        let mut surviving = format!("{:?}{}{waits}", self.world.conflicts(), self.world.tombstones());
        for id in THINGS {
            surviving += &self.tokens("things", "hub", id).join(" ");
        }
        for id in KIDS {
            surviving += &self.tokens("kids", "hub", id).join(" ");
        }
        let things = self.world.spec.entity(&entity("things")).unwrap().clone();
        let ignored = things.deletes == DeletePolicy::Ignore;
        if ignored {
            // What is deleted in one store only stays in the others.
            for at in STORES {
                for id in THINGS {
                    surviving += &self.tokens("things", at, id).join(" ");
                }
            }
        }
        let lost = self.edits.lost(&surviving);
        if !lost.is_empty() {
            return Err(format!("lost {lost:?}: {named:#?}"));
        }
        for (of, ids, names) in [
            ("things", &THINGS[..], &["a", "b", "d", "kind", "code", "dc", "u", "must"][..]),
            ("kids", &KIDS[..], &["a", "up"][..]),
        ] {
            for id in ids {
                if named.contains_key(&(of.to_owned(), (*id).to_owned())) || (ignored && of == "things") {
                    continue;
                }
                let scoped = self.world.spec.mapping(&entity(of), &store("local")).unwrap().scope.is_some();
                for name in names {
                    let mut all: Vec<String> = STORES.iter().map(|at| self.get(of, at, id, name)).collect();
                    if scoped && self.get(of, "hub", id, "kind") == "z" {
                        all.pop();
                    }
                    if all.iter().collect::<BTreeSet<_>>().len() > 1 {
                        return Err(format!("{of} {id} {name} differs: {all:?}"));
                    }
                }
                if of == "things" {
                    let (code, dc) = (self.get(of, "hub", id, "code"), self.get(of, "hub", id, "dc"));
                    if code != dc {
                        return Err(format!("{id}: code {code} but derived {dc}"));
                    }
                }
            }
        }
        let us: Vec<String> = THINGS
            .iter()
            .filter(|id| !named.contains_key(&("things".to_owned(), (**id).to_owned())))
            .map(|id| self.get("things", "hub", id, "u"))
            .filter(|u| u.starts_with('u'))
            .collect();
        let unique = things.fields.iter().any(|field| field.unique);
        if unique && us.iter().collect::<BTreeSet<_>>().len() < us.len() {
            return Err(format!("twins {us:?}"));
        }
        Ok(())
    }
}

/// Runs a world; the description of what went wrong, if anything did.
fn live(variant: usize, ops: &[Op]) -> Result<(), String> {
    let mut world = World::new(&manifests(variant));
    world.allow.extend([GuardName::Deletes, GuardName::Emptied, GuardName::Updates]);
    let mut run = Run { world, edits: Edits::default(), saved: None, plan: None };
    for op in ops {
        run.perform(op)?;
    }
    run.end()
}

/// How many worlds: a part of what `PROPTEST_CASES` says, since each has more in it.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2000) / 8
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 6000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_lost_where_rules_meet((variant, ops) in ops()) {
        prop_assert_eq!(live(variant, &ops), Ok(()));
    }
}
