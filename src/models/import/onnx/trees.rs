//! Tree ensembles: ONNX-ML's attributes of versions 1, 3 and 5 as a forest.
//!
//! Source: the specification, and onnxruntime 1.32, `core/providers/cpu/ml/tree_ensemble_*`.

use std::collections::BTreeSet;

use super::compiler::{GraphCompiler, KnownTensor, OperatorResult, table};
use super::fitted::{classified, labels, transform};
use super::proto::GraphNode;
use super::tree_nodes::{Mode, NodeDraft, drafts, drafts_of_version_5, numbers};
use crate::models::forest::plan::Plan;
use crate::models::forest::{self, CategoryRule, Forest, Missing, NodeKind, Precision, Test, Tree};
use crate::models::graph::ensemble::{Classes, Ensemble, OneScore};
use crate::models::graph::transform::Transform;
use crate::models::graph::{Dim, Kind};
use crate::models::{Exactness, ModelError};

/// Largest number that a feature may be asked to equal.
const EQUAL_MAX: f64 = 65_535.0;

/// The features that a forest asks whether they equal a number.
fn whole_features(trees: &[Vec<NodeDraft>]) -> Vec<i64> {
    let asks =
        |draft: &&NodeDraft| matches!(draft.mode, Mode::Equal | Mode::Unequal | Mode::Member);
    let features = trees
        .iter()
        .flatten()
        .filter(asks)
        .map(|draft| draft.feature);
    features.collect::<BTreeSet<i64>>().into_iter().collect()
}

/// A set of categories as bits.
fn set_of(node: &GraphNode<'_>, members: &[f64]) -> Result<Vec<u32>, ModelError> {
    let mut set = Vec::new();
    for member in members {
        if !(0.0..=EQUAL_MAX).contains(member) || member.fract() != 0.0 {
            return Err(node.wrong(format!("it asks whether a feature equals {member}; lanekeeper has that for whole numbers from 0 to {EQUAL_MAX}")));
        }
        let member = *member as usize;
        if set.len() <= member / 32 {
            set.resize(member / 32 + 1, 0);
        }
        set[member / 32] |= 1 << (member % 32);
    }
    Ok(set)
}

/// A tree of a forest with this many outputs.
fn tree(
    node: &GraphNode<'_>,
    drafts: &[NodeDraft],
    (width, whole): (usize, &[i64]),
    outputs: usize,
) -> Result<Tree, ModelError> {
    let mut made = Tree {
        leaf_width: 1,
        ..Tree::default()
    };
    let leaves: Vec<&NodeDraft> = drafts
        .iter()
        .filter(|draft| draft.mode == Mode::Leaf)
        .collect();
    let output = |output: i64| {
        let place = usize::try_from(output)
            .ok()
            .filter(|place| *place < outputs);
        place.ok_or_else(|| node.wrong(format!("a leaf adds to output {output} of {outputs}")))
    };
    let is_single = leaves.iter().all(|leaf| leaf.weights.len() == 1);
    if is_single {
        let mut places = Vec::with_capacity(leaves.len());
        for leaf in &leaves {
            let (place, weight) = leaf.weights[0];
            places.push(output(place)? as u32);
            made.values.push(weight);
        }
        match places.first() {
            Some(first) if places.iter().all(|place| place == first) => {
                made.output = *first as usize
            }
            _ => made.leaf_outputs = places,
        }
    } else {
        made.leaf_width = outputs;
        if leaves.len().saturating_mul(outputs) > 1 << 26 {
            return Err(node.wrong("it has too many leaves for so many outputs"));
        }
        for leaf in &leaves {
            let start = made.values.len();
            made.values.resize(start + outputs, 0.0);
            for (place, weight) in &leaf.weights {
                made.values[start + output(*place)?] += weight;
            }
        }
    }
    let mut leaf = 0;
    for draft in drafts {
        let feature = || {
            let place = usize::try_from(draft.feature)
                .ok()
                .filter(|place| *place < width);
            place.ok_or_else(|| {
                node.wrong(format!("it splits on feature {} of {width}", draft.feature))
            })
        };
        let is_swapped = matches!(draft.mode, Mode::AtLeast | Mode::Above | Mode::Unequal);
        let (feature, test) = match draft.mode {
            Mode::Leaf => {
                leaf += 1;
                let kind = NodeKind::Leaf(leaf - 1);
                made.nodes.push(forest::Node { cover: 0.0, kind });
                continue;
            }
            Mode::AtMost | Mode::Above => (feature()?, Test::AtMost(draft.threshold)),
            Mode::Below | Mode::AtLeast => (feature()?, Test::Below(draft.threshold)),
            Mode::Equal | Mode::Unequal | Mode::Member => {
                feature()?;
                made.sets.push(set_of(node, &draft.members)?);
                let place = whole.binary_search(&draft.feature).unwrap_or(0);
                (
                    width + place,
                    Test::InSet {
                        set: made.sets.len() - 1,
                        rule: CategoryRule::LightGbm,
                    },
                )
            }
        };
        let (left, right) = match is_swapped {
            true => (draft.no, draft.yes),
            false => (draft.yes, draft.no),
        };
        // Without a rule of its own a missing value is what the comparison answers: no, but for "unequal".
        let goes_yes = draft.tracks_true || draft.mode == Mode::Unequal;
        made.nodes.push(forest::Node {
            cover: 0.0,
            kind: NodeKind::Split {
                feature,
                test,
                missing: Missing::Nan,
                default_left: goes_yes != is_swapped,
                left,
                right,
            },
        });
    }
    Ok(made)
}

