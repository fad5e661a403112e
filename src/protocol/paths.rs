//! The paths of V2 and V1, which name a model and perhaps its version.
//!
//! A path is split at its slashes first; only then are the segments of model and version decoded, once.
//! So a name may hold any character, and no path means another than it looks like.

use percent_encoding::percent_decode_str;

use super::ModelTarget;

/// What is asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// What it takes and returns, or its state in V1.
    Describe,
    /// Whether it is ready.
    Ready,
    /// Its configuration, as Triton has it.
    Config,
    /// Its statistics, as Triton has them.
    Stats,
    /// Predictions.
    Infer,
    /// Something that this server does not do.
    Other,
}

/// What follows a model, or its version.
const V2_VERBS: [(&str, Verb); 8] = [
    ("ready", Verb::Ready),
    ("config", Verb::Config),
    ("stats", Verb::Stats),
    ("infer", Verb::Infer),
    ("infer_stream", Verb::Other),
    ("generate", Verb::Other),
    ("generate_stream", Verb::Other),
    ("trace", Verb::Other),
];

/// Reads `/v2/models/MODEL[/versions/VERSION][/VERB]`.
pub(super) fn v2(path: &str) -> Option<(ModelTarget, Verb)> {
    let (model, rest) = first(path.strip_prefix("/v2/models/")?);
    let (version, rest) = match rest {
        Some(rest) => version(rest),
        None => (None, None),
    };
    let verb = match rest {
        None => Verb::Describe,
        Some(rest) => V2_VERBS.iter().find(|(name, _)| *name == rest)?.1,
    };
    Some((target(model, version)?, verb))
}

/// Reads `/v1/models/MODEL[/versions/VERSION][:VERB]`.
pub(super) fn v1(path: &str) -> Option<(ModelTarget, Verb)> {
    let rest = path.strip_prefix("/v1/models/")?;
    let (rest, verb) = match verb_start(rest) {
        None => (rest, Verb::Describe),
        Some((start, end)) => {
            let verb = match &rest[end..] {
                "predict" => Verb::Infer,
                "explain" | "classify" | "regress" => Verb::Other,
                _ => return None,
            };
            (&rest[..start], verb)
        }
    };
    let (model, rest) = first(rest);
    let version = match rest {
        None => None,
        Some(rest) => match version(rest) {
            (version @ Some(_), None) => version,
            _ => return None,
        },
    };
    Some((target(model, version)?, verb))
}

/// Where the last colon of the last segment begins and ends; some clients encode it.
fn verb_start(rest: &str) -> Option<(usize, usize)> {
    let segment = rest.rfind('/').map_or(0, |slash| slash + 1);
    let colons = [":", "%3A", "%3a"].into_iter().filter_map(|colon| {
        let found = rest[segment..].rfind(colon)?;
        Some((segment + found, segment + found + colon.len()))
    });
    colons.max()
}

fn first(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    }
}

/// Reads `versions/VERSION` and what follows it.
fn version(rest: &str) -> (Option<&str>, Option<&str>) {
    match rest.strip_prefix("versions/") {
        Some(rest) => {
            let (version, rest) = first(rest);
            (Some(version), rest)
        }
        None => (None, Some(rest)),
    }
}

fn target(model: &str, version: Option<&str>) -> Option<ModelTarget> {
    let version = match version {
        Some(version) => Some(decoded(version)?),
        None => None,
    };
    Some(ModelTarget {
        model: Some(decoded(model)?),
        version,
    })
}

/// A segment's text; `None` if it is empty or no UTF-8.
fn decoded(segment: &str) -> Option<String> {
    let text = percent_decode_str(segment).decode_utf8().ok()?;
    (!text.is_empty()).then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        read: fn(&str) -> Option<(ModelTarget, Verb)>,
        path: &str,
        expected: Option<(&str, Option<&str>, Verb)>,
    ) {
        let found = read(path);
        let found = found.as_ref().map(|(target, verb)| {
            (
                target.model.as_deref().unwrap(),
                target.version.as_deref(),
                *verb,
            )
        });
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn models_and_versions_are_decoded_once_after_the_path_is_split() {
        check(v2, "/v2/models/iris", Some(("iris", None, Verb::Describe)));
        check(
            v2,
            "/v2/models/iris/infer",
            Some(("iris", None, Verb::Infer)),
        );
        check(
            v2,
            "/v2/models/iris/versions/1/infer",
            Some(("iris", Some("1"), Verb::Infer)),
        );
        check(
            v2,
            "/v2/models/iris/versions/v0.1.0",
            Some(("iris", Some("v0.1.0"), Verb::Describe)),
        );
        check(
            v2,
            "/v2/models/a%2Fb%20c/ready",
            Some(("a/b c", None, Verb::Ready)),
        );
        check(
            v2,
            "/v2/models/a%252F/stats",
            Some(("a%2F", None, Verb::Stats)),
        );
        check(v2, "/v2/models/%ff/infer", None);
        check(v2, "/v2/models//infer", None);
        check(v2, "/v2/models/iris/versions//infer", None);
        check(v2, "/v2/models/iris/infer/", None);
        check(v2, "/v2/models/iris/%69nfer", None);
        check(
            v2,
            "/v2/models/iris/generate",
            Some(("iris", None, Verb::Other)),
        );
        check(v1, "/v1/models/iris", Some(("iris", None, Verb::Describe)));
        check(
            v1,
            "/v1/models/iris:predict",
            Some(("iris", None, Verb::Infer)),
        );
        check(
            v1,
            "/v1/models/iris%3Apredict",
            Some(("iris", None, Verb::Infer)),
        );
        check(
            v1,
            "/v1/models/iris/versions/2%3apredict",
            Some(("iris", Some("2"), Verb::Infer)),
        );
        check(
            v1,
            "/v1/models/a:b:predict",
            Some(("a:b", None, Verb::Infer)),
        );
        check(
            v1,
            "/v1/models/iris:explain",
            Some(("iris", None, Verb::Other)),
        );
        check(v1, "/v1/models/iris:other", None);
        check(v1, "/v1/models/iris/versions/2/x", None);
        check(v1, "/v1/models/:predict", None);
    }
}
