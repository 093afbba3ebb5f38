//! What the tags of a service ask for.

use super::decide::Goal;
use crate::tags::{SCALE_QUEUE, Tag, is_scale_key};

/// The most tasks that a [service](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-quotas.html) runs.
const TASKS_MAX: u32 = 5000;

/// What the tags of a service ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Name of the queue.
    pub queue: String,
    /// What is asked for.
    pub goal: Goal,
}

/// Reads the tags; `None` where they do not opt the service in.
///
/// # Errors
/// All that can't be read, in words for the owner.
pub fn read(tags: &[Tag]) -> Option<Result<Asked, Vec<String>>> {
    let queue = tags.iter().find(|tag| tag.key == SCALE_QUEUE)?;
    let mut asked = Asked {
        queue: queue.value.trim().to_owned(),
        goal: Goal { min: 0, max: 0, target_wait: 60.0, service_time: 5.0, concurrency: 1.0, is_protected: false },
    };
    let (mut min, mut max) = (None, None);
    let mut problems = Vec::new();
    for Tag { key, value } in tags.iter().filter(|tag| is_scale_key(&tag.key)) {
        let value = value.trim();
        let read = match key.as_str() {
            SCALE_QUEUE if asked.queue.is_empty() => Err("the value is empty; use the name of an SQS queue".into()),
            SCALE_QUEUE if asked.queue.contains(['/', ':']) => {
                Err(format!("`{value}` is no name of an SQS queue; use the name, not the URL or the ARN"))
            }
            SCALE_QUEUE => Ok(()),
            "tidegate:scale/min" => tasks(value).map(|tasks| min = Some(tasks)),
            "tidegate:scale/max" => tasks(value).map(|tasks| max = Some(tasks)),
            "tidegate:scale/target-wait" => {
                number(value, 1.0, 86_400.0, "seconds").map(|seconds| asked.goal.target_wait = seconds)
            }
            "tidegate:scale/service-time" => {
                number(value, 0.001, 43_200.0, "seconds").map(|seconds| asked.goal.service_time = seconds)
            }
            "tidegate:scale/concurrency" => {
                number(value, 1.0, 10_000.0, "messages").map(|messages| asked.goal.concurrency = messages)
            }
            "tidegate:scale/protected" => match value {
                "yes" => {
                    asked.goal.is_protected = true;
                    Ok(())
                }
                other => Err(format!("`{other}` is not `yes`; remove the tag if the tasks do not protect themselves")),
            },
            _ => Err("Tidegate knows no such tag; is it misspelt?".into()),
        };
        problems.extend(read.err().map(|problem| format!("tag {key}: {problem}")));
    }
    for (bound, key) in [(min, "tidegate:scale/min"), (max, "tidegate:scale/max")] {
        if bound.is_none() && !tags.iter().any(|tag| tag.key == key) {
            problems.push(format!("tag {key} is missing; {SCALE_QUEUE} needs both bounds"));
        }
    }
    if let (Some(min), Some(max)) = (min, max) {
        if min > max {
            problems.push(format!("tag tidegate:scale/min: {min} is more than tidegate:scale/max, {max}"));
        }
        (asked.goal.min, asked.goal.max) = (min, max);
    }
    Some(if problems.is_empty() { Ok(asked) } else { Err(problems) })
}

fn tasks(value: &str) -> Result<u32, String> {
    let tasks = value.parse().ok().filter(|tasks| *tasks <= TASKS_MAX);
    tasks.ok_or_else(|| format!("`{value}` is no number of tasks from 0 to {TASKS_MAX}"))
}

fn number(value: &str, least: f64, most: f64, unit: &str) -> Result<f64, String> {
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("`{value}` is no number of {unit} from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_pairs(pairs: &[(&str, &str)]) -> Option<Result<Asked, Vec<String>>> {
        let tags: Vec<Tag> = pairs.iter().map(|(key, value)| Tag::new(format!("tidegate:{key}"), *value)).collect();
        read(&tags)
    }

    const COMPLETE: [(&str, &str); 3] = [("scale/queue", "jobs"), ("scale/min", "1"), ("scale/max", "20")];

    #[test]
    fn defaults_are_those_of_the_contract() {
        let asked = read_pairs(&COMPLETE).unwrap().unwrap();
        let goal =
            Goal { min: 1, max: 20, target_wait: 60.0, service_time: 5.0, concurrency: 1.0, is_protected: false };
        assert_eq!(asked, Asked { queue: "jobs".into(), goal });
    }

    #[test]
    fn a_service_without_a_queue_has_not_opted_in() {
        assert_eq!(read_pairs(&[("scale/min", "1"), ("hold", "")]), None);
    }

    #[test]
    fn what_cannot_be_read_is_told_to_the_owner() {
        for (key, value, expected) in [
            ("scale/queue", "", "empty"),
            ("scale/queue", "https://sqs.eu-west-1.amazonaws.com/1/jobs", "not the URL"),
            ("scale/min", "one", "`one` is no number of tasks"),
            ("scale/min", "21", "more than"),
            ("scale/max", "-1", "no number of tasks"),
            ("scale/max", "100000", "0 to 5000"),
            ("scale/target-wait", "0", "from 1 to 86400"),
            ("scale/target-wait", "NaN", "no number of seconds"),
            ("scale/service-time", "inf", "no number of seconds"),
            ("scale/concurrency", "0.5", "from 1 to"),
            ("scale/protected", "true", "not `yes`"),
            ("scale/protcted", "yes", "misspelt"),
        ] {
            let mut pairs: Vec<_> = COMPLETE.into_iter().filter(|(known, _)| *known != key).collect();
            pairs.push((key, value));
            let problems = read_pairs(&pairs).unwrap().expect_err(key);
            assert!(problems.len() == 1 && problems[0].contains(expected), "{key}={value}: {problems:?}");
        }
        let problems = read_pairs(&[("scale/queue", "jobs")]).unwrap().unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
