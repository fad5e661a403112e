//! Clients that people have, as PyPI has them, against the server, and pipelines that scikit-learn trains.
//!
//! Their packages conflict, so each script of `tests/clients` has a virtual environment. It is made
//! where cargo keeps the tests' files, and made anew when its list of packages changes. Hundreds of
//! megabytes come from PyPI: the tests run only where that is asked for.

mod browser;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Killed, Server, skip};
use crate::train::{self, Folder};

/// Set where these tests run; nothing that they need may be missing then.
const ASKED_FOR: &str = "TEST_LANEKEEPER_REAL_CLIENTS";

/// The name that the scripts know the embedded model by.
const IRIS: &str = "--name=iris";

/// The longest installation.
const INSTALL_LIMIT: Duration = Duration::from_secs(600);

/// The longest run of a script, which takes some seconds.
pub const SCRIPT_LIMIT: Duration = Duration::from_secs(180);

#[test]
fn tritons_and_mlservers_clients_get_what_predict_gives() {
    run("triton", "triton.py", &[IRIS], &[]);
}

#[test]
fn kserves_client_gets_what_predict_gives() {
    let mut print = Command::new(env!("CARGO_BIN_EXE_lanekeeper"));
    let manifest = print.args(["manifest", "kserve"]).output().unwrap().stdout;
    let manifest = String::from_utf8(manifest).unwrap();
    run("kserve", "kserve_client.py", &[IRIS], &[&manifest]);
}

#[test]
fn mlflows_and_sagemakers_clients_get_what_predict_gives() {
    run("mlflow_sagemaker", "mlflow_sagemaker.py", &[IRIS], &[]);
}

/// Which pipelines are trained: a number, `42` if it is not set.
const SEED: &str = "TEST_LANEKEEPER_PIPELINES_SEED";

#[test]
fn freshly_trained_pipelines_answer_as_scikit_learn_does() {
    let seed = std::env::var(SEED).unwrap_or_else(|_| "42".to_owned());
    if let Some(cases) = fresh_cases("sklearn", &seed) {
        crate::sklearn::check_all(&cases, 60);
    }
}

/// Which exports are made: a number, `42` if it is not set.
const EXPORTS_SEED: &str = "TEST_LANEKEEPER_EXPORTS_SEED";

#[test]
fn fresh_exports_to_onnx_answer_as_onnxruntime_does() {
    let seed = std::env::var(EXPORTS_SEED).unwrap_or_else(|_| "42".to_owned());
    if let Some(cases) = fresh_cases("onnx", &seed) {
        crate::onnx::check_all(&cases, 40);
    }
}

/// Which cases schemathesis makes: a number, `1` if it is not set.
const OPENAPI_SEED: &str = "TEST_LANEKEEPER_OPENAPI_SEED";

/// How many cases each operation gets in each phase: a number, `10` if it is not set.
const OPENAPI_EXAMPLES: &str = "TEST_LANEKEEPER_OPENAPI_EXAMPLES";

/// Each model has some 2,000 cases.
#[test]
fn the_server_does_what_its_openapi_document_says() {
    if !are_asked_for() {
        return;
    }
    let folder = Folder::new("openapi");
    let table = folder.write("penguins.csv", tagged_penguins().as_bytes());
    let (species, mass) = (folder.path("species.json"), folder.path("mass.json"));
    for (target, out, more) in [
        ("species", &species, ""),
        ("body_mass_g", &mass, "--drop-missing"),
    ] {
        let args = [
            "train", "--folds", "0", "--data", &table, "--target", target, "--out", out, more,
        ];
        let args: Vec<&str> = args.into_iter().filter(|arg| !arg.is_empty()).collect();
        let trained = train::run(&args);
        assert!(trained.status.success(), "{}", train::stderr(&trained));
    }
    let seed = std::env::var(OPENAPI_SEED).unwrap_or_else(|_| "1".to_owned());
    let examples = std::env::var(OPENAPI_EXAMPLES).unwrap_or_else(|_| "10".to_owned());
    run("openapi", "openapi.py", &[], &[&seed, &examples]);
    for model in [&species, &mass] {
        let args = [&seed, &examples, "dates"];
        run("openapi", "openapi.py", &["--model", model], &args);
    }
}

/// Penguins with a column of yes, no and gaps, and one of dates.
fn tagged_penguins() -> String {
    let table = include_str!("../data/penguins.csv");
    let mut lines = table.lines().enumerate();
    let (_, header) = lines.next().unwrap();
    let mut tagged = format!("{header},tagged,seen\n");
    for (row, line) in lines {
        let tag = ["yes", "no", "", "no", "yes"][row % 5];
        let day = 1 + row % 28;
        writeln!(tagged, "{line},{tag},2008-11-{day:02}T08:30:00").unwrap();
    }
    tagged
}

