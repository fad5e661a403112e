//! Shapes of tensors whose number of rows is not known before a request.

use crate::models::ModelError;

/// Maximum number of numbers that a tensor has for each row.
const ROW_NUMBERS_MAX: usize = 1 << 21;

/// Maximum number of numbers of a constant.
const CONSTANT_NUMBERS_MAX: usize = 1 << 28;

/// Why a graph is not served that computes with rows together.
const ACROSS_ROWS: &str = "it works across rows, so the answer to a row would depend on the others";

/// The size of a dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// Always this many.
    Fixed(usize),
    /// This many for each row; rows are outermost.
    Rows(usize),
}

impl Dim {
    /// The size for this many rows.
    pub fn size(self, rows: usize) -> usize {
        match self {
            Dim::Fixed(size) => size,
            Dim::Rows(size) => size * rows,
        }
    }

    /// The size for one row.
    pub fn unit(self) -> usize {
        self.size(1)
    }
}

/// A size that a graph computes with: a number, or as many for each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// A number; a shape may have -1 for what is left, and 0 for what was there.
    Number(i64),
    /// This many for each row.
    Rows(usize),
}

/// A tensor's dimensions. At most one of them has rows, and rows are in the same order everywhere, so
/// that what becomes of a row depends on it alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shape(Vec<Dim>);

impl Shape {
    /// Makes a shape.
    ///
    /// # Errors
    ///
    /// Rows in two dimensions, or too large.
    pub fn new(dims: Vec<Dim>) -> Result<Self, ModelError> {
        let with_rows = dims.iter().filter(|dim| matches!(dim, Dim::Rows(_)));
        let most = match with_rows.count() {
            0 => CONSTANT_NUMBERS_MAX,
            1 => ROW_NUMBERS_MAX,
            _ => return Err(ACROSS_ROWS.into()),
        };
        let numbers = dims
            .iter()
            .try_fold(1_usize, |numbers, dim| numbers.checked_mul(dim.unit()));
        match numbers {
            Some(numbers) if numbers <= most => Ok(Shape(dims)),
            _ => Err(ModelError(format!(
                "a tensor may have {ROW_NUMBERS_MAX} numbers for each row, and a constant {CONSTANT_NUMBERS_MAX}"
            ))),
        }
    }

    /// The shape of a constant.
    ///
    /// # Errors
    ///
    /// Too large.
    pub fn fixed(dims: &[usize]) -> Result<Self, ModelError> {
        Self::new(dims.iter().copied().map(Dim::Fixed).collect())
    }

