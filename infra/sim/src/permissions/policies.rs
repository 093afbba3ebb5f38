//! What the roles of the template grant, one action on one resource each, and whether that is what is used.

use std::collections::{BTreeMap, BTreeSet};

use iam_rs::{Arn, Context, Decision, IAMPolicy, IAMRequest, PolicyEvaluator, Principal, PrincipalId};
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use super::Use;
use super::template::{Template, string};

/// One action on one resource that a role has.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// As [`World::invoke`](crate::world::World::invoke) names it.
    pub function: String,
    /// That of the statement.
    pub sid: String,
    pub action: String,
    /// What IAM compares with, resolved.
    pub resource: String,
    /// The same as the template has it.
    pub written: String,
    /// The statement's `Condition`, or null.
    pub condition: Json,
    /// What the template says about the statement.
    pub comment: String,
}

/// The name by which the [`world`](crate::world) knows the function of these properties.
pub(super) fn function_name(logical: &str, properties: &Value) -> String {
    let name = string(&properties["FunctionName"]);
    name.strip_prefix("tidegate-").unwrap_or_else(|| panic!("{logical} is called {name}")).to_owned()
}

/// Everything that the roles of the functions grant.
pub fn grants(template: &Template) -> Vec<Grant> {
    let mut grants = Vec::new();
    for (logical, resource) in template.resources("AWS::Serverless::Function") {
        let properties = &resource["Properties"];
        let Value::Tagged(role) = &properties["Role"] else { panic!("{logical} has no role of its own") };
        let role = string(&role.value).trim_end_matches(".Arn").to_owned();
        let comments = comments(&template.text, &role);
        let properties_of_role = template.resource(&role)["Properties"].as_mapping().unwrap();
        assert!(!properties_of_role.contains_key("ManagedPolicyArns"), "{role}");
        for policy in properties_of_role["Policies"].as_sequence().unwrap() {
            for statement in policy["PolicyDocument"]["Statement"].as_sequence().unwrap() {
                let Some(statement) = chosen(template, statement) else { continue };
                let sid = string(&statement["Sid"]);
                assert_eq!(statement["Effect"], "Allow", "{role} {sid}: grants are told one by one");
                for action in several(&statement["Action"]) {
                    for (written, resource) in resources(template, &statement["Resource"]) {
                        grants.push(Grant {
                            function: function_name(&logical, properties),
                            sid: sid.clone(),
                            action: string(action),
                            resource,
                            written,
                            condition: statement
                                .get("Condition")
                                .and_then(|it| template.resolve(it))
                                .unwrap_or(Json::Null),
                            comment: comments.get(&sid).cloned().unwrap_or_default(),
                        });
                    }
                }
            }
        }
    }
    grants
}

/// Whether the role of the use's function grants it.
pub fn allows<'a>(grants: impl IntoIterator<Item = &'a Grant>, needed: &Use) -> bool {
    // The others could not allow it, and none can deny it: that keeps policies short.
    let may = |grant: &&Grant| grant.action.contains(['*', '?']) || grant.action.eq_ignore_ascii_case(&needed.action);
    let of_function = grants.into_iter().filter(|grant| grant.function == needed.function).filter(may);
    let statements: Vec<Json> = of_function.map(statement).collect();
    if statements.is_empty() {
        return false;
    }
    let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    let evaluator = PolicyEvaluator::with_policies(vec![IAMPolicy::from_json(&policy).unwrap()]);
    evaluator.evaluate(&request(needed)).unwrap().decision == Decision::Allow
}

/// The uses that no role allows.
pub fn denied<'a>(grants: &[Grant], uses: impl IntoIterator<Item = &'a Use>) -> BTreeSet<&'a Use> {
    uses.into_iter().filter(|needed| !allows(grants, needed)).collect()
}

