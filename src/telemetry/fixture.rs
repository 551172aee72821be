//! A small spec for tests: one entity with two fields in two stores.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    Column, ConflictPolicy, DeletePolicy, Direction, Entity, EntityName, Field, FieldId, FieldMapping,
    FieldName, FieldType, Form, Home, KeyField, KeyMapping, Mapping, MappingTag, Names, Shape, StoreName,
    SyncPlace, TableName, Times, Unit,
};
use crate::spec::{ControllerSpec, Guards, Spec, StoreKind, StoreSpec};

/// The spec.
pub(crate) fn spec() -> Spec {
    let name = |name: &str| FieldName::new(name).unwrap();
    let field = |text: &str| Field {
        name: name(text),
        ty: FieldType::String,
        required: false,
        unique: false,
        sensitive: text == "passport",
        checks: Vec::new(),
        derive: None,
        description: None,
    };
    let contacts = EntityName::new("contacts").unwrap();
    let entity = Entity {
        name: contacts.clone(),
        key: vec![KeyField { name: name("contact_id"), ty: FieldType::String }],
        fields: vec![field("title"), field("passport")],
        units: vec![Unit { fields: vec![FieldId(0)] }, Unit { fields: vec![FieldId(1)] }],
        references: Vec::new(),
        times: Times::default(),
        match_rules: Vec::new(),
        conflicts: ConflictPolicy::default(),
        deletes: DeletePolicy::Propagate,
        default_region: None,
        system: false,
        names: Names::default(),
    };
    let stores: Vec<StoreName> =
        ["hub", "app"].into_iter().map(|name| StoreName::new(name).unwrap()).collect();
    let mappings = stores.iter().map(|store| (store.clone(), Arc::new(mapping(&contacts, store)))).collect();
    let store = |name: &StoreName| StoreSpec {
        name: name.clone(),
        kind: StoreKind::Memory { own_ids: false },
        read_only: false,
        batch_size: None,
    };
    Spec {
        folder: "manifests".into(),
        sha: "5e".repeat(32),
        canonical: stores[0].clone(),
        stores: stores.iter().map(|name| (name.clone(), store(name))).collect(),
        entities: vec![Arc::new(entity)],
        mappings: BTreeMap::from([(contacts, mappings)]),
        controller: controller(),
    }
}

fn mapping(entity: &EntityName, store: &StoreName) -> Mapping {
    let field = |id: u16, column: &str| {
        let mapping = FieldMapping {
            field: FieldId(id),
            column: Column::plain(column),
            form: Form::Native,
            direction: Direction::Both,
            tag: MappingTag(u32::from(id)),
            relation: None,
        };
        (FieldId(id), mapping)
    };
    Mapping {
        entity: entity.clone(),
        store: store.clone(),
        shape: Shape::Table(TableName { schema: None, name: "contacts".to_owned() }),
        home: Home::default(),
        key: vec![KeyMapping { column: Column::plain("contact_id"), form: Form::Native, relation: None }],
        fields: [field(0, "title"), field(1, "passport")].into(),
        sync: SyncPlace::None,
        triggers: false,
        created: None,
        updated: None,
        scope: None,
        own_ids: false,
        key_text: None,
        timezone: jiff::tz::TimeZone::UTC,
    }
}

fn controller() -> ControllerSpec {
    ControllerSpec {
        interval_ms: 60_000,
        deep_check_interval_ms: 3_600_000,
        guards: Guards { max_delete_ratio: 0.1, max_update_ratio: 0.3, min_records: 10 },
        state: crate::spec::StateSpec::Sqlite("state.db".into()),
        lease_ms: 60_000,
        http_address: ([127, 0, 0, 1], 0).into(),
        http_token: None,
        triggers: crate::spec::Triggers::default(),
        breaker: crate::spec::Breaker { writes: 20, window_ms: 600_000 },
        retention_ms: 86_400_000,
        drift_alert_ratio: 0.05,
        latency_alert_ms: 300_000,
    }
}
