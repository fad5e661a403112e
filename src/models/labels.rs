//! The labels of a category, found without a walk through all of them.

use std::borrow::Cow;
use std::ops::Deref;

/// Labels in the order of their codes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CategoryLabels {
    list: Vec<String>,
    /// Codes in the order of their labels.
    order: Vec<u32>,
    /// Whether they come from the cells of a table.
    are_cells: bool,
}

impl CategoryLabels {
    /// Labels that come from the cells of a table, where blanks around them are dropped. A whole number
    /// is known by 7 and by 7.0, which programs write if a cell of the column is missing.
    pub fn of_cells(list: Vec<String>) -> Self {
        CategoryLabels {
            are_cells: true,
            ..list.into()
        }
    }

    /// The code of a label; the lowest, if it is there twice.
    pub fn code(&self, label: &str) -> Option<usize> {
        match self.are_cells {
            true => {
                let label = label.trim();
                let code = self.exact(label);
                code.or_else(|| self.exact(&other_spelling(label)?))
            }
            false => self.exact(label),
        }
    }

    fn exact(&self, label: &str) -> Option<usize> {
        let at = |code: &u32| self.list[*code as usize].as_str();
        let place = self.order.partition_point(|code| at(code) < label);
        let code = self.order.get(place)?;
        (at(code) == label).then_some(*code as usize)
    }
}

impl From<Vec<String>> for CategoryLabels {
    fn from(list: Vec<String>) -> Self {
        let mut order: Vec<u32> = (0..list.len() as u32).collect();
        order.sort_by(|one, other| list[*one as usize].cmp(&list[*other as usize]));
        CategoryLabels {
            list,
            order,
            are_cells: false,
        }
    }
}

/// A whole number with `.0`, or without it; none of other texts.
fn other_spelling(label: &str) -> Option<Cow<'_, str>> {
    let whole = label.strip_suffix(".0").unwrap_or(label);
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_whole.then(|| match whole.len() < label.len() {
        true => Cow::Borrowed(whole),
        false => Cow::Owned(format!("{whole}.0")),
    })
}

impl Deref for CategoryLabels {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_found_wherever_it_stands() {
        let list = ["m", "", "b", "ü", "a", "b"].map(str::to_owned).to_vec();
        let labels = CategoryLabels::from(list);
        let codes = ["m", "", "b", "ü", "a", "c", "zz"].map(|label| labels.code(label));
        let expected = [Some(0), Some(1), Some(2), Some(3), Some(4), None, None];
        assert_eq!(codes, expected);
        assert_eq!(CategoryLabels::default().code(""), None);
    }

    #[test]
    fn a_cell_is_known_with_blanks_and_as_a_whole_number_with_a_point() {
        let list = ["red", "7", "8.0", "9", "9.0", "1.10", "-1"]
            .map(str::to_owned)
            .to_vec();
        let cells = CategoryLabels::of_cells(list.clone());
        let known = [" red ", "7", "7.0", "8", "8.0", "9", "9.0 ", "-1.0"];
        let codes = known.map(|label| cells.code(label));
        assert_eq!(codes, [0, 1, 1, 2, 2, 3, 4, 6].map(Some));
        // Versions and codes are no quantities.
        for unknown in ["1.1", "07", "7.00", "7.", ".0", "-", "", "Red"] {
            assert_eq!(cells.code(unknown), None, "{unknown}");
        }
        let exact = CategoryLabels::from(list);
        assert_eq!((exact.code(" red "), exact.code("7.0")), (None, None));
    }
}
