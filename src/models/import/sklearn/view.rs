//! Attributes of an estimator, by name and type, with errors that say which one is wrong.

use std::cell::Cell;

use crate::models::ModelError;
use crate::models::import::python::{Array, ArrayElement, Global, Objects, Value, number};

/// Maximum depth of estimators within estimators.
const DEPTH_MAX: usize = 32;

/// Maximum number of estimators that are read. Values may be shared, so a small file could name an
/// estimator billions of times.
const ESTIMATORS_MAX: usize = 200_000;

/// How many times a file's size is read from its arrays in total, and what is read in any case, in
/// bytes.
const REREAD_MAX: usize = 4;
const REREAD_FREE: usize = 16 << 20;

/// What a number that the compiler keeps or looks at counts as.
const NUMBER_BYTES: usize = 8;

/// What is left of what a file may cost to read.
#[derive(Debug)]
pub(super) struct ReadBudget {
    estimators: Cell<usize>,
    bytes: Cell<usize>,
}

impl ReadBudget {
    /// For a file of this size, in bytes.
    pub(super) fn new(file_bytes: usize) -> Self {
        let bytes = file_bytes.saturating_mul(REREAD_MAX) + REREAD_FREE;
        ReadBudget {
            estimators: Cell::new(ESTIMATORS_MAX),
            bytes: Cell::new(bytes),
        }
    }

    fn take(cell: &Cell<usize>, amount: usize, what: &str) -> Result<(), ModelError> {
        let left = cell.get().checked_sub(amount);
        cell.set(left.ok_or_else(|| format!("it refers to the same {what} again and again"))?);
        Ok(())
    }
}

/// An estimator, or another object, in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) objects: &'a Objects<'a>,
    pub(super) value: Value,
    budget: &'a ReadBudget,
    depth: usize,
}

impl<'a> View<'a> {
    /// The value that a file holds.
    pub(super) fn new(objects: &'a Objects<'a>, value: Value, budget: &'a ReadBudget) -> Self {
        View {
            objects,
            value,
            budget,
            depth: 0,
        }
    }

