//! The first words on a new connection: who is there, and which version of the protocol both speak.

use quinn::{Connection, ConnectionError, ReadExactError, RecvStream, SendStream};
use rustls::pki_types::CertificateDer;

use crate::codec;
use crate::frame::{self, Hello, tag};
use crate::identity::{IdentityError, Role, role_of};
use crate::transport::{CONTROL_PRIORITY, CloseCode, close};

/// The oldest version of the protocol that this build speaks.
pub(crate) const PROTO_MIN: u16 = 1;

/// The newest version of the protocol that this build speaks.
pub(crate) const PROTO_MAX: u16 = 1;

/// How large a hello may be.
const HELLO_BYTES_MAX: usize = 4096;

/// Why a handshake failed. The connection is closed by then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("{0}")]
    Version(String),
    #[error("a malformed hello")]
    Malformed,
    #[error(transparent)]
    NoRole(#[from] IdentityError),
    #[error("the connection ended")]
    Connection(#[source] ConnectionError),
}

/// The control stream, once both sides agree.
pub(crate) struct Agreed {
    pub(crate) send: SendStream,
    pub(crate) receive: RecvStream,
    pub(crate) hello: Hello,
}

/// The dialling side: opens the control stream and speaks first.
pub(crate) async fn dial(connection: &Connection, build: &str) -> Result<Agreed, HandshakeError> {
    let (mut send, mut receive) = connection.open_bi().await.map_err(HandshakeError::Connection)?;
    say_hello(connection, &mut send, build).await?;
    let hello = hear_hello(connection, &mut receive).await?;
    Ok(Agreed { send, receive, hello })
}

/// The accepting side: answers only what it understands.
pub(crate) async fn accept(connection: &Connection, build: &str) -> Result<Agreed, HandshakeError> {
    let (mut send, mut receive) = connection.accept_bi().await.map_err(HandshakeError::Connection)?;
    let hello = hear_hello(connection, &mut receive).await?;
    say_hello(connection, &mut send, build).await?;
    Ok(Agreed { send, receive, hello })
}

/// The role in the peer's certificate. TLS has already checked who signed it.
pub(crate) fn peer_role(connection: &Connection) -> Result<Role, HandshakeError> {
    let chain =
        connection.peer_identity().and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    let leaf = chain.as_ref().and_then(|chain| chain.first());
    let role = leaf.map_or_else(|| Err(IdentityError::NoRole("no certificate".to_owned())), |leaf| role_of(leaf));
    role.map_err(|error| {
        close(connection, CloseCode::NoRole, &error.to_string());
        HandshakeError::NoRole(error)
    })
}

async fn say_hello(connection: &Connection, send: &mut SendStream, build: &str) -> Result<(), HandshakeError> {
    let hello = Hello { proto_min: PROTO_MIN, proto_max: PROTO_MAX, build: frame::short(build) };
    let mut bytes = bytes::BytesMut::new();
    frame::put_struct(&mut bytes, tag::HELLO, &hello).map_err(|_| HandshakeError::Malformed)?;
    let lost = |_| HandshakeError::Connection(ended(connection));
    send.set_priority(CONTROL_PRIORITY).map_err(|_| HandshakeError::Connection(ended(connection)))?;
    send.write_all(&bytes).await.map_err(lost)
}

async fn hear_hello(connection: &Connection, receive: &mut RecvStream) -> Result<Hello, HandshakeError> {
    let refuse = |code, reason: String, error| {
        close(connection, code, &reason);
        error
    };
    let malformed = || refuse(CloseCode::Malformed, "a malformed hello".to_owned(), HandshakeError::Malformed);
    let mut start = [0; 6];
    read(connection, receive, &mut start).await?;
    let length = u32::from_le_bytes([start[0], start[1], start[2], start[3]]) as usize;
    let tag = u16::from_le_bytes([start[4], start[5]]);
    if tag != tag::HELLO || !(2..=HELLO_BYTES_MAX).contains(&length) {
        return Err(malformed());
    }
    let mut body = vec![0; length - 2];
    read(connection, receive, &mut body).await?;
    let hello: Hello = codec::decode::<_, HELLO_BYTES_MAX>(&body).map_err(|_| malformed())?;
    match common_version(&hello) {
        Ok(_) => Ok(hello),
        Err(reason) => Err(refuse(CloseCode::Version, reason.clone(), HandshakeError::Version(reason))),
    }
}

async fn read(connection: &Connection, receive: &mut RecvStream, buffer: &mut [u8]) -> Result<(), HandshakeError> {
    match receive.read_exact(buffer).await {
        Ok(()) => Ok(()),
        Err(ReadExactError::FinishedEarly(_)) => {
            close(connection, CloseCode::Malformed, "the control stream ended before a hello");
            Err(HandshakeError::Malformed)
        }
        Err(ReadExactError::ReadError(_)) => Err(HandshakeError::Connection(ended(connection))),
    }
}

fn ended(connection: &Connection) -> ConnectionError {
    connection.close_reason().unwrap_or(ConnectionError::LocallyClosed)
}

/// The newest version both speak, or both ranges in words.
fn common_version(theirs: &Hello) -> Result<u16, String> {
    let newest = theirs.proto_max.min(PROTO_MAX);
    if newest >= theirs.proto_min.max(PROTO_MIN) {
        return Ok(newest);
    }
    let Hello { proto_min, proto_max, build } = theirs;
    Err(format!(
        "no common protocol version: one side speaks {PROTO_MIN} to {PROTO_MAX}, the other (build {build}) {proto_min} to \
         {proto_max}; bring both to the same release"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_is_taken() {
        let hello = |proto_min, proto_max| Hello { proto_min, proto_max, build: "9.9".to_owned() };
        assert_eq!(common_version(&hello(1, 1)), Ok(1));
        assert_eq!(common_version(&hello(0, 7)), Ok(1));
        let error = common_version(&hello(2, 3)).unwrap_err();
        assert!(error.contains("1 to 1") && error.contains("2 to 3") && error.contains("9.9"), "{error}");
        assert!(common_version(&hello(0, 0)).is_err());
        assert!(common_version(&hello(3, 2)).is_err());
    }
}
