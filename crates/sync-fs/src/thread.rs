//! Starts threads: all in one way, of which the agent then carries the code once.

use std::io;
use std::thread::{Builder, JoinHandle, Scope};

/// Starts a thread called `name`.
pub(crate) fn start(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let run: Box<dyn FnOnce() + Send> = Box::new(run);
    Builder::new().name(name.to_owned()).spawn(run)
}

/// Starts a thread called `name` that ends before `scope` does.
pub(crate) fn start_in<'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    run: impl FnOnce() + Send + 'scope,
) -> io::Result<()> {
    let run: Box<dyn FnOnce() + Send + 'scope> = Box::new(run);
    Builder::new().name(name.to_owned()).spawn_scoped(scope, run).map(|_| ())
}
