//! Coordinate descent for the elastic net, with Newton steps once the active columns are known.

use crate::train::matrix::{add, cholesky, cholesky_solve, dot, gram};

/// Coordinate descent on `1/2 ||y - Xw||^2 + l1 ||w||_1 + l2/2 ||w||^2`.
pub(super) struct Net {
    pub(super) columns: Vec<f64>,
    pub(super) target: Vec<f64>,
    pub(super) residual: Vec<f64>,
    pub(super) coefficients: Vec<f64>,
    /// Inner products of the columns, once they are needed.
    pub(super) products: Vec<f64>,
    /// Multiplications spent on Newton steps.
    pub(super) work: usize,
    pub(super) l1: f64,
    pub(super) l2: f64,
}

impl Net {
    fn column(&self, j: usize) -> &[f64] {
        let rows = self.target.len();
        &self.columns[j * rows..][..rows]
    }

    /// Whether the optimum was reached, and the sweeps it took.
    pub(super) fn descend(&mut self, max_iterations: usize, goal: f64) -> (bool, usize) {
        let squares: Vec<f64> = (0..self.coefficients.len())
            .map(|j| dot(self.column(j), self.column(j)))
            .collect();
        let mut gap = self.gap();
        let mut sweeps = 0;
        while gap > 1e-13 * goal && sweeps < max_iterations {
            let mut moved = false;
            for (j, square) in squares
                .iter()
                .enumerate()
                .filter(|(_, square)| **square > 0.0)
            {
                let old = self.coefficients[j];
                let pull = dot(self.column(j), &self.residual) + square * old;
                let new = pull.signum() * (pull.abs() - self.l1).max(0.0) / (square + self.l2);
                if new != old {
                    moved = true;
                    self.coefficients[j] = new;
                    let rows = self.target.len();
                    add(
                        &mut self.residual,
                        old - new,
                        &self.columns[j * rows..][..rows],
                    );
                }
            }
            sweeps += 1;
            if !moved {
                // A fixed point is the optimum, even where rounding keeps the gap open.
                return (true, sweeps);
            }
            if sweeps.is_multiple_of(10) || sweeps == max_iterations {
                self.polish(6_000_000_000 + 8 * sweeps * self.columns.len());
            }
            if sweeps < 10 || sweeps.is_multiple_of(10) || sweeps == max_iterations {
                gap = self.gap();
            }
        }
        (gap <= 1e-8 * goal, sweeps)
    }

    /// Newton steps over the nonzero coefficients, of which those that would change their sign
    /// become 0: sweeps alone crawl along correlated columns.
    fn polish(&mut self, allowance: usize) {
        self.refresh();
        // The limits leave large problems to the sweeps.
        let limit = allowance.min(self.work + 200_000_000);
        while self.work < limit {
            let active: Vec<usize> = (0..self.coefficients.len())
                .filter(|&j| self.coefficients[j] != 0.0)
                .collect();
            if active.is_empty() || active.len() > 1500 {
                break;
            }
            let (step, cost) = self.newton(&active);
            self.work += cost;
            let Some(step) = step else { break };
            let before = self.coefficients.clone();
            let start = self.objective();
            let reach = active
                .iter()
                .zip(&step)
                .map(|(&j, d)| -before[j] / d)
                .filter(|r| *r >= 0.0)
                .fold(1.0, f64::min);
            // Up to the first change of sign the step is downhill for sure; try to go further.
            for scale in [1.0, 0.5, 0.25, reach] {
                for (&j, d) in active.iter().zip(&step) {
                    let new = before[j] + scale * d;
                    let crossed = new * before[j] <= 0.0
                        || scale == reach && reach < 1.0 && -before[j] / d == reach;
                    self.coefficients[j] = if crossed { 0.0 } else { new };
                }
                self.refresh();
                if scale <= reach || self.objective() < start {
                    break;
                }
            }
            if reach >= 1.0 {
                break;
            }
        }
    }

    /// The step to the optimum over the `active` coefficients with their signs fixed, if it can be
    /// told, and what it cost.
    fn newton(&mut self, active: &[usize]) -> (Option<Vec<f64>>, usize) {
        let (rows, width, count) = (self.target.len(), self.coefficients.len(), active.len());
        let mut cost = count * count * count / 3;
        let mut hessian = if width <= 1000 {
            if self.products.is_empty() {
                self.products = gram(&self.columns, rows, width);
            }
            active
                .iter()
                .flat_map(|&i| active.iter().map(move |&j| i * width + j))
                .map(|at| self.products[at])
                .collect()
        } else {
            cost += count * count * rows;
            let chosen: Vec<f64> = active
                .iter()
                .flat_map(|&j| self.column(j).iter().copied())
                .collect();
            gram(&chosen, rows, count)
        };
        // The excess keeps collinear columns definite: it makes the step shorter, never wrong.
        (0..count).for_each(|i| {
            hessian[i * count + i] = hessian[i * count + i] * (1.0 + 1e-10) + self.l2
        });
        if !cholesky(&mut hessian, count, 1e-13) {
            return (None, cost);
        }
        let slope = |&j: &usize| {
            let w = self.coefficients[j];
            dot(self.column(j), &self.residual) - self.l1 * w.signum() - self.l2 * w
        };
        let mut step: Vec<f64> = active.iter().map(slope).collect();
        cholesky_solve(&hessian, count, &mut step);
        (Some(step), cost + count * rows)
    }

    fn objective(&self) -> f64 {
        let size: f64 = self.coefficients.iter().map(|w| w.abs()).sum();
        let squares = dot(&self.residual, &self.residual)
            + self.l2 * dot(&self.coefficients, &self.coefficients);
        0.5 * squares + self.l1 * size
    }

    /// The residual from scratch, so that rounding does not add up.
    fn refresh(&mut self) {
        self.residual.copy_from_slice(&self.target);
        for (&w, column) in self
            .coefficients
            .iter()
            .zip(self.columns.chunks(self.target.len()))
            .filter(|(w, _)| **w != 0.0)
        {
            add(&mut self.residual, -w, column);
        }
    }

    /// Objective minus the dual objective at the residual, shrunk until it is feasible.
    fn gap(&self) -> f64 {
        let steepest = (0..self.coefficients.len())
            .map(|j| (dot(self.column(j), &self.residual) - self.l2 * self.coefficients[j]).abs())
            .fold(0.0, f64::max);
        let shrink = if steepest > self.l1 {
            self.l1 / steepest
        } else {
            1.0
        };
        let size: f64 = self.coefficients.iter().map(|w| w.abs()).sum();
        let squares = dot(&self.residual, &self.residual)
            + self.l2 * dot(&self.coefficients, &self.coefficients);
        0.5 * (1.0 + shrink * shrink) * squares + self.l1 * size
            - shrink * dot(&self.residual, &self.target)
    }
}
