//! Bodies of requests and their answers; the state that commands show is in [`body`](crate::body).

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use byway_identity::{Addr, Prefix, PublicKey, SigningKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::{ApiError, Code, DEFAULT_DEADLINE, ManCon, Request};

/// Longest time that a request may ask to wait.
pub const DEADLINE_MAX: Duration = Duration::from_secs(600);

macro_rules! exchange {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }
    };
}

exchange! {
    /// `POST /v1/nodes`: what the new node should be like.
    OpenNodeRequest {
        /// Its private key in the form of INET256 v0.0.8, in base64; none: a new key that exists only as long as the node.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = Byte))]
        key: Option<Secret>,
        /// Level of its requests that carry none; none: the daemon's default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mancon: Option<ManCon>,
        /// Keep the node when its last stream ends.
        #[serde(default)]
        persist: bool,
    }
}

exchange! {
    /// A node that was opened.
    OpenNodeAnswer {
        /// Its address.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        addr: Addr,
        /// Who shows this may use the node.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        token: Secret,
    }
}

exchange! {
    /// `POST /v1/nodes/{addr}/messages`: a message to send.
    SendMessage {
        /// The receiver.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        to: Addr,
        /// The content in base64: 0 to 65,535 bytes.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = Byte))]
        payload: Payload,
        /// The level; none: the node's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mancon: Option<ManCon>,
        /// How long to wait for room in the queue, and how long the message may be held, in milliseconds; none: 10 s and
        /// 60 s. `deadline` is the same.
        #[serde(default, alias = "deadline", skip_serializing_if = "Option::is_none")]
        deadline_ms: Option<u64>,
    }
}

/// What became of a message that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SendState {
    /// It left.
    Sent,
    /// It waits for a way or a session.
    Held,
}

exchange! {
    /// A message was taken.
    SendAnswer {
        /// Whether it left or waits.
        state: SendState,
        /// The level that was used.
        mancon: ManCon,
        /// What a held message waits for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        /// When a held message is given up if it could not leave until then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<String>,
    }
}

exchange! {
    /// The address that a prefix stands for.
    FindAnswer {
        /// The whole address.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        addr: Addr,
    }
}

exchange! {
    /// The public key behind an address.
    KeyAnswer {
        /// The address.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        addr: Addr,
        /// The key in the form of INET256 v0.0.8 (41 bytes), in base64.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = Byte))]
        public_key: KeyText,
    }
}

exchange! {
    /// `POST /v1/ping` and `POST /v1/trace`: which node to reach, and how.
    ReachRequest {
        /// The node.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        to: Addr,
        /// The local node that asks (`ping` only, with its token); none: the daemon's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
        from: Option<Addr>,
        /// The level; none: the default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mancon: Option<ManCon>,
        /// How long to wait, in milliseconds; none: 10 s.
        #[serde(default, alias = "deadline", skip_serializing_if = "Option::is_none")]
        deadline_ms: Option<u64>,
    }
}

exchange! {
    /// A node answered a ping.
    PingAnswer {
        /// The round-trip time in milliseconds.
        rtt_ms: f64,
    }
}

exchange! {
    /// The configuration was read again.
    ReloadAnswer {
        /// What was applied and what needs a restart, in words.
        notes: Vec<String>,
    }
}

/// An error as RFC 9457 writes it, in `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `about:blank`: the status and the code say which kind it is.
    #[serde(rename = "type", default = "Problem::blank")]
    pub kind: Cow<'static, str>,
    /// The name of the status.
    pub title: Cow<'static, str>,
    /// The HTTP status.
    pub status: u16,
    /// For programs; it never changes once released.
    pub code: Code,
    /// For people: what is wrong, and what to do.
    pub detail: String,
}

impl Problem {
    fn blank() -> Cow<'static, str> {
        "about:blank".into()
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        let status = error.code.status();
        Self {
            kind: Self::blank(),
            title: error.code.title().into(),
            status,
            code: error.code,
            detail: error.detail,
        }
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self::new(problem.code, problem.detail)
    }
}

/// Bytes that JSON carries as standard base64 with padding.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Payload(pub Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let bytes = STANDARD
            .decode(text.as_bytes())
            .map_err(|_| serde::de::Error::custom("a payload is written in standard base64, with padding"))?;
        Ok(Self(bytes.into()))
    }
}

/// A public key that JSON carries as base64 of its INET256 form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyText(pub PublicKey);

impl Serialize for KeyText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0.to_bytes()))
    }
}

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let bytes = STANDARD
            .decode(text.as_bytes())
            .map_err(|_| serde::de::Error::custom("a key is written in standard base64, with padding"))?;
        PublicKey::from_bytes(&bytes).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A text that nobody else may see: erased when dropped, and never printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// A private key as `POST /v1/nodes` wants it.
    pub fn from_key(key: &SigningKey) -> Self {
        Self::new(STANDARD.encode(&*key.to_inet256_bytes()))
    }

    /// The text; it must not end in a log.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The private key that the text holds.
    pub fn to_key(&self) -> Result<SigningKey, ApiError> {
        let bytes = Zeroizing::new(
            STANDARD
                .decode(self.0.as_bytes())
                .map_err(|_| ApiError::new(Code::BadRequest, "the private key is no standard base64"))?,
        );
        SigningKey::from_inet256_bytes(&bytes).map_err(|error| {
            ApiError::new(
                Code::BadRequest,
                format!("the private key is none of INET256 v0.0.8 (81 bytes): {error}"),
            )
        })
    }
}

