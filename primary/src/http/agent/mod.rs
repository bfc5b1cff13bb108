//! The agent plane: what an agent may ask, and nothing that is the owner's.

pub mod enroll;
pub mod extensions;
pub mod grants;
pub mod handshake;
pub mod invoke;
pub mod lifecycle;
pub mod well_known;
