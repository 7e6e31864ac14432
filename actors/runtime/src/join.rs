//! Joining a cluster with a one-time token, on a port of its own.
//!
//! A node that has no certificate yet cannot prove who it is on the actor network, so it joins here: the server shows a
//! certificate of the CA whose fingerprint the token carries, the node shows the token's secret, and gets a certificate
//! for a key it made itself. Neither the key nor a reusable secret is ever at the other side: the control plane keeps
//! blake3 of the secret only. Whether a token is good, and that it is good once, is for the `admit` callback to decide.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use neap_scheduler::model::NodeId;
use quinn::{Connection, ConnectionError, Endpoint, Incoming, VarInt};
use rand::TryRng;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::codec;
use crate::identity::{CertificateAuthority, CertificateRequest, Identity, IdentityError, Role};
use crate::node::NodeError;
use crate::transport;

/// The application protocol of joining.
const ALPN: &[u8] = b"neap-join/1";

/// The name of the join server's certificate. No role has it, so no other process of the cluster can pose as the server.
const SERVER_NAME: &str = "join.neap";

/// How a token's text begins.
const TOKEN_PREFIX: &str = "neapjoin_";

/// How large a request or an answer may be: a certificate request or two certificates.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// How long joining may take, the decision of the control plane included.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Nodes that may be joining at a time; more are refused and may try again.
const JOINS_MAX: usize = 32;

/// What a new node presents once: whom to trust, and the secret that lets it in.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    ca_fingerprint: [u8; 32],
    secret: [u8; 32],
}

impl JoinToken {
    /// A token with a fresh secret for the cluster with this CA.
    ///
    /// # Panics
    ///
    /// If the system has no random numbers to give.
    pub fn generate(ca_fingerprint: [u8; 32]) -> Self {
        let mut secret = [0; 32];
        rand::rngs::SysRng.try_fill_bytes(&mut secret).expect("the system's random generator answers");
        Self { ca_fingerprint, secret }
    }

    /// blake3 of the secret: what the control plane keeps.
    pub fn secret_hash(&self) -> [u8; 32] {
        *blake3::hash(&self.secret).as_bytes()
    }

    /// The token's text, secret included: `neapjoin_<hex>`. For the node that joins and for nobody else.
    pub fn reveal(&self) -> String {
        format!("{TOKEN_PREFIX}{}{}", hex::encode(self.ca_fingerprint), hex::encode(self.secret))
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("neapjoin_[hidden]")
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("JoinToken([hidden])")
    }
}

/// A text that is no join token. Does not show the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a join token; one looks like `neapjoin_` and 128 hexadecimal digits")]
pub struct TokenParseError;

impl FromStr for JoinToken {
    type Err = TokenParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix(TOKEN_PREFIX).ok_or(TokenParseError)?;
        let mut bytes = [0; 64];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| TokenParseError)?;
        let (ca, secret) = bytes.split_at(32);
        let part = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).map_err(|_| TokenParseError);
        Ok(Self { ca_fingerprint: part(ca)?, secret: part(secret)? })
    }
}

/// Why a node could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody answered in time.
    #[error("no answer from {addr}")]
    Unreachable {
        /// The address dialled.
        addr: SocketAddr,
    },
    /// Whoever answered is not the cluster that made the token.
    #[error("the process at {addr} does not belong to the cluster of this token: {reason}")]
    WrongCluster {
        /// The address dialled.
        addr: SocketAddr,
        /// What did not fit.
        reason: String,
    },
    /// The control plane refused the token.
    #[error("the control plane refuses this node: {0}")]
    Refused(String),
    /// This side could not make its key or request.
    #[error("failed to ask for a certificate")]
    Identity(#[from] IdentityError),
    /// The exchange broke.
    #[error("failed to join through {addr}: {reason}")]
    Broken {
        /// The address dialled.
        addr: SocketAddr,
        /// The cause.
        reason: String,
    },
}

impl JoinError {
    /// Whether trying again with the same token can help. After [`Self::Broken`] the token may have been used up.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Broken { .. })
    }
}

/// What a node sends.
#[derive(Serialize, Deserialize)]
struct JoinRequest {
    node: NodeId,
    secret: [u8; 32],
    request: CertificateRequest,
}

/// What it gets.
#[derive(Serialize, Deserialize)]
enum JoinAnswer {
    Admitted { chain: Vec<Vec<u8>>, ca: Vec<u8> },
    Refused(String),
}

