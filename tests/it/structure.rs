//! The structure of the sources: which modules may use which.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const SRC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let (directories, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let rust = files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.chain(directories.iter().flat_map(|directory| sources(directory)))
        .collect()
}

/// The module of `lib.rs` that a file belongs to.
fn module(path: &Path) -> String {
    let first = path.strip_prefix(SRC).unwrap().components().next().unwrap();
    first
        .as_os_str()
        .to_str()
        .unwrap()
        .trim_end_matches(".rs")
        .to_owned()
}

/// The top-level modules, from the command line down to the system.
const ROOMS: [&str; 19] = [
    "commands",
    "server",
    "http",
    "serving",
    "job",
    "protocol",
    "health",
    "lanes",
    "train",
    "drill",
    "models",
    "guide",
    "page",
    "logging",
    "lifecycle",
    "config",
    "vitals",
    "error",
    "platform",
];

/// The modules of `lib.rs`, in its order.
fn modules() -> Vec<String> {
    let lib = fs::read_to_string(format!("{SRC}/lib.rs")).unwrap();
    lib.lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_house_has_these_rooms_in_this_order_and_no_others() {
    assert_eq!(modules(), ROOMS);
    for entry in fs::read_dir(SRC).unwrap() {
        let name = module(&entry.unwrap().path());
        let is_root = ["lib", "main", "build"].contains(&name.as_str());
        assert!(is_root || ROOMS.contains(&name.as_str()), "src/{name}");
    }
}

#[test]
fn uses_point_only_down_the_list_of_modules() {
    let order = modules();
    let place = |name: &str| order.iter().position(|module| module == name);
    let mut checked = 0;
    for path in sources(Path::new(SRC)) {
        let name = module(&path);
        let Some(own) = place(&name) else {
            assert!(
                ["lib", "main", "build"].contains(&name.as_str()),
                "{name} is not in lib.rs"
            );
            continue;
        };
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        for used in text.split("crate::").skip(1) {
            let used: String = used
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect();
            if let Some(other) = place(&used) {
                assert!(
                    other >= own,
                    "{} uses {used}, which stands above {name} in lib.rs",
                    path.display()
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "only {checked} uses were seen");
}

#[test]
fn files_stay_under_500_lines_without_their_tests() {
    for path in sources(Path::new(SRC)) {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let lines = code.lines().count();
        assert!(lines < 500, "{} has {lines} lines", path.display());
    }
}

#[test]
fn the_name_of_a_type_is_unique() {
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    for path in sources(Path::new(SRC)) {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for line in code.lines() {
            // Indented ones are local to a function.
            let is_between = |one: char| !one.is_alphanumeric() && one != '_';
            let words: Vec<&str> = line.split(is_between).collect();
            let place = words
                .iter()
                .position(|word| ["struct", "enum", "trait", "union", "type"].contains(word));
            let is_item = line.starts_with("pub") || place == Some(0);
            let Some(name) = place
                .filter(|_| is_item)
                .and_then(|place| words.get(place + 1))
            else {
                continue;
            };
            if let Some(other) = files.insert((*name).to_owned(), path.clone()) {
                panic!("{name} is in {} and in {}", other.display(), path.display());
            }
        }
    }
    assert!(files.len() > 300, "only {} types were seen", files.len());
}

#[test]
fn no_lock_is_taken_for_a_line_in_the_log() {
    let files = [
        "logging.rs",
        "logging/access.rs",
        "logging/failures.rs",
        "logging/rate.rs",
        "http/trace.rs",
    ];
    for file in files {
        let text = fs::read_to_string(format!("{SRC}/{file}")).unwrap();
        for lock in ["Mutex", "RwLock", ".lock()"] {
            assert!(!text.contains(lock), "{file} has a {lock}");
        }
    }
}
