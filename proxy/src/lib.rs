//! The Plexus proxy: it bears capabilities beside a service and dials the primary it joined.
//!
//! A proxy decides no grant and knows no agent. It trusts one key, the primary's; what comes down that
//! key's tunnel is authorized, and still goes through every check that belongs where the capability
//! lives: it exists, it is shown, its input has its shape, its source is up, it is recorded.
//!
//! 1. [`config`], [`state`]: what the owner says, and what the node keeps.
//! 2. [`join`]: how the node's key becomes known, once.
//! 3. [`dial`], [`reconnect`]: reaching the primary, and when to try again.
//! 4. [`link`]: one tunnel; [`control`] its control stream, [`serve`] its calls.
//! 5. [`catalog`], [`health`], [`audit_mirror`]: what goes up it.
//! 6. [`app`] puts it together; [`cli`] is the program.

pub mod app;
pub mod audit_mirror;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod control;
pub mod dial;
pub mod health;
pub mod join;
pub mod link;
pub mod reconnect;
pub mod serve;
pub mod state;
