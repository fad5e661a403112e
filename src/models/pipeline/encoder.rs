//! Categories as numbers, as scikit-learn's encoders make them.

/// Finds a value among the categories of an encoder.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// Numbers in ascending order, each with its category.
    Numbers(Vec<(f64, u32)>),
    /// For each code of a feature that is text the category; `None` for texts that this encoder does
    /// not know. Codes beyond the list are unknown too.
    Codes(Vec<Option<u32>>),
    /// The same for 256 codes: whole parts of numbers from 0, of which the lowest 8 bits count, as a
    /// cast in C.
    Truncated(Vec<Option<u32>>),
}

impl Lookup {
    /// The category of a value that is not missing.
    fn find(&self, value: f64) -> Option<u32> {
        match self {
            Lookup::Numbers(categories) => {
                let order = |(own, _): &(f64, u32)| own.partial_cmp(&value);
                // Neither is NaN, so there is an order.
                let found = categories
                    .binary_search_by(|one| order(one).unwrap_or(std::cmp::Ordering::Less));
                found.ok().map(|place| categories[place].1)
            }
            Lookup::Codes(categories) => *categories.get(value as usize)?,
            Lookup::Truncated(_) if value < 0.0 => None,
            Lookup::Truncated(categories) => *categories.get(usize::from(value as i64 as u8))?,
        }
    }
}

/// How one column is encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoding<T> {
    /// The feature that is blamed for a value that is refused.
    pub feature: usize,
    /// Its categories.
    pub lookup: Lookup,
    /// The category of a missing value, if it is one.
    pub missing: Option<u32>,
    /// What becomes of each category.
    pub targets: Vec<T>,
    /// What becomes of other values; `None` if they are refused.
    pub unknown: Option<T>,
}

impl<T: Copy> Encoding<T> {
    /// What becomes of a value; `None` if it is refused.
    pub(super) fn target(&self, value: f64) -> Option<T> {
        let category = match value.is_nan() {
            true => self.missing,
            false => self.lookup.find(value),
        };
        match category {
            Some(category) => self.targets.get(category as usize).copied(),
            None => self.unknown,
        }
    }

    /// What a value must be, in words.
    pub(super) fn must_be(&self) -> String {
        let numbers = match &self.lookup {
            Lookup::Numbers(categories) => &categories[..],
            Lookup::Codes(_) | Lookup::Truncated(_) => &[],
        };
        let mut numbers = numbers.to_vec();
        numbers.truncate(5);
        let numbers: Vec<String> = numbers
            .iter()
            .map(|(number, _)| number.to_string())
            .collect();
        match numbers.is_empty() {
            true => "a category that the encoder knows".to_owned(),
            false => format!(
                "a category that the encoder knows, such as {}",
                numbers.join(", ")
            ),
        }
    }
}
