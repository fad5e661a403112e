//! The guide: what README has no room for, one topic a file.
//!
//! `lanekeeper help TOPIC` prints these files, and this documentation shows them.

macro_rules! topics {
    ($($name:ident: $summary:literal,)*) => {
        $(
            #[doc = include_str!(concat!(stringify!($name), ".md"))]
            pub mod $name {}
        )*

        /// All topics, in the order in which they are listed.
        pub const TOPICS: &[Topic] = &[$(Topic {
            name: stringify!($name),
            summary: $summary,
            text: include_str!(concat!(stringify!($name), ".md")),
        }),*];
    };
}

/// A page of the guide.
#[derive(Debug)]
pub struct Topic {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it is about, in a few words.
    pub summary: &'static str,
    /// The page, as Markdown.
    pub text: &'static str,
}

topics! {
    api: "requests, answers, error codes, the access log",
    clients: "clients and platforms: Triton, KServe, MLflow, SageMaker, Vertex AI, Azure",
    models: "XGBoost, LightGBM and CatBoost files, golden rows, offline prediction",
    sklearn: "scikit-learn pipelines: estimators, exactness, columns",
    onnx: "ONNX graphs: operators, exactness, inputs and outputs",
    training: "training, algorithms, scores beside scikit-learn",
    console: "the page in a browser, /docs, Server-Timing, traces",
    probes: "what each probe means, in every state of the server",
    overload: "admission, deadlines, fair shares, CPU scheduling",
    limits: "what clients may hold, send and cost",
    settings: "all options, exit codes, signals",
    proxies: "HAProxy, nginx, Envoy, meshes, browsers, IPv6",
    metrics: "metrics, a dashboard, three alerts",
    kubernetes: "manifests, termination, the image",
    systemd: "the units, the watchdog, socket activation",
    drill: "load-test your own model",
    measured: "benchmarks and attacks",
    lexicon: "the words used here",
}

/// Finds a topic by its name.
pub fn topic(name: &str) -> Option<&'static Topic> {
    TOPICS.iter().find(|topic| topic.name == name)
}
