use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::same::{At, same};
use super::*;
use crate::models::ModelError;
use crate::platform::clock::instant;

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/models");

/// What Python and numpy write for `numpy.dtype('f8')` and the like.
fn dtype(name: &str) -> Vec<u8> {
    let mut bytes = b"cnumpy\ndtype\n".to_vec();
    bytes.extend([&[b'U', name.len() as u8], name.as_bytes()].concat());
    bytes.extend(b"\x89\x88\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb");
    bytes
}

/// A pickle of protocol 4 of these parts.
fn pickled(parts: &[&[u8]]) -> Vec<u8> {
    [b"\x80\x04", &parts.concat()[..], b"."].concat()
}

/// Reads a pickle that is not refused, and keeps its bytes.
fn read(bytes: Vec<u8>) -> (Objects<'static>, Value) {
    pickle::read(bytes.leak()).unwrap()
}

fn error(parts: &[&[u8]]) -> String {
    pickle::read(&pickled(parts)).unwrap_err().0
}

/// The files under a directory with one of these endings.
fn files(directory: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let has = |ending: &&str| path.extension().is_some_and(|own| own == *ending);
        if path.is_dir() {
            found.extend(files(&path, endings));
        } else if endings.iter().any(has) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Reads a file of any of the formats.
fn read_any(bytes: &[u8]) -> Result<(Objects<'_>, Value), ModelError> {
    match skops::is_skops(bytes) {
        true => skops::read(bytes),
        false => pickle::read(bytes),
    }
}

#[test]
fn every_model_is_the_same_in_all_its_files() {
    let mut compared = 0;
    for path in files(&Path::new(MODELS).join("sklearn-native"), &["pkl"]) {
        let own = fs::read(&path).unwrap();
        assert!(pickle::is_pickle(&own), "{path:?}");
        let (own, root) = pickle::read(&own).unwrap();
        assert!(
            own.class(root).unwrap().module.starts_with("sklearn."),
            "{path:?}"
        );
        for ending in ["joblib", "skops"] {
            let Ok(bytes) = fs::read(path.with_extension(ending)) else {
                continue;
            };
            let (objects, other) =
                read_any(&bytes).unwrap_or_else(|error| panic!("{path:?} {error}"));
            same(At(&own, root), At(&objects, other), "")
                .unwrap_or_else(|difference| panic!("{path:?} and {ending}: {difference}"));
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared}");
}

#[test]
fn the_nodes_of_a_tree_are_records() {
    let path = Path::new(MODELS).join("sklearn-native/random_forest_classifier/model.joblib");
    let bytes = fs::read(path).unwrap();
    let (objects, root) = pickle::read(&bytes).unwrap();
    let trees = objects.attribute(root, "estimators_").unwrap();
    let tree = objects.sequence(trees).unwrap().first().copied().unwrap();
    let tree = objects.attribute(tree, "tree_").unwrap();
    let nodes = objects
        .array(objects.attribute(tree, "nodes").unwrap())
        .unwrap();
    let count = objects.attribute(tree, "node_count").unwrap();
    assert_eq!(number(count), Some(nodes.shape[0] as f64));
    let left = objects.field(nodes, "left_child").unwrap();
    assert_eq!(left.len(), nodes.shape[0]);
    assert_eq!(left[0], 1.0);
    let Content::Bytes(blob) = nodes.content else {
        panic!("{nodes:?}");
    };
    assert!(matches!(objects.blobs[blob as usize], Cow::Borrowed(_)));
}

#[test]
fn hostile_files_are_refused_or_read_at_once() {
    for path in files(
        &Path::new(MODELS).join("hostile/sklearn"),
        &["pkl", "skops"],
    ) {
        let bytes = fs::read(&path).unwrap();
        let start = instant();
        let result = read_any(&bytes);
        assert!(instant() - start < Duration::from_secs(1), "{path:?}");
        // These are well formed; what is wrong with their models is for whoever compiles them.
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_well_formed = [
            "boosting_of_one_class",
            "cycle",
            "huge_importances",
            "repeated_steps",
        ]
        .contains(&name);
        assert_eq!(result.is_ok(), is_well_formed, "{path:?}");
    }
}

#[test]
fn what_no_model_needs_is_refused() {
    let asks = |name: &str| {
        format!(
            "it asks for {name}; lanekeeper reads models and runs nothing: not a scikit-learn model"
        )
    };
    for name in [
        "os.system",
        "posix.system",
        "builtins.eval",
        "builtins.getattr",
        "__main__.MyTransformer",
        "functools.reduce",
        "_codecs.lookup",
        "sklearnx.Ridge",
    ] {
        let (module, own) = name.rsplit_once('.').unwrap();
        let line = format!("c{module}\n{own}\n");
        assert_eq!(error(&[line.as_bytes()]), asks(name));
        let texts = [
            &[0x8c, module.len() as u8],
            module.as_bytes(),
            &[0x8c, own.len() as u8],
        ];
        assert_eq!(
            error(&[&texts.concat(), own.as_bytes(), b"\x93"]),
            asks(name)
        );
    }
    assert_eq!(error(&[b"c__builtin__\neval\n"]), asks("builtins.eval"));
    assert_eq!(error(&[b"cos\nsys\x1btem\n"]), asks("os.sys\\u{1b}tem"));
}

#[test]
fn broken_pickles_are_refused_with_a_reason() {
    for (name, body, expected) in [
        ("an opcode that is none", &b"\xff"[..], "no opcode"),
        ("an old text form", b"I1\n", "protocol 0"),
        ("a persistent id", b"NQ", "persistent id"),
        ("an extension", b"\x82\x01", "registry"),
        ("a buffer elsewhere", b"\x97", "buffer_callback"),
        ("a value that is missing", b"R", "a value is missing"),
        ("a mark that is missing", b"Nt", "a mark is missing"),
        ("a text that is cut off", b"X\xff\xff\xff\xffab", "cut off"),
        (
            "a text of 8 EiB",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
            "cut off",
        ),
        ("a value that was not put aside", b"h\x05", "not put aside"),
        ("a value put far aside", b"Nr\xff\xff\xff\xff", "too many"),
        ("a key without a value", b"}(Nu", "a key must have a value"),
        ("a call of a number", b"K\x01)R", "class or function"),
        ("a state for a number", b"K\x01}b", "only an object"),
        ("elements for a text", b"U\x01a(Ne", "a list or a set"),
        (
            "a frame that is cut off",
            b"\x95\xff\0\0\0\0\0\0\0",
            "frame",
        ),
        ("nothing", b"", "a value is missing"),
    ] {
        let text = error(&[body]);
        assert!(text.contains(expected), "{name}: {text}");
    }
    assert!(pickle::read(b"").is_err());
    assert!(pickle::read(b"\x80\x04N").is_err());
    assert!(pickle::read(b"(lp0\n.").is_err());
}

#[test]
fn numbers_and_containers_are_values() {
    for (body, expected) in [
        (&b"N"[..], Value::None),
        (b"\x88", Value::Bool(true)),
        (b"J\xfe\xff\xff\xff", Value::Int(-2)),
        (b"M\x01\x02", Value::Int(513)),
        (b"\x8a\x00", Value::Int(0)),
        (b"\x8a\x01\xff", Value::Int(-1)),
        (b"\x8a\x08\0\0\0\0\0\0\0\x80", Value::Int(i64::MIN)),
        (b"\x8a\x09\0\0\0\0\0\0\0\x80\0", Value::Opaque),
        (b"G\x3f\xf8\0\0\0\0\0\0", Value::Float(1.5)),
    ] {
        assert_eq!(read(pickled(&[body])).1, expected, "{body:?}");
    }
    let (objects, value) = read(pickled(&[b"cbuiltins\nset\n](K\x01K\x02e\x85R"]));
    assert!(matches!(value, Value::Set(_)));
    assert_eq!(
        objects.sequence(value).unwrap(),
        [Value::Int(1), Value::Int(2)]
    );
    let (objects, value) = read(pickled(&[b"ccollections\nOrderedDict\n)RU\x01aK\x01s"]));
    assert_eq!(objects.entry(value, "a"), Some(Value::Int(1)));
    let encode = b"c_codecs\nencode\nX\x03\0\0\0a\xc3\xbfU\x06latin1\x86R";
    let (objects, value) = read(pickled(&[encode]));
    assert_eq!(objects.bytes(value).unwrap(), b"a\xff");
    let reconstructor = b"ccopy_reg\n_reconstructor\ncsklearn.a\nB\nc__builtin__\nobject\nN\x87R";
    let (objects, value) = read(pickled(&[reconstructor, b"}U\x01aK\x07sb"]));
    assert_eq!(objects.class(value).unwrap().name, "B");
    assert_eq!(objects.attribute(value, "a"), Some(Value::Int(7)));
}

#[test]
fn arrays_and_scalars_of_numpy_are_values() {
    let scalar = b"cnumpy.core.multiarray\nscalar\n";
    for (name, content, expected) in [
        ("f8", &1.5f64.to_le_bytes()[..], Value::Float(1.5)),
        ("f4", &1.5f32.to_le_bytes(), Value::Float(1.5)),
        ("i2", &[0xfe, 0xff], Value::Int(-2)),
        ("u8", &[0xff; 8], Value::Opaque),
        ("b1", &[1], Value::Bool(true)),
        ("f2", &[0, 0x3c], Value::Opaque),
    ] {
        let content = [&[b'C', content.len() as u8], content, b"\x86R"].concat();
        let bytes = pickled(&[scalar, &dtype(name), &content]);
        assert_eq!(read(bytes).1, expected, "{name}");
    }
    let wrong = error(&[scalar, &dtype("f8"), b"C\x01a\x86R"]);
    assert!(wrong.contains("8 bytes"), "{wrong}");

    let empty = b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R";
    let state = |shape: &[u8], dtype: &[u8], content: &[u8]| {
        pickled(&[empty, b"(K\x01", shape, dtype, b"\x89", content, b"tb"])
    };
    let whole = [
        &b"C\x10"[..],
        &i64::MAX.to_le_bytes(),
        &(-1i64).to_le_bytes(),
    ]
    .concat();
    let (objects, value) = read(state(b"K\x02\x85", &dtype("i8"), &whole));
    let elements = objects.elements(objects.array(value).unwrap()).unwrap();
    let ints = [i64::MAX, -1].map(|number| ArrayElement::Value(Value::Int(number)));
    assert_eq!(elements, ints);
    let (objects, value) = read(state(b"K\x02\x85", &dtype("O8"), b"](U\x01aK\x05e"));
    let elements = objects.elements(objects.array(value).unwrap()).unwrap();
    assert_eq!(
        elements,
        [
            ArrayElement::Text("a".into()),
            ArrayElement::Value(Value::Int(5))
        ]
    );

    let long = [0x8a, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    for (name, bytes) in [
        ("too few bytes", state(b"K\x03\x85", &dtype("i8"), &whole)),
        (
            "a product that overflows",
            state(&[&long[..], &long, b"\x86"].concat(), &dtype("i8"), &whole),
        ),
        (
            "very many texts of no length",
            state(&[&long[..], b"\x85"].concat(), &dtype("U0"), b"C\0"),
        ),
        (
            "a negative extent",
            state(b"J\xff\xff\xff\xff\x85", &dtype("i8"), &whole),
        ),
        (
            "objects as bytes",
            state(b"K\x02\x85", &dtype("O8"), &whole),
        ),
        (
            "numbers as objects",
            state(b"K\x01\x85", &dtype("i8"), b"](Ne"),
        ),
    ] {
        assert!(pickle::read(&bytes).is_err(), "{name}");
    }
}

#[test]
fn limits_hold() {
    let deep = [b"]".to_vec(), vec![0x85; 2000]].concat();
    assert!(error(&[&deep]).contains("1000 deep"));
    let many = vec![b']'; 2_000_001];
    assert!(error(&[&many]).contains("2000000 values"));
    let constants = vec![b'N'; 5_000_000];
    assert!(error(&[&constants]).contains("the stack"));
    // A type of records with many fields, which is given its state again and again.
    let names: Vec<u8> = (0..1000)
        .flat_map(|field| format!("U\x03{field:03}").into_bytes())
        .collect();
    let entry = |field: usize| [format!("U\x03{field:03}").as_bytes(), b"h\0K\0\x86"].concat();
    let entries: Vec<u8> = (0..1000).flat_map(entry).collect();
    let state = [
        b"K\x03U\x01|N(",
        &names[..],
        b"t}(",
        &entries,
        b"uK\x08K\x01K\0t\x94",
    ]
    .concat();
    let again = b"h\x01b".repeat(100_000);
    let text = error(&[&dtype("f8"), b"\x94(", &state, b"0h\0", &again]);
    assert!(text.contains("at most 4000000"), "{text}");
    // A list that holds itself again and again.
    let circle = [&b"]\x94"[..], &b"h\0a".repeat(50)].concat();
    assert!(error(&[&circle]).contains("shared"));
    let names = format!("csklearn\n{}\n", "a".repeat(300));
    assert!(error(&[names.as_bytes()]).contains("short lines"));
}

#[test]
fn compressed_files_are_unpacked_within_bounds() {
    let pickle = pickled(&[b"K\x01"]);
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(&pickle).unwrap();
    let zlib = zlib.finish().unwrap();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&pickle).unwrap();
    let gzip = gzip.finish().unwrap();
    for packed in [&zlib, &gzip] {
        assert!(packed::is_compressed_pickle(packed));
        assert_eq!(packed::unpacked(packed).unwrap(), pickle);
        assert!(packed::unpacked(&packed[..packed.len() / 2]).is_err());
    }
    assert!(matches!(
        packed::unpacked(&pickle).unwrap(),
        Cow::Borrowed(_)
    ));
    let mut bomb = ZlibEncoder::new(Vec::new(), Compression::fast());
    bomb.write_all(&pickle).unwrap();
    bomb.write_all(&vec![0; 40 << 20]).unwrap();
    let text = packed::unpacked(&bomb.finish().unwrap()).unwrap_err().0;
    assert!(text.ends_with("save it without compress="), "{text}");
    for (start, name) in [
        (&b"BZh9"[..], "bz2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x5d\0\0\x80", "lzma"),
        (b"\x04\x22\x4d\x18", "lz4"),
    ] {
        assert!(packed::is_compressed_pickle(start));
        let expected = format!(
            "it is compressed with {name}, which lanekeeper does not read; save it with \
             joblib.dump(model, file), or with compress=\"zlib\""
        );
        assert_eq!(packed::unpacked(start).unwrap_err().0, expected);
    }
    assert!(!packed::is_compressed_pickle(b"x = 1"));
    assert!(!packed::is_compressed_pickle(b""));
}

#[test]
fn headers_of_arrays_are_read() {
    let header = |text: &str| {
        let mut bytes = b"\x93NUMPY\x01\0".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        npy::header(&bytes)
    };
    let plain = header("{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3), }   \n").unwrap();
    assert_eq!(plain.shape, [2, 3]);
    assert!(plain.is_fortran && plain.dtype.is_big_endian);
    let record = "{'descr': [('a', '<i8'), ('', '|V4'), ('b', '<f8', (2,))], \
                  'fortran_order': False, 'shape': (7,)}";
    let record = header(record).unwrap().dtype;
    assert_eq!((record.kind, record.item_bytes), (ElementKind::Record, 28));
    assert_eq!(record.fields[1].offset, 12);
    assert_eq!(record.fields[1].dtype.kind, ElementKind::Other);
    let nested = format!("{{'descr': {}", "[".repeat(60_000));
    for broken in ["", "{", "{}", "[]", "{'descr': 1}", nested.as_str()] {
        assert!(header(broken).is_err());
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = pickle::read(&pickled(&[&body]));
        let _ = packed::unpacked(&body);
        let _ = skops::read(&body);
        let _ = npy::header(&[b"\x93NUMPY\x01\0", &body[..]].concat());
    }

    #[test]
    fn no_opcodes_make_a_reader_panic(
        opcodes in proptest::collection::vec(
            prop::sample::select(&b"(NK\x01]}ate\x85\x86\x87lsud012\x94hqjbRico\x81\x92\x93\x8f\x90\x91XU\0"[..]),
            0..300,
        ),
    ) {
        let _ = pickle::read(&pickled(&[&dtype("f8"), b"\x94csklearn\nA\n\x94", &opcodes]));
    }

    #[test]
    fn no_spoilt_model_makes_a_reader_panic(
        case in prop::sample::select(&["scaler_ridge", "gaussian_nb", "extra_trees_classifier"][..]),
        ending in prop::sample::select(&["pkl", "joblib", "skops"][..]),
        spoils in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let path = format!("{MODELS}/sklearn-native/{case}/model.{ending}");
        let mut bytes = fs::read(path).unwrap();
        for (place, byte) in spoils {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if is_cut {
            bytes.truncate(length.index(bytes.len()));
        }
        if let Ok((objects, _)) = read_any(&bytes) {
            for array in &objects.arrays {
                let _ = objects.elements(array);
            }
        }
    }
}
