//! What hosting platforms tell a container: SageMaker, Vertex AI and KServe. It becomes options.
//!
//! They come first, so that those of the command line win, and one that lanekeeper's own variable
//! sets is left out.

use std::ffi::OsString;
use std::path::Path;

use super::command_line::variable;

/// Where SageMaker unpacks a model.
const SAGEMAKER_MODEL: &str = "/opt/ml/model";

/// The port of both SageMaker and Vertex AI, unless they name another.
const PORT: u16 = 8080;

/// What is known of the place where the server starts.
pub(super) struct HostingPlace<'a> {
    /// A variable of the environment, if it is set and not empty.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Whether this is a directory.
    pub(super) is_directory: &'a dyn Fn(&Path) -> bool,
}

/// The options that a platform's variables give.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Hosted {
    /// Names and values.
    pub(super) options: Vec<(&'static str, String)>,
    /// The platform.
    pub(super) platform: &'static str,
}

/// Adds the options of the platform, if there is one, to a command line that serves.
///
/// # Errors
///
/// A variable of the platform that cannot be followed, in one line.
pub(super) fn add_options(
    args: &[OsString],
    place: &HostingPlace<'_>,
) -> Result<(Vec<OsString>, Option<String>), String> {
    let serve = args.get(1).is_some_and(|command| command == "serve");
    let is_plain = args
        .get(1)
        .is_none_or(|first| first.to_string_lossy().starts_with('-'));
    if !serve && !is_plain {
        return Ok((args.to_vec(), None));
    }
    let typed = |name: &str| {
        let long = format!("--{name}");
        let is_it = |arg: &OsString| {
            let arg = arg.to_string_lossy();
            arg == long || arg.starts_with(&format!("{long}="))
        };
        args.iter().any(is_it)
    };
    let is_set = |name: &str| typed(name) || (place.variable)(&variable(name)).is_some();
    let hosted = hosted(serve, place, &is_set)?;
    let options: Vec<(&str, String)> = hosted
        .options
        .into_iter()
        .filter(|(name, _)| !is_set(name))
        .collect();
    if options.is_empty() {
        return Ok((args.to_vec(), None));
    }
    let words: Vec<String> = options
        .iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect();
    let note = format!("options by {}: {}", hosted.platform, words.join(" "));
    let start = if serve { 2 } else { 1 }.min(args.len());
    let mut all = args[..start].to_vec();
    all.extend(words.into_iter().map(OsString::from));
    all.extend_from_slice(&args[start..]);
    Ok((all, Some(note)))
}

/// Finds the platform by its variables.
fn hosted(
    serve: bool,
    place: &HostingPlace<'_>,
    is_set: &dyn Fn(&str) -> bool,
) -> Result<Hosted, String> {
    const SAGEMAKER: [&str; 2] = ["SAGEMAKER_BIND_TO_PORT", "SAGEMAKER_SAFE_PORT_RANGE"];
    let variable = place.variable;
    let on_sagemaker = SAGEMAKER.iter().any(|name| variable(name).is_some())
        || (place.is_directory)(Path::new(SAGEMAKER_MODEL));
    if variable("AIP_HTTP_PORT").is_some() {
        vertex(place, is_set)
    } else if serve && on_sagemaker {
        sagemaker(place)
    } else if variable("PREDICT_PROBA").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        Ok(Hosted {
            platform: "KServe (PREDICT_PROBA)",
            options: vec![("answer", "probability".to_owned())],
        })
    } else {
        Ok(Hosted::default())
    }
}

/// SageMaker's container contract: `serve`, a port, and the model in a directory.
fn sagemaker(place: &HostingPlace<'_>) -> Result<Hosted, String> {
    let port = port(place, "SAGEMAKER_BIND_TO_PORT")?;
    let mut options = vec![("listen", format!("0.0.0.0:{port}"))];
    if (place.is_directory)(Path::new(SAGEMAKER_MODEL)) {
        options.push(("model", SAGEMAKER_MODEL.to_owned()));
    }
    let probe = match (place.variable)("SAGEMAKER_SAFE_PORT_RANGE") {
        // Only these ports are allowed beside the main one.
        None => "none".to_owned(),
        Some(range) => {
            let wrong = || {
                format!("SAGEMAKER_SAFE_PORT_RANGE must be FIRST-LAST, two ports, but is {range:?}")
            };
            let (first, last) = range.split_once('-').ok_or_else(wrong)?;
            let first: u16 = first.trim().parse().map_err(|_| wrong())?;
            let last: u16 = last.trim().parse().map_err(|_| wrong())?;
            let mut free = (first.max(1)..=last).filter(|own| *own != port);
            match free.next() {
                Some(own) => format!("127.0.0.1:{own}"),
                None => "none".to_owned(),
            }
        }
    };
    options.push(("probe-listen", probe));
    Ok(Hosted {
        platform: "SageMaker",
        options,
    })
}

