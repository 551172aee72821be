//! Saved plans: bytes from a plan and a plan from bytes, both pure.
//!
//! A file has three lines: a name with the format's version, a header, and the plan as JSON. The header can be read by every
//! version of the same major number; the plan itself is covered by a hash. A plan file holds every value that is to be written,
//! sensitive ones included, because applying needs them: whoever writes one to disk makes it readable by its owner alone.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::hex;

use super::Plan;

/// What every plan file begins with.
pub const MAGIC: &str = "trueup-plan ";
/// Readers refuse another major number.
const MAJOR: u32 = 1;
/// Rises when something is added that older readers may ignore.
const MINOR: u32 = 0;

/// What a plan file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of trueup that made it.
    pub tool: String,
    /// The hash of the manifests that the plan was made under.
    pub spec_sha: String,
    /// The hash (SHA-256, hexadecimal) of the plan's bytes.
    pub sha256: String,
}

/// Why bytes are no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanFileError {
    /// Something else.
    #[error("this is not a plan file of trueup")]
    NotAPlan,
    /// A format that this version does not know.
    #[error("the plan file has format {found}, and this version of trueup reads {MAJOR}.x")]
    UnknownVersion {
        /// The format's version in the file.
        found: String,
    },
    /// Cut short or changed.
    #[error("the plan file is damaged: {why}")]
    Damaged {
        /// In what way; shows no content.
        why: String,
    },
}

impl PlanFileError {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotAPlan => "give the file that `trueup plan --out FILE` wrote",
            Self::UnknownVersion { .. } => "use the version of trueup that made it, or make the plan again",
            Self::Damaged { .. } => "make the plan again with `trueup plan --out FILE`",
        }
    }
}

/// The bytes of a plan file.
///
/// # Errors
/// Never for a plan that was built by this program; the error is there because the JSON writer has one.
pub fn encode(plan: &Plan, tool: &str) -> Result<Vec<u8>, serde_json::Error> {
    let body = serde_json::to_vec(plan)?;
    let header = Header { tool: tool.to_owned(), spec_sha: plan.spec_sha.clone(), sha256: hash(&body) };
    let mut bytes = format!("{MAGIC}{MAJOR}.{MINOR}\n").into_bytes();
    serde_json::to_writer(&mut bytes, &header)?;
    bytes.push(b'\n');
    bytes.extend(body);
    bytes.push(b'\n');
    Ok(bytes)
}

/// The plan that bytes hold.
///
/// # Errors
/// When they are no plan file, one of another major format, or damaged.
pub fn decode(bytes: &[u8]) -> Result<(Header, Plan), PlanFileError> {
    let damaged = |why: &str| PlanFileError::Damaged { why: why.to_owned() };
    let rest = bytes.strip_prefix(MAGIC.as_bytes()).ok_or(PlanFileError::NotAPlan)?;
    let (version, rest) = line(rest).ok_or(PlanFileError::NotAPlan)?;
    check_version(version)?;
    let (header, rest) = line(rest).ok_or_else(|| damaged("it is cut short"))?;
    let header: Header = serde_json::from_slice(header).map_err(|_| damaged("its header cannot be read"))?;
    let (body, after) = line(rest).ok_or_else(|| damaged("it is cut short"))?;
    if !after.is_empty() {
        return Err(damaged("something stands after its end"));
    }
    if hash(body) != header.sha256 {
        return Err(damaged("its content does not fit its hash"));
    }
    // The parser's own message may quote the content.
    let plan: Plan = serde_json::from_slice(body)
        .map_err(|error| damaged(&format!("its content cannot be read (column {})", error.column())))?;
    if plan.spec_sha != header.spec_sha {
        return Err(damaged("its header names other manifests than its content"));
    }
    Ok((header, plan))
}

/// Whether bytes begin as a plan file does, of whatever version.
pub fn looks_like_plan(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC.as_bytes())
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

fn check_version(version: &[u8]) -> Result<(), PlanFileError> {
    let text =
        std::str::from_utf8(version).ok().filter(|text| text.len() <= 16).ok_or(PlanFileError::NotAPlan)?;
    let (major, minor) = text.split_once('.').ok_or(PlanFileError::NotAPlan)?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| PlanFileError::NotAPlan);
    number(minor)?;
    if number(major)? == MAJOR {
        Ok(())
    } else {
        Err(PlanFileError::UnknownVersion { found: text.to_owned() })
    }
}

fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
