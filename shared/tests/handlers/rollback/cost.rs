//! What a rollback costs: from the event that shows the failure to the call that ECS accepts, at most four that wait
//! for each other.

use super::*;

/// The calls up to the one by which ECS goes back, by those that were made at once.
fn steps(world: &World) -> Vec<Vec<String>> {
    let steps = world.steps();
    let is_effect = |step: &Vec<String>| step.iter().any(|it| it == "UpdateService" || it == "StopServiceDeployment");
    let effect = steps.iter().position(is_effect).unwrap();
    steps.into_iter().take(effect + 1).collect()
}

async fn bad(is_live: bool) -> (World, String) {
    let world = proven().await;
    let id = release(&world, NEWER).await;
    wait(60).await;
    if is_live {
        completes(&world).await;
    }
    wait(60).await;
    (world, id)
}

const WRITE: [&str; 3] = ["DescribeImages", "DescribeTaskDefinition", "TransactWriteItems"];

#[tokio::test(start_paused = true)]
async fn an_alarm_in_the_bake_takes_four_calls() {
    let (world, _) = bad(true).await;
    let event = alarm(&world);
    world.calm();
    world.deliver("rollback", &event).await.unwrap();
    let expected = [&["GetResources"][..], &["DescribeServices", "Query"], &WRITE, &["UpdateService"]];
    assert_eq!(steps(&world), expected);
}

#[tokio::test(start_paused = true)]
async fn an_alarm_in_the_rollout_takes_four_calls() {
    let (world, _) = bad(false).await;
    let event = alarm(&world);
    world.calm();
    world.deliver("rollback", &event).await.unwrap();
    let stop: [&[&str]; 4] =
        [&["GetResources"], &["DescribeServices", "Query"], &["TransactWriteItems"], &["StopServiceDeployment"]];
    assert_eq!(steps(&world), stop);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_has_failed_takes_three_calls() {
    let (world, id) = bad(false).await;
    let breaker = json!({"enable": true, "rollback": false});
    world.state().ecs.services.get_mut(WEB).unwrap()["deploymentConfiguration"]["deploymentCircuitBreaker"] = breaker;
    world.state().ecs.end_rollout(WEB, "FAILED");
    world.calm();
    world.deliver("rollback", &failed(&id)).await.unwrap();
    assert_eq!(steps(&world), [&["DescribeServices", "Query"][..], &WRITE, &["UpdateService"]]);
}

#[tokio::test(start_paused = true)]
async fn tasks_that_fail_take_four_calls() {
    let (world, _) = bad(true).await;
    task_fails(&world);
    task_fails(&world);
    let event = task_fails(&world);
    wait(1).await;
    world.calm();
    world.deliver("rollback", &event).await.unwrap();
    let expected = [&["DescribeServices", "ListTasks", "Query"][..], &["DescribeTasks"], &WRITE, &["UpdateService"]];
    assert_eq!(steps(&world), expected);
}

#[tokio::test(start_paused = true)]
async fn a_person_waits_for_three_calls() {
    let (world, _) = bad(true).await;
    let event = asked(&world, "1", &json!({}));
    world.calm();
    world.deliver("rollback", &event).await.unwrap();
    assert_eq!(steps(&world), [&["DescribeServices", "Query"][..], &WRITE, &["UpdateService"]]);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_watched_the_schedule_costs_one_call() {
    let world = proven().await;
    world.calm();
    world.deliver("rollback", &sweep()).await.unwrap();
    assert_eq!(world.operations(), ["Query"]);
}

#[tokio::test(start_paused = true)]
async fn an_alarm_that_watches_nobody_costs_one_call() {
    let world = pushed();
    let event = alarm(&world);
    world.deliver("rollback", &event).await.unwrap();
    assert_eq!(world.operations(), ["GetResources"]);
}
