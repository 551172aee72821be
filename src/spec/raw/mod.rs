//! Manifests as written: short and long forms, texts not yet understood, names not yet resolved.
//!
//! The comments on the fields are what editors show: they go into the JSON Schemas under `schemas/`.

mod controller;
mod entity;
mod mapping;
mod store;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::ordered::Ordered;
pub use controller::*;
pub use entity::*;
pub use mapping::*;
pub use store::*;

/// The version of the manifests' format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The only one so far.
    #[serde(rename = "trueup/v1")]
    V1,
}

macro_rules! document {
    ($(#[$doc:meta])* $name:ident, $kind:ident, $word:literal, $(#[$kind_doc:meta])* $spec:ty) => {
        #[doc = concat!("The word `", $word, "`.")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        pub enum $kind {
            $(#[$kind_doc])*
            #[serde(rename = $word)]
            Word,
        }

        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// The version of the format: `trueup/v1`.
            #[serde(rename = "apiVersion")]
            pub api_version: ApiVersion,
            /// What the document is.
            pub kind: $kind,
            /// What it is called.
            pub metadata: Metadata,
            /// What it says.
            pub spec: $spec,
        }

        impl $name {
            /// A document of this version.
            pub fn new(name: &str, spec: $spec) -> Self {
                Self {
                    api_version: ApiVersion::V1,
                    kind: $kind::Word,
                    metadata: Metadata { name: name.to_owned() },
                    spec,
                }
            }
        }
    };
}

/// What a document is called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// The name that other documents and commands use: letters, digits, `_`, `-` and `.`, beginning with a letter or `_`.
    pub name: String,
}

document! {
    /// A system that holds records.
    StoreDocument, StoreWord, "Store",
    /// A system that holds records.
    StoreBody
}
document! {
    /// A kind of record, with a key and typed fields.
    EntityDocument, EntityWord, "Entity",
    /// A kind of record.
    EntityBody
}
document! {
    /// Where an entity lives in each store.
    MappingDocument, MappingWord, "Mapping",
    /// Where an entity lives.
    MappingBody
}
document! {
    /// How passes are run. There is at most one such document; without it the defaults hold.
    ControllerDocument, ControllerWord, "Controller",
    /// How passes are run.
    ControllerBody
}
