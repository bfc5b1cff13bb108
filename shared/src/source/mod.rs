//! Sources: what contributes capabilities to a node.

pub mod extension;
pub mod health;
pub mod registry;
pub mod workspace;
