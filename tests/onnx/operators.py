"""Writes a case for each of many small graphs: every operator that is served, with its parameters.

    python operators.py FOLDER [SEED] [--count 1]

The seed is printed; the same seed gives the same graphs. With --count, each graph is made as often with
other random numbers.
"""

import argparse
import random
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from write_case import write_case

ROWS = 12
FLOAT, DOUBLE, INT, TEXT = (
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.INT64,
    TensorProto.STRING,
)
ML = "ai.onnx.ml"
DTYPES = {FLOAT: np.float32, DOUBLE: np.float64, INT: np.int64}


class Graph:
    """A graph that grows."""

    def __init__(self, seed):
        self.draw, self.rng = random.Random(seed), np.random.default_rng(seed)
        self.nodes, self.inputs, self.constants, self.columns = [], [], [], []
        self.names = 0

    def name(self):
        self.names += 1
        return f"t{self.names}"

    def table(self, width, kind=FLOAT, values=None):
        """An input of `width` columns."""
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, kind, [None, width]))
        if values is None:
            values = np.round(self.rng.normal(size=(ROWS, width)) * 2, 2)
        if kind in DTYPES:
            values = np.asarray(values).astype(DTYPES[kind])
        self.columns.extend(np.asarray(values).T.tolist())
        return name

    def constant(self, values, dtype=np.float32):
        name = self.name()
        array = np.asarray(values, dtype=dtype)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, operator, inputs, outputs=1, domain="", **attributes):
        names = [self.name() for _ in range(outputs)]
        attributes = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(operator, inputs, names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def model(self, outputs, opset=18, ml=3):
        """The graph with these outputs: names and types."""
        made = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs]
        graph = helper.make_graph(self.nodes, "g", self.inputs, made, self.constants)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid(ML, ml)]
        opsets.append(helper.make_opsetid("com.microsoft", 1))
        return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def one(operator, opset=18, domain="", kind=FLOAT, out=None, width=4, values=None, **attributes):
    """A graph of one operator on a table."""

    def make(g):
        x = g.table(width, kind, values)
        y = g.node(operator, [x], domain=domain, **attributes)
        return g.model([(y, out or kind)], opset)

    return make


def pair(operator, out=None, kind=FLOAT, second="constant"):
    """A graph of one operator on two tensors, one of them spread over the other."""

    def make(g):
        x = g.table(3, kind)
        y = g.table(g.draw.choice([1, 3]), kind) if second == "table" else g.constant(
            np.round(g.rng.normal(size=g.draw.choice([(), (1,), (3,), (1, 3)])) + 1.5, 2), DTYPES[kind]
        )
        inputs = [x, y] if g.draw.random() < 0.5 else [y, x]
        return g.model([(g.node(operator, inputs), out or kind)])

    return make


def logical(operator):
    def make(g):
        x, y = g.table(3), g.table(3)
        zero = g.constant([0.0])
        left, right = g.node("Greater", [x, zero]), g.node("Less", [y, zero])
        made = g.node("Cast", [g.node(operator, [left, right])], to=FLOAT)
        return g.model([(made, FLOAT)])

    return make


def reduction(operator, opset=18):
    def make(g):
        x = g.table(6)
        x = g.node("Reshape", [x, g.constant([-1, 2, 3], np.int64)])
        axis, keeps = g.draw.choice([1, 2, -1]), g.draw.choice([0, 1])
        if opset >= 18 or operator == "ReduceSum":
            y = g.node(operator, [x, g.constant([axis], np.int64)], keepdims=keeps)
        else:
            y = g.node(operator, [x], axes=[axis], keepdims=keeps)
        return g.model([(y, FLOAT)], opset)

    return make


def extreme(operator, last):
    def make(g):
        x = g.table(4, values=g.rng.integers(0, 3, (ROWS, 4)))
        y = g.node(operator, [x], axis=1, keepdims=g.draw.choice([0, 1]), select_last_index=last)
        return g.model([(y, INT), (g.node("Identity", [x]), FLOAT)])

    return make


