use super::*;
use crate::queue::scene::{Kind, Load, Work};

/// A scene in which nothing is left to chance: ten seconds a message, and tasks that start in five.
fn scene() -> Scene {
    Scene { cv: 0.0, start: (5.0, 5.0), ..Scene::new("x", Kind::Core, "", Load::Counts(Vec::new())) }.taking(10.0)
}

/// Messages at these seconds, of ten seconds each.
fn messages(at: &[u64]) -> Vec<Message> {
    let message = |at: &u64| Message { at: at * SECOND, service: 10 * SECOND, is_poison: false, group: 0 };
    at.iter().map(message).collect()
}

fn tally(messages: &[Message]) -> Tally {
    Tally { waits: vec![None; messages.len()], limit: 60.0, ..Tally::default() }
}

fn waits(tally: &Tally) -> Vec<f32> {
    tally.waits.iter().copied().flatten().collect()
}

#[test]
fn a_tiny_trace_is_as_by_hand() {
    let (scene, messages) = (scene(), messages(&[0, 0, 0, 7, 40]));
    let mut tally = tally(&messages);
    let mut engine = Engine::new(&scene, &messages, 1, 1);
    engine.advance(SECOND, &mut tally);
    engine.set_desired(2, &mut tally);
    assert_eq!((engine.running(), engine.visible(), engine.in_flight()), (1, 2, 1));
    engine.advance(7 * SECOND, &mut tally);
    assert_eq!((engine.running(), engine.visible(), engine.oldest_wait()), (2, 1, 7.0));
    engine.advance(60 * SECOND, &mut tally);
    // The first at once; the second by the task that starts at 6; then at 10, 16 and at once.
    assert_eq!(waits(&tally), [0.0, 6.0, 10.0, 9.0, 0.0]);
    engine.close(&mut tally);
    assert_eq!(tally.task_time, (60 + 59) * SECOND);
    assert_eq!((engine.sent(), engine.deleted(), engine.visible(), engine.in_flight()), (5, 5, 0, 0));
}

#[test]
fn who_is_killed_at_work_gives_the_message_back_when_it_is_no_longer_hidden() {
    let (scene, messages) = (scene().taking(100.0), [Message { service: 100 * SECOND, ..messages(&[0])[0] }]);
    let mut tally = tally(&messages);
    let mut engine = Engine::new(&scene, &messages, 1, 1);
    engine.advance(10 * SECOND, &mut tally);
    engine.set_desired(0, &mut tally);
    engine.advance(39 * SECOND, &mut tally);
    assert_eq!((engine.running(), engine.in_flight(), tally.killed), (0, 1, 0), "it has 30 seconds");
    engine.advance(41 * SECOND, &mut tally);
    assert_eq!((engine.visible(), engine.in_flight(), tally.killed), (0, 1, 1), "killed, and hidden");
    assert_eq!(tally.task_time, 40 * SECOND);
    engine.set_desired(1, &mut tally);
    engine.advance(230 * SECOND, &mut tally);
    assert_eq!(waits(&tally), [120.0], "the wait is that of the attempt that succeeded");
    assert_eq!((engine.deleted(), engine.in_flight()), (1, 0));
}

#[test]
fn who_is_stopped_finishes_what_is_short_and_takes_no_more() {
    let (scene, messages) = (scene(), messages(&[0, 0]));
    let mut tally = tally(&messages);
    let mut engine = Engine::new(&scene, &messages, 1, 1);
    engine.advance(SECOND, &mut tally);
    engine.set_desired(0, &mut tally);
    engine.advance(60 * SECOND, &mut tally);
    assert_eq!((engine.deleted(), engine.visible(), tally.killed), (1, 1, 0));
    assert_eq!(tally.task_time, 10 * SECOND);
}

#[test]
fn tasks_that_are_still_starting_go_first() {
    let (scene, messages) = (scene(), messages(&[]));
    let mut tally = tally(&messages);
    let mut engine = Engine::new(&scene, &messages, 3, 1);
    engine.set_desired(5, &mut tally);
    engine.advance(SECOND, &mut tally);
    engine.set_desired(2, &mut tally);
    assert_eq!((engine.running(), tally.task_time), (2, 3 * SECOND), "two of one second each, one more of one");
    engine.advance(60 * SECOND, &mut tally);
    assert_eq!(engine.running(), 2, "what was taken back does not start");
}

#[test]
fn who_protects_itself_is_stopped_between_two_messages() {
    let (scene, messages) = (scene().taking(100.0).protected(), messages(&[0, 0, 0]));
    let mut tally = tally(&messages);
    let mut engine = Engine::new(&scene, &messages, 2, 1);
    engine.advance(SECOND, &mut tally);
    engine.set_desired(1, &mut tally);
    assert_eq!(engine.running(), 2, "both are at work");
    engine.advance(30 * SECOND, &mut tally);
    assert_eq!((engine.running(), engine.deleted(), tally.killed), (1, 3, 0));
    assert_eq!(waits(&tally), [0.0, 0.0, 10.0]);
}