/// Vertex AI's custom container contract: a port and two paths.
fn vertex(place: &HostingPlace<'_>, is_set: &dyn Fn(&str) -> bool) -> Result<Hosted, String> {
    let port = port(place, "AIP_HTTP_PORT")?;
    let mut options = vec![("listen", format!("0.0.0.0:{port}"))];
    for (name, option) in [
        ("AIP_PREDICT_ROUTE", "predict-route"),
        ("AIP_HEALTH_ROUTE", "health-route"),
    ] {
        options.extend((place.variable)(name).map(|route| (option, route)));
    }
    match (place.variable)("AIP_STORAGE_URI") {
        None => {}
        Some(path) if path.starts_with('/') => options.push(("model", path)),
        Some(_) if is_set("model") => {}
        Some(uri) => {
            return Err(format!(
                "AIP_STORAGE_URI is {uri:?}, which lanekeeper cannot read: put the model into the image and name it by --model or LANEKEEPER_MODEL"
            ));
        }
    }
    Ok(Hosted {
        platform: "Vertex AI",
        options,
    })
}

fn port(place: &HostingPlace<'_>, name: &str) -> Result<u16, String> {
    let Some(text) = (place.variable)(name) else {
        return Ok(PORT);
    };
    let port = text.trim().parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("{name} must be a port from 1 to 65535, but is {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// A command line, variables, directories, and what becomes of the command line.
    type Row = (
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static [&'static str],
        &'static str,
    );

    fn options(args: &str, variables: &[(&str, &str)], directories: &[&str]) -> String {
        let variables: HashMap<&str, &str> = variables.iter().copied().collect();
        let place = HostingPlace {
            variable: &|name| variables.get(name).map(|value| (*value).to_owned()),
            is_directory: &|path| directories.iter().any(|own| Path::new(own) == path),
        };
        let args: Vec<OsString> = args.split_whitespace().map(OsString::from).collect();
        match add_options(&args, &place) {
            Ok((args, _)) => args.join(" ".as_ref()).into_string().unwrap(),
            Err(error) => error,
        }
    }

    #[test]
    fn each_platform_gives_its_options_before_those_that_are_typed() {
        let model = &["/opt/ml/model"][..];
        #[rustfmt::skip]
        let table: [Row; 14] = [
            ("x serve", &[], &[], "x serve"),
            ("x", &[], model, "x"),
            ("x serve", &[], model, "x serve --listen=0.0.0.0:8080 --model=/opt/ml/model --probe-listen=none"),
            ("x serve --watch", &[("SAGEMAKER_BIND_TO_PORT", "9000"), ("SAGEMAKER_SAFE_PORT_RANGE", "9000-9010")], model,
                "x serve --listen=0.0.0.0:9000 --model=/opt/ml/model --probe-listen=127.0.0.1:9001 --watch"),
            ("x serve --model=m --listen a:1", &[("SAGEMAKER_BIND_TO_PORT", "9000")], model,
                "x serve --probe-listen=none --model=m --listen a:1"),
            ("x serve", &[("LANEKEEPER_MODEL", "m")], model, "x serve --listen=0.0.0.0:8080 --probe-listen=none"),
            ("x serve", &[("SAGEMAKER_BIND_TO_PORT", "x")], &[], "SAGEMAKER_BIND_TO_PORT must be a port from 1 to 65535, but is \"x\""),
            ("x", &[("AIP_HTTP_PORT", "8080"), ("AIP_PREDICT_ROUTE", "/p"), ("AIP_HEALTH_ROUTE", "/h")], &[],
                "x --listen=0.0.0.0:8080 --predict-route=/p --health-route=/h"),
            ("x serve", &[("AIP_HTTP_PORT", "7"), ("AIP_STORAGE_URI", "/m")], &[], "x serve --listen=0.0.0.0:7 --model=/m"),
            ("x --model m", &[("AIP_HTTP_PORT", "7"), ("AIP_STORAGE_URI", "gs://m")], &[], "x --listen=0.0.0.0:7 --model m"),
            ("x", &[("AIP_HTTP_PORT", "7"), ("AIP_STORAGE_URI", "gs://m")], &[],
                "AIP_STORAGE_URI is \"gs://m\", which lanekeeper cannot read: put the model into the image and name it by --model or LANEKEEPER_MODEL"),
            ("x serve", &[("PREDICT_PROBA", "True")], &[], "x serve --answer=probability"),
            ("x serve --answer label", &[("PREDICT_PROBA", "true")], &[], "x serve --answer label"),
            ("x inspect", &[("AIP_HTTP_PORT", "8080")], model, "x inspect"),
        ];
        for (args, variables, directories, expected) in table {
            assert_eq!(
                options(args, variables, directories),
                expected,
                "{args} {variables:?}"
            );
        }
    }
}
