//! The sync itself, from beginning to end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use towline_sync::{Command, News, Pair, SyncError};
use towline_sync_core::engine::{Side, SyncEvent};

use super::Outcome;
use super::args::Sync;
use super::ends::{Ends, Far, refused};
use super::report::{End, Report, Usage, stats, sum_up};
use super::signals::{Signals, Told};
use crate::diagnose::Failure;
use crate::exit_code;
use crate::ui::Ui;

/// Before the first new try.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Between tries at most.
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// A signal that ends the command of `--to`, too, comes to us at the same time: so long it is waited for.
const SIMULTANEOUS: Duration = Duration::from_millis(100);

/// Syncs until both sides are equal, or until interrupted.
pub(super) async fn run(ui: &mut Ui, args: &Sync) -> Outcome {
    let began = Instant::now();
    let mut signals = Signals::new()?;
    let ends = Ends::check(args)?;
    for warning in &ends.warnings {
        ui.warn(warning);
    }
    ui.phase(&format!("looking through {} and {}", ends.source.display(), ends.far_name));
    let (command_tx, command_rx) = mpsc::channel(4);
    let (news_tx, news_rx) = mpsc::channel(64);
    // This end is looked through while the other is reached.
    let beginning = async {
        let pair = open(args, &ends).await?;
        let began_anew = pair.began_anew().map(str::to_owned);
        Ok((began_anew, tokio::spawn(pair.run(command_rx, news_tx))))
    };
    let reaching = async { tokio::try_join!(beginning, ends.reach(args)) };
    let Some(reached) = signals.unless_interrupted(reaching).await else {
        return Ok(exit_code::INTERRUPTED);
    };
    let ((began_anew, running), (far, peer)) = reached?;
    if let Some(why) = began_anew {
        ui.warn(&format!(
            "what both sides last agreed on can't be understood ({why}) and was put aside as {}: they are compared anew, \
             and nothing is deleted",
            ends.state.join("base.unreadable").display()
        ));
    }
    // The first thing it is told, so there is room.
    let _ = command_tx.send(Command::Connect(peer)).await;
    let report = Report::new(&ends, args.watch);
    let pending = VecDeque::new();
    let mut transfer = Transfer {
        args,
        ends: &ends,
        signals,
        far,
        command_tx,
        news_rx,
        pending,
        report,
        rested: false,
        usage: None,
    };
    let outcome = transfer.follow(ui).await;
    transfer.end(ui, outcome, began, running).await
}

async fn open(args: &Sync, ends: &Ends) -> Result<Pair, Failure> {
    let options = ends.options(args);
    let opened = tokio::task::spawn_blocking(move || Pair::open(options)).await;
    let opened = opened.map_err(|error| Failure::new(error.to_string()).code(exit_code::INTERNAL))?;
    let pair = opened.map_err(busy)?.rescan_every(args.rescan_interval);
    pair.describe(&ends.far_name, ends.destination.as_deref(), ends.ignore_file.as_deref())?;
    Ok(pair)
}

/// Says who has the pair, as the process was started.
pub(super) fn busy(error: SyncError) -> Failure {
    let SyncError::Busy { pid, .. } = &error else { return error.into() };
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = arguments
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(String::from_utf8_lossy)
        .collect();
    let failure = Failure::from(error).code(exit_code::IN_USE);
    if words.is_empty() { failure } else { failure.hint(format!("it was started as: {}", words.join(" "))) }
}

struct Transfer<'a> {
    args: &'a Sync,
    ends: &'a Ends,
    signals: Signals,
    far: Far,
    command_tx: mpsc::Sender<Command>,
    news_rx: mpsc::Receiver<News>,
    /// What was said while an answer was waited for.
    pending: VecDeque<News>,
    report: Report,
    rested: bool,
    /// What both ends have used, if that was asked already.
    usage: Option<Usage>,
}

