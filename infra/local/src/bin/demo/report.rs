//! The report that the demo leaves behind: the story with the documents behind it, as Markdown.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A report in the making.
#[derive(Default)]
pub(crate) struct Report {
    text: String,
}

impl Report {
    pub(crate) fn heading(&mut self, text: &str) {
        self.add(format_args!("\n## {text}\n\n"));
    }

    pub(crate) fn tell(&mut self, label: &str, text: &str) {
        self.add(format_args!("- **{label}**: {}\n", text.replace('\n', "; ")));
    }

    pub(crate) fn checked(&mut self, what: &str) {
        self.add(format_args!("- ✓ {what}\n"));
    }

    pub(crate) fn quote(&mut self, text: &str) {
        self.add(format_args!("\n```text\n{text}\n```\n\n"));
    }

    /// A document behind the story, folded away.
    pub(crate) fn document(&mut self, title: &str, document: &Value) {
        self.add(format_args!("\n<details><summary>{title}</summary>\n\n```json\n{document:#}\n```\n\n</details>\n\n"));
    }

    /// Writes the report; `outcome` stands at its top.
    pub(crate) fn write(&self, path: &Path, outcome: &str) -> Result<()> {
        let text = format!("# Tidegate: report of the demo\n\n{outcome}\n{}", self.text);
        std::fs::write(path, text).with_context(|| format!("the report cannot be written to {}", path.display()))
    }

    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        _ = self.text.write_fmt(text);
    }
}
