//! Which token may follow which.
//!
//! The tokens are a row of bits for each sort, without what lies between them, so that "the token before" is a shift by one.
//! What may follow depends on the container, object or array, and that is read from the neighbours, too:
//!
//! - a value behind `:` is an object's, one behind `[` an array's, and `{` and `[` say what they begin;
//! - a comma behind a value is of the container that the value is of, and what follows the comma is to be of that container;
//! - so is what closes it.
//!
//! Only where a comma or a closing bracket stands behind another closing bracket do the neighbours not tell: then what follows
//! says which container it *claims* to be in, and [`Nesting`] compares that with the one in which the bracket was opened. So
//! each container is one and the same from its first token to its last.

use super::nesting::Nesting;
use crate::sys::simd::Lanes;

/// The tokens, a row for each sort but one: a token of no row is a number or a literal.
#[derive(Clone, Copy)]
pub(super) struct Tokens {
    pub(super) open: u64,
    pub(super) close: u64,
    /// Of `open` and `close` which are an object's.
    pub(super) curly: u64,
    pub(super) colon: u64,
    pub(super) comma: u64,
    pub(super) string: u64,
}

/// How many tokens before a token decide whether it may stand there: a `:` asks whether its key follows a comma of an object,
/// which that comma knows from the `:` two before it.
const KEPT: u32 = 4;

/// The most tokens that may come at once: they and those kept fill a row but for a bit.
pub(super) const TOKENS_MAX: u32 = u64::BITS - 1 - KEPT;

pub(super) struct Grammar {
    /// The last tokens that were judged, and those that wait to be. One judgement is for a row as full as it gets.
    rows: Tokens,
    /// How many both are.
    filled: u32,
    /// Whatever may not stand where it does.
    wrong: u64,
    nesting: Nesting,
}

impl Grammar {
    /// What is to come is the inside of an object or an array behind a first member or element: as if `"…":0,` or `0,`
    /// had been.
    pub(super) fn inside(object: bool) -> Grammar {
        let (comma, colon) = (1 << (KEPT - 1), u64::from(object) << (KEPT - 3));
        let rows = Tokens { open: 0, close: 0, curly: 0, colon, comma, string: 0 };
        Grammar { rows, filled: KEPT, wrong: 0, nesting: Nesting::new() }
    }

    /// The next `count` tokens, at most [`TOKENS_MAX`], the first in the lowest bit.
    #[inline(always)]
    pub(super) fn add<L: Lanes>(&mut self, lanes: L, count: u32, tokens: Tokens) {
        if self.filled + count >= u64::BITS {
            self.judge(lanes);
        }
        let (rows, at) = (&mut self.rows, self.filled);
        rows.open |= tokens.open.wrapping_shl(at);
        rows.close |= tokens.close.wrapping_shl(at);
        rows.curly |= tokens.curly.wrapping_shl(at);
        rows.colon |= tokens.colon.wrapping_shl(at);
        rows.comma |= tokens.comma.wrapping_shl(at);
        rows.string |= tokens.string.wrapping_shl(at);
        self.filled += count;
    }

    /// Judges those that wait.
    #[inline(always)]
    fn judge<L: Lanes>(&mut self, lanes: L) {
        let t = self.rows;
        let count = self.filled - KEPT;
        self.filled = KEPT;
        self.rows = Tokens {
            open: t.open.wrapping_shr(count),
            close: t.close.wrapping_shr(count),
            curly: t.curly.wrapping_shr(count),
            colon: t.colon.wrapping_shr(count),
            comma: t.comma.wrapping_shr(count),
            string: t.string.wrapping_shr(count),
        };
        // Those that were kept had their judgement.
        let new = (1u64.wrapping_shl(count) - 1) << KEPT;
        let behind = |row: u64| row << 1;

        // A token that is a whole value, unless it is a key.
        let simple = !(t.open | t.close | t.colon | t.comma);
        let behind_colon = behind(t.colon);
        let member = simple & behind_colon;
        let not_member = simple & !behind_colon;
        let comma_of_object = t.comma & behind(member);
        let comma_of_array = t.comma & behind(not_member);
        let comma_of_either = t.comma & behind(t.close);

        let behind_either = behind(comma_of_either);
        let before_element = behind(t.open & !t.curly | comma_of_array) | behind_either;
        let before_key = behind(t.open & t.curly | comma_of_object) | behind_either;
        let key = t.string & before_key;
        let element = simple & before_element;

        let value = (t.open | simple) & (behind_colon | before_element);
        let right = value
            | key
            | t.colon & behind(key)
            | t.comma & behind(member | element | t.close)
            | t.close & t.curly & behind(member | t.close | t.open & t.curly)
            | t.close & !t.curly & behind(element | t.close | t.open & !t.curly);
        self.wrong |= new & !right;

        // What closed before a comma is known one or two tokens behind the comma: by `:`, that it was in an object.
        let behind_doubtful = behind(simple & behind_either);
        let closed_in_object = t.close & t.curly & behind(t.close) | t.colon & behind_doubtful;
        let closed_in_array =
            t.close & !t.curly & behind(t.close) | t.open & behind_either | (t.comma | t.close & !t.curly) & behind_doubtful;
        // What opened counts one token later, because at its own a bracket before it may count.
        let opened = behind(t.open) & new;
        let kinds = closed_in_object | behind(t.open & behind_colon);
        let brackets = (opened | closed_in_object | closed_in_array) & new;
        let [opens, kinds] = lanes.gather(brackets, [opened, kinds]);
        self.nesting.add(brackets.count_ones(), opens, kinds);
    }

    /// Whether the last token was the bracket that closes what was begun, and all stood in its place.
    #[inline(always)]
    pub(super) fn finish<L: Lanes>(mut self, lanes: L) -> bool {
        self.judge(lanes);
        self.wrong == 0 && self.nesting.finish()
    }
}
