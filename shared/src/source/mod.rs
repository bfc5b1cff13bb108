//! Sources: what contributes capabilities to a node.

pub mod workspace;
