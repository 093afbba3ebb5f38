//! `tidegate-rollback`: a deployment that turns bad is taken back to the last release that is proven good.

use shared::lambda::Function;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let function = Function::start("rollback").await?;
    let handler = &function.rollbacker();
    function.run(|event, deadline| async move { handler.handle(&event, deadline).await }).await
}
