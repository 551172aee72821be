//! Rows of objects: by the store's id, then by their relations, then by the match rules; who is nobody's is new.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{Entity, FieldRef, Mapping, MatchTerm, RecordKey, StoreName, StoreRecordId, Stray};

use super::mint::minted;
use super::{
    Census, Feature, Found, HeldRow, How, Identified, Identify, KeysById, Verdict, is_unknown, row_of,
};

/// A row, by store and id.
type At = (StoreName, StoreRecordId);

/// What is decided of an entity's rows while it is being decided.
#[derive(Default)]
struct Work {
    verdicts: BTreeMap<At, Verdict>,
    /// Rows that carry their key and stand as they are.
    live: BTreeMap<StoreName, BTreeMap<RecordKey, StoreRecordId>>,
    doubtful: BTreeMap<StoreName, BTreeSet<RecordKey>>,
    /// Rows that nothing but match rules can tell of.
    unknown: Vec<At>,
}

/// What the relations of a row say that joins others and carries a key.
enum Joined {
    /// Nothing else than its key, as far as they say anything.
    Same,
    /// It is another pair's.
    Key(RecordKey),
    /// It leads to a row of which it is not known whose it is, or only half of it is another pair's.
    Elsewhere,
}

impl Work {
    fn hold(&mut self, at: &At, why: String, candidates: BTreeSet<RecordKey>, duplicate: bool) {
        let held = HeldRow { id: at.1.clone(), why, candidates, duplicate };
        self.verdicts.insert(at.clone(), Verdict::Held(held));
    }

    fn give(&mut self, at: &At, key: RecordKey, how: How) {
        self.verdicts.insert(at.clone(), Verdict::Key(key, how));
    }

    /// The rows of a store that are given a record.
    fn claims(&self, store: &StoreName, key: &RecordKey) -> Vec<At> {
        let of_store = self.verdicts.iter().filter(|((of, _), _)| of == store);
        of_store
            .filter(|(_, verdict)| matches!(verdict, Verdict::Key(given, _) if given == key))
            .map(|(at, _)| at.clone())
            .collect()
    }

    /// Whether a store has a row of a record already.
    fn has(&self, store: &StoreName, key: &RecordKey) -> bool {
        self.live.get(store).is_some_and(|live| live.contains_key(key)) || !self.claims(store, key).is_empty()
    }
}

impl Identify {
    /// Gives the rows of an entity their keys, in every store where they stand for themselves.
    pub(super) fn decide_objects(
        &mut self,
        entity: &Arc<Entity>,
        keys: &mut KeysById,
        identified: &mut Identified,
    ) {
        let stores: Vec<StoreName> = self
            .spec
            .stores_of(&entity.name)
            .into_iter()
            .filter(|store| {
                let mapping = self.spec.mapping(&entity.name, store);
                mapping.is_some_and(|mapping| mapping.own_ids && mapping.embedded().is_none())
            })
            .collect();
        let mut work = Work::default();
        for store in &stores {
            self.by_what_is_known(entity, store, keys, &mut work);
        }
        self.by_rules(entity, &mut work);
        settle_claims(&mut work, &stores);
        self.groups(entity, &mut work);
        for store in &stores {
            self.put_down(entity, store, &mut work, keys, identified);
        }
    }

    fn census(&self, entity: &Entity, store: &StoreName) -> Option<&Census> {
        self.places.get(&(entity.name.clone(), store.clone()))
    }

