//! How well predictions agree with the truth.

use std::collections::BTreeMap;

use crate::models::Output;
use crate::train::Targets;

/// Scores by name: `accuracy`, `auc`, `log_loss` and `macro_f1` of a classifier, `r2` and `rmse` of a
/// regressor.
pub type Scores = BTreeMap<String, f64>;

/// Scores predictions against the truth; nothing for the other kind of answer.
///
/// Macro-F1 is the mean of the classes' F1 over those that occur or were predicted. R2 is 1 minus
/// the squared errors' share of the variance; if the truth does not vary it is 0, or 1 without any
/// error.
pub fn score(truth: &Targets, predicted: &Output) -> Scores {
    match (truth, predicted) {
        (
            Targets::Classes { indices, classes },
            Output::Classes {
                indices: said,
                probabilities,
            },
        ) => {
            let mut scores = named([
                ("accuracy", accuracy(indices, said)),
                ("macro_f1", macro_f1(indices, said, *classes)),
            ]);
            if let Some(shares) = probabilities {
                scores.insert("auc".to_owned(), auc(indices, shares, *classes));
                scores.insert("log_loss".to_owned(), log_loss(indices, shares, *classes));
            }
            scores
        }
        (Targets::Numbers(numbers), Output::Numbers(said)) => {
            named([("r2", r2(numbers, said)), ("rmse", rmse(numbers, said))])
        }
        _ => Scores::new(),
    }
}

/// The answer of a baseline that knows only the targets' most frequent class, or their mean.
pub fn baseline(targets: &Targets, rows: usize) -> Output {
    match targets {
        Targets::Classes { indices, classes } => {
            let mut counts = vec![0usize; *classes];
            for index in indices {
                counts[*index as usize] += 1;
            }
            let most = counts.iter().max().copied().unwrap_or(0);
            // The first of equally frequent ones.
            let class = counts.iter().position(|count| *count == most).unwrap_or(0);
            let shares = counts
                .iter()
                .map(|count| *count as f64 / indices.len() as f64);
            Output::Classes {
                indices: vec![class as u32; rows],
                probabilities: Some(shares.collect::<Vec<f64>>().repeat(rows)),
            }
        }
        Targets::Numbers(numbers) => {
            let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
            Output::Numbers(vec![mean; rows])
        }
    }
}

/// The mean of each score.
pub fn mean(all: &[Scores]) -> Scores {
    by_name(all, |values| {
        values.iter().sum::<f64>() / values.len() as f64
    })
}

/// The population standard deviation of each score.
pub fn spread(all: &[Scores]) -> Scores {
    by_name(all, |values| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares = values.iter().map(|value| (value - mean).powi(2));
        (squares.sum::<f64>() / values.len() as f64).sqrt()
    })
}

fn by_name(all: &[Scores], of: impl Fn(&[f64]) -> f64) -> Scores {
    let Some(first) = all.first() else {
        return Scores::new();
    };
    let values = |name: &String| -> Vec<f64> {
        all.iter()
            .filter_map(|scores| scores.get(name))
            .copied()
            .collect()
    };
    first
        .keys()
        .map(|name| (name.clone(), of(&values(name))))
        .collect()
}

fn named(scores: [(&str, f64); 2]) -> Scores {
    scores.map(|(name, value)| (name.to_owned(), value)).into()
}

fn accuracy(truth: &[u32], said: &[u32]) -> f64 {
    let right = truth.iter().zip(said).filter(|(truth, said)| truth == said);
    right.count() as f64 / truth.len() as f64
}

fn macro_f1(truth: &[u32], said: &[u32], classes: usize) -> f64 {
    let mut sum = 0.0;
    let mut counted = 0.0;
    for class in 0..classes as u32 {
        let of_truth = truth.iter().filter(|index| **index == class).count();
        let of_said = said.iter().filter(|index| **index == class).count();
        let both = truth
            .iter()
            .zip(said)
            .filter(|(truth, said)| **truth == class && truth == said);
        if of_truth + of_said > 0 {
            sum += 2.0 * both.count() as f64 / (of_truth + of_said) as f64;
            counted += 1.0;
        }
    }
    sum / counted
}

/// The mean over the classes that occur, beside others, of the area under the ROC curve of the class
/// against the rest; with two classes that of either. 0.5 if there is nothing to tell apart.
fn auc(truth: &[u32], shares: &[f64], classes: usize) -> f64 {
    let areas: Vec<f64> = (0..classes)
        .filter_map(|class| area(truth, shares, class, classes))
        .collect();
    match areas.len() {
        0 => 0.5,
        count => areas.iter().sum::<f64>() / count as f64,
    }
}

