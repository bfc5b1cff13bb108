//! Asking the owner for a secret: at the terminal, which then does not show it, or from standard input.
//!
//! What an attacker would try: read it from the list of processes, from the shell's history, or over a
//! shoulder. So it is never an argument, and the terminal's echo is off while it is typed; whatever ends
//! the command, the echo comes back.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::output::Failure;
use super::stop::Stop;

/// The longest secret, in bytes.
const MAX_SECRET: u64 = 1 << 16;

/// The secret that is typed after `prompt`, or that standard input holds, without its last line's end.
pub(super) async fn secret(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let failed = |error: io::Error| Failure::usage(format!("the value can't be read: {error}"));
    let at_terminal = io::stdin().is_terminal();
    let mut stop = Stop::listen().map_err(failed)?;
    let hidden = at_terminal.then(|| Hidden::hide(io::stdin())).transpose().map_err(failed)?;
    if at_terminal {
        // When no one sees the question, the answer is read all the same.
        let _ = write!(io::stderr(), "{prompt}");
    }
    let (send, read) = oneshot::channel();
    // A thread of its own: what waits for a person ends with the process, not the process with it.
    std::thread::spawn(move || send.send(take(at_terminal)));
    let taken = tokio::select! {
        taken = read => taken.map_err(io::Error::other).and_then(|taken| taken),
        _ = stop.told() => Err(io::Error::other("interrupted")),
    };
    drop(hidden);
    if at_terminal {
        let _ = writeln!(io::stderr());
    }
    let text = taken.map_err(failed)?;
    let value = text.trim_end_matches(['\r', '\n']);
    if value.is_empty() || value.contains('\0') || text.len() as u64 > MAX_SECRET {
        let bounds = format!("a secret is a text of 1 to {MAX_SECRET} bytes, on standard input");
        return Err(Failure::usage(bounds));
    }
    Ok(Zeroizing::new(value.to_owned()))
}

/// One line of a terminal, all of anything else; not much more than the most there can be.
fn take(line: bool) -> io::Result<Zeroizing<String>> {
    // Room for all of it at once: what grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity((1 << 16) + 1));
    let mut input = io::stdin().lock().take(MAX_SECRET.saturating_add(1));
    match line {
        true => input.read_line(&mut text)?,
        false => input.read_to_string(&mut text)?,
    };
    Ok(text)
}

/// A terminal that does not show what is typed, for as long as this lives.
struct Hidden<T: AsFd> {
    terminal: T,
    shown: Termios,
}

impl<T: AsFd> Hidden<T> {
    fn hide(terminal: T) -> io::Result<Self> {
        let shown = tcgetattr(&terminal)?;
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&terminal, OptionalActions::Flush, &hidden)?;
        Ok(Self { terminal, shown })
    }
}

impl<T: AsFd> Drop for Hidden<T> {
    fn drop(&mut self) {
        // The terminal may have gone.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.shown);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use rustix::pty::{OpenptFlags, grantpt, openpt, unlockpt};

    use super::*;

    #[test]
    fn a_terminal_does_not_show_what_is_typed_and_shows_it_again_afterwards() {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let echoes = || tcgetattr(&terminal).unwrap().local_modes.contains(LocalModes::ECHO);
        assert!(echoes());
        let hidden = Hidden::hide(&terminal).unwrap();
        assert!(!echoes());
        drop(hidden);
        assert!(echoes());
    }
}
