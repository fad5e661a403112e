//! skops' files: a zip of `schema.json`, a tree of nodes, and a file for each array.
//!
//! The nodes become the same objects as those of a pickle of the same model.

mod nodes;

use std::borrow::Cow;
use std::collections::HashMap;

use super::builder::Builder;
use super::json::Json;
use super::zip::{self, Zip};
use super::{Array, Content, ElementKind, npy, packed};
use super::{Objects, Value};
use crate::models::ModelError;

/// Whether a file that begins like this may be one of skops'.
pub fn is_skops(head: &[u8]) -> bool {
    zip::is_zip(head)
}

/// Reads a file of skops' without running any of it. Returns its object too.
///
/// # Errors
///
/// What is no such file, names what no model needs, or goes beyond a limit.
pub fn read(bytes: &[u8]) -> Result<(Objects<'_>, Value), ModelError> {
    let mut reader = SkopsReader {
        zip: Zip::read(bytes)?,
        bytes_left: packed::unpacked_bytes_max(bytes.len()),
        builder: Builder::default(),
        seen: HashMap::new(),
        files: HashMap::new(),
        empty: None,
    };
    let schema = reader.zip.member("schema.json", &mut reader.bytes_left)?;
    let schema = Json::read(&schema)?;
    let value = reader.node(&schema)?;
    Ok((reader.builder.finish()?, value))
}

struct SkopsReader<'a> {
    zip: Zip<'a>,
    /// How many bytes may still be read or unpacked.
    bytes_left: u64,
    builder: Builder<'a>,
    /// Values by their `__id__`.
    seen: HashMap<i64, Value>,
    /// Arrays by the names of their files.
    files: HashMap<String, Value>,
    /// The empty tuple, once there is one.
    empty: Option<Value>,
}

impl<'a> SkopsReader<'a> {
    fn empty_tuple(&mut self) -> Result<Value, ModelError> {
        let value = match self.empty {
            Some(value) => value,
            None => self.builder.tuple(Vec::new())?,
        };
        self.empty = Some(value);
        Ok(value)
    }

    /// The array in a file.
    fn file(&mut self, name: &str) -> Result<Value, ModelError> {
        if let Some(value) = self.files.get(name) {
            return Ok(*value);
        }
        let content = self.zip.member(name, &mut self.bytes_left)?;
        let value = self.npy(content)?;
        self.files.insert(name.to_owned(), value);
        Ok(value)
    }

    /// The array that a file of numpy's holds.
    fn npy(&mut self, content: Cow<'a, [u8]>) -> Result<Value, ModelError> {
        let header = npy::header(&content)?;
        if header.dtype.kind == ElementKind::Object {
            return Err(ModelError(
                "an array's file must not hold a pickle".to_owned(),
            ));
        }
        let elements = match content {
            Cow::Borrowed(content) => Cow::Borrowed(content.get(header.end..).unwrap_or_default()),
            Cow::Owned(mut content) => {
                content.drain(..header.end.min(content.len()));
                Cow::Owned(content)
            }
        };
        let Value::Bytes(blob) = self.builder.bytes(elements)? else {
            return Err(ModelError("an array must have bytes".to_owned()));
        };
        self.builder.array(Array {
            dtype: header.dtype,
            shape: header.shape,
            is_fortran: header.is_fortran,
            content: Content::Bytes(blob),
        })
    }

    /// The attributes of a sparse matrix, which is a zip file of arrays.
    fn sparse(&mut self, name: &str) -> Result<Value, ModelError> {
        let content = self.zip.member(name, &mut self.bytes_left)?;
        let mut entries = Vec::new();
        let is_there = match &content {
            Cow::Borrowed(content) => {
                let zip = Zip::read(content)?;
                self.sparse_parts(&zip, &mut entries, |content| content)?
            }
            Cow::Owned(content) => {
                let zip = Zip::read(content)?;
                let owned = |content: Cow<'_, [u8]>| Cow::Owned(content.into_owned());
                self.sparse_parts(&zip, &mut entries, owned)?
            }
        };
        match is_there {
            true => self.builder.dict(entries),
            false => Err(ModelError(format!(
                "a sparse matrix must be a file of scipy's, but {} is not",
                super::permitted::shown(name)
            ))),
        }
    }

    /// Reads the arrays of a sparse matrix, by the names that they have in scipy.
    fn sparse_parts<'b>(
        &mut self,
        zip: &Zip<'b>,
        entries: &mut Vec<(Value, Value)>,
        kept: impl Fn(Cow<'b, [u8]>) -> Cow<'a, [u8]>,
    ) -> Result<bool, ModelError> {
        const PARTS: [&str; 7] = [
            "indices", "indptr", "data", "row", "col", "coords", "offsets",
        ];
        for part in PARTS {
            let file = format!("{part}.npy");
            if zip.has(&file) {
                let content = kept(zip.member(&file, &mut self.bytes_left)?);
                let array = self.npy(content)?;
                entries.push((self.builder.text(part)?, array));
            }
        }
        let content = kept(zip.member("shape.npy", &mut self.bytes_left)?);
        let shape = self.npy(content)?;
        let extents = self.builder.objects().array(shape).cloned();
        let extents = extents.and_then(|array| self.extents(&array));
        let Some(extents) = extents else {
            return Ok(false);
        };
        let shape = self.builder.tuple(extents)?;
        entries.push((self.builder.text("_shape")?, shape));
        Ok(true)
    }

    fn extents(&self, array: &Array) -> Option<Vec<Value>> {
        let elements = self.builder.objects().elements(array)?.into_iter();
        let extent = |element| match element {
            super::ArrayElement::Value(value @ Value::Int(_)) => Some(value),
            _ => None,
        };
        elements.map(extent).collect()
    }

    /// A number or text of numpy's, which is saved as an array without dimensions.
    fn scalar(&mut self, value: Value) -> Result<Value, ModelError> {
        let objects = self.builder.objects();
        let Some(array) = objects.array(value) else {
            return Ok(value);
        };
        let Content::Bytes(index) = array.content else {
            return Ok(value);
        };
        let bytes = objects.blobs.get(index as usize);
        let bytes = bytes.map(|bytes| &**bytes).unwrap_or_default();
        let left = self.bytes_left.checked_sub(bytes.len() as u64);
        let left = left.ok_or_else(|| ModelError("its scalars are too large".to_owned()))?;
        let (dtype, bytes) = (array.dtype.clone(), bytes.to_vec());
        self.bytes_left = left;
        self.builder.scalar(&dtype, &bytes)
    }
}
