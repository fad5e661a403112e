//! Penalised logistic regression, solved to the optimum by L-BFGS on a preconditioned problem.

use std::collections::VecDeque;

use crate::train::linear::{Fit, Sample, bounded, finite};
use crate::train::matrix::{add, cholesky, cholesky_solve, dot};

/// Logistic regression: minimises `c sum_i s_i loss_i + 1/2 ||w||^2`.
///
/// `values` is rows x `width`, `classes` has one index below `class_count` a row. Two classes give
/// one output, the log-odds of class 1; more give one softmax output a class, intercepts summing to
/// 0. A class without rows gets a probability near 0. `converged` is false if `max_iterations` ran
/// out. Errors: malformed input, an index out of range, fewer than 2 classes, `c` not positive and
/// finite.
pub fn logistic(
    values: &[f64],
    width: usize,
    classes: &[u32],
    class_count: usize,
    weights: Option<&[f64]>,
    c: f64,
    max_iterations: usize,
) -> Result<Fit, String> {
    if !(c > 0.0 && c.is_finite()) || class_count < 2 {
        return Err(format!(
            "c {c} must be positive and finite, and {class_count} classes at least 2"
        ));
    }
    if let Some(bad) = classes.iter().find(|&&class| class as usize >= class_count) {
        return Err(format!("class {bad} is not below {class_count}"));
    }
    let sample = Sample::new(values, width, classes.len(), weights)?;
    let outputs = if class_count == 2 { 1 } else { class_count };
    let mut rows = Vec::with_capacity(sample.kept.len() * (width + 1));
    for &row in &sample.kept {
        rows.extend(
            values[row * width..][..width]
                .iter()
                .zip(&sample.means)
                .map(|(x, m)| x - m),
        );
        rows.push(1.0);
    }
    bounded(&rows)?;
    let classes = sample
        .kept
        .iter()
        .map(|&row| classes[row] as usize)
        .collect();
    let problem = LogisticLoss {
        rows,
        columns: width + 1,
        outputs,
        classes,
        weights: &sample.weights,
        penalty: 1.0 / c,
    };
    let (theta, converged, iterations) = problem.minimise(sample.total, max_iterations);
    let mut fit = Fit {
        weights: Vec::new(),
        intercepts: Vec::new(),
        converged,
        iterations,
    };
    for block in theta.chunks(width + 1) {
        fit.weights.extend(&block[..width]);
        fit.intercepts
            .push(block[width] - dot(&block[..width], &sample.means));
    }
    if outputs > 1 {
        let mean = fit.intercepts.iter().sum::<f64>() / outputs as f64;
        fit.intercepts
            .iter_mut()
            .for_each(|intercept| *intercept -= mean);
    }
    finite(fit)
}

/// `sum_i s_i loss_i + penalty/2 ||w||^2` over centred rows that end with a 1; parameters are the
/// weights and the intercept, output after output.
struct LogisticLoss<'a> {
    rows: Vec<f64>,
    columns: usize,
    outputs: usize,
    classes: Vec<usize>,
    weights: &'a [f64],
    penalty: f64,
}

/// The Hessian's blocks of each output with itself: a factor, or only the diagonal.
struct Curvature {
    blocks: Vec<(Vec<f64>, Option<Vec<f64>>)>,
}

impl Curvature {
    fn divide(&self, vector: &mut [f64]) {
        for (block, (diagonal, factor)) in vector
            .chunks_mut(vector.len() / self.blocks.len())
            .zip(&self.blocks)
        {
            match factor {
                Some(factor) => cholesky_solve(factor, diagonal.len(), block),
                None => block
                    .iter_mut()
                    .zip(diagonal)
                    .for_each(|(value, d)| *value /= d),
            }
        }
    }
}

/// Steps with their changes of gradient and inverse curvature, newest last.
type Memory = VecDeque<(Vec<f64>, Vec<f64>, f64)>;

/// The L-BFGS two-loop product of the inverse Hessian estimate and the gradient.
fn newton_step(memory: &Memory, curvature: &Curvature, gradient: &[f64]) -> Vec<f64> {
    let mut out = gradient.to_vec();
    let mut shares = Vec::with_capacity(memory.len());
    for (step, change, inverse) in memory.iter().rev() {
        let share = inverse * dot(step, &out);
        add(&mut out, -share, change);
        shares.push(share);
    }
    curvature.divide(&mut out);
    if let Some((_, change, inverse)) = memory.back() {
        let mut divided = change.clone();
        curvature.divide(&mut divided);
        let scale = 1.0 / (inverse * dot(change, &divided));
        out.iter_mut().for_each(|value| *value *= scale);
    }
    for ((step, change, inverse), share) in memory.iter().zip(shares.iter().rev()) {
        let correction = share - inverse * dot(change, &out);
        add(&mut out, correction, step);
    }
    out
}

