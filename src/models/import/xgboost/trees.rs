//! XGBoost's trees as a forest.

use super::document::{BoosterModel, XgboostTree};
use crate::models::ModelError;
use crate::models::forest::{CategoryRule, Forest, Missing, Node, NodeKind, Precision, Test, Tree};

/// Categories from here on are in no set (2^24, above which an f32 is no whole number).
const CATEGORY_MAX: i64 = 1 << 24;

/// What the left child of a leaf is.
const NO_CHILD: i64 = -1;

pub(super) fn forest(
    model: BoosterModel,
    drop: Vec<f32>,
    (width, outputs): (usize, usize),
    base: Vec<f64>,
    best: Option<usize>,
) -> Result<Forest, ModelError> {
    if model.tree_info.len() != model.trees.len() {
        return Err(ModelError(format!(
            "tree_info must have an entry for each of {} trees, but has {}",
            model.trees.len(),
            model.tree_info.len()
        )));
    }
    let drop = if model.weight_drop.is_empty() {
        drop
    } else {
        model.weight_drop
    };
    if !drop.is_empty() && drop.len() != model.trees.len() {
        return Err(ModelError(format!(
            "weight_drop must have an entry for each of {} trees, but has {}",
            model.trees.len(),
            drop.len()
        )));
    }
    let used = match best {
        None => model.trees.len(),
        Some(best) => {
            let parallel = model.gbtree_model_param.map_or(Ok(1), |param| {
                param.num_parallel_tree.count("num_parallel_tree")
            })?;
            let by_layer = model.iteration_indptr.get(best + 1);
            let by_layer = by_layer.and_then(|end| usize::try_from(*end).ok());
            by_layer.unwrap_or_else(|| {
                (best + 1)
                    .saturating_mul(parallel.max(1))
                    .saturating_mul(outputs)
            })
        }
    };
    let mut trees = Vec::with_capacity(model.trees.len());
    for (index, tree) in model.trees.into_iter().take(used).enumerate() {
        let weight = drop.get(index).copied().unwrap_or(1.0);
        let output = usize::try_from(model.tree_info[index]);
        let output = output
            .map_err(|_| format!("tree {index} adds to output {}", model.tree_info[index]))?;
        trees.push(
            tree_of(tree, output, weight, outputs)
                .map_err(|reason| ModelError(format!("tree {index}: {reason}")))?,
        );
    }
    Ok(Forest {
        width,
        outputs,
        row_precision: Precision::F32,
        sum_precision: Precision::F32,
        flushes_to_zero: false,
        base,
        trees,
    })
}

