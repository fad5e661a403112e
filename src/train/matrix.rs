//! Dense matrix factorisations for the linear models.

/// Inner product in eight lanes, which the compiler turns into vector code.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (left, right) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f64 = left
        .remainder()
        .iter()
        .zip(right.remainder())
        .map(|(x, y)| x * y)
        .sum();
    let mut lanes = [0.0; 8];
    for (x, y) in left.zip(right) {
        for lane in 0..8 {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    lanes.iter().sum::<f64>() + tail
}

/// `target += factor * source`.
pub(crate) fn add(target: &mut [f64], factor: f64, source: &[f64]) {
    for (t, s) in target.iter_mut().zip(source) {
        *t += factor * s;
    }
}

/// Inner products of the columns, by blocks of rows that stay in the cache; both triangles.
pub(crate) fn gram(columns: &[f64], height: usize, count: usize) -> Vec<f64> {
    let mut gram = vec![0.0; count * count];
    for start in (0..height).step_by(1024) {
        let end = height.min(start + 1024);
        for i in 0..count {
            for j in 0..=i {
                gram[i * count + j] += dot(
                    &columns[i * height + start..i * height + end],
                    &columns[j * height + start..j * height + end],
                );
                gram[j * count + i] = gram[i * count + j];
            }
        }
    }
    gram
}

/// Lower Cholesky factor in place; false if a pivot falls to `limit` of its diagonal or below.
pub(crate) fn cholesky(matrix: &mut [f64], size: usize, limit: f64) -> bool {
    for i in 0..size {
        let (above, below) = matrix.split_at_mut(i * size);
        for j in 0..i {
            let row = &above[j * size..];
            below[j] = (below[j] - dot(&below[..j], &row[..j])) / row[j];
        }
        let pivot = below[i] - dot(&below[..i], &below[..i]);
        if !(pivot > limit * below[i] && pivot.is_finite()) {
            return false;
        }
        below[i] = pivot.sqrt();
    }
    true
}

/// `L^-1 v` in place, for a lower factor.
pub(crate) fn forward_solve(factor: &[f64], size: usize, right: &mut [f64]) {
    for i in 0..size {
        right[i] = (right[i] - dot(&factor[i * size..][..i], &right[..i])) / factor[i * size + i];
    }
}

pub(crate) fn cholesky_solve(factor: &[f64], size: usize, right: &mut [f64]) {
    forward_solve(factor, size, right);
    for i in (0..size).rev() {
        right[i] /= factor[i * size + i];
        let solved = right[i];
        add(&mut right[..i], -solved, &factor[i * size..][..i]);
    }
}

/// Householder QR with column pivoting, stopped at the numerical rank.
pub(crate) struct Qr {
    /// Column-major: R above the diagonal, the reflectors from the diagonal down.
    data: Vec<f64>,
    rows: usize,
    order: Vec<usize>,
    /// Diagonal of R; its length is the rank.
    diagonal: Vec<f64>,
}

impl Qr {
    /// Stops when every remaining column is within its own `noise`, or `tolerance` of the first pivot.
    pub(crate) fn new(mut data: Vec<f64>, rows: usize, noise: &[f64], tolerance: f64) -> Qr {
        let count = noise.len();
        let mut order: Vec<usize> = (0..count).collect();
        let mut diagonal: Vec<f64> = Vec::new();
        for k in 0..count.min(rows) {
            let (mut best, mut length) = (k, 0.0);
            for j in k..count {
                let rest = &data[j * rows + k..(j + 1) * rows];
                let norm = dot(rest, rest).sqrt();
                if norm > length && norm > noise[order[j]] {
                    (best, length) = (j, norm);
                }
            }
            if length <= tolerance * diagonal.first().map_or(0.0, |d| d.abs()) {
                break;
            }
            order.swap(k, best);
            (0..rows).for_each(|i| data.swap(k * rows + i, best * rows + i));
            // The sign that avoids cancellation.
            let pivot = if data[k * rows + k] > 0.0 {
                -length
            } else {
                length
            };
            data[k * rows + k] -= pivot;
            diagonal.push(pivot);
            let (done, rest) = data.split_at_mut((k + 1) * rows);
            let reflector = &done[k * rows + k..];
            rest.chunks_mut(rows)
                .for_each(|column| reflect(reflector, &mut column[k..]));
        }
        Qr {
            data,
            rows,
            order,
            diagonal,
        }
    }

    /// `Q^T v` in place, or `Q v` backwards.
    pub(crate) fn rotate(&self, vector: &mut [f64], backwards: bool) {
        let rank = self.diagonal.len();
        for step in 0..rank {
            let k = if backwards { rank - 1 - step } else { step };
            reflect(
                &self.data[k * self.rows + k..(k + 1) * self.rows],
                &mut vector[k..],
            );
        }
    }

    /// `R^-1 v` in place, with the square part of R.
    fn solve_upper(&self, vector: &mut [f64]) {
        for k in (0..self.diagonal.len()).rev() {
            vector[k] /= self.diagonal[k];
            let solved = vector[k];
            add(&mut vector[..k], -solved, &self.data[k * self.rows..][..k]);
        }
    }

    /// `R^-T v` in place, with the square part of R.
    fn solve_lower(&self, vector: &mut [f64]) {
        for k in 0..self.diagonal.len() {
            vector[k] = (vector[k] - dot(&self.data[k * self.rows..][..k], &vector[..k]))
                / self.diagonal[k];
        }
    }

    /// R with its columns back in their places, column-major of the given height.
    pub(crate) fn triangle(&self, height: usize) -> Vec<f64> {
        let mut out = vec![0.0; height * self.order.len()];
        for (k, &column) in self.order.iter().enumerate() {
            let above = k.min(self.diagonal.len());
            out[column * height..][..above].copy_from_slice(&self.data[k * self.rows..][..above]);
            if let Some(pivot) = self.diagonal.get(k) {
                out[column * height + k] = *pivot;
            }
        }
        out
    }

    /// QR of the transposed rows of R, in unpivoted column order: reduces a rank-deficient problem
    /// to a regular one.
    fn complete(&self) -> Qr {
        let (rank, count) = (self.diagonal.len(), self.order.len());
        let triangle = self.triangle(rank);
        let flipped = (0..rank * count)
            .map(|at| triangle[at % count * rank + at / count])
            .collect();
        Qr::new(flipped, count, &vec![0.0; rank], 0.0)
    }

    /// The shortest w of the smallest `||T w - y||`.
    pub(crate) fn least_squares(&self, target: &[f64]) -> Vec<f64> {
        let mut rotated = target.to_vec();
        rotated.resize(self.rows, 0.0);
        self.rotate(&mut rotated, false);
        let mut out = vec![0.0; self.order.len()];
        if self.diagonal.len() == out.len() {
            self.solve_upper(&mut rotated);
            self.order
                .iter()
                .zip(&rotated)
                .for_each(|(&column, value)| out[column] = *value);
            return out;
        }
        let second = self.complete();
        second
            .order
            .iter()
            .zip(&mut out)
            .for_each(|(&from, to)| *to = rotated[from]);
        second.solve_lower(&mut out);
        second.rotate(&mut out, true);
        out
    }

    /// The shortest w of the smallest `||T^T w - y||`.
    pub(crate) fn minimum_norm(&self, target: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; self.rows];
        if self.diagonal.len() == self.order.len() {
            self.order
                .iter()
                .zip(&mut out)
                .for_each(|(&from, to)| *to = target[from]);
            self.solve_lower(&mut out);
        } else {
            let second = self.complete();
            let mut rotated = target.to_vec();
            second.rotate(&mut rotated, false);
            second.solve_upper(&mut rotated);
            second
                .order
                .iter()
                .zip(&rotated)
                .for_each(|(&to, value)| out[to] = *value);
        }
        self.rotate(&mut out, true);
        out
    }
}

/// Householder reflection of `vector` across the plane normal to `normal`.
fn reflect(normal: &[f64], vector: &mut [f64]) {
    let factor = -2.0 * dot(normal, vector) / dot(normal, normal);
    add(vector, factor, normal);
}
