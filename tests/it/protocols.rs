//! The protocols of other servers: each form that they take, each refusal, and what a body may lie about.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Value, json};

use crate::imported::model;
use crate::recordings::{Message, ask, json as read_json};
use crate::support::Server;

const ROWS: &str = "[[5.1,3.5,1.4,0.2],[6.3,3.3,6.0,2.5]]";
const LABELS: [&str; 2] = ["setosa", "virginica"];
const NAMES: [&str; 4] = ["sepal_length", "sepal_width", "petal_length", "petal_width"];

fn iris(args: &[&str]) -> Server {
    let server = Server::real(&[&["--name=iris"], args].concat());
    server.wait_ready();
    server
}

/// Posts a body with these header lines.
fn post(server: &Server, path: &str, fields: &str, body: &[u8]) -> Message {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    ask(server, &[head.as_bytes(), body].concat())
}

fn get(server: &Server, path: &str) -> Message {
    ask(
        server,
        format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(),
    )
}

fn infer(server: &Server, body: &Value) -> Message {
    post(
        server,
        "/v2/models/iris/infer",
        "",
        body.to_string().as_bytes(),
    )
}

/// A request of V2 with its tensors' data in binary.
fn binary(document: &Value, data: &[u8]) -> (String, Vec<u8>) {
    let json = document.to_string();
    let field = format!("Inference-Header-Content-Length: {}\r\n", json.len());
    (field, [json.as_bytes(), data].concat())
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.content).into_owned()
}

/// Checks an error: its status, its own shape and what it says.
fn check_error(name: &str, message: &Message, status: &str, part: &str) {
    let content = text(message);
    assert_eq!(message.status, status, "{name}: {content}");
    assert_eq!(message.content_type, "application/json", "{name}");
    let json = read_json(&message.content);
    for field in ["error", "code", "request_id"] {
        assert!(json[field].is_string(), "{name}: {content}");
    }
    assert!(
        json["error"].as_str().unwrap().contains(part),
        "{name}: {content}"
    );
}

fn doubles(numbers: &[f64]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

#[test]
fn every_form_of_v2_gives_the_same_answer() {
    let server = iris(&[]);
    let rows: Vec<f64> = serde_json::from_str::<Vec<Vec<f64>>>(ROWS)
        .unwrap()
        .concat();
    let tensor = |name: &str, datatype: &str, shape: &[usize], data: Value| json!({"name": name, "datatype": datatype, "shape": shape, "data": data});
    let columns: Vec<Value> = NAMES
        .iter()
        .enumerate()
        .rev()
        .map(|(place, name)| tensor(name, "FP64", &[2, 1], json!([rows[place], rows[4 + place]])))
        .collect();
    let whole = [5.0, 3.0, 1.0, 0.0, 6.0, 3.0, 6.0, 2.0];
    let inputs = [
        json!([tensor("x", "FP64", &[2, 4], json!(rows))]),
        json!([tensor(
            "input-0",
            "FP32",
            &[2, 4],
            json!([&rows[..4], &rows[4..]])
        )]),
        json!([tensor("predict", "FP16", &[2, 4], json!(rows))]),
        json!([tensor(
            "x",
            "INT64",
            &[2, 4],
            json!(whole.map(|x| x as i64))
        )]),
        json!([tensor(
            "x",
            "UINT8",
            &[2, 4],
            json!(whole.map(|x| x as i64))
        )]),
        json!(columns),
    ];
    for inputs in inputs {
        let message = infer(
            &server,
            &json!({"inputs": inputs, "id": "mine", "other": [1]}),
        );
        assert_eq!(message.status, "200", "{inputs}: {}", text(&message));
        let answer = read_json(&message.content);
        assert_eq!(answer["id"], "mine");
        assert_eq!(answer["model_name"], "iris");
        let expected = json!([{
            "name": "predict", "datatype": "BYTES", "shape": [2, 1], "data": LABELS,
        }]);
        assert_eq!(answer["outputs"], expected, "{inputs}");
    }
    // One row may be flat, and no row gets an answer without rows.
    let one = infer(
        &server,
        &json!({"inputs": [tensor("x", "FP64", &[4], json!(rows[..4]))]}),
    );
    assert_eq!(
        read_json(&one.content)["outputs"][0]["data"],
        json!(["setosa"])
    );
    let none = infer(
        &server,
        &json!({"inputs": [tensor("x", "FP64", &[0, 4], json!([]))]}),
    );
    assert_eq!(
        read_json(&none.content)["outputs"][0]["shape"],
        json!([0, 1])
    );
    // Nothing but numbers.
    let bare = post(
        &server,
        "/v2/models/iris/infer",
        "Inference-Header-Content-Length: 0\r\n",
        &doubles(&rows),
    );
    assert_eq!(bare.status, "200", "{}", text(&bare));
    assert!(text(&bare).ends_with("\u{6}\0\0\0setosa\t\0\0\0virginica"));
    // Compressed, whole and in both codings.
    let (field, body) = binary(
        &json!({"inputs": [{"name": "x", "datatype": "FP64", "shape": [2, 4],
            "parameters": {"binary_data_size": 64}}]}),
        &doubles(&rows),
    );
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&body).unwrap();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(&body).unwrap();
    for (coding, body) in [
        ("gzip", gzip.finish().unwrap()),
        ("deflate", zlib.finish().unwrap()),
    ] {
        let fields = format!("{field}Content-Encoding: {coding}\r\nAccept-Encoding: gzip, br\r\n");
        let message = post(&server, "/v2/models/iris/infer", &fields, &body);
        assert_eq!(message.status, "200", "{coding}: {}", text(&message));
        assert_eq!(
            read_json(&message.content)["outputs"][0]["data"],
            json!(LABELS)
        );
    }
}

