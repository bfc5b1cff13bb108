//! What both Plexus nodes share.
//!
//! A primary and a proxy differ in who calls them, never in what a call goes through. Everything a
//! call meets therefore lives here once: the plain data of the contract ([`model`]), the pure checks
//! over it ([`gate`]), the gates in their order ending in a permit ([`admit`]), the one pipeline
//! ([`invoke`]), the software reached behind it ([`source`], [`transport`]) and the record of it all
//! ([`audit`]).

pub mod admit;
pub mod audit;
pub mod clock;
pub mod failpoint;
pub mod gate;
pub mod ids;
pub mod invoke;
pub mod model;
pub mod redact;
pub mod secret;
pub mod source;
pub mod state_dir;
pub mod transport;
