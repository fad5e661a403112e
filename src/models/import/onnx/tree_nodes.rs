//! The nodes of tree ensembles, as the attributes of versions 1, 3 and 5 have them.

use std::collections::HashMap;

use super::compiler::GraphCompiler;
use super::fitted::wide;
use super::proto::GraphNode;
use crate::models::ModelError;

/// The question of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    AtMost,
    Below,
    AtLeast,
    Above,
    Equal,
    Unequal,
    Member,
    Leaf,
}

impl Mode {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "BRANCH_LEQ" => Mode::AtMost,
            "BRANCH_LT" => Mode::Below,
            "BRANCH_GTE" => Mode::AtLeast,
            "BRANCH_GT" => Mode::Above,
            "BRANCH_EQ" => Mode::Equal,
            "BRANCH_NEQ" => Mode::Unequal,
            "LEAF" => Mode::Leaf,
            _ => return None,
        })
    }

    /// By the number of version 5.
    fn numbered(number: f64) -> Option<Self> {
        let modes = [
            Mode::AtMost,
            Mode::Below,
            Mode::AtLeast,
            Mode::Above,
            Mode::Equal,
            Mode::Unequal,
            Mode::Member,
        ];
        modes
            .get(number as usize)
            .copied()
            .filter(|_| number >= 0.0)
    }
}

/// A node before it is one of a forest's.
#[derive(Debug, Clone)]
pub(super) struct NodeDraft {
    pub(super) mode: Mode,
    pub(super) feature: i64,
    pub(super) threshold: f64,
    pub(super) members: Vec<f64>,
    pub(super) tracks_true: bool,
    /// Places in its tree.
    pub(super) yes: usize,
    pub(super) no: usize,
    /// Outputs with the numbers that the leaf adds to them.
    pub(super) weights: Vec<(i64, f64)>,
}

/// Attributes that may be numbers of 32 bits, or a tensor of another precision.
pub(super) fn numbers(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    name: &str,
) -> Result<Vec<f64>, ModelError> {
    match node.tensor(&format!("{name}_as_tensor"))? {
        Some(tensor) => Ok(tensor.read(&mut compiler.texts)?.values),
        None => wide(node, name),
    }
}

