//! What reading an envelope costs: ours beside serde_json, and where only UTF-8 is asked for.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unreachable_pub, reason = "a benchmark fails by panicking")]

#[path = "support/rounds.rs"]
mod rounds;

use std::hint::black_box;

use flowplug::wasm::envelope::read;
use rounds::Group;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// An envelope of about `size` bytes, made of `item` again and again.
fn envelope(size: usize, item: &str) -> String {
    let items = vec![item; (size / item.len()).max(1)];
    format!("{{\"error\":null,\"data\":[{}]}}", items.join(","))
}

fn main() {
    let objects = r#"{"id":12345,"name":"flow","tags":["a","b"],"ok":true}"#;
    let text = r#"{"title":"Größe","body":"a \"longer\" text, with some\nescapes and some letters: äöü €","score":-0.25}"#;
    for (what, item, sizes) in [("objects", objects, &[100, 1 << 10, 64 << 10, 1 << 20][..]), ("text", text, &[64 << 10])] {
        for size in sizes {
            let envelope = envelope(*size, item);
            let bytes = envelope.as_bytes();
            Group::new(format!("an envelope of {} B, {what}", bytes.len()))
                .case("serde_json, RawValue", |n| {
                    for _ in 0..n {
                        let read: Envelope<'_> = serde_json::from_slice(black_box(bytes)).unwrap();
                        assert!(black_box(read.error).is_none() && black_box(read.data).is_some());
                    }
                })
                .case("envelope::read, checked", |n| (0..n).for_each(|_| drop(black_box(read(black_box(bytes), false).unwrap()))))
                .case("envelope::read, trusted", |n| (0..n).for_each(|_| drop(black_box(read(black_box(bytes), true).unwrap()))))
                .case("std: UTF-8", |n| {
                    (0..n).for_each(|_| {
                        black_box(std::str::from_utf8(black_box(bytes)).unwrap());
                    })
                })
                .measure(21, 5.0);
        }
    }
}
