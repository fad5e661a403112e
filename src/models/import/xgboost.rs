//! XGBoost models, as `Booster.save_model` writes them: JSON and UBJSON of versions 1.0 to 3.x.
//!
//! Sources: XGBoost 1.0 to 3.4, `src/learner.cc`, `src/tree/tree_model.cc`, `src/gbm/`, `doc/model.schema`.

mod document;
mod trees;

use serde::Deserialize;

use self::document::{Booster, Categories, XgboostDocument, words_quoted};
use super::{features, numbered, ubjson};
use crate::config::{Iterations, ModelRequest};
use crate::models::forest::link::Link;
use crate::models::forest::model::{ForestModel, Margins, SumMeaning};
use crate::models::forest::plan::Plan;
use crate::models::forest::{FEATURES_MAX, OUTPUTS_MAX, Precision};
use crate::models::format::Format;
use crate::models::signature::{Feature, FeatureKind, Unseen};
use crate::models::{AnswerSpec, LibraryAnswer, Loaded, ModelError, OutputSpec, Signature};

/// XGBoost's own JSON.
#[derive(Debug, Clone, Copy)]
pub struct XgboostJson;

/// XGBoost's own binary JSON.
#[derive(Debug, Clone, Copy)]
pub struct XgboostUbjson;

/// What XGBoost wrote before 1.0, and as `.deprecated` up to 3.0: recognized to be refused.
#[derive(Debug, Clone, Copy)]
pub struct XgboostBinary;

impl Format for XgboostJson {
    fn recognises(&self, head: &[u8]) -> bool {
        head.trim_ascii_start().starts_with(b"{") && holds(head, b"\"learner\"")
    }

    fn load(&self, bytes: &[u8], request: &ModelRequest) -> Result<Loaded, ModelError> {
        let text = words_quoted(bytes);
        let document = serde_json::from_slice(&text)
            .map_err(|error| ModelError(format!("it is not a model of XGBoost ({error})")))?;
        load(document, request, false)
    }
}

impl Format for XgboostUbjson {
    fn recognises(&self, head: &[u8]) -> bool {
        head.starts_with(b"{")
            && head.get(1).is_some_and(|kind| b"iUIlL".contains(kind))
            && holds(head, b"learner")
    }

    fn load(&self, bytes: &[u8], request: &ModelRequest) -> Result<Loaded, ModelError> {
        let document = ubjson::from_slice(bytes)
            .map_err(|error| ModelError(format!("it is not a model of XGBoost ({error})")))?;
        load(document, request, false)
    }
}

/// Reads what XGBoost's `Booster` puts into a pickle: its file and its configuration.
///
/// # Errors
///
/// As a file of its own.
pub(super) fn load_pickled(bytes: &[u8], request: &ModelRequest) -> Result<Loaded, ModelError> {
    if bytes.starts_with(b"binf") || bytes.starts_with(b"CONFIG-offset") {
        return XgboostBinary.load(bytes, request);
    }
    let told = |error: String| ModelError(format!("it is not a model of XGBoost ({error})"));
    // Before 1.6 it is JSON as text.
    let is_text = bytes.get(1).is_some_and(|second| b"\" \n".contains(second));
    let pickled: Pickled = match is_text {
        true => {
            serde_json::from_slice(&words_quoted(bytes)).map_err(|error| told(error.to_string()))?
        }
        false => ubjson::from_slice(bytes).map_err(|error| told(error.to_string()))?,
    };
    load(pickled.model, request, true)
}

/// What XGBoost's `Booster` puts into a pickle.
#[derive(Deserialize)]
struct Pickled {
    #[serde(rename = "Model")]
    model: XgboostDocument,
}

impl Format for XgboostBinary {
    fn recognises(&self, head: &[u8]) -> bool {
        let boosters: [&[u8]; 3] = [b"gbtree", b"gblinear", b"dart"];
        let named = |name: &&[u8]| {
            let length = (name.len() as u64).to_le_bytes();
            holds(head, &[&length[..], name].concat())
        };
        head.starts_with(b"binf") || (!head.starts_with(b"{") && boosters.iter().any(named))
    }

    fn load(&self, _: &[u8], _: &ModelRequest) -> Result<Loaded, ModelError> {
        Err(ModelError(
            "it is in XGBoost's old binary format, which newer versions do not read either; load it with the XGBoost that wrote it, or any from 1.0 to 3.0, and save it as JSON: booster.save_model(\"model.json\")"
                .to_owned(),
        ))
    }
}

fn holds(head: &[u8], part: &[u8]) -> bool {
    head.windows(part.len()).any(|window| window == part)
}

/// How the sums of an objective become an answer, and what the base score is of.
struct XgboostTask {
    link: Link,
    meaning: SumMeaning,
}