/// The trees of versions 1 and 3. `kind` is what attributes of leaves begin with.
pub(super) fn drafts(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    kind: &str,
) -> Result<Vec<Vec<NodeDraft>>, ModelError> {
    let trees = node.ints("nodes_treeids")?;
    let ids = node.ints("nodes_nodeids")?;
    let modes = node.texts("nodes_modes")?;
    let features = node.ints("nodes_featureids")?;
    let (yes, no) = (
        node.ints("nodes_truenodeids")?,
        node.ints("nodes_falsenodeids")?,
    );
    let thresholds = numbers(compiler, node, "nodes_values")?;
    let tracks = node.ints("nodes_missing_value_tracks_true")?;
    let count = trees.len();
    let lengths = [
        ids.len(),
        modes.len(),
        features.len(),
        yes.len(),
        no.len(),
        thresholds.len(),
    ];
    if count == 0
        || lengths.iter().any(|length| *length != count)
        || (!tracks.is_empty() && tracks.len() != count)
    {
        return Err(node.wrong(format!(
            "its attributes of nodes must be equally long, but are {count} and {lengths:?}"
        )));
    }
    let mut tree_places: HashMap<i64, usize> = HashMap::new();
    let mut places: HashMap<(i64, i64), usize> = HashMap::with_capacity(count);
    let mut drafts: Vec<Vec<NodeDraft>> = Vec::new();
    let mut at = Vec::with_capacity(count);
    for (index, tree) in trees.iter().enumerate() {
        let place = *tree_places.entry(*tree).or_insert_with(|| {
            drafts.push(Vec::new());
            drafts.len() - 1
        });
        at.push((place, drafts[place].len()));
        if places
            .insert((*tree, ids[index]), drafts[place].len())
            .is_some()
        {
            return Err(node.wrong(format!("tree {tree} has the node {} twice", ids[index])));
        }
        let mode = Mode::named(modes[index])
            .ok_or_else(|| node.wrong(format!("there is no mode {:?}", modes[index])))?;
        drafts[place].push(NodeDraft {
            mode,
            feature: features[index],
            threshold: thresholds[index],
            members: vec![thresholds[index]],
            tracks_true: tracks.get(index).is_some_and(|tracks| *tracks != 0),
            yes: 0,
            no: 0,
            weights: Vec::new(),
        });
    }
    for (index, tree) in trees.iter().enumerate() {
        let (place, own) = at[index];
        if drafts[place][own].mode == Mode::Leaf {
            continue;
        }
        let child = |id: i64| {
            let found = places.get(&(*tree, id)).copied();
            found.ok_or_else(|| {
                node.wrong(format!(
                    "tree {tree} has no node {id}, but a node leads there"
                ))
            })
        };
        let (yes, no) = (child(yes[index])?, child(no[index])?);
        (drafts[place][own].yes, drafts[place][own].no) = (yes, no);
    }
    let leaf_trees = node.ints(&format!("{kind}_treeids"))?;
    let leaf_nodes = node.ints(&format!("{kind}_nodeids"))?;
    let outputs = node.ints(&format!("{kind}_ids"))?;
    let weights = numbers(compiler, node, &format!("{kind}_weights"))?;
    let lengths = [leaf_nodes.len(), outputs.len(), weights.len()];
    if lengths.iter().any(|length| *length != leaf_trees.len()) {
        return Err(node.wrong(format!(
            "its attributes of leaves must be equally long, but are {} and {lengths:?}",
            leaf_trees.len()
        )));
    }
    for (index, tree) in leaf_trees.iter().enumerate() {
        let place = places.get(&(*tree, leaf_nodes[index]));
        let (Some(tree), Some(own)) = (tree_places.get(tree), place) else {
            return Err(node.wrong(format!(
                "a weight is for node {} of tree {tree}, which does not exist",
                leaf_nodes[index]
            )));
        };
        drafts[*tree][*own]
            .weights
            .push((outputs[index], weights[index]));
    }
    for drafts in &mut drafts {
        put_root_first(drafts);
        if !is_whole(drafts) {
            return Err(node.wrong(
                "a node has two parents, is its own ancestor, or is not reached from the root",
            ));
        }
    }
    Ok(drafts)
}

/// Puts the node that none leads to in the first place.
fn put_root_first(drafts: &mut [NodeDraft]) {
    let mut has_parent = vec![false; drafts.len()];
    for draft in drafts.iter().filter(|draft| draft.mode != Mode::Leaf) {
        has_parent[draft.yes] = true;
        has_parent[draft.no] = true;
    }
    let Some(root) = has_parent
        .iter()
        .position(|has| !has)
        .filter(|root| *root != 0)
    else {
        return;
    };
    drafts.swap(0, root);
    let moved = |place: &mut usize| {
        *place = match *place {
            0 => root,
            place if place == root => 0,
            place => place,
        };
    };
    for draft in drafts {
        moved(&mut draft.yes);
        moved(&mut draft.no);
    }
}

/// Whether each node is reached once from the first.
fn is_whole(drafts: &[NodeDraft]) -> bool {
    let mut seen = vec![false; drafts.len()];
    let mut open = vec![0];
    let mut count = 0;
    while let Some(place) = open.pop() {
        if std::mem::replace(&mut seen[place], true) {
            return false;
        }
        count += 1;
        if drafts[place].mode != Mode::Leaf {
            open.extend([drafts[place].yes, drafts[place].no]);
        }
    }
    count == drafts.len()
}

