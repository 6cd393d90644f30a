//! The models of the crew, run by `.ci/test rust`.

use flowplug_pool_model::grpc::model;

#[test]
fn two_get_their_answers_in_either_order() {
    model::everyone_gets_an_answer(&[0, 1]);
    model::everyone_gets_an_answer(&[1, 0]);
}

#[test]
fn who_gives_up_leaves_the_lead_to_another() {
    model::who_gives_up_leaves_the_lead_to_another();
}

#[test]
fn who_glances_leaves_the_lead_to_who_waits() {
    model::who_glances_leaves_the_lead_to_who_waits();
}
