//! Random forests and rows: the plan gives the bits of the plain walk.

use proptest::prelude::*;

use super::kernels::Level;
use super::plan::Plan;
use super::*;
use crate::models::Rows;

/// Thresholds and values that meet each other: the same few, with all that is special.
const SPECIAL: [f64; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.5,
    1e-35,
    -1e-35,
    1.0000000180025095e-35,
    f64::INFINITY,
    f64::NEG_INFINITY,
    1e-310,
    3.0,
    3.0000001,
    -7.25,
    1e30,
];

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => prop::sample::select(SPECIAL.to_vec()),
        1 => -10.0..10.0,
        1 => (-4..40_i32).prop_map(f64::from),
    ]
}

/// As many thresholds as a column's key of one byte can have, and more.
fn many_numbers() -> impl Strategy<Value = Vec<f64>> {
    (200..300_i32).prop_map(|count| {
        (0..count)
            .map(|place| f64::from(place - 60) / 8.0)
            .collect()
    })
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![5 => number(), 1 => Just(f64::NAN)]
}

/// How a tree is drawn: a seed decides everything about it.
#[derive(Debug, Clone)]
struct Draw {
    width: usize,
    outputs: usize,
    row_precision: Precision,
    sum_precision: Precision,
    thresholds: Vec<f64>,
    seed: u64,
    trees: usize,
    /// Whether each leaf is one number that is added to its tree's sum.
    is_plain: bool,
}

fn draw() -> impl Strategy<Value = Draw> {
    // Of rows and of sums: XGBoost's, LightGBM's, CatBoost's.
    let precisions = prop::sample::select(vec![
        (Precision::F32, Precision::F32),
        (Precision::F64, Precision::F64),
        (Precision::F32, Precision::F64),
    ]);
    (
        1..6_usize,
        1..4_usize,
        precisions,
        prop_oneof![3 => prop::collection::vec(number(), 1..20), 1 => many_numbers()],
        any::<u64>(),
        0..40_usize,
        any::<bool>(),
    )
        .prop_map(
            |(
                width,
                outputs,
                (row_precision, sum_precision),
                thresholds,
                seed,
                trees,
                is_plain,
            )| Draw {
                width,
                outputs,
                row_precision,
                sum_precision,
                thresholds,
                seed,
                trees,
                is_plain,
            },
        )
}

/// The generator SplitMix64 (Steele, Lea and Flood, 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % limit
    }
}

fn forest(draw: &Draw) -> Forest {
    let mut chance = Chance(draw.seed);
    let trees = (0..draw.trees).map(|_| tree(draw, &mut chance)).collect();
    Forest {
        width: draw.width,
        outputs: draw.outputs,
        row_precision: draw.row_precision,
        sum_precision: draw.sum_precision,
        flushes_to_zero: draw.row_precision == Precision::F64,
        base: (0..draw.outputs)
            .map(|output| f64::from(output as f32 * 0.3))
            .collect(),
        trees,
    }
}

