//! What a failure is to whoever called the program.

use plexus_shared::audit::AuditOpenError;

use crate::app::RunError;
use crate::config::ConfigError;
use crate::control::Cause;
use crate::join::JoinError;
use crate::state::StateError;

/// A failure's class: its exit code and its name in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A file, a folder or a socket of this machine.
    Machine,
    /// Usage or configuration.
    Usage,
    /// The primary refused.
    Refused,
    /// The primary was not reached.
    Unreachable,
    /// Something is not what it must be.
    Integrity,
}

impl Class {
    pub(super) const fn exit_code(self) -> u8 {
        match self {
            Self::Machine => 1,
            Self::Usage => 2,
            Self::Refused => 4,
            Self::Unreachable => 5,
            Self::Integrity => 6,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Usage => "usage",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Integrity => "integrity",
        }
    }
}

/// Why the program did not do what it was asked for.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) class: Class,
    /// A word for programs: the refusal's code, or the class.
    pub(super) code: String,
    pub(super) message: String,
}

impl Failure {
    fn new(class: Class, message: impl ToString) -> Self {
        Self { class, code: class.as_str().to_owned(), message: message.to_string() }
    }

    pub(super) fn machine(message: impl ToString) -> Self {
        Self::new(Class::Machine, message)
    }

    pub(super) fn usage(message: impl ToString) -> Self {
        Self::new(Class::Usage, message)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        let class = match &error {
            StateError::Dir(_) => Class::Machine,
            StateError::DamagedKey(_) | StateError::DamagedJoin { .. } => Class::Integrity,
            StateError::NotJoined => Class::Usage,
        };
        Self::new(class, error)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Config(error) => error.into(),
            RunError::State(error) => error.into(),
            RunError::Audit(error @ AuditOpenError::Corrupt { .. }) => {
                Self::new(Class::Integrity, error)
            }
            RunError::Audit(error) => Self::machine(error),
            RunError::Dialer(error) => Self::machine(error),
        }
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        let message = error.to_string();
        match error {
            JoinError::Refused(refusal) => {
                Self { class: Class::Refused, code: refusal.to_string(), message }
            }
            JoinError::Closed(_) => Self::new(Class::Refused, message),
            JoinError::Broken(Cause::Disbelieved(_) | Cause::Violation(_)) => {
                Self::new(Class::Integrity, message)
            }
            JoinError::Broken(_) => Self::new(Class::Unreachable, message),
            JoinError::Unreachable(unreachable) if unreachable.met_a_stranger() => {
                Self::new(Class::Integrity, message)
            }
            JoinError::Unreachable(_) => Self::new(Class::Unreachable, message),
            JoinError::State(error) => error.into(),
            JoinError::Dialer(_) => Self::machine(message),
            JoinError::Elsewhere(_) => Self::usage(message),
        }
    }
}
