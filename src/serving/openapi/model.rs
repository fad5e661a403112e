//! The schemas of what the served model takes and returns.
//!
//! A model may have thousands of features, and a feature thousands of labels. Names and labels are
//! listed as long as there is room; what is not listed is described without its name.

use serde_json::{Map, Value, json};

use super::parts::schema;
use crate::models::signature::Unseen;
use crate::models::slot::ModelVersion;
use crate::models::{
    AnswerSource, Feature, FeatureKind, Loaded, OutputSpec, ShortNumber, Signature, is_whole,
};

/// How many features, and how many labels of one kind, are listed.
const FEATURES_LISTED: usize = 300;
const LABELS_LISTED: usize = 100;

/// The length of all that is listed, in bytes.
pub(super) const LISTED_BYTES_MAX: usize = 64 << 10;

/// What a name or label counts beyond its own length.
const TEXT_BYTES: usize = 32;

/// How many values of a feature are shown.
const VALUES_SHOWN: usize = 3;

/// A model, and how much of it is listed.
pub(super) struct ModelOutline<'a> {
    loaded: &'a Loaded,
    /// The first features.
    pub(super) listed: &'a [Feature],
    /// For each of them, whether its labels are listed.
    has_labels: Vec<bool>,
    /// Whether the classes are listed.
    has_classes: bool,
    /// Rows that it takes, as clients send them; none if not all features are listed.
    rows: Vec<Vec<Value>>,
}

/// Takes room for texts, all or none of them.
fn fits<'a>(room: &mut usize, texts: impl Iterator<Item = &'a str>) -> bool {
    let mut left = *room;
    for text in texts {
        let Some(less) = left.checked_sub(text.len() + TEXT_BYTES) else {
            return false;
        };
        left = less;
    }
    *room = left;
    true
}

/// What listing takes, in bytes of text.
pub(super) fn listed_bytes(version: &ModelVersion) -> usize {
    let signature = version.model().signature();
    let mut bytes = 0_usize;
    let mut add = |text: &str| {
        bytes = bytes.saturating_add(text.len() + TEXT_BYTES);
        bytes < LISTED_BYTES_MAX
    };
    let mut labels = signature.output.labels().iter().take(LABELS_LISTED + 1);
    let mut goes_on = labels.all(|label| add(label));
    for feature in signature.features.iter().take(FEATURES_LISTED) {
        goes_on = goes_on && add(&feature.name);
        if let FeatureKind::Category { labels, .. } = &feature.kind {
            let mut labels = labels.iter().take(LABELS_LISTED + 1);
            goes_on = goes_on && labels.all(|label| add(label));
        }
    }
    bytes.min(LISTED_BYTES_MAX)
}

impl<'a> ModelOutline<'a> {
    /// Decides what of a model is listed.
    pub(super) fn new(version: &'a ModelVersion) -> Self {
        let loaded = &*version.loaded;
        let signature = version.model().signature();
        let mut room = LISTED_BYTES_MAX;
        let features = &signature.features[..];
        let first = features.iter().take(FEATURES_LISTED);
        let count = first
            .take_while(|feature| fits(&mut room, [feature.name.as_str()].into_iter()))
            .count();
        let listed = &features[..count];
        let labels = signature.output.labels();
        let has_classes =
            labels.len() <= LABELS_LISTED && fits(&mut room, labels.iter().map(String::as_str));
        let has_labels = listed.iter().map(|feature| match &feature.kind {
            FeatureKind::Category { labels, .. } => {
                labels.len() <= LABELS_LISTED && fits(&mut room, labels.iter().map(String::as_str))
            }
            _ => true,
        });
        ModelOutline {
            loaded,
            listed,
            has_labels: has_labels.collect(),
            has_classes,
            rows: match count == features.len() {
                true => rows(loaded, &mut room),
                false => Vec::new(),
            },
        }
    }

