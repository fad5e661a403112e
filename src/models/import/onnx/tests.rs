use super::protobuf::{Field, Message};
use super::*;
use proptest::prelude::*;

fn refused(bytes: &[u8]) -> String {
    let loaded = Onnx.load(bytes, &ModelRequest::default());
    loaded.map(|loaded| loaded.to_string()).unwrap_err().0
}

/// A field with bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len();
    assert!(length < 1 << 14);
    let length = match length < 128 {
        true => vec![length as u8],
        false => vec![length as u8 | 0x80, (length >> 7) as u8],
    };
    [&[number << 3 | 2], &length[..], bytes].concat()
}

/// A graph of one node on `x` with two columns.
fn graph(operator: &str, domain: &str, attributes: &[u8]) -> Vec<u8> {
    let node = [
        field(1, b"x"),
        field(2, b"y"),
        field(4, operator.as_bytes()),
        field(7, domain.as_bytes()),
        attributes.to_vec(),
    ];
    // tensor_type { elem_type: 1, shape { dim {} dim { dim_value: 2 } } }
    let kind = field(
        1,
        &[
            &[8, 1][..],
            &field(2, &[field(1, b""), field(1, &[8, 2])].concat()),
        ]
        .concat(),
    );
    let value = |name: &[u8]| [field(1, name), field(2, &kind)].concat();
    let graph = [
        field(1, &node.concat()),
        field(11, &value(b"x")),
        field(12, &value(b"y")),
    ];
    let opset =
        |domain: &[u8], version: u8| field(8, &[field(1, domain), vec![16, version]].concat());
    [
        vec![8, 8],
        field(7, &graph.concat()),
        opset(b"", 18),
        opset(b"ai.onnx.ml", 3),
    ]
    .concat()
}

#[test]
fn a_model_is_recognized_by_its_first_fields() {
    let model = graph("Neg", "", &[]);
    assert!(Onnx.recognises(&model));
    // The graph reaches beyond what is looked at.
    assert!(Onnx.recognises(&[&[8, 8, 18, 1, b'a', 0x3a, 0xff, 0x7f][..], &[0; 100]].concat()));
    for other in [
        &b""[..],
        b"{\"version\": [1]}",
        b"tree\nversion=v4",
        b"\x80\x04\x95",
        b"PK\x03\x04",
        b"CBM1",
        b"\x08",
    ] {
        assert!(!Onnx.recognises(other), "{other:?}");
    }
    let loaded = Onnx.load(&model, &ModelRequest::default()).unwrap();
    let rows = Rows::new(vec![1.5, -2.0], 2).unwrap();
    assert_eq!(
        loaded.model.predict(&rows),
        Ok(Output::Numbers(vec![-1.5, 2.0]))
    );
}

#[test]
fn what_is_not_served_is_named() {
    let unknown = refused(&graph("Conv", "", &[]));
    assert!(
        unknown.starts_with("it uses Conv, which lanekeeper lacks; it has Abs, Add, "),
        "{unknown}"
    );
    let unknown = refused(&graph("TfIdfVectorizer", "ai.onnx.ml", &[]));
    assert!(unknown.contains("ai.onnx.ml.TfIdfVectorizer"), "{unknown}");
    let mut old = graph("Neg", "", &[]);
    let place = old.len() - 17;
    assert_eq!(old[place], 18);
    old[place] = 6;
    assert!(
        refused(&old)
            .contains("version 6 of the operators of ai.onnx, and lanekeeper knows 7 to 28")
    );
    // axis: 0
    let attribute = field(5, &[field(1, b"axis"), vec![24, 0]].concat());
    assert!(refused(&graph("ArgMax", "", &attribute)).contains("across rows"));
    assert!(
        refused(&graph("Scaler", "ai.onnx.ml", &[]))
            .contains("offset must have 1 or 2 numbers, but has 0")
    );
}

#[test]
fn messages_end_where_they_say() {
    let read = |bytes: &[u8]| {
        Message(bytes)
            .fields()
            .collect::<Result<Vec<_>, _>>()
            .map(|all| all.len())
    };
    assert_eq!(read(&[]), Ok(0));
    assert_eq!(read(&[0x08, 0x96, 0x01, 0x15, 0, 0, 0x80, 0x3f]), Ok(2));
    #[rustfmt::skip]
    let broken: [&[u8]; 7] = [
        &[0x08], &[0x08, 0x80], &[0x12, 5, 1], &[0x15, 0, 0], &[0x0b], &[0x00, 1],
        &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    ];
    for bytes in broken {
        assert!(read(bytes).is_err(), "{bytes:?}");
    }
    // Packed or one by one, numbers are the same.
    let floats = [1.5_f32, -2.0].map(f32::to_le_bytes);
    let packed = field(7, &floats.concat());
    let single: Vec<u8> = floats
        .iter()
        .flat_map(|bytes| [&[7 << 3 | 5][..], bytes].concat())
        .collect();
    assert_eq!(Message(&packed).floats(7), Message(&single).floats(7));
    assert_eq!(Message(&field(8, &[1, 0x96, 1])).ints(8), Ok(vec![1, 150]));
    assert!(Message(&field(7, &[0; 3])).floats(7).is_err());
    assert!(matches!(
        Message(&[0x08, 7]).last(1),
        Ok(Some(Field::Varint(7)))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any node with any attributes is refused, or is a model that answers.
    #[test]
    fn no_node_panics(
        place in 0..operators::KNOWN.len(),
        names in proptest::collection::vec(proptest::sample::select(vec![
            "axis", "axes", "keepdims", "perm", "to", "offset", "scale", "n_targets", "coefficients",
            "intercepts", "targets", "cats_int64s", "zeros", "nodes_treeids", "kernel_type", "rho",
        ]), 0..5),
        values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 5),
        numbers in proptest::collection::vec(proptest::sample::select(vec![2_u8, 3, 4, 5, 7, 8, 9]), 5),
    ) {
        let known = &operators::KNOWN[place];
        let attributes: Vec<u8> = names.iter().zip(&values).zip(&numbers).flat_map(|((name, value), number)| {
            let value = match number {
                3 => vec![3 << 3, value.first().copied().unwrap_or(0) & 0x7f],
                2 => [&[2 << 3 | 5][..], &[0, 0, 128, 63]].concat(),
                number => field(*number, value),
            };
            field(5, &[field(1, name.as_bytes()), value].concat())
        }).collect();
        let bytes = graph(known.name, known.domain, &attributes);
        if let Ok(loaded) = Onnx.load(&bytes, &ModelRequest::default()) {
            let width = loaded.model.signature().width();
            let rows = Rows::new(vec![0.5; 3 * width], width).unwrap();
            if compute::check(loaded.model.as_ref(), &rows).is_ok() {
                let _ = compute::predict(loaded.model.as_ref(), &rows);
            }
        }
    }
}
