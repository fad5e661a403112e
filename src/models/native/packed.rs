//! Long lists of numbers in a model file: little-endian bytes in base64, a third of what digits take.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Numbers that are stored as bytes in base64.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Packed<T>(pub Vec<T>);

/// A number of a fixed size in bytes.
pub trait Number: Copy {
    /// Appends its bytes.
    fn put(self, bytes: &mut Vec<u8>);
    /// Reads numbers; `None` if the bytes are no whole number of them.
    fn read(bytes: &[u8]) -> Option<Vec<Self>>;
}

macro_rules! number {
    ($kind:ty) => {
        impl Number for $kind {
            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn read(bytes: &[u8]) -> Option<Vec<Self>> {
                let (numbers, rest) = bytes.as_chunks();
                let read = |number: &[u8; size_of::<$kind>()]| <$kind>::from_le_bytes(*number);
                rest.is_empty().then(|| numbers.iter().map(read).collect())
            }
        }
    };
}

number!(u32);
number!(f64);

impl<T: Number> Serialize for Packed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(self.0.len() * size_of::<T>());
        self.0.iter().for_each(|number| number.put(&mut bytes));
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }
}

impl<'de, T: Number> Deserialize<'de> for Packed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let bytes = BASE64_STANDARD.decode(text.as_bytes());
        let bytes = bytes.map_err(|error| D::Error::custom(format!("no base64: {error}")))?;
        T::read(&bytes)
            .map(Packed)
            .ok_or_else(|| D::Error::custom("the bytes are no whole number of numbers"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_the_same_bits() {
        let numbers = Packed(vec![0.1 + 0.2, -0.0, f64::MIN_POSITIVE]);
        let text = serde_json::to_string(&numbers).unwrap();
        let back: Packed<f64> = serde_json::from_str(&text).unwrap();
        let bits = |all: &Packed<f64>| all.0.iter().map(|one| one.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(&numbers));
        assert!(serde_json::from_str::<Packed<f64>>("\"AAAA\"").is_err());
        assert!(serde_json::from_str::<Packed<u32>>("\"A\"").is_err());
    }
}