def top_k(largest):
    def make(g):
        x = g.table(6, values=g.rng.integers(0, 4, (ROWS, 6)))
        values, places = g.node("TopK", [x, g.constant([3], np.int64)], 2, largest=largest)
        places = g.node("Cast", [places], to=FLOAT)
        return g.model([(g.node("Concat", [values, places], axis=1), FLOAT)])

    return make


def moves(g):
    x = g.table(6)
    y = g.node("Slice", [x, *[g.constant([n], np.int64) for n in (4, 0, 1, -2)]])
    z = g.node("Gather", [x, g.constant([-1, 0, 2], np.int64)], axis=1)
    parts = g.node("Split", [x, g.constant([1, 2, 3], np.int64)], 3, axis=1)
    w = g.node("ArrayFeatureExtractor", [x, g.constant([5, 1], np.int64)], domain=ML)
    t = g.node("Transpose", [g.node("Reshape", [x, g.constant([0, 3, 2], np.int64)])], perm=[0, 2, 1])
    t = g.node("Flatten", [t])
    u = g.node("Squeeze", [g.node("Unsqueeze", [x, g.constant([1], np.int64)]), g.constant([1], np.int64)])
    e = g.node("Expand", [g.node("Slice", [x, *[g.constant([n], np.int64) for n in (0, 1, 1)]]),
                          g.constant([1, 2], np.int64)])
    return g.model([(g.node("Concat", [y, z, *parts, w, t, u, e], axis=-1), FLOAT)])


def sizes(g):
    x = g.table(4)
    shape = g.node("Shape", [x])
    rows = g.node("Gather", [shape, g.constant([0], np.int64)])
    ones = g.node("ConstantOfShape", [g.node("Concat", [rows, g.constant([2], np.int64)], axis=0)])
    y = g.node("Reshape", [x, g.node("Concat", [rows, g.constant([2, -1], np.int64)], axis=0)])
    y = g.node("ReduceMax", [y], axes=[2], keepdims=0)
    return g.model([(g.node("Concat", [ones, y], axis=1), FLOAT)], 13)


def where(g):
    x = g.table(3)
    nan = g.node("Where", [g.node("Greater", [x, g.constant(1.0)]), g.constant(np.nan), x])
    y = g.node("Where", [g.node("IsNaN", [nan]), g.constant([7.0, 8.0, 9.0]), nan])
    return g.model([(y, FLOAT)])


def gemm(g):
    x = g.table(4)
    turned = g.draw.choice([0, 1])
    b = g.constant(g.rng.normal(size=(3, 4) if turned else (4, 3)))
    c = g.draw.choice([None, g.constant(g.rng.normal(size=3)), g.constant(g.rng.normal(size=(1, 1)))])
    y = g.node("Gemm", [x, b, *([c] if c else [])], transB=turned, alpha=0.5, beta=2.0)
    return g.model([(y, FLOAT)])


def matmul(g):
    x = g.table(4)
    y = g.node("MatMul", [x, g.constant(g.rng.normal(size=(4, 3)))])
    return g.model([(y, FLOAT)])


def normalization(g):
    x = g.table(3)
    parts = [g.constant(np.abs(g.rng.normal(size=3)) + 0.1) for _ in range(4)]
    return g.model([(g.node("BatchNormalization", [x, *parts]), FLOAT)], 15)


def cdist(metric):
    def make(g):
        x = g.table(3)
        y = g.node("CDist", [x, g.constant(g.rng.normal(size=(5, 3)))], domain="com.microsoft", metric=metric)
        return g.model([(y, FLOAT)])

    return make


def scaler(g):
    x = g.table(3, g.draw.choice([FLOAT, DOUBLE, INT]))
    count = g.draw.choice([1, 3])
    y = g.node("Scaler", [x], domain=ML, offset=g.rng.normal(size=count).tolist(), scale=g.rng.normal(size=count).tolist())
    return g.model([(y, FLOAT)])