/// Runs `fresh.py` of a folder of the tests in an environment of its own; `None` if that is not asked
/// for.
fn fresh_cases(folder_name: &str, seed: &str) -> Option<PathBuf> {
    if !are_asked_for() {
        return None;
    }
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(folder_name);
    let python = environment(
        &format!("fresh-{folder_name}"),
        &scripts.join("fresh.txt"),
        &[],
    );
    let cases = folder().join(format!("fresh-{folder_name}-cases"));
    let _ = fs::remove_dir_all(&cases);
    let mut make = Command::new(python);
    make.arg("-B")
        .arg(scripts.join("fresh.py"))
        .arg(&cases)
        .arg(seed);
    match output(make, "fresh", SCRIPT_LIMIT) {
        Ok(printed) => eprintln!("{printed}"),
        Err(text) => panic!("{text}"),
    }
    Some(cases)
}

/// Whether these tests are asked for; says so if not.
pub fn are_asked_for() -> bool {
    if std::env::var_os(ASKED_FOR).is_none_or(|value| value.is_empty()) {
        skip(&format!(
            "it installs packages from PyPI, and {ASKED_FOR} is not set"
        ));
        return false;
    }
    true
}

/// Runs a script against a server of its own with these options, with the packages of
/// `tests/clients/NAME.txt` and these arguments after the server's address.
fn run(name: &str, script: &str, options: &[&str], arguments: &[&str]) {
    if !are_asked_for() {
        return;
    }
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let python = environment(name, &scripts.join(format!("{name}.txt")), &[]);
    let server = Server::real(options);
    server.wait_ready();
    let mut command = Command::new(python);
    command
        // Nothing is written beside the sources.
        .arg("-B")
        .arg(scripts.join(script))
        .arg(server.main.to_string())
        .args(arguments);
    match output(command, name, SCRIPT_LIMIT) {
        Ok(printed) => eprintln!("{printed}"),
        Err(text) => panic!("{script} against {}: {text}", server.main),
    }
}

/// Where the environments are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("real-clients")
}

/// The Python of an environment with these packages, made now if it is not there; pip is given these
/// further options.
///
/// Several tests, or several runs of them, may ask for the same one at a time: the first makes it, the
/// others wait.
pub fn environment(name: &str, requirements: &Path, options: &[&str]) -> PathBuf {
    let lock = folder().join(format!("{name}.lock"));
    let folder = folder().join(name);
    fs::create_dir_all(&folder).unwrap();
    // Held until this function ends.
    let lock = File::create(lock).unwrap();
    lock.lock().unwrap();
    let need = |what: &str, result: Result<String, String>| {
        result.unwrap_or_else(|text| panic!("{ASKED_FOR} is set, which needs {what}: {text}"))
    };
    let mut version = Command::new("python3");
    version.arg("--version");
    let version = need("python3", output(version, name, INSTALL_LIMIT));
    let wanted = version + &fs::read_to_string(requirements).unwrap();
    let python = folder.join("bin/python");
    // Written last, so that half an installation is never used.
    let marker = folder.join("installed.txt");
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return python;
    }
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    let venv = "python3 with the module venv (Debian: python3-venv)";
    need(venv, output(make, name, INSTALL_LIMIT));
    let mut install = Command::new(&python);
    install
        .args(["-m", "pip", "install", "--disable-pip-version-check"])
        // A package that has to be compiled would need a compiler, and minutes.
        .args(["--no-input", "--only-binary=:all:"])
        .args(options)
        .arg("--requirement")
        .arg(requirements);
    need("PyPI", output(install, name, INSTALL_LIMIT));
    fs::write(&marker, wanted).unwrap();
    python
}

/// Runs a command to its end and gives what it printed.
///
/// # Errors
///
/// It could not be started, failed, or was not done by the limit: a text with all that it printed.
pub fn output(mut command: Command, name: &str, limit: Duration) -> Result<String, String> {
    // A file, as a pipe that nobody reads would stop it.
    let path = folder().join(format!("{name}.log"));
    let file = File::create(&path).unwrap();
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file);
    let child = command
        .spawn()
        .map_err(|error| format!("{command:?} does not start: {error}"))?;
    let mut child = Killed(child);
    let deadline = Instant::now() + limit;
    let end = loop {
        match child.0.try_wait().unwrap() {
            Some(status) => break status.to_string(),
            None if Instant::now() >= deadline => break format!("not done after {limit:?}"),
            None => thread::sleep(Duration::from_millis(50)), // a pause between looks
        }
    };
    let printed = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
    match end.as_str() {
        "exit status: 0" => Ok(printed),
        _ => Err(format!("{command:?}: {end}\n{printed}")),
    }
}
