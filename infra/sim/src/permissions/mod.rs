//! Which permissions the functions use, and which they have: every call of a run in the [`world`](crate::world) as IAM
//! sees it, held against the policies of `infra/template.yaml`.
//!
//! What a call needs is in the
//! [Service Authorization Reference](https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html);
//! how a policy is evaluated, in the
//! [IAM User Guide](https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html).

mod calls;
mod lambda;
pub mod policies;
pub mod reference;
mod table;
pub mod template;

pub(crate) use self::calls::uses;
pub use self::lambda::uses_of_lambda;
pub use self::table::table;

/// One action on one resource that a role needs, with the condition keys that a policy of ours could ask for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// As [`World::invoke`](crate::world::World::invoke) names it.
    pub function: String,
    /// As a policy names it, such as `ecs:UpdateService`.
    pub action: String,
    /// Its ARN, or `*` where the call names none that AWS checks.
    pub resource: String,
    /// Condition keys and their values.
    pub context: Vec<(&'static str, String)>,
}
