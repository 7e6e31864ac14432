//! The wire codec: the only file that names bincode, so that another codec is one commit away.
//!
//! Every decode is limited in size: without a limit a forged length makes the process ask for that much memory.
//! Nothing limits recursion, so wire types must not be recursive. The encoding is positional: an addition is a new type
//! or a new variant at the end, never a changed struct.

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How large one encoded message may be; a frame on a control stream is never larger.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// How much memory decoding one message may claim, whatever its own limit is. Numbers are encoded in as few bytes as they
/// need, so a message may claim more than its length; 16 is the worst ratio (a small `u128`).
const DECODED_BYTES_MAX: usize = 16 * MESSAGE_BYTES_MAX;

/// A message that cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The type refused to be encoded.
    #[error("failed to encode a message")]
    Encode(#[source] bincode::error::EncodeError),
    /// Too large to be sent as a message.
    #[error("a message of {length} bytes is larger than the {limit} that it may have")]
    TooLarge {
        /// Encoded length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The bytes are not a message of this type.
    #[error("failed to decode a message")]
    Decode(#[source] bincode::error::DecodeError),
    /// The message ends before its bytes do.
    #[error("{0} bytes are left over after a message")]
    TrailingBytes(usize),
}

/// Encodes `message` into at most `LIMIT` bytes of its own.
///
/// # Errors
///
/// [`CodecError`] where the type refuses, or where the result is larger.
pub fn encode<T: Serialize, const LIMIT: usize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(message, bincode::config::standard()).map_err(CodecError::Encode)?;
    match bytes.len() {
        length if length > LIMIT => Err(CodecError::TooLarge { length, limit: LIMIT }),
        _ => Ok(bytes),
    }
}

/// Appends `message`, at most [`MESSAGE_BYTES_MAX`] bytes, to `buffer`; leaves the buffer as it was where that fails.
///
/// # Errors
///
/// As [`encode`].
pub fn encode_into<T: Serialize>(message: &T, buffer: &mut BytesMut) -> Result<(), CodecError> {
    let start = buffer.len();
    let written = {
        let mut writer = Appender(buffer);
        bincode::serde::encode_into_writer(message, &mut writer, bincode::config::standard())
    };
    let length = buffer.len() - start;
    match written {
        Ok(()) if length <= MESSAGE_BYTES_MAX => Ok(()),
        Ok(()) => {
            buffer.truncate(start);
            Err(CodecError::TooLarge { length, limit: MESSAGE_BYTES_MAX })
        }
        Err(error) => {
            buffer.truncate(start);
            Err(CodecError::Encode(error))
        }
    }
}

/// Decodes one message that fills `bytes` exactly; looks at none that is longer than `LIMIT`.
///
/// # Errors
///
/// [`CodecError`] where the bytes are not such a message, claim too much memory, or go on after it.
pub fn decode<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<T, CodecError> {
    const { assert!(LIMIT <= DECODED_BYTES_MAX, "a message may not be larger than what decoding may claim") }
    if bytes.len() > LIMIT {
        return Err(CodecError::TooLarge { length: bytes.len(), limit: LIMIT });
    }
    let config = bincode::config::standard().with_limit::<DECODED_BYTES_MAX>();
    let (message, used) = bincode::serde::decode_from_slice(bytes, config).map_err(CodecError::Decode)?;
    match bytes.len() - used {
        0 => Ok(message),
        left => Err(CodecError::TrailingBytes(left)),
    }
}

struct Appender<'a>(&'a mut BytesMut);

impl bincode::enc::write::Writer for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.put_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    const MAX: usize = MESSAGE_BYTES_MAX;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Sample {
        Nothing,
        Text(String),
        Fields { numbers: Vec<u64>, flag: Option<bool>, real: f64 },
        Bytes(Vec<u8>),
    }

    fn any_sample() -> impl Strategy<Value = Sample> {
        prop_oneof![
            Just(Sample::Nothing),
            ".{0,40}".prop_map(Sample::Text),
            (prop::collection::vec(any::<u64>(), 0..20), any::<Option<bool>>(), -1e9f64..1e9)
                .prop_map(|(numbers, flag, real)| Sample::Fields { numbers, flag, real }),
            prop::collection::vec(any::<u8>(), 0..200).prop_map(Sample::Bytes),
        ]
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(sample in any_sample()) {
            let bytes = encode::<_, MAX>(&sample).unwrap();
            prop_assert_eq!(decode::<Sample, MAX>(&bytes).unwrap(), sample.clone());
            let mut buffer = BytesMut::from(&b"before"[..]);
            encode_into(&sample, &mut buffer).unwrap();
            prop_assert_eq!(&buffer[6..], &bytes[..]);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode::<Sample, MAX>(&bytes);
            let _ = decode::<Vec<String>, MAX>(&bytes);
        }
    }

    #[test]
    fn a_forged_length_is_refused_without_asking_for_memory() {
        // Variant 3 (`Bytes`), then a length of 2^40 in bincode's nine-byte form.
        let mut forged = vec![3, 253];
        forged.extend_from_slice(&(1u64 << 40).to_le_bytes());
        assert!(matches!(decode::<Sample, MAX>(&forged), Err(CodecError::Decode(_))));
    }

    #[test]
    fn a_message_must_fill_its_bytes() {
        let mut bytes = encode::<_, MAX>(&7u32).unwrap();
        bytes.push(0);
        assert!(matches!(decode::<u32, MAX>(&bytes), Err(CodecError::TrailingBytes(1))));
    }

    #[test]
    fn a_large_message_is_refused_and_leaves_no_trace() {
        let large = Sample::Bytes(vec![0; MESSAGE_BYTES_MAX + 1]);
        assert!(matches!(encode::<_, MAX>(&large), Err(CodecError::TooLarge { .. })));
        let mut buffer = BytesMut::from(&b"before"[..]);
        assert!(encode_into(&large, &mut buffer).is_err());
        assert_eq!(&buffer[..], b"before");
    }

    #[test]
    fn what_encodes_also_decodes_at_the_limit() {
        let numbers = vec![1u64; MESSAGE_BYTES_MAX - 16];
        let bytes = encode::<_, MAX>(&numbers).unwrap();
        assert_eq!(decode::<Vec<u64>, MAX>(&bytes).unwrap().len(), numbers.len());
    }
}
