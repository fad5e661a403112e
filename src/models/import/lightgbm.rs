//! LightGBM models, as `Booster.save_model` writes them: text of versions 2.3 to 4.x.
//!
//! Source: LightGBM 2.3 to 4.7, `src/boosting/gbdt_model_text.cpp`, `src/io/tree.cpp`,
//! `python-package/lightgbm/basic.py`.

use std::collections::HashMap;
use std::str::FromStr;

use serde_json::Value;

use super::{features, numbered};
use crate::config::ModelRequest;
use crate::models::forest::link::Link;
use crate::models::forest::model::{ForestModel, Margins, SumMeaning};
use crate::models::forest::plan::Plan;
use crate::models::forest::{
    CategoryRule, FEATURES_MAX, Forest, LinearLeaf, Missing, Node, NodeKind, OUTPUTS_MAX,
    Precision, Test, Tree,
};
use crate::models::format::Format;
use crate::models::signature::{Feature, FeatureKind, Unseen};
use crate::models::{AnswerSpec, Loaded, ModelError, OutputSpec, Signature};

/// Bits of `decision_type`.
const IS_CATEGORY: u8 = 1;
const IS_DEFAULT_LEFT: u8 = 2;
const MISSING_SHIFT: u8 = 2;

/// LightGBM's text.
#[derive(Debug, Clone, Copy)]
pub struct LightGbm;

/// `key=value` lines.
type Lines<'a> = HashMap<&'a str, &'a str>;

/// The sections of a file.
struct Parts<'a> {
    head: Lines<'a>,
    trees: Vec<Lines<'a>>,
    /// What stands behind the trees.
    tail: Vec<&'a str>,
}

impl Format for LightGbm {
    fn recognises(&self, head: &[u8]) -> bool {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.lines();
        lines.next() == Some("tree")
            && lines.any(|line| line.starts_with("num_tree_per_iteration="))
    }

    fn load(&self, bytes: &[u8], request: &ModelRequest) -> Result<Loaded, ModelError> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
        load_text(text, None, request)
    }
}

/// Reads a file's text. Of its iterations at most the first `iterations_max` are used.
///
/// # Errors
///
/// What is wrong with it, in one line.
pub(super) fn load_text(
    text: &str,
    iterations_max: Option<usize>,
    request: &ModelRequest,
) -> Result<Loaded, ModelError> {
    let Parts {
        head,
        mut trees,
        tail,
    } = parts(text)?;
    let width = one::<usize>(&head, "max_feature_idx")?.saturating_add(1);
    if !(1..=FEATURES_MAX).contains(&width) {
        return Err(ModelError(format!(
            "max_feature_idx must be below {FEATURES_MAX}, but is {}",
            width - 1
        )));
    }
    let outputs = one::<usize>(&head, "num_tree_per_iteration")?;
    if !(1..=OUTPUTS_MAX).contains(&outputs) {
        return Err(ModelError(format!(
            "num_tree_per_iteration must be 1 to {OUTPUTS_MAX}, but is {outputs}"
        )));
    }
    if !trees.len().is_multiple_of(outputs) {
        return Err(ModelError(format!(
            "there must be {outputs} trees an iteration, but there are {}",
            trees.len()
        )));
    }
    if let Some(iterations) = iterations_max {
        trees.truncate(iterations.saturating_mul(outputs));
    }
    let task = task(head.get("objective").copied(), outputs)?;
    let names = head.get("feature_names").map_or_else(Vec::new, |names| {
        names.split(' ').map(str::to_owned).collect()
    });
    let mut features = features(names, width, true)?;
    name_categories(&mut features, &tail, &head)?;
    let iterations = trees.len() / outputs;
    let trees = trees.iter().enumerate().map(|(index, lines)| {
        tree(lines, index % outputs).map_err(|reason| ModelError(format!("tree {index}: {reason}")))
    });
    let forest = Forest {
        width,
        outputs,
        row_precision: Precision::F64,
        sum_precision: Precision::F64,
        flushes_to_zero: true,
        base: vec![0.0; outputs],
        trees: trees.collect::<Result<_, _>>()?,
    };
    let output = match task.meaning {
        SumMeaning::Numbers => OutputSpec::Numbers { width: outputs },
        SumMeaning::SecondClass | SumMeaning::SecondClassFromHalf | SumMeaning::Class => {
            numbered(2)
        }
        SumMeaning::Classes => numbered(outputs),
    };
    let divisor = match head.contains_key("average_output") {
        true => iterations.max(1) as f64,
        false => 1.0,
    };
    let output = output.with_labels(&request.classes)?;
    Ok(Loaded {
        name: String::new(),
        version: String::new(),
        algorithm: "lightgbm".to_owned(),
        answer: AnswerSpec::of_library(task.meaning.library(), &output, Precision::F64),
        model: Box::new(ForestModel {
            signature: Signature { features, output },
            margins: Margins::Trees(Plan::new(&forest)?),
            precision: Precision::F64,
            adjustment: None,
            divisor,
            link: task.link,
            meaning: task.meaning,
        }),
        golden: Vec::new(),
        example: None,
        exactness: None,
        notes: Vec::new(),
    })
}