def normalizer(norm):
    def make(g):
        values = np.round(g.rng.normal(size=(ROWS, 3)), 2)
        values[0] = 0
        return g.model([(g.node("Normalizer", [g.table(3, values=values)], domain=ML, norm=norm), FLOAT)])

    return make


def imputer(g):
    values = g.rng.integers(0, 3, (ROWS, 3)).astype(float)
    values[g.rng.random(values.shape) < 0.2] = np.nan
    missing = g.draw.choice([np.nan, 0.0, 2.0])
    if not np.isnan(missing):
        values = np.nan_to_num(values)
    fills = g.rng.normal(size=g.draw.choice([1, 3])).tolist()
    x = g.table(3, values=values)
    y = g.node("Imputer", [x], domain=ML, imputed_value_floats=fills, replaced_value_float=missing)
    return g.model([(y, FLOAT)])


def one_hot(kind):
    def make(g):
        if kind == TEXT:
            x = g.table(1, TEXT, g.rng.choice(["a", "b", "é", "zzz"], (ROWS, 1)))
            y = g.node("OneHotEncoder", [x], domain=ML, cats_strings=["é", "a", "b"])
        else:
            x = g.table(2, kind, np.round(g.rng.normal(size=(ROWS, 2)) * 2, 1))
            y = g.node("OneHotEncoder", [x], domain=ML, cats_int64s=[0, 1, -1, 3])
        y = g.node("Flatten", [y])
        return g.model([(y, FLOAT)])

    return make


def label_encoder(case):
    def make(g):
        text = g.rng.choice(["a", "b", "é", "zzz"], (ROWS, 1))
        whole = g.rng.integers(0, 5, (ROWS, 1))
        number = g.rng.choice([0.5, 1.0, np.nan, 3.0], (ROWS, 1))
        out, ml = FLOAT, 2
        if case == "texts":
            y = g.node("LabelEncoder", [g.table(1, TEXT, text)], domain=ML, keys_strings=["é", "a"],
                       values_floats=[1.5, 2.5], default_float=g.draw.choice([None, 9.0]))
        elif case == "whole":
            y = g.node("LabelEncoder", [g.table(1, INT, whole)], domain=ML, keys_int64s=[1, 2, 4],
                       values_int64s=[10, 20, 30], default_int64=g.draw.choice([None, 7]))
            out = INT
        elif case == "number":
            y = g.node("LabelEncoder", [g.table(1, FLOAT, number)], domain=ML,
                       keys_floats=[0.5, float("nan")], values_floats=[1.5, 2.5])
        else:
            keys = helper.make_tensor("k", TEXT, [2], ["a", "b"])
            values = helper.make_tensor("v", DOUBLE, [2], [0.1, 0.2])
            default = helper.make_tensor("d", DOUBLE, [1], [-5.5])
            y = g.node("LabelEncoder", [g.table(1, TEXT, text)], domain=ML, keys_tensor=keys,
                       values_tensor=values, default_tensor=default)
            out, ml = DOUBLE, 4
        return g.model([(y, out)], ml=ml)

    return make


def texts_equal(g):
    x = g.table(1, TEXT, g.rng.choice(["a", "b", "zzz"], (ROWS, 1)))
    constant = numpy_helper.from_array(np.array(["b"], dtype=object), "b")
    g.constants.append(constant)
    y = g.node("Cast", [g.node("Equal", [x, "b"])], to=FLOAT)
    return g.model([(y, FLOAT)], 19)


def category_mapper(g):
    x = g.table(1, TEXT, g.rng.choice(["a", "b", "zzz"], (ROWS, 1)))
    y = g.node("CategoryMapper", [x], domain=ML, cats_strings=["b", "a"], cats_int64s=[4, 9], default_int64=-7)
    return g.model([(g.node("Cast", [y], to=FLOAT), FLOAT)])


