//! XGBoost's document, as serde reads it from JSON and UBJSON.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use crate::models::ModelError;

/// Puts XGBoost's words `NaN`, `Infinity` and `-Infinity`, which are not JSON, between quotes.
pub(super) fn words_quoted(bytes: &[u8]) -> Cow<'_, [u8]> {
    const WORDS: [&[u8]; 3] = [b"NaN", b"-Infinity", b"Infinity"];
    let mut quoted: Option<Vec<u8>> = None;
    let mut copied = 0;
    let mut in_text = false;
    let mut place = 0;
    while place < bytes.len() {
        match bytes[place] {
            b'\\' if in_text => place += 1,
            b'"' => in_text = !in_text,
            b'N' | b'I' | b'-' if !in_text => {
                let rest = &bytes[place..];
                if let Some(word) = WORDS.into_iter().find(|word| rest.starts_with(word)) {
                    let out = quoted.get_or_insert_default();
                    out.extend_from_slice(&bytes[copied..place]);
                    out.push(b'"');
                    out.extend_from_slice(word);
                    out.push(b'"');
                    place += word.len();
                    copied = place;
                    continue;
                }
            }
            _ => {}
        }
        place += 1;
    }
    match quoted {
        Some(mut out) => {
            out.extend_from_slice(&bytes[copied.min(bytes.len())..]);
            Cow::Owned(out)
        }
        None => Cow::Borrowed(bytes),
    }
}

#[derive(Deserialize)]
pub(super) struct XgboostDocument {
    #[serde(default)]
    pub(super) version: Vec<u32>,
    pub(super) learner: Learner,
}

#[derive(Deserialize)]
pub(super) struct Learner {
    #[serde(default)]
    pub(super) attributes: BTreeMap<String, Word>,
    #[serde(default)]
    pub(super) feature_names: Vec<String>,
    #[serde(default)]
    pub(super) feature_types: Vec<String>,
    pub(super) gradient_booster: Booster,
    pub(super) learner_model_param: LearnerParam,
    pub(super) objective: Objective,
}

#[derive(Deserialize)]
pub(super) struct LearnerParam {
    pub(super) base_score: Word,
    #[serde(default)]
    pub(super) num_class: Word,
    pub(super) num_feature: Word,
    #[serde(default)]
    pub(super) num_target: Word,
}

#[derive(Deserialize)]
pub(super) struct Objective {
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct Booster {
    pub(super) name: String,
    pub(super) model: Option<BoosterModel>,
    /// The trees of `dart` before 3.3.
    pub(super) gbtree: Option<Box<Booster>>,
    #[serde(default)]
    pub(super) weight_drop: Vec<f32>,
}

#[derive(Deserialize)]
pub(super) struct BoosterModel {
    #[serde(default)]
    pub(super) trees: Vec<XgboostTree>,
    #[serde(default)]
    pub(super) tree_info: Vec<i64>,
    #[serde(default)]
    pub(super) iteration_indptr: Vec<i64>,
    pub(super) gbtree_model_param: Option<TreesParam>,
    #[serde(default)]
    pub(super) weight_drop: Vec<f32>,
    pub(super) cats: Option<Categories>,
    /// Those of `gblinear`.
    pub(super) weights: Option<Vec<f32>>,
}

#[derive(Deserialize)]
pub(super) struct TreesParam {
    #[serde(default)]
    pub(super) num_parallel_tree: Word,
}

#[derive(Deserialize)]
pub(super) struct XgboostTree {
    #[serde(default)]
    pub(super) tree_param: TreeParam,
    pub(super) left_children: Vec<i64>,
    pub(super) right_children: Vec<i64>,
    pub(super) split_indices: Vec<i64>,
    pub(super) split_conditions: Vec<f32>,
    pub(super) default_left: Vec<Flag>,
    #[serde(default)]
    pub(super) sum_hessian: Covers,
    #[serde(default)]
    pub(super) split_type: Vec<Flag>,
    #[serde(default)]
    pub(super) categories: Vec<i64>,
    #[serde(default)]
    pub(super) categories_nodes: Vec<i64>,
    #[serde(default)]
    pub(super) categories_segments: Vec<i64>,
    #[serde(default)]
    pub(super) categories_sizes: Vec<i64>,
    /// The values of leaves of several, before 3.2.
    #[serde(default)]
    pub(super) base_weights: Covers,
    /// The same since 3.2.
    pub(super) leaf_weights: Option<Vec<f32>>,
}

#[derive(Deserialize, Default)]
pub(super) struct TreeParam {
    #[serde(default)]
    pub(super) size_leaf_vector: Word,
}

#[derive(Deserialize)]
pub(super) struct Categories {
    #[serde(default)]
    pub(super) enc: Vec<CategoryEncoding>,
}

/// A feature's categories: texts by their offsets, or numbers.
#[derive(Deserialize)]
pub(super) struct CategoryEncoding {
    pub(super) offsets: Option<Vec<usize>>,
    #[serde(default)]
    pub(super) values: Vec<f64>,
}

/// A parameter: XGBoost writes all of them as texts.
#[derive(Debug, Default)]
pub(super) struct Word(pub(super) String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordVisitor;
        impl Visitor<'_> for WordVisitor {
            type Value = Word;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a parameter as a string")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Word, E> {
                Ok(Word(text.to_owned()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
        }
        deserializer.deserialize_any(WordVisitor)
    }
}

impl Word {
    pub(super) fn count(&self, name: &str) -> Result<usize, ModelError> {
        if self.0.is_empty() {
            return Ok(0);
        }
        let fail = |_| ModelError(format!("{name} must be a count, but is {:?}", self.0));
        self.0.trim().parse().map_err(fail)
    }
}

/// True or false, or 1 or 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flag(pub(super) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagVisitor;
        impl Visitor<'_> for FlagVisitor {
            type Value = Flag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, 1 or 0")
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<Flag, E> {
                Ok(Flag(flag))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Flag, E> {
                Ok(Flag(number != 0))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Flag, E> {
                Ok(Flag(number != 0))
            }
        }
        deserializer.deserialize_any(FlagVisitor)
    }
}

/// Numbers of which some may be the words `NaN` and `Infinity`, which become NaN.
#[derive(Debug, Default)]
pub(super) struct Covers(pub(super) Vec<f32>);

impl<'de> Deserialize<'de> for Covers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Cover(f32);
        impl<'de> Deserialize<'de> for Cover {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct CoverVisitor;
                impl Visitor<'_> for CoverVisitor {
                    type Value = Cover;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a number")
                    }

                    fn visit_f64<E: Error>(self, number: f64) -> Result<Cover, E> {
                        Ok(Cover(number as f32))
                    }

                    fn visit_i64<E: Error>(self, number: i64) -> Result<Cover, E> {
                        Ok(Cover(number as f32))
                    }

                    fn visit_u64<E: Error>(self, number: u64) -> Result<Cover, E> {
                        Ok(Cover(number as f32))
                    }

                    fn visit_str<E: Error>(self, _: &str) -> Result<Cover, E> {
                        Ok(Cover(f32::NAN))
                    }
                }
                deserializer.deserialize_any(CoverVisitor)
            }
        }
        struct CoversVisitor;
        impl<'de> Visitor<'de> for CoversVisitor {
            type Value = Covers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Covers, A::Error> {
                let mut covers = Vec::new();
                while let Some(Cover(cover)) = items.next_element()? {
                    covers.push(cover);
                }
                Ok(Covers(covers))
            }
        }
        deserializer.deserialize_any(CoversVisitor)
    }
}