/// Cuts a file into its header, its trees, and what follows them.
fn parts(text: &str) -> Result<Parts<'_>, ModelError> {
    let mut lines = text.lines();
    let mut parts = Parts {
        head: HashMap::new(),
        trees: Vec::new(),
        tail: Vec::new(),
    };
    let mut is_whole = false;
    for line in lines.by_ref().skip(1) {
        if line == "end of trees" {
            is_whole = true;
            break;
        }
        if line.starts_with("Tree=") {
            parts.trees.push(HashMap::new());
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        parts
            .trees
            .last_mut()
            .unwrap_or(&mut parts.head)
            .insert(key, value);
    }
    if !is_whole {
        return Err(ModelError(
            "it is truncated: it has no line \"end of trees\"".to_owned(),
        ));
    }
    parts.tail = lines.collect();
    Ok(parts)
}

fn one<T: FromStr>(lines: &Lines<'_>, key: &str) -> Result<T, String> {
    let text = lines.get(key).ok_or_else(|| format!("{key} is missing"))?;
    text.trim()
        .parse()
        .map_err(|_| format!("{key} must be a number, but is {text:?}"))
}

fn many<T: FromStr>(lines: &Lines<'_>, key: &str, count: usize) -> Result<Vec<T>, String> {
    let text = lines.get(key).ok_or_else(|| format!("{key} is missing"))?;
    let numbers: Result<Vec<T>, String> = text
        .split_ascii_whitespace()
        .map(|word| {
            word.parse()
                .map_err(|_| format!("{key} holds {word:?}, which is not a number"))
        })
        .collect();
    let numbers = numbers?;
    match numbers.len() == count {
        true => Ok(numbers),
        false => Err(format!(
            "{key} must have {count} entries, but has {}",
            numbers.len()
        )),
    }
}

/// How sums become an answer.
struct LightgbmTask {
    link: Link,
    meaning: SumMeaning,
}

