//! Durations and sizes: what is read back, what is the same in another spelling, and the exact value beside Go's floats.

use std::time::Duration;

use flowplug::manifest::units::{SIZE_MAX, duration_text, go_duration, limit, size, size_text};

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    duration(text);
    bytes(text);
}

fn duration(text: &str) {
    let Some(nanos) = go_duration(text) else {
        limit(text).expect_err("what is no duration is no limit");
        return;
    };
    assert_eq!(limit(text).ok(), (nanos > 0).then(|| Duration::from_nanos(nanos.unsigned_abs())));
    if nanos > 0 {
        assert_eq!(go_duration(&duration_text(Duration::from_nanos(nanos.unsigned_abs()))), Some(nanos));
    }
    let bare = text.trim_start_matches(['+', '-']);
    assert_eq!(go_duration(&format!("-{bare}")), Some(if text.starts_with('-') { nanos } else { -nanos }));
    if bare != "0" {
        assert_eq!(go_duration(&format!("{text}0s")), Some(nanos), "nothing more is nothing more");
        assert_eq!(go_duration(&format!("{text}5")), None, "a number without a unit");
    }
    if let Some((exact, parts)) = exact(bare) {
        // Each part can lose what follows its last nanosecond, and one more where Go's float is just short of it.
        let off = (exact - nanos.unsigned_abs() as f64).abs();
        assert!(off <= 2.0 * f64::from(parts) || exact > 1e15, "{text}: {nanos} is not {exact}");
    }
}

/// The value in floats and how many parts it has, read by another way than the parser's.
fn exact(bare: &str) -> Option<(f64, u32)> {
    let (mut total, mut parts, mut rest) = (0.0, 0, bare);
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let exponent = ["ns", "us", "ms", "s"].iter().position(|known| *known == unit.replace(['µ', 'μ'], "u"));
        let factor = match exponent {
            Some(thousands) => 1000_f64.powi(thousands as i32),
            None => {
                if unit == "m" {
                    60e9
                } else {
                    3600e9
                }
            }
        };
        total += number.parse::<f64>().ok()? * factor;
        parts += 1;
        rest = after;
    }
    Some((total, parts))
}

fn bytes(text: &str) {
    let Ok(bytes) = size(text) else { return };
    assert!((1..=SIZE_MAX).contains(&bytes));
    assert_eq!(size(&size_text(bytes)), Ok(bytes));
    assert_eq!(size(&bytes.to_string()), Ok(bytes));
    assert_eq!(size(&text.to_ascii_lowercase()), Ok(bytes));
    assert_eq!(size(&text.to_ascii_uppercase()), Ok(bytes));
    let bare = text.trim_ascii();
    assert_eq!(size(&format!("00{bare}")), Ok(bytes));
    assert_eq!(size(&format!("\t{bare}\n")), Ok(bytes));
    let digits_only = bare.bytes().all(|b| b.is_ascii_digit());
    assert_eq!(size(&format!("{bare}0")).ok(), (digits_only && bytes * 10 <= SIZE_MAX).then_some(bytes * 10));
}
