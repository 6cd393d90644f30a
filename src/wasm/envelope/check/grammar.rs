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

/// How many rows are judged at once: as many as the widest registers hold.
const AT_ONCE: usize = 8;

pub(super) struct Grammar<'a> {
    /// The last tokens of the row before, then those of a row that is not full yet.
    rows: Tokens,
    /// How many both are.
    filled: u32,
    /// Rows that are as full as they get, and how many. Elsewhere, so that the rest need not lie in memory.
    full: &'a mut Rows,
    count: usize,
    /// There were so many that some are judged.
    many: bool,
    /// Whatever may not stand where it does.
    wrong: u64,
    nesting: Nesting,
}

/// Rows that wait to be judged; those that are not there have nothing that is new.
#[derive(Default)]
pub(super) struct Rows {
    bracket: [u64; AT_ONCE],
    begins: [u64; AT_ONCE],
    kind: [u64; AT_ONCE],
    /// Which tokens had no judgement yet.
    new: [u64; AT_ONCE],
}

/// What comes of a row: what may not stand where it does, the brackets for [`Nesting`], and of those which open, and the kinds.
struct Judged {
    wrong: u64,
    brackets: u64,
    opened: u64,
    kinds: u64,
}

impl<'a> Grammar<'a> {
    /// What is to come is the inside of an object or an array behind a first member or element: as if `"…":0,` or `0,`
    /// had been.
    #[inline(always)]
    pub(super) fn inside(object: bool, full: &'a mut Rows) -> Grammar<'a> {
        // From the lowest bit: a number, `:` or a number, a number, `,`.
        let colon = u64::from(object) << 1;
        let rows = Tokens { bracket: 0, begins: colon, kind: 0b0111 ^ colon };
        Grammar { rows, filled: KEPT, full, count: 0, many: false, wrong: 0, nesting: Nesting::new() }
    }

    /// The next `count` tokens, at most [`TOKENS_MAX`], the first in the lowest bit.
    #[inline(always)]
    pub(super) fn add<L: Lanes>(&mut self, lanes: L, count: u32, tokens: Tokens) {
        if self.filled + count >= u64::BITS {
            self.put_by();
            if self.count == AT_ONCE {
                self.many = true;
                self.judge(lanes);
            }
        }
        let (rows, at) = (&mut self.rows, self.filled);
        rows.bracket |= tokens.bracket.wrapping_shl(at);
        rows.begins |= tokens.begins.wrapping_shl(at);
        rows.kind |= tokens.kind.wrapping_shl(at);
        self.filled += count;
    }

    /// Which tokens of the row had no judgement yet.
    #[inline(always)]
    fn unjudged(&self) -> u64 {
        (1u64.wrapping_shl(self.filled - KEPT) - 1) << KEPT
    }

    /// The row is full; the next begins with its last tokens.
    #[inline(always)]
    fn put_by(&mut self) {
        let (new, Tokens { bracket, begins, kind }) = (self.unjudged(), self.rows);
        let Rows { bracket: brackets, begins: beginnings, kind: kinds, new: news } = &mut *self.full;
        for (rows, row) in [(brackets, bracket), (beginnings, begins), (kinds, kind), (news, new)] {
            if let Some(place) = rows.get_mut(self.count) {
                *place = row;
            }
        }
        self.count += 1;
        let over = self.filled - KEPT;
        self.rows = Tokens { bracket: bracket.wrapping_shr(over), begins: begins.wrapping_shr(over), kind: kind.wrapping_shr(over) };
        self.filled = KEPT;
    }

    /// Judges the rows that wait.
    #[inline(always)]
    fn judge<L: Lanes>(&mut self, lanes: L) {
        let Rows { bracket, begins, kind, new } = &*self.full;
        let mut wrong = [0; AT_ONCE];
        let mut found = [[0; AT_ONCE]; 3];
        let [brackets, opened, kinds] = &mut found;
        let rows = bracket.iter().zip(begins).zip(kind).zip(new);
        let places = wrong.iter_mut().zip(brackets).zip(opened).zip(kinds);
        for ((((bracket, begins), kind), new), (((wrong, brackets), opened), kinds)) in rows.zip(places) {
            let judged = judged(Tokens { bracket: *bracket, begins: *begins, kind: *kind }, *new);
            *wrong = judged.wrong;
            *brackets = judged.brackets;
            *opened = judged.opened;
            *kinds = judged.kinds;
        }
        let [brackets, opened, kinds] = found;
        for ((brackets, opened), kinds) in brackets.into_iter().zip(opened).zip(kinds).take(self.count) {
            self.nest(lanes, brackets, opened, kinds);
        }
        self.wrong |= wrong.into_iter().fold(0, |all, wrong| all | wrong);
        self.full.new = [0; AT_ONCE];
        self.count = 0;
    }

    #[inline(always)]
    fn nest<L: Lanes>(&mut self, lanes: L, brackets: u64, opened: u64, kinds: u64) {
        let [opens, kinds] = lanes.gather(brackets, [opened, kinds]);
        self.nesting.add(lanes, brackets.count_ones(), opens, kinds);
    }

    /// Whether the last token was the bracket that closes what was begun, all stood in its place, and there were at most so
    /// many (fewer than fill a row).
    #[inline(always)]
    pub(super) fn finish<L: Lanes>(mut self, lanes: L, max: Option<u32>) -> bool {
        if max.is_some_and(|max| self.many || self.count > 0 || self.filled - KEPT > max) {
            return false;
        }
        if self.count > 0 {
            self.judge(lanes);
        }
        let last = judged(self.rows, self.unjudged());
        self.nest(lanes, last.brackets, last.opened, last.kinds);
        self.wrong | last.wrong == 0 && self.nesting.finish(lanes)
    }
}

/// Judges a row, given which of its tokens are new.
#[inline(always)]
fn judged(Tokens { bracket, begins, kind }: Tokens, new: u64) -> Judged {
    let [open, close] = [bracket & begins, bracket & !begins];
    let [open_object, open_array] = [open & kind, open & !kind];
    let [close_object, close_array] = [close & kind, close & !kind];
    // A token that is a whole value, unless it is a key.
    let simple = kind & !bracket;
    let string = simple & begins;
    let [colon, comma] = [begins & !bracket & !kind, !(bracket | begins | kind)];
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
    // What closed before a comma is known one or two tokens behind the comma: by `:`, that it was in an object.
    let behind_doubtful = behind(simple & behind_either);
    let closed_in_object = close_object & behind(close) | colon & behind_doubtful;
    let closed_in_array = close_array & behind(close) | open & behind_either | (comma | close_array) & behind_doubtful;
    // What opened counts one token later, because at its own a bracket before it may count.
    let opened = behind(open) & new;
    let kinds = closed_in_object | behind(open & behind_colon);
    let brackets = (opened | closed_in_object | closed_in_array) & new;
    Judged { wrong: new & !right, brackets, opened, kinds }
}
