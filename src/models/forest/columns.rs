//! Columns: what a row's keys are of, so that every node asks the same question.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{ALMOST_ZERO, CategoryRule, Missing, NodeKind, Test, Tree};

/// The key of a value that goes right at every node of its column.
pub(super) const RIGHT: u16 = u16::MAX;

/// One key of a row.
#[derive(Debug)]
pub(super) struct PlanColumn {
    pub(super) feature: usize,
    pub(super) missing: Missing,
    /// Whether a missing value goes left at every node of the column, or right.
    pub(super) default_left: bool,
    pub(super) ask: KeyRule,
}

/// What a key is of a value.
#[derive(Debug)]
pub(super) enum KeyRule {
    /// How many of these thresholds are below it (or equal to it, with `includes_equal`).
    Rank {
        thresholds: Range<usize>,
        includes_equal: bool,
    },
    /// 0 if its category goes left, otherwise 1.
    Category { set: Vec<u32>, rule: CategoryRule },
}

/// What makes nodes share a column.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PlanColumnKind {
    feature: usize,
    missing: u8,
    default_left: bool,
    includes_equal: bool,
}

/// The column of a split on a number; `None` for categories, which have one each, and for leaves.
pub(super) fn column_of(kind: &NodeKind) -> Option<PlanColumnKind> {
    let NodeKind::Split {
        feature,
        test,
        missing,
        default_left,
        ..
    } = kind
    else {
        return None;
    };
    let includes_equal = match test {
        Test::Below(_) => true,
        Test::AtMost(_) => false,
        Test::InSet { .. } => return None,
    };
    Some(PlanColumnKind {
        feature: *feature,
        missing: match missing {
            Missing::Nan => 0,
            Missing::Zero => 1,
            Missing::Nothing => 2,
        },
        // Without missing values the default does not matter.
        default_left: *default_left && *missing != Missing::Nothing,
        includes_equal,
    })
}

/// The columns of some trees, each with at most so many thresholds.
pub(super) struct ColumnSet {
    ranks_max: usize,
    pub(super) columns: Vec<PlanColumn>,
    pub(super) thresholds: Vec<f64>,
    /// Each kind's thresholds in ascending order, and its first column.
    kinds: BTreeMap<PlanColumnKind, (Vec<f64>, usize)>,
}

impl ColumnSet {
    pub(super) fn new(trees: &[Tree], ranks_max: usize) -> Self {
        let mut kinds: BTreeMap<PlanColumnKind, (Vec<f64>, usize)> = BTreeMap::new();
        for node in trees.iter().flat_map(|tree| &tree.nodes) {
            if let (Some(kind), Some(threshold)) = (column_of(&node.kind), threshold(&node.kind)) {
                kinds.entry(kind).or_default().0.push(threshold);
            }
        }
        let mut columns = Vec::new();
        let mut all = Vec::new();
        for (kind, (thresholds, first)) in &mut kinds {
            thresholds.sort_by(f64::total_cmp);
            // 0 and -0 are one threshold.
            thresholds.dedup_by(|one, other| one == other);
            *first = columns.len();
            for chunk in thresholds.chunks(ranks_max) {
                let from = all.len();
                all.extend(chunk);
                columns.push(PlanColumn {
                    feature: kind.feature,
                    missing: match kind.missing {
                        0 => Missing::Nan,
                        1 => Missing::Zero,
                        _ => Missing::Nothing,
                    },
                    default_left: kind.default_left,
                    ask: KeyRule::Rank {
                        thresholds: from..all.len(),
                        includes_equal: kind.includes_equal,
                    },
                });
            }
        }
        ColumnSet {
            ranks_max,
            columns,
            thresholds: all,
            kinds,
        }
    }

    /// The column and the rank by which a split is decided: left, if the key is at most the rank.
    pub(super) fn question(&mut self, tree: &Tree, kind: &NodeKind) -> (usize, usize) {
        if let (Some(column), Some(threshold)) = (column_of(kind), threshold(kind))
            && let Some((thresholds, first)) = self.kinds.get(&column)
        {
            let rank = thresholds.partition_point(|other| *other < threshold);
            return (first + rank / self.ranks_max, rank % self.ranks_max);
        }
        if let NodeKind::Split {
            feature,
            test: Test::InSet { set, rule },
            missing,
            default_left,
            ..
        } = kind
        {
            self.columns.push(PlanColumn {
                feature: *feature,
                missing: *missing,
                default_left: *default_left,
                ask: KeyRule::Category {
                    set: tree.sets[*set].clone(),
                    rule: *rule,
                },
            });
        }
        (self.columns.len() - 1, 0)
    }
}

impl PlanColumn {
    /// The value that counts, or `None` if it is missing.
    #[inline]
    pub(super) fn present(&self, value: f64) -> Option<f64> {
        match self.missing {
            Missing::Nan => (!value.is_nan()).then_some(value),
            Missing::Zero => (value.abs() > ALMOST_ZERO).then_some(value),
            Missing::Nothing => Some(if value.is_nan() { 0.0 } else { value }),
        }
    }

    pub(super) fn key(&self, row: &[f64], thresholds: &[f64]) -> u16 {
        let Some(value) = self.present(row[self.feature]) else {
            return if self.default_left { 0 } else { RIGHT };
        };
        match &self.ask {
            KeyRule::Rank {
                thresholds: own,
                includes_equal,
            } => {
                let own = &thresholds[own.clone()];
                // At most RANKS_MAX, so that it fits.
                match includes_equal {
                    true => own.partition_point(|threshold| *threshold <= value) as u16,
                    false => own.partition_point(|threshold| *threshold < value) as u16,
                }
            }
            KeyRule::Category { set, rule } => u16::from(!rule.goes_left(set, value)),
        }
    }
}

fn threshold(kind: &NodeKind) -> Option<f64> {
    match kind {
        NodeKind::Split {
            test: Test::Below(threshold) | Test::AtMost(threshold),
            ..
        } => Some(*threshold),
        _ => None,
    }
}
