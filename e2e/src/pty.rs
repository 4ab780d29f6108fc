//! A terminal with `towline` in it: what is typed and what is on the screen.

use std::fs::File;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::waiting::PATIENCE;

/// A pseudo terminal and the program in it, which is killed when this is dropped.
#[derive(Debug)]
pub struct Terminal {
    controller: Arc<File>,
    child: Child,
    output_rx: mpsc::Receiver<Vec<u8>>,
    screen: String,
    read: usize,
}

impl Terminal {
    /// Starts a program in a terminal of this size.
    pub fn start(program: &Command, rows: u16, columns: u16) -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = openpt(flags)?;
        grantpt(&controller)?;
        unlockpt(&controller)?;
        let name = ptsname(&controller, Vec::new())?;
        let name = name.to_str().map_err(io::Error::other)?;
        let user = File::options().read(true).write(true).open(name)?;
        // A session of its own, with the terminal as its controlling one.
        let program = program.as_std();
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(program.get_program()).args(program.get_args()).env_clear();
        command
            .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .env("TERM", "xterm");
        if let Some(folder) = program.get_current_dir() {
            command.current_dir(folder);
        }
        command
            .stdin(Stdio::from(user.try_clone()?))
            .stdout(Stdio::from(user.try_clone()?))
            .stderr(Stdio::from(user));
        let controller = Arc::new(File::from(controller));
        resize(&controller, rows, columns)?;
        let child = command.kill_on_drop(true).spawn()?;
        // Else our own end of the terminal would keep it open after the program's.
        drop(command);
        let (output_tx, output_rx) = mpsc::channel(64);
        let reader = Arc::clone(&controller);
        // A read of a terminal blocks; this thread ends with the program.
        std::thread::spawn(move || {
            use std::io::Read;
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = (&*reader).read(&mut buffer) {
                if output_tx.blocking_send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { controller, child, output_rx, screen: String::new(), read: 0 })
    }

    /// Types.
    pub fn type_in(&self, keys: &str) {
        use std::io::Write;
        (&*self.controller).write_all(keys.as_bytes()).expect("the terminal is open");
    }

    /// Gives the terminal another size.
    pub fn resize(&self, rows: u16, columns: u16) {
        resize(&self.controller, rows, columns).expect("the terminal is open");
    }

    /// Waits until a text is shown after what was waited for before.
    pub async fn shows(&mut self, wanted: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.screen[self.read..].find(wanted) {
                self.read += at + wanted.len();
                return;
            }
            match tokio::time::timeout_at(deadline, self.output_rx.recv()).await.ok() {
                Some(Some(bytes)) => self.screen.push_str(&String::from_utf8_lossy(&bytes)),
                Some(None) => panic!("ended before it showed {wanted:?}:\n{}", self.screen),
                None => panic!("{wanted:?} was not shown:\n{}", self.screen),
            }
        }
    }

    /// Waits for the program's end.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("still runs:\n{}", self.screen))
            .expect("it is our process");
        (status, self.screen)
    }
}

fn resize(controller: &File, rows: u16, columns: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(controller, size)?)
}
