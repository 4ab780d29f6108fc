//! A program as a user has it installed: alone in a folder, with a home and a project, and nothing of the tester's own
//! environment.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::filter;

/// An installed program, a home and a project, gone when it is dropped.
#[derive(Debug)]
pub struct TestEnv {
    temp: TempDir,
    program: PathBuf,
    variables: Vec<(String, String)>,
    filters: Vec<(String, String)>,
}

impl TestEnv {
    /// Installs a program. It runs outside of any source tree, in an empty project that is a repository's root.
    pub fn new(program: &str) -> Self {
        let temp = tempfile::Builder::new().prefix("towline-test-").tempdir().expect("a temporary folder");
        let root = temp.path().canonicalize().expect("it was just made");
        for folder in ["bin", "project/.git"] {
            fs::create_dir_all(root.join(folder)).expect("the folder is ours");
        }
        fs::DirBuilder::new().mode(0o700).create(root.join("home")).expect("the folder is ours");
        let source = Path::new(program);
        let installed = root.join("bin").join(source.file_name().expect("a program has a name"));
        // A link is quicker, where it can be made.
        if fs::hard_link(source, &installed).is_err() {
            fs::copy(source, &installed).expect("the program was built");
        }
        let home = root.join("home").display().to_string();
        let variables = [
            ("HOME", home.clone()),
            ("TOWLINE_HOME", home),
            ("USER", "ann".to_owned()),
            ("PATH", "/usr/bin:/bin".to_owned()),
            // Help is wrapped to this width.
            ("COLUMNS", "100".to_owned()),
        ];
        let filters = vec![(root.display().to_string(), "[TEMP]".to_owned())];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Self { temp, program: installed, variables, filters }
    }

    /// Returns the project's folder.
    pub fn project(&self) -> PathBuf {
        self.root().join("project")
    }

    /// Returns the home, which is also the state folder.
    pub fn home(&self) -> PathBuf {
        self.root().join("home")
    }

    /// Writes a file of the project.
    pub fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.project().join(path);
        fs::create_dir_all(path.parent().expect("it has the project above it")).expect("the folder is ours");
        fs::write(path, text).expect("the file is ours");
        self
    }

    /// Sets a variable for the program.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Shows a text by another in every report.
    pub fn hide(&mut self, text: &str, by: &str) {
        self.filters.push((text.to_owned(), by.to_owned()));
    }

    /// Returns the command for these arguments, with nothing on its standard input.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.project())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program and returns its exit code and both its outputs as one text, without what differs each time.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the program can be started");
        let code = output.status.code().map_or_else(|| "by a signal".to_owned(), |code| code.to_string());
        let mut report = format!("exit {code}\n");
        for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            if !bytes.is_empty() {
                let _ = write!(report, "--- {name}\n{}", String::from_utf8_lossy(bytes));
            }
        }
        for (text, by) in &self.filters {
            report = report.replace(text, by);
        }
        filter::trailing_spaces(&filter::hashes(&filter::times(&report)))
    }

    fn root(&self) -> PathBuf {
        self.temp.path().canonicalize().expect("it is there as long as we are")
    }
}
