//! The operators that are known: one table.

use super::compiler::{GraphCompiler, KnownTensor, OperatorResult};
use super::proto::GraphNode;
use super::{choices, elementwise, fitted, preparing, products, reductions, sizes, tensors, trees};
use crate::models::Exactness;

/// ONNX's own operators, ONNX-ML's, and onnxruntime's.
pub(super) const ONNX: &str = "";
pub(super) const ML: &str = "ai.onnx.ml";
const RUNTIME: &str = "com.microsoft";

/// The versions of ONNX's operators that are served.
pub(super) const OPSETS: std::ops::RangeInclusive<i64> = 7..=28;

/// The versions of ONNX-ML's operators that are served.
pub(super) const ML_OPSETS: std::ops::RangeInclusive<i64> = 1..=5;

/// Reads a node.
pub(super) type Read =
    fn(&mut GraphCompiler, &GraphNode<'_>, &[Option<KnownTensor>]) -> OperatorResult;

/// An operator.
pub(super) struct Operator {
    pub(super) domain: &'static str,
    pub(super) name: &'static str,
    /// How close its results are to onnxruntime's.
    pub(super) exactness: Exactness,
    pub(super) read: Read,
}

/// Operators of a domain that are as exact as each other and are read by the same function.
macro_rules! operators {
    ($($domain:ident $exactness:ident $read:path: $($name:literal)+;)+) => {
        &[$($(Operator {
            domain: $domain,
            name: $name,
            exactness: Exactness::$exactness,
            read: $read,
        },)+)+]
    };
}

pub(super) const KNOWN: &[Operator] = operators! {
    ONNX Bits tensors::identity: "Identity" "Dropout";
    ONNX Bits tensors::constant: "Constant";
    ONNX Bits sizes::constant_of_shape: "ConstantOfShape";
    ONNX Bits sizes::shape: "Shape";
    ONNX Bits tensors::reshape: "Reshape";
    ONNX Bits tensors::flatten: "Flatten";
    ONNX Bits tensors::squeeze: "Squeeze";
    ONNX Bits tensors::unsqueeze: "Unsqueeze";
    ONNX Bits tensors::transpose: "Transpose";
    ONNX Bits tensors::concat: "Concat";
    ONNX Bits choices::gather: "Gather";
    ONNX Bits choices::slice: "Slice";
    ONNX Bits choices::split: "Split";
    ONNX Bits tensors::expand: "Expand";
    ONNX Bits tensors::cast: "Cast";
    ONNX Bits elementwise::binary: "Add" "Sub" "Mul" "Div" "Max" "Min" "Sum" "Mean" "PRelu"
        "Greater" "GreaterOrEqual" "Less" "LessOrEqual" "And" "Or" "Xor";
    ONNX Bits elementwise::equal: "Equal";
    ONNX Bits elementwise::choose: "Where";
    ONNX Bits elementwise::test: "Not" "IsNaN";
    ONNX Bits elementwise::function: "Abs" "Ceil" "Floor" "Neg" "Reciprocal" "Relu" "Round" "Sign" "Sqrt";
    ONNX Bits elementwise::with_parameters: "Clip" "LeakyRelu" "ThresholdedRelu";
    ONNX Bits reductions::extreme: "ArgMax" "ArgMin";
    ONNX Bits reductions::top_k: "TopK";
    ONNX Bits reductions::reduction_of: "ReduceMax" "ReduceMin";
    ONNX Single elementwise::binary: "Pow";
    ONNX Single elementwise::function: "Atan" "Cos" "Exp" "Log" "Sigmoid" "Sin" "Softplus" "Softsign" "Tan" "Tanh";
    ONNX Single elementwise::with_parameters: "Elu" "HardSigmoid" "Selu";
    ONNX Single reductions::reduction_of: "ReduceSum" "ReduceMean" "ReduceProd" "ReduceL1" "ReduceL2"
        "ReduceSumSquare" "ReduceLogSum" "ReduceLogSumExp";
    ONNX Single reductions::softmax: "Softmax" "LogSoftmax";
    ONNX Single products::product: "MatMul";
    ONNX Single products::general_product: "Gemm";
    ONNX Single products::batch_normalization: "BatchNormalization";
    ONNX Single products::scan: "Scan";
    RUNTIME Single products::stored_distances: "CDist";
    ML Bits choices::extractor: "ArrayFeatureExtractor";
    ML Bits preparing::binarizer: "Binarizer";
    ML Bits preparing::category_mapper: "CategoryMapper";
    ML Bits preparing::feature_vectorizer: "FeatureVectorizer";
    ML Bits preparing::imputer: "Imputer";
    ML Bits preparing::label_encoder: "LabelEncoder";
    ML Bits preparing::one_hot: "OneHotEncoder";
    ML Bits preparing::scaler: "Scaler";
    ML Bits fitted::zip_map: "ZipMap";
    ML Bits trees::classifier: "TreeEnsembleClassifier";
    ML Bits trees::regressor: "TreeEnsembleRegressor";
    ML Bits trees::ensemble: "TreeEnsemble";
    ML Single preparing::normalizer: "Normalizer";
    ML Single fitted::linear_classifier: "LinearClassifier";
    ML Single fitted::linear_regressor: "LinearRegressor";
    ML Single fitted::svm_classifier: "SVMClassifier";
    ML Single fitted::svm_regressor: "SVMRegressor";
};

/// The operator of a node.
pub(super) fn find(node: &GraphNode<'_>) -> Option<&'static Operator> {
    KNOWN
        .iter()
        .find(|known| known.domain == node.domain && known.name == node.operator)
}

/// An operator's name with its domain.
pub(super) fn full_name(domain: &str, name: &str) -> String {
    match domain {
        ONNX => name.to_owned(),
        domain => format!("{domain}.{name}"),
    }
}

/// The operators that are known, by domain, version and exactness, as a table in Markdown.
pub fn operators() -> String {
    let versions =
        |known: std::ops::RangeInclusive<i64>| format!(" {} to {}", known.start(), known.end());
    let domains = [
        (ONNX, format!("ai.onnx{}", versions(OPSETS))),
        (ML, format!("{ML}{}", versions(ML_OPSETS))),
        (RUNTIME, RUNTIME.to_owned()),
    ];
    let mut table =
        "| domain | its results and onnxruntime's are | operators |\n|---|---|---|\n".to_owned();
    for (domain, shown) in domains {
        for exactness in [Exactness::Bits, Exactness::Single] {
            let own = |known: &&Operator| known.domain == domain && known.exactness == exactness;
            let mut names: Vec<&str> = KNOWN.iter().filter(own).map(|known| known.name).collect();
            names.sort_unstable();
            if !names.is_empty() {
                table += &format!(
                    "| {shown} | {} | {} |\n",
                    exactness.describe(),
                    names.join(", ")
                );
            }
        }
    }
    table
}
