//! Penalised linear and logistic regression, solved to the optimum.
//!
//! Every solver takes row-major `values` of `width` finite columns and optional row weights, which
//! must be finite and not negative with a positive sum; rows of weight 0 are left out. Malformed
//! input, or numbers so large that the fit overflows, give an error. Intercepts are never penalised.

mod net;

use crate::train::matrix::{Qr, add, cholesky, cholesky_solve, dot, forward_solve, gram};
use net::Net;

/// A fitted linear model: output k of row x is `intercepts[k] + x . weights[k*width..][..width]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// Output after output, `width` values each, in the units of the input columns.
    pub weights: Vec<f64>,
    /// One value an output.
    pub intercepts: Vec<f64>,
    /// Whether the optimum was reached within the iterations allowed.
    pub converged: bool,
    /// Sweeps or steps taken; 0 for direct solvers.
    pub iterations: usize,
}

/// The rows that count, and the means of their columns.
pub(crate) struct Sample {
    pub(crate) kept: Vec<usize>,
    pub(crate) weights: Vec<f64>,
    pub(crate) total: f64,
    pub(crate) means: Vec<f64>,
}

/// Centred columns (column-major) and target, each row times the root of its weight, so that plain
/// sums of squares are weighted ones.
struct Centred {
    columns: Vec<f64>,
    target: Vec<f64>,
    target_mean: f64,
    sample: Sample,
}

/// Ridge regression: minimises `sum_i s_i (y_i - x_i.w - b)^2 + alpha ||w||^2`.
///
/// `values` is rows x `width`, `targets` has one value a row. With `alpha` 0 the answer is the
/// least squares one of the smallest norm. Errors: malformed input, `alpha` negative or not finite.
pub fn ridge(
    values: &[f64],
    width: usize,
    targets: &[f64],
    weights: Option<&[f64]>,
    alpha: f64,
) -> Result<Fit, String> {
    if !(alpha >= 0.0 && alpha.is_finite()) {
        return Err(format!(
            "alpha must be finite and not negative, not {alpha}"
        ));
    }
    let data = centre(values, width, targets, weights)?;
    let solution = solve(&data, alpha);
    finish(&data, solution, true, 0)
}

/// Least squares: minimises `sum_i s_i (y_i - x_i.w - b)^2`; among equals, the smallest `||w||`.
///
/// `values` is rows x `width`, `targets` has one value a row. Errors: malformed input.
pub fn least_squares(
    values: &[f64],
    width: usize,
    targets: &[f64],
    weights: Option<&[f64]>,
) -> Result<Fit, String> {
    ridge(values, width, targets, weights, 0.0)
}

/// Elastic net: minimises `1/(2 S) sum_i s_i (y_i - x_i.w - b)^2 + alpha l1_ratio ||w||_1
/// + alpha/2 (1 - l1_ratio) ||w||^2`, with S the sum of the weights; `l1_ratio` 1 is the lasso.
///
/// `values` is rows x `width`, `targets` has one value a row. `converged` says that the duality gap
/// is at most 1e-8 of the target's sum of squares, or that nothing moves; sweeps go on to 1e-13. Without an L1 part the
/// answer is direct. Errors: malformed input, a bad `alpha`, `l1_ratio` outside 0..=1.
pub fn elastic_net(
    values: &[f64],
    width: usize,
    targets: &[f64],
    weights: Option<&[f64]>,
    alpha: f64,
    l1_ratio: f64,
    max_iterations: usize,
) -> Result<Fit, String> {
    if !(alpha >= 0.0 && alpha.is_finite() && (0.0..=1.0).contains(&l1_ratio)) {
        return Err(format!(
            "alpha {alpha} must be finite and not negative, l1_ratio {l1_ratio} in 0..=1"
        ));
    }
    let data = centre(values, width, targets, weights)?;
    let (l1, l2) = (
        alpha * l1_ratio * data.sample.total,
        alpha * (1.0 - l1_ratio) * data.sample.total,
    );
    if l1 == 0.0 {
        let solution = solve(&data, l2);
        return finish(&data, solution, true, 0);
    }
    let goal = dot(&data.target, &data.target);
    let (columns, target) = match shrink(&data) {
        Some(small) => small,
        None => (data.columns.clone(), data.target.clone()),
    };
    let mut net = Net {
        residual: target.clone(),
        coefficients: vec![0.0; width],
        products: Vec::new(),
        work: 0,
        columns,
        target,
        l1,
        l2,
    };
    let (converged, sweeps) = net.descend(max_iterations, goal);
    finish(&data, net.coefficients, converged, sweeps)
}

