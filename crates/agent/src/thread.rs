//! Starts threads: all in one way, of which the program then carries the code once.

use std::io;
use std::thread::Builder;

/// Starts a thread called `name`, which ends by itself.
pub(crate) fn start(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let run: Box<dyn FnOnce() + Send> = Box::new(run);
    Builder::new().name(name.to_owned()).spawn(run).map(|_| ())
}
