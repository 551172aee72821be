//! The SQL that prepares the stores, from the manifests alone.

use std::collections::BTreeMap;

use crate::model::{Mapped, Shape, StoreName};
use crate::reconcile::Ledger;
use crate::spec::{Reference, Spec, StoreKind};
use crate::store::script::{Dialect, script};

use super::EngineError;

/// The script of each SQL store that a manifest names.
///
/// # Errors
/// When an entity cannot have a table in a store.
pub fn scripts(spec: &Spec) -> Result<BTreeMap<StoreName, String>, EngineError> {
    let mut all = BTreeMap::new();
    for (name, store) in &spec.stores {
        let dialect = match &store.kind {
            StoreKind::Sqlite { .. } => Dialect::Sqlite,
            StoreKind::Postgres { schema, .. } => {
                Dialect::Postgres { schema: schema.clone().unwrap_or_else(|| "public".to_owned()) }
            }
            StoreKind::BigQuery(place) => {
                if let Reference::Plain(dataset) = &place.dataset {
                    Dialect::BigQuery { dataset: dataset.clone() }
                } else {
                    let message = format!("the dataset of `{name}` is not in the manifest itself");
                    return Err(EngineError::new(message).hint("write its name there: scripts hold it"));
                }
            }
            _ => continue,
        };
        all.insert(name.clone(), script_of(spec, name, &dialect)?);
    }
    Ok(all)
}

/// The script of one store.
fn script_of(spec: &Spec, name: &StoreName, dialect: &Dialect) -> Result<String, EngineError> {
    let in_tables = |mapped: &Mapped| matches!(mapped.mapping.shape, Shape::Table(_));
    let mut mapped: Vec<Mapped> = spec.mapped_in(name).filter(in_tables).collect();
    if *name == spec.canonical {
        mapped.extend(Ledger::new(name).all().into_iter().cloned());
    }
    Ok(script(dialect, name, &mapped)?)
}