#[test]
fn what_always_fails_is_in_flight_until_it_is_dead() {
    let scene = scene();
    let messages = [Message { is_poison: true, ..messages(&[0])[0] }];
    let mut tally = tally(&messages);
    let mut engine = Engine::new(&scene, &messages, 1, 1);
    for (second, expected) in [(5, (0, 1, 0)), (100, (0, 1, 0)), (250, (0, 1, 0)), (359, (0, 1, 0)), (361, (0, 0, 1))] {
        engine.advance(second * SECOND, &mut tally);
        assert_eq!((engine.visible(), engine.in_flight(), engine.dead()), expected, "at {second}");
    }
    engine.close(&mut tally);
    assert_eq!(waits(&tally), [0.0_f32; 0], "it has never succeeded");
}

#[test]
fn messages_of_one_group_wait_for_each_other() {
    let scene = Scene { groups: Some(2), ..scene() };
    let mut messages = messages(&[0, 0, 0, 0]);
    messages[3].group = 1;
    let mut tally = tally(&messages);
    let mut engine = Engine::new(&scene, &messages, 4, 1);
    engine.advance(SECOND, &mut tally);
    assert_eq!((engine.visible(), engine.in_flight(), engine.oldest_wait()), (2, 2, 1.0));
    engine.advance(60 * SECOND, &mut tally);
    assert_eq!(waits(&tally), [0.0, 10.0, 20.0, 0.0]);
}

#[test]
fn what_is_behind_the_tasks_takes_no_more_than_it_can() {
    let scene = Scene { downstream: Some(0.5), ..scene() };
    let messages = messages(&[0; 100]);
    let mut tally = tally(&messages);
    let mut engine = Engine::new(&scene, &messages, 50, 1);
    engine.advance(110 * SECOND, &mut tally);
    assert_eq!(engine.deleted(), 49, "one each two seconds, from the tenth on");
}

/// The probability of waiting in M/M/c, and the mean wait ([Erlang C](https://en.wikipedia.org/wiki/M/M/c_queue)).
fn erlang(rate: f64, service: f64, servers: u32) -> f64 {
    let load = rate * service;
    let blocking = (1..=servers).fold(1.0, |blocking, n| load * blocking / (f64::from(n) + load * blocking));
    let waiting = f64::from(servers) * blocking / (f64::from(servers) - load * (1.0 - blocking));
    waiting * service / (f64::from(servers) - load)
}

#[test]
fn waits_are_those_of_queueing_theory() {
    for (rate, service, servers) in [(0.8, 1.0, 1), (2.0, 4.0, 10), (10.0, 1.9, 20)] {
        let seconds = 400_000;
        let scene = Scene::new("x", Kind::Core, "", Load::Rates(vec![rate; seconds])).taking(service);
        let work = Work::draw(&scene, 3);
        let mut tally = tally(&work.messages);
        let mut engine = Engine::new(&scene, &work.messages, servers, 3);
        engine.advance(seconds as u64 * SECOND, &mut tally);
        let waits: Vec<f64> = waits(&tally).into_iter().map(f64::from).collect();
        let mean = waits.iter().sum::<f64>() / waits.len() as f64;
        let expected = erlang(rate, service, servers);
        assert!((mean / expected - 1.0).abs() < 0.06, "{servers} servers: {mean} instead of {expected}");
    }
}

#[test]
fn no_message_is_lost_or_made_up_whatever_is_done_to_the_tasks() {
    for seed in 0..60 {
        let mut rng = Rng::with_seed(seed);
        let scene = Scene {
            cv: 2.0,
            poison: Some((0..1200, 0.1)),
            concurrency: rng.u32(1..4),
            is_protected: rng.bool(),
            groups: rng.bool().then_some(5),
            downstream: rng.bool().then_some(3.0),
            ..Scene::new("x", Kind::Core, "", Load::Rates(vec![2.0; 1200])).taking(10.0)
        };
        let work = Work::draw(&scene, seed);
        let mut tally = tally(&work.messages);
        let mut engine = Engine::new(&scene, &work.messages, 5, seed);
        for second in 0..1300 {
            engine.advance(second * SECOND, &mut tally);
            assert_eq!(engine.accounted(), engine.sent(), "seed {seed}, second {second}");
            assert!(engine.in_work <= engine.tasks.len() * scene.concurrency as usize);
            if second % 7 == 0 {
                engine.set_desired(rng.u32(0..40), &mut tally);
            } else {
                engine.reconcile(&mut tally);
            }
        }
        engine.set_desired(100, &mut tally);
        engine.advance(100_000 * SECOND, &mut tally);
        assert_eq!(engine.sent(), work.messages.len() as u64);
        assert_eq!(engine.deleted() + engine.dead(), engine.sent(), "seed {seed}: all is done in the end");
    }
}