#[test]
fn outputs_have_the_names_that_clients_of_other_servers_use() {
    let server = iris(&[]);
    let predicted = server.predict(&format!("{{\"instances\": {ROWS}}}")).json();
    let shares: Vec<f64> = predicted["probabilities"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| {
            ["setosa", "versicolor", "virginica"].map(|label| row[label].as_f64().unwrap())
        })
        .collect();
    let ask_for = |outputs: Value| {
        let rows: Value = serde_json::from_str(ROWS).unwrap();
        let input = json!({"name": "x", "datatype": "FP64", "shape": [2, 4], "data": rows});
        infer(&server, &json!({"inputs": [input], "outputs": outputs}))
    };
    #[rustfmt::skip]
    let table = [
        ("predict", "BYTES", json!([2, 1]), json!(LABELS)),
        ("output-0", "BYTES", json!([2]), json!(LABELS)),
        ("output-1", "BYTES", json!([2, 1]), json!(LABELS)),
        ("label", "BYTES", json!([2]), json!(LABELS)),
        ("output_label", "BYTES", json!([2]), json!(LABELS)),
        ("predict_proba", "FP64", json!([2, 3]), json!(shares)),
        ("probabilities", "FP64", json!([2, 3]), json!(shares)),
        ("output_probability", "FP64", json!([2, 3]), json!(shares)),
        ("output__0", "FP32", json!([2, 1]), json!([0.0, 2.0])),
    ];
    for (name, datatype, shape, data) in table {
        let message = ask_for(json!([{"name": name}]));
        assert_eq!(message.status, "200", "{name}: {}", text(&message));
        let expected = json!([{"name": name, "datatype": datatype, "shape": shape, "data": data}]);
        assert_eq!(read_json(&message.content)["outputs"], expected);
    }
    // In the order asked for.
    let both = read_json(&ask_for(json!([{"name": "predict_proba"}, {"name": "predict"}])).content);
    assert_eq!(both["outputs"][0]["name"], "predict_proba");
    assert_eq!(both["outputs"][1]["name"], "predict");
    let classes = json!([{"name": "predict_proba", "parameters": {"classification": 9}}]);
    let classes = read_json(&ask_for(classes).content);
    assert_eq!(classes["outputs"][0]["shape"], json!([2, 3]));
    assert_eq!(classes["outputs"][0]["data"][0], "1.000000:0:setosa");
    for (outputs, part) in [
        (
            json!([{"name": "nobody"}]),
            "there is no output \"nobody\"; there is predict and predict_proba",
        ),
        (
            json!([{"name": "predict", "parameters": {"classification": 1}}]),
            "cannot be given as classes",
        ),
        (
            json!([{"name": "predict", "parameters": {"shared_memory_region": "x"}}]),
            "shared memory",
        ),
    ] {
        check_error(part, &ask_for(outputs), "400", part);
    }
}

