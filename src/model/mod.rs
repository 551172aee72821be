//! The nouns of trueup: plain data that every later stage speaks in.
//!
//! Nothing here knows of YAML, of SQL or of any particular store. Everything is pure.

mod crm;
mod derive;
mod diagnostic;
mod flat;
mod forms;
mod found;
mod ids;
mod journal;
mod json;
mod mapping;
mod marks;
mod memory;
mod meta;
pub mod normal;
mod observed;
mod schema;
mod time;
mod value;
mod write;

pub use derive::{Derive, DeriveFn, Recompute};
pub use diagnostic::{Diagnostic, Diagnostics, Place, Severity};
pub use flat::{ByName, ByStore, Fields, Flat};
pub use forms::{FormError, Native, canonical_integer, decode, encode, representable};
pub use found::{FoundColumn, FoundTable};
pub use ids::{
    BadName, BatchId, ConflictId, EntityName, FieldId, FieldName, IntentId, RecordId, RecordKey, StateId,
    StoreName, StoreRecordId, Version, fingerprint, fingerprint_of, hex,
};
pub use journal::{Deletes, Header, Intent, IntentEnd, IntentKind, RecentDeletes, Transition};
pub use json::{Json, JsonPatch};
pub use mapping::{
    Column, Condition, Direction, EmbedPlace, Embedded, Except, FieldMapping, Form, Home, KeyMapping,
    Mapping, MappingTag, SYNC_PARTS, SYSTEM_TABLES, Scope, ScopeExit, Shape, SyncPlace, TableName,
};
pub use marks::{Marks, StoreMark, Stretches};
pub use memory::{FieldShadow, Memory, Shadow};
pub use meta::{SyncError, SyncMeta, SyncStatus};
pub use observed::{Cell, Certificate, ElementId, Mark, Presence, Row, Stray, Unknown, Unreadable};
pub use schema::{
    Adopt, Check, ConflictPolicy, DeletePolicy, Entity, Field, FieldRef, FieldType, Granularity, KeyField,
    MatchTerm, Names, OnDelete, Range, Reference, Times, Unit, UnitId,
};
pub use time::Timestamp;
pub use value::{Float, Value};
pub use write::{
    Along, Batch, Capabilities, ErrorKind, Fall, Falls, Guard, Mapped, Outcome, StoreError, Write, WriteOp,
};
