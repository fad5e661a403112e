//! A block of rows on its way through a pipeline.

/// Numbers, row after row. The width may be 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Matrix {
    pub(super) values: Vec<f64>,
    pub(super) width: usize,
    pub(super) rows: usize,
}

impl Matrix {
    /// Makes a matrix of another width from this one, row by row. `write` appends exactly `width`
    /// numbers for a row.
    pub(super) fn map(&self, width: usize, mut write: impl FnMut(&[f64], &mut Vec<f64>)) -> Matrix {
        let mut values = Vec::with_capacity(self.rows * width);
        for row in 0..self.rows {
            write(self.row(row), &mut values);
        }
        debug_assert_eq!(values.len(), self.rows * width);
        Matrix {
            values,
            width,
            rows: self.rows,
        }
    }

    /// One row.
    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.width..][..self.width]
    }

    /// The columns of these places, in this order.
    pub(super) fn choose(&self, columns: &[usize]) -> Matrix {
        self.map(columns.len(), |row, out| {
            out.extend(columns.iter().map(|column| row[*column]));
        })
    }

    /// Puts matrices of the same rows side by side.
    pub(super) fn beside(parts: &[Matrix], rows: usize) -> Matrix {
        let width = parts.iter().map(|part| part.width).sum();
        let mut values = Vec::with_capacity(rows * width);
        for row in 0..rows {
            for part in parts {
                values.extend_from_slice(part.row(row));
            }
        }
        Matrix {
            values,
            width,
            rows,
        }
    }
}
