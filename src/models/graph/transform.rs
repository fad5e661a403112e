//! What ONNX-ML's models do to their scores, in 32 bits.
//!
//! Source: onnxruntime 1.32, `core/providers/cpu/ml/ml_common.h`.

/// How scores become an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transform {
    /// They are the answer.
    None,
    /// The logistic function of each.
    Logistic,
    /// Shares of their exponentials.
    Softmax,
    /// The same, but scores of 0 stay 0.
    SoftmaxZero,
}

/// The second score that a model of two classes with one score gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Second {
    /// The score is the share of the second class, and the first has the rest.
    Rest,
    /// The first class has the negative.
    Negative,
}

impl Transform {
    /// The transform of this name; `None` for PROBIT and what is unknown.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "NONE" => Transform::None,
            "LOGISTIC" => Transform::Logistic,
            "SOFTMAX" => Transform::Softmax,
            "SOFTMAX_ZERO" => Transform::SoftmaxZero,
            _ => return None,
        })
    }

    /// Transforms the scores of a row, two or more.
    pub fn apply(self, scores: &mut [f64]) {
        match self {
            Transform::None => {}
            Transform::Logistic => {
                for score in scores {
                    *score = logistic(*score);
                }
            }
            Transform::Softmax => softmax(scores),
            Transform::SoftmaxZero => softmax_zero(scores),
        }
    }

    /// The two scores of a model of two classes with one score.
    pub fn of_one(self, score: f64, second: Second) -> [f64; 2] {
        match (second, self) {
            (_, Transform::Logistic) => [logistic(-score), logistic(score)],
            (Second::Rest, _) => [f64::from((1.0 - score) as f32), score],
            (Second::Negative, _) => [-score, score],
        }
    }
}

/// Mirrored for negative numbers.
fn logistic(score: f64) -> f64 {
    let score = score as f32;
    let share = 1.0 / (1.0 + (-score.abs()).exp());
    f64::from(if score < 0.0 { 1.0 - share } else { share })
}

/// Shares of the exponentials, summed in order in 32 bits.
pub fn softmax(scores: &mut [f64]) {
    let most = scores
        .iter()
        .fold(f32::MIN, |most, score| most.max(*score as f32));
    let mut sum = 0.0_f32;
    for score in scores.iter_mut() {
        let power = (*score as f32 - most).exp();
        sum += power;
        *score = f64::from(power);
    }
    for score in scores {
        *score = f64::from(*score as f32 / sum);
    }
}

fn softmax_zero(scores: &mut [f64]) {
    const ZERO: f32 = 1e-7;
    let most = scores
        .iter()
        .fold(f32::MIN, |most, score| most.max(*score as f32));
    let mut sum = 0.0_f32;
    for score in scores.iter_mut() {
        let own = *score as f32;
        let power = match own.abs() > ZERO {
            true => {
                let power = (own - most).exp();
                sum += power;
                power
            }
            false => own * (-most).exp(),
        };
        *score = f64::from(power);
    }
    for score in scores {
        *score = f64::from(*score as f32 / sum);
    }
}
