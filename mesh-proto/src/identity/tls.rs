//! TLS settings that believe keys only.

use std::sync::Arc;

use ring::signature::KeyPair;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring as provider, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::TLS13,
};

use super::{IdentityError, NodeKey, PublicKey};
use crate::ALPN;

/// The start of an Ed25519 private key in PKCS#8 version 1; the seed follows.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The start of an Ed25519 subject public key info; the key follows.
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The signature schemes that exist here: one.
static ALGORITHMS: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[webpki::ring::ED25519],
    mapping: &[(SignatureScheme::ED25519, &[webpki::ring::ED25519])],
};

/// The proxy's TLS settings: presents `node`, accepts only `pinned`.
pub fn client_config(node: &NodeKey, pinned: PublicKey) -> Result<ClientConfig, IdentityError> {
    let mut config = ClientConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned(pinned)))
        .with_client_auth_cert(vec![certificate(node)?], private_key(node))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    Ok(config)
}

/// The primary's TLS settings: presents `node`, demands an Ed25519 key of whoever connects.
pub fn server_config(node: &NodeKey) -> Result<ServerConfig, IdentityError> {
    let mut config = ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(AnyEd25519))
        .with_single_cert(vec![certificate(node)?], private_key(node))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// The key that a connection's peer proved, from the certificates of its finished handshake.
pub fn peer_key(certs: &[CertificateDer<'_>]) -> Result<PublicKey, IdentityError> {
    let [certificate] = certs else {
        return Err(IdentityError::CertificateCount(certs.len()));
    };
    certificate_key(certificate).ok_or(IdentityError::NotEd25519)
}

fn certificate_key(certificate: &CertificateDer<'_>) -> Option<PublicKey> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let spki = parsed.subject_public_key_info();
    let key = spki.as_ref().strip_prefix(&SPKI_PREFIX)?;
    key.try_into().ok().map(PublicKey)
}

/// A certificate that says nothing but the key.
fn certificate(node: &NodeKey) -> Result<CertificateDer<'static>, IdentityError> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params.self_signed(&CertificateSigner(node))?.into())
}

fn private_key(node: &NodeKey) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from([&PKCS8_PREFIX[..], node.seed.as_ref()].concat()).into()
}

/// Signs a certificate with the node's key in place, without a copy of it.
struct CertificateSigner<'a>(&'a NodeKey);

impl rcgen::PublicKeyData for CertificateSigner<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for CertificateSigner<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(message).0.to_vec())
    }
}

fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        signature_verification_algorithms: ALGORITHMS,
        ..provider::default_provider()
    })
}

/// The single Ed25519 key of a peer's certificate chain, as the handshake shows it.
fn handshake_key(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<PublicKey, rustls::Error> {
    if !intermediates.is_empty() {
        return Err(rustls::CertificateError::UnknownIssuer.into());
    }
    certificate_key(end_entity).ok_or_else(|| rustls::CertificateError::BadEncoding.into())
}

/// TLS 1.2 is not offered; reaching its checks is a fault of the peer.
fn refuse_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::PeerIncompatible::Tls12NotOffered.into())
}

/// Accepts one key and nothing else.
#[derive(Debug)]
struct Pinned(PublicKey);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if handshake_key(end_entity, intermediates)? == self.0 {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &ALGORITHMS)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ALGORITHMS.supported_schemes()
    }
}

/// Accepts any Ed25519 key that the peer proves.
#[derive(Debug)]
struct AnyEd25519;

impl ClientCertVerifier for AnyEd25519 {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        handshake_key(end_entity, intermediates).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &ALGORITHMS)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ALGORITHMS.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use rustls::{
        ClientConnection, ServerConnection,
        sign::{CertifiedKey, SingleCertAndKey},
    };
    use zeroize::Zeroizing;

    use super::*;

    fn node(fill: u8) -> NodeKey {
        NodeKey::from_seed(Zeroizing::new([fill; 32])).unwrap()
    }

    /// Runs a handshake in memory until both ends are done or one gives up.
    fn handshake(
        client: ClientConfig,
        server: ServerConfig,
    ) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
        let name = ServerName::try_from("plexus").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name)?;
        let mut server = ServerConnection::new(Arc::new(server))?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok((client, server))
    }

    #[test]
    fn each_end_sees_the_others_key() {
        let (proxy, primary) = (node(1), node(2));
        let config = client_config(&proxy, primary.public()).unwrap();
        let (mut client, mut server) = handshake(config, server_config(&primary).unwrap()).unwrap();
        assert_eq!(peer_key(client.peer_certificates().unwrap()).unwrap(), primary.public());
        assert_eq!(peer_key(server.peer_certificates().unwrap()).unwrap(), proxy.public());
        assert_eq!(client.alpn_protocol(), Some(ALPN));
        assert_eq!(client.tls13_tickets_received(), 0);
        let label = crate::enroll::EXPORTER_LABEL;
        let ours = client.export_keying_material([0; 32], label, None).unwrap();
        let theirs = server.export_keying_material([0; 32], label, None).unwrap();
        assert_eq!(ours, theirs);
        client.send_close_notify();
        server.send_close_notify();
    }

    #[test]
    fn another_primary_is_not_believed() {
        let (proxy, primary, impostor) = (node(1), node(2), node(3));
        let config = client_config(&proxy, primary.public()).unwrap();
        let error = handshake(config, server_config(&impostor).unwrap()).unwrap_err();
        assert_eq!(error, rustls::CertificateError::ApplicationVerificationFailure.into());
    }

    #[test]
    fn a_client_without_a_key_is_refused() {
        let primary = node(2);
        let mut config = ClientConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned(primary.public())))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let error = handshake(config, server_config(&primary).unwrap()).unwrap_err();
        assert_eq!(error, rustls::Error::NoCertificatesPresented);
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let (proxy, thief, primary) = (node(1), node(4), node(2));
        let mut config = client_config(&thief, primary.public()).unwrap();
        let key = provider::sign::any_supported_type(&private_key(&thief)).unwrap();
        let stolen = CertifiedKey::new(vec![certificate(&proxy).unwrap()], key);
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(stolen));
        let error = handshake(config, server_config(&primary).unwrap()).unwrap_err();
        assert_eq!(error, rustls::CertificateError::BadSignature.into());
    }

    #[test]
    fn exactly_one_ed25519_certificate_is_a_peer() {
        let one = certificate(&node(1)).unwrap();
        assert!(peer_key(&[]).is_err());
        assert!(peer_key(&[one.clone(), one.clone()]).is_err());
        assert!(peer_key(&[CertificateDer::from(vec![0x30, 0x00])]).is_err());
        let other = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
        assert!(matches!(peer_key(&[other.cert.into()]), Err(IdentityError::NotEd25519)));
        assert_eq!(peer_key(&[one]).unwrap(), node(1).public());
    }
}
