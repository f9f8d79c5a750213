//! Where does the program say things, and in which form?
//!
//! Results go to standard output, as text for people or as one JSON document for programs; progress and remarks go to
//! standard error. Nothing is coloured and no bar is drawn where nobody sees it.

use crate::{
    cli::{Cli, Output},
    error::{Error, Result},
};
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sizewise_contract::Diagnose;
use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The streams of the process and how they are to be used.
#[derive(Debug, Clone)]
pub struct Screen {
    json: bool,
    /// Whether results are printed at all.
    results: bool,
    quiet: bool,
    colour: bool,
    bars: bool,
    file: Option<PathBuf>,
    stop: Arc<AtomicBool>,
}

impl Screen {
    /// Reads how the user wants to be spoken to, and begins to listen for Ctrl-C.
    ///
    /// # Errors
    /// Fails when `-o` names two files.
    pub fn new(cli: &Cli) -> Result<Self> {
        let mut screen = Self::plain();
        for output in &cli.output {
            match output {
                Output::Json => screen.json = true,
                Output::Text => screen.json = false,
                Output::File(_) if screen.file.is_some() => {
                    return Err(Error::usage(
                        "-o names two files; json and text are forms, anything else is a file",
                    ));
                }
                Output::File(path) => screen.file = Some(path.clone()),
            }
        }
        screen.quiet = cli.quiet;
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        screen.colour = !plain && std::io::stdout().is_terminal();
        screen.bars = !cli.quiet && std::io::stderr().is_terminal();
        let stop = Arc::clone(&screen.stop);
        let listening = ctrlc::set_handler(move || {
            // The second time means now.
            if stop.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        });
        if listening.is_err() {
            screen.remark("Ctrl-C will stop the program at once: its handler could not be set");
        }
        Ok(screen)
    }

    /// Plain text without colour.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            json: false,
            results: true,
            quiet: false,
            colour: false,
            bars: false,
            file: None,
            stop: Arc::default(),
        }
    }

    /// Says nothing: for programs that call commands as a library.
    #[must_use]
    pub fn silent() -> Self {
        Self { quiet: true, results: false, ..Self::plain() }
    }

    /// The same streams for a step of a larger command, which has its results as text and no file.
    #[must_use]
    pub(crate) fn for_step(&self, file: Option<PathBuf>) -> Self {
        Self { json: false, file, ..self.clone() }
    }

    /// The same streams for a step whose result a larger command tells as part of its own document.
    #[must_use]
    pub(crate) fn for_part(&self) -> Self {
        Self { json: false, results: self.results && !self.json, file: None, ..self.clone() }
    }

    /// Raised once the user wants to stop.
    #[must_use]
    pub(crate) fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Whether the result is a JSON document.
    #[must_use]
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// The file named with `-o`.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        self.file.clone()
    }

    /// Fails when `-o` names a file that this command would not write.
    pub(crate) fn without_file(&self) -> Result<()> {
        match &self.file {
            Some(file) => Err(Error::usage(format!(
                "this command writes no file; -o takes json or text here, not {}",
                file.display()
            ))),
            None => Ok(()),
        }
    }

    /// Prints a command's result.
    pub(crate) fn result<T: Serialize>(&self, command: &str, value: &T, text: impl FnOnce() -> String) {
        #[derive(Serialize)]
        struct Document<'a, T> {
            schema: u32,
            command: &'a str,
            #[serde(flatten)]
            value: &'a T,
        }
        if !self.results {
            return;
        }
        let text = match self.json {
            true => {
                serde_json::to_string_pretty(&Document { schema: 1, command, value }).unwrap_or_default()
                    + "\n"
            }
            false => text(),
        };
        // Whoever closed the pipe has read enough.
        let _ = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
    }

    /// Says something that is not a result.
    pub(crate) fn remark(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// Says what went wrong and what can be done about it.
    pub fn failed(&self, error: &Error) {
        #[derive(Serialize)]
        struct Failure {
            code: &'static str,
            message: String,
            hint: Option<String>,
        }
        #[derive(Serialize)]
        struct Document {
            schema: u32,
            error: Failure,
        }
        if self.json {
            let error = Failure { code: error.code().name(), message: error.to_string(), hint: error.hint() };
            let text = serde_json::to_string_pretty(&Document { schema: 1, error }).unwrap_or_default();
            let _ = writeln!(std::io::stdout(), "{text}");
            return;
        }
        let red = match std::io::stderr().is_terminal() && self.colour {
            true => Style::new().bold().fg_color(Some(AnsiColor::Red.into())),
            false => Style::new(),
        };
        let mut message = format!("{red}error:{red:#} {error}\n");
        if let Some(hint) = error.hint() {
            message += &format!("  way out: {hint}\n");
        }
        let _ = std::io::stderr().write_all(message.as_bytes());
    }

    /// Text that stands out.
    pub(crate) fn bold(&self, text: &str) -> String {
        self.styled(Style::new().bold(), text)
    }

    /// Good news.
    pub(crate) fn good(&self, text: &str) -> String {
        self.styled(Style::new().bold().fg_color(Some(AnsiColor::Green.into())), text)
    }

    /// News to look at.
    pub(crate) fn bad(&self, text: &str) -> String {
        self.styled(Style::new().bold().fg_color(Some(AnsiColor::Yellow.into())), text)
    }

    fn styled(&self, style: Style, text: &str) -> String {
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// Bars for work that takes a while.
    pub(crate) fn progress(&self) -> Progress {
        Progress { shown: self.bars, bar: Mutex::default() }
    }
}

/// One bar after the other, named after the step that is under way.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    bar: Mutex<Option<(String, ProgressBar)>>,
}

impl Progress {
    /// So much of a step is done.
    pub(crate) fn at(&self, step: &str, done: usize, of: usize) {
        if !self.shown {
            return;
        }
        let mut current = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_none_or(|(name, _)| name != step) {
            if let Some((_, bar)) = current.take() {
                bar.finish_and_clear();
            }
            let style = ProgressStyle::with_template(
                "  {msg:<16} {bar:28} {pos}/{len}  {elapsed} elapsed, {eta} to go",
            )
            .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(of as u64).with_style(style).with_message(step.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            *current = Some((step.to_owned(), bar));
        }
        if let Some((_, bar)) = current.as_ref() {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        }
    }

    /// The work is done.
    pub(crate) fn end(&self) {
        if let Some((_, bar)) = self.bar.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
