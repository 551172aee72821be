//! Elements that records take from each other: only one person may have a primary address, and two who exchange theirs wait for each
//! other for ever. What waits for something that goes in the same batch goes after it; of those that wait for each other one steps aside:
//! it takes its address as an additional one, which anybody may have, and as the primary one once the others are done. Where somebody else
//! keeps it as theirs it stays an additional one.

// An outcome that is no success ends a write; it is made once a write and not passed far.
#![allow(clippy::result_large_err)]

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Map, Value as Json};

use crate::model::{ErrorKind, IntentId, Mapped, Outcome, StoreError, Write};

use super::TwentyStore;
use super::elements::{Came, Prepared, Whose, by_parent, one_by_one};
use super::error::Failure;
use super::layout::{Child, Layout};

/// Writes to a record that were refused because another record has what they would put there.
pub(super) type Taken<'w> = (Whose, Vec<&'w Write>);

/// A record that stepped aside, with what it is to be in the end.
struct Aside<'w> {
    path: String,
    record: Json,
    answer: Json,
    body: Map<String, Json>,
    prepared: Prepared<'w>,
}

/// What elements of a store are written with.
pub(super) struct Elements<'a> {
    pub(super) store: &'a TwentyStore,
    pub(super) layout: &'a Layout,
    pub(super) parent: &'a Mapped,
    pub(super) child: &'a Child,
}

impl Elements<'_> {
    /// Writes what can be written once others have let go.
    pub(super) async fn exchange(
        &self,
        mut taken: Vec<Taken<'_>>,
        outcomes: &mut BTreeMap<IntentId, Outcome>,
    ) -> Result<(), StoreError> {
        let mut aside = Vec::new();
        while !taken.is_empty() {
            let before = taken.len();
            taken = self.once_more(taken, outcomes).await?;
            if taken.len() < before {
                continue;
            }
            // Where one waits alone, whoever has what it wants is none of this batch.
            if taken.len() < 2 {
                break;
            }
            let (whose, writes) = taken.remove(0);
            match self.step_aside(&whose, &writes).await? {
                Some(stepped) => aside.push(stepped),
                None => self.refused(&whose, &writes, outcomes).await?,
            }
        }
        for stepped in aside {
            self.step_back(stepped, outcomes).await?;
        }
        for (whose, writes) in taken {
            match self.step_aside(&whose, &writes).await? {
                Some(stepped) => {
                    outcomes.extend(stepped.prepared.conclude(self, &stepped.record, &stepped.answer));
                }
                None => self.refused(&whose, &writes, outcomes).await?,
            }
        }
        Ok(())
    }

    /// The record that writes are about, as it is now.
    async fn look(&self, whose: &Whose, writes: &[&Write]) -> Result<Option<Json>, StoreError> {
        let group = vec![(whose.clone(), writes.to_vec())];
        let records = self.store.parents(self.layout, &group).await;
        let records = records.map_err(|failure| failure.error)?;
        let found = by_parent(self.layout, self.parent, &records, group);
        Ok(found.into_iter().find_map(|(record, _)| record.cloned()))
    }

    /// Tries every one again; gives those that still wait.
    async fn once_more<'w>(
        &self,
        taken: Vec<Taken<'w>>,
        outcomes: &mut BTreeMap<IntentId, Outcome>,
    ) -> Result<Vec<Taken<'w>>, StoreError> {
        let mut waiting = Vec::new();
        for (whose, writes) in taken {
            let record = self.look(&whose, &writes).await?;
            match self.store.write_elements(self, record.as_ref(), &writes).await {
                Came::Outcomes(ended) => outcomes.extend(ended),
                Came::Taken => waiting.push((whose, writes)),
                Came::Down(error) => return Err(error),
            }
        }
        Ok(waiting)
    }

    /// Puts a record's addresses as they are to be, but none of them as the primary one.
    async fn step_aside<'w>(
        &self,
        whose: &Whose,
        writes: &[&'w Write],
    ) -> Result<Option<Aside<'w>>, StoreError> {
        let Some(record) = self.look(whose, writes).await? else { return Ok(None) };
        let prepared = self.store.prepare(self, &record, writes);
        let body = prepared.body.clone();
        let mut modest = body.clone();
        let mut steps = false;
        for mails in modest.values_mut().filter_map(Json::as_object_mut) {
            let Some(first) = mails.get("primaryEmail").cloned().filter(|first| *first != "") else {
                continue;
            };
            if let Some(more) = mails.get_mut("additionalEmails").and_then(Json::as_array_mut) {
                more.insert(0, first);
                mails.insert("primaryEmail".to_owned(), "".into());
                steps = true;
            }
        }
        if !steps {
            self.store.client.pacer.give_back(1);
            return Ok(None);
        }
        let path = super::elements::path_of(self.layout, &record);
        match self.patch(&path, modest).await {
            Ok(answer) => Ok(Some(Aside { path, record, answer, body, prepared })),
            Err(failure) if failure.error.kind == ErrorKind::Conflict => Ok(None),
            Err(failure) => Err(failure.error),
        }
    }

    /// Puts the address that a record stepped aside with in its place. Where that is still another's it stays where it is.
    async fn step_back(
        &self,
        stepped: Aside<'_>,
        outcomes: &mut BTreeMap<IntentId, Outcome>,
    ) -> Result<(), StoreError> {
        self.store.client.pacer.take(1).await;
        let Aside { path, record, answer, body, prepared } = stepped;
        let answer = match self.patch(&path, body).await {
            Ok(last) => last,
            Err(failure) if failure.error.kind == ErrorKind::Conflict => answer,
            Err(failure) => {
                let error = StoreError { kind: ErrorKind::OutcomeUnknown, ..failure.error };
                let all = prepared.sent.iter().map(|(write, _)| write.intent.clone());
                outcomes.extend(all.map(|intent| (intent, Outcome::Unknown(error.clone()))));
                outcomes.extend(prepared.ended);
                return Ok(());
            }
        };
        outcomes.extend(prepared.conclude(self, &record, &answer));
        Ok(())
    }

    async fn patch(&self, path: &str, body: Map<String, Json>) -> Result<Json, Failure> {
        let what = format!("writing `{}`", self.layout.object.plural);
        let body = Json::Object(body);
        let answer = self.store.client.write_paced(&what, Method::PATCH, path, &[], Some(&body)).await?;
        Ok(super::answered(&answer).cloned().unwrap_or_default())
    }

    /// What it wants is another's, and nothing helps: each write is tried by itself, and named where it is refused.
    async fn refused(
        &self,
        whose: &Whose,
        writes: &[&Write],
        outcomes: &mut BTreeMap<IntentId, Outcome>,
    ) -> Result<(), StoreError> {
        let record = self.look(whose, writes).await?;
        self.store.client.pacer.give_back(1);
        outcomes.extend(one_by_one(self, record.as_ref(), writes).await);
        Ok(())
    }
}