/// Joins as `node`: makes a key, proves the token, and gets a certificate for the key. The key never leaves this process.
///
/// # Errors
///
/// [`JoinError`].
pub async fn join(addr: SocketAddr, token: &JoinToken, node: NodeId) -> Result<Identity, JoinError> {
    let joined = tokio::time::timeout(JOIN_TIMEOUT, join_unlimited(addr, token, node)).await;
    joined.unwrap_or(Err(JoinError::Unreachable { addr }))
}

async fn join_unlimited(addr: SocketAddr, token: &JoinToken, node: NodeId) -> Result<Identity, JoinError> {
    let broken = |reason: String| JoinError::Broken { addr, reason };
    let any: SocketAddr = if addr.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let endpoint = transport::endpoint(any, None).map_err(|error| broken(error.to_string()))?;
    let config = client_config(token.ca_fingerprint, addr).map_err(JoinError::Identity)?;
    let connecting = endpoint.connect_with(config, addr, SERVER_NAME).map_err(|error| broken(error.to_string()))?;
    let connection = connecting.await.map_err(|error| match error {
        ConnectionError::TimedOut => JoinError::Unreachable { addr },
        ConnectionError::TransportError(error) => JoinError::WrongCluster { addr, reason: error.reason },
        other => broken(other.to_string()),
    })?;
    let (key, request) = CertificateRequest::generate()?;
    let request = JoinRequest { node, secret: token.secret, request };
    let answer = exchange(&connection, &request).await.map_err(|error| broken(error.to_string()))?;
    connection.close(VarInt::from_u32(0), b"joined");
    // The last words leave with the endpoint; without this the server would wait for the idle time.
    let _ = tokio::time::timeout(Duration::from_millis(200), endpoint.wait_idle()).await;
    match answer {
        JoinAnswer::Refused(reason) => Err(JoinError::Refused(reason)),
        JoinAnswer::Admitted { chain, ca } => admitted(addr, token, node, Identity::new(chain, key, ca)),
    }
}

/// Checks what came back: the CA that the token names, and the role that was asked for.
fn admitted(addr: SocketAddr, token: &JoinToken, node: NodeId, identity: Identity) -> Result<Identity, JoinError> {
    if *blake3::hash(&identity.ca_certificate()).as_bytes() != token.ca_fingerprint {
        return Err(JoinError::WrongCluster { addr, reason: "it answers with another CA".to_owned() });
    }
    match identity.role()? {
        Role::Node(theirs) if theirs == node => Ok(identity),
        role => Err(JoinError::Broken { addr, reason: format!("the certificate is for {role}") }),
    }
}

async fn exchange(
    connection: &Connection,
    request: &JoinRequest,
) -> Result<JoinAnswer, Box<dyn std::error::Error + Send + Sync>> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&codec::encode::<_, MESSAGE_BYTES_MAX>(request)?).await?;
    send.finish()?;
    let answer = receive.read_to_end(MESSAGE_BYTES_MAX).await?;
    Ok(codec::decode::<_, MESSAGE_BYTES_MAX>(&answer)?)
}

/// What [`JoinServer`] asks before it signs: the node that wants in and blake3 of the secret it presented. An `Err` is
/// the reason the node is told. The callback makes a token single-use: it is called once for each attempt.
pub type Admission = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

type Admit = dyn Fn(NodeId, [u8; 32]) -> Admission + Send + Sync;

/// Lets nodes join.
#[derive(Debug)]
pub struct JoinServer {
    endpoint: Endpoint,
    local_addr: SocketAddr,
}

impl JoinServer {
    /// Listens on `bind`. Call it inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`NodeError`].
    pub fn start(
        bind: SocketAddr,
        ca: Arc<CertificateAuthority>,
        admit: impl Fn(NodeId, [u8; 32]) -> Admission + Send + Sync + 'static,
    ) -> Result<Self, NodeError> {
        let config = server_config(&ca, bind)?;
        let (endpoint, local_addr) = transport::endpoint(bind, Some(config))
            .and_then(|endpoint| endpoint.local_addr().map(|addr| (endpoint, addr)))
            .map_err(|source| NodeError::Bind { addr: bind, source })?;
        tokio::spawn(serve(endpoint.clone(), ca, Arc::new(admit)));
        Ok(Self { endpoint, local_addr })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops listening.
    pub async fn shutdown(&self) {
        self.endpoint.close(VarInt::from_u32(0), b"shutting down");
        let _ = tokio::time::timeout(Duration::from_secs(1), self.endpoint.wait_idle()).await;
    }
}

async fn serve(endpoint: Endpoint, ca: Arc<CertificateAuthority>, admit: Arc<Admit>) {
    let joins = Arc::new(Semaphore::new(JOINS_MAX));
    while let Some(incoming) = endpoint.accept().await {
        let Ok(permit) = joins.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let (ca, admit) = (ca.clone(), admit.clone());
        tokio::spawn(async move {
            let addr = incoming.remote_address();
            match tokio::time::timeout(JOIN_TIMEOUT, serve_one(incoming, &ca, &*admit)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%addr, %error, "an attempt to join broke off"),
                Err(_) => tracing::warn!(%addr, "an attempt to join took too long"),
            }
            drop(permit);
        });
    }
}