/// The sums of trees, without a base.
struct Sums {
    plan: Plan,
    whole: Vec<usize>,
    precision: Precision,
    trees: usize,
}

fn sums(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    (value, width): (&KnownTensor, usize),
    drafts: &[Vec<NodeDraft>],
    outputs: usize,
) -> Result<Sums, ModelError> {
    let whole = whole_features(drafts);
    let precision = match value.kind {
        Kind::F64 => Precision::F64,
        _ => Precision::F32,
    };
    let trees = drafts
        .iter()
        .map(|drafts| tree(node, drafts, (width, &whole), outputs));
    let forest = Forest {
        width: width + whole.len(),
        outputs,
        row_precision: precision,
        sum_precision: precision,
        flushes_to_zero: false,
        base: vec![0.0; outputs],
        trees: trees.collect::<Result<_, _>>()?,
    };
    let plan = Plan::new(&forest).map_err(|reason| node.wrong(reason))?;
    compiler.plan.count(&plan.parts());
    Ok(Sums {
        plan,
        whole: whole.iter().map(|feature| *feature as usize).collect(),
        precision,
        trees: drafts.len(),
    })
}

/// TreeEnsembleRegressor.
pub(super) fn regressor(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let outputs = usize::try_from(node.int("n_targets", 0)?)
        .map_err(|_| node.wrong("n_targets is below 0"))?;
    let drafts = drafts(compiler, node, "target")?;
    let transform = transform(node)?;
    let is_average = match node.text("aggregate_function", "SUM")? {
        "SUM" => false,
        "AVERAGE" => true,
        other => {
            return Err(node.wrong(format!(
                "lanekeeper has sums and averages of trees, not {other}"
            )));
        }
    };
    let base = numbers(compiler, node, "base_values")?;
    regression(
        compiler,
        node,
        inputs,
        (&drafts, outputs),
        transform,
        is_average,
        base,
    )
}

/// TreeEnsemble of version 5.
pub(super) fn ensemble(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let outputs = usize::try_from(node.int("n_targets", 0)?)
        .map_err(|_| node.wrong("n_targets is below 0"))?;
    let drafts = drafts_of_version_5(compiler, node)?;
    // The specification has 1 and 2 the other way round; the runtime's answers are those to have.
    let transforms = [
        Transform::None,
        Transform::Logistic,
        Transform::Softmax,
        Transform::SoftmaxZero,
    ];
    let transform = usize::try_from(node.int("post_transform", 0)?)
        .ok()
        .and_then(|place| transforms.get(place));
    let transform = transform.ok_or_else(|| node.wrong("lanekeeper lacks its transform"))?;
    let is_average = match node.int("aggregate_function", 1)? {
        0 => true,
        1 => false,
        _ => return Err(node.wrong("lanekeeper has sums and averages of trees")),
    };
    regression(
        compiler,
        node,
        inputs,
        (&drafts, outputs),
        *transform,
        is_average,
        Vec::new(),
    )
}

