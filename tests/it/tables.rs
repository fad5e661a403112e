//! Tables as people have them: what trains, and what is told of what does not.

use std::fs;
use std::path::Path;

use crate::support::Server;
use crate::train::{Folder, run, stderr, stdout};

/// A table of the form of the Palmer penguins, by [`penguins`].
pub const PENGUINS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/penguins.csv");

/// Numbers that look random and are the same on every machine (SplitMix64).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A sum of uniform numbers, which is nearly normal with deviation 1.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    pub fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }
}

/// Three species on three islands, with an unnamed index, texts and missing values.
fn penguins() -> String {
    // Bill length and depth, flipper length, body mass; the islands.
    let species = [
        (
            "Adelie",
            [38.8, 18.3, 190.0, 3700.0],
            ["Torgersen", "Biscoe", "Dream"],
        ),
        (
            "Gentoo",
            [47.5, 15.0, 217.0, 5080.0],
            ["Biscoe", "Biscoe", "Biscoe"],
        ),
        (
            "Chinstrap",
            [48.8, 18.4, 196.0, 3730.0],
            ["Dream", "Dream", "Dream"],
        ),
    ];
    let spreads = [2.6, 1.0, 6.5, 400.0];
    let mut random = Numbers(7);
    let mut table =
        ",species,island,bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g,sex,year\n"
            .to_owned();
    for row in 1..=300 {
        let (name, means, islands) = &species[random.below(3)];
        let is_male = random.unit() < 0.5;
        let mut measures: Vec<f64> = means
            .iter()
            .zip(spreads)
            .map(|(mean, spread)| {
                let sex = if is_male { 0.6 } else { -0.6 };
                mean + spread * (sex + 0.8 * random.normal())
            })
            .collect();
        measures[3] = (measures[3] / 25.0).round() * 25.0;
        let cell = |value: String, is_missing: bool| match is_missing {
            true => "NA".to_owned(),
            false => value,
        };
        let is_lost = random.unit() < 0.02;
        let [length, depth, flipper, mass] = [0, 1, 2, 3].map(|place| match place {
            0 | 1 => cell(format!("{:.1}", measures[place]), is_lost),
            _ => cell(format!("{:.0}", measures[place]), is_lost),
        });
        let sex = cell(
            if is_male { "male" } else { "female" }.to_owned(),
            random.unit() < 0.05,
        );
        table.push_str(&format!(
            "{row},{name},{},{length},{depth},{flipper},{mass},{sex},{}\n",
            islands[random.below(3)],
            2007 + random.below(3)
        ));
    }
    table
}

/// With `LANEKEEPER_BLESS=1` this writes the file again.
#[test]
fn the_stored_table_is_what_its_generator_makes() {
    if std::env::var_os("LANEKEEPER_BLESS").is_some() {
        fs::write(PENGUINS, penguins()).unwrap();
    }
    assert_eq!(fs::read_to_string(PENGUINS).unwrap(), penguins());
}

#[test]
fn a_table_with_text_gaps_and_an_index_trains_and_is_served_as_it_is() {
    let folder = Folder::new("penguins");
    let out = folder.path("m.json");
    let trained = run(&[
        "train", "--data", PENGUINS, "--target", "species", "--out", &out,
    ]);
    assert_eq!(trained.status.code(), Some(0), "{}", stderr(&trained));
    let told = stdout(&trained);
    assert!(told.contains(": 300 rows, 7 features, 3 classes"), "{told}");
    for name in ["accuracy", "auc", "log_loss", "macro_f1"] {
        assert!(told.contains(name), "{told}");
    }
    let notes = stderr(&trained);
    assert!(
        notes.contains("columns left out:") && notes.contains("counts rows"),
        "{notes}"
    );
    let inspected = run(&["inspect", "--model", &out, "--json"]);
    let inspected: serde_json::Value = serde_json::from_str(&stdout(&inspected)).unwrap();
    let accuracy = inspected["scores"]["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.95, "{accuracy}");
    assert_eq!(
        inspected["features"][0]["labels"],
        serde_json::json!(["Biscoe", "Dream", "Torgersen"])
    );
    let server = Server::real(&["--model", &out]);
    server.wait_ready();
    let answer = server.predict(
        r#"{"instances": [{"island": "Torgersen", "bill_length_mm": null, "bill_depth_mm": 18.7,
            "flipper_length_mm": 181, "body_mass_g": 3750, "sex": "male", "year": 2007}]}"#,
    );
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["predictions"], serde_json::json!(["Adelie"]));
    // An absent key may be a typo: missing is said with null.
    let answer = server.predict(r#"{"instances": [{"island": "Torgersen", "year": 2007}]}"#);
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.body.contains("lacks the feature"), "{}", answer.body);
}

