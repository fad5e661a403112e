//! Offline predictions and CSV answers equal the server's JSON answers, bit for bit.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use lanekeeper::train::Task;
use lanekeeper::train::algorithms::ALGORITHMS;

use crate::support::{Connection, Response, Server};
use crate::train::{Folder, IRIS, run, stderr, stdout, train};

/// A table of whole numbers, which every algorithm accepts, with a class and a number as targets.
fn whole_table() -> String {
    let mut seed = 7u64;
    let mut next = |below: u64| {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    let mut text = "a,b,c,kind,amount\n".to_owned();
    for row in 0..80 {
        let (a, b, c) = (next(5), next(5), next(5));
        let kind = ["low", "middle", "high"][(row % 3).min((a + b) as usize / 3)];
        text.push_str(&format!(
            "{a},{b},{c},{kind},{}\n",
            (a * 2 + b) as f64 / 3.0
        ));
    }
    text
}

pub(crate) fn post(server: &Server, content_type: &str, accept: &str, body: &str) -> Response {
    let mut connection = Connection::open(server.main);
    let request = format!(
        "POST /predict HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: {content_type}\r\nAccept: {accept}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.send(request.as_bytes());
    connection.read()
}

/// Converts the answers of a JSON body to the cells of a CSV body.
fn as_cells(answer: &serde_json::Value, classes: &[String]) -> Vec<Vec<String>> {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let predictions = answer["predictions"].as_array().unwrap();
    let rows = predictions.iter().enumerate().map(|(row, prediction)| {
        let mut cells = vec![text(prediction)];
        if let Some(shares) = answer["probabilities"].get(row) {
            cells.extend(classes.iter().map(|class| text(&shares[class])));
        }
        cells
    });
    rows.collect()
}

fn cells(csv: &str) -> Vec<Vec<String>> {
    let lines = csv.lines().skip(1);
    lines
        .map(|line| line.split(',').map(str::to_owned).collect())
        .collect()
}

#[test]
fn every_algorithm_says_the_same_offline_in_json_and_in_csv() {
    let folder = Folder::new("agree");
    let table = folder.write("whole.csv", whole_table().as_bytes());
    let features: String = whole_table()
        .lines()
        .map(|line| line.split(',').take(3).collect::<Vec<_>>().join(",") + "\n")
        .collect();
    let instances: Vec<String> = features
        .lines()
        .skip(1)
        .map(|line| format!("[{line}]"))
        .collect();
    let json_body = format!("{{\"instances\": [{}]}}", instances.join(","));
    for algorithm in &ALGORITHMS {
        let name = algorithm.name;
        let target = match algorithm.task {
            Task::Classification => "kind",
            Task::Regression => "amount",
        };
        let out = folder.path(&format!("{name}.json"));
        let trained = train(name, &table, target, &out, &["--features", "a,b,c"]);
        assert_eq!(
            trained.status.code(),
            Some(0),
            "{name}: {}",
            stderr(&trained)
        );
        let offline = run(&["predict", "--model", &out, "--data", &table]);
        assert_eq!(
            offline.status.code(),
            Some(0),
            "{name}: {}",
            stderr(&offline)
        );
        let offline = stdout(&offline);
        let server = Server::real(&["--model", &out]);
        server.wait_ready();
        let csv = post(&server, "text/csv", "text/csv", &features);
        assert_eq!(csv.status, 200, "{name}: {}", csv.body);
        assert!(csv.field("content-type").starts_with("text/csv"), "{name}");
        assert_eq!(csv.body, offline, "{name}");
        let mixed = post(&server, "application/json", "text/csv", &json_body);
        assert_eq!(mixed.body, offline, "{name}");
        let json = post(&server, "text/csv", "*/*", &features);
        assert_eq!(
            json.body,
            post(&server, "application/json", "*/*", &json_body).body
        );
        let classes = ["high", "low", "middle"].map(str::to_owned);
        let answer = json.json();
        assert_eq!(as_cells(&answer, &classes), cells(&offline), "{name}");
        let lines = stdout(&run(&[
            "predict", "--model", &out, "--data", &table, "--json",
        ]));
        for (row, line) in lines.lines().enumerate() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["prediction"], answer["predictions"][row], "{name}");
            assert_eq!(
                line.get("probabilities"),
                answer["probabilities"].get(row),
                "{name}"
            );
        }
    }
}

