//! Whose row is it? Stores with record ids of their own have rows that carry no key: here each is given the record that it is of, before
//! anything is compared.
//!
//! What is remembered of the store's id comes first, then what a row holds by the entity's match rules; who is nobody's becomes a new
//! record. Where that is not plain, the row is held for a person: no record is ever doubled, and none is taken for another. All of it is
//! pure: rows, strays and memories in, a key for each row or a reason out.

mod elements;
mod features;
mod mint;
mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{
    Cell, ElementId, Entity, EntityName, FieldRef, FieldType, Mapping, MatchTerm, Memory, RecordKey, Row,
    StoreName, StoreRecordId, Stray, Value,
};
use crate::spec::Spec;

pub use mint::minted;
pub use objects::rule_text;

/// An entity in a store.
pub type Place = (EntityName, StoreName);

/// What a row says of itself by a term of a match rule.
type Feature = (MatchTerm, String);

/// How a row came to its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The store's id is remembered.
    Remembered,
    /// All parts of its key are relations.
    Relations,
    /// A match rule of the entity, by its place.
    Rule(usize),
    /// The row was made for the record before, or the record from the row.
    Made,
    /// A row in another store that is of the same record.
    Same,
    /// An element with this value is known of the parent.
    Value,
    /// The value of a known element of the parent was changed.
    Changed,
    /// It becomes a new record.
    New,
}

/// A row that nobody knows the record of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRow {
    /// The store's id of it.
    pub id: StoreRecordId,
    /// Why, and what to do.
    pub why: String,
    /// The records that it may be.
    pub candidates: BTreeSet<RecordKey>,
    /// Whether it looks like another row of the same store.
    pub duplicate: bool,
}

/// What was found out about an entity's rows in a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The strays that have a record now.
    pub rows: BTreeMap<RecordKey, Row>,
    /// How they came to it.
    pub how: BTreeMap<RecordKey, How>,
    /// Records of which it cannot be told whether the store has them, or which row is theirs.
    pub doubtful: BTreeSet<RecordKey>,
    /// Rows that wait for a person.
    pub held: Vec<HeldRow>,
    /// Of elements: the kinds that the store has no field for any more, so that nothing is known of them.
    pub lost_kinds: BTreeSet<String>,
}

/// What was found out, by entity and store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identified {
    /// Every entity in every store with record ids of its own.
    pub places: BTreeMap<Place, Found>,
}

/// An entity's rows in a store with record ids of its own.
#[derive(Debug, Default)]
struct Census {
    /// Rows that carry a key.
    keyed: BTreeMap<StoreRecordId, RecordKey>,
    strays: BTreeMap<StoreRecordId, Stray>,
    /// What is remembered.
    links: BTreeMap<StoreRecordId, RecordKey>,
    /// Elements whose field went away.
    former: BTreeMap<StoreRecordId, RecordKey>,
    linked: BTreeMap<RecordKey, StoreRecordId>,
}

impl Census {
    fn has(&self, id: &StoreRecordId) -> bool {
        self.keyed.contains_key(id) || self.strays.contains_key(id)
    }
}

/// Finds out. Rows and strays are taken first, then memories, then the rows that are asked for.
pub struct Identify {
    spec: Arc<Spec>,
    places: BTreeMap<Place, Census>,
    /// What is looked for among known rows, worked out once memories are there.
    wanted: Wanted,
    known: Known,
    /// Entities whose canonical rows could not be read to their end: nothing new is decided about them.
    doubted: BTreeSet<EntityName>,
    /// Places that could not be read to their end, of which nothing was taken.
    unread: BTreeSet<Place>,
}

/// What is looked for among known rows.
#[derive(Debug, Default)]
struct Wanted {
    features: BTreeSet<Feature>,
    /// Kinds and normal forms of elements, by their entity.
    elements: BTreeSet<(EntityName, String, String)>,
    keys: BTreeSet<(EntityName, RecordKey)>,
    /// Rows that may have been made for a record and forgotten.
    ids: BTreeSet<(Place, StoreRecordId)>,
    /// Entities of which all keys are looked for.
    all_keys: BTreeSet<EntityName>,
    entities: BTreeSet<EntityName>,
    /// What the strays say of themselves, by their own children's rows too.
    of_strays: BTreeMap<(Place, StoreRecordId), BTreeSet<Feature>>,
}

/// An element's parent, whether it is another store than the canonical one that has it, and its own key.
type KnownElement = (String, bool, RecordKey);

/// What was found of it.
#[derive(Debug, Default)]
struct Known {
    /// Who has a feature.
    features: BTreeMap<(EntityName, Feature), BTreeSet<RecordKey>>,
    /// Elements by entity, kind and normal form: the parent's key and their own. Of several with one value those come first that have it
    /// in the canonical store: what another store says may be an edit that has lost, or waits for a person.
    elements: BTreeMap<(EntityName, String, String), BTreeSet<KnownElement>>,
    keys: BTreeSet<(EntityName, RecordKey)>,
    /// Rows that were made for a record.
    made: BTreeMap<(Place, StoreRecordId), RecordKey>,
    /// The greatest number among the keys of an entity.
    greatest: BTreeMap<EntityName, i64>,
}

