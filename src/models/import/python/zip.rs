//! Zip files, as far as skops and numpy write them: members that are stored or deflated.
//!
//! Members are found by the directory at the end. Their names are compared and nothing else.

use std::borrow::Cow;
use std::collections::HashMap;

use flate2::Crc;

use super::packed;
use super::permitted::shown;
use crate::models::ModelError;

/// How a member's header, its entry in the directory, and the end of the directory begin.
const MEMBER: &[u8] = b"PK\x03\x04";
const ENTRY: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";

/// Bytes of these without names and comments.
const MEMBER_BYTES: usize = 30;
const ENTRY_BYTES: usize = 46;
const END_BYTES: usize = 22;

/// A comment at the end has at most this many bytes.
const COMMENT_BYTES_MAX: usize = 0xffff;

/// Whether a file that begins like this is a zip file.
pub(super) fn is_zip(head: &[u8]) -> bool {
    head.starts_with(MEMBER)
}

/// A zip file.
pub(super) struct Zip<'a> {
    bytes: &'a [u8],
    members: HashMap<&'a [u8], ZipMember>,
}

/// What the directory says of a member.
#[derive(Debug, Clone, Copy)]
struct ZipMember {
    is_encrypted: bool,
    method: u16,
    crc: u32,
    packed_size: usize,
    size: usize,
    place: usize,
}

impl<'a> Zip<'a> {
    /// Reads the directory.
    ///
    /// # Errors
    ///
    /// A directory that is missing or broken, and a name that occurs twice.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, ModelError> {
        let broken = || ModelError("it is no zip file, or it is cut off".to_owned());
        let from = bytes.len().saturating_sub(END_BYTES + COMMENT_BYTES_MAX);
        let tail = bytes.get(from..).unwrap_or_default();
        let mut windows = tail.windows(END.len());
        let end = windows
            .rposition(|window| window == END)
            .ok_or_else(broken)?;
        let end = tail.get(end..).unwrap_or_default();
        let size = number(end, 12, 4).ok_or_else(broken)?;
        let place = number(end, 16, 4).ok_or_else(broken)?;
        let directory = place
            .checked_add(size)
            .and_then(|end| bytes.get(place..end));
        let mut rest = directory.ok_or_else(broken)?;
        let mut members = HashMap::new();
        while !rest.is_empty() {
            let (name, member, after) = entry(rest).ok_or_else(broken)?;
            rest = after;
            if members.insert(name, member).is_some() {
                return Err(ModelError(format!(
                    "its members must have names of their own, but {} occurs twice",
                    shown(&String::from_utf8_lossy(name))
                )));
            }
        }
        Ok(Zip { bytes, members })
    }

    /// Whether there is a member of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name.as_bytes())
    }

    /// The content of a member, borrowed if it is stored. Its size is taken from `bytes_left`, also
    /// if it is stored: a file may ask for the same member again and again.
    ///
    /// # Errors
    ///
    /// A member that is missing, broken, encrypted or too large.
    pub(super) fn member(
        &self,
        name: &str,
        bytes_left: &mut u64,
    ) -> Result<Cow<'a, [u8]>, ModelError> {
        let says = |text: &str| ModelError(format!("its member {} {text}", shown(name)));
        let member = self.members.get(name.as_bytes());
        let member = *member.ok_or_else(|| says("is missing"))?;
        if member.is_encrypted {
            return Err(says("is encrypted"));
        }
        let packed = self.packed(member).ok_or_else(|| says("is cut off"))?;
        let size = u64::try_from(member.size).unwrap_or(u64::MAX);
        let left = bytes_left.checked_sub(size);
        *bytes_left =
            left.ok_or_else(|| says("is too large when unpacked; save it without compression="))?;
        let content = match member.method {
            0 => Cow::Borrowed(packed),
            8 => {
                let unpacked = packed::inflated(packed, member.size);
                Cow::Owned(unpacked.ok_or_else(|| says("cannot be unpacked"))?)
            }
            _ => {
                return Err(says(
                    "must be stored or deflated; save it without compression=",
                ));
            }
        };
        let mut crc = Crc::new();
        crc.update(&content);
        match content.len() == member.size && crc.sum() == member.crc {
            true => Ok(content),
            false => Err(says("is not as it was saved: its checksum differs")),
        }
    }

    /// What lies behind a member's own header.
    fn packed(&self, member: ZipMember) -> Option<&'a [u8]> {
        let header = self.bytes.get(member.place..)?;
        if !header.starts_with(MEMBER) {
            return None;
        }
        let start = MEMBER_BYTES
            .checked_add(number(header, 26, 2)?)?
            .checked_add(number(header, 28, 2)?)?;
        header.get(start..start.checked_add(member.packed_size)?)
    }
}

/// The first entry of a directory, and what comes after it.
fn entry(bytes: &[u8]) -> Option<(&[u8], ZipMember, &[u8])> {
    if !bytes.starts_with(ENTRY) {
        return None;
    }
    let member = ZipMember {
        is_encrypted: number(bytes, 8, 2)? & 1 != 0,
        method: u16::try_from(number(bytes, 10, 2)?).ok()?,
        crc: u32::try_from(number(bytes, 16, 4)?).ok()?,
        packed_size: number(bytes, 20, 4)?,
        size: number(bytes, 24, 4)?,
        place: number(bytes, 42, 4)?,
    };
    let name_end = ENTRY_BYTES.checked_add(number(bytes, 28, 2)?)?;
    let end = name_end
        .checked_add(number(bytes, 30, 2)?)?
        .checked_add(number(bytes, 32, 2)?)?;
    Some((bytes.get(ENTRY_BYTES..name_end)?, member, bytes.get(end..)?))
}

/// A whole number of at most 4 bytes, the lowest first.
fn number(bytes: &[u8], place: usize, length: usize) -> Option<usize> {
    let bytes = bytes.get(place..place.checked_add(length)?)?;
    let number = bytes
        .iter()
        .rev()
        .fold(0, |number: u32, byte| number << 8 | u32::from(*byte));
    usize::try_from(number).ok()
}
