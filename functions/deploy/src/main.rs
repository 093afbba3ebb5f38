//! `tidegate-deploy`: an image pushed to ECR becomes a rollout on every ECS service that follows it.

use shared::lambda::Function;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let function = Function::start("deploy").await?;
    let handler = &function.deployer();
    function.run(|event, deadline| async move { handler.handle(&event, deadline).await }).await
}
