//! Tensors of V2: their datatypes, and how values become those of a feature.
//!
//! A value is rounded to its tensor's datatype before anything else, so that a request in JSON and the
//! same one in binary get the same answer.

use crate::models::Feature;

/// The datatypes of V2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Datatype {
    Bool,
    /// Whole numbers of so many bytes.
    Signed(u8),
    /// Whole numbers from 0 on, of so many bytes.
    Unsigned(u8),
    Fp16,
    Fp32,
    Fp64,
    /// Texts.
    Bytes,
}

/// All datatypes by name.
const DATATYPES: [(&str, Datatype); 13] = [
    ("BOOL", Datatype::Bool),
    ("INT8", Datatype::Signed(1)),
    ("INT16", Datatype::Signed(2)),
    ("INT32", Datatype::Signed(4)),
    ("INT64", Datatype::Signed(8)),
    ("UINT8", Datatype::Unsigned(1)),
    ("UINT16", Datatype::Unsigned(2)),
    ("UINT32", Datatype::Unsigned(4)),
    ("UINT64", Datatype::Unsigned(8)),
    ("FP16", Datatype::Fp16),
    ("FP32", Datatype::Fp32),
    ("FP64", Datatype::Fp64),
    ("BYTES", Datatype::Bytes),
];

/// The names of all datatypes.
pub fn datatypes() -> [&'static str; DATATYPES.len()] {
    DATATYPES.map(|(name, _)| name)
}

/// A value as it came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Element<'a> {
    Number(f64),
    Flag(bool),
    Text(&'a str),
    Null,
}

impl Datatype {
    /// The datatype of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let found = DATATYPES.iter().find(|(own, _)| *own == name);
        found.map(|(_, datatype)| *datatype)
    }

    /// The names of all datatypes.
    pub(super) fn names() -> String {
        datatypes().join(", ")
    }

    fn name(self) -> &'static str {
        let found = DATATYPES.iter().find(|(_, own)| *own == self);
        found.map_or("", |(name, _)| name)
    }

    /// Bytes of a value in binary; `None` for texts.
    pub(super) fn bytes(self) -> Option<usize> {
        match self {
            Datatype::Bool => Some(1),
            Datatype::Signed(bytes) | Datatype::Unsigned(bytes) => Some(usize::from(bytes)),
            Datatype::Fp16 => Some(2),
            Datatype::Fp32 => Some(4),
            Datatype::Fp64 => Some(8),
            Datatype::Bytes => None,
        }
    }

    /// Reads a number from its bytes, which are little-endian.
    pub(super) fn read(self, bytes: &[u8]) -> Element<'static> {
        let mut whole = [0; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        let word = u64::from_le_bytes(whole);
        // Shifting up and down again extends the sign.
        let unused = 64 - 8 * bytes.len().clamp(1, 8) as u32;
        Element::Number(match self {
            Datatype::Bool if word > 1 => return Element::Number(word as f64),
            Datatype::Bool => return Element::Flag(word == 1),
            Datatype::Signed(_) => ((word << unused) as i64 >> unused) as f64,
            Datatype::Unsigned(_) => word as f64,
            Datatype::Fp16 => half(word as u16),
            Datatype::Fp32 => f64::from(f32::from_bits(word as u32)),
            Datatype::Fp64 | Datatype::Bytes => f64::from_bits(word),
        })
    }

    /// Turns a value of this datatype into that of a feature.
    ///
    /// # Errors
    ///
    /// What it is, and what it must be.
    pub(super) fn value(self, element: Element<'_>, feature: &Feature) -> Result<f64, String> {
        let takes_text = feature.kind.takes_text();
        let wrong = |given: &str| {
            format!(
                "{given}, but the feature {:?} must be {}",
                feature.name,
                feature.kind.must_be()
            )
        };
        let number = match element {
            Element::Null if feature.may_be_missing => return Ok(f64::NAN),
            Element::Null => return Err(wrong("null")),
            Element::Text(text) => {
                let code = match self {
                    Datatype::Bytes if takes_text => feature.kind.code(text),
                    Datatype::Fp16 | Datatype::Fp32 | Datatype::Fp64 => {
                        infinity(text).filter(|_| feature.may_be_infinite)
                    }
                    _ => None,
                };
                return code.ok_or_else(|| wrong(&crate::protocol::echo(text)));
            }
            _ if self == Datatype::Bytes => return Err(wrong("not a text, as BYTES are")),
            Element::Flag(flag) => match self {
                Datatype::Bool => f64::from(u8::from(flag)),
                _ => return Err(format!("{flag}, which {} cannot hold", self.name())),
            },
            Element::Number(number) => self.rounded(number)?,
        };
        if takes_text {
            if number.is_nan() && feature.may_be_missing {
                return Ok(number);
            }
            let code = feature.kind.code_of_number(number);
            return code.ok_or_else(|| wrong(&crate::models::ShortNumber(number).to_string()));
        }
        Ok(number)
    }

    /// Rounds a number to this datatype.
    ///
    /// # Errors
    ///
    /// It cannot hold the number.
    pub(super) fn rounded(self, number: f64) -> Result<f64, String> {
        let (low, high) = match self {
            Datatype::Bool => (0.0, 1.0),
            Datatype::Signed(bytes) => {
                let half = 2_f64.powi(8 * i32::from(bytes) - 1);
                (-half, half - 1.0)
            }
            Datatype::Unsigned(bytes) => (0.0, 2_f64.powi(8 * i32::from(bytes)) - 1.0),
            Datatype::Fp16 | Datatype::Fp32 => {
                let rounded = match self {
                    Datatype::Fp16 => half(to_half(number)),
                    _ => f64::from(number as f32),
                };
                return match rounded.is_infinite() && number.is_finite() {
                    true => Err(self.cannot_hold(number)),
                    false => Ok(rounded),
                };
            }
            Datatype::Fp64 | Datatype::Bytes => return Ok(number),
        };
        match number.fract() == 0.0 && (low..=high).contains(&number) {
            true => Ok(number),
            false => Err(self.cannot_hold(number)),
        }
    }

    fn cannot_hold(self, number: f64) -> String {
        let number = crate::models::ShortNumber(number);
        format!("{number}, which {} cannot hold", self.name())
    }
}

