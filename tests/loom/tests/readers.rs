//! The models of the readers, run by `.ci/test rust`.

use flowplug_pool_model::sys::model;

#[test]
fn one_reader_and_three_replacements() {
    model::nothing_ends_while_it_is_read(1, 2, 3, true);
}

#[test]
fn two_readers_by_one_counter() {
    model::nothing_ends_while_it_is_read(2, 1, 2, false);
}

#[test]
fn two_readers_by_their_own() {
    model::nothing_ends_while_it_is_read(2, 1, 2, true);
}