/// The trees of version 5.
pub(super) fn drafts_of_version_5(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
) -> Result<Vec<Vec<NodeDraft>>, ModelError> {
    let mut tensor = |name: &str| match node.tensor(name)? {
        Some(tensor) => Ok::<_, ModelError>(tensor.read(&mut compiler.texts)?.values),
        None => Ok(Vec::new()),
    };
    let (modes, thresholds) = (tensor("nodes_modes")?, tensor("nodes_splits")?);
    let (weights, members) = (tensor("leaf_weights")?, tensor("membership_values")?);
    let targets = node.ints("leaf_targetids")?;
    let features = node.ints("nodes_featureids")?;
    let (yes, no) = (
        node.ints("nodes_truenodeids")?,
        node.ints("nodes_falsenodeids")?,
    );
    let (yes_leaf, no_leaf) = (
        node.ints("nodes_trueleafs")?,
        node.ints("nodes_falseleafs")?,
    );
    let tracks = node.ints("nodes_missing_value_tracks_true")?;
    let count = modes.len();
    let lengths = [
        thresholds.len(),
        features.len(),
        yes.len(),
        no.len(),
        yes_leaf.len(),
        no_leaf.len(),
    ];
    if lengths.iter().any(|length| *length != count)
        || (!tracks.is_empty() && tracks.len() != count)
        || weights.len() != targets.len()
    {
        return Err(node.wrong(format!(
            "its attributes of nodes must be equally long, but are {count} and {lengths:?}"
        )));
    }
    // Sets follow each other, each ended by NaN.
    let mut sets = members.split(|member| member.is_nan());
    let mut own_sets = Vec::with_capacity(count);
    for mode in &modes {
        let mode =
            Mode::numbered(*mode).ok_or_else(|| node.wrong(format!("there is no mode {mode}")))?;
        own_sets.push((
            mode,
            match mode {
                Mode::Member => sets
                    .next()
                    .ok_or_else(|| node.wrong("a node has no set of members"))?
                    .to_vec(),
                _ => Vec::new(),
            },
        ));
    }
    let mut made = Vec::new();
    let mut left = count + targets.len() + 1;
    for root in node.ints("tree_roots")? {
        // A root may be a leaf: then both of its branches are the same one.
        let mut drafts: Vec<NodeDraft> = Vec::new();
        let mut open = vec![(root, false, None::<(usize, bool)>)];
        while let Some((id, is_leaf, parent)) = open.pop() {
            let Some(rest) = left.checked_sub(1) else {
                return Err(node.wrong("a node has two parents, or is its own ancestor"));
            };
            left = rest;
            let place = drafts.len();
            match parent {
                Some((parent, true)) => drafts[parent].yes = place,
                Some((parent, false)) => drafts[parent].no = place,
                None => {}
            }
            let index = usize::try_from(id).ok();
            let leaf = |index: usize| {
                let weight = targets.get(index).zip(weights.get(index));
                weight.ok_or_else(|| node.wrong(format!("there is no leaf {index}")))
            };
            let mut draft = NodeDraft {
                mode: Mode::Leaf,
                feature: 0,
                threshold: 0.0,
                members: Vec::new(),
                tracks_true: false,
                yes: 0,
                no: 0,
                weights: Vec::new(),
            };
            let is_root_leaf = |index: usize| {
                parent.is_none()
                    && yes_leaf[index] != 0
                    && no_leaf[index] != 0
                    && yes[index] == no[index]
            };
            match index {
                Some(index) if is_leaf => {
                    let (target, weight) = leaf(index)?;
                    draft.weights.push((*target, *weight));
                }
                Some(index) if index < count && is_root_leaf(index) => {
                    let (target, weight) = leaf(usize::try_from(yes[index]).unwrap_or(usize::MAX))?;
                    draft.weights.push((*target, *weight));
                }
                Some(index) if index < count => {
                    let (mode, members) = &own_sets[index];
                    draft.mode = *mode;
                    draft.feature = features[index];
                    draft.threshold = thresholds[index];
                    draft.members = match mode {
                        Mode::Member => members.clone(),
                        _ => vec![thresholds[index]],
                    };
                    draft.tracks_true = tracks.get(index).is_some_and(|tracks| *tracks != 0);
                    open.push((no[index], no_leaf[index] != 0, Some((place, false))));
                    open.push((yes[index], yes_leaf[index] != 0, Some((place, true))));
                }
                _ => return Err(node.wrong(format!("there is no node {id}"))),
            }
            drafts.push(draft);
        }
        made.push(drafts);
    }
    Ok(made)
}