#[test]
fn a_request_of_v2_that_lies_is_refused_with_what_is_wrong() {
    let server = iris(&[]);
    let input = |shape: Value, datatype: &str, data: Value| json!({"inputs": [{"name": "x", "datatype": datatype, "shape": shape, "data": data}]});
    let huge = json!([u64::MAX, u64::MAX]);
    #[rustfmt::skip]
    let table = [
        (json!({}), "missing field `inputs`"),
        (json!({"inputs": []}), "lacks sepal_length, sepal_width, petal_length, petal_width"),
        (json!({"inputs": 3}), "invalid type"),
        (input(json!([2, 4]), "FP64", json!([1, 2, 3])), "holds 8 values, but its data"),
        (input(json!([1, 4]), "FP64", json!([1, 2, 3, 4, 5])), "more"),
        (input(json!([1, 3]), "FP64", json!([1, 2, 3])), "must have [rows, 4]"),
        (input(json!([4, 1]), "FP64", json!([1, 2, 3, 4])), "must have [rows, 4]"),
        (input(huge, "FP64", json!([1])), "more values than there can be"),
        (input(json!([1_000_000, 4]), "FP64", json!([1])), "but its data are fewer"),
        (input(json!([-1, 4]), "FP64", json!([1])), "integer"),
        (input(json!([1, 4]), "FP99", json!([1, 2, 3, 4])), "must be one of BOOL"),
        (input(json!([1, 4]), "BYTES", json!(["a", "b", "c", "d"])), "must be a finite number"),
        (input(json!([1, 4]), "INT32", json!([1, 2.5, 3, 4])), "2.5, which INT32 cannot hold"),
        (input(json!([1, 4]), "UINT8", json!([1, 256, 3, 4])), "256, which UINT8 cannot hold"),
        (input(json!([1, 4]), "FP64", json!([1, null, 3, 4])), "value 1 is null"),
        (input(json!([1, 4]), "FP64", json!([1, "x", 3, 4])), "must be a finite number"),
        (input(json!([1, 4]), "FP32", json!([1e300, 1, 1, 1])), "which FP32 cannot hold"),
        (json!({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 4]}]}), "neither \"data\" nor"),
        (json!({"inputs": [{"name": "sepal_length", "datatype": "FP64", "shape": [1], "data": [1]},
            {"name": "other", "datatype": "FP64", "shape": [1], "data": [1]}]}), "\"other\" is no feature"),
        (json!({"inputs": [{"name": "sepal_length", "datatype": "FP64", "shape": [1], "data": [1]}]}), "lacks sepal_width"),
        (json!({"inputs": [], "parameters": {"timeout": -1}}), "timeout"),
        (json!({"inputs": [], "parameters": {"timeout": 1.5}}), "timeout"),
    ];
    for (body, part) in table {
        check_error(&body.to_string(), &infer(&server, &body), "400", part);
    }
    let sized = |shape: Value, size: i64| {
        json!({"inputs": [{"name": "x", "datatype": "FP64", "shape": shape,
            "parameters": {"binary_data_size": size}}]})
    };
    #[rustfmt::skip]
    let table = [
        (sized(json!([1, 4]), 64), 32, "64, but 32 bytes are left"),
        (sized(json!([1, 4]), 32), 64, "belong to no input"),
        (sized(json!([2, 4]), 32), 32, "holds 8 values, but its binary data have 32 bytes"),
        (sized(json!([1, 4]), -1), 32, "\"binary_data_size\" counts whole bytes from 0"),
        (sized(json!([u64::MAX, 4]), 32), 32, "more values than there can be"),
    ];
    for (document, bytes, part) in table {
        let (field, body) = binary(&document, &vec![0; bytes]);
        let message = post(&server, "/v2/models/iris/infer", &field, &body);
        check_error(&document.to_string(), &message, "400", part);
    }
    for length in ["x", "-1", "1000", "99999999999999999999"] {
        let field = format!("Inference-Header-Content-Length: {length}\r\n");
        let message = post(&server, "/v2/models/iris/infer", &field, b"{}");
        check_error(length, &message, "400", "length of the JSON");
    }
    let bare = "Inference-Header-Content-Length: 0\r\n";
    let message = post(&server, "/v2/models/iris/infer", bare, &[0; 33]);
    check_error(
        "bare",
        &message,
        "400",
        "rows of 4 values in FP64, 32 bytes each",
    );
    let compressed = |coding: &str, body: &[u8]| {
        let field = format!("Content-Encoding: {coding}\r\n");
        post(&server, "/v2/models/iris/infer", &field, body)
    };
    check_error("br", &compressed("br", b"x"), "415", "gzip or deflate");
    check_error(
        "damaged",
        &compressed("gzip", b"not gzip"),
        "400",
        "no gzip stream",
    );
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&vec![b' '; 32 << 20]).unwrap();
    check_error(
        "bomb",
        &compressed("gzip", &bomb.finish().unwrap()),
        "413",
        "--max-body",
    );
    // The connection is alive after each of them.
    assert_eq!(get(&server, "/readyz").status, "200");
}

