//! `tidegate-scale-cluster`: clusters follow what their tasks need.

use shared::lambda::Function;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let function = Function::start("scale-cluster").await?;
    let handler = &function.cluster_scaler();
    function.run(|event, deadline| async move { handler.handle(&event, deadline).await }).await
}