/// Takes as long for a wrong text as for a right one of the same length.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq as _;
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// A request's level and deadline, as the bodies carry them.
pub fn request(mancon: Option<ManCon>, deadline_ms: Option<u64>) -> Result<Request, ApiError> {
    let deadline = deadline_ms.map(Duration::from_millis);
    if deadline.is_some_and(|deadline| deadline > DEADLINE_MAX) {
        return Err(ApiError::new(
            Code::BadRequest,
            format!("deadline_ms is at most {}", DEADLINE_MAX.as_millis()),
        ));
    }
    Ok(Request { mancon, deadline })
}

impl Request {
    /// How long to wait: what the request names, else the default.
    pub fn wait(&self) -> Duration {
        self.deadline.unwrap_or(DEFAULT_DEADLINE)
    }
}

/// The prefix that the first characters of an address stand for: 6 bits each, or just the first `bits` of them.
///
/// ```
/// use byway_api::exchange::{prefix_from_text, prefix_text};
///
/// let prefix = prefix_from_text("lucI", None)?;
/// assert_eq!((prefix.bits(), prefix_text(prefix).as_str()), (24, "lucI"));
/// assert_eq!(prefix_from_text("lucI", Some(21))?.bits(), 21);
/// # Ok::<(), byway_api::ApiError>(())
/// ```
pub fn prefix_from_text(text: &str, bits: Option<u16>) -> Result<Prefix, ApiError> {
    let bad =
        |why: &dyn fmt::Display| ApiError::new(Code::BadRequest, format!("no prefix of an address: {why}"));
    if text.is_empty() || text.chars().count() > Addr::TEXT_LENGTH {
        return Err(bad(&format_args!("it has 1 to {} characters", Addr::TEXT_LENGTH)));
    }
    let whole: Addr = format!("{text:-<43}").parse().map_err(|why| bad(&why))?;
    let most = u16::try_from(text.len() * 6).map_or(256, |most| most.min(256));
    let bits = bits.unwrap_or(most);
    if bits == 0 || bits > most {
        return Err(bad(&format_args!("{} characters hold 1 to {most} bits", text.len())));
    }
    Prefix::new(whole.as_bytes(), bits).ok_or_else(|| bad(&"too many bits"))
}

/// The inverse of [`prefix_from_text`]; the bits must be told beside it when they are no multiple of 6.
pub fn prefix_text(prefix: Prefix) -> String {
    let mut text = Addr::from_bytes(*prefix.as_bytes()).to_string();
    text.truncate(usize::from(prefix.bits()).div_ceil(6));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_goes_through_its_text_and_back() {
        let key = SigningKey::from_seed(&[7; 32]);
        let text = Secret::from_key(&key);
        assert_eq!(text.to_key().expect("it was just written").public(), key.public());
        assert_eq!(format!("{text:?}"), "[secret]");
    }

    #[test]
    fn what_is_no_private_key_is_refused_in_words() {
        let good = SigningKey::from_seed(&[7; 32]).to_inet256_bytes();
        let mut torn = good.to_vec();
        torn[80] ^= 1;
        for bytes in [&[][..], &good[..80], &torn, &[&good[..], &[0]].concat()] {
            let error = Secret::new(STANDARD.encode(bytes)).to_key().map(drop).expect_err("it is none");
            assert!(error.code == Code::BadRequest && error.detail.contains("private key"), "{error}");
        }
        assert!(Secret::new("not base64!").to_key().is_err_and(|error| error.code == Code::BadRequest));
    }

    #[test]
    fn a_prefix_keeps_its_bits_through_its_text() {
        let addr = SigningKey::from_seed(&[1; 32]).public().addr();
        for bits in 1..=256 {
            let prefix = Prefix::new(addr.as_bytes(), bits).expect("there are 256 bits");
            assert_eq!(prefix_from_text(&prefix_text(prefix), Some(bits)), Ok(prefix), "{bits} bits");
        }
        assert_eq!(prefix_from_text(&addr.to_string(), None).map(|prefix| prefix.addr()), Ok(Some(addr)));
        for (text, bits) in [("", None), ("!", None), ("ab", Some(13)), ("ab", Some(0))] {
            assert!(prefix_from_text(text, bits).is_err(), "{text:?} {bits:?}");
        }
        assert!(prefix_from_text(&"a".repeat(44), None).is_err());
    }

    #[test]
    fn bodies_refuse_what_they_do_not_know() {
        let addr = Addr::NOBODY;
        let body = format!(r#"{{"to":"{addr}","payload":"aGk=","mancon":"low","deadline_ms":5}}"#);
        let message: SendMessage = serde_json::from_str(&body).expect("it is whole");
        assert_eq!((&message.payload.0[..], message.mancon), (&b"hi"[..], Some(ManCon::Low)));
        assert!(serde_json::from_str::<SendMessage>(&body.replace("deadline_ms", "dead_line")).is_err());
        assert!(serde_json::from_str::<SendMessage>(&body.replace("aGk=", "aGk")).is_err());
        assert!(request(None, Some(600_001)).is_err());
    }
}
