use super::*;

fn data(text: &str, trusted: bool) -> String {
    match read(text.as_bytes(), trusted).unwrap() {
        Answer::Data(data) => String::from_utf8(data.to_vec()).unwrap(),
        Answer::Failed(error) => panic!("{text}: {error}"),
    }
}

#[test]
fn data_comes_out_byte_for_byte() {
    for trusted in [false, true] {
        for (text, expected) in [
            ("", "null"),
            ("{}", "null"),
            (r#"{"data":null}"#, "null"),
            (r#"{"error":null,"data":{"a": 1.0e5}}"#, r#"{"a": 1.0e5}"#),
            (r#"{"data":[1, 2 ],"error":null}"#, "[1, 2 ]"),
            (r#" { "data" : "\u0041" , "more" : {"error": 1} } "#, r#""\u0041""#),
            (r#"{"data":"a\"b"}"#, r#""a\"b""#),
            (r#"{"data":-1.5}"#, "-1.5"),
            (r#"{"err\u006fr":null,"data":7}"#, "7"),
        ] {
            assert_eq!(data(text, trusted), expected, "{text} {trusted}");
        }
    }
}

#[test]
fn an_error_is_found_in_either_place() {
    for trusted in [false, true] {
        for (text, expected) in [
            (r#"{"error":"boom","data":null}"#, "boom"),
            (r#"{"data":null,"error":"b\u00f6se"}"#, "böse"),
            (r#"{"data":"x","error":"boom"}"#, "boom"),
            (r#"{"data":{"a":1},"error":"boom"}"#, "boom"),
            (r#"{"data":12,"error":"boom"}"#, "boom"),
            (r#"{"error":""}"#, ""),
            (r#"{"error":{"code":1}}"#, r#"{"code":1}"#),
            (r#"{"error":"\ud800"}"#, r#""\ud800""#),
        ] {
            assert_eq!(read(text.as_bytes(), trusted).unwrap(), Answer::Failed(expected.to_owned()), "{text} {trusted}");
        }
    }
}

#[test]
fn what_is_no_envelope_is_refused() {
    let deep = format!("{{\"data\":{}", "[".repeat(1 << 20));
    for text in
        ["nope", "[null,1]", "null", r#"{"data":}"#, r#"{"data":1"#, r#"{"data":1}x"#, r#"{"data":1,"data":2}"#, r#"{"data":1 2}"#, &deep]
    {
        for trusted in [false, true] {
            assert_eq!(read(text.as_bytes(), trusted).unwrap_err().kind(), Kind::InvalidResponse, "{text:.40}");
        }
    }
    for trusted in [false, true] {
        read(b"{\"data\":\"\xff\"}", trusted).unwrap_err();
    }
}

#[test]
fn depth_is_no_danger() {
    let deep = format!("{{\"data\":{}{}}}", "[".repeat(1 << 20), "]".repeat(1 << 20));
    read(deep.as_bytes(), false).unwrap();
}

#[test]
fn the_usual_forms_are_told_from_what_looks_like_them() {
    for (text, expected) in [
        (r#"{"data":{"a":[1]},"error":null}"#, Some(r#"{"a":[1]}"#)),
        (" {\n\t\"error\" : null ,\r\n \"data\" : [ ] } ", Some("[ ]")),
        (" { \"data\" : {\"a\": 1} , \"error\" : null } ", Some("{\"a\": 1}")),
        (r#"{"data":"x,\"error\":null"}"#, Some(r#""x,\"error\":null""#)),
        (r#"{"data":{},"error":null,"more":null}"#, Some("{}")),
        (r#"{"data":null,"data":null}"#, None),
        (r#"{"error":null,"error":null,"data":1}"#, None),
        (r#"{"error":null,"data":1,"error":null}"#, None),
        (r#"{"data":,"error":null}"#, None),
        (r#"{"data":"x,"error":null}"#, None),
        (r#"{"data":{"a":1,"error":null}"#, None),
        (r#"{"data":1},{"a":1}"#, None),
        (r#"{"data":[1}"#, None),
        (r#"{"data":{"a":1]}"#, None),
        ("\u{feff}{\"data\":1}", None),
        ("{\"data\":\u{a0}1}", None),
        ("{\"data\":1\x0c}", None),
    ] {
        let answer = read(text.as_bytes(), false);
        let data = answer.as_ref().ok().map(|answer| match answer {
            Answer::Data(data) => std::str::from_utf8(data).unwrap(),
            Answer::Failed(error) => panic!("{text}: {error}"),
        });
        assert_eq!(data, expected, "{text}");
    }
}