#[test]
fn csv_that_does_not_fit_is_400_with_its_line_and_column() {
    let server = Server::real(&["--max-rows", "3"]);
    server.wait_ready();
    let head = "sepal_length,sepal_width,petal_length,petal_width\n";
    for (body, status, expected) in [
        ("", 400, "the body has no header"),
        (head, 400, "no rows"),
        (
            "1,2,3,4\n",
            400,
            "there are no columns \\\"sepal_length\\\", \\\"sepal_width\\\", \\\"petal_length\\\", \\\"petal_width\\\"; there are 1, 2, 3, 4",
        ),
        (
            &format!("{head}1,2,3\n"),
            400,
            "the body, line 2: the row has 3 cells",
        ),
        (
            &format!("{head}1,2,3,x\n"),
            400,
            "line 2, column \\\"petal_width\\\": the cell is \\\"x\\\"",
        ),
        (
            &format!("{head}{}", "1,2,3,4\n".repeat(4)),
            413,
            "3 instances",
        ),
    ] {
        let response = post(&server, "text/csv", "text/csv", body);
        assert_eq!(response.status, status, "{body:?}: {}", response.body);
        assert!(
            response.body.contains(expected),
            "{body:?}: {}",
            response.body
        );
        assert_eq!(response.field("content-type"), "application/json");
    }
}

