//! Deploys `infra/template.yaml`, the very template that users deploy, as `sam package` and `sam deploy` would; and other
//! templates, as `aws cloudformation deploy` would.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use axum::http::Method;
use bytes::Bytes;

use crate::aws::{Aws, REGION, elements};
use crate::build;
use crate::tools::Workspace;

/// The name of Tidegate's own stack.
pub const NAME: &str = "tidegate";
/// The bucket with the functions' zips, `<binary>.zip`.
pub const BUCKET: &str = "tidegate-local-artifacts";
const VERSION: &str = "2010-05-15";
const DEADLINE: Duration = Duration::from_secs(60);

/// What the stack made.
#[derive(Debug, Clone, Default)]
pub struct Stack {
    /// The stack's outputs.
    pub outputs: BTreeMap<String, String>,
    /// The physical names of its resources by their logical names.
    pub resources: BTreeMap<String, String>,
}

impl Stack {
    /// Packages the template with the functions that were built, and deploys it.
    pub async fn deploy(aws: &Aws, workspace: &Workspace, parameters: &[(&str, &str)]) -> Result<Self> {
        let path = workspace.root.join("infra/template.yaml");
        let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        make_bucket(aws).await?;
        let template = package(aws, workspace, &text).await?;
        // CloudFormation takes a template of more than 51,200 bytes from a bucket only, where SAM puts it too.
        let path = format!("/{BUCKET}/template.yaml");
        let uploaded = aws.send("s3", Method::PUT, &path, &[], template).await?;
        ensure!(uploaded.status.is_success(), "the template cannot be uploaded: {}", uploaded.text());
        let template = ("TemplateURL", format!("{}{path}", aws.endpoint()));
        let capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"];
        change(aws, NAME, Change::Create, (template.0, &template.1), &capabilities, parameters).await?;
        describe(aws, NAME).await
    }

    /// Deploys Tidegate's stack once more, with other parameters.
    pub async fn update(aws: &Aws, parameters: &[(&str, &str)]) -> Result<Self> {
        let template = format!("{}/{BUCKET}/template.yaml", aws.endpoint());
        let capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"];
        change(aws, NAME, Change::Update, ("TemplateURL", &template), &capabilities, parameters).await?;
        describe(aws, NAME).await
    }

    /// Makes the stack `name` of another template.
    pub async fn deploy_other(
        aws: &Aws,
        name: &str,
        template: &str,
        capabilities: &[&str],
        parameters: &[(&str, &str)],
    ) -> Result<Self> {
        change(aws, name, Change::Create, ("TemplateBody", template), capabilities, parameters).await?;
        describe(aws, name).await
    }

