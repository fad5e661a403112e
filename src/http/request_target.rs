//! The target of a request: what of it is the path and what the query. Pure.

use crate::error::{Code, RequestError};

/// Reads the request target (RFC 9112 section 3.2) into path and query.
///
/// # Errors
///
/// 400 for a target that is none.
pub(super) fn read(method: &str, target: &str) -> Result<(String, Option<String>), RequestError> {
    let visible = target
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !visible {
        return Err(malformed(
            "a request target is visible ASCII without a fragment",
        ));
    }
    let local = match target {
        "*" if method == "OPTIONS" => return Ok(("*".to_owned(), None)),
        _ if method == "CONNECT" => return Ok((String::new(), None)),
        _ if target.starts_with('/') => target,
        _ => absolute(target)?,
    };
    let (path, query) = match local.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (local, None),
    };
    let path = if path.is_empty() { "/" } else { path };
    Ok((path.to_owned(), query))
}

/// Removes scheme and authority from a target in absolute-form.
fn absolute(target: &str) -> Result<&str, RequestError> {
    let scheme = ["http://", "https://"].into_iter().find(|scheme| {
        target
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    });
    let rest = scheme.and_then(|scheme| target.get(scheme.len()..));
    let rest = rest.ok_or_else(|| malformed("a request target starts with a slash"))?;
    let cut = rest.find(['/', '?']).unwrap_or(rest.len());
    if cut == 0 {
        return Err(malformed("a request target in absolute-form names a host"));
    }
    Ok(&rest[cut..])
}

fn malformed(text: &str) -> RequestError {
    RequestError::new(Code::MalformedRequest, text)
}