    /// The model's name.
    pub(super) fn name(&self) -> &'a str {
        &self.loaded.name
    }

    /// What the model takes and returns.
    pub(super) fn signature(&self) -> &'a Signature {
        self.loaded.model.signature()
    }

    /// A row that the model takes.
    pub(super) fn row(&self) -> Option<&[Value]> {
        self.rows.first().map(Vec::as_slice)
    }

    /// The same by the names of its features.
    pub(super) fn record(&self) -> Option<Value> {
        let names = self.listed.iter().map(|feature| feature.name.clone());
        let record: Map<String, Value> = names.zip(self.row()?.iter().cloned()).collect();
        Some(record.into())
    }

    /// Whether a row may lack this feature's name.
    fn required(&self) -> Vec<&'a str> {
        let required = self.listed.iter().filter(|feature| !feature.is_unused());
        required.map(|feature| feature.name.as_str()).collect()
    }

    /// How many features there are beyond those that are listed.
    fn unlisted(&self) -> usize {
        self.signature().width() - self.listed.len()
    }

    /// The schemas by name.
    pub(super) fn schemas(&self, rows_max: usize) -> Map<String, Value> {
        let mut schemas = Map::new();
        let mut add = |name: &str, schema: Value| schemas.insert(name.to_owned(), schema);
        add("Instance", self.instance());
        add("Row", self.row_schema());
        add("Columns", self.columns());
        add("Value", value(self.signature()));
        add("Instances", instances(rows_max));
        add("Prediction", self.prediction());
        add("Answer", self.answer());
        if let OutputSpec::Classes {
            has_probabilities: true,
            ..
        } = self.signature().output
        {
            add("Probabilities", self.probabilities());
        }
        schemas
    }

    /// An object by the names of the features.
    fn instance(&self) -> Value {
        let mut properties = Map::new();
        for (place, feature) in self.listed.iter().enumerate() {
            let mut schema = described(feature, self.has_labels[place]);
            let mut shown: Vec<&Value> = Vec::new();
            let ends = feature.range.unwrap_or_default().map(Value::from);
            if feature.range.is_some() {
                shown.extend(&ends);
            }
            for row in &self.rows {
                if shown.len() < VALUES_SHOWN && !shown.contains(&&row[place]) {
                    shown.push(&row[place]);
                }
            }
            if !shown.is_empty() && schema.get("examples").is_none() {
                schema["examples"] = json!(shown);
            }
            properties.insert(feature.name.clone(), schema);
        }
        let mut schema = json!({
            "type": "object",
            "description": "A row by the names of its features. Other names are ignored.",
            "properties": properties,
            "required": self.required(),
        });
        let unlisted = self.unlisted();
        if unlisted > 0 {
            let width = self.signature().width();
            schema["description"] = format!(
                "A row by the names of its {width} features, of which {unlisted} are not listed here. Other names are ignored."
            )
            .into();
            let needed = self.signature().features.iter();
            let needed = needed.filter(|feature| !feature.is_unused()).count();
            schema["minProperties"] = needed.into();
        }
        if let Some(record) = self.record() {
            schema["examples"] = json!([record]);
        }
        schema
    }

    /// The values in the order of the features.
    fn row_schema(&self) -> Value {
        let width = self.signature().width();
        let mut schema = json!({
            "type": "array",
            "description": "A row's values in the order of the model's features.",
            "minItems": width,
            "maxItems": width,
        });
        let plain = |place: usize| plain(&self.listed[place], self.has_labels[place]);
        let is_uniform = self
            .signature()
            .features
            .windows(2)
            .all(|pair| pair[0].kind == pair[1].kind && alike(&pair[0], &pair[1]));
        if is_uniform && !self.listed.is_empty() {
            schema["items"] = plain(0);
        } else if self.unlisted() == 0 {
            schema["prefixItems"] = (0..self.listed.len()).map(plain).collect();
            schema["items"] = false.into();
        } else {
            schema["items"] = value(self.signature());
        }
        if let Some(row) = self.row() {
            schema["examples"] = json!([row]);
        }
        schema
    }

    /// A list of values for each feature.
    fn columns(&self) -> Value {
        let mut schema = columns();
        schema["required"] = json!(self.required());
        if let Some(Value::Object(record)) = self.record() {
            let columns = record
                .into_iter()
                .map(|(name, value)| (name, json!([value])));
            schema["examples"] = json!([Value::Object(columns.collect())]);
        }
        schema
    }

    /// The prediction for a row, as this server's own form has it.
    fn prediction(&self) -> Value {
        match &self.signature().output {
            OutputSpec::Classes { labels, .. } => self.label(labels),
            OutputSpec::Numbers { width } => numbers(*width),
        }
    }

    /// What protocols with room for one answer give.
    fn answer(&self) -> Value {
        let answer = self.loaded.answer;
        match answer.source {
            AnswerSource::Labels => self.label(self.signature().output.labels()),
            _ => numbers(answer.width),
        }
    }

    fn label(&self, labels: &[String]) -> Value {
        let are_whole = labels.iter().all(|label| is_whole(label));
        let number = |label: &String| label.parse::<i64>().ok();
        match (are_whole, self.has_classes) {
            (true, true) => {
                json!({"type": "integer", "enum": labels.iter().map(number).collect::<Vec<_>>()})
            }
            (true, false) => json!({"type": "integer"}),
            (false, true) => json!({"type": "string", "enum": labels}),
            (false, false) => json!({"type": "string"}),
        }
    }

    fn probabilities(&self) -> Value {
        let number = json!({"type": "number"});
        let mut schema = json!({
            "type": "object",
            "description": "The probability of each class.",
            "additionalProperties": number,
        });
        if self.has_classes {
            let labels = self.signature().output.labels();
            let each = labels.iter().map(|label| (label.clone(), number.clone()));
            schema["properties"] = Value::Object(each.collect());
            schema["required"] = json!(labels);
        }
        schema
    }
}

