//! Elements inside rows: known again by their place and value; one gone and one come of a kind in a row is a change of that one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{ElementId, Entity, RecordKey, StoreName, StoreRecordId};

use super::mint::minted_element;
use super::{HeldRow, How, Identified, Identify, KeysById, row_of};

/// How often a record may begin with a value that another one began with.
const AGAIN: u8 = 8;

impl Identify {
    /// Gives the elements of an entity their keys, in every store in which they stand inside others' rows.
    pub(super) fn decide_elements(
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
                self.spec.mapping(&entity.name, store).is_some_and(|mapping| mapping.embedded().is_some())
            })
            .collect();
        // The same new value of the same parent in two stores is one.
        let mut made: BTreeMap<(RecordKey, String, String), RecordKey> = BTreeMap::new();
        for store in stores {
            self.decide_in(entity, &store, keys, identified, &mut made);
        }
    }

    fn decide_in(
        &mut self,
        entity: &Arc<Entity>,
        store: &StoreName,
        keys: &mut KeysById,
        identified: &mut Identified,
        made: &mut BTreeMap<(RecordKey, String, String), RecordKey>,
    ) {
        let place = (entity.name.clone(), store.clone());
        let Some(mapping) = self.spec.mapping(&entity.name, store).cloned() else { return };
        let Some(embedded) = mapping.embedded() else { return };
        let parents = keys.get(&(embedded.parent.clone(), store.clone())).cloned().unwrap_or_default();
        let Some(census) = self.places.remove(&place) else { return };
        let mut given: BTreeMap<StoreRecordId, (RecordKey, How)> = BTreeMap::new();
        let mut taken: BTreeSet<RecordKey> = BTreeSet::new();
        let found = identified.places.entry(place.clone()).or_default();
        let mut fresh: BTreeMap<(StoreRecordId, String), Vec<ElementId>> = BTreeMap::new();
        for id in census.strays.keys() {
            let Some(element) = ElementId::parse(id) else { continue };
            if !parents.contains_key(&element.parent) {
                let why = "the row that it stands in waits for a person".to_owned();
                let candidates = census.links.get(id).cloned().into_iter().collect();
                found.held.push(HeldRow { id: id.clone(), why, candidates, duplicate: false });
                continue;
            }
            let remembered = census.links.get(id).map(|key| (key, How::Remembered));
            // One whose field went away is known again when that is back.
            let known = remembered.or_else(|| Some((census.former.get(id)?, How::Value)));
            match known {
                Some((key, how)) if taken.insert(key.clone()) => {
                    given.insert(id.clone(), (key.clone(), how));
                }
                _ => fresh.entry((element.parent.clone(), element.kind.clone())).or_default().push(element),
            }
        }
        let gone = gone(&census.links, &census.strays.keys().cloned().collect());
        for ((parent, kind), elements) in fresh {
            let Some(parent_key) = parents.get(&parent) else { continue };
            let mut new = Vec::new();
            for element in elements {
                match self.known_element(entity, parent_key, &element, &taken) {
                    Some(key) => {
                        taken.insert(key.clone());
                        given.insert(element.store_id(), (key, How::Value));
                    }
                    None => new.push(element),
                }
            }
            let missing: Vec<&RecordKey> = gone
                .get(&(parent.clone(), kind.clone()))
                .into_iter()
                .flatten()
                .filter(|key| !taken.contains(*key))
                .collect();
            if let ([element], [key]) = (new.as_slice(), missing.as_slice()) {
                taken.insert((*key).clone());
                given.insert(element.store_id(), ((*key).clone(), How::Changed));
                continue;
            }
            for element in new {
                let id = element.store_id();
                if self.doubted.contains(&entity.name) {
                    let why = "what is known of its parent could not be read to its end".to_owned();
                    found.held.push(HeldRow { id, why, candidates: BTreeSet::new(), duplicate: false });
                    continue;
                }
                let value = (parent_key.clone(), element.kind.clone(), element.normal.clone());
                let key = match made.get(&value) {
                    Some(key) => key.clone(),
                    None => self.new_element(entity, parent_key, &element),
                };
                made.insert(value, key.clone());
                taken.insert(key.clone());
                given.insert(id, (key, How::New));
            }
        }
        let of_place = keys.entry(place.clone()).or_default();
        for (id, (key, _)) in &given {
            of_place.insert(id.clone(), key.clone());
        }
        for (id, (key, how)) in given {
            let Some(stray) = census.strays.get(&id) else { continue };
            let row = row_of(entity, &mapping, stray, &key, keys, true);
            found.how.insert(key.clone(), how);
            found.rows.insert(key, row);
        }
        for held in &found.held {
            found.doubtful.extend(held.candidates.iter().cloned());
        }
        self.places.insert(place, census);
    }

    /// The known record of a parent with this value.
    fn known_element(
        &self,
        entity: &Entity,
        parent: &RecordKey,
        element: &ElementId,
        taken: &BTreeSet<RecordKey>,
    ) -> Option<RecordKey> {
        let place = (entity.name.clone(), element.kind.clone(), element.normal.clone());
        let [parent] = parent.parts() else { return None };
        let known = self.known.elements.get(&place)?;
        known.iter().find(|(of, _, key)| of == parent && !taken.contains(key)).map(|(.., key)| key.clone())
    }

    fn new_element(&mut self, entity: &Entity, parent: &RecordKey, element: &ElementId) -> RecordKey {
        if self.counts(entity) {
            return self.next_number(&entity.name);
        }
        let key = |again| minted_element(&entity.name, parent, &element.kind, &element.normal, again);
        let free = |key: &RecordKey| !self.known.keys.contains(&(entity.name.clone(), key.clone()));
        (0..AGAIN).map(key).find(free).unwrap_or_else(|| key(AGAIN))
    }
}

/// Remembered elements that are no longer there, by the row they stood in and their kind.
fn gone(
    links: &BTreeMap<StoreRecordId, RecordKey>,
    there: &BTreeSet<StoreRecordId>,
) -> BTreeMap<(StoreRecordId, String), Vec<RecordKey>> {
    let mut gone: BTreeMap<(StoreRecordId, String), Vec<RecordKey>> = BTreeMap::new();
    for (id, key) in links.iter().filter(|(id, _)| !there.contains(id)) {
        if let Some(element) = ElementId::parse(id) {
            gone.entry((element.parent, element.kind)).or_default().push(key.clone());
        }
    }
    gone
}
