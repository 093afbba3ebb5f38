//! What the demo shows: short and pretty in a terminal, plain lines elsewhere.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use local::progress::{Progress, Step};

/// How often a long part gives a sign of life where there is no spinner.
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// The terminal, or the file or pipe in its place.
#[derive(Clone)]
pub(crate) struct Screen {
    pretty: bool,
    work: Arc<Mutex<Option<Work>>>,
}

/// The long part that is at work.
struct Work {
    what: String,
    detail: String,
    since: Instant,
    sign: Instant,
    frame: usize,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let screen = Self { pretty: stdout().is_terminal() && !plain, work: Arc::default() };
        let ticker = screen.clone();
        // Ends with the process.
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(100));
                ticker.tick();
            }
        });
        screen
    }

    /// A line of text.
    pub(crate) fn line(&self, text: &str) {
        write(&format!("{text}\n"));
    }

    pub(crate) fn heading(&self, text: &str) {
        let text = self.style("1", text);
        self.line(&format!("\n{text}"));
    }

    /// A line with what is being told.
    pub(crate) fn tell(&self, label: &str, text: &str) {
        let label = self.style("36", &format!("{label:<10}"));
        let mut lines = text.lines();
        self.line(&format!("  {label} {}", lines.next().unwrap_or_default()));
        for line in lines {
            self.line(&format!("  {:<10} {line}", ""));
        }
    }

    /// A block of text as it stands somewhere else, such as a Slack message.
    pub(crate) fn quote(&self, text: &str) {
        for line in text.lines() {
            let bar = self.style("35", "│");
            self.line(&format!("  {:<10} {bar} {line}", ""));
        }
    }

    pub(crate) fn checked(&self, what: &str) {
        let mark = self.style("32", "✓");
        self.line(&format!("  {:<10} {mark} {}", "", self.style("2", what)));
    }

    pub(crate) fn failed(&self, text: &str) {
        self.clear();
        let mark = self.style("31", "✗");
        self.line(&format!("\n{mark} {text}"));
    }

    /// Shows the steps of the long parts.
    pub(crate) fn progress(&self) -> Progress {
        let screen = self.clone();
        Arc::new(move |step| match step {
            Step::Started(what) => screen.started(what),
            Step::Detail(detail) => {
                if let Some(work) = screen.work().as_mut() {
                    detail.clone_into(&mut work.detail);
                }
            }
            Step::Finished => screen.finished(),
            Step::Warning(text) => screen.line(&format!("  warning: {text}")),
        })
    }

    fn work(&self) -> MutexGuard<'_, Option<Work>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn started(&self, what: &str) {
        if !self.pretty {
            self.line(&format!("  {what} ..."));
        }
        let now = Instant::now();
        let work = Work { what: what.to_owned(), detail: String::new(), since: now, sign: now, frame: 0 };
        *self.work() = Some(work);
    }

    fn tick(&self) {
        let mut work = self.work();
        let Some(work) = work.as_mut() else {
            return;
        };
        let seconds = work.since.elapsed().as_secs();
        if self.pretty {
            work.frame += 1;
            let spinner = SPINNER.get(work.frame % SPINNER.len()).copied().unwrap_or_default();
            let line: String =
                format!("  {spinner} {} {seconds} s  {}", work.what, work.detail).chars().take(100).collect();
            write(&format!("\r\x1b[2K{line}"));
        } else if work.sign.elapsed() > SIGN_OF_LIFE {
            work.sign = Instant::now();
            write(&format!("    {seconds} s  {}\n", work.detail));
        }
    }

    fn finished(&self) {
        self.clear();
        if let Some(work) = self.work().take() {
            let seconds = work.since.elapsed().as_secs_f64();
            if self.pretty {
                self.checked(&format!("{} ({seconds:.1} s)", work.what));
            } else {
                self.line(&format!("    done in {seconds:.1} s"));
            }
        }
    }

    /// Removes the spinner's line.
    fn clear(&self) {
        if self.pretty && self.work().is_some() {
            write("\r\x1b[2K");
        }
    }

    fn style(&self, code: &str, text: &str) -> String {
        if self.pretty { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn write(text: &str) {
    let mut out = stdout().lock();
    // A reader that has gone, such as `head`, wants no more of this.
    _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
