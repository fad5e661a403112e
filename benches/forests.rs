//! How fast forests are computed: rows a second in batches, and the time of a single row.
//!
//! `cargo bench --bench forests` writes four random models in other libraries' formats and computes them
//! on one thread. If `LANEKEEPER_BENCH_PYTHON` (or `python3`) has xgboost and lightgbm, these compute the
//! same files in the same run; and so do onnxruntime (with onnxmltools) and tl2cgen (with treelite and
//! gcc), if it has them. Then `predict` reads a table of a million rows for the first model and writes its
//! answers, and so do pandas and xgboost. `-- NAME…` runs the models whose names contain one of these, and
//! `-- csv` the table.

// The report is the purpose, and a bench may panic.
#![allow(clippy::print_stdout, clippy::expect_used)]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lanekeeper::config::ModelRequest;
use lanekeeper::drill::report::TextTable;
use lanekeeper::models::{Loaded, Rows, format};
use lanekeeper::platform::clock::instant;

const FEATURES: usize = 30;
const BATCH: usize = 4096;
const SINGLES: usize = 2000;

/// Rows of the table that is predicted from CSV to CSV.
const TABLE_ROWS: usize = 1_000_000;

/// How long each figure is measured.
const WINDOW: Duration = Duration::from_secs(2);

/// The generator SplitMix64 (Steele, Lea and Flood, 2014).
struct Chance(u64);

impl Chance {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.unit() * limit as f64) as usize
    }

    /// A random threshold, one of 255 for each feature, as in training by histograms.
    fn threshold(&mut self) -> f64 {
        (self.below(255) as f64 - 127.0) / 64.0
    }
}

/// A binary tree as arrays: children, features, thresholds, values; -1 is no child.
#[derive(Default)]
struct Arrays {
    left: Vec<i64>,
    right: Vec<i64>,
    feature: Vec<usize>,
    value: Vec<f64>,
}

/// A complete tree of this depth, or one grown at random to this many leaves.
fn grow(chance: &mut Chance, leaves: usize, depth: Option<u32>) -> Arrays {
    let mut tree = Arrays::default();
    let mut open = std::collections::VecDeque::from([(0, 0)]);
    push(&mut tree);
    let mut count = 1;
    while count < leaves {
        let at = match depth {
            Some(_) => 0,
            None => chance.below(open.len()),
        };
        let Some((node, level)) = open.remove(at) else {
            break;
        };
        if depth.is_some_and(|depth| level >= depth) {
            break;
        }
        let left = tree.left.len();
        push(&mut tree);
        push(&mut tree);
        tree.left[node] = left as i64;
        tree.right[node] = left as i64 + 1;
        tree.feature[node] = chance.below(FEATURES);
        tree.value[node] = chance.threshold();
        open.extend([(left, level + 1), (left + 1, level + 1)]);
        count += 1;
    }
    for node in 0..tree.left.len() {
        if tree.left[node] < 0 {
            tree.value[node] = (chance.unit() - 0.5) / 10.0;
        }
    }
    tree
}

fn push(tree: &mut Arrays) {
    tree.left.push(-1);
    tree.right.push(-1);
    tree.feature.push(0);
    tree.value.push(0.0);
}

fn list<T: std::fmt::Display>(values: impl Iterator<Item = T>, separator: &str) -> String {
    values
        .map(|value| value.to_string())
        .collect::<Vec<_>>()
        .join(separator)
}

fn xgboost(chance: &mut Chance, trees: usize, depth: u32) -> String {
    let mut text = String::from(
        "{\"learner\":{\"attributes\":{},\"feature_names\":[],\"feature_types\":[],\"gradient_booster\":{\"model\":{\"gbtree_model_param\":{\"num_parallel_tree\":\"1\",\"num_trees\":\"",
    );
    let _ = write!(
        text,
        "{trees}\"}},\"iteration_indptr\":[{}],\"tree_info\":[{}],\"trees\":[",
        list(0..=trees, ","),
        list((0..trees).map(|_| 0), ",")
    );
    for id in 0..trees {
        let tree = grow(chance, 1 << depth, Some(depth));
        let nodes = tree.left.len();
        let mut parents = vec![i64::from(i32::MAX); nodes];
        for node in 0..nodes {
            if tree.left[node] >= 0 {
                parents[tree.left[node] as usize] = node as i64;
                parents[tree.right[node] as usize] = node as i64;
            }
        }
        // XGBoost distinguishes floats from integers, so a float needs its decimal point.
        let numbers = list((0..nodes).map(|_| "0.0"), ",");
        let zeros = list((0..nodes).map(|_| 0), ",");
        let comma = if id > 0 { "," } else { "" };
        let _ = write!(
            text,
            "{comma}{{\"base_weights\":[{numbers}],\"categories\":[],\"categories_nodes\":[],\"categories_segments\":[],\"categories_sizes\":[],\"default_left\":[{zeros}],\"id\":{id},\"left_children\":[{}],\"loss_changes\":[{numbers}],\"parents\":[{}],\"right_children\":[{}],\"split_conditions\":[{}],\"split_indices\":[{}],\"split_type\":[{zeros}],\"sum_hessian\":[{numbers}],\"tree_param\":{{\"num_deleted\":\"0\",\"num_feature\":\"{FEATURES}\",\"num_nodes\":\"{nodes}\",\"size_leaf_vector\":\"1\"}}}}",
            list(tree.left.iter(), ","),
            list(parents.iter(), ","),
            list(tree.right.iter(), ","),
            list(
                tree.value
                    .iter()
                    .map(|value| format!("{:?}", *value as f32)),
                ","
            ),
            list(tree.feature.iter(), ","),
        );
    }
    let _ = write!(
        text,
        "]}},\"name\":\"gbtree\"}},\"learner_model_param\":{{\"base_score\":\"5E-1\",\"boost_from_average\":\"1\",\"num_class\":\"0\",\"num_feature\":\"{FEATURES}\",\"num_target\":\"1\"}},\"objective\":{{\"name\":\"reg:squarederror\",\"reg_loss_param\":{{\"scale_pos_weight\":\"1\"}}}}}},\"version\":[2,1,0]}}"
    );
    text
}