fn tree(draw: &Draw, chance: &mut Chance) -> Tree {
    let is_vector = !draw.is_plain && chance.below(4) == 0;
    let mut tree = Tree {
        output: chance.below(draw.outputs),
        leaf_width: if is_vector { draw.outputs } else { 1 },
        sets: vec![vec![0b1010_0110], vec![1, 0, 1 << 5]],
        ..Tree::default()
    };
    if is_vector {
        tree.output = 0;
    }
    let mut open = vec![0];
    tree.nodes.push(leaf());
    while let Some(place) = open.pop() {
        if tree.nodes.len() > 60 || chance.below(3) == 0 {
            let index = tree.values.len() / tree.leaf_width;
            for _ in 0..tree.leaf_width {
                let value = (chance.below(2000) as f64 - 1000.0) / 777.0;
                tree.values.push(f64::from(value as f32));
            }
            tree.nodes[place].kind = NodeKind::Leaf(index);
            continue;
        }
        let left = tree.nodes.len();
        tree.nodes.extend([leaf(), leaf()]);
        let threshold = draw.thresholds[chance.below(draw.thresholds.len())];
        let test = match (draw.sum_precision, chance.below(5)) {
            (Precision::F32, 0) => Test::InSet {
                set: chance.below(2),
                rule: CategoryRule::Xgboost,
            },
            (Precision::F32, _) => Test::Below(f64::from(threshold as f32)),
            (Precision::F64, 0) => Test::InSet {
                set: chance.below(2),
                rule: CategoryRule::LightGbm,
            },
            (Precision::F64, 1) => Test::Below(threshold),
            (Precision::F64, _) => Test::AtMost(threshold),
        };
        tree.nodes[place].kind = NodeKind::Split {
            feature: chance.below(draw.width),
            test,
            missing: match (test, chance.below(3)) {
                (Test::InSet { .. }, _) | (_, 0) => Missing::Nan,
                (_, 1) => Missing::Zero,
                _ => Missing::Nothing,
            },
            default_left: chance.below(2) == 0,
            // In either order: a child may stand before its sibling.
            left: left + 1,
            right: left,
        };
        open.extend([left, left + 1]);
    }
    let leaves = tree.values.len();
    if !draw.is_plain && tree.leaf_width == 1 && chance.below(4) == 0 {
        let output = |_| chance.below(draw.outputs) as u32;
        tree.leaf_outputs = (0..leaves).map(output).collect();
    }
    let may_be_linear = !draw.is_plain && draw.sum_precision == Precision::F64;
    if may_be_linear && tree.leaf_width == 1 && chance.below(4) == 0 {
        tree.linear = (0..leaves)
            .map(|leaf| LinearLeaf {
                constant: leaf as f64 / 7.0,
                terms: (0..chance.below(3))
                    .map(|_| (chance.below(draw.width), 0.1))
                    .collect(),
            })
            .collect();
    }
    tree
}

