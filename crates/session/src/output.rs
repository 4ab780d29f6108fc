//! The command's output on its way to whoever holds the session: it never keeps the session waiting for someone who
//! does not want it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::mpsc;
use towline_protocol::ProcessOutput;

/// Pieces of output that wait for the session's holder.
const WAITING: usize = 256;

/// Makes both ends.
pub(crate) fn channel() -> (Outlet, Untaken) {
    let (output_tx, output_rx) = mpsc::channel(WAITING);
    let (taken, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    (Outlet { output_tx, taken: taken.clone(), dropped }, Untaken { output_rx, taken })
}

/// The session's end. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    /// attachment --output--> the session's holder
    output_tx: mpsc::Sender<ProcessOutput>,
    taken: Arc<AtomicBool>,
    /// Bytes that found no room while nobody had taken the output.
    dropped: Arc<AtomicU64>,
}

impl Outlet {
    /// Hands output over: waits for room if somebody took the other end, else drops what finds none. Cancelled, it has
    /// handed over nothing.
    pub(crate) async fn send(&self, output: ProcessOutput) {
        if !self.taken.load(Ordering::Acquire) {
            if let Err(mpsc::error::TrySendError::Full(output)) = self.output_tx.try_send(output) {
                self.dropped.fetch_add(size(&output), Ordering::Relaxed);
            }
            return;
        }
        // An end that was taken and dropped gets nothing: the scrollback has it all the same.
        if self.dropped.load(Ordering::Relaxed) > 0 {
            let Ok(room) = self.output_tx.reserve().await else { return };
            room.send(ProcessOutput::Skipped(self.dropped.swap(0, Ordering::Relaxed)));
        }
        let _ = self.output_tx.send(output).await;
    }
}

/// The holder's end until it is taken.
#[derive(Debug)]
pub(crate) struct Untaken {
    output_rx: mpsc::Receiver<ProcessOutput>,
    taken: Arc<AtomicBool>,
}

impl Untaken {
    pub(crate) fn take(self) -> mpsc::Receiver<ProcessOutput> {
        self.taken.store(true, Ordering::Release);
        self.output_rx
    }
}

/// Returns the bytes of the command's output that a piece stands for.
pub(crate) fn size(output: &ProcessOutput) -> u64 {
    match output {
        ProcessOutput::Output(bytes) | ProcessOutput::Error(bytes) => bytes.len() as u64,
        ProcessOutput::Skipped(count) => *count,
        ProcessOutput::Exited(_) | ProcessOutput::Failed(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_taken_late_says_how_much_is_missing() {
        let (outlet, untaken) = channel();
        for _ in 0..WAITING + 3 {
            outlet.send(ProcessOutput::Output(b"12".to_vec())).await;
        }
        let mut output_rx = untaken.take();
        for _ in 0..WAITING {
            assert_eq!(output_rx.recv().await, Some(ProcessOutput::Output(b"12".to_vec())));
        }
        outlet.send(ProcessOutput::Error(b"late".to_vec())).await;
        assert_eq!(output_rx.recv().await, Some(ProcessOutput::Skipped(6)));
        assert_eq!(output_rx.recv().await, Some(ProcessOutput::Error(b"late".to_vec())));
    }

    #[tokio::test]
    async fn who_took_it_gets_it_all() {
        let (outlet, untaken) = channel();
        let mut output_rx = untaken.take();
        let sending = async {
            for number in 0..u8::MAX {
                for _ in 0..4 {
                    outlet.send(ProcessOutput::Output(vec![number])).await;
                }
            }
            drop(outlet);
        };
        let receiving = async {
            let mut all = Vec::new();
            while let Some(output) = output_rx.recv().await {
                all.push(output);
            }
            all
        };
        let ((), all) = tokio::join!(sending, receiving);
        assert_eq!(all.iter().map(size).sum::<u64>(), 4 * u64::from(u8::MAX));
        assert!(!all.iter().any(|output| matches!(output, ProcessOutput::Skipped(_))));
    }
}