    /// Rows with keys, remembered rows, and rows whose relations are their key.
    fn by_what_is_known(&self, entity: &Arc<Entity>, store: &StoreName, keys: &KeysById, work: &mut Work) {
        let (Some(census), Some(mapping)) =
            (self.census(entity, store), self.spec.mapping(&entity.name, store))
        else {
            return;
        };
        let mut disputed = BTreeSet::new();
        let mut moved: Vec<(&StoreRecordId, &RecordKey, RecordKey)> = Vec::new();
        let mut carried: Vec<(&StoreRecordId, &RecordKey)> = Vec::new();
        for stray in census.strays.values() {
            let Some(key) = &stray.key else { continue };
            match joined(mapping, stray, key, keys) {
                Joined::Same => carried.push((&stray.store_id, key)),
                Joined::Key(other) => moved.push((&stray.store_id, key, other)),
                Joined::Elsewhere => {
                    let why = "what it joins was changed, and it is not plain to what; set both of its relations, or put them back";
                    disputed.insert(key.clone());
                    let at = (store.clone(), stray.store_id.clone());
                    work.hold(&at, why.to_owned(), BTreeSet::from([key.clone()]), false);
                }
            }
        }
        for (id, key) in census.keyed.iter().chain(carried) {
            let at = (store.clone(), id.clone());
            let other_row = census.linked.get(key).filter(|known| *known != id && census.has(known));
            match census.links.get(id) {
                Some(known) if known != key => {
                    let why = format!(
                        "its key was {known} and is {key} now; put the old one back, or link it with `trueup identity link`"
                    );
                    disputed.extend([known.clone(), key.clone()]);
                    work.hold(&at, why, BTreeSet::from([known.clone(), key.clone()]), false);
                }
                None if other_row.is_some() => {
                    let why = format!(
                        "it carries the key {key}, which is another row's; take it out of one of them"
                    );
                    disputed.insert(key.clone());
                    work.hold(&at, why, BTreeSet::from([key.clone()]), true);
                }
                _ => {
                    work.live.entry(store.clone()).or_default().insert(key.clone(), id.clone());
                }
            }
        }
        for (at, (id, old, key)) in moved.iter().enumerate() {
            let row = (store.clone(), (*id).clone());
            let live = work.live.get(store).is_some_and(|live| live.contains_key(key));
            let linked = census.linked.get(key).is_some_and(|known| known != *id && census.has(known));
            let twice = moved.iter().enumerate().any(|(other, (.., joins))| other != at && joins == key);
            if live || linked || twice {
                let why = format!("it joins what another row joins already, {key}; remove one of them");
                disputed.extend([(*old).clone(), key.clone()]);
                work.hold(&row, why, BTreeSet::from([(*old).clone(), key.clone()]), true);
            } else {
                // The old pair went where the new one came.
                work.give(&row, key.clone(), How::Relations);
            }
        }
        let all_related = mapping.key_relations().count() == mapping.key.len();
        for stray in census.strays.values().filter(|stray| stray.key.is_none()) {
            let at = (store.clone(), stray.store_id.clone());
            if let Some(key) = census.links.get(&stray.store_id).filter(|key| disputed.contains(*key)) {
                // Who looks for the record by its key would find the other row: it gets the key back once that is settled.
                let why = format!("its key {key} was taken out of it, and another row carries it");
                work.hold(&at, why, BTreeSet::from([key.clone()]), false);
            } else if let Some(key) = census.links.get(&stray.store_id) {
                work.give(&at, key.clone(), How::Remembered);
            } else if all_related && self.joins_unread(store, mapping, stray) {
                // Who it is, is told by what could not be read.
            } else if all_related {
                let parts = mapping.key_relations().map(|(part, target)| {
                    let related = stray.relations.get(&FieldRef::Key(part))?;
                    let found = keys.get(&(target.clone(), store.clone()))?.get(related)?;
                    found.parts().first().cloned()
                });
                if let Some(parts) = parts.collect::<Option<Vec<String>>>() {
                    work.give(&at, RecordKey::new(parts), How::Relations);
                } else {
                    let why = "a record that it joins is not there, or waits for a person; set its relations, or remove it";
                    work.hold(&at, why.to_owned(), BTreeSet::new(), false);
                }
            } else if is_unknown(census, mapping, stray) {
                work.unknown.push(at);
            }
        }
    }

    /// Whether something that a row joins stands in a place that could not be read.
    fn joins_unread(&self, store: &StoreName, mapping: &Mapping, stray: &Stray) -> bool {
        mapping.key_relations().any(|(part, target)| {
            let leads = stray.relations.contains_key(&FieldRef::Key(part));
            leads && self.unread.contains(&(target.clone(), store.clone()))
        })
    }

    fn features(&self, entity: &Entity, at: &At) -> BTreeSet<Feature> {
        let place = (entity.name.clone(), at.0.clone());
        self.wanted.of_strays.get(&(place, at.1.clone())).cloned().unwrap_or_default()
    }