/// A square problem with the same inner products, for sweeps that do not depend on the number of
/// rows; only where the columns are far enough from collinear for that to be exact.
fn shrink(data: &Centred) -> Option<(Vec<f64>, Vec<f64>)> {
    let (rows, width) = (data.target.len(), data.sample.means.len());
    if width > 1000 || rows <= 2 * width {
        return None;
    }
    let mut factor = gram(&data.columns, rows, width);
    if !cholesky(&mut factor, width, 1e-4) {
        return None;
    }
    (0..width).for_each(|i| factor[i * width + i + 1..(i + 1) * width].fill(0.0));
    let mut target: Vec<f64> = data
        .columns
        .chunks(rows)
        .map(|column| dot(column, &data.target))
        .collect();
    forward_solve(&factor, width, &mut target);
    Some((factor, target))
}

/// Sums of squares must not overflow, or ranks could not be told.
pub(crate) fn bounded(centred: &[f64]) -> Result<(), String> {
    if dot(centred, centred).is_finite() {
        Ok(())
    } else {
        Err("the values are too large for the fit".to_string())
    }
}

pub(crate) fn finite(fit: Fit) -> Result<Fit, String> {
    if fit
        .weights
        .iter()
        .chain(&fit.intercepts)
        .all(|x| x.is_finite())
    {
        Ok(fit)
    } else {
        Err("the values are too large for the fit".to_string())
    }
}

fn finish(
    data: &Centred,
    weights: Vec<f64>,
    converged: bool,
    iterations: usize,
) -> Result<Fit, String> {
    let intercept = data.target_mean - dot(&weights, &data.sample.means);
    finite(Fit {
        weights,
        intercepts: vec![intercept],
        converged,
        iterations,
    })
}

impl Sample {
    pub(crate) fn new(
        values: &[f64],
        width: usize,
        count: usize,
        weights: Option<&[f64]>,
    ) -> Result<Sample, String> {
        if width == 0 || count == 0 || values.len() != count * width {
            return Err(format!(
                "{} values do not fill {count} rows of {width} columns",
                values.len()
            ));
        }
        if weights
            .is_some_and(|w| w.len() != count || !w.iter().all(|s| *s >= 0.0 && s.is_finite()))
        {
            return Err(format!(
                "row weights must be {count} finite numbers of at least 0"
            ));
        }
        let kept: Vec<usize> = (0..count)
            .filter(|&row| weights.is_none_or(|w| w[row] > 0.0))
            .collect();
        let weights: Vec<f64> = kept
            .iter()
            .map(|&row| weights.map_or(1.0, |w| w[row]))
            .collect();
        let total: f64 = weights.iter().sum();
        let Some(&first) = kept.first() else {
            return Err("no row has a positive weight".to_string());
        };
        // Starting from a row makes the means of constant columns exact, so that they centre to 0;
        // the second pass removes what rounding left of a large offset.
        let mut means = values[first * width..][..width].to_vec();
        for _ in 0..2 {
            let mut shift = vec![0.0; width];
            for (&row, weight) in kept.iter().zip(&weights) {
                for (j, x) in values[row * width..][..width].iter().enumerate() {
                    shift[j] += weight * (x - means[j]);
                }
            }
            add(&mut means, 1.0 / total, &shift);
        }
        Ok(Sample {
            kept,
            weights,
            total,
            means,
        })
    }
}

fn centre(
    values: &[f64],
    width: usize,
    targets: &[f64],
    weights: Option<&[f64]>,
) -> Result<Centred, String> {
    let sample = Sample::new(values, width, targets.len(), weights)?;
    let target_mean = Sample::new(targets, 1, targets.len(), weights)?.means[0];
    let roots: Vec<f64> = sample.weights.iter().map(|weight| weight.sqrt()).collect();
    let rows = roots.len();
    let mut columns = vec![0.0; rows * width];
    for (i, (&row, root)) in sample.kept.iter().zip(&roots).enumerate() {
        for (j, x) in values[row * width..][..width].iter().enumerate() {
            columns[j * rows + i] = root * (x - sample.means[j]);
        }
    }
    let target: Vec<f64> = sample
        .kept
        .iter()
        .zip(&roots)
        .map(|(&row, root)| root * (targets[row] - target_mean))
        .collect();
    bounded(&columns)?;
    bounded(&target)?;
    Ok(Centred {
        columns,
        target,
        target_mean,
        sample,
    })
}

