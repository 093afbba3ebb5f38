//! `tidegate-scale-service`: services follow the work in their queues.

use shared::lambda::Function;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let function = Function::start("scale-service").await?;
    let handler = &function.service_scaler();
    function.run(|event, deadline| async move { handler.handle(&event, deadline).await }).await
}
