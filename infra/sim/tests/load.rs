//! A small load: the command `cargo run -p sim --profile sim --example load` has the large one.

use sim::load::{self, Load};

#[test]
fn nothing_is_lost_and_every_service_ends_on_what_it_follows() {
    let figures = load::play(Load { events: 120, services: 20, minutes: 1, ..Load::default() });
    println!("{figures}");
    assert_eq!(figures.events, 120);
    assert!(figures.repeated > 0 && figures.throttled > 0, "it was too easy");
}
