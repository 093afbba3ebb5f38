//! A cloud that stays: how to talk to it, and what it has to say.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use local::aws::{ACCOUNT, REGION};
use local::cloud::Cloud;
use local::kept;
use local::registry::{self, Behaviour, Image};
use local::slack::Message;

use crate::screen::Screen;

/// Leaves the cloud running until Ctrl-C, prints how to talk to it, and shows what Slack shows.
pub(crate) async fn run(screen: &Screen, cloud: &Cloud) -> Result<()> {
    cloud.start_the_clock().await?;
    kept::write_down(&cloud.aws)?;
    screen.heading("The cloud stays until Ctrl-C");
    screen.line(&instructions(cloud)?);
    let mut shown = versions(cloud);
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = versions(cloud);
        for (at, message) in cloud.slack.messages().iter().enumerate() {
            if now.get(at) != shown.get(at) {
                screen.tell("Slack", "");
                screen.quote(&message.thread());
            }
        }
        shown = now;
    }
}

/// Pushes an image to the cloud that stays.
pub(crate) async fn push(screen: &Screen, image: &str, bad: bool) -> Result<()> {
    let aws = kept::find().await?;
    let aws = aws.context("no cloud is running: start one with `cargo demo -- --keep` in another terminal")?;
    let (repository, tag) =
        image.rsplit_once(':').context("name the image as REPOSITORY:TAG, such as tides/web:develop")?;
    let behaviour = if bad { Behaviour::Crash } else { Behaviour::Healthy };
    let version = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis().to_string();
    let image = Image::build("https://example.com/by-hand", &version, "by hand", behaviour)?;
    let digest = registry::push(&aws, repository, tag, &image).await?;
    screen.line(&format!("pushed {repository}:{tag} as {digest}"));
    Ok(())
}

/// How often each message, or a reply to it, has changed.
fn versions(cloud: &Cloud) -> Vec<usize> {
    let of = |message: &Message| message.versions.len();
    let with_replies = |message: &Message| of(message) + message.replies.iter().map(of).sum::<usize>();
    cloud.slack.messages().iter().map(with_replies).collect()
}

fn instructions(cloud: &Cloud) -> Result<String> {
    let endpoint = cloud.aws.endpoint();
    let (_, port) = endpoint.rsplit_once(':').context("an endpoint without a port")?;
    let deploy = cloud.stack.output("DeployFunctionName")?;
    let table = cloud.stack.output("TableName")?;
    let log = cloud.emulator_log();
    let cargo_lambda = cloud.tools.bin().join("cargo-lambda");
    let cargo_lambda = cargo_lambda.display();
    Ok(format!(
        "
  Push an image of your own (in another terminal):
    cargo demo -- push tides/web:develop
    cargo demo -- push tides/web:develop --bad
    skopeo copy --dest-tls-verify=false docker://docker.io/library/nginx:alpine docker://127.0.0.1:{port}/tides/web:develop
    docker tag IMAGE 127.0.0.1:{port}/tides/web:develop && docker push 127.0.0.1:{port}/tides/web:develop

  Invoke a function with a sample event:
    curl -s {endpoint}/2015-03-31/functions/{deploy}/invocations -d @events/ecr-image-action-push-tagged-index.json
    {cargo_lambda} lambda invoke --invoke-address 127.0.0.1 --invoke-port {port} {deploy} --data-file events/ecr-image-action-push-tagged-index.json

  Ask a function what it would do about an event, and why:
    cargo run --package local -- explain events/ecr-image-action-push-tagged-index.json

  Look around with the AWS CLI:
    export AWS_ACCESS_KEY_ID={ACCOUNT} AWS_SECRET_ACCESS_KEY=local AWS_DEFAULT_REGION={REGION} AWS_ENDPOINT_URL={endpoint}
    aws ecs describe-services --cluster staging --services web --include TAGS
    aws dynamodb query --table-name {table} --key-condition-expression 'pk = :pk' --expression-attribute-values '{{\":pk\":{{\"S\":\"SERVICE#staging/web\"}}}}'
    aws logs filter-log-events --log-group-name /aws/lambda/{deploy} --query 'events[].message' --output text

  Take a release back, by an alarm or by hand, and let it out again (with the same variables):
    aws cloudwatch set-alarm-state --alarm-name tides-web-5xx --state-value ALARM --state-reason 'by hand'
    aws events put-events --entries '[{{\"Source\":\"tidegate\",\"DetailType\":\"Rollback\",\"Detail\":\"{{\\\"service\\\":\\\"production/web\\\",\\\"reason\\\":\\\"by hand\\\",\\\"actor\\\":\\\"me\\\"}}\"}}]'
    aws events put-events --entries '[{{\"Source\":\"tidegate\",\"DetailType\":\"Release\",\"Detail\":\"{{\\\"service\\\":\\\"production/web\\\",\\\"digest\\\":\\\"sha256:…\\\"}}\"}}]'

  Give the service that scales by its queue work to do (with the same variables), and look at it in a minute:
    for n in $(seq 200); do aws sqs send-message --queue-url {endpoint}/{ACCOUNT}/mailer --message-body $n >/dev/null; done
    aws ecs describe-services --cluster production --services mailer --query 'services[].[desiredCount,runningCount]'

  The emulator's log: {}
  What Slack shows from now on:",
        log.display()
    ))
}
