//! Sources: what contributes capabilities to a node.

pub mod health;
pub mod registry;
pub mod workspace;