/// The share of pairs, a row of the class and one of another, in which the first has the larger
/// probability; equal ones count half.
fn area(truth: &[u32], shares: &[f64], class: usize, classes: usize) -> Option<f64> {
    let mut rows: Vec<(f64, bool)> = truth
        .iter()
        .enumerate()
        .map(|(row, own)| (shares[row * classes + class], *own as usize == class))
        .collect();
    rows.sort_by(|one, other| one.0.total_cmp(&other.0));
    let inside = rows.iter().filter(|(_, is_own)| *is_own).count();
    let outside = rows.len() - inside;
    if inside == 0 || outside == 0 {
        return None;
    }
    let (mut below, mut pairs) = (0.0, 0.0);
    for equal in rows.chunk_by(|one, other| one.0 == other.0) {
        let own = equal.iter().filter(|(_, is_own)| *is_own).count() as f64;
        let others = equal.len() as f64 - own;
        pairs += own * (below + others / 2.0);
        below += others;
    }
    Some(pairs / (inside as f64 * outside as f64))
}

/// The mean of the negative logarithms of the true classes' probabilities; smaller is better.
fn log_loss(truth: &[u32], shares: &[f64], classes: usize) -> f64 {
    let loss = |(row, class): (usize, &u32)| {
        // As scikit-learn does: an impossible class that occurs costs a finite amount.
        -shares[row * classes + *class as usize]
            .clamp(f64::EPSILON, 1.0)
            .ln()
    };
    truth.iter().enumerate().map(loss).sum::<f64>() / truth.len() as f64
}

fn squared_errors(truth: &[f64], said: &[f64]) -> f64 {
    truth
        .iter()
        .zip(said)
        .map(|(truth, said)| (truth - said).powi(2))
        .sum()
}

fn r2(truth: &[f64], said: &[f64]) -> f64 {
    let mean = truth.iter().sum::<f64>() / truth.len() as f64;
    let variance: f64 = truth.iter().map(|truth| (truth - mean).powi(2)).sum();
    let errors = squared_errors(truth, said);
    if variance == 0.0 {
        return if errors == 0.0 { 1.0 } else { 0.0 };
    }
    1.0 - errors / variance
}

fn rmse(truth: &[f64], said: &[f64]) -> f64 {
    (squared_errors(truth, said) / truth.len() as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(scores: &Scores, name: &str, expected: f64) {
        assert!((scores[name] - expected).abs() < 1e-12, "{scores:?}");
    }

    #[test]
    fn classifiers_are_scored_as_computed_by_hand() {
        let truth = Targets::Classes {
            indices: vec![0, 0, 0, 1, 1, 2],
            classes: 4,
        };
        let said = Output::Classes {
            indices: vec![0, 0, 1, 1, 2, 2],
            probabilities: None,
        };
        let scores = score(&truth, &said);
        close(&scores, "accuracy", 4.0 / 6.0);
        // F1: 2*2/(3+2), 2*1/(2+2), 2*1/(1+2); the fourth class is nowhere.
        close(&scores, "macro_f1", (0.8 + 0.5 + 2.0 / 3.0) / 3.0);
        let scores = score(&truth, &baseline(&truth, 6));
        close(&scores, "accuracy", 0.5);
    }

    #[test]
    fn probabilities_are_scored_as_computed_by_hand() {
        let truth = Targets::Classes {
            indices: vec![0, 0, 1, 1],
            classes: 2,
        };
        let shares = [0.1, 0.4, 0.35, 0.8];
        let said = Output::Classes {
            indices: vec![0, 0, 0, 1],
            probabilities: Some(
                shares
                    .iter()
                    .flat_map(|share| [1.0 - share, *share])
                    .collect(),
            ),
        };
        let scores = score(&truth, &said);
        // scikit-learn's own example of roc_auc_score.
        close(&scores, "auc", 0.75);
        let loss = -(0.9f64.ln() + 0.6f64.ln() + 0.35f64.ln() + 0.8f64.ln()) / 4.0;
        close(&scores, "log_loss", loss);
        let scores = score(&truth, &baseline(&truth, 4));
        close(&scores, "auc", 0.5);
        close(&scores, "log_loss", 2f64.ln());
    }

    #[test]
    fn regressors_are_scored_as_computed_by_hand() {
        let truth = Targets::Numbers(vec![1.0, 2.0, 3.0]);
        let scores = score(&truth, &Output::Numbers(vec![1.0, 2.0, 5.0]));
        close(&scores, "r2", 1.0 - 4.0 / 2.0);
        close(&scores, "rmse", (4.0f64 / 3.0).sqrt());
        let scores = score(&truth, &baseline(&truth, 3));
        close(&scores, "r2", 0.0);
        let same = Targets::Numbers(vec![2.0, 2.0]);
        close(&score(&same, &Output::Numbers(vec![2.0, 2.0])), "r2", 1.0);
        close(&score(&same, &Output::Numbers(vec![2.0, 3.0])), "r2", 0.0);
    }

    #[test]
    fn means_and_spreads_are_over_the_folds() {
        let folds = [1.0, 3.0].map(|value| named([("a", value), ("b", 5.0)]));
        close(&mean(&folds), "a", 2.0);
        close(&spread(&folds), "a", 1.0);
        close(&spread(&folds), "b", 0.0);
    }
}