/// Trains on a text, and returns the exit code with what was told.
fn told(name: &str, table: &[u8], more: &[&str]) -> (Option<i32>, String, String) {
    let folder = Folder::new(name);
    let data = folder.write("t.csv", table);
    let out = folder.path("m.json");
    let args = [
        "train", "--data", &data, "--target", "y", "--out", &out, "--folds", "2",
    ];
    let trained = run(&[&args[..], more].concat());
    assert_eq!(Path::new(&out).exists(), trained.status.code() == Some(0));
    let data = Path::new(&data).display().to_string();
    let text = |text: String| text.replace(&data, "t.csv");
    (
        trained.status.code(),
        text(stdout(&trained)),
        text(stderr(&trained)),
    )
}

/// Rows of `x` and a target that follows from it, after this header.
fn rows(header: &str, row: impl Fn(usize) -> String) -> String {
    let mut table = format!("{header}\n");
    (0..60).for_each(|number| table.push_str(&format!("{}\n", row(number))));
    table
}

#[test]
fn tables_with_warts_train_and_say_what_was_recognised() {
    let y = |row: usize| if row % 7 < 3 { "low" } else { "high" };
    let utf16 = |text: &str| {
        let units = text.encode_utf16().flat_map(u16::to_le_bytes);
        [0xff, 0xfe].into_iter().chain(units).collect::<Vec<u8>>()
    };
    let latin = |text: &str| text.chars().map(|one| one as u8).collect::<Vec<u8>>();
    let plain = rows("x,y", |row| format!("{},{}", row % 7, y(row)));
    // A name, the table, further arguments, and what is told.
    type Wart<'a> = (&'a str, Vec<u8>, &'a [&'a str], &'a [&'a str]);
    #[rustfmt::skip]
    let tables: &[Wart<'_>] = &[
        ("semicolons and decimal commas", rows("x;z;y", |row| format!("{},5;{},25;{}", row % 7, row, y(row))).into(), &[], &["2 features", "decimal comma"]),
        ("tabs", rows("x\tz\ty", |row| format!("{}\t{}\t{}", row % 7, row * row, y(row))).into(), &[], &["2 features"]),
        ("bars", rows("x|z|y", |row| format!("{}|{}|{}", row % 7, row * row, y(row))).into(), &[], &["2 features"]),
        ("CRLF and a byte order mark", format!("\u{feff}{}", plain.replace('\n', "\r\n")).into(), &[], &["1 features"]),
        ("old Mac's line ends", plain.replace('\n', "\r").into(), &[], &["60 rows, 1 features"]),
        ("UTF-16", utf16(&plain), &[], &["60 rows, 1 features", "UTF-16"]),
        ("Latin-1", latin(&rows("größe,y", |row| format!("{},{}", row % 7, y(row)))), &["--features", "größe"], &["60 rows, 1 features"]),
        ("an unnamed index", rows(",x,y", |row| format!("{row},{},{}", row % 7, y(row))).into(), &[], &["1 features", "left out"]),
        ("names", rows("name,x,y", |row| format!("person {row},{},{}", row % 7, y(row))).into(), &[], &["1 features", "left out: name"]),
        ("a column of keys", rows("key,x,y", |row| format!("{},{},{}", row * 37 % 61, row % 7, y(row))).into(), &["--id", "key"], &["1 features", "left out: key (excluded)"]),
        ("a column that is said to be keys", rows("key,x,y", |row| format!("{},{},{}", row * 37 % 61, row % 7, y(row))).into(), &["--column", "key=identifier"], &["1 features", "left out: key (as --column says)"]),
        ("a constant", rows("x,z,y", |row| format!("{},same,{}", row % 7, y(row))).into(), &[], &["1 features", "left out: z"]),
        ("missing numbers", rows("x,z,y", |row| format!("{},{},{}", row % 7, if row % 5 == 0 { "NA".to_owned() } else { (row * row).to_string() }, y(row))).into(), &[], &["2 features"]),
        ("other words for missing", rows("x,z,y", |row| format!("{},{},{}", row % 7, if row % 5 == 0 { "-99".to_owned() } else { (row * row).to_string() }, y(row))).into(), &["--missing", "-99"], &["2 features"]),
        ("dates", rows("x,d,y", |row| format!("{},2024-{:02}-{:02},{}", row % 7, 1 + row % 12, 1 + row % 28, y(row))).into(), &[], &["2 features"]),
        ("yes and no", rows("x,b,y", |row| format!("{},{},{}", row % 7, if row % 2 == 0 { "Yes" } else { "no" }, y(row))).into(), &[], &["2 features"]),
        ("thousands and currency", rows("x,p,y", |row| format!("{},\"${},{:03}.50\",{}", row % 7, 1 + row, row, y(row))).into(), &[], &["2 features"]),
        ("a preamble", format!("A title\n\n{plain}").into(), &["--skip-lines", "2"], &["60 rows, 1 features"]),
        ("rows to drop", rows("x,z,y", |row| format!("{},{},{}", row % 7, if row % 5 == 0 { "" } else { "1.5" }, if row % 6 == 0 { "NA" } else { y(row) })).into(), &["--drop-missing", "--column", "z=number"], &["40 rows", "20 rows with missing values were dropped"]),
    ];
    for (name, table, more, expected) in tables {
        let (code, report, notes) = told("warts", table, more);
        assert_eq!(code, Some(0), "{name}: {notes}");
        for part in *expected {
            assert!(
                report.contains(part) || notes.contains(part),
                "{name}: {part:?} is not in {report}\n{notes}"
            );
        }
    }
}