/// The schemas by name while no model is loaded.
pub(super) fn unknown(rows_max: usize) -> Map<String, Value> {
    let mut schemas = Map::new();
    let mut add = |name: &str, schema: Value| schemas.insert(name.to_owned(), schema);
    let scalar = json!({"type": ["number", "string", "boolean", "null"]});
    add(
        "Instance",
        json!({"type": "object", "description": "A row by the names of its features."}),
    );
    add(
        "Row",
        json!({
            "type": "array",
            "description": "A row's values in the order of the model's features.",
            "items": scalar,
        }),
    );
    add("Columns", columns());
    add("Value", scalar);
    add("Instances", instances(rows_max));
    let answer = json!({"description": "A class, a number, or a list of numbers."});
    add("Prediction", answer.clone());
    add("Answer", answer);
    add(
        "Probabilities",
        json!({"type": "object", "additionalProperties": {"type": "number"}}),
    );
    schemas
}

/// Rows as lists of values or as objects.
fn instances(rows_max: usize) -> Value {
    json!({
        "type": "array",
        "description": "Rows: lists of values, or objects by the names of the features.",
        "minItems": 1,
        "maxItems": rows_max,
        "items": {"anyOf": [schema("Row"), schema("Instance")]},
    })
}

fn columns() -> Value {
    json!({
        "type": "object",
        "description": "A list of values for each feature, all equally long. Other names are ignored.",
        "additionalProperties": {"type": "array", "minItems": 1, "items": schema("Value")},
    })
}

/// Rows that a model takes, as clients send them.
fn rows(loaded: &Loaded, room: &mut usize) -> Vec<Vec<Value>> {
    let signature = loaded.model.signature();
    let golden = loaded.golden.iter().map(|golden| golden.row.clone());
    let mut rows = Vec::new();
    for row in [loaded.example()]
        .into_iter()
        .chain(golden.take(VALUES_SHOWN))
    {
        let text = signature.json_row(&row);
        if !fits(room, [text.as_str()].into_iter()) {
            break;
        }
        // A row with an infinity is no JSON.
        rows.extend(serde_json::from_str::<Vec<Value>>(&text).ok());
    }
    rows
}

/// Whether the values of two features of the same kind are described alike.
fn alike(one: &Feature, other: &Feature) -> bool {
    (one.may_be_missing, one.may_be_infinite) == (other.may_be_missing, other.may_be_infinite)
}

/// One number, or a list of several.
fn numbers(width: usize) -> Value {
    match width {
        1 => json!({"type": "number"}),
        _ => json!({
            "type": "array",
            "items": {"type": "number"},
            "minItems": width,
            "maxItems": width,
        }),
    }
}

