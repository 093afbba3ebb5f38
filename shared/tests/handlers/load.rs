//! Many services at once, within the rates that ECS lets an account have.
