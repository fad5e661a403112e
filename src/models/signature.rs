//! What clients know of a model: its features in their order, its classes, and what it answers with.
//!
//! An array of numbers means something by the order of the features alone. A model that takes the place
//! of another with a different signature would answer it all the same, and wrongly.

use std::collections::HashSet;

use super::Signature;
use super::estimator::{self, Probabilities};

/// Names of one kind that are listed, and characters of each.
const NAMES_SHOWN: usize = 5;
const NAME_MAX: usize = 40;

/// Says in one line how the signature of a model differs from that of the one before it; `None` where
/// it does not. Its name, algorithm and parameters are not part of it.
pub fn change(before: &Signature, after: &Signature) -> Option<String> {
    let mut changes = Vec::new();
    let features = ("feature", "features");
    changes.extend(names(features, &before.features, &after.features));
    match (before.classes.is_empty(), after.classes.is_empty()) {
        (false, false) => {
            changes.extend(names(("class", "classes"), &before.classes, &after.classes));
            changes.extend(probabilities(before, after));
        }
        (true, false) => changes.push("it answers with classes instead of numbers".to_owned()),
        (false, true) => changes.push("it answers with numbers instead of classes".to_owned()),
        (true, true) => {}
    }
    (!changes.is_empty()).then(|| changes.join("; "))
}

fn names((one, many): (&str, &str), before: &[String], after: &[String]) -> Option<String> {
    let place = before.iter().zip(after).position(|(was, is)| was != is);
    if place.is_none() && before.len() == after.len() {
        return None;
    }
    let (known, kept): (HashSet<_>, HashSet<_>) = (before.iter().collect(), after.iter().collect());
    let gone = listed(before.iter().filter(|name| !kept.contains(name)));
    let new = listed(after.iter().filter(|name| !known.contains(name)));
    Some(match (gone, new, place) {
        (Some(gone), Some(new), _) => format!("its {many} lack {gone} and have {new} in addition"),
        (Some(gone), None, _) => format!("its {many} lack {gone}"),
        (None, Some(new), _) => format!("its {many} have {new} in addition"),
        (None, None, Some(place)) => format!(
            "its {many} stand in another order: {one} {} is {}, and was {}",
            place + 1,
            shown(&after[place]),
            shown(&before[place])
        ),
        (None, None, None) => format!("its {many} are {}, and were {}", after.len(), before.len()),
    })
}

/// Whether answers come to have probabilities, or have none any more, as far as that is known.
fn probabilities(before: &Signature, after: &Signature) -> Option<String> {
    let has = |signature: &Signature| {
        let algorithm = estimator::find(&signature.algorithm).ok()?;
        Some(algorithm.probabilities != Probabilities::None)
    };
    let text = match (has(before)?, has(after)?) {
        (true, false) => "its answers have no probabilities any more",
        (false, true) => "its answers have probabilities in addition",
        _ => return None,
    };
    Some(text.to_owned())
}

fn listed<'a>(names: impl Iterator<Item = &'a String> + Clone) -> Option<String> {
    let first: Vec<String> = names
        .clone()
        .take(NAMES_SHOWN)
        .map(|name| shown(name))
        .collect();
    let count = names.count();
    match count.saturating_sub(first.len()) {
        _ if count == 0 => None,
        0 => Some(first.join(", ")),
        more => Some(format!("{} and {more} more", first.join(", "))),
    }
}

fn shown(name: &str) -> String {
    let short: String = name.chars().take(NAME_MAX).collect();
    let more = if short.len() < name.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(algorithm: &str, features: &str, classes: &str) -> Signature {
        let list = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Signature {
            name: algorithm.to_owned(),
            algorithm: algorithm.to_owned(),
            features: list(features),
            classes: list(classes),
        }
    }

    #[test]
    fn what_changes_for_clients_is_told_and_nothing_else() {
        let (forest, bayes) = ("random-forest-classifier", "gaussian-naive-bayes");
        let before = signature(forest, "a b c", "x y");
        #[rustfmt::skip]
        let table = [
            ("another algorithm", signature("knn-classifier", "a b c", "x y"), ""),
            ("one that is not known", signature("none", "a b c", "x y"), ""),
            ("another order", signature(forest, "b a c", "x y"), "its features stand in another order: feature 1 is \"b\", and was \"a\""),
            ("one less", signature(forest, "a b", "x y"), "its features lack \"c\""),
            ("one more", signature(forest, "a b c d", "x y"), "its features have \"d\" in addition"),
            ("another name", signature(forest, "a b C", "x y"), "its features lack \"c\" and have \"C\" in addition"),
            ("many", signature(forest, "1 2 3 4 5 6 7", "x y"), "its features lack \"a\", \"b\", \"c\" and have \"1\", \"2\", \"3\", \"4\", \"5\" and 2 more in addition"),
            ("another order of classes", signature(forest, "a b c", "y x"), "its classes stand in another order: class 1 is \"y\", and was \"x\""),
            ("a class more", signature(forest, "a b c", "x y z"), "its classes have \"z\" in addition"),
            ("numbers", signature("lasso", "a b c", ""), "it answers with numbers instead of classes"),
            ("no probabilities", signature(bayes, "a b c", "x y"), "its answers have no probabilities any more"),
            ("two things", signature(bayes, "b a c", "x y"), "its features stand in another order: feature 1 is \"b\", and was \"a\"; its answers have no probabilities any more"),
        ];
        for (name, after, expected) in table {
            assert_eq!(
                change(&before, &after).unwrap_or_default(),
                expected,
                "{name}"
            );
        }
        let numbers = signature("lasso", "a", "");
        let text = "it answers with classes instead of numbers";
        assert_eq!(
            change(&numbers, &signature(forest, "a", "x y")).unwrap(),
            text
        );
        let long = signature("lasso", &"n".repeat(1000), "");
        assert!(change(&numbers, &long).unwrap().len() < 120);
    }
}