def vectorizer(g):
    x, y = g.table(2), g.table(3)
    return g.model([(g.node("FeatureVectorizer", [x, y], domain=ML, inputdimensions=[2, 3]), FLOAT)])


def linear_classifier(count, labels, transform):
    def make(g):
        x = g.table(3)
        names = ["no", "yes", "perhaps"][:labels] if g.draw.random() < 0.5 else None
        label, scores = g.node(
            "LinearClassifier", [x], 2, domain=ML, coefficients=g.rng.normal(size=3 * count).tolist(),
            intercepts=g.rng.normal(size=count).tolist(), post_transform=transform,
            classlabels_strings=names, classlabels_ints=None if names else [3, 1, 7][:labels])
        return g.model([(label, TEXT if names else INT), (scores, FLOAT)])

    return make


def linear_regressor(targets, transform):
    def make(g):
        x = g.table(3)
        y = g.node("LinearRegressor", [x], domain=ML, targets=targets, post_transform=transform,
                   coefficients=g.rng.normal(size=3 * targets).tolist(), intercepts=g.rng.normal(size=targets).tolist())
        return g.model([(y, FLOAT)])

    return make


MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


class Trees:
    """Random trees in the attributes of versions 1 and 3."""

    def __init__(self, g, count, features, classes, modes, single=None, signed=True):
        names = ["treeids", "nodeids", "modes", "featureids", "truenodeids", "falsenodeids", "values",
                 "missing_value_tracks_true"]
        self.nodes = {f"nodes_{name}": [] for name in names}
        self.leaves = {name: [] for name in ["treeids", "nodeids", "ids", "weights"]}
        for tree in range(count):
            self.grow(g, tree, g.draw.randint(1, 4), features, classes, modes,
                      single(tree) if single else None, signed)

    def add(self, *values):
        for column, value in zip(self.nodes.values(), values, strict=True):
            column.append(value)

    def grow(self, g, tree, depth, features, classes, modes, single, signed):
        def node(depth):
            own = len([t for t in self.nodes["nodes_treeids"] if t == tree])
            if depth == 0 or (depth < 3 and g.draw.random() < 0.2):
                self.add(tree, own, "LEAF", 0, 0, 0, 0.0, 0)
                for output in [single] if single is not None else range(classes):
                    weight = round(g.draw.uniform(-1 if signed else 0, 1), 3)
                    for name, value in zip(self.leaves, (tree, own, output, weight), strict=True):
                        self.leaves[name].append(value)
                return own
            mode = g.draw.choice(modes)
            value = float(g.draw.randint(0, 3)) if mode in MODES[4:] else round(g.draw.uniform(-2, 2), 1)
            self.add(tree, own, mode, g.draw.randrange(features), 0, 0, value, g.draw.choice([0, 1]))
            place = len(self.nodes["nodes_treeids"]) - 1
            self.nodes["nodes_truenodeids"][place] = node(depth - 1)
            self.nodes["nodes_falsenodeids"][place] = node(depth - 1)
            return own

        node(depth)

    def attributes(self, kind):
        return self.nodes | {f"{kind}_{name}": values for name, values in self.leaves.items()}


def rows_for_trees(g, width):
    values = np.round(g.rng.normal(size=(ROWS, width)) * 2, 1)
    values[:, 0] = g.rng.integers(-1, 4, ROWS)
    values[g.rng.random(values.shape) < 0.1] = np.nan
    return values


def tree_regressor(targets, aggregate, transform="NONE", modes=MODES, kind=FLOAT):
    def make(g):
        x = g.table(3, kind, rows_for_trees(g, 3))
        trees = Trees(g, 4, 3, targets, modes)
        base = g.draw.choice([None, np.round(g.rng.normal(size=targets), 2).tolist()])
        y = g.node("TreeEnsembleRegressor", [x], domain=ML, n_targets=targets, aggregate_function=aggregate,
                   post_transform=transform, base_values=base, **trees.attributes("target"))
        return g.model([(y, FLOAT)])

    return make