#[test]
fn tables_that_cannot_be_trained_on_say_all_that_is_wrong() {
    let plain = rows("x,y", |row| format!("{},{}", row % 7, row % 2));
    #[rustfmt::skip]
    let tables: &[(&str, String, &[&str], &[&str])] = &[
        ("no header", "1,2\n3,4\n5,6\n".to_owned(), &[], &["no header", "--no-header"]),
        ("a preamble", format!("A title\n\n{plain}"), &[], &["--skip-lines 2"]),
        ("rows of another width", format!("{plain}1\n1,2,3\n"), &[], &["line 62", "line 63", "the row has 1 cells", "the row has 3 cells"]),
        ("a stray quote", format!("{plain}\"1,2\n3,4\n5,6\n"), &[], &["line 62", "quote"]),
        ("a quote that swallows lines", "x,y\n1,\"a\n2,b\n3,\"a\n4,b\n5,b\n".to_owned(), &[], &["line 2, column \"y\"", "over several lines"]),
        ("missing targets", format!("{plain}1,\n2,NA\n"), &[], &["line 62", "line 63", "--drop-missing"]),
        ("a class called None", format!("{plain}1,None\n"), &["--task", "classification"], &["line 62", "the target is \"None\", which stands for a missing value; write another word if it is a class"]),
        ("labels that differ in spelling", "x,y\n1,0\n2,0.0\n3,1\n4,1\n".to_owned(), &["--task", "classification"], &["\"0\"", "\"0.0\"", "line 2", "line 3", "differ only in spelling"]),
        ("labels that differ in case", "x,y\n1,Yes\n2,yes\n3,no\n4,no\n".to_owned(), &[], &["\"Yes\"", "\"yes\"", "differ only in spelling"]),
        ("one class", "x,y\n1,a\n2,a\n".to_owned(), &[], &["one class, \"a\""]),
        ("text as a number", format!("{plain}1,two\n"), &["--algorithm", "linear-regression"], &["line 62", "\"two\"", "must be a number"]),
        ("a few texts among numbers", rows("x,y", |row| format!("{},{}", if row == 30 { "many".to_owned() } else { format!("{row}.5") }, row % 2)), &[], &["line 32", "\"many\"", "--column x=category"]),
        ("a blank line in one column", "y\n1\n\n3\n".to_owned(), &[], &["line 3", "blank"]),
        ("an unknown target", "x,z\n1,2\n".to_owned(), &[], &["there is no column \"y\"; there are x, z"]),
        ("a workbook", "PK\u{3}\u{4}[Content_Types].xml xl/workbook.xml".to_owned(), &[], &["Excel"]),
    ];
    for (name, table, more, expected) in tables {
        let (code, report, notes) = told("wrong", table.as_bytes(), more);
        assert_eq!(code, Some(1), "{name}: {report}{notes}");
        for part in *expected {
            assert!(notes.contains(part), "{name}: {part:?} is not in {notes}");
        }
    }
}