/// What becomes of a row.
#[derive(Debug, Clone)]
enum Verdict {
    Key(RecordKey, How),
    Held(HeldRow),
}

/// The keys of rows by their ids.
type KeysById = BTreeMap<Place, BTreeMap<StoreRecordId, RecordKey>>;

impl Identify {
    /// Begins.
    pub fn new(spec: Arc<Spec>) -> Self {
        let mut places = BTreeMap::new();
        for (entity, stores) in &spec.mappings {
            for (store, _) in stores.iter().filter(|(_, mapping)| mapping.own_ids) {
                places.insert((entity.clone(), store.clone()), Census::default());
            }
        }
        let (wanted, known) = (Wanted::default(), Known::default());
        Self { spec, places, wanted, known, doubted: BTreeSet::new(), unread: BTreeSet::new() }
    }

    /// Whether any store has record ids of its own, so that there is something to find out.
    pub fn is_needed(&self) -> bool {
        !self.places.is_empty()
    }

    /// The entities and stores whose rows and strays are to be taken, each read whole. Elements come with the rows they stand in.
    pub fn sources(&self) -> Vec<Place> {
        let stands_alone = |(entity, store): &&Place| {
            self.spec.mapping(entity, store).is_some_and(|mapping| mapping.embedded().is_none())
        };
        self.places.keys().filter(stands_alone).cloned().collect()
    }

    /// Notes that a place could not be read to its end, so that nothing of it is taken.
    pub fn unread(&mut self, place: &Place) {
        self.unread.insert(place.clone());
    }

    /// Takes a row that carries its key.
    pub fn take_row(&mut self, entity: &EntityName, store: &StoreName, row: &Row) {
        self.note_number(entity, &row.key);
        let census = self.places.get_mut(&(entity.clone(), store.clone()));
        if let (Some(census), Some(id)) = (census, &row.store_id) {
            census.keyed.insert(id.clone(), row.key.clone());
        }
    }

    /// Takes a stray.
    pub fn take_stray(&mut self, store: &StoreName, stray: Stray) {
        if let Some(census) = self.places.get_mut(&(stray.entity.clone(), store.clone())) {
            census.strays.insert(stray.store_id.clone(), stray);
        }
    }

    /// The entities whose memories are to be taken.
    pub fn wants_memories(&self) -> BTreeSet<EntityName> {
        self.places.keys().map(|(entity, _)| entity.clone()).collect()
    }

    /// Takes what is remembered of a record.
    pub fn remember(&mut self, entity: &EntityName, key: &RecordKey, memory: &Memory) {
        self.note_number(entity, key);
        for (store, shadow) in &memory.stores {
            let census = self.places.get_mut(&(entity.clone(), store.clone()));
            let (Some(census), Some(id)) = (census, &shadow.store_id) else { continue };
            if shadow.present {
                census.links.insert(id.clone(), key.clone());
                census.linked.insert(key.clone(), id.clone());
            } else {
                census.former.insert(id.clone(), key.clone());
            }
        }
    }

    /// The entities and stores whose rows are to be shown to [`Identify::know`], once all memories are there. None where every row's
    /// record is known already.
    pub fn wants_rows(&mut self) -> Vec<Place> {
        self.wanted = self.look_for();
        let mut places = Vec::new();
        for entity in &self.wanted.entities {
            for store in self.spec.stores_of(entity) {
                let alone = self.spec.mapping(entity, &store).is_some_and(|place| place.embedded().is_none());
                if alone {
                    places.push((entity.clone(), store));
                }
            }
        }
        places
    }

    /// Notes that the canonical rows of an entity could not be read to their end: who is not found among them may be there.
    pub fn doubt(&mut self, entity: &EntityName) {
        self.doubted.insert(entity.clone());
    }

    /// Takes a row of a record that is known, as a store has it.
    pub fn know(&mut self, entity: &Entity, store: &StoreName, row: &Row) {
        self.note_number(&entity.name, &row.key);
        let id = (entity.name.clone(), row.key.clone());
        if self.wanted.keys.contains(&id) || self.wanted.all_keys.contains(&entity.name) {
            self.known.keys.insert(id);
        }
        if !self.wanted.ids.is_empty() {
            let stores = self.spec.mappings.get(&entity.name).into_iter().flatten();
            for (store, _) in stores.filter(|(_, mapping)| mapping.own_ids) {
                let made = StoreRecordId::chosen(store, &entity.name, &row.key);
                let place = ((entity.name.clone(), store.clone()), made);
                if self.wanted.ids.contains(&place) {
                    self.known.made.insert(place, row.key.clone());
                }
            }
        }
        for (whose, key, feature) in features::of_row(&self.spec, entity, row) {
            self.note_feature(whose, key, feature);
        }
        if let Some((parent, kind, normal)) = features::element_of(&self.spec, entity, row) {
            let place = (entity.name.clone(), kind, normal);
            if self.wanted.elements.contains(&place) {
                let elsewhere = *store != self.spec.canonical;
                self.known.elements.entry(place).or_default().insert((parent, elsewhere, row.key.clone()));
            }
        }
    }

