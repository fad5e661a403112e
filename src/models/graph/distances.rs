//! Distances of rows to stored points, as nearest neighbours need them.

use super::Kernel;

/// How far apart two points are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointMetric {
    /// The sum of squared differences.
    SquaredEuclidean,
    /// Its square root.
    Euclidean,
    /// The sum of differences without sign.
    Manhattan,
}

/// The distances of each row of `width` numbers to each stored point, in 32 bits if that is asked for.
/// `points_first` puts all rows of a point together.
pub fn distances(
    points: Vec<f64>,
    width: usize,
    metric: PointMetric,
    is_f32: bool,
    points_first: bool,
) -> Kernel {
    Box::new(move |_, inputs| {
        let width = width.max(1);
        let round = |value: f64| {
            if is_f32 {
                f64::from(value as f32)
            } else {
                value
            }
        };
        let distance = |row: &[f64], point: &[f64]| {
            let pairs = row.iter().zip(point).map(|(one, other)| round(one - other));
            let sum: f64 = match metric {
                PointMetric::Manhattan => pairs.map(f64::abs).sum(),
                _ => pairs.map(|difference| difference * difference).sum(),
            };
            match metric {
                PointMetric::Euclidean => round(round(sum).sqrt()),
                _ => round(sum),
            }
        };
        let rows = inputs[0].chunks_exact(width);
        let all = points.chunks_exact(width);
        Ok(vec![match points_first {
            true => all
                .flat_map(|point| rows.clone().map(move |row| distance(row, point)))
                .collect(),
            false => rows
                .flat_map(|row| all.clone().map(move |point| distance(row, point)))
                .collect(),
        }])
    })
}
