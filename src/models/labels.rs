//! The labels of a category, found without a walk through all of them.

use std::ops::Deref;

/// Labels in the order of their codes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CategoryLabels {
    list: Vec<String>,
    /// Codes in the order of their labels.
    order: Vec<u32>,
}

impl CategoryLabels {
    /// The code of a label; the lowest, if it is there twice.
    pub fn code(&self, label: &str) -> Option<usize> {
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
        CategoryLabels { list, order }
    }
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
}
