//! Converted models: another library's file with what it does not say, in one JSON document.
//!
//! `lanekeeper convert` writes them. The library's own bytes are inside, packed (zlib, base64), and are
//! read by the format that recognizes them, so that nothing of them is lost. What they unpack to is
//! bounded before memory is taken. The checksum (SHA-256) guards against accidents; malice is left to
//! the checks of the format inside.

use std::borrow::Cow;
use std::io::{Read, Write};

use base64::engine::general_purpose::STANDARD;
use base64::read::DecoderReader;
use base64::write::EncoderStringWriter;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::format::{self, FILE_BYTES_MAX, Format};
use super::native::Native;
use super::{Loaded, ModelError, golden};
use crate::config::{Iterations, ModelRequest};

/// The value of `format` in every converted model.
const FORMAT: &str = "lanekeeper-converted";

/// The format version that is read and written.
const FORMAT_VERSION: u32 = 1;

/// How many times its packed size a file may have. Models shrink to a tenth or so; zlib could
/// make a thousandth of a file of nothing.
const RATIO_MAX: u64 = 64;

/// Below this size, in bytes, the ratio does not matter.
const SMALL_BYTES: u64 = 1 << 20;

/// The contents of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConvertedDocument<'a> {
    /// Always `lanekeeper-converted`; first, as it is recognized by it.
    format: Cow<'a, str>,
    format_version: u32,
    name: String,
    /// Names of the classes; empty if the library's file is to say them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    classes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iterations: Option<Iterations>,
    /// What `lanekeeper golden-script` had Python write.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    golden: Option<&'a RawValue>,
    lanekeeper_version: Cow<'a, str>,
    /// The size of the library's file.
    bytes: u64,
    /// The library's file: zlib, then base64.
    packed: &'a str,
    /// SHA-256 over this document with an empty checksum, in hexadecimal.
    checksum: String,
}

/// Another library's model in lanekeeper's own file.
#[derive(Debug, Clone, Copy)]
pub struct Converted;

impl Format for Converted {
    fn recognises(&self, head: &[u8]) -> bool {
        let name = format!("{FORMAT:?}");
        let mut rest = head;
        ["{", "\"format\"", ":", &name].iter().all(|part| {
            let after = rest.trim_ascii_start().strip_prefix(part.as_bytes());
            rest = after.unwrap_or_default();
            after.is_some()
        })
    }

    fn load(&self, bytes: &[u8], request: &ModelRequest) -> Result<Loaded, ModelError> {
        let document = ConvertedDocument::read(bytes)?;
        let inner = document.unpack()?;
        let own_request = document.completed(request);
        let mut loaded = format_inside(&inner)?.load(&inner, &own_request)?;
        loaded.name = document.name;
        if let (Some(golden), None) = (document.golden, &request.golden) {
            let told = |reason| ModelError(format!("its golden rows: {reason}"));
            let rows = golden::read(
                golden.get().as_bytes(),
                loaded.model.signature(),
                !own_request.classes.is_empty(),
            );
            loaded.golden = rows.map_err(told)?;
            golden::try_model(&loaded).map_err(told)?;
        }
        Ok(loaded)
    }
}

/// The format of the file inside.
fn format_inside(bytes: &[u8]) -> Result<&'static dyn Format, ModelError> {
    let head = format::head(bytes);
    if Converted.recognises(head) {
        return Err(
            "the file in it is a converted model already; convert the library's own file".into(),
        );
    }
    if Native.recognises(head) {
        return Err("the file in it is lanekeeper's own model, which needs no conversion; serve that file itself".into());
    }
    format::find(head).ok_or_else(|| "the file in it is of no format that lanekeeper reads".into())
}

impl<'a> ConvertedDocument<'a> {
    /// Reads a document and checks that it is whole.
    fn read(bytes: &'a [u8]) -> Result<Self, ModelError> {
        #[derive(Deserialize)]
        struct Opening {
            format_version: Option<u64>,
        }
        let damaged = |error: serde_json::Error| {
            ModelError(match error.is_eof() {
                true => format!("it is truncated ({error})"),
                false => format!("it is damaged ({error})"),
            })
        };
        let opening: Opening = serde_json::from_slice(bytes).map_err(damaged)?;
        if opening.format_version != Some(u64::from(FORMAT_VERSION)) {
            let version = opening.format_version;
            return Err(ModelError(format!(
                "its format version is {}, but this lanekeeper reads version {FORMAT_VERSION}",
                version.map_or_else(|| "missing".to_owned(), |version| version.to_string())
            )));
        }
        let mut document: ConvertedDocument<'a> = serde_json::from_slice(bytes).map_err(damaged)?;
        let found = std::mem::take(&mut document.checksum);
        if document.computed_checksum()? != found {
            return Err("its checksum does not match its contents: it was altered or damaged after it was written".into());
        }
        Ok(document)
    }