fn task(objective: Option<&str>, outputs: usize) -> Result<LightgbmTask, ModelError> {
    let mut words = objective.unwrap_or("custom").split_ascii_whitespace();
    let name = words.next().unwrap_or("custom");
    let (mut scale, mut is_squared) = (1.0, false);
    for word in words {
        if let Some(number) = word.strip_prefix("sigmoid:") {
            let parsed = number.parse().ok().filter(|scale: &f64| scale.is_finite());
            scale = parsed.ok_or_else(|| format!("sigmoid must be a number, but is {number:?}"))?;
        }
        is_squared |= word == "sqrt";
    }
    let numbers = |link| LightgbmTask {
        link,
        meaning: SumMeaning::Numbers,
    };
    let logistic = Link::Logistic { scale };
    Ok(match name {
        "binary" if outputs == 1 => LightgbmTask {
            link: logistic,
            meaning: SumMeaning::SecondClass,
        },
        "multiclass" => LightgbmTask {
            link: Link::Softmax,
            meaning: SumMeaning::Classes,
        },
        "multiclassova" => LightgbmTask {
            link: logistic,
            meaning: SumMeaning::Classes,
        },
        "cross_entropy" | "xentropy" => numbers(Link::Logistic { scale: 1.0 }),
        "cross_entropy_lambda" | "xentlambda" => numbers(Link::Softplus),
        "poisson" | "gamma" | "tweedie" => numbers(Link::Exponential),
        "regression" | "regression_l1" | "huber" | "fair" | "quantile" | "mape" if is_squared => {
            numbers(Link::SignedSquare)
        }
        "regression" | "regression_l1" | "huber" | "fair" | "quantile" | "mape" | "lambdarank"
        | "rank_xendcg" | "custom" | "none" => numbers(Link::Identity),
        _ => {
            return Err(ModelError(format!(
                "the objective {name:?} is not known to lanekeeper"
            )));
        }
    })
}

fn tree(lines: &Lines<'_>, output: usize) -> Result<Tree, String> {
    let leaves: usize = one(lines, "num_leaves")?;
    let splits = leaves
        .checked_sub(1)
        .ok_or("num_leaves must be at least 1")?;
    let values: Vec<f64> = many(lines, "leaf_value", leaves)?;
    let mut made = Tree {
        output,
        values,
        leaf_width: 1,
        ..Tree::default()
    };
    if splits > 0 {
        add_splits(&mut made, lines, (splits, leaves))?;
    }
    let covers = many::<f32>(lines, "leaf_count", leaves).unwrap_or_default();
    for leaf in 0..leaves {
        made.nodes.push(Node {
            kind: NodeKind::Leaf(leaf),
            cover: covers.get(leaf).copied().unwrap_or(f32::NAN),
        });
    }
    if lines
        .get("is_linear")
        .is_some_and(|flag| flag.trim() == "1")
    {
        made.linear = linear_leaves(lines, leaves)?;
    }
    Ok(made)
}

/// Adds the splits; the leaves follow them.
fn add_splits(
    tree: &mut Tree,
    lines: &Lines<'_>,
    (splits, leaves): (usize, usize),
) -> Result<(), String> {
    let asked: Vec<usize> = many(lines, "split_feature", splits)?;
    let thresholds: Vec<f64> = many(lines, "threshold", splits)?;
    let types: Vec<u8> = match lines.contains_key("decision_type") {
        true => many(lines, "decision_type", splits)?,
        false => vec![0; splits],
    };
    let left: Vec<i64> = many(lines, "left_child", splits)?;
    let right: Vec<i64> = many(lines, "right_child", splits)?;
    let covers = many::<f32>(lines, "internal_count", splits).unwrap_or_default();
    let sets: usize = match lines.contains_key("num_cat") {
        true => one(lines, "num_cat")?,
        false => 0,
    };
    if sets > splits {
        return Err(format!("num_cat must be at most {splits}, but is {sets}"));
    }
    if sets > 0 {
        let bounds: Vec<usize> = many(lines, "cat_boundaries", sets + 1)?;
        let words: Vec<u32> = many(lines, "cat_threshold", bounds[sets])?;
        for pair in bounds.windows(2) {
            let set = words.get(pair[0]..pair[1]);
            tree.sets
                .push(set.ok_or("cat_boundaries must be increasing")?.to_vec());
        }
    }
    // A child below 0 is a leaf: its complement.
    let place = |child: i64| match usize::try_from(child) {
        Ok(split) if split < splits => Ok(split),
        Err(_) if (!child as usize) < leaves => Ok(splits + !child as usize),
        _ => Err(format!(
            "a child is {child}, but there are {splits} splits and {leaves} leaves"
        )),
    };
    for split in 0..splits {
        let kind = types[split];
        let is_category = kind & IS_CATEGORY != 0;
        let test = match is_category {
            true => Test::InSet {
                // A cast saturates; what is no set is found when the forest is checked.
                set: thresholds[split] as usize,
                rule: CategoryRule::LightGbm,
            },
            false => Test::AtMost(thresholds[split]),
        };
        let missing = match (is_category, kind >> MISSING_SHIFT & 3) {
            // NaN is in no set, whatever the rule says.
            (true, _) => Missing::Nan,
            (false, 0) => Missing::Nothing,
            (false, 1) => Missing::Zero,
            (false, _) => Missing::Nan,
        };
        tree.nodes.push(Node {
            kind: NodeKind::Split {
                feature: asked[split],
                test,
                missing,
                default_left: !is_category && kind & IS_DEFAULT_LEFT != 0,
                left: place(left[split])?,
                right: place(right[split])?,
            },
            cover: covers.get(split).copied().unwrap_or(f32::NAN),
        });
    }
    Ok(())
}

