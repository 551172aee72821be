//! A whole pass as a state machine.

mod report;

pub use report::{Report, Trouble};
