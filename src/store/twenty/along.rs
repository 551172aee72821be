//! Elements that are made with the record that they stand in: one call for all of it. Their own writes come later, and find them there.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value as Json, json};

use crate::model::{Along, ElementId, IntentId, Outcome, RecordKey, SyncMeta, Value, Write, WriteOp};

use super::TwentyStore;
use super::elements::Changed;
use super::exchange::Elements;
use super::layout::Layout;
use super::rows::{elements, id_of};

/// Records that were made with elements, as the server answered, until all are listed again.
#[derive(Default)]
pub(super) struct Made(Mutex<BTreeMap<String, Json>>);

impl Made {
    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Json>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a record under the id that was chosen for it, which is another one's where a deleted one was restored.
    pub(super) fn note(&self, chosen: String, record: &Json) {
        self.all().insert(chosen, record.clone());
    }

    /// What was made is seen by now.
    pub(super) fn forget(&self) {
        self.all().clear();
    }

    fn of(&self, id: &str) -> Option<Json> {
        self.all().get(id).cloned()
    }
}

impl TwentyStore {
    /// The fields with the elements that are made along with a record; with `whole` all such fields, also where they are to be empty.
    pub(super) fn with_elements(
        &self,
        layout: &Layout,
        key: &RecordKey,
        id: &str,
        along: &[Along],
        whole: bool,
    ) -> Map<String, Json> {
        let record = json!({ "id": id });
        let mut fields = Map::new();
        for child in &layout.children {
            let own = along.iter().filter(|one| one.parent == *key && one.entity == *child.mapped.name());
            let writes: Vec<Write> = own
                .map(|one| Write {
                    intent: IntentId(String::new().into()),
                    key: RecordKey::new(Vec::new()),
                    store_id: None,
                    link: false,
                    op: WriteOp::Create {
                        fields: one.fields.clone(),
                        meta: SyncMeta::default(),
                        created: None,
                        updated: None,
                    },
                })
                .collect();
            let mut changed = Changed::new(self, layout, child, &record);
            // What cannot be made is named by its own write.
            changed.take_all(&writes.iter().collect::<Vec<_>>());
            if whole {
                changed.touch_all();
            }
            fields.extend(changed.body());
        }
        fields
    }

    /// What became of a new element, where it was made with its record and the answer says so.
    pub(super) fn made_along(&self, with: &Elements<'_>, write: &Write) -> Option<Outcome> {
        let WriteOp::Create { fields, .. } = &write.op else { return None };
        let embedded = &with.child.embedded;
        let text = |field| fields.get(&field).and_then(Value::as_text);
        let key = fields.get(&embedded.reference)?.to_key()?;
        let id = self.chosen_id(with.parent, &key);
        let record = self.made.of(&id)?;
        let (kind, value) = (text(embedded.kind)?, text(embedded.value)?);
        let normal = embedded.normal(kind, value)?;
        let place = ElementId { parent: id_of(&record)?, kind: kind.to_owned(), normal };
        let there = elements(with.layout, with.child, &record);
        there.iter().any(|one| one.kind == place.kind && one.normal == place.normal).then(|| {
            let row = super::elements::made_of(with, &record, (write, Some(&place)), &there);
            Outcome::Applied(row)
        })
    }
}
