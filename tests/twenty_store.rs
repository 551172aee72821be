//! The store twenty against the sandbox: values, pace, faults, and people who work in the CRM meanwhile.

#[path = "twenty_store/world.rs"]
mod world;

#[path = "conformance/crm.rs"]
#[allow(dead_code)] // It can do more than is asked for here.
mod crm;
#[path = "twenty_store/edits.rs"]
mod edits;
#[path = "twenty_store/faults.rs"]
mod faults;
#[path = "twenty_store/pace.rs"]
mod pace;
#[path = "twenty_store/people.rs"]
mod people;
#[path = "twenty_store/values.rs"]
mod values;
