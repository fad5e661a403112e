//! An answer written piece by piece, in JSON or in bytes, each piece charged to the memory budget before it is
//! taken.

use serde::Serialize;

use super::EncodeError;
use crate::lanes::memory_budget::Charge;
use crate::models::PredictError;

/// Bytes of a number with its comma, at most (`-2.2250738585072014e-308`).
const NUMBER_BYTES: usize = 32;

/// Bytes of an escaped byte of a string, at most (`\u001f`).
const ESCAPED_BYTES: usize = 6;

/// A growing answer: room for each row is charged before it is written, so the buffer never grows
/// unasked.
pub(super) struct AnswerWriter<'a> {
    bytes: Vec<u8>,
    charge: &'a mut Charge,
}

impl<'a> AnswerWriter<'a> {
    /// Starts an answer, with room for its first `room` bytes.
    pub(super) fn new(charge: &'a mut Charge, room: usize) -> Result<Self, EncodeError> {
        let mut json = AnswerWriter {
            bytes: Vec::new(),
            charge,
        };
        json.reserve(room)?;
        Ok(json)
    }

    /// What has been written.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Number of bytes written.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Writes text or bytes as they are.
    pub(super) fn put(&mut self, piece: impl AsRef<[u8]>) -> Result<(), EncodeError> {
        self.reserve(piece.as_ref().len())?;
        self.bytes.extend_from_slice(piece.as_ref());
        Ok(())
    }

    /// Writes a string with its quotes.
    pub(super) fn put_text(&mut self, value: &str) -> Result<(), EncodeError> {
        self.reserve(value.len() * ESCAPED_BYTES + 2)?;
        Ok(put(&mut self.bytes, &value)?)
    }

    /// Charges and reserves memory for more bytes.
    pub(super) fn reserve(&mut self, more: usize) -> Result<(), EncodeError> {
        self.charge
            .reserve(&mut self.bytes, more, usize::MAX)
            .map_err(EncodeError::Budget)
    }

    /// One number per row, or a list of them if a row has several.
    pub(super) fn put_numbers(&mut self, numbers: &[f64], width: usize) -> Result<(), EncodeError> {
        for (row, numbers) in numbers.chunks(width.max(1)).enumerate() {
            self.reserve(numbers.len() * NUMBER_BYTES + 2)?;
            let json = &mut self.bytes;
            if row > 0 {
                json.push(b',');
            }
            if width > 1 {
                json.push(b'[');
            }
            for (index, number) in numbers.iter().enumerate() {
                if index > 0 {
                    json.push(b',');
                }
                put_finite(json, *number, row)?;
            }
            if width > 1 {
                json.push(b']');
            }
        }
        Ok(())
    }

    /// A list for each row.
    pub(super) fn put_raw(&mut self, raw: &[f64], width: usize) -> Result<(), EncodeError> {
        for (row, sums) in raw.chunks(width.max(1)).enumerate() {
            self.reserve(3)?;
            self.bytes
                .extend_from_slice(if row > 0 { b",[" } else { b"[" });
            self.put_numbers(sums, 1)?;
            self.bytes.push(b']');
        }
        Ok(())
    }

    /// The label of each row, by index, separated by commas; `labels` are JSON.
    pub(super) fn put_labels(
        &mut self,
        indices: &[u32],
        labels: &[Vec<u8>],
    ) -> Result<(), EncodeError> {
        for (row, index) in indices.iter().enumerate() {
            let label = labels.get(*index as usize);
            let label = label
                .ok_or_else(|| PredictError(format!("class {index} of row {row} has no label")))?;
            self.reserve(label.len() + 1)?;
            if row > 0 {
                self.bytes.push(b',');
            }
            self.bytes.extend_from_slice(label);
        }
        Ok(())
    }

    /// For each row an object of the shares by label; `labels` are JSON.
    pub(super) fn put_shares(
        &mut self,
        shares: &[f64],
        labels: &[Vec<u8>],
    ) -> Result<(), EncodeError> {
        let row_bytes = labels.iter().map(|label| label.len() + 2 + NUMBER_BYTES);
        let row_bytes = row_bytes.sum::<usize>() + 3;
        for (row, shares) in shares.chunks(labels.len().max(1)).enumerate() {
            self.reserve(row_bytes)?;
            let json = &mut self.bytes;
            json.extend_from_slice(if row > 0 { b",{" } else { b"{" });
            for (index, (label, share)) in labels.iter().zip(shares).enumerate() {
                if index > 0 {
                    json.push(b',');
                }
                json.extend_from_slice(label);
                json.push(b':');
                put_finite(json, *share, row)?;
            }
            json.push(b'}');
        }
        Ok(())
    }
}

/// Writes a number, which must be finite.
fn put_finite(json: &mut Vec<u8>, number: f64, row: usize) -> Result<(), PredictError> {
    if !number.is_finite() {
        return Err(PredictError(format!(
            "it gave {number} for row {row}, which is not finite"
        )));
    }
    put(json, &number)
}

fn put(json: &mut Vec<u8>, value: &impl Serialize) -> Result<(), PredictError> {
    // Writing text or a finite number to memory cannot fail; if it did, the client would be told.
    serde_json::to_writer(json, value).map_err(|error| PredictError(error.to_string()))
}