    /// Unknown rows against the records that are known: the first rule that matches any decides.
    fn by_rules(&self, entity: &Arc<Entity>, work: &mut Work) {
        let doubted =
            self.doubted.contains(&entity.name)
                || entity.match_rules.iter().flatten().any(
                    |term| matches!(term, MatchTerm::Child { entity, .. } if self.doubted.contains(entity)),
                );
        for at in work.unknown.clone() {
            if doubted {
                let why = "the records that it may be of could not be read to their end".to_owned();
                work.hold(&at, why, BTreeSet::new(), false);
                continue;
            }
            let place = (entity.name.clone(), at.0.clone());
            if let Some(key) = self.known.made.get(&(place, at.1.clone())) {
                work.give(&at, key.clone(), How::Made);
                continue;
            }
            let own = minted(&entity.name, &at.0, &at.1);
            if !self.counts(entity) && self.known.keys.contains(&(entity.name.clone(), own.clone())) {
                work.give(&at, own, How::Made);
                continue;
            }
            let features = self.features(entity, &at);
            let found = entity.match_rules.iter().enumerate().find_map(|(rule, terms)| {
                let who = self.matching(entity, terms, &features);
                (!who.is_empty()).then_some((rule, who))
            });
            match found {
                Some((rule, who)) if who.len() == 1 => {
                    work.give(&at, who.into_iter().next().unwrap_or_else(|| own.clone()), How::Rule(rule));
                }
                Some((rule, who)) => {
                    let why = format!(
                        "{} records match it by the rule `{}`; say which with `trueup identity link`",
                        who.len(),
                        rule_text(entity, rule)
                    );
                    work.hold(&at, why, who, false);
                }
                None => {}
            }
        }
    }

    /// The known records that agree in every term.
    fn matching(
        &self,
        entity: &Entity,
        terms: &[MatchTerm],
        features: &BTreeSet<Feature>,
    ) -> BTreeSet<RecordKey> {
        let mut who: Option<BTreeSet<RecordKey>> = None;
        for term in terms {
            let mut here = BTreeSet::new();
            for feature in features.iter().filter(|(of, _)| of == term) {
                let known = self.known.features.get(&(entity.name.clone(), feature.clone()));
                here.extend(known.into_iter().flatten().cloned());
            }
            who = Some(match who {
                None => here,
                Some(who) => who.intersection(&here).cloned().collect(),
            });
        }
        who.unwrap_or_default()
    }

    /// Unknown rows among each other: those that match are one record, or wait for a person.
    fn groups(&mut self, entity: &Arc<Entity>, work: &mut Work) {
        let members: Vec<(At, BTreeSet<Feature>)> =
            work.unknown.iter().map(|at| (at.clone(), self.features(entity, at))).collect();
        for group in components(&edges(entity, &members)) {
            let rows: Vec<At> = group.into_iter().filter_map(|at| Some(members.get(at)?.0.clone())).collect();
            self.decide_group(entity, &rows, work);
        }
    }

    fn decide_group(&mut self, entity: &Arc<Entity>, rows: &[At], work: &mut Work) {
        let mut keys = BTreeSet::new();
        let mut held = false;
        let mut open: Vec<&At> = Vec::new();
        for at in rows {
            match work.verdicts.get(at) {
                Some(Verdict::Key(key, _)) => {
                    keys.insert(key.clone());
                }
                Some(Verdict::Held(_)) => held = true,
                None => open.push(at),
            }
        }
        if open.is_empty() {
            return;
        }
        let names = || {
            let all: Vec<String> = rows.iter().map(|(store, id)| format!("{store}[{}]", id.0)).collect();
            all.join(" and ")
        };
        let mut stores = BTreeSet::new();
        let doubled = !open.iter().all(|(store, _)| stores.insert(store.clone()));
        let clash = keys.iter().next().is_some_and(|key| stores.iter().any(|store| work.has(store, key)));
        if held || keys.len() > 1 || doubled || clash {
            let why = format!(
                "{} look like one record; say so with `trueup identity link`, or that they are not with `split`",
                names()
            );
            for at in open {
                work.hold(at, why.clone(), keys.clone(), doubled || clash);
            }
            return;
        }
        let (key, how) = match keys.into_iter().next() {
            Some(key) => (key, How::Same),
            None if entity.key.len() != 1
                || entity.references.iter().any(|of| of.from == FieldRef::Key(0)) =>
            {
                for at in open {
                    let why =
                        "it has no key, and trueup cannot make one of this kind; give it one".to_owned();
                    work.hold(at, why, BTreeSet::new(), false);
                }
                return;
            }
            None if self.counts(entity) => (self.next_number(&entity.name), How::New),
            None => {
                // The first of them gives the key, so that whoever asks again gets the same one.
                let Some((store, id)) = rows.first() else { return };
                (minted(&entity.name, store, id), How::New)
            }
        };
        for at in open {
            work.give(at, key.clone(), how);
        }
    }

