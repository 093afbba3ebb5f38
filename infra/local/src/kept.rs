//! The cloud that `cargo demo -- --keep` leaves running, as other processes find it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use axum::http::Method;

use crate::aws::Aws;
use crate::tools::Workspace;

/// Writes down where a cloud is, for [`find`].
pub fn write_down(aws: &Aws) -> Result<()> {
    std::fs::write(file()?, aws.endpoint()).context("the target folder cannot be written")
}

/// The cloud that stays, if one does.
pub async fn find() -> Result<Option<Aws>> {
    let Ok(endpoint) = std::fs::read_to_string(file()?) else {
        return Ok(None);
    };
    let aws = Aws::new(endpoint.trim());
    // The file may be older than the end of its cloud.
    let health = aws.http.send(Method::GET, &format!("{}/_ministack/health", aws.endpoint()), &[], "").await;
    Ok(health.is_ok_and(|answer| answer.status.is_success()).then_some(aws))
}

fn file() -> Result<PathBuf> {
    Ok(Workspace::find()?.folder().join("cloud"))
}
