//! The tags of an ECS cluster: how its owner tells Tidegate to scale it.
//!
//! A tag that can't be read is an error its owner sees, never a silent default, as with the tags of a service.

use std::collections::BTreeSet;

use super::decide::Goal;
use crate::tags::{Tag, is_key_of_ours};

/// The tag key that opts a cluster in; its value is the name of the Auto Scaling group.
pub(super) const GROUP: &str = "tidegate:scale/asg";
const CPU_HIGH: &str = "tidegate:scale/cpu-high";
const CPU_LOW: &str = "tidegate:scale/cpu-low";

const CPU_HIGH_DEFAULT: f64 = 85.0;
const CPU_LOW_DEFAULT: f64 = 40.0;

/// What the tags of a cluster say.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterTags {
    /// `tidegate:scale/asg`: name of the Auto Scaling group.
    pub group: Option<String>,
    /// `tidegate:scale/cpu-high` and `tidegate:scale/cpu-low`.
    pub goal: Goal,
    /// What can't be read, in words for the owner. Nothing is scaled while there is any.
    pub problems: BTreeSet<String>,
}

impl ClusterTags {
    /// Reads the tags of a cluster. Tags of others are passed over.
    #[must_use]
    pub fn read<'a>(tags: impl IntoIterator<Item = &'a Tag>) -> Self {
        let goal = Goal { cpu_high: CPU_HIGH_DEFAULT, cpu_low: CPU_LOW_DEFAULT };
        let mut read = Self { group: None, goal, problems: BTreeSet::new() };
        for tag in tags {
            if let Err(problem) = read.add(tag) {
                read.problems.insert(format!("tag {}: {problem}", tag.key));
            }
        }
        let Goal { cpu_high, cpu_low } = read.goal;
        if read.problems.is_empty() && cpu_low >= cpu_high {
            let problem = format!("tag {CPU_LOW}: {cpu_low} is not below {CPU_HIGH}, which is {cpu_high}");
            read.problems.insert(problem);
        }
        read
    }

    fn add(&mut self, Tag { key, value }: &Tag) -> Result<(), String> {
        match key.as_str() {
            GROUP => match value.trim() {
                "" => return Err("the value is empty; use the name of an Auto Scaling group".into()),
                name => self.group = Some(name.to_owned()),
            },
            CPU_HIGH => self.goal.cpu_high = percent(value, CPU_HIGH_DEFAULT)?,
            CPU_LOW => self.goal.cpu_low = percent(value, CPU_LOW_DEFAULT)?,
            key if is_key_of_ours(key) => return Err("Tidegate knows no such tag of a cluster; is it misspelt?".into()),
            _ => {}
        }
        Ok(())
    }
}

/// 1 to 100, with or without a fraction.
fn percent(value: &str, default: f64) -> Result<f64, String> {
    let text = value.trim();
    let is_plain = text.chars().all(|character| character.is_ascii_digit() || character == '.');
    let number = text.parse().ok().filter(|number| is_plain && (1.0..=100.0).contains(number));
    number.ok_or_else(|| format!("`{value}` is no percentage from 1 to 100; {default} is the default"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(tags: &[(&str, &str)]) -> ClusterTags {
        let tags: Vec<Tag> = tags.iter().map(|(key, value)| Tag::new(*key, *value)).collect();
        ClusterTags::read(&tags)
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let tags = read(&[("tidegate:scale/asg", " production "), ("team", "tides")]);
        assert_eq!(tags.group.as_deref(), Some("production"));
        assert_eq!(tags.goal, Goal { cpu_high: 85.0, cpu_low: 40.0 });
        assert_eq!(tags.problems, BTreeSet::new());
        let tags = read(&[("tidegate:scale/cpu-high", "70"), ("tidegate:scale/cpu-low", " 32.5")]);
        assert_eq!(tags.goal, Goal { cpu_high: 70.0, cpu_low: 32.5 });
    }

    #[test]
    fn what_cannot_be_read_is_told_to_the_owner() {
        for (tags, expected) in [
            (&[("tidegate:scale/asg", " ")][..], "name of an Auto Scaling group"),
            (&[("tidegate:scale/cpu-high", "85%")], "from 1 to 100"),
            (&[("tidegate:scale/cpu-high", "101")], "from 1 to 100"),
            (&[("tidegate:scale/cpu-high", "NaN")], "from 1 to 100"),
            (&[("tidegate:scale/cpu-high", "1e1")], "from 1 to 100"),
            (&[("tidegate:scale/cpu-low", "-5")], "from 1 to 100"),
            (&[("tidegate:scale/cpu-low", "")], "from 1 to 100"),
            (&[("tidegate:scale/cpu-low", "85")], "not below"),
            (&[("tidegate:scale/cpu-high", "40")], "not below"),
            (&[("tidegate:scale/max", "10")], "misspelt"),
            (&[("tidegate:hold", "broken")], "misspelt"),
        ] {
            let problems = read(tags).problems;
            let problem = problems.first().unwrap_or_else(|| panic!("{tags:?} was accepted"));
            assert!(problem.contains(expected) && problem.contains("tidegate:"), "{problem}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(key in "tidegate:scale/(asg|cpu-high|cpu-low)?.{0,5}", value in ".{0,20}") {
            let tags = ClusterTags::read(&[Tag::new(key, value)]);
            prop_assert!(tags.goal.cpu_low < tags.goal.cpu_high || !tags.problems.is_empty());
        }
    }
}