#[test]
fn a_table_without_a_header_has_numbered_columns() {
    let folder = Folder::new("headless");
    let rows = (0..60).map(|row| format!("{},{}\n", row % 7, u8::from(row % 7 < 3)));
    let data = folder.write("t.csv", rows.collect::<String>().as_bytes());
    let out = folder.path("m.json");
    let args = [
        "train",
        "--data",
        &data,
        "--no-header",
        "--target",
        "c1",
        "--out",
        &out,
    ];
    let trained = run(&args);
    assert_eq!(trained.status.code(), Some(0), "{}", stderr(&trained));
    assert!(stdout(&trained).contains(": 60 rows, 1 features, 2 classes"));
    let predicted = run(&["predict", "--model", &out, "--data", &data, "--no-header"]);
    assert_eq!(predicted.status.code(), Some(0), "{}", stderr(&predicted));
    assert_eq!(stdout(&predicted).lines().count(), 61);
}

#[test]
fn lines_before_a_table_are_skipped_by_predict_too() {
    let folder = Folder::new("preamble");
    let table = rows("x,y", |row| format!("{},{}", row % 7, row % 7 < 3));
    let data = folder.write("t.csv", format!("A title\n\n{table}").as_bytes());
    let out = folder.path("m.json");
    let more = ["--skip-lines", "2", "--folds", "0"];
    let trained = crate::train::train("logistic-regression", &data, "y", &out, &more);
    assert_eq!(trained.status.code(), Some(0), "{}", stderr(&trained));
    let args = ["predict", "--model", &out, "--data", &data];
    let predicted = run(&[&args[..], &["--skip-lines", "2"]].concat());
    assert_eq!(predicted.status.code(), Some(0), "{}", stderr(&predicted));
    let bare = folder.write("bare.csv", table.as_bytes());
    let expected = run(&["predict", "--model", &out, "--data", &bare]);
    assert_eq!(stdout(&predicted), stdout(&expected));
    assert_eq!(stdout(&predicted).lines().count(), 61);
    let refused = run(&args);
    assert_eq!(refused.status.code(), Some(1));
    let told = stderr(&refused);
    assert!(told.contains("--skip-lines 2"), "{told}");
}

#[test]
fn a_dry_run_shows_what_each_column_is_taken_for() {
    let folder = Folder::new("dry");
    let out = folder.path("m.json");
    let dry = run(&[
        "train",
        "--data",
        PENGUINS,
        "--target",
        "species",
        "--out",
        &out,
        "--dry-run",
    ]);
    assert_eq!(dry.status.code(), Some(0), "{}", stderr(&dry));
    assert!(!Path::new(&out).exists());
    let table = stdout(&dry);
    for (column, words) in [
        ("island", "category"),
        ("bill_length_mm", "number"),
        ("body_mass_g", "whole number"),
        ("sex", "category"),
        ("species", "target"),
    ] {
        let line = table.lines().find(|line| line.starts_with(column));
        assert!(
            line.is_some_and(|line| line.contains(words)),
            "{column}: {table}"
        );
    }
}

