//! The table of all permissions, for people.

use std::fmt::Write as _;

use super::policies::Grant;
use crate::world::{ACCOUNT, REGION};

const HEAD: &str = "# Permissions

What each function may do, with every optional part of `template.yaml` turned on. A test writes this file: it plays every
job of the functions in the simulation, and holds what they ask AWS for against their roles. Without any one of these lines
something would be denied that is used.

A resource is as the template has it; `…` is this account and Region. What it is needed for is the statement of the role, with
what the template says of it.
";

/// `PERMISSIONS.md`: every grant, what needs it, and why its resource has a wildcard. `why` tells the last.
pub fn table(grants: &[Grant], why: impl Fn(&Grant) -> Option<&'static str>) -> String {
    let mut table = HEAD.to_owned();
    let (mut function, mut sid) = ("", "");
    for grant in grants {
        if grant.function != function {
            function = &grant.function;
            let head = "| action | resource | only where | needed for | why a wildcard |\n|---|---|---|---|---|";
            writeln!(table, "\n## {function}\n\n{head}").unwrap();
        }
        // What the template says of a statement stands in its first line.
        let comment = if grant.sid == sid { "" } else { &grant.comment };
        sid = &grant.sid;
        let needed_for = if comment.is_empty() { sid.to_owned() } else { format!("{sid}: {comment}") };
        let (action, resource, condition) = (&grant.action, short(&grant.written), condition(grant));
        let why = why(grant).unwrap_or_default();
        let cells = [&format!("`{action}`"), &format!("`{resource}`"), &condition, &needed_for, why];
        writeln!(table, "| {} |", cells.map(|cell| cell.trim()).join(" | ")).unwrap();
    }
    table
}

/// `arn:${AWS::Partition}:ecs:${AWS::Region}:${AWS::AccountId}:service/*` as `ecs:…:service/*`.
fn short(written: &str) -> String {
    let Some(rest) = written.strip_prefix("arn:${AWS::Partition}:") else { return written.to_owned() };
    rest.replace("${AWS::Region}:${AWS::AccountId}", "…").replace(":${AWS::AccountId}", "…")
}

fn condition(grant: &Grant) -> String {
    let here = format!("{REGION}:{ACCOUNT}");
    let operators = grant.condition.as_object().into_iter().flatten();
    let keys = operators.flat_map(|(_, keys)| keys.as_object().into_iter().flatten());
    let shown = keys.map(|(key, value)| {
        let value = value.as_str().unwrap_or_else(|| panic!("{key} may be {value}"));
        format!("`{key}` is `{}`", value.replace("arn:aws:", "").replace(&here, "…"))
    });
    shown.collect::<Vec<_>>().join(", ")
}