fn lightgbm(chance: &mut Chance, trees: usize, leaves: usize) -> String {
    let names = list((0..FEATURES).map(|index| format!("Column_{index}")), " ");
    let infos = list((0..FEATURES).map(|_| "[-9:9]"), " ");
    let mut body = String::new();
    let mut sizes = Vec::new();
    for id in 0..trees {
        let tree = grow(chance, leaves, None);
        // Splits and leaves have separate numbers.
        let (mut splits, mut ends) = (Vec::new(), Vec::new());
        let mut place = vec![0_i64; tree.left.len()];
        for (node, place) in place.iter_mut().enumerate() {
            if tree.left[node] >= 0 {
                *place = splits.len() as i64;
                splits.push(node);
            } else {
                *place = !(ends.len() as i64);
                ends.push(node);
            }
        }
        let of = |node: &i64| place[*node as usize];
        let text = format!(
            "Tree={id}\nnum_leaves={}\nnum_cat=0\nsplit_feature={}\nsplit_gain={}\nthreshold={}\ndecision_type={}\nleft_child={}\nright_child={}\nleaf_value={}\nleaf_weight={}\nleaf_count={}\ninternal_value={}\ninternal_weight={}\ninternal_count={}\nis_linear=0\nshrinkage=1\n\n\n",
            ends.len(),
            list(splits.iter().map(|node| tree.feature[*node]), " "),
            list(splits.iter().map(|_| 1), " "),
            list(splits.iter().map(|node| tree.value[*node]), " "),
            list(splits.iter().map(|_| 10), " "),
            list(splits.iter().map(|node| of(&tree.left[*node])), " "),
            list(splits.iter().map(|node| of(&tree.right[*node])), " "),
            list(ends.iter().map(|node| tree.value[*node]), " "),
            list(ends.iter().map(|_| 1), " "),
            list(ends.iter().map(|_| 1), " "),
            list(splits.iter().map(|_| 0), " "),
            list(splits.iter().map(|_| 1), " "),
            list(splits.iter().map(|_| 1), " "),
        );
        sizes.push(text.len());
        body.push_str(&text);
    }
    format!(
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx={}\nobjective=regression\nfeature_names={names}\nfeature_infos={infos}\ntree_sizes={}\n\n{body}end of trees\n\nfeature_importances:\n\nparameters:\nend of parameters\n\npandas_categorical:null\n",
        FEATURES - 1,
        list(sizes.iter(), " ")
    )
}

fn rows(chance: &mut Chance, count: usize) -> Rows {
    let values = (0..count * FEATURES).map(|_| f64::from((chance.unit() * 4.0 - 2.0) as f32));
    Rows::new(values.collect(), FEATURES).expect("the width is not zero")
}

/// Rows a second in batches.
fn batches(loaded: &Loaded, rows: &Rows) -> f64 {
    let began = instant();
    let mut count = 0;
    while began.elapsed() < WINDOW {
        let output = loaded.model.predict(rows);
        std::hint::black_box(&output);
        count += rows.len();
    }
    count as f64 / began.elapsed().as_secs_f64()
}

/// The median time of a single row, in microseconds.
fn single(loaded: &Loaded, rows: &Rows) -> f64 {
    let singles: Vec<Rows> = (0..SINGLES).map(|row| rows.part(row, 1)).collect();
    let mut times = Vec::new();
    for _ in 0..5 {
        for row in &singles {
            let began = instant();
            let output = loaded.model.predict(row);
            std::hint::black_box(&output);
            times.push(began.elapsed());
        }
    }
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

/// Other engines' figures for the same file: names, rows a second, and microseconds a row.
fn peers(python: &str, file: &Path, folder: &Path) -> Vec<(String, f64, f64)> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/forests_peer.py");
    let Ok(output) = Command::new(python)
        .arg(script)
        .arg(file)
        .arg(folder)
        .stderr(Stdio::inherit())
        .output()
    else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let figures = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        Some((
            name,
            words.next()?.parse().ok()?,
            words.next()?.parse().ok()?,
        ))
    };
    text.lines().filter_map(figures).collect()
}