fn leaf() -> Node {
    Node {
        kind: NodeKind::Leaf(0),
        cover: 1.0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_plan_gives_the_bits_of_the_plain_walk(
        draw in draw(),
        values in prop::collection::vec(value(), 5 * 300),
        rows in prop_oneof![Just(1), 1..40_usize, 40..300_usize],
    ) {
        let forest = forest(&draw);
        let mut plan = Plan::new(&forest).unwrap();
        let values = values[..rows * draw.width].to_vec();
        let rows = Rows::new(values, draw.width).unwrap();
        let expected: Vec<u64> = rows
            .iter()
            .flat_map(|row| reference::margins(&forest, row))
            .map(f64::to_bits)
            .collect();
        for level in Level::all() {
            plan.set_level(level);
            let given = plan.margins(&rows).into_iter().map(f64::to_bits);
            prop_assert_eq!(given.collect::<Vec<_>>(), expected.clone(), "{:?}", level);
        }
    }
}

/// A tree that splits each feature at its own thresholds, many of them.
fn chain(thresholds: usize) -> Tree {
    let mut tree = Tree {
        leaf_width: 1,
        ..Tree::default()
    };
    for index in 0..thresholds {
        tree.nodes.push(Node {
            kind: NodeKind::Split {
                feature: 0,
                test: Test::AtMost(index as f64),
                missing: Missing::Nan,
                default_left: false,
                left: thresholds + index,
                right: if index + 1 == thresholds {
                    2 * thresholds
                } else {
                    index + 1
                },
            },
            cover: 1.0,
        });
    }
    for index in 0..=thresholds {
        tree.values.push(index as f64);
        tree.nodes.push(Node {
            kind: NodeKind::Leaf(index),
            cover: 1.0,
        });
    }
    tree
}

#[test]
fn more_thresholds_than_a_key_can_count_become_more_columns() {
    // A chain is as deep as it is long, so a forest of short ones.
    let trees: Vec<Tree> = (0..200)
        .map(|start| {
            let mut tree = chain(400);
            for node in &mut tree.nodes {
                if let NodeKind::Split {
                    test: Test::AtMost(threshold),
                    ..
                } = &mut node.kind
                {
                    *threshold += f64::from(start) * 400.0;
                }
            }
            tree
        })
        .collect();
    let forest = Forest {
        width: 1,
        outputs: 1,
        row_precision: Precision::F64,
        sum_precision: Precision::F64,
        flushes_to_zero: false,
        base: vec![0.0],
        trees,
    };
    let plan = Plan::new(&forest).unwrap();
    let values = vec![
        -5.0,
        0.0,
        399.0,
        65_533.0,
        65_534.0,
        65_535.0,
        65_536.5,
        79_999.0,
        1e9,
        f64::NAN,
    ];
    let rows = Rows::new(values, 1).unwrap();
    let expected: Vec<f64> = rows
        .iter()
        .flat_map(|row| reference::margins(&forest, row))
        .collect();
    assert_eq!(plan.margins(&rows), expected);
}

#[test]
fn many_sets_of_categories_become_parts() {
    let tree = |index: usize| Tree {
        leaf_width: 1,
        values: vec![1.0, 100.0],
        sets: vec![vec![1 << (index % 32)]],
        nodes: vec![
            Node {
                kind: NodeKind::Split {
                    feature: 0,
                    test: Test::InSet {
                        set: 0,
                        rule: CategoryRule::LightGbm,
                    },
                    missing: Missing::Nan,
                    default_left: false,
                    left: 1,
                    right: 2,
                },
                cover: 1.0,
            },
            Node {
                kind: NodeKind::Leaf(0),
                cover: 1.0,
            },
            Node {
                kind: NodeKind::Leaf(1),
                cover: 1.0,
            },
        ],
        ..Tree::default()
    };
    let forest = Forest {
        width: 1,
        outputs: 1,
        row_precision: Precision::F64,
        sum_precision: Precision::F64,
        flushes_to_zero: true,
        base: vec![0.0],
        trees: (0..70_000).map(tree).collect(),
    };
    let plan = Plan::new(&forest).unwrap();
    let rows = Rows::new(vec![0.0, 31.0, 32.0, -1.0, f64::NAN, 1e18], 1).unwrap();
    let expected: Vec<f64> = rows
        .iter()
        .flat_map(|row| reference::margins(&forest, row))
        .collect();
    assert_eq!(plan.margins(&rows), expected);
}

#[test]
fn what_predicting_relies_on_is_checked() {
    let sound = Forest {
        width: 1,
        outputs: 1,
        row_precision: Precision::F64,
        sum_precision: Precision::F64,
        flushes_to_zero: false,
        base: vec![0.0],
        trees: vec![chain(2)],
    };
    assert!(sound.check().is_ok());
    type Break = fn(&mut Forest);
    let table: [(Break, &str); 9] = [
        (|forest| forest.width = 0, "1 to"),
        (|forest| forest.base[0] = f64::NAN, "base score"),
        (|forest| forest.trees[0].output = 1, "adds to output 1 of 1"),
        (
            |forest| forest.trees[0].values[0] = f64::INFINITY,
            "finite value",
        ),
        (|forest| forest.trees[0].values.truncate(1), "node"),
        (|forest| forest.trees[0].nodes.clear(), "there are 0 nodes"),
        (
            |forest| set_left(forest, 0),
            "two parents, or is its own ancestor",
        ),
        (|forest| set_left(forest, 99), "but node 99 is a child"),
        (
            |forest| forest.trees[0].linear.push(LinearLeaf::default()),
            "linear model",
        ),
    ];
    for (spoil, expected) in table {
        let mut forest = sound.clone();
        spoil(&mut forest);
        let error = forest.check().unwrap_err().0;
        assert!(error.contains(expected), "{error}");
    }
}

fn set_left(forest: &mut Forest, child: usize) {
    if let NodeKind::Split { left, .. } = &mut forest.trees[0].nodes[0].kind {
        *left = child;
    }
}

#[test]
fn rows_of_64_bits_are_not_summed_in_32() {
    let mut forest = Forest {
        width: 1,
        outputs: 1,
        row_precision: Precision::F64,
        sum_precision: Precision::F32,
        flushes_to_zero: false,
        base: vec![0.0],
        trees: Vec::new(),
    };
    let error = forest.check().unwrap_err();
    assert!(error.0.contains("64 bits"), "{error}");
    forest.sum_precision = Precision::F64;
    assert_eq!(forest.check(), Ok(()));
}
