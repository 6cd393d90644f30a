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

/// The tokens, three bits each, in three rows.
///
/// | token | bracket | begins | kind |
/// |---|---|---|---|
/// | `{` and `[` | 1 | 1 | 1 and 0 |
/// | `}` and `]` | 1 | 0 | 1 and 0 |
/// | `:` | 0 | 1 | 0 |
/// | `,` | 0 | 0 | 0 |
/// | a string | 0 | 1 | 1 |
/// | a number or a literal | 0 | 0 | 1 |
#[derive(Clone, Copy)]
pub(super) struct Tokens {
    pub(super) bracket: u64,
    pub(super) begins: u64,
    pub(super) kind: u64,
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
        // From the lowest bit: a number, `:` or a number, a number, `,`.
        let colon = u64::from(object) << 1;
        let rows = Tokens { bracket: 0, begins: colon, kind: 0b0111 ^ colon };
        Grammar { rows, filled: KEPT, wrong: 0, nesting: Nesting::new() }
    }

    /// The next `count` tokens, at most [`TOKENS_MAX`], the first in the lowest bit.
    #[inline(always)]
    pub(super) fn add<L: Lanes>(&mut self, lanes: L, count: u32, tokens: Tokens) {
        if self.filled + count >= u64::BITS {
            self.judge(lanes);
        }
        let (rows, at) = (&mut self.rows, self.filled);
        rows.bracket |= tokens.bracket.wrapping_shl(at);
        rows.begins |= tokens.begins.wrapping_shl(at);
        rows.kind |= tokens.kind.wrapping_shl(at);
        self.filled += count;
    }

    /// Judges those that wait.
    #[inline(always)]
    fn judge<L: Lanes>(&mut self, lanes: L) {
        let Tokens { bracket, begins, kind } = self.rows;
        let count = self.filled - KEPT;
        self.filled = KEPT;
        self.rows = Tokens { bracket: bracket.wrapping_shr(count), begins: begins.wrapping_shr(count), kind: kind.wrapping_shr(count) };
        let [open, close] = [bracket & begins, bracket & !begins];
        let [open_object, open_array] = [open & kind, open & !kind];
        let [close_object, close_array] = [close & kind, close & !kind];
        // A token that is a whole value, unless it is a key.
        let simple = kind & !bracket;
        let string = simple & begins;
        let [colon, comma] = [begins & !bracket & !kind, !(bracket | begins | kind)];
        // Those that were kept had their judgement.
        let new = (1u64.wrapping_shl(count) - 1) << KEPT;
        let behind = |row: u64| row << 1;

        let behind_colon = behind(colon);
        let member = simple & behind_colon;
        let not_member = simple & !behind_colon;
        let comma_of_object = comma & behind(member);
        let comma_of_array = comma & behind(not_member);
        let comma_of_either = comma & behind(close);

        let behind_either = behind(comma_of_either);
        let before_element = behind(open_array | comma_of_array) | behind_either;
        let before_key = behind(open_object | comma_of_object) | behind_either;
        let key = string & before_key;
        let element = simple & before_element;

        let value = (open | simple) & (behind_colon | before_element);
        let right = value
            | key
            | colon & behind(key)
            | comma & behind(member | element | close)
            | close_object & behind(member | close | open_object)
            | close_array & behind(element | close | open_array);
        self.wrong |= new & !right;

        // What closed before a comma is known one or two tokens behind the comma: by `:`, that it was in an object.
        let behind_doubtful = behind(simple & behind_either);
        let closed_in_object = close_object & behind(close) | colon & behind_doubtful;
        let closed_in_array = close_array & behind(close) | open & behind_either | (comma | close_array) & behind_doubtful;
        // What opened counts one token later, because at its own a bracket before it may count.
        let opened = behind(open) & new;
        let kinds = closed_in_object | behind(open & behind_colon);
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