/// Writes a table of random numbers.
fn write_table(chance: &mut Chance, path: &Path) -> io::Result<()> {
    let mut table = BufWriter::new(File::create(path)?);
    let names: Vec<String> = (0..FEATURES).map(|feature| format!("f{feature}")).collect();
    writeln!(table, "{}", names.join(","))?;
    for _ in 0..TABLE_ROWS {
        for feature in 0..FEATURES {
            let end = if feature + 1 < FEATURES { ',' } else { '\n' };
            write!(table, "{:.4}{end}", chance.unit() * 4.0 - 2.0)?;
        }
    }
    table.flush()
}

/// Predicts a table for a model, three times in turn with pandas and xgboost: the seconds of whole
/// processes, and those of the other without its imports.
fn from_csv_to_csv(python: &str, model: &Path, folder: &Path, chance: &mut Chance) {
    let (table, out) = (folder.join("table.csv"), folder.join("answers.csv"));
    if let Err(error) = write_table(chance, &table) {
        println!("no table: {error}");
        return;
    }
    println!("predict: {TABLE_ROWS} rows of {FEATURES}, CSV to CSV, all cores, seconds");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/forests_csv_peer.py");
    let mut ours = Command::new(env!("CARGO_BIN_EXE_lanekeeper"));
    ours.arg("predict").arg("--model").arg(model);
    ours.arg("--data").arg(&table);
    let mut theirs = Command::new(python);
    theirs
        .arg(script)
        .arg(model)
        .arg(&table)
        .arg(folder.join("theirs.csv"));
    for _ in 0..3 {
        for (name, command) in [("lanekeeper", &mut ours), ("pandas, xgboost", &mut theirs)] {
            let Ok(answers) = File::create(&out) else {
                return;
            };
            let began = instant();
            let done = command.stdout(answers).stderr(Stdio::null()).status();
            let seconds = began.elapsed().as_secs_f64();
            match done {
                Ok(status) if status.success() => {
                    // The other prints nothing but its own figure.
                    let inside = fs::read_to_string(&out).unwrap_or_default();
                    let inside = inside.trim().parse::<f64>();
                    let inside =
                        inside.map_or(String::new(), |own| format!(" ({own:.2} without imports)"));
                    println!("{name:<16} {seconds:>6.2}{inside}");
                }
                _ => println!("{name:<16}      –"),
            }
        }
    }
}

fn main() {
    let folder = std::env::temp_dir().join(format!("lanekeeper-forests-{}", std::process::id()));
    if fs::create_dir_all(&folder).is_err() {
        eprintln!("cannot write to {}", folder.display());
        return;
    }
    let python = std::env::var("LANEKEEPER_BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut chance = Chance(42);
    let models: [(&str, String); 4] = [
        ("xgboost 100 x depth 6", xgboost(&mut chance, 100, 6)),
        ("xgboost 500 x depth 8", xgboost(&mut chance, 500, 8)),
        ("lightgbm 300 x 63 leaves", lightgbm(&mut chance, 300, 63)),
        (
            "lightgbm 100 x 12,500 leaves",
            lightgbm(&mut chance, 100, 12_500),
        ),
    ];
    let rows = rows(&mut chance, BATCH);
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let is_wanted =
        |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));
    let mut table = TextTable::new(&[
        "model",
        "contender",
        "rows/s",
        "of lanekeeper",
        "one row, us",
    ]);
    for (name, text) in models.into_iter().filter(|(name, _)| is_wanted(name)) {
        let file: PathBuf = folder.join("model.json");
        if fs::write(&file, text).is_err() {
            continue;
        }
        let loaded = match format::load(&ModelRequest::of_file(Some(file.clone()))) {
            Ok(loaded) => loaded,
            Err(error) => {
                println!("{name}: {error}");
                continue;
            }
        };
        let (rate, time) = (batches(&loaded, &rows), single(&loaded, &rows));
        table.row([
            name,
            "lanekeeper",
            &format!("{rate:.0}"),
            "1.00",
            &format!("{time:.2}"),
        ]);
        for (engine, theirs, one) in peers(&python, &file, &folder) {
            let share = theirs / rate;
            table.row([
                name,
                &engine,
                &format!("{theirs:.0}"),
                &format!("{share:.3}"),
                &format!("{one:.2}"),
            ]);
        }
    }
    println!("{}", table.markdown());
    if is_wanted("csv") {
        let model = folder.join("model.json");
        match fs::write(&model, xgboost(&mut Chance(42), 100, 6)) {
            Ok(()) => from_csv_to_csv(&python, &model, &folder, &mut chance),
            Err(error) => println!("no model: {error}"),
        }
    }
    let _ = fs::remove_dir_all(&folder);
}
