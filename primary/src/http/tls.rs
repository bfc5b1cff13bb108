//! TLS for addresses that others can reach: one key of this gateway's own, and a certificate it signed
//! itself. Who connects checks the fingerprint that the gateway prints, or trusts the file.
//!
//! What an attacker would try: have the gateway listen in the clear (no setting does that), or hold a
//! connection open without ever finishing its handshake (it has its time).

use std::sync::Arc;

use plexus_shared::state_dir::{StateDir, StateDirError};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;
use zeroize::{Zeroize, Zeroizing};

/// The file of the key, the certificate and its names.
const TLS: &str = "tls.json";
/// The certificate alone, for clients to trust.
pub const CERTIFICATE: &str = "tls-certificate.pem";

/// Why TLS can't be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// The file is not what was written.
    #[error("{TLS} is damaged; restore it, or remove it to get a new key and a new fingerprint")]
    Damaged,
    /// No certificate could be made.
    #[error("no certificate could be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The key and the certificate don't go together.
    #[error("TLS can't be served: {0}")]
    Config(#[from] rustls::Error),
}

#[derive(Serialize, Deserialize)]
struct Kept {
    key: String,
    certificate: String,
    names: Vec<String>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// The gateway's TLS.
pub struct Tls {
    /// What takes connections.
    pub acceptor: TlsAcceptor,
    /// The certificate's SHA-256, as people compare it.
    pub fingerprint: String,
}

/// The TLS of this state folder for `names`: the same key always, a new certificate for new names.
///
/// # Errors
/// See [`TlsError`].
pub fn load(dir: &StateDir, names: &[String]) -> Result<Tls, TlsError> {
    let kept = match dir.read(TLS)?.map(Zeroizing::new) {
        Some(bytes) => Some(serde_json::from_slice::<Kept>(&bytes).map_err(|_| TlsError::Damaged)?),
        None => None,
    };
    let kept = match kept {
        Some(kept) if kept.names == names => kept,
        old => {
            let made = make(old.as_ref(), names)?;
            let text = Zeroizing::new(serde_json::to_vec(&made).unwrap_or_default());
            dir.write(TLS, &text)?;
            made
        }
    };
    let certificate = decode(&kept.certificate)?.to_vec();
    dir.write(CERTIFICATE, pem(&certificate).as_bytes())?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &certificate);
    let hex: Vec<_> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(decode(&kept.key)?.to_vec()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(certificate)], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), fingerprint: hex.join(":") })
}

fn make(old: Option<&Kept>, names: &[String]) -> Result<Kept, TlsError> {
    let key = match old {
        Some(old) => KeyPair::try_from(decode(&old.key)?.as_slice())?,
        None => KeyPair::generate()?,
    };
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Plexus gateway");
    let certificate = params.self_signed(&key)?;
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    Ok(Kept {
        key: hex(&Zeroizing::new(key.serialize_der())),
        certificate: hex(certificate.der()),
        names: names.to_vec(),
    })
}

fn decode(hex: &str) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).map_err(|_| TlsError::Damaged)?;
    Ok(Zeroizing::new(bytes))
}

fn pem(der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_fingerprint_lasts_and_new_names_keep_the_key() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&temp.path().join("state")).unwrap();
        let names = ["localhost".to_owned(), "192.0.2.5".to_owned()];
        let first = load(&dir, &names).unwrap().fingerprint;
        assert_eq!(load(&dir, &names).unwrap().fingerprint, first);
        let key = |dir: &StateDir| {
            serde_json::from_slice::<Kept>(&dir.read(TLS).unwrap().unwrap()).unwrap().key.clone()
        };
        let before = key(&dir);
        assert_ne!(load(&dir, &names[..1]).unwrap().fingerprint, first);
        assert_eq!(key(&dir), before);
        dir.write(TLS, b"{}").unwrap();
        assert!(matches!(load(&dir, &names), Err(TlsError::Damaged)));
    }
}