fn regression(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
    (drafts, outputs): (&[Vec<NodeDraft>], usize),
    transform: Transform,
    is_average: bool,
    base: Vec<f64>,
) -> OperatorResult {
    let (value, width) = table(node, inputs)?;
    if !base.is_empty() && base.len() != outputs {
        return Err(node.wrong(format!(
            "it must have a base for each of {outputs} outputs, or none"
        )));
    }
    let sums = sums(compiler, node, (value, width), drafts, outputs)?;
    if transform != Transform::None && outputs > 1 {
        compiler.be_no_more_exact_than(Exactness::Link);
    }
    let ensemble = Ensemble {
        plan: sums.plan,
        whole: sums.whole,
        width,
        outputs,
        precision: sums.precision,
        divisor: if is_average { sums.trees as f64 } else { 1.0 },
        base,
        transform,
        classes: None,
    };
    let shape = value.shape.with(1, Dim::Fixed(outputs))?;
    let kind = match (node.operator, value.kind) {
        ("TreeEnsemble", Kind::F64) => Kind::F64,
        _ => Kind::F32,
    };
    let made = compiler.emit_one(node, &[value], shape, kind, ensemble.kernel(kind))?;
    Ok(vec![made])
}

/// TreeEnsembleClassifier.
pub(super) fn classifier(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let (value, width) = table(node, inputs)?;
    let drafts = drafts(compiler, node, "class")?;
    let (labels, kind) = labels(
        compiler,
        node,
        ["classlabels_int64s", "classlabels_strings"],
    )?;
    let outputs = labels.len();
    if outputs < 2 {
        return Err(node.wrong("it must have at least two classes"));
    }
    let base = numbers(compiler, node, "base_values")?;
    let fits = base.is_empty() || base.len() == outputs || (outputs == 2 && base.len() == 1);
    if !fits {
        return Err(node.wrong(format!(
            "it must have a base for each of {outputs} classes, or none"
        )));
    }
    let weights: Vec<(i64, f64)> = drafts
        .iter()
        .flatten()
        .flat_map(|draft| draft.weights.iter().copied())
        .collect();
    let is_positive = weights.iter().all(|(_, weight)| *weight >= 0.0);
    let scored: BTreeSet<i64> = weights.iter().map(|(class, _)| *class).collect();
    check_scores(node, &drafts, &scored, is_positive && outputs > 2)?;
    let one_score = (outputs == 2 && scored.len() == 1).then_some(match is_positive {
        true => OneScore::Share,
        false => OneScore::Sign,
    });
    if outputs == 2 && scored.len() == 2 && kind == Kind::I64 && labels != [0.0, 1.0] {
        return Err(node.wrong("its leaves score both of two classes, and onnxruntime calls them 0 and 1 then, which are not its labels"));
    }
    let transform = transform(node)?;
    let is_share = transform != Transform::None || (is_positive && most(&drafts) <= 1.001);
    let sums = sums(compiler, node, (value, width), &drafts, outputs)?;
    if transform != Transform::None {
        compiler.be_no_more_exact_than(Exactness::Link);
    }
    let ensemble = Ensemble {
        plan: sums.plan,
        whole: sums.whole,
        width,
        outputs,
        precision: sums.precision,
        divisor: 1.0,
        base,
        transform,
        classes: Some(Classes {
            labels: labels.clone(),
            is_scored: (0..outputs)
                .map(|class| scored.contains(&(class as i64)))
                .collect(),
            one_score,
        }),
    };
    let kernel = ensemble.kernel(Kind::F32);
    classified(
        compiler,
        node,
        value,
        (labels, kind),
        outputs,
        is_share,
        kernel,
    )
}

/// The largest sum that a class can have, if no weight is negative.
fn most(drafts: &[Vec<NodeDraft>]) -> f64 {
    let weights = |draft: &NodeDraft| {
        draft
            .weights
            .iter()
            .map(|(_, weight)| *weight)
            .fold(0.0, f64::max)
    };
    drafts
        .iter()
        .map(|tree| tree.iter().map(weights).fold(0.0, f64::max))
        .sum()
}

/// Checks that each class that is scored at all is scored in every row: onnxruntime treats a class without
/// a score in another way than one with a score of 0.
fn check_scores(
    node: &GraphNode<'_>,
    drafts: &[Vec<NodeDraft>],
    scored: &BTreeSet<i64>,
    zero_is_none: bool,
) -> Result<(), ModelError> {
    if zero_is_none {
        return Ok(());
    }
    let scores = |draft: &NodeDraft, class: i64| draft.weights.iter().any(|(own, _)| *own == class);
    let mut leaves = drafts
        .iter()
        .map(|tree| tree.iter().filter(|draft| draft.mode == Mode::Leaf));
    let mut missing: Vec<i64> = scored.iter().copied().collect();
    while let Some(tree) = leaves.next().filter(|_| !missing.is_empty()) {
        missing.retain(|class| !tree.clone().all(|leaf| scores(leaf, *class)));
    }
    match missing.first() {
        None => Ok(()),
        Some(class) => Err(node.wrong(format!("only some leaves score class {class}, and lanekeeper serves ensembles where all do or none does"))),
    }
}