/// The grants without which every use would be allowed all the same: nobody uses them, or another grants the same.
pub fn unneeded<'a, 'b>(grants: &'a [Grant], uses: impl IntoIterator<Item = &'b Use>) -> Vec<&'a Grant> {
    let mut needed = vec![false; grants.len()];
    for it in uses {
        let by: Vec<usize> = (0..grants.len()).filter(|at| allows([&grants[*at]], it)).collect();
        if let [only] = by[..] {
            needed[only] = true;
        }
    }
    grants.iter().zip(needed).filter(|(_, needed)| !needed).map(|(grant, _)| grant).collect()
}

fn statement(grant: &Grant) -> Json {
    let mut statement = json!({"Effect": "Allow", "Action": grant.action, "Resource": grant.resource});
    if !grant.condition.is_null() {
        statement["Condition"] = grant.condition.clone();
    }
    statement
}

fn request(needed: &Use) -> IAMRequest {
    let service = needed.action.split(':').next().unwrap_or_default();
    // What names no resource of its own is allowed by `*` alone, so it is in no account.
    let resource = if needed.resource == "*" { format!("arn:aws:{service}:::*") } else { needed.resource.clone() };
    let role = format!("arn:aws:sts::123456789012:assumed-role/{}/session", needed.function);
    let context = needed.context.iter().fold(Context::new(), |context, (key, value)| context.with_string(*key, value));
    IAMRequest::new_with_context(
        Principal::Aws(PrincipalId::String(role)),
        needed.action.clone(),
        Arn::parse(&resource).unwrap(),
        context,
    )
}

/// The statement that there is with the template's parameters, if there is one.
fn chosen<'a>(template: &Template, statement: &'a Value) -> Option<&'a Value> {
    match statement {
        Value::Tagged(intrinsic) if intrinsic.tag == "If" => chosen(template, template.branch(&intrinsic.value)),
        Value::Tagged(_) => template.resolve(statement).map(|_| panic!("{statement:?} is no statement")),
        plain => Some(plain),
    }
}

fn several(value: &Value) -> Vec<&Value> {
    value.as_sequence().map_or_else(|| vec![value], |all| all.iter().collect())
}

/// Each resource, as it is written and as it is resolved.
fn resources(template: &Template, value: &Value) -> Vec<(String, String)> {
    match value {
        Value::Sequence(all) => all.iter().flat_map(|one| resources(template, one)).collect(),
        Value::Tagged(intrinsic) if intrinsic.tag == "If" => resources(template, template.branch(&intrinsic.value)),
        Value::Tagged(intrinsic) if intrinsic.tag == "Split" => {
            let Value::Tagged(parameter) = &intrinsic.value[1] else { panic!("{value:?} is split") };
            let all = template.resolve(value).unwrap();
            let all = all.as_array().unwrap().iter();
            all.map(|arn| (string(&parameter.value), arn.as_str().unwrap().to_owned())).collect()
        }
        one => match template.resolve(one) {
            Some(resolved) => {
                let written = match one {
                    Value::Tagged(intrinsic) => string(&intrinsic.value),
                    plain => string(plain),
                };
                vec![(written, resolved.as_str().unwrap().to_owned())]
            }
            None => Vec::new(),
        },
    }
}

/// What stands above each statement of a role, by its Sid.
fn comments(text: &str, role: &str) -> BTreeMap<String, String> {
    let start = format!("  {role}:");
    let of_role = text.lines().skip_while(|line| *line != start).skip(1);
    let of_role = of_role.take_while(|line| line.starts_with("   ") || line.trim().is_empty());
    let (mut comments, mut above) = (BTreeMap::new(), Vec::new());
    for line in of_role.map(str::trim) {
        if let Some(comment) = line.strip_prefix("# ") {
            above.push(comment);
        } else if let Some(sid) = line.strip_prefix("- Sid: ") {
            comments.insert(sid.to_owned(), above.join(" "));
            above.clear();
        } else if line != "- !If" && !line.starts_with("- Has") && !line.starts_with("- Reads") {
            above.clear();
        }
    }
    comments
}