#[test]
fn a_model_is_found_by_its_name_and_version_or_named() {
    let server = iris(&["--model-version=v0.1.0"]);
    let body = format!("{{\"instances\": {ROWS}}}");
    let v1 = |path: &str| post(&server, path, "", body.as_bytes());
    for path in [
        "/v1/models/iris:predict",
        "/v1/models/iris%3Apredict",
        "/v1/models/iris%3apredict",
        "/v1/models/iris/versions/v0.1.0:predict",
        "/v1/models/iris/versions/1:predict",
        "/v1/models/%69ris:predict",
    ] {
        assert_eq!(v1(path).status, "200", "{path}");
    }
    check_error(
        "model",
        &v1("/v1/models/other:predict"),
        "404",
        "no model \"other\"; there is \"iris\"",
    );
    let version = v1("/v1/models/iris/versions/2:predict");
    check_error(
        "version",
        &version,
        "404",
        "no version \"2\"; it has \"v0.1.0\"",
    );
    check_error(
        "explain",
        &v1("/v1/models/iris:explain"),
        "501",
        "predicts and describes",
    );
    for path in [
        "/v2/models/other",
        "/v2/models/other/ready",
        "/v2/models/other/config",
        "/v2/models/other/stats",
        "/v1/models/other",
        "/v2/models/iris/versions/7",
    ] {
        check_error(path, &get(&server, path), "404", "");
    }
    let metadata = read_json(&get(&server, "/v2/models/iris").content);
    assert_eq!(metadata["versions"], json!(["v0.1.0"]));
    // perf_analyzer takes digits only.
    let stats = read_json(&get(&server, "/v2/models/iris/versions/1/stats").content);
    let stats = &stats["model_stats"][0];
    assert_eq!(stats["version"], "1");
    assert_eq!(stats["inference_count"], 12);
    assert_eq!(stats["inference_stats"]["queue"]["count"], 6);
    let index = post(&server, "/v2/repository/index", "", b"{\"ready\": true}");
    assert_eq!(read_json(&index.content)[0]["state"], "READY");
    let load = post(&server, "/v2/repository/models/iris/load", "", b"{}");
    check_error("load", &load, "501", "SIGHUP");
}

#[test]
fn v1_takes_rows_records_and_columns() {
    let server = iris(&[]);
    let v1 = |body: &str| post(&server, "/v1/models/iris:predict", "", body.as_bytes());
    let record = |row: &[f64], value: fn(f64) -> Value| {
        let fields = NAMES
            .iter()
            .zip(row)
            .map(|(name, cell)| ((*name).to_owned(), value(*cell)));
        Value::Object(fields.collect())
    };
    let plain: fn(f64) -> Value = |value| json!(value);
    let in_list: fn(f64) -> Value = |value| json!([value]);
    // As pandas writes a table of one row.
    let in_table: fn(f64) -> Value = |value| json!({"0": value});
    let (one, two) = ([5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]);
    let columns: serde_json::Map<String, Value> = NAMES
        .iter()
        .enumerate()
        .map(|(place, name)| ((*name).to_owned(), json!([one[place], two[place]])))
        .collect();
    let predictions = json!({"predictions": LABELS});
    #[rustfmt::skip]
    let table = [
        (json!({"instances": [one, two], "signature_name": "x", "parameters": {"a": 1}}), predictions.clone()),
        (json!({"inputs": [one, two]}), predictions.clone()),
        (json!({"instances": [record(&one, plain), record(&two, plain)]}), predictions.clone()),
        (json!({"instances": [record(&one, in_list), record(&two, in_list)]}), predictions.clone()),
        (json!({"inputs": [record(&one, in_table), record(&two, in_table)]}), predictions.clone()),
        (json!({"inputs": columns}), json!({"outputs": LABELS})),
    ];
    for (body, expected) in table {
        let message = v1(&body.to_string());
        assert_eq!(message.status, "200", "{body}: {}", text(&message));
        assert_eq!(read_json(&message.content), expected, "{body}");
    }
    #[rustfmt::skip]
    let wrong = [
        (json!({"instances": [one], "inputs": [one]}).to_string(), "exactly one of the fields instances, inputs"),
        ("{}".to_owned(), "exactly one of the fields instances, inputs"),
        ("[]".to_owned(), "expected an object"),
        ("{".to_owned(), "not JSON"),
        (String::new(), "the body is empty"),
        (json!({"instances": []}).to_string(), "at least one"),
        (json!({"instances": [[1, 2]]}).to_string(), "instances[0] has 2 features"),
        (json!({"instances": [[1, 2, "x", 4]]}).to_string(), "\"petal_length\" of instances[0]"),
        (json!({"inputs": {"sepal_length": [1]}}).to_string(), "lacks the feature \"sepal_width\""),
        ("{\"inputs\": {\"sepal_length\": [1], \"sepal_length\": [1]}}".to_owned(), "twice"),
        ("{\"instances\": [[1,2,3,4]], \"instances\": [[1,2,3,4]]}".to_owned(), "occurs twice"),
    ];
    for (body, part) in wrong {
        check_error(&body, &v1(&body), "400", part);
    }
}

