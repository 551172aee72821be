//! Series that belong to what is no longer in the manifests, or to what another controller tells by now, go; the others go on counting.

use std::collections::BTreeSet;

use prometheus::IntGaugeVec;
use prometheus::core::{Collector, MetricVec, MetricVecBuilder};

use crate::spec::Spec;

use super::Metrics;

/// The names that labels may have.
struct Known {
    stores: BTreeSet<String>,
    entities: BTreeSet<String>,
    fields: BTreeSet<String>,
    /// Pairs of a store and an entity that lives in it.
    places: BTreeSet<(String, String)>,
}

impl Known {
    fn of(spec: &Spec) -> Self {
        let fields = spec.entities.iter().flat_map(|entity| &entity.fields);
        let places = spec.mappings.iter().flat_map(|(entity, stores)| {
            stores.keys().map(move |store| (store.to_string(), entity.to_string()))
        });
        Self {
            stores: spec.stores.keys().map(ToString::to_string).chain(["none".to_owned()]).collect(),
            entities: spec.entities.iter().map(|entity| entity.name.to_string()).collect(),
            fields: fields.map(|field| field.name.to_string()).collect(),
            places: places.collect(),
        }
    }

    fn has(&self, labels: &[(&str, String)]) -> bool {
        let get =
            |name: &str| labels.iter().find(|(label, _)| *label == name).map(|(_, value)| value.clone());
        let (store, entity, field) = (get("store"), get("entity"), get("field"));
        if let (Some(store), Some(entity)) = (&store, &entity)
            && !self.places.contains(&(store.clone(), entity.clone()))
        {
            return false;
        }
        store.is_none_or(|store| self.stores.contains(&store))
            && entity.is_none_or(|entity| self.entities.contains(&entity))
            && field.is_none_or(|field| self.fields.contains(&field))
    }
}

fn prune<T: MetricVecBuilder>(vec: &MetricVec<T>, known: &Known) {
    let names: Vec<String> = vec.desc().first().map(|desc| desc.variable_labels.clone()).unwrap_or_default();
    for family in vec.collect() {
        for metric in family.get_metric() {
            let value = |name: &str| {
                metric
                    .get_label()
                    .iter()
                    .find(|label| label.name() == name)
                    .map(|label| label.value().to_owned())
            };
            let labels: Vec<(&str, String)> =
                names.iter().filter_map(|name| Some((name.as_str(), value(name)?))).collect();
            if !known.has(&labels) {
                let values: Vec<&str> = labels.iter().map(|(_, value)| value.as_str()).collect();
                // It was there a moment ago; one that is gone already is gone.
                let _ = vec.remove_label_values(&values);
            }
        }
    }
}

impl Metrics {
    /// Other manifests hold: series of what left are dropped, those of what is new begin at zero, and the others go on.
    pub fn adopt(&self, spec: &Spec) {
        let known = &Known::of(spec);
        for vec in self.of_the_last_pass().into_iter().chain([&self.running.away, &self.running.guards]) {
            prune(vec, known);
        }
        for vec in [&self.drift_ratio, &self.oldest_drift, &self.last_sync, &self.running.stores_down] {
            prune(vec, known);
        }
        for vec in [
            &self.snapshot_rows,
            &self.writes,
            &self.rejections,
            &self.store_errors,
            &self.conflicts_resolved,
            &self.running.webhooks,
            &self.running.breaker,
            &self.running.calls,
        ] {
            prune(vec, known);
        }
        prune(&self.running.limit_waits, known);
        prune(&self.running.latency, known);
        {
            let mut since = self.since();
            since.drifting.retain(|(entity, store), _| spec.mapping(entity, store).is_some());
            since.readable.retain(|store, _| spec.stores.contains_key(store));
            since.failed.retain(|store| spec.stores.contains_key(store));
        }
        self.spec_info.reset();
        self.start_at_zero(spec);
    }

    /// What the last pass found.
    fn of_the_last_pass(&self) -> [&IntGaugeVec; 9] {
        [
            &self.drift_records,
            &self.drift_fields,
            &self.records,
            &self.standings,
            &self.converged,
            &self.pending,
            &self.snapshot_complete,
            &self.conflicts_open,
            &self.validation_errors,
        ]
    }

    /// Another controller makes the passes: what this one last found is not what there is now, and alerts about it would never end.
    pub(super) fn stand_by(&self) {
        for vec in self.of_the_last_pass() {
            vec.reset();
        }
        self.drift_ratio.reset();
        self.oldest_drift.reset();
        self.since().drifting.clear();
        self.running.stand_by();
    }
}