impl Transfer<'_> {
    /// Tells what happens until it is over.
    async fn follow(&mut self, ui: &mut Ui) -> Outcome {
        loop {
            let news = tokio::select! {
                biased;
                told = self.signals.next() => match told {
                    Told::End => return Ok(exit_code::INTERRUPTED),
                    Told::Rescan => {
                        // A pair that has ended says so as its last news.
                        let _ = self.command_tx.send(Command::Rescan).await;
                        continue;
                    }
                },
                news = next(&mut self.pending, &mut self.news_rx) => news,
            };
            let Some(news) = news else {
                return Err(Failure::new("the sync ended").code(exit_code::INTERNAL));
            };
            match news {
                News::Dead(message) => return Err(Failure::new(message)),
                News::Broken(message) => {
                    if let Some(code) = self.lost(ui, &message).await? {
                        return Ok(code);
                    }
                }
                News::Sync(event) => {
                    if let Some(code) = self.happened(ui, event).await? {
                        return Ok(code);
                    }
                }
            }
        }
    }

    /// Takes in what the engine says. Returns the exit code when it is over.
    async fn happened(&mut self, ui: &mut Ui, event: SyncEvent) -> Result<Option<u8>, Failure> {
        match &event {
            SyncEvent::OpenFailed { failure, side } => return Err(refused(&self.name(*side), failure)),
            SyncEvent::ScanFailed { failure, side } if !self.args.watch => {
                return Err(Failure::new(format!(
                    "{} can't be looked through: {}",
                    self.name(*side),
                    failure.message
                )));
            }
            SyncEvent::Halted { .. } if self.args.approve_deletions => {
                let _ = self.command_tx.send(Command::ApproveDeletions).await;
                return Ok(None);
            }
            _ => {}
        }
        let is_halt = matches!(event, SyncEvent::Halted { .. });
        let is_rest = event == SyncEvent::InSync;
        self.report.tell(ui, event);
        if is_rest && !std::mem::replace(&mut self.rested, true) {
            let status = self.ask(Command::Status).await;
            if let Some(count) = status.map(|status| status.replaced).filter(|count| *count > 0) {
                self.report.replaced(ui, count);
            }
        }
        if self.args.watch {
            return Ok(None);
        }
        if is_halt {
            return Err(Failure::new("sync stopped: so many deletions at once may be a mistake")
                .hint("see what would be done: the same with --dry-run")
                .hint("if they are wanted: the same with --approve-deletions")
                .code(exit_code::HALTED));
        }
        if !is_rest {
            return Ok(None);
        }
        // What can't be synced may be said after that all else is equal.
        let settling = ask(&self.command_tx, &mut self.news_rx, &mut self.pending, Command::Settle);
        let usage = async { if self.args.stats { Some(usage(&self.far).await) } else { None } };
        (_, self.usage) = tokio::join!(settling, usage);
        while let Ok(news) = self.news_rx.try_recv() {
            self.pending.push_back(news);
        }
        for news in std::mem::take(&mut self.pending) {
            match news {
                News::Sync(event) => self.report.tell(ui, event),
                News::Broken(message) | News::Dead(message) => ui.warn(&message),
            }
        }
        Ok(Some(exit_code::OK))
    }

    fn name(&self, side: Side) -> String {
        match side {
            Side::Local => self.ends.source.display().to_string(),
            Side::Remote => self.ends.far_name.clone(),
        }
    }

    /// Goes on after the other side was lost, if it may be reached again, and else says why it is over.
    async fn lost(&mut self, ui: &mut Ui, message: &str) -> Result<Option<u8>, Failure> {
        if tokio::time::timeout(SIMULTANEOUS, self.signals.interrupted()).await.is_ok() {
            return Ok(Some(exit_code::INTERRUPTED));
        }
        let mut failure = self.far.why_lost(message).await;
        if !self.args.retry {
            return Err(failure);
        }
        let mut pause = FIRST_PAUSE;
        loop {
            ui.warn(&format!("{}; it is reached again in {} s", failure.message, pause.as_secs()));
            let trying = async {
                tokio::time::sleep(pause).await;
                self.ends.reach(self.args).await
            };
            match self.signals.unless_interrupted(trying).await {
                None => return Ok(Some(exit_code::INTERRUPTED)),
                Some(Ok((far, peer))) => {
                    self.far = far;
                    let _ = self.command_tx.send(Command::Connect(peer)).await;
                    return Ok(None);
                }
                Some(Err(again)) => failure = again,
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Ends both sides and says what was done.
    async fn end(
        mut self,
        ui: &mut Ui,
        outcome: Outcome,
        began: Instant,
        running: JoinHandle<()>,
    ) -> Outcome {
        ui.phase_done();
        let counters = self.ask(Command::Count).await.unwrap_or_default();
        let usage = match self.usage {
            None if self.args.stats => Some(usage(&self.far).await),
            usage => usage,
        };
        drop(self.command_tx);
        // What it still says is of no use, and it must not wait for room.
        self.news_rx.close();
        let _ = running.await;
        self.far.close().await;
        let outcome = outcome?;
        if outcome == exit_code::OK {
            sum_up(ui, &counters, began);
        }
        if let Some(usage) = usage {
            stats(ui, &counters, &usage, began);
        }
        match self.report.refused() {
            Some(refused) if outcome == exit_code::OK => Err(Failure::new(refused)
                .hint("each is named above with the system's words; all others are equal on both sides")
                .code(exit_code::INCOMPLETE)),
            _ => Ok(outcome),
        }
    }

    /// Asks the pair something; `None` when it has ended.
    async fn ask<T>(&mut self, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        ask(&self.command_tx, &mut self.news_rx, &mut self.pending, question).await
    }
}

async fn ask<T>(
    command_tx: &mpsc::Sender<Command>,
    news_rx: &mut mpsc::Receiver<News>,
    pending: &mut VecDeque<News>,
    question: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Option<T> {
    let (answer_tx, mut answer_rx) = oneshot::channel();
    command_tx.send(question(answer_tx)).await.ok()?;
    loop {
        // It may have to be rid of its news before it answers.
        tokio::select! {
            answer = &mut answer_rx => return answer.ok(),
            Some(news) = news_rx.recv() => pending.push_back(news),
        }
    }
}

async fn usage(far: &Far) -> Usage {
    let own = towline_sync::usage();
    let local = End { cpu_seconds: own.cpu.as_secs_f64(), peak_kibibytes: own.peak_kibibytes };
    let Far::Agent(reached) = far else {
        return Usage { wire: None, local, remote: None };
    };
    let wire = reached.agent.traffic();
    let remote = reached.agent.usage().await.ok().map(|usage| End {
        cpu_seconds: Duration::from_millis(usage.cpu_milliseconds).as_secs_f64(),
        peak_kibibytes: usage.peak_kibibytes,
    });
    Usage { wire: Some(wire), local, remote }
}

/// Returns what was said first. Cancel-safe.
async fn next(pending: &mut VecDeque<News>, news_rx: &mut mpsc::Receiver<News>) -> Option<News> {
    match pending.pop_front() {
        Some(news) => Some(news),
        None => news_rx.recv().await,
    }
}