#[test]
fn invocations_takes_each_form_and_answers_as_its_client_expects() {
    let server = iris(&[]);
    let invoke = |content_type: &str, accept: &str, body: &str| {
        let mut fields = String::new();
        for (name, value) in [("Content-Type", content_type), ("Accept", accept)] {
            if !value.is_empty() {
                fields.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        post(&server, "/invocations", &fields, body.as_bytes())
    };
    let (json_type, csv) = ("application/json", "text/csv");
    let header = NAMES.join(",");
    let cells = "5.1,3.5,1.4,0.2\n6.3,3.3,6.0,2.5\n";
    let table = format!("{header}\n{cells}");
    let with_index = format!(",{header},note\n0,5.1,3.5,1.4,0.2,a\n1,6.3,3.3,6.0,2.5,b\n");
    let lines = "[5.1,3.5,1.4,0.2]\n\n[6.3,3.3,6.0,2.5]\n";
    let split = json!({"dataframe_split": {"columns": ["petal_width", "x", "petal_length", "sepal_width", "sepal_length"],
        "index": [7, 8], "data": [[0.2, null, 1.4, 3.5, 5.1], [2.5, "t", 6.0, 3.3, 6.3]]}, "params": {"a": 1}});
    let numbered = json!({"dataframe_split": {"columns": [0, 1, 2, 3], "data": [[5.1,3.5,1.4,0.2],[6.3,3.3,6.0,2.5]]}});
    let labels = "{\"predictions\":[\"setosa\",\"virginica\"]}\n";
    let bare = "[\"setosa\",\"virginica\"]\n";
    let answer_csv = "setosa\nvirginica\n";
    let answer_lines = "{\"prediction\":\"setosa\"}\n{\"prediction\":\"virginica\"}\n";
    #[rustfmt::skip]
    let table = [
        (json_type, "", split.to_string(), json_type, labels),
        (json_type, "*/*", numbered.to_string(), json_type, labels),
        ("application/json; charset=utf-8", "", format!("{{\"instances\": {ROWS}}}"), json_type, labels),
        ("", "", format!("{{\"inputs\": {ROWS}}}"), json_type, labels),
        (json_type, "", ROWS.to_owned(), json_type, bare),
        (json_type, csv, ROWS.to_owned(), "text/csv; charset=utf-8", answer_csv),
        (csv, "", table.clone(), json_type, labels),
        ("text/csv; header=present", "", with_index, json_type, labels),
        (csv, csv, table, "text/csv; charset=utf-8", answer_csv),
        (csv, "", cells.to_owned(), "text/csv; charset=utf-8", answer_csv),
        (csv, "", "0,1,2,3\n4,5,6,7\n".to_owned(), "text/csv; charset=utf-8", "setosa\nvirginica\n"),
        ("text/csv; label_size=0", json_type, cells.to_owned(), json_type, labels),
        ("application/jsonlines", "", lines.to_owned(), json_type, labels),
        ("application/x-ndjson", "application/jsonlines", lines.to_owned(), "application/jsonlines", answer_lines),
    ];
    for (content_type, accept, body, answer_type, expected) in table {
        let message = invoke(content_type, accept, &body);
        assert_eq!(message.status, "200", "{body}: {}", text(&message));
        assert_eq!(message.content_type, answer_type, "{body}");
        assert_eq!(text(&message), expected, "{content_type} {accept} {body}");
    }
    // More columns than any model has features.
    let names: String = (0..131_072).map(|place| format!("\"{place}x\",")).collect();
    let split =
        format!("{{\"dataframe_split\": {{\"columns\": [{names}\"a\"], \"data\": [[1]]}}}}");
    let lists = names.replace(',', ": [1],");
    let lists = format!("{{\"inputs\": {{{lists}\"a\": [1]}}}}");
    let commas = ",".repeat(131_072);
    #[rustfmt::skip]
    let wrong = [
        (json_type, &split[..], "400", "at most 131072 columns"),
        (json_type, &lists[..], "400", "at most 131072 columns"),
        (csv, &commas[..], "400", "at most 131072 columns"),
        ("text/libsvm", "1 1:2", "415", "text/csv"),
        ("application/x-parquet", "", "415", "application/json"),
        ("application/json; format=pandas-split", "{}", "415", "dataframe_split"),
        ("text/csv; charset=latin-1", "1", "415", "UTF-8"),
        (json_type, "{\"instances\": [[1,2,3,4]], \"inputs\": [[1,2,3,4]]}", "400", "exactly one of"),
        (json_type, "{\"dataframe_split\": {\"columns\": [\"a\"], \"data\": [[1]]}}", "400", "lacks the feature \"sepal_length\""),
        (json_type, "{\"dataframe_split\": {\"columns\": [\"a\", \"sepal_length\", \"sepal_length\"], \"data\": [[1]]}}", "400", "twice"),
        (json_type, "{\"dataframe_split\": {\"columns\": [0, 1, 2, 3]}}", "400", "lacks the field \"data\""),
        (json_type, "{\"dataframe_split\": {\"columns\": [\"petal_width\", \"petal_length\", \"sepal_width\", \"sepal_length\"], \"data\": [[1]]}}", "400", "data[0] has 1 values, but there are 4 columns"),
        (json_type, "{\"dataframe_records\": {}}", "400", "an array of instances"),
        (json_type, "[]", "400", "at least one"),
        (csv, "1,2,3\n", "400", "there must be 4"),
        (csv, "a,b,c,d\n1,2,3,4\n", "400", "there are no columns \"sepal_length\""),
        ("application/jsonlines", "[1,2,3,4]\n[1,2\n", "400", "line 2 of the body"),
        ("application/x-npy", "\u{93}NUMPY", "400", "no array"),
    ];
    for (content_type, body, status, part) in wrong {
        let message = invoke(content_type, "", body);
        check_error(body, &message, status, part);
        let json = read_json(&message.content);
        assert_eq!(json["error_code"], "BAD_REQUEST", "{body}");
        assert_eq!(json["message"], json["error"], "{body}");
    }
}

/// An array file as numpy.save writes it.
fn npy(descr: &str, in_columns: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header =
        format!("{{'descr': '{descr}', 'fortran_order': {in_columns}, 'shape': ({shape}), }}");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

#[test]
fn numpys_arrays_are_read_as_they_say_or_refused() {
    let server = iris(&[]);
    let rows = [5.1, 3.5, 1.4, 0.2, 6.3, 3.3, 6.0, 2.5];
    let wide = doubles(&rows);
    let narrow: Vec<u8> = rows
        .iter()
        .flat_map(|x| (*x as f32).to_le_bytes())
        .collect();
    let long: Vec<u8> = rows
        .iter()
        .flat_map(|x| (*x as i64).to_le_bytes())
        .collect();
    let short: Vec<u8> = rows
        .iter()
        .flat_map(|x| (*x as i32).to_le_bytes())
        .collect();
    let invoke = |body: &[u8]| {
        post(
            &server,
            "/invocations",
            "Content-Type: application/x-npy\r\n",
            body,
        )
    };
    for file in [
        npy("<f8", "False", "2, 4", &wide),
        npy("<f4", "False", "2, 4", &narrow),
        npy("<i8", "False", "2, 4", &long),
        npy("<i4", "False", "2, 4", &short),
    ] {
        let message = invoke(&file);
        assert_eq!(message.status, "200", "{}", text(&message));
        assert_eq!(read_json(&message.content)["predictions"], json!(LABELS));
    }
    let one = invoke(&npy("<f8", "False", "4,", &wide[..32]));
    assert_eq!(read_json(&one.content)["predictions"], json!(["setosa"]));
    #[rustfmt::skip]
    let wrong = [
        (npy(">f8", "False", "2, 4", &wide), "\">f8\" is not read"),
        (npy("|O", "False", "2, 4", &wide), "must be one of <f8"),
        (npy("<f8", "True", "2, 4", &wide), "ascontiguousarray"),
        (npy("<f8", "Maybe", "2, 4", &wide), "no array"),
        (npy("<f8", "False", "2, 4", &wide[..60]), "64"),
        (npy("<f8", "False", "18446744073709551615, 4", &wide), "more values than there can be"),
        (npy("<f8", "False", "2, 2, 2", &wide), "no array"),
        (npy("<f8", "False", "0, 4", &[]), "empty"),
        (npy("<f8", "False", "4, 2", &wide), "must have [rows, 4]"),
        (npy("<f8", "False", "2, 4", &doubles(&[f64::NAN; 8])), "finite"),
        (b"\x93NUMPY\x01\x00\xff\xff{".to_vec(), "no array"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{".to_vec(), "no array"),
        (b"pickle".to_vec(), "no array"),
    ];
    for (file, part) in wrong {
        check_error(part, &invoke(&file), "400", part);
    }
}

#[test]
fn azures_and_vertexs_forms_are_read() {
    let server = iris(&[]);
    let score = |body: &str| post(&server, "/score", "", body.as_bytes());
    for body in [
        format!("{{\"data\": {ROWS}, \"params\": {{}}}}"),
        format!("{{\"input_data\": {ROWS}}}"),
        json!({"input_data": {"columns": NAMES, "index": [0, 1], "data": [[5.1,3.5,1.4,0.2],[6.3,3.3,6.0,2.5]]}})
            .to_string(),
    ] {
        let message = score(&body);
        assert_eq!(message.status, "200", "{body}: {}", text(&message));
        assert_eq!(read_json(&message.content), json!(LABELS));
    }
    let message = score("{}");
    check_error(
        "score",
        &message,
        "400",
        "exactly one of the fields input_data, data",
    );
    assert!(read_json(&message.content)["message"].is_string());
    // Vertex AI sends parameters, which are left alone.
    let body = format!("{{\"instances\": {ROWS}, \"parameters\": {{\"a\": [1, {{}}]}}}}");
    let message = post(&server, "/predict", "", body.as_bytes());
    assert_eq!(message.status, "200", "{}", text(&message));
}

#[test]
fn a_hosting_platforms_variables_become_options() {
    let variables = [
        ("AIP_HTTP_PORT", "8080"),
        ("AIP_PREDICT_ROUTE", "/v1/models/any:predict"),
        ("AIP_HEALTH_ROUTE", "/v1/models/any"),
    ];
    let server = Server::real_in(&variables, &[]);
    server.wait_ready();
    assert_eq!(get(&server, "/v1/models/any").status, "200");
    let body = format!("{{\"instances\": {ROWS}}}");
    let message = post(&server, "/v1/models/any:predict", "", body.as_bytes());
    assert_eq!(read_json(&message.content)["predictions"], json!(LABELS));
    assert!(
        server
            .logged()
            .contains("options by Vertex AI: --predict-route="),
        "{}",
        server.logged()
    );
}

#[test]
fn a_directory_with_one_model_is_a_model() {
    let folder = std::env::temp_dir().join(format!("lanekeeper-directory-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::copy(
        model("xgboost/multi_softprob/model.json"),
        folder.join("model.json"),
    )
    .unwrap();
    fs::write(folder.join("README.md"), "about").unwrap();
    let link = folder.join("link");
    std::os::unix::fs::symlink(&folder, &link).unwrap();
    let server = Server::real(&["--model", link.to_str().unwrap(), "--main-metrics"]);
    server.wait_ready();
    assert_eq!(
        read_json(&get(&server, "/v2/models").content),
        json!({"models": ["model"]})
    );
    assert_eq!(get(&server, "/metrics").status, "200");
    drop(server);
    fs::remove_dir_all(&folder).unwrap();
}