async fn serve_one(
    incoming: Incoming,
    ca: &CertificateAuthority,
    admit: &Admit,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let connection = incoming.await?;
    let (mut send, mut receive) = connection.accept_bi().await?;
    let request = receive.read_to_end(MESSAGE_BYTES_MAX).await?;
    let request: JoinRequest = codec::decode::<_, MESSAGE_BYTES_MAX>(&request)?;
    let answer = decide(request, ca, admit).await;
    send.write_all(&codec::encode::<_, MESSAGE_BYTES_MAX>(&answer)?).await?;
    send.finish()?;
    // The node closes when it has the answer.
    connection.closed().await;
    Ok(())
}

async fn decide(request: JoinRequest, ca: &CertificateAuthority, admit: &Admit) -> JoinAnswer {
    let node = request.node;
    // Signed first: a request that cannot be signed must not use up a token.
    let chain = match ca.sign(&request.request, Role::Node(node)) {
        Ok(chain) => chain,
        Err(error) => return JoinAnswer::Refused(error.to_string()),
    };
    match admit(node, *blake3::hash(&request.secret).as_bytes()).await {
        Ok(()) => JoinAnswer::Admitted { chain, ca: ca.certificate().to_vec() },
        Err(reason) => {
            tracing::warn!(%node, reason, "a node was not let in");
            JoinAnswer::Refused(crate::frame::short(&reason))
        }
    }
}

fn server_config(ca: &CertificateAuthority, bind: SocketAddr) -> Result<quinn::ServerConfig, IdentityError> {
    let identity = ca.issue_named(SERVER_NAME)?;
    let mut chain = identity.chain();
    // The CA itself goes along: the node knows only its fingerprint.
    chain.push(identity.ca_certificate());
    let mut tls = rustls::ServerConfig::builder_with_provider(transport::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(IdentityError::Tls)?
        .with_no_client_auth()
        .with_single_cert(chain, identity.private_key()?)
        .map_err(IdentityError::Tls)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.send_tls13_tickets = 0;
    Ok(transport::quic_server(tls, join_transport(bind)))
}

fn client_config(ca_fingerprint: [u8; 32], addr: SocketAddr) -> Result<quinn::ClientConfig, IdentityError> {
    let provider = transport::provider();
    let mut tls = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(IdentityError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedAuthority { ca_fingerprint, provider }))
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(transport::quic_client(tls, join_transport(addr)))
}

/// One small exchange: a connection may hold little memory, because its other end has shown nothing yet.
fn join_transport(remote: SocketAddr) -> quinn::TransportConfig {
    let mut config = transport::transport_config(remote);
    let window = VarInt::from_u32(MESSAGE_BYTES_MAX as u32);
    config.stream_receive_window(window).receive_window(window).max_concurrent_uni_streams(VarInt::from_u32(0));
    config
}

/// Trusts a server whose certificate is signed by the CA with this fingerprint, and nobody else.
#[derive(Debug)]
struct PinnedAuthority {
    ca_fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = |certificate: &&CertificateDer<'_>| *blake3::hash(certificate).as_bytes() == self.ca_fingerprint;
        let ca = intermediates
            .iter()
            .find(pinned)
            .ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_hide_themselves() {
        let token = JoinToken::generate([7; 32]);
        assert_eq!(token.reveal().parse::<JoinToken>().unwrap(), token);
        assert_ne!(token, JoinToken::generate([7; 32]));
        let secret = hex::encode(token.secret);
        assert!(token.reveal().contains(&secret));
        assert!(!format!("{token} {token:?}").contains(&secret));
    }

    #[test]
    fn texts_that_are_no_token_are_refused_without_being_shown() {
        let good = JoinToken::generate([7; 32]).reveal();
        for text in [
            "",
            "neapjoin_",
            "neapjoin_12",
            &good[1..],
            &format!("{good}00"),
            &good.replace("neapjoin_", "neapjoin_zz"),
        ] {
            let error = text.parse::<JoinToken>().unwrap_err();
            assert!(!error.to_string().contains("zz"));
        }
    }
}
