//! `tidegate-notify`: ECS deployment events become the outcome of a record, a Slack message and an SNS message.

use shared::lambda::Function;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let function = Function::start("notify").await?;
    let handler = &function.notifier();
    function.run(|event, deadline| async move { handler.handle(&event, deadline).await }).await
}