fn linear_leaves(lines: &Lines<'_>, leaves: usize) -> Result<Vec<LinearLeaf>, String> {
    let constants: Vec<f64> = many(lines, "leaf_const", leaves)?;
    let counts: Vec<usize> = many(lines, "num_features", leaves)?;
    let total = counts
        .iter()
        .try_fold(0_usize, |sum, count| sum.checked_add(*count));
    let total = total.ok_or("num_features is too large")?;
    let asked: Vec<usize> = many(lines, "leaf_features", total)?;
    let factors: Vec<f64> = many(lines, "leaf_coeff", total)?;
    let mut terms = asked.into_iter().zip(factors);
    Ok(constants
        .into_iter()
        .zip(counts)
        .map(|(constant, count)| LinearLeaf {
            constant,
            terms: terms.by_ref().take(count).collect(),
        })
        .collect())
}

/// Gives features their categories' values, if the file was written from a pandas table with
/// categories.
fn name_categories(
    features: &mut [Feature],
    tail: &[&str],
    head: &Lines<'_>,
) -> Result<(), ModelError> {
    let line = tail
        .iter()
        .rev()
        .find_map(|line| line.strip_prefix("pandas_categorical:"));
    let Some(line) = line.filter(|line| *line != "null") else {
        return Ok(());
    };
    let lists: Vec<Vec<Value>> = serde_json::from_str(line).map_err(|error| {
        ModelError(format!(
            "pandas_categorical is not a list of lists ({error})"
        ))
    })?;
    if lists.is_empty() {
        return Ok(());
    }
    // The parameters list the categorical features. If they do not, `feature_infos` shows them: it has a
    // list of values for each categorical feature and a range for each numeric one.
    let listed = tail.iter().find_map(|line| {
        let list = line
            .strip_prefix("[categorical_feature: ")?
            .strip_suffix(']')?;
        list.split(',')
            .map(|place| place.trim().parse().ok())
            .collect()
    });
    let places: Vec<usize> = listed.unwrap_or_else(|| {
        let infos = head.get("feature_infos").map_or("", |infos| infos);
        let kinds = infos.split(' ').enumerate();
        let is_list = |info: &str| info.contains(':') && !info.starts_with('[');
        kinds
            .filter(|(_, info)| is_list(info))
            .map(|(place, _)| place)
            .collect()
    });
    if places.len() != lists.len() {
        return Err(ModelError(format!(
            "pandas_categorical names the categories of {} features, but {} have categories",
            lists.len(),
            places.len()
        )));
    }
    for (place, values) in places.into_iter().zip(lists) {
        let feature = features.get_mut(place).ok_or_else(|| {
            format!("categorical_feature names feature {place}, which does not exist")
        })?;
        let labels = values.iter().map(|value| match value {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        });
        feature.kind = FeatureKind::Category {
            labels: labels.collect::<Vec<String>>().into(),
            unseen: Unseen::Missing,
        };
    }
    Ok(())
}
