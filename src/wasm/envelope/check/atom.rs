//! What is looked at byte by byte: numbers that are not plain digits, `true`, `false` and `null`, and escapes.

/// Whether a number or a literal stands at `at`, and ends where one may.
#[cold]
#[inline(never)]
pub(super) fn is_atom(text: &[u8], at: usize) -> bool {
    let text = text.get(at..).unwrap_or_default();
    match text {
        [b't', b'r', b'u', b'e', rest @ ..] | [b'n', b'u', b'l', b'l', rest @ ..] | [b'f', b'a', b'l', b's', b'e', rest @ ..] => ends(rest),
        [b'-', rest @ ..] => is_unsigned(rest),
        _ => is_unsigned(text),
    }
}

/// Whether what starts at `at` ends a number whose integer is right: a fraction, an exponent, or its end.
#[cold]
#[inline(never)]
pub(super) fn is_fraction(text: &[u8], at: usize) -> bool {
    fraction(text.get(at..).unwrap_or_default())
}

/// Whether an escape's `\` at `at` is followed by what may follow it.
pub(super) fn is_escape(text: &[u8], at: usize) -> bool {
    match text.get(at + 1..) {
        Some([b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..]) => true,
        Some([b'u', a, b, c, d, ..]) => [a, b, c, d].into_iter().all(u8::is_ascii_hexdigit),
        _ => false,
    }
}

fn is_unsigned(text: &[u8]) -> bool {
    match text {
        [b'0', rest @ ..] => fraction(rest),
        _ => digits(text).is_some_and(fraction),
    }
}

fn fraction(mut text: &[u8]) -> bool {
    if let [b'.', rest @ ..] = text {
        let Some(rest) = digits(rest) else { return false };
        text = rest;
    }
    if let [b'e' | b'E', b'+' | b'-', rest @ ..] | [b'e' | b'E', rest @ ..] = text {
        let Some(rest) = digits(rest) else { return false };
        text = rest;
    }
    ends(text)
}

/// What follows the digits, of which there is to be one at least.
fn digits(text: &[u8]) -> Option<&[u8]> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    text.get(count..).filter(|_| count > 0)
}

/// Whether an atom may end before this. (What may not follow it for other reasons is left to the grammar.)
fn ends(rest: &[u8]) -> bool {
    matches!(rest, [] | [b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r', ..])
}