/// Minimises `||y - Xw||^2 + alpha ||w||^2` over the taller of X and its transpose, called T.
fn solve(data: &Centred, alpha: f64) -> Vec<f64> {
    let (rows, width) = (data.target.len(), data.sample.means.len());
    let wide = width > rows;
    let (height, count) = if wide { (width, rows) } else { (rows, width) };
    let tall = if wide {
        (0..rows * width)
            .map(|at| data.columns[at % width * rows + at / width])
            .collect()
    } else {
        data.columns.clone()
    };
    let project = |tall: &[f64]| {
        tall.chunks(height)
            .map(|column| dot(column, &data.target))
            .collect::<Vec<f64>>()
    };
    let mut gram = gram(&tall, height, count);
    (0..count).for_each(|i| gram[i * count + i] += alpha);
    // Normal equations square the condition number, so they are kept for columns far from collinear.
    if cholesky(&mut gram, count, 1e-4) {
        let mut right = if wide {
            data.target.clone()
        } else {
            project(&tall)
        };
        cholesky_solve(&gram, count, &mut right);
        if !wide {
            return right;
        }
        let mut weights = vec![0.0; width];
        tall.chunks(height)
            .zip(&right)
            .for_each(|(column, r)| add(&mut weights, *r, column));
        return weights;
    }
    // Otherwise: QR of T over sqrt(alpha) I, which is ridge both as least squares (T = X) and as a
    // minimum-norm problem (T = X transposed).
    let extra = if alpha > 0.0 { count } else { 0 };
    let full = height + extra;
    let mut stacked = vec![0.0; full * count];
    let mut noise = vec![0.0; count];
    let offset = dot(&data.sample.means, &data.sample.means);
    for (i, column) in tall.chunks(height).enumerate() {
        stacked[i * full..][..height].copy_from_slice(column);
        if extra > 0 {
            stacked[i * full + height + i] = alpha.sqrt();
        }
        // Rounding of the uncentred numbers: what is left of a column below this is no information.
        let hidden = if wide {
            data.sample.weights[i] * offset
        } else {
            data.sample.total * data.sample.means[i].powi(2)
        };
        noise[i] = 4.0 * f64::EPSILON * (dot(column, column) + hidden).sqrt();
    }
    let qr = Qr::new(stacked, full, &noise, f64::EPSILON * height.max(16) as f64);
    let mut answer = if wide {
        qr.minimum_norm(&data.target)
    } else {
        qr.least_squares(&data.target)
    };
    answer.truncate(width);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: [f64; 24] = [
        1.0, 200.0, 0.5, 2.0, 180.0, 0.1, 3.0, 260.0, 0.9, 4.0, 150.0, 0.4, 5.0, 310.0, 0.3, 6.0,
        240.0, 0.8, 7.0, 120.0, 0.6, 8.0, 280.0, 0.2,
    ];
    const Y: [f64; 8] = [3.1, 2.2, 6.3, 4.2, 8.9, 8.1, 6.0, 9.7];
    const S: Option<&[f64]> = Some(&[1.0, 2.0, 1.0, 0.5, 1.0, 3.0, 0.0, 1.0]);

    /// The answers are scikit-learn 1.9.1's at tolerances of 1e-12 or below.
    fn check(fit: Result<Fit, String>, weights: &[f64], intercept: f64) {
        let fit = fit.unwrap();
        assert!(fit.converged && fit.weights.len() == weights.len());
        for (ours, theirs) in fit
            .weights
            .iter()
            .zip(weights)
            .chain([(&fit.intercepts[0], &intercept)])
        {
            assert!(
                (ours - theirs).abs() < 1e-9 * theirs.abs().max(1.0),
                "{fit:?}"
            );
        }
    }

    #[test]
    fn ridge_as_scikit_learn() {
        check(
            ridge(&X, 3, &Y, None, 2.5),
            &[0.7480978203385308, 0.024220261082974235, 0.2647562656708548],
            -2.697606203263941,
        );
        check(
            ridge(&X, 3, &Y, S, 0.7),
            &[0.7457518117438047, 0.028925995120860623, 0.8001120737677679],
            -4.138754765231808,
        );
        let wide = [
            -0.002237915257608912,
            0.04475830515217824,
            0.0008951661030435646,
        ];
        check(
            ridge(&X[..6], 3, &Y[..2], None, 0.5),
            &wide,
            -5.850989655858365,
        );
    }

    #[test]
    fn least_squares_as_scikit_learn() {
        check(
            least_squares(&X, 3, &Y, None),
            &[0.7935149644691114, 0.024013174957207315, 1.4567923647492087],
            -3.423159266559468,
        );
        check(
            least_squares(&X, 3, &Y, S),
            &[0.7509411785413245, 0.02756258715068831, 1.4762373197581964],
            -4.179200883192164,
        );
        let wide = [
            -0.0022434938677834276,
            0.04486987735566855,
            0.0008973975471133711,
        ];
        check(
            least_squares(&X[..6], 3, &Y[..2], None),
            &wide,
            -5.872180676039482,
        );
    }

    /// A column, its double, a constant one, and another.
    fn collinear() -> Vec<f64> {
        X.chunks(3)
            .flat_map(|row| [row[0], 2.0 * row[0], 7.0, row[2]])
            .collect()
    }

    #[test]
    fn collinear_and_constant_columns() {
        let x = collinear();
        let shortest = [
            0.17928571428571421,
            0.35857142857142843,
            0.0,
            1.391891891891892,
        ];
        check(
            least_squares(&x, 4, &Y, None),
            &shortest,
            1.3674227799227783,
        );
        check(ridge(&x, 4, &Y, None, 0.0), &shortest, 1.3674227799227783);
        check(
            elastic_net(&x, 4, &Y, None, 0.1, 1.0, 1000),
            &[0.0, 0.44345238095238093, 0.0, 0.0],
            2.0714285714285716,
        );
        check(
            least_squares(&[5.0; 4], 2, &Y[..2], None),
            &[0.0, 0.0],
            2.65,
        );
    }

    #[test]
    fn elastic_net_as_scikit_learn() {
        let lasso = [0.7355516910530103, 0.024204605420964257, 0.0];
        check(
            elastic_net(&X, 3, &Y, None, 0.3, 1.0, 1000),
            &lasso,
            -2.5119842887982724,
        );
        let mixed = [
            0.7196286771823329,
            0.030688580277357064,
            0.24203794101312703,
        ];
        check(
            elastic_net(&X, 3, &Y, S, 0.2, 0.4, 1000),
            &mixed,
            -4.159018273558914,
        );
        // Without an L1 part it is ridge with the penalty times the rows.
        assert_eq!(
            elastic_net(&X, 3, &Y, None, 0.5, 0.0, 9),
            ridge(&X, 3, &Y, None, 4.0)
        );
        assert!(!elastic_net(&X, 3, &Y, None, 0.3, 1.0, 0).unwrap().converged);
    }

    #[test]
    fn offsets_and_scales_do_not_matter() {
        let far: Vec<f64> = X
            .chunks(3)
            .flat_map(|r| [r[0] * 1e6 + 1e9, r[1] * 1e-5, r[2] + 1000.0])
            .collect();
        let (near, far) = (
            least_squares(&X, 3, &Y, None).unwrap(),
            least_squares(&far, 3, &Y, None).unwrap(),
        );
        for (j, scale) in [1e6, 1e-5, 1.0].iter().enumerate() {
            assert!((far.weights[j] * scale / near.weights[j] - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn malformed_input() {
        assert!(ridge(&X, 3, &Y[1..], None, 1.0).is_err());
        assert!(ridge(&X, 3, &Y, None, -1.0).is_err());
        assert!(least_squares(&[], 1, &[], None).is_err());
        assert!(least_squares(&X, 3, &Y, Some(&[0.0; 8])).is_err());
        assert!(least_squares(&[1e300, -1e300], 1, &[1.0, 2.0], None).is_err());
        assert!(elastic_net(&X, 3, &Y, None, 1.0, 1.5, 10).is_err());
    }
}
