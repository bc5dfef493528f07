//! TLS without names: the certificates say nothing, because every message's sender is proven already.
//!
//! QUIC cannot be had without TLS. A message reaches us only through the end-to-end session with the address that sent it, so
//! what TLS would authenticate is known before its first byte. Each endpoint makes a certificate for itself, and each
//! accepts any; the signature over the handshake is still checked. ADR 5 weighs the alternatives.

use std::sync::Arc;

use aws_lc_rs::hmac;
use byway_identity::Addr;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionId, ConnectionIdGenerator};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme, version};

/// What both sides must speak.
pub(crate) const ALPN: &[u8] = b"byway-stream/1";
/// The name that the client asks for; it means nothing.
pub(crate) const SERVER_NAME: &str = "byway";

/// The TLS half of an endpoint.
pub(crate) struct Tls {
    pub(crate) server: Arc<QuicServerConfig>,
    pub(crate) client: Arc<QuicClientConfig>,
}

impl Tls {
    /// Makes a key and a certificate that nobody else sees but those who are connected to.
    pub(crate) fn generate() -> Result<Self, Box<dyn std::error::Error>> {
        let provider = Arc::new(CryptoProvider {
            // The session around it is post-quantum already; a plain key share keeps the first flight in one datagram.
            kx_groups: vec![provider::kx_group::X25519],
            ..provider::default_provider()
        });
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
        let certificate = rcgen::CertificateParams::new([SERVER_NAME.to_owned()])?.self_signed(&key)?;

        let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        // Connections are kept and reused, so tickets would be memory for nothing.
        server.send_tls13_tickets = 0;

        let mut client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = rustls::client::Resumption::disabled();

        Ok(Self { server: Arc::new(server.try_into()?), client: Arc::new(client.try_into()?) })
    }
}

/// Accepts any certificate, and checks that the other side holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC has no TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The key of stateless resets: the same in every process that has this address.
///
/// A reset token keeps third parties from ending a connection. Here only the remote itself can send us anything, so the
/// token need not be secret, and a daemon that was restarted can at once tell its peers that it knows their connections no more.
pub(crate) fn reset_key(local: &Addr) -> Arc<hmac::Key> {
    let mut key = b"byway-stream/1 reset ".to_vec();
    key.extend_from_slice(local.as_bytes());
    Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &key))
}

/// Connection ids of 8 random bytes, which a restarted process takes for its own, and so answers with a reset.
pub(crate) struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; 8];
        // Ids need to differ, not to be secret; should the system's randomness fail, TLS fails next and says so.
        let _ = aws_lc_rs::rand::fill(&mut id);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}
