//! What was deleted together with a record that it refers to, as any foreign key does it: where that record stays, so does this.

use std::collections::BTreeSet;

use crate::model::{OnDelete, RecordId};
use crate::resolve::{Fate, KeepReason};

use super::build::Planner;

impl Planner {
    /// Keeps what was deleted nowhere but where the record that it refers to was deleted as well, and that one stays all the same.
    pub(super) fn settle_revived(&mut self) {
        let mut asked = BTreeSet::new();
        loop {
            // Whoever comes back may have had others go with it.
            let back: Vec<RecordId> =
                self.went_along().into_iter().filter(|id| asked.insert(id.clone())).collect();
            if back.is_empty() {
                return;
            }
            for id in back {
                self.reconsider(&id, |overrides| overrides.keep = Some(KeepReason::ParentStays));
                self.take_fall_back(&id);
            }
        }
    }

    /// Records that go although one that they went with stays, and no other takes them along.
    fn went_along(&self) -> Vec<RecordId> {
        let mut found = Vec::new();
        for entity in &self.inputs.spec.entities {
            let Some(work) = self.work.get(&entity.name).filter(|work| !work.deleted.is_empty()) else {
                continue;
            };
            for (key, deleted) in &work.deleted {
                let Some(link) = work.link(key).filter(|link| link.fate == Fate::Dead) else { continue };
                let cascades = entity.references.iter().zip(&link.parents);
                let cascades = cascades.filter(|(reference, _)| reference.on_delete == OnDelete::Cascade);
                let (mut stays, mut goes) = (false, false);
                for (reference, parent) in cascades {
                    let Some((parent, of)) = parent.as_ref().zip(self.work.get(&reference.to)) else {
                        continue;
                    };
                    let fate = of.link(parent).map(|parent| parent.fate);
                    let with = of.deleted.get(parent).is_some_and(|with| deleted.is_subset(with));
                    stays |= fate == Some(Fate::Alive) && with;
                    goes |= fate == Some(Fate::Dead);
                }
                if stays && !goes {
                    found.push(RecordId { entity: entity.name.clone(), key: key.clone() });
                }
            }
        }
        found
    }
}
