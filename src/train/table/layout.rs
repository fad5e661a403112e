//! What is known of a table beside its rows: its name, its delimiter and its columns.

use std::collections::{HashMap, HashSet};

use super::TableError;

/// Names that an error lists.
const NAMES_SHOWN: usize = 20;

/// What is known of a table beside its rows.
#[derive(Debug, Clone)]
pub struct TableLayout {
    /// What errors call the table.
    pub name: String,
    /// The names of its columns, in order.
    pub header: Vec<String>,
    /// Whether the header is the table's own first line.
    pub has_header: bool,
    /// What separates its cells.
    pub delimiter: u8,
}

/// A column that is wanted: its name and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name in the header.
    pub name: String,
    /// Its index in a row, from 0.
    pub index: usize,
}

impl TableLayout {
    /// Finds columns by their names, in any order.
    ///
    /// # Errors
    ///
    /// A column that is missing or occurs twice.
    pub fn find<N: AsRef<str>>(&self, names: &[N]) -> Result<Vec<TableColumn>, TableError> {
        let mut places: HashMap<&str, (usize, Option<usize>)> = HashMap::new();
        for (index, name) in self.header.iter().enumerate() {
            places
                .entry(name)
                .and_modify(|(_, again)| *again = again.or(Some(index)))
                .or_insert((index, None));
        }
        let is_missing = |name: &&str| !places.contains_key(name);
        let missing: Vec<&str> = names.iter().map(AsRef::as_ref).filter(is_missing).collect();
        if missing.len() > 1 {
            let quoted = missing.iter().map(|name| format!("{name:?}"));
            return Err(TableError(format!(
                "{}, line 1: there are no columns {}; there are {}",
                self.name,
                listed(&quoted.collect::<Vec<_>>()),
                listed(&self.header)
            )));
        }
        let find = |name: &str| self.column(name, places.get(name).copied());
        names.iter().map(|name| find(name.as_ref())).collect()
    }

    fn column(
        &self,
        name: &str,
        places: Option<(usize, Option<usize>)>,
    ) -> Result<TableColumn, TableError> {
        match places {
            Some((index, None)) => Ok(TableColumn {
                name: name.to_owned(),
                index,
            }),
            Some((first, Some(second))) => Err(TableError(format!(
                "{}, line 1: the column {name:?} occurs twice, as columns {} and {}; rename or remove one",
                self.name,
                first + 1,
                second + 1
            ))),
            None => Err(TableError(format!(
                "{}, line 1: there is no column {name:?}; there are {}",
                self.name,
                listed(&self.header)
            ))),
        }
    }

    /// The columns that are not among `wanted`.
    pub fn others(&self, wanted: &[TableColumn]) -> Vec<String> {
        let wanted: HashSet<usize> = wanted.iter().map(|column| column.index).collect();
        let others = self.header.iter().enumerate();
        others
            .filter(|(index, _)| !wanted.contains(index))
            .map(|(_, name)| name.clone())
            .collect()
    }
}

/// Lists the first names for an error.
fn listed<N: AsRef<str>>(names: &[N]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES_SHOWN).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(NAMES_SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
