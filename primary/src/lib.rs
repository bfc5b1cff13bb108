//! The Plexus primary: the gateway on the owner's machine, and the owner's command line.
//!
//! [`app`] puts the parts together; [`http`] is what agents and the owner reach; [`trust`] decides who
//! holds what; [`mesh`] is the way to capabilities that live elsewhere; [`sources`] are those that live
//! here; [`events`] tells of what happens; [`store`] keeps it all; [`cli`] is the owner's hand on it.

pub mod app;
pub mod calls;
pub mod cli;
pub mod config;
pub mod core;
pub mod doctor;
pub mod events;
pub mod extensions;
pub mod http;
pub mod limits;
pub mod mesh;
pub mod network;
mod reach;
pub mod replays;
pub mod settings;
pub mod sources;
pub mod store;
pub mod tasks;
pub mod trust;