    fn note_feature(&mut self, whose: EntityName, key: RecordKey, feature: Feature) {
        if self.wanted.features.contains(&feature) {
            self.known.features.entry((whose, feature)).or_default().insert(key);
        }
    }

    fn note_number(&mut self, entity: &EntityName, key: &RecordKey) {
        if let [part] = key.parts()
            && let Ok(number) = part.parse::<i64>()
        {
            let greatest = self.known.greatest.entry(entity.clone()).or_insert(0);
            *greatest = number.max(*greatest);
        }
    }

    /// What has to be looked for: what the strays that nobody knows say of themselves.
    fn look_for(&self) -> Wanted {
        let mut wanted = Wanted::default();
        let of_children = features::of_children(self);
        for ((entity, store), census) in &self.places {
            let (Some(declared), Some(mapping)) =
                (self.spec.entity(entity), self.spec.mapping(entity, store))
            else {
                continue;
            };
            let unknown = census.strays.values().filter(|stray| is_unknown(census, mapping, stray));
            for stray in unknown {
                wanted.entities.insert(entity.clone());
                if mapping.embedded().is_some() {
                    let Some(element) = ElementId::parse(&stray.store_id) else { continue };
                    wanted.all_keys.insert(entity.clone());
                    wanted.elements.insert((entity.clone(), element.kind, element.normal));
                    continue;
                }
                let place = (entity.clone(), store.clone());
                let mut features = features::of_stray(declared, stray);
                let children = of_children.get(&(place.clone(), stray.store_id.clone()));
                features.extend(children.into_iter().flatten().cloned());
                for (term, _) in &features {
                    if let MatchTerm::Child { entity, .. } = term {
                        wanted.entities.insert(entity.clone());
                    }
                }
                wanted.features.extend(features.iter().cloned());
                wanted.keys.insert((entity.clone(), minted(entity, store, &stray.store_id)));
                wanted.ids.insert((place.clone(), stray.store_id.clone()));
                wanted.of_strays.insert((place, stray.store_id.clone()), features);
            }
        }
        wanted
    }

    /// Decides.
    pub fn decide(mut self) -> Identified {
        for ((entity, _), id, feature) in features::of_keyed_elements(&self) {
            self.note_feature(entity, id, feature);
        }
        let mut keys = KeysById::new();
        for (place, census) in &self.places {
            keys.insert(place.clone(), census.keyed.clone());
        }
        let mut identified = Identified::default();
        for entity in &self.spec.clone().entities {
            self.decide_objects(entity, &mut keys, &mut identified);
            self.decide_elements(entity, &mut keys, &mut identified);
        }
        identified
    }

    /// Whether keys of an entity are numbers, in some store at least.
    fn counts(&self, entity: &Entity) -> bool {
        let mappings = self.spec.mappings.get(&entity.name).into_iter().flat_map(BTreeMap::values);
        let as_number = |place: &crate::model::KeyMapping| place.form == crate::model::Form::Int64;
        entity.key.iter().any(|part| part.ty == FieldType::Int64)
            || mappings.flat_map(|mapping| &mapping.key).any(as_number)
    }

    /// The number after all that are known.
    fn next_number(&mut self, entity: &EntityName) -> RecordKey {
        let greatest = self.known.greatest.entry(entity.clone()).or_insert(0);
        *greatest = greatest.saturating_add(1);
        RecordKey::new(vec![greatest.to_string()])
    }
}

/// Whether neither a key, nor what is remembered, nor relations tell whose row a stray is.
fn is_unknown(census: &Census, mapping: &Mapping, stray: &Stray) -> bool {
    stray.key.is_none()
        && !census.links.contains_key(&stray.store_id)
        && (mapping.embedded().is_some() || mapping.key_relations().count() < mapping.key.len())
}

/// A stray as the row of a record. A relation to a row whose record is not known is left out: nothing is known of it.
fn row_of(
    entity: &Entity,
    mapping: &Mapping,
    stray: &Stray,
    key: &RecordKey,
    keys: &KeysById,
    unlinked: bool,
) -> Row {
    let mut fields = stray.fields.clone();
    for (id, place) in &mapping.fields {
        let Some(target) = &place.relation else { continue };
        match stray.relations.get(&FieldRef::Field(*id)) {
            None => {
                fields.entry(*id).or_insert(Cell::Value(Value::Null));
            }
            Some(related) => {
                let found =
                    keys.get(&(target.clone(), mapping.store.clone())).and_then(|keys| keys.get(related));
                match found.and_then(|key| Value::of_key(key, entity.field(*id).ty)) {
                    Some(value) => fields.insert(*id, Cell::Value(value)),
                    None => fields.remove(id),
                };
            }
        }
    }
    Row {
        key: key.clone(),
        store_id: Some(stray.store_id.clone()),
        fields,
        meta: stray.meta.clone(),
        created: stray.created,
        updated: stray.updated,
        unlinked,
    }
}