#[test]
fn labels_that_training_has_not_seen_are_refused_where_that_is_asked_for() {
    let folder = Folder::new("unseen");
    let mut table = "colour,size,y\n".to_owned();
    for row in 0..60 {
        let colour = ["red", "green", "blue"][row % 3];
        table.push_str(&format!("{colour},{},{}\n", row % 7, row % 2));
    }
    let table = folder.write("t.csv", table.as_bytes());
    let out = folder.path("m.json");
    let more = ["--unseen", "refuse", "--task", "classification"];
    let trained = train("logistic-regression", &table, "y", &out, &more);
    assert_eq!(trained.status.code(), Some(0), "{}", stderr(&trained));
    let server = Server::real(&["--model", &out]);
    server.wait_ready();
    let body = r#"{"instances": [["red", 1], ["pink", 1]]}"#;
    let response = server.predict(body);
    assert_eq!(response.status, 400, "{}", response.body);
    let expected = r#"string \"pink\", expected one of \"blue\", \"green\", \"red\" as \"colour\" of instances[1]"#;
    assert!(response.body.contains(expected), "{}", response.body);
    let odd = folder.write(
        "odd.csv",
        b"colour,size\nred,1\npink,1\nblue,x\nred\n1,2,3\n",
    );
    let output = run(&["predict", "--model", &out, "--data", &odd]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "", "none is written");
    let told = stderr(&output);
    for part in [
        "4 rows cannot be predicted",
        "line 3, column \"colour\"",
        "line 4, column \"size\"",
        "line 5: the row has 1 cells",
        "line 6: the row has 3 cells",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let output = run(&[
        "predict",
        "--model",
        &out,
        "--data",
        &odd,
        "--skip-bad",
        "--keep",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let answers = stdout(&output);
    let lines: Vec<&str> = answers.lines().collect();
    assert!(
        lines[1].starts_with("red,1,") && lines[1].len() > 8,
        "{answers}"
    );
    assert_eq!(lines[2..], ["pink,1,,,", "blue,x,,,", "red,,,,", "1,2,,,"]);
    assert!(stderr(&output).contains("4 rows have an empty answer"));
}

#[test]
fn a_long_table_streams_in_order_with_its_own_columns_kept() {
    let folder = Folder::new("long");
    let rows = 20_000;
    let mut text = "id;petal_width;petal_length;sepal_width;sepal_length\r\n".to_owned();
    for row in 0..rows {
        let width = f64::from(row % 25) / 10.0;
        text.push_str(&format!(
            "\"r;{row}\";{width};{};3;5\r\n",
            width * 2.0 + 1.0
        ));
    }
    let table = folder.write("long.csv", text.as_bytes());
    let output = run(&["predict", "--data", &table, "--keep", "--delimiter", ";"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let told = stdout(&output);
    assert!(told.starts_with(
        "id;petal_width;petal_length;sepal_width;sepal_length;prediction;probability_setosa;"
    ));
    assert_eq!(told.lines().count(), rows as usize + 1);
    for (row, line) in told.lines().skip(1).enumerate() {
        assert!(line.starts_with(&format!("\"r;{row}\";")), "{line}");
    }
    let broken = text.replacen("\"r;15000\";0;", "\"r;15000\";;", 1);
    let table = folder.write("broken.csv", broken.as_bytes());
    let output = run(&["predict", "--data", &table, "--delimiter", ";"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("line 15002, column \"petal_width\": the cell is empty"),
        "{}",
        stderr(&output)
    );
    assert_eq!(stdout(&output), "", "none is written");
    let output = run(&[
        "predict",
        "--data",
        &table,
        "--delimiter",
        ";",
        "--skip-bad",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let answers = stdout(&output);
    assert_eq!(answers.lines().count(), rows as usize + 1);
    assert_eq!(answers.lines().nth(15_001), Some(";;;"));
    assert!(stderr(&output).contains("1 rows have an empty answer"));
}

#[test]
fn a_reader_that_leaves_ends_it_quietly_and_standard_input_is_a_table_too() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
        .args(["predict", "--data", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    let iris = fs::read(IRIS).unwrap();
    let _ = input.write_all(&iris);
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "lanekeeper: unused columns: species\n");
    let output = Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
        .args(["predict", "--data", "-", "--json"])
        .stdin(fs::File::open(IRIS).unwrap())
        .output()
        .unwrap();
    assert_eq!(stdout(&output).lines().count(), 150);
}

/// Reads a file of this repository.
fn text(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The commands of README and the guide, each once.
fn shown_commands() -> Vec<Vec<String>> {
    let pages = [
        "README.md",
        "src/guide/models.md",
        "src/guide/sklearn.md",
        "src/guide/training.md",
        "src/guide/drill.md",
    ]
    .map(text);
    let mut commands: Vec<&str> = pages
        .iter()
        .flat_map(|page| page.lines())
        .filter_map(|line| line.strip_prefix("cargo run --release -- "))
        .collect();
    let mut seen = HashSet::new();
    commands.retain(|command| seen.insert(*command));
    commands
        .into_iter()
        .map(|line| line.split(' ').map(str::to_owned).collect())
        .collect()
}

/// The request body in README's example of an imported model.
fn shown_body() -> &'static str {
    let readme = include_str!("../../README.md");
    let lines = readme.lines().filter(|line| line.contains("NaN"));
    let mut bodies = lines.filter_map(|line| line.split('\'').nth(1));
    bodies.next_back().expect("README shows a missing value")
}

#[test]
fn shown_commands_work_as_they_are_pasted() {
    let folder = Folder::new("shown");
    let data = Path::new(IRIS).parent().unwrap();
    let mut served = None;
    let mut seen = Vec::new();
    for command in shown_commands() {
        // As pasted at the root of a checkout, except for the path of the model.
        let args: Vec<String> = command
            .iter()
            .map(|word| match word.strip_prefix("/tmp/") {
                Some(name) => folder.path(name),
                None => word.replace("tests/data/", &format!("{}/", data.display())),
            })
            .collect();
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        if command[0] == "drill" {
            // The documented command takes a minute and a half.
            args.extend(["--loads", "0.5", "--seconds", "1"]);
        }
        seen.push(command[0].clone());
        if let ["serve", rest @ ..] = &args[..] {
            let server = Server::real(rest);
            let topic = |(part, topic): &(&str, &'static str)| {
                let is_it = rest.iter().any(|word| word.contains(part));
                is_it.then_some(*topic)
            };
            // Whose first body in quotes is for the model that is served.
            let topics = [
                ("pipeline", "sklearn"),
                ("model.onnx", "onnx"),
                ("penguins", "training"),
            ];
            if let Some(topic) = topics.iter().find_map(topic) {
                server.wait_ready();
                let guide = text(&format!("src/guide/{topic}.md"));
                let mut bodies = guide.lines().filter_map(|line| line.split('\'').nth(1));
                let answer = server.predict(bodies.next().unwrap());
                assert_eq!(answer.status, 200, "{rest:?}: {}", answer.body);
            } else if rest.iter().any(|word| word.contains("/models/")) {
                server.wait_ready();
                let answer = server.predict(shown_body());
                assert_eq!(answer.status, 200, "{rest:?}: {}", answer.body);
            } else {
                served = Some(server);
            }
            continue;
        }
        let output = run(&args);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(!stdout(&output).is_empty(), "{args:?}");
    }
    let expected = [
        "serve", "serve", "serve", "serve", "train", "inspect", "serve", "inspect", "predict",
        "train", "inspect", "serve", "drill",
    ];
    assert_eq!(seen, expected);
    let server = served.unwrap();
    server.wait_ready();
    let answer = server
        .predict(r#"{"instances": [[5.1, 3.5, 1.4, 0.2]]}"#)
        .json();
    assert_eq!(answer["predictions"], serde_json::json!(["setosa"]));
    let iris = fs::read_to_string(IRIS).unwrap();
    let answer = post(&server, "text/csv", "text/csv", &iris);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body.lines().count(), 151);
}

#[test]
fn the_guide_lists_every_algorithm_as_it_is() {
    let guide = text("src/guide/training.md");
    for algorithm in &ALGORITHMS {
        let parameters: Vec<String> = algorithm
            .parameters()
            .iter()
            .map(|parameter| format!("`{}={}`", parameter.name, parameter.default))
            .collect();
        let row = format!(
            "| `{}` | {} | {} |",
            algorithm.name,
            parameters.join(", "),
            algorithm.beside
        );
        assert!(
            guide.contains(&row),
            "src/guide/training.md has no row\n{row}"
        );
    }
}

#[test]
fn what_cannot_be_predicted_or_inspected_is_one_line_and_exit_code_1() {
    let folder = Folder::new("cannot");
    let broken = folder.write("broken.json", b"{\"format\": \"lanekeeper-model\"");
    let column = folder.write(
        "column.csv",
        b"sepal_length,sepal_width,petal_length\n1,2,3\n",
    );
    let cell = folder.write(
        "cell.csv",
        b"sepal_length,sepal_width,petal_length,petal_width\n1,2,3,x\n",
    );
    #[rustfmt::skip]
    let table: &[(&[&str], &str)] = &[
        (&["inspect", "--model", "/nowhere.json"], "cannot use the model file /nowhere.json"),
        (&["inspect", "--model", &broken], "broken.json: it is truncated"),
        (&["predict", "--model", &broken, "--data", IRIS], "broken.json: it is truncated"),
        (&["predict", "--data", "/nowhere.csv"], "cannot read /nowhere.csv"),
        (&["predict", "--data", &column], "column.csv, line 1: there is no column \"petal_width\""),
        (&["predict", "--data", &cell], "cell.csv, line 2, column \"petal_width\": the cell is \"x\""),
    ];
    for (args, expected) in table {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let told = stderr(&output);
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(
            told.starts_with("lanekeeper: ") && told.contains(expected),
            "{told}"
        );
    }
    let usage = run(&["predict"]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(stderr(&usage).contains("--data"), "{}", stderr(&usage));
}