/// A value of any feature.
fn value(signature: &Signature) -> Value {
    let mut types = Vec::new();
    for feature in &signature.features {
        let own: &[&str] = match &feature.kind {
            _ if feature.is_unused() => &["number", "string", "boolean", "null"],
            FeatureKind::Number if feature.may_be_infinite => &["number", "string"],
            FeatureKind::Number | FeatureKind::WholeNumber => &["number"],
            FeatureKind::YesNo => &["boolean"],
            FeatureKind::Moment(_) => &["string"],
            FeatureKind::Category { .. } => &["string", "number"],
        };
        let null = feature.may_be_missing.then_some("null");
        for one in own.iter().copied().chain(null) {
            if !types.contains(&one) {
                types.push(one);
            }
        }
    }
    match types[..] {
        [one] => json!({"type": one}),
        _ => json!({"type": types}),
    }
}

/// The values of a feature, in words too.
fn described(feature: &Feature, has_labels: bool) -> Value {
    let mut schema = plain(feature, has_labels);
    let text = match &feature.kind {
        _ if feature.is_unused() => "the model does not look at it".to_owned(),
        FeatureKind::Number => "a number".to_owned(),
        FeatureKind::WholeNumber => "a whole number".to_owned(),
        FeatureKind::YesNo | FeatureKind::Moment(_) => feature.kind.must_be(),
        FeatureKind::Category { labels, unseen } => {
            let other = match unseen {
                Unseen::Refuse => "others are refused",
                Unseen::Missing => "others count as missing",
                Unseen::Other => "others count as none of them",
                Unseen::Code => "a number is taken for a category's code",
            };
            format!("one of {} labels; {other}", labels.len())
        }
    };
    let range = feature.range.map_or_else(String::new, |[least, most]| {
        let [least, most] = [least, most].map(ShortNumber);
        format!("; {least} to {most} in training")
    });
    let missing = match feature.may_be_missing && !feature.is_unused() {
        true => "; null if it is missing",
        false => "",
    };
    schema["description"] = format!("{text}{range}{missing}").into();
    if let FeatureKind::Category { labels, .. } = &feature.kind
        && has_labels
        && schema.get("enum").is_none()
        && !labels.is_empty()
    {
        schema["examples"] = json!(&labels[..]);
    }
    schema
}

/// The values of a feature.
fn plain(feature: &Feature, has_labels: bool) -> Value {
    if feature.is_unused() {
        return json!({"type": ["number", "string", "boolean", "null"]});
    }
    let mut types = match &feature.kind {
        FeatureKind::Number if feature.may_be_infinite => {
            let mut any = vec![
                json!({"type": "number"}),
                json!({"enum": ["Infinity", "-Infinity"]}),
            ];
            if feature.may_be_missing {
                any.push(json!({"type": "null"}));
            }
            return json!({"anyOf": any});
        }
        FeatureKind::Number => vec!["number"],
        FeatureKind::WholeNumber => vec!["integer"],
        FeatureKind::YesNo => vec!["boolean"],
        FeatureKind::Moment(_) => vec!["string"],
        FeatureKind::Category { labels, unseen } => match unseen {
            Unseen::Refuse if has_labels => return one_of(labels, feature.may_be_missing),
            Unseen::Code => vec!["string", "number"],
            _ if labels.iter().any(|label| is_whole(label)) => vec!["string", "number"],
            _ => vec!["string"],
        },
    };
    if feature.may_be_missing {
        types.push("null");
    }
    let mut schema = match types[..] {
        [one] => json!({"type": one}),
        _ => json!({"type": types}),
    };
    if let FeatureKind::Moment(order) = &feature.kind {
        schema["examples"] = json!([order.example()]);
    }
    schema
}

/// Labels; one that is a whole number may be sent as one.
fn one_of(labels: &[String], may_be_missing: bool) -> Value {
    let texts = labels.iter().map(|label| Value::from(label.as_str()));
    let numbers = labels.iter().filter(|label| is_whole(label));
    let numbers = numbers.filter_map(|label| label.parse::<i64>().ok());
    // Beyond 2^53, another number would read back.
    let exact =
        numbers.filter(|number| ShortNumber(*number as f64).to_string() == number.to_string());
    let mut values: Vec<Value> = texts.chain(exact.map(Value::from)).collect();
    if may_be_missing {
        values.push(Value::Null);
    }
    json!({"enum": values})
}