def tree_classifier(classes, transform, single, signed, base=0, kind=FLOAT):
    def make(g):
        x = g.table(3, kind, rows_for_trees(g, 3))
        count = 6
        trees = Trees(g, count, 3, classes, MODES[:4], single, signed)
        if not signed:
            trees.leaves["weights"] = [weight / count for weight in trees.leaves["weights"]]
        names = ["no", "yes", "perhaps"][:classes] if g.draw.random() < 0.5 else None
        label, scores = g.node(
            "TreeEnsembleClassifier", [x], 2, domain=ML, post_transform=transform,
            base_values=np.round(g.rng.normal(size=base), 2).tolist() if base else None,
            classlabels_strings=names, classlabels_int64s=None if names else list(range(classes)),
            **trees.attributes("class"))
        return g.model([(label, TEXT if names else INT), (scores, FLOAT)])

    return make


def tree_ensemble(transform, aggregate, kind=FLOAT):
    """Version 5: one tree by hand with a set of members, and one that is a leaf."""

    def make(g):
        x = g.table(3, kind, rows_for_trees(g, 3))
        dtype = DTYPES[kind]
        tensor = lambda name, values, own=dtype: numpy_helper.from_array(np.array(values, own), name)
        weights = np.round(g.rng.normal(size=6), 3)
        y = g.node(
            "TreeEnsemble", [x], domain=ML, n_targets=2, aggregate_function=aggregate, post_transform=transform,
            tree_roots=[0, 3], nodes_featureids=[1, 0, 2, 0], nodes_truenodeids=[1, 0, 2, 5],
            nodes_falsenodeids=[2, 1, 3, 5], nodes_trueleafs=[0, 1, 1, 1], nodes_falseleafs=[0, 1, 1, 1],
            nodes_missing_value_tracks_true=[1, 0, 0, 0], leaf_targetids=[0, 1, 0, 1, 0, 1],
            nodes_modes=tensor("m", [g.draw.choice([0, 1, 2, 3]), 6, g.draw.choice([0, 3]), 0], np.uint8),
            nodes_splits=tensor("s", [0.3, 0.0, -0.2, 0.0]),
            membership_values=tensor("v", [1.0, 3.0, np.nan]), leaf_weights=tensor("w", weights))
        return g.model([(y, kind)], ml=5)

    return make


def svm_classifier(classes, kernel, probability):
    def make(g):
        x = g.table(3)
        per_class = [g.draw.randint(1, 3) for _ in range(classes)]
        count, pairs = sum(per_class), classes * (classes - 1) // 2
        label, scores = g.node(
            "SVMClassifier", [x], 2, domain=ML, kernel_type=kernel, kernel_params=[0.3, 0.2, 2.0],
            classlabels_ints=[4, 2, 9][:classes], vectors_per_class=per_class, rho=g.rng.normal(size=pairs).tolist(),
            coefficients=g.rng.normal(size=count * (classes - 1)).tolist(),
            support_vectors=g.rng.normal(size=count * 3).tolist(),
            prob_a=(-np.abs(g.rng.normal(size=pairs))).tolist() if probability else None,
            prob_b=g.rng.normal(size=pairs).tolist() if probability else None)
        return g.model([(label, INT), (scores, FLOAT)])

    return make


def svm_linear(g):
    x = g.table(3)
    label, scores = g.node("SVMClassifier", [x], 2, domain=ML, kernel_type="LINEAR", classlabels_ints=[1, 5, 6],
                           coefficients=g.rng.normal(size=9).tolist(), rho=[0.25], post_transform=g.draw.choice(["NONE", "LOGISTIC"]))
    return g.model([(label, INT), (scores, FLOAT)])