    /// Its dimensions.
    pub fn dims(&self) -> &[Dim] {
        &self.0
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The sizes for this many rows.
    pub fn sizes(&self, rows: usize) -> Vec<usize> {
        self.0.iter().map(|dim| dim.size(rows)).collect()
    }

    /// Number of numbers for each row, or of a constant.
    pub fn unit(&self) -> usize {
        self.0.iter().map(|dim| dim.unit()).product()
    }

    /// Number of numbers for this many rows.
    pub fn numbers(&self, rows: usize) -> usize {
        self.0.iter().map(|dim| dim.size(rows)).product()
    }

    /// The dimension that has rows.
    pub fn rows_axis(&self) -> Option<usize> {
        self.0.iter().position(|dim| matches!(dim, Dim::Rows(_)))
    }

    /// Whether its numbers stand row after row.
    pub fn is_by_row(&self) -> bool {
        self.before_rows() == Some(1)
    }

    /// Number of blocks of rows: the product of the dimensions before the rows.
    fn before_rows(&self) -> Option<usize> {
        let axis = self.rows_axis()?;
        Some(self.0[..axis].iter().map(|dim| dim.unit()).product())
    }

    /// An axis that may count from the end.
    ///
    /// # Errors
    ///
    /// There is no such axis.
    pub fn axis(&self, axis: i64) -> Result<usize, ModelError> {
        axis_of(axis, self.rank())
    }

    /// An axis that has no rows.
    ///
    /// # Errors
    ///
    /// It has, or there is none.
    pub fn fixed_axis(&self, axis: i64) -> Result<usize, ModelError> {
        let axis = self.axis(axis)?;
        match self.0[axis] {
            Dim::Fixed(_) => Ok(axis),
            Dim::Rows(_) => Err(ACROSS_ROWS.into()),
        }
    }

    /// The same numbers in other dimensions: 0 keeps one, and -1 takes what is left.
    ///
    /// # Errors
    ///
    /// They do not fit, or rows would be mixed.
    pub fn reshaped(&self, wanted: &[Size], keeps_zero: bool) -> Result<Shape, ModelError> {
        let wrong = || ModelError(format!("{self} cannot be reshaped to {wanted:?}"));
        let mut dims = Vec::with_capacity(wanted.len());
        let mut open = None;
        for (place, size) in wanted.iter().enumerate() {
            dims.push(match size {
                Size::Rows(size) => Dim::Rows(*size),
                Size::Number(-1) if open.is_none() => {
                    open = Some(place);
                    Dim::Fixed(1)
                }
                Size::Number(0) if !keeps_zero => *self.0.get(place).ok_or_else(wrong)?,
                Size::Number(size) => Dim::Fixed(usize::try_from(*size).map_err(|_| wrong())?),
            });
        }
        if let Some(open) = open {
            let known: usize = dims.iter().map(|dim| dim.unit()).product();
            let unit = self.unit();
            if known == 0 || !unit.is_multiple_of(known) {
                return Err(wrong());
            }
            let has_rows = dims.iter().any(|dim| matches!(dim, Dim::Rows(_)));
            dims[open] = match self.rows_axis().is_some() && !has_rows {
                true => Dim::Rows(unit / known),
                false => Dim::Fixed(unit / known),
            };
        }
        self.with_dims(dims)
    }

    /// The same numbers in these dimensions.
    ///
    /// # Errors
    ///
    /// They do not fit, or rows would be mixed.
    pub fn with_dims(&self, dims: Vec<Dim>) -> Result<Shape, ModelError> {
        let new = Shape::new(dims)?;
        match new.unit() == self.unit() && new.before_rows() == self.before_rows() {
            true => Ok(new),
            false => Err(ModelError(format!("{self} cannot be reshaped to {new}"))),
        }
    }

    /// The shape of a result that both are spread over.
    ///
    /// # Errors
    ///
    /// They do not fit.
    pub fn broadcast(&self, other: &Shape) -> Result<Shape, ModelError> {
        let rank = self.rank().max(other.rank());
        let dim = |shape: &Shape, place: usize| match (place + shape.rank()).checked_sub(rank) {
            Some(place) => shape.0[place],
            None => Dim::Fixed(1),
        };
        let dims = (0..rank).map(|place| match (dim(self, place), dim(other, place)) {
            (one, Dim::Fixed(1)) => Ok(one),
            (Dim::Fixed(1), one) => Ok(one),
            (one, two) if one == two => Ok(one),
            _ => Err(ModelError(format!(
                "{self} and {other} do not fit together"
            ))),
        });
        Shape::new(dims.collect::<Result<_, _>>()?)
    }

    /// The same with another size at an axis.
    ///
    /// # Errors
    ///
    /// Too large.
    pub fn with(&self, axis: usize, dim: Dim) -> Result<Shape, ModelError> {
        let mut dims = self.0.clone();
        dims[axis] = dim;
        Shape::new(dims)
    }

    /// For each of this many dimensions how far apart neighbours are; 0 where it is spread.
    pub fn strides(&self, rank: usize, rows: usize) -> Vec<usize> {
        let mut strides = vec![0; rank];
        let mut step = 1;
        for (place, dim) in self.0.iter().enumerate().rev() {
            let size = dim.size(rows);
            if *dim != Dim::Fixed(1) {
                strides[place + rank - self.rank()] = step;
            }
            step *= size;
        }
        strides
    }
}

/// An axis that may count from the end.
///
/// # Errors
///
/// There is no such axis.
pub fn axis_of(axis: i64, rank: usize) -> Result<usize, ModelError> {
    let from_start = match axis < 0 {
        true => axis + rank as i64,
        false => axis,
    };
    usize::try_from(from_start)
        .ok()
        .filter(|axis| *axis < rank)
        .ok_or_else(|| ModelError(format!("there is no axis {axis} of {rank}")))
}

/// As in `[rows, 3]`.
impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dims = self.0.iter().map(|dim| match dim {
            Dim::Fixed(size) => size.to_string(),
            Dim::Rows(1) => "rows".to_owned(),
            Dim::Rows(size) => format!("{size} × rows"),
        });
        write!(f, "[{}]", dims.collect::<Vec<_>>().join(", "))
    }
}
