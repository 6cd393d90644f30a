//! Durations in Go's syntax and sizes in bytes.

use std::time::Duration;

/// The largest size that a field may name: what a 32-bit memory can have.
pub const SIZE_MAX: u64 = 4 << 30;

/// The longest duration that Go's syntax can say, about 292 years: in practice none.
pub const DURATION_MAX: Duration = Duration::from_nanos(i64::MAX as u64);

/// What Go's `time.ParseDuration` makes of a text, in nanoseconds; none where it reports an error.
pub fn go_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    // The magnitude of the most negative duration is one more than that of the longest.
    const LIMIT: u64 = 1 << 63;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (nanos, after) = component(rest)?;
        rest = after;
        total = total.checked_add(nanos).filter(|total| *total <= LIMIT)?;
    }
    if negative {
        return Some((total as i64).wrapping_neg());
    }
    i64::try_from(total).ok()
}

/// One number with its unit, in nanoseconds, and what follows it.
fn component(text: &str) -> Option<(u64, &str)> {
    let (whole_digits, rest) = digits(text);
    let mut whole: u64 = 0;
    for digit in whole_digits.bytes() {
        whole = whole.checked_mul(10)?.checked_add(u64::from(digit - b'0')).filter(|n| *n <= 1 << 63)?;
    }
    let (fraction_digits, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    if whole_digits.is_empty() && fraction_digits.is_empty() {
        return None;
    }
    let end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at_checked(end)?;
    let unit = nanos_of(unit)?;
    let mut nanos = whole.checked_mul(unit).filter(|n| *n <= 1 << 63)?;
    let (fraction, scale) = fraction(fraction_digits);
    if fraction > 0 {
        // In floats, as Go does it: the result must be Go's to the nanosecond.
        nanos += (fraction as f64 * (unit as f64 / scale)) as u64;
    }
    (nanos <= 1 << 63).then_some((nanos, rest))
}

/// The digits of a fraction as a number and its scale; digits past what 63 bits hold are dropped, as in Go.
fn fraction(digits: &str) -> (u64, f64) {
    let (mut number, mut scale) = (0_u64, 1.0);
    for digit in digits.bytes() {
        if number > (i64::MAX as u64) / 10 {
            break;
        }
        let next = number * 10 + u64::from(digit - b'0');
        if next > 1 << 63 {
            break;
        }
        number = next;
        scale *= 10.0;
    }
    (number, scale)
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn nanos_of(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// A limit of time: a duration that is positive. The error says what was expected.
pub fn limit(text: &str) -> Result<Duration, String> {
    match go_duration(text) {
        Some(nanos @ 1..) => Ok(Duration::from_nanos(nanos.unsigned_abs())),
        _ => Err("a positive duration such as 300ms, 30s or 1h30m".to_owned()),
    }
}

/// A size in bytes: a whole number with `B`, `KB`, `MB`, `GB`, `KiB`, `MiB` or `GiB` (all powers of 1024) in any case, or
/// none; positive and at most 4 GiB. Blanks around it and before the unit say nothing. The error says what was expected.
pub fn size(text: &str) -> Result<u64, String> {
    let expected = || "a size from 1 byte to 4GB such as 512KB or 64MB".to_owned();
    let (number, unit) = digits(text.trim_ascii());
    let factor: u64 = match unit.trim_ascii_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" | "kib" => 1 << 10,
        "mb" | "mib" => 1 << 20,
        "gb" | "gib" => 1 << 30,
        _ => return Err(expected()),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    number.checked_mul(factor).filter(|bytes| (1..=SIZE_MAX).contains(bytes)).ok_or_else(expected)
}

/// A size as text that [`size`] reads back, in the largest unit that divides it.
pub fn size_text(bytes: u64) -> String {
    for (factor, unit) in [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")] {
        if bytes > 0 && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    format!("{bytes}B")
}

/// A duration as text that [`limit`] reads back, in the largest unit that divides it.
pub fn duration_text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    for (factor, unit) in [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")] {
        if nanos > 0 && nanos.is_multiple_of(factor) {
            return format!("{}{unit}", nanos / factor);
        }
    }
    format!("{nanos}ns")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn durations_are_gos() {
        // The table of Go's own test of ParseDuration, by meaning.
        for (text, nanos) in [
            ("0", 0),
            ("5s", 5 * SECOND),
            ("30s", 30 * SECOND),
            ("1478s", 1478 * SECOND),
            ("-5s", -5 * SECOND),
            ("+5s", 5 * SECOND),
            ("-0", 0),
            ("+0", 0),
            ("5.0s", 5 * SECOND),
            ("5.6s", 5_600_000_000),
            ("5.s", 5 * SECOND),
            (".5s", SECOND / 2),
            ("1.0s", SECOND),
            ("1.00s", SECOND),
            ("1.004s", 1_004_000_000),
            ("1.0040s", 1_004_000_000),
            ("100.00100s", 100_001_000_000),
            ("10ns", 10),
            ("11us", 11_000),
            ("12µs", 12_000),
            ("12μs", 12_000),
            ("13ms", 13_000_000),
            ("14s", 14 * SECOND),
            ("15m", 15 * 60 * SECOND),
            ("16h", 16 * 3600 * SECOND),
            ("3h30m", 12600 * SECOND),
            ("10.5s4m", 250_500_000_000),
            ("-2m3.4s", -123_400_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("39h9m14.425s", 140_954_425_000_000),
            ("52763797000ns", 52_763_797_000),
            ("0.3333333333333333333h", 20 * 60 * SECOND),
            ("9007199254740993ns", (1 << 53) + 1),
            ("9223372036854775807ns", i64::MAX),
            ("9223372036854775.807us", i64::MAX),
            ("9223372036s854ms775us807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("-9223372036854775.808us", i64::MIN),
            ("-9223372036s854ms775us808ns", i64::MIN),
            ("0.100000000000000000000h", 6 * 60 * SECOND),
            ("0.830103483285477580700h", 2_988_372_539_827),
        ] {
            assert_eq!(go_duration(text), Some(nanos), "{text}");
        }
        for text in [
            "",
            "3",
            "-",
            "s",
            ".",
            "-.",
            ".s",
            "+.s",
            "1d",
            "\u{85}\u{85}",
            "\u{ffff}",
            "hello world",
            "9223372036854775810ns",
            "9223372036854775808ns",
            "-9223372036854775809ns",
            "9223372036854776us",
            "3000000h",
            "9223372036854775.808us",
            "9223372036854ms775us808ns",
            " 5s",
            "5s ",
            "5 s",
            "5S",
            "1e3s",
            "٥s",
            "5s-3s",
            "0s0",
            "00",
        ] {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_limit_is_positive() {
        for text in ["0", "0s", "-5s", "x", ""] {
            assert!(limit(text).is_err(), "{text}");
        }
        assert_eq!(limit("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(limit("9223372036854775807ns"), Ok(DURATION_MAX));
    }

    #[test]
    fn sizes_are_powers_of_1024_in_any_case() {
        for (text, bytes) in [
            ("1", 1),
            ("100B", 100),
            ("1kb", 1 << 10),
            ("1KiB", 1 << 10),
            ("64MB", 64 << 20),
            ("64mib", 64 << 20),
            ("64 MB", 64 << 20),
            (" 64  MB\n", 64 << 20),
            ("4gB", SIZE_MAX),
            ("4294967296", SIZE_MAX),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "0",
            "0MB",
            "-1",
            "+1",
            "1.5MB",
            "5GB",
            "4294967297",
            "1 000",
            "MB",
            "1TB",
            "1K",
            "0x10",
            "6 4 MB",
            "18446744073709551617",
            "1MBMB",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let nanos = (seed >> (seed & 63)).clamp(1, i64::MAX as u64);
            let duration = Duration::from_nanos(nanos);
            assert_eq!(limit(&duration_text(duration)), Ok(duration));
            let bytes = nanos.min(SIZE_MAX);
            assert_eq!(size(&size_text(bytes)), Ok(bytes));
            // Split into components of every unit, as Go prints durations.
            let text = format!(
                "{}h{}m{}.{:09}s",
                nanos / 3_600_000_000_000,
                nanos / 60_000_000_000 % 60,
                nanos / 1_000_000_000 % 60,
                nanos % 1_000_000_000
            );
            let back = go_duration(&text).unwrap_or(i64::MAX);
            assert!(back.abs_diff(nanos as i64) <= 1, "{text}");
        }
    }

    #[test]
    fn more_is_more() {
        let mut seed = 0xd1b5_4a32_d192_ed03_u64;
        for _ in 0..20_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let number = (seed >> 11) >> (seed % 50);
            for unit in ["ns", "us", "ms", "s", "m", "h"] {
                let of = |number: u64| go_duration(&format!("{number}{unit}"));
                let part = go_duration(&format!("{number}.5{unit}"));
                assert!(of(number + 1).is_none() || (of(number) < of(number + 1) && of(number) <= part && part < of(number + 1)));
            }
            for unit in ["", "B", "KB", "MiB", "gb"] {
                let of = |number: u64| size(&format!("{number}{unit}")).ok();
                assert!(of(number + 1).is_none() || of(number) < of(number + 1), "{number}{unit}");
            }
        }
    }

    #[test]
    fn no_text_makes_the_parsers_panic() {
        let alphabet: Vec<char> = "0159.-+smhunµMGKBib \u{0}é".chars().collect();
        let mut seed = 88_172_645_463_325_252_u64;
        for _ in 0..50_000 {
            let mut text = String::new();
            for _ in 0..12 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                text.push(alphabet[seed as usize % alphabet.len()]);
            }
            let _ = (go_duration(&text), size(&text));
        }
    }
}
