//! The models of the pool, run by `.ci/test rust`.

use flowplug_pool_model::wasm::{model, upkeep};

#[test]
fn two_threads_share_one_place() {
    model::all_are_served(2, 3, 1);
}

#[test]
fn three_threads_share_one_place() {
    model::all_are_served(3, 1, 1);
}

#[test]
fn three_threads_share_two_places() {
    model::all_are_served(3, 1, 2);
}

#[test]
fn who_gives_up_takes_nothing_along() {
    model::who_gives_up_takes_nothing_along();
}

#[test]
fn a_drain_ends_after_the_last_turn() {
    model::a_drain_ends_after_the_last_turn();
}

#[test]
fn a_drain_can_be_tried_again() {
    model::a_drain_can_be_tried_again();
}

#[test]
fn two_places_serve_two() {
    model::two_places_serve_two();
}

#[test]
fn what_broke_is_replaced() {
    upkeep::what_broke_is_replaced();
}

#[test]
fn who_is_called_has_ticks() {
    upkeep::who_is_called_has_ticks();
}