    /// Deletes the stack `name`, and waits until it is gone.
    pub async fn delete(aws: &Aws, name: &str) -> Result<()> {
        let stack = ("StackName", name);
        call(aws, "DeleteStack", &[stack]).await?;
        let deadline = Instant::now() + DEADLINE;
        // A stack that is gone cannot be described by its name.
        while let Ok(answer) = call(aws, "DescribeStacks", &[stack]).await {
            let status = elements(&answer, "StackStatus").next().unwrap_or("unknown").to_owned();
            if status.contains("FAILED") || Instant::now() > deadline {
                bail!("the stack {name} was not deleted: {status}\n{}", failures(aws, name).await);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// What the stack of a running cloud made.
    pub async fn find(aws: &Aws) -> Result<Self> {
        describe(aws, NAME).await
    }

    /// The name in Lambda of a function (such as `scale-service`), which the template must have.
    pub fn function(&self, function: &str) -> Result<&str> {
        let words = function.split('-').map(|word| {
            let mut letters = word.chars();
            let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
            first + letters.as_str()
        });
        self.output(&format!("{}FunctionName", words.collect::<String>()))
    }

    /// An output, which the template must have.
    pub fn output(&self, name: &str) -> Result<&str> {
        let output = self.outputs.get(name).map(String::as_str);
        output.with_context(|| format!("the template has no output {name}, only {:?}", self.outputs.keys()))
    }

    /// The physical name of a resource, which the template must have.
    pub fn resource(&self, logical: &str) -> Result<&str> {
        let resource = self.resources.get(logical).map(String::as_str);
        resource.with_context(|| format!("the template has no resource {logical}, only {:?}", self.resources.keys()))
    }
}

/// Where the zips and the template go.
async fn make_bucket(aws: &Aws) -> Result<()> {
    let location = format!(
        "<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
    );
    let created = aws.send("s3", Method::PUT, &format!("/{BUCKET}"), &[], location).await?;
    ensure!(created.status.is_success(), "the bucket for the functions cannot be made: {}", created.text());
    Ok(())
}

/// Uploads the zip of every function, and points the template to it. The text is otherwise left as it is: written anew, its
/// quotation marks would be lost, and with them the difference between "off" and false.
async fn package(aws: &Aws, workspace: &Workspace, template: &str) -> Result<String> {
    let mut packaged = String::with_capacity(template.len());
    let mut binary = None;
    for line in template.lines() {
        let property = line.trim();
        if let Some(name) = property.strip_prefix("Binary: ") {
            binary = Some(name);
        }
        match property {
            "CodeUri: ../" => {
                let binary = binary.take().context("a function names no binary to build")?;
                let code = build::zip(workspace, binary)?;
                let key = format!("{binary}.zip");
                let uploaded = aws.send("s3", Method::PUT, &format!("/{BUCKET}/{key}"), &[], Bytes::from(code)).await?;
                ensure!(uploaded.status.is_success(), "{key} cannot be uploaded: {}", uploaded.text());
                packaged.push_str(&line.replace("../", &format!("s3://{BUCKET}/{key}")));
            }
            _ => packaged.push_str(line),
        }
        packaged.push('\n');
    }
    Ok(packaged)
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Create,
    Update,
}

impl Change {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
        }
    }
}

/// Makes or updates a stack by a change set, as the AWS CLI does.
async fn change(
    aws: &Aws,
    name: &str,
    kind: Change,
    template: (&str, &str),
    capabilities: &[&str],
    parameters: &[(&str, &str)],
) -> Result<()> {
    let change_set = ("ChangeSetName", format!("local-{}", kind.name().to_lowercase()));
    let change_set = (change_set.0, change_set.1.as_str());
    let stack = ("StackName", name);
    let keys: Vec<[String; 2]> = (1..=parameters.len())
        .map(|n| ["Key", "Value"].map(|part| format!("Parameters.member.{n}.Parameter{part}")))
        .collect();
    let capability_keys: Vec<String> = (1..=capabilities.len()).map(|n| format!("Capabilities.member.{n}")).collect();
    let mut input = vec![stack, change_set, ("ChangeSetType", kind.name()), template];
    input.extend(capability_keys.iter().map(String::as_str).zip(capabilities.iter().copied()));
    for ([key, value], (name, content)) in keys.iter().zip(parameters) {
        input.push((key, name));
        input.push((value, content));
    }
    call(aws, "CreateChangeSet", &input).await?;
    wait(aws, name, "DescribeChangeSet", &[stack, change_set], "Status", "CREATE_COMPLETE").await?;
    call(aws, "ExecuteChangeSet", &[stack, change_set]).await?;
    let complete = format!("{}_COMPLETE", kind.name());
    wait(aws, name, "DescribeStacks", &[stack], "StackStatus", &complete).await
}

/// Asks until the status is `complete`, or failed; a failure is explained by the stack's own events.
async fn wait(
    aws: &Aws,
    name: &str,
    operation: &str,
    input: &[(&str, &str)],
    element: &str,
    complete: &str,
) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = call(aws, operation, input).await?;
        let status = elements(&answer, element).next().unwrap_or("unknown").to_owned();
        if status == complete {
            return Ok(());
        }
        if Instant::now() > deadline || ["FAILED", "ROLLBACK", "DELETE"].iter().any(|word| status.contains(word)) {
            let reason = elements(&answer, "StatusReason").next().unwrap_or_default();
            let failures = failures(aws, name).await;
            bail!("the stack {name} was not deployed: {element} {status} {reason}\n{failures}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn failures(aws: &Aws, name: &str) -> String {
    let events = call(aws, "DescribeStackEvents", &[("StackName", name)]).await.unwrap_or_default();
    let line = |event: &str| {
        let part = |name| elements(event, name).next().unwrap_or_default().to_owned();
        format!("  {} {}: {}", part("LogicalResourceId"), part("ResourceStatus"), part("ResourceStatusReason"))
    };
    elements(&events, "member").filter(|e| e.contains("FAILED")).map(line).collect::<Vec<_>>().join("\n")
}

async fn describe(aws: &Aws, name: &str) -> Result<Stack> {
    let pairs = |xml: &str, key: &str, value: &str| {
        elements(xml, "member")
            .filter_map(|m| Some((elements(m, key).next()?.to_owned(), elements(m, value).next()?.to_owned())))
            .collect()
    };
    let stacks = call(aws, "DescribeStacks", &[("StackName", name)]).await?;
    let outputs = elements(&stacks, "Outputs").next().unwrap_or_default();
    let resources = call(aws, "DescribeStackResources", &[("StackName", name)]).await?;
    Ok(Stack {
        outputs: pairs(outputs, "OutputKey", "OutputValue"),
        resources: pairs(&resources, "LogicalResourceId", "PhysicalResourceId"),
    })
}

async fn call(aws: &Aws, operation: &str, input: &[(&str, &str)]) -> Result<String> {
    aws.query("cloudformation", VERSION, operation, input).await
}
