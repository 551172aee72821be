//! `identity`: rows that carry no key and wait for a person, and the person's word.

use serde_json::json;

use crate::model::{EntityName, RecordKey, StoreName, StoreRecordId};
use crate::plan::{clean, render_table};

use super::args::{IdentityArgs, IdentityCommand};
use super::session::Session;
use super::{Exit, Failure};

pub(super) async fn identity(session: &Session<'_>, args: &IdentityArgs) -> Result<Exit, Failure> {
    let wait = u64::try_from(args.lock_timeout.as_millis()).unwrap_or(u64::MAX);
    match args.command.as_ref().unwrap_or(&IdentityCommand::List) {
        IdentityCommand::List => list(session).await,
        IdentityCommand::Link { entity, store, id, key } => {
            let parts: Vec<String> =
                serde_json::from_str(&format!("[{key}]")).unwrap_or_else(|_| vec![key.clone()]);
            say(session, (entity, store, id), Some(RecordKey::new(parts)), wait).await
        }
        IdentityCommand::Split { entity, store, id } => say(session, (entity, store, id), None, wait).await,
    }
}

async fn list(session: &Session<'_>) -> Result<Exit, Failure> {
    let engine = session.open().await?;
    let plan = engine.look_for_strays().await?;
    if session.ui.json {
        session.ui.json_page(&json!({"format_version": "1.0", "identity": plan.meetings}));
        return Ok(Exit::Ok);
    }
    let mut table = vec![["ENTITY", "STORE", "ID", "MAY BE", "WHY"].map(str::to_owned).to_vec()];
    for (entity, stores) in &plan.meetings {
        for (store, meeting) in stores {
            for row in &meeting.waiting {
                let keys: Vec<String> = row.candidates.iter().map(ToString::to_string).collect();
                let keys = if keys.is_empty() { "-".to_owned() } else { keys.join(" or ") };
                table.push(vec![
                    entity.to_string(),
                    store.to_string(),
                    clean(&row.id.0),
                    clean(&keys),
                    clean(&row.why),
                ]);
            }
        }
    }
    if table.len() == 1 {
        session.ui.out("No row waits for a person.\n");
        return Ok(Exit::Ok);
    }
    session.ui.out(&render_table(&table, 5));
    session.ui.advice("\n`trueup identity link ENTITY STORE ID KEY` says whose one is, `split` that it is a record of its own.\n");
    Ok(Exit::Ok)
}

async fn say(
    session: &Session<'_>,
    (entity, store, id): (&str, &str, &str),
    key: Option<RecordKey>,
    wait: u64,
) -> Result<Exit, Failure> {
    let entity = EntityName::new(entity).map_err(|error| Failure::new(error.to_string()))?;
    let store = StoreName::new(store).map_err(|error| Failure::new(error.to_string()))?;
    let engine = session.open().await?;
    let record = engine.identify(&entity, &store, &StoreRecordId(id.to_owned()), key, wait).await?;
    let new = !engine.is_known(&record).await?;
    if session.ui.json {
        let page = json!({"format_version": "1.0", "record": record.to_string(), "new": new, "store": store, "id": id});
        session.ui.json_page(&page);
    } else {
        let of_its_own = if new { ", a new record that the canonical store does not have yet" } else { "" };
        session.ui.out(&clean(&format!(
            "The row {id} in {store} is {record}{of_its_own}. The next pass puts the key into it, once it carries no other."
        )));
        session.ui.out("\n");
    }
    Ok(Exit::Ok)
}
