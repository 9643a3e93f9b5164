//! Progress bars on stderr, and Ctrl-C.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nonius::Progress;

use crate::output::{Context, Failure};

/// The bar of the work under way; nothing is drawn where stderr is no terminal.
pub(crate) struct Bars {
    visible: bool,
    stage: String,
    bar: Option<ProgressBar>,
    interrupted: Arc<AtomicBool>,
}

impl Bars {
    /// Bars for work that Ctrl-C may simply kill.
    pub(crate) fn new() -> Bars {
        Bars {
            visible: std::io::stderr().is_terminal(),
            stage: String::new(),
            bar: None,
            interrupted: Arc::default(),
        }
    }

    /// Bars for work that writes files: the first Ctrl-C asks it to stop and tidy up, the second
    /// ends the process at once.
    pub(crate) fn catching_interrupts() -> Result<Bars, Failure> {
        use signal_hook::{consts::SIGINT, flag};
        let bars = Bars::new();
        // In this order, so that the first signal finds the flag still down.
        flag::register_conditional_shutdown(SIGINT, 130, bars.interrupted.clone())
            .and_then(|_| flag::register(SIGINT, bars.interrupted.clone()))
            .context("catching Ctrl-C")?;
        Ok(bars)
    }

    /// Shows how far `stage` has come; breaks after Ctrl-C.
    pub(crate) fn show(&mut self, stage: &str, done: u64, total: u64) -> ControlFlow<()> {
        if self.visible {
            if self.bar.is_none() || self.stage != stage {
                self.clear();
                self.stage = stage.to_owned();
                self.bar = Some(new_bar(stage));
            }
            if let Some(bar) = &self.bar {
                bar.set_length(total);
                bar.set_position(done);
            }
        }
        if self.interrupted.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Shows the progress of a build.
    pub(crate) fn report(&mut self, progress: Progress) -> ControlFlow<()> {
        self.show(progress.stage.name(), progress.done, progress.total)
    }

    /// Takes the bar away, so that text can be printed.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

fn new_bar(stage: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let template = "{msg:12} {wide_bar} {human_pos}/{human_len} {elapsed} (left: {eta})";
    // The template is a constant; were it wrong, the default style would do.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(stage.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
