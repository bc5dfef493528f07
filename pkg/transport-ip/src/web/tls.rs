//! Certificates and the TLS of both sides.
//!
//! TLS is here for what it looks like: who the peer is, the link's own handshake finds out. The server's certificate is
//! checked all the same, by authorities or by a pin, since a client that takes any certificate is told apart by that.

use std::io;
use std::sync::Arc;

use byway_link::DialError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    version,
};
use subtle::ConstantTimeEq;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

/// The certificate of a server, with its key.
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<Vec<u8>>,
    /// Whether no authority has signed it, so that clients need its pin.
    is_own: bool,
}

impl Certificate {
    /// Makes one for `name` that its own key signs, good for ten years: as many small servers have.
    ///
    /// # Errors
    ///
    /// When `name` is no host name.
    pub fn generate(name: &str) -> io::Result<Self> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).map_err(io::Error::other)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.not_before = OffsetDateTime::now_utc() - Duration::days(1);
        params.not_after = params.not_before + Duration::days(3_650);
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        let key = Zeroizing::new(key.serialize_der());
        Ok(Self { chain: vec![certificate.der().clone()], key, is_own: true })
    }

    /// One that [`Certificate::generate`] made, from what [`Certificate::to_bytes`] gave.
    ///
    /// # Errors
    ///
    /// When the bytes are none of that.
    pub fn from_bytes(bytes: &[u8]) -> io::Result<Self> {
        let damaged = || io::Error::from(io::ErrorKind::InvalidData);
        let (length, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (certificate, key) = rest.split_at_checked(length).ok_or_else(damaged)?;
        let chain = vec![CertificateDer::from(certificate.to_vec())];
        let read = Self { chain, key: Zeroizing::new(key.to_vec()), is_own: true };
        read.server(&[])?;
        Ok(read)
    }

    /// Certificate and key, to be kept where only their owner can read them.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let certificate = self.chain.first().map(CertificateDer::as_ref).unwrap_or_default();
        let length = u16::try_from(certificate.len()).unwrap_or(u16::MAX);
        Zeroizing::new([&length.to_be_bytes(), certificate, &self.key].concat())
    }

    /// A chain of certificates, the server's first, and its key, each as PEM.
    ///
    /// # Errors
    ///
    /// When a text has no such thing, or key and certificate do not fit together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> io::Result<Self> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|_| bad("no PEM"))?;
        if chain.is_empty() {
            return Err(bad("there is no certificate in it"));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| bad("there is no private key in it"))?;
        let PrivateKeyDer::Pkcs8(key) = key else {
            return Err(bad(
                "the key is no PKCS #8 (BEGIN PRIVATE KEY); openssl pkcs8 -topk8 -nocrypt converts it",
            ));
        };
        let key = Zeroizing::new(key.secret_pkcs8_der().to_vec());
        let read = Self { chain, key, is_own: false };
        read.server(&[])?;
        Ok(read)
    }

    /// What clients must be told: SHA-256 of its public key. None where an authority speaks for it.
    pub fn pin(&self) -> Option<[u8; 32]> {
        self.chain.first().filter(|_| self.is_own).and_then(pin)
    }

    /// What a server needs that speaks one of `protocols`.
    pub(crate) fn server(&self, protocols: &[&[u8]]) -> io::Result<Arc<ServerConfig>> {
        let key = PrivatePkcs8KeyDer::from(self.key.to_vec());
        let mut config = ServerConfig::builder_with_provider(crypto())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), key.into())
            .map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidData, "certificate and key do not fit together")
            })?;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// What a client needs that asks for `protocols`, and takes the certificate with `pin`, or one that `roots` speak for.
pub(crate) fn client(
    pin: Option<[u8; 32]>,
    roots: &Arc<RootCertStore>,
    protocols: &[&[u8]],
) -> Result<Arc<ClientConfig>, DialError> {
    const UNUSABLE: DialError = DialError::Certificate(
        "cannot be checked: this machine lists no authorities; install ca-certificates, or add ?pin=",
    );
    let verifier: Arc<dyn ServerCertVerifier> = match pin {
        Some(pin) => Arc::new(Pinned { pin, provider: crypto() }),
        None => WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), crypto())
            .build()
            .map_err(|_| UNUSABLE)?,
    };
    let mut config = ClientConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(|_| UNUSABLE)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// The authorities that this machine trusts; none where it lists none.
pub(crate) fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// What a failed TLS handshake means for who dials.
pub(crate) fn fault(error: &io::Error) -> DialError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = tls else { return DialError::Unreachable };
    use CertificateError as C;
    DialError::Certificate(match why {
        C::Expired | C::ExpiredContext { .. } => {
            "has expired: renew it over there, or set this machine's clock if that is wrong"
        }
        C::NotValidYet | C::NotValidYetContext { .. } => {
            "is not valid yet: set this machine's clock, or wait until it is"
        }
        C::NotValidForName | C::NotValidForNameContext { .. } => {
            "is for another name: write the name after sni=, or add ?pin="
        }
        C::ApplicationVerificationFailure => {
            "is not the one of pin=: somebody is in between, or it was replaced"
        }
        // An unknown issuer shows in many ways: some authority may have its name, and another kind of key.
        _ => "is of no authority that this machine trusts: add ?pin=, which `byway status` shows over there",
    })
}

/// As browsers and servers offer them today, the hybrid with ML-KEM first.
fn crypto() -> Arc<CryptoProvider> {
    use provider::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    let kx_groups = vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1];
    Arc::new(CryptoProvider { kx_groups, ..provider::default_provider() })
}

fn pin(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let key = parsed.subject_public_key_info();
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key).as_ref().try_into().ok()
}

/// Takes the certificate of one key, whatever its name and time.
#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match pin(end_entity) {
            Some(pin) if bool::from(pin.ct_eq(&self.pin)) => Ok(ServerCertVerified::assertion()),
            _ => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_was_kept_has_the_same_pin() {
        let made = Certificate::generate("host.example").expect("a good name");
        let bytes = made.to_bytes();
        let kept = Certificate::from_bytes(&bytes).expect("what it wrote");
        assert_eq!(kept.pin(), made.pin());
        assert!(
            made.pin().is_some() && made.pin() != Certificate::generate("host.example").expect("good").pin()
        );
        for cut in [0, 1, 2, 100, bytes.len() - 1] {
            assert!(Certificate::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_pem_is_told() {
        let told =
            |chain: &[u8], key: &[u8]| Certificate::from_pem(chain, key).err().map(|error| error.to_string());
        assert!(told(b"nonsense", b"").is_some_and(|text| text.contains("no certificate")));
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("made");
        let made = rcgen::CertificateParams::new(["a.example".to_owned()]).expect("good").self_signed(&key);
        let chain = to_pem("CERTIFICATE", made.expect("made").der());
        assert!(told(chain.as_bytes(), b"nonsense").is_some_and(|text| text.contains("no private key")));
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("made");
        let other = to_pem("PRIVATE KEY", &other.serialize_der());
        assert!(told(chain.as_bytes(), other.as_bytes()).is_some_and(|text| text.contains("do not fit")));
        let key = to_pem("PRIVATE KEY", &key.serialize_der());
        let read = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).expect("a pair");
        assert_eq!(read.pin(), None, "an authority is expected to speak for it");
    }

    fn to_pem(label: &str, der: &[u8]) -> String {
        use base64::Engine;
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }
}
