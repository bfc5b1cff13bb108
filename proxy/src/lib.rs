//! The Plexus proxy.
pub mod config;
pub mod dial;
pub mod reconnect;
pub mod state;