    /// Writes down what became of a store's rows.
    fn put_down(
        &self,
        entity: &Arc<Entity>,
        store: &StoreName,
        work: &mut Work,
        keys: &mut KeysById,
        identified: &mut Identified,
    ) {
        let place = (entity.name.clone(), store.clone());
        let (Some(census), Some(mapping)) =
            (self.census(entity, store), self.spec.mapping(&entity.name, store))
        else {
            return;
        };
        let mut found = Found::default();
        let of_place = keys.entry(place.clone()).or_default();
        for ((_, id), verdict) in work.verdicts.iter().filter(|((of, _), _)| of == store) {
            match verdict {
                Verdict::Held(held) => {
                    // Nobody else's row leads to it either.
                    of_place.remove(id);
                    found.held.push(held.clone());
                }
                Verdict::Key(key, _) => {
                    of_place.insert(id.clone(), key.clone());
                }
            }
        }
        for stray in census.strays.values() {
            let decided = work.verdicts.contains_key(&(store.clone(), stray.store_id.clone()));
            if let Some(key) = stray.key.as_ref().filter(|_| !decided) {
                of_place.insert(stray.store_id.clone(), key.clone());
            }
        }
        for stray in census.strays.values() {
            let at = (store.clone(), stray.store_id.clone());
            let (key, how, carries) = match (work.verdicts.get(&at), &stray.key) {
                (Some(Verdict::Key(key, how)), _) => (key.clone(), Some(*how), false),
                (None, Some(key)) => (key.clone(), None, true),
                _ => continue,
            };
            let has_place = mapping.key_text.is_some() || mapping.key_relations().count() == 0;
            let orphaned =
                mapping.key_relations().any(|(part, _)| !stray.relations.contains_key(&FieldRef::Key(part)));
            // A relation that somebody emptied is put back, as a key is.
            let unlinked = orphaned || (!carries && has_place);
            let row = row_of(entity, mapping, stray, &key, keys, unlinked);
            if let Some(how) = how {
                found.how.insert(key.clone(), how);
            }
            found.rows.insert(key, row);
        }
        let live = work.live.get(store).cloned().unwrap_or_default();
        let unsure = found.held.iter().flat_map(|held| &held.candidates).cloned();
        let unsure = unsure.chain(work.doubtful.remove(store).unwrap_or_default());
        found.doubtful =
            unsure.filter(|key| !found.rows.contains_key(key) && !live.contains_key(key)).collect();
        identified.places.insert(place, found);
    }
}

/// What a row's relations say of the key that it carries.
fn joined(mapping: &Mapping, stray: &Stray, key: &RecordKey, keys: &KeysById) -> Joined {
    if mapping.key_relations().count() != mapping.key.len() || mapping.key.len() != key.parts().len() {
        return Joined::Same;
    }
    let mut parts = Vec::new();
    let (mut differs, mut lacks, mut elsewhere) = (false, false, false);
    for ((part, target), own) in mapping.key_relations().zip(key.parts()) {
        let rows = keys.get(&(target.clone(), mapping.store.clone()));
        let Some(id) = stray.relations.get(&FieldRef::Key(part)) else {
            lacks = true;
            continue;
        };
        if let Some(found) = rows.and_then(|rows| rows.get(id)).and_then(|key| key.parts().first()) {
            differs |= found != own;
            parts.push(found.clone());
        } else {
            // It is not there any more, unless what it led to has a row that it does not lead to.
            let own = std::slice::from_ref(own);
            elsewhere |= rows.is_some_and(|rows| rows.values().any(|key| key.parts() == own));
        }
    }
    if elsewhere || (differs && (lacks || parts.len() < key.parts().len())) {
        Joined::Elsewhere
    } else if differs {
        Joined::Key(RecordKey::new(parts))
    } else {
        Joined::Same
    }
}

