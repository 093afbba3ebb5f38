//! What the roles of the functions are asked for.

use anyhow::{Context as _, Result};
use axum::http::Method;
use serde_json::json;

use super::Cloud;

/// The functions by their names, and the logical names of their roles.
const ROLES: [(&str, &str); 5] = [
    ("deploy", "DeployRole"),
    ("notify", "NotifyRole"),
    ("rollback", "RollbackRole"),
    ("scale-service", "ScaleServiceRole"),
    ("scale-cluster", "ScaleClusterRole"),
];

/// The name of the policy that takes an action away.
const TAKEN: &str = "taken-away";

/// One action on one resource that the role of a function was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// Such as `deploy`.
    pub function: &'static str,
    /// Such as `ecs:UpdateService`.
    pub action: String,
    /// Its ARN, or `*`.
    pub resource: String,
    /// Whether it was always allowed.
    pub is_allowed: bool,
}

impl Cloud {
    /// What the roles of the functions have been asked for until now.
    ///
    /// # Errors
    /// Those of the emulator.
    pub async fn asked(&self) -> Result<Vec<Asked>> {
        let url = format!("{}/_tidegate/permissions", self.aws.endpoint());
        let response = self.aws.http.send(Method::GET, &url, &[], "").await?;
        let all: Vec<(String, String, String, bool)> =
            serde_json::from_slice(&response.body).with_context(|| format!("no permissions: {}", response.text()))?;
        let mut roles = Vec::new();
        for (function, logical) in ROLES {
            roles.push((self.stack.resource(logical)?, function));
        }
        let of_ours = all.into_iter().filter_map(|(role, action, resource, is_allowed)| {
            let (_, function) = roles.iter().find(|(name, _)| *name == role)?;
            Some(Asked { function, action, resource, is_allowed })
        });
        Ok(of_ours.collect())
    }

    /// Takes an action away from the role of a function.
    ///
    /// # Errors
    /// Those of the emulator.
    pub async fn take_away(&self, function: &str, action: &str) -> Result<()> {
        let statement = json!({ "Effect": "Deny", "Action": action, "Resource": "*" });
        let policy = json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
        let input = [("RoleName", self.role(function)?), ("PolicyName", TAKEN), ("PolicyDocument", policy.as_str())];
        self.aws.iam("PutRolePolicy", &input).await?;
        Ok(())
    }

    /// Gives it back.
    ///
    /// # Errors
    /// Those of the emulator.
    pub async fn give_back(&self, function: &str) -> Result<()> {
        self.aws.iam("DeleteRolePolicy", &[("RoleName", self.role(function)?), ("PolicyName", TAKEN)]).await?;
        Ok(())
    }

    fn role(&self, function: &str) -> Result<&str> {
        let role = ROLES.iter().find(|(name, _)| *name == function);
        self.stack.resource(role.with_context(|| format!("there is no function {function}"))?.1)
    }
}
