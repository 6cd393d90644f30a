//! The models of the desk, run by `.ci/test rust`.

use flowplug_pool_model::sys::questions;

#[test]
fn two_answer_a_question_that_is_waited_for() {
    questions::one_answer_is_taken(2, true);
}

#[test]
fn two_answer_a_question_that_is_given_up() {
    questions::one_answer_is_taken(2, false);
}
