//! The contract's plain data: no behaviour beyond reading, writing and comparing itself.

pub mod constraint;
pub mod denial;
pub mod entry;
pub mod exposure;
pub mod health;
pub mod input;
pub mod outcome;
pub mod plain;
pub mod scope;
pub mod trust;
pub mod verb;