    /// Computes the checksum; its own field must be empty.
    fn computed_checksum(&self) -> Result<String, ModelError> {
        let mut digest = Sha256::new();
        serde_json::to_writer(&mut digest, self).map_err(ModelError::of)?;
        let digest = digest.finalize();
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Returns the library's file.
    fn unpack(&self) -> Result<Vec<u8>, ModelError> {
        let most = bytes_max(self.packed.len()).min(FILE_BYTES_MAX);
        if self.bytes > most {
            return Err(ModelError(format!(
                "the file in it must have at most {most} bytes, as it is packed in {}, but has {}",
                self.packed.len(),
                self.bytes
            )));
        }
        let mut bytes = Vec::new();
        let told =
            |error: String| ModelError(format!("the file in it cannot be unpacked: {error}"));
        bytes
            .try_reserve_exact(self.bytes as usize)
            .map_err(|error| told(error.to_string()))?;
        ZlibDecoder::new(DecoderReader::new(self.packed.as_bytes(), &STANDARD))
            .take(self.bytes + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| told(error.to_string()))?;
        match bytes.len() as u64 {
            length if length == self.bytes => Ok(bytes),
            length if length < self.bytes => Err(told(format!(
                "it must have {} bytes, but has {length}",
                self.bytes
            ))),
            _ => Err(told(format!(
                "it must have {} bytes, but has more",
                self.bytes
            ))),
        }
    }

    /// What is asked for, and for what is not asked, what the document says.
    fn completed(&self, request: &ModelRequest) -> ModelRequest {
        let mut completed = request.clone();
        if completed.classes.is_empty() {
            completed.classes.clone_from(&self.classes);
        }
        completed.iterations = completed.iterations.or(self.iterations);
        completed
    }
}

/// How many bytes may come out of so many packed ones.
fn bytes_max(packed: usize) -> u64 {
    (packed as u64).saturating_mul(RATIO_MAX).max(SMALL_BYTES)
}

/// Packs a file; a file that shrinks too well to be unpacked again is not compressed.
fn packed(bytes: &[u8]) -> std::io::Result<String> {
    let with = |compression| {
        let mut encoder = ZlibEncoder::new(EncoderStringWriter::new(&STANDARD), compression);
        encoder.write_all(bytes)?;
        encoder.finish().map(EncoderStringWriter::into_inner)
    };
    let packed = with(Compression::default())?;
    match bytes.len() as u64 <= bytes_max(packed.len()) {
        true => Ok(packed),
        false => with(Compression::none()),
    }
}

/// Converts the model file that `request` names, and loads the result as a server would.
///
/// `name` is the model's name if none is asked for.
///
/// # Errors
///
/// One line: the file cannot be served, or its golden rows differ.
pub fn convert(request: &ModelRequest, name: String) -> Result<(Vec<u8>, Loaded), ModelError> {
    let path = request.file.as_deref();
    let path = path.ok_or("--model must name the library's file")?;
    let bytes = format::read_file(path, "--model must name a readable model file")?;
    let golden = request.golden.as_ref().map(|path| {
        format::read_file(path, "--golden must name a readable file")
            .and_then(|bytes| {
                serde_json::from_slice::<Box<RawValue>>(&bytes).map_err(ModelError::of)
            })
            .map_err(|reason| ModelError(format!("its golden rows {}: {reason}", path.display())))
    });
    let golden = golden.transpose()?;
    let packed = packed(&bytes).map_err(ModelError::of)?;
    let mut document = ConvertedDocument {
        format: FORMAT.into(),
        format_version: FORMAT_VERSION,
        name: request.name.clone().unwrap_or(name),
        classes: request.classes.clone(),
        iterations: request.iterations,
        golden: golden.as_deref(),
        lanekeeper_version: env!("CARGO_PKG_VERSION").into(),
        bytes: bytes.len() as u64,
        packed: &packed,
        checksum: String::new(),
    };
    drop(bytes);
    document.checksum = document.computed_checksum()?;
    let mut sealed = serde_json::to_vec(&document).map_err(ModelError::of)?;
    sealed.push(b'\n');
    if sealed.len() as u64 > FILE_BYTES_MAX {
        return Err(ModelError(format!(
            "it would have {} bytes when converted, but a model file has at most {FILE_BYTES_MAX}",
            sealed.len()
        )));
    }
    let loaded = Converted.load(&sealed, &ModelRequest::default())?;
    Ok((sealed, loaded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::embedded;
    use std::path::Path;

    fn library_file() -> Vec<u8> {
        let path = "tests/data/models/xgboost/binary_logistic/model.json";
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
    }

    /// A document with a right checksum, as a hostile author would write it too.
    fn sealed(bytes: u64, packed: &str, golden: Option<&RawValue>) -> Vec<u8> {
        let mut document = ConvertedDocument {
            format: FORMAT.into(),
            format_version: FORMAT_VERSION,
            name: "a".to_owned(),
            classes: Vec::new(),
            iterations: None,
            golden,
            lanekeeper_version: "0".into(),
            bytes,
            packed,
            checksum: String::new(),
        };
        document.checksum = document.computed_checksum().unwrap();
        serde_json::to_vec(&document).unwrap()
    }

    fn holding(file: &[u8]) -> Vec<u8> {
        sealed(file.len() as u64, &packed(file).unwrap(), None)
    }

    #[track_caller]
    fn check_refused(bytes: &[u8], expected: &str) {
        assert!(Converted.recognises(format::head(bytes)));
        let error = Converted.load(bytes, &ModelRequest::default());
        let error = error.map(|loaded| loaded.to_string()).unwrap_err().0;
        assert!(
            error.contains(expected) && !error.contains('\n') && error.len() < 300,
            "{expected}: {error}"
        );
    }

    #[test]
    fn a_damaged_document_is_refused_in_one_line() {
        let whole = holding(&library_file());
        let text = String::from_utf8(whole.clone()).unwrap();
        for cut in [whole.len() - 2, whole.len() / 2, 40] {
            check_refused(&whole[..cut], "truncated");
        }
        let version = text.replace("\"format_version\":1", "\"format_version\":2");
        check_refused(version.as_bytes(), "format version is 2");
        let name = text.replace("\"name\":\"a\"", "\"name\":\"b\"");
        check_refused(name.as_bytes(), "checksum does not match");
        let mut spoiled = whole.clone();
        let at = whole.len() / 2;
        spoiled[at] = if spoiled[at] == b'A' { b'B' } else { b'A' };
        check_refused(&spoiled, "checksum does not match");
        let extra = text.replace("\"name\"", "\"more\":1,\"name\"");
        check_refused(extra.as_bytes(), "damaged");
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        let zeros = vec![0; 64 << 20];
        let mut encoder =
            ZlibEncoder::new(EncoderStringWriter::new(&STANDARD), Compression::best());
        encoder.write_all(&zeros).unwrap();
        let bomb = encoder.finish().unwrap().into_inner();
        check_refused(&sealed(64 << 20, &bomb, None), "must have at most");
        check_refused(&sealed(u64::MAX, &bomb, None), "must have at most");
        // One that lies about its size is unpacked up to there.
        check_refused(&sealed(1 << 20, &bomb, None), "but has more");
    }

    #[test]
    fn a_document_that_holds_no_librarys_file_is_refused() {
        check_refused(
            &holding(&holding(&library_file())),
            "converted model already",
        );
        check_refused(&holding(embedded::JSON.as_bytes()), "needs no conversion");
        check_refused(&holding(b"hello"), "no format that lanekeeper reads");
        check_refused(&holding(b""), "no format that lanekeeper reads");
        check_refused(&holding(b"tree\nnum_tree_per_iteration=1\n"), "truncated");
        let file = library_file();
        let length = file.len() as u64;
        let text = packed(&file).unwrap();
        check_refused(&sealed(length + 1, &text, None), "but has");
        check_refused(&sealed(length - 1, &text, None), "but has more");
        check_refused(&sealed(length, "AAAA", None), "cannot be unpacked");
        check_refused(&sealed(length, "~", None), "cannot be unpacked");
        let cut = &text[..text.len() / 8 * 4];
        check_refused(&sealed(length, cut, None), "cannot be unpacked");
        let golden = RawValue::from_string("{}".to_owned()).unwrap();
        check_refused(&sealed(length, &text, Some(&golden)), "its golden rows");
    }

    #[test]
    fn a_file_that_shrinks_too_well_is_kept_as_it_is() {
        let file = vec![b' '; 4 << 20];
        let text = packed(&file).unwrap();
        assert!(text.len() > file.len(), "{}", text.len());
        check_refused(&sealed(4 << 20, &text, None), "no format");
    }
}
