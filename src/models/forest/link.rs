//! From sums to answers: the libraries' transforms, in their own precision and order.
//!
//! Sources: XGBoost 3.4 `src/common/math.h`, `src/objective/`; LightGBM 4.7 `src/objective/`; CatBoost 1.2
//! `catboost/libs/model/eval_processing.h`.

use super::{Precision, table_exp};

/// How sums become an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Link {
    /// They are the answer.
    Identity,
    /// The logistic function of each, at this scale.
    Logistic {
        /// The factor of the sum; 1 with XGBoost.
        scale: f64,
    },
    /// Shares of their exponentials.
    Softmax,
    /// As `Softmax`, in 64 bits with CatBoost's exponential.
    SoftmaxByTable,
    /// The exponential of each.
    Exponential,
    /// The exponential of each, CatBoost's.
    ExponentialByTable,
    /// 1 above 0, otherwise 0.
    Step,
    /// ln(1 + e^x) of each.
    Softplus,
    /// The square of each, with its sign.
    SignedSquare,
    /// In ascending order: quantiles do not cross.
    Sorted,
    /// The first as it is, each further one above the one before by the softplus of its sum.
    Rising,
}

/// XGBoost's `kRtEps`, by which expectiles differ at least.
const EXPECTILE_GAP: f32 = 1e-6;

impl Link {
    /// Transforms the sums of one row in place.
    pub fn apply(self, precision: Precision, sums: &mut [f64]) {
        match precision {
            Precision::F32 => self.apply_f32(sums),
            Precision::F64 => self.apply_f64(sums),
        }
    }

    fn apply_f32(self, sums: &mut [f64]) {
        let each = |sums: &mut [f64], function: fn(f32) -> f32| {
            for sum in sums {
                *sum = f64::from(function(*sum as f32));
            }
        };
        match self {
            Link::Identity => {}
            Link::Logistic { .. } => each(sums, logistic_f32),
            Link::Exponential => each(sums, f32::exp),
            // CatBoost knows no 32 bits.
            Link::SoftmaxByTable | Link::ExponentialByTable => self.apply_f64(sums),
            Link::Step => each(sums, |sum| if sum > 0.0 { 1.0 } else { 0.0 }),
            Link::Softplus => each(sums, softplus_f32),
            Link::SignedSquare => each(sums, |sum| sum.abs() * sum),
            Link::Sorted => sums.sort_by(f64::total_cmp),
            Link::Softmax => softmax_f32(sums),
            Link::Rising => {
                let mut last = None::<f32>;
                for sum in sums {
                    let own = *sum as f32;
                    let next = last.map_or(own, |last| last + (EXPECTILE_GAP + softplus_f32(own)));
                    last = Some(next);
                    *sum = f64::from(next);
                }
            }
        }
    }

    fn apply_f64(self, sums: &mut [f64]) {
        match self {
            Link::Identity => {}
            Link::Logistic { scale } => {
                for sum in sums {
                    *sum = 1.0 / (1.0 + (-scale * *sum).exp());
                }
            }
            Link::Exponential => sums.iter_mut().for_each(|sum| *sum = sum.exp()),
            Link::ExponentialByTable => {
                sums.iter_mut().for_each(|sum| *sum = table_exp::exp(*sum));
            }
            Link::Step => {
                for sum in sums {
                    *sum = if *sum > 0.0 { 1.0 } else { 0.0 };
                }
            }
            Link::Softplus | Link::Rising => {
                sums.iter_mut().for_each(|sum| *sum = sum.exp().ln_1p());
            }
            Link::SignedSquare => {
                for sum in sums {
                    let sign = if *sum > 0.0 {
                        1.0
                    } else if *sum < 0.0 {
                        -1.0
                    } else {
                        0.0
                    };
                    *sum = sign * *sum * *sum;
                }
            }
            Link::Sorted => sums.sort_by(f64::total_cmp),
            Link::Softmax => softmax_f64(sums, f64::exp),
            Link::SoftmaxByTable => softmax_f64(sums, table_exp::exp),
        }
    }
}

/// LightGBM's and CatBoost's: the total in the order of the classes.
fn softmax_f64(sums: &mut [f64], exp: impl Fn(f64) -> f64) {
    let most = sums.iter().copied().fold(f64::MIN, f64::max);
    let mut total = 0.0;
    for sum in sums.iter_mut() {
        *sum = exp(*sum - most);
        total += *sum;
    }
    sums.iter_mut().for_each(|sum| *sum /= total);
}

/// XGBoost's: the exponent is clamped so that it stays finite, and a tiny term keeps the quotient so.
fn logistic_f32(sum: f32) -> f32 {
    1.0 / ((-sum).min(88.7).exp() + 1.0 + 1e-16)
}

fn softplus_f32(sum: f32) -> f32 {
    match sum > 0.0 {
        true => sum + (-sum).exp().ln_1p(),
        false => sum.exp().ln_1p(),
    }
}

/// XGBoost's: exponentials in f32, their total in f64, quotients in f32.
fn softmax_f32(sums: &mut [f64]) {
    let most = sums
        .iter()
        .fold(f32::MIN, |most, sum| most.max(*sum as f32));
    let mut total = 0.0_f64;
    for sum in sums.iter_mut() {
        *sum = f64::from((*sum as f32 - most).exp());
        total += *sum;
    }
    for sum in sums {
        *sum = f64::from(*sum as f32 / total as f32);
    }
}