    /// Another value of the same file, seen as an object within this one.
    ///
    /// # Errors
    ///
    /// There are too many, or they are nested too deeply.
    pub(super) fn at(&self, value: Value) -> Result<View<'a>, ModelError> {
        if self.depth >= DEPTH_MAX {
            let text = format!("estimators are nested more than {DEPTH_MAX} deep");
            return Err(ModelError(text));
        }
        ReadBudget::take(&self.budget.estimators, 1, "estimators")?;
        Ok(View {
            value,
            depth: self.depth + 1,
            ..*self
        })
    }

    /// Counts numbers that a step keeps, or that are looked at for it.
    ///
    /// # Errors
    ///
    /// A small file makes many.
    pub(super) fn spend(&self, numbers: usize) -> Result<(), ModelError> {
        let bytes = numbers.saturating_mul(NUMBER_BYTES);
        ReadBudget::take(&self.budget.bytes, bytes, "columns")
    }

    /// Its class.
    pub(super) fn class(&self) -> Option<&'a Global> {
        self.objects.class(self.value)
    }

    /// Its class without the module, or what it is otherwise.
    pub(super) fn name(&self) -> &'a str {
        match (self.class(), self.value) {
            (Some(class), _) => &class.name,
            (None, Value::None) => "None",
            (None, Value::Text(_)) => "a text",
            (None, Value::Dict(_)) => "a dict",
            (None, Value::List(_) | Value::Tuple(_)) => "a list",
            (None, Value::Array(_)) => "an array",
            (None, Value::Global(_)) => "a function or class",
            _ => "a value",
        }
    }

    /// An error about one of its attributes.
    pub(super) fn wrong(&self, name: &str, must: &str) -> ModelError {
        ModelError(format!("{name} of {} must be {must}", self.name()))
    }

    /// An attribute that is there and not None.
    pub(super) fn get(&self, name: &str) -> Option<Value> {
        let value = self.objects.attribute(self.value, name);
        value.filter(|value| *value != Value::None)
    }

    /// An attribute.
    pub(super) fn need(&self, name: &str) -> Result<Value, ModelError> {
        self.get(name).ok_or_else(|| {
            ModelError(format!(
                "{} lacks the attribute {name}; only a fitted model can be served",
                self.name()
            ))
        })
    }

    /// An attribute that is an object.
    pub(super) fn child(&self, name: &str) -> Result<View<'a>, ModelError> {
        self.at(self.need(name)?)
    }

    /// An attribute that is a number.
    pub(super) fn number(&self, name: &str) -> Result<f64, ModelError> {
        let value = self.need(name)?;
        let single = || self.numbers_of(value).ok().filter(|all| all.len() == 1);
        number(value)
            .or_else(|| single().map(|all| all[0]))
            .ok_or_else(|| self.wrong(name, "a number"))
    }

    /// An attribute that is a count.
    pub(super) fn count(&self, name: &str) -> Result<usize, ModelError> {
        match self.number(name)? {
            count if count >= 0.0 && count.fract() == 0.0 && count < 1e9 => Ok(count as usize),
            _ => Err(self.wrong(name, "a whole number from 0")),
        }
    }

    /// An attribute that is true or false.
    pub(super) fn flag(&self, name: &str) -> Result<bool, ModelError> {
        match self.need(name)? {
            Value::Bool(flag) => Ok(flag),
            Value::Int(number) => Ok(number != 0),
            _ => Err(self.wrong(name, "True or False")),
        }
    }

    /// An attribute that is a text.
    pub(super) fn text(&self, name: &str) -> Result<&'a str, ModelError> {
        let value = self.need(name)?;
        self.objects
            .text(value)
            .ok_or_else(|| self.wrong(name, "a text"))
    }

    /// An attribute that is a text, if it is one.
    pub(super) fn text_if_any(&self, name: &str) -> Option<&'a str> {
        self.objects.text(self.get(name)?)
    }

    /// An attribute that is a list or tuple.
    pub(super) fn list(&self, name: &str) -> Result<&'a [Value], ModelError> {
        let value = self.need(name)?;
        self.objects
            .sequence(value)
            .ok_or_else(|| self.wrong(name, "a list"))
    }

    /// An attribute that is an array.
    pub(super) fn array(&self, name: &str) -> Result<&'a Array, ModelError> {
        let value = self.need(name)?;
        self.array_of(value)
            .map_err(|_| self.wrong(name, "an array"))
    }

    /// A value that is an array.
    pub(super) fn array_of(&self, value: Value) -> Result<&'a Array, ModelError> {
        let array = self.objects.array(value);
        let array = array.ok_or("a value must be an array")?;
        let bytes = array.len().and_then(|count| count.checked_mul(8));
        ReadBudget::take(&self.budget.bytes, bytes.unwrap_or(usize::MAX), "arrays")?;
        Ok(array)
    }

    /// The numbers of an attribute that is an array, or a list of numbers, in the order of its rows.
    pub(super) fn numbers(&self, name: &str) -> Result<Vec<f64>, ModelError> {
        let value = self.need(name)?;
        self.numbers_of(value)
            .map_err(|_| self.wrong(name, "an array of numbers"))
    }

    /// The numbers of an array, a list of numbers, or a number.
    pub(super) fn numbers_of(&self, value: Value) -> Result<Vec<f64>, ModelError> {
        let numbers = match value {
            Value::Array(_) => self.objects.numbers(self.array_of(value)?),
            Value::List(_) | Value::Tuple(_) => {
                let elements = self.objects.sequence(value).unwrap_or_default();
                ReadBudget::take(&self.budget.bytes, elements.len() * 8, "arrays")?;
                elements.iter().map(|element| number(*element)).collect()
            }
            _ => number(value).map(|number| vec![number]),
        };
        numbers.ok_or_else(|| "a value must be an array of numbers".into())
    }

    /// Numbers of an attribute that must be this many.
    pub(super) fn numbers_for(&self, name: &str, count: usize) -> Result<Vec<f64>, ModelError> {
        let numbers = self.numbers(name)?;
        match numbers.len() == count {
            true => Ok(numbers),
            false => Err(self.wrong(
                name,
                &format!("{count} numbers, but they are {}", numbers.len()),
            )),
        }
    }

    /// The elements of an array or a list.
    pub(super) fn elements_of(&self, value: Value) -> Result<Vec<ArrayElement<'a>>, ModelError> {
        let elements = match self.objects.sequence(value) {
            Some(values) => {
                ReadBudget::take(&self.budget.bytes, values.len() * 8, "arrays")?;
                let element = |value: &Value| match self.objects.text(*value) {
                    Some(text) => ArrayElement::Text(text.into()),
                    None => ArrayElement::Value(*value),
                };
                Some(values.iter().map(element).collect())
            }
            None => self.objects.elements(self.array_of(value)?),
        };
        elements.ok_or_else(|| "a value must be an array of texts or numbers".into())
    }

    /// The texts of an attribute that is an array or list of texts; `None` if it is not there.
    pub(super) fn texts_if_any(&self, name: &str) -> Result<Option<Vec<String>>, ModelError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let elements = self.elements_of(value)?.into_iter();
        let text = |element: ArrayElement<'_>| match element {
            ArrayElement::Text(text) => Ok(text.into_owned()),
            ArrayElement::Value(_) => Err(self.wrong(name, "texts")),
        };
        elements.map(text).collect::<Result<_, _>>().map(Some)
    }
}