fn tree_of(tree: XgboostTree, output: usize, weight: f32, outputs: usize) -> Result<Tree, String> {
    let count = tree.left_children.len();
    for (name, length) in [
        ("right_children", tree.right_children.len()),
        ("split_indices", tree.split_indices.len()),
        ("split_conditions", tree.split_conditions.len()),
        ("default_left", tree.default_left.len()),
    ] {
        if length != count {
            return Err(format!(
                "{name} must have an entry for each of {count} nodes, but has {length}"
            ));
        }
    }
    let leaf_width = tree.tree_param.size_leaf_vector.count("size_leaf_vector");
    let leaf_width = leaf_width.map_err(|error| error.0)?.max(1);
    if leaf_width != 1 && leaf_width != outputs {
        return Err(format!(
            "a leaf must have 1 value, or {outputs}, but has {leaf_width}"
        ));
    }
    let (sets, set_of) = category_sets(&tree, count)?;
    let mut made = Tree {
        output: if leaf_width == 1 { output } else { 0 },
        nodes: Vec::with_capacity(count),
        values: Vec::new(),
        leaf_width,
        leaf_outputs: Vec::new(),
        linear: Vec::new(),
        sets,
    };
    if output >= outputs {
        return Err(format!("it adds to output {output} of {outputs}"));
    }
    let place = |name: &str, node: usize, value: i64| {
        usize::try_from(value).map_err(|_| format!("node {node}: {name} is {value}"))
    };
    for node in 0..count {
        let left = tree.left_children[node];
        let kind = if left == NO_CHILD {
            let leaf = made.values.len() / leaf_width;
            let single = [tree.split_conditions[node]];
            let values = match leaf_width {
                1 => &single[..],
                _ => {
                    let (list, at) = match &tree.leaf_weights {
                        Some(list) => (
                            list,
                            place("the right child", node, tree.right_children[node])?,
                        ),
                        None => (&tree.base_weights.0, node),
                    };
                    at.checked_mul(leaf_width)
                        .and_then(|from| list.get(from..from.checked_add(leaf_width)?))
                        .ok_or_else(|| format!("leaf {node} has no values"))?
                }
            };
            made.values
                .extend(values.iter().map(|value| f64::from(value * weight)));
            NodeKind::Leaf(leaf)
        } else {
            let test = match set_of.get(node).copied().flatten() {
                Some(set) => Test::InSet {
                    set,
                    rule: CategoryRule::Xgboost,
                },
                None => Test::Below(f64::from(tree.split_conditions[node])),
            };
            NodeKind::Split {
                feature: place("the feature", node, tree.split_indices[node])?,
                test,
                missing: Missing::Nan,
                default_left: tree.default_left[node].0,
                left: place("the left child", node, left)?,
                right: place("the right child", node, tree.right_children[node])?,
            }
        };
        made.nodes.push(Node {
            kind,
            cover: tree.sum_hessian.0.get(node).copied().unwrap_or(f32::NAN),
        });
    }
    Ok(made)
}

/// The sets of categories, and for each node which of them it asks for.
type CategorySets = (Vec<Vec<u32>>, Vec<Option<usize>>);

fn category_sets(tree: &XgboostTree, count: usize) -> Result<CategorySets, String> {
    let mut sets = Vec::new();
    if tree.categories_nodes.is_empty() {
        return match tree.split_type.iter().any(|kind| kind.0) {
            true => Err("a node splits on categories, but there are none".to_owned()),
            false => Ok((sets, Vec::new())),
        };
    }
    let mut set_of = vec![None; count];
    let splits = &tree.categories_nodes;
    if tree.categories_segments.len() != splits.len() || tree.categories_sizes.len() != splits.len()
    {
        return Err("categories_nodes, _segments and _sizes must have the same length".to_owned());
    }
    for (place, node) in splits.iter().enumerate() {
        let wrong = || format!("the categories of node {node} are not there");
        let index = usize::try_from(*node)
            .ok()
            .filter(|node| *node < count)
            .ok_or_else(wrong)?;
        let from = usize::try_from(tree.categories_segments[place]).map_err(|_| wrong())?;
        let size = usize::try_from(tree.categories_sizes[place]).map_err(|_| wrong())?;
        let to = from.checked_add(size).ok_or_else(wrong)?;
        let categories = tree.categories.get(from..to).ok_or_else(wrong)?;
        let largest = categories.iter().max().copied().ok_or_else(wrong)?;
        if largest >= CATEGORY_MAX || categories.iter().any(|one| *one < 0) {
            return Err(format!(
                "the categories of node {node} must be 0 to {}",
                CATEGORY_MAX - 1
            ));
        }
        let mut set = vec![0_u32; largest as usize / 32 + 1];
        for category in categories {
            set[*category as usize / 32] |= 1 << (category % 32);
        }
        set_of[index] = Some(sets.len());
        sets.push(set);
    }
    let asked = tree
        .split_type
        .iter()
        .enumerate()
        .filter(|(_, kind)| kind.0);
    for (node, _) in asked {
        if set_of.get(node).copied().flatten().is_none() {
            return Err(format!("node {node} splits on categories, but has none"));
        }
    }
    Ok((sets, set_of))
}
