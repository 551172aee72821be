//! Names that come again in every record, by number.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{FieldName, Home, MappingTag, Shadow};

use super::BadRecord;

/// Names beyond this many are written out where they stand: applications may put anything into `last_updated_by`, and the
/// dictionary is held in memory.
const NAMES_AT_MOST: usize = 10_000;

/// Layouts looked through before one is made into text to be looked up: those of the stores of the entity at hand.
const RECENT: usize = 8;

/// The fields of a shadow with their mapping tags, and where the row lived.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) home: Option<Home>,
    pub(super) fields: Vec<(FieldName, MappingTag)>,
}

/// A layout as text. Where nobody noted where the row lived, it is the list of fields alone, as it once was everywhere.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Spelled<N> {
    Homeless(Vec<(N, MappingTag)>),
    At(Home, Vec<(N, MappingTag)>),
}

/// For each field of a layout its place in another one.
pub(super) type Match = Arc<Vec<Option<usize>>>;

/// Names by number, in the order they were first met.
#[derive(Debug, Clone, Default)]
pub struct Dictionary {
    names: Vec<String>,
    ids: BTreeMap<String, usize>,
    layouts: BTreeMap<usize, Arc<Layout>>,
    matches: BTreeMap<(usize, usize), Match>,
    recent: Vec<(usize, Arc<Layout>)>,
}

impl Dictionary {
    /// How many names there are; the next one gets this number.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The names from a number on.
    pub fn since(&self, id: usize) -> &[String] {
        self.names.get(id..).unwrap_or_default()
    }

    /// Adds a name as the next number.
    pub fn push(&mut self, name: String) {
        self.ids.insert(name.clone(), self.names.len());
        self.names.push(name);
    }

    /// Forgets the names from a number on.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.names.len() {
            return;
        }
        for name in self.names.drain(len..) {
            self.ids.remove(&name);
        }
        self.layouts.retain(|id, _| *id < len);
        self.matches.retain(|(one, other), _| *one < len && *other < len);
        self.recent.retain(|(id, _)| *id < len);
    }

    pub(super) fn intern(&mut self, name: &str) -> usize {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        self.push(name.to_owned());
        self.names.len() - 1
    }

    pub(super) fn has_room_for(&self, name: &str) -> bool {
        self.len() < NAMES_AT_MOST || self.ids.contains_key(name)
    }

    pub(super) fn name(&self, id: usize) -> Result<&str, BadRecord> {
        self.names.get(id).map(String::as_str).ok_or(BadRecord)
    }

    /// The number of a shadow's layout.
    pub(super) fn intern_layout(&mut self, shadow: &Shadow) -> usize {
        let same = |(_, layout): &&(usize, Arc<Layout>)| {
            let known = layout.fields.iter();
            let fields = shadow.fields.iter();
            layout.home == shadow.home
                && known.len() == shadow.fields.len()
                && known.zip(fields).all(|((theirs, of), (name, field))| *of == field.tag && theirs == name)
        };
        if let Some((id, _)) = self.recent.iter().find(same) {
            return *id;
        }
        let fields = shadow.fields.iter().map(|(name, field)| (name.as_str(), field.tag)).collect();
        let spelled = match shadow.home {
            None => Spelled::Homeless(fields),
            Some(home) => Spelled::At(home, fields),
        };
        let id = self.intern(&serde_json::to_string(&spelled).unwrap_or_default());
        if self.recent.len() >= RECENT {
            self.recent.remove(0);
        }
        let fields = shadow.fields.iter().map(|(name, field)| (name.clone(), field.tag)).collect();
        self.recent.push((id, Arc::new(Layout { home: shadow.home, fields })));
        id
    }

    pub(super) fn layout(&mut self, id: usize) -> Result<Arc<Layout>, BadRecord> {
        if let Some(layout) = self.layouts.get(&id) {
            return Ok(Arc::clone(layout));
        }
        let spelled = serde_json::from_str(self.name(id)?).map_err(|_| BadRecord)?;
        let layout = Arc::new(match spelled {
            Spelled::Homeless(fields) => Layout { home: None, fields },
            Spelled::At(home, fields) => Layout { home: Some(home), fields },
        });
        self.layouts.insert(id, Arc::clone(&layout));
        Ok(layout)
    }

    /// Where the fields of a layout stand in another one.
    pub(super) fn places(&mut self, of: usize, within: usize) -> Result<Match, BadRecord> {
        if let Some(places) = self.matches.get(&(of, within)) {
            return Ok(Arc::clone(places));
        }
        let (fields, base) = (self.layout(of)?, self.layout(within)?);
        let place = |name: &FieldName| base.fields.iter().position(|(known, _)| known == name);
        let places: Match = Arc::new(fields.fields.iter().map(|(name, _)| place(name)).collect());
        self.matches.insert((of, within), Arc::clone(&places));
        Ok(places)
    }
}