fn task(name: &str, version: &[u32], outputs: usize) -> Result<XgboostTask, ModelError> {
    let numbers = |link| XgboostTask {
        link,
        meaning: SumMeaning::Numbers,
    };
    Ok(match name {
        "binary:logistic" if outputs == 1 => XgboostTask {
            link: Link::Logistic { scale: 1.0 },
            meaning: SumMeaning::SecondClass,
        },
        "binary:logistic" | "reg:logistic" => numbers(Link::Logistic { scale: 1.0 }),
        "binary:hinge" if outputs == 1 => XgboostTask {
            link: Link::Step,
            meaning: SumMeaning::Class,
        },
        "binary:hinge" => numbers(Link::Step),
        "multi:softprob" | "multi:softmax" => XgboostTask {
            link: Link::Softmax,
            meaning: SumMeaning::Classes,
        },
        "count:poisson" | "reg:gamma" | "reg:tweedie" | "survival:aft" | "survival:cox" => {
            numbers(Link::Exponential)
        }
        "reg:quantileerror" if version >= &[3, 4][..] => numbers(Link::Sorted),
        "reg:expectileerror" => numbers(Link::Rising),
        "reg:quantileerror"
        | "reg:squarederror"
        | "reg:linear"
        | "reg:squaredlogerror"
        | "reg:absoluteerror"
        | "reg:pseudohubererror"
        | "binary:logitraw"
        | "rank:pairwise"
        | "rank:ndcg"
        | "rank:map" => numbers(Link::Identity),
        _ => {
            return Err(ModelError(format!(
                "the objective {name:?} is not known to lanekeeper"
            )));
        }
    })
}

/// Turns base scores, which are predictions, into sums, as the objective does.
fn base_margins(link: Link, version: &[u32], mut base: Vec<f32>) -> Vec<f64> {
    match link {
        Link::Logistic { .. } => {
            for score in &mut base {
                if version >= &[3, 2][..] {
                    *score = score.clamp(1e-6, 1.0 - 1e-6);
                }
                *score = -(1.0 / *score - 1.0).ln();
            }
        }
        Link::Exponential => base.iter_mut().for_each(|score| *score = score.ln()),
        Link::Rising => {
            for place in (1..base.len()).rev() {
                let gap = (base[place] - base[place - 1] - 1e-6).max(1e-6);
                // The inverse of softplus.
                base[place] = gap + (-(-gap).exp_m1()).ln();
            }
        }
        _ => {}
    }
    base.into_iter().map(f64::from).collect()
}

/// Makes a model. In a pickle, `Booster` is what scikit-learn's wrapper holds.
fn load(
    document: XgboostDocument,
    request: &ModelRequest,
    is_pickled: bool,
) -> Result<Loaded, ModelError> {
    let XgboostDocument { version, learner } = document;
    let param = &learner.learner_model_param;
    let width = param.num_feature.count("num_feature")?;
    if !(1..=FEATURES_MAX).contains(&width) {
        return Err(ModelError(format!(
            "num_feature must be 1 to {FEATURES_MAX}, but is {width}"
        )));
    }
    let classes = param.num_class.count("num_class")?;
    let outputs = classes.max(param.num_target.count("num_target")?).max(1);
    if outputs > OUTPUTS_MAX {
        return Err(ModelError(format!(
            "num_class and num_target must be at most {OUTPUTS_MAX}, but one is {outputs}"
        )));
    }
    let name = learner.objective.name.as_str();
    let mut task = task(name, &version, outputs)?;
    if is_pickled && task.meaning == SumMeaning::Class {
        // The wrapper takes the class for its probability.
        task.meaning = SumMeaning::SecondClass;
    }
    let base = base_scores(&param.base_score.0, outputs)?;
    let base = base_margins(task.link, &version, base);
    let best = learner.attributes.get("best_iteration");
    let best = best.map(|best| best.count("best_iteration")).transpose()?;
    // Only scikit-learn's wrapper writes this attribute.
    let is_wrapped = is_pickled || learner.attributes.contains_key("scikit_learn");
    let uses_best = match request.iterations {
        None => is_wrapped,
        Some(iterations) => iterations == Iterations::Best,
    };
    let (booster, drop) = match learner.gradient_booster {
        Booster {
            gbtree: Some(inner),
            weight_drop,
            ..
        } => (*inner, weight_drop),
        mut booster => {
            let drop = std::mem::take(&mut booster.weight_drop);
            (booster, drop)
        }
    };
    let model = booster
        .model
        .ok_or_else(|| ModelError(format!("the booster {:?} has no model", booster.name)))?;
    let mut features = features(learner.feature_names, width, false)?;
    name_categories(&mut features, &learner.feature_types, model.cats.as_ref())?;
    let (margins, kind) = match model.weights {
        Some(weights) => {
            if weights.len() != (width + 1) * outputs || !weights.iter().all(|one| one.is_finite())
            {
                return Err(ModelError(format!(
                    "there must be {} finite weights, but there are {}",
                    (width + 1) * outputs,
                    weights.len()
                )));
            }
            let margins = Margins::Linear {
                weights,
                base: base.first().map_or(0.0, |base| *base as f32),
                outputs,
            };
            (margins, "xgboost-linear")
        }
        None => {
            let forest = trees::forest(
                model,
                drop,
                (width, outputs),
                base,
                best.filter(|_| uses_best),
            )?;
            (Margins::Trees(Plan::new(&forest)?), "xgboost")
        }
    };
    let output = match task.meaning {
        SumMeaning::Numbers => OutputSpec::Numbers { width: outputs },
        SumMeaning::SecondClass | SumMeaning::SecondClassFromHalf => numbered(2),
        SumMeaning::Class => OutputSpec::Classes {
            labels: vec!["0".to_owned(), "1".to_owned()],
            has_probabilities: false,
        },
        SumMeaning::Classes => numbered(outputs),
    };
    let notes = best
        .filter(|_| matches!(margins, Margins::Trees(_)))
        .map(|best| {
            let used = match uses_best {
                true => "only those up to it are used, as scikit-learn's wrapper does; --iterations all uses all",
                false => "all iterations are used, as Booster.predict does; --iterations best uses only those up to it",
            };
            format!("training stopped early and iteration {best} was the best; {used}")
        })
        .into_iter()
        .collect();
    let output = output.with_labels(&request.classes)?;
    let library = match name {
        "multi:softmax" => LibraryAnswer::Index,
        _ => task.meaning.library(),
    };
    // The wrapper answers with labels.
    let answer = match is_wrapped {
        true => AnswerSpec::of_labels(&output).in_precision(Precision::F32),
        false => AnswerSpec::of_library(library, &output, Precision::F32),
    };
    Ok(Loaded {
        name: String::new(),
        version: String::new(),
        algorithm: kind.to_owned(),
        answer,
        model: Box::new(ForestModel {
            signature: Signature { features, output },
            margins,
            precision: Precision::F32,
            adjustment: None,
            divisor: 1.0,
            link: task.link,
            meaning: task.meaning,
        }),
        golden: Vec::new(),
        example: None,
        exactness: None,
        notes,
    })
}

