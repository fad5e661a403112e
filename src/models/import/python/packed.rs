//! Compressed files: how they are recognised, and how much one may unpack to.

use std::borrow::Cow;
use std::io::Read;

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};

use super::pickle::is_pickle;
use crate::models::ModelError;
use crate::models::format::FILE_BYTES_MAX;

/// What a file may unpack to however small it is.
const UNPACKED_BYTES: u64 = 32 << 20;

/// How many times its size a file may unpack to. Trees of one leaf each do not compress better.
const RATIO: u64 = 32;

/// Compressions of joblib's that are not read, by how files begin.
const NOT_READ: [(&[u8], &str); 5] = [
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x5d\0\0", "lzma"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"ZF", "the zlib of joblib before 0.10"),
];

/// How files begin that are compressed with gzip.
const GZIP: &[u8] = b"\x1f\x8b";

/// How many bytes a file of `packed` bytes may unpack to.
pub(super) fn unpacked_bytes_max(packed: usize) -> u64 {
    let packed = u64::try_from(packed).unwrap_or(u64::MAX);
    packed
        .saturating_mul(RATIO)
        .clamp(UNPACKED_BYTES, FILE_BYTES_MAX)
}

/// Whether a file that begins like this is a pickle compressed by joblib, also in a way that
/// [`unpacked`] refuses.
pub fn is_compressed_pickle(head: &[u8]) -> bool {
    if NOT_READ.iter().any(|(magic, _)| head.starts_with(magic)) {
        return true;
    }
    let mut start = [0; 2];
    let decoded = decoder(head).is_some_and(|mut decoder| decoder.read_exact(&mut start).is_ok());
    decoded && is_pickle(&start)
}

/// The bytes of a file, unpacked if they are compressed with zlib or gzip.
///
/// # Errors
///
/// Other compressions, and more bytes than a file of this size may unpack to.
pub fn unpacked(bytes: &[u8]) -> Result<Cow<'_, [u8]>, ModelError> {
    if let Some((_, name)) = NOT_READ.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Err(ModelError(format!(
            "it is compressed with {name}, which lanekeeper does not read; save it with \
             joblib.dump(model, file), or with compress=\"zlib\""
        )));
    }
    let Some(decoder) = decoder(bytes) else {
        return Ok(Cow::Borrowed(bytes));
    };
    let most = unpacked_bytes_max(bytes.len());
    let mut unpacked = Vec::new();
    let read = decoder
        .take(most.saturating_add(1))
        .read_to_end(&mut unpacked);
    read.map_err(|error| ModelError(format!("it cannot be unpacked: {error}")))?;
    if unpacked.len() as u64 > most {
        return Err(ModelError(format!(
            "it must unpack to at most {most} bytes, but it has more; save it without compress="
        )));
    }
    Ok(Cow::Owned(unpacked))
}

/// What unpacks a file that begins like this.
fn decoder<'a>(bytes: &'a [u8]) -> Option<Box<dyn Read + 'a>> {
    match bytes {
        [0x78, ..] => Some(Box::new(ZlibDecoder::new(bytes))),
        _ if bytes.starts_with(GZIP) => Some(Box::new(GzDecoder::new(bytes))),
        _ => None,
    }
}

/// Unpacks one deflated stream of exactly `size` bytes.
pub(super) fn inflated(bytes: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut unpacked = Vec::new();
    let most = u64::try_from(size).ok()?.checked_add(1)?;
    let read = DeflateDecoder::new(bytes)
        .take(most)
        .read_to_end(&mut unpacked);
    (read.ok()? == size).then_some(unpacked)
}