/// A table with a column of every kind, some of whose cells are missing, and the rows of its features
/// as JSON.
fn every_kind() -> (String, Vec<String>) {
    let mut random = Numbers(11);
    let mut table = "share;date;yes;colour;zip;price;kind\n".to_owned();
    let mut rows = Vec::new();
    for _ in 0..120 {
        let share = random.normal();
        let day = 1 + random.below(28);
        let yes = random.unit() < 0.5;
        let colour = ["red", "green", "dark blue", "ümlaut"][random.below(4)];
        let zip = 1000 + 37 * random.below(40);
        let price = 1000 * random.below(9) + random.below(1000) + 1000;
        let kind = if share + f64::from(u8::from(yes)) + 0.3 * random.normal() > 0.5 {
            "a"
        } else {
            "b"
        };
        let is_missing = random.unit() < 0.1;
        let written = format!("{share:.3}").replace('.', ",");
        let thousands = format!("{}.{:03},50 €", price / 1000, price % 1000);
        let colour_cell = if is_missing { "NA" } else { colour };
        let share_cell = if is_missing { "" } else { &written };
        table.push_str(&format!(
            "{share_cell};{day:02}.03.2024;{};{colour_cell};{zip};{thousands};{kind}\n",
            if yes { "yes" } else { "no" },
        ));
        let share = if is_missing {
            "null".to_owned()
        } else {
            format!("{share:.3}")
        };
        let colour = if is_missing {
            "null".to_owned()
        } else {
            format!("{colour:?}")
        };
        rows.push(format!(
            "{{\"price\": {price}.5, \"share\": {share}, \"date\": \"2024-03-{day:02}\", \"yes\": {yes}, \"colour\": {colour}, \"zip\": {zip}}}"
        ));
    }
    (table, rows)
}

#[test]
fn raw_records_and_cells_of_every_kind_get_the_same_answers() {
    let folder = Folder::new("kinds");
    let (table, rows) = every_kind();
    let data = folder.write("t.csv", table.as_bytes());
    for algorithm in [
        "boosted-trees-classifier",
        "logistic-regression",
        "knn-classifier",
    ] {
        let out = folder.path(&format!("{algorithm}.json"));
        let trained = crate::train::train(algorithm, &data, "kind", &out, &["--folds", "0"]);
        assert_eq!(trained.status.code(), Some(0), "{}", stderr(&trained));
        let inspected = stdout(&run(&["inspect", "--model", &out, "--json"]));
        let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
        let kinds: Vec<&str> = inspected["features"]
            .as_array()
            .unwrap()
            .iter()
            .map(|feature| feature["kind"].as_str().unwrap())
            .collect();
        let expected = [
            "number",
            "date or time",
            "yes or no",
            "category",
            "number",
            "number",
        ];
        assert_eq!(kinds, expected);
        let offline = run(&[
            "predict",
            "--model",
            &out,
            "--data",
            &data,
            "--delimiter",
            ";",
        ]);
        assert_eq!(offline.status.code(), Some(0), "{}", stderr(&offline));
        let offline = stdout(&offline).replace(';', ",");
        let server = Server::real(&["--model", &out]);
        server.wait_ready();
        // The server's CSV has commas; the cells are as they were.
        let commas: String = table
            .lines()
            .map(|line| {
                let cells: Vec<String> =
                    line.split(';').map(|cell| format!("\"{cell}\"")).collect();
                cells.join(",") + "\n"
            })
            .collect();
        let csv = crate::offline::post(&server, "text/csv", "text/csv", &commas);
        assert_eq!(csv.status, 200, "{}", csv.body);
        assert_eq!(csv.body, offline, "{algorithm}");
        let body = format!("{{\"instances\": [{}]}}", rows.join(","));
        let json = crate::offline::post(&server, "application/json", "text/csv", &body);
        assert_eq!(json.status, 200, "{}", json.body);
        assert_eq!(json.body, offline, "{algorithm}");
    }
}