impl LogisticLoss<'_> {
    fn logits(&self, theta: &[f64]) -> Vec<f64> {
        let mut out = Vec::with_capacity(self.classes.len() * self.outputs);
        for row in self.rows.chunks(self.columns) {
            out.extend(theta.chunks(self.columns).map(|block| dot(row, block)));
        }
        out
    }

    /// Loss at logits `base + t step` and its derivative by t, without the penalty; `errors` gets
    /// each row's weighted probability minus outcome.
    fn probe(&self, base: &[f64], step: &[f64], t: f64, errors: &mut [f64]) -> (f64, f64) {
        let (mut loss, mut slope) = (0.0, 0.0);
        for (i, (&class, weight)) in self.classes.iter().zip(self.weights).enumerate() {
            let span = i * self.outputs..(i + 1) * self.outputs;
            let (base, step, errors) =
                (&base[span.clone()], &step[span.clone()], &mut errors[span]);
            for ((error, b), s) in errors.iter_mut().zip(base).zip(step) {
                *error = b + t * s;
            }
            if let [logit] = errors {
                // exp of a negative number only, which cannot overflow.
                let (signed, sign) = if class == 1 {
                    (-*logit, -1.0)
                } else {
                    (*logit, 1.0)
                };
                let e = (-signed.abs()).exp();
                loss += weight * (e.ln_1p() + signed.max(0.0));
                errors[0] = weight * sign * if signed > 0.0 { 1.0 } else { e } / (1.0 + e);
            } else {
                let top = errors.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let own = errors[class] - top;
                errors
                    .iter_mut()
                    .for_each(|error| *error = (*error - top).exp());
                let sum: f64 = errors.iter().sum();
                loss += weight * (sum.ln() - own);
                errors.iter_mut().for_each(|error| *error *= weight / sum);
                errors[class] -= weight;
            }
            slope += errors
                .iter()
                .zip(step)
                .map(|(error, s)| error * s)
                .sum::<f64>();
        }
        (loss, slope)
    }

    fn gradient(&self, theta: &[f64], errors: &[f64]) -> Vec<f64> {
        let mut out = theta.to_vec();
        for block in out.chunks_mut(self.columns) {
            block.iter_mut().for_each(|value| *value *= self.penalty);
            block[self.columns - 1] = 0.0;
        }
        for (row, errors) in self
            .rows
            .chunks(self.columns)
            .zip(errors.chunks(self.outputs))
        {
            out.chunks_mut(self.columns)
                .zip(errors)
                .for_each(|(block, error)| add(block, *error, row));
        }
        out
    }

    /// The curvature at the point of these errors; it takes the scales and correlations of the
    /// columns out of the problem.
    fn curvature(&self, errors: &[f64]) -> Curvature {
        let size = self.columns;
        // A sample of the rows will do where all of them would take long.
        let stride = 1 + errors.len() * size * size / 1_000_000_000;
        let block = |output: usize| {
            let spread = |i: usize| {
                // |p - outcome| is p or 1 - p; the excess keeps saturated rows from vanishing.
                let share = errors[i * self.outputs + output].abs() / self.weights[i];
                self.weights[i] * (share * (1.0 - share)).max(1e-9)
            };
            let mut diagonal = vec![0.0; size];
            for (i, row) in self.rows.chunks(size).enumerate() {
                let spread = spread(i);
                diagonal
                    .iter_mut()
                    .zip(row)
                    .for_each(|(d, x)| *d += spread * x * x);
            }
            diagonal[..size - 1]
                .iter_mut()
                .for_each(|d| *d += self.penalty);
            if size > 512 {
                return (diagonal, None);
            }
            let mut matrix = vec![0.0; size * size];
            for (i, row) in self.rows.chunks(size).enumerate().step_by(stride) {
                let spread = spread(i) * stride as f64;
                for (j, x) in row.iter().enumerate().filter(|(_, x)| **x != 0.0) {
                    add(&mut matrix[j * size..=j * size + j], spread * x, row);
                }
            }
            for (j, d) in diagonal.iter().enumerate() {
                let entry = &mut matrix[j * size + j];
                // The excess keeps collinear columns definite; it only slows their steps.
                *entry =
                    (1.0 + 1e-10) * d.max(*entry + if j + 1 < size { self.penalty } else { 0.0 });
            }
            let factor = cholesky(&mut matrix, size, 1e-13).then_some(matrix);
            (diagonal, factor)
        };
        Curvature {
            blocks: (0..self.outputs).map(block).collect(),
        }
    }

    /// A step length with a slope at most half as steep and no higher loss, by bracketing; `errors`
    /// is left at that point.
    fn line_search(
        &self,
        logits: &[f64],
        step: &[f64],
        theta: &[f64],
        direction: &[f64],
        errors: &mut [f64],
    ) -> Option<f64> {
        let inner = |a: &[f64], b: &[f64]| -> f64 {
            let last = self.columns - 1;
            a.chunks(self.columns)
                .zip(b.chunks(self.columns))
                .map(|(a, b)| dot(&a[..last], &b[..last]))
                .sum()
        };
        let (cross, square) = (
            self.penalty * inner(theta, direction),
            self.penalty * inner(direction, direction),
        );
        let mut value = |t: f64| {
            let (loss, slope) = self.probe(logits, step, t, errors);
            (
                loss + t * cross + 0.5 * t * t * square,
                slope + cross + t * square,
            )
        };
        let (start, first) = value(0.0);
        let (mut low, mut high) = ((0.0, first), None);
        let mut t = 1.0;
        for _ in 0..60 {
            let (loss, slope) = value(t);
            // On a convex curve a point before the minimum is lower for sure; past it, loss decides,
            // but not on its last digits.
            if slope.abs() <= 0.5 * first.abs()
                && (slope <= 0.0 || loss <= start + 1e-14 * start.abs())
            {
                return Some(t);
            }
            if slope < 0.0 {
                low = (t, slope);
            } else {
                high = Some((t, slope));
            }
            t = match high {
                None => 3.0 * t,
                Some((right, up)) => {
                    let share = low.1 / (low.1 - up);
                    let share = if share.is_finite() {
                        share.clamp(0.1, 0.9)
                    } else {
                        0.5
                    };
                    low.0 + share * (right - low.0)
                }
            };
        }
        None
    }

    /// L-BFGS from the class shares; parameters, whether they are optimal, and the steps taken.
    fn minimise(&self, total: f64, max_iterations: usize) -> (Vec<f64>, bool, usize) {
        let mut shares = vec![0.0; self.outputs.max(2)];
        self.classes
            .iter()
            .zip(self.weights)
            .for_each(|(&class, weight)| shares[class] += weight / total);
        // An absent class would need an infinite intercept; this one is close enough.
        let logs: Vec<f64> = shares.iter().map(|p| p.max(1e-30).ln()).collect();
        let mut theta = vec![0.0; self.outputs * self.columns];
        for (k, block) in theta.chunks_mut(self.columns).enumerate() {
            block[self.columns - 1] = if self.outputs == 1 {
                logs[1] - logs[0]
            } else {
                logs[k]
            };
        }
        let mut logits = self.logits(&theta);
        let mut errors = logits.clone();
        self.probe(&logits, &logits, 0.0, &mut errors);
        let mut gradient = self.gradient(&theta, &errors);
        let mut curvature = self.curvature(&errors);
        // Renewing it costs as much as about columns / 4 iterations.
        let renewal = 10.max(self.columns / 2);
        let mut memory = Memory::new();
        // A Newton step with decrement g.d moves the probability of a row of weight s by at most
        // sqrt(g.d / s) / 2, whatever the conditioning: this asks for 1e-7 or better.
        let goal = 1e-14 * total / self.weights.len() as f64;
        let mut iterations = 0;
        loop {
            let mut direction = newton_step(&memory, &curvature, &gradient);
            direction.iter_mut().for_each(|value| *value = -*value);
            let decrement = -dot(&gradient, &direction);
            if decrement <= goal || iterations >= max_iterations {
                return (theta, decrement <= goal, iterations);
            }
            iterations += 1;
            let step = self.logits(&direction);
            let Some(t) = self.line_search(&logits, &step, &theta, &direction, &mut errors) else {
                // Rounding stops the search: forget the estimate once, then accept what there is.
                if memory.is_empty() {
                    return (theta, decrement <= 1e6 * goal, iterations);
                }
                memory.clear();
                continue;
            };
            add(&mut theta, t, &direction);
            add(&mut logits, t, &step);
            let next = self.gradient(&theta, &errors);
            let change: Vec<f64> = next
                .iter()
                .zip(&gradient)
                .map(|(new, old)| new - old)
                .collect();
            direction.iter_mut().for_each(|value| *value *= t);
            let bend = dot(&change, &direction);
            if bend > 1e-12 * t * decrement {
                memory.push_back((direction, change, 1.0 / bend));
                if memory.len() > 10 {
                    memory.pop_front();
                }
            }
            gradient = next;
            if iterations.is_multiple_of(renewal) {
                curvature = self.curvature(&errors);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: [f64; 24] = [
        1.0, 200.0, 0.5, 2.0, 180.0, 0.1, 3.0, 260.0, 0.9, 4.0, 150.0, 0.4, 5.0, 310.0, 0.3, 6.0,
        240.0, 0.8, 7.0, 120.0, 0.6, 8.0, 280.0, 0.2,
    ];
    const TWO: [u32; 8] = [0, 0, 1, 0, 1, 1, 1, 0];
    const THREE: [u32; 8] = [0, 1, 2, 0, 1, 2, 1, 2];
    const S: Option<&[f64]> = Some(&[1.0, 2.0, 1.0, 0.5, 1.0, 3.0, 0.0, 1.0]);

    /// The answers are scikit-learn 1.9.1's with newton-cholesky at a tolerance of 1e-13.
    fn check(fit: Result<Fit, String>, weights: &[f64], intercepts: &[f64]) {
        let fit = fit.unwrap();
        assert!(
            fit.converged
                && fit.weights.len() == weights.len()
                && fit.intercepts.len() == intercepts.len()
        );
        for (ours, theirs) in fit
            .weights
            .iter()
            .chain(&fit.intercepts)
            .zip(weights.iter().chain(intercepts))
        {
            assert!(
                (ours - theirs).abs() < 1e-6 * theirs.abs().max(1.0),
                "{fit:?}"
            );
        }
    }

    #[test]
    fn two_classes_as_scikit_learn() {
        let plain = [0.2555465457768169, 0.006926315557973544, 0.6204771092542652];
        check(
            logistic(&X, 3, &TWO, 2, None, 1.0, 100),
            &plain,
            &[-2.956166946050041],
        );
        let weighted = [
            -0.08561262922422533,
            0.04007596825722162,
            3.9999517828818787,
        ];
        check(
            logistic(&X, 3, &TWO, 2, S, 10.0, 100),
            &weighted,
            &[-11.091279934385197],
        );
    }

    #[test]
    fn three_classes_as_scikit_learn() {
        let weights = [
            -0.43690874451933986,
            -0.02635740017335896,
            0.5180379500108336,
            -0.18343372335502026,
            0.015762652715260193,
            -1.378391701006668,
            0.620342467874362,
            0.010594747458237947,
            0.8603537509958347,
        ];
        let intercepts = [6.018160055093452, -1.5062730113766354, -4.511887043716816];
        check(
            logistic(&X, 3, &THREE, 3, S, 2.0, 1000),
            &weights,
            &intercepts,
        );
    }

    #[test]
    fn separable_and_absent_classes_stay_finite() {
        let fit = logistic(&[1.0, 2.0, 3.0, 4.0], 1, &[0, 0, 1, 1], 2, None, 1e12, 500).unwrap();
        assert!(fit.weights[0] > 5.0 && fit.weights[0].is_finite());
        // Class 3 has no rows: the others fit as if it were not there.
        let (three, four) = (
            logistic(&X, 3, &THREE, 3, None, 1.0, 500).unwrap(),
            logistic(&X, 3, &THREE, 4, None, 1.0, 500).unwrap(),
        );
        assert!(
            three
                .weights
                .iter()
                .zip(&four.weights)
                .all(|(a, b)| (a - b).abs() < 1e-6)
        );
        assert!(four.intercepts[3] < four.intercepts[0] - 30.0);
    }

    #[test]
    fn stops_after_the_iterations_allowed() {
        let fit = logistic(&X, 3, &THREE, 3, None, 1.0, 1).unwrap();
        assert!(!fit.converged && fit.iterations == 1);
    }

    #[test]
    fn malformed_input() {
        assert!(logistic(&X, 3, &THREE, 2, None, 1.0, 10).is_err());
        assert!(logistic(&X, 3, &TWO, 1, None, 1.0, 10).is_err());
        assert!(logistic(&X, 3, &TWO, 2, None, 0.0, 10).is_err());
        assert!(logistic(&X, 2, &TWO, 2, None, 1.0, 10).is_err());
    }
}