def svm_regressor(kernel, one_class):
    def make(g):
        x = g.table(3)
        y = g.node("SVMRegressor", [x], domain=ML, kernel_type=kernel, kernel_params=[0.3, 0.2, 2.0], n_supports=4,
                   coefficients=g.rng.normal(size=4).tolist(), support_vectors=g.rng.normal(size=12).tolist(),
                   rho=[0.1], one_class=one_class)
        return g.model([(y, FLOAT)])

    return make


def cases():
    """The graphs by name."""
    made = {}
    positive = ["Sqrt", "Log", "Reciprocal"]
    for name in ["Abs", "Atan", "Ceil", "Cos", "Exp", "Floor", "Neg", "Relu", "Round", "Sigmoid", "Sign", "Sin",
                 "Softplus", "Softsign", "Tan", "Tanh", "Identity", "Dropout", *positive]:
        for kind in (FLOAT, DOUBLE):
            values = np.linspace(0.3, 4, ROWS * 4).reshape(ROWS, 4) if name in positive else None
            made[f"{name} {kind}"] = one(name, kind=kind, values=values)
    for name in ["LeakyRelu", "Elu", "ThresholdedRelu", "Selu", "HardSigmoid"]:
        made[name] = one(name)
        made[f"{name} alpha"] = one(name, alpha=0.3)
    made["Clip 10"] = one("Clip", 10, min=-0.5, max=1.0)
    for name in ["Softmax", "LogSoftmax"]:
        made[name] = one(name)
        made[f"{name} 11"] = one(name, 11)
        made[f"{name} double"] = one(name, kind=DOUBLE)
    for name in ["Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean"]:
        for second in ("constant", "table"):
            made[f"{name} {second}"] = pair(name, second=second)
        made[f"{name} double"] = pair(name, kind=DOUBLE)
    for name in ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"]:
        made[name] = lambda g, name=name: (
            lambda x, y: g.model([(g.node("Cast", [g.node(name, [x, y])], to=FLOAT), FLOAT)])
        )(g.table(3, values=g.rng.integers(0, 3, (ROWS, 3))), g.table(3, values=g.rng.integers(0, 3, (ROWS, 3))))
    made["Div whole"] = lambda g: g.model(
        [(g.node("Div", [g.table(3, INT, g.rng.integers(-9, 9, (ROWS, 3))), g.constant([2, -3, 4], np.int64)]), INT)])
    made["Pow"] = lambda g: g.model(
        [(g.node("Pow", [g.node("Abs", [g.table(3)]), g.constant([2.0, 0.5, 3.0])]), FLOAT)])
    made["PRelu"] = lambda g: g.model([(g.node("PRelu", [g.table(3), g.constant([0.1, 0.2, 3.0])]), FLOAT)])
    for name in ["And", "Or", "Xor"]:
        made[name] = logical(name)
    made["Not"] = lambda g: g.model([(g.node("Cast", [g.node("Not", [g.node("Less", [g.table(3), g.constant(0.0)])])], to=FLOAT), FLOAT)])
    for name in ["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp"]:
        made[f"Reduce{name}"] = reduction(f"Reduce{name}")
        made[f"Reduce{name} 13"] = reduction(f"Reduce{name}", 13)
    for name in ["ArgMax", "ArgMin"]:
        for last in (0, 1):
            made[f"{name} {last}"] = extreme(name, last)
    for largest in (0, 1):
        made[f"TopK {largest}"] = top_k(largest)
    made |= {"moves": moves, "sizes": sizes, "Where": where, "Gemm": gemm, "MatMul": matmul}
    made |= {"BatchNormalization": normalization, "Scaler": scaler, "Imputer": imputer}
    for metric in ("euclidean", "sqeuclidean"):
        made[f"CDist {metric}"] = cdist(metric)
    for norm in ("MAX", "L1", "L2"):
        made[f"Normalizer {norm}"] = normalizer(norm)
    made["Binarizer"] = one("Binarizer", domain=ML, threshold=0.5)
    for kind in (FLOAT, INT, DOUBLE, TEXT):
        made[f"OneHotEncoder {kind}"] = one_hot(kind)
    for case in ("texts", "whole", "number", "tensor"):
        made[f"LabelEncoder {case}"] = label_encoder(case)
    made |= {"Equal texts": texts_equal, "CategoryMapper": category_mapper, "FeatureVectorizer": vectorizer}
    for transform in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"):
        made[f"LinearClassifier 3 {transform}"] = linear_classifier(3, 3, transform)
        made[f"LinearClassifier 2 {transform}"] = linear_classifier(2, 2, transform)
        made[f"LinearRegressor 3 {transform}"] = linear_regressor(3, transform)
    for transform in ("NONE", "LOGISTIC"):
        made[f"LinearClassifier 1 {transform}"] = linear_classifier(1, 2, transform)
        made[f"LinearRegressor 1 {transform}"] = linear_regressor(1, transform)
    for mode in MODES:
        made[f"TreeEnsembleRegressor {mode}"] = tree_regressor(1, "SUM", modes=[mode])
    for aggregate in ("SUM", "AVERAGE"):
        for targets in (1, 3):
            made[f"TreeEnsembleRegressor {aggregate} {targets}"] = tree_regressor(targets, aggregate)
        made[f"TreeEnsembleRegressor {aggregate} double"] = tree_regressor(2, aggregate, kind=DOUBLE)
    for transform in ("LOGISTIC", "SOFTMAX"):
        for targets in (1, 2):
            made[f"TreeEnsembleRegressor {transform} {targets}"] = tree_regressor(targets, "SUM", transform)
    for transform in ("NONE", "LOGISTIC", "SOFTMAX"):
        for base in (0, 3):
            name = f"TreeEnsembleClassifier {transform} {base}"
            made[f"{name} boosted"] = tree_classifier(3, transform, lambda tree: tree % 3, True, base)
            made[f"{name} voting"] = tree_classifier(3, transform, None, False, base)
        for base in (0, 1, 2):
            name = f"TreeEnsembleClassifier two {transform} {base}"
            for which in (0, 1):
                made[f"{name} one score {which}"] = tree_classifier(2, transform, lambda _, which=which: which, True, base)
            made[f"{name} share"] = tree_classifier(2, transform, lambda _: 0, False, base)
            made[f"{name} both"] = tree_classifier(2, transform, None, True, base)
    made["TreeEnsembleClassifier double"] = tree_classifier(3, "NONE", None, False, kind=DOUBLE)
    for transform in (0, 1, 2):
        for aggregate in (0, 1):
            made[f"TreeEnsemble {transform} {aggregate}"] = tree_ensemble(transform, aggregate)
    made["TreeEnsemble double"] = tree_ensemble(0, 1, DOUBLE)
    for kernel in ("RBF", "POLY", "SIGMOID", "LINEAR"):
        for classes in (2, 3):
            for probability in (False, True):
                made[f"SVMClassifier {kernel} {classes} {probability}"] = svm_classifier(classes, kernel, probability)
        made[f"SVMRegressor {kernel}"] = svm_regressor(kernel, 0)
    made["SVMRegressor one class"] = svm_regressor("RBF", 1)
    made["SVMClassifier linear"] = svm_linear
    return made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("seed", type=int, nargs="?", default=1)
    parser.add_argument("--count", type=int, default=1)
    options = parser.parse_args()
    print(f"seed {options.seed}")
    made = 0
    for index, (name, make) in enumerate(cases().items()):
        for turn in range(options.count):
            graph = Graph(options.seed * 100_000 + turn * 1_000 + index)
            folder = options.folder / f"{name.lower().replace(' ', '_')}_{turn}"
            try:
                write_case(folder, make(graph), graph.columns)
            except Exception as error:
                print(f"{name}: {type(error).__name__}: {str(error)[:150]}")
                continue
            made += 1
    print(f"{made} graphs")


if __name__ == "__main__":
    main()
