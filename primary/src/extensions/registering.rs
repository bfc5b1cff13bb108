//! Extensions that agents register: checked, put before the owner, and taken on the owner's yes.
//!
//! What an attacker would try: skills that instruct other agents (they wait like everything else),
//! another manifest after the yes (it is bound to the digest of the one that was shown), another
//! agent's source (only who registered it can replace or remove it), and asking what is here: the
//! answer is the same for whatever name is taken, hidden capabilities are not there, and what this
//! machine lacks is told to the owner alone.

use plexus_shared::audit::{EventType, Record};
use plexus_shared::ids::{PendingId, SourceId};
use plexus_shared::model::denial::Denial;
use plexus_shared::model::input::Input;
use plexus_shared::model::trust::Provenance;
use plexus_shared::source::extension::{Extension, Manifest, Preview, Problem};
use serde_json::value::RawValue;

use super::{By, ExtensionError, Extensions, detail};
use crate::store::rows::{AskedExtension, ExtensionRow, Matter, PendingRow, ShownExtension};
use crate::trust::AnswerError;
use crate::trust::sessions::Session;

/// What registering came to.
#[derive(Debug)]
pub enum Registering {
    /// It is this agent's and there already, just as it was sent.
    Stands(Box<Preview>),
    /// It waits for the owner.
    Waits(Box<PendingRow>),
}

/// Why an agent can not do this with an extension.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// It can't be taken.
    #[error(transparent)]
    Extension(#[from] ExtensionError),
    /// The agent can't ask for it.
    #[error("{}", .0.message)]
    Refused(Box<Denial>),
}

impl From<Denial> for RegisterError {
    fn from(denial: Denial) -> Self {
        Self::Refused(Box::new(denial))
    }
}

/// Why the owner's yes was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ApproveError {
    /// The item can't be answered so.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The extension can't be taken now.
    #[error(transparent)]
    Extension(#[from] ExtensionError),
}

impl Extensions {
    /// Puts the extension that `session` sends before the owner. Nothing of it is here before the
    /// owner's yes.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub async fn register(
        &self,
        session: &Session,
        sent: Box<RawValue>,
    ) -> Result<Registering, RegisterError> {
        // One at a time: reading a large manifest is work.
        let _gate = self.gate.lock().await;
        let text = sent.get().to_owned();
        let reading = tokio::task::spawn_blocking(move || read(&sent));
        let (manifest, digest) = reading.await.unwrap_or_else(|error| {
            tracing::error!(%error, "reading a manifest ended in a panic");
            Err(ExtensionError::Manifest(vec![at_root("it can't be read")]))
        })?;
        self.free(&manifest, By::Agent(&session.agent))?;
        let catalog = self.core.registry.catalog();
        let problems =
            manifest.check_members(|id| catalog.exposed(id).map(|entry| entry.definition.grants));
        if !problems.is_empty() {
            return Err(ExtensionError::Manifest(problems).into());
        }
        let preview = Preview::of(&manifest);
        let held = self.held(&preview.source);
        let replaces = held.as_ref().and_then(|row| digest_of(&row.manifest));
        if replaces.as_ref() == Some(&digest) {
            return Ok(Registering::Stands(Box::new(preview)));
        }
        let old = self.reach(&preview.source).unwrap_or_default();
        let widens = preview.reach.widens(&old);
        let problems = Extension::prepare(manifest, &self.ports).err().unwrap_or_default();
        let mut told = detail(&preview.source, Provenance::Extension, "register", &preview.reach);
        told["manifestDigest"] = digest.clone().into();
        let asked = AskedExtension {
            source: preview.source.clone(),
            capabilities: preview.ids(),
            digest,
            replaces,
            shown: Some(Box::new(ShownExtension { manifest: text, preview, widens, problems })),
        };
        let told = Record::new(EventType::GrantPending).detail(&told);
        let item = self.trust.ask_to_register(session, asked, told).await;
        Ok(Registering::Waits(Box::new(item?)))
    }

    /// Takes the extension that `id` asks for, as it was shown. One that takes the place of another
    /// ends what was granted on that.
    ///
    /// # Errors
    /// See [`ApproveError`]; then nothing was changed, and the item waits still.
    pub async fn approve(&self, id: &PendingId) -> Result<(), ApproveError> {
        let _gate = self.gate.lock().await;
        let item = self.trust.open_item(id)?;
        let Matter::Register(AskedExtension {
            source, digest, replaces, shown: Some(shown), ..
        }) = item.matter
        else {
            return Err(AnswerError::Unknown.into());
        };
        let held = self.held(&source).and_then(|row| digest_of(&row.manifest));
        if digest_of(&shown.manifest).as_ref() != Some(&digest) || held != replaces {
            return Err(ExtensionError::Moved(source).into());
        }
        let extension = self.check(&shown.manifest, By::Agent(&item.agent))?;
        let row = ExtensionRow {
            source,
            manifest: shown.manifest,
            provenance: Provenance::Extension,
            installed_at: self.core.now(),
            agent: Some(item.agent),
        };
        let action = if replaces.is_some() { "update" } else { "add" };
        let mut told = detail(&row.source, row.provenance, action, &shown.preview.reach);
        told["manifestDigest"] = digest.into();
        let told = Record::new(EventType::SourceInstall).detail(&told);
        let show = || self.run(row.clone(), Some(extension));
        self.trust.register(id, row.clone(), told, show).await?;
        Ok(())
    }

    /// Removes an extension that the agent of `session` registered; for anyone else there is none.
    ///
    /// # Errors
    /// See [`RegisterError`]; nothing was changed.
    pub async fn take_back(
        &self,
        session: &Session,
        source: &SourceId,
    ) -> Result<(), RegisterError> {
        let _gate = self.gate.lock().await;
        // It may have ended while this waited.
        let session = self.trust.session(Some(session.id.as_str()))?;
        let mine = |row: &ExtensionRow| row.agent.as_ref() == Some(&session.agent);
        let row = self.held(source).filter(mine);
        let row = row.ok_or_else(|| ExtensionError::Unknown(source.clone()))?;
        let told = Record::new(EventType::SourceChange).agent(&session.agent).session(&session.id);
        Ok(self.end(&row, told).await?)
    }
}

/// A manifest, and the digest of what it says.
fn read(sent: &RawValue) -> Result<(Manifest, String), ExtensionError> {
    let manifest = Manifest::read(sent.get()).map_err(ExtensionError::Manifest)?;
    let digest = digest_of(sent.get()).ok_or_else(|| {
        let why = "it has an integer beyond 2^53, which others could read as another one";
        ExtensionError::Manifest(vec![at_root(why)])
    })?;
    Ok((manifest, digest))
}

/// SHA-256 over the canonical form of a manifest, in hex; `None` when it has none.
fn digest_of(text: &str) -> Option<String> {
    let raw = RawValue::from_string(text.to_owned()).ok()?;
    Input::new(raw).digest().map(|digest| data_encoding::HEXLOWER.encode(&digest))
}

fn at_root(reason: &str) -> Problem {
    Problem { pointer: String::new(), reason: reason.to_owned() }
}