/// Reads `5E-1`, or since 3.1 `[5E-1]` and `[1E0,2E0]`; one serves all outputs.
fn base_scores(text: &str, outputs: usize) -> Result<Vec<f32>, ModelError> {
    let fail = || {
        ModelError(format!(
            "base_score must be a finite number, or {outputs} of them, but is {text:?}"
        ))
    };
    let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
    let scores: Option<Vec<f32>> = inner
        .split(',')
        .map(|score| {
            score
                .trim()
                .parse()
                .ok()
                .filter(|score: &f32| score.is_finite())
        })
        .collect();
    let mut scores = scores.ok_or_else(fail)?;
    if scores.len() == 1 {
        scores = vec![scores[0]; outputs];
    }
    (scores.len() == outputs).then_some(scores).ok_or_else(fail)
}

/// Gives features their categories' names, if the file has them (since 3.1).
fn name_categories(
    features: &mut [Feature],
    types: &[String],
    cats: Option<&Categories>,
) -> Result<(), ModelError> {
    let encodings = cats.map_or(&[][..], |cats| &cats.enc);
    for (place, encoding) in encodings.iter().enumerate() {
        let is_category = types.get(place).is_none_or(|kind| kind == "c");
        if encoding.values.is_empty() && encoding.offsets.as_ref().is_none_or(|all| all.len() < 2)
            || !is_category
        {
            continue;
        }
        let feature = features
            .get_mut(place)
            .ok_or("there are categories for more features than there are")?;
        let labels = match &encoding.offsets {
            Some(offsets) => texts(offsets, &encoding.values),
            None => Some(
                encoding
                    .values
                    .iter()
                    .map(|value| value.to_string())
                    .collect(),
            ),
        };
        let labels = labels.ok_or_else(|| {
            ModelError(format!(
                "the categories of {:?} are not UTF-8 texts",
                feature.name
            ))
        })?;
        feature.kind = FeatureKind::Category {
            labels: labels.into(),
            unseen: Unseen::Code,
        };
    }
    Ok(())
}

/// Cuts bytes, which stand there as signed numbers, into texts.
fn texts(offsets: &[usize], values: &[f64]) -> Option<Vec<String>> {
    let bytes: Vec<u8> = values.iter().map(|value| *value as i64 as u8).collect();
    let text = |pair: &[usize]| {
        let bytes = bytes.get(pair[0]..pair[1])?;
        String::from_utf8(bytes.to_vec()).ok()
    };
    offsets.windows(2).map(text).collect()
}