fn infinity(text: &str) -> Option<f64> {
    match text {
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// A number of 16 bits (IEEE 754 binary16), widened.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2_f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
    }
}

/// The nearest number of 16 bits, the even one of two equally near.
fn to_half(number: f64) -> u16 {
    let sign = u16::from(number.is_sign_negative()) << 15;
    let size = number.abs();
    if number.is_nan() {
        return sign | 0x7e00;
    }
    if size >= 65520.0 {
        return sign | 0x7c00;
    }
    // Steps of the binade that it lies in; below 2^-14 all numbers are the same step apart.
    let exponent = (size.to_bits() >> 52) as i32 - 1023;
    let exponent = exponent.max(-14);
    let steps = (size / 2_f64.powi(exponent - 10)).round_ties_even() as u16;
    // A carry out of the fraction raises the exponent by itself.
    sign | (((exponent + 14) as u16) << 10).wrapping_add(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_16_bits_rounds_to_itself() {
        for bits in 0..=u16::MAX {
            let number = half(bits);
            if !number.is_nan() {
                assert_eq!(to_half(number), bits, "{number}");
            }
        }
        #[rustfmt::skip]
        let table = [
            (0.1, 0.0999755859375), (65504.0, 65504.0), (65519.0, 65504.0), (1.0 + 2f64.powi(-11), 1.0),
            (1.0 + 3.0 * 2f64.powi(-11), 1.0 + 2f64.powi(-9)), (2f64.powi(-25), 0.0), (1.1 * 2f64.powi(-25), 2f64.powi(-24)),
        ];
        for (number, rounded) in table {
            assert_eq!(half(to_half(number)), rounded, "{number}");
        }
        assert!(half(to_half(65520.0)).is_infinite());
    }

    #[test]
    fn whole_numbers_keep_their_sign_and_their_limits() {
        let table = [
            ("INT8", &[0xff][..], -1.0),
            ("INT16", &[0x00, 0x80], -32768.0),
            (
                "INT64",
                &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                -2.0,
            ),
            ("UINT8", &[0xff], 255.0),
            ("UINT32", &[0xff, 0xff, 0xff, 0xff], 4294967295.0),
            ("FP32", &[0x33, 0x33, 0xa3, 0x40], 5.099999904632568),
        ];
        for (name, bytes, expected) in table {
            let datatype = Datatype::named(name).unwrap();
            assert_eq!(datatype.read(bytes), Element::Number(expected), "{name}");
        }
        for (name, number, fits) in [
            ("INT8", 127.0, true),
            ("INT8", 128.0, false),
            ("INT8", -128.0, true),
            ("UINT8", -1.0, false),
            ("UINT16", 65535.0, true),
            ("INT32", 0.5, false),
            ("BOOL", 1.0, true),
            ("BOOL", 2.0, false),
            ("FP16", 65520.0, false),
            ("FP32", 1e39, false),
            ("FP64", 1e300, true),
        ] {
            let datatype = Datatype::named(name).unwrap();
            assert_eq!(datatype.rounded(number).is_ok(), fits, "{name} {number}");
        }
    }
}
