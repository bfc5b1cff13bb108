//! The pure checks: plain data in, a verdict out. No clock, no storage, no I/O.

pub mod constraint;
pub mod cost;
pub mod members;
pub mod schema;
pub mod scope;
pub mod sensitivity;