/// Of several rows of a store that would be one record's, the one that is known to be stays; the others wait for a person.
fn settle_claims(work: &mut Work, stores: &[StoreName]) {
    for store in stores {
        let mut by_key: BTreeMap<RecordKey, Vec<(At, How)>> = BTreeMap::new();
        for (at, verdict) in work.verdicts.iter().filter(|((of, _), _)| of == store) {
            if let Verdict::Key(key, how) = verdict {
                by_key.entry(key.clone()).or_default().push((at.clone(), *how));
            }
        }
        for (key, claims) in by_key {
            let live = work.live.get(store).is_some_and(|live| live.contains_key(&key));
            let remembered = claims.iter().filter(|(_, how)| *how == How::Remembered).count();
            if claims.len() == 1 && !live {
                continue;
            }
            for (at, how) in &claims {
                if *how == How::Remembered && remembered == 1 && !live {
                    continue;
                }
                let why = format!(
                    "it looks like {key}, of which {store} has another row; merge the two there, or say that they are not one with \
                     `trueup identity split`"
                );
                work.hold(at, why, BTreeSet::from([key.clone()]), true);
            }
        }
    }
}

/// Which rows match by some rule.
fn edges(entity: &Entity, members: &[(At, BTreeSet<Feature>)]) -> Vec<BTreeSet<usize>> {
    let mut index: BTreeMap<&Feature, BTreeSet<usize>> = BTreeMap::new();
    for (at, (_, features)) in members.iter().enumerate() {
        for feature in features {
            index.entry(feature).or_default().insert(at);
        }
    }
    let mut edges = Vec::with_capacity(members.len());
    for (at, (_, features)) in members.iter().enumerate() {
        let mut mates = BTreeSet::new();
        for rule in &entity.match_rules {
            let mut who: Option<BTreeSet<usize>> = None;
            for term in rule {
                let of_term = features.iter().filter(|(of, _)| of == term);
                let here: BTreeSet<usize> =
                    of_term.filter_map(|feature| index.get(feature)).flatten().copied().collect();
                who = Some(match who {
                    None => here,
                    Some(who) => who.intersection(&here).copied().collect(),
                });
            }
            mates.extend(who.unwrap_or_default().into_iter().filter(|mate| *mate != at));
        }
        edges.push(mates);
    }
    edges
}

/// The groups that hang together, each in order.
fn components(edges: &[BTreeSet<usize>]) -> Vec<Vec<usize>> {
    let mut seen = BTreeSet::new();
    let mut groups = Vec::new();
    for start in 0..edges.len() {
        if seen.contains(&start) {
            continue;
        }
        let mut group = BTreeSet::new();
        let mut todo = vec![start];
        while let Some(at) = todo.pop() {
            if group.insert(at) {
                todo.extend(edges.get(at).into_iter().flatten().copied());
            }
        }
        seen.extend(group.iter().copied());
        groups.push(group.into_iter().collect());
    }
    groups
}

/// A rule as the manifest has it.
pub fn rule_text(entity: &Entity, rule: usize) -> String {
    let terms = entity.match_rules.get(rule).into_iter().flatten().map(|term| match term {
        MatchTerm::Own(FieldRef::Field(field)) => entity.field(*field).name.to_string(),
        MatchTerm::Own(FieldRef::Key(part)) => {
            entity.key.get(*part).map(|part| part.name.to_string()).unwrap_or_default()
        }
        MatchTerm::Child { entity, kind } => format!("{entity}.{kind}"),
    });
    terms.collect::<Vec<_>>().join(" + ")
}
